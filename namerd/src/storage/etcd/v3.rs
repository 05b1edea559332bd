//! API 3 of etcd, by its JSON gateway: `/v3/kv` and the stream `/v3/watch`.
//!
//! A write and its record are one transaction. An event of a watch says that something has changed; the value is then read,
//! linearizably. Called by [`super`]. Not for: etcd's users and roles.

use super::super::history::{self, Gathered, Logged, Record};
use super::super::http::{Ask, Kind, Stream};
use super::super::shared::{Backend, Expected, REFRESH, Seen, Stored};
use super::super::{StoreError, Version};
use super::{KIND, RANGE, REQUEST, Server, number, version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dtab::BoxFuture;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

const JSON: &str = "application/json";
/// Records deleted by one transaction; etcd takes 128.
const PRUNE_AT_ONCE: usize = 100;
/// Records of one answer: etcd takes values of 1.5 MiB, and an answer with so many of them is one that is still read.
const PAGE: usize = 10;

pub(super) struct V3 {
    server: Arc<Server>,
}

/// What the gateway says of numbers: text, and nothing for zero.
fn numeric<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// In every answer of etcd; an answer without one is somebody else's, and says nothing of what is there.
#[derive(Debug, Deserialize)]
struct Header {
    #[serde(deserialize_with = "numeric")]
    revision: u64,
}

#[derive(Debug, Deserialize)]
struct Range {
    header: Header,
    #[serde(default)]
    kvs: Vec<KeyValue>,
    #[serde(default, deserialize_with = "numeric")]
    count: u64,
}

#[derive(Debug, Deserialize)]
struct KeyValue {
    key: String,
    #[serde(default)]
    value: String,
    #[serde(default, deserialize_with = "numeric")]
    create_revision: u64,
    #[serde(default, deserialize_with = "numeric")]
    mod_revision: u64,
}

#[derive(Debug, Deserialize)]
struct Txn {
    header: Header,
    #[serde(default)]
    succeeded: bool,
    #[serde(default)]
    responses: Vec<TxnResponse>,
}

#[derive(Debug, Deserialize)]
struct TxnResponse {
    #[serde(default)]
    response_range: Option<Range>,
}

#[derive(Debug, Deserialize)]
struct WatchLine {
    #[serde(default)]
    result: Option<WatchResult>,
}

#[derive(Debug, Deserialize)]
struct WatchResult {
    #[serde(default)]
    canceled: bool,
    #[serde(default)]
    cancel_reason: String,
    /// Above zero when the revision to begin at is compacted away.
    #[serde(default, deserialize_with = "numeric")]
    compact_revision: u64,
    #[serde(default)]
    events: Vec<Value>,
}

/// Keys from one on, to before another; one key when that is empty.
#[derive(Debug, Clone)]
struct Span {
    from: String,
    end: String,
}

impl Span {
    fn one(key: &str) -> Span {
        Span { from: key.to_owned(), end: String::new() }
    }

    /// All keys that begin with `folder`, whose last character is a slash; `0` comes after it.
    fn below(folder: &str) -> Span {
        Span { from: folder.to_owned(), end: format!("{}0", folder.trim_end_matches('/')) }
    }

    fn to_json(&self) -> Value {
        match self.end.is_empty() {
            true => json!({"key": STANDARD.encode(&self.from)}),
            false => json!({"key": STANDARD.encode(&self.from), "range_end": STANDARD.encode(&self.end)}),
        }
    }
}

fn with(mut object: Value, more: Value) -> Value {
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
    object
}

impl V3 {
    pub(super) fn new(server: Arc<Server>) -> V3 {
        V3 { server }
    }

    /// Whether this API has dtabs; None when etcd does not have the API.
    pub(super) async fn has_dtabs(&self) -> Result<Option<bool>, StoreError> {
        let body = with(Span::below(&self.server.key("")).to_json(), json!({"count_only": true}));
        let answer = self.server.ask(Method::POST, RANGE.to_owned(), JSON, body.to_string(), REQUEST).await;
        let answer = answer.map_err(|error| self.server.unavailable(&error))?;
        match answer.status {
            StatusCode::OK => Ok(Some(self.parse::<Range>(&answer.body)?.count > 0)),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.server.refuse(&answer)),
        }
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, body: &[u8]) -> Result<T, StoreError> {
        let what = |error| self.server.unavailable(&format!("an answer cannot be read: {error}"));
        serde_json::from_slice(body).map_err(what)
    }

    fn bytes(&self, encoded: &str) -> Result<Vec<u8>, StoreError> {
        let what = |error| self.server.unavailable(&format!("an answer cannot be read: {error}"));
        STANDARD.decode(encoded).map_err(what)
    }

    async fn call<T: serde::de::DeserializeOwned>(&self, path: &str, body: Value) -> Result<T, StoreError> {
        let answer = self.server.ask(Method::POST, path.to_owned(), JSON, body.to_string(), REQUEST).await;
        let answer = answer.map_err(|error| self.server.unavailable(&error))?;
        match answer.status {
            StatusCode::OK => self.parse(&answer.body),
            _ => Err(self.server.refuse(&answer)),
        }
    }

    async fn range(&self, span: &Span, more: Value) -> Result<Range, StoreError> {
        self.call(RANGE, with(span.to_json(), more)).await
    }

    fn stored(&self, range: Range) -> Result<Option<Stored>, StoreError> {
        let Some(found) = range.kvs.into_iter().next() else { return Ok(None) };
        Ok(Some(Stored { text: Ok(self.bytes(&found.value)?.into()), version: version(found.mod_revision) }))
    }

    /// The last parts of all keys directly below a folder.
    fn children(&self, folder: &str, range: &Range) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        for found in &range.kvs {
            let key = self.bytes(&found.key)?;
            let name = std::str::from_utf8(&key).ok().and_then(|key| key.strip_prefix(folder));
            names.extend(name.filter(|name| !name.is_empty() && !name.contains('/')).map(str::to_owned));
        }
        Ok(names)
    }

    async fn find_value(&self, namespace: &str) -> Result<(Option<Stored>, u64), StoreError> {
        let range = self.range(&Span::one(&self.server.key(namespace)), json!({})).await?;
        let revision = range.header.revision;
        Ok((self.stored(range)?, revision))
    }

    async fn find_names(&self) -> Result<(BTreeSet<String>, u64), StoreError> {
        let folder = self.server.key("");
        let range = self.range(&Span::below(&folder), json!({"keys_only": true})).await?;
        Ok((self.children(&folder, &range)?.into_iter().collect(), range.header.revision))
    }

    async fn watch(&self, span: &Span, revision: u64) -> Result<Stream, StoreError> {
        let create = with(span.to_json(), json!({"start_revision": revision.to_string()}));
        let ask = Ask {
            kind: Kind::Read,
            method: Method::POST,
            target: "/v3/watch".to_owned(),
            headers: vec![("content-type", JSON.to_owned())],
            body: Bytes::from(json!({"create_request": create}).to_string()),
            limit: REQUEST,
        };
        let stream = self.server.http.open(ask).await.map_err(|error| self.server.unavailable(&error))?;
        match stream.status {
            StatusCode::OK => Ok(stream),
            status => Err(self.server.unavailable(&format!("a watch is refused with status {status}"))),
        }
    }

    /// True when something has changed; false when the watch has to be begun again, after [`REFRESH`] at the latest.
    async fn event(&self, stream: &mut Stream, until: Instant) -> Result<bool, StoreError> {
        loop {
            let Ok(line) = timeout_at(until, stream.line()).await else { return Ok(false) };
            let Some(line) = line.map_err(|error| self.server.unavailable(&error))? else {
                return Err(self.server.unavailable("a watch was ended"));
            };
            match self.parse::<WatchLine>(&line)?.result {
                Some(result) if !result.events.is_empty() => return Ok(true),
                Some(result) if !result.canceled => {}
                Some(result) if result.compact_revision > 0 => return Ok(false),
                Some(result) => {
                    let reason: String = result.cancel_reason.chars().take(200).collect();
                    return Err(self.server.unavailable(&format!("a watch was canceled: {reason:?}")));
                }
                None => {
                    let text = String::from_utf8_lossy(&line).chars().take(200).collect::<String>();
                    return Err(self.server.unavailable(&format!("a watch failed: {text}")));
                }
            }
        }
    }

    /// Reads, watches from there, reads again at every event.
    async fn follow_span<T, F>(&self, span: Span, find: impl Fn() -> F, seen: Seen<T>) -> Result<Infallible, StoreError>
    where
        F: Future<Output = Result<(T, u64), StoreError>>,
    {
        loop {
            let (value, revision) = find().await?;
            seen(value);
            let mut stream = self.watch(&span, revision.saturating_add(1)).await?;
            let until = Instant::now() + REFRESH;
            while self.event(&mut stream, until).await? {
                seen(find().await?.0);
            }
        }
    }

    /// A change with its record, under a condition; the revision, or the key as it is when the condition does not hold.
    async fn change(
        &self,
        namespace: &str,
        compare: Option<Value>,
        operation: Value,
        record: &Record,
    ) -> Result<Result<u64, Option<Stored>>, StoreError> {
        let key = self.server.key(namespace);
        let name = format!("{}/{}", self.server.log_folder(namespace), history::name(record.micros()));
        let log = json!({"key": STANDARD.encode(name), "value": STANDARD.encode(record.to_json(None))});
        let compare: Vec<Value> = compare.into_iter().map(|compare| with(Span::one(&key).to_json(), compare)).collect();
        let txn: Txn = self
            .call(
                "/v3/kv/txn",
                json!({
                    "compare": compare,
                    "success": [operation, {"request_put": log}],
                    "failure": [{"request_range": Span::one(&key).to_json()}],
                }),
            )
            .await?;
        if !txn.succeeded {
            let found = txn.responses.into_iter().find_map(|response| response.response_range);
            return Ok(Err(found.map(|range| self.stored(range)).transpose()?.flatten()));
        }
        history::keep(namespace, self.prune(namespace)).await;
        Ok(Ok(txn.header.revision))
    }

    async fn prune(&self, namespace: &str) -> Result<(), StoreError> {
        let folder = format!("{}/", self.server.log_folder(namespace));
        let range = self.range(&Span::below(&folder), json!({"keys_only": true})).await?;
        let surplus = history::surplus(self.children(&folder, &range)?);
        let delete = |name| json!({"request_delete_range": Span::one(&format!("{folder}{name}")).to_json()});
        let deletes: Vec<Value> = surplus.iter().take(PRUNE_AT_ONCE).map(delete).collect();
        if !deletes.is_empty() {
            let _: Txn = self.call("/v3/kv/txn", json!({"success": deletes})).await?;
        }
        Ok(())
    }
}

/// Holds when the key has this version, which is none of etcd's when it is no number: then the condition never holds.
fn has_version(expected: &Version) -> Value {
    match number(expected).filter(|number| *number > 0) {
        Some(revision) => json!({"target": "MOD", "result": "EQUAL", "mod_revision": revision.to_string()}),
        None => json!({"target": "VERSION", "result": "LESS", "version": "0"}),
    }
}

fn refused(found: Option<Stored>) -> StoreError {
    if found.is_some() { StoreError::Mismatch } else { StoreError::NotFound }
}

impl Backend for V3 {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn place(&self) -> &str {
        &self.server.place
    }

    fn details(&self) -> Value {
        json!({"apiVersion": 3})
    }

    fn read<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Result<Option<Stored>, StoreError>> {
        Box::pin(async move { Ok(self.find_value(namespace).await?.0) })
    }

    fn names(&self) -> BoxFuture<'_, Result<BTreeSet<String>, StoreError>> {
        Box::pin(async move { Ok(self.find_names().await?.0) })
    }

    fn follow(self: Arc<Self>, namespace: String, seen: Seen<Option<Stored>>) -> BoxFuture<'static, StoreError> {
        Box::pin(async move {
            let span = Span::one(&self.server.key(&namespace));
            let Err(error) = self.follow_span(span, || self.find_value(&namespace), seen).await;
            error
        })
    }

    fn follow_names(self: Arc<Self>, seen: Seen<BTreeSet<String>>) -> BoxFuture<'static, StoreError> {
        Box::pin(async move {
            let span = Span::below(&self.server.key(""));
            let Err(error) = self.follow_span(span, || self.find_names(), seen).await;
            error
        })
    }

    fn write<'a>(
        &'a self,
        namespace: &'a str,
        text: String,
        expected: Expected,
        record: &'a Record,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        Box::pin(async move {
            let key = self.server.key(namespace);
            let put = json!({"request_put": {"key": STANDARD.encode(key), "value": STANDARD.encode(text)}});
            let compare = match &expected {
                Expected::Absent => Some(json!({"target": "VERSION", "result": "EQUAL", "version": "0"})),
                Expected::Is(expected) => Some(has_version(expected)),
                Expected::Any => None,
            };
            match self.change(namespace, compare, put, record).await? {
                Ok(revision) => Ok(version(revision)),
                Err(_) if matches!(expected, Expected::Absent) => Err(StoreError::Exists),
                Err(found) => Err(refused(found)),
            }
        })
    }

    fn remove<'a>(
        &'a self,
        namespace: &'a str,
        expected: Option<Version>,
        record: &'a Record,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let delete = json!({"request_delete_range": Span::one(&self.server.key(namespace)).to_json()});
            let compare = match &expected {
                None => json!({"target": "VERSION", "result": "GREATER", "version": "0"}),
                Some(expected) => has_version(expected),
            };
            self.change(namespace, Some(compare), delete, record).await?.map(|_| ()).map_err(refused)
        })
    }

    fn history<'a>(&'a self, namespace: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<Logged>, StoreError>> {
        Box::pin(async move {
            let folder = format!("{}/", self.server.log_folder(namespace));
            let (mut gathered, mut before) = (Gathered::new(limit), None);
            while gathered.room() > 0 {
                let page = gathered.room().min(PAGE);
                let mut newest = json!({"sort_order": "DESCEND", "sort_target": "CREATE", "limit": page.to_string()});
                if let Some(before) = before {
                    newest["max_create_revision"] = Value::from(u64::to_string(&before));
                }
                let range = self.range(&Span::below(&folder), newest).await?;
                for found in &range.kvs {
                    gathered.take(Logged { json: self.bytes(&found.value)?, revision: version(found.mod_revision) });
                }
                // No two records are of one revision; zero would be no limit.
                let oldest = range.kvs.iter().map(|found| found.create_revision).min().unwrap_or(0);
                before = oldest.checked_sub(1).filter(|before| *before > 0 && range.kvs.len() == page);
                if before.is_none() {
                    break;
                }
            }
            Ok(gathered.into_found())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::EtcdParams;
    use super::*;
    use crate::storage::http::Endpoint;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// What comes of a watch that etcd answers with this line.
    async fn event(line: &'static str) -> Result<bool, StoreError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let _ = socket.read(&mut [0; 4096]).await.expect("a request");
            let answer = format!("HTTP/1.1 200 OK\r\n\r\n{line}\n");
            socket.write_all(answer.as_bytes()).await.expect("write");
            let _ = socket.read(&mut [0; 1]).await;
        });
        let params = EtcdParams::new(vec![Endpoint::plain("127.0.0.1", port)]);
        let v3 = V3::new(Arc::new(Server::new(&params)));
        let mut stream = v3.watch(&Span::one("/a"), 1).await.expect("a stream");
        let outcome = v3.event(&mut stream, Instant::now() + REQUEST).await;
        server.abort();
        outcome
    }

    #[tokio::test]
    async fn a_canceled_watch_is_an_error_unless_it_was_compacted_away() {
        assert_eq!(event(r#"{"result":{"canceled":true,"compact_revision":"7"}}"#).await, Ok(false));
        assert_eq!(event(r#"{"result":{"events":[{}]}}"#).await, Ok(true));
        let denied = event(r#"{"result":{"canceled":true,"cancel_reason":"permission denied"}}"#).await;
        assert!(
            matches!(&denied, Err(StoreError::Unavailable(why)) if why.contains("permission denied")),
            "{denied:?}"
        );
    }
}
