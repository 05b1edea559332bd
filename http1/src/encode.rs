//! Writing heads and bodies.
//!
//! What it is for: the one place that puts framing on the wire. Whatever the header map says about Content-Length,
//! Transfer-Encoding and Connection is left out and written anew from the [`BodyLength`], so a field that was not
//! acted on is never passed on (attack H1-3). What it is not: it strips no other hop-by-hop field. Called by the
//! router with [`Conn::out`](crate::Conn::out) as the destination.

use crate::error::EncodeError;
use crate::fields::is_forbidden_trailer;
use crate::head::{BodyLength, carries_body, is_reason};
use bytes::BytesMut;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode, Version};

/// Room to reserve for one field line, in bytes.
const FIELD_ESTIMATE: usize = 64;

/// Writes a request head (RFC 9112 section 3) to `out`, with the framing field for `body`: `Content-Length: 0` for
/// POST, PUT and PATCH without a body, nothing for other requests without one.
///
/// `target` is the request-target; a byte that may not stand in one is written as `%XX`. A chunked request is always
/// written as HTTP/1.1. `UntilClose`, which a request cannot be, is written as `Chunked`, and so it is by
/// [`BodyEncoder::for_request`].
pub fn encode_request_head(
    out: &mut BytesMut,
    method: &Method,
    target: &[u8],
    version: Version,
    headers: &HeaderMap,
    body: BodyLength,
) {
    let body = request_framing(body);
    out.reserve(128 + target.len() + headers.len() * FIELD_ESTIMATE);
    out.extend_from_slice(method.as_str().as_bytes());
    out.extend_from_slice(b" ");
    put_target(out, target);
    let old = version == Version::HTTP_10 && body != BodyLength::Chunked;
    out.extend_from_slice(if old { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" });
    put_fields(out, headers);
    match body {
        BodyLength::Empty if carries_body(method) => put_length(out, 0),
        BodyLength::Empty => {}
        BodyLength::Length(n) => put_length(out, n),
        BodyLength::Chunked | BodyLength::UntilClose => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes a response head (RFC 9112 section 4) to `out`, with the framing field for `body` and, when it is not the
/// version's default, `connection: close` or `connection: keep-alive`.
///
/// `reason`: `None` for the usual phrase; one that holds a control character is replaced by the usual one.
/// `head_content_length`: the length to state, in bytes, where `body` is `Empty` (responses to HEAD, and 304). With
/// `Empty` and `None` no length is stated at all, so an empty body that a client waits for is `Length(0)`.
/// `Chunked` to HTTP/1.0 is written as `UntilClose` (see [`BodyLength::for_version`], which the body's encoder must
/// be given too). `UntilClose` is never kept alive. 1xx and 204 carry neither framing nor, for 1xx, `connection`.
#[expect(clippy::too_many_arguments, reason = "one flat call per response, no allocation, no intermediate struct")]
pub fn encode_response_head(
    out: &mut BytesMut,
    status: StatusCode,
    reason: Option<&[u8]>,
    version: Version,
    headers: &HeaderMap,
    body: BodyLength,
    keep_alive: bool,
    head_content_length: Option<u64>,
) {
    let body = body.for_version(version);
    out.reserve(128 + headers.len() * FIELD_ESTIMATE);
    put_status_line(out, status, reason, version);
    put_fields(out, headers);
    if !status.is_informational() {
        if status != StatusCode::NO_CONTENT {
            put_response_length(out, body, head_content_length);
        }
        let keep_alive = keep_alive && body != BodyLength::UntilClose;
        match (keep_alive, version == Version::HTTP_10) {
            (false, false) => out.extend_from_slice(b"connection: close\r\n"),
            (true, true) => out.extend_from_slice(b"connection: keep-alive\r\n"),
            (true, false) | (false, true) => {}
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn put_status_line(out: &mut BytesMut, status: StatusCode, reason: Option<&[u8]>, version: Version) {
    out.extend_from_slice(if version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b" ");
    match reason.filter(|text| is_reason(text)) {
        Some(text) => out.extend_from_slice(text),
        None => out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes()),
    }
    out.extend_from_slice(b"\r\n");
}

fn put_response_length(out: &mut BytesMut, body: BodyLength, head_content_length: Option<u64>) {
    match (body, head_content_length) {
        (BodyLength::Empty, Some(n)) | (BodyLength::Length(n), _) => put_length(out, n),
        (BodyLength::Chunked, _) => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        (BodyLength::Empty, None) | (BodyLength::UntilClose, _) => {}
    }
}

fn request_framing(body: BodyLength) -> BodyLength {
    match body {
        BodyLength::UntilClose => BodyLength::Chunked,
        other => other,
    }
}

/// Writes every field but those this module owns.
fn put_fields(out: &mut BytesMut, headers: &HeaderMap) {
    for (name, value) in headers {
        if *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING || *name == CONNECTION {
            continue;
        }
        put_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
}

fn put_field(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn put_length(out: &mut BytesMut, length: u64) {
    out.extend_from_slice(b"content-length: ");
    put_number(out, length, 10);
    out.extend_from_slice(b"\r\n");
}

/// Writes `n` in base 10 or 16, lower-case.
fn put_number(out: &mut BytesMut, mut n: u64, base: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'0'; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = DIGITS[(n % base) as usize];
        n /= base;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

fn put_target(out: &mut BytesMut, target: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if !target.is_empty() && target.iter().all(u8::is_ascii_graphic) {
        out.extend_from_slice(target);
        return;
    }
    if target.is_empty() {
        out.extend_from_slice(b"/");
    }
    for &b in target {
        if b.is_ascii_graphic() {
            out.extend_from_slice(&[b]);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
    }
}

/// Writes one body with the framing its head announced, and holds the caller to it.
#[derive(Debug)]
pub struct BodyEncoder {
    length: BodyLength,
    finished: bool,
}

impl BodyEncoder {
    /// An encoder for a body delimited by `length`, which must be what the head was written with.
    #[must_use]
    pub fn new(length: BodyLength) -> Self {
        Self { length, finished: false }
    }

    /// An encoder for a request's body: as [`Self::new`], but `UntilClose` becomes `Chunked`, as in
    /// [`encode_request_head`].
    #[must_use]
    pub fn for_request(length: BodyLength) -> Self {
        Self::new(request_framing(length))
    }

    /// Writes one piece of the body to `out`. An empty piece writes nothing.
    ///
    /// # Errors
    /// `TooLong` when the piece exceeds the declared length or the body is finished; nothing is written.
    pub fn data(&mut self, chunk: &[u8], out: &mut BytesMut) -> Result<(), EncodeError> {
        self.chunk_header(chunk.len(), out)?;
        out.extend_from_slice(chunk);
        if !chunk.is_empty() {
            self.chunk_end(out);
        }
        Ok(())
    }

    /// Announces a piece of `length` bytes, which the caller then writes itself, followed by [`Self::chunk_end`].
    /// Writes nothing for a length of zero, which must not be followed by `chunk_end`.
    ///
    /// # Errors
    /// As [`Self::data`].
    pub fn chunk_header(&mut self, length: usize, out: &mut BytesMut) -> Result<(), EncodeError> {
        if length == 0 {
            return Ok(());
        }
        if self.finished {
            return Err(EncodeError::TooLong);
        }
        match &mut self.length {
            BodyLength::Empty => return Err(EncodeError::TooLong),
            BodyLength::Length(left) => *left = left.checked_sub(length as u64).ok_or(EncodeError::TooLong)?,
            BodyLength::Chunked => {
                put_number(out, length as u64, 16);
                out.extend_from_slice(b"\r\n");
            }
            BodyLength::UntilClose => {}
        }
        Ok(())
    }

    /// Writes what follows a piece announced by [`Self::chunk_header`].
    pub fn chunk_end(&mut self, out: &mut BytesMut) {
        if self.length == BodyLength::Chunked {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Ends the body. Trailers go out with `Chunked` only, without the fields of attack H1-6. A second call does
    /// nothing.
    ///
    /// # Errors
    /// `TooShort` when bytes of the declared length are missing.
    pub fn finish(&mut self, trailers: Option<&HeaderMap>, out: &mut BytesMut) -> Result<(), EncodeError> {
        if let BodyLength::Length(1..) = self.length {
            return Err(EncodeError::TooShort);
        }
        if std::mem::replace(&mut self.finished, true) || self.length != BodyLength::Chunked {
            return Ok(());
        }
        out.extend_from_slice(b"0\r\n");
        for (name, value) in trailers.into_iter().flatten() {
            if !is_forbidden_trailer(name) {
                put_field(out, name.as_str().as_bytes(), value.as_bytes());
            }
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Whether [`Self::finish`] succeeded.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished
    }
}
