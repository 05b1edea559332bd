//! The admin server through real sockets: a client that writes raw bytes and reads until the server closes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of a test file are test code")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use admin::{HostCheck, LivePages, MAX_BODY, Pages, Request, Response, Security, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};

struct Running {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    done: tokio::task::JoinHandle<()>,
}

async fn start(pages: Pages, security: Security) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let done = tokio::spawn(serve(
        listener,
        Arc::new(LivePages::new(pages)),
        security,
        HostCheck::new(["admin.test"]),
        async move {
            let _ = stopped.await;
        },
    ));
    Running { addr, stop: Some(stop), done }
}

fn pages() -> Pages {
    Pages::new()
        .page("/admin/ping", "Ping", |_| async { Response::text("pong") })
        .get("/only-get", "", |_| async { Response::json("{}") })
        .post("/admin/shutdown", |request: Request| async move {
            Response::text(format!("quitting {}\n", request.param("grace").unwrap_or("default")))
        })
        .page("/files/", "", |request: Request| async move { Response::text(request.path) })
        .page("/logging.json", "", |request: Request| async move {
            Response::text(format!("{:?} {}", request.param("level"), request.body.len()))
        })
        .page("/panic", "", |_| async { panic!("on purpose") })
        .page("/panic-now", "", |_| -> std::future::Ready<Response> { panic!("before the future") })
}

impl Running {
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        let _ = stream.write_all(bytes).await;
        let mut out = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut out)).await.unwrap();
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Sends and then waits for the server to close, however long that takes.
    async fn patient(&self, text: &str) -> String {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut out = String::new();
        stream.read_to_string(&mut out).await.unwrap();
        out
    }

    async fn request(&self, line: &str, headers: &str, body: &str) -> String {
        let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let text = format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}{length}\r\n{body}");
        self.raw(text.as_bytes()).await
    }

    async fn status(&self, line: &str) -> u16 {
        status(&self.request(line, "", "").await)
    }
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("no status in {answer:?}"))
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[tokio::test]
async fn routes_and_answers() {
    let server = start(pages(), Security::default()).await;
    let ping = server.request("GET /admin/ping?x=1", "", "").await;
    assert_eq!((status(&ping), body(&ping)), (200, "pong"));
    assert!(ping.contains("content-type: text/plain; charset=utf-8\r\n"));
    assert!(ping.contains("x-content-type-options: nosniff\r\n") && ping.contains("cache-control: no-store\r\n"));
    assert_eq!(body(&server.request("GET /files/a%20b//c", "", "").await), "/files/a b/c");
    assert_eq!(body(&server.request("GET //admin//ping", "", "").await), "pong");
    for line in ["GET /nope", "GET /admin/ping/", "POST /nope"] {
        assert_eq!(server.status(line).await, 404, "{line}");
    }
    for line in ["GET /files/../admin/ping", "GET /%zz", "OPTIONS *"] {
        assert_eq!(server.status(line).await, 400, "{line}");
    }
    let index = server.request("GET /", "", "").await;
    assert!(index.contains("content-security-policy: default-src 'none'; style-src 'unsafe-inline'\r\n"));
    assert!(index.contains("<a href=\"/admin/ping\">Ping</a>"));
    assert!(body(&server.request("GET /admin", "", "").await).contains("\n/admin/ping\n"));
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let server = start(pages(), Security::default()).await;
    let head = server.request("HEAD /admin/ping", "", "").await;
    assert_eq!((status(&head), body(&head)), (200, ""));
    assert!(head.contains("content-length: 4\r\n"), "{head}");
    assert_eq!(server.status("HEAD /only-get").await, 200);
    assert_eq!(server.status("HEAD /").await, 200);
}

#[tokio::test]
async fn wrong_methods_get_405_with_the_right_ones() {
    let server = start(pages(), Security::default()).await;
    let answer = server.request("GET /admin/shutdown", "", "").await;
    assert_eq!(status(&answer), 405);
    assert!(answer.contains("allow: POST\r\n"), "{answer}");
    let answer = server.request("POST /only-get", "", "").await;
    assert!(status(&answer) == 405 && answer.contains("allow: GET, HEAD\r\n"), "{answer}");
    assert_eq!(server.status("HEAD /admin/shutdown").await, 405);
}

#[tokio::test]
async fn forms_and_bodies_reach_the_page() {
    let server = start(pages(), Security::default()).await;
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    assert_eq!(body(&server.request("POST /admin/shutdown", form, "grace=30.seconds").await), "quitting 30.seconds\n");
    assert_eq!(body(&server.request("POST /admin/shutdown?grace=1", "", "").await), "quitting 1\n");
    assert_eq!(body(&server.request("POST /logging.json", "", "level=x").await), "None 7");
}

#[tokio::test]
async fn closed_categories_are_404_however_the_path_is_spelled() {
    let security = Security { control: false, diagnostics: false, ..Security::default() };
    let server = start(pages(), security).await;
    for path in [
        "/admin/shutdown",
        "//admin/shutdown",
        "/admin//shutdown",
        "/admin/%73hutdown",
        "/admin%2Fshutdown",
        "http://localhost//admin/shutdown",
        "/logging.json",
    ] {
        assert_eq!(server.status(&format!("POST {path}")).await, 404, "{path}");
    }
    assert_eq!(server.status("GET /admin/ping").await, 404);
    assert_eq!(server.status("GET /files/x").await, 200);

    let blacklist: Vec<admin::PathMatcher> = vec![Arc::new(|path: &str| path == "/admin/shutdown")];
    let server = start(pages(), Security { blacklist, ..Security::default() }).await;
    assert_eq!(server.status("POST //admin/shutdown").await, 404);
    assert_eq!(server.status("GET /admin/ping").await, 200);
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused() {
    let server = start(pages(), Security::default()).await;
    let with_host = |host: &str| format!("GET /admin/ping HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    for (host, want) in
        [("evil.example:9990", 403), ("127.0.0.1:9990", 200), ("[::1]", 200), ("ADMIN.test:1", 200), ("a@b", 400)]
    {
        let answer = server.raw(with_host(host).as_bytes()).await;
        assert_eq!(status(&answer), want, "{host}: {answer}");
        assert_eq!(want == 403, answer.contains("use an IP address or localhost"), "{answer}");
    }
    assert_eq!(status(&server.raw(b"GET /admin/ping HTTP/1.1\r\nconnection: close\r\n\r\n").await), 400);
    assert_eq!(status(&server.raw(b"GET /admin/ping HTTP/1.0\r\n\r\n").await), 200);
    let evil = server.request("POST /admin/shutdown", "origin: http://evil.example\r\n", "").await;
    assert_eq!(status(&evil), 403);
    let own = server.request("POST /admin/shutdown", "origin: http://localhost\r\n", "").await;
    assert_eq!(status(&own), 200);
}

#[tokio::test]
async fn large_bodies_are_refused() {
    let server = start(pages(), Security::default()).await;
    let head = "POST /logging.json HTTP/1.1\r\nhost: localhost\r\n";
    let announced = format!("{head}content-length: {}\r\n\r\nabc", MAX_BODY + 1);
    assert_eq!(status(&server.raw(announced.as_bytes()).await), 413);
    let mut chunked = format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n", MAX_BODY + 1).into_bytes();
    chunked.resize(chunked.len() + MAX_BODY + 1, b'a');
    assert_eq!(status(&server.raw(&chunked).await), 413);
    let fits = server.request("POST /logging.json", "", &"a".repeat(MAX_BODY)).await;
    assert_eq!(body(&fits), format!("None {MAX_BODY}"));
}

#[tokio::test]
async fn garbage_does_no_harm() {
    let server = start(pages(), Security::default()).await;
    let long = [b"GET / HTTP/1.1\r\nx: ".as_slice(), &[b'a'; 200_000]].concat();
    for bytes in [
        b"\x00\xff\xfe garbage \r\n\r\n".as_slice(),
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT localhost:1 HTTP/1.1\r\nhost: localhost:1\r\nconnection: close\r\n\r\n",
        b"POST /logging.json HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        &long,
    ] {
        let answer = server.raw(bytes).await;
        assert!(answer.is_empty() || status(&answer) >= 400, "{answer}");
    }
    assert_eq!(server.status("GET /admin/ping").await, 200);
}

#[tokio::test]
async fn a_panicking_page_is_500_and_nothing_else_happens() {
    let server = start(pages(), Security::default()).await;
    assert_eq!(server.status("GET /panic").await, 500);
    assert_eq!(server.status("GET /panic-now").await, 500);
    assert_eq!(server.status("GET /admin/ping").await, 200);
}

#[tokio::test]
async fn shutdown_lets_answers_finish_and_closes_idle_connections() {
    let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (enter, go) = (entered.clone(), leave.clone());
    let pages = pages().page("/slow", "", move |_| {
        let (enter, go) = (enter.clone(), go.clone());
        async move {
            enter.notify_one();
            go.notified().await;
            Response::text("late")
        }
    });
    let mut server = start(pages, Security::default()).await;
    let mut idle = TcpStream::connect(server.addr).await.unwrap();
    idle.write_all(b"GET /admin/ping HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    let mut slow = TcpStream::connect(server.addr).await.unwrap();
    slow.write_all(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    entered.notified().await;
    server.stop.take().unwrap().send(()).unwrap();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(!server.done.is_finished());
    leave.notify_one();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert_eq!(body(&answer), "late");
    server.done.await.unwrap();
    assert!(TcpStream::connect(server.addr).await.is_err());
}

#[tokio::test]
async fn a_page_ends_when_its_client_goes_away() {
    struct Flag(Arc<AtomicBool>, Arc<Notify>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
            self.1.notify_one();
        }
    }
    let (ended, entered, gone) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (flag, enter, left) = (ended.clone(), entered.clone(), gone.clone());
    let pages = Pages::new().page("/forever", "", move |_| {
        let guard = Flag(flag.clone(), left.clone());
        enter.notify_one();
        async move {
            std::future::pending::<()>().await;
            drop(guard);
            Response::not_found()
        }
    });
    let server = start(pages, Security::default()).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(b"GET /forever HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    entered.notified().await;
    drop(stream);
    tokio::time::timeout(Duration::from_secs(60), gone.notified()).await.unwrap();
    assert!(ended.load(Ordering::SeqCst));
}

#[tokio::test]
async fn no_more_connections_than_allowed_and_waiting_ones_are_served_later() {
    let server = start(pages(), Security::default()).await;
    let mut held = Vec::new();
    for _ in 0..admin::MAX_CONNECTIONS {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(b"GET /admin/ping HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        held.push(stream);
    }
    let mut waiting = Box::pin(server.request("GET /admin/ping", "", ""));
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut waiting).await.is_err());
    held.pop();
    assert_eq!(status(&waiting.await), 200);
}

/// The clock is paused: it jumps to the next timer whenever nothing else can happen.
#[tokio::test(start_paused = true)]
async fn slow_clients_are_cut_off() {
    let server = start(pages(), Security::default()).await;
    let begin = tokio::time::Instant::now();
    for bytes in ["", "GET /admin/ping HTTP/1.1\r\nhost: loc"] {
        let answer = server.patient(bytes).await;
        assert!(answer.is_empty() || status(&answer) == 408, "{answer}");
    }
    let idle = server.patient("GET /admin/ping HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(status(&idle), 200);
    let body = "POST /logging.json HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nabc";
    assert_eq!(status(&server.patient(body).await), 408);
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
}

/// A page that never answers holds its connection for two minutes at most.
#[tokio::test(start_paused = true)]
async fn a_connection_does_not_live_forever() {
    let server = start(Pages::new().page("/", "", |_| std::future::pending()), Security::default()).await;
    let begin = tokio::time::Instant::now();
    assert_eq!(server.patient("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await, "");
    assert!(begin.elapsed() <= Duration::from_secs(121), "{:?}", begin.elapsed());
}
