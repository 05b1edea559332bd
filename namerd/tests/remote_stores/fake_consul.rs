//! A fake Consul: the KV API over HTTP as Consul documents it, in memory, with faults on command.
//!
//! Indexes, blocking queries, `cas`, `keys`, `separator`, `raw`, `recurse`, `dc`, consistency modes, tokens, the limit of a
//! value. `judge_consul.py` lets a client that is not ours judge it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;

/// A value may have so many bytes.
const MAX_VALUE: usize = 512 * 1024;
const MAX_WAIT: Duration = Duration::from_secs(600);
const DEFAULT_WAIT: Duration = Duration::from_secs(300);

#[derive(Clone)]
struct Entry {
    value: Vec<u8>,
    create: u64,
    modify: u64,
}

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) token: Option<String>,
}

struct State {
    index: u64,
    entries: BTreeMap<String, Entry>,
    /// When keys that are gone were deleted.
    tombstones: BTreeMap<String, u64>,
    asked: Vec<Asked>,
    /// All requests fail with this status.
    fault: Option<u16>,
    token: Option<String>,
}

/// See the module; cloning shares it.
#[derive(Clone)]
pub(crate) struct FakeConsul {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
    /// Changes with every write.
    changes: Arc<watch::Sender<u64>>,
}

type Query = BTreeMap<String, String>;

impl FakeConsul {
    pub(crate) async fn start() -> FakeConsul {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = State {
            index: 10,
            entries: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            asked: Vec::new(),
            fault: None,
            token: None,
        };
        let fake = FakeConsul { port, state: Arc::new(Mutex::new(state)), changes: Arc::new(watch::channel(0).0) };
        let serving = fake.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let fake = serving.clone();
                let service = service_fn(move |request| fake.clone().answer(request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
            }
        });
        fake
    }

    /// Every request fails with this status, waiting ones at once; None for no fault.
    pub(crate) fn fail(&self, status: Option<u16>) {
        self.state.lock().fault = status;
        self.wake();
    }

    /// Requests need this token.
    pub(crate) fn require(&self, token: &str) {
        self.state.lock().token = Some(token.to_owned());
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.lock().asked.clone()
    }

    pub(crate) fn index(&self) -> u64 {
        self.state.lock().index
    }

    /// What is stored under a key.
    pub(crate) fn value(&self, key: &str) -> Option<String> {
        self.state.lock().entries.get(key).map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
    }

    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        self.state.lock().entries.keys().filter(|key| key.starts_with(prefix)).cloned().collect()
    }

    /// Writes as somebody else.
    pub(crate) fn set(&self, key: &str, value: &str) {
        self.state.lock().put(key, value.as_bytes());
        self.wake();
    }

    pub(crate) fn remove(&self, key: &str) {
        self.state.lock().delete(key);
        self.wake();
    }

    /// The cluster is restored from an old snapshot: all indexes become small, blocking queries return.
    pub(crate) fn restore_snapshot(&self, value: &str, key: &str) {
        {
            let mut state = self.state.lock();
            state.index = 3;
            state.tombstones.clear();
            state.entries.clear();
            state.put(key, value.as_bytes());
        }
        self.wake();
    }

    fn wake(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let query = head.uri.query().unwrap_or("");
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let query_map = parse(query);
        let token = header("x-consul-token").or_else(|| query_map.get("token").cloned());
        let path = head.uri.path().to_owned();
        let mut changes = self.changes.subscribe();
        let writes = *changes.borrow_and_update();
        self.state.lock().asked.push(Asked {
            method: head.method.clone(),
            path: path.clone(),
            query: query.to_owned(),
            token: token.clone(),
        });
        if let Some(refused) = self.refuse(&query_map, token.as_deref()) {
            return Ok(refused);
        }
        let Some(key) = path.strip_prefix("/v1/kv/").map(decode) else { return Ok(text(StatusCode::NOT_FOUND, "")) };
        Ok(match head.method {
            Method::GET => self.get(&key, &query_map, (writes, changes)).await,
            Method::PUT => self.put(&key, &query_map, &body),
            Method::DELETE => self.delete(&key, &query_map),
            _ => text(StatusCode::METHOD_NOT_ALLOWED, ""),
        })
    }

    fn refuse(&self, query: &Query, token: Option<&str>) -> Option<Response<Full<Bytes>>> {
        let state = self.state.lock();
        if let Some(status) = state.fault {
            let status = StatusCode::from_u16(status).expect("a status");
            return Some(text(status, "rpc error making call: No cluster leader"));
        }
        if query.contains_key("stale") && query.contains_key("consistent") {
            return Some(text(
                StatusCode::BAD_REQUEST,
                "Cannot specify ?stale with ?consistent, conflicting semantics.",
            ));
        }
        if query.get("dc").is_some_and(|dc| dc != "dc1") {
            return Some(text(StatusCode::INTERNAL_SERVER_ERROR, "No path to datacenter"));
        }
        (state.token.is_some() && state.token.as_deref() != token)
            .then(|| text(StatusCode::FORBIDDEN, "rpc error making call: Permission denied"))
    }

    async fn get(
        &self,
        key: &str,
        query: &Query,
        (writes, mut changes): (u64, watch::Receiver<u64>),
    ) -> Response<Full<Bytes>> {
        let after = query.get("index").and_then(|index| index.parse::<u64>().ok()).filter(|index| *index > 0);
        let wait = query.get("wait").and_then(|wait| duration(wait)).unwrap_or(DEFAULT_WAIT).min(MAX_WAIT);
        let until = Instant::now() + wait + wait.mul_f64(fastrand::f64() / 16.0);
        loop {
            let (index, body) = self.state.lock().find(key, query);
            let index_is_old = after.is_some_and(|after| index <= after);
            // A restored cluster ends all waits; so do faults.
            let reset = after.is_some_and(|after| self.index() < after && *changes.borrow() != writes);
            let faulty = self.state.lock().fault.is_some();
            if !index_is_old || reset || faulty || Instant::now() >= until {
                if faulty {
                    return text(StatusCode::INTERNAL_SERVER_ERROR, "rpc error making call: EOF");
                }
                return found(index, body);
            }
            let _ = tokio::time::timeout_at(until, changes.changed()).await;
        }
    }

    fn put(&self, key: &str, query: &Query, body: &[u8]) -> Response<Full<Bytes>> {
        if body.len() > MAX_VALUE {
            let what = format!("Request body({} bytes) too large, max size: {MAX_VALUE} bytes.", body.len());
            return text(StatusCode::PAYLOAD_TOO_LARGE, &what);
        }
        let mut state = self.state.lock();
        if !state.may(key, query) {
            return text(StatusCode::OK, "false");
        }
        state.put(key, body);
        drop(state);
        self.wake();
        text(StatusCode::OK, "true")
    }

    fn delete(&self, key: &str, query: &Query) -> Response<Full<Bytes>> {
        let mut state = self.state.lock();
        if query.contains_key("recurse") {
            let keys: Vec<String> = state.entries.keys().filter(|known| known.starts_with(key)).cloned().collect();
            keys.iter().for_each(|key| state.delete(key));
        } else if query.get("cas").is_some_and(|cas| cas == "0") {
            return text(StatusCode::BAD_REQUEST, "Invalid ?cas: CAS deletes must specify a nonzero index");
        } else if state.may(key, query) {
            state.delete(key);
        } else {
            return text(StatusCode::OK, "false");
        }
        drop(state);
        self.wake();
        text(StatusCode::OK, "true")
    }
}

impl State {
    /// Whether `cas`, if there is one, lets the key be changed.
    fn may(&self, key: &str, query: &Query) -> bool {
        let current = self.entries.get(key).map_or(0, |entry| entry.modify);
        query.get("cas").is_none_or(|cas| cas.parse() == Ok(current))
    }

    /// The value that is there already is no change, as in Consul.
    fn put(&mut self, key: &str, value: &[u8]) {
        if self.entries.get(key).is_some_and(|entry| entry.value == value) {
            return;
        }
        self.index += 1;
        let create = self.entries.get(key).map_or(self.index, |entry| entry.create);
        self.tombstones.remove(key);
        self.entries.insert(key.to_owned(), Entry { value: value.to_vec(), create, modify: self.index });
    }

    fn delete(&mut self, key: &str) {
        if self.entries.remove(key).is_some() {
            self.index += 1;
            self.tombstones.insert(key.to_owned(), self.index);
        }
    }

    /// The index of the answer, and its body; None for 404.
    fn find(&self, key: &str, query: &Query) -> (u64, Option<Vec<u8>>) {
        let below = |known: &&String| known.starts_with(key);
        let many = query.contains_key("keys") || query.contains_key("recurse");
        if !many {
            return match self.entries.get(key) {
                Some(entry) if query.contains_key("raw") => (entry.modify, Some(entry.value.clone())),
                Some(entry) => (entry.modify, Some(json!([entry.to_json(key)]).to_string().into_bytes())),
                None => (self.index, None),
            };
        }
        let entries: Vec<(&String, &Entry)> = self.entries.iter().filter(|(known, _)| below(known)).collect();
        let modified = entries.iter().map(|(_, entry)| entry.modify);
        let deleted = self.tombstones.iter().filter(|(known, _)| below(known)).map(|(_, index)| *index);
        let index = modified.chain(deleted).max().unwrap_or(self.index);
        if entries.is_empty() {
            return (index, None);
        }
        let list: Vec<Value> = match query.contains_key("keys") {
            true => names(key, query.get("separator").map_or("", String::as_str), &entries),
            false => entries.iter().map(|(key, entry)| entry.to_json(key)).collect(),
        };
        (index, Some(json!(list).to_string().into_bytes()))
    }
}

/// Keys up to the separator after the prefix, each once.
fn names(prefix: &str, separator: &str, entries: &[(&String, &Entry)]) -> Vec<Value> {
    let mut names: Vec<&str> = Vec::new();
    for (key, _) in entries {
        let cut = match key[prefix.len()..].find(separator) {
            Some(at) if !separator.is_empty() => &key[..prefix.len() + at + separator.len()],
            _ => key.as_str(),
        };
        if names.last() != Some(&cut) {
            names.push(cut);
        }
    }
    names.into_iter().map(|name| json!(name)).collect()
}

impl Entry {
    fn to_json(&self, key: &str) -> Value {
        let value = (!self.value.is_empty()).then(|| STANDARD.encode(&self.value));
        json!({
            "LockIndex": 0,
            "Key": key,
            "Flags": 0,
            "Value": value,
            "CreateIndex": self.create,
            "ModifyIndex": self.modify,
        })
    }
}

fn found(index: u64, body: Option<Vec<u8>>) -> Response<Full<Bytes>> {
    let status = if body.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    let response = Response::builder().status(status).header("X-Consul-Index", index);
    let response = response.header("X-Consul-Knownleader", "true").header("X-Consul-Lastcontact", "0");
    response.body(Full::new(body.unwrap_or_default().into())).expect("a response")
}

fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::new(text.to_owned().into())).expect("a response")
}

fn parse(query: &str) -> Query {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}

fn decode(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `10s`, `5m`, `300ms`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits.parse().ok()?;
    match &text[digits.len()..] {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(60 * number)),
        _ => None,
    }
}
