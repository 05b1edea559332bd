//! The body decoder: every length, chunked framing to the letter, trailers.

use bytes::BytesMut;
use http::HeaderMap;
use http1::{BodyDecoder, BodyError, BodyLength, Decoded};

/// The outcome of a body: its bytes, trailers and what is left after it, or the slug of the error.
pub(crate) type Outcome = Result<(Vec<u8>, Option<HeaderMap>, Vec<u8>), &'static str>;

/// Decodes `input` in pieces of `step` bytes, then end of file.
pub(crate) fn run(length: BodyLength, input: &[u8], step: usize, limit: usize) -> Outcome {
    let mut decoder = BodyDecoder::new(length);
    let mut buf = BytesMut::new();
    let (mut data, mut trailers) = (Vec::new(), None);
    let mut pieces = input.chunks(step);
    loop {
        match decoder.decode(&mut buf, limit).map_err(|e| e.reason())? {
            Decoded::Data(bytes) => {
                assert!(!bytes.is_empty());
                data.extend_from_slice(&bytes);
            }
            Decoded::Trailers(map) => trailers = Some(map),
            Decoded::Done => break,
            Decoded::NeedMore => match pieces.next() {
                Some(piece) => buf.extend_from_slice(piece),
                None => decoder.eof().map_err(|e| e.reason())?,
            },
        }
    }
    assert!(decoder.is_done());
    let rest = buf.iter().copied().chain(pieces.flatten().copied()).collect();
    Ok((data, trailers, rest))
}

/// The same outcome whole and byte by byte.
fn both(length: BodyLength, input: &[u8]) -> Outcome {
    let whole = run(length, input, input.len().max(1), 8192);
    assert_eq!(whole, run(length, input, 1, 8192), "{:?}", String::from_utf8_lossy(input));
    whole
}

fn chunked(input: &[u8]) -> Result<Vec<u8>, &'static str> {
    both(BodyLength::Chunked, input).map(|(data, ..)| data)
}

#[test]
fn lengths() {
    assert_eq!(both(BodyLength::Empty, b"GET"), Ok((vec![], None, b"GET".to_vec())));
    assert_eq!(both(BodyLength::Length(0), b"GET"), Ok((vec![], None, b"GET".to_vec())));
    assert_eq!(both(BodyLength::Length(3), b"abcGET"), Ok((b"abc".to_vec(), None, b"GET".to_vec())));
    assert_eq!(both(BodyLength::Length(3), b"ab"), Err("body-truncated"));
    assert_eq!(both(BodyLength::Length(u64::MAX), b"ab"), Err("body-truncated"));
    assert_eq!(both(BodyLength::UntilClose, b"abc"), Ok((b"abc".to_vec(), None, vec![])));
    assert_eq!(both(BodyLength::UntilClose, b""), Ok((vec![], None, vec![])));
}

#[test]
fn chunks() {
    let input = b"3\r\nabc\r\n0A;x=\"y z\"\r\n0123456789\r\n0000000000000000\r\n\r\nGET";
    assert_eq!(both(BodyLength::Chunked, input), Ok((b"abc0123456789".to_vec(), None, b"GET".to_vec())));
    assert_eq!(chunked(b"0\r\n\r\n"), Ok(vec![]));
    assert_eq!(chunked(b"1;\r\na\r\n0;x\r\n\r\n"), Ok(b"a".to_vec()));
}

/// Attacks H1-5 and H1-13.
#[test]
fn chunk_framing_is_strict() {
    for (input, wanted) in [
        (&b"10000000000000000\r\n"[..], "chunk-size"),
        (b"00000000000000001\r\na\r\n0\r\n\r\n", "chunk-size"),
        (b"-1\r\n", "chunk-size"),
        (b"+1\r\na", "chunk-size"),
        (b"0x1\r\na", "chunk-size"),
        (b"g\r\n", "chunk-size"),
        (b"\r\n", "chunk-size"),
        (b";x\r\n", "chunk-size"),
        (b" 1\r\na", "chunk-size"),
        (b"1 \r\na", "chunk-size"),
        (b"1\na\r\n0\r\n\r\n", "chunk-size"),
        (b"1\r\r\na", "chunk-size"),
        (b"1\rxa", "chunk-size"),
        (b"1;x\ny\r\na", "chunk-extension"),
        (b"1;x\0\r\na", "chunk-extension"),
        (b"1;x\x7f\r\na", "chunk-extension"),
        (b"1;x\rya", "chunk-size"),
        (b"1\r\nab\r\n0\r\n\r\n", "chunk-end"),
        (b"1\r\na\n0\r\n\r\n", "chunk-end"),
        (b"1\r\na\rx", "chunk-end"),
        (b"1\r\na0\r\n\r\n", "chunk-end"),
        (b"0\r\n\n", "trailers"),
        (b"0\r\nA: b\n\r\n", "trailers"),
        (b"0\r\nA : b\r\n\r\n", "trailers"),
        (b"0\r\nA: b\r\n c\r\n\r\n", "trailers"),
        (b"0\r\nA: \0\r\n\r\n", "trailers"),
        (b"0\r\nGET / HTTP/1.1\r\n\r\n", "trailers"),
        (b"1\r\na\r\n", "body-truncated"),
        (b"1\r\na\r\n0\r\n", "body-truncated"),
        (b"1\r\na\r\n0\r\n\r", "body-truncated"),
        (b"5\r\na", "body-truncated"),
        (b"", "body-truncated"),
        (b"FFFFFFFFFFFFFFFF\r\nabc", "body-truncated"),
    ] {
        assert_eq!(chunked(input), Err(wanted), "{:?}", String::from_utf8_lossy(input));
    }
}

#[test]
fn extensions_are_bounded() {
    let chunk = |n: usize| format!("1;{}\r\na\r\n", "x".repeat(n - 1)).into_bytes();
    let end = b"0\r\n\r\n".to_vec();
    assert_eq!(chunked(&[chunk(256), end.clone()].concat()), Ok(b"a".to_vec()));
    assert_eq!(chunked(&[chunk(257), end.clone()].concat()), Err("chunk-extension"));
    assert_eq!(chunked(&[chunk(256).repeat(64), end.clone()].concat()), Ok(b"a".repeat(64)));
    assert_eq!(chunked(&[chunk(256).repeat(64), chunk(1), end].concat()), Err("chunk-extension"));
    assert_eq!(chunked(&chunk(16 << 20)[..1 << 20]), Err("chunk-extension"));
}

/// Attack H1-6.
#[test]
fn trailers_are_filtered() {
    let input = b"0\r\nGrpc-Status: 0\r\nX-Sum: 1\r\nX-Sum: 2\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: evil\r\n\
        Trailer: x\r\nTE: x\r\nConnection: close\r\nAuthorization: x\r\nCookie: x\r\nSet-Cookie: x\r\nContent-Encoding: x\r\n\
        Content-Type: x\r\nContent-Range: x\r\nCache-Control: x\r\nL5d-Dtab: x\r\nl5d_ctx_trace: x\r\nX-Forwarded-For: x\r\n\
        x-forwarded-: x\r\nProxy-Authorization: x\r\n\r\nGET";
    let (_, trailers, rest) = both(BodyLength::Chunked, input).unwrap();
    let trailers = trailers.unwrap();
    assert_eq!(trailers.len(), 3);
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers.get_all("x-sum").iter().count(), 2);
    assert_eq!(rest, b"GET");
    assert_eq!(both(BodyLength::Chunked, b"0\r\nHost: x\r\n\r\n"), Ok((vec![], None, vec![])));
}

#[test]
fn trailers_are_bounded() {
    let input = [&b"0\r\nA: "[..], &b"b".repeat(100), b"\r\n\r\n"].concat();
    assert!(run(BodyLength::Chunked, &input, 1, 107).is_ok());
    assert_eq!(run(BodyLength::Chunked, &input, 1, 106), Err("trailers"));
    assert_eq!(run(BodyLength::Chunked, &input, 999, 106), Err("trailers"));
    let endless = [&b"0\r\n"[..], &b"A: b\r\n".repeat(201)].concat();
    assert_eq!(chunked(&endless), Err("trailers"));
}

#[test]
fn errors_speak() {
    assert_eq!(BodyError::Trailers("bare-lf").to_string(), "bad trailers: bare-lf");
    assert_eq!(BodyError::Io(std::io::ErrorKind::Other.into()).reason(), "io");
}
