//! As an operator, I see how many bytes go through each listener and to each service, how large bodies are, and what
//! becomes of streams (telemetry reference §4.1, §4.3).

use e2e::{Backend, Client, FS_CONFIG, Reply, Switchyard, eventually};
use std::io::{Read, Write};
use std::time::Duration;

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);
const CLIENT: &str = "rt/http/client/#/io.l5d.fs/web";

fn start(web: &Backend) -> (Switchyard, String) {
    let switchyard = Switchyard::start(FS_CONFIG);
    switchyard.disco().set("web", &[web.addr()]);
    let server = format!("rt/http/server/127.0.0.1/{}", switchyard.port(0));
    (switchyard, server)
}

/// What the router answers to these bytes, as it stands on the wire, until it closes.
fn raw(switchyard: &Switchyard, request: &str) -> Vec<u8> {
    let mut client = Client::connect(switchyard.addr(0));
    client.send_raw(request.as_bytes());
    let mut answer = Vec::new();
    client.socket().read_to_end(&mut answer).expect("it is closed in order");
    answer
}

#[test]
fn bytes_are_those_on_the_wire() {
    let web = Backend::with(|_| Reply::text("hello").close());
    let (switchyard, server) = start(&web);
    let request = "POST / HTTP/1.1\r\nHost: web\r\nConnection: close\r\nContent-Length: 4\r\n\r\n1234";
    let answer = raw(&switchyard, request);
    let (asked, answered) = (request.len() as f64, answer.len() as f64);
    // The connection ends for the router once it has seen the client's close.
    for (name, wanted) in [
        ("received_bytes", asked),
        ("sent_bytes", answered),
        ("connection_received_bytes.sum", asked),
        ("connection_sent_bytes.sum", answered),
        ("connection_requests.sum", 1.0),
        ("connection_duration.count", 1.0),
        ("request_payload_bytes.sum", 4.0),
        ("response_payload_bytes.sum", 5.0),
    ] {
        switchyard.await_metric(&format!("{server}/{name}"), wanted);
    }
    let sent = web.bytes_seen().len() as f64;
    let received = "HTTP/1.1 200 Scripted\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello".len() as f64;
    for (name, wanted) in [
        ("sent_bytes", sent),
        ("received_bytes", received),
        ("connection_sent_bytes.sum", sent),
        ("connection_received_bytes.sum", received),
        ("connection_requests.sum", 1.0),
        ("connection_duration.count", 1.0),
        ("request_payload_bytes.sum", 4.0),
        ("response_payload_bytes.sum", 5.0),
    ] {
        switchyard.await_metric(&format!("{CLIENT}/{name}"), wanted);
    }
    assert_eq!(switchyard.metric(&format!("{server}/http/stream/response/opened")), None, "nothing was streamed");
}

#[test]
fn a_connection_counts_its_requests() {
    let web = Backend::text("hello");
    let (switchyard, server) = start(&web);
    let mut client = Client::connect(switchyard.addr(0));
    (0..3).for_each(|_| assert_eq!(client.get("web", "/").status, 200));
    assert_eq!(switchyard.metric(&format!("{server}/connection_requests.count")), Some(0.0), "it is still open");
    assert!(switchyard.metric(&format!("{server}/sent_bytes")) > Some(0.0), "and its bytes are there");
    drop(client);
    switchyard.await_metric(&format!("{server}/connection_requests.max"), 3.0);
    switchyard.await_metric(&format!("{server}/response_payload_bytes.count"), 3.0);
}

#[test]
fn streams_are_counted_while_they_last() {
    let web = Backend::raw(|mut socket| {
        let mut byte = [0; 1];
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && socket.read_exact(&mut byte).is_ok() {
            head.extend_from_slice(&byte);
        }
        let _ =
            socket.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n");
        // Goes on when the client says so, and then ends or breaks off.
        while socket.read_exact(&mut byte).is_ok() && !b"yn".contains(&byte[0]) {}
        if byte == *b"y" {
            let _ = socket.write_all(b"0\r\n\r\n");
            let _ = socket.read_to_end(&mut head);
        }
    });
    let (switchyard, server) = start(&web);
    for (n, end) in [(1.0, "y"), (2.0, "n")] {
        let mut client = Client::connect(switchyard.addr(0));
        client.send_raw(b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n");
        for scope in [&server, CLIENT] {
            for side in ["request", "response"] {
                switchyard.await_metric(&format!("{scope}/http/stream/{side}/opened"), n);
                switchyard.await_metric(&format!("{scope}/http/stream/{side}/pending"), 1.0);
            }
        }
        client.send_raw(format!("1\r\n{end}\r\n0\r\n\r\n").as_bytes());
        let _ = client.read_response(false);
        for scope in [&server, CLIENT] {
            switchyard.await_metric(&format!("{scope}/http/stream/response/pending"), 0.0);
            switchyard.await_metric(&format!("{scope}/http/stream/response/duration_ms.count"), n);
            switchyard.await_metric(&format!("{scope}/http/stream/response/failures"), n - 1.0);
            switchyard.await_metric(&format!("{scope}/http/stream/response/closed"), n);
        }
    }
}

/// The counters move while a long download goes on.
#[test]
fn bytes_are_counted_as_they_go() {
    let web = Backend::with(|_| Reply::text("x".repeat(50 << 20)));
    let (switchyard, server) = start(&web);
    let mut client = Client::connect(switchyard.addr(0));
    client.send_raw(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n");
    eventually("bytes move", SOON, || {
        (switchyard.metric(&format!("{server}/sent_bytes")) > Some(100_000.0)).then_some(())
    });
    assert_eq!(switchyard.metric(&format!("{server}/http/stream/response/pending")), Some(1.0));
    drop(client);
    switchyard.await_metric(&format!("{server}/http/stream/response/failures"), 1.0);
}
