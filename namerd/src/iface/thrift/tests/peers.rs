//! The client of routers against this server, and a client that others wrote, over real sockets.

use super::*;
use dtab::{DelegateTree, DtabStack, Interpreter};
use namers::remote::peers::Peers;
use namers::remote::{RemoteInterpreter, RemoteOptions};
use namers::thrift::client::{Pings, ThriftNames};
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::process::Command;

/// Accepts for the interface until the task is aborted; connections end with it.
async fn listen(server: &Server) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (interface, closing) = (server.interface.clone(), server.closing.subscribe());
    let task = tokio::spawn(async move {
        let mut open = tokio::task::JoinSet::new();
        while let Ok((socket, peer)) = listener.accept().await {
            let peer = Peer { address: peer, identity: None };
            open.spawn(interface.clone().serve(Box::new(socket), peer, closing.clone()));
        }
    });
    (address, task)
}

/// Stands for DNS.
struct Replicas(Mutex<Vec<SocketAddr>>);

impl Interpreter for Replicas {
    fn bind(&self, _: &DtabStack, path: &Path) -> Activity<NameTree<BoundName>> {
        let name = BoundName { id: path.clone(), residual: Path::empty() };
        Activity::constant(State::Ok(NameTree::Leaf(name)))
    }

    fn resolve(&self, _: &Path) -> Activity<Addr> {
        Activity::constant(State::Ok(Addr::bound(self.0.lock().clone())))
    }

    fn explain<'a>(&'a self, _: &'a DtabStack, _: &'a Path) -> BoxFuture<'a, Result<DelegateTree, String>> {
        Box::pin(async { Err("no".into()) })
    }
}

fn router(namerds: Vec<SocketAddr>) -> RemoteInterpreter {
    let system = Arc::new(Replicas(Mutex::new(namerds)));
    let peers = Peers::new(system, path("/$/inet/namerd/4100"), None);
    let names = Arc::new(ThriftNames::new(peers, "ns", Pings::default(), Handle::current()));
    let options = RemoteOptions { min_backoff: Duration::from_millis(50), max_backoff: Duration::from_millis(100) };
    RemoteInterpreter::new(names, "io.l5d.namerd test", &Discovery::new(Handle::current()), &options)
}

async fn leads_to(tree: &mut Activity<NameTree<BoundName>>, wanted: &str) {
    let reached = timeout(SOON, async {
        while !matches!(tree.get(), State::Ok(NameTree::Leaf(name)) if name.id == path(wanted)) {
            tree.changed().await;
        }
    });
    assert!(reached.await.is_ok(), "{:?} in place of {wanted}", tree.peek());
}

#[tokio::test]
async fn a_router_follows_its_namerd_and_moves_to_another() {
    let (first, second) = (server(), server());
    first.world.binds("web", "/#/test/a");
    second.world.binds("web", "/#/test/z");
    let ((one, first_task), (other, _second_task)) = (listen(&first).await, listen(&second).await);
    let router = router(vec![one]);
    let extra = Dtab::parse("/host => /svc").expect("a dtab");
    let mut tree = router.bind(&DtabStack::new([extra.clone()]), &path("/host/web"));
    leads_to(&mut tree, "/#/test/a").await;
    for id in ["/#/test/b", "/#/test/c"] {
        first.world.binds("web", id);
        leads_to(&mut tree, id).await;
    }
    of(&first.world.addrs, "/#/test/c").publish(State::Ok(Addr::bound([([10, 0, 0, 1], 80).into()])));
    let mut addr = router.resolve(&path("/#/test/c"));
    let known = timeout(SOON, addr.settled()).await.expect("in time");
    assert_eq!(known, State::Ok(Addr::bound([([10, 0, 0, 1], 80).into()])));
    let explained = router.explain(&DtabStack::new([extra]), &path("/host/web")).await.expect("an explanation");
    assert_eq!(explained.path, "/host/web");

    // With two addresses the loss of one is nothing to a router that was at it.
    let pair = self::router(vec![one, other]);
    let mut either = pair.bind(&DtabStack::new([]), &path("/svc/web"));
    assert!(timeout(SOON, either.settled()).await.expect("in time").ok().is_some());
    first_task.abort();
    leads_to(&mut either, "/#/test/z").await;
    assert!(matches!(tree.get(), State::Ok(NameTree::Leaf(name)) if name.id == path("/#/test/c")));
    second.world.binds("web", "/#/test/y");
    leads_to(&mut either, "/#/test/y").await;
}

#[tokio::test]
async fn a_namerd_that_drains_is_left_for_another() {
    let (first, second) = (server(), server());
    first.world.binds("web", "/#/test/a");
    second.world.binds("web", "/#/test/z");
    let ((one, task), (other, _task)) = (listen(&first).await, listen(&second).await);
    let router = router(vec![one, other]);
    let mut tree = router.bind(&DtabStack::new([]), &path("/svc/web"));
    let settled = timeout(SOON, tree.settled()).await.expect("in time").ok().expect("a tree");
    let at_first = matches!(settled, NameTree::Leaf(name) if name.id == path("/#/test/a"));
    let (leaves, stays) = if at_first { (&first, "/#/test/z") } else { (&second, "/#/test/a") };
    if at_first {
        // It listens no more.
        task.abort();
    }
    leaves.closing.send(true).expect("a server");
    leads_to(&mut tree, stays).await;
}

/// The service, written from the reference, and clients that poll, wait for a change and explain.
const IDL: &str = include_str!("namer.thrift");
const FRAMED: &str = include_str!("peer.py");
const MUX: &str = include_str!("mux_peer.py");

/// A Python that has these modules; a notice and None without one.
async fn python(modules: &str) -> Option<String> {
    let python = std::env::var("SWITCHYARD_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let there = Command::new(&python).args(["-c", &format!("import {modules}")]).output().await;
    if there.is_ok_and(|there| there.status.success()) {
        return Some(python);
    }
    println!("not run: `{python}` cannot import {modules}; install them, or name another in SWITCHYARD_PYTHON");
    None
}

/// Runs a client against a server whose world changes when the client says that it waits.
async fn judged(python: &str, folder: &std::path::Path, script: &str) {
    let server = server();
    server.world.stores("ns", "/svc => 9 * /#/test/a & /#/test/b", "1");
    server.world.binds("a", "/#/test/one");
    server.world.binds("b", "/#/test/two");
    let mut node = dtab::Address::new("[::1]:8080".parse().expect("an address"));
    node.weight = 0.5;
    node.meta.insert("nodeName".into(), "seven".into());
    let set = dtab::AddrSet::new([dtab::Address::new(([127, 0, 0, 1], 80).into()), node]);
    of(&server.world.addrs, "/#/test/one").publish(State::Ok(Addr::Bound(set)));
    of(&server.world.addrs, "/#/test/two").publish(State::Ok(Addr::Neg));
    let (address, _task) = listen(&server).await;
    let file = folder.join("peer.py");
    std::fs::write(&file, script).expect("a file");
    let mut command = Command::new(python);
    command.arg(&file).arg(address.port().to_string()).stdout(std::process::Stdio::piped()).kill_on_drop(true);
    let mut peer = command.spawn().expect("a process");
    let mut out = peer.stdout.take().expect("its output");
    let mut said = Vec::new();
    let ready = timeout(SOON, async {
        while !said.ends_with(b"waiting\n") {
            assert!(out.read_buf(&mut said).await.expect("output") > 0, "{}", String::from_utf8_lossy(&said));
        }
    });
    ready.await.expect("in time");
    server.world.binds("b", "/#/test/three");
    let ended = timeout(SOON, peer.wait()).await.expect("in time").expect("an end");
    out.read_to_end(&mut said).await.expect("output");
    let said = String::from_utf8_lossy(&said);
    assert!(ended.success() && said.ends_with("ok\n"), "{said}");
}

fn folder_with_idl() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("namer.thrift"), IDL).expect("a file");
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_framed_thrift_that_others_wrote_understands_what_is_said() {
    let Some(python) = python("thriftpy2").await else { return };
    judged(&python, folder_with_idl().path(), FRAMED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_thriftmux_that_others_wrote_understands_what_is_said() {
    let Some(python) = python("gevent, scales.thriftmux, thrift").await else { return };
    let folder = folder_with_idl();
    let compiler = std::env::var("SWITCHYARD_THRIFT").unwrap_or_else(|_| "thrift".to_owned());
    let mut generating = Command::new(&compiler);
    generating.args(["--gen", "py", "-out", "."]).arg("namer.thrift").current_dir(folder.path());
    match generating.output().await {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => return println!("not run: the compiler `{compiler}` of thrift cannot be started: {error}"),
    }
    judged(&python, folder.path(), MUX).await;
}
