//! The interface over pipes with a paused clock: a store and a namer say what the test wants, a client speaks mux or framed
//! thrift. Names and the numbers of the reference are real, and so is all between.

mod access;
mod framed;
mod mux;
mod peers;

use super::*;
use crate::storage::{Entry, Note, Store, StoreError, Version, VersionedDtab};
use dtab::{Activity, Addr, BoundName, Dtab, Name, NameTree, Namer, Path, Publisher, State};
use namers::thrift::binary::Wire;
use namers::thrift::messages::{AddrReq, BindReq, Bound, DtabReq, Failure, NameRef, Stamp};
use namers::thrift::mux::{Assembler, Message, status};
use namers::{Discovery, DnsOptions, DnsResolver, SystemNamer};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::watch;

const SOON: Duration = Duration::from_secs(20);

type Live<T> = Mutex<HashMap<String, Publisher<T>>>;

/// A store and a namer that are told what to say.
#[derive(Default)]
struct World {
    dtabs: Live<Option<VersionedDtab>>,
    trees: Live<NameTree<Name>>,
    addrs: Live<Addr>,
}

fn of<T: Clone>(live: &Live<T>, key: &str) -> Publisher<T> {
    live.lock().entry(key.to_owned()).or_insert_with(|| Activity::channel().0).clone()
}

impl World {
    /// `/#/test/<name>` is bound to this id from now on.
    fn binds(&self, name: &str, id: &str) {
        let bound = Name::Bound(BoundName { id: path(id), residual: Path::empty() });
        of(&self.trees, name).publish(State::Ok(NameTree::Leaf(bound)));
    }

    fn stores(&self, ns: &str, dtab: &str, version: &str) {
        let version = Version(version.to_owned().into());
        let dtab = Dtab::parse(dtab).expect("a dtab");
        of(&self.dtabs, ns).publish(State::Ok(Some(VersionedDtab { dtab, version })));
    }
}

struct ToldNamer(Arc<World>, Path);

impl Namer for ToldNamer {
    fn prefix(&self) -> &Path {
        &self.1
    }

    fn lookup(&self, rest: &Path) -> Activity<NameTree<Name>> {
        of(&self.0.trees, rest.text(0).unwrap_or_default()).subscribe()
    }

    fn resolve(&self, id: &Path) -> Activity<Addr> {
        of(&self.0.addrs, &id.to_string()).subscribe()
    }
}

struct ToldStore(Arc<World>);

fn refused<T: Send + 'static>() -> BoxFuture<'static, Result<T, StoreError>> {
    Box::pin(async { Err(StoreError::Forbidden("this store only tells".into())) })
}

impl Store for ToldStore {
    fn kind(&self) -> &'static str {
        "told"
    }

    fn list(&self) -> Activity<Arc<BTreeSet<String>>> {
        Activity::constant(State::Pending)
    }

    fn observe(&self, ns: &str) -> Activity<Option<VersionedDtab>> {
        of(&self.0.dtabs, ns).subscribe()
    }

    fn read(&self, _: &str) -> BoxFuture<'_, Result<Option<VersionedDtab>, StoreError>> {
        refused()
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

fn path(text: &str) -> Path {
    Path::parse(text).expect("a path")
}

/// An interface over a world in which `/svc` of the namespace `ns` is the namer's.
struct Server {
    world: Arc<World>,
    interface: Arc<ThriftInterface>,
    identity: Option<String>,
    closing: watch::Sender<bool>,
}

fn server() -> Server {
    server_with(&ThriftOptions::default())
}

fn server_with(options: &ThriftOptions) -> Server {
    server_for(Access::default(), None, options)
}

/// A server that `access` guards; its callers have this certificate.
fn server_for(access: Access, identity: Option<&str>, options: &ThriftOptions) -> Server {
    let (world, handle) = (Arc::new(World::default()), Handle::current());
    world.stores("ns", "/svc => /#/test", "1");
    let discovery = Discovery::new(handle.clone());
    let system = SystemNamer::new(DnsResolver::within(&discovery, &[], DnsOptions::default()), handle.clone());
    let namer: Arc<dyn Namer> = Arc::new(ToldNamer(world.clone(), path("/#/test")));
    let names = Names::new(Arc::new(ToldStore(world.clone())), vec![namer], system, &discovery);
    let interface = Arc::new(ThriftInterface::new(names, access, options, &handle));
    Server { world, interface, identity: identity.map(str::to_owned), closing: watch::channel(false).0 }
}

impl Server {
    fn serve(&self, io: impl Io + 'static) -> tokio::task::JoinHandle<()> {
        let peer = Peer { address: ([127, 0, 0, 1], 1).into(), identity: self.identity.clone() };
        tokio::spawn(self.interface.clone().serve(Box::new(io), peer, self.closing.subscribe()))
    }

    /// A client, and the task that serves it.
    fn connect(&self) -> (Client, tokio::task::JoinHandle<()>) {
        let (io, theirs) = tokio::io::duplex(64 * 1024);
        (Client { io, frames: Frames::new(1 << 25) }, self.serve(theirs))
    }
}

/// Frames to and from the server.
struct Client {
    io: DuplexStream,
    frames: Frames,
}

impl Client {
    async fn frame(&mut self) -> Option<bytes::BytesMut> {
        let read = timeout(SOON, next_frame(&mut self.io, &mut self.frames));
        read.await.expect("an answer in time").expect("frames")
    }

    async fn hears(&mut self) -> Message {
        let frame = self.frame().await.expect("an open connection");
        Assembler::new(0).accept(&frame).expect("a message").expect("no fragment")
    }

    async fn says(&mut self, message: Message) {
        self.io.write_all(&message.frame()).await.expect("a server that reads");
    }

    /// Nothing comes for a long time.
    async fn hears_nothing(&mut self) {
        let heard = timeout(Duration::from_secs(25), next_frame(&mut self.io, &mut self.frames)).await;
        assert!(heard.is_err(), "{heard:?} where nothing was expected");
    }

    async fn calls<T: Wire>(&mut self, tag: u32, method: &str, request: &T) {
        self.says(Message::Tdispatch(tag, call::write_call(method, request))).await;
    }

    /// The answer to the call of this tag, which must be the next message.
    async fn answer<T: Wire>(&mut self, tag: u32) -> Result<T, Failure> {
        match self.hears().await {
            Message::Rdispatch(answered, status::OK, body) => {
                assert_eq!(answered, tag);
                call::read_reply(&body).expect("a reply")
            }
            other => panic!("{other:?} in place of an answer"),
        }
    }

    async fn binds(&mut self, tag: u32, stamp: &[u8], name: &str) {
        self.calls(tag, "bind", &bind(stamp, name)).await;
    }

    /// Stamp and id of an answer of `bind`.
    async fn bound(&mut self, tag: u32) -> (Stamp, String) {
        let bound: Bound = self.answer(tag).await.expect("a tree");
        assert_eq!(bound.ns, "ns");
        match namers::thrift::convert::read_tree(&bound.tree) {
            Ok(NameTree::Leaf(name)) => (bound.stamp, name.id.to_string()),
            other => panic!("{other:?} in place of a leaf"),
        }
    }
}

fn name(stamp: &[u8], text: &str) -> NameRef {
    NameRef { stamp: stamp.to_vec(), name: path(text), ns: "ns".into() }
}

fn bind(stamp: &[u8], text: &str) -> BindReq {
    BindReq { dtab: String::new(), name: name(stamp, text) }
}

fn addr(stamp: &[u8], id: &str) -> AddrReq {
    AddrReq(name(stamp, id))
}

fn dtab_of(stamp: &[u8], ns: &str) -> DtabReq {
    DtabReq { stamp: stamp.to_vec(), ns: ns.to_owned() }
}
