//! HTTP/1 framing attacks (attacks reference, rows H1-1 to H1-14), byte for byte over real sockets.
//!
//! Rule R is asserted for every refused request: the status, no byte at any upstream, the connection closed, the counter
//! `rejected_total{reason}` one higher, and the next request served. Smuggling payloads must end with as many requests
//! behind the router as in front of it. The second half lies the other way round: broken upstreams.
//!
//! Not for: bodies as such (see `bodies`), error texts (see `errors`).

#![allow(clippy::panic, reason = "a story that cannot go on has failed")]

use e2e::{Backend, Client, FS_CONFIG, Reply, Response, Switchyard, eventually, get, try_get};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);

/// A router with one honest service `web` that remembers every byte.
struct Site {
    router: Switchyard,
    web: Backend,
}

/// A request that must be refused.
struct Case {
    id: &'static str,
    bytes: Vec<u8>,
    statuses: &'static [u16],
    /// The label of `rejected_total`; empty when it is not looked at.
    reason: &'static str,
}

const BAD: &[u16] = &[400];

/// A refused POST: field lines, then a body.
fn post(id: &'static str, reason: &'static str, fields: &str, body: &str) -> Case {
    let bytes = format!("POST /evil HTTP/1.1\r\nHost: web\r\n{fields}\r\n{body}").into_bytes();
    Case { id, bytes, statuses: BAD, reason }
}

/// A refused request as it is.
fn raw(id: &'static str, reason: &'static str, text: &str) -> Case {
    Case { id, bytes: text.as_bytes().to_vec(), statuses: BAD, reason }
}

impl Site {
    fn new() -> Site {
        let (router, web) = (Switchyard::start(FS_CONFIG), Backend::text("web"));
        router.disco().set("web", &[web.addr()]);
        eventually("web is served", SOON, || try_get(router.addr(0), "web").ok().filter(|r| r.status == 200));
        Site { router, web }
    }

    /// The counter of one reason; of all reasons for an empty one.
    fn rejected(&self, reason: &str) -> u64 {
        let page = self.router.page("/admin/metrics/prometheus").text();
        let wanted = if reason.is_empty() { String::new() } else { format!("{{reason=\"{reason}\"}}") };
        let lines = page.lines().filter_map(|line| line.strip_prefix("rejected_total"));
        let series = lines.filter(|line| line.starts_with(&wanted));
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    fn serves(&self, after: &str) {
        let response = get(self.router.addr(0), "web");
        assert_eq!((response.status, response.text().as_str()), (200, "web"), "after {after}");
    }

    /// Sends a request that must be refused; asserts rule R but for the connection's end.
    fn refused(&self, case: &Case) -> (Client, Response) {
        let (id, bytes, count) = (case.id, self.web.bytes_seen().len(), self.web.count());
        let before = self.rejected(case.reason);
        let mut client = Client::connect(self.router.addr(0));
        // The router may answer and close before all of it is sent.
        let _ = client.try_send_raw(&case.bytes);
        let response = client.read_response(false).unwrap_or_else(|error| panic!("{id}: no answer: {error}"));
        assert!(case.statuses.contains(&response.status), "{id}: {response:?}");
        if !case.reason.is_empty() {
            assert_eq!(self.rejected(case.reason), before + 1, "{id}: rejected_total of {:?}", case.reason);
        }
        assert_eq!(self.web.bytes_seen().len(), bytes, "{id}: bytes reached the upstream");
        assert_eq!(self.web.count(), count, "{id}: a request reached the upstream");
        (client, response)
    }

    /// As [`Site::refused`], and the connection ends.
    fn refused_and_closed(&self, cases: &[Case]) {
        for case in cases {
            let (mut client, response) = self.refused(case);
            assert_eq!(response.header("connection"), Some("close"), "{}", case.id);
            assert!(client.closed_by_peer(), "{}: the connection is still open", case.id);
            self.serves(case.id);
        }
        self.unharmed();
    }

    fn unharmed(&self) {
        let seen = String::from_utf8_lossy(&self.web.bytes_seen()).into_owned();
        assert!(!seen.contains("evil"), "a refused request came through:\n{seen}");
        assert_eq!(self.router.page("/admin/ready").status, 200);
        assert!(!self.router.log().contains("panicked"), "{}", self.router.log());
    }
}

#[test]
fn h1_1_and_2_lengths_in_doubt() {
    const BOTH: &str = "content-length-and-transfer-encoding";
    const LENGTH: &str = "content-length";
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    let mut cases = vec![
        post("H1-1 length first", BOTH, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", chunks),
        post("H1-1 chunked first", BOTH, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", chunks),
        post("H1-1 length 0", BOTH, "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", chunks),
        post("H1-2 two lengths", LENGTH, "Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"),
        post("H1-2 apart", LENGTH, "Content-Length: 5\r\nX-A: b\r\ncontent-LENGTH: 6\r\n", "hello!"),
    ];
    let values = [
        "5, 5",
        "5,6",
        "+5",
        "5 ",
        "5\t",
        "0x5",
        "-1",
        "-0",
        "18446744073709551616",
        "99999999999999999999999",
        "",
        "5 5",
        "5.0",
        "5;",
        "\"5\"",
        "five",
        "\u{665}",
    ];
    for value in values {
        cases.push(post("H1-2 value", LENGTH, &format!("Content-Length: {value}\r\n"), "hello"));
    }
    Site::new().refused_and_closed(&cases);
}

#[test]
fn h1_2_identical_lengths_may_be_merged() {
    let site = Site::new();
    let mut client = Client::connect(site.router.addr(0));
    client.send_raw(b"POST /x HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello");
    let response = client.read_response(false).expect("an answer");
    if response.status == 200 {
        let last = site.web.last();
        assert_eq!((last.all("content-length"), last.body.as_slice()), (vec!["5"], &b"hello"[..]));
    } else {
        assert_eq!(response.status, 400);
        assert!(client.closed_by_peer());
    }
    site.serves("identical lengths");
}

#[test]
fn h1_3_and_4_transfer_encodings_that_are_not_ours() {
    const TE: &str = "transfer-encoding";
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    let values = [
        "xchunked",
        "chunked, identity",
        "identity",
        "chunked, chunked",
        "chunked\t",
        "chunked ",
        "gzip, chunked",
        "gzip",
        "chunked, gzip",
        "\"chunked\"",
        "chunked;q=1",
        "chunked,",
        ",chunked",
        "",
        "c\u{212a}hunked",
    ];
    let mut cases: Vec<Case> = values
        .iter()
        .map(|value| {
            let fields = format!("Transfer-Encoding: {value}\r\n");
            Case { statuses: &[400, 501], ..post("H1-3 value", TE, &fields, chunks) }
        })
        .collect();
    cases.extend([
        post("H1-3 twice", TE, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunks),
        post("H1-3 then another", TE, "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n", chunks),
        post("H1-3 vertical tab", "header-value", "Transfer-Encoding: \x0bchunked\r\n", chunks),
        post("H1-3 in a fold", "obs-fold", "X-A: b\r\n Transfer-Encoding: chunked\r\n", chunks),
        raw(
            "H1-4 chunked in 1.0",
            TE,
            "POST /evil HTTP/1.0\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        raw("H1-4 until close", "length-required", "POST /evil HTTP/1.0\r\nHost: web\r\n\r\nhello"),
    ]);
    Site::new().refused_and_closed(&cases);
}

#[test]
fn h1_5_chunks_that_are_not_chunks() {
    const SIZE: &str = "chunk-size";
    const END: &str = "chunk-end";
    const EXT: &str = "chunk-extension";
    let bodies = [
        ("overflow", SIZE, "10000000000000000\r\nhello\r\n0\r\n\r\n"),
        ("all ones and more", SIZE, "fffffffffffffffff\r\nhello\r\n"),
        ("negative", SIZE, "-5\r\nhello\r\n0\r\n\r\n"),
        ("plus", SIZE, "+5\r\nhello\r\n0\r\n\r\n"),
        ("0x", SIZE, "0x5\r\nhello\r\n0\r\n\r\n"),
        ("leading space", SIZE, " 5\r\nhello\r\n0\r\n\r\n"),
        ("trailing space", SIZE, "5 \r\nhello\r\n0\r\n\r\n"),
        ("empty size", SIZE, "\r\nhello\r\n0\r\n\r\n"),
        ("not hexadecimal", SIZE, "g\r\nhello\r\n0\r\n\r\n"),
        ("bare LF after the size", SIZE, "5\nhello\r\n0\r\n\r\n"),
        ("CR and no LF", SIZE, "5\rXhello\r\n0\r\n\r\n"),
        ("LF in the extension", EXT, "5;a\nb\r\nhello\r\n0\r\n\r\n"),
        ("NUL in the extension", EXT, "5;a\0b\r\nhello\r\n0\r\n\r\n"),
        ("no CRLF after the data", END, "5\r\nhello0\r\n\r\n"),
        ("bare LF after the data", END, "5\r\nhello\n0\r\n\r\n"),
        ("more data than said", END, "5\r\nhelloXX\r\n0\r\n\r\n"),
        ("less data than said", END, "5\r\nhell\r\n0\r\n\r\n"),
        ("bare LF at the end", "trailers", "5\r\nhello\r\n0\r\n\n"),
        ("a request as a trailer", "trailers", "5\r\nhello\r\n0\r\nGET /evil HTTP/1.1\r\nHost: web\r\n\r\n"),
    ];
    let te = "Transfer-Encoding: chunked\r\n";
    let mut cases: Vec<Case> = bodies.iter().map(|(id, reason, body)| post(id, reason, te, body)).collect();
    let huge = "x".repeat(16 * 1024 * 1024);
    cases.push(post("16 MB of extension", EXT, te, &format!("5;{huge}\r\nhello\r\n0\r\n\r\n")));
    let many = "1;xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\na\r\n".repeat(400);
    let site = Site::new();
    let rss = site.router.rss_kib();
    site.refused_and_closed(&cases);
    // Long in sum only: by then some of it may be under way, but the upstream must not see an end.
    let count = site.web.count();
    let mut client = Client::connect(site.router.addr(0));
    let _ = client.try_send_raw(&post("", "", te, &format!("{many}0\r\n\r\n")).bytes);
    assert_eq!(client.read_response(false).expect("an answer").status, 400);
    assert_eq!(site.web.count(), count, "the upstream took a broken body for a whole one");
    assert!(site.router.rss_kib() < rss + 20 * 1024, "memory is back");
}

#[test]
fn h1_6_trailers_that_no_one_may_set() {
    let site = Site::new();
    let mut client = Client::connect(site.router.addr(0));
    client.send_raw(
        b"POST /x HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\nAuthorization: mine\r\n\r\n5\r\nhello\r\n0\r\n\
          Content-Length: 9\r\nTransfer-Encoding: gzip\r\nHost: other\r\nl5d-dtab: /svc=>/evil\r\nl5d_ctx_dtab: /a=>/b\r\n\
          L5D-Reqid: 1\r\nAuthorization: evil\r\nX-Forwarded-For: 1.2.3.4\r\nx_forwarded_proto: evil\r\nCookie: evil\r\n\
          Connection: close\r\nTrailer: x\r\nX-Checksum: 42\r\n\r\n",
    );
    assert_eq!(client.read_response(false).expect("an answer").status, 200);
    let last = site.web.last();
    assert_eq!(last.body, b"hello");
    assert_eq!(last.trailers, [("x-checksum".to_owned(), "42".to_owned())]);
    assert_eq!((last.header("host"), last.header("content-length")), (Some("web"), None));
    assert_eq!(last.all("authorization"), ["mine"]);
    assert_eq!((last.header("x-forwarded-for"), last.header("l5d-ctx-dtab")), (None, None));
    assert_eq!(client.get("web", "/again").status, 200, "the connection goes on");
    site.unharmed();
}

#[test]
fn h1_7_field_lines_that_are_none() {
    let fields = [
        ("space before the colon", "space-before-colon", "X-A : b\r\n"),
        ("length with a space", "space-before-colon", "Content-Length : 5\r\n"),
        ("coding with a tab", "space-before-colon", "Transfer-Encoding\t: chunked\r\n"),
        ("fold", "obs-fold", "X-A: b\r\n c\r\n"),
        ("fold with a tab", "obs-fold", "X-A: b\r\n\tc\r\n"),
        ("NUL in a value", "header-value", "X-A: b\0c\r\n"),
        ("escape in a value", "header-value", "X-A: b\x1b[31mc\r\n"),
        ("DEL in a value", "header-value", "X-A: b\x7fc\r\n"),
        ("CR in a value", "bare-cr", "X-A: b\rc\r\n"),
        ("CR hides a line", "bare-cr", "X-A: b\rContent-Length: 5\r\n"),
        ("LF ends a line", "bare-lf", "X-A: b\nX-C: d\r\n"),
        ("no name", "header-name", ": b\r\n"),
        ("space in a name", "header-name", "X A: b\r\n"),
        ("parenthesis in a name", "header-name", "X(A): b\r\n"),
        ("NUL in a name", "header-name", "X\0A: b\r\n"),
        ("slash in a name", "header-name", "X/A: b\r\n"),
        ("8 bits in a name", "header-name", "X-\u{e4}: b\r\n"),
        ("no colon", "header-line", "X-A\r\n"),
    ];
    let mut cases: Vec<Case> = fields.iter().map(|(id, reason, field)| post(id, reason, field, "hello")).collect();
    cases.extend([
        raw("space before the first field", "obs-fold", "GET /evil HTTP/1.1\r\n Host: web\r\n\r\n"),
        raw("LF only", "bare-lf", "GET /evil HTTP/1.1\nHost: web\n\n"),
        raw("LF after the line", "bare-lf", "GET /evil HTTP/1.1\nHost: web\r\n\r\n"),
        raw("CR in the target", "bare-cr", "GET /evil\rx HTTP/1.1\r\nHost: web\r\n\r\n"),
        raw("two empty lines first", "empty-line", "\r\n\r\nGET /evil HTTP/1.1\r\nHost: web\r\n\r\n"),
        raw("space first", "method", " GET /evil HTTP/1.1\r\nHost: web\r\n\r\n"),
        raw("two spaces", "target", "GET  /evil HTTP/1.1\r\nHost: web\r\n\r\n"),
        raw("tab in the line", "request-line", "GET\t/evil\tHTTP/1.1\r\nHost: web\r\n\r\n"),
        raw("space in the target", "target", "GET /evil x HTTP/1.1\r\nHost: web\r\n\r\n"),
        raw("NUL in the target", "target", "GET /evil\0 HTTP/1.1\r\nHost: web\r\n\r\n"),
        raw("8 bits in the target", "target", "GET /evil\u{e4} HTTP/1.1\r\nHost: web\r\n\r\n"),
        raw("fragment", "target", "GET /evil#x HTTP/1.1\r\nHost: web\r\n\r\n"),
        raw("no version", "request-line", "GET /evil\r\nHost: web\r\n\r\n"),
        raw("version 0.9", "version", "GET /evil HTTP/0.9\r\nHost: web\r\n\r\n"),
        raw("version 2.0", "version", "GET /evil HTTP/2.0\r\nHost: web\r\n\r\n"),
        raw("version 1.10", "request-line", "GET /evil HTTP/1.10\r\nHost: web\r\n\r\n"),
        raw("lower-case version", "version", "GET /evil http/1.1\r\nHost: web\r\n\r\n"),
    ]);
    Site::new().refused_and_closed(&cases);
}

#[test]
fn h1_8_hosts_in_doubt() {
    let site = Site::new();
    let hosts = [
        "Host: web\r\nHost: web",
        "Host: web\r\nHost: other",
        "host: other\r\nX-A: b\r\nHOST: web",
        "X-A: no host at all",
        "Host: user@web",
        "Host: user:secret@web",
        "Host: a b",
        "Host: a,b",
        "Host: web, web",
        "Host: web:0",
        "Host: web:65536",
        "Host: web:99999999999",
        "Host: web/evil",
        "Host: web?evil",
        "Host: web#evil",
        "Host: web\\evil",
        "Host: <web>",
        "Host: web\u{e4}",
        "Host: http://web/",
    ];
    for host in hosts {
        let text = format!("GET /evil HTTP/1.1\r\n{host}\r\n\r\n");
        site.refused(&Case { id: host, bytes: text.into_bytes(), statuses: BAD, reason: "" });
        site.serves(host);
    }
    for target in ["http://user@web/evil", "http://web:0/evil", "http://web:65536/evil", "http://a,b/evil"] {
        let text = format!("GET {target} HTTP/1.1\r\nHost: web\r\n\r\n");
        site.refused(&Case { id: target, bytes: text.into_bytes(), statuses: BAD, reason: "" });
    }
    site.unharmed();
}

/// RFC 9112 §3.2: more than one Host is a 400, whatever the target says.
#[test]
fn h1_8_two_hosts_beside_an_absolute_target() {
    let site = Site::new();
    for hosts in ["Host: web\r\nHost: other", "Host: web\r\nHost: web"] {
        let text = format!("GET http://web/evil HTTP/1.1\r\n{hosts}\r\n\r\n");
        site.refused(&Case { id: hosts, bytes: text.into_bytes(), statuses: BAD, reason: "" });
    }
    site.unharmed();
}

#[test]
fn h1_8_an_absolute_target_wins_everywhere() {
    let site = Site::new();
    let other = Backend::text("other");
    site.router.disco().set("other", &[other.addr()]);
    eventually("other is served", SOON, || try_get(site.router.addr(0), "other").ok().filter(|r| r.status == 200));
    let mut client = Client::connect(site.router.addr(0));
    for (target, wanted) in [("http://other/a?b=c", "/a?b=c"), ("http://other", "/"), ("http://other/", "/")] {
        client.send_raw(format!("GET {target} HTTP/1.1\r\nHost: web\r\n\r\n").as_bytes());
        let response = client.read_response(false).expect("an answer");
        assert_eq!((response.status, response.text().as_str()), (200, "other"), "{target}");
        let last = other.last();
        assert_eq!((last.target.as_str(), last.all("host")), (wanted, vec!["other"]), "{target}");
        assert_eq!(last.header("l5d-dst-service"), Some("/svc/other"), "{target}");
    }
}

/// RFC 9112 §3.2.1: a target in origin form begins with a slash.
#[test]
fn h1_8_an_absolute_target_without_a_path_gets_a_slash() {
    let site = Site::new();
    let mut client = Client::connect(site.router.addr(0));
    client.send_raw(b"GET http://web?b=c HTTP/1.1\r\nHost: web\r\n\r\n");
    assert_eq!(client.read_response(false).expect("an answer").status, 200);
    assert_eq!(site.web.last().target, "/?b=c");
}

/// What happens after 101 is in `upgrade`.
#[test]
fn h1_9_nothing_is_forwarded_before_101() {
    let site = Site::new();
    let mut client = Client::connect(site.router.addr(0));
    client.send_raw(b"GET /a HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n\x00\x01evil\r\n\r\n");
    let response = client.read_response(false).expect("an answer");
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    assert!(client.closed_by_peer(), "the bytes after the request stay ours");
    let last = site.web.last();
    let asked = (last.target.as_str(), last.header("upgrade"), last.header("connection"));
    assert_eq!(asked, ("/a", Some("foo"), Some("upgrade")));
    assert!(!site.web.bytes_seen().windows(4).any(|bytes| bytes == b"evil"));
    site.unharmed();
}

#[test]
fn h1_10_upgrades_to_http_2_are_not_made() {
    let site = Site::new();
    let mut client = Client::connect(site.router.addr(0));
    client.send_raw(
        b"GET /b HTTP/1.1\r\nHost: web\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
          HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    );
    let response = client.read_response(false).expect("an answer");
    assert_eq!((response.status, response.version.as_str()), (200, "HTTP/1.1"));
    let last = site.web.last();
    assert_eq!((last.header("upgrade"), last.header("http2-settings")), (None, None));
    // Settings that Connection does not name are no more welcome.
    client.request("GET", "web", "/c", &[("HTTP2-Settings", "x"), ("Upgrade", "h2c")], b"");
    let last = site.web.last();
    assert_eq!((last.header("upgrade"), last.header("http2-settings")), (None, None));
    site.unharmed();
}

#[test]
fn h1_11_unknown_expectations() {
    let site = Site::new();
    for body in ["", "Content-Length: 31\r\n"] {
        let after = "GET /evil HTTP/1.1\r\nHost: web\r\n\r\n";
        let text = format!("POST /evil HTTP/1.1\r\nHost: web\r\nExpect: y\r\n{body}\r\n");
        let case = Case { id: body, bytes: text.into_bytes(), statuses: &[417], reason: "" };
        let (mut client, _) = site.refused(&case);
        if !body.is_empty() {
            // The body was never read: no byte of it may be taken for a request.
            let _ = client.try_send_raw(after.as_bytes());
            assert!(client.closed_by_peer());
        }
    }
    site.unharmed();
}

/// Rule R counts every refusal, also those of heads that are well-formed.
#[test]
fn refusals_of_well_formed_heads_are_counted() {
    let site = Site::new();
    let heads = [
        ("GET /evil HTTP/1.1\r\nHost: web\r\nHost: other", 400),
        ("GET /evil HTTP/1.1", 400),
        ("GET /evil HTTP/1.1\r\nHost: user@web", 400),
        ("GET /evil HTTP/1.1\r\nHost: web\r\nExpect: y", 417),
        ("CONNECT web:443 HTTP/1.1\r\nHost: web", 405),
    ];
    let mut uncounted = Vec::new();
    for (head, status) in heads {
        let before = site.rejected("");
        let mut client = Client::connect(site.router.addr(0));
        client.send_raw(format!("{head}\r\n\r\n").as_bytes());
        assert_eq!(client.read_response(false).expect("an answer").status, status, "{head}");
        if site.rejected("") != before + 1 {
            uncounted.push(head);
        }
    }
    assert!(uncounted.is_empty(), "rejected_total did not count: {uncounted:#?}");
}

#[test]
fn h1_14_methods() {
    let site = Site::new();
    let mut cases = vec![
        raw("preface", "http2-preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        raw("lower case", "method", "get /evil HTTP/1.1\r\nHost: web\r\n\r\n"),
        raw("mixed case", "method", "Get /evil HTTP/1.1\r\nHost: web\r\n\r\n"),
        raw("33 bytes", "method", &format!("{} /evil HTTP/1.1\r\nHost: web\r\n\r\n", "M".repeat(33))),
        raw("not a token", "method", "G@T /evil HTTP/1.1\r\nHost: web\r\n\r\n"),
    ];
    let megabyte = format!("{} /evil HTTP/1.1\r\nHost: web\r\n\r\n", "M".repeat(1024 * 1024));
    cases.push(Case { statuses: &[400, 414], ..raw("1 MB", "line-too-long", &megabyte) });
    cases[0].reason = "";
    site.refused_and_closed(&cases);
    // Mid-connection as well.
    let mut client = Client::connect(site.router.addr(0));
    assert_eq!(client.get("web", "/a").status, 200);
    client.send_raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_eq!(client.read_response(false).expect("an answer").status, 400);
    assert!(client.closed_by_peer());
    for target in ["web:443", "/evil", "*", "127.0.0.1:22"] {
        let text = format!("CONNECT {target} HTTP/1.1\r\nHost: web\r\n\r\n");
        site.refused(&Case { id: "CONNECT", bytes: text.into_bytes(), statuses: &[405, 501], reason: "" });
    }
    site.unharmed();
}

#[test]
fn h1_14_trace_counts_its_hops() {
    let site = Site::new();
    let mut client = Client::connect(site.router.addr(0));
    let asked = |client: &mut Client, hops: &str| client.request("TRACE", "web", "/t", &[("Max-Forwards", hops)], b"");
    let response = asked(&mut client, "0");
    assert_eq!((response.status, response.body.len()), (200, 0));
    let before = site.web.count();
    assert_eq!(asked(&mut client, "0").status, 200);
    assert_eq!(site.web.count(), before, "answered here");
    assert_eq!(asked(&mut client, "3").status, 200);
    assert_eq!(site.web.last().header("max-forwards"), Some("2"));
    let response = asked(&mut client, "many");
    assert_eq!((response.status, response.text().as_str()), (400, "Invalid value for Max-Forwards header"));
}

/// Attack X6: what names the service is what is passed on, byte for byte; dot segments that would name another one are
/// refused, in any spelling.
#[test]
fn x6_paths_mean_one_thing() {
    let web = Backend::text("web");
    let config =
        FS_CONFIG.replace("  dtab:", "  identifier: { kind: io.l5d.path, segments: 1, consume: true }\n  dtab:");
    let router = Switchyard::start(&config);
    router.disco().set("web", &[web.addr()]);
    router.disco().set("web;x", &[web.addr()]);
    let ask = |target: &str| {
        let mut client = Client::connect(router.addr(0));
        client.send_raw(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        let response = client.read_response(false).expect("an answer");
        (response.status, response.text())
    };
    for (target, seen) in [
        ("/web/a/../b", "/a/../b"),
        ("/web//a", "//a"),
        ("/web/%2F;x\\y", "/%2F;x\\y"),
        ("/web/a/%2e%2e/b?x=../..", "/a/%2e%2e/b?x=../.."),
        ("/web/%C0%AE%C0%AE/", "/%C0%AE%C0%AE/"),
        ("/web;x/a", "/a"),
    ] {
        assert_eq!(ask(target), (200, "web".to_owned()), "{target}");
        assert_eq!(web.last().target, seen, "{target}");
    }
    let before = web.count();
    for target in
        ["/web/../admin", "/web/%2e%2E/admin", "/../web", "/./web", "/web/..;/x", "/web/..%5cadmin", "//web/x"]
    {
        let (status, text) = ask(target);
        assert_eq!(status, if target == "//web/x" { 502 } else { 400 }, "{target}: {text}");
    }
    assert_eq!(web.count(), before);
}

/// Data-plane reference §17: every router on the way appends what it made of the request, for those who may know.
#[test]
fn trace_with_context_shows_every_hop() {
    let yaml = FS_CONFIG.replace("/svc => /#/io.l5d.fs", "/svc => /host ; /host => /$/inet/127.1/@P1@");
    let back = "- { protocol: http, label: back, servers: [{ port: @P1@ }, { port: @P2@, clearContext: true }],\n  \
                  dtab: '/svc/no => ~ ; /svc => /#/io.l5d.fs ;' }\n";
    let router = Switchyard::start(&format!("{yaml}{back}"));
    let web = Backend::with(|request| match request.target.as_str() {
        "/large" => Reply::text("x".repeat(100_000)).chunked(),
        _ => Reply::text("echo"),
    });
    router.disco().set("web", &[web.addr()]);
    let ask = |port: usize, target: &str, more: &[(&str, &str)]| {
        let lines = [&[("l5d-add-context", "true")], more].concat();
        Client::connect(router.addr(port)).request("TRACE", "web", target, &lines, b"")
    };
    let text = ask(0, "/", &[]).text();
    let (back_port, web_addr) = (router.addr(1), web.addr());
    let wanted = [
        "echo\n--- Router: back ---\nrequest duration: ".to_owned(),
        format!(" ms\nservice name: /svc/web\nclient name: /#/io.l5d.fs/web\naddresses: [{web_addr}]\n"),
        format!(
            "selected address: {web_addr}\ndtab resolution:\n  /svc/web\n  /#/io.l5d.fs/web (/svc=>/#/io.l5d.fs)\n"
        ),
        "--- Router: http ---\n".to_owned(),
        format!(
            "selected address: {back_port}\ndtab resolution:\n  /svc/web\n  /host/web (/svc=>/host)\n  /$/inet/127.1/"
        ),
    ];
    let mut rest = text.as_str();
    for part in &wanted {
        rest = rest.split_once(part.as_str()).unwrap_or_else(|| panic!("no {part:?} in {rest:?} of:\n{text}")).1;
    }
    let last = ask(1, "/", &[("Max-Forwards", "0")]);
    assert_eq!((last.status, web.count()), (200, 1), "answered here");
    assert!(
        last.text().starts_with("--- Router: back ---\n") && !last.text().contains("client name"),
        "{}",
        last.text()
    );
    let large = ask(1, "/large", &[]).text();
    assert!(large.contains("transfer-encoding: chunked\n(the body is left out") && large.len() < 2000, "{large}");
    let hidden = ask(2, "/", &[]);
    assert_eq!((hidden.status, hidden.text().as_str()), (200, "echo"), "not for everybody");
    let plain = Client::connect(router.addr(0)).request("GET", "web", "/", &[("l5d-add-context", "true")], b"");
    assert_eq!(plain.text(), "echo", "only for TRACE");
}

/// One connection's bytes, and what must come of them.
struct Payload {
    id: &'static str,
    bytes: String,
    answers: &'static [u16],
    /// Targets that the upstream must see, no more and no less.
    targets: &'static [&'static str],
}

fn payloads() -> Vec<Payload> {
    const TWO: &[u16] = &[200, 200];
    const BOTH: &[&str] = &["/1", "/2"];
    let evil = "GET /evil HTTP/1.1\r\nHost: web\r\n\r\n";
    let next = "GET /2 HTTP/1.1\r\nHost: web\r\n\r\n";
    let n = evil.len();
    let refused = |id, fields: &str, body: &str| Payload {
        id,
        bytes: format!("POST /evil HTTP/1.1\r\nHost: web\r\n{fields}\r\n{body}{next}"),
        answers: BAD,
        targets: &[],
    };
    let legal = |id, first: &str, body: &str| Payload {
        id,
        bytes: format!("{first}\r\n{body}{next}"),
        answers: TWO,
        targets: BOTH,
    };
    let chunk = format!("{n:x}\r\n{evil}\r\n0\r\n\r\n");
    vec![
        refused("CL.TE", "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nG"),
        refused("TE.CL", "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", &chunk),
        refused("TE.TE cow", "Transfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n", &chunk),
        refused("TE.TE x", "Transfer-Encoding: xchunked\r\nContent-Length: 4\r\n", &chunk),
        refused("TE.TE space", "Transfer-Encoding : chunked\r\nContent-Length: 4\r\n", &chunk),
        refused("TE.TE fold", "X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", &chunk),
        refused("CL.CL", &format!("Content-Length: 0\r\nContent-Length: {n}\r\n"), evil),
        legal("CL.0", &format!("POST /1 HTTP/1.1\r\nHost: web\r\nContent-Length: {n}\r\n"), evil),
        legal("0.CL", &format!("GET /1 HTTP/1.1\r\nHost: web\r\nContent-Length: {n}\r\n"), evil),
        legal("0.CL OPTIONS", &format!("OPTIONS /1 HTTP/1.1\r\nHost: web\r\nContent-Length: {n}\r\n"), evil),
        legal(
            "0.CL with Expect",
            &format!("GET /1 HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: {n}\r\n"),
            evil,
        ),
        legal("TE.0", "POST /1 HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n", &chunk),
        legal("TE.0 GET", "GET /1 HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: CHUNKED\r\n", &chunk),
        legal(
            "extension",
            "GET /1 HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n",
            "5;a=b\r\nhello\r\n000\r\n\r\n",
        ),
        legal("length 0", "POST /1 HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n", ""),
        legal("empty line between", "POST /1 HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n", "\r\n"),
        legal(
            "length nominated",
            &format!("POST /1 HTTP/1.1\r\nHost: web\r\nConnection: content-length\r\nContent-Length: {n}\r\n"),
            evil,
        ),
        legal(
            "coding nominated",
            "POST /1 HTTP/1.1\r\nHost: web\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n",
            &chunk,
        ),
        legal(
            "HTTP/1.0",
            &format!("POST /1 HTTP/1.0\r\nHost: web\r\nConnection: keep-alive\r\nContent-Length: {n}\r\n"),
            evil,
        ),
    ]
}

#[test]
fn nothing_is_smuggled() {
    let site = Site::new();
    for payload in payloads() {
        let id = payload.id;
        let before = site.web.count();
        let mut client = Client::connect(site.router.addr(0));
        client.send_raw(payload.bytes.as_bytes());
        for status in payload.answers {
            let response = client.read_response(false).unwrap_or_else(|error| panic!("{id}: {error}"));
            assert_eq!(response.status, *status, "{id}");
        }
        if payload.answers == BAD {
            assert!(client.closed_by_peer(), "{id}");
        } else {
            assert_eq!(client.get("web", "/3").status, 200, "{id}: the connection goes on");
        }
        let seen = site.web.requests().split_off(before);
        let mut targets: Vec<&str> = seen.iter().map(|request| request.target.as_str()).collect();
        targets.retain(|target| *target != "/3");
        assert_eq!(targets, payload.targets, "{id}: what the upstream saw");
        site.serves(id);
    }
    assert_eq!(site.router.page("/admin/ready").status, 200);
}

/// The same payload, one byte at a time: where a read ends changes nothing.
#[test]
fn nothing_is_smuggled_byte_by_byte() {
    let site = Site::new();
    for id in ["TE.CL", "CL.0", "TE.0"] {
        let payload = payloads().into_iter().find(|payload| payload.id == id).expect("in the list");
        let before = site.web.count();
        let mut client = Client::connect(site.router.addr(0));
        for byte in payload.bytes.as_bytes() {
            if client.try_send_raw(&[*byte]).is_err() {
                break;
            }
        }
        for status in payload.answers {
            assert_eq!(client.read_response(false).expect("an answer").status, *status, "{id}");
        }
        assert_eq!(site.web.count() - before, payload.targets.len(), "{id}");
    }
}

/// An upstream that answers whatever it is told to.
#[derive(Default)]
struct Lies {
    answer: Mutex<Vec<u8>>,
    /// Sent some time after the answer, unasked.
    late: Mutex<Vec<u8>>,
    /// How often that was sent.
    sent_late: AtomicUsize,
    /// 1 to close after the answer.
    close: AtomicUsize,
    connections: AtomicUsize,
    /// Which request of its connection the last one was.
    nth: AtomicUsize,
}

const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood";

impl Lies {
    fn serve(&self, mut socket: TcpStream) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let mut nth = 0;
        while read_head(&mut socket) {
            nth += 1;
            self.nth.store(nth, Ordering::SeqCst);
            let (answer, late) =
                (self.answer.lock().expect("a lock").clone(), self.late.lock().expect("a lock").clone());
            if socket.write_all(&answer).is_err() || self.close.load(Ordering::SeqCst) == 1 {
                return;
            }
            if !late.is_empty() {
                std::thread::sleep(Duration::from_millis(30));
                let _ = socket.write_all(&late);
                self.sent_late.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    fn tell(&self, answer: &str, close: bool) {
        *self.answer.lock().expect("a lock") = answer.as_bytes().to_vec();
        self.close.store(usize::from(close), Ordering::SeqCst);
    }
}

/// Reads one request head; false at the end.
fn read_head(socket: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return false,
        }
    }
    true
}

/// A router with one worker in front of a liar.
fn liar() -> (Switchyard, Backend, Arc<Lies>) {
    let lies = Arc::new(Lies::default());
    lies.tell(GOOD, false);
    let shared = lies.clone();
    let backend = Backend::raw(move |socket| shared.serve(socket));
    let router = Switchyard::start_with(FS_CONFIG, &["--workers", "1"]);
    router.disco().set("liar", &[backend.addr()]);
    eventually("the liar is served", SOON, || try_get(router.addr(0), "liar").ok().filter(|r| r.status == 200));
    (router, backend, lies)
}

/// The next request is served, on another connection.
fn good_again(router: &Switchyard, lies: &Lies, after: &str) {
    lies.tell(GOOD, false);
    let response = get(router.addr(0), "liar");
    assert_eq!((response.status, response.text().as_str()), (200, "good"), "after {after}");
    assert_eq!(lies.nth.load(Ordering::SeqCst), 1, "{after}: the connection was used again");
}

#[test]
fn h1_13_bad_upstream_heads_are_502() {
    let (router, _backend, lies) = liar();
    let filler = "x".repeat(9000);
    let flood = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(40);
    let answers = [
        ("length and chunked", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("chunked and length", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n"),
        ("two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nevil!"),
        ("a list of lengths", "HTTP/1.1 200 OK\r\ncontent-length: 4, 4\r\n\r\nevil"),
        ("a negative length", "HTTP/1.1 200 OK\r\ncontent-length: -4\r\n\r\nevil"),
        ("gzip", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nevil"),
        ("gzip, chunked", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ("chunked in 1.0", "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("garbage", "\0\x01\x02evil evil evil\r\n\r\n"),
        ("SSH", "SSH-2.0-OpenSSH_9.6\r\n"),
        ("a request", "GET / HTTP/1.1\r\nhost: evil\r\n\r\n"),
        ("version 2.0", "HTTP/2.0 200 OK\r\ncontent-length: 4\r\n\r\nevil"),
        ("no status", "HTTP/1.1 OK\r\ncontent-length: 4\r\n\r\nevil"),
        ("status 99", "HTTP/1.1 099 OK\r\ncontent-length: 4\r\n\r\nevil"),
        ("LF only", "HTTP/1.1 200 OK\ncontent-length: 4\n\nevil"),
        ("a fold", "HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 4\r\n\r\nevil"),
        ("space before the colon", "HTTP/1.1 200 OK\r\ncontent-length : 4\r\n\r\nevil"),
        ("CR in a value", "HTTP/1.1 200 OK\r\nx: a\rb\r\ncontent-length: 4\r\n\r\nevil"),
        ("too many headers", &format!("HTTP/1.1 200 OK\r\nx: {filler}\r\ncontent-length: 4\r\n\r\nevil")),
        ("switching protocols", "HTTP/1.1 101 Switching Protocols\r\nupgrade: evil\r\nconnection: upgrade\r\n\r\nevil"),
        ("a flood of 1xx", &flood),
    ];
    for (id, answer) in answers {
        lies.tell(answer, false);
        let response = get(router.addr(0), "liar");
        assert_eq!(response.status, 502, "{id}");
        assert!(response.header("l5d-err").is_some(), "{id}: {response:?}");
        assert!(!response.text().contains("evil"), "{id}: {}", response.text());
        good_again(&router, &lies, id);
    }
    for (id, answer) in
        [("nothing", ""), ("half a head", "HTTP/1.1 200 OK\r\ncont"), ("no empty line", "HTTP/1.1 200 OK\r\n")]
    {
        lies.tell(answer, true);
        let response = get(router.addr(0), "liar");
        assert_eq!((response.status, response.header("l5d-err").is_some()), (502, true), "{id}");
        good_again(&router, &lies, id);
    }
    assert!(!router.log().contains("panicked"), "{}", router.log());
}

#[test]
fn h1_13_the_client_notices_broken_bodies() {
    let (router, _backend, lies) = liar();
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let answers = [
        ("bad chunk size", format!("{head}4\r\ngood\r\nxyz\r\n"), false),
        ("size overflow", format!("{head}4\r\ngood\r\n10000000000000000\r\nevil"), false),
        ("no CRLF after a chunk", format!("{head}4\r\ngoodevil\r\n0\r\n\r\n"), false),
        ("LF after the size", format!("{head}4\ngood\r\n0\r\n\r\n"), false),
        ("closed in a chunk", format!("{head}10\r\ngood"), true),
        ("closed before the last chunk", format!("{head}4\r\ngood\r\n"), true),
        ("closed in the length", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\ngood".to_owned(), true),
    ];
    for (id, answer, close) in answers {
        lies.tell(&answer, close);
        let mut client = Client::connect(router.addr(0));
        client.send_raw(b"GET / HTTP/1.1\r\nHost: liar\r\n\r\n");
        match client.read_response(false) {
            Ok(response) => assert_eq!(response.status, 502, "{id}: taken for whole: {response:?}"),
            Err(_) => assert!(client.closed_by_peer(), "{id}"),
        }
        // HTTP/1.0 has no end mark: only a reset tells.
        let mut client = Client::connect(router.addr(0));
        client.send_raw(b"GET / HTTP/1.0\r\nHost: liar\r\n\r\n");
        let old = client.read_response(false);
        assert!(!old.as_ref().is_ok_and(|response| response.status == 200), "{id}: taken for whole: {old:?}");
        good_again(&router, &lies, id);
    }
}

#[test]
fn h1_12_what_follows_a_response_is_never_an_answer() {
    let (router, _backend, lies) = liar();
    let evil = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let answers = [
        ("a second response", "GET", 200, format!("{GOOD}{evil}")),
        ("a few bytes", "GET", 200, format!("{GOOD}\r\n")),
        ("a body for HEAD", "HEAD", 200, evil.to_owned()),
        (
            "a body for 204",
            "GET",
            204,
            format!("HTTP/1.1 204 No Content\r\ncontent-length: {}\r\n\r\n{evil}", evil.len()),
        ),
        ("a silent body for 204", "GET", 204, format!("HTTP/1.1 204 No Content\r\n\r\n{evil}")),
        ("a body for 304", "GET", 304, format!("HTTP/1.1 304 Not Modified\r\ncontent-length: 4\r\n\r\n{evil}")),
        (
            "after the last chunk",
            "GET",
            200,
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{evil}"),
        ),
    ];
    for (id, method, status, answer) in answers {
        lies.tell(&answer, false);
        let mut client = Client::connect(router.addr(0));
        let response = client.request(method, "liar", "/", &[], b"");
        assert_eq!(response.status, status, "{id}");
        assert!(!response.text().contains("evil"), "{id}");
        // On the same connection of the client.
        lies.tell(GOOD, false);
        let response = client.get("liar", "/");
        assert_eq!((response.status, response.text().as_str()), (200, "good"), "{id}");
        assert_eq!(lies.nth.load(Ordering::SeqCst), 1, "{id}: the connection was used again");
    }
    // Bytes that come while the connection waits in the pool.
    *lies.late.lock().expect("a lock") = evil.as_bytes().to_vec();
    for round in 0..4 {
        assert_eq!(get(router.addr(0), "liar").text(), "good");
        eventually("they came", SOON, || (lies.sent_late.load(Ordering::SeqCst) > round).then_some(()));
        router.await_metric("rt/http/client/#/io.l5d.fs/liar/pool_size", 0.0);
        let nth = lies.nth.load(Ordering::SeqCst);
        assert!(round == 0 || nth == 1, "an answer to nothing was kept for the next request");
    }
}

#[test]
fn h1_12_a_get_with_a_body_keeps_its_framing() {
    let site = Site::new();
    let mut client = Client::connect(site.router.addr(0));
    for method in ["GET", "DELETE", "OPTIONS"] {
        let response = client.request(method, "web", "/b", &[("Content-Length", "5")], b"hello");
        assert_eq!(response.status, 200);
        let last = site.web.last();
        assert_eq!(
            (last.method.as_str(), last.body.as_slice(), last.header("content-length")),
            (method, &b"hello"[..], Some("5"))
        );
    }
}
