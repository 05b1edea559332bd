//! The connection: buffering, idleness, vectored writing, ends of file, memory.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use http1::{
    BodyDecoder, BodyEncoder, BodyFrame, BodyLength, Conn, HeadError, Limits, encode_request_head, parse_request,
};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, duplex};

const LIMITS: Limits = Limits { max_line_bytes: 4096, max_head_bytes: 8192, max_headers: 200 };

#[tokio::test]
async fn pipelined_requests_come_in_order() {
    let (mut peer, io) = duplex(1 << 16);
    let mut conn = Conn::new(io);
    let one = b"POST /1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nSum: 1\r\n\r\n";
    peer.write_all(&[&one[..], b"\r\nGET /2 HTTP/1.1\r\n\r\n", b"\r\n"].concat()).await.unwrap();
    drop(peer);
    let first = conn.read_request(&LIMITS, HeaderMap::new()).await.unwrap();
    assert_eq!(&first.target[..], b"/1");
    let mut decoder = BodyDecoder::new(first.body);
    assert!(matches!(conn.next_body(&mut decoder).await, Ok(Some(BodyFrame::Data(d))) if d == "abc"));
    assert!(matches!(conn.next_body(&mut decoder).await, Ok(Some(BodyFrame::Trailers(t))) if t["sum"] == "1"));
    assert!(matches!(conn.next_body(&mut decoder).await, Ok(None)));
    assert!(conn.has_buffered());
    let second = conn.read_request(&LIMITS, first.headers).await.unwrap();
    assert_eq!(&second.target[..], b"/2");
    let end = conn.read_request(&LIMITS, second.headers).await;
    assert!(matches!(end, Err(HeadError::Closed)), "a last empty line is no request: {end:?}");
}

#[tokio::test]
async fn ends_of_file() {
    for (sent, wanted) in
        [(&b""[..], "closed"), (b"G", "truncated"), (b"GET / HTTP/1.1\r\n\r", "truncated"), (b"\r", "truncated")]
    {
        let (mut peer, io) = duplex(1024);
        peer.write_all(sent).await.unwrap();
        drop(peer);
        let error = Conn::new(io).read_request(&LIMITS, HeaderMap::new()).await.unwrap_err();
        assert_eq!(error.reason(), wanted);
    }
    let (mut peer, io) = duplex(1024);
    peer.write_all(b"HTTP/1.1 200 OK\r\n\r\nabc").await.unwrap();
    drop(peer);
    let mut conn = Conn::new(io);
    let head = conn.read_response(&LIMITS, &Method::GET, HeaderMap::new()).await.unwrap();
    let mut decoder = BodyDecoder::new(head.body);
    assert!(matches!(conn.next_body(&mut decoder).await, Ok(Some(BodyFrame::Data(d))) if d == "abc"));
    assert!(matches!(conn.next_body(&mut decoder).await, Ok(None)));
    assert!(conn.is_eof() && decoder.is_done());
    let mut short = BodyDecoder::new(BodyLength::Length(1));
    assert_eq!(conn.next_body(&mut short).await.unwrap_err().reason(), "body-truncated");
}

#[tokio::test]
async fn waiting_for_the_next_request() {
    let (mut peer, io) = duplex(1024);
    let mut conn = Conn::new(io);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(conn.poll_readable(&mut cx).is_pending());
    peer.write_all(b"GET").await.unwrap();
    assert!(conn.wait_readable().await.unwrap());
    assert_eq!(conn.buffered(), b"GET");
    assert!(conn.wait_readable().await.unwrap(), "unread bytes make it readable");
    conn.release_buffers();
    assert!(conn.has_buffered(), "unread bytes are kept");
    assert!(conn.poll_hangup(&mut cx).is_pending());
    drop(peer);
    assert!(conn.poll_hangup(&mut cx).is_ready());
    let (peer, io) = duplex(1024);
    drop(peer);
    assert!(!Conn::new(io).wait_readable().await.unwrap());
}

#[tokio::test]
async fn over_tcp_too() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut server, mut client) = (Conn::new(listener.accept().await.unwrap().0), Conn::new(client));
    encode_request_head(client.out(), &Method::GET, b"/", http::Version::HTTP_11, &HeaderMap::new(), BodyLength::Empty);
    client.flush().await.unwrap();
    assert!(server.wait_readable().await.unwrap());
    let head = server.read_request(&LIMITS, HeaderMap::new()).await.unwrap();
    assert_eq!(head.method, Method::GET);
    let big = Bytes::from(vec![7; 3 << 20]);
    let sent = big.clone();
    let writer = tokio::spawn(async move {
        server.out().extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-length: 3145728\r\n\r\n");
        server.write(sent).await.unwrap();
        server.shutdown().await.unwrap();
    });
    let head = client.read_response(&LIMITS, &Method::GET, head.headers).await.unwrap();
    let mut decoder = BodyDecoder::new(head.body);
    let mut got = BytesMut::new();
    while let Some(BodyFrame::Data(data)) = client.next_body(&mut decoder).await.unwrap() {
        got.extend_from_slice(&data);
    }
    writer.await.unwrap();
    assert!(got == big);
    tokio::task::yield_now().await;
    assert!(!client.wait_readable().await.unwrap());
}

/// A sink that takes at most `limit` bytes per write and records every write's slices.
struct Sink {
    taken: Vec<u8>,
    writes: Vec<usize>,
    limit: usize,
    vectored: bool,
}

impl AsyncWrite for Sink {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let n = bytes.len().min(self.limit);
        self.taken.extend_from_slice(&bytes[..n]);
        self.writes.push(1);
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: Vec<u8> = slices.iter().flat_map(|s| s.iter().copied()).collect();
        let n = all.len().min(self.limit);
        self.taken.extend_from_slice(&all[..n]);
        self.writes.push(slices.len());
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn large_chunks_are_not_copied_and_leave_with_the_head() {
    for (limit, vectored) in [(usize::MAX, true), (usize::MAX, false), (1000, true), (1000, false), (1, true)] {
        let mut conn = Conn::new(Sink { taken: vec![], writes: vec![], limit, vectored });
        let mut encoder = BodyEncoder::new(BodyLength::Chunked);
        let big = Bytes::from(vec![b'x'; 8 * 1024]);
        conn.out().extend_from_slice(b"HEAD");
        conn.queue_body(&mut encoder, big.clone()).unwrap();
        conn.queue_body(&mut encoder, Bytes::new()).unwrap();
        conn.queue_body(&mut encoder, Bytes::from_static(b"small")).unwrap();
        encoder.finish(None, conn.out()).unwrap();
        let wanted = [b"HEAD2000\r\n", &big[..], b"\r\n5\r\nsmall\r\n0\r\n\r\n"].concat();
        assert_eq!(conn.pending_out(), wanted.len());
        conn.flush().await.unwrap();
        assert_eq!(conn.pending_out(), 0);
        let sink = conn.into_io();
        assert!(sink.taken == wanted);
        if limit == usize::MAX {
            assert_eq!(sink.writes, if vectored { vec![3] } else { vec![1, 1, 1] });
        }
    }
}

#[tokio::test]
async fn a_sink_that_takes_nothing_is_an_error() {
    let mut conn = Conn::new(Sink { taken: vec![], writes: vec![], limit: 0, vectored: true });
    let error = conn.write(Bytes::from_static(b"x")).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WriteZero);
}

#[tokio::test]
async fn heads_beyond_the_limit_are_not_buffered() {
    let (mut peer, io) = duplex(1 << 20);
    let mut conn = Conn::new(io);
    peer.write_all(&[&b"GET / HTTP/1.1\r\nA: "[..], &[b'a'; 1 << 19]].concat()).await.unwrap();
    let error = conn.read_request(&LIMITS, HeaderMap::new()).await.unwrap_err();
    assert_eq!(error.reason(), "headers-too-large");
    assert!(conn.buffered().len() <= 16 * 1024);
    let wide = Limits { max_line_bytes: 1 << 17, max_head_bytes: 1 << 18, max_headers: 4000 };
    let (mut peer, io) = duplex(1 << 20);
    let mut conn = Conn::new(io);
    let head =
        [&b"GET / HTTP/1.1\r\n"[..], &[&b"A: "[..], &[b'a'; 60], b"\r\n"].concat().repeat(3000), b"\r\n"].concat();
    peer.write_all(&head).await.unwrap();
    let head = conn.read_request(&wide, HeaderMap::new()).await.unwrap();
    assert_eq!(head.headers.len(), 3000);
}

/// After a first exchange, an exchange with recycled headers grows neither the map nor the buffers.
#[test]
fn a_typical_exchange_grows_nothing() {
    let input = b"GET /a/b?c=d HTTP/1.1\r\nHost: web\r\nUser-Agent: x/1\r\nAccept: */*\r\nX-Request-Id: 1\r\n\
        Accept-Encoding: gzip\r\nCookie: a=b\r\n\r\n";
    let (mut rd, mut out) = (BytesMut::with_capacity(16 * 1024), BytesMut::with_capacity(16 * 1024));
    let mut headers = HeaderMap::new();
    let (mut capacity, mut at) = (0, std::ptr::null());
    for round in 0..1000 {
        assert!(rd.try_reclaim(16 * 1024), "the map's values no longer hold the buffer");
        rd.extend_from_slice(input);
        let head = parse_request(&mut rd, &LIMITS, headers).unwrap().unwrap();
        encode_request_head(&mut out, &head.method, &head.target, head.version, &head.headers, head.body);
        out.clear();
        headers = head.headers;
        if round == 0 {
            (capacity, at) = (headers.capacity(), out.as_ptr());
        }
        assert_eq!((headers.capacity(), out.capacity(), out.as_ptr()), (capacity, 16 * 1024, at));
        headers.clear();
    }
}

#[tokio::test]
async fn reading_and_writing_one_connection_at_once() {
    let (peer, io) = duplex(64);
    let mut conn = Conn::new(io);
    let (mut read, mut write) = tokio::io::split(peer);
    let sent: Vec<u8> = (0..50_000u32).map(|i| i as u8).collect();
    let expected = sent.clone();
    let far = async move {
        let writer = tokio::spawn(async move { write.write_all(&sent).await.unwrap() });
        let mut got = vec![0; 50_000];
        read.read_exact(&mut got).await.unwrap();
        writer.await.unwrap();
        got
    };
    let near = async {
        let mut decoder = BodyDecoder::new(BodyLength::Length(50_000));
        std::future::poll_fn(|cx| {
            loop {
                let flushed = conn.poll_flush(cx).map(Result::unwrap).is_ready();
                if !flushed && conn.pending_out() > 4096 {
                    return Poll::Pending;
                }
                match conn.poll_body(cx, &mut decoder).map(Result::unwrap) {
                    Poll::Ready(Some(BodyFrame::Data(data))) => conn.queue(data),
                    Poll::Ready(_) if flushed => return Poll::Ready(()),
                    _ => return Poll::Pending,
                }
            }
        })
        .await;
    };
    let (got, ()) = tokio::join!(far, near);
    assert!(got == expected);
}

/// Bytes read, bytes written, messages, and whether the meter was dropped.
type Told = std::sync::Arc<std::sync::Mutex<(usize, usize, usize, bool)>>;

#[derive(Debug)]
struct Telling(Told);

impl http1::Meter for Telling {
    fn received(&mut self, bytes: usize) {
        self.0.lock().unwrap().0 += bytes;
    }

    fn sent(&mut self, bytes: usize) {
        self.0.lock().unwrap().1 += bytes;
    }

    fn exchanged(&mut self) {
        self.0.lock().unwrap().2 += 1;
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.lock().unwrap().3 = true;
    }
}

#[tokio::test]
async fn a_meter_sees_every_byte_and_every_message() {
    let told = Told::default();
    let (mut peer, io) = duplex(64 * 1024);
    let mut conn = Conn::new(io).with_meter(Box::new(Telling(told.clone())));
    let wire = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
    peer.write_all(wire).await.unwrap();
    for _ in 0..2 {
        conn.read_response(&LIMITS, &Method::GET, HeaderMap::new()).await.unwrap();
    }
    conn.out().extend_from_slice(b"12345");
    conn.write(Bytes::from(vec![0; 20_000])).await.unwrap();
    assert_eq!(*told.lock().unwrap(), (wire.len(), 20_005, 1, false));
    drop(conn);
    assert!(told.lock().unwrap().3);
}

/// Takes all bytes at once and sends them when it is allowed to, as TLS does.
#[derive(Default)]
struct Encrypting {
    may_send: bool,
}

impl AsyncWrite for Encrypting {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.may_send { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn what_the_transport_has_taken_is_not_sent_yet() {
    let mut cx = Context::from_waker(Waker::noop());
    let mut conn = Conn::new(Encrypting::default());
    assert!(conn.is_flushed());
    conn.queue(Bytes::from_static(b"body"));
    assert!(!conn.is_flushed());
    assert!(conn.poll_flush(&mut cx).is_pending());
    assert_eq!((conn.pending_out(), conn.is_flushed()), (0, false), "it is in the transport");
    conn.io_mut().may_send = true;
    assert!(conn.poll_flush(&mut cx).is_ready() && conn.is_flushed());
}
