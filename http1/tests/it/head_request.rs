//! Request heads: one table row per rule. Every input is also fed byte by byte, with the same outcome.

use bytes::BytesMut;
use http::{HeaderMap, Method, Version};
use http1::{BodyLength, HeadError, Limits, RequestHead, parse_request};

fn parse(input: &[u8], limits: &Limits) -> Result<Option<RequestHead>, HeadError> {
    parse_request(&mut BytesMut::from(input), limits, HeaderMap::new())
}

/// Feeds one byte at a time until a verdict.
fn drip(input: &[u8], limits: &Limits) -> Result<Option<RequestHead>, HeadError> {
    let mut buf = BytesMut::new();
    for &byte in input {
        buf.extend_from_slice(&[byte]);
        if let Some(head) = parse_request(&mut buf, limits, HeaderMap::new())? {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

fn reason(result: Result<Option<RequestHead>, HeadError>) -> &'static str {
    match result {
        Ok(Some(_)) => "ok",
        Ok(None) => "partial",
        Err(e) => e.reason(),
    }
}

fn expect(input: &[u8], wanted: &str) {
    let limits = Limits::default();
    let shown = String::from_utf8_lossy(&input[..input.len().min(120)]).into_owned();
    assert_eq!(reason(parse(input, &limits)), wanted, "{shown:?}");
    assert_eq!(reason(drip(input, &limits)), wanted, "dripped {shown:?}");
}

/// A 1.1 GET with these field lines, each to be followed by CRLF.
fn get(lines: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n").into_bytes()
}

fn ok(input: &[u8]) -> RequestHead {
    expect(input, "ok");
    parse(input, &Limits::default()).unwrap().unwrap()
}

#[test]
fn a_plain_request() {
    let mut buf = BytesMut::from(
        &b"POST /a?b=%20c HTTP/1.1\r\nHost: x\r\nX-Y:  v w \r\nEmpty:\r\nContent-Length: 3\r\n\r\nabcGET"[..],
    );
    let head = parse_request(&mut buf, &Limits::default(), HeaderMap::new()).unwrap().unwrap();
    assert_eq!((head.method, &head.target[..], head.version), (Method::POST, &b"/a?b=%20c"[..], Version::HTTP_11));
    assert_eq!(head.headers["x-y"], "v w");
    assert_eq!(head.headers["empty"], "");
    assert_eq!(head.headers.len(), 4);
    assert_eq!(head.body, BodyLength::Length(3));
    assert!(head.keep_alive && !head.expect_continue && !head.expect_other);
    assert_eq!(&buf[..], b"abcGET");
}

#[test]
fn recycled_headers_are_emptied() {
    let mut old = HeaderMap::new();
    old.insert("authorization", "secret".parse().unwrap());
    let mut buf = BytesMut::from(&b"GET / HTTP/1.1\r\nA: b\r\n\r\n"[..]);
    let head = parse_request(&mut buf, &Limits::default(), old).unwrap().unwrap();
    assert_eq!(head.headers.len(), 1);
}

#[test]
fn incomplete_heads_need_more() {
    for input in
        ["", "\r", "\r\n", "GET", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nA: b\r\n", "GET / HTTP/1.1\r\nA: b\r\n\r"]
    {
        expect(input.as_bytes(), "partial");
    }
}

#[test]
fn line_ends_are_crlf_only() {
    expect(b"GET / HTTP/1.1\nHost: a\r\n\r\n", "bare-lf");
    expect(b"GET / HTTP/1.1\r\nHost: a\n\r\n", "bare-lf");
    expect(b"GET / HTTP/1.1\r\nHost: a\r\n\n", "bare-lf");
    expect(b"GET / HTTP/1.1\n\n", "bare-lf");
    expect(b"GET / HTTP/1.1\r\n\n", "bare-lf");
    expect(b"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", "bare-cr");
    expect(b"GET / HTTP/1.1\r\nA: b\r\r\n\r\n", "bare-cr");
    expect(b"GET / HTTP/1.1\r\nA: b\r\n\r\r\n\r\n", "header-line");
    expect(b"GET /\r HTTP/1.1\r\n\r\n", "bare-cr");
    expect(b"GET / HTTP/1.1\r\r\n\r\n", "request-line");
}

#[test]
fn at_most_one_empty_line_comes_first() {
    expect(b"\r\nGET / HTTP/1.1\r\n\r\n", "ok");
    expect(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", "empty-line");
    expect(b"\nGET / HTTP/1.1\r\n\r\n", "bare-lf");
    expect(b"\r\n\nGET / HTTP/1.1\r\n\r\n", "empty-line");
    expect(b"\rGET / HTTP/1.1\r\n\r\n", "bare-cr");
    expect(b" GET / HTTP/1.1\r\n\r\n", "method");
    expect(b"\x16\x03\x01\x02\x00", "method");
}

/// Attack H1-7.
#[test]
fn field_lines_are_strict() {
    for (line, wanted) in [
        ("X : y", "space-before-colon"),
        ("X\t: y", "space-before-colon"),
        (": y", "header-name"),
        (" : y", "obs-fold"),
        (" X: y", "obs-fold"),
        ("X: y\r\n z", "obs-fold"),
        ("X: y\r\n\tz", "obs-fold"),
        ("X", "header-line"),
        ("X Y: z", "header-name"),
        ("X@Y: z", "header-name"),
        ("X(Y): z", "header-name"),
        ("\"X\": z", "header-name"),
        ("X\0: z", "header-name"),
        ("X\u{e9}: z", "header-name"),
        ("X: a\0b", "header-value"),
        ("X: a\x07b", "header-value"),
        ("X: a\x0bb", "header-value"),
        ("X: a\x7fb", "header-value"),
        ("X: a\tb", "ok"),
        ("X: a\u{e9}b", "ok"),
        ("X:", "ok"),
        ("X: :y", "ok"),
        ("!#$%&'*+-.^_`|~09azAZ: y", "ok"),
    ] {
        expect(&get(line), wanted);
    }
}

/// Attack H1-14.
#[test]
fn methods_are_short_upper_case_tokens() {
    for (method, wanted) in [
        ("PURGE", "ok"),
        ("M-SEARCH", "ok"),
        ("CONNECT", "ok"),
        ("TRACE", "ok"),
        ("get", "method"),
        ("GeT", "method"),
        ("G@T", "method"),
        ("G\tT", "method"),
        ("", "method"),
        ("PRI", "http2-preface"),
    ] {
        expect(format!("{method} / HTTP/1.1\r\n\r\n").as_bytes(), wanted);
    }
    expect(format!("{} / HTTP/1.1\r\n\r\n", "M".repeat(32)).as_bytes(), "ok");
    expect(format!("{} / HTTP/1.1\r\n\r\n", "M".repeat(33)).as_bytes(), "method");
    expect(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http2-preface");
    expect("M".repeat(1 << 16).as_bytes(), "line-too-long");
}

#[test]
fn targets_are_visible_ascii() {
    for (target, wanted) in [
        ("/", "ok"),
        ("*", "ok"),
        ("http://a:80/b?c", "ok"),
        ("a:443", "ok"),
        ("/%00\"<>\\^`{|}[]", "ok"),
        ("/a b", "target"),
        ("/a\tb", "target"),
        ("/a\0b", "target"),
        ("/a\x7f", "target"),
        ("/\u{e9}", "target"),
        ("/a#b", "target"),
        ("", "target"),
        (" ", "target"),
        (" /", "target"),
        ("/ ", "target"),
    ] {
        expect(format!("GET {target} HTTP/1.1\r\n\r\n").as_bytes(), wanted);
    }
}

#[test]
fn request_lines_and_versions() {
    for (line, wanted) in [
        ("GET / HTTP/1.0", "ok"),
        ("GET / HTTP/1.9", "ok"),
        ("GET / HTTP/2.0", "version"),
        ("GET / HTTP/0.9", "version"),
        ("GET / http/1.1", "version"),
        ("GET / HTTP/1.x", "version"),
        ("GET / HTTP/11.", "version"),
        ("GET / XTTP/1.1", "version"),
        ("GET / HTTP/1.11", "request-line"),
        ("GET / HTTP/1.1 ", "request-line"),
        ("GET / HTTP/1", "request-line"),
        ("GET /", "request-line"),
        ("GET", "request-line"),
        ("GET HTTP/1.1", "request-line"),
        ("GET / ", "request-line"),
    ] {
        expect(format!("{line}\r\n\r\n").as_bytes(), wanted);
    }
    assert_eq!(ok(b"GET / HTTP/1.0\r\n\r\n").version, Version::HTTP_10);
    assert_eq!(ok(b"GET / HTTP/1.5\r\n\r\n").version, Version::HTTP_11);
    assert!(matches!(parse(b"GET / HTTP/3.0\r\n\r\n", &Limits::default()), Err(HeadError::UnsupportedVersion)));
}

/// Attack H1-2.
#[test]
fn content_length_is_digits() {
    for (line, wanted) in [
        ("Content-Length: 5", "ok"),
        ("Content-Length: 18446744073709551615", "ok"),
        ("Content-Length: 18446744073709551616", "content-length"),
        ("Content-Length: 99999999999999999999999", "content-length"),
        ("Content-Length: +5", "content-length"),
        ("Content-Length: -1", "content-length"),
        ("Content-Length: 0x5", "content-length"),
        ("Content-Length: 5 ", "content-length"),
        ("Content-Length: 5\t", "content-length"),
        ("Content-Length: 5, 5", "content-length"),
        ("Content-Length: 5,", "content-length"),
        ("Content-Length: 5 5", "content-length"),
        ("Content-Length: five", "content-length"),
        ("Content-Length: ", "content-length"),
        ("Content-Length: 1e1", "content-length"),
        ("Content-Length: \u{0665}", "content-length"),
        ("Content-Length: 5\r\nContent-Length: 6", "content-length"),
        ("Content-Length: 5\r\nX: y\r\ncontent-length: 6", "content-length"),
        ("Content-Length: 5\r\nContent-Length: 5", "ok"),
    ] {
        expect(&get(line), wanted);
    }
    let head = ok(&get("Content-Length: 5\r\nContent-Length: 5"));
    assert_eq!(head.body, BodyLength::Length(5));
    assert_eq!(head.headers.get_all("content-length").iter().count(), 1);
    assert_eq!(ok(&get("Content-Length: 0")).body, BodyLength::Length(0));
    assert_eq!(ok(&get("X: y")).body, BodyLength::Empty);
}

/// Attacks H1-1, H1-3, H1-4.
#[test]
fn transfer_encoding_is_one_chunked() {
    let both = "content-length-and-transfer-encoding";
    for (line, wanted) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", both),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", both),
        ("Transfer-Encoding: chunked\r\nX: y\r\nContent-Length: 0", both),
        ("Transfer-Encoding: chunked", "ok"),
        ("transfer-ENCODING:\t CHUNKED", "ok"),
        ("Transfer-Encoding: xchunked", "transfer-encoding"),
        ("Transfer-Encoding: chunked, identity", "transfer-encoding"),
        ("Transfer-Encoding: identity", "transfer-encoding"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "transfer-encoding"),
        ("Transfer-Encoding: chunked, chunked", "transfer-encoding"),
        ("Transfer-Encoding: chunked\t", "transfer-encoding"),
        ("Transfer-Encoding: chunked ", "transfer-encoding"),
        ("Transfer-Encoding: gzip, chunked", "transfer-encoding"),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", "transfer-encoding"),
        ("Transfer-Encoding: chunked;q=1", "transfer-encoding"),
        ("Transfer-Encoding: \"chunked\"", "transfer-encoding"),
        ("Transfer-Encoding: ,chunked", "transfer-encoding"),
        ("Transfer-Encoding:", "transfer-encoding"),
        ("Transfer-Encoding: \x0bchunked", "header-value"),
        ("Transfer-Encoding\t: chunked", "space-before-colon"),
        ("Transfer-Encoding : chunked", "space-before-colon"),
    ] {
        expect(&get(line), wanted);
    }
    assert_eq!(ok(&get("Transfer-Encoding: chunked")).body, BodyLength::Chunked);
    expect(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer-encoding");
    expect(b"POST / HTTP/1.0\r\n\r\nbody until close", "length-required");
    expect(b"POST / HTTP/1.0\r\nContent-Length: 0\r\n\r\n", "ok");
    expect(b"GET / HTTP/1.0\r\n\r\n", "ok");
}

#[test]
fn persistence_follows_version_and_connection() {
    for (version, lines, wanted) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, CLOSE ,y\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.1", "Connection: close\r\nConnection: keep-alive\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
        ("1.2", "", true),
    ] {
        let head = ok(format!("GET / HTTP/{version}\r\n{lines}\r\n").as_bytes());
        assert_eq!(head.keep_alive, wanted, "{version} {lines:?}");
    }
}

#[test]
fn expectations_are_exposed() {
    for (version, lines, wanted) in [
        ("1.1", "Expect: 100-Continue\r\n", (true, false)),
        ("1.1", "Expect: y\r\n", (false, true)),
        ("1.1", "Expect: 100-continue, y\r\n", (false, true)),
        ("1.1", "Expect: 100-continue\r\nExpect: y\r\n", (false, true)),
        ("1.1", "", (false, false)),
        ("1.0", "Expect: 100-continue\r\n", (false, false)),
    ] {
        let head = ok(format!("PUT / HTTP/{version}\r\nContent-Length: 1\r\n{lines}\r\n").as_bytes());
        assert_eq!((head.expect_continue, head.expect_other), wanted, "{version} {lines:?}");
        assert_eq!(head.headers.contains_key("expect"), !lines.is_empty());
    }
}

#[test]
fn limits_hold_at_the_byte_and_without_an_end() {
    let limits = Limits { max_line_bytes: 20, max_head_bytes: 30, max_headers: 3 };
    let check = |input: &[u8], wanted: &str| {
        assert_eq!(reason(parse(input, &limits)), wanted, "{:?}", String::from_utf8_lossy(input));
        assert_eq!(reason(drip(input, &limits)), wanted, "dripped {:?}", String::from_utf8_lossy(input));
    };
    check(b"GET /234567 HTTP/1.1\r\n\r\n", "ok");
    check(b"\r\nGET /234567 HTTP/1.1\r\n\r\n", "ok");
    check(b"GET /2345678 HTTP/1.1\r\n\r\n", "line-too-long");
    check(&[b'G'; 21], "partial");
    check(&[b'G'; 22], "line-too-long");
    check(b"GET / HTTP/1.1\r\nABC: 345678901234567890123\r\n\r\n", "ok");
    check(b"GET / HTTP/1.1\r\nABC: 3456789012345678901234\r\n\r\n", "headers-too-large");
    check(b"GET / HTTP/1.1\r\nABC: 34567890123456789012345678901234567890", "headers-too-large");
    check(b"GET / HTTP/1.1\r\nA: b\r\nA: b\r\nA: b\r\n\r\n", "ok");
    check(b"GET / HTTP/1.1\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\n", "too-many-headers");
    let error = parse(&[b'G'; 22], &limits).unwrap_err();
    assert_eq!(error.status(), 414);
    assert_eq!(parse(b"GET / HTTP/1.1\r\nABC: 3456789012345678901234\r\n\r\n", &limits).unwrap_err().status(), 431);
    assert_eq!(parse(b"GET / HTTP/7.1\r\n\r\n", &limits).unwrap_err().status(), 400);
    assert_eq!(parse(b"get / HTTP/1.1\r\n\r\n", &limits).unwrap_err().status(), 400);
}
