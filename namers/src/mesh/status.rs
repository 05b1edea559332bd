//! gRPC's statuses as this API uses them, and as header lines.
//!
//! Linkerd 1 writes messages as they are and reads them as they are; other clients undo percent-encoding. So only what a
//! header line cannot hold is encoded. Called by both sides.

use http::{HeaderMap, HeaderValue};
use std::fmt;

/// The numbers that are used here.
pub mod code {
    /// All is well.
    pub const OK: u32 = 0;
    /// Nobody knows.
    pub const UNKNOWN: u32 = 2;
    /// The request is not one.
    pub const INVALID_ARGUMENT: u32 = 3;
    /// It took too long.
    pub const DEADLINE_EXCEEDED: u32 = 4;
    /// There is no such thing.
    pub const NOT_FOUND: u32 = 5;
    /// The caller is known, and may not do this.
    pub const PERMISSION_DENIED: u32 = 7;
    /// Too much at once.
    pub const RESOURCE_EXHAUSTED: u32 = 8;
    /// There is no such call.
    pub const UNIMPLEMENTED: u32 = 12;
    /// The answer cannot be known.
    pub const INTERNAL: u32 = 13;
    /// Not now, or not here.
    pub const UNAVAILABLE: u32 = 14;
    /// Credentials are missing or wrong.
    pub const UNAUTHENTICATED: u32 = 16;
}

/// Messages are cut to so many bytes.
const MAX_MESSAGE: usize = 2048;

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// One of [`code`], or what a peer says.
    pub code: u32,
    /// Why.
    pub message: String,
}

impl Status {
    /// A status with a message.
    pub fn new(code: u32, message: impl Into<String>) -> Status {
        Status { code, message: message.into() }
    }

    /// The lines `grpc-status` and, when there is a message, `grpc-message`.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", HeaderValue::from(self.code));
        if let Ok(message) = HeaderValue::from_str(&printable(&self.message))
            && !message.is_empty()
        {
            headers.insert("grpc-message", message);
        }
        headers
    }

    /// The status in header lines, if there is one.
    pub fn of(headers: &HeaderMap) -> Option<Status> {
        let code = headers.get("grpc-status")?.to_str().ok()?.parse().unwrap_or(code::UNKNOWN);
        let message = headers.get("grpc-message").map_or(&b""[..], HeaderValue::as_bytes);
        let message = &message[..message.len().min(MAX_MESSAGE)];
        Some(Status { code, message: String::from_utf8_lossy(message).into_owned() })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.code)?;
        if self.message.is_empty() { Ok(()) } else { write!(f, ": {}", self.message) }
    }
}

fn printable(message: &str) -> String {
    let mut text = String::new();
    for byte in message.bytes() {
        if text.len() >= MAX_MESSAGE {
            break;
        }
        match byte {
            b' '..=b'~' => text.push(char::from(byte)),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_written_as_it_is_and_left_out_when_there_is_none() {
        let text = "Invalid root: `/a/b` must have exactly one segment, not 100 %";
        let status = Status::new(code::INVALID_ARGUMENT, text);
        let headers = status.headers();
        assert_eq!(headers["grpc-status"], "3");
        assert_eq!(headers["grpc-message"], text);
        assert_eq!(Status::of(&headers), Some(status));
        assert!(!Status::new(code::OK, "").headers().contains_key("grpc-message"));
    }

    #[test]
    fn what_no_header_line_can_hold_is_encoded() {
        assert_eq!(Status::new(13, "a\r\nb: ü").headers()["grpc-message"], "a%0D%0Ab: %C3%BC");
        assert_eq!(Status::new(13, "x".repeat(10_000)).headers()["grpc-message"].len(), MAX_MESSAGE);
    }

    #[test]
    fn lines_of_others_are_read_whatever_they_hold() {
        let mut headers = HeaderMap::new();
        assert_eq!(Status::of(&headers), None);
        headers.insert("grpc-status", HeaderValue::from_static("lots"));
        headers.insert("grpc-message", HeaderValue::from_bytes(b"caf\xe9").unwrap());
        assert_eq!(Status::of(&headers), Some(Status::new(code::UNKNOWN, "caf\u{fffd}")));
    }
}
