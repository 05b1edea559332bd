//! The client against namerds over real sockets that say what the test wants; the real server is tested in namerd.

use super::*;
use crate::WatchOptions;
use crate::remote::{RemoteInterpreter, RemoteOptions};
use crate::thrift::convert::{write_addr, write_tree};
use crate::thrift::mux::{Assembler, Frames, Message, status};
use crate::watches::Discovery;
use dtab::{Activity, DtabStack, Interpreter, State};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SOON: Duration = Duration::from_secs(60);

/// A call, as the script sees it.
struct Asked {
    method: String,
    stamp: Stamp,
}

enum Act {
    Tree(u8, NameTree<BoundName>),
    Addr(u8, Addr),
    Raw(Vec<u8>),
    Fail(&'static str),
    Hold,
    Close,
}

type Script = Arc<dyn Fn(Asked) -> Act + Send + Sync>;

/// A namerd by a script.
struct Fake {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
    discarded: Arc<AtomicUsize>,
    /// Ends all of it.
    tasks: tokio::task::JoinHandle<()>,
}

impl Fake {
    async fn start(script: impl Fn(Asked) -> Act + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (connections, calls, discarded) = (Arc::default(), Arc::default(), Arc::default());
        let counts: (Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>) =
            (Arc::clone(&connections), Arc::clone(&calls), Arc::clone(&discarded));
        let script: Script = Arc::new(script);
        let tasks = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                counts.0.fetch_add(1, Ordering::SeqCst);
                let (calls, discarded) = (counts.1.clone(), counts.2.clone());
                open.spawn(converse(socket, script.clone(), calls, discarded));
            }
        });
        Fake { address, connections, calls, discarded, tasks }
    }
}

async fn converse(mut socket: TcpStream, script: Script, calls: Arc<AtomicUsize>, discarded: Arc<AtomicUsize>) {
    let (mut frames, mut assembler) = (Frames::new(1 << 20), Assembler::new(1 << 20));
    loop {
        while let Some(frame) = frames.frame().expect("a frame") {
            let message = assembler.accept(&frame).expect("a message").expect("no fragment");
            let reply = match message {
                Message::Rerr(tag, text) => Message::Rerr(tag, text),
                Message::Tinit(tag, version) => Message::Rinit(tag, version),
                Message::Tping(tag) => Message::Rping(tag),
                Message::Tdiscarded(tag, _) => {
                    discarded.fetch_add(1, Ordering::SeqCst);
                    Message::Rdiscarded(tag)
                }
                Message::Tdispatch(tag, body) => {
                    calls.fetch_add(1, Ordering::SeqCst);
                    match answer(&script, &body) {
                        Some(Some(reply)) => Message::Rdispatch(tag, status::OK, reply),
                        Some(None) => continue,
                        None => return,
                    }
                }
                other => panic!("{other:?}"),
            };
            socket.write_all(&reply.frame()).await.expect("a client that reads");
        }
        if socket.read_buf(frames.buffer()).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

/// The reply to a call: none yet, or none ever and the connection closed.
fn answer(script: &Script, body: &[u8]) -> Option<Option<Vec<u8>>> {
    let call = call::read_call(body).expect("a call");
    let (method, arguments) = (call.head.method.clone(), call.arguments);
    let stamp = match method.as_str() {
        "bind" => call::read_argument::<BindReq>(arguments).expect("a request").name.stamp,
        "addr" => call::read_argument::<AddrReq>(arguments).expect("a request").0.stamp,
        _ => Stamp::new(),
    };
    let encoded = match script(Asked { method, stamp }) {
        Act::Tree(stamp, tree) => Bound { stamp: vec![stamp], tree: write_tree(&tree), ns: "ns".into() }.encode(),
        Act::Addr(stamp, addr) => write_addr(&addr, vec![stamp]).expect("an answer").encode(),
        Act::Raw(bytes) => bytes,
        Act::Fail(reason) => {
            let failure = Failure { reason: reason.into(), ..Failure::default() };
            return Some(Some(call::declared(&call.head, &failure)));
        }
        Act::Hold => return Some(None),
        Act::Close => return None,
    };
    Some(Some(call::success(&call.head, &encoded)))
}

/// Stands for DNS: the addresses of the namerds.
struct Replicas(Vec<SocketAddr>);

impl Interpreter for Replicas {
    fn bind(&self, _: &DtabStack, path: &Path) -> Activity<NameTree<BoundName>> {
        Activity::constant(State::Ok(leaf(&path.to_string())))
    }

    fn resolve(&self, _: &Path) -> Activity<Addr> {
        Activity::constant(State::Ok(Addr::bound(self.0.clone())))
    }

    fn explain<'a>(&'a self, _: &'a DtabStack, _: &'a Path) -> BoxFuture<'a, Result<DelegateTree, String>> {
        Box::pin(async { Err("no".into()) })
    }
}

fn path(text: &str) -> Path {
    Path::parse(text).expect("a path")
}

fn leaf(id: &str) -> NameTree<BoundName> {
    NameTree::Leaf(BoundName { id: path(id), residual: Path::empty() })
}

/// An interpreter over these namerds that backs off for 50 to 100 ms.
fn interpreter(namerds: &[&Fake]) -> RemoteInterpreter {
    let system = Arc::new(Replicas(namerds.iter().map(|namerd| namerd.address).collect()));
    let handle = Handle::current();
    let peers = Peers::new(system, path("/$/inet/namerd/4100"), None);
    let names = Arc::new(ThriftNames::new(peers, "ns", Pings::default(), handle.clone()));
    let mut discovery = Discovery::new(handle);
    discovery.watch = WatchOptions { linger: Duration::ZERO, empty_grace: Duration::ZERO, ..WatchOptions::default() };
    let pause = Duration::from_millis(100);
    RemoteInterpreter::new(
        names,
        "io.l5d.namerd test",
        &discovery,
        &RemoteOptions { min_backoff: pause, max_backoff: pause },
    )
}

fn bind(interpreter: &RemoteInterpreter) -> Activity<NameTree<BoundName>> {
    interpreter.bind(&DtabStack::new([]), &path("/svc/web"))
}

async fn becomes<T: Clone + PartialEq + std::fmt::Debug>(live: &mut Activity<T>, wanted: State<T>) {
    let reached = timeout(SOON, async {
        while live.get() != wanted {
            live.changed().await;
        }
    });
    assert!(reached.await.is_ok(), "{:?} in place of {wanted:?}", live.peek());
}

async fn until(what: &str, met: impl Fn() -> bool) {
    let waited = timeout(SOON, async {
        while !met() {
            sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain for {what}");
}

#[tokio::test]
async fn a_tree_is_followed_stamp_by_stamp() {
    let namerd = Fake::start(|asked| match (asked.method.as_str(), asked.stamp.as_slice()) {
        ("bind", []) => Act::Tree(1, leaf("/#/a")),
        ("bind", [1]) => Act::Tree(2, leaf("/#/b")),
        ("addr", []) => Act::Addr(3, Addr::bound([([127, 0, 0, 1], 80).into()])),
        ("addr", [3]) => Act::Addr(4, Addr::Neg),
        _ => Act::Hold,
    })
    .await;
    let interpreter = interpreter(&[&namerd]);
    let mut tree = bind(&interpreter);
    becomes(&mut tree, State::Ok(leaf("/#/b"))).await;
    let mut addr = interpreter.resolve(&path("/#/b"));
    becomes(&mut addr, State::Ok(Addr::Neg)).await;
    until("both polls", || namerd.calls.load(Ordering::SeqCst) == 6).await;
    assert_eq!(namerd.connections.load(Ordering::SeqCst), 1);
    drop((tree, addr));
    until("two discards", || namerd.discarded.load(Ordering::SeqCst) == 2).await;
}

#[tokio::test]
async fn another_replica_is_asked_at_once_and_without_a_stamp() {
    let script = |asked: Asked| match asked.stamp.as_slice() {
        [] => Act::Tree(1, leaf("/#/first")),
        _ => Act::Hold,
    };
    let first = Fake::start(script).await;
    let interpreter = interpreter(&[&first]);
    let mut tree = bind(&interpreter);
    becomes(&mut tree, State::Ok(leaf("/#/first"))).await;
    // The same port again, as after a restart: another incarnation, which knows another tree.
    let held = Instant::now();
    until("a connection that has held", || held.elapsed() > STEADY).await;
    first.tasks.abort();
    let listener = loop {
        match std::net::TcpListener::bind(first.address) {
            Ok(listener) => break listener,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    listener.set_nonblocking(true).expect("a listener");
    let listener = TcpListener::from_std(listener).expect("a listener");
    let script: Script = Arc::new(|asked: Asked| match asked.stamp.as_slice() {
        [] => Act::Tree(1, leaf("/#/second")),
        _ => Act::Hold,
    });
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(converse(socket, script.clone(), Arc::default(), Arc::default()));
        }
    });
    becomes(&mut tree, State::Ok(leaf("/#/second"))).await;
}

#[tokio::test]
async fn a_failure_is_told_and_mended() {
    let calls = AtomicUsize::new(0);
    let namerd = Fake::start(move |asked| match (asked.stamp.as_slice(), calls.fetch_add(1, Ordering::SeqCst)) {
        ([], 0) => Act::Fail("empty path"),
        ([], 1) => Act::Tree(1, leaf("/#/a")),
        ([1], _) => Act::Fail("now it fails"),
        _ => Act::Hold,
    })
    .await;
    let interpreter = interpreter(&[&namerd]);
    let mut tree = bind(&interpreter);
    becomes(&mut tree, State::Failed("empty path".into())).await;
    becomes(&mut tree, State::Ok(leaf("/#/a"))).await;
    until("the next failure", || namerd.calls.load(Ordering::SeqCst) >= 4).await;
    assert_eq!(tree.get(), State::Ok(leaf("/#/a")));
    assert_eq!(namerd.connections.load(Ordering::SeqCst), 1);
}

/// How often a namerd that does this is asked within a second, which is at least so often within a second or, on a busy
/// machine, later.
async fn asked_per_second(
    least: usize,
    script: impl Fn(Asked) -> Act + Send + Sync + 'static,
) -> (f64, State<NameTree<BoundName>>) {
    let namerd = Fake::start(script).await;
    let interpreter = interpreter(&[&namerd]);
    let begun = Instant::now();
    let tree = bind(&interpreter);
    until("a second, and the least calls", || {
        begun.elapsed() > Duration::from_secs(1) && namerd.calls.load(Ordering::SeqCst) >= least
    })
    .await;
    let calls = namerd.calls.load(Ordering::SeqCst);
    (calls as f64 / begun.elapsed().as_secs_f64(), tree.peek())
}

#[tokio::test]
async fn no_namerd_is_asked_in_a_hot_loop() {
    let (calls, state) = asked_per_second(2, |_| Act::Close).await;
    assert!(calls < 6.0, "{calls} calls a second to one that closes");
    assert!(matches!(state, State::Failed(_)), "{state:?}");
    let (calls, state) = asked_per_second(3, |_| Act::Tree(1, leaf("/#/a"))).await;
    assert!(calls < 60.0, "{calls} calls a second to one that repeats itself");
    assert_eq!(state, State::Ok(leaf("/#/a")));
    let count = AtomicUsize::new(0);
    let flapping = move |_: Asked| Act::Tree((count.fetch_add(1, Ordering::SeqCst) % 250) as u8 + 1, leaf("/#/a"));
    let (calls, _) = asked_per_second(30, flapping).await;
    assert!(calls < 160.0, "{calls} calls a second to one that flaps");
}

#[tokio::test]
async fn a_namerd_that_lies_changes_nothing() {
    let cycle = b"\x0b\0\x01\0\0\0\x01\x02\x0c\0\x02\x0c\0\x01\x0f\0\x05\x08\0\0\0\x01\0\0\0\x07\0\0\0";
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let namerd = Fake::start(move |asked| match asked.stamp.as_slice() {
        [] if count.fetch_add(1, Ordering::SeqCst) == 0 => Act::Tree(1, leaf("/#/a")),
        [] => Act::Raw(b"\x0b\0\x01\x7f\xff\xff\xff".to_vec()),
        _ => Act::Raw(cycle.to_vec()),
    })
    .await;
    let interpreter = interpreter(&[&namerd]);
    let mut tree = bind(&interpreter);
    becomes(&mut tree, State::Ok(leaf("/#/a"))).await;
    until("lies", || seen.load(Ordering::SeqCst) > 3).await;
    assert_eq!(tree.get(), State::Ok(leaf("/#/a")));
}

#[tokio::test]
async fn one_replica_that_is_down_does_not_matter() {
    let script = |asked: Asked| if asked.stamp.is_empty() { Act::Tree(1, leaf("/#/a")) } else { Act::Hold };
    let (up, down) = (Fake::start(script).await, Fake::start(script).await);
    down.tasks.abort();
    until("the port to be free", || std::net::TcpListener::bind(down.address).is_ok()).await;
    let interpreter = interpreter(&[&down, &up]);
    becomes(&mut bind(&interpreter), State::Ok(leaf("/#/a"))).await;
    assert_eq!(up.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_explanation_has_the_addresses_of_its_leaves() {
    let explained = dtab::DelegateTree {
        path: "/svc/web".into(),
        dentry: None,
        node: dtab::Delegation::Leaf(BoundName { id: path("/#/a"), residual: Path::empty() }, Addr::Pending),
    };
    let (tree, ns) = (delegation::write(&explained), String::new());
    let raw = Delegation { stamp: delegation::STAMP.to_vec(), tree, ns }.encode();
    let namerd = Fake::start(move |asked| match asked.method.as_str() {
        "delegate" => Act::Raw(raw.clone()),
        _ => Act::Addr(1, Addr::bound([([10, 0, 0, 1], 80).into()])),
    })
    .await;
    let interpreter = interpreter(&[&namerd]);
    let tree = interpreter.explain(&DtabStack::new([]), &path("/svc/web")).await.expect("an explanation");
    let dtab::Delegation::Leaf(name, addr) = tree.node else { panic!("{tree:?}") };
    assert_eq!((name.id, addr), (path("/#/a"), Addr::bound([([10, 0, 0, 1], 80).into()])));
}

#[tokio::test]
async fn many_names_share_one_connection_that_fails_once_for_all() {
    let namerd = Fake::start(|_| Act::Close).await;
    let address = namerd.address;
    namerd.tasks.abort();
    until("the port to be free", || std::net::TcpListener::bind(address).is_ok()).await;
    let interpreter = interpreter(&[&namerd]);
    let names = (0..200).map(|i| interpreter.bind(&DtabStack::new([]), &path(&format!("/svc/{i}"))));
    for mut name in names.collect::<Vec<_>>() {
        let state = timeout(SOON, name.settled()).await.expect("a state");
        assert!(matches!(state, State::Failed(ref reason) if reason.contains("cannot connect")), "{state:?}");
    }
}
