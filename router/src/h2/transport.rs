//! [`Transport`]: the bytes below the codec: what was read before it was known to be HTTP/2, what goes through, and how
//! long the peer has taken nothing.
//!
//! Used by `serve` and `link`. Not for: TLS (`stream`).

use crate::clock;
use crate::meter::Metered;
use crate::stream::Stream;
use bytes::{Buf, Bytes};
use http1::Meter;
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What the owner of a connection sees of its bytes, in nanoseconds of the process clock.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// Since when the peer takes nothing of what waits for it; 0 while it does.
    pub(crate) blocked: Cell<u64>,
    /// Bytes that came in.
    pub(crate) received: Cell<u64>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Transport {
    stream: Stream,
    lead: Bytes,
    meter: Metered,
    flow: Rc<Flow>,
}

impl Transport {
    /// The connection `stream`, of which `lead` was read already.
    pub(crate) fn new(stream: Stream, lead: Bytes, meter: Metered) -> Transport {
        Transport { stream, lead, meter, flow: Rc::default() }
    }

    /// What is known of its bytes.
    pub(crate) fn flow(&self) -> Rc<Flow> {
        self.flow.clone()
    }

    fn wrote(&mut self, outcome: &Poll<io::Result<usize>>) {
        match outcome {
            Poll::Ready(Ok(bytes)) => {
                self.meter.sent(*bytes);
                self.flow.blocked.set(0);
            }
            Poll::Pending if self.flow.blocked.get() == 0 => self.flow.blocked.set(clock::now()),
            Poll::Pending | Poll::Ready(Err(_)) => {}
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lead.has_remaining() {
            let part = this.lead.split_to(this.lead.len().min(buf.remaining()));
            this.meter.received(part.len());
            buf.put_slice(&part);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = polled {
            let bytes = buf.filled().len() - before;
            this.meter.received(bytes);
            this.flow.received.set(this.flow.received.get() + bytes as u64);
        }
        polled
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.wrote(&polled);
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.wrote(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
