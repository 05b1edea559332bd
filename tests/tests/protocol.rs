//! What the router does to the messages it passes on: hop-by-hop fields, `Via`, the context headers of Linkerd, names
//! from identifiers, and the options of a server (data-plane reference §5, §6; attacks X1 to X6, N1).
//!
//! Not for: framing (see `framing`), error texts (see `errors`).

#![allow(clippy::panic, reason = "a story that cannot go on has failed")]

use e2e::{Backend, Client, FS_CONFIG, Received, Reply, Response, Switchyard, eventually, get, holds_for};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);

/// A router and a service `web` behind it.
fn site(yaml: &str) -> (Switchyard, Backend) {
    let (router, web) = (Switchyard::start(yaml), Backend::text("web"));
    router.disco().set("web", &[web.addr()]);
    (router, web)
}

/// `FS_CONFIG` with more in its server.
fn server_config(server: &str) -> String {
    FS_CONFIG.replace("{ port: @P0@ }", &format!("{{ port: @P0@, {server} }}"))
}

fn ask(router: &Switchyard, headers: &[(&str, &str)]) -> Response {
    Client::connect(router.addr(0)).request("GET", "web", "/", headers, b"")
}

/// What the service saw of a request with these headers.
fn seen(site: &(Switchyard, Backend), headers: &[(&str, &str)]) -> Received {
    assert_eq!(ask(&site.0, headers).status, 200);
    site.1.last()
}

#[test]
fn hop_by_hop_fields_stay_here() {
    let web = Backend::with(|_| {
        let reply = Reply::text("web").header("Connection", "X-Private").header("X-Private", "a").header("X-Kept", "b");
        let reply = reply.header("Keep-Alive", "timeout=5").header("Proxy-Authenticate", "Basic").header("TE", "x");
        reply.header("Trailer", "X").header("Upgrade", "h2").header("Proxy-Connection", "close")
    });
    let router = Switchyard::start(FS_CONFIG);
    router.disco().set("web", &[web.addr()]);
    let dropped = [
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic eA=="),
        ("Proxy-Authenticate", "Basic"),
        ("TE", "trailers"),
        ("Trailer", "X"),
        ("Upgrade", "websocket"),
        ("HTTP2-Settings", "AAMAAABk"),
        ("X-Private", "a"),
        ("X-Also", "b"),
    ];
    let mut headers = vec![("Connection", "X-Private"), ("Connection", "keep-alive, x-also"), ("X-Kept", "c")];
    headers.extend(dropped);
    let response = ask(&router, &headers);
    let last = web.last();
    for (name, _) in dropped.iter().chain(&[("Connection", "")]) {
        assert_eq!(last.header(name), None, "{name} went up");
        assert_eq!(response.header(name), None, "{name} came down");
    }
    assert_eq!((last.header("x-kept"), response.header("x-kept")), (Some("c"), Some("b")));
}

/// Attack X1: what routing, trust and the router's own headers depend on cannot be nominated away.
#[test]
fn connection_cannot_name_what_matters() {
    let site = site(&server_config("timestampHeader: x-request-start"));
    let nominated = "close, X-Forwarded-For, X-Forwarded-Proto, l5d-ctx-deadline, l5d-ctx-trace, l5d-ctx-dtab, \
                     l5d-dst-service, l5d-dst-client, l5d-reqid, authorization, cookie, host, via, forwarded, \
                     content-length, content-type, transfer-encoding, x-request-start, X-Mine";
    let headers = [
        ("Connection", nominated),
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Forwarded-Proto", "https"),
        ("Authorization", "Bearer t"),
        ("Cookie", "a=b"),
        ("Forwarded", "for=10.0.0.1"),
        ("Via", "1.1 edge"),
        ("Content-Type", "text/plain"),
        ("l5d-ctx-deadline", "1 2"),
        ("l5d-dtab", "/a => /b"),
        ("X-Mine", "gone"),
    ];
    let mut client = Client::connect(site.0.addr(0));
    let response = client.request("POST", "web", "/", &headers, b"hello");
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    assert!(client.closed_by_peer());
    let last = site.1.last();
    assert_eq!((last.header("x-mine"), last.header("connection")), (None, None));
    assert_eq!(
        (last.body.as_slice(), last.header("content-length"), last.header("host")),
        (&b"hello"[..], Some("5"), Some("web"))
    );
    for (name, value) in &headers[1..8] {
        if *name != "Via" {
            assert_eq!(last.header(name), Some(*value), "{name}");
        }
    }
    assert_eq!(last.header("via"), Some("1.1 edge, 1.1 linkerd"));
    assert_eq!(last.header("l5d-ctx-deadline"), Some("1 2"));
    assert_eq!(last.header("l5d-ctx-dtab"), Some("/a=>/b"));
    assert_eq!(last.header("l5d-dst-service"), Some("/svc/web"));
    for name in ["l5d-ctx-trace", "l5d-reqid", "l5d-dst-client", "x-request-start"] {
        assert!(last.header(name).is_some(), "{name}");
    }
}

#[test]
fn via_is_appended() {
    let web = Backend::with(|received| match received.target.as_str() {
        "/via" => Reply::text("web").header("Via", "1.0 inner"),
        _ => Reply::text("web"),
    });
    let router = Switchyard::start(FS_CONFIG);
    router.disco().set("web", &[web.addr()]);
    let mut client = Client::connect(router.addr(0));
    let response = client.request("GET", "web", "/", &[], b"");
    assert_eq!((web.last().header("via"), response.header("via")), (Some("1.1 linkerd"), Some("1.1 linkerd")));
    let response = client.request("GET", "web", "/via", &[("Via", "1.0 fred, 1.1 p.example")], b"");
    assert_eq!(web.last().all("via"), ["1.0 fred, 1.1 p.example, 1.1 linkerd"]);
    assert_eq!(response.header("via"), Some("1.0 inner, 1.1 linkerd"));
    client.send_raw(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n");
    assert_eq!(client.read_response(false).expect("an answer").status, 200);
    assert_eq!(web.last().header("via"), Some("1.0 linkerd"));
}

/// Attacks X2 and X3: what the router says of a request is not what the client says.
#[test]
fn headers_of_the_router_cannot_be_spoofed() {
    let site = site(FS_CONFIG);
    let last = seen(
        &site,
        &[
            ("l5d-dst-service", "/svc/evil"),
            ("l5d-dst-client", "/evil"),
            ("l5d-dst-residual", "/evil"),
            ("L5D-Dst-Service", "/svc/evil2"),
            ("l5d-reqid", "0000000000000666"),
            ("l5d-success-class", "1.0"),
            ("x-forwarded-client-cert", "Hash=00;Subject=\"CN=admin\""),
            ("l5d_dtab", "/svc => /evil"),
            ("l5d_ctx_dtab", "/svc => /evil"),
            ("L5D_CTX_TRACE", "evil"),
        ],
    );
    assert_eq!(last.all("l5d-dst-service"), ["/svc/web"]);
    assert_eq!(last.all("l5d-dst-client"), ["/#/io.l5d.fs/web"]);
    assert_eq!((last.header("l5d-dst-residual"), last.header("l5d-success-class")), (None, None));
    assert_eq!(last.all("l5d-reqid").len(), 1);
    assert_ne!(last.header("l5d-reqid"), Some("0000000000000666"));
    assert_eq!(last.header("x-forwarded-client-cert"), None);
    let evil: Vec<_> = last.headers.iter().filter(|(_, value)| value.contains("evil")).collect();
    assert!(evil.is_empty(), "{evil:?}");
}

#[test]
fn responses_tell_their_class_and_cannot_lie() {
    let web = Backend::with(|received| {
        let status = received.target[1..].parse().unwrap_or(200);
        Reply::status(status).header("l5d-success-class", "0.5").header("l5d-dst-service", "/evil")
    });
    let router = Switchyard::start(FS_CONFIG);
    router.disco().set("web", &[web.addr()]);
    let mut client = Client::connect(router.addr(0));
    for (target, class) in [("/200", "1.0"), ("/404", "1.0"), ("/500", "0.0"), ("/503", "0.0")] {
        let response = client.get("web", target);
        let classes: Vec<_> = response.headers.iter().filter(|(name, _)| name == "l5d-success-class").collect();
        assert_eq!(classes.len(), 1, "{target}: {classes:?}");
        assert_eq!(response.header("l5d-success-class"), Some(class), "{target}");
        assert_eq!(response.header("l5d-err"), None, "an error of the service is not one of ours");
    }
}

#[test]
fn deadlines_are_combined_and_forwarded() {
    let site = site(FS_CONFIG);
    let last = seen(&site, &[("l5d-ctx-deadline", "100 9000"), ("l5d-ctx-deadline", "200 8000")]);
    assert_eq!(last.all("l5d-ctx-deadline"), ["200 8000"], "latest timestamp, earliest deadline");
    let last = seen(&site, &[("l5d-ctx-deadline", "100 9000"), ("l5d-ctx-deadline", "garbage")]);
    assert_eq!(last.all("l5d-ctx-deadline"), ["100 9000"]);
    for garbage in ["soon", "1", "1 x", "-1 -2", "1 99999999999999999999999", ""] {
        let last = seen(&site, &[("l5d-ctx-deadline", garbage)]);
        assert_eq!(last.all("l5d-ctx-deadline"), [garbage], "what nobody understands is left alone");
    }
    let year_3000 = "1 32503680000000000000";
    assert_eq!(seen(&site, &[("l5d-ctx-deadline", year_3000)]).all("l5d-ctx-deadline").len(), 1);
    assert_eq!(seen(&site, &[]).header("l5d-ctx-deadline"), None);
}

#[test]
fn an_own_timeout_is_a_deadline_too() {
    let site = site(&format!("{}  service: {{ totalTimeoutMs: 2000 }}\n", FS_CONFIG.trim_start_matches('\n')));
    let now =
        || u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_nanos()).expect("fits");
    let before = now();
    let parse = |last: &Received| -> (u64, u64) {
        let all = last.all("l5d-ctx-deadline");
        assert_eq!(all.len(), 1, "{all:?}");
        let (timestamp, deadline) = all[0].split_once(' ').expect("two numbers");
        (timestamp.parse().expect("a number"), deadline.parse().expect("a number"))
    };
    let (timestamp, deadline) = parse(&seen(&site, &[]));
    assert!(timestamp >= before && timestamp <= now(), "{timestamp}");
    assert_eq!(deadline - timestamp, 2_000_000_000);
    let strict = before + 500_000_000;
    let (timestamp, deadline) = parse(&seen(&site, &[("l5d-ctx-deadline", &format!("5 {strict}"))]));
    assert!(timestamp >= before, "{timestamp}");
    assert_eq!(deadline, strict, "the stricter one counts");
}

/// Big-endian words of a Base64 text.
fn words(text: &str) -> Vec<u64> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut word) = (Vec::new(), 0, 0_u32);
    for c in text.trim_end_matches('=').chars() {
        word = word << 6 | u32::try_from(ALPHABET.find(c).expect("Base64")).expect("fits");
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
        }
    }
    bytes.as_chunks::<8>().0.iter().map(|word| u64::from_be_bytes(*word)).collect()
}

/// `l5d-ctx-trace` of these words.
fn trace(words: &[u64]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let padded = [group[0], *group.get(1).unwrap_or(&0), *group.get(2).unwrap_or(&0)];
        let word = u32::from_be_bytes([0, padded[0], padded[1], padded[2]]);
        for i in 0..4 {
            let digit = char::from(ALPHABET[(word >> (18 - 6 * i) & 63) as usize]);
            text.push(if i > group.len() { '=' } else { digit });
        }
    }
    text
}

const TWO_HOPS: &str = "
admin: { port: @ADMIN@ }
namers:
- { kind: io.l5d.fs, rootDir: @DISCO@ }
routers:
- { protocol: http, label: out, servers: [{ port: @P0@ }], dtab: '/svc => /$/inet/127.1/@P1@ ;' }
- { protocol: http, label: in, servers: [{ port: @P1@ }], dtab: '/svc => /#/io.l5d.fs ;' }
";

#[test]
fn a_trace_goes_on_over_two_hops() {
    let site = site(TWO_HOPS);
    let (span, parent, id, flags, high) = (0xaa, 0xbb, 0xcc11_2233_4455_6677, 0x6, 0x0123_4567_89ab_cdef);
    assert_eq!(words(&trace(&[1, 2, 3, 4])), [1, 2, 3, 4], "the story's own Base64");
    let last = seen(&site, &[("l5d-ctx-trace", &trace(&[span, parent, id, flags])), ("l5d-sample", "1.0")]);
    assert_eq!(last.all("l5d-reqid"), ["cc11223344556677"]);
    assert_eq!(last.header("l5d-sample"), None);
    let there = words(last.header("l5d-ctx-trace").expect("a trace"));
    assert_eq!((there.len(), there[2], there[3] & 0x6), (4, id, flags));
    assert!(there[0] != span && there[1] != span && there[0] != there[1], "two more spans: {there:x?}");
    assert_eq!(last.header("via"), Some("1.1 linkerd, 1.1 linkerd"));
    let last = seen(&site, &[("l5d-ctx-trace", &trace(&[span, parent, id, flags, high]))]);
    let there = words(last.header("l5d-ctx-trace").expect("a trace"));
    assert_eq!((there.len(), there[2], there[4]), (5, id, high), "128 bits stay");
    // Without a trace, or with one that is none, one begins; each request has its own.
    let mut ids = Vec::new();
    for headers in [vec![], vec![], vec![("l5d-ctx-trace", "AAAA")], vec![("l5d-ctx-trace", "not Base64 at all!")]] {
        let last = seen(&site, &headers);
        let reqid = last.header("l5d-reqid").expect("an id").to_owned();
        let there = words(last.header("l5d-ctx-trace").expect("a trace"));
        assert_eq!(reqid, format!("{:016x}", there[2]));
        ids.push(reqid);
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4, "{ids:?}");
}

#[test]
fn an_override_travels_and_wins() {
    let site = site(TWO_HOPS);
    let branch = Backend::text("branch");
    site.0.disco().set("branch", &[branch.addr()]);
    let inner = "/svc/web => /#/io.l5d.fs/branch";
    // The first hop must not act on the inner router's name: there it leads to the branch as well.
    let response = ask(&site.0, &[("l5d-dtab", inner)]);
    assert_eq!(response.text(), "branch");
    let last = branch.last();
    assert_eq!(last.all("l5d-ctx-dtab"), ["/svc/web=>/#/io.l5d.fs/branch"]);
    assert_eq!((last.header("l5d-dtab"), last.header("dtab-local")), (None, None));
    // The user's table comes after the context: later entries win.
    let response = ask(&site.0, &[("l5d-dtab", inner), ("l5d-ctx-dtab", "/svc/web => /#/io.l5d.fs/web")]);
    assert_eq!(response.text(), "branch");
    assert_eq!(branch.last().all("l5d-ctx-dtab"), ["/svc/web=>/#/io.l5d.fs/web;/svc/web=>/#/io.l5d.fs/branch"]);
    assert_eq!(ask(&site.0, &[]).text(), "web", "and only that request");
    // The old name is nothing to us.
    let last = seen(&site, &[("dtab-local", "/svc/web => /#/io.l5d.fs/branch")]);
    assert_eq!(
        (last.header("dtab-local"), last.header("l5d-ctx-dtab")),
        (Some("/svc/web => /#/io.l5d.fs/branch"), None)
    );
    assert_eq!(seen(&site, &[("l5d-dtab", "")]).header("l5d-ctx-dtab"), None, "an empty table is none");
}

#[test]
fn clear_context_hears_nothing() {
    let site = site(&server_config("clearContext: true"));
    let headers = [
        ("l5d-dtab", "/svc => /evil"),
        ("l5d-ctx-dtab", "/svc => /evil"),
        ("l5d-ctx-deadline", "1 2"),
        ("l5d-name", "/svc/evil"),
        ("L5D-Anything", "x"),
        ("dtab-local", "/svc => /x"),
        ("x-b3-traceid", "1"),
    ];
    let last = seen(&site, &headers);
    for name in ["l5d-dtab", "l5d-ctx-dtab", "l5d-ctx-deadline", "l5d-name", "l5d-anything"] {
        assert_eq!(last.header(name), None, "{name}");
    }
    assert_eq!((last.header("dtab-local"), last.header("x-b3-traceid")), (Some("/svc => /x"), Some("1")));
    let bad = ask(&site.0, &[("l5d-dtab", "not a dtab")]);
    assert_eq!((bad.status, bad.header("l5d-success-class")), (200, None));
}

#[test]
fn destination_headers_tell_where_it_goes() {
    let site = site(&FS_CONFIG.replace("/svc => /#/io.l5d.fs ;", "/svc => /#/io.l5d.fs/web/some ;"));
    let last = seen(&site, &[]);
    assert_eq!(last.header("l5d-dst-service"), Some("/svc/web"));
    assert_eq!(last.header("l5d-dst-client"), Some("/#/io.l5d.fs/web"));
    assert_eq!(last.header("l5d-dst-residual"), Some("/some/web"));
}

/// One router per kind of identifier; everything leads to `web`.
const IDENTIFIERS: &str = "
admin: { port: @ADMIN@ }
namers:
- { kind: io.l5d.fs, rootDir: @DISCO@ }
routers:
- protocol: http
  label: path
  servers: [{ port: @P0@ }]
  identifier: { kind: io.l5d.path, segments: 2 }
  dtab: &all '/svc => /#/io.l5d.fs/web ; /own => /#/io.l5d.fs/web ;'
- protocol: http
  label: consume
  servers: [{ port: @P1@ }]
  identifier: { kind: io.l5d.path, segments: 2, consume: true }
  dtab: *all
- protocol: http
  label: method
  servers: [{ port: @P2@ }]
  identifier: { kind: io.l5d.methodAndHost }
  dtab: *all
- protocol: http
  label: uri
  servers: [{ port: @P3@ }]
  identifier: { kind: io.l5d.methodAndHost, httpUriInDst: true }
  dtab: *all
- protocol: http
  label: header
  servers: [{ port: @P4@ }]
  identifier: { kind: io.l5d.header, header: My-Name }
  dtab: *all
- protocol: http
  label: static
  servers: [{ port: @P5@ }]
  identifier: { kind: io.l5d.static, path: /always/this }
  dstPrefix: /own
  dtab: *all
- protocol: http
  label: several
  servers: [{ port: @P6@ }]
  identifier:
  - { kind: io.l5d.header.token, header: My-Token }
  - { kind: io.l5d.header }
  - { kind: io.l5d.path, segments: 3 }
  dtab: *all
";

/// The name that a request got, and the target that was forwarded; the reason when it got none.
fn named(site: &(Switchyard, Backend), port: usize, head: &str) -> (String, String) {
    let mut client = Client::connect(site.0.addr(port));
    client.send_raw(format!("{head}\r\n\r\n").as_bytes());
    let response = client.read_response(false).unwrap_or_else(|error| panic!("{head}: {error}"));
    if response.status == 200 {
        let last = site.1.last();
        return (last.header("l5d-dst-service").unwrap_or_default().to_owned(), last.target);
    }
    let text = response.text();
    (response.status.to_string(), text.rsplit(" / ").next().unwrap_or_default().to_owned())
}

fn assert_names(port: usize, cases: &[(&str, &str, &str)]) {
    let site = site(IDENTIFIERS);
    for (head, name, target) in cases {
        assert_eq!(named(&site, port, head), ((*name).to_owned(), (*target).to_owned()), "{head:?}");
        // And from memory.
        assert_eq!(named(&site, port, head), ((*name).to_owned(), (*target).to_owned()), "{head:?} again");
    }
}

#[test]
fn the_path_is_a_name() {
    let missing = "not enough segments in path";
    assert_names(
        0,
        &[
            ("GET /a/b/c?d=e HTTP/1.1\r\nHost: x", "/svc/a/b", "/a/b/c?d=e"),
            ("GET /a/b HTTP/1.1\r\nHost: x", "/svc/a/b", "/a/b"),
            ("GET /a/b/ HTTP/1.1\r\nHost: x", "/svc/a/b", "/a/b/"),
            ("GET /a HTTP/1.1\r\nHost: x", "400", missing),
            ("GET / HTTP/1.1\r\nHost: x", "400", missing),
            ("GET /a?b/c HTTP/1.1\r\nHost: x", "400", missing),
            ("GET http://x/a/b HTTP/1.1\r\nHost: y", "/svc/a/b", "/a/b"),
            ("GET /A/b%20c/d HTTP/1.1\r\nHost: x", "/svc/A/b%20c", "/A/b%20c/d"),
        ],
    );
}

#[test]
fn the_path_can_be_consumed() {
    assert_names(
        1,
        &[
            ("GET /a/b/c/d?e=f HTTP/1.1\r\nHost: x", "/svc/a/b", "/c/d?e=f"),
            ("GET /a/b HTTP/1.1\r\nHost: x", "/svc/a/b", "/"),
            ("GET /a/b/ HTTP/1.1\r\nHost: x", "/svc/a/b", "/"),
            ("GET /a/b?c=d HTTP/1.1\r\nHost: x", "/svc/a/b", "/?c=d"),
            ("GET /a/b//c HTTP/1.1\r\nHost: x", "/svc/a/b", "//c"),
            ("GET /a/b/c/ HTTP/1.1\r\nHost: x", "/svc/a/b", "/c/"),
        ],
    );
}

#[test]
fn method_and_host_are_a_name() {
    assert_names(
        2,
        &[
            ("GET /a HTTP/1.1\r\nHost: Web.Example", "/svc/1.1/GET/web.example", "/a"),
            ("POST /a HTTP/1.1\r\nHost: web:80\r\nContent-Length: 0", "/svc/1.1/POST/web:80", "/a"),
            ("GET /a HTTP/1.0", "/svc/1.0/GET", "/a"),
            ("GET /a HTTP/1.1\r\nHost:", "400", "HTTP/1.1 request missing hostname"),
        ],
    );
    assert_names(
        3,
        &[
            ("GET /a/b?c HTTP/1.1\r\nHost: web", "/svc/1.1/GET/web/a/b", "/a/b?c"),
            ("GET / HTTP/1.1\r\nHost: web", "/svc/1.1/GET/web", "/"),
        ],
    );
}

#[test]
fn headers_and_constants_are_names() {
    assert_names(
        4,
        &[
            ("GET /a HTTP/1.1\r\nHost: x\r\nmy-name: /one/two", "/svc/one/two", "/a"),
            ("GET /a HTTP/1.1\r\nHost: x", "400", "My-Name header is absent"),
        ],
    );
    assert_names(5, &[("GET /a HTTP/1.1\r\nHost: x", "/own/always/this", "/a")]);
}

#[test]
fn several_identifiers_are_asked_in_order() {
    assert_names(
        6,
        &[
            ("GET /a/b/c HTTP/1.1\r\nHost: x\r\nMy-Token: t\r\nl5d-name: /n", "/svc/t", "/a/b/c"),
            ("GET /a/b/c HTTP/1.1\r\nHost: x\r\nl5d-name: /n", "/svc/n", "/a/b/c"),
            ("GET /a/b/c HTTP/1.1\r\nHost: x", "/svc/a/b/c", "/a/b/c"),
            ("GET /a/b HTTP/1.1\r\nHost: x", "400", "not enough segments in path"),
        ],
    );
}

#[test]
fn the_timestamp_header_is_added() {
    let site = site(&server_config("timestampHeader: X-Request-Start"));
    let millis = || SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_millis();
    let before = millis();
    let last = seen(&site, &[]);
    let stamp: u128 = last.header("x-request-start").expect("a time").parse().expect("a number");
    assert!(before <= stamp && stamp <= millis(), "{stamp}");
    let last = seen(&site, &[("X-Request-Start", "12")]);
    let all = last.all("x-request-start");
    assert_eq!((all.len(), all[0]), (2, "12"), "added, not replaced");
}

#[test]
fn concurrent_requests_are_limited_and_counted() {
    let gate = Arc::new(AtomicBool::new(false));
    let open = gate.clone();
    let web = Backend::with(move |_| {
        eventually("the gate opens", 4 * SOON, || open.load(Ordering::SeqCst).then_some(()));
        Reply::text("web")
    });
    let router = Switchyard::start(&server_config("maxConcurrentRequests: 3"));
    router.disco().set("web", &[web.addr()]);
    let mut first: Vec<Client> = (0..3).map(|_| Client::connect(router.addr(0))).collect();
    first.iter_mut().for_each(|client| client.send_raw(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"));
    eventually("three are under way", SOON, || (web.count() == 3).then_some(()));
    let mut more = Client::connect(router.addr(0));
    assert_eq!((more.get("web", "/").status, more.get("web", "/").status), (503, 503), "the connection is kept");
    gate.store(true, Ordering::SeqCst);
    for client in &mut first {
        assert_eq!(client.read_response(false).expect("an answer").status, 200);
    }
    let scope = format!("rt/http/server/127.0.0.1/{}", router.port(0));
    router.await_metric(&format!("{scope}/nacks"), 2.0);
    router.await_metric(&format!("{scope}/request_concurrency"), 0.0);
    gate.store(false, Ordering::SeqCst);
    // A client that goes away gives its place back.
    let mut gone: Vec<Client> = (0..3).map(|_| Client::connect(router.addr(0))).collect();
    gone.iter_mut().for_each(|client| client.send_raw(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"));
    eventually("three more are under way", SOON, || (web.count() == 6).then_some(()));
    drop(gone);
    router.await_metric(&format!("{scope}/request_concurrency"), 0.0);
    gate.store(true, Ordering::SeqCst);
}

#[test]
fn idle_and_old_sessions_end() {
    let site = site(&server_config("serverSession: { idleTimeMs: 1500 }"));
    let mut client = Client::connect(site.0.addr(0));
    holds_for("a busy session stays", Duration::from_millis(2500), || client.get("web", "/").status == 200);
    let started = Instant::now();
    assert_eq!(client.get("web", "/").status, 200);
    assert!(client.closed_by_peer());
    let after = started.elapsed();
    assert!(after > Duration::from_millis(1450) && after < Duration::from_secs(25), "{after:?}");
    let mut silent = Client::connect(site.0.addr(0));
    assert!(silent.closed_by_peer(), "one that never asks ends too");
    assert!(silent.read_response(false).is_err(), "without a word");
    let scope = format!("rt/http/server/127.0.0.1/{}", site.0.port(0));
    site.0.await_metric(&format!("{scope}/idle"), 2.0);
}

#[test]
fn old_sessions_end_between_requests() {
    let site = site(&server_config("serverSession: { lifeTimeMs: 1500 }"));
    let mut client = Client::connect(site.0.addr(0));
    let started = Instant::now();
    let mut served = 0;
    while client.try_get("web", "/").is_ok_and(|response| response.status == 200) {
        served += 1;
        assert!(started.elapsed() < SOON, "a session outlives its time");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(started.elapsed() > Duration::from_millis(1400) && served > 5, "{:?}", started.elapsed());
}

/// Attacks X6 and N1: no part of a request becomes a path of the file system.
#[test]
fn names_never_leave_the_discovery_folder() {
    let yaml = format!(
        "{}- {{ protocol: http, label: path, servers: [{{ port: @P1@ }}], dtab: '/svc => /#/io.l5d.fs ;', identifier: \
         {{ kind: io.l5d.path, segments: 2 }} }}\n- {{ protocol: http, label: name, servers: [{{ port: @P2@ }}], dtab: \
         '/svc => /#/io.l5d.fs ;', identifier: {{ kind: io.l5d.header }} }}\n",
        FS_CONFIG.trim_start_matches('\n')
    );
    let site = site(&yaml);
    let router = &site.0;
    let text = e2e::Disco::lines(&[site.1.addr()]);
    std::fs::write(router.folder().join("secret"), &text).expect("a file outside");
    router.disco().replace(".hidden", &text);
    assert_eq!(get(router.addr(0), "web").status, 200);
    let seen = site.1.count();
    let hosts = [
        "../secret",
        "../../etc/passwd",
        "../../../../../../etc/passwd",
        "a/../web",
        "..",
        ".",
        "..%2fsecret",
        "%2e%2e%2fsecret",
        "a%2f..%2fweb",
        "..\\secret",
        "....//secret",
        ".hidden",
        "web%00",
        "WEB",
        "web.",
        "web:",
    ];
    for host in hosts {
        let status = get(router.addr(0), host).status;
        assert!(matches!(status, 400 | 502), "{host}: {status}");
    }
    for path in ["/../secret", "/%2e%2e/secret", "/..%2fsecret/x", "//secret", "/./web", "/web/../secret", "/.hidden/x"]
    {
        let response = Client::connect(router.addr(1)).get("x", path);
        let leaf = response.status == 200 && path == "/web/../secret";
        assert!(leaf || matches!(response.status, 400 | 502), "{path}: {}", response.status);
    }
    for name in
        ["/../secret", "/\\x2e\\x2e/secret", "/\\x2e\\x2e\\x2fsecret", "/.hidden", "//secret", "/web\\x00", "secret"]
    {
        let response = Client::connect(router.addr(2)).request("GET", "x", "/", &[("l5d-name", name)], b"");
        assert!(matches!(response.status, 400 | 502), "{name}: {}", response.status);
        // Without the `!` the base table would be asked next.
        let dtab = format!("/svc/web => /#/io.l5d.fs{name} | !");
        let response = Client::connect(router.addr(0)).request("GET", "web", "/", &[("l5d-dtab", &dtab)], b"");
        assert!(matches!(response.status, 400 | 502), "{dtab}: {}", response.status);
    }
    // `/web/../secret` is the file `web` with the rest of the name left over.
    let extra = site.1.requests().split_off(seen);
    assert!(extra.iter().all(|request| request.target == "/web/../secret"), "{extra:?}");
    assert!(!router.log().contains("panicked"));
}

/// What is in the path goes on as it came: it is the service's to judge.
#[test]
fn targets_are_forwarded_as_they_are() {
    let site = site(FS_CONFIG);
    let mut client = Client::connect(site.0.addr(0));
    for target in ["/%2e%2e/x", "//a", "/./b", "/%2F", "/a;x=y", "/a\\b", "/%c0%af", "/?a=/../b", "/a'\"<>{}|^`"] {
        assert_eq!(client.get("web", target).status, 200, "{target}");
        assert_eq!(site.1.last().target, target);
    }
    client.send_raw(b"OPTIONS * HTTP/1.1\r\nHost: web\r\n\r\n");
    assert_eq!(client.read_response(false).expect("an answer").status, 200);
    assert_eq!(site.1.last().target, "*");
}

/// Many names cost a bounded number of metrics and clients (attack X7).
#[test]
fn many_hosts_make_no_series() {
    let yaml = format!("{}  bindingCache: {{ paths: 50, clients: 50 }}\n", FS_CONFIG.trim_start_matches('\n'));
    let site = site(&yaml);
    let mut client = Client::connect(site.0.addr(0));
    for i in 0..2000 {
        assert_eq!(client.get(&format!("unknown-{i}"), "/").status, 502);
    }
    assert_eq!(client.get("web", "/").status, 200);
    let services = || site.0.page("/admin/metrics.json").text().matches("/requests\"").count();
    eventually("the metrics of names that are gone are gone", SOON, || (services() < 200).then_some(()));
}
