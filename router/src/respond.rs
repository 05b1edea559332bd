//! From a [`RouteError`] to the response a client gets: the table of data-plane reference §8, exhaustively.

use crate::error::{Kind, RouteError};
use crate::grpc;
use crate::proxy_status::ProxyError;
use bytes::{BufMut, BytesMut};
use http::StatusCode;

/// The limits of what an error response may carry.
#[derive(Debug, Clone, Copy)]
pub struct ErrorLimits {
    /// Bytes of the body, at most (`maxErrResponseKB`).
    pub body_bytes: usize,
    /// Bytes of the `l5d-err` header value, at most (`maxHeadersKB`).
    pub header_bytes: usize,
    /// Time limits are answered with 504 (`timeoutStatus: 504`).
    pub timeouts_are_504: bool,
}

/// Who asks, for what an error may tell.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// Whether the listener trusts its callers with texts, names and addresses.
    pub trusted: bool,
    /// The id of the request, as in `l5d-reqid`.
    pub request_id: u64,
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
pub fn status(kind: Kind, limits: ErrorLimits) -> StatusCode {
    match kind {
        Kind::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Kind::AttemptTimeout
        | Kind::TotalTimeout
        | Kind::ServerTimeout
        | Kind::BindingTimeout
        | Kind::ConnectTimeout
            if limits.timeouts_are_504 =>
        {
            StatusCode::GATEWAY_TIMEOUT
        }
        Kind::Unidentified | Kind::BadOverride | Kind::BadRequest | Kind::CallDepth | Kind::DownstreamBody => {
            StatusCode::BAD_REQUEST
        }
        Kind::OverrideDenied => StatusCode::FORBIDDEN,
        Kind::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        Kind::RequestTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::TrailersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Kind::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
        Kind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Kind::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        Kind::SelfLoop => StatusCode::LOOP_DETECTED,
        Kind::IdentifierThrew
        | Kind::NoHosts
        | Kind::BindingFailed
        | Kind::BindingTimeout
        | Kind::ConnectFailed
        | Kind::ConnectTimeout
        | Kind::TooManyWaiters
        | Kind::UpstreamClosed
        | Kind::UpstreamFraming
        | Kind::ResponseTooLarge
        | Kind::ClientGone => StatusCode::BAD_GATEWAY,
        Kind::AttemptTimeout | Kind::TotalTimeout | Kind::ServerTimeout | Kind::Overload => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// True for failures of the last row of the error table: only they carry `l5d-retryable`.
fn is_other(kind: Kind) -> bool {
    matches!(kind, Kind::UpstreamClosed | Kind::UpstreamFraming | Kind::TooManyWaiters)
}

/// What RFC 9209 calls an error, unless the error knows better.
fn proxy_error(kind: Kind) -> ProxyError {
    match kind {
        Kind::Unidentified | Kind::NoHosts => ProxyError::DestinationNotFound,
        Kind::IdentifierThrew
        | Kind::BadOverride
        | Kind::BadRequest
        | Kind::ExpectationFailed
        | Kind::DownstreamBody
        | Kind::RequestTooLarge
        | Kind::TrailersTooLarge
        | Kind::BodyTimeout
        | Kind::ClientGone => ProxyError::HttpRequestError,
        Kind::MethodNotAllowed | Kind::OverrideDenied | Kind::Misdirected => ProxyError::HttpRequestDenied,
        Kind::CallDepth | Kind::SelfLoop => ProxyError::ProxyLoopDetected,
        Kind::BindingFailed => ProxyError::DnsError,
        Kind::BindingTimeout => ProxyError::DnsTimeout,
        Kind::ConnectFailed => ProxyError::ConnectionRefused,
        Kind::ConnectTimeout => ProxyError::ConnectionTimeout,
        Kind::TooManyWaiters => ProxyError::ConnectionLimitReached,
        Kind::UpstreamClosed => ProxyError::ConnectionTerminated,
        Kind::UpstreamFraming => ProxyError::HttpProtocolError,
        Kind::ResponseTooLarge => ProxyError::HttpResponseBodySize,
        Kind::AttemptTimeout | Kind::TotalTimeout | Kind::ServerTimeout | Kind::DeadlineExceeded => {
            ProxyError::HttpResponseTimeout
        }
        Kind::Overload => ProxyError::ProxyInternalResponse,
    }
}

/// The response for `error`. Callers that are not trusted learn a code and the id of the request, nothing else
/// (requirements P6.2, attack X9).
pub fn response(error: &RouteError, limits: ErrorLimits, caller: Caller) -> ErrorResponse {
    let mut fields = BytesMut::with_capacity(256);
    let status = status(error.kind, limits);
    let cause = error.cause.unwrap_or_else(|| proxy_error(error.kind));
    cause.write(caller.trusted.then_some(error.text.as_str()), &mut fields);
    if error.kind == Kind::Overload {
        fields.extend_from_slice(b"finagle-http-nack: true\r\nretry-after: 0\r\n");
        let body = b"Request was not processed by the server due to an error and is safe to retry".to_vec();
        return ErrorResponse { status, fields, body };
    }
    if error.kind == Kind::MethodNotAllowed {
        fields.extend_from_slice(b"allow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH, TRACE\r\n");
    }
    fields.extend_from_slice(b"content-type: text/plain\r\nx-content-type-options: nosniff\r\n");
    if !caller.trusted {
        let body = format!("{} (request id {:016x})\n", error.kind.code(), caller.request_id).into_bytes();
        return ErrorResponse { status, fields, body };
    }
    let text = printable(&error.text);
    fields.extend_from_slice(b"l5d-err: ");
    url_encode(&text, limits.header_bytes, &mut fields);
    fields.extend_from_slice(b"\r\n");
    if error.not_dispatched && is_other(error.kind) {
        fields.extend_from_slice(b"l5d-retryable: true\r\n");
    }
    let mut body = text.into_bytes();
    body.truncate(limits.body_bytes);
    ErrorResponse { status, fields, body }
}

/// The same for a call of gRPC over HTTP/2: a response that is all trailers, with the status that its client reads
/// (gRPC over HTTP/2, "Responses").
pub fn grpc(error: &RouteError, limits: ErrorLimits, caller: Caller) -> ErrorResponse {
    let plain = response(error, limits, caller);
    let mut fields = BytesMut::with_capacity(plain.fields.len() + 128);
    let lines = plain.fields.split_inclusive(|&byte| byte == b'\n');
    lines.filter(|line| !line.starts_with(b"content-type:")).for_each(|line| fields.extend_from_slice(line));
    fields.extend_from_slice(
        format!("content-type: application/grpc\r\ngrpc-status: {}\r\n", grpc::status_of(error.kind)).as_bytes(),
    );
    fields.extend_from_slice(b"grpc-message: ");
    let text = String::from_utf8_lossy(&plain.body);
    grpc::write_message(text.trim_end(), grpc::MAX_MESSAGE, &mut fields);
    fields.extend_from_slice(b"\r\n");
    ErrorResponse { status: StatusCode::OK, fields, body: Vec::new() }
}

/// The text without control characters but for line ends: they are shown as `\xHH`.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
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

    const LIMITS: ErrorLimits = ErrorLimits { body_bytes: 20, header_bytes: 16, timeouts_are_504: false };

    const FRIEND: Caller = Caller { trusted: true, request_id: 0x1f2e };
    const STRANGER: Caller = Caller { trusted: false, ..FRIEND };

    fn lines(response: &ErrorResponse) -> String {
        String::from_utf8(response.fields.to_vec()).expect("text")
    }

    /// The table of data-plane reference §8.2, and `timeoutStatus`.
    #[test]
    fn timeouts_have_the_status_that_the_config_says() {
        for (kind, before, after) in [
            (Kind::AttemptTimeout, 503, 504),
            (Kind::TotalTimeout, 503, 504),
            (Kind::ServerTimeout, 503, 504),
            (Kind::BindingTimeout, 502, 504),
            (Kind::ConnectTimeout, 502, 504),
            (Kind::ConnectFailed, 502, 502),
            (Kind::TooManyWaiters, 502, 502),
            (Kind::Overload, 503, 503),
            (Kind::BodyTimeout, 408, 408),
            (Kind::DeadlineExceeded, 504, 504),
        ] {
            assert_eq!(status(kind, LIMITS), before, "{kind:?}");
            assert_eq!(status(kind, ErrorLimits { timeouts_are_504: true, ..LIMITS }), after, "{kind:?}");
        }
    }

    #[test]
    fn errors_are_cut_and_encoded() {
        let error = RouteError::new(Kind::NoHosts, "Unable to route <request>!\n/svc/x");
        let response = response(&error, LIMITS, FRIEND);
        assert_eq!(response.status, StatusCode::BAD_GATEWAY);
        assert_eq!(response.body, b"Unable to route <req");
        assert!(lines(&response).contains("\r\nl5d-err: Unable+to+route+\r\n"), "{:?}", response.fields);
    }

    #[test]
    fn strangers_learn_a_code_and_an_id() {
        let error = RouteError::new(Kind::UpstreamClosed, "secret").undispatched();
        let response = response(&error, LIMITS, STRANGER);
        assert_eq!(response.body, b"connection-closed (request id 0000000000001f2e)\n");
        let wanted = "proxy-status: switchyard; error=connection_terminated\r\ncontent-type: text/plain\r\n\
                      x-content-type-options: nosniff\r\n";
        assert_eq!(lines(&response), wanted);
    }

    #[test]
    fn control_characters_are_shown() {
        let limits = ErrorLimits { body_bytes: 100, header_bytes: 100, timeouts_are_504: false };
        let response = response(&RouteError::new(Kind::BadOverride, "a\u{1b}[31m\r\nb\0"), limits, FRIEND);
        assert_eq!(response.body, br"a\u{1b}[31m\r".iter().chain(b"\n").chain(br"b\u{0}").copied().collect::<Vec<_>>());
    }

    #[test]
    fn what_rfc_9209_calls_it() {
        let refused = RouteError::new(Kind::ConnectFailed, "no \"way\"\nmore");
        let timeout = refused.clone().because(ProxyError::ConnectionTimeout);
        let first = |error: &RouteError| lines(&response(error, LIMITS, FRIEND)).lines().next().map(str::to_owned);
        let wanted = |token: &str| Some(format!("proxy-status: switchyard; error={token}; details=\"no \\\"way\\\"\""));
        assert_eq!((first(&refused), first(&timeout)), (wanted("connection_refused"), wanted("connection_timeout")));
    }

    #[test]
    fn overload_is_a_nack() {
        let response = response(&RouteError::new(Kind::Overload, ""), LIMITS, FRIEND);
        assert_eq!(response.status, StatusCode::SERVICE_UNAVAILABLE);
        let wanted = "proxy-status: switchyard; error=proxy_internal_response\r\nfinagle-http-nack: true\r\n";
        assert!(lines(&response).starts_with(wanted));
    }

    #[test]
    fn only_other_failures_say_retryable() {
        for (kind, wanted) in [(Kind::UpstreamClosed, true), (Kind::NoHosts, false), (Kind::ConnectFailed, false)] {
            let error = RouteError::new(kind, "x").undispatched();
            let fields = response(&error, LIMITS, FRIEND).fields;
            assert_eq!(fields.windows(13).any(|w| w == b"l5d-retryable"), wanted, "{kind:?}");
        }
    }
}
