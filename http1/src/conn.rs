//! A buffered HTTP/1 connection.
//!
//! What it is for: reading heads and bodies from, and writing them to, any `AsyncRead + AsyncWrite + Unpin`, for a
//! server or a client side alike, with no buffer held while idle. What it is not: it keeps no protocol state beyond
//! its buffers (whose turn it is, whether the connection may be kept: that is the router's), and no timers.
//!
//! Who calls it: the router, one task per exchange. Every operation exists as a `poll_` method on `&mut self` that
//! loses nothing when it returns `Pending`, so one task can copy both ways at once: in one `poll_fn`, poll the body of
//! one connection while the other has nothing left to flush, then the same the other way round (`tests/it/duplex.rs`
//! does so). The last waker given to a reading method is woken by reads, the last given to a writing method by
//! writes.

mod meter;
mod read;
mod write;

pub use meter::Meter;

use crate::encode::BodyEncoder;
use crate::error::EncodeError;
use crate::pool::{MAX_KEPT_BYTES, Pooled};
use crate::scan::HeadScan;
use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderMap;
use std::collections::VecDeque;

/// Chunks from this size on are written from where they are; smaller ones are copied next to what precedes them.
const COPY_BELOW: usize = 8 * 1024;

/// One piece of a body.
#[derive(Debug)]
pub enum BodyFrame {
    /// Body bytes, never empty, sharing the read buffer's memory.
    Data(Bytes),
    /// The trailers that may be passed on. The body is over.
    Trailers(HeaderMap),
}

/// A connection with its read buffer and its bytes waiting to be written.
#[derive(Debug)]
pub struct Conn<S> {
    io: S,
    rd: Pooled,
    scan: HeadScan,
    eof: bool,
    /// Written first: what was in `out` before a large chunk, and large chunks.
    queue: VecDeque<Bytes>,
    queued: usize,
    out: Pooled,
    unflushed: bool,
    meter: Option<Box<dyn Meter>>,
}

impl<S> Conn<S> {
    /// Wraps `io`. Takes no buffer yet.
    pub fn new(io: S) -> Self {
        Self {
            io,
            rd: Pooled::new(),
            scan: HeadScan::default(),
            eof: false,
            queue: VecDeque::new(),
            queued: 0,
            out: Pooled::new(),
            unflushed: false,
            meter: None,
        }
    }

    /// Tells `meter` what goes through from now on.
    #[must_use]
    pub fn with_meter(mut self, meter: Box<dyn Meter>) -> Self {
        self.meter = Some(meter);
        self
    }

    /// Begins with bytes that were read from `io` before.
    #[must_use]
    pub fn with_lead(mut self, lead: &[u8]) -> Self {
        if !lead.is_empty() {
            self.rd.ensure().extend_from_slice(lead);
        }
        self
    }

    /// The transport.
    pub fn io(&self) -> &S {
        &self.io
    }

    /// The transport. Reading or writing it directly bypasses the buffers.
    pub fn io_mut(&mut self) -> &mut S {
        &mut self.io
    }

    /// The transport; buffered bytes are lost.
    pub fn into_io(self) -> S {
        self.io
    }

    /// The bytes waiting to be written, to be appended to only. Nothing is sent before a flush.
    pub fn out(&mut self) -> &mut BytesMut {
        self.out.ensure()
    }

    /// Bytes not yet given to the transport. For back-pressure: keep it bounded by flushing before reading more. Whether
    /// anything waits to be sent is [`Self::is_flushed`].
    pub fn pending_out(&self) -> usize {
        self.queued + self.out.len()
    }

    /// Whether all that was appended has left the transport too: one that encrypts takes bytes before it sends them, and
    /// [`Self::pending_out`] does not see those.
    pub fn is_flushed(&self) -> bool {
        self.pending_out() == 0 && !self.unflushed
    }

    /// Bytes read from the peer and not yet consumed.
    pub fn buffered(&self) -> &[u8] {
        &self.rd
    }

    /// Whether bytes were read and not yet consumed: a pipelined request, or, on a client's connection, bytes that
    /// nobody asked for.
    pub fn has_buffered(&self) -> bool {
        !self.rd.is_empty()
    }

    /// Whether the peer has closed its side, as far as has been read.
    pub fn is_eof(&self) -> bool {
        self.eof
    }

    /// Gives empty buffers back to the thread's pool. Unconsumed and unwritten bytes stay.
    pub fn release_buffers(&mut self) {
        if self.rd.is_empty() {
            self.rd.release();
        }
        if self.pending_out() == 0 {
            self.out.release();
            self.queue = VecDeque::new();
        }
    }

    /// Appends `chunk` to the bytes waiting to be written: by reference from 8 KiB on, else by copying.
    pub fn queue(&mut self, chunk: Bytes) {
        if chunk.len() < COPY_BELOW {
            self.out().extend_from_slice(&chunk);
            return;
        }
        if !self.out.is_empty() {
            let large = self.out.capacity() > MAX_KEPT_BYTES;
            let head = if large { std::mem::take(&mut *self.out) } else { self.out.split() };
            self.queued += head.len();
            self.queue.push_back(head.freeze());
        }
        self.queued += chunk.len();
        self.queue.push_back(chunk);
    }

    /// Appends one piece of a body with its framing.
    ///
    /// # Errors
    /// `TooLong` when the piece exceeds the declared length; nothing is appended.
    pub fn queue_body(&mut self, encoder: &mut BodyEncoder, chunk: Bytes) -> Result<(), EncodeError> {
        if chunk.is_empty() {
            return Ok(());
        }
        encoder.chunk_header(chunk.len(), self.out())?;
        self.queue(chunk);
        encoder.chunk_end(self.out());
        Ok(())
    }

    /// Drops `n` written bytes off the front of what waits.
    fn written(&mut self, mut n: usize) {
        if let Some(meter) = &mut self.meter {
            meter.sent(n);
        }
        while let Some(front) = self.queue.front_mut() {
            let step = n.min(front.len());
            front.advance(step);
            self.queued -= step;
            n -= step;
            if !front.is_empty() {
                return;
            }
            self.queue.pop_front();
        }
        if n >= self.out.len() { self.out.clear() } else { self.out.advance(n) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;
    use std::task::{Context, Waker};
    use tokio::io::{AsyncWriteExt as _, duplex};

    #[tokio::test]
    async fn an_idle_connection_holds_no_buffer() {
        let (mut peer, io) = duplex(1024);
        let mut conn = Conn::new(io);
        for _ in 0..3 {
            let mut cx = Context::from_waker(Waker::noop());
            assert!(conn.poll_readable(&mut cx).is_pending());
            assert!(conn.poll_hangup(&mut cx).is_pending());
            assert_eq!((conn.rd.capacity(), conn.out.capacity(), conn.queue.capacity()), (0, 0, 0));
            peer.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            assert!(conn.wait_readable().await.unwrap());
            conn.read_request(&Limits::default(), HeaderMap::new()).await.unwrap();
            conn.write(Bytes::from_static(b"HTTP/1.1 204 \r\n\r\n")).await.unwrap();
            assert!(conn.rd.capacity() > 0 && conn.out.capacity() > 0);
        }
    }
}
