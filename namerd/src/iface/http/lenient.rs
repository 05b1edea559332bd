//! [`Lenient`]: lets `<`, `>` and `"` stand in a request line, as the original did (namerd reference §2.3).
//!
//! They are not allowed in a URI, and the HTTP library refuses them; but `curl 'http://…?dtab=/a=>/b'` sends them. So they
//! are escaped before the library sees them: in the first line of a connection, and in the first line after each request
//! that has been read to its end. Bodies are never touched: who does not know whether a line begins passes it on as it is.
//! Called by the interface. Not for: anything else that is malformed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So much is read at once while a line is looked for.
const PIECE: usize = 4096;
/// A line that goes on for longer is passed on as it is.
const LONGEST: usize = 64 << 10;

/// Told by whoever reads requests: what comes next from the connection is a request line.
#[derive(Clone, Default)]
pub(super) struct AtStart(Arc<AtomicBool>);

impl AtStart {
    /// The request before has been read to its end.
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// See the module.
pub(super) struct Lenient<T> {
    io: T,
    at_start: AtStart,
    /// Bytes of the present line so far; None outside of it.
    line: Option<usize>,
    /// Escaped already, and where the rest begins.
    ready: Vec<u8>,
    taken: usize,
}

impl<T> Lenient<T> {
    /// `io`, from its beginning on.
    pub(super) fn new(io: T, at_start: AtStart) -> Lenient<T> {
        Lenient { io, at_start, line: Some(0), ready: Vec::new(), taken: 0 }
    }

    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let rest = &self.ready[self.taken..];
        let count = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..count]);
        self.taken += count;
        if self.taken == self.ready.len() {
            (self.ready, self.taken) = (Vec::new(), 0);
        }
    }

    /// Takes bytes of which the first belong to a request line.
    fn escape(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.line = match (self.line, byte) {
                // Empty lines may come before a request.
                (Some(0), b'\r' | b'\n') => Some(0),
                (Some(_), b'\n') => None,
                (Some(length), _) if length < LONGEST => Some(length + 1),
                _ => None,
            };
            match byte {
                b'<' | b'>' | b'"' if self.line.is_some() => {
                    self.ready.extend_from_slice(format!("%{byte:02X}").as_bytes())
                }
                _ => self.ready.push(byte),
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Lenient<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.ready.is_empty() {
            if this.line.is_none() && !this.at_start.0.load(Ordering::Acquire) {
                return Pin::new(&mut this.io).poll_read(cx, buf);
            }
            let mut piece = [0; PIECE];
            let mut read = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut read))?;
            if this.at_start.0.swap(false, Ordering::AcqRel) {
                this.line = Some(0);
            }
            this.escape(read.filled());
        }
        this.give(buf);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Lenient<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn only_request_lines_are_escaped() {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let at_start = AtStart::default();
        let mut near = Lenient::new(near, at_start.clone());
        let mut exchange = async |sent: &str, expected: &str| {
            far.write_all(sent.as_bytes()).await.expect("it is sent");
            let mut got = vec![0; expected.len()];
            for byte in got.chunks_mut(1) {
                near.read_exact(byte).await.expect("it is read");
            }
            assert_eq!(String::from_utf8_lossy(&got), expected);
        };
        exchange("\r\nGET /?a=>\"<b H", "\r\nGET /?a=%3E%22%3Cb H").await;
        exchange("TTP/1.1>\r\nx: <y>\r\n\r\n", "TTP/1.1%3E\r\nx: <y>\r\n\r\n").await;
        exchange("/a => /b\n", "/a => /b\n").await;
        at_start.set();
        exchange("PUT />\r\n\r\n/a => /b\r\n", "PUT /%3E\r\n\r\n/a => /b\r\n").await;
        let long = "x".repeat(LONGEST) + ">";
        at_start.set();
        exchange("", "").await;
        far_long(&mut near, &mut far, &long).await;
    }

    async fn far_long(near: &mut Lenient<tokio::io::DuplexStream>, far: &mut tokio::io::DuplexStream, long: &str) {
        let mut got = vec![0; long.len()];
        let (sent, read) = tokio::join!(far.write_all(long.as_bytes()), near.read_exact(&mut got));
        sent.expect("it is sent");
        read.expect("it is read");
        assert_eq!(got, long.as_bytes(), "an endless line is not for us");
    }
}
