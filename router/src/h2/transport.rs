//! [`Transport`]: the bytes below the codec: what was read before it was known to be HTTP/2, what goes through, and how
//! long the peer has taken nothing.
//!
//! The codec has every piece of a body written by itself. Here pieces are gathered, and written when the codec has said all
//! that it has to say for now ([`Flow::drive`]): one system call for the messages of many requests in place of one for each.
//! Used by `serve` and `link`. Not for: TLS (`stream`).

use crate::clock;
use crate::meter::Metered;
use crate::stream::Stream;
use bytes::{Buf, Bytes};
use http1::Meter;
use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are gathered, at most.
const GATHERED: usize = 32 * 1024;
/// Larger pieces are not copied, but written with what was gathered before them.
const COPIED: usize = 8 * 1024;
/// Slices that are written at a time.
const SLICES: usize = 4;

/// What the owner of a connection has of it, while the codec has the [`Transport`].
#[derive(Debug)]
pub(crate) struct Flow {
    /// Since when the peer takes nothing of what waits for it, in nanoseconds of the process clock; 0 while it does.
    pub(crate) blocked: Cell<u64>,
    /// Bytes that came in.
    pub(crate) received: Cell<u64>,
    /// What is written waits for [`Flow::drive`].
    gathers: Cell<bool>,
    /// Why what was gathered could not be written: for the codec to find.
    broken: Cell<Option<io::ErrorKind>>,
    wire: RefCell<Wire>,
}

/// The connection, and what waits to be written to it.
#[derive(Debug)]
struct Wire {
    stream: Stream,
    meter: Metered,
    held: Vec<u8>,
    /// How much of it is written.
    written: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Transport {
    lead: Bytes,
    flow: Rc<Flow>,
}

impl Flow {
    /// From now on what is written is gathered: whoever polls the codec does so by [`Flow::drive`].
    pub(crate) fn gather(&self) {
        self.gathers.set(true);
    }

    /// Polls the codec; when it waits, what it has written goes out.
    pub(crate) fn drive<T>(&self, cx: &mut Context<'_>, mut codec: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        let polled = codec(cx);
        if polled.is_pending()
            && let Poll::Ready(Err(error)) = self.poll_send(cx)
        {
            self.broken.set(Some(error.kind()));
            return codec(cx);
        }
        polled
    }

    fn check(&self) -> io::Result<()> {
        self.broken.get().map_or(Ok(()), |kind| Err(kind.into()))
    }

    /// Writes what was gathered.
    fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        let wire = &mut *self.wire.borrow_mut();
        if !wire.held.is_empty() {
            ready!(wire.poll_write(cx, &[], self))?;
        }
        Pin::new(&mut wire.stream).poll_flush(cx)
    }

    fn wrote(&self, outcome: &Poll<io::Result<usize>>) {
        match outcome {
            Poll::Ready(Ok(_)) => self.blocked.set(0),
            Poll::Pending if self.blocked.get() == 0 => self.blocked.set(clock::now()),
            Poll::Pending | Poll::Ready(Err(_)) => {}
        }
    }
}

impl Wire {
    /// Keeps `bufs` of this length for later; false when they are to be written.
    fn keep(&mut self, bufs: &[IoSlice<'_>], length: usize) -> bool {
        if length > COPIED || self.held.len() + length > GATHERED {
            return false;
        }
        if self.held.capacity() == 0 {
            self.held.reserve_exact(GATHERED);
        }
        bufs.iter().for_each(|buf| self.held.extend_from_slice(buf));
        true
    }

    /// Writes what was gathered and then `bufs`: so many bytes of them, ready with 0 only where there are none.
    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>], flow: &Flow) -> Poll<io::Result<usize>> {
        loop {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let held = &self.held[self.written..];
            let first = usize::from(!held.is_empty());
            slices[0] = IoSlice::new(held);
            slices[first..].iter_mut().zip(bufs).for_each(|(slice, buf)| *slice = IoSlice::new(buf));
            let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, &slices);
            flow.wrote(&polled);
            let bytes = ready!(polled)?;
            if bytes == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.meter.sent(bytes);
            let of_held = bytes.min(held.len());
            self.written += of_held;
            if self.written == self.held.len() {
                // A connection that waits holds no room.
                (self.held, self.written) = (Vec::new(), 0);
                if bytes > of_held || bufs.iter().all(|buf| buf.is_empty()) {
                    return Poll::Ready(Ok(bytes - of_held));
                }
            }
        }
    }
}

impl Transport {
    /// The connection `stream`, of which `lead` was read already.
    pub(crate) fn new(stream: Stream, lead: Bytes, meter: Metered) -> Transport {
        let wire = RefCell::new(Wire { stream, meter, held: Vec::new(), written: 0 });
        let (blocked, received) = (Cell::new(0), Cell::new(0));
        let (gathers, broken) = (Cell::new(false), Cell::new(None));
        Transport { lead, flow: Rc::new(Flow { blocked, received, gathers, broken, wire }) }
    }

    /// What its owner keeps of it.
    pub(crate) fn flow(&self) -> Rc<Flow> {
        self.flow.clone()
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.flow.check()?;
        let wire = &mut *this.flow.wire.borrow_mut();
        if this.lead.has_remaining() {
            let part = this.lead.split_to(this.lead.len().min(buf.remaining()));
            wire.meter.received(part.len());
            buf.put_slice(&part);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut wire.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = polled {
            let bytes = buf.filled().len() - before;
            wire.meter.received(bytes);
            this.flow.received.set(this.flow.received.get() + bytes as u64);
        }
        polled
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let flow = &*self.get_mut().flow;
        flow.check()?;
        let wire = &mut *flow.wire.borrow_mut();
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if flow.gathers.get() && wire.keep(bufs, length) {
            return Poll::Ready(Ok(length));
        }
        wire.poll_write(cx, bufs, flow)
    }

    fn is_write_vectored(&self) -> bool {
        self.flow.wire.borrow().stream.is_write_vectored()
    }

    /// Ready at once where bytes are gathered: they are flushed with [`Flow::drive`].
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flow = &*self.get_mut().flow;
        if flow.gathers.get() { Poll::Ready(Ok(())) } else { flow.poll_send(cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flow = &*self.get_mut().flow;
        ready!(flow.poll_send(cx))?;
        Pin::new(&mut flow.wire.borrow_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[path = "transport_tests.rs"]
mod tests;
