//! Reading dtabs: the list of namespaces, one dtab, its history, and the streams of them (namerd reference §2.5, §2.6).
//!
//! Called by the interface. Not for: writes.

use super::answer::{self, Answer, Refusal};
use super::call::Call;
use super::encoding::{self, Format, JSON};
use super::feed::Documents;
use crate::access::{Caller, Needs};
use crate::storage::{Entry, StoreError, VersionedDtab};
use dtab::{Activity, BoxFuture, State};
use http::header::{ETAG, WARNING};
use http::{HeaderValue, Method, StatusCode};
use hyper::body::Incoming;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::timeout;

/// A store that is away has this long to find what it knew.
const LAST_KNOWN: Duration = Duration::from_millis(500);
/// Writes that a history shows when nothing is said.
const HISTORY: usize = 20;
/// And at most.
const MAX_HISTORY: usize = 10_000;
/// Older ones are left out once a history has so many bytes.
const MAX_HISTORY_BYTES: usize = 32 << 20;

impl Call<'_> {
    /// `/api/1/dtabs`, for every method: the namespaces that the caller may read.
    pub(super) async fn list(&self) -> Result<Answer, Refusal> {
        let caller = self.caller()?;
        caller.may_read_something()?;
        let mut namespaces = self.api.names.store().list();
        if self.query().is_true("watch") {
            let needs = Needs::RulesOf(caller.clone());
            return self.stream(Some(JSON), needs, List { namespaces, caller, last: None });
        }
        let known = self.first(&mut namespaces, "the list of namespaces").await?;
        Ok(answer::whole(Some(JSON), shown_list(&known, &caller) + "\n"))
    }

    /// `/api/1/dtabs/{ns}`.
    pub(super) async fn dtab(&self, namespace: &str, body: Incoming) -> Result<Answer, Refusal> {
        match self.head.method {
            Method::GET | Method::HEAD => self.get(namespace).await,
            Method::POST | Method::PUT | Method::DELETE => self.write(namespace, body).await,
            _ => {
                let text = "this method does nothing here; use GET, HEAD, POST, PUT or DELETE";
                Err(Refusal::new(StatusCode::NOT_FOUND, text))
            }
        }
    }

    async fn get(&self, namespace: &str) -> Result<Answer, Refusal> {
        self.reads(namespace)?;
        let format = Format::accepted(&self.head.headers);
        if self.head.method == Method::GET && self.query().is_true("watch") {
            let stored = self.api.names.store().observe(namespace);
            let needs = Needs::Namespace(namespace.to_owned());
            return self.stream(Some(format.media_type()), needs, Dtabs { stored, format, last: None });
        }
        let (stored, problem) = self.now_or_last(namespace).await?;
        let stored = stored.ok_or(StoreError::NotFound)?;
        let mut answer = match self.head.method {
            Method::HEAD => answer::empty(StatusCode::OK),
            _ => answer::whole(Some(format.media_type()), format.show(&stored.dtab) + "\n"),
        };
        if let Ok(etag) = HeaderValue::from_str(&encoding::etag(&stored.version)) {
            answer.headers_mut().insert(ETAG, etag);
        }
        if problem {
            let value = HeaderValue::from_static("111 - \"the store is not available; this is its last known answer\"");
            answer.headers_mut().insert(WARNING, value);
        }
        Ok(answer)
    }

    /// The dtab as it is now; while the store is away, the last one known, and true.
    async fn now_or_last(&self, namespace: &str) -> Result<(Option<VersionedDtab>, bool), Refusal> {
        let store = self.api.names.store();
        let wait = self.api.params.first_answer;
        let error = match timeout(wait, store.read(namespace)).await {
            Ok(Ok(stored)) => return Ok((stored, false)),
            Ok(Err(error @ StoreError::Unavailable(_))) => error,
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => StoreError::Unavailable(super::silent(&**store, wait)),
        };
        // What is known is told at once, if not on the spot.
        match timeout(LAST_KNOWN, store.observe(namespace).settled()).await {
            Ok(State::Ok(Some(stored))) => Ok((Some(stored), true)),
            _ => Err(error.into()),
        }
    }

    /// `/api/1/history/{ns}`: the last writes, newest first.
    pub(super) async fn history(&self, namespace: &str) -> Result<Answer, Refusal> {
        self.only_get()?;
        self.reads(namespace)?;
        let limit = match self.query().get("limit").map(str::parse::<usize>) {
            None => HISTORY,
            Some(Ok(limit)) => limit.min(MAX_HISTORY),
            Some(Err(_)) => {
                let text = format!("limit is not a number from 0 to {MAX_HISTORY}");
                return Err(Refusal::new(StatusCode::BAD_REQUEST, text));
            }
        };
        let wait = self.api.params.first_answer;
        let entries = match timeout(wait, self.api.names.store().history(namespace, limit)).await {
            Ok(entries) => entries?,
            Err(_) => return Err(StoreError::Unavailable(super::silent(&**self.api.names.store(), wait)).into()),
        };
        let mut bytes = 0;
        let fits = |entry: &String| {
            bytes += entry.len();
            bytes <= MAX_HISTORY_BYTES
        };
        let shown = entries.iter().take(limit).map(entry).take_while(fits);
        Ok(answer::whole(Some(JSON), encoding::array(shown) + "\n"))
    }

    /// `/api/1/names/{ns}`: what routers have bound.
    pub(super) fn known_names(&self, namespace: &str) -> Result<Answer, Refusal> {
        self.only_get()?;
        self.reads(namespace)?;
        let names = self.api.names.known(namespace);
        Ok(answer::whole(Some(JSON), encoding::texts(names.iter().map(ToString::to_string)) + "\n"))
    }

    pub(super) fn only_get(&self) -> Result<(), Refusal> {
        match self.is_get() {
            true => Ok(()),
            false => Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "use GET here")),
        }
    }
}

/// One write, as JSON.
fn entry(entry: &Entry) -> String {
    let text = |text: Option<&str>| text.map_or(Value::Null, Value::from);
    let dtab = entry.dtab.as_ref().map_or_else(|| "null".to_owned(), encoding::json);
    format!(
        "{{\"version\":{},\"time\":{},\"author\":{},\"reason\":{},\"dtab\":{dtab}}}",
        Value::from(encoding::etag(&entry.version)),
        text(moment(entry.time).as_deref()),
        text(entry.note.author.as_deref()),
        text(entry.note.reason.as_deref()),
    )
}

/// RFC 3339, in UTC, in milliseconds; None for what is no date.
fn moment(time: SystemTime) -> Option<String> {
    let time = jiff::Timestamp::try_from(time).ok()?;
    Some(format!("{time:.3}"))
}

fn shown_list(namespaces: &BTreeSet<String>, caller: &Caller) -> String {
    encoding::texts(namespaces.iter().filter(|namespace| caller.may_read(namespace).is_ok()))
}

/// The stream of the list.
struct List {
    namespaces: Activity<Arc<BTreeSet<String>>>,
    caller: Caller,
    last: Option<String>,
}

impl Documents for List {
    fn next(&mut self) -> BoxFuture<'_, String> {
        Box::pin(async {
            loop {
                if let State::Ok(namespaces) = self.namespaces.get() {
                    let document = shown_list(&namespaces, &self.caller);
                    if self.last.as_ref() != Some(&document) {
                        self.last = Some(document.clone());
                        return document;
                    }
                }
                self.namespaces.changed().await;
            }
        })
    }
}

/// The stream of a dtab: silent while there is none, and while it cannot be known.
struct Dtabs {
    stored: Activity<Option<VersionedDtab>>,
    format: Format,
    last: Option<VersionedDtab>,
}

impl Documents for Dtabs {
    fn next(&mut self) -> BoxFuture<'_, String> {
        Box::pin(async {
            loop {
                if let State::Ok(stored) = self.stored.get()
                    && stored != self.last
                {
                    self.last = stored;
                    if let Some(stored) = &self.last {
                        return self.format.show(&stored.dtab);
                    }
                }
                self.stored.changed().await;
            }
        })
    }
}
