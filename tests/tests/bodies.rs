//! Bodies: streamed both ways with bounded memory and back-pressure, framed as they were, cut when a side goes away;
//! interim responses, `Expect`, pipelining and the life of connections (data-plane reference §6, attacks H1-11, 12, 15, 16).
//!
//! Not for: framing attacks (see `framing`) or error texts (see `errors`).

#![allow(clippy::panic, reason = "a story that cannot go on has failed")]

use e2e::{Backend, Client, FS_CONFIG, Reply, Switchyard, eventually, get, holds_for};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(60);
const MIB: u64 = 1024 * 1024;
const PIECE: usize = 64 * 1024;

/// A router with one worker, and `web` at this address. The folder is read on the first request, which waits for it.
fn router(web: SocketAddr) -> Switchyard {
    let router = Switchyard::start_with(FS_CONFIG, &["--workers", "1"]);
    router.disco().set("web", &[web]);
    router
}

/// A socket to the router with time-outs, on which this was sent.
fn open(router: &Switchyard, request: &str) -> TcpStream {
    let mut socket = TcpStream::connect(router.addr(0)).expect("the router listens");
    socket.set_read_timeout(Some(LONG)).expect("a time-out");
    socket.set_write_timeout(Some(LONG)).expect("a time-out");
    socket.write_all(request.as_bytes()).expect("the request is taken");
    socket
}

/// Reads one head, end included; what was read when the stream ends.
fn head(socket: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(socket.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Reads and forgets; the number of bytes, at most `limit`.
fn discard(socket: &mut impl Read, limit: u64) -> u64 {
    io::copy(&mut socket.take(limit), &mut io::sink()).unwrap_or(0)
}

/// Writes so many zeros, adding what is accepted to `written`.
fn zeros(socket: &mut impl Write, total: u64, written: &AtomicU64) -> io::Result<()> {
    let piece = [0; PIECE];
    let mut left = total;
    while left > 0 {
        let n = socket.write(&piece[..usize::try_from(left).unwrap_or(PIECE).min(PIECE)])?;
        written.fetch_add(n as u64, Ordering::SeqCst);
        left -= n as u64;
    }
    Ok(())
}

/// Runs `work` while the memory of the router is looked at; the highest value in KiB.
fn peak_rss(router: &Switchyard, work: impl FnOnce() + Send) -> u64 {
    std::thread::scope(|scope| {
        let working = scope.spawn(work);
        let mut peak = 0;
        while !working.is_finished() {
            peak = peak.max(router.rss_kib());
            std::thread::sleep(Duration::from_millis(5));
        }
        peak
    })
}

#[test]
fn a_large_upload_is_streamed() {
    const SIZE: u64 = 200 * MIB;
    let backend = Backend::raw(|mut socket| {
        head(&mut socket);
        let n = discard(&mut socket, SIZE).to_string();
        let _ = write!(socket, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{n}", n.len());
    });
    let router = router(backend.addr());
    let idle = router.rss_kib();
    let peak = peak_rss(&router, || {
        let mut socket = open(&router, &format!("PUT /u HTTP/1.1\r\nHost: web\r\nContent-Length: {SIZE}\r\n\r\n"));
        zeros(&mut socket, SIZE, &AtomicU64::new(0)).expect("all is taken");
        let answer = head(&mut socket);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let mut body = [0; 9];
        socket.read_exact(&mut body).expect("a body");
        assert_eq!(body, *b"209715200");
    });
    assert!(peak < idle + 60 * 1024, "memory grew from {idle} to {peak} KiB");
}

#[test]
fn a_large_download_is_streamed() {
    const SIZE: u64 = 200 * MIB;
    let backend = Backend::raw(|mut socket| {
        head(&mut socket);
        let _ = write!(socket, "HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n");
        let _ = zeros(&mut socket, SIZE, &AtomicU64::new(0));
    });
    let router = router(backend.addr());
    let idle = router.rss_kib();
    let peak = peak_rss(&router, || {
        let mut socket = open(&router, "GET /d HTTP/1.1\r\nHost: web\r\n\r\n");
        let answer = head(&mut socket);
        assert!(answer.contains("content-length: 209715200\r\n"), "the length is kept: {answer}");
        assert_eq!(discard(&mut socket, SIZE), SIZE);
    });
    assert!(peak < idle + 60 * 1024, "memory grew from {idle} to {peak} KiB");
}

#[test]
fn large_chunked_bodies_pass_both_ways() {
    let backend = Backend::with(|received| Reply { body: received.body.clone(), ..Reply::text("").chunked() });
    let router = router(backend.addr());
    let body: Vec<u8> = (0..8 * MIB as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut message = b"POST /c HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(100_000) {
        message.extend_from_slice(format!("{:X};x=y\r\n", chunk.len()).as_bytes());
        message.extend_from_slice(chunk);
        message.extend_from_slice(b"\r\n");
    }
    message.extend_from_slice(b"0\r\n\r\n");
    let mut client = Client::connect(router.addr(0));
    client.send_raw(&message);
    let response = client.read_response(false).expect("an answer");
    assert_eq!(response.status, 200);
    assert!(backend.last().body == body, "the upload is whole");
    assert!(response.body == body, "the download is whole");
    assert_eq!(backend.last().all("transfer-encoding"), ["chunked"]);
    assert_eq!(response.header("transfer-encoding"), Some("chunked"));
    assert_eq!(client.get("web", "/next").status, 200);
}

/// A client that does not read stops the upstream (attack H1-16): the router itself holds a bounded amount.
#[test]
fn a_slow_reader_holds_the_upstream_back() {
    const SIZE: u64 = 64 * MIB;
    let written = Arc::new(AtomicU64::new(0));
    let counter = written.clone();
    let backend = Backend::raw(move |mut socket| {
        socket2::SockRef::from(&socket).set_send_buffer_size(128 * 1024).expect("a smaller buffer");
        head(&mut socket);
        let _ = write!(socket, "HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n");
        let _ = zeros(&mut socket, SIZE, &counter);
    });
    let router = router(backend.addr());
    let idle = router.rss_kib();
    let small = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    small.set_recv_buffer_size(64 * 1024).expect("a smaller buffer");
    small.connect(&router.addr(0).into()).expect("the router listens");
    let mut socket = TcpStream::from(small);
    socket.set_read_timeout(Some(LONG)).expect("a time-out");
    socket.write_all(b"GET /d HTTP/1.1\r\nHost: web\r\n\r\n").expect("the request is taken");
    assert!(head(&mut socket).starts_with("HTTP/1.1 200"));
    let stalled = |read: u64| {
        let mut before = u64::MAX;
        eventually("the upstream stalls", SOON, || {
            std::thread::sleep(Duration::from_millis(100));
            let now = written.load(Ordering::SeqCst);
            (std::mem::replace(&mut before, now) == now).then_some(())
        });
        let ahead = written.load(Ordering::SeqCst) - read;
        assert!(ahead < 40 * MIB, "the upstream is {ahead} bytes ahead of the client");
        assert!(router.rss_kib() < idle + 20 * 1024, "the router buffers");
    };
    stalled(0);
    assert_eq!(discard(&mut socket, 8 * MIB), 8 * MIB);
    stalled(8 * MIB);
    assert_eq!(discard(&mut socket, SIZE - 8 * MIB), SIZE - 8 * MIB, "and then all of it comes");
}

/// The other way round: an upstream that does not read stops the client.
#[test]
fn a_slow_upstream_holds_the_client_back() {
    const SIZE: u64 = 64 * MIB;
    let (go, gone) = mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let backend = Backend::raw(move |mut socket| {
        head(&mut socket);
        let _ = gone.lock().expect("a lock").recv();
        let n = discard(&mut socket, SIZE);
        let status = if n == SIZE { 200 } else { 500 };
        let _ = write!(socket, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
    });
    let router = router(backend.addr());
    let idle = router.rss_kib();
    let mut socket = open(&router, &format!("PUT /u HTTP/1.1\r\nHost: web\r\nContent-Length: {SIZE}\r\n\r\n"));
    let written = AtomicU64::new(0);
    let mut writer = socket.try_clone().expect("a clone");
    std::thread::scope(|scope| {
        scope.spawn(|| zeros(&mut writer, SIZE, &written).expect("all is taken in the end"));
        let mut before = u64::MAX;
        eventually("the client stalls", SOON, || {
            std::thread::sleep(Duration::from_millis(100));
            let now = written.load(Ordering::SeqCst);
            (std::mem::replace(&mut before, now) == now).then_some(())
        });
        assert!(written.load(Ordering::SeqCst) < 48 * MIB, "the client could write {written:?}");
        assert!(router.rss_kib() < idle + 20 * 1024, "the router buffers");
        go.send(()).expect("the backend waits");
        assert!(head(&mut socket).starts_with("HTTP/1.1 200"));
    });
}

#[test]
fn a_slow_writer_is_waited_for() {
    let backend = Backend::with(|received| Reply::text(received.body.len().to_string()));
    let router = router(backend.addr());
    let mut slow = Client::connect(router.addr(0));
    slow.send_raw(b"POST /s HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n");
    for i in 0..40 {
        for byte in format!("2\r\n{:02}\r\n", i).as_bytes() {
            slow.send_raw(&[*byte]);
        }
        std::thread::sleep(Duration::from_millis(10));
        if i % 10 == 0 {
            assert_eq!(get(router.addr(0), "web").text(), "0", "others are served meanwhile");
        }
    }
    slow.send_raw(b"0\r\n\r\n");
    assert_eq!(slow.read_response(false).expect("an answer").text(), "80");
}

#[test]
fn trailers_pass_both_ways_but_for_the_forbidden() {
    let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let sent = [("X-Sum", "7"), ("Content-Length", "1"), ("Set-Cookie", "a=b"), ("l5d-err", "x"), ("grpc-status", "0")];
    let trailers = pairs(&sent);
    let backend = Backend::with(move |_| Reply { chunked: Some(trailers.clone()), ..Reply::text("hello") });
    let router = router(backend.addr());
    let mut client = Client::connect(router.addr(0));
    client.send_raw(
        b"POST /t HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Host\r\n\r\n3\r\nabc\r\n0\r\n\
          X-Sum: 6\r\nHost: evil\r\nX-Other: a\r\nX-Other: b\r\n\r\n",
    );
    let response = client.read_response(false).expect("an answer");
    assert_eq!(
        (response.text().as_str(), response.trailers),
        ("hello", pairs(&[("x-sum", "7"), ("grpc-status", "0")]))
    );
    let last = backend.last();
    assert_eq!(last.body, b"abc");
    assert_eq!(last.trailers, pairs(&[("x-sum", "6"), ("x-other", "a"), ("x-other", "b")]));
    assert_eq!((last.header("trailer"), last.header("host")), (None, Some("web")));
    // A client of HTTP/1.0 gets the body without them.
    client.send_raw(b"GET /t HTTP/1.0\r\nHost: web\r\n\r\n");
    let response = client.read_response(false).expect("an answer");
    assert_eq!((response.text().as_str(), response.trailers.len()), ("hello", 0));
}

/// Answers at once and sends every byte back.
fn echo(mut socket: TcpStream) {
    let request = head(&mut socket);
    let length = request.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
    let mut left: u64 = length.parse().unwrap_or(0);
    let _ = write!(socket, "HTTP/1.1 200 OK\r\ncontent-length: {left}\r\n\r\n");
    let mut buffer = [0; 4096];
    while left > 0 {
        match socket.read(&mut buffer) {
            Ok(n @ 1..) if socket.write_all(&buffer[..n]).is_ok() => left -= n as u64,
            _ => return,
        }
    }
    // Keeps the connection open: the next request is somebody else's.
    discard(&mut socket, u64::MAX);
}

#[test]
fn both_bodies_flow_at_once() {
    const ROUNDS: usize = 500;
    let backend = Backend::raw(echo);
    let router = router(backend.addr());
    let mut socket = open(&router, &format!("POST /e HTTP/1.1\r\nHost: web\r\nContent-Length: {}\r\n\r\n", ROUNDS * 5));
    assert!(head(&mut socket).starts_with("HTTP/1.1 200"), "the head comes before the body");
    for round in 0..ROUNDS {
        let piece = format!("{round:05}");
        socket.write_all(piece.as_bytes()).expect("a piece goes out");
        let mut back = [0; 5];
        socket.read_exact(&mut back).expect("and comes back");
        assert_eq!(back, piece.as_bytes(), "round {round}");
    }
}

#[test]
fn an_answer_may_come_before_the_body_is_complete() {
    let backend = Backend::raw(|mut socket| {
        head(&mut socket);
        let _ = socket.write_all(b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 5\r\n\r\nlarge");
        discard(&mut socket, u64::MAX);
    });
    let router = router(backend.addr());
    let mut client = Client::connect(router.addr(0));
    client.send_raw(b"POST /l HTTP/1.1\r\nHost: web\r\nContent-Length: 1000000\r\n\r\nbegin");
    let response = client.read_response(false).expect("an answer");
    assert_eq!((response.status, response.text().as_str()), (413, "large"));
    let _ = client.try_send_raw(b"GET /evil HTTP/1.1\r\nHost: web\r\n\r\n");
    assert!(client.closed_by_peer(), "a connection with half a body is not used again");
    assert_eq!(backend.connections(), 1);
    eventually("the upstream connection is let go", SOON, || (open_connections(&router) == 0.0).then_some(()));
    let mut client = Client::connect(router.addr(0));
    client.send_raw(b"POST /l HTTP/1.1\r\nHost: web\r\nContent-Length: 1000000\r\n\r\nbegin");
    assert_eq!(client.read_response(false).expect("an answer").status, 413);
    assert_eq!(backend.connections(), 2, "nor is the upstream's");
}

fn open_connections(router: &Switchyard) -> f64 {
    router.metric(&format!("rt/http/server/127.0.0.1/{}/connections", router.port(0))).unwrap_or(-1.0)
}

#[test]
fn http_1_0_clients_get_no_chunks() {
    let backend = Backend::with(|_| Reply::text("x".repeat(5000)).chunked());
    let router = router(backend.addr());
    for extra in ["", "Connection: keep-alive\r\n"] {
        let mut client = Client::connect(router.addr(0));
        client.send_raw(format!("GET / HTTP/1.0\r\nHost: web\r\n{extra}\r\n").as_bytes());
        let response = client.read_response(false).expect("an answer");
        assert_eq!((response.version.as_str(), response.status), ("HTTP/1.0", 200));
        assert_eq!(response.header("transfer-encoding"), None);
        assert_eq!(response.body.len(), 5000);
        assert!(client.closed_by_peer());
        assert_eq!(backend.last().version, "HTTP/1.0");
    }
}

#[test]
fn http_1_0_connections_are_kept_on_demand() {
    let backend = Backend::text("web");
    let router = router(backend.addr());
    let mut client = Client::connect(router.addr(0));
    for _ in 0..3 {
        client.send_raw(b"GET / HTTP/1.0\r\nHost: web\r\nConnection: keep-alive\r\n\r\n");
        let response = client.read_response(false).expect("an answer");
        assert_eq!((response.text().as_str(), response.header("connection")), ("web", Some("keep-alive")));
    }
    client.send_raw(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n");
    assert_eq!(client.read_response(false).expect("an answer").text(), "web");
    assert!(client.closed_by_peer());
}

#[test]
fn framing_is_kept_where_there_is_no_body() {
    let backend = Backend::raw(|mut socket| {
        loop {
            let request = head(&mut socket);
            let answer = match request.split(' ').nth(1) {
                Some("/head") => "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n",
                Some("/head-chunked") => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                Some("/204") => "HTTP/1.1 204 No Content\r\nx-a: b\r\n\r\n",
                Some("/304") => "HTTP/1.1 304 Not Modified\r\ncontent-length: 77\r\netag: \"a\"\r\n\r\n",
                Some("/empty") => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
                Some("/chunks") => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
                Some(_) => "HTTP/1.1 200 Fine by me\r\ncontent-length: 2\r\n\r\nok",
                None => return,
            };
            if socket.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    let router = router(backend.addr());
    let mut client = Client::connect(router.addr(0));
    let ask = |client: &mut Client, method: &str, path: &str| client.request(method, "web", path, &[], b"");
    let response = ask(&mut client, "HEAD", "/head");
    assert_eq!((response.status, response.header("content-length")), (200, Some("1234")));
    let response = ask(&mut client, "HEAD", "/head-chunked");
    assert_eq!((response.status, response.header("content-length")), (200, None));
    let response = ask(&mut client, "GET", "/204");
    assert_eq!((response.status, response.header("content-length"), response.header("x-a")), (204, None, Some("b")));
    assert_eq!(response.header("transfer-encoding"), None);
    let response = ask(&mut client, "GET", "/304");
    assert_eq!((response.status, response.header("content-length")), (304, Some("77")));
    let response = ask(&mut client, "GET", "/empty");
    assert_eq!((response.status, response.header("content-length"), response.body.len()), (200, Some("0"), 0));
    assert_eq!(ask(&mut client, "GET", "/chunks").body.len(), 0);
    let response = ask(&mut client, "GET", "/other");
    assert_eq!((response.reason.as_str(), response.text().as_str()), ("Fine by me", "ok"));
    assert_eq!(backend.connections(), 1, "none of these costs a connection");
}

#[test]
fn request_framing_is_kept() {
    let backend = Backend::text("web");
    let router = router(backend.addr());
    let mut client = Client::connect(router.addr(0));
    let mut framing = |method: &str, fields: &str, body: &str| {
        client.send_raw(format!("{method} /f HTTP/1.1\r\nHost: web\r\n{fields}\r\n{body}").as_bytes());
        assert_eq!(client.read_response(false).expect("an answer").status, 200);
        let last = backend.last();
        let field = |name: &str| last.header(name).map(str::to_owned);
        (field("content-length"), field("transfer-encoding"), last.body.len())
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(framing("GET", "", ""), (None, None, 0));
    assert_eq!(framing("POST", "Content-Length: 0\r\n", ""), (text("0"), None, 0));
    assert_eq!(framing("POST", "", ""), (text("0"), None, 0));
    assert_eq!(framing("POST", "Content-Length: 7\r\n", "content"), (text("7"), None, 7));
    assert_eq!(framing("GET", "Content-Length: 7\r\n", "content"), (text("7"), None, 7));
    let chunks = "3\r\nabc\r\n0\r\n\r\n";
    assert_eq!(framing("POST", "Transfer-Encoding: chunked\r\n", chunks), (None, text("chunked"), 3));
    assert_eq!(framing("PUT", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n"), (None, text("chunked"), 0));
}

/// The upstream decides whether the body is wanted; nobody else says 100.
#[test]
fn expect_100_goes_end_to_end() {
    let (asked, is_asked) = mpsc::channel();
    let (allow, allowed) = mpsc::channel::<()>();
    let allowed = std::sync::Mutex::new(allowed);
    let backend = Backend::raw(move |mut socket| {
        let request = head(&mut socket);
        asked.send(request).expect("the story listens");
        let _ = allowed.lock().expect("a lock").recv();
        let _ = socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
        let mut body = [0; 5];
        if socket.read_exact(&mut body).is_ok() && body == *b"hello" {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let router = router(backend.addr());
    let mut socket = open(&router, "PUT /x HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let request = is_asked.recv_timeout(SOON).expect("the head comes before the body");
    assert!(request.contains("expect: 100-continue\r\n"), "{request}");
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a time-out");
    assert!(socket.read(&mut [0]).is_err(), "the router says nothing on its own");
    socket.set_read_timeout(Some(LONG)).expect("a time-out");
    allow.send(()).expect("the backend waits");
    assert!(head(&mut socket).starts_with("HTTP/1.1 100 "));
    socket.write_all(b"hello").expect("the body goes out");
    assert!(head(&mut socket).starts_with("HTTP/1.1 200 "));
}

/// The upstream refuses at once; whether the client then sends the body or not, nothing is taken for a request.
#[test]
fn an_early_final_answer_to_expect() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = requests.clone();
    let backend = Backend::raw(move |mut socket| {
        while !head(&mut socket).is_empty() {
            counter.fetch_add(1, Ordering::SeqCst);
            let _ = socket.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
        }
    });
    let router = router(backend.addr());
    let evil = "GET /evil HTTP/1.1\r\nHost: web\r\n\r\n";
    for (n, sends) in [(1, true), (2, false)] {
        let mut client = Client::connect(router.addr(0));
        let length = evil.len();
        client.send_raw(
            format!("PUT /x HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n")
                .as_bytes(),
        );
        let response = client.read_response(false).expect("an answer");
        assert_eq!((response.status, response.interims.len()), (403, 0));
        if sends {
            let _ = client.try_send_raw(evil.as_bytes());
        }
        let more = client.read_response(false);
        assert!(more.is_err(), "the body was taken for a request: {more:?}");
        assert_eq!(requests.load(Ordering::SeqCst), n, "and reached the upstream");
    }
}

#[test]
fn early_hints_are_passed_on() {
    let backend = Backend::raw(|mut socket| {
        while !head(&mut socket).is_empty() {
            let _ = socket.write_all(
                b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nconnection: x-b\r\nx-b: c\r\n\r\n\
                  HTTP/1.1 103 Early Hints\r\nlink: </b.css>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            );
        }
    });
    let router = router(backend.addr());
    let mut client = Client::connect(router.addr(0));
    for _ in 0..2 {
        let response = client.get("web", "/");
        assert_eq!((response.status, response.text().as_str(), response.interims.len()), (200, "ok", 2));
        let first = &response.interims[0];
        assert_eq!((first.status, first.header("link")), (103, Some("</a.css>; rel=preload")));
        assert_eq!((first.header("x-b"), first.header("content-length")), (None, None));
    }
    client.send_raw(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n");
    let response = client.read_response(false).expect("an answer");
    assert_eq!((response.status, response.interims.len()), (200, 0), "HTTP/1.0 knows no 1xx");
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_thousand_pipelined_requests_are_answered_in_order() {
    const N: usize = 1000;
    let backend = Backend::with(|received| {
        let delay = if received.target == "/0" { 300 } else { 0 };
        Reply::text(received.target.clone()).after(Duration::from_millis(delay))
    });
    let router = router(backend.addr());
    let idle = router.rss_kib();
    let mut client = Client::connect(router.addr(0));
    let all: String = (0..N).map(|i| format!("GET /{i} HTTP/1.1\r\nHost: web\r\n\r\n")).collect();
    client.send_raw(all.as_bytes());
    for i in 0..N {
        assert_eq!(client.read_response(false).expect("an answer").text(), format!("/{i}"));
    }
    let targets: Vec<String> = backend.requests().into_iter().map(|received| received.target).collect();
    assert!(targets.iter().enumerate().all(|(i, target)| *target == format!("/{i}")), "asked in order, one by one");
    assert_eq!(backend.connections(), 1);
    assert!(router.rss_kib() < idle + 20 * 1024, "memory is bounded");
}

#[test]
fn connections_are_reused_and_closed_on_demand() {
    let backend = Backend::with(|received| match received.target.as_str() {
        "/close" => Reply::text("bye").close(),
        _ => Reply::text("web"),
    });
    let router = router(backend.addr());
    let mut client = Client::connect(router.addr(0));
    for _ in 0..50 {
        assert_eq!(client.get("web", "/").text(), "web");
    }
    assert_eq!(backend.connections(), 1, "one upstream connection does for requests one after the other");
    let response = client.request("GET", "web", "/", &[("Connection", "close")], b"");
    assert_eq!(response.header("connection"), Some("close"));
    assert!(client.closed_by_peer(), "the client's wish is honoured");
    assert_eq!(backend.last().header("connection"), None, "and is its own affair");
    let mut client = Client::connect(router.addr(0));
    assert_eq!(client.get("web", "/").text(), "web");
    assert_eq!(backend.connections(), 1, "the upstream connection lives on");
    let response = client.get("web", "/close");
    assert_eq!((response.text().as_str(), response.header("connection")), ("bye", None));
    assert_eq!(client.get("web", "/").text(), "web", "the upstream's wish does not concern the client");
    assert_eq!(backend.connections(), 2);
}

#[test]
fn a_body_until_close_is_passed_on() {
    let backend = Backend::raw(|mut socket| {
        head(&mut socket);
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil");
        std::thread::sleep(Duration::from_millis(20));
        let _ = socket.write_all(b" the end");
    });
    let router = router(backend.addr());
    let mut client = Client::connect(router.addr(0));
    let response = client.get("web", "/");
    assert_eq!((response.status, response.text().as_str()), (200, "until the end"));
    if response.header("transfer-encoding") == Some("chunked") {
        assert_eq!(client.get("web", "/").text(), "until the end", "with an end mark the connection goes on");
    } else {
        assert!(client.closed_by_peer(), "the end of the connection is the end of the body");
    }
    client = Client::connect(router.addr(0));
    client.send_raw(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n");
    let response = client.read_response(false).expect("an answer");
    assert_eq!((response.text().as_str(), response.header("transfer-encoding")), ("until the end", None));
}

/// What the upstream notices when the client goes away: before the head, in a busy body, in a silent one.
#[test]
fn a_client_that_is_gone_cancels_the_upstream() {
    for (name, starts, busy) in
        [("before the head", false, false), ("in a silent body", true, false), ("busy", true, true)]
    {
        let (ready, is_ready) = mpsc::channel();
        let (ended, has_ended) = mpsc::channel();
        let backend = Backend::raw(move |mut socket| {
            head(&mut socket);
            if starts {
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n");
            }
            let _ = ready.send(());
            while busy && socket.write_all(b"4\r\nbody\r\n").is_ok() {
                std::thread::sleep(Duration::from_millis(2));
            }
            discard(&mut socket, u64::MAX);
            let _ = ended.send(());
        });
        let router = router(backend.addr());
        let mut socket = open(&router, "GET / HTTP/1.1\r\nHost: web\r\n\r\n");
        is_ready.recv_timeout(SOON).expect("the backend is asked");
        if starts {
            assert!(head(&mut socket).starts_with("HTTP/1.1 200"), "{name}");
        }
        drop(socket);
        assert!(has_ended.recv_timeout(SOON).is_ok(), "{name}: the upstream is kept busy for nobody");
        eventually("the connection is over", SOON, || (open_connections(&router) == 0.0).then_some(()));
    }
}

/// A request body that breaks off must not reach the upstream as a whole one.
#[test]
fn a_body_that_breaks_off_is_never_complete() {
    let ((begun, has_begun), (ended, has_ended)) = (mpsc::channel(), mpsc::channel());
    let backend = Backend::raw(move |mut socket| {
        let request = head(&mut socket);
        let _ = begun.send(());
        let mut body = Vec::new();
        let _ = socket.read_to_end(&mut body);
        let _ = ended.send((request, body));
    });
    let router = router(backend.addr());
    let requests = [
        "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100\r\n\r\nhalf",
        "POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
    ];
    for text in requests {
        let socket = open(&router, text);
        has_begun.recv_timeout(SOON).expect("the request is under way");
        std::thread::sleep(Duration::from_millis(50));
        drop(socket);
        let (request, body) = has_ended.recv_timeout(SOON).expect("the upstream connection ends");
        assert!(request.starts_with("POST"), "{request}");
        assert!(!body.ends_with(b"0\r\n\r\n") && body.len() < 100, "{:?}", String::from_utf8_lossy(&body));
    }
}

/// Many idle connections cost little, and the router serves beside them.
#[test]
fn idle_connections_cost_little() {
    let backend = Backend::text("web");
    let router = router(backend.addr());
    get(router.addr(0), "web");
    let before = router.rss_kib();
    let mut clients: Vec<Client> = (0..1000).map(|_| Client::connect(router.addr(0))).collect();
    for client in &mut clients {
        assert_eq!(client.get("web", "/").status, 200);
    }
    holds_for("the router serves", Duration::from_millis(200), || get(router.addr(0), "web").status == 200);
    let per = router.rss_kib().saturating_sub(before);
    assert!(per < 24 * 1000, "1000 idle connections hold {per} KiB");
}
