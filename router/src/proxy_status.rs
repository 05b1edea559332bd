//! The `Proxy-Status` header of responses that the router makes itself (RFC 9209).
//!
//! Called by `respond`, which knows the error type of every kind of error. Not for: responses of services; what a
//! router further in says there is passed on.

use bytes::{BufMut, BytesMut};

/// Characters of a text that are told as `details`, at most.
const DETAILS: usize = 160;

/// The error types of RFC 9209 §2.3 that the router tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyError {
    /// Discovery did not answer in time.
    DnsTimeout,
    /// Discovery failed.
    DnsError,
    /// There is no such name.
    DestinationNotFound,
    /// The name has no address that can be asked.
    DestinationUnavailable,
    /// The connection was ended without an answer.
    ConnectionTerminated,
    /// The address refused the connection, or cannot be reached.
    ConnectionRefused,
    /// As many connections as are allowed are in use.
    ConnectionLimitReached,
    /// The connection was not made in time.
    ConnectionTimeout,
    /// TLS with the service failed.
    TlsProtocolError,
    /// The service's certificate is not accepted.
    TlsCertificateError,
    /// The service has refused TLS.
    TlsAlertReceived,
    /// The request is at fault.
    HttpRequestError,
    /// The request is not wanted here.
    HttpRequestDenied,
    /// The answer broke off.
    HttpResponseIncomplete,
    /// The header section of the answer is too large.
    HttpResponseHeaderSectionSize,
    /// The body of the answer is too large.
    HttpResponseBodySize,
    /// The answer did not come in time.
    HttpResponseTimeout,
    /// The change of protocols failed.
    HttpUpgradeFailed,
    /// The answer is not HTTP.
    HttpProtocolError,
    /// The router answered without asking anybody.
    ProxyInternalResponse,
    /// The request goes round in circles.
    ProxyLoopDetected,
}

impl ProxyError {
    /// The registered name.
    pub fn token(self) -> &'static str {
        match self {
            ProxyError::DnsTimeout => "dns_timeout",
            ProxyError::DnsError => "dns_error",
            ProxyError::DestinationNotFound => "destination_not_found",
            ProxyError::DestinationUnavailable => "destination_unavailable",
            ProxyError::ConnectionTerminated => "connection_terminated",
            ProxyError::ConnectionRefused => "connection_refused",
            ProxyError::ConnectionLimitReached => "connection_limit_reached",
            ProxyError::ConnectionTimeout => "connection_timeout",
            ProxyError::TlsProtocolError => "tls_protocol_error",
            ProxyError::TlsCertificateError => "tls_certificate_error",
            ProxyError::TlsAlertReceived => "tls_alert_received",
            ProxyError::HttpRequestError => "http_request_error",
            ProxyError::HttpRequestDenied => "http_request_denied",
            ProxyError::HttpResponseIncomplete => "http_response_incomplete",
            ProxyError::HttpResponseHeaderSectionSize => "http_response_header_section_size",
            ProxyError::HttpResponseBodySize => "http_response_body_size",
            ProxyError::HttpResponseTimeout => "http_response_timeout",
            ProxyError::HttpUpgradeFailed => "http_upgrade_failed",
            ProxyError::HttpProtocolError => "http_protocol_error",
            ProxyError::ProxyInternalResponse => "proxy_internal_response",
            ProxyError::ProxyLoopDetected => "proxy_loop_detected",
        }
    }

    /// Writes the header line; the first line of `details` goes with it, if any is to be told.
    pub fn write(self, details: Option<&str>, out: &mut BytesMut) {
        out.extend_from_slice(b"proxy-status: switchyard; error=");
        out.extend_from_slice(self.token().as_bytes());
        let line = details.and_then(|text| text.lines().next()).filter(|line| !line.is_empty());
        if let Some(line) = line {
            out.extend_from_slice(b"; details=\"");
            for byte in line.bytes().take(DETAILS) {
                match byte {
                    b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                    // A string of a structured field is ASCII (RFC 8941 §3.3.3); nothing in it is taken for markup.
                    b' '..=b'~' if !matches!(byte, b'<' | b'>') => out.put_u8(byte),
                    _ => out.put_u8(b'?'),
                }
            }
            out.put_u8(b'"');
        }
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(details: Option<&str>) -> String {
        let mut out = BytesMut::new();
        ProxyError::ConnectionRefused.write(details, &mut out);
        String::from_utf8(out.to_vec()).expect("text")
    }

    #[test]
    fn details_are_a_string_of_a_structured_field() {
        let start = "proxy-status: switchyard; error=connection_refused";
        assert_eq!(written(None), format!("{start}\r\n"));
        assert_eq!(written(Some("")), format!("{start}\r\n"));
        assert_eq!(
            written(Some("a \"b\" \\ é\u{7}\nsecond")),
            format!("{start}; details=\"a \\\"b\\\" \\\\ ???\"\r\n")
        );
        assert_eq!(written(Some(&"x".repeat(1000))).len(), start.len() + "; details=\"\"\r\n".len() + DETAILS);
    }
}
