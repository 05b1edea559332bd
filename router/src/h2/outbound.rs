//! [`Outbound`]: one request on a connection to an endpoint, in place of an HTTP/1 connection of its own.
//!
//! Made by `links`; used by the path by way of `request::up`. Dropped before its end, the endpoint learns that nobody waits any
//! more (`RST_STREAM` with `CANCEL`). Not for: the connection (`link`).

use super::heads::{self, Carried};
use super::lines::{self, Table};
use super::link::Share;
use super::queue::Queue;
use super::reading::Reading;
use super::{io_error, reset_of};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http1::{BodyError, BodyFrame, BodyLength, HeadError, ResponseHead};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use telemetry::H2Stream;

/// See the module.
pub(crate) struct Outbound {
    sender: SendRequest<Bytes>,
    /// The head of the request, until the first flush: it may be all of it.
    head: Option<Request<()>>,
    /// Why it could not be sent.
    failed: Option<io::Error>,
    method: Method,
    send: Option<SendStream<Bytes>>,
    response: Option<ResponseFuture>,
    reading: Option<Reading>,
    queue: Queue,
    /// Something of an answer was there.
    answered: bool,
    /// Counts it as open.
    stats: H2Stream,
    /// Its share of the connection; ends last.
    share: Share,
}

impl Outbound {
    /// A request that may be sent by `sender`.
    pub(super) fn new(sender: SendRequest<Bytes>, stats: H2Stream, share: Share) -> Outbound {
        Outbound {
            sender,
            head: None,
            failed: None,
            method: Method::GET,
            send: None,
            response: None,
            reading: None,
            queue: Queue::default(),
            answered: false,
            stats,
            share,
        }
    }

    /// Queues the head of the request: method and target, headers with the host among them, fields and raw lines to be
    /// added.
    pub(crate) fn write_head(
        &mut self,
        what: (&Method, &[u8], Carried),
        mut headers: HeaderMap,
        (fields, lines): (&[(HeaderName, HeaderValue)], &[&Bytes]),
        (body, trailers): (BodyLength, bool),
    ) {
        headers.extend(fields.iter().cloned());
        // The first request on a connection teaches it the names.
        let table = if self.share.is_reused() { Table::Spared } else { Table::Open };
        for lines in lines {
            lines::append(&mut headers, lines, table);
        }
        self.method = what.0.clone();
        match heads::request(what, headers, body, trailers) {
            Ok(request) => self.head = Some(request),
            Err(text) => self.failed = Some(io::Error::new(io::ErrorKind::InvalidInput, text)),
        }
    }

    /// Appends a piece of the request's body.
    pub(crate) fn push(&mut self, piece: Bytes) {
        self.queue.push(piece);
    }

    /// The request's body is over.
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

    /// True when anything of an answer has come.
    pub(crate) fn is_answered(&self) -> bool {
        self.answered
    }

    /// True when the connection has served before.
    pub(crate) fn is_reused(&self) -> bool {
        self.share.is_reused()
    }

    /// Sends what waits, as far as the endpoint's window allows.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.head.is_some() && self.failed.is_none() {
            let ready = ready!(self.sender.poll_ready(cx));
            if let Err(error) = ready.and_then(|()| self.send_head()) {
                self.failed = Some(io_error(error));
            }
        }
        if self.failed.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let Some(send) = &mut self.send else { return Poll::Ready(Ok(())) };
        if self.queue.is_flushed() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.queue.poll_flush(send, Some(&self.stats), cx)).map_err(io_error)?;
        Poll::Ready(Ok(()))
    }

    fn send_head(&mut self) -> Result<(), h2::Error> {
        let Some(head) = self.head.take() else { return Ok(()) };
        let only = self.queue.is_only_head();
        let (response, send) = self.sender.send_request(head, only)?;
        self.response = Some(response);
        self.send = Some(send);
        if only {
            self.queue.told();
        }
        Ok(())
    }

    /// The head of the response, or of an interim one.
    pub(crate) fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, HeadError>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(HeadError::Io(error)));
        }
        let Some(response) = &mut self.response else {
            return if self.head.is_some() { Poll::Pending } else { Poll::Ready(Err(HeadError::Closed)) };
        };
        if let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
            self.answered = true;
            return Poll::Ready(Ok(heads::response_head(interim.into_parts().0, &self.method, true)));
        }
        let answer = ready!(Pin::new(response).poll(cx)).map_err(|error| HeadError::Io(io_error(error)))?;
        self.answered = true;
        self.response = None;
        Poll::Ready(Ok(self.begin(answer)))
    }

    fn begin(&mut self, answer: Response<h2::RecvStream>) -> ResponseHead {
        let (parts, body) = answer.into_parts();
        let ended = body.is_end_stream();
        self.reading = Some(Reading::new(body));
        heads::response_head(parts, &self.method, ended)
    }

    /// The next piece of the response's body.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<BodyFrame>, BodyError>> {
        let Some(reading) = &mut self.reading else { return Poll::Ready(Ok(None)) };
        let polled = reading.poll(cx);
        match &polled {
            Poll::Ready(Ok(Some(BodyFrame::Data(data)))) => self.stats.received_data(data.len() as u64),
            Poll::Ready(Ok(Some(BodyFrame::Trailers(_)))) => self.stats.received_trailers(),
            Poll::Ready(Err(BodyError::Io(error))) if reset_of(error).is_some() => self.stats.received_reset(),
            _ => {}
        }
        polled
    }

    /// Ends the request with this code instead of `CANCEL`.
    pub(crate) fn reset(&mut self, reason: Reason) {
        if let Some(send) = &mut self.send {
            self.stats.sent_reset();
            send.send_reset(reason);
        }
    }
}
