//! What a client is told when the router itself answers: status, text, headers (data-plane reference §7, §8.1 to §8.3).
//!
//! The texts are what people and dashboards of Linkerd 1 know: shapes are asserted to the letter where the reference
//! gives them. Not for: which requests are refused for their framing (see `framing`).

#![allow(clippy::panic, reason = "a story that cannot go on has failed")]

use e2e::{Backend, Client, FS_CONFIG, Reply, Response, Switchyard, eventually, free_ports, get};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);

/// `FS_CONFIG` with more lines for its router, each indented by two.
fn config(router_lines: &str) -> String {
    format!("{}\n{router_lines}\n", FS_CONFIG.trim_end())
}

/// `FS_CONFIG` with more in its server, and with more lines.
fn server_config(server: &str, router_lines: &str) -> String {
    config(router_lines).replace("{ port: @P0@ }", &format!("{{ port: @P0@, {server} }}"))
}

/// The text that a form-encoded header value stands for.
fn decoded(value: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), value.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap_or(0), rest.next().unwrap_or(0)];
                let digits = std::str::from_utf8(&digits).expect("hexadecimal digits");
                u8::from_str_radix(digits, 16).expect("hexadecimal digits")
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).expect("text")
}

/// The text of an error the router made: in the body, and the same in `l5d-err`.
fn told(response: &Response, status: u16) -> String {
    assert_eq!(response.status, status, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("text/plain"));
    let encoded = response.header("l5d-err").unwrap_or_else(|| panic!("no l5d-err: {response:?}"));
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"+%.-*_".contains(&byte);
    assert!(encoded.bytes().all(legal), "not form-encoded: {encoded}");
    assert_eq!(decoded(encoded), response.text(), "header and body tell the same");
    response.text()
}

/// Asserts that these lines are in the text, in this order.
fn has_lines(text: &str, wanted: &[&str]) {
    let mut lines = text.lines();
    for line in wanted {
        assert!(lines.any(|found| found == *line), "no line {line:?} (in this order) in:\n{text}");
    }
}

fn ask(router: &Switchyard, request: &str) -> Response {
    let mut client = Client::connect(router.addr(0));
    client.send_raw(request.as_bytes());
    client.read_response(false).unwrap_or_else(|error| panic!("no answer to {request:?}: {error}"))
}

fn nobody() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_ports(1)[0]))
}

#[test]
fn unknown_destination() {
    let router = Switchyard::start(FS_CONFIG);
    for request in ["GET /x?y=z HTTP/1.0\r\n\r\n", "GET /x?y=z HTTP/1.1\r\nHost:\r\n\r\n"] {
        let mut client = Client::connect(router.addr(0));
        let from = client.socket().local_addr().expect("an address");
        client.send_raw(request.as_bytes());
        let text = told(&client.read_response(false).expect("an answer"), 400);
        let wanted = format!("Unknown destination: Request(\"GET /x?y=z\", from /{from}) / Host header is absent");
        assert_eq!(text, wanted);
    }
}

#[test]
fn bad_overrides() {
    let router = Switchyard::start(FS_CONFIG);
    let cases = [
        ("l5d-dtab: a=>b\r\n", "'/' expected but 'a' found at '[a]=>b'"),
        ("l5d-ctx-dtab: /a\r\nl5d-dtab: x\r\n", "'=' expected but end of input found at '/a[]'"),
        ("l5d-dtab: /a=>/b\r\nl5d-dtab: /c\r\n", "'=' expected but end of input found at '/c[]'"),
    ];
    for (headers, wanted) in cases {
        let response = ask(&router, &format!("GET / HTTP/1.1\r\nHost: web\r\n{headers}\r\n"));
        assert_eq!(told(&response, 400), wanted);
    }
}

#[test]
fn call_depth() {
    let web = Backend::text("web");
    let router = Switchyard::start(&server_config("maxCallDepth: 2", ""));
    router.disco().set("web", &[web.addr()]);
    let via = |hops: &str| ask(&router, &format!("GET / HTTP/1.1\r\nHost: web\r\nVia: {hops}\r\n\r\n"));
    assert_eq!(via("1.1 linkerd, 1.1 linkerd").status, 200);
    let text = told(&via("1.1 linkerd, 1.1 linkerd, 1.1 linkerd"), 400);
    assert_eq!(text, "Maximum number of calls (2) has been exceeded. Please check for proxy loops.");
    assert_eq!(web.count(), 1);
}

#[test]
fn unable_to_route() {
    let more =
        "    /svc/neg => ~ ;\n    /svc/fail => ! ;\n    /svc/empty => $ ;\n    /svc/none => /#/io.l5d.fs/nowhere ;";
    let router = Switchyard::start(&config(more));
    router.disco().set("hollow", &[]);
    for name in ["nope", "neg", "fail", "empty", "none", "hollow"] {
        let mut client = Client::connect(router.addr(0));
        let response = client.request("GET", name, "/", &[("l5d-dtab", "/a=>/b | /c;/d=>2*/e & /f")], b"");
        let text = told(&response, 502);
        let service = format!("service name: /svc/{name}");
        has_lines(&text, &["Unable to route request!", "", &service, "dtab:", "base dtab:", "  /svc => /#/io.l5d.fs"]);
        has_lines(&text, &["base dtab:", "  /svc/neg => ~", "override dtab:", "  /a => /b | /c"]);
        assert!(text.starts_with("Unable to route request!\n\nservice name: "), "{text}");
        assert!(text.contains("\n  /d => 2.00*/e & /f\n"), "{text}");
        assert_eq!(response.header("l5d-retryable"), None, "as in Linkerd 1");
        // Without an override there is none to show.
        let text = told(&client.get(name, "/"), 502);
        assert!(text.contains("override dtab:\n") && !text.contains("/a => "), "{text}");
    }
}

#[test]
fn unable_to_connect() {
    let router = Switchyard::start(FS_CONFIG);
    let (one, two) = (nobody(), nobody());
    router.disco().set("web", &[one]);
    router.disco().set("pair", &[one, two]);
    let response = get(router.addr(0), "web");
    let text = told(&response, 502);
    assert!(text.starts_with(&format!("Unable to establish connection to {one}")), "{text}");
    let (all, selected) = (format!("addresses: [{one}]"), format!("selected address: {one}"));
    has_lines(&text, &["", "service name: /svc/web", "client name: /#/io.l5d.fs/web", &all, &selected]);
    assert_eq!(response.header("l5d-retryable"), None, "as in Linkerd 1");
    let text = told(&get(router.addr(0), "pair"), 502);
    let line = text.lines().find(|line| line.starts_with("addresses: [")).expect("all addresses");
    assert!(line.contains(&one.to_string()) && line.contains(&two.to_string()), "{line}");
}

#[test]
fn unknown_namers_are_named() {
    let router = Switchyard::start(&FS_CONFIG.replace("/svc => /#/io.l5d.fs ;", "/svc => /$/java.lang.Runtime/exec ;"));
    let text = told(&get(router.addr(0), "web"), 502);
    assert!(text.contains("/$/java.lang.Runtime"), "{text}");
    assert!(text.to_lowercase().contains("unknown namer"), "{text}");
}

/// While this runs, the file is always younger than what the namer takes for settled.
fn never_settled<T>(file: &Path, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let begun = std::time::Instant::now();
            while !done.load(Ordering::SeqCst) && begun.elapsed() < Duration::from_secs(300) {
                let _ = std::fs::write(file, "127.0.0.1 1\n");
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let outcome = work();
        done.store(true, Ordering::SeqCst);
        outcome
    })
}

/// A file that changes all the time takes a while to be believed: longer than this binding may take.
#[test]
fn binding_timeout_of_addresses() {
    let router = Switchyard::start(&config("  bindingTimeoutMs: 5"));
    let text = (0..100).find_map(|i| {
        let name = format!("slow{i}");
        let file = router.disco().path().join(&name);
        let response = never_settled(&file, || {
            eventually("the file is there", SOON, || file.exists().then_some(()));
            get(router.addr(0), &name)
        });
        let text = told(&response, 502);
        text.starts_with("Exceeded").then_some((name, text))
    });
    let (name, text) = text.expect("one of many is too slow");
    let connecting = format!(
        "Exceeded 5.milliseconds binding timeout while connecting to /#/io.l5d.fs/{name} for name: /svc/{name}"
    );
    let resolving = format!("Exceeded 5.milliseconds binding timeout while resolving name: /svc/{name}");
    assert!(text.starts_with(&connecting) || text.starts_with(&resolving), "{text}");
}

/// A folder with very many entries takes a while to be listed.
#[test]
fn binding_timeout_of_names() {
    let config = config("  bindingTimeoutMs: 1").replace("/svc => /#/io.l5d.fs", "/svc => /#/io.l5d.fs/large");
    let router = Switchyard::start(&config);
    let folder = router.folder().join("large");
    std::fs::create_dir(&folder).expect("a folder");
    let target = router.folder().join("linkerd.yaml");
    for i in 0..40_000 {
        std::os::unix::fs::symlink(&target, folder.join(i.to_string())).expect("a link");
    }
    std::fs::rename(&folder, router.disco().path().join("large")).expect("the folder can be moved");
    let text = told(&get(router.addr(0), "web"), 502);
    assert_eq!(text.lines().next(), Some("Exceeded 1.milliseconds binding timeout while resolving name: /svc/web"));
    assert!(text.contains("pending"), "{text}");
}

#[test]
fn a_name_that_leads_back_is_a_loop() {
    for host in ["127.0.0.1", "127.1", "localhost"] {
        let dtab = format!("/svc => /$/inet/{host}/@P0@ ;");
        let router = Switchyard::start(&FS_CONFIG.replace("/svc => /#/io.l5d.fs ;", &dtab));
        let started = Instant::now();
        let response = get(router.addr(0), "web");
        assert_eq!(response.status, 508, "{host}: {}", response.text());
        let text = told(&response, 508);
        assert!(text.contains("/svc/web") && text.contains("loop"), "{text}");
        assert!(started.elapsed() < Duration::from_secs(9), "less than the time to bind a name");
        // Nothing came back.
        router.await_metric(&format!("rt/http/server/127.0.0.1/{}/requests", router.port(0)), 1.0);
    }
}

/// Listeners on the wildcard address are reached through every own address.
#[test]
fn a_wildcard_listener_knows_its_loop() {
    let yaml = server_config("ip: 0.0.0.0", "").replace("/svc => /#/io.l5d.fs", "/svc => /$/inet/127.0.0.2/@P0@");
    let router = Switchyard::start(&yaml);
    assert!(told(&get(router.addr(0), "web"), 508).starts_with("The name /svc/web leads back to this router's own"));
}

#[test]
fn timeouts_say_which_limit() {
    let web = Backend::with(|_| Reply::text("late").after(Duration::from_secs(20)));
    let ask = |yaml: &str| {
        let router = Switchyard::start(yaml);
        router.disco().set("web", &[web.addr()]);
        told(&get(router.addr(0), "web"), 503)
    };
    let text = ask(&config("  client: { requestAttemptTimeoutMs: 100 }"));
    let wanted = "exceeded 100.milliseconds to #/io.l5d.fs/web while waiting for a response for an individual request, \
                  excluding retries. Remote Info: ";
    assert!(text.starts_with(wanted), "{text}");
    let text = ask(&config("  service: { totalTimeoutMs: 200 }"));
    let wanted = "exceeded 200.milliseconds to unspecified while waiting for a response for the request, including \
                  retries (if applicable). Remote Info: Not Available";
    assert_eq!(text, wanted);
    let text = ask(&server_config("timeoutMs: 300", ""));
    assert!(text.starts_with("exceeded 300.milliseconds to "), "{text}");
}

#[test]
fn an_upstream_that_closes() {
    let web = Backend::raw(|mut socket| {
        let _ = std::io::Read::read(&mut socket, &mut [0; 4096]);
    });
    let router = Switchyard::start(FS_CONFIG);
    router.disco().set("web", &[web.addr()]);
    let mut client = Client::connect(router.addr(0));
    for method in ["GET", "POST"] {
        let before = web.connections();
        let response = client.request(method, "web", "/", &[], b"");
        let text = told(&response, 502);
        assert!(text.contains(&format!("Remote Info: Upstream Address: /{}", web.addr())), "{text}");
        assert_eq!(response.header("l5d-retryable"), None, "it may have been acted on");
        let attempts = web.connections() - before;
        assert!(attempts <= 4 && (method == "GET" || attempts == 1), "{method} was sent {attempts} times");
    }
}

#[test]
fn errors_to_head_have_a_length_and_no_body() {
    let router = Switchyard::start(FS_CONFIG);
    router.disco().set("gone", &[nobody()]);
    let mut client = Client::connect(router.addr(0));
    for (host, headers) in [("nope", [].as_slice()), ("gone", &[]), ("web", &[("l5d-dtab", "x")]), ("", &[])] {
        let wanted = client.request("GET", host, "/", headers, b"");
        let response = client.request("HEAD", host, "/", headers, b"");
        assert_eq!((response.status, response.header("l5d-err").is_some()), (wanted.status, true), "{host:?}");
        let length: usize = response.header("content-length").expect("a length").parse().expect("a number");
        // The method is part of one of the texts.
        assert!(length.abs_diff(wanted.body.len()) <= 1, "{host:?}");
    }
    assert_eq!(client.get("nope", "/").status, 502, "the connection is in step");
}

#[test]
fn clear_context_empties_errors() {
    let yaml = server_config("clearContext: true", "");
    let router = Switchyard::start(&yaml);
    router.disco().set("gone", &[nobody()]);
    let empty = |response: &Response, status: u16, code: &str| {
        assert_eq!(response.status, status);
        let text = response.text();
        let id = text.strip_prefix(&format!("{code} (request id ")).and_then(|rest| rest.strip_suffix(")\n"));
        assert!(id.is_some_and(|id| id.len() == 16 && u64::from_str_radix(id, 16).is_ok()), "{text:?}");
        let ours: Vec<_> = response.headers.iter().filter(|(name, _)| name.starts_with("l5d-")).collect();
        assert!(ours.is_empty(), "{ours:?}");
    };
    empty(&get(router.addr(0), "nope"), 502, "no-route");
    empty(&get(router.addr(0), "gone"), 502, "connection-failed");
    empty(&ask(&router, "GET / HTTP/1.1\r\nHost:\r\n\r\n"), 400, "unknown-destination");
    empty(&ask(&router, "GET / HTTP/1.1\r\n\r\n"), 400, "bad-request");
    empty(&ask(&router, "GET / HTTP/1.1\r\nHost: web\r\nA b: c\r\n\r\n"), 400, "bad-request");
}

/// The error of a router further on is emptied as well (data-plane reference §5.7); one of a service is not.
#[test]
fn clear_context_empties_the_errors_of_the_next_hop() {
    let web = Backend::with(|_| Reply { body: b"my own error".to_vec(), ..Reply::status(500) });
    let yaml = server_config("clearContext: true", "").replace("/svc => /#/io.l5d.fs", "/svc => /$/inet/127.1/@P1@");
    let back = "- { protocol: http, label: back, servers: [{ port: @P1@ }], dtab: '/svc => /#/io.l5d.fs ;' }";
    let router = Switchyard::start(&format!("{yaml}{back}\n"));
    router.disco().set("web", &[web.addr()]);
    let inner = get(router.addr(1), "nope");
    assert!(told(&inner, 502).contains("/svc/nope"));
    let mut client = Client::connect(router.addr(0));
    let outer = client.get("nope", "/");
    assert_eq!((outer.status, outer.text().as_str(), outer.header("l5d-err")), (502, "", None));
    let outer = client.get("web", "/");
    assert_eq!((outer.status, outer.text().as_str()), (500, "my own error"));
    assert_eq!(outer.header("l5d-success-class"), None);
}

#[test]
fn overload_is_a_nack() {
    let gate = Arc::new(AtomicBool::new(false));
    let open = gate.clone();
    let web = Backend::with(move |_| {
        eventually("the gate opens", 4 * SOON, || open.load(Ordering::SeqCst).then_some(()));
        Reply::text("slow")
    });
    let router = Switchyard::start(&server_config("maxConcurrentRequests: 1", ""));
    router.disco().set("web", &[web.addr()]);
    let mut first = Client::connect(router.addr(0));
    first.send_raw(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n");
    eventually("the first request is under way", SOON, || (web.count() == 1).then_some(()));
    let mut second = Client::connect(router.addr(0));
    let response = second.get("web", "/");
    assert_eq!(response.status, 503);
    assert_eq!((response.header("finagle-http-nack"), response.header("retry-after")), (Some("true"), Some("0")));
    assert_eq!(response.header("l5d-err"), None);
    let text = "Request was not processed by the server due to an error and is safe to retry";
    assert_eq!(response.text(), text);
    let response = second.request("HEAD", "web", "/", &[], b"");
    let length = text.len().to_string();
    assert_eq!((response.status, response.header("content-length")), (503, Some(length.as_str())));
    gate.store(true, Ordering::SeqCst);
    assert_eq!(first.read_response(false).expect("an answer").text(), "slow");
    // The place is given back when the last byte is out, which the client may know before.
    router.await_metric(&format!("rt/http/server/127.0.0.1/{}/request_concurrency", router.port(0)), 0.0);
    let response = second.get("web", "/");
    assert_eq!((response.status, response.text().as_str()), (200, "slow"), "and then there is room again");
    assert_eq!(web.count(), 2);
}

#[test]
fn limits_at_the_boundary() {
    let web = Backend::text("web");
    let router = Switchyard::start(&config("  maxInitialLineKB: 1\n  maxHeadersKB: 2"));
    router.disco().set("web", &[web.addr()]);
    let line = |length: usize| {
        let path = "p".repeat(length - "GET / HTTP/1.1".len());
        ask(&router, &format!("GET /{path} HTTP/1.1\r\nHost: web\r\n\r\n"))
    };
    assert_eq!(line(1024).status, 200);
    for length in [1025, 1026, 5000] {
        assert_eq!(line(length).status, 414, "{length}");
    }
    let block = |length: usize| {
        let frame = "Host: web\r\nX: \r\n\r\n".len();
        ask(&router, &format!("GET / HTTP/1.1\r\nHost: web\r\nX: {}\r\n\r\n", "x".repeat(length - frame)))
    };
    assert_eq!(block(2048).status, 200);
    for length in [2049, 2050, 100_000] {
        assert_eq!(block(length).status, 431, "{length}");
    }
    assert_eq!(web.count(), 2);
    // The default limits.
    let router = Switchyard::start(FS_CONFIG);
    router.disco().set("web", &[web.addr()]);
    let long = |n: usize, m: usize| {
        let (path, value) = ("p".repeat(n), "x".repeat(m));
        ask(&router, &format!("GET /{path} HTTP/1.1\r\nHost: web\r\nX: {value}\r\n\r\n")).status
    };
    assert_eq!((long(4000, 8000), long(4100, 1), long(1, 8200)), (200, 414, 431));
}

#[test]
fn error_texts_are_cut_to_the_limits() {
    let dentries = "    /some/prefix/a => /some/where/else ;\n".repeat(40);
    let yaml = config(&format!("{dentries}  maxHeadersKB: 1\n  maxErrResponseKB: 1"));
    let router = Switchyard::start(&yaml);
    let table = "/some/prefix/a=>/some/where/else;".repeat(14);
    let response =
        Client::connect(router.addr(0)).request("GET", &"nope".repeat(20), "/", &[("l5d-dtab", &table)], b"");
    assert_eq!(response.status, 502);
    let header = response.header("l5d-err").expect("an error header");
    assert!(header.len() <= 1024 && header.len() > 1000, "{}", header.len());
    assert_eq!(response.body.len(), 1024);
    assert!(response.text().starts_with(&decoded(header[..900].trim_end_matches(['%', '2', '3', 'A', 'F']))));
}

#[test]
fn methods_and_expectations() {
    let router = Switchyard::start(FS_CONFIG);
    let response = ask(&router, "CONNECT web:443 HTTP/1.1\r\nHost: web\r\n\r\n");
    assert!(told(&response, 405).contains("CONNECT"));
    assert!(response.header("allow").is_some_and(|allow| allow.contains("GET") && !allow.contains("CONNECT")));
    told(&ask(&router, "GET / HTTP/1.1\r\nHost: web\r\nExpect: miracles\r\n\r\n"), 417);
}

/// What a request says is shown as text, escaped, in one line of the header (attacks X8, X9).
#[test]
fn errors_reflect_nothing_dangerous() {
    let router = Switchyard::start(FS_CONFIG);
    for request in [
        "GET /<script>alert(1)</script> HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: web\r\nl5d-dtab: <script>\u{1f600}\u{e9}\r\n\r\n",
    ] {
        let response = ask(&router, request);
        told(&response, 400);
        assert!(!response.headers.iter().any(|(_, value)| value.contains('<')), "{response:?}");
    }
    assert!(!router.log().contains("panicked"));
}
