//! [`Notes`]: what is kept of a request for its [`RequestRecord`], while it is under way.
//!
//! Nothing is kept, and nothing allocated, unless somebody reads records: at present the access log of the router. What
//! is kept shares the memory of the request's head. Filled in by `exchange` and `answer` by way of `record`, which ends it.

use super::Session;
use crate::clock;
use crate::route::Leaf;
use crate::worker::WorkerServer;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Version, header};
use http1::RequestHead;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use telemetry::RequestRecord;

/// See the module. The first half is known from the start, the rest comes on the way.
pub(crate) struct Notes {
    cx: Rc<WorkerServer>,
    peer: SocketAddr,
    method: Method,
    target: Bytes,
    version: Version,
    host: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    pub(crate) leaf: Option<Arc<Leaf>>,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) retries: u64,
    pub(crate) status: Option<StatusCode>,
    pub(crate) grpc_status: Option<u32>,
    pub(crate) content_length: Option<u64>,
    /// Nanoseconds to the head of the response.
    pub(crate) latency: u64,
    pub(crate) failure: Option<&'static str>,
}

impl Notes {
    /// Notes on the request with this head; none when nobody will read them.
    pub(crate) fn begin(session: &Session, head: &RequestHead) -> Option<Box<Notes>> {
        session.cx.router.access_log.as_ref()?;
        let header = |name: header::HeaderName| head.headers.get(name).cloned();
        Some(Box::new(Notes {
            cx: session.cx.clone(),
            peer: session.connection.peer,
            method: head.method.clone(),
            target: head.target.clone(),
            version: head.version,
            host: header(header::HOST),
            referer: header(header::REFERER),
            user_agent: header(header::USER_AGENT),
            leaf: None,
            endpoint: None,
            retries: 0,
            status: None,
            grpc_status: None,
            content_length: None,
            latency: 0,
            failure: None,
        }))
    }

    /// The request is over: tells who reads records. `started` is in nanoseconds of the process clock.
    pub(crate) fn end(self, started: u64, service: Option<&dtab::Path>, bytes: (u64, u64)) {
        let Some(log) = &self.cx.router.access_log else { return };
        let service = service.map(ToString::to_string);
        let client = self.leaf.as_ref().map(|leaf| leaf.client.id.to_string());
        log.record(&RequestRecord {
            end: SystemTime::now(),
            router: &self.cx.router.params.label,
            server: &self.cx.server.label,
            peer: self.peer,
            method: self.method.as_str(),
            target: &self.target,
            version: match self.version {
                Version::HTTP_2 => "HTTP/2",
                Version::HTTP_10 => "HTTP/1.0",
                _ => "HTTP/1.1",
            },
            host: self.host.as_ref().map(HeaderValue::as_bytes),
            referer: self.referer.as_ref().map(HeaderValue::as_bytes),
            user_agent: self.user_agent.as_ref().map(HeaderValue::as_bytes),
            status: self.status.map(|status| status.as_u16()),
            grpc_status: self.grpc_status,
            content_length: self.content_length,
            request_bytes: bytes.0,
            response_bytes: bytes.1,
            service: service.as_deref(),
            client: client.as_deref(),
            endpoint: self.endpoint,
            retries: self.retries,
            latency: Duration::from_nanos(self.latency),
            duration: Duration::from_nanos(clock::now().saturating_sub(started)),
            failure: self.failure,
        });
    }
}
