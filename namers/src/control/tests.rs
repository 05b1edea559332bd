//! A namerd that says what it is told to: over real sockets, also what that of Linkerd 1 got wrong.

use super::*;
use crate::remote::{RemoteInterpreter, RemoteOptions};
use crate::{Discovery, DnsOptions, DnsResolver, LocalInterpreter, SystemNamer};
use dtab::{Activity, DtabStack, Interpreter, State};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

const SOON: Duration = Duration::from_secs(120);
const BACKOFF: Duration = Duration::from_millis(20);

fn path(text: &str) -> Path {
    Path::parse(text).expect("a path")
}

fn leaf(id: &str) -> String {
    let bound = format!("{{\"addr\":{{\"type\":\"pending\"}},\"id\":\"{id}\",\"path\":\"/\"}}");
    format!("{{\"type\":\"leaf\",\"bound\":{bound}}}\n")
}

/// What is sent to one connection, and what then: it stays open, or is closed.
#[derive(Clone)]
struct Script {
    bytes: String,
    stays: bool,
}

/// An answer without a type, as the original's, in one chunk; then silence.
fn stream(documents: &str) -> Script {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    Script { bytes: format!("{head}{:x}\r\n{documents}\r\n", documents.len()), stays: true }
}

/// The same, and then the regular end.
fn ended(documents: &str) -> Script {
    let script = stream(documents);
    Script { bytes: script.bytes + "0\r\n\r\n", stays: false }
}

fn status(line: &str, body: &str) -> Script {
    Script { bytes: format!("HTTP/1.1 {line}\r\nContent-Length: {}\r\n\r\n{body}", body.len()), stays: false }
}

/// Plays the scripts one after the other, one per connection; the last again and again.
struct Namerd {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<(Instant, String)>>>,
    _task: JoinSet<()>,
}

async fn namerd(scripts: Vec<Script>) -> Namerd {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let requests: Arc<Mutex<Vec<_>>> = Arc::default();
    let (seen, mut task) = (requests.clone(), JoinSet::new());
    task.spawn(async move {
        let mut connections = JoinSet::new();
        let mut number = 0;
        while let Ok((socket, _)) = listener.accept().await {
            let script = scripts[number.min(scripts.len() - 1)].clone();
            number += 1;
            connections.spawn(play(socket, script, seen.clone()));
        }
    });
    Namerd { address, requests, _task: task }
}

async fn play(mut socket: TcpStream, script: Script, seen: Arc<Mutex<Vec<(Instant, String)>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if socket.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    seen.lock().push((Instant::now(), String::from_utf8_lossy(&head).into_owned()));
    if socket.write_all(script.bytes.as_bytes()).await.is_ok() && script.stays {
        drop(socket.read_buf(&mut head).await);
    }
}

impl Namerd {
    fn interpreter(&self) -> RemoteInterpreter {
        let discovery = Discovery::new(Handle::current());
        let dns = DnsResolver::within(&discovery, &[], DnsOptions::default());
        let system = SystemNamer::new(dns, Handle::current());
        let system = Arc::new(LocalInterpreter::new(Vec::new(), None, system, Handle::current()));
        let peers = Peers::new(system, path(&format!("/$/inet/127.0.0.1/{}", self.address.port())), None);
        let names = ControlNames::new(peers, "my ns", ControlOptions::default());
        let options = RemoteOptions { min_backoff: BACKOFF, max_backoff: BACKOFF * 4 };
        RemoteInterpreter::new(Arc::new(names), "test", &discovery, &options)
    }
}

/// Waits until the tree is this leaf.
async fn becomes(tree: &mut Activity<NameTree<BoundName>>, id: &str) {
    let wanted = timeout(SOON, async {
        while !matches!(tree.get(), State::Ok(NameTree::Leaf(name)) if name.id == path(id)) {
            tree.changed().await;
        }
    });
    wanted.await.unwrap_or_else(|_| panic!("{:?} in place of {id}", tree.peek()));
}

#[tokio::test]
async fn requests_are_those_of_the_reference() {
    let namerd = namerd(vec![stream(&leaf("/#/a"))]).await;
    let remote = namerd.interpreter();
    let own = DtabStack::new([Dtab::parse("/a => /b & 0.125 * /c ; /d => /#/e").expect("a dtab")]);
    becomes(&mut remote.bind(&own, &path("/svc/\\x61\\x20\\x62")), "/#/a").await;
    let request = namerd.requests.lock()[0].1.clone();
    let line = "GET /api/1/bind/my%20ns?path=/svc/%5Cx61%5Cx20%5Cx62&watch=1&dtab=\
                /a%3D%3E/b%20%26%200.125%2A/c%3B/d%3D%3E/%23/e HTTP/1.1";
    assert_eq!(request.lines().next(), Some(line));
    assert!(request.contains(&format!("host: {}\r\n", namerd.address)), "{request}");
}

#[tokio::test]
async fn a_dtab_that_no_target_can_hold_is_said_to_be_too_large() {
    let namerd = namerd(vec![stream(&leaf("/#/a"))]).await;
    let remote = namerd.interpreter();
    let own = DtabStack::new([Dtab::parse(&"/a => /b ; ".repeat(8000)).expect("a dtab")]);
    let mut tree = remote.bind(&own, &path("/svc"));
    let state = timeout(SOON, tree.settled()).await.expect("a state");
    let State::Failed(reason) = state else { panic!("{state:?}") };
    assert!(reason.contains("the router's dtab is too large for io.l5d.namerd.http; use io.l5d.mesh"), "{reason}");
    assert!(reason.contains("/api/1/bind/my%20ns would have"), "{reason}");
    assert!(!reason.contains("%3D%3E") && namerd.requests.lock().is_empty(), "{reason}");
}

/// Reference §8.3: everything on which the original's client gave up or span is tried again, after a pause.
#[tokio::test]
async fn whatever_ends_a_stream_is_tried_again_after_a_pause() {
    let bad = [
        ended(""),
        ended("the store is away\n"),
        stream("not JSON at all\n"),
        stream("{\"type\":\"exception\"}\n"),
        stream("{\"type\":\"leaf\",\"bound\":{\"id\":\"no path\"}}\n"),
        status("500 Internal Server Error", ""),
        status("404 Not Found", "no such thing\n"),
        Script { bytes: String::new(), stays: false },
        Script { bytes: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".into(), stays: false },
        Script { bytes: "\u{1}\u{2}\u{3}\r\n\r\n".into(), stays: false },
    ];
    let good = ended(&leaf("/#/first"));
    let scripts: Vec<Script> = [good].into_iter().chain(bad).chain([stream(&leaf("/#/last"))]).collect();
    let count = scripts.len();
    let namerd = namerd(scripts).await;
    let remote = namerd.interpreter();
    let mut tree = remote.bind(&DtabStack::default(), &path("/svc"));
    becomes(&mut tree, "/#/first").await;
    let known = timeout(SOON, async {
        loop {
            tree.changed().await;
            match tree.get() {
                State::Ok(NameTree::Leaf(name)) if name.id == path("/#/last") => return,
                State::Ok(_) => {}
                state => panic!("what was known is forgotten: {state:?}"),
            }
        }
    });
    known.await.expect("the good answer");
    let requests = namerd.requests.lock();
    assert_eq!(requests.len(), count);
    for pair in requests.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= BACKOFF / 2, "no pause before {}", pair[1].1);
    }
}

#[tokio::test]
async fn a_stream_without_a_value_says_why() {
    for (script, part) in [
        (ended("invalid dtab namespace X: namespace must contain only letters\n"), "invalid dtab namespace X"),
        (ended("closing"), "no JSON: closing"),
        (status("401 Unauthorized", "send a token\n"), "it answers 401 Unauthorized: send a token"),
        (ended(""), "it ended the stream"),
    ] {
        let namerd = namerd(vec![script]).await;
        let mut tree = namerd.interpreter().bind(&DtabStack::default(), &path("/svc"));
        let State::Failed(reason) = timeout(SOON, tree.settled()).await.expect("an answer") else {
            panic!("{:?}", tree.peek())
        };
        assert!(reason.contains(part) && reason.contains(&namerd.address.to_string()), "{reason}");
    }
}

#[tokio::test]
async fn addresses_are_followed_with_weights() {
    let documents = concat!(
        "{\"type\":\"pending\"}\n",
        "{\"type\":\"bound\",\"addrs\":[{\"ip\":\"10.0.0.1\",\"port\":80,\"meta\":{\"nodeName\":\"n\",\"endpoint_addr_weight\":0.5}}],",
        "\"meta\":{\"authority\":\"web\"}}\n\n  {\"type\":\"failed\"}",
    );
    let namerd = namerd(vec![stream(documents)]).await;
    let mut addr = namerd.interpreter().resolve(&path("/#/web"));
    let State::Ok(Addr::Bound(set)) = timeout(SOON, addr.settled()).await.expect("an answer") else {
        panic!("{:?}", addr.peek())
    };
    assert_eq!((set.addresses.len(), set.addresses[0].weight), (1, 0.5));
    assert_eq!((set.addresses[0].meta["nodeName"].as_str(), set.meta["authority"].as_str()), ("n", "web"));
    assert!(matches!(addr.peek(), State::Ok(Addr::Bound(_))), "a failure does not take addresses away");
    assert!(namerd.requests.lock()[0].1.starts_with("GET /api/1/addr/my%20ns?path=/%23/web&watch=1 "));
}

#[tokio::test]
async fn names_are_explained() {
    let text = "{\"type\":\"delegate\",\"path\":\"/svc\",\"delegate\":{\"type\":\"neg\",\"path\":\"/x\",\
                \"dentry\":{\"prefix\":\"/svc\",\"dst\":\"/x\"}}}";
    let answers =
        vec![status("200 OK", text), status("503 Service Unavailable", "Request timed out."), status("200 OK", "[")];
    let namerd = namerd(answers).await;
    let remote = namerd.interpreter();
    let tree = remote.explain(&DtabStack::default(), &path("/svc")).await.expect("a tree");
    assert_eq!(crate::wire::delegation(&tree), text);
    let error = remote.explain(&DtabStack::default(), &path("/svc")).await.expect_err("it timed out");
    assert!(error.contains("503 Service Unavailable: Request timed out."), "{error}");
    assert!(remote.explain(&DtabStack::default(), &path("/svc")).await.is_err());
}

/// A process that hangs keeps its sockets: nothing ends, and nothing comes.
#[tokio::test(start_paused = true)]
async fn a_namerd_that_hangs_is_noticed() {
    let silent = Script { bytes: String::new(), stays: true };
    let namerd = namerd(vec![stream(&leaf("/#/first")), silent.clone(), silent, stream(&leaf("/#/second"))]).await;
    let remote = namerd.interpreter();
    let mut tree = remote.bind(&DtabStack::default(), &path("/svc"));
    becomes(&mut tree, "/#/first").await;
    let begun = Instant::now();
    becomes(&mut tree, "/#/second").await;
    assert!(begun.elapsed() < Duration::from_secs(45), "{:?}", begun.elapsed());
    let requests = namerd.requests.lock();
    assert!(requests[1..3].iter().all(|(_, request)| request.starts_with("GET /api/1/bound-names ")), "{requests:?}");
}
