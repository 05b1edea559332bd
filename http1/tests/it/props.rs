//! Properties: no input panics, splitting reads changes nothing, encoding then decoding is the identity.

use crate::body::run;
use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use http1::{
    BodyEncoder, BodyLength, Limits, encode_request_head, encode_response_head, parse_request, parse_response,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes that resemble HTTP closely enough to get past the first checks.
pub(crate) fn httpish() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        prop::sample::select(vec![
            "GET",
            "POST",
            " ",
            " / ",
            "HTTP/1.1",
            "HTTP/1.0",
            "HTTP/1.1 200 OK",
            "\r\n",
            "\r",
            "\n",
            "\r\n\r\n",
            ":",
            ": ",
            "Content-Length",
            "Transfer-Encoding",
            "chunked",
            "Connection",
            "close",
            "Expect",
            "0",
            "5",
            "ff",
            ";",
            ",",
            "\t",
            "\0",
            "A: b\r\n",
            "GET / HTTP/1.1\r\n",
            "HTTP/1.1 204 \r\n",
        ])
        .prop_map(|s| s.as_bytes().to_vec()),
        vec(any::<u8>(), 0..4),
    ];
    vec(word, 0..24).prop_map(|words| words.concat())
}

fn lengths() -> impl Strategy<Value = BodyLength> {
    prop_oneof![
        Just(BodyLength::Empty),
        any::<u64>().prop_map(BodyLength::Length),
        (0..20u64).prop_map(BodyLength::Length),
        Just(BodyLength::Chunked),
        Just(BodyLength::UntilClose),
    ]
}

fn tight() -> impl Strategy<Value = Limits> {
    let tight = (0..60usize, 0..60usize, 0..4usize);
    prop_oneof![
        Just(Limits::default()),
        tight.prop_map(|(a, b, c)| Limits { max_line_bytes: a, max_head_bytes: b, max_headers: c })
    ]
}

/// Parses `input`, given in pieces of `step` bytes, as a request (`None`) or as the response to a method.
fn head(input: &[u8], step: usize, limits: &Limits, method: Option<&Method>) -> String {
    let mut buf = BytesMut::new();
    for piece in input.chunks(step) {
        buf.extend_from_slice(piece);
        let outcome = match method {
            None => parse_request(&mut buf, limits, HeaderMap::new()).map(|h| h.map(|h| format!("{h:?}"))),
            Some(m) => parse_response(&mut buf, limits, m, HeaderMap::new()).map(|h| h.map(|h| format!("{h:?}"))),
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(head)) => return head,
            Err(e) => return e.reason().to_owned(),
        }
    }
    "partial".to_owned()
}

/// Fields that no rule singles out: none of the names judged or dropped begins with a `q`.
fn header_list() -> impl Strategy<Value = HeaderMap> {
    let name = "q[a-z0-9_-]{0,12}".prop_map(|n| HeaderName::from_bytes(n.as_bytes()).unwrap());
    let value = "[!-~][ -~]{0,20}".prop_map(|v| HeaderValue::from_str(v.trim_end()).unwrap());
    vec((name, value), 0..12).prop_map(|list| list.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn heads_never_panic_and_ignore_how_reads_split(
        input in prop_oneof![httpish(), vec(any::<u8>(), 0..200)],
        step in 1..40usize,
        limits in tight(),
    ) {
        for method in [None, Some(&Method::GET), Some(&Method::HEAD)] {
            let whole = head(&input, input.len().max(1), &limits, method);
            prop_assert_eq!(&whole, &head(&input, 1, &limits, method));
            prop_assert_eq!(&whole, &head(&input, step, &limits, method));
        }
    }

    #[test]
    fn bodies_never_panic_and_ignore_how_reads_split(
        input in prop_oneof![httpish(), "[0-9a-f]{1,2}\r\n[a-z]{0,9}\r\n".prop_map(String::into_bytes)],
        length in lengths(),
        step in 1..40usize,
        limit in 0..100usize,
    ) {
        let whole = run(length, &input, input.len().max(1), limit);
        prop_assert_eq!(&whole, &run(length, &input, 1, limit));
        prop_assert_eq!(&whole, &run(length, &input, step, limit));
    }

    #[test]
    fn bodies_survive_the_wire(
        pieces in vec(vec(any::<u8>(), 0..300), 0..8),
        chunked in any::<bool>(),
        trailers in header_list(),
        step in 1..50usize,
        after in vec(any::<u8>(), 0..10),
    ) {
        let body = pieces.concat();
        let length = if chunked { BodyLength::Chunked } else { BodyLength::Length(body.len() as u64) };
        let mut encoder = BodyEncoder::new(length);
        let mut out = BytesMut::new();
        for piece in &pieces {
            encoder.data(piece, &mut out).unwrap();
        }
        encoder.finish(Some(&trailers), &mut out).unwrap();
        out.extend_from_slice(&after);
        let (got, got_trailers, rest) = run(length, &out, step, 8192).unwrap();
        prop_assert_eq!(got, body);
        prop_assert_eq!(rest, after);
        prop_assert_eq!(got_trailers.unwrap_or_default(), if chunked { trailers } else { HeaderMap::new() });
    }

    #[test]
    fn heads_survive_the_wire(
        target in "/[!-~&&[^#]]{0,30}",
        headers in header_list(),
        length in lengths(),
        status in 200..600u16,
        keep in any::<bool>(),
    ) {
        let mut out = BytesMut::new();
        encode_request_head(&mut out, &Method::DELETE, target.as_bytes(), Version::HTTP_11, &headers, length);
        let got = parse_request(&mut out, &Limits::default(), HeaderMap::new()).unwrap().unwrap();
        prop_assert_eq!(&got.target[..], target.as_bytes());
        prop_assert_eq!(got.body, if length == BodyLength::UntilClose { BodyLength::Chunked } else { length });
        let mut fields = got.headers;
        fields.remove("content-length");
        fields.remove("transfer-encoding");
        prop_assert_eq!(&fields, &headers);

        let status = http::StatusCode::from_u16(status).unwrap();
        if length == BodyLength::Empty || matches!(status.as_u16(), 204 | 304) {
            return Ok(());
        }
        encode_response_head(&mut out, status, None, Version::HTTP_11, &headers, length, keep, None);
        let got = parse_response(&mut out, &Limits::default(), &Method::GET, HeaderMap::new()).unwrap().unwrap();
        prop_assert_eq!((got.status, got.body), (status, length));
        prop_assert_eq!(got.keep_alive, keep && length != BodyLength::UntilClose);
        prop_assert!(out.is_empty());
    }
}
