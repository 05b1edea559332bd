//! API 2 of etcd: `/v2/keys`, keys and values as Linkerd 1 wrote them (namerd reference §5.3).
//!
//! A wait says that something has changed; the value is then read, with a quorum. Called by [`super`].

use super::super::history::{self, Gathered, Logged, Record};
use super::super::http::{Answer, encode, encode_path};
use super::super::shared::{Backend, Expected, REFRESH, Seen, Stored, plain_name};
use super::super::{StoreError, Version};
use super::{KIND, REQUEST, Server, number, version};
use dtab::BoxFuture;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Changes that come faster than this are read together.
const PAUSE: Duration = Duration::from_millis(5);
/// Surplus records are looked for after so many writes: this API lists no names without their values.
const PRUNE_EVERY: u32 = 16;
const FORM: &str = "application/x-www-form-urlencoded";

const KEY_NOT_FOUND: u32 = 100;
const COMPARE_FAILED: u32 = 101;
const NOT_A_FILE: u32 = 102;
const NODE_EXISTS: u32 = 105;
const EVENT_INDEX_CLEARED: u32 = 401;

pub(super) struct V2 {
    server: Arc<Server>,
    writes: AtomicU32,
}

#[derive(Debug, Default, Deserialize)]
struct Reply {
    #[serde(default)]
    node: Option<Node>,
    #[serde(default, rename = "errorCode")]
    error: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    key: String,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    modified_index: u64,
    #[serde(default)]
    dir: bool,
    #[serde(default)]
    nodes: Vec<Node>,
}

/// A read: the node, if there is one, and etcd's index at that moment.
struct Found {
    node: Option<Node>,
    index: u64,
}

impl V2 {
    pub(super) fn new(server: Arc<Server>) -> V2 {
        V2 { server, writes: AtomicU32::new(0) }
    }

    /// Whether this API has the folder of the dtabs; None when etcd does not have the API.
    pub(super) async fn has_dtabs(&self) -> Result<Option<bool>, StoreError> {
        let target = format!("/v2/keys{}/", encode_path(&self.server.prefix));
        let answer = self.ask(Method::GET, target, String::new(), REQUEST).await?;
        match serde_json::from_slice::<Reply>(&answer.body).unwrap_or_default() {
            Reply { node: Some(node), .. } => Ok(Some(node.nodes.iter().any(|node| !node.dir))),
            Reply { error: Some(KEY_NOT_FOUND), .. } => Ok(Some(false)),
            _ if answer.status.is_client_error() => Ok(None),
            _ => Err(self.server.refuse(&answer)),
        }
    }

    async fn ask(&self, method: Method, target: String, form: String, limit: Duration) -> Result<Answer, StoreError> {
        let answer = self.server.ask(method, target, FORM, form, limit).await;
        answer.map_err(|error| self.server.unavailable(&error))
    }

    /// The node of an answer, or etcd's error code; other answers are errors.
    fn reply(&self, answer: &Answer) -> Result<Result<Node, u32>, StoreError> {
        match serde_json::from_slice::<Reply>(&answer.body) {
            Ok(Reply { node: Some(node), .. }) if answer.status.is_success() => Ok(Ok(node)),
            Ok(Reply { error: Some(code), .. })
                if matches!(code, KEY_NOT_FOUND..=NOT_A_FILE | NODE_EXISTS | EVENT_INDEX_CLEARED) =>
            {
                Ok(Err(code))
            }
            _ => Err(self.server.refuse(answer)),
        }
    }

    async fn find(&self, key: &str) -> Result<Found, StoreError> {
        let target = format!("/v2/keys{}?quorum=true&sorted=true", encode_path(key));
        let answer = self.ask(Method::GET, target, String::new(), REQUEST).await?;
        let node = match self.reply(&answer)? {
            Ok(node) => Some(node),
            Err(KEY_NOT_FOUND) => None,
            Err(_) => return Err(self.server.refuse(&answer)),
        };
        let index = answer.number("x-etcd-index");
        let index = index.ok_or_else(|| self.server.unavailable("an answer has no X-Etcd-Index"))?;
        Ok(Found { node, index })
    }

    /// Waits for a change from `index` on, [`REFRESH`] at most.
    async fn changed(&self, key: &str, index: u64, recursive: bool) -> Result<(), StoreError> {
        let target = format!("/v2/keys{}?wait=true&recursive={recursive}&waitIndex={index}", encode_path(key));
        let waiting = self.ask(Method::GET, target, String::new(), 2 * REFRESH);
        let Ok(answer) = tokio::time::timeout(REFRESH, waiting).await else { return Ok(()) };
        let answer = answer?;
        // After a while etcd ends a wait without a word; code 401 is an index that it does not remember.
        if !answer.body.trim_ascii().is_empty() {
            let _ = self.reply(&answer)?;
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }

    async fn find_value(&self, namespace: &str) -> Result<(Option<Stored>, u64), StoreError> {
        let Found { node, index } = self.find(&self.server.key(namespace)).await?;
        let value = node.filter(|node| !node.dir).map(|node| Stored {
            text: Ok(node.value.unwrap_or_default().into()),
            version: version(node.modified_index),
        });
        Ok((value, index))
    }

    async fn find_names(&self) -> Result<(BTreeSet<String>, u64), StoreError> {
        let folder = self.server.key("");
        let Found { node, index } = self.find(&folder).await?;
        let nodes = node.map(|node| node.nodes).unwrap_or_default();
        let names = nodes.iter().filter(|node| !node.dir).filter_map(|node| node.key.strip_prefix(&folder));
        Ok((names.map(str::to_owned).collect(), index))
    }

    /// A PUT; the index that it made, or etcd's error code.
    async fn put(&self, key: &str, form: String) -> Result<Result<u64, u32>, StoreError> {
        let target = format!("/v2/keys{}", encode_path(key));
        let answer = self.ask(Method::PUT, target, form, REQUEST).await?;
        Ok(self.reply(&answer)?.map(|node| node.modified_index))
    }

    async fn delete(&self, key: &str, query: &str) -> Result<Result<u64, u32>, StoreError> {
        let target = format!("/v2/keys{}{query}", encode_path(key));
        let answer = self.ask(Method::DELETE, target, String::new(), REQUEST).await?;
        Ok(self.reply(&answer)?.map(|node| node.modified_index))
    }

    async fn log(&self, namespace: &str, index: u64, record: &Record) -> Result<(), StoreError> {
        let folder = self.server.log_folder(namespace);
        let json = record.to_json(Some(&version(index)));
        let form = format!("value={}&prevExist=false", encode(&json));
        if let Err(code) = self.put(&format!("{folder}/{}", history::name(index)), form).await? {
            return Err(self.server.unavailable(&format!("etcd does not take the record: error {code}")));
        }
        if self.writes.fetch_add(1, Ordering::Relaxed).is_multiple_of(PRUNE_EVERY) {
            let names = self.records(namespace).await?.into_iter().map(|node| node.key).collect();
            for key in history::surplus(names) {
                let _ = self.delete(&key, "").await?;
            }
        }
        Ok(())
    }

    /// The records of a namespace, the oldest first.
    async fn records(&self, namespace: &str) -> Result<Vec<Node>, StoreError> {
        let found = self.find(&self.server.log_folder(namespace)).await?;
        let mut nodes = found.node.map(|node| node.nodes).unwrap_or_default();
        nodes.retain(|node| !node.dir);
        nodes.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(nodes)
    }

    fn refused(&self, code: u32, namespace: &str) -> StoreError {
        match code {
            KEY_NOT_FOUND => StoreError::NotFound,
            COMPARE_FAILED => StoreError::Mismatch,
            NODE_EXISTS => StoreError::Exists,
            NOT_A_FILE => StoreError::BadName(format!("{namespace} is a folder in etcd, and no dtab")),
            _ => self.server.unavailable(&format!("error {code}")),
        }
    }

    /// Why a conditional change with a version that is none of etcd's fails.
    async fn absent_or_mismatch(&self, namespace: &str) -> StoreError {
        match self.find_value(namespace).await {
            Ok((None, _)) => StoreError::NotFound,
            Ok((Some(_), _)) => StoreError::Mismatch,
            Err(error) => error,
        }
    }
}

impl Backend for V2 {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn place(&self) -> &str {
        &self.server.place
    }

    fn details(&self) -> Value {
        json!({"apiVersion": 2})
    }

    fn check_name(&self, namespace: &str) -> Result<(), StoreError> {
        plain_name(namespace)?;
        match namespace.starts_with('_') {
            false => Ok(()),
            true => Err(StoreError::BadName(format!("{namespace}: etcd hides names that begin with '_'"))),
        }
    }

    fn read<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Result<Option<Stored>, StoreError>> {
        Box::pin(async move { Ok(self.find_value(namespace).await?.0) })
    }

    fn names(&self) -> BoxFuture<'_, Result<BTreeSet<String>, StoreError>> {
        Box::pin(async move { Ok(self.find_names().await?.0) })
    }

    fn follow(self: Arc<Self>, namespace: String, seen: Seen<Option<Stored>>) -> BoxFuture<'static, StoreError> {
        Box::pin(async move {
            loop {
                let round = async {
                    let (value, index) = self.find_value(&namespace).await?;
                    seen(value);
                    self.changed(&self.server.key(&namespace), index.saturating_add(1), false).await
                };
                if let Err(error) = round.await {
                    return error;
                }
            }
        })
    }

    fn follow_names(self: Arc<Self>, seen: Seen<BTreeSet<String>>) -> BoxFuture<'static, StoreError> {
        Box::pin(async move {
            loop {
                let round = async {
                    let (names, index) = self.find_names().await?;
                    seen(names);
                    self.changed(&self.server.key(""), index.saturating_add(1), true).await
                };
                if let Err(error) = round.await {
                    return error;
                }
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
        Box::pin(async move {
            let mut form = format!("value={}", encode(&text));
            match &expected {
                Expected::Absent => form.push_str("&prevExist=false"),
                Expected::Any => {}
                Expected::Is(expected) => match number(expected).filter(|number| *number > 0) {
                    Some(index) => form.push_str(&format!("&prevIndex={index}")),
                    None => return Err(self.absent_or_mismatch(namespace).await),
                },
            }
            let index = self.put(&self.server.key(namespace), form).await?;
            let index = index.map_err(|code| self.refused(code, namespace))?;
            history::keep(namespace, self.log(namespace, index, record)).await;
            Ok(version(index))
        })
    }

    fn remove<'a>(
        &'a self,
        namespace: &'a str,
        expected: Option<Version>,
        record: &'a Record,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let query = match expected.as_ref().map(number) {
                None => String::new(),
                Some(Some(index)) if index > 0 => format!("?prevIndex={index}"),
                Some(_) => return Err(self.absent_or_mismatch(namespace).await),
            };
            let index = self.delete(&self.server.key(namespace), &query).await?;
            let index = index.map_err(|code| self.refused(code, namespace))?;
            history::keep(namespace, self.log(namespace, index, record)).await;
            Ok(())
        })
    }

    fn history<'a>(&'a self, namespace: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<Logged>, StoreError>> {
        Box::pin(async move {
            let mut gathered = Gathered::new(limit);
            for node in self.records(namespace).await?.into_iter().rev() {
                let json = node.value.unwrap_or_default().into_bytes();
                gathered.take(Logged { json, revision: version(node.modified_index) });
            }
            Ok(gathered.into_found())
        })
    }
}
