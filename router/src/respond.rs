//! From a [`RouteError`] to the response a client gets: the table of data-plane reference §8, exhaustively.

use crate::error::{Kind, RouteError};
use bytes::{BufMut, BytesMut};
use http::StatusCode;

/// The limits of what an error response may carry.
#[derive(Debug, Clone, Copy)]
pub struct ErrorLimits {
    /// Bytes of the body, at most (`maxErrResponseKB`).
    pub body_bytes: usize,
    /// Bytes of the `l5d-err` header value, at most (`maxHeadersKB`).
    pub header_bytes: usize,
}

/// An error response as it goes on the wire, without head framing.
#[derive(Debug)]
pub struct ErrorResponse {
    /// The status.
    pub status: StatusCode,
    /// Raw header lines.
    pub fields: BytesMut,
    /// The body.
    pub body: Vec<u8>,
}

/// The status of an error.
pub fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Unidentified | Kind::BadOverride | Kind::BadRequest | Kind::CallDepth | Kind::DownstreamBody => {
            StatusCode::BAD_REQUEST
        }
        Kind::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        Kind::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
        Kind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Kind::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        Kind::SelfLoop => StatusCode::LOOP_DETECTED,
        Kind::IdentifierThrew
        | Kind::NoHosts
        | Kind::BindingFailed
        | Kind::BindingTimeout
        | Kind::ConnectFailed
        | Kind::UpstreamClosed
        | Kind::UpstreamFraming
        | Kind::ClientGone => StatusCode::BAD_GATEWAY,
        Kind::AttemptTimeout | Kind::TotalTimeout | Kind::ServerTimeout | Kind::Overload => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// True for failures of the last row of the error table: only they carry `l5d-retryable`.
fn is_other(kind: Kind) -> bool {
    matches!(kind, Kind::UpstreamClosed | Kind::UpstreamFraming)
}

/// The response for `error`. With `clear` (a `clearContext` server) it carries no text at all.
pub fn response(error: &RouteError, limits: ErrorLimits, clear: bool) -> ErrorResponse {
    let mut fields = BytesMut::with_capacity(256);
    if error.kind == Kind::Overload {
        fields.extend_from_slice(b"finagle-http-nack: true\r\nretry-after: 0\r\n");
        let body = b"Request was not processed by the server due to an error and is safe to retry".to_vec();
        return ErrorResponse { status: status(error.kind), fields, body };
    }
    if error.kind == Kind::MethodNotAllowed {
        fields.extend_from_slice(b"allow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH, TRACE\r\n");
    }
    if clear {
        return ErrorResponse { status: status(error.kind), fields, body: Vec::new() };
    }
    fields.extend_from_slice(b"l5d-err: ");
    url_encode(&error.text, limits.header_bytes, &mut fields);
    fields.extend_from_slice(b"\r\ncontent-type: text/plain\r\n");
    if error.not_dispatched && is_other(error.kind) {
        fields.extend_from_slice(b"l5d-retryable: true\r\n");
    }
    let mut body = error.text.clone().into_bytes();
    body.truncate(limits.body_bytes);
    ErrorResponse { status: status(error.kind), fields, body }
}

/// `application/x-www-form-urlencoded`, cut to `limit` bytes.
fn url_encode(text: &str, limit: usize, out: &mut BytesMut) {
    let start = out.len();
    for &byte in text.as_bytes() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'*' | b'_' | b' ');
        if out.len() - start + if plain { 1 } else { 3 } > limit {
            return;
        }
        match byte {
            b' ' => out.put_u8(b'+'),
            _ if plain => out.put_u8(byte),
            _ => {
                out.put_u8(b'%');
                for digit in [byte >> 4, byte & 15] {
                    out.put_u8(b"0123456789ABCDEF"[usize::from(digit)]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ErrorLimits = ErrorLimits { body_bytes: 20, header_bytes: 16 };

    #[test]
    fn errors_are_cut_and_encoded() {
        let error = RouteError::new(Kind::NoHosts, "Unable to route <request>!\n/svc/x");
        let response = response(&error, LIMITS, false);
        assert_eq!(response.status, StatusCode::BAD_GATEWAY);
        assert_eq!(response.body, b"Unable to route <req");
        assert!(response.fields.starts_with(b"l5d-err: Unable+to+route+\r\n"), "{:?}", response.fields);
    }

    #[test]
    fn clear_context_says_nothing() {
        let error = RouteError::new(Kind::UpstreamClosed, "secret").undispatched();
        let response = response(&error, LIMITS, true);
        assert!(response.fields.is_empty() && response.body.is_empty());
    }

    #[test]
    fn overload_is_a_nack() {
        let response = response(&RouteError::new(Kind::Overload, ""), LIMITS, false);
        assert_eq!(response.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.fields.starts_with(b"finagle-http-nack: true\r\n"));
    }

    #[test]
    fn only_other_failures_say_retryable() {
        for (kind, wanted) in [(Kind::UpstreamClosed, true), (Kind::NoHosts, false), (Kind::ConnectFailed, false)] {
            let error = RouteError::new(kind, "x").undispatched();
            let fields = response(&error, LIMITS, false).fields;
            assert_eq!(fields.windows(13).any(|w| w == b"l5d-retryable"), wanted, "{kind:?}");
        }
    }
}
