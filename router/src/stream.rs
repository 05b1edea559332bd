//! [`Stream`]: the bytes of one connection, with a client or a service, whatever carries them.
//!
//! One enum and no trait object: the plain case costs a match. Called by `request` on both sides and by `pool`.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// TCP without encryption.
    Plain(TcpStream),
    /// TLS with a client.
    Accepted(Box<tls::ServerStream<TcpStream>>),
    /// TLS with a service.
    Connected(Box<tls::ClientStream<TcpStream>>),
}

impl Stream {
    /// The socket below, for its options and addresses.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Accepted(stream) => stream.get_ref().0,
            Stream::Connected(stream) => stream.get_ref().0,
        }
    }

    /// True when it is encrypted.
    pub fn is_tls(&self) -> bool {
        !matches!(self, Stream::Plain(_))
    }

    /// `http`, or `https` where the connection is encrypted.
    pub fn scheme(&self) -> &'static str {
        if self.is_tls() { "https" } else { "http" }
    }

    /// The protocol that TLS has agreed on; None without TLS, or without an agreement.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Stream::Plain(_) => None,
            Stream::Accepted(stream) => stream.get_ref().1.alpn_protocol(),
            Stream::Connected(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }

    /// Makes the coming close a reset: the peer must not take what it has for all there is.
    pub fn abort_on_close(&self) {
        // Without the option the close is an ordinary one.
        let _ = socket2::SockRef::from(self.tcp()).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Takes [`Stream::abort_on_close`] back: the peer has all there is.
    pub fn close_in_order(&self) {
        let _ = socket2::SockRef::from(self.tcp()).set_linger(None);
    }

    /// True when the peer has closed its side, whatever of what it has sent is still unread, as far as the runtime knows;
    /// costs no system call.
    pub fn is_half_closed(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let ready = pin!(self.tcp().ready(Interest::READABLE)).poll(&mut cx);
        matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// True when the peer has neither sent anything nor closed, as far as the runtime knows; costs no system call then.
    /// What TLS itself sends in between, such as session tickets, is taken in and does not count.
    pub fn is_quiet(&mut self) -> bool {
        match self {
            Stream::Plain(socket) => {
                socket.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            }
            encrypted => {
                let mut byte = [0];
                let mut cx = Context::from_waker(Waker::noop());
                Pin::new(encrypted).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_pending()
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Stream::Accepted(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
            Stream::Connected(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Stream::Accepted(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
            Stream::Connected(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Stream::Accepted(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, bufs),
            Stream::Connected(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(socket) => socket.is_write_vectored(),
            Stream::Accepted(stream) => stream.is_write_vectored(),
            Stream::Connected(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Stream::Accepted(stream) => Pin::new(&mut **stream).poll_flush(cx),
            Stream::Connected(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Stream::Accepted(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Stream::Connected(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
