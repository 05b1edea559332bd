//! The client against servers that answer as they are told: the habits of Linkerd 1, limits, silence, lies.

use super::*;
use crate::mesh::calls;
use crate::remote::at::At;
use crate::remote::{RemoteInterpreter, RemoteOptions};
use crate::watches::Discovery;
use dtab::{Activity, DtabStack, Interpreter, State};
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

const SOON: Duration = Duration::from_secs(60);

fn path(text: &str) -> Path {
    Path::parse(text).expect("a path")
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("{what} within {SOON:?}"))
}

fn interpreter(addresses: &[SocketAddr]) -> RemoteInterpreter {
    let peers = Peers::new(Arc::new(At(addresses.to_vec())), path("/$/inet/namerd/4321"), None);
    let options = MeshOptions {
        ping_every: Duration::from_millis(100),
        close_timeout: Duration::from_millis(300),
        ..MeshOptions::default()
    };
    let client = MeshClient::new(peers, path("/default"), options);
    let backoff = RemoteOptions { min_backoff: Duration::from_millis(100), max_backoff: Duration::from_millis(100) };
    RemoteInterpreter::new(Arc::new(client), "here", &Discovery::new(Handle::current()), &backoff)
}

/// What a server does with a request.
type Answer =
    fn(http::request::Parts, Bytes, SendResponse<Bytes>) -> Option<(SendResponse<Bytes>, h2::SendStream<Bytes>)>;

struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    /// While this is true, nothing is read or written.
    silent: Arc<tokio::sync::watch::Sender<bool>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn server(max_streams: u32, answer: Answer) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (connections, requests) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let silent = Arc::new(tokio::sync::watch::channel(false).0);
    let (accepted, asked, quiet) = (connections.clone(), requests.clone(), silent.clone());
    let task = tokio::spawn(async move {
        let mut serving = tokio::task::JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            accepted.fetch_add(1, Ordering::Relaxed);
            let (asked, mut quiet) = (asked.clone(), quiet.subscribe());
            serving.spawn(async move {
                quiet.wait_for(|quiet| !quiet).await.expect("a test");
                let mut builder = h2::server::Builder::new();
                let Ok(mut connection) = builder.max_concurrent_streams(max_streams).handshake(socket).await else { return };
                let (held, mut bodies) = (Arc::new(Mutex::new(Vec::new())), tokio::task::JoinSet::new());
                loop {
                    let stream = tokio::select! {
                        stream = connection.accept() => stream,
                        _ = async { quiet.wait_for(|quiet| *quiet).await.map(|_| ()) } => return std::future::pending().await,
                    };
                    let Some(Ok((request, respond))) = stream else { return };
                    asked.fetch_add(1, Ordering::Relaxed);
                    let held = held.clone();
                    bodies.spawn(async move {
                        let (head, mut body) = request.into_parts();
                        let data = poll_fn(|cx| body.poll_data(cx)).await.expect("a message").expect("data");
                        assert!(body.is_end_stream(), "the end comes with the message");
                        let answered = answer(head, data, respond);
                        held.lock().extend(answered);
                    });
                }
            });
        }
    });
    Server { address, connections, requests, silent, task }
}

fn head(status: u16) -> Response<()> {
    Response::builder().status(status).header("content-type", "application/grpc+proto").body(()).expect("a head")
}

fn trailers(lines: &[(&'static str, &[u8])]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_bytes(value).expect("a value")))
        .collect()
}

fn leaf(id: &str, residual: &str) -> NameTree<BoundName> {
    NameTree::Leaf(BoundName { id: path(id), residual: path(residual) })
}

/// A tree, and then nothing, as long as the stream lasts.
fn one_tree(
    head: http::request::Parts,
    body: Bytes,
    mut respond: SendResponse<Bytes>,
) -> Option<(SendResponse<Bytes>, h2::SendStream<Bytes>)> {
    let lines: Vec<&str> = ["content-type", "te"].map(|name| head.headers[name].to_str().expect("text")).into();
    assert_eq!(lines, ["application/grpc+proto", "trailers"]);
    assert!(!head.headers.contains_key("grpc-encoding"));
    assert_eq!(head.uri.scheme_str(), Some("http"));
    assert!(head.uri.authority().is_some_and(|authority| authority.as_str().starts_with("127.0.0.1:")));
    let bind = calls::Bind::read(body.slice(5..)).expect("a request");
    assert_eq!(bind.root, Some(path("/default")));
    let mut stream = respond.send_response(self::head(200), false).expect("a response");
    stream.send_data(calls::write_tree(&leaf("/#/t/a", &bind.name.expect("a name").to_string())), false).expect("room");
    Some((respond, stream))
}

async fn becomes<T: Clone + PartialEq + std::fmt::Debug>(live: &mut Activity<T>, wanted: State<T>) {
    within(&format!("{wanted:?}"), async {
        while live.get() != wanted {
            live.changed().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_further_connection_is_made_when_the_peer_allows_no_more_streams() {
    let server = server(10, one_tree).await;
    let interpreter = interpreter(&[server.address]);
    let mut trees: Vec<_> =
        (0..25).map(|i| interpreter.bind(&DtabStack::default(), &path(&format!("/svc/{i}")))).collect();
    for (i, tree) in trees.iter_mut().enumerate() {
        becomes(tree, State::Ok(leaf("/#/t/a", &format!("/svc/{i}")))).await;
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 3);
    assert_eq!(server.requests.load(Ordering::Relaxed), 25);
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_left_for_another() {
    let (one, two) = (server(100, one_tree).await, server(100, one_tree).await);
    let interpreter = interpreter(&[one.address, two.address]);
    let mut tree = interpreter.bind(&DtabStack::default(), &path("/svc"));
    becomes(&mut tree, State::Ok(leaf("/#/t/a", "/svc"))).await;
    let (used, other) = if one.requests.load(Ordering::Relaxed) > 0 { (&one, &two) } else { (&two, &one) };
    used.silent.send_replace(true);
    within("a request to the other", async {
        while other.requests.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(tree.get(), State::Ok(leaf("/#/t/a", "/svc")), "what was known stays");
}

#[tokio::test]
async fn a_peer_that_accepts_and_says_nothing_is_reported() {
    let server = server(100, one_tree).await;
    server.silent.send_replace(true);
    let interpreter = interpreter(&[server.address]);
    let mut tree = interpreter.bind(&DtabStack::default(), &path("/svc"));
    let State::Failed(reason) = within("a failure", tree.settled()).await else { panic!("{:?}", tree.peek()) };
    assert!(reason.contains("does not answer a ping within"), "{reason}");
    server.silent.send_replace(false);
    becomes(&mut tree, State::Ok(leaf("/#/t/a", "/svc"))).await;
}

#[tokio::test]
async fn a_peer_that_answers_pings_and_no_requests_is_left_for_another() {
    fn mute(
        _: http::request::Parts,
        _: Bytes,
        respond: SendResponse<Bytes>,
    ) -> Option<(SendResponse<Bytes>, h2::SendStream<Bytes>)> {
        // Dropping it would reset the stream.
        std::mem::forget(respond);
        None
    }
    let mute = server(100, mute).await;
    let peers = Peers::new(Arc::new(At(vec![mute.address])), path("/$/inet/namerd/4321"), None);
    let connections = Connections::new(peers, MeshOptions::default());
    let mut call = connections.call(paths::STREAM_BOUND_TREE, &Bytes::new()).await.expect("a call");
    // The answer to a ping would be missed only after 11 s.
    tokio::time::pause();
    let told = connections.response(&mut call).await.expect_err("no head");
    tokio::time::resume();
    assert_eq!(told, format!("{}: no response begins within 10s", mute.address));
    assert_eq!(mute.connections.load(Ordering::Relaxed), 1);
    let _other = within("a call", connections.call(paths::STREAM_BOUND_TREE, &Bytes::new())).await.expect("a call");
    assert_eq!(mute.connections.load(Ordering::Relaxed), 2, "the next call goes elsewhere");
}

/// Waits for five requests, before each of which but the first was a back-off of 50 ms or more.
async fn asked_again_and_again(server: &Server) {
    let begun = std::time::Instant::now();
    within("five requests", async {
        while server.requests.load(Ordering::Relaxed) < 5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(begun.elapsed() >= Duration::from_millis(140), "five requests within {:?}", begun.elapsed());
}

/// What the operator is told when a server answers like this, which is asked again and again, but not at once.
async fn told(answer: Answer) -> String {
    let server = server(100, answer).await;
    let interpreter = interpreter(&[server.address]);
    let mut tree = interpreter.bind(&DtabStack::default(), &path("/svc"));
    let reason = within("a failure", tree.settled()).await;
    asked_again_and_again(&server).await;
    let State::Failed(reason) = reason else { panic!("{reason:?}") };
    reason.replace(&server.address.to_string(), "peer")
}

#[tokio::test]
async fn the_endings_of_linkerd_1_and_of_liars_are_understood() {
    let unknown: Answer = |_, _, mut respond| {
        let mut stream = respond.send_response(head(400), false).expect("a response");
        stream.send_trailers(trailers(&[("grpc-status", b"12"), ("grpc-message", b"/a%zz call")])).expect("trailers");
        None
    };
    assert_eq!(told(unknown).await, "peer: status 12: /a%zz call");
    let only_head: Answer = |_, _, mut respond| {
        respond.send_response(head(200), true).expect("a response");
        None
    };
    assert_eq!(told(only_head).await, "peer: the stream ended without a status");
    let status_in_head: Answer = |_, _, mut respond| {
        let mut head = head(200);
        *head.headers_mut() = trailers(&[("grpc-status", b"5"), ("grpc-message", "Root né".as_bytes())]);
        respond.send_response(head, true).expect("a response");
        None
    };
    assert_eq!(told(status_in_head).await, "peer: status 5: Root né");
    let clean: Answer = |_, _, mut respond| {
        let mut stream = respond.send_response(head(200), false).expect("a response");
        stream.send_trailers(trailers(&[("grpc-status", b"0")])).expect("trailers");
        None
    };
    assert_eq!(told(clean).await, "peer: the stream ended");
    let other: Answer = |_, _, mut respond| {
        respond.send_response(head(404), true).expect("a response");
        None
    };
    assert_eq!(told(other).await, "peer: HTTP status 404 Not Found: is this a Mesh API?");
    let garbage: Answer = |_, _, mut respond| {
        let mut stream = respond.send_response(head(200), false).expect("a response");
        stream.send_data(Bytes::from_static(&[0, 0, 0, 0, 2, 0x0a, 9]), false).expect("room");
        Some((respond, stream))
    };
    assert!(told(garbage).await.starts_with("peer: not a BoundTreeRsp: "));
    let compressed: Answer = |_, _, mut respond| {
        let mut stream = respond.send_response(head(200), false).expect("a response");
        stream.send_data(Bytes::from_static(&[1, 0, 0, 0, 0]), false).expect("room");
        Some((respond, stream))
    };
    assert_eq!(told(compressed).await, "peer: compressed messages are not supported");
    let reset: Answer = |_, _, mut respond| {
        respond.send_reset(h2::Reason::REFUSED_STREAM);
        None
    };
    assert!(told(reset).await.starts_with("peer: stream error received: refused stream"));
}

#[tokio::test]
async fn a_stream_that_always_ends_after_a_value_is_not_begun_again_at_once() {
    let brief: Answer = |head, body, respond| {
        let (_, mut stream) = one_tree(head, body, respond)?;
        stream.send_trailers(trailers(&[("grpc-status", b"0")])).expect("trailers");
        None
    };
    let server = server(100, brief).await;
    let interpreter = interpreter(&[server.address]);
    let mut tree = interpreter.bind(&DtabStack::default(), &path("/svc"));
    becomes(&mut tree, State::Ok(leaf("/#/t/a", "/svc"))).await;
    asked_again_and_again(&server).await;
    assert_eq!(tree.get(), State::Ok(leaf("/#/t/a", "/svc")));
}

#[tokio::test]
async fn a_failure_of_addresses_leaves_what_was_known() {
    let states: Answer = |_, _, mut respond| {
        let mut stream = respond.send_response(head(200), false).expect("a response");
        for addr in [Addr::Pending, bound(1), Addr::Pending, Addr::failed("it rains"), bound(2)] {
            stream.send_data(calls::write_addr(&addr), false).expect("room");
        }
        Some((respond, stream))
    };
    let server = server(100, states).await;
    let interpreter = interpreter(&[server.address]);
    let mut addrs = interpreter.resolve(&path("/#/t/a"));
    within("the last addresses", async {
        loop {
            match addrs.get() {
                State::Ok(addr) if addr == bound(2) => break,
                State::Ok(addr) => assert_eq!(addr, bound(1)),
                State::Pending => {}
                State::Failed(reason) => panic!("{reason}"),
            }
            addrs.changed().await;
        }
    })
    .await;
}

fn bound(port: u16) -> Addr {
    Addr::bound([SocketAddr::from(([10, 0, 0, 1], port))])
}

/// Answers the first call of a connection, and closes that soon after.
async fn closes_after_an_answer(socket: tokio::net::TcpStream) {
    let Ok(mut connection) = h2::server::Builder::new().handshake(socket).await else { return };
    let Some(Ok((request, mut respond))) = connection.accept().await else { return };
    let mut body = request.into_body();
    let answering = async {
        let _ = poll_fn(|cx| body.poll_data(cx)).await;
        let mut stream = respond.send_response(head(200), false).expect("a stream");
        stream.send_data(calls::write_tree(&leaf("/#/a", "/")), false).expect("room");
        std::future::pending::<()>().await
    };
    tokio::select! {
        () = answering => {}
        _ = connection.accept() => {}
        () = tokio::time::sleep(Duration::from_millis(20)) => {}
    }
    // What is written is sent.
    let _ = tokio::time::timeout(Duration::from_millis(20), poll_fn(|cx| connection.poll_closed(cx))).await;
}

/// However many names a router follows, a namerd that answers and closes is connected to now and then.
#[tokio::test]
async fn a_namerd_that_answers_once_and_closes_is_not_hammered() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let accepted = Arc::<AtomicUsize>::default();
    let count = accepted.clone();
    let serving = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(closes_after_an_answer(socket));
        }
    });
    let asking = interpreter(&[address]);
    let names: Vec<_> = (0..50).map(|name| asking.bind(&DtabStack::new([]), &path(&format!("/svc/{name}")))).collect();
    within("an answer", async {
        while !names.iter().any(|tree| matches!(tree.peek(), State::Ok(_))) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let connections = accepted.load(Ordering::Relaxed);
    assert!(connections <= 8, "{connections} connections in about three seconds");
    serving.abort();
}
