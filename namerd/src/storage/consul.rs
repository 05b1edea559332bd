//! `io.l5d.consul`: dtabs in Consul's KV store (namerd reference §5.5).
//!
//! Keys are `<pathPrefix>/<namespace>` without the leading slash, versions are Consul's indexes. Watches are blocking
//! queries of bounded length. Called by whoever builds namerd from its config. Not for: HTTP (`super::http`), following
//! (`super::shared`).

use super::history::{self, Gathered, Logged, Record};
use super::http::{Answer, Ask, Endpoint, HttpClient, Kind, encode, encode_path, show_all};
use super::shared::{Backend, Expected, Seen, SharedStore, Stored};
use super::{Store, StoreError, Version};
use bytes::Bytes;
use dtab::BoxFuture;
use http::{Method, StatusCode};
use namers::Discovery;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One request that does not wait for a change may take so long.
const REQUEST: Duration = Duration::from_secs(5);
/// A blocking query waits for so long; Consul adds up to a sixteenth.
const WAIT: Duration = Duration::from_secs(55);
/// A blocking query may take so long.
const WAIT_LIMIT: Duration = Duration::from_secs(65);
/// Pause after an answer that brought nothing new and came early: other keys change, or the agent does not wait.
const PAUSE: Duration = Duration::from_millis(100);
/// The same when there is no index to wait from.
const LONG_PAUSE: Duration = Duration::from_secs(1);
/// Tries of a write that depends on what it has just read.
const TRIES: usize = 5;
const INDEX: &str = "x-consul-index";

/// How new an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// The leader answers, without asking the others whether it still is.
    #[default]
    Default,
    /// Any server answers.
    Stale,
    /// The leader answers once it knows that it is.
    Consistent,
}

impl Consistency {
    fn query(self) -> Option<&'static str> {
        match self {
            Consistency::Default => None,
            Consistency::Stale => Some("stale=true"),
            Consistency::Consistent => Some("consistent=true"),
        }
    }
}

/// The keys of the config.
#[derive(Clone)]
pub struct ConsulParams {
    /// Agents of one cluster; the config has one, `localhost:8500` by default.
    pub endpoints: Vec<Endpoint>,
    /// Default `/namerd/dtabs`.
    pub path_prefix: String,
    /// Sent as `X-Consul-Token`.
    pub token: Option<String>,
    /// The agent's own when None.
    pub datacenter: Option<String>,
    /// Of watches, and of reads unless it is `stale`: a read is never older than the last write.
    pub read_consistency: Consistency,
    /// Sent with writes; Consul takes it and does nothing else for it.
    pub write_consistency: Consistency,
    /// After no agent could be reached, requests fail for a second without trying.
    pub fail_fast: bool,
    /// First and largest pause between tries of a watch; at most 30 s. By default those of the watch tables.
    pub backoff: Option<(Duration, Duration)>,
}

impl ConsulParams {
    /// The defaults of Linkerd 1, for these agents.
    pub fn new(endpoints: Vec<Endpoint>) -> ConsulParams {
        ConsulParams {
            endpoints,
            path_prefix: "/namerd/dtabs".to_owned(),
            token: None,
            datacenter: None,
            read_consistency: Consistency::Default,
            write_consistency: Consistency::Default,
            fail_fast: false,
            backoff: None,
        }
    }
}

impl fmt::Debug for ConsulParams {
    /// All but the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsulParams")
            .field("endpoints", &self.endpoints)
            .field("path_prefix", &self.path_prefix)
            .field("datacenter", &self.datacenter)
            .field("read_consistency", &self.read_consistency)
            .field("write_consistency", &self.write_consistency)
            .field("fail_fast", &self.fail_fast)
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}

/// The store; its watches are a part of `discovery`.
pub fn open(params: ConsulParams, discovery: &Discovery) -> Arc<dyn Store> {
    let mut discovery = discovery.clone();
    if let Some((min, max)) = params.backoff {
        let max = max.clamp(Duration::from_millis(1), super::shared::MAX_BACKOFF);
        (discovery.watch.min_backoff, discovery.watch.max_backoff) = (min.min(max), max);
    }
    SharedStore::open(Arc::new(Consul::new(params)), &discovery)
}

struct Consul {
    http: HttpClient,
    place: String,
    /// Of keys, without slashes at its ends.
    prefix: String,
    params: ConsulParams,
}

/// What a read found: the value, and the index to wait from.
type Found<T> = (T, u64);

impl Consul {
    fn new(params: ConsulParams) -> Consul {
        let prefix = params.path_prefix.trim_matches('/').to_owned();
        let place = format!("Consul at {}, keys {prefix}/", show_all(&params.endpoints));
        Consul { http: HttpClient::new(params.endpoints.clone(), params.fail_fast), place, prefix, params }
    }

    fn key(&self, namespace: &str) -> String {
        format!("{}/{namespace}", self.prefix).trim_start_matches('/').to_owned()
    }

    fn log_key(&self, namespace: &str, name: &str) -> String {
        format!("{}-history/{namespace}/{name}", self.prefix)
    }

    fn unavailable(&self, why: &str) -> StoreError {
        StoreError::Unavailable(format!("{}: {why}", self.place))
    }

    /// One request; `query` without what the config adds. Statuses that mean refusal or trouble are errors.
    async fn ask(
        &self,
        method: Method,
        key: &str,
        query: &[&str],
        consistency: Consistency,
        body: Bytes,
        limit: Duration,
    ) -> Result<Answer, StoreError> {
        let datacenter = self.params.datacenter.as_ref().map(|dc| format!("dc={}", encode(dc)));
        let query = query.iter().copied().chain(datacenter.as_deref()).chain(consistency.query());
        let query = query.collect::<Vec<_>>().join("&");
        let target = format!("/v1/kv/{}?{query}", encode_path(key));
        let headers = self.params.token.iter().map(|token| ("x-consul-token", token.clone())).collect();
        let kind = match method {
            Method::GET if limit > REQUEST => Kind::Wait,
            Method::GET => Kind::Read,
            _ => Kind::Write,
        };
        let answer = self.http.ask(Ask { kind, method, target, headers, body, limit }).await;
        let answer = answer.map_err(|error| self.unavailable(&error))?;
        match answer.status {
            StatusCode::OK | StatusCode::NOT_FOUND => Ok(answer),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PAYLOAD_TOO_LARGE => {
                Err(StoreError::Forbidden(format!("{}: {}", self.place, answer.complaint())))
            }
            _ => Err(self.unavailable(&answer.complaint())),
        }
    }

    async fn get(&self, key: &str, query: &[&str], wait: Option<u64>) -> Result<Answer, StoreError> {
        let blocking = wait.map(|index| [format!("index={index}"), format!("wait={}s", WAIT.as_secs())]);
        let query: Vec<&str> = query.iter().copied().chain(blocking.iter().flatten().map(String::as_str)).collect();
        let (consistency, limit) = match (wait, self.params.read_consistency) {
            (None, Consistency::Stale) => (Consistency::Default, REQUEST),
            (None, consistency) => (consistency, REQUEST),
            (Some(_), consistency) => (consistency, WAIT_LIMIT),
        };
        self.ask(Method::GET, key, &query, consistency, Bytes::new(), limit).await
    }

    /// A PUT or DELETE, which Consul answers with `true` or `false`.
    async fn change(&self, method: Method, key: &str, cas: Option<u64>, body: Bytes) -> Result<bool, StoreError> {
        let cas = cas.map(|index| format!("cas={index}"));
        let query: Vec<&str> = cas.iter().map(String::as_str).collect();
        let answer = self.ask(method, key, &query, self.params.write_consistency, body, REQUEST).await?;
        match (answer.status, answer.body.trim_ascii()) {
            (StatusCode::OK, b"true") => Ok(true),
            (StatusCode::OK, b"false") => Ok(false),
            _ => Err(self.unavailable(&answer.complaint())),
        }
    }

    async fn find(&self, namespace: &str, wait: Option<u64>) -> Result<Found<Option<Stored>>, StoreError> {
        let answer = self.get(&self.key(namespace), &["raw=true"], wait).await?;
        let index = self.index(&answer)?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok((None, index));
        }
        Ok((Some(Stored { text: Ok(answer.body), version: version(index) }), index))
    }

    async fn find_names(&self, wait: Option<u64>) -> Result<Found<BTreeSet<String>>, StoreError> {
        let folder = self.key("");
        let answer = self.get(&folder, &["keys=true", "separator=%2F"], wait).await?;
        let index = self.index(&answer)?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok((BTreeSet::new(), index));
        }
        let keys: Vec<String> = self.parse(&answer)?;
        let names = keys.iter().filter_map(|key| key.strip_prefix(&folder));
        Ok((names.filter(|name| legal(name)).map(str::to_owned).collect(), index))
    }

    /// The index of an answer. One without is somebody else's, and says nothing of what is there.
    fn index(&self, answer: &Answer) -> Result<u64, StoreError> {
        answer
            .number(INDEX)
            .ok_or_else(|| self.unavailable(&format!("an answer has no X-Consul-Index ({})", answer.complaint())))
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, answer: &Answer) -> Result<T, StoreError> {
        let what = |error| self.unavailable(&format!("an answer cannot be read: {error}"));
        serde_json::from_slice(&answer.body).map_err(what)
    }

    /// The version that a write of `text` made. Consul does not say; when another write came at once, the version is one
    /// that the namespace can never have again.
    async fn made(&self, namespace: &str, text: &[u8]) -> Result<u64, StoreError> {
        let mut last = None;
        for _ in 0..TRIES {
            match self.find(namespace, None).await {
                Ok((Some(stored), index)) if stored.text.as_deref() == Ok(text) => return Ok(index),
                Ok((Some(_), index)) => return Ok(index.saturating_sub(1)),
                Ok((None, index)) => return Ok(index),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| self.unavailable("a write was done, and its version cannot be read")))
    }

    async fn log(&self, namespace: &str, order: u64, json: String) -> Result<(), StoreError> {
        let key = self.log_key(namespace, &history::name(order));
        if !self.change(Method::PUT, &key, Some(0), json.into()).await? {
            return Err(self.unavailable("the record of a write is there already"));
        }
        for name in history::surplus(self.log_names(namespace).await?) {
            self.change(Method::DELETE, &self.log_key(namespace, &name), None, Bytes::new()).await?;
        }
        Ok(())
    }

    async fn log_names(&self, namespace: &str) -> Result<Vec<String>, StoreError> {
        let folder = self.log_key(namespace, "");
        let answer = self.get(&folder, &["keys=true", "separator=%2F"], None).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(Vec::new());
        }
        let keys: Vec<String> = self.parse(&answer)?;
        let names = keys.iter().filter_map(|key| key.strip_prefix(&folder));
        Ok(names.filter(|name| !name.is_empty() && !name.ends_with('/')).map(str::to_owned).collect())
    }

    async fn write_key(&self, namespace: &str, text: &[u8], expected: Expected) -> Result<u64, StoreError> {
        let (cas, refused) = match &expected {
            Expected::Absent => (Some(0), StoreError::Exists),
            Expected::Any => (None, StoreError::Mismatch),
            // Zero would mean that the key must not exist.
            Expected::Is(version) => match index(version).filter(|index| *index > 0) {
                Some(index) => (Some(index), StoreError::Mismatch),
                None => return Err(self.absent_or(namespace, StoreError::Mismatch).await),
            },
        };
        let body = Bytes::copy_from_slice(text);
        match self.change(Method::PUT, &self.key(namespace), cas, body).await? {
            true => self.made(namespace, text).await,
            false if matches!(expected, Expected::Is(_)) => Err(self.absent_or(namespace, refused).await),
            false => Err(refused),
        }
    }

    /// Why a conditional write was refused.
    async fn absent_or(&self, namespace: &str, refused: StoreError) -> StoreError {
        match self.find(namespace, None).await {
            Ok((None, _)) => StoreError::NotFound,
            Ok((Some(_), _)) => refused,
            Err(error) => error,
        }
    }

    /// Removes the key; returns an index that is not before the removal.
    async fn remove_key(&self, namespace: &str, expected: Option<Version>) -> Result<u64, StoreError> {
        let key = self.key(namespace);
        for _ in 0..TRIES {
            let (Some(found), at) = self.find(namespace, None).await? else { return Err(StoreError::NotFound) };
            if expected.as_ref().is_some_and(|expected| *expected != found.version) {
                return Err(StoreError::Mismatch);
            }
            if self.change(Method::DELETE, &key, Some(at), Bytes::new()).await? {
                return Ok(at.saturating_add(1));
            }
        }
        Err(self.unavailable("the namespace changes faster than it can be deleted; try again"))
    }
}

/// Letters, digits, `_` and `-`, as in Linkerd 1.
fn legal(namespace: &str) -> bool {
    !namespace.is_empty() && namespace.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

fn version(index: u64) -> Version {
    Version(index.to_string().into())
}

fn index(version: &Version) -> Option<u64> {
    std::str::from_utf8(&version.0).ok()?.parse().ok()
}

/// The index to wait from next: none when it went backwards (a restored or rebuilt cluster), or makes no sense.
fn next(before: Option<u64>, now: u64) -> Option<u64> {
    (now > 0 && before.is_none_or(|before| now >= before)).then_some(now)
}

/// Asks again and again, each time from the index of the last answer.
async fn follow<T, F>(find: impl Fn(Option<u64>) -> F, seen: Seen<T>) -> StoreError
where
    T: Clone + PartialEq,
    F: Future<Output = Result<Found<T>, StoreError>>,
{
    let (mut wait, mut last) = (None, None);
    loop {
        let (value, index) = match find(wait).await {
            Ok(found) => found,
            Err(error) => return error,
        };
        let changed = last.as_ref() != Some(&value);
        last = Some(value.clone());
        seen(value);
        wait = next(wait, index);
        if !changed {
            tokio::time::sleep(if wait.is_some() { PAUSE } else { LONG_PAUSE }).await;
        }
    }
}

impl Backend for Consul {
    fn kind(&self) -> &'static str {
        "io.l5d.consul"
    }

    fn place(&self) -> &str {
        &self.place
    }

    fn details(&self) -> Value {
        json!({"datacenter": self.params.datacenter})
    }

    fn check_name(&self, namespace: &str) -> Result<(), StoreError> {
        super::shared::plain_name(namespace)?;
        match legal(namespace) {
            true => Ok(()),
            false => Err(StoreError::BadName(format!(
                "invalid dtab namespace {namespace}: in Consul it must contain only letters, digits, '_' and '-'"
            ))),
        }
    }

    fn read<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Result<Option<Stored>, StoreError>> {
        Box::pin(async move { Ok(self.find(namespace, None).await?.0) })
    }

    fn names(&self) -> BoxFuture<'_, Result<BTreeSet<String>, StoreError>> {
        Box::pin(async move { Ok(self.find_names(None).await?.0) })
    }

    fn follow(self: Arc<Self>, namespace: String, seen: Seen<Option<Stored>>) -> BoxFuture<'static, StoreError> {
        Box::pin(async move { follow(|wait| self.find(&namespace, wait), seen).await })
    }

    fn follow_names(self: Arc<Self>, seen: Seen<BTreeSet<String>>) -> BoxFuture<'static, StoreError> {
        Box::pin(async move { follow(|wait| self.find_names(wait), seen).await })
    }

    fn write<'a>(
        &'a self,
        namespace: &'a str,
        text: String,
        expected: Expected,
        record: &'a Record,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        Box::pin(async move {
            let index = self.write_key(namespace, text.as_bytes(), expected).await?;
            let made = version(index);
            history::keep(namespace, self.log(namespace, index, record.to_json(Some(&made)))).await;
            Ok(made)
        })
    }

    fn remove<'a>(
        &'a self,
        namespace: &'a str,
        expected: Option<Version>,
        record: &'a Record,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let order = self.remove_key(namespace, expected).await?;
            history::keep(namespace, self.log(namespace, order, record.to_json(None))).await;
            Ok(())
        })
    }

    fn history<'a>(&'a self, namespace: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<Logged>, StoreError>> {
        Box::pin(async move {
            let mut names = self.log_names(namespace).await?;
            names.sort_unstable_by(|a, b| b.cmp(a));
            let mut gathered = Gathered::new(limit);
            for name in &names {
                if gathered.room() == 0 {
                    break;
                }
                let answer = self.get(&self.log_key(namespace, name), &["raw=true"], None).await?;
                if let (StatusCode::OK, Some(index)) = (answer.status, answer.number(INDEX)) {
                    gathered.take(Logged { json: answer.body.to_vec(), revision: version(index) });
                }
            }
            Ok(gathered.into_found())
        })
    }
}
