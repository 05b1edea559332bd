//! [`Lingering`]: a connection whose peer hears the end before it is closed.
//!
//! For: servers that answer before they have read all, or end while a client still speaks. A socket that is closed with
//! bytes unread resets the connection, and takes the last answer away from the client (RFC 9112, 9.6). Below the protocol:
//! whoever speaks it ends with `shutdown`. Called by the administrative server and by namerd's interfaces. Not for:
//! connections that are dropped without a goodbye.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// What a client still sends is thrown away for so long ...
const TIME: Duration = Duration::from_secs(1);
/// ... and so many bytes of it, at most.
const BYTES: usize = 16 << 20;

/// See the module.
#[derive(Debug)]
pub struct Lingering<S> {
    io: S,
    /// Once our side is shut: how long the other one is waited for, and the bytes of it that may still come.
    ends: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Lingering<S> {
    /// `io`, which after its shutdown waits for the peer's: a second, or 16 MiB, at most.
    pub fn new(io: S) -> Lingering<S> {
        Lingering { io, ends: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Ready when the peer has closed too, or the bounds are reached.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Lingering { io, ends } = self.get_mut();
        if ends.is_none() {
            ready!(Pin::new(&mut *io).poll_shutdown(cx))?;
        }
        let (timer, left) = ends.get_or_insert_with(|| (Box::pin(sleep(TIME)), BYTES));
        let mut waste = [0; 4096];
        while *left > 0 && timer.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut waste);
            match ready!(Pin::new(&mut *io).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => *left = left.saturating_sub(buf.filled().len()),
                // It has closed; how is all the same.
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn it_waits_for_the_peer_but_not_for_ever() {
        let (near, mut far) = duplex(16);
        let mut near = Lingering::new(near);
        let began = Instant::now();
        let (ended, heard) = tokio::join!(near.shutdown(), async {
            let mut heard = Vec::new();
            far.read_to_end(&mut heard).await.expect("an end in order");
            sleep(TIME / 2).await;
            far.write_all(&[0; 1000]).await.expect("it is still taken");
            drop(far);
            heard
        });
        ended.expect("an end");
        assert_eq!((heard.len(), began.elapsed()), (0, TIME / 2), "not longer than for the peer");

        let (near, _far) = duplex(16);
        let began = Instant::now();
        Lingering::new(near).shutdown().await.expect("an end");
        assert_eq!(began.elapsed(), TIME);
    }
}
