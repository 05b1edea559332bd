//! Writes: what is sent, who may, compare-and-set, and the line in the audit (namerd reference §2.6).
//!
//! A write that has begun is finished whether its client waits for it or not, so that the audit says what happened. Called
//! by the route of dtabs. Not for: who has which rights.

use super::answer::{self, Answer, Refusal};
use super::call::Call;
use super::encoding::{self, Expected, Format};
use super::route::Route;
use crate::access::{Caller, WriteRight, audit, browser, changes};
use crate::guard::Guard;
use crate::names::Names;
use crate::storage::{Note, Store, StoreError, Version, VersionedDtab};
use dtab::Dtab;
use http::header::{ETAG, IF_MATCH, TRANSFER_ENCODING};
use http::{HeaderValue, Method, StatusCode};
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{block_in_place, spawn_blocking};
use tokio::time::timeout;

/// A client that means it, whatever the guard says.
const FORCE: &str = "l5d-force";
/// A store may take so long for a write: longer than stores behind wait for their servers, so that they say what happened.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// A larger body is parsed beside the threads that serve.
const LARGE: usize = 64 << 10;
/// How often a write without If-Match of a caller with limited rights is tried again when others write as well.
const TRIES: usize = 8;
/// Names of namespaces are not longer.
const MAX_NAME: usize = 253;

/// What a client wants.
enum Wish {
    Create(Dtab),
    Put(Dtab),
    Update(Dtab, Expected),
    Delete(Option<Expected>),
}

/// A write under way.
struct Job {
    store: Arc<dyn Store>,
    namespace: String,
    right: WriteRight,
    wish: Wish,
    /// With the names that it looks at; None when the client forces the write.
    guard: Option<(Guard, Names)>,
    line: audit::Write,
    outcomes: audit::Outcomes,
}

impl Call<'_> {
    pub(super) async fn write(&self, namespace: &str, body: Incoming) -> Result<Answer, Refusal> {
        let mut line = self.line(namespace);
        let job = match self.prepare(namespace, body, &mut line).await {
            Ok((right, wish)) => {
                let (store, namespace) = (self.api.names.store().clone(), namespace.to_owned());
                let forced = self.head.headers.get(FORCE).is_some_and(|value| value == "true");
                let guard = (!forced).then(|| (self.api.params.guard, self.api.names.clone()));
                Job { store, namespace, right, wish, guard, line, outcomes: self.api.outcomes.clone() }
            }
            Err(refusal) => {
                line.log(&self.api.outcomes, Some((refusal.status.as_u16(), &refusal.text)));
                return Err(refusal);
            }
        };
        let done = tokio::spawn(job.run()).await;
        done.unwrap_or_else(|_| Err(broken()))
    }

    /// Puts on record a write that was refused before anything of it was looked at.
    pub(super) fn note_refusal(&self, status: StatusCode, text: &str) {
        let writes = matches!(self.head.method, Method::POST | Method::PUT | Method::DELETE);
        if let (true, Ok(Route::Dtab(namespace))) = (writes, Route::of(self.head.uri.path())) {
            self.line(&namespace).log(&self.api.outcomes, Some((status.as_u16(), text)));
        }
    }

    /// What the audit knows of the request itself.
    fn line(&self, namespace: &str) -> audit::Write {
        let header = |name: &str| Some(String::from_utf8_lossy(self.head.headers.get(name)?.as_bytes()));
        let action = match self.head.method {
            Method::POST => "create",
            Method::DELETE => "delete",
            _ if self.head.headers.contains_key(IF_MATCH) => "update",
            _ => "put",
        };
        audit::Write {
            note: Note::new(header("l5d-author").as_deref(), header("l5d-reason").as_deref()),
            from: Some(self.from.peer.address),
            action,
            namespace: namespace.to_owned(),
            ..audit::Write::default()
        }
    }

    /// Everything that can be judged without the store.
    async fn prepare(
        &self,
        namespace: &str,
        body: Incoming,
        line: &mut audit::Write,
    ) -> Result<(WriteRight, Wish), Refusal> {
        browser::check(&self.head).map_err(|text| Refusal::new(StatusCode::FORBIDDEN, text))?;
        let caller: Caller = self.caller()?;
        line.caller = caller.name.clone();
        let limited = self.api.access.is_limited();
        line.note.author = author(line.note.author.take(), caller.name.as_deref(), limited);
        let right = caller.may_write(namespace)?;
        check_name(namespace, &self.head.method)?;
        let if_match =
            self.head.headers.get(IF_MATCH).map(|value| encoding::read_if_match(value.as_bytes())).transpose()?;
        if self.head.method == Method::DELETE {
            return Ok((right, Wish::Delete(if_match)));
        }
        let format = Format::of_body(&self.head.headers)?;
        let sent = self.read(body).await?;
        if sent.is_empty() && self.head.headers.contains_key(TRANSFER_ENCODING) {
            let text =
                "the chunked body is empty; an empty dtab takes Content-Length: 0, so that a failed pipe is none";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, text));
        }
        let dtab = match sent.len() > LARGE {
            true => spawn_blocking(move || format.read(&sent)).await.unwrap_or_else(|_| Err(broken()))?,
            false => format.read(&sent)?,
        };
        Ok((
            right,
            match (&self.head.method, if_match) {
                (&Method::POST, _) => Wish::Create(dtab),
                (_, None) => Wish::Put(dtab),
                (_, Some(expected)) => Wish::Update(dtab, expected),
            },
        ))
    }
}

/// What is said after a panic, which the log tells of.
fn broken() -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the write failed; the log says more")
}

/// Who wrote: who the caller says to be, and in the last parentheses what it is known to be. Nobody can say that of itself:
/// where callers are told apart, one that is not known is `unverified`.
fn author(said: Option<String>, known: Option<&str>, limited: bool) -> Option<String> {
    let known = Note::new(known, None).author;
    let Some(mut said) = said else { return known };
    let seal = match known {
        Some(known) => {
            while let Some((before, _)) = said.strip_suffix(')').and_then(|inner| inner.rsplit_once('(')) {
                said = before.trim_end().to_owned();
            }
            if said.is_empty() || said == known {
                return Some(known);
            }
            known
        }
        None if limited => "unverified".to_owned(),
        None => return Some(said),
    };
    // The audit and the history keep the beginning.
    let room = audit::MAX_NAME.saturating_sub(seal.chars().count() + 3);
    let said: String = said.chars().take(room).collect();
    Some(format!("{said} ({seal})"))
}

/// Namespaces that are written have names that every store can keep; others can only be removed.
fn check_name(namespace: &str, method: &Method) -> Result<(), Refusal> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let good = !namespace.is_empty() && namespace.len() <= MAX_NAME && namespace.bytes().all(plain);
    if *method == Method::DELETE || (good && !matches!(namespace, "." | "..")) {
        return Ok(());
    }
    let text = format!("{namespace:?} cannot be the name of a namespace: at most {MAX_NAME} of A-Z a-z 0-9 . _ -");
    Err(Refusal::new(StatusCode::BAD_REQUEST, text))
}

/// Awaits what computes for long, while another thread takes over what else this one serves, where there are others.
async fn aside<T>(work: impl Future<Output = T>) -> T {
    let handle = Handle::current();
    match handle.runtime_flavor() {
        RuntimeFlavor::MultiThread => block_in_place(|| handle.block_on(work)),
        _ => work.await,
    }
}

impl Job {
    async fn run(mut self) -> Result<Answer, Refusal> {
        let done = match timeout(WRITE_TIMEOUT, self.attempts()).await {
            Ok(done) => done,
            Err(_) => {
                let text = format!(
                    "{}; read the dtab to see whether it has changed",
                    super::silent(&*self.store, WRITE_TIMEOUT)
                );
                Err(StoreError::Unavailable(text).into())
            }
        };
        match done {
            Ok(version) => {
                self.line.after = version.as_ref().map(encoding::etag);
                self.line.log(&self.outcomes, None);
                let mut answer = answer::empty(StatusCode::NO_CONTENT);
                if let Some(Ok(etag)) = self.line.after.as_deref().map(HeaderValue::from_str) {
                    answer.headers_mut().insert(ETAG, etag);
                }
                Ok(answer)
            }
            Err(refusal) => {
                self.line.log(&self.outcomes, Some((refusal.status.as_u16(), &refusal.text)));
                Err(refusal)
            }
        }
    }

    /// Judges the write by what is stored, and writes; again while somebody else is faster, where that does not matter.
    async fn attempts(&mut self) -> Result<Option<Version>, Refusal> {
        for _ in 1..TRIES {
            match self.attempt().await {
                Err(again) if again == StoreError::Mismatch.into() && self.may_repeat() => {}
                done => return done,
            }
        }
        self.attempt().await
    }

    /// True when the client did not say which version it has seen.
    fn may_repeat(&self) -> bool {
        matches!(self.wish, Wish::Put(_) | Wish::Update(_, Expected::Some) | Wish::Delete(None | Some(Expected::Some)))
    }

    async fn attempt(&mut self) -> Result<Option<Version>, Refusal> {
        let stored = match self.store.read(&self.namespace).await {
            Ok(stored) => stored,
            Err(error) if self.right != WriteRight::All => return Err(error.into()),
            // The store itself decides; the audit knows less.
            Err(error) => return self.unseen(error).await,
        };
        self.note_changes(stored.as_ref());
        if let Some(error) = self.contradiction(stored.as_ref()) {
            return Err(error.into());
        }
        self.right.judge(&self.namespace, stored.as_ref().map(|stored| &stored.dtab), self.wanted())?;
        self.guard(stored.as_ref()).await?;
        self.line.unknown = true;
        let (store, name, note) = (&self.store, self.namespace.as_str(), self.line.note.clone());
        let limited = self.right != WriteRight::All;
        let written = match (&self.wish, stored) {
            (Wish::Create(dtab), _) => store.create(name, dtab.clone(), note).await.map(Some),
            (Wish::Update(dtab, _), Some(seen)) => store.update(name, dtab.clone(), seen.version, note).await.map(Some),
            (Wish::Put(dtab), Some(seen)) if limited => {
                store.update(name, dtab.clone(), seen.version, note).await.map(Some)
            }
            (Wish::Put(dtab), _) => store.put(name, dtab.clone(), note).await.map(Some),
            (Wish::Delete(Some(_)), Some(seen)) => store.delete(name, Some(seen.version), note).await.map(|()| None),
            (Wish::Delete(None), _) => store.delete(name, None, note).await.map(|()| None),
            (Wish::Update(..) | Wish::Delete(Some(_)), None) => Err(StoreError::NotFound),
        };
        self.line.unknown = matches!(written, Err(StoreError::Unavailable(_)));
        Ok(written?)
    }

    /// The write without knowing what is stored, of a caller who may change all of it.
    async fn unseen(&mut self, error: StoreError) -> Result<Option<Version>, Refusal> {
        self.line.unknown = true;
        let (store, name, note) = (&self.store, self.namespace.as_str(), self.line.note.clone());
        let written = match &self.wish {
            Wish::Create(dtab) => store.create(name, dtab.clone(), note).await.map(Some),
            Wish::Put(dtab) => store.put(name, dtab.clone(), note).await.map(Some),
            Wish::Update(dtab, Expected::Version(version)) => {
                store.update(name, dtab.clone(), version.clone(), note).await.map(Some)
            }
            Wish::Delete(Some(Expected::Version(version))) => {
                store.delete(name, Some(version.clone()), note).await.map(|()| None)
            }
            Wish::Delete(None) => store.delete(name, None, note).await.map(|()| None),
            // The store is not asked.
            Wish::Update(_, Expected::Some) | Wish::Delete(Some(Expected::Some)) => {
                self.line.unknown = false;
                return Err(error.into());
            }
        };
        self.line.unknown = matches!(written, Err(StoreError::Unavailable(_)));
        Ok(written?)
    }

    /// What is wrong with the wish, by what is stored.
    fn contradiction(&self, stored: Option<&VersionedDtab>) -> Option<StoreError> {
        let expected = match &self.wish {
            Wish::Create(_) => return stored.map(|_| StoreError::Exists),
            Wish::Put(_) => return None,
            Wish::Delete(None) => return stored.is_none().then_some(StoreError::NotFound),
            Wish::Update(_, expected) | Wish::Delete(Some(expected)) => expected,
        };
        match (expected, stored) {
            (_, None) => Some(StoreError::NotFound),
            (Expected::Version(wanted), Some(stored)) if *wanted != stored.version => Some(StoreError::Mismatch),
            _ => None,
        }
    }

    /// Tries the write on the names in use.
    async fn guard(&self, stored: Option<&VersionedDtab>) -> Result<(), Refusal> {
        let (Some((guard, names)), Some(stored)) = (&self.guard, stored) else { return Ok(()) };
        let nothing = Dtab::empty();
        let after = self.wanted().unwrap_or(&nothing);
        let judged = aside(guard.judge(names, &self.namespace, &stored.dtab, after)).await;
        judged.map_err(|text| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, text))
    }

    fn wanted(&self) -> Option<&Dtab> {
        match &self.wish {
            Wish::Create(dtab) | Wish::Put(dtab) | Wish::Update(dtab, _) => Some(dtab),
            Wish::Delete(_) => None,
        }
    }

    fn note_changes(&mut self, stored: Option<&VersionedDtab>) {
        let nothing = Dtab::empty();
        let before = stored.map_or(&nothing, |stored| &stored.dtab);
        self.line.changes = changes(before, self.wanted().unwrap_or(&nothing));
        self.line.before = stored.map(|stored| encoding::etag(&stored.version));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iface::stats::InterfaceStats;
    use crate::storage::Entry;
    use crate::storage::memory::{MemoryStore, RETENTION};
    use dtab::{Activity, BoxFuture};
    use std::collections::{BTreeMap, BTreeSet};

    /// Stores what is put, and then does not know it.
    struct Unsure(MemoryStore);

    impl Store for Unsure {
        fn kind(&self) -> &'static str {
            self.0.kind()
        }
        fn list(&self) -> Activity<Arc<BTreeSet<String>>> {
            self.0.list()
        }
        fn observe(&self, name: &str) -> Activity<Option<VersionedDtab>> {
            self.0.observe(name)
        }
        fn read(&self, name: &str) -> BoxFuture<'_, Result<Option<VersionedDtab>, StoreError>> {
            self.0.read(name)
        }
        fn create(&self, name: &str, dtab: Dtab, note: Note) -> BoxFuture<'_, Result<Version, StoreError>> {
            self.0.create(name, dtab, note)
        }
        fn update(&self, n: &str, dtab: Dtab, v: Version, note: Note) -> BoxFuture<'_, Result<Version, StoreError>> {
            self.0.update(n, dtab, v, note)
        }
        fn put(&self, name: &str, dtab: Dtab, note: Note) -> BoxFuture<'_, Result<Version, StoreError>> {
            let stored = self.0.put(name, dtab, note);
            Box::pin(async move { stored.await.and(Err(StoreError::Unavailable("it rains".into()))) })
        }
        fn delete(&self, name: &str, v: Option<Version>, note: Note) -> BoxFuture<'_, Result<(), StoreError>> {
            self.0.delete(name, v, note)
        }
        fn history(&self, name: &str, limit: usize) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
            self.0.history(name, limit)
        }
        fn report(&self) -> serde_json::Value {
            self.0.report()
        }
    }

    #[tokio::test]
    async fn what_may_be_stored_is_not_called_refused() {
        let store = Arc::new(Unsure(MemoryStore::new(BTreeMap::new(), RETENTION)));
        let mut job = Job {
            store,
            namespace: "ns".into(),
            right: WriteRight::All,
            wish: Wish::Put(Dtab::empty()),
            guard: None,
            line: audit::Write::default(),
            outcomes: audit::Outcomes::new(InterfaceStats::default().scope()),
        };
        assert!(job.attempt().await.is_err());
        assert!(job.line.unknown, "the store was asked and does not know");
        job.wish = Wish::Create(Dtab::empty());
        job.line.unknown = false;
        assert!(job.attempt().await.is_err());
        assert!(!job.line.unknown, "it is there already");
    }

    #[test]
    fn nobody_says_what_it_is_known_to_be() {
        for (said, known, limited, expected) in [
            (Some("Ana"), None, false, Some("Ana")),
            (Some("Ana (ci)"), None, false, Some("Ana (ci)")),
            (Some("Ana (ci)"), None, true, Some("Ana (ci) (unverified)")),
            (Some("ci"), None, true, Some("ci (unverified)")),
            (Some("Ana"), Some("ci"), true, Some("Ana (ci)")),
            (Some("Ana (ops)"), Some("ci"), true, Some("Ana (ci)")),
            (Some("Ana (a) (ops)"), Some("ci"), true, Some("Ana (ci)")),
            (Some("(ops)"), Some("ci"), true, Some("ci")),
            (Some("ci"), Some("ci"), true, Some("ci")),
            (None, Some("ci"), true, Some("ci")),
            (None, None, true, None),
        ] {
            let written = author(said.map(ToOwned::to_owned), known, limited);
            assert_eq!(written.as_deref(), expected, "{said:?} {known:?}");
        }
        let long = author(Some(format!("{} (ci)", "x".repeat(195))), None, true).expect("an author");
        assert!(long.ends_with("x (unverified)") && long.chars().count() == audit::MAX_NAME, "{long}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn long_work_does_not_keep_the_thread() {
        let (tell, told) = tokio::sync::oneshot::channel();
        let other = async move { tell.send(()) };
        let waits = async {
            tokio::spawn(other);
            aside(timeout(Duration::from_secs(30), told)).await
        };
        let heard = tokio::spawn(waits).await.expect("no panic");
        assert!(matches!(heard, Ok(Ok(()))));
    }
}
