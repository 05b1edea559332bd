//! The reading half of [`Conn`].
//!
//! What it is for: filling the read buffer and taking heads and body pieces off it, and telling whether an idle
//! connection is still of use. What it is not: a parser, see `head` and `body`. Called by the router through `Conn`.

use super::{BodyFrame, Conn};
use crate::body::{BodyDecoder, Decoded};
use crate::error::{BodyError, HeadError};
use crate::head::{Limits, RequestHead, ResponseHead, request_at, response_at};
use crate::pool::BUFFER_BYTES;
use crate::scan::{HeadScan, Kind, Span};
use http::{HeaderMap, Method};
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A read is not attempted into less room than this, in bytes.
const MIN_READ: usize = 2 * 1024;

impl<S: AsyncRead + Unpin> Conn<S> {
    /// Reads once into the read buffer. Ready with the number of bytes read; 0 means the peer closed. The buffer
    /// grows with every call whose bytes nobody consumes: look at [`Self::buffered`].
    ///
    /// # Errors
    /// Those of the transport.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.eof {
            return Poll::Ready(Ok(0));
        }
        self.rd.make_room(MIN_READ);
        let read = pin!(self.io.read_buf(&mut *self.rd)).poll(cx);
        match (&read, &mut self.meter) {
            (Poll::Ready(Ok(0)), _) => self.eof = true,
            (Poll::Ready(Ok(n)), Some(meter)) => meter.received(*n),
            _ => {}
        }
        read
    }

    /// Waits, holding no buffer, until there are bytes (true) or the peer closed (false).
    ///
    /// # Errors
    /// Those of the transport.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.has_buffered() {
            return Poll::Ready(Ok(true));
        }
        self.release_buffers();
        let read = self.poll_fill(cx);
        if !self.has_buffered() {
            self.rd.release();
        }
        read.map_ok(|n| n > 0)
    }

    /// [`Self::poll_readable`] as a future.
    ///
    /// # Errors
    /// Those of the transport.
    pub async fn wait_readable(&mut self) -> io::Result<bool> {
        poll_fn(|cx| self.poll_readable(cx)).await
    }

    /// Watches for the peer going away while something else is being done, for example while an upstream is slow.
    /// Ready when the peer closed its side or failed. Reads ahead up to 16 KiB of pipelined bytes; with more than that
    /// unread it stays `Pending` without asking to be woken.
    ///
    /// # Errors
    /// Those of the transport.
    pub fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.rd.len() < BUFFER_BYTES {
            let read = self.poll_fill(cx);
            if !self.has_buffered() {
                self.rd.release();
            }
            if ready!(read)? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    }

    /// Reads until a whole head lies at the front of the read buffer.
    fn poll_head(&mut self, cx: &mut Context<'_>, limits: &Limits, kind: Kind) -> Poll<Result<Span, HeadError>> {
        loop {
            if let Some(span) = self.scan.scan(&self.rd, limits, kind)? {
                self.scan = HeadScan::default();
                return Poll::Ready(Ok(span));
            }
            if ready!(self.poll_fill(cx))? == 0 {
                let clean = self.rd.is_empty() || (kind == Kind::Request && self.rd[..] == *b"\r\n");
                return Poll::Ready(Err(if clean { HeadError::Closed } else { HeadError::Truncated }));
            }
        }
    }

    /// Reads one request head. `recycled` is emptied and becomes its header map.
    ///
    /// # Errors
    /// Any [`HeadError`]; `Closed` when the peer closed between messages.
    pub fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        limits: &Limits,
        recycled: &mut HeaderMap,
    ) -> Poll<Result<RequestHead, HeadError>> {
        let span = ready!(self.poll_head(cx, limits, Kind::Request))?;
        self.exchanged();
        Poll::Ready(request_at(&mut self.rd, &span, std::mem::take(recycled)))
    }

    /// [`Self::poll_request`] as a future.
    ///
    /// # Errors
    /// Any [`HeadError`]; `Closed` when the peer closed between messages.
    pub async fn read_request(&mut self, limits: &Limits, mut recycled: HeaderMap) -> Result<RequestHead, HeadError> {
        poll_fn(|cx| self.poll_request(cx, limits, &mut recycled)).await
    }

    /// Reads one response head, 1xx ones too, to a request with this `method`. `recycled` is emptied and becomes its
    /// header map.
    ///
    /// # Errors
    /// Any [`HeadError`]; `Closed` when the peer closed before the first byte, as a stale pooled connection does.
    pub fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        limits: &Limits,
        method: &Method,
        recycled: &mut HeaderMap,
    ) -> Poll<Result<ResponseHead, HeadError>> {
        let span = ready!(self.poll_head(cx, limits, Kind::Response))?;
        let head = response_at(&mut self.rd, &span, method, std::mem::take(recycled));
        if head.as_ref().is_ok_and(|head| !head.status.is_informational()) {
            self.exchanged();
        }
        Poll::Ready(head)
    }

    fn exchanged(&mut self) {
        if let Some(meter) = &mut self.meter {
            meter.exchanged();
        }
    }

    /// [`Self::poll_response`] as a future.
    ///
    /// # Errors
    /// Any [`HeadError`]; `Closed` when the peer closed before the first byte, as a stale pooled connection does.
    pub async fn read_response(
        &mut self,
        limits: &Limits,
        method: &Method,
        mut recycled: HeaderMap,
    ) -> Result<ResponseHead, HeadError> {
        poll_fn(|cx| self.poll_response(cx, limits, method, &mut recycled)).await
    }

    /// Reads the next piece of the body; `None` after its end.
    ///
    /// # Errors
    /// [`BodyError`]: the connection is of no further use.
    pub fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        decoder: &mut BodyDecoder,
    ) -> Poll<Result<Option<BodyFrame>, BodyError>> {
        let limit = decoder.trailer_limit();
        if self.scan.is_started() {
            self.scan = HeadScan::default();
        }
        loop {
            match decoder.decode(&mut self.rd, limit)? {
                Decoded::Data(data) => return Poll::Ready(Ok(Some(BodyFrame::Data(data)))),
                Decoded::Trailers(trailers) => return Poll::Ready(Ok(Some(BodyFrame::Trailers(trailers)))),
                Decoded::Done => return Poll::Ready(Ok(None)),
                Decoded::NeedMore => {
                    if ready!(self.poll_fill(cx))? == 0 {
                        decoder.eof()?;
                    }
                }
            }
        }
    }

    /// [`Self::poll_body`] as a future.
    ///
    /// # Errors
    /// [`BodyError`]: the connection is of no further use.
    pub async fn next_body(&mut self, decoder: &mut BodyDecoder) -> Result<Option<BodyFrame>, BodyError> {
        poll_fn(|cx| self.poll_body(cx, decoder)).await
    }
}
