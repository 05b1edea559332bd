//! hyper as the oracle: over generated, valid and mutated requests, whatever both accept they read alike, and what
//! hyper refuses is refused here too.
//!
//! Allowed exceptions, all where hyper judges what is not framing:
//! - the target: `http::Uri` refuses some visible ASCII characters and some forms;
//! - the version: hyper refuses 1.2 to 1.9, taken as 1.1 here (RFC 9110 section 2.5);
//! - Content-Length of 2^64 - 2 and above, which hyper keeps for itself.
//!
//! What this crate refuses and hyper accepts needs no exception: that is its purpose.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use http_body_util::BodyExt as _;
use http1::{BodyDecoder, BodyFrame, Conn, Limits, RequestHead};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::collection::vec;
use proptest::prelude::*;
use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

/// What one side understood. The body is `None` when it was refused.
#[derive(Debug, PartialEq)]
struct Seen {
    method: Method,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Option<Vec<u8>>,
}

fn list(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(n, v)| (n.as_str().to_owned(), v.as_bytes().to_vec())).collect()
}

/// A pipe whose near end holds all of `input`, followed by end of file.
async fn pipe(input: &[u8]) -> (DuplexStream, DuplexStream) {
    let (mut far, near) = duplex(1 << 20);
    far.write_all(input).await.unwrap();
    far.shutdown().await.unwrap();
    (far, near)
}

async fn by_hyper(input: &[u8]) -> Option<Seen> {
    let (mut far, near) = pipe(input).await;
    let seen = Rc::new(RefCell::new(None));
    let cell = seen.clone();
    let service = service_fn(move |request: http::Request<Incoming>| {
        let cell = cell.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.ok().map(|b| b.to_bytes().to_vec());
            let (method, target) = (head.method, head.uri.to_string());
            let first = Seen { method, target, headers: list(&head.headers), body };
            cell.borrow_mut().get_or_insert(first);
            let response = http::Response::new(http_body_util::Empty::<Bytes>::new());
            Ok::<_, Infallible>(response)
        }
    });
    let drain = async move {
        let mut sink = Vec::new();
        let _ = far.read_to_end(&mut sink).await;
    };
    let mut builder = hyper::server::conn::http1::Builder::new();
    let server = builder.keep_alive(false).half_close(true).serve_connection(TokioIo::new(near), service);
    let (_, ()) = tokio::join!(server, drain);
    seen.take()
}

async fn by_us(input: &[u8]) -> Result<Seen, &'static str> {
    let (_far, near) = pipe(input).await;
    let mut conn = Conn::new(near);
    let limits = Limits { max_line_bytes: 60_000, max_head_bytes: 200_000, max_headers: 100 };
    let head: RequestHead = conn.read_request(&limits, HeaderMap::new()).await.map_err(|e| e.reason())?;
    let mut decoder = BodyDecoder::new(head.body);
    let mut body = Some(BytesMut::new());
    loop {
        match conn.next_body(&mut decoder).await {
            Ok(Some(BodyFrame::Data(data))) => body.as_mut().unwrap().extend_from_slice(&data),
            Ok(Some(BodyFrame::Trailers(_))) => {}
            Ok(None) => break,
            Err(_) => {
                body = None;
                break;
            }
        }
    }
    let target = String::from_utf8(head.target.to_vec()).unwrap();
    Ok(Seen { method: head.method, target, headers: list(&head.headers), body: body.map(|b| b.to_vec()) })
}

/// The exceptions of the module's documentation.
fn excepted(seen: &Seen, input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let line = text.trim_start().lines().next().unwrap_or_default();
    let version = (2..=9).any(|minor| line.ends_with(&format!(" HTTP/1.{minor}")));
    let huge = |v: &[u8]| String::from_utf8_lossy(v).parse::<u64>().is_ok_and(|n| n >= u64::MAX - 1);
    let length = seen.headers.iter().any(|(n, v)| n == "content-length" && huge(v));
    let target = seen.target.parse::<http::Uri>().is_err();
    version || length || target
}

fn compare(input: &[u8]) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (hyper, us) = runtime.block_on(async { (by_hyper(input).await, by_us(input).await) });
    let shown = String::from_utf8_lossy(input).into_owned();
    match (hyper, us) {
        (None, Ok(us)) => prop_assert!(excepted(&us, input), "only we accept {shown:?}: {us:?}"),
        (Some(mut hyper), Ok(mut us)) => {
            if us.body.is_none() {
                hyper.body = None;
            }
            let uri: http::Uri = us.target.parse().unwrap();
            us.target = uri.to_string();
            prop_assert_eq!(hyper, us, "{}", shown);
        }
        (_, Err(_)) => {}
    }
    Ok(())
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let method = prop::sample::select(vec!["GET", "POST", "PUT", "HEAD", "OPTIONS", "PURGE", "get", "PRI"]);
    let target = prop::sample::select(vec!["/", "/a?b=c", "*", "http://h:80/x?y", "/%41{}|", "/a\\b", "/a#b", "", "a"]);
    let version = prop::sample::select(vec!["1.1", "1.1", "1.1", "1.0", "1.2", "2.0"]);
    let line = prop_oneof![
        3 => "[A-Za-z-]{1,8}: ?[ -~]{0,12}",
        3 => prop::sample::select(vec![
            "Host: a", "Connection: close", "Connection: keep-alive", "X:  padded\t", "Accept: */*", "Empty:",
            "Expect: 100-continue", "Content-Length: 5", "Content-Length: 0", "Content-Length: 05",
            "Transfer-Encoding: chunked",
        ]).prop_map(str::to_owned),
        1 => prop::sample::select(vec![
            "Content-Length: 6", "Content-Length: +5", "Content-Length: 5, 5", "Content-Length: 5 ",
            "Content-Length: 18446744073709551615", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: identity",
            "Transfer-Encoding: chunked, chunked", "A : b", "A: b\r\n c", "A: \0", "A: b\rc", "A: b\nC: d", ": x",
        ]).prop_map(str::to_owned),
    ];
    let body = prop::sample::select(vec![
        "",
        "hello",
        "hellohello",
        "5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nSum: 1\r\n\r\n",
        "5;x=y\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\nhello\n0\n\n",
        "0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n",
    ]);
    (method, target, version, vec(line, 0..6), body).prop_map(|(method, target, version, lines, body)| {
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        format!("{method} {target} HTTP/{version}\r\n{lines}\r\n{body}").into_bytes()
    })
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![prop::sample::select(b"\r\n \t:;,\0\x0b\x7f\xff05aZ#/".to_vec()), any::<u8>()];
    let edit = (any::<prop::sample::Index>(), 0..3u8, byte);
    (request(), vec(edit, 1..4)).prop_map(|(mut bytes, edits)| {
        for (at, kind, byte) in edits {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes.insert(at, byte),
                1 => bytes[at] = byte,
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn generated_requests_agree(input in request()) {
        compare(&input)?;
    }

    #[test]
    fn mutated_requests_agree(input in mutated()) {
        compare(&input)?;
    }

    #[test]
    fn noise_agrees(input in crate::props::httpish()) {
        compare(&input)?;
    }
}

/// The comparison is not vacuous: both sides accept these.
#[test]
fn both_accept_plain_requests() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for input in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nSum: 1\r\n\r\n",
    ] {
        let (hyper, us) = runtime.block_on(async { (by_hyper(input).await, by_us(input).await) });
        assert_eq!(hyper.unwrap(), us.unwrap());
    }
}
