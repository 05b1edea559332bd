//! [`Down`]: the client's side of one exchange, whatever protocol it came by.
//!
//! One enum and no trait object. The rest of the path reads a request's body and writes its response by these methods
//! alone. Not for: the connection between two requests (`request`, `h2::serve`).

use super::relay::append_fields;
use crate::h2::Inbound;
use crate::stream::Stream;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version};
use http1::{BodyDecoder, BodyEncoder, BodyError, BodyFrame, BodyLength, Conn, EncodeError, encode_response_head};
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

/// See the module.
pub(crate) enum Down {
    /// A connection that serves one request at a time.
    H1(Box<Conn<Stream>>),
    /// A request among others on a connection.
    H2(Box<Inbound>),
}

/// The head of a response, as it is to be written.
pub(crate) struct Head<'a> {
    pub(crate) status: StatusCode,
    /// None for the usual one.
    pub(crate) reason: Option<&'a [u8]>,
    /// What the client speaks.
    pub(crate) version: Version,
    /// Emptied where that saves a copy.
    pub(crate) headers: &'a mut HeaderMap,
    /// Raw lines to be added.
    pub(crate) fields: Bytes,
    pub(crate) body: BodyLength,
    /// The length to state where there is no body.
    pub(crate) length: Option<u64>,
    pub(crate) keep_alive: bool,
}

impl Down {
    /// The next piece of the request's body.
    pub(crate) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        decoder: &mut BodyDecoder,
    ) -> Poll<Result<Option<BodyFrame>, BodyError>> {
        match self {
            Down::H1(conn) => conn.poll_body(cx, decoder),
            Down::H2(request) => request.poll_body(cx),
        }
    }

    /// Ready when the client is gone, or has reset the request. Without `body_read`, a connection of HTTP/1 is not looked
    /// at: what it says next is body.
    pub(crate) fn poll_hangup(&mut self, cx: &mut Context<'_>, body_read: bool) -> Poll<()> {
        match self {
            Down::H1(conn) if body_read => conn.poll_hangup(cx).map(|_| ()),
            Down::H1(_) => Poll::Pending,
            Down::H2(request) => request.poll_hangup(cx),
        }
    }

    /// True when a client has closed its side that is not heard, because no more of its body can be taken at the moment. None
    /// where [`Down::poll_hangup`] tells that at any time.
    pub(crate) fn has_left(&self) -> Option<bool> {
        match self {
            Down::H1(conn) => Some(conn.io().is_half_closed()),
            Down::H2(_) => None,
        }
    }

    /// Queues the head of a response.
    pub(crate) fn write_head(&mut self, head: Head<'_>) {
        let Head { status, reason, version, headers, fields, body, length, keep_alive } = head;
        match self {
            Down::H1(conn) => {
                let out = conn.out();
                encode_response_head(out, status, reason, version, headers, body, keep_alive, length);
                if !fields.is_empty() {
                    append_fields(out, &fields);
                }
            }
            Down::H2(request) => request.write_head(status, std::mem::take(headers), &fields, (body, length)),
        }
    }

    /// Queues an interim response.
    pub(crate) fn write_interim(&mut self, status: StatusCode, version: Version, headers: &mut HeaderMap) {
        match self {
            Down::H1(conn) => {
                encode_response_head(conn.out(), status, None, version, headers, BodyLength::Empty, true, None);
            }
            Down::H2(request) => request.write_interim(status, std::mem::take(headers)),
        }
    }

    /// Queues a piece of the response's body.
    pub(crate) fn queue_body(&mut self, encoder: &mut BodyEncoder, piece: Bytes) -> Result<(), EncodeError> {
        match self {
            Down::H1(conn) => conn.queue_body(encoder, piece),
            Down::H2(request) => {
                request.push(piece);
                Ok(())
            }
        }
    }

    /// The same, copied.
    pub(crate) fn copy_body(&mut self, encoder: &mut BodyEncoder, piece: &[u8]) -> Result<(), EncodeError> {
        match self {
            Down::H1(conn) => encoder.data(piece, conn.out()),
            Down::H2(request) => {
                request.push(Bytes::copy_from_slice(piece));
                Ok(())
            }
        }
    }

    /// The response's body is over.
    pub(crate) fn finish_body(
        &mut self,
        encoder: &mut BodyEncoder,
        trailers: Option<HeaderMap>,
    ) -> Result<(), EncodeError> {
        match self {
            Down::H1(conn) => encoder.finish(trailers.as_ref(), conn.out()),
            Down::H2(request) => {
                request.finish(trailers);
                Ok(())
            }
        }
    }

    /// Bytes that wait to be written.
    pub(crate) fn pending_out(&self) -> usize {
        match self {
            Down::H1(conn) => conn.pending_out(),
            Down::H2(request) => request.pending_out(),
        }
    }

    /// True when nothing waits to be written.
    pub(crate) fn is_flushed(&self) -> bool {
        match self {
            Down::H1(conn) => conn.is_flushed(),
            Down::H2(request) => request.is_flushed(),
        }
    }

    /// Writes what waits, as far as the client takes it.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Down::H1(conn) => conn.poll_flush(cx),
            Down::H2(request) => request.poll_flush(cx),
        }
    }

    /// [`Down::poll_flush`] as a future.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// True for HTTP/2, where a response that breaks off ends with a reset of its stream.
    pub(crate) fn is_h2(&self) -> bool {
        matches!(self, Down::H2(_))
    }

    /// The code with which the client has reset the request.
    pub(crate) fn gone(&self) -> Option<h2::Reason> {
        match self {
            Down::H1(_) => None,
            Down::H2(request) => request.gone(),
        }
    }

    /// Of a response whose end only the close of the connection tells (`until_close`), says whether it is whole: until it is,
    /// a close is a reset, whatever leads to it.
    pub(crate) fn ends_with_close(&self, until_close: bool, whole: bool) {
        match self {
            Down::H1(conn) if until_close && whole => conn.io().close_in_order(),
            Down::H1(conn) if until_close => conn.io().abort_on_close(),
            Down::H1(_) | Down::H2(_) => {}
        }
    }

    /// Makes the end of a response that is not whole one that the client notices: a reset, of the stream with this code or
    /// of the connection.
    pub(crate) fn abort(&mut self, reason: h2::Reason) {
        match self {
            Down::H1(conn) => conn.io().abort_on_close(),
            Down::H2(request) => request.reset(reason),
        }
    }
}
