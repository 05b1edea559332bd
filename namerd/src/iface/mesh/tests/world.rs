//! A namerd for tests: a store and a namer that are told what to say, and the interface on a free port.

use super::super::MeshInterface;
use crate::access::Access;
use crate::iface::{Interface, Peer};
use crate::names::Names;
use crate::storage::{Entry, Note, Store, StoreError, Version, VersionedDtab};
use bytes::Bytes;
use dtab::{Activity, Addr, BoundName, BoxFuture, Dtab, Name, NameTree, Namer, Path, Publisher, State};
use namers::{Discovery, DnsOptions, DnsResolver, SystemNamer};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const SOON: Duration = Duration::from_secs(20);

pub(super) fn path(text: &str) -> Path {
    Path::parse(text).expect("a path")
}

pub(super) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("{what} within {SOON:?}"))
}

/// Waits, looking now and then.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let looking = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(what, looking).await;
}

/// One namespace `default`; `broken` fails and others are not there.
pub(super) struct Told {
    dtab: Publisher<Option<VersionedDtab>>,
    version: AtomicU8,
}

impl Told {
    pub(super) fn says(&self, text: Option<&str>) {
        let version = || Version(Bytes::from(vec![self.version.fetch_add(1, Ordering::Relaxed)]));
        let stored = |text| VersionedDtab { dtab: Dtab::parse(text).expect("a dtab"), version: version() };
        self.dtab.publish(State::Ok(text.map(stored)));
    }
}

fn refused<T: Send + 'static>() -> BoxFuture<'static, Result<T, StoreError>> {
    Box::pin(async { Err(StoreError::Forbidden("this store only tells".into())) })
}

impl Store for Told {
    fn kind(&self) -> &'static str {
        "told"
    }

    fn list(&self) -> Activity<Arc<BTreeSet<String>>> {
        Activity::constant(State::Pending)
    }

    fn observe(&self, namespace: &str) -> Activity<Option<VersionedDtab>> {
        match namespace {
            "default" => self.dtab.subscribe(),
            "broken" => Activity::constant(State::Failed("it rains".into())),
            _ => Activity::constant(State::Ok(None)),
        }
    }

    fn read(&self, namespace: &str) -> BoxFuture<'_, Result<Option<VersionedDtab>, StoreError>> {
        let read = match self.observe(namespace).peek() {
            State::Ok(stored) => Ok(stored),
            State::Failed(reason) => Err(StoreError::Unavailable(reason.to_string())),
            State::Pending => Ok(None),
        };
        Box::pin(async { read })
    }

    fn create(&self, _: &str, _: Dtab, _: Note) -> BoxFuture<'_, Result<Version, StoreError>> {
        refused()
    }

    fn update(&self, _: &str, _: Dtab, _: Version, _: Note) -> BoxFuture<'_, Result<Version, StoreError>> {
        refused()
    }

    fn put(&self, _: &str, _: Dtab, _: Note) -> BoxFuture<'_, Result<Version, StoreError>> {
        refused()
    }

    fn delete(&self, _: &str, _: Option<Version>, _: Note) -> BoxFuture<'_, Result<(), StoreError>> {
        refused()
    }

    fn history(&self, _: &str, _: usize) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        refused()
    }

    fn report(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}

/// `/#/t/<name>`: every name is there, with the addresses that it is told to have.
pub(super) struct ToldNamer {
    prefix: Path,
    addrs: Mutex<BTreeMap<String, Publisher<Addr>>>,
}

impl ToldNamer {
    fn publisher(&self, name: &str) -> Publisher<Addr> {
        self.addrs.lock().entry(name.to_owned()).or_insert_with(|| Activity::channel().0).clone()
    }

    pub(super) fn says(&self, name: &str, addr: Addr) {
        self.publisher(name).publish(State::Ok(addr));
    }

    /// Names whose addresses somebody reads.
    pub(super) fn watched(&self) -> usize {
        self.addrs.lock().values().filter(|publisher| publisher.watchers() > 0).count()
    }
}

impl Namer for ToldNamer {
    fn prefix(&self) -> &Path {
        &self.prefix
    }

    fn lookup(&self, rest: &Path) -> Activity<NameTree<Name>> {
        let bound = BoundName { id: self.prefix.concat(&rest.take(1)), residual: rest.skip(1) };
        Activity::constant(State::Ok(NameTree::Leaf(Name::Bound(bound))))
    }

    fn resolve(&self, id: &Path) -> Activity<Addr> {
        self.publisher(id.text(2).unwrap_or_default()).subscribe()
    }
}

/// A namerd with this interface alone.
pub(super) struct World {
    pub(super) store: Arc<Told>,
    pub(super) namer: Arc<ToldNamer>,
    pub(super) names: Names,
    pub(super) address: SocketAddr,
    /// Connections that were ever accepted.
    pub(super) accepted: Arc<AtomicUsize>,
    serving: Arc<AtomicUsize>,
    closing: watch::Sender<bool>,
    listening: JoinHandle<()>,
}

/// One connection, counted until it is over, however it ends.
struct Served(Arc<AtomicUsize>);

impl Drop for Served {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl World {
    pub(super) async fn new() -> World {
        World::with(Access::default(), None).await
    }

    /// One that `access` guards; its callers have this certificate.
    pub(super) async fn with(access: Access, identity: Option<&str>) -> World {
        let identity = identity.map(str::to_owned);
        let mut discovery = Discovery::new(Handle::current());
        discovery.watch.linger = Duration::from_millis(1);
        discovery.watch.negative_linger = Duration::from_millis(1);
        discovery.watch.empty_grace = Duration::ZERO;
        let dns = DnsResolver::within(&discovery, &[], DnsOptions::default());
        let system = SystemNamer::new(dns, Handle::current());
        let store = Arc::new(Told { dtab: Activity::channel().0, version: AtomicU8::new(1) });
        store.dtab.publish(State::Ok(None));
        let namer = Arc::new(ToldNamer { prefix: path("/#/t"), addrs: Mutex::default() });
        let names = Names::new(store.clone(), vec![namer.clone()], system, &discovery);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (closing, closed) = watch::channel(false);
        let (accepted, serving) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let interface = Arc::new(MeshInterface::new(names.clone(), access));
        let counts = (accepted.clone(), serving.clone());
        let listening = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, address)) = listener.accept().await {
                socket.set_nodelay(true).expect("a socket");
                let peer = Peer { address, identity: identity.clone() };
                let serve = interface.clone().serve(Box::new(socket), peer, closed.clone());
                counts.0.fetch_add(1, Ordering::Relaxed);
                counts.1.fetch_add(1, Ordering::Relaxed);
                let served = Served(counts.1.clone());
                connections.spawn(async move {
                    serve.await;
                    drop(served);
                });
            }
        });
        World { store, namer, names, address, accepted, serving, closing, listening }
    }

    pub(super) fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Cuts all connections and refuses new ones.
    pub(super) fn kill(&self) {
        self.listening.abort();
    }

    /// Waits until so many connections are served.
    pub(super) async fn served(&self, count: usize) {
        until("connections to end", || self.serving.load(Ordering::Relaxed) == count).await;
    }

    /// Waits until the addresses of so many names are read.
    pub(super) async fn watched(&self, count: usize) {
        until("readers to leave", || self.namer.watched() == count).await;
    }

    /// Waits until callers are told these addresses, which stays so while the result is held.
    pub(super) async fn told(&self, name: &str, addr: &Addr) -> Activity<Addr> {
        let mut live = self.names.resolve(&path(&format!("/#/t/{name}")));
        within("addresses", async {
            while live.get() != State::Ok(addr.clone()) {
                live.changed().await;
            }
        })
        .await;
        live
    }
}
