//! Message heads: the request line, the status line, and what the header fields say about the body.
//!
//! What it is for: one strict reading of where a message ends (RFC 9112 sections 3, 4, 6). What it is not: it does
//! not judge `Host` or the meaning of the target. Called by `conn` and, for tests and fuzzing, directly.

use crate::error::HeadError;
use crate::fields::Seen;
use crate::scan::{HeadScan, Kind, Span, is_token_byte};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, Version};

/// Longest method accepted, in bytes (attack H1-14).
const MAX_METHOD: usize = 32;

/// Bounds on a head, in force before its end has been seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest request or status line, in bytes without CRLF. Above: 414.
    pub max_line_bytes: usize,
    /// Longest header block, in bytes with all CRLFs and the final empty line. Above: 431.
    pub max_head_bytes: usize,
    /// Most field lines. Above: 431.
    pub max_headers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_line_bytes: 4096, max_head_bytes: 8192, max_headers: 200 }
    }
}

/// How a message's body is delimited (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// No body, and no length field to go with it: a request without one, or a response that cannot have a body
    /// (to HEAD, 1xx, 204, 304, 2xx to CONNECT).
    Empty,
    /// Exactly this many bytes; zero where `Content-Length: 0` was, or is to be, on the wire.
    Length(u64),
    /// Chunks.
    Chunked,
    /// All bytes until the peer closes. Responses only.
    UntilClose,
}

impl BodyLength {
    /// How to delimit this body for a *response* to a client that speaks `version`: HTTP/1.0 knows no chunks, so
    /// they become a body until close (RFC 9112 section 6.1).
    #[must_use]
    pub fn for_version(self, version: Version) -> Self {
        match self {
            Self::Chunked if version == Version::HTTP_10 => Self::UntilClose,
            other => other,
        }
    }

    /// Whether the head alone is the whole message.
    #[must_use]
    pub fn is_empty(self) -> bool {
        matches!(self, Self::Empty | Self::Length(0))
    }
}

/// The head of a request.
#[derive(Debug)]
pub struct RequestHead {
    /// The method; at most 32 bytes, no lower-case letter.
    pub method: Method,
    /// The request-target as received: visible ASCII without `#`, not empty, any form (RFC 9112 section 3.2).
    pub target: Bytes,
    /// `HTTP_10` or `HTTP_11`; other 1.x are taken as 1.1.
    pub version: Version,
    /// All fields as received, framing and hop-by-hop ones too, except repeated identical Content-Lengths.
    pub headers: HeaderMap,
    /// Never `UntilClose`.
    pub body: BodyLength,
    /// The client wants the connection kept.
    pub keep_alive: bool,
    /// HTTP/1.1 with `Expect: 100-continue` (RFC 9110 section 10.1.1).
    pub expect_continue: bool,
    /// An `Expect` of any other value: answer 417.
    pub expect_other: bool,
}

/// The head of a response, final or 1xx.
#[derive(Debug)]
pub struct ResponseHead {
    /// The status, 100 to 999.
    pub status: StatusCode,
    /// The reason phrase; `None` when it is the usual one for the status. May be empty.
    pub reason: Option<Bytes>,
    /// `HTTP_10` or `HTTP_11`; other 1.x are taken as 1.1.
    pub version: Version,
    /// All fields as received, framing and hop-by-hop ones too, except repeated identical Content-Lengths.
    pub headers: HeaderMap,
    /// How the body ends; `Empty` where the request or the status forbids one.
    pub body: BodyLength,
    /// The connection may be used again after the body. False for `UntilClose`, for 2xx to CONNECT, and for a 1xx or
    /// 204 that announces a body (attack H1-12).
    pub keep_alive: bool,
    /// Content-Length in bytes, also where no body follows (HEAD, 304).
    pub content_length: Option<u64>,
}

/// Takes one request head off the front of `buf`. `headers` is emptied and reused. `None`: more bytes are needed and
/// nothing was consumed.
///
/// # Errors
/// [`HeadError`], never `Closed`, `Truncated` or `Io`. The rest of `buf` is then meaningless: close.
pub fn parse_request(
    buf: &mut BytesMut,
    limits: &Limits,
    headers: HeaderMap,
) -> Result<Option<RequestHead>, HeadError> {
    match HeadScan::default().scan(buf, limits, Kind::Request)? {
        Some(span) => request_at(buf, &span, headers).map(Some),
        None => Ok(None),
    }
}

/// Takes one response head, final or 1xx, off the front of `buf`. `request_method` is that of the request answered.
/// `headers` is emptied and reused. `None`: more bytes are needed and nothing was consumed.
///
/// # Errors
/// As [`parse_request`].
pub fn parse_response(
    buf: &mut BytesMut,
    limits: &Limits,
    request_method: &Method,
    headers: HeaderMap,
) -> Result<Option<ResponseHead>, HeadError> {
    match HeadScan::default().scan(buf, limits, Kind::Response)? {
        Some(span) => response_at(buf, &span, request_method, headers).map(Some),
        None => Ok(None),
    }
}

/// Takes the request head that `scan` found at `span`.
pub(crate) fn request_at(buf: &mut BytesMut, span: &Span, mut headers: HeaderMap) -> Result<RequestHead, HeadError> {
    let head = buf.split_to(span.fields.end).freeze();
    let line = head.slice(span.line.clone());
    let (method, target, version) = request_line(&line)?;
    let mut seen = Seen { strict_padding: true, ..Seen::default() };
    seen.read(&head, span.fields.start, &mut headers)?;
    seen.check(version)?;
    let v11 = version == Version::HTTP_11;
    Ok(RequestHead {
        body: request_body(&method, version, &seen)?,
        keep_alive: seen.persistent(version),
        expect_continue: v11 && seen.expect_continue && !seen.expect_other,
        expect_other: seen.expect_other,
        method,
        target,
        version,
        headers,
    })
}

/// Takes the response head that `scan` found at `span`.
pub(crate) fn response_at(
    buf: &mut BytesMut,
    span: &Span,
    method: &Method,
    mut headers: HeaderMap,
) -> Result<ResponseHead, HeadError> {
    let head = buf.split_to(span.fields.end).freeze();
    let line = head.slice(span.line.clone());
    let (status, reason, version) = status_line(&line)?;
    let mut seen = Seen::default();
    seen.read(&head, span.fields.start, &mut headers)?;
    seen.check(version)?;
    let (body, reusable) = response_body(method, status, &seen);
    let keep_alive = reusable && seen.persistent(version);
    Ok(ResponseHead { status, reason, version, headers, body, keep_alive, content_length: seen.length })
}

/// Splits `method SP target SP version` (RFC 9112 section 3).
fn request_line(line: &Bytes) -> Result<(Method, Bytes, Version), HeadError> {
    let sp = line.iter().position(|&b| b == b' ').ok_or(HeadError::Bad("request-line"))?;
    let method = method(&line[..sp])?;
    let rest = sp + 1;
    let end = line.len().checked_sub(9).filter(|&end| end >= rest).ok_or(HeadError::Bad("request-line"))?;
    if line[end] != b' ' {
        return Err(HeadError::Bad("request-line"));
    }
    let version = version(&line[end + 1..])?;
    let target = &line[rest..end];
    if target.is_empty() || !target.iter().all(|&b| b.is_ascii_graphic() && b != b'#') {
        return Err(HeadError::Bad(if target.contains(&b'\r') { "bare-cr" } else { "target" }));
    }
    Ok((method, line.slice(rest..end), version))
}

/// A token of at most 32 bytes without lower-case letters, and not HTTP/2's preface (attack H1-14).
fn method(name: &[u8]) -> Result<Method, HeadError> {
    let fits = name.len() <= MAX_METHOD && name.iter().all(|&b| is_token_byte(b) && !b.is_ascii_lowercase());
    if !fits {
        return Err(HeadError::Bad("method"));
    }
    if name == b"PRI" {
        return Err(HeadError::Bad("http2-preface"));
    }
    Method::from_bytes(name).map_err(|_| HeadError::Bad("method"))
}

/// `HTTP/1.0`, `HTTP/1.1`, and other 1.x as 1.1 (RFC 9112 section 2.3).
fn version(text: &[u8]) -> Result<Version, HeadError> {
    match text {
        b"HTTP/1.1" => Ok(Version::HTTP_11),
        b"HTTP/1.0" => Ok(Version::HTTP_10),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] => Ok(Version::HTTP_11),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(HeadError::UnsupportedVersion),
        _ => Err(HeadError::Bad("version")),
    }
}

/// Splits `version SP 3DIGIT [SP reason]` (RFC 9112 section 4). A missing second space is common and harmless.
fn status_line(line: &Bytes) -> Result<(StatusCode, Option<Bytes>, Version), HeadError> {
    let (Some(version_text), Some(b' '), Some(code)) = (line.get(..8), line.get(8), line.get(9..12)) else {
        return Err(HeadError::Bad("status-line"));
    };
    let version = version(version_text)?;
    let status = StatusCode::from_bytes(code).map_err(|_| HeadError::Bad("status"))?;
    let reason = match line.get(12) {
        None => Bytes::new(),
        Some(b' ') => line.slice(13..),
        Some(_) => return Err(HeadError::Bad("status-line")),
    };
    if !is_reason(&reason) {
        return Err(HeadError::Bad(if reason.contains(&b'\r') { "bare-cr" } else { "reason" }));
    }
    let usual = status.canonical_reason().is_some_and(|usual| usual.as_bytes() == reason);
    Ok((status, (!usual).then_some(reason), version))
}

/// Whether `text` may stand as a reason phrase: tabs, spaces, visible ASCII and bytes above it.
pub(crate) fn is_reason(text: &[u8]) -> bool {
    text.iter().all(|&b| b == b'\t' || (b >= b' ' && b != 0x7f))
}

/// An HTTP/1.0 request with a method that carries a body but no length would end only at close, which a request
/// cannot (RFC 1945 section 8.3, attack H1-4).
fn request_body(method: &Method, version: Version, seen: &Seen) -> Result<BodyLength, HeadError> {
    match (seen.chunked, seen.length) {
        (true, _) => Ok(BodyLength::Chunked),
        (false, Some(length)) => Ok(BodyLength::Length(length)),
        (false, None) if version == Version::HTTP_10 && carries_body(method) => Err(HeadError::Bad("length-required")),
        (false, None) => Ok(BodyLength::Empty),
    }
}

/// Whether the method usually has a body, so that its absence is to be stated (RFC 9110 section 8.6).
pub(crate) fn carries_body(method: &Method) -> bool {
    *method == Method::POST || *method == Method::PUT || *method == Method::PATCH
}

/// RFC 9112 section 6.3: the body's length, and whether the connection can be used after it.
fn response_body(method: &Method, status: StatusCode, seen: &Seen) -> (BodyLength, bool) {
    let announced = seen.chunked || seen.length.is_some_and(|n| n > 0);
    if *method == Method::CONNECT && status.is_success() {
        return (BodyLength::Empty, false);
    }
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        return (BodyLength::Empty, !announced);
    }
    if *method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
        return (BodyLength::Empty, true);
    }
    match (seen.chunked, seen.length) {
        (true, _) => (BodyLength::Chunked, true),
        (false, Some(length)) => (BodyLength::Length(length), true),
        (false, None) => (BodyLength::UntilClose, false),
    }
}
