//! The interface on real sockets: statuses, streams, and what it does with clients of all kinds.

mod access;
mod clients;
mod linkerd;
mod peers;
mod slow;
mod world;

use super::*;
use bytes::Bytes;
use dtab::{Addr, Dtab, Path, State};
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response};
use namers::mesh::calls::{self, Bind, Delegate};
use namers::mesh::status::Status;
use namers::mesh::{frame, paths};
use std::future::poll_fn;
use tokio::net::TcpStream;
use world::{World, path, within};

/// An independent client on a connection of its own.
async fn client(world: &World, builder: &h2::client::Builder) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(world.address).await.expect("a connection");
    let (requests, connection) = builder.handshake::<_, Bytes>(socket).await.expect("HTTP/2");
    tokio::spawn(connection);
    requests
}

/// Begins a call with these bytes as the body.
async fn call(requests: &SendRequest<Bytes>, method: &str, path: &str, body: Bytes) -> Response<h2::RecvStream> {
    let request = Request::builder().method(method).uri(format!("http://namerd{path}")).body(()).expect("a request");
    let mut requests = requests.clone().ready().await.expect("room");
    let (response, mut stream) = requests.send_request(request, false).expect("a stream");
    stream.send_data(body, true).expect("room");
    within("a response", response).await.expect("a response")
}

/// The next message of a stream, or how it ended.
async fn next(body: &mut h2::RecvStream) -> Result<Bytes, Status> {
    let mut frames = frame::Frames::new(1 << 20, frame::Budget::new(1 << 20));
    while let Some(data) = within("data", poll_fn(|cx| body.poll_data(cx))).await {
        let data = data.expect("data");
        body.flow_control().release_capacity(data.len()).expect("capacity");
        frames.push(&data).expect("room");
        if let Some(message) = frames.message().expect("a message") {
            assert!(frames.is_empty(), "two messages at once");
            return Ok(message);
        }
    }
    let trailers: Option<HeaderMap> = within("trailers", poll_fn(|cx| body.poll_trailers(cx))).await.expect("trailers");
    Err(Status::of(&trailers.expect("trailers")).expect("a status"))
}

fn bind(root: &str, name: &str) -> Bytes {
    Bind { root: Some(path(root)), name: Some(path(name)), dtab: Dtab::empty() }.write()
}

/// A frame with a DtabReq.
fn root(text: &str) -> Bytes {
    // A ReplicasReq looks the same.
    calls::write_id(&path(text))
}

#[tokio::test]
async fn every_mistake_has_its_status() {
    let world = World::new().await;
    let requests = client(&world, &h2::client::Builder::new()).await;
    let nothing = Bytes::from_static(&[0; 5]);
    let delegate = |tree: &str| {
        let tree = dtab::parse_tree(tree).expect("a tree");
        Delegate { root: Some(path("/default")), tree: Some(tree), dtab: Dtab::empty() }.write()
    };
    let long = || Dtab::parse(&format!("/a => /{}", "x".repeat(64 << 10))).expect("a dtab");
    let too_long = "the text of the dtab has more than 65536 bytes, and at most those are taken";
    let bind_by = |dtab: Dtab| Bind { root: Some(path("/default")), name: Some(path("/x")), dtab }.write();
    let explain_by = |dtab: Dtab| {
        Delegate { root: Some(path("/default")), tree: Some(dtab::NameTree::Leaf(path("/x"))), dtab }.write()
    };
    let compressed = Bytes::from_static(&[1, 0, 0, 0, 0]);
    let two = Bytes::from_static(&[0; 10]);
    let large = Bytes::from_static(&[0, 0, 0x20, 0, 0]);
    let text = |text: &str| calls::write_text(text.into());
    let many = "Invalid root: `/a/b` must have exactly one segment";
    let none = "Invalid root: `/` must have exactly one segment";
    for (path, body, code, message) in [
        (paths::GET_BOUND_TREE, nothing.clone(), 3, "No namespace specified"),
        (paths::STREAM_BOUND_TREE, bind("/a/b", "/x"), 3, many),
        (paths::STREAM_BOUND_TREE, bind("/", "/x"), 3, none),
        (paths::STREAM_BOUND_TREE, bind("/default", "/"), 5, "No name given"),
        (paths::STREAM_BOUND_TREE, bind_by(long()), 3, too_long),
        (paths::GET_DELEGATE_TREE, explain_by(long()), 3, too_long),
        (paths::GET_DTAB, nothing.clone(), 3, "No namespace specified"),
        (paths::GET_DTAB, root("/nowhere"), 5, "Root not found"),
        (paths::STREAM_DTAB, root("/nowhere"), 5, "Root not found"),
        (paths::GET_DTAB, root("/broken"), 13, "the store is not available: it rains"),
        (paths::STREAM_DTAB, root("/broken"), 13, "it rains"),
        (paths::GET_DELEGATE_TREE, root("/default"), 5, "No name given"),
        (paths::STREAM_DELEGATE_TREE, delegate("/"), 5, "No name given"),
        (paths::GET_DELEGATE_TREE, delegate("/a | /b"), 12, "Delegation too complex: ask for one path"),
        (paths::READ_PATH, text("x"), 3, "'/' expected but 'x' found at '[x]'"),
        (paths::GET_REPLICAS, Bytes::new(), 3, "the request is not exactly one message"),
        (paths::GET_REPLICAS, two, 3, "the request is not exactly one message"),
        (paths::GET_REPLICAS, compressed, 12, "compressed messages are not supported"),
        (paths::GET_REPLICAS, large, 12, "a message of 2097152 bytes, more than 1048576"),
    ] {
        let response = call(&requests, "POST", path, body).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"application/grpc+proto".parse().expect("a value")),
            "{path}"
        );
        assert_eq!(next(&mut response.into_body()).await, Err(Status::new(code, message)), "{path}");
    }
    for (method, path, code, message) in [
        ("POST", "/io.linkerd.mesh.Interpreter/Other", 12, "/io.linkerd.mesh.Interpreter/Other"),
        ("GET", paths::GET_DTAB, 2, "unsupported method: GET"),
    ] {
        let response = call(&requests, method, path, nothing.clone()).await;
        assert_eq!(response.status(), 400);
        assert_eq!(next(&mut response.into_body()).await, Err(Status::new(code, message)));
    }
    // No failure of the stream: an answer.
    let mut body = call(&requests, "POST", paths::GET_REPLICAS, nothing).await.into_body();
    assert_eq!(calls::read_addr(next(&mut body).await.expect("an answer")), Ok(Addr::failed("No ID provided")));
    assert_eq!(next(&mut body).await, Err(Status::new(0, "")));
}

#[tokio::test]
async fn the_codec_converts_both_ways() {
    let world = World::new().await;
    let requests = client(&world, &h2::client::Builder::new()).await;
    let ask = async |path, body| {
        let mut body = call(&requests, "POST", path, body).await.into_body();
        let answer = next(&mut body).await.expect("an answer");
        assert_eq!(next(&mut body).await, Err(Status::new(0, "")));
        answer
    };
    let dtab = Dtab::parse("/a/* => 0.0025 * /b & /c | ~").expect("a dtab");
    let text = "/a/*=>0.0025*/b & /c | ~";
    let read = ask(paths::READ_DTAB, calls::write_text(text.into())).await;
    assert_eq!(calls::read_dtab(read), Ok(dtab.clone()));
    assert_eq!(calls::read_text(ask(paths::SHOW_DTAB, calls::write_dtab(&dtab)).await), Ok(text.into()));
    assert_eq!(calls::read_path(ask(paths::READ_PATH, calls::write_text("/a/b".into())).await), Ok(path("/a/b")));
    assert_eq!(calls::read_text(ask(paths::SHOW_PATH, calls::write_path(&path("/a/b"))).await), Ok("/a/b".into()));
}

/// The stream has one answer, the same as that of the call without a stream, and then it ends well.
#[tokio::test]
async fn a_stream_of_explanations_has_exactly_one() {
    let world = World::new().await;
    world.store.says(Some("/svc => /#/t/a | /nowhere"));
    world.namer.says("a", Addr::Neg);
    let requests = client(&world, &h2::client::Builder::new()).await;
    let tree = Some(dtab::NameTree::Leaf(path("/svc/x")));
    let asked = Delegate { root: Some(path("/default")), tree, dtab: Dtab::empty() }.write();
    let mut answers = Vec::new();
    for call_path in [paths::STREAM_DELEGATE_TREE, paths::GET_DELEGATE_TREE] {
        let mut body = call(&requests, "POST", call_path, asked.clone()).await.into_body();
        answers.push(next(&mut body).await.expect("an answer"));
        assert_eq!(next(&mut body).await, Err(Status::new(0, "")), "{call_path}");
    }
    assert_eq!(answers[0], answers[1]);
    let tree = calls::read_delegation(answers.remove(0)).expect("a delegation");
    assert_eq!(tree.path, "/svc/x");
    let dtab::Delegation::Alt(children) = &tree.node else { panic!("{tree:?}") };
    assert_eq!(children[0].dentry.as_ref().map(ToString::to_string).as_deref(), Some("/svc=>/#/t/a | /nowhere"));
}

#[tokio::test]
async fn a_stored_dtab_is_followed_until_it_is_deleted() {
    let world = World::new().await;
    world.store.says(Some("/svc => /a"));
    let requests = client(&world, &h2::client::Builder::new()).await;
    let mut body = call(&requests, "POST", paths::STREAM_DTAB, root("/default")).await.into_body();
    let written = |version: &'static [u8], text| {
        calls::write_versioned(&Bytes::from_static(version), &Dtab::parse(text).expect("a dtab")).slice(5..)
    };
    assert_eq!(next(&mut body).await, Ok(written(b"\x01", "/svc => /a")));
    world.store.says(Some("/svc => /b"));
    assert_eq!(next(&mut body).await, Ok(written(b"\x02", "/svc => /b")));
    let mut once = call(&requests, "POST", paths::GET_DTAB, root("/default")).await.into_body();
    assert_eq!(next(&mut once).await, Ok(written(b"\x02", "/svc => /b")));
    world.store.says(None);
    assert_eq!(next(&mut body).await, Err(Status::new(5, "Root not found")));
}

#[tokio::test]
async fn trees_and_addresses_follow_what_they_come_from() {
    let world = World::new().await;
    world.store.says(Some("/svc => 0 * /#/t/a & 1 * /#/t/b"));
    let requests = client(&world, &h2::client::Builder::new()).await;
    let mut trees = call(&requests, "POST", paths::STREAM_BOUND_TREE, bind("/default", "/svc/x")).await.into_body();
    let tree = calls::read_tree(next(&mut trees).await.expect("a tree")).expect("a tree");
    let dtab::NameTree::Union(branches) = &tree else { panic!("{tree:?}") };
    assert_eq!(branches.iter().map(|branch| branch.weight).collect::<Vec<_>>(), [0.0, 1.0]);
    world.store.says(Some("/svc => /#/t/a"));
    let tree = calls::read_tree(next(&mut trees).await.expect("a tree")).expect("a tree");
    assert_eq!(tree, dtab::NameTree::Leaf(dtab::BoundName { id: path("/#/t/a"), residual: path("/x") }));

    let mut addrs = call(&requests, "POST", paths::STREAM_REPLICAS, calls::write_id(&path("/#/t/a"))).await.into_body();
    assert_eq!(calls::read_addr(next(&mut addrs).await.expect("a state")), Ok(Addr::Pending), "at once");
    let first = Addr::bound(["10.0.0.1:80".parse().expect("an address")]);
    for addr in [first.clone(), Addr::Neg, first.clone()] {
        world.namer.says("a", addr.clone());
        assert_eq!(calls::read_addr(next(&mut addrs).await.expect("a state")), Ok(addr));
    }
    world.namer.says("b", first.clone());
    let mut once = call(&requests, "POST", paths::GET_REPLICAS, calls::write_id(&path("/#/t/b"))).await.into_body();
    assert_eq!(calls::read_addr(next(&mut once).await.expect("a state")), Ok(first));
}

#[tokio::test]
async fn a_slow_client_gets_what_it_has_begun_and_then_the_newest() {
    let world = World::new().await;
    let numbered = |i: u16| Addr::bound([std::net::SocketAddr::from(([10, 0, 0, 1], i))]);
    world.namer.says("a", numbered(1));
    let held = world.told("a", &numbered(1)).await;
    let requests = client(&world, h2::client::Builder::new().initial_window_size(4)).await;
    let mut body = call(&requests, "POST", paths::STREAM_REPLICAS, calls::write_id(&path("/#/t/a"))).await.into_body();
    // Four bytes of the first message are here: it is under way.
    let begun = within("data", poll_fn(|cx| body.poll_data(cx))).await.expect("data").expect("data");
    assert_eq!(begun.len(), 4);
    for i in 2..=1000 {
        world.namer.says("a", numbered(i));
        tokio::task::yield_now().await;
    }
    drop((held, world.told("a", &numbered(1000)).await));
    let mut frames = frame::Frames::new(1000, frame::Budget::new(1000));
    frames.push(&begun).expect("room");
    body.flow_control().release_capacity(4).expect("capacity");
    let mut seen = Vec::new();
    while seen.last() != Some(&numbered(1000)) {
        let data = within("data", poll_fn(|cx| body.poll_data(cx))).await.expect("data").expect("data");
        body.flow_control().release_capacity(data.len()).expect("capacity");
        frames.push(&data).expect("room");
        while let Some(message) = frames.message().expect("a message") {
            seen.push(calls::read_addr(message).expect("addresses"));
        }
    }
    assert_eq!(seen, [numbered(1), numbered(1000)]);
    world.namer.says("a", Addr::Neg);
    assert_eq!(calls::read_addr(next(&mut body).await.expect("a state")), Ok(Addr::Neg));
}

#[tokio::test]
async fn a_thousand_streams_of_one_connection_are_served_and_released() {
    let world = World::new().await;
    let socket = TcpStream::connect(world.address).await.expect("a connection");
    let mut builder = h2::client::Builder::new();
    // All streams are begun before one is read.
    builder.data_frame_budget(1 << 20);
    let (requests, mut connection) = builder.handshake(socket).await.expect("HTTP/2");
    let mut pings = connection.ping_pong().expect("pings");
    tokio::spawn(connection);
    let mut streams = Vec::new();
    for i in 0..1000 {
        world.namer.says(&i.to_string(), Addr::Neg);
        streams
            .push(call(&requests, "POST", paths::STREAM_REPLICAS, calls::write_id(&path(&format!("/#/t/{i}")))).await);
    }
    let mut bodies: Vec<_> = streams.into_iter().map(Response::into_body).collect();
    for body in &mut bodies {
        while calls::read_addr(next(body).await.expect("a state")) != Ok(Addr::Neg) {}
    }
    assert!(requests.current_max_send_streams() >= 10_000);
    within("an answer to a ping", pings.ping(h2::Ping::opaque())).await.expect("a pong");
    assert_eq!(world.namer.watched(), 1000);
    // Dropping one resets it.
    let kept = bodies.split_off(999);
    drop(bodies);
    world.watched(1).await;
    drop(kept);
    world.watched(0).await;
}

#[tokio::test]
async fn closing_ends_streams_with_a_status_and_the_connection() {
    let world = World::new().await;
    world.namer.says("a", Addr::Neg);
    let socket = TcpStream::connect(world.address).await.expect("a connection");
    let (requests, connection) = h2::client::handshake(socket).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let mut body = call(&requests, "POST", paths::STREAM_REPLICAS, calls::write_id(&path("/#/t/a"))).await.into_body();
    while calls::read_addr(next(&mut body).await.expect("a state")) != Ok(Addr::Neg) {}
    world.close();
    assert_eq!(next(&mut body).await, Err(Status::new(14, "namerd is closing")));
    drop((requests, body));
    within("the end", connection).await.expect("no panic").expect("a clean end");
    world.served(0).await;
}

#[tokio::test]
async fn closing_does_not_wait_for_a_greeting() {
    let world = World::new().await;
    let mut silent = TcpStream::connect(world.address).await.expect("a connection");
    world.close();
    let read = within("the end", tokio::io::AsyncReadExt::read(&mut silent, &mut [0; 16])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test]
async fn a_flood_is_sent_away_with_the_reason() {
    let world = World::new().await;
    let mut socket = linkerd::connect(&world).await;
    socket.write(&linkerd::frame(6, 0, 0, &[0; 8]).repeat(5000)).await;
    let goaway = socket.until(|frame| frame.kind == 7).await;
    assert_eq!(goaway.payload[4..8], [0, 0, 0, 0x0b], "ENHANCE_YOUR_CALM");
    world.served(0).await;
}

#[tokio::test]
async fn one_who_does_not_speak_http2_is_told_so() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::new().await;
    let mut socket = TcpStream::connect(world.address).await.expect("a connection");
    socket.write_all(b"GET / HTTP/1.1\r\nhost: namerd\r\n\r\n").await.expect("room");
    let mut answer = String::new();
    within("an answer", socket.read_to_string(&mut answer)).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 505 "), "{head}");
    assert!(head.contains(&format!("content-length: {}", body.len())) && body.contains("needs HTTP/2"), "{answer}");
}

/// `Upgrade: h2c`: the request becomes stream 1, whatever comes behind it at once.
#[tokio::test]
async fn a_connection_is_upgraded() {
    let world = World::new().await;
    let body = calls::write_text("/a/b".into());
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: \r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\
         content-length: {}\r\n\r\n",
        paths::READ_PATH,
        body.len()
    );
    let settings = linkerd::frame(4, 0, 0, &[]);
    for at_once in [true, false] {
        let mut socket = linkerd::plain(&world).await;
        socket.write(&[head.as_bytes(), &body].concat()).await;
        if !at_once {
            socket.switched().await;
        }
        socket.write(&[filter::PREFACE, &settings].concat()).await;
        if at_once {
            socket.switched().await;
        }
        let data = socket.until(|frame| frame.kind == 0 && frame.stream == 1).await;
        assert_eq!(data.payload, calls::write_path(&path("/a/b")));
    }
}

#[test]
fn the_states_of_an_activity_are_states_of_addresses() {
    let world = [State::Pending, State::Ok(Addr::Neg), State::Failed("x".into())];
    assert_eq!(world.each_ref().map(call::addr), [Addr::Pending, Addr::Neg, Addr::failed("x")]);
    assert_eq!(Path::empty(), path("/"));
}
