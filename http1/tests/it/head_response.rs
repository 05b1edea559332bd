//! Response heads: status lines, and which responses have a body.

use bytes::BytesMut;
use http::{HeaderMap, Method, StatusCode, Version};
use http1::{BodyLength, HeadError, Limits, ResponseHead, parse_response};

fn parse(input: &[u8], method: &Method) -> Result<Option<ResponseHead>, HeadError> {
    let whole = parse_response(&mut BytesMut::from(input), &Limits::default(), method, HeaderMap::new());
    let mut buf = BytesMut::new();
    let mut dripped = Ok(None);
    for &byte in input {
        buf.extend_from_slice(&[byte]);
        dripped = parse_response(&mut buf, &Limits::default(), method, HeaderMap::new());
        if !matches!(dripped, Ok(None)) {
            break;
        }
    }
    let shown = String::from_utf8_lossy(input).into_owned();
    assert_eq!(format!("{whole:?}"), format!("{dripped:?}"), "{shown:?}");
    whole
}

fn reason(input: &[u8]) -> &'static str {
    match parse(input, &Method::GET) {
        Ok(Some(_)) => "ok",
        Ok(None) => "partial",
        Err(e) => e.reason(),
    }
}

#[test]
fn status_lines() {
    for (line, wanted) in [
        ("HTTP/1.1 200 OK", "ok"),
        ("HTTP/1.0 200 OK", "ok"),
        ("HTTP/1.1 200 ", "ok"),
        ("HTTP/1.1 200", "ok"),
        ("HTTP/1.1 299 Caf\u{e9} \t!", "ok"),
        ("HTTP/1.1 999 x", "ok"),
        ("HTTP/1.1  200 OK", "status"),
        ("HTTP/1.1 20 OK", "status"),
        ("HTTP/1.1 099 x", "status"),
        ("HTTP/1.1 2x0 x", "status"),
        ("HTTP/1.1 -20 x", "status"),
        ("HTTP/1.1 2000 x", "status-line"),
        ("HTTP/1.1 200\tOK", "status-line"),
        ("HTTP/1.1", "status-line"),
        ("HTTP/2.0 200 OK", "version"),
        ("HTTX/1.1 200 OK", "version"),
        ("ICY 200 OK", "status-line"),
        ("\r\nHTTP/1.1 200 OK", "status-line"),
        ("HTTP/1.1 200 a\0b", "reason"),
        ("HTTP/1.1 200 a\x7fb", "reason"),
        ("HTTP/1.1 200 a\rb", "bare-cr"),
        ("HTTP/1.1 200 a\nb: c", "bare-lf"),
        ("http/1.1 200 OK", "status-line"),
    ] {
        assert_eq!(reason(format!("{line}\r\n\r\n").as_bytes()), wanted, "{line:?}");
    }
}

#[test]
fn reasons_are_kept_only_when_unusual() {
    let reason = |line: &str| parse(format!("{line}\r\n\r\n").as_bytes(), &Method::GET).unwrap().unwrap().reason;
    assert_eq!(reason("HTTP/1.1 200 OK"), None);
    assert_eq!(reason("HTTP/1.1 200 Fine").as_deref(), Some(&b"Fine"[..]));
    assert_eq!(reason("HTTP/1.1 200 ").as_deref(), Some(&b""[..]));
    assert_eq!(reason("HTTP/1.1 200").as_deref(), Some(&b""[..]));
}

/// The rules of field lines are those of requests; attack H1-13.
#[test]
fn ambiguous_responses_are_refused() {
    for (lines, wanted) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", "content-length-and-transfer-encoding"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", "content-length-and-transfer-encoding"),
        ("Content-Length: 5\r\nContent-Length: 6", "content-length"),
        ("Content-Length: 5, 5", "content-length"),
        ("Content-Length: 5 ", "ok"),
        ("Transfer-Encoding: gzip, chunked", "transfer-encoding"),
        ("Transfer-Encoding: chunked\t", "ok"),
        ("Transfer-Encoding: identity", "transfer-encoding"),
        ("A : b", "space-before-colon"),
        ("A: b\r\n c", "obs-fold"),
        ("A: b\nC: d", "bare-lf"),
        ("A: b\rc", "bare-cr"),
        ("A: \0", "header-value"),
        (": b", "header-name"),
    ] {
        assert_eq!(reason(format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n").as_bytes()), wanted, "{lines:?}");
    }
    assert_eq!(reason(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), "transfer-encoding");
    assert_eq!(reason(&[b"H".repeat(4098), b"\r\n".to_vec()].concat()), "line-too-long");
    assert_eq!(reason(&[&b"HTTP/1.1 200 OK\r\nA: "[..], &b"b".repeat(8192)].concat()), "headers-too-large");
    assert_eq!(reason(&[&b"HTTP/1.1 200 OK\r\n"[..], &b"A: b\r\n".repeat(201)].concat()), "too-many-headers");
}

/// RFC 9112 section 6.3, attack H1-12: (method, status, field, body, kept, stated length).
#[test]
fn who_has_a_body() {
    use BodyLength::{Chunked, Empty, Length, UntilClose};
    let chunked = "Transfer-Encoding: chunked";
    for (method, status, field, body, kept, stated) in [
        ("GET", 200, "Content-Length: 5", Length(5), true, Some(5)),
        ("GET", 200, "Content-Length: 0", Length(0), true, Some(0)),
        ("GET", 200, chunked, Chunked, true, None),
        ("GET", 200, "X: y", UntilClose, false, None),
        ("GET", 200, "Connection: keep-alive", UntilClose, false, None),
        ("GET", 404, "Content-Length: 5\r\nConnection: close", Length(5), false, Some(5)),
        ("HEAD", 200, "Content-Length: 5", Empty, true, Some(5)),
        ("HEAD", 200, chunked, Empty, true, None),
        ("HEAD", 200, "X: y", Empty, true, None),
        ("GET", 100, "X: y", Empty, true, None),
        ("GET", 101, "Upgrade: x", Empty, true, None),
        ("GET", 103, "Link: y", Empty, true, None),
        ("GET", 103, "Content-Length: 5", Empty, false, Some(5)),
        ("GET", 204, "X: y", Empty, true, None),
        ("GET", 204, "Content-Length: 0", Empty, true, Some(0)),
        ("GET", 204, "Content-Length: 5", Empty, false, Some(5)),
        ("GET", 204, chunked, Empty, false, None),
        ("GET", 304, "Content-Length: 5", Empty, true, Some(5)),
        ("GET", 304, chunked, Empty, true, None),
        ("CONNECT", 200, "Content-Length: 5", Empty, false, Some(5)),
        ("CONNECT", 403, "Content-Length: 5", Length(5), true, Some(5)),
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let input = format!("HTTP/1.1 {status} \r\n{field}\r\n\r\n");
        let head = parse(input.as_bytes(), &method).unwrap().unwrap();
        assert_eq!((head.body, head.keep_alive, head.content_length), (body, kept, stated), "{method} {input:?}");
        assert_eq!(head.status, StatusCode::from_u16(status).unwrap());
    }
    let old = parse(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", &Method::GET).unwrap().unwrap();
    assert_eq!((old.version, old.keep_alive), (Version::HTTP_10, false));
    let kept = b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n";
    assert!(parse(kept, &Method::GET).unwrap().unwrap().keep_alive);
}

#[test]
fn an_interim_response_leaves_the_next_head() {
    let mut buf =
        BytesMut::from(&b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"[..]);
    let limits = Limits::default();
    let first = parse_response(&mut buf, &limits, &Method::GET, HeaderMap::new()).unwrap().unwrap();
    let second = parse_response(&mut buf, &limits, &Method::GET, first.headers).unwrap().unwrap();
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (103, 200));
    assert_eq!(second.headers.len(), 1);
    assert!(buf.is_empty());
}
