//! [`Up`]: the service's side of one exchange, whatever protocol it goes by.
//!
//! One enum and no trait object. The rest of the path writes a request and reads its response by these methods alone. Not
//! for: connections that no request uses (`pool`, `h2::links`).

use super::prepare::Request;
use super::relay::append_fields;
use crate::h2::Outbound;
use crate::route::Leaf;
use crate::stream::Stream;
use bytes::Bytes;
use http::{HeaderMap, Method};
use http1::{
    BodyDecoder, BodyEncoder, BodyError, BodyFrame, Conn, EncodeError, HeadError, Limits, ResponseHead,
    encode_request_head,
};
use std::io;
use std::task::{Context, Poll};

/// See the module.
pub(crate) enum Up {
    /// A connection of its own.
    H1(Box<Conn<Stream>>),
    /// A request among others on a connection.
    H2(Box<Outbound>),
}

/// Fields that a router adds to a request, mostly.
const ADDED: usize = 8;

/// A copy with room for what is added.
fn roomy(headers: &HeaderMap) -> HeaderMap {
    let mut copy = HeaderMap::with_capacity(headers.len() + ADDED);
    copy.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    copy
}

impl Up {
    /// Queues the head of a request with the lines of its leaf and these; `headers` take the place of its own.
    pub(crate) fn write_head(
        &mut self,
        request: &Request,
        headers: Option<HeaderMap>,
        leaf: Option<&Leaf>,
        lines: &[&Bytes],
    ) {
        match self {
            Up::H1(conn) => {
                let out = conn.out();
                out.clear();
                let headers = headers.as_ref().unwrap_or(&request.headers);
                let Request { method, target, version, body, .. } = request;
                encode_request_head(out, method, target, *version, headers, body.length);
                let leaf = leaf.map(|leaf| &leaf.lines);
                let lines = leaf.iter().chain(lines).filter(|lines| !lines.is_empty());
                lines.for_each(|lines| append_fields(out, lines));
            }
            Up::H2(sent) => {
                let headers = headers.unwrap_or_else(|| roomy(&request.headers));
                let what = (&request.method, &request.target[..], request.scheme);
                let fields = leaf.map_or(&[][..], |leaf| &leaf.fields);
                sent.write_head(what, headers, (fields, lines), (request.body.length, request.wants_trailers));
            }
        }
    }

    /// Queues a piece of the request's body.
    pub(crate) fn queue_body(&mut self, encoder: &mut BodyEncoder, piece: Bytes) -> Result<(), EncodeError> {
        match self {
            Up::H1(conn) => conn.queue_body(encoder, piece),
            Up::H2(sent) => {
                sent.push(piece);
                Ok(())
            }
        }
    }

    /// The request's body is over.
    pub(crate) fn finish_body(
        &mut self,
        encoder: &mut BodyEncoder,
        trailers: Option<&HeaderMap>,
    ) -> Result<(), EncodeError> {
        match self {
            Up::H1(conn) => encoder.finish(trailers, conn.out()),
            Up::H2(sent) => {
                sent.finish(trailers.cloned());
                Ok(())
            }
        }
    }

    /// Bytes that wait to be written.
    pub(crate) fn pending_out(&self) -> usize {
        match self {
            Up::H1(conn) => conn.pending_out(),
            Up::H2(sent) => sent.pending_out(),
        }
    }

    /// True when nothing waits to be written.
    pub(crate) fn is_flushed(&self) -> bool {
        match self {
            Up::H1(conn) => conn.is_flushed(),
            Up::H2(sent) => sent.is_flushed(),
        }
    }

    /// Writes what waits, as far as the service takes it.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Up::H1(conn) => conn.poll_flush(cx),
            Up::H2(sent) => sent.poll_flush(cx),
        }
    }

    /// The head of the response, or of an interim one.
    pub(crate) fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        limits: &Limits,
        method: &Method,
        recycled: &mut HeaderMap,
    ) -> Poll<Result<ResponseHead, HeadError>> {
        match self {
            Up::H1(conn) => conn.poll_response(cx, limits, method, recycled),
            Up::H2(sent) => sent.poll_response(cx),
        }
    }

    /// The next piece of the response's body.
    pub(crate) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        decoder: &mut BodyDecoder,
    ) -> Poll<Result<Option<BodyFrame>, BodyError>> {
        match self {
            Up::H1(conn) => conn.poll_body(cx, decoder),
            Up::H2(sent) => sent.poll_body(cx),
        }
    }

    /// True when something of an answer has come.
    pub(crate) fn is_answered(&self) -> bool {
        match self {
            Up::H1(conn) => conn.has_buffered(),
            Up::H2(sent) => sent.is_answered(),
        }
    }

    /// True for HTTP/2, where the end of a body is the stream's and not the head's to tell.
    pub(crate) fn is_h2(&self) -> bool {
        matches!(self, Up::H2(_))
    }

    /// Tells the service why its request ends early.
    pub(crate) fn reset(&mut self, reason: h2::Reason) {
        if let Up::H2(sent) = self {
            sent.reset(reason);
        }
    }
}
