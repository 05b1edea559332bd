//! [`Watched`]: a connection whose frames are counted on their way to and from the codec, and [`WatchHandle`], by which
//! the driver of the connection learns the verdict.
//!
//! Not for: answering it. The driver looks at the handle after each time it polled the codec; on a verdict it has the
//! codec send GOAWAY with ENHANCE_YOUR_CALM and close, logs the text, and counts `rejected_total{reason}`.

use super::{Flood, FrameWatch, Side, Totals, WatchLimits};
use crate::clock;
use std::cell::{Cell, OnceCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are read and thrown away after the last word to a client, at most: a socket that is closed while the client
/// still speaks resets the connection, and what was said last may be lost with it (RFC 9112, 9.6).
const DRAIN: usize = 1 << 20;

/// What the driver of a connection sees of it, cheap to clone and to read.
#[derive(Debug, Clone, Default)]
pub struct WatchHandle(Rc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    flood: OnceCell<Flood>,
    sent: Cell<Totals>,
    /// When our side was shut, in nanoseconds of the process clock; 0 before.
    shut: Cell<u64>,
    given_up: Cell<bool>,
}

impl WatchHandle {
    /// The verdict; once there, it stays, and the codec gets no more bytes.
    pub fn verdict(&self) -> Option<&Flood> {
        self.0.flood.get()
    }

    /// What we sent: by it the driver knows what the codec did on its own.
    pub fn sent(&self) -> Totals {
        self.0.sent.get()
    }

    /// Since when all is said and only the peer's close is waited for, in nanoseconds of the process clock.
    pub fn shut_since(&self) -> Option<u64> {
        Some(self.0.shut.get()).filter(|at| *at > 0)
    }

    /// Ends that wait: the next poll of the codec closes the connection.
    pub fn give_up(&self) {
        self.0.given_up.set(true);
    }
}

/// A connection that is watched. It stays on its thread.
#[derive(Debug)]
pub struct Watched<S> {
    io: S,
    watch: FrameWatch,
    handle: WatchHandle,
    /// The peer is to have all we said before the connection is closed; clients only, which cannot know that it ends.
    lingers: bool,
    /// Bytes thrown away since our side was shut.
    drained: usize,
}

impl<S> Watched<S> {
    /// Watches `io`, of which nothing is read or written yet.
    pub fn new(io: S, side: Side, limits: WatchLimits) -> Watched<S> {
        let watch = FrameWatch::new(side, limits);
        let lingers = matches!(side, Side::Server);
        Watched { io, watch, handle: WatchHandle::default(), lingers, drained: 0 }
    }

    /// Where the verdict and what we sent can be read.
    pub fn handle(&self) -> WatchHandle {
        self.handle.clone()
    }

    /// Makes known what was counted. On a verdict the driver is woken, in case it has looked already.
    fn publish(&self, cx: &Context<'_>) {
        self.handle.0.sent.set(self.watch.sent_totals());
        if let Some(flood) = self.watch.verdict()
            && self.handle.0.flood.set(flood.clone()).is_ok()
        {
            cx.waker().wake_by_ref();
        }
    }
}

impl<S: AsyncRead + Unpin> Watched<S> {
    /// Reads and throws away, until the peer closes or [`DRAIN`] is reached.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waste = [0; 4096];
        while self.drained < DRAIN {
            let mut buf = ReadBuf::new(&mut waste);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => self.drained += buf.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    /// After a verdict it is pending for ever, and the bytes that led to it are thrown away: the codec has no more work
    /// by this peer.
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.watch.verdict().is_some() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        let bytes = &buf.filled()[before..];
        if !bytes.is_empty() {
            this.watch.received(bytes, clock::now());
            this.publish(cx);
            if this.watch.verdict().is_some() {
                buf.set_filled(before);
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, buf))?;
        this.watch.sent(&buf[..written.min(buf.len())], clock::now());
        this.publish(cx);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, bufs))?;
        let (mut left, now) = (written, clock::now());
        for buf in bufs {
            let part = &buf[..left.min(buf.len())];
            this.watch.sent(part, now);
            left -= part.len();
        }
        this.publish(cx);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    /// Where the peer is a client, or after a verdict, it is ready only when the peer has closed, enough was thrown away
    /// or the driver gave up: the driver bounds the time.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shared = &this.handle.0;
        if shared.shut.get() == 0 {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            shared.shut.set(clock::now().max(1));
        }
        if (this.lingers || this.watch.verdict().is_some()) && !shared.given_up.get() {
            ready!(this.poll_drain(cx));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
#[path = "io_tests.rs"]
mod tests;
