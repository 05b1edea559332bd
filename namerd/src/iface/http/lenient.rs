//! [`Lenient`]: lets `<`, `>` and `"` stand in a request line, as the original did (namerd reference §2.3).
//!
//! They are not allowed in a URI, and the HTTP library refuses them; but `curl 'http://…?dtab=/a=>/b'` sends them. So they
//! are escaped before the library sees them: in the first line of a connection, and in the first line after each request
//! that has been read to its end. Bodies are never touched: the bytes after a head are counted, and only when they are
//! exactly the body does a line begin. Requests that were sent ahead and chunked bodies end the leniency for their
//! connection. Called by the interface. Not for: anything else that is malformed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So much is read at once while a line is looked for.
const PIECE: usize = 4096;
/// A line that goes on for longer is passed on as it is.
const LONGEST: usize = 64 << 10;

/// Told by whoever reads requests: one has been read to its end, and its body had so many bytes.
#[derive(Clone)]
pub(super) struct AtStart(Arc<AtomicU64>);

/// No request has been read to its end.
const NOT_YET: u64 = u64::MAX;

impl Default for AtStart {
    fn default() -> AtStart {
        AtStart(Arc::new(AtomicU64::new(NOT_YET)))
    }
}

impl AtStart {
    /// A request with a body of so many bytes, which were sent as they are, has been read to its end.
    pub(super) fn set(&self, body: u64) {
        self.0.store(body, Ordering::Release);
    }
}

/// Where in a request the next byte is.
#[derive(Clone, Copy)]
enum Place {
    /// In its first line, after so many bytes.
    Line(usize),
    /// In its headers; true at the start of a line.
    Headers(bool),
    /// So many bytes after its head.
    Body(u64),
    /// Not known any more.
    Lost,
}

impl Place {
    fn after(self, byte: u8) -> Place {
        match (self, byte) {
            // Empty lines may come before a request.
            (Place::Line(0), b'\r' | b'\n') => self,
            (Place::Line(_), b'\n') => Place::Headers(true),
            (Place::Line(LONGEST..), _) => Place::Lost,
            (Place::Line(length), _) => Place::Line(length + 1),
            (Place::Headers(true), b'\r') => self,
            (Place::Headers(true), b'\n') => Place::Body(0),
            (Place::Headers(_), byte) => Place::Headers(byte == b'\n'),
            (Place::Body(count), _) => Place::Body(count + 1),
            (Place::Lost, _) => Place::Lost,
        }
    }
}

/// See the module.
pub(super) struct Lenient<T> {
    io: T,
    at_start: AtStart,
    place: Place,
    /// Escaped already, and where the rest begins.
    ready: Vec<u8>,
    taken: usize,
}

impl<T> Lenient<T> {
    /// `io`, from its beginning on.
    pub(super) fn new(io: T, at_start: AtStart) -> Lenient<T> {
        Lenient { io, at_start, place: Place::Line(0), ready: Vec::new(), taken: 0 }
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

    /// Begins a line when the request before is at its end.
    fn look_around(&mut self) {
        let Place::Body(count) = self.place else { return };
        match self.at_start.0.swap(NOT_YET, Ordering::AcqRel) {
            NOT_YET => {}
            body => self.place = if body == count { Place::Line(0) } else { Place::Lost },
        }
    }

    fn escape(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.place = self.place.after(byte);
            match byte {
                b'<' | b'>' | b'"' if matches!(self.place, Place::Line(_)) => {
                    self.ready.extend_from_slice(format!("%{byte:02X}").as_bytes());
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
            this.look_around();
            if let Place::Body(count) = this.place {
                let before = buf.filled().len();
                ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
                this.place = Place::Body(count + (buf.filled().len() - before) as u64);
                return Poll::Ready(Ok(()));
            }
            if let Place::Lost = this.place {
                return Pin::new(&mut this.io).poll_read(cx, buf);
            }
            let mut piece = [0; PIECE];
            let mut read = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut read))?;
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    /// Sends every text, and says what arrives.
    struct Wire {
        near: Lenient<DuplexStream>,
        far: DuplexStream,
        at_start: AtStart,
    }

    impl Wire {
        fn new() -> Wire {
            let (near, far) = tokio::io::duplex(1 << 17);
            let at_start = AtStart::default();
            Wire { near: Lenient::new(near, at_start.clone()), far, at_start }
        }

        async fn carries(&mut self, sent: &str, expected: &str) {
            self.far.write_all(sent.as_bytes()).await.expect("it is sent");
            let mut got = vec![0; expected.len()];
            for byte in got.chunks_mut(1) {
                self.near.read_exact(byte).await.expect("it is read");
            }
            assert_eq!(String::from_utf8_lossy(&got), expected);
        }
    }

    #[tokio::test]
    async fn only_request_lines_are_escaped() {
        let mut wire = Wire::new();
        wire.carries("\r\nGET /?a=>\"<b H", "\r\nGET /?a=%3E%22%3Cb H").await;
        wire.carries("TTP/1.1>\r\nx: <y>\r\n\r\n", "TTP/1.1%3E\r\nx: <y>\r\n\r\n").await;
        wire.at_start.set(0);
        wire.carries("PUT />\r\n\r\n/a => ", "PUT /%3E\r\n\r\n/a => ").await;
        wire.carries("/b", "/b").await;
        wire.at_start.set(8);
        wire.carries("GET />\n\n", "GET /%3E\n\n").await;
        wire.carries("/unexpected => /body\r\n", "/unexpected => /body\r\n").await;
    }

    #[tokio::test]
    async fn a_body_that_was_sent_ahead_is_never_touched() {
        let mut wire = Wire::new();
        let ahead = "GET / HTTP/1.1\r\n\r\nPUT /x HTTP/1.1\r\ncontent-length: 18\r\n\r\n/a => /b";
        wire.carries(ahead, ahead).await;
        wire.at_start.set(0);
        wire.carries("; /c => /d", "; /c => /d").await;
        wire.at_start.set(18);
        wire.carries("GET /> HTTP/1.1\r\n\r\n", "GET /> HTTP/1.1\r\n\r\n").await;
    }

    #[tokio::test]
    async fn an_endless_line_is_passed_on() {
        let mut wire = Wire::new();
        let long = "x".repeat(LONGEST + 1) + ">";
        wire.carries(&long, &long).await;
    }
}
