//! The HTTP API over real sockets (namerd reference §11, 1 to 9).

mod access;
mod away;
mod client;
mod faults;
mod judge;
mod peer;
mod reads;
mod streams;
mod writes;

use super::*;
use crate::access::Access;
use crate::storage::Store;
use crate::storage::memory::{MemoryStore, RETENTION};
use client::{Reply, Stream};
use dtab::{Activity, Addr, BoundName, Dtab, Name, NameTree, Namer, Path, State};
use namers::{Discovery, DnsOptions, DnsResolver, SystemNamer};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

const SOON: Duration = Duration::from_secs(30);

fn path(text: &str) -> Path {
    Path::parse(text).expect("a path")
}

/// Binds everything below `/#/stuck`, and never knows its addresses.
struct Stuck(Path);

impl Namer for Stuck {
    fn prefix(&self) -> &Path {
        &self.0
    }

    fn lookup(&self, rest: &Path) -> Activity<NameTree<Name>> {
        let name = BoundName { id: self.0.concat(rest), residual: Path::empty() };
        Activity::constant(State::Ok(NameTree::Leaf(Name::Bound(name))))
    }

    fn resolve(&self, id: &Path) -> Activity<Addr> {
        let mine = id.starts_with(&self.0);
        Activity::constant(if mine { State::Pending } else { State::Ok(Addr::Neg) })
    }
}

/// A namerd with this interface alone.
struct Server {
    address: SocketAddr,
    api: Arc<HttpInterface>,
    closing: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

fn memory(namespaces: &[(&str, &str)]) -> Arc<MemoryStore> {
    let dtab = |(name, text): &(&str, &str)| ((*name).to_owned(), Dtab::parse(text).expect("a dtab"));
    Arc::new(MemoryStore::new(namespaces.iter().map(dtab).collect::<BTreeMap<_, _>>(), RETENTION))
}

/// A listener, as soon as nobody else has that address.
async fn listen(at: &str) -> TcpListener {
    let listening = async {
        loop {
            match TcpListener::bind(at).await {
                Ok(listener) => return listener,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(SOON, listening).await.expect("a listener")
}

impl Server {
    async fn with(store: Arc<dyn Store>, access: Access, params: HttpParams, at: &str) -> Server {
        Server::over(store, Arc::new(Stuck(path("/#/stuck"))), access, params, at).await
    }

    async fn over(
        store: Arc<dyn Store>,
        namer: Arc<dyn Namer>,
        access: Access,
        params: HttpParams,
        at: &str,
    ) -> Server {
        let discovery = Discovery::new(Handle::current());
        let dns = DnsResolver::within(&discovery, &[], DnsOptions::default());
        let system = SystemNamer::new(dns, Handle::current());
        let names = Names::new(store, vec![namer], system, &discovery);
        let api = Arc::new(HttpInterface::new(names, access, params));
        let listener = listen(at).await;
        let address = listener.local_addr().expect("an address");
        let (closing, told) = watch::channel(false);
        let (mut tasks, serving) = (JoinSet::new(), api.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, address)) = listener.accept().await {
                let peer = Peer { address, identity: None };
                connections.spawn(serving.clone().serve(Box::new(socket), peer, told.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Server { address, api, closing, _tasks: tasks }
    }

    /// A namerd with these dtabs in memory, open to all.
    async fn of(namespaces: &[(&str, &str)]) -> Server {
        Server::with(memory(namespaces), Access::default(), HttpParams::default(), "127.0.0.1:0").await
    }

    async fn get(&self, target: &str) -> Reply {
        client::ask(self.address, "GET", target, &[], None).await
    }

    async fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        client::ask(self.address, method, target, headers, Some(body.as_bytes())).await
    }

    /// A write of text.
    async fn put(&self, namespace: &str, dtab: &str) -> Reply {
        self.send("PUT", &format!("/api/1/dtabs/{namespace}"), &[DTAB], dtab).await
    }

    async fn watch(&self, target: &str) -> Stream {
        Stream::open(self.address, target, &[]).await
    }

    /// Waits until so many streams are open.
    async fn has_watches(&self, count: usize) {
        let reached = async {
            while self.api.open_watches() != count {
                tokio::task::yield_now().await;
            }
        };
        let found = tokio::time::timeout(SOON, reached).await;
        found.unwrap_or_else(|_| panic!("{} streams in place of {count}", self.api.open_watches()));
    }
}

const DTAB: (&str, &str) = ("content-type", "application/dtab");
