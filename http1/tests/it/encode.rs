//! Heads and bodies out: what is on the wire, byte for byte.

use bytes::BytesMut;
use http::{HeaderMap, Method, StatusCode, Version};
use http1::{BodyEncoder, BodyLength, EncodeError, encode_request_head, encode_response_head};

fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
    list.iter().map(|(n, v)| (http::HeaderName::from_static(n), v.parse().unwrap())).collect()
}

fn request(method: Method, target: &[u8], version: Version, map: &HeaderMap, body: BodyLength) -> String {
    let mut out = BytesMut::new();
    encode_request_head(&mut out, &method, target, version, map, body);
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn request_framing_is_ours() {
    let map = headers(&[
        ("host", "a"),
        ("content-length", "9"),
        ("transfer-encoding", "gzip"),
        ("connection", "x"),
        ("x-y", "z"),
    ]);
    let v11 = Version::HTTP_11;
    for (method, version, body, wanted) in [
        (Method::GET, v11, BodyLength::Empty, "GET /p HTTP/1.1\r\nhost: a\r\nx-y: z\r\n\r\n"),
        (Method::POST, v11, BodyLength::Empty, "POST /p HTTP/1.1\r\nhost: a\r\nx-y: z\r\ncontent-length: 0\r\n\r\n"),
        (Method::PUT, v11, BodyLength::Length(0), "PUT /p HTTP/1.1\r\nhost: a\r\nx-y: z\r\ncontent-length: 0\r\n\r\n"),
        (Method::PATCH, v11, BodyLength::Empty, "PATCH /p HTTP/1.1\r\nhost: a\r\nx-y: z\r\ncontent-length: 0\r\n\r\n"),
        (
            Method::GET,
            Version::HTTP_10,
            BodyLength::Length(u64::MAX),
            "GET /p HTTP/1.0\r\nhost: a\r\nx-y: z\r\ncontent-length: 18446744073709551615\r\n\r\n",
        ),
        (
            Method::POST,
            Version::HTTP_10,
            BodyLength::Chunked,
            "POST /p HTTP/1.1\r\nhost: a\r\nx-y: z\r\ntransfer-encoding: chunked\r\n\r\n",
        ),
        (
            Method::POST,
            v11,
            BodyLength::UntilClose,
            "POST /p HTTP/1.1\r\nhost: a\r\nx-y: z\r\ntransfer-encoding: chunked\r\n\r\n",
        ),
    ] {
        assert_eq!(request(method, b"/p", version, &map, body), wanted);
    }
}

#[test]
fn a_target_cannot_inject() {
    let map = HeaderMap::new();
    let target = b"/a\r\nX: y \xc3";
    let head = request(Method::GET, target, Version::HTTP_11, &map, BodyLength::Empty);
    assert_eq!(head, "GET /a%0D%0AX:%20y%20%C3 HTTP/1.1\r\n\r\n");
    assert_eq!(request(Method::GET, b"", Version::HTTP_11, &map, BodyLength::Empty), "GET / HTTP/1.1\r\n\r\n");
}

#[test]
fn response_heads() {
    use BodyLength::{Chunked, Empty, Length, UntilClose};
    let (v10, v11) = (Version::HTTP_10, Version::HTTP_11);
    for (status, reason, version, body, keep, stated, wanted) in [
        (200, None, v11, Length(5), true, None, "HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 5\r\n\r\n"),
        (200, None, v11, Length(0), true, None, "HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 0\r\n\r\n"),
        (
            200,
            Some(&b"Fine"[..]),
            v11,
            Chunked,
            true,
            None,
            "HTTP/1.1 200 Fine\r\na: b\r\ntransfer-encoding: chunked\r\n\r\n",
        ),
        (200, Some(b"x\r\ny: z"), v11, Length(1), true, None, "HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 1\r\n\r\n"),
        (299, None, v11, Length(1), true, None, "HTTP/1.1 299 \r\na: b\r\ncontent-length: 1\r\n\r\n"),
        (200, Some(b""), v11, UntilClose, true, None, "HTTP/1.1 200 \r\na: b\r\nconnection: close\r\n\r\n"),
        (
            503,
            None,
            v11,
            Length(2),
            false,
            None,
            "HTTP/1.1 503 Service Unavailable\r\na: b\r\ncontent-length: 2\r\nconnection: close\r\n\r\n",
        ),
        (
            200,
            None,
            v10,
            Length(2),
            true,
            None,
            "HTTP/1.0 200 OK\r\na: b\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\n",
        ),
        (200, None, v10, Length(2), false, None, "HTTP/1.0 200 OK\r\na: b\r\ncontent-length: 2\r\n\r\n"),
        (200, None, v10, Chunked, true, None, "HTTP/1.0 200 OK\r\na: b\r\n\r\n"),
        (200, None, v11, Empty, true, Some(7), "HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 7\r\n\r\n"),
        (200, None, v11, Empty, true, None, "HTTP/1.1 200 OK\r\na: b\r\n\r\n"),
        (304, None, v11, Empty, true, Some(7), "HTTP/1.1 304 Not Modified\r\na: b\r\ncontent-length: 7\r\n\r\n"),
        (204, None, v11, Length(0), true, Some(0), "HTTP/1.1 204 No Content\r\na: b\r\n\r\n"),
        (103, None, v11, Empty, false, None, "HTTP/1.1 103 Early Hints\r\na: b\r\n\r\n"),
        (100, None, v11, Length(3), true, Some(3), "HTTP/1.1 100 Continue\r\na: b\r\n\r\n"),
    ] {
        let map = headers(&[("a", "b"), ("content-length", "99"), ("transfer-encoding", "x"), ("connection", "y")]);
        let mut out = BytesMut::new();
        encode_response_head(
            &mut out,
            StatusCode::from_u16(status).unwrap(),
            reason,
            version,
            &map,
            body,
            keep,
            stated,
        );
        assert_eq!(String::from_utf8(out.to_vec()).unwrap(), wanted);
    }
}

#[test]
fn bodies_keep_their_word() {
    let mut out = BytesMut::new();
    let mut length = BodyEncoder::new(BodyLength::Length(3));
    length.data(b"ab", &mut out).unwrap();
    assert_eq!(length.finish(None, &mut out), Err(EncodeError::TooShort));
    assert_eq!(length.data(b"cd", &mut out), Err(EncodeError::TooLong));
    length.data(b"c", &mut out).unwrap();
    length.finish(None, &mut out).unwrap();
    assert!(length.is_finished());
    assert_eq!(&out[..], b"abc");
    let mut empty = BodyEncoder::new(BodyLength::Empty);
    assert_eq!(empty.data(b"x", &mut out), Err(EncodeError::TooLong));
    empty.data(b"", &mut out).unwrap();
    empty.finish(None, &mut out).unwrap();
    assert_eq!(&out[..], b"abc");
}

#[test]
fn chunks_and_trailers() {
    let mut out = BytesMut::new();
    let mut encoder = BodyEncoder::for_request(BodyLength::UntilClose);
    encoder.data(b"0123456789abcdef", &mut out).unwrap();
    encoder.data(b"", &mut out).unwrap();
    encoder.chunk_header(1, &mut out).unwrap();
    out.extend_from_slice(b"x");
    encoder.chunk_end(&mut out);
    let trailers = headers(&[("grpc-status", "0"), ("host", "evil"), ("l5d-dtab", "x")]);
    encoder.finish(Some(&trailers), &mut out).unwrap();
    encoder.finish(Some(&trailers), &mut out).unwrap();
    assert_eq!(encoder.data(b"x", &mut out), Err(EncodeError::TooLong));
    assert_eq!(&out[..], b"10\r\n0123456789abcdef\r\n1\r\nx\r\n0\r\ngrpc-status: 0\r\n\r\n");
    let mut raw = BytesMut::new();
    let mut encoder = BodyEncoder::new(BodyLength::UntilClose);
    encoder.data(b"xy", &mut raw).unwrap();
    encoder.finish(Some(&trailers), &mut raw).unwrap();
    assert_eq!(&raw[..], b"xy");
}
