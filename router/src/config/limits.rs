//! Limits of messages that Linkerd 1 does not have: bodies, trailers, heads of responses (requirements P8).
//!
//! For: the reader of routers. Not for: the limits of Linkerd 1, which `router` reads.

use super::reader::Reader;
use super::scalar::size;

/// The limits of what passes through a router, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitParams {
    /// `maxRequestBodyKB`: a longer request body is refused with 413. Default none.
    pub request_body: Option<u64>,
    /// `maxResponseBodyKB`: a response that announces a longer body gives 502, one that has a longer body is cut.
    /// Default none.
    pub response_body: Option<u64>,
    /// `maxTrailersKB`: the fields after a chunked request body. Default that of `maxHeadersKB`.
    pub request_trailers: usize,
    /// `maxResponseTrailersKB`: the fields after a chunked response body. Default that of `maxTrailersKB`.
    pub response_trailers: usize,
    /// `maxResponseHeadersKB`: all headers of a response. Default that of `maxHeadersKB`.
    pub response_headers: usize,
    /// `maxResponseLineKB`: a status line. Default that of `maxInitialLineKB`.
    pub response_line: usize,
}

/// The limits; `headers` and `line` are those of requests, in bytes.
pub(super) fn limits(router: &mut Reader<'_>, headers: usize, line: usize) -> LimitParams {
    let body = |reader: &mut Reader<'_>, key| reader.get(key, size(1)).map(|kb| (kb as u64).saturating_mul(1024));
    let bytes = |reader: &mut Reader<'_>, key, default: usize| {
        reader.get(key, size(1)).map_or(default, |kb| kb.saturating_mul(1024))
    };
    let request_trailers = bytes(router, "maxTrailersKB", headers);
    LimitParams {
        request_body: body(router, "maxRequestBodyKB"),
        response_body: body(router, "maxResponseBodyKB"),
        request_trailers,
        response_trailers: bytes(router, "maxResponseTrailersKB", request_trailers),
        response_line: bytes(router, "maxResponseLineKB", line),
        response_headers: bytes(router, "maxResponseHeadersKB", headers),
    }
}
