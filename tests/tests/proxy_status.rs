//! `Proxy-Status` beside `l5d-err` (RFC 9209), what untrusted callers learn (P6.2, attack X9), and the limits of
//! messages, each with its status and its name (requirements P8).

#![allow(clippy::panic, reason = "a story that cannot go on has failed")]

use e2e::{Backend, Client, FS_CONFIG, Reply, Response, Switchyard, eventually, free_ports, get, holds_for, try_get};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn start(server: &str, more: &str) -> Switchyard {
    let config = FS_CONFIG.replace("{ port: @P0@ }", &format!("{{ port: @P0@{server} }}"));
    Switchyard::start(&format!("{}\n{more}\n", config.trim_end()))
}

fn ask(router: &Switchyard, request: &str) -> Response {
    let mut client = Client::connect(router.addr(0));
    client.send_raw(request.as_bytes());
    client.read_response(false).unwrap_or_else(|error| panic!("no answer to {request:?}: {error}"))
}

/// A service that reads a request's head, answers with these bytes, and closes.
fn says(bytes: impl Into<Vec<u8>>) -> Backend {
    let bytes = bytes.into();
    Backend::raw(move |mut socket| {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match socket.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        let _ = socket.write_all(&bytes);
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let _ = socket.read_to_end(&mut Vec::new());
    })
}

/// The status, the error type and the details of an answer.
fn status_of(response: &Response) -> (u16, String, Option<String>) {
    let value = response.header("proxy-status").unwrap_or_else(|| panic!("no proxy-status: {response:?}"));
    let rest = value.strip_prefix("switchyard; error=").unwrap_or_else(|| panic!("{value}"));
    let (error, details) =
        rest.split_once("; details=").map_or((rest, None), |(error, details)| (error, Some(details)));
    (response.status, error.to_owned(), details.map(str::to_owned))
}

/// The answer for a service that breaks off after its head. When the end comes later than the head, the head is on its
/// way to the client already: then it is asked again.
fn incomplete(router: &Switchyard, name: &str) -> Response {
    let limit = Duration::from_secs(30);
    eventually("the end comes with the head", limit, || try_get(router.addr(0), name).ok())
}

fn cases(router: &Switchyard) -> Vec<(Response, u16, &'static str)> {
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, free_ports(1)[0]));
    router.disco().set("gone", &[nobody]);
    router.disco().set("hollow", &[]);
    let host = |name: &str| get(router.addr(0), name);
    vec![
        (host("nope"), 502, "destination_not_found"),
        (host("hollow"), 502, "destination_unavailable"),
        (host("gone"), 502, "connection_refused"),
        (host("closes"), 502, "connection_terminated"),
        (host("babbles"), 502, "http_protocol_error"),
        (incomplete(router, "breaks"), 502, "http_response_incomplete"),
        (host("sleeps"), 503, "http_response_timeout"),
        (host("loop"), 508, "proxy_loop_detected"),
        (ask(router, "GET / HTTP/1.1\r\nHost:\r\n\r\n"), 400, "destination_not_found"),
        (ask(router, "GET / HTTP/1.1\r\n\r\n"), 400, "http_request_error"),
        (ask(router, "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"), 405, "http_request_denied"),
        (ask(router, "GET / HTTP/1.1\r\nHost: a\r\nVia: a, b, c\r\n\r\n"), 400, "proxy_loop_detected"),
        (ask(router, "GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n"), 417, "http_request_error"),
        (ask(router, &format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(5000))), 414, "http_request_error"),
        (
            ask(router, &format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(9000))),
            431,
            "http_request_error",
        ),
    ]
}

fn peers(router: &Switchyard) -> Vec<Backend> {
    let sleeps = Backend::with(|_| Reply::text("late").after(Duration::from_secs(30)));
    let peers = [
        ("closes", says("")),
        ("babbles", says("HELLO\r\n\r\n")),
        ("breaks", says("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")),
        ("sleeps", sleeps),
    ];
    peers.into_iter().map(|(name, peer)| (router.disco().set(name, &[peer.addr()]), peer).1).collect()
}

const MORE: &str = "    /svc/loop => /$/inet/127.1/@P0@ ;\n  client: { requestAttemptTimeoutMs: 300 }";

#[test]
fn every_error_has_its_registered_type() {
    let router = start(", maxCallDepth: 2", MORE);
    let _peers = peers(&router);
    for (response, status, error) in cases(&router) {
        let (found_status, found, details) = status_of(&response);
        assert_eq!((found_status, found.as_str()), (status, error), "{}", response.text());
        let first = response.text().lines().next().unwrap_or_default().to_owned();
        let details = details.unwrap_or_else(|| panic!("no details: {response:?}"));
        let start: String = first.chars().take(20).map(|c| if matches!(c, '<' | '>') { '?' } else { c }).collect();
        assert!(details.starts_with(&format!("\"{}", start.replace('"', "\\\""))), "{details} of {first}");
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
        assert!(response.header("l5d-err").is_some());
    }
    assert_eq!(get(router.addr(0), "hollow").header("content-type"), Some("text/plain"));
}

/// P6.2: a code and an id, whatever went wrong; the same status and type.
#[test]
fn p6_2_strangers_learn_a_code_and_an_id() {
    let router = start(", maxCallDepth: 2, clearContext: true", MORE);
    let _peers = peers(&router);
    for (response, status, error) in cases(&router) {
        assert_eq!(status_of(&response), (status, error.to_owned(), None));
        let text = response.text();
        let (code, id) = text.split_once(" (request id ").unwrap_or_else(|| panic!("{text}"));
        assert!(!code.is_empty() && code.bytes().all(|byte| byte == b'-' || byte.is_ascii_lowercase()), "{code}");
        assert_eq!(id.len(), "0123456789abcdef)\n".len(), "{id}");
        assert!(response.headers.iter().all(|(name, _)| !name.starts_with("l5d-")), "{response:?}");
        assert_eq!(response.header("content-type"), Some("text/plain"));
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    }
}

/// What a router further in says of its error is told to those who may know only.
#[test]
fn statuses_of_the_next_hop() {
    let back = "- { protocol: http, label: back, servers: [{ port: @P1@ }], dtab: '/svc => /#/io.l5d.fs ;' }";
    let chained = |server: &str| {
        let yaml = FS_CONFIG.replace("{ port: @P0@ }", &format!("{{ port: @P0@{server} }}"));
        let yaml = yaml.replace("/svc => /#/io.l5d.fs", "/svc => /$/inet/127.1/@P1@");
        Switchyard::start(&format!("{yaml}{back}\n"))
    };
    let (_, error, details) = status_of(&get(chained("").addr(0), "nope"));
    assert_eq!((error.as_str(), details.is_some()), ("destination_not_found", true));
    let hidden = get(chained(", clearContext: true").addr(0), "nope");
    assert_eq!((hidden.status, hidden.header("proxy-status"), hidden.body.len()), (502, None, 0));
}

/// §8.3: above `maxConcurrentRequests` the answer is a nack, with a body but for HEAD.
#[test]
fn nacks_of_an_overloaded_listener() {
    let router = start(", maxConcurrentRequests: 1", "");
    let gate = Arc::new(AtomicBool::new(false));
    let open = gate.clone();
    let web = Backend::with(move |_| {
        eventually("the gate opens", Duration::from_secs(120), || open.load(Ordering::SeqCst).then_some(()));
        Reply::text("done")
    });
    router.disco().set("web", &[web.addr()]);
    let mut first = Client::connect(router.addr(0));
    first.send_raw(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n");
    router.await_metric(&format!("rt/http/server/127.0.0.1/{}/request_concurrency", router.port(0)), 1.0);
    let mut client = Client::connect(router.addr(0));
    let text = "Request was not processed by the server due to an error and is safe to retry";
    for (method, body) in [("GET", text), ("HEAD", "")] {
        let response = client.request(method, "web", "/", &[], b"");
        assert_eq!((response.status, response.text().as_str()), (503, body), "{method}");
        assert_eq!(response.header("finagle-http-nack"), Some("true"));
        assert_eq!((response.header("retry-after"), response.header("l5d-err")), (Some("0"), None));
        assert_eq!(response.header("content-length"), Some(text.len().to_string().as_str()));
        assert_eq!(status_of(&response).1, "proxy_internal_response");
    }
    gate.store(true, Ordering::SeqCst);
    assert_eq!(first.read_response(false).expect("the first is answered").text(), "done");
    router.await_metric(&format!("rt/http/server/127.0.0.1/{}/nacks", router.port(0)), 2.0);
}

fn rejected(router: &Switchyard, reason: &str) -> Option<String> {
    let page = router.page("/admin/metrics/prometheus").text();
    let start = format!("rejected_total{{reason=\"{reason}\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&start)).map(str::to_owned)
}

/// P8.3: a request body above the limit is 413, before anything is sent when its length is known; a service that says
/// too much is 502.
#[test]
fn p8_3_bodies_have_limits() {
    let router = start("", "  maxRequestBodyKB: 16\n  maxResponseBodyKB: 16");
    let web = Backend::with(|request| match request.target.as_str() {
        "/large" => Reply::text("x".repeat(17 * 1024)),
        "/chunks" => Reply::text("x".repeat(17 * 1024)).chunked(),
        "/fits" => Reply::text("x".repeat(16 * 1024)).chunked(),
        _ => Reply::text(request.body.len().to_string()),
    });
    router.disco().set("web", &[web.addr()]);
    let mut client = Client::connect(router.addr(0));
    assert_eq!(client.request("POST", "web", "/", &[], &[b'x'; 16 * 1024]).text(), "16384");
    let seen = web.bytes_seen().len();
    let response = client.request("POST", "web", "/", &[], &[b'x'; 16 * 1024 + 1]);
    assert_eq!((response.status, response.header("connection")), (413, Some("close")));
    assert!(response.text().contains("maxRequestBodyKB"), "{}", response.text());
    let shortly = Duration::from_millis(200);
    holds_for("nothing is sent on", shortly, || (web.bytes_seen().len(), web.count()) == (seen, 1));
    let chunks = format!("{}0\r\n\r\n", format!("400\r\n{}\r\n", "x".repeat(1024)).repeat(17));
    let chunked = |client: &mut Client| {
        client.send_raw(b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n");
        let _ = client.try_send_raw(chunks.as_bytes());
        client.read_response(false).expect("an answer")
    };
    let mut client = Client::connect(router.addr(0));
    assert_eq!(chunked(&mut client).status, 413);
    assert!(client.closed_by_peer());
    assert_eq!((rejected(&router, "body-too-large").as_deref(), web.count()), (Some("2"), 1));
    let mut client = Client::connect(router.addr(0));
    assert_eq!(client.get("web", "/fits").body.len(), 16 * 1024);
    let response = client.get("web", "/large");
    assert_eq!(status_of(&response).1, "http_response_body_size");
    assert!(response.text().contains("maxResponseBodyKB"), "{}", response.text());
    assert_eq!(client.request("HEAD", "web", "/large", &[], b"").status, 200, "an announcement is no body");
    assert!(client.try_get("web", "/chunks").is_err(), "what was cut must not look whole");
    assert_eq!(rejected(&router, "response-body-too-large").as_deref(), Some("2"));
    assert_eq!(get(router.addr(0), "web").text(), "0", "the service is as it was");
}

/// P8.5: headers and trailers of 12, 20, 64 and 128 kB pass both ways when the limits allow it, and not above.
#[test]
fn p8_5_large_heads_and_trailers() {
    let limits = "  maxHeadersKB: 130\n  maxTrailersKB: 130";
    let router = start("", limits);
    let web = Backend::with(|request| {
        let trailer = request.trailers.first().map_or(0, |(_, value)| value.len());
        let header = request.header("x-large").map_or(0, str::len);
        let answer = Reply::text(format!("{header} {trailer}")).header("x-large", &"h".repeat(header));
        Reply { chunked: Some(vec![("x-trailer".to_owned(), "t".repeat(trailer))]), ..answer }
    });
    router.disco().set("web", &[web.addr()]);
    let send = |router: &Switchyard, header: usize, trailer: usize| {
        let (header, trailer) = ("h".repeat(header), "t".repeat(trailer));
        let mut client = Client::connect(router.addr(0));
        let head = format!("POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\nX-Large: {header}\r\n\r\n");
        let body = format!("1\r\nx\r\n0\r\nX-Trailer: {trailer}\r\n\r\n");
        client.send_raw(head.as_bytes());
        let _ = client.try_send_raw(body.as_bytes());
        client.read_response(false)
    };
    for kb in [12, 20, 64, 128] {
        let response = send(&router, kb * 1024, kb * 1024).expect("an answer");
        assert_eq!((response.status, response.text()), (200, format!("{0} {0}", kb * 1024)));
        assert_eq!(response.header("x-large").map(str::len), Some(kb * 1024));
        assert_eq!(response.trailers.first().map(|(_, value)| value.len()), Some(kb * 1024), "{kb} kB");
    }
    let response = send(&router, 10, 131 * 1024).expect("an answer");
    assert_eq!((response.status, response.text().contains("maxTrailersKB")), (431, true), "{}", response.text());
    assert_eq!(rejected(&router, "trailers-too-large").as_deref(), Some("1"));
}

/// P8.2, P8.3: the side of the services has limits of its own; the log and the metric name them.
#[test]
fn p8_3_limits_of_responses() {
    let router =
        start("", "  maxHeadersKB: 64\n  maxTrailersKB: 64\n  maxResponseHeadersKB: 2\n  maxResponseTrailersKB: 1");
    let web = Backend::with(|request| match request.target.as_str() {
        "/head" => Reply::text("x").header("x-large", &"h".repeat(3000)),
        "/line" => Reply::text("x"),
        _ => Reply { chunked: Some(vec![("x-trailer".to_owned(), "t".repeat(2000))]), ..Reply::text("x") },
    });
    let line = says(format!("HTTP/1.1 200 {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(5000)));
    router.disco().set("web", &[web.addr()]);
    router.disco().set("line", &[line.addr()]);
    let mut client = Client::connect(router.addr(0));
    let response = client.get("web", "/head");
    assert_eq!(status_of(&response).1, "http_response_header_section_size");
    assert!(response.text().contains("maxResponseHeadersKB is 2"), "{}", response.text());
    let response = client.get("line", "/");
    assert!(response.text().contains("maxResponseLineKB is 4"), "{}", response.text());
    assert!(client.try_get("web", "/trailers").is_err(), "what was cut must not look whole");
    for reason in ["response-headers-too-large", "response-line-too-long", "response-trailers-too-large"] {
        assert_eq!(rejected(&router, reason).as_deref(), Some("1"), "{reason}");
    }
    assert!(router.log().contains("maxResponseTrailersKB"), "the log names the limit");
}

/// A response that breaks off with its head is an error of ours, not half an answer; a classifier may retry it.
#[test]
fn a_response_that_breaks_with_its_head() {
    let broken = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
    let (dies, chunks) = (says(broken), says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"));
    let router = start("", "");
    router.disco().set("dies", &[dies.addr()]);
    router.disco().set("chunks", &[chunks.addr()]);
    let mut client = Client::connect(router.addr(0));
    assert_eq!(status_of(&incomplete(&router, "dies")).1, "http_response_incomplete");
    assert_eq!(status_of(&client.get("chunks", "/")).1, "http_protocol_error");
    assert_eq!(chunks.connections(), 1, "it may have been acted on: not sent again");
    let retried = start("", "  service: { responseClassifier: { kind: io.l5d.http.retryableRead5XX } }");
    let whole = Backend::text("whole");
    retried.disco().set("web", &[chunks.addr(), whole.addr()]);
    for _ in 0..10 {
        assert_eq!(get(retried.addr(0), "web").text(), "whole");
    }
}
