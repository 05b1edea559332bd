//! [`Inbound`]: one request on a client's connection, in place of an HTTP/1 connection that serves one at a time.
//!
//! Made by `serve`; used by the path by way of `request::down`. Not for: the connection, its limits and its end (`serve`).

use super::heads;
use super::io_error;
use super::lines::{self, Table};
use super::queue::Queue;
use super::reading::Reading;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response, StatusCode};
use http1::{BodyError, BodyFrame, BodyLength};
use std::io;
use std::task::{Context, Poll, ready};
use telemetry::H2Stream;

/// See the module.
pub(crate) struct Inbound {
    respond: SendResponse<Bytes>,
    reading: Reading,
    /// The head of the response, until the first flush: it may be all of it.
    head: Option<Response<()>>,
    send: Option<SendStream<Bytes>>,
    queue: Queue,
    /// The code with which the client has reset it.
    gone: Option<Reason>,
    /// Counts it as open.
    stats: Option<H2Stream>,
}

impl Inbound {
    /// The request that came by `body`.
    pub(super) fn new(respond: SendResponse<Bytes>, body: RecvStream, stats: Option<H2Stream>) -> Inbound {
        Inbound {
            respond,
            reading: Reading::new(body),
            head: None,
            send: None,
            queue: Queue::default(),
            gone: None,
            stats,
        }
    }

    /// The next piece of the request's body.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<BodyFrame>, BodyError>> {
        let polled = self.reading.poll(cx);
        if let (Poll::Ready(Ok(Some(frame))), Some(stats)) = (&polled, &self.stats) {
            match frame {
                BodyFrame::Data(data) => stats.received_data(data.len() as u64),
                BodyFrame::Trailers(_) => stats.received_trailers(),
            }
        }
        polled
    }

    /// Ready when the client has reset the request, or is gone.
    pub(crate) fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let polled = match &mut self.send {
            Some(send) => send.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        };
        if let (Poll::Ready(Ok(_)), Some(stats)) = (&polled, &self.stats) {
            stats.received_reset();
        }
        polled.map(|gone| self.gone = gone.ok())
    }

    /// The code with which the client has reset the request, as far as it is known.
    pub(crate) fn gone(&self) -> Option<Reason> {
        self.gone
    }

    /// Queues the head of the response.
    pub(crate) fn write_head(
        &mut self,
        status: StatusCode,
        mut headers: HeaderMap,
        lines: &Bytes,
        (body, length): (BodyLength, Option<u64>),
    ) {
        lines::append(&mut headers, lines, Table::Open);
        self.head = Some(heads::response(status, headers, body, length));
    }

    /// Passes a 1xx on. What cannot be sent is for the response to tell.
    pub(crate) fn write_interim(&mut self, status: StatusCode, headers: HeaderMap) {
        let response = heads::response(status, headers, BodyLength::Empty, None);
        if let Err(error) = self.respond.send_informational(response) {
            tracing::debug!(%status, "an interim response was not passed on: {error}");
        }
    }

    /// Appends a piece of the response's body.
    pub(crate) fn push(&mut self, piece: Bytes) {
        self.queue.push(piece);
    }

    /// The response's body is over.
    pub(crate) fn finish(&mut self, trailers: Option<HeaderMap>) {
        self.queue.finish(trailers);
    }

    /// Bytes that wait for window.
    pub(crate) fn pending_out(&self) -> usize {
        self.queue.bytes()
    }

    /// True when nothing waits for window.
    pub(crate) fn is_flushed(&self) -> bool {
        self.head.is_none() && self.queue.is_flushed()
    }

    /// Sends what waits, as far as the client's window allows.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(head) = self.head.take() {
            let only = self.queue.is_only_head();
            self.send = Some(self.respond.send_response(head, only).map_err(io_error)?);
            if only {
                self.queue.told();
            }
        }
        let Some(send) = &mut self.send else { return Poll::Ready(Ok(())) };
        if self.queue.is_flushed() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.queue.poll_flush(send, self.stats.as_ref(), cx)).map_err(io_error)?;
        Poll::Ready(Ok(()))
    }

    /// Ends the request with an error of the stream.
    pub(crate) fn reset(&mut self, reason: Reason) {
        if let Some(stats) = &self.stats {
            stats.sent_reset();
        }
        match &mut self.send {
            Some(send) => send.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }
}
