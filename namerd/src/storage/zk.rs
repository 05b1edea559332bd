//! `io.l5d.zk`: dtabs in ZooKeeper, one persistent znode each (namerd reference §5.4).
//!
//! A znode that is deleted and made again counts its versions from zero, so a version of ours is the znode's czxid, 8 bytes,
//! and its version, 4 bytes, both big-endian: ordered in time and never reused. The 4 bytes of Linkerd 1 are accepted too.
//! Called by whoever builds namerd from its config. Not for: sessions (`session`), following (`super::shared`).

mod session;

use super::history::{self, Gathered, Logged, Record};
use super::shared::{Backend, Expected, REFRESH, Seen, SharedStore, Stored, plain_name};
use super::{Store, StoreError, Version};
use bytes::Bytes;
use dtab::BoxFuture;
use namers::Discovery;
use serde_json::{Value, json};
use session::Session;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use zookeeper_client::{Acl, AuthId, Client, Error, EventType, OneshotWatcher, Permission, Stat};

/// Tries of a write that depends on what it has just read.
const TRIES: usize = 5;
/// ZooKeeper takes packets of at most 1 MiB (`jute.maxbuffer`), and ends the connection at a larger one.
const MAX_TEXT: usize = (1 << 20) - 1024;
/// The text of an empty dtab: to Linkerd 1 a znode without data is an error.
const EMPTY: &str = "\n";

/// Credentials that are given at the start of a session.
#[derive(Clone)]
pub struct ZkAuth {
    /// E.g. `digest`.
    pub scheme: String,
    /// E.g. `user:password`.
    pub auth: String,
}

impl fmt::Debug for ZkAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZkAuth").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

/// Who may do what with the znodes that this process makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZkAcl {
    /// E.g. `digest`.
    pub scheme: String,
    /// Who, in the scheme.
    pub id: String,
    /// Some of the letters `crwda`, each once: create, read, write, delete, admin.
    pub perms: String,
}

impl ZkAcl {
    /// Errors with what is wrong with the letters.
    fn parse(&self) -> Result<Acl, String> {
        let mut sum = Permission::NONE;
        for letter in self.perms.chars() {
            let one = match letter {
                'c' => Permission::CREATE,
                'r' => Permission::READ,
                'w' => Permission::WRITE,
                'd' => Permission::DELETE,
                'a' => Permission::ADMIN,
                other => return Err(format!("{other:?} is no permission; there are c, r, w, d and a")),
            };
            if sum.has(one) {
                return Err(format!("the permission {letter:?} is there twice"));
            }
            sum = sum | one;
        }
        Ok(Acl::new(sum, AuthId::new(&self.scheme, &self.id)))
    }
}

/// The keys of the config.
#[derive(Debug, Clone)]
pub struct ZkParams {
    /// Host names or addresses, with ports; members of one ensemble, version 3.5 or newer.
    pub addresses: Vec<(String, u16)>,
    /// Default `/dtabs`; made when it is missing.
    pub path_prefix: String,
    /// Default 10 s.
    pub session_timeout: Duration,
    /// None by default.
    pub auth: Option<ZkAuth>,
    /// Anyone may do anything by default (empty).
    pub acls: Vec<ZkAcl>,
}

impl ZkParams {
    /// The defaults of Linkerd 1, for these servers.
    pub fn new(addresses: Vec<(String, u16)>) -> ZkParams {
        ZkParams {
            addresses,
            path_prefix: "/dtabs".to_owned(),
            session_timeout: Duration::from_secs(10),
            auth: None,
            acls: Vec::new(),
        }
    }
}

/// The store; its watches are a part of `discovery`. Errors with what is wrong with the params.
pub fn open(params: &ZkParams, discovery: &Discovery) -> Result<Arc<dyn Store>, String> {
    if params.addresses.is_empty() {
        return Err("zkAddrs names no server".to_owned());
    }
    let acls = params.acls.iter().map(ZkAcl::parse).collect::<Result<Vec<_>, _>>()?;
    Ok(SharedStore::open(Arc::new(Zk { session: Session::new(params, acls), prefix: prefix(params)? }), discovery))
}

/// The prefix without a slash at its end.
fn prefix(params: &ZkParams) -> Result<String, String> {
    let trimmed = params.path_prefix.trim_matches('/');
    match trimmed.split('/').map(plain_name).collect::<Result<Vec<_>, _>>() {
        Ok(_) => Ok(format!("/{trimmed}")),
        Err(_) => Err(format!("pathPrefix {:?} is not the path of a znode below the root", params.path_prefix)),
    }
}

struct Zk {
    session: Session,
    prefix: String,
}

fn version(czxid: i64, version: i32) -> Version {
    let mut bytes = czxid.to_be_bytes().to_vec();
    bytes.extend(version.to_be_bytes());
    Version(bytes.into())
}

/// The version of a znode that `expected` stands for, if it is that of `stat`.
fn matches(expected: &Version, stat: &Stat) -> Option<i32> {
    let full = version(stat.czxid, stat.version);
    let short = stat.version.to_be_bytes();
    (*expected == full || expected.0[..] == short[..]).then_some(stat.version)
}

impl Zk {
    fn path(&self, namespace: &str) -> String {
        format!("{}/{namespace}", self.prefix)
    }

    fn log_folder(&self, namespace: &str) -> String {
        format!("{}-history/{namespace}", self.prefix)
    }

    /// The value, if any, as new as all writes that were acknowledged before.
    async fn find(&self, namespace: &str) -> Result<Option<(Bytes, Stat)>, StoreError> {
        let path = self.path(namespace);
        self.session.run(async |zk| zk.sync(&path).await).await?;
        match self.session.run(async |zk| absent(zk.get_data(&path).await)).await? {
            Some((data, stat)) => Ok(Some((data.into(), stat))),
            None => Ok(None),
        }
    }

    fn stored(&self, namespace: &str, data: Bytes, stat: &Stat) -> Stored {
        let text = match data.is_empty() {
            true => Err(format!("the znode {} is empty", self.path(namespace))),
            false => Ok(data),
        };
        Stored { text, version: version(stat.czxid, stat.version) }
    }

    /// Makes a znode, and the znodes above it; None when it is there.
    async fn make(&self, path: &str, data: &[u8]) -> Result<Option<Stat>, StoreError> {
        let made = self.session.run(async |zk| {
            let mut made = zk.create(path, data, &self.session.persistent()).await;
            if made == Err(Error::NoNode) {
                let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                zk.mkdir(parent, &self.session.persistent()).await?;
                made = zk.create(path, data, &self.session.persistent()).await;
            }
            match made {
                Err(Error::NodeExists) => Ok(None),
                made => made.map(Some),
            }
        });
        Ok(made.await?.map(|(stat, _)| stat))
    }

    /// Sets the data; None when the znode is not there or has another version.
    async fn set(&self, path: &str, data: &[u8], expected: Option<i32>) -> Result<Option<Stat>, StoreError> {
        let set = async |zk: Client| match zk.set_data(path, data, expected).await {
            Err(Error::NoNode | Error::BadVersion) => Ok(None),
            set => set.map(Some),
        };
        self.session.run(set).await
    }

    async fn write_node(&self, namespace: &str, data: &[u8], expected: Expected) -> Result<Stat, StoreError> {
        let path = self.path(namespace);
        match expected {
            Expected::Absent => self.make(&path, data).await?.ok_or(StoreError::Exists),
            Expected::Any => {
                for _ in 0..TRIES {
                    if let Some(stat) = self.set(&path, data, None).await? {
                        return Ok(stat);
                    }
                    if let Some(stat) = self.make(&path, data).await? {
                        return Ok(stat);
                    }
                }
                Err(self.session.unavailable("the namespace is made and deleted all the time; try again"))
            }
            Expected::Is(expected) => {
                let (_, stat) = self.find(namespace).await?.ok_or(StoreError::NotFound)?;
                let known = matches(&expected, &stat).ok_or(StoreError::Mismatch)?;
                match self.set(&path, data, Some(known)).await? {
                    Some(set) if set.czxid != stat.czxid => {
                        tracing::warn!(
                            namespace,
                            "a dtab was deleted and made again while it was written: the write is done, and its caller told that it is not"
                        );
                        Err(StoreError::Mismatch)
                    }
                    Some(set) => Ok(set),
                    None if self.find(namespace).await?.is_none() => Err(StoreError::NotFound),
                    None => Err(StoreError::Mismatch),
                }
            }
        }
    }

    async fn remove_node(&self, namespace: &str, expected: Option<Version>) -> Result<(), StoreError> {
        let (_, stat) = self.find(namespace).await?.ok_or(StoreError::NotFound)?;
        let known = match &expected {
            None => None,
            Some(expected) => Some(matches(expected, &stat).ok_or(StoreError::Mismatch)?),
        };
        let path = self.path(namespace);
        let removed = self.session.run(async |zk| match zk.delete(&path, known).await {
            Err(Error::NoNode) => Ok(Err(StoreError::NotFound)),
            Err(Error::BadVersion) => Ok(Err(StoreError::Mismatch)),
            removed => removed.map(Ok),
        });
        removed.await?
    }

    /// Keeps the record of what happened at transaction `zxid`.
    async fn log(&self, namespace: &str, zxid: i64, json: String) -> Result<(), StoreError> {
        let folder = self.log_folder(namespace);
        let name = history::name(u64::try_from(zxid).unwrap_or_default());
        self.make(&format!("{folder}/{name}"), json.as_bytes()).await?;
        for name in history::surplus(self.log_names(namespace).await?) {
            let path = format!("{folder}/{name}");
            self.session.run(async |zk| absent(zk.delete(&path, None).await)).await?;
        }
        Ok(())
    }

    async fn log_names(&self, namespace: &str) -> Result<Vec<String>, StoreError> {
        let folder = self.log_folder(namespace);
        let names = self.session.run(async |zk| absent(zk.list_children(&folder).await)).await?;
        Ok(names.unwrap_or_default())
    }

    /// The last transaction that made or removed a znode below the prefix.
    async fn last_zxid(&self) -> Result<i64, StoreError> {
        let stat = self.session.run(async |zk| zk.check_stat(&self.prefix).await).await?;
        Ok(stat.map_or(0, |stat| stat.pzxid))
    }

    /// The value, and what tells of its next change; None when the znode has come or gone meanwhile.
    async fn look(&self, namespace: &str) -> Result<Option<(Option<Stored>, OneshotWatcher)>, StoreError> {
        let path = self.path(namespace);
        let found = self.session.run(async |zk| absent(zk.get_and_watch_data(&path).await)).await?;
        if let Some((data, stat, watcher)) = found {
            return Ok(Some((Some(self.stored(namespace, data.into(), &stat)), watcher)));
        }
        let (stat, watcher) = self.session.run(async |zk| zk.check_and_watch_stat(&path).await).await?;
        Ok(stat.is_none().then_some((None, watcher)))
    }

    /// The names, and what tells of their next change. The prefix is made when it is missing.
    async fn look_names(&self) -> Result<(BTreeSet<String>, OneshotWatcher), StoreError> {
        let list = async |zk: Client| absent(zk.list_and_watch_children(&self.prefix).await);
        let (names, watcher) = match self.session.run(list).await? {
            Some(found) => found,
            None => {
                self.make(&self.prefix, b"").await?;
                let listed = self.session.run(list).await?;
                listed.ok_or_else(|| self.session.unavailable(&format!("{} is made and deleted", self.prefix)))?
            }
        };
        Ok((names.into_iter().collect(), watcher))
    }

    /// Waits for the change, [`REFRESH`] at most. An interrupted session is an error.
    async fn changed(&self, watcher: OneshotWatcher) -> Result<(), StoreError> {
        tokio::select! {
            event = watcher.changed() => match event.event_type {
                EventType::Session => Err(self.session.unavailable(&format!("the session is over: {:?}", event.session_state))),
                _ => Ok(()),
            },
            why = self.session.interrupted() => Err(self.session.unavailable(&why)),
            () = tokio::time::sleep(REFRESH) => Ok(()),
        }
    }
}

/// A znode that is not there is no error.
fn absent<T>(outcome: Result<T, Error>) -> Result<Option<T>, Error> {
    match outcome {
        Err(Error::NoNode) => Ok(None),
        outcome => outcome.map(Some),
    }
}

impl Backend for Zk {
    fn kind(&self) -> &'static str {
        "io.l5d.zk"
    }

    fn place(&self) -> &str {
        self.session.place()
    }

    fn details(&self) -> Value {
        json!({"session": self.session.state()})
    }

    fn check_name(&self, namespace: &str) -> Result<(), StoreError> {
        plain_name(namespace)?;
        // What ZooKeeper refuses in paths besides.
        let refused = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{f000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}');
        match namespace.chars().any(refused) {
            false => Ok(()),
            true => Err(StoreError::BadName(format!("{namespace:?} cannot be the name of a znode"))),
        }
    }

    fn read<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Result<Option<Stored>, StoreError>> {
        Box::pin(async move { Ok(self.find(namespace).await?.map(|(data, stat)| self.stored(namespace, data, &stat))) })
    }

    fn names(&self) -> BoxFuture<'_, Result<BTreeSet<String>, StoreError>> {
        Box::pin(async move {
            let names = self.session.run(async |zk| absent(zk.list_children(&self.prefix).await)).await?;
            Ok(names.unwrap_or_default().into_iter().collect())
        })
    }

    fn follow(self: Arc<Self>, namespace: String, seen: Seen<Option<Stored>>) -> BoxFuture<'static, StoreError> {
        Box::pin(async move {
            loop {
                let round = async {
                    if let Some((value, watcher)) = self.look(&namespace).await? {
                        seen(value);
                        self.changed(watcher).await?;
                    }
                    Ok(())
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
                    let (names, watcher) = self.look_names().await?;
                    seen(names);
                    self.changed(watcher).await
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
            if text.len() > MAX_TEXT {
                let text = format!("the dtab has {} bytes; ZooKeeper takes {MAX_TEXT} at most", text.len());
                return Err(StoreError::Forbidden(text));
            }
            let data = if text.is_empty() { EMPTY } else { &text };
            let stat = self.write_node(namespace, data.as_bytes(), expected).await?;
            let made = version(stat.czxid, stat.version);
            history::keep(namespace, self.log(namespace, stat.mzxid, record.to_json(Some(&made)))).await;
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
            self.remove_node(namespace, expected).await?;
            let logged = async {
                let zxid = self.last_zxid().await?;
                self.log(namespace, zxid, record.to_json(None)).await
            };
            history::keep(namespace, logged).await;
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
                let path = format!("{}/{name}", self.log_folder(namespace));
                let record = self.session.run(async |zk| absent(zk.get_data(&path).await)).await?;
                if let Some((json, stat)) = record {
                    gathered.take(Logged { json, revision: version(stat.czxid, stat.version) });
                }
            }
            Ok(gathered.into_found())
        })
    }
}
