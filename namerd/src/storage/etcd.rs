//! `io.l5d.etcd`: dtabs in etcd, by its API 2 as Linkerd 1 wrote them, or by API 3 (namerd reference §5.3).
//!
//! Keys are `<pathPrefix>/<namespace>` in both. The APIs are two stores that do not see each other: `auto` takes the one
//! that has dtabs, else API 3. Called by whoever builds namerd from its config. Not for: HTTP (`super::http`), following
//! (`super::shared`).

mod v2;
mod v3;

use super::history::{Logged, Record};
use super::http::{Answer, Ask, Endpoint, HttpClient, Kind, show_all};
use super::shared::{Backend, Expected, Seen, SharedStore, Stored};
use super::{Store, StoreError, Version};
use bytes::Bytes;
use dtab::BoxFuture;
use http::{Method, StatusCode};
use namers::Discovery;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use v2::V2;
use v3::V3;

/// One request that does not wait for a change may take so long.
const REQUEST: Duration = Duration::from_secs(5);
const KIND: &str = "io.l5d.etcd";
/// Where API 3 is asked to read.
const RANGE: &str = "/v3/kv/range";

/// Which API of etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EtcdApi {
    /// `/v2/keys`; etcd 3.4 has it with `--enable-v2`, etcd 3.6 no more.
    V2,
    /// The JSON gateway `/v3`, from etcd 3.4 on.
    V3,
    /// API 3 if it has dtabs, else API 2 if it has, else API 3 if etcd has it.
    #[default]
    Auto,
}

/// The keys of the config.
#[derive(Debug, Clone)]
pub struct EtcdParams {
    /// Members of one cluster; `localhost:2379` by default.
    pub endpoints: Vec<Endpoint>,
    /// Default `/namerd/dtabs`.
    pub path_prefix: String,
    /// Default `auto`.
    pub api: EtcdApi,
}

impl EtcdParams {
    /// The defaults, for these members.
    pub fn new(endpoints: Vec<Endpoint>) -> EtcdParams {
        EtcdParams { endpoints, path_prefix: "/namerd/dtabs".to_owned(), api: EtcdApi::Auto }
    }
}

/// The store; its watches are a part of `discovery`.
pub fn open(params: EtcdParams, discovery: &Discovery) -> Arc<dyn Store> {
    let server = Arc::new(Server::new(&params));
    let backend: Arc<dyn Backend> = match params.api {
        EtcdApi::V2 => Arc::new(V2::new(server)),
        EtcdApi::V3 => Arc::new(V3::new(server)),
        EtcdApi::Auto => Arc::new(Auto {
            v2: Arc::new(V2::new(server.clone())),
            v3: Arc::new(V3::new(server.clone())),
            server,
            chosen: Mutex::new(None),
        }),
    };
    SharedStore::open(backend, discovery)
}

/// What both APIs share.
struct Server {
    http: HttpClient,
    place: String,
    /// Without a slash at its end; with one at its beginning unless it is empty.
    prefix: String,
}

impl Server {
    fn new(params: &EtcdParams) -> Server {
        let prefix = match params.path_prefix.trim_matches('/') {
            "" => String::new(),
            some => format!("/{some}"),
        };
        let place = format!("etcd at {}, keys {prefix}/", show_all(&params.endpoints));
        Server { http: HttpClient::new(params.endpoints.clone(), false), place, prefix }
    }

    fn key(&self, namespace: &str) -> String {
        format!("{}/{namespace}", self.prefix)
    }

    /// Where the records of a namespace are.
    fn log_folder(&self, namespace: &str) -> String {
        match self.prefix.as_str() {
            "" => format!("/-history/{namespace}"),
            prefix => format!("{prefix}-history/{namespace}"),
        }
    }

    async fn ask(
        &self,
        method: Method,
        target: String,
        kind: &str,
        body: String,
        limit: Duration,
    ) -> Result<Answer, String> {
        let headers = match body.is_empty() {
            true => Vec::new(),
            false => vec![("content-type", kind.to_owned())],
        };
        let kind = match method {
            Method::GET if limit > REQUEST => Kind::Wait,
            Method::GET => Kind::Read,
            _ if target == RANGE => Kind::Read,
            _ => Kind::Write,
        };
        self.http.ask(Ask { kind, method, target, headers, body: Bytes::from(body), limit }).await
    }

    fn unavailable(&self, why: &str) -> StoreError {
        StoreError::Unavailable(format!("{}: {why}", self.place))
    }

    /// The error of an answer that is none of those expected.
    fn refuse(&self, answer: &Answer) -> StoreError {
        match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PAYLOAD_TOO_LARGE => {
                StoreError::Forbidden(format!("{}: {}", self.place, answer.complaint()))
            }
            _ => self.unavailable(&answer.complaint()),
        }
    }
}

fn version(number: u64) -> Version {
    Version(number.to_string().into())
}

fn number(version: &Version) -> Option<u64> {
    std::str::from_utf8(&version.0).ok()?.parse().ok()
}

/// Asks once which API has the dtabs, and passes everything on to it.
struct Auto {
    v2: Arc<V2>,
    v3: Arc<V3>,
    server: Arc<Server>,
    chosen: Mutex<Option<Arc<dyn Backend>>>,
}

impl Auto {
    async fn api(&self) -> Result<Arc<dyn Backend>, StoreError> {
        if let Some(chosen) = &*self.chosen.lock() {
            return Ok(chosen.clone());
        }
        let found: Arc<dyn Backend> = match (self.v3.has_dtabs().await?, self.v2.has_dtabs().await?) {
            (Some(true), Some(true)) => {
                tracing::warn!(
                    "{}: both APIs have dtabs; API 3 is used, those of API 2 are ignored",
                    self.server.place
                );
                self.v3.clone()
            }
            (Some(true), _) | (Some(false), Some(false) | None) => self.v3.clone(),
            (_, Some(_)) => self.v2.clone(),
            (None, None) => return Err(self.server.unavailable("it has neither /v2/keys nor /v3/kv")),
        };
        *self.chosen.lock() = Some(found.clone());
        Ok(found)
    }
}

impl Backend for Auto {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn place(&self) -> &str {
        &self.server.place
    }

    fn details(&self) -> Value {
        self.chosen.lock().as_ref().map_or(json!({"apiVersion": null}), |chosen| chosen.details())
    }

    fn check_name(&self, namespace: &str) -> Result<(), StoreError> {
        self.v2.check_name(namespace)
    }

    fn read<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Result<Option<Stored>, StoreError>> {
        Box::pin(async move { self.api().await?.read(namespace).await })
    }

    fn names(&self) -> BoxFuture<'_, Result<BTreeSet<String>, StoreError>> {
        Box::pin(async move { self.api().await?.names().await })
    }

    fn follow(self: Arc<Self>, namespace: String, seen: Seen<Option<Stored>>) -> BoxFuture<'static, StoreError> {
        Box::pin(async move {
            match self.api().await {
                Ok(api) => api.follow(namespace, seen).await,
                Err(error) => error,
            }
        })
    }

    fn follow_names(self: Arc<Self>, seen: Seen<BTreeSet<String>>) -> BoxFuture<'static, StoreError> {
        Box::pin(async move {
            match self.api().await {
                Ok(api) => api.follow_names(seen).await,
                Err(error) => error,
            }
        })
    }

    fn write<'a>(
        &'a self,
        namespace: &'a str,
        text: String,
        expected: Expected,
        record: &'a Record,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        Box::pin(async move { self.api().await?.write(namespace, text, expected, record).await })
    }

    fn remove<'a>(
        &'a self,
        namespace: &'a str,
        expected: Option<Version>,
        record: &'a Record,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.api().await?.remove(namespace, expected, record).await })
    }

    fn history<'a>(&'a self, namespace: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<Logged>, StoreError>> {
        Box::pin(async move { self.api().await?.history(namespace, limit).await })
    }
}
