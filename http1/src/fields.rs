//! Field lines: tokenising them and judging the fields that decide framing.
//!
//! What it is for: turning the complete, CRLF-checked header block found by `scan` into names and values that share
//! the head's memory, and collecting what Content-Length, Transfer-Encoding, Connection and Expect say. What it is
//! not: it judges no other field (Host is the router's). Called by `head` and `body`.

use crate::error::HeadError;
use crate::scan::find_lf;
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Version};

/// One field line.
pub(crate) struct Field {
    /// The name, lower-case.
    pub(crate) name: HeaderName,
    /// The value without surrounding white space, sharing the head's memory.
    pub(crate) value: HeaderValue,
    /// White space followed the value.
    pub(crate) padded: bool,
}

/// Takes the next field line of `head` at `at`, or `None` at the empty line. `head` must have passed `scan`.
///
/// # Errors
/// `Bad` with slug `obs-fold`, `header-name`, `space-before-colon`, `header-line`, `bare-cr` or `header-value`
/// (attack H1-7, RFC 9112 section 5).
pub(crate) fn next_field(head: &Bytes, at: &mut usize) -> Result<Option<Field>, HeadError> {
    let start = *at;
    let rest = &head[start..];
    let Some(lf) = find_lf(rest) else { return Ok(None) };
    let line = &rest[..lf.saturating_sub(1)];
    *at = start + lf + 1;
    let Some(&first) = line.first() else { return Ok(None) };
    if matches!(first, b' ' | b'\t') {
        return Err(HeadError::Bad("obs-fold"));
    }
    let Some(colon) = line.iter().position(|&b| b == b':') else { return Err(HeadError::Bad("header-line")) };
    let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| bad_name(&line[..colon]))?;
    let (from, to) = trim(line, colon + 1);
    let value = HeaderValue::from_maybe_shared(head.slice(start + from..start + to))
        .map_err(|_| HeadError::Bad(if line.contains(&b'\r') { "bare-cr" } else { "header-value" }))?;
    Ok(Some(Field { name, value, padded: to < line.len() }))
}

fn bad_name(name: &[u8]) -> HeadError {
    HeadError::Bad(match name {
        [_, .., b' ' | b'\t'] => "space-before-colon",
        _ => "header-name",
    })
}

/// The bounds of `line[from..]` without spaces and tabs at either end.
fn trim(line: &[u8], mut from: usize) -> (usize, usize) {
    let mut to = line.len();
    while from < to && matches!(line[from], b' ' | b'\t') {
        from += 1;
    }
    while from < to && matches!(line[to - 1], b' ' | b'\t') {
        to -= 1;
    }
    (from, to)
}

/// What the framing and connection fields of one head said.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The one Content-Length, in bytes.
    pub(crate) length: Option<u64>,
    /// Transfer-Encoding is exactly `chunked`.
    pub(crate) chunked: bool,
    /// Connection names `close`.
    pub(crate) close: bool,
    /// Connection names `keep-alive`.
    pub(crate) keep_alive: bool,
    /// Expect is `100-continue`.
    pub(crate) expect_continue: bool,
    /// Expect is something else.
    pub(crate) expect_other: bool,
    /// Refuse white space after a framing value (requests, attacks H1-2 and H1-3).
    pub(crate) strict_padding: bool,
}

impl Seen {
    /// Reads every field of `head` from `at` on into `headers`.
    ///
    /// # Errors
    /// Those of [`next_field`] and of the framing fields, each line on its own.
    pub(crate) fn read(&mut self, head: &Bytes, mut at: usize, headers: &mut HeaderMap) -> Result<(), HeadError> {
        headers.clear();
        while let Some(field) = next_field(head, &mut at)? {
            if self.note(&field)? {
                headers.try_append(field.name, field.value).map_err(|_| HeadError::TooManyHeaders)?;
            }
        }
        Ok(())
    }

    /// Takes one field into account. False when it repeats a length already seen and is to be merged.
    fn note(&mut self, field: &Field) -> Result<bool, HeadError> {
        match field.name.as_str() {
            "content-length" => return self.note_length(field),
            "transfer-encoding" => self.note_coding(field)?,
            "connection" => self.note_connection(field.value.as_bytes()),
            "expect" => {
                let known = field.value.as_bytes().eq_ignore_ascii_case(b"100-continue");
                self.expect_continue |= known;
                self.expect_other |= !known;
            }
            _ => {}
        }
        Ok(true)
    }

    fn note_length(&mut self, field: &Field) -> Result<bool, HeadError> {
        let parsed = if self.strict_padding && field.padded { None } else { parse_length(field.value.as_bytes()) };
        let length = parsed.ok_or(HeadError::Bad("content-length"))?;
        match self.length.replace(length) {
            None => Ok(true),
            Some(earlier) if earlier == length => Ok(false),
            Some(_) => Err(HeadError::Bad("content-length")),
        }
    }

    fn note_coding(&mut self, field: &Field) -> Result<(), HeadError> {
        let known = field.value.as_bytes().eq_ignore_ascii_case(b"chunked");
        if self.chunked || !known || (self.strict_padding && field.padded) {
            return Err(HeadError::Bad("transfer-encoding"));
        }
        self.chunked = true;
        Ok(())
    }

    fn note_connection(&mut self, value: &[u8]) {
        for token in value.split(|&b| b == b',') {
            let token = token.trim_ascii();
            self.close |= token.eq_ignore_ascii_case(b"close");
            self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// Judges the framing fields together: Content-Length beside Transfer-Encoding in either order (attack H1-1),
    /// Transfer-Encoding in HTTP/1.0 (attack H1-4, RFC 9112 section 6.1).
    pub(crate) fn check(&self, version: Version) -> Result<(), HeadError> {
        if self.chunked && self.length.is_some() {
            return Err(HeadError::Bad("content-length-and-transfer-encoding"));
        }
        if self.chunked && version == Version::HTTP_10 {
            return Err(HeadError::Bad("transfer-encoding"));
        }
        Ok(())
    }

    /// Whether the sender wants the connection kept (RFC 9112 section 9.3).
    pub(crate) fn persistent(&self, version: Version) -> bool {
        !self.close && (version != Version::HTTP_10 || self.keep_alive)
    }
}

/// `1*DIGIT` that fits 64 bits, nothing else (RFC 9110 section 8.6, attack H1-2).
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |sum, &b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Whether a trailer of this name must not be passed on: fields for framing, routing, authentication and content
/// handling, and the router's own, also when spelt with underscores (RFC 9110 section 6.5.1, attack H1-6).
pub(crate) fn is_forbidden_trailer(name: &HeaderName) -> bool {
    let name = name.as_str();
    let starts = |prefix: &[u8]| {
        name.len() >= prefix.len() && name.bytes().zip(prefix).all(|(b, &p)| b == p || (b == b'_' && p == b'-'))
    };
    starts(b"l5d-")
        || starts(b"x-forwarded-")
        || matches!(
            name,
            "content-length"
                | "transfer-encoding"
                | "host"
                | "trailer"
                | "te"
                | "connection"
                | "keep-alive"
                | "proxy-connection"
                | "upgrade"
                | "authorization"
                | "proxy-authorization"
                | "proxy-authenticate"
                | "www-authenticate"
                | "cookie"
                | "set-cookie"
                | "content-encoding"
                | "content-type"
                | "content-range"
                | "cache-control"
                | "expect"
                | "forwarded"
                | "max-forwards"
        )
}
