//! [`RequestRecord`]: what is known of a request once it is over.
//!
//! What it is for: the one description of a finished request, made once and read by whoever reports on requests, first
//! of all by [`crate::AccessLog`]. What it is not: a metric; counters are settled elsewhere. It borrows: a reader that
//! keeps something copies it. Called by: the data path, once per finished request, and only when there is a reader.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

/// A finished request, whatever ended it. Texts that a client or a service sent are raw bytes: escape them.
#[derive(Clone, Copy, Debug)]
pub struct RequestRecord<'a> {
    /// When it was over, in wall-clock time: the last byte of the response was handed to the system.
    pub end: SystemTime,
    /// Label of the router.
    pub router: &'a str,
    /// `<ip>/<port>` of the listener.
    pub server: &'a str,
    /// Who asked.
    pub peer: SocketAddr,
    /// The method.
    pub method: &'a str,
    /// The request target, as the client sent it.
    pub target: &'a [u8],
    /// The protocol of the client: `HTTP/2`, `HTTP/1.1` or `HTTP/1.0`.
    pub version: &'a str,
    /// `Host`, or `:authority`, as the client sent it.
    pub host: Option<&'a [u8]>,
    /// `Referer`.
    pub referer: Option<&'a [u8]>,
    /// `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// Status of the response; none when the client was gone before there was one.
    pub status: Option<u16>,
    /// `grpc-status` of the response, from its trailers or its head; none for what is not gRPC or ended without.
    pub grpc_status: Option<u32>,
    /// `Content-Length` of the response, as the service stated it.
    pub content_length: Option<u64>,
    /// Bytes of the request body that were read.
    pub request_bytes: u64,
    /// Bytes of the response body that were handed to the client's connection, after compression, without framing.
    pub response_bytes: u64,
    /// The logical name, once the request was identified.
    pub service: Option<&'a str>,
    /// The concrete name it was last sent to, or was to be sent to.
    pub client: Option<&'a str>,
    /// The address whose response was passed on.
    pub endpoint: Option<SocketAddr>,
    /// Retries by the classifier of the service, without requeues.
    pub retries: u64,
    /// From the head of the request to the head of the response.
    pub latency: Duration,
    /// From the head of the request to the end of the response.
    pub duration: Duration,
    /// What went wrong in or around the router, if anything: a 5xx of a service is not.
    pub failure: Option<&'a str>,
}
