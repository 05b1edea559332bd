//! The HTTP client against servers that misbehave.

use super::*;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn ask(method: Method, limit: Duration) -> Ask {
    let kind = if method == Method::GET { Kind::Read } else { Kind::Write };
    Ask { kind, method, target: "/x".to_owned(), headers: Vec::new(), body: Bytes::from_static(b"body"), limit }
}

fn get() -> Ask {
    ask(Method::GET, Duration::from_secs(20))
}

fn put() -> Ask {
    ask(Method::PUT, Duration::from_secs(20))
}

/// A server whose n-th connection is answered with the n-th script: one response per request, then the end.
async fn server(scripts: &'static [&'static [&'static str]]) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    tokio::spawn(async move {
        for script in scripts {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut bytes = vec![0; 4096];
            for response in *script {
                if !matches!(socket.read(&mut bytes).await, Ok(1..)) {
                    break;
                }
                counted.fetch_add(1, Ordering::Relaxed);
                socket.write_all(response.as_bytes()).await.expect("write");
            }
        }
    });
    (port, requests)
}

fn client(port: u16) -> HttpClient {
    HttpClient::new(vec![Endpoint::plain("127.0.0.1", port)], false)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn connections_are_kept() {
    let (port, requests) = server(&[&[OK, OK, OK]]).await;
    let client = client(port);
    for _ in 0..3 {
        assert_eq!(client.ask(put()).await.expect("an answer").body, "ok");
    }
    assert_eq!(requests.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_closed_idle_connection_costs_nothing() {
    let (port, requests) = server(&[&[OK], &[OK], &[OK]]).await;
    let client = client(port);
    for _ in 0..3 {
        assert_eq!(client.ask(put()).await.expect("an answer").body, "ok");
        // The server closes now; the client may or may not have noticed when it sends again.
        tokio::task::yield_now().await;
    }
    assert_eq!(requests.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn what_may_have_been_done_is_not_repeated() {
    // The second request of the first connection is read, and not answered.
    let (port, requests) = server(&[&[OK, ""], &[OK, ""], &[OK]]).await;
    let client = client(port);
    client.ask(put()).await.expect("an answer");
    let broken = client.ask(put()).await.expect_err("no answer");
    assert!(broken.contains("the connection broke"), "{broken}");
    assert_eq!(requests.load(Ordering::Relaxed), 2);
    client.ask(get()).await.expect("an answer");
    client.ask(get()).await.expect("a read is repeated on a new connection");
    assert_eq!(requests.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn bad_answers_are_errors() {
    let cases: &'static [&'static [&'static str]] = &[
        &["this is no HTTP\r\n\r\n"],
        &["HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"],
        &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
        &["HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\nx"],
        &[""],
    ];
    let (port, _) = server(cases).await;
    for case in cases {
        assert!(client(port).ask(put()).await.is_err(), "{case:?}");
    }
}

#[tokio::test]
async fn a_body_without_end_is_cut_off() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("write");
        while socket.write_all(&[b'x'; 65536]).await.is_ok() {}
    });
    let error = client(port).ask(get()).await.expect_err("too much");
    assert!(error.contains("broke off"), "{error}");
}

#[tokio::test]
async fn silence_ends_in_time() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let error = client(port).ask(ask(Method::GET, Duration::from_millis(50))).await.expect_err("no answer");
    assert!(error.contains("no answer within 50ms"), "{error}");
}

#[tokio::test]
async fn a_server_in_trouble_gives_way_to_the_next() {
    let (sick, _) = server(&[&["HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n"]]).await;
    let (well, _) = server(&[&[OK]]).await;
    let endpoints = vec![Endpoint::plain("127.0.0.1", sick), Endpoint::plain("localhost", well)];
    let client = HttpClient::new(endpoints, false);
    assert_eq!(client.ask(get()).await.expect("an answer").status, 503);
    assert_eq!(client.ask(get()).await.expect("an answer").body, "ok");
}

#[tokio::test]
async fn a_frozen_server_gives_way_to_the_next() {
    // The system accepts connections for it, and nobody reads them.
    let frozen = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let silent = frozen.local_addr().expect("an address").port();
    let endpoints = |well| vec![Endpoint::plain("127.0.0.1", silent), Endpoint::plain("localhost", well)];
    let limit = Duration::from_secs(4);

    let (well, _) = server(&[&[OK, OK]]).await;
    let client = HttpClient::new(endpoints(well), false);
    assert_eq!(client.ask(ask(Method::GET, limit)).await.expect("the second is asked").body, "ok");
    assert_eq!(client.ask(ask(Method::PUT, limit)).await.expect("it comes first now").body, "ok");

    let (well, requests) = server(&[&[OK]]).await;
    let client = HttpClient::new(endpoints(well), false);
    let error = client.ask(ask(Method::PUT, Duration::from_millis(50))).await.expect_err("no answer");
    assert!(error.contains("no answer within 50ms"), "{error}");
    assert_eq!(requests.load(Ordering::Relaxed), 0, "a write is not sent twice");
    assert_eq!(client.open(put()).await.expect("the other endpoint").status, 200);

    let (well, _) = server(&[&[OK]]).await;
    let client = HttpClient::new(endpoints(well), false);
    assert_eq!(client.open(ask(Method::GET, limit)).await.expect("the second is asked").status, 200);
}

#[tokio::test]
async fn requests_to_one_server_are_bounded() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let client = Arc::new(client(listener.local_addr().expect("an address").port()));
    let asked: Vec<_> = (0..MAX_AT_ONCE + 1)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.ask(put()).await })
        })
        .collect();
    let mut sockets = Vec::new();
    for _ in 0..MAX_AT_ONCE {
        sockets.push(listener.accept().await.expect("a connection").0);
    }
    assert_eq!(client.room.first().map(Semaphore::available_permits), Some(0));
    drop(sockets.pop());
    listener.accept().await.expect("the last has its turn");
    asked.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn tls_is_what_the_endpoint_says() {
    let (port, _) = server(&[&[OK], &[OK]]).await;
    let secured = Arc::new(AtomicUsize::new(0));
    let counted = secured.clone();
    let secure: Secure = Arc::new(move |socket| {
        let first = counted.fetch_add(1, Ordering::Relaxed) == 0;
        Box::pin(async move {
            match first {
                true => Err(io::Error::other("the certificate is for another name")),
                false => Ok(Box::new(socket) as Box<dyn Io>),
            }
        })
    });
    let endpoint = Endpoint { secure: Some(secure), ..Endpoint::plain("127.0.0.1", port) };
    assert!(format!("{endpoint:?}").contains("TLS"));
    let client = HttpClient::new(vec![endpoint], false);
    let refused = client.ask(get()).await.expect_err("another name");
    assert!(refused.contains("another name") && refused.contains(&port.to_string()), "{refused}");
    assert_eq!(client.ask(get()).await.expect("an answer over TLS").body, "ok");
    assert_eq!(secured.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn lines_come_one_by_one() {
    let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na\nb\r\n5\r\nc\n\ndd\r\n0\r\n\r\n";
    let script: &'static [&'static str] = Box::leak(Box::new([response]));
    let (port, _) = server(Box::leak(Box::new([script]))).await;
    let mut stream = client(port).open(get()).await.expect("a stream");
    for line in ["a", "bc", ""] {
        assert_eq!(stream.line().await, Ok(Some(line.as_bytes().to_vec())));
    }
    assert_eq!(stream.line().await, Ok(None), "what has no end is no line");
}

#[test]
fn names_are_encoded() {
    let cases =
        [("a-b_c.d~9", "a-b_c.d~9"), ("a/b", "a%2Fb"), ("x?dc=o&k#f", "x%3Fdc%3Do%26k%23f"), ("ü \n", "%C3%BC%20%0A")];
    for (text, encoded) in cases {
        assert_eq!(encode(text), encoded);
    }
    assert_eq!(encode_path("/a b/c"), "/a%20b/c");
    assert_eq!(Endpoint::plain("::1", 80).to_string(), "[::1]:80");
}
