//! The crate's errors, each with a short stable slug for metrics.
//!
//! What it is for: telling the router which status to answer with and which `rejected_total{reason}` to count
//! (rule R). What it is not: text for clients. Called by every module and by the router.

use http::StatusCode;
use std::io;

/// Why a message head was refused. After any of these the connection's framing is in doubt: answer, then close.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// The request or status line is longer than [`Limits::max_line_bytes`](crate::Limits).
    #[error("start line too long")]
    LineTooLong,
    /// The header block is longer than [`Limits::max_head_bytes`](crate::Limits).
    #[error("header block too large")]
    HeadTooLarge,
    /// More field lines than [`Limits::max_headers`](crate::Limits).
    #[error("too many headers")]
    TooManyHeaders,
    /// Malformed or ambiguous; the slug says how, for example `content-length-and-transfer-encoding`.
    #[error("bad message head: {0}")]
    Bad(&'static str),
    /// The peer closed before the first byte of a head: the normal end of a connection.
    #[error("connection closed")]
    Closed,
    /// The peer closed in the middle of a head.
    #[error("connection closed inside a message head")]
    Truncated,
    /// Reading failed.
    #[error("read failed: {0}")]
    Io(#[from] io::Error),
    /// A well-formed version whose major number is not 1 (RFC 9110 section 2.5).
    #[error("unsupported HTTP version")]
    UnsupportedVersion,
}

impl HeadError {
    /// The status for a refused *request*: 414, 431 or 400. For a refused response the caller answers 502 instead.
    /// For `Closed` and `Io` nobody is left to read an answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::LineTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge | Self::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Bad(_) | Self::Closed | Self::Truncated | Self::Io(_) | Self::UnsupportedVersion => {
                StatusCode::BAD_REQUEST
            }
        }
    }

    /// The slug for the metric `rejected_total{reason}`: lower-case words joined by `-`, from a closed list.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::LineTooLong => "line-too-long",
            Self::HeadTooLarge => "headers-too-large",
            Self::TooManyHeaders => "too-many-headers",
            Self::Bad(slug) => slug,
            Self::Closed => "closed",
            Self::Truncated => "truncated",
            Self::Io(_) => "io",
            Self::UnsupportedVersion => "version",
        }
    }
}

/// Why a body could not be read to its end. The connection cannot be used again (attacks H1-5, H1-13).
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The chunk size is empty, not 1 to 16 hexadecimal digits, or its line does not end with CRLF.
    #[error("bad chunk size")]
    ChunkSize,
    /// A chunk extension holds a control character, or exceeds 256 bytes, or 16 KiB over the whole body.
    #[error("bad chunk extension")]
    ChunkExtension,
    /// A chunk's data is not followed by CRLF.
    #[error("missing CRLF after chunk data")]
    ChunkEnd,
    /// The trailer section is malformed or too large; the slug is that of [`HeadError::reason`].
    #[error("bad trailers: {0}")]
    Trailers(&'static str),
    /// The peer closed before the end of the body.
    #[error("connection closed inside a body")]
    Truncated,
    /// Reading failed.
    #[error("read failed: {0}")]
    Io(#[from] io::Error),
}

impl BodyError {
    /// The slug for the metric `rejected_total{reason}`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ChunkSize => "chunk-size",
            Self::ChunkExtension => "chunk-extension",
            Self::ChunkEnd => "chunk-end",
            Self::Trailers(_) => "trailers",
            Self::Truncated => "body-truncated",
            Self::Io(_) => "io",
        }
    }
}

/// The bytes handed to a [`BodyEncoder`](crate::BodyEncoder) disagree with the length announced in the head. The
/// connection must be closed, otherwise the peer reads the next message in the wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// More bytes than announced; nothing of the excess was written.
    #[error("body longer than its declared length")]
    TooLong,
    /// The body ended before the announced length.
    #[error("body shorter than its declared length")]
    TooShort,
}
