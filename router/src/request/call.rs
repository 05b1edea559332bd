//! [`Call`]: what a request says as a call of gRPC: that it is one, and how long its caller waits (gRPC over HTTP/2).
//!
//! Called by `prepare` for requests, by `attempt` for what the service is told. Not for: statuses (`crate::grpc`).

use crate::clock;
use crate::context::Deadline;
use crate::error::Kind;
use crate::grpc;
use crate::timer::NEVER;
use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderValue, header};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// It is a call of gRPC.
    pub(super) is_grpc: bool,
    /// When its caller stops waiting, in nanoseconds of the process clock; [`NEVER`] when it does not say.
    pub(super) ends: u64,
    /// Nanoseconds until then.
    left: Option<u64>,
}

impl Call {
    /// Reads the headers of a request that came in at `now`, and takes `grpc-timeout` out: every attempt says anew what is
    /// left. One that makes no sense is left where it is (attack X5).
    pub(super) fn of(headers: &mut HeaderMap, now: u64) -> Call {
        let is_grpc = headers.get(header::CONTENT_TYPE).is_some_and(grpc::is_grpc);
        let left = headers.get(&grpc::TIMEOUT).filter(|_| is_grpc).map(HeaderValue::as_bytes);
        let left = left.and_then(grpc::parse_timeout).map(clock::nanos);
        if left.is_some() {
            headers.remove(&grpc::TIMEOUT);
        }
        Call { is_grpc, ends: left.map_or(NEVER, |left| now.saturating_add(left)), left }
    }

    /// The stricter of the router's limit and the caller's.
    pub(super) fn due(&self, own: (u64, Kind)) -> (u64, Kind) {
        if self.ends < own.0 { (self.ends, Kind::DeadlineExceeded) } else { own }
    }

    /// The same as a deadline for the hops behind.
    pub(super) fn deadline(&self) -> Option<Deadline> {
        self.left.map(Deadline::after)
    }
}

/// Writes the line `grpc-timeout` for an attempt that begins now and must be over at `ends`.
pub(super) fn write_timeout(ends: u64, lines: &mut BytesMut) {
    if ends != NEVER {
        let left = std::time::Duration::from_nanos(ends.saturating_sub(clock::now()));
        lines.put_slice(b"grpc-timeout: ");
        grpc::write_timeout(left, lines);
        lines.put_slice(b"\r\n");
    }
}
