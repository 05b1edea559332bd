//! The writing half of [`Conn`].
//!
//! What it is for: sending what waits, a head and large body chunks in one system call without copying the chunks.
//! What it is not: an encoder, see `encode`. Called by the router through `Conn`.

use super::Conn;
use bytes::Bytes;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Most slices given to one vectored write.
const MAX_SLICES: usize = 16;

impl<S: AsyncWrite + Unpin> Conn<S> {
    /// Writes everything that waits, then flushes the transport.
    ///
    /// # Errors
    /// Those of the transport; `WriteZero` when it takes no more.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.pending_out() > 0 {
            let n = ready!(self.poll_write_some(cx))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.written(n);
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let io = Pin::new(&mut self.io);
        let Some(front) = self.queue.front() else { return io.poll_write(cx, &self.out) };
        if !io.is_write_vectored() {
            return io.poll_write(cx, front);
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut used = 0;
        for (slot, bytes) in slices.iter_mut().zip(self.queue.iter().map(|b| &b[..]).chain([&self.out[..]])) {
            *slot = IoSlice::new(bytes);
            used += 1;
        }
        io.poll_write_vectored(cx, &slices[..used])
    }

    /// [`Self::poll_flush`] as a future.
    ///
    /// # Errors
    /// Those of the transport; `WriteZero` when it takes no more.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// [`Self::queue`] followed by [`Self::flush`]: what waits and the chunk leave together.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub async fn write(&mut self, chunk: Bytes) -> io::Result<()> {
        self.queue(chunk);
        self.flush().await
    }

    /// Writes everything that waits, then closes the writing side.
    ///
    /// # Errors
    /// Those of the transport.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// [`Self::poll_shutdown`] as a future.
    ///
    /// # Errors
    /// Those of the transport.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_shutdown(cx)).await
    }
}
