//! How connections end: nobody loses what was said to him, takes half an answer for a whole one, or is left without any,
//! because a connection ends while somebody still speaks.

use e2e::h2::{Ask, Caller, Frame, H2_CONFIG, Origin, Step, Wire, flag, kind, story, with};
use e2e::{Authority, Backend, Client, FS_CONFIG, Https, NAMERD_CONFIG, Namerd, Reply, Switchyard, eventually};
use http::HeaderMap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(5);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const GET: &[(&str, &str)] = &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "web")];

/// The usual config with these keys in the server.
fn serving(config: &str, keys: &str) -> String {
    config.replace("port: @P0@", &format!("port: @P0@, {keys}"))
}

fn start(config: &str, args: &[&str], web: SocketAddr) -> Switchyard {
    let switchyard = Switchyard::start_with(config, args);
    switchyard.disco().set("web", &[web]);
    switchyard
}

/// A connection that says nothing yet.
fn connect(addr: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(addr).expect("it listens");
    socket.set_read_timeout(Some(SOON)).expect("it can be set");
    socket
}

/// Reads until the text has come; what was read.
fn read_until(socket: &mut TcpStream, text: &str) -> String {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(text.as_bytes()) && socket.read(&mut byte).is_ok_and(|n| n > 0) {
        read.push(byte[0]);
    }
    String::from_utf8_lossy(&read).into_owned()
}

/// Waits until the router drains.
fn drains(switchyard: &Switchyard) {
    switchyard.signal_term();
    eventually("nothing new is accepted", SOON, || TcpStream::connect(switchyard.addr(0)).err());
}

/// Connects, has the router drain, and only then says what it wants: true when there is an answer 200.
fn heard_while_draining(config: &str, said: &[u8], answer: impl Fn(&[u8]) -> bool) -> bool {
    let h2 = said.starts_with(PREFACE);
    let (backend, origin) = (Backend::text("hello"), Origin::text("hello"));
    let switchyard = start(config, &[], if h2 { origin.addr() } else { backend.addr() });
    let mut client = connect(switchyard.addr(0));
    let label = if h2 { "h2" } else { "http" };
    switchyard.await_metric(&format!("rt/{label}/server/127.0.0.1/{}/connects", switchyard.port(0)), 1.0);
    drains(&switchyard);
    let mut came = Vec::new();
    if client.write_all(said).is_err() {
        return false;
    }
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = client.read(&mut buffer) {
        came.extend_from_slice(&buffer[..n]);
        if answer(&came) {
            drop(client);
            assert!(switchyard.wait_exit(SOON).success());
            return true;
        }
    }
    false
}

/// It was accepted: its request is on its way, and there is a second for it to come. Whether it does on a busy machine is
/// another matter: one of five is enough.
#[test]
fn who_was_accepted_and_not_heard_is_served_while_the_router_drains() {
    story(async {
        let plain: &[u8] = b"GET / HTTP/1.1\r\nhost: web\r\n\r\n";
        let framed = [PREFACE, &Frame::settings(&[]).bytes(), &Frame::headers(1, GET, true).bytes()].concat();
        let answers = |came: &[u8]| came.starts_with(b"HTTP/1.1 200 ");
        let ends = Frame::data(1, b"hello", true).bytes();
        let frames = |came: &[u8]| came.windows(ends.len()).any(|part| part == ends);
        let once = |heard: &dyn Fn() -> bool| (0..5).any(|_| heard());
        assert!(once(&|| heard_while_draining(FS_CONFIG, plain, answers)), "HTTP/1");
        let detecting = serving(FS_CONFIG, "protocol: detect");
        assert!(once(&|| heard_while_draining(&detecting, plain, answers)), "HTTP/1, where both are served");
        assert!(once(&|| heard_while_draining(H2_CONFIG, &framed, frames)), "HTTP/2");
    });
}

/// Begins an answer of unknown length, and says when its connection ends and how.
fn endless(ends: mpsc::Sender<io::Result<usize>>) -> Backend {
    let ends = std::sync::Mutex::new(ends);
    Backend::raw(move |mut socket| {
        let head = read_until(&mut socket, "\r\n\r\n");
        let answer = match head.contains("upgrade") {
            true => "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\nabcd",
            false => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n",
        };
        let _ = socket.write_all(answer.as_bytes());
        let end = socket.read(&mut [0; 64]);
        // The story may be over.
        let _ = ends.lock().expect("one at a time").send(end);
    })
}

/// An answer that ends with its connection is whole when the connection ends in order. A process that has to end cuts it.
#[test]
fn what_the_end_of_the_process_cuts_does_not_look_whole() {
    let (told, ends) = mpsc::channel();
    let web = endless(told);
    for asked in [
        "GET / HTTP/1.0\r\nhost: web\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: web\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n",
    ] {
        let switchyard = start(FS_CONFIG, &["--grace", "200ms"], web.addr());
        let mut client = connect(switchyard.addr(0));
        client.write_all(asked.as_bytes()).expect("sent");
        assert!(read_until(&mut client, "abcd").ends_with("abcd"), "{asked:?}");
        switchyard.signal_term();
        let end = client.read(&mut [0; 64]);
        assert!(end.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset), "{asked:?}: {end:?}");
        let end = ends.recv_timeout(SOON).expect("the service hears of it");
        if asked.contains("upgrade") {
            assert!(end.is_err(), "half a conversation is none for the service either: {end:?}");
        }
        assert!(switchyard.wait_exit(SOON).success());
    }
}

/// And one that was whole ends in order.
#[test]
fn an_answer_that_ends_with_its_connection_ends_in_order() {
    let web = Backend::text("hello");
    let switchyard = start(FS_CONFIG, &[], web.addr());
    for _ in 0..10 {
        let mut client = connect(switchyard.addr(0));
        client.write_all(b"GET / HTTP/1.0\r\nhost: web\r\n\r\n").expect("sent");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an end in order");
        assert!(answer.ends_with("\r\n\r\nhello"), "{answer:?}");
    }
}

/// Who is told nothing sends the next request to a connection that is about to be closed.
#[test]
fn errors_say_that_the_connection_ends_when_the_router_drains() {
    let gate = Arc::new(AtomicBool::new(false));
    let held = gate.clone();
    let web = Backend::raw(move |mut socket| {
        read_until(&mut socket, "\r\n\r\n");
        eventually("the gate opens", SOON, || held.load(Ordering::SeqCst).then_some(()));
    });
    let switchyard = start(FS_CONFIG, &[], web.addr());
    let mut client = Client::connect(switchyard.addr(0));
    client.send_raw(b"POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 0\r\n\r\n");
    eventually("the service is asked", SOON, || (web.connections() == 1).then_some(()));
    drains(&switchyard);
    gate.store(true, Ordering::SeqCst);
    let answer = client.read_response(false).expect("an answer");
    assert_eq!((answer.status, answer.header("connection")), (502, Some("close")));
    assert!(client.closed_by_peer());
    assert!(switchyard.wait_exit(SOON).success());
}

/// An answer was begun before the router had to end, so that its head does not say that the connection ends. Its client
/// may send another request; that costs it nothing of the answer.
#[test]
fn a_request_that_crosses_the_end_takes_no_answer_away() {
    const LENGTH: usize = 400_000;
    let gate = Arc::new(AtomicBool::new(false));
    let (held, (told, done)) = (gate.clone(), mpsc::channel());
    let told = std::sync::Mutex::new(told);
    let web = Backend::raw(move |mut socket| {
        read_until(&mut socket, "\r\n\r\n");
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\nxxxx");
        let _ = socket.write_all(head.as_bytes());
        eventually("the gate opens", SOON, || held.load(Ordering::SeqCst).then_some(()));
        let _ = socket.write_all(&vec![b'x'; LENGTH - 4]);
        let _ = told.lock().expect("one at a time").send(());
        let _ = socket.read(&mut [0]);
    });
    let switchyard = start(FS_CONFIG, &[], web.addr());
    let mut client = connect(switchyard.addr(0));
    client.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").expect("sent");
    let head = read_until(&mut client, "\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 ") && !head.contains("connection: close"), "{head:?}");
    drains(&switchyard);
    gate.store(true, Ordering::SeqCst);
    done.recv_timeout(SOON).expect("the service has answered");
    // The router has passed on what fits, and is done if that was all. Nothing depends on it being so.
    std::thread::sleep(Duration::from_millis(100));
    let _ = client.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n");
    std::thread::sleep(Duration::from_millis(50));
    let mut body = Vec::new();
    let end = client.read_to_end(&mut body);
    assert_eq!((body.len(), end.map_err(|error| error.kind())), (LENGTH, Ok(LENGTH)));
    drop(client);
    assert!(switchyard.wait_exit(SOON).success());
}

/// An answer to PING may be behind much that was said before it.
#[test]
fn a_client_that_speaks_is_alive_though_it_does_not_answer() {
    story(async {
        let origin = Origin::text("hello");
        let switchyard = start(&serving(H2_CONFIG, "pingIntervalMs: 100, pingTimeoutMs: 1500"), &[], origin.addr());
        let mut wire = Wire::client(switchyard.addr(0), &[]).await;
        wire.until(SOON, |frame| frame.kind == kind::SETTINGS && !frame.has(flag::ACK)).await.expect("settings");
        wire.polite = false;
        wire.until(SOON, |frame| frame.kind == kind::PING).await.expect("a question");
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(4) {
            wire.send(&Frame::window(0, 1)).await.expect("it is taken");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        wire.send(&Frame::headers(1, GET, true)).await.expect("sent");
        let head = wire.until(SOON, |frame| frame.kind == kind::HEADERS).await.expect("an answer");
        assert_eq!(head.status(), Some(200));
        assert!(wire.until(SOON, |_| false).await.is_none(), "then it falls silent, and the connection ends");
        let caller = Caller::connect(switchyard.addr(0)).await;
        assert_eq!(caller.ask(&Ask::get("web", "/")).await.text(), "hello");
    });
}

/// Numbers that tell what is under way, by the last part of their names.
const UNDER_WAY: [&str; 7] =
    ["open_streams", "pending", "load", "request_concurrency", "tunnels", "pool_waiters", "outstanding"];

/// What is not as it is when nothing is under way: gauges that are not 0, requests that are neither successes nor failures.
fn unsettled(switchyard: &Switchyard) -> Vec<String> {
    let page = switchyard.page("/admin/metrics.json").json();
    let all = page.as_object().expect("names and numbers");
    let number = |name: &str| all.get(name).and_then(serde_json::Value::as_f64);
    let mut wrong = Vec::new();
    for (name, value) in all {
        let (scope, last) = name.rsplit_once('/').unwrap_or(("", name));
        if UNDER_WAY.contains(&last) && value.as_f64() != Some(0.0) {
            wrong.push(format!("{name} is {value}"));
        }
        let ended =
            number(&format!("{scope}/success")).unwrap_or(0.0) + number(&format!("{scope}/failures")).unwrap_or(0.0);
        if name.starts_with("rt/") && last == "requests" && value.as_f64() != Some(ended) {
            wrong.push(format!("{name} is {value}, and {ended} have ended"));
        }
    }
    wrong
}

/// One request that its client gives up at a random point, over HTTP/1.
fn give_up(addr: SocketAddr, random: &mut fastrand::Rng) {
    let mut socket = connect(addr);
    let length = random.usize(0..200_000);
    let head = format!("POST / HTTP/1.1\r\nhost: web\r\ncontent-length: {length}\r\n\r\n");
    let message = [head.as_bytes(), &vec![b'x'; length]].concat();
    let sent = random.usize(0..=message.len());
    let _ = socket.set_write_timeout(Some(Duration::from_millis(20)));
    let _ = socket.write_all(&message[..sent]);
    let _ = socket.set_read_timeout(Some(Duration::from_millis(random.u64(1..20))));
    let _ = socket.read(&mut vec![0; random.usize(1..50_000)]);
}

/// And over HTTP/2, while others go on beside it.
async fn cancel(caller: &Caller, random: &mut fastrand::Rng) {
    let ask = Ask::post("web", "/", "");
    let mut call = caller.open(&ask, false).await.expect("a stream");
    let (length, end, after) = (random.usize(0..200_000), random.bool(), random.u64(0..20));
    let cancelled = async {
        let _ = call.try_send(vec![b'x'; length], end).await;
        let _ = call.head().await;
        // Not given back: it stays in the window.
        let _ = call.hold().await;
    };
    let _ = tokio::time::timeout(Duration::from_millis(after), cancelled).await;
    call.reset(8);
}

/// Whatever a request held is given back wherever it is cancelled, and it is counted once: both protocols, on both sides.
#[test]
fn what_is_cancelled_anywhere_is_settled() {
    story(async {
        let seed = fastrand::u64(..);
        let origin = Origin::with(|asked| match asked.number % 3 {
            0 => Step::echo(),
            1 => vec![Step::Wait(Duration::from_millis(5)), Step::Head(200, HeaderMap::new()), Step::Pattern(300_000)],
            _ => vec![Step::Hang],
        });
        let web = Backend::with(|_| Reply::text("x".repeat(300_000)).chunked().after(Duration::from_millis(5)));
        let pool = "client: { protocol: http, hostConnectionPool: { maxSize: 3 } }";
        let shared = "client: { protocol: h2 }";
        for (client, addr) in [(pool, web.addr()), (shared, origin.addr())] {
            let config = serving(&with(FS_CONFIG, client), "protocol: detect, maxConcurrentRequests: 10000");
            let switchyard = start(&config, &["--workers", "2"], addr);
            let to = switchyard.addr(0);
            let vanishing: Vec<_> = (0..4)
                .map(|i| {
                    tokio::task::spawn_blocking(move || {
                        let mut random = fastrand::Rng::with_seed(seed + i);
                        (0..50).for_each(|_| give_up(to, &mut random));
                    })
                })
                .collect();
            let mut random = fastrand::Rng::with_seed(seed);
            let caller = Caller::connect(to).await;
            for _ in 0..200 {
                cancel(&caller, &mut random).await;
            }
            for vanished in vanishing {
                vanished.await.expect("no panic");
            }
            let mut left = Vec::new();
            let limit = Instant::now() + 2 * SOON;
            while Instant::now() < limit {
                left = unsettled(&switchyard);
                if left.is_empty() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert!(left.is_empty(), "seed {seed}, {client}: {left:#?}");
        }
    });
}

/// The answer to a body that is too long comes before the body is read; who sends all of it first finds the answer.
#[test]
fn servers_refuse_a_body_so_that_its_sender_learns_it() {
    let disco = tempfile::tempdir().expect("a folder");
    let namerd = Namerd::start(NAMERD_CONFIG, disco.path());
    let body = vec![b' '; 12 << 20];
    let json = [("content-type", "application/dtab")];
    for round in 0..5 {
        let answer = Client::connect(namerd.http()).try_request("POST", "localhost", "/api/1/dtabs/x", &json, &body);
        assert_eq!(answer.map(|answer| answer.status).ok(), Some(413), "round {round}");
        let answer = Client::connect(namerd.admin()).try_request("POST", "localhost", "/admin/shutdown", &json, &body);
        assert_eq!(answer.map(|answer| answer.status).ok(), Some(413), "round {round}");
    }
    let web = Backend::text("hello");
    let switchyard = start(&with(FS_CONFIG, "maxRequestBodyKB: 1"), &[], web.addr());
    for round in 0..5 {
        let answer = Client::connect(switchyard.addr(0)).try_request("POST", "web", "/", &[], &body);
        assert_eq!(answer.map(|answer| answer.status).ok(), Some(413), "round {round}");
    }
}

/// Two certificates, and their authority, in a folder.
fn certificates() -> (tempfile::TempDir, e2e::PairFiles) {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("ends");
    authority.write(folder.path(), "ca");
    let files = authority.issue(&["web.example"]).write(folder.path(), "web");
    (folder, files)
}

/// A TLS service whose answers end with the connection; with a goodbye for `/whole`, by a plain close otherwise.
fn parting(files: &e2e::PairFiles) -> Backend {
    let cert = CertificateDer::from_pem_file(&files.cert).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_no_client_auth().with_single_cert(vec![cert], key);
    let config = Arc::new(config.expect("they belong together"));
    Backend::raw(move |socket| {
        let tls = rustls::ServerConnection::new(config.clone()).expect("a server");
        let mut stream = rustls::StreamOwned::new(tls, socket);
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
            head.push(byte[0]);
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nall of it");
        if head.starts_with(b"GET /whole ") {
            stream.conn.send_close_notify();
        }
        let _ = stream.flush();
    })
}

/// TLS says where the end is; whoever cuts a connection cannot.
#[test]
fn an_answer_that_tls_does_not_end_is_not_whole() {
    let (folder, files) = certificates();
    let web = parting(&files);
    let trust = folder.path().join("ca.pem").display().to_string();
    let tls = format!("client: {{ tls: {{ commonName: web.example, trustCertsBundle: {trust} }} }}");
    let switchyard = start(&with(FS_CONFIG, &tls), &[], web.addr());
    for (version, path, whole) in
        [("1.1", "/whole", true), ("1.1", "/cut", false), ("1.0", "/whole", true), ("1.0", "/cut", false)]
    {
        let mut client = connect(switchyard.addr(0));
        let asked = format!("GET {path} HTTP/{version}\r\nhost: web\r\nconnection: close\r\n\r\n");
        client.write_all(asked.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        let end = client.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        let ended = end.is_ok() && (version == "1.0" || text.ends_with("\r\n0\r\n\r\n"));
        assert_eq!(
            ended && text.starts_with("HTTP/1.") && text.contains(" 200 "),
            whole,
            "{version} {path}: {end:?}, {text:?}"
        );
    }
}

/// With TLS 1.3 a client that has no certificate learns only after its first request that it needs one. What it still sends
/// must not take that word away.
#[test]
fn a_client_that_is_refused_by_tls_learns_why_however_much_it_says() {
    let (folder, files) = certificates();
    let (ca, cert, key) = (folder.path().join("ca.pem"), files.cert.display(), files.key.display());
    let tls =
        format!("tls: {{ certPath: {cert}, keyPath: {key}, caCertPath: {}, requireClientAuth: true }}", ca.display());
    let web = Backend::text("hello");
    let switchyard = start(&serving(FS_CONFIG, &tls), &[], web.addr());
    let long = format!("/{}", "x".repeat(500_000));
    for round in 0..5 {
        let client = Https::connect(switchyard.addr(0), "web.example", &ca, None).expect("it does not know yet");
        let error = client.get("web", &long).expect_err("it has no certificate");
        let said = error.get_ref().and_then(|error| error.downcast_ref());
        let wanted = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
        assert_eq!(said, Some(&wanted), "round {round}: {error}");
    }
}
