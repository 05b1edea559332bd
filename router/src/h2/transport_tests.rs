//! What [`Transport`] gathers, when it goes out, and that nothing is lost or moved on the way.

use super::*;
use std::future::poll_fn;
use std::task::Waker;
use telemetry::{Metrics, TransportStats};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

fn local<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build_local(tokio::runtime::LocalOptions::default()).expect("a runtime").block_on(future)
}

async fn pair() -> (Transport, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let addr = listener.local_addr().expect("an address");
    let peer = TcpStream::connect(addr).await.expect("a connection");
    let (socket, _) = listener.accept().await.expect("a connection");
    let meter = Metered(TransportStats::new(&Metrics::new().root()).connection());
    (Transport::new(Stream::Plain(socket), Bytes::new(), meter), peer)
}

/// What the peer has got so far.
fn arrived(peer: &TcpStream) -> usize {
    let mut room = [0; 64];
    peer.try_read(&mut room).unwrap_or(0)
}

async fn send(flow: &Flow) {
    assert!(poll_fn(|cx| Poll::Ready(flow.drive(cx, |_| Poll::<()>::Pending))).await.is_pending());
}

#[test]
fn without_a_driver_bytes_go_out_at_once() {
    local(async {
        let (mut transport, mut peer) = pair().await;
        transport.write_all(b"settings").await.expect("written");
        transport.flush().await.expect("flushed");
        let mut got = [0; 8];
        peer.read_exact(&mut got).await.expect("bytes");
        assert_eq!(&got, b"settings");
    });
}

#[test]
fn small_pieces_wait_for_the_driver_and_leave_before_a_large_one() {
    local(async {
        let (mut transport, mut peer) = pair().await;
        let flow = transport.flow();
        flow.gather();
        transport.write_all(b"one ").await.expect("taken");
        transport.flush().await.expect("nothing to do");
        transport.write_all(b"two ").await.expect("taken");
        assert_eq!((arrived(&peer), flow.wire.borrow().held.len()), (0, 8));
        let large = vec![b'x'; COPIED + 1];
        transport.write_all(&large).await.expect("written");
        transport.write_all(b"three").await.expect("taken");
        assert_eq!(flow.wire.borrow().held, b"three");
        send(&flow).await;
        assert_eq!(flow.wire.borrow().held.capacity(), 0, "no room is kept");
        let mut got = vec![0; 8 + large.len() + 5];
        peer.read_exact(&mut got).await.expect("bytes");
        assert_eq!((&got[..8], &got[8 + large.len()..]), (&b"one two "[..], &b"three"[..]));
    });
}

#[test]
fn what_is_held_is_bounded_and_comes_whole_once_the_peer_reads() {
    local(async {
        let (mut transport, mut peer) = pair().await;
        let flow = transport.flow();
        flow.gather();
        let piece: Vec<u8> = (0..1000_u32).map(|byte| byte as u8).collect();
        let mut cx = Context::from_waker(Waker::noop());
        let mut written = 0;
        // Until the system takes no more.
        while let Poll::Ready(taken) = Pin::new(&mut transport).poll_write(&mut cx, &piece[written % 1000..]) {
            written += taken.expect("taken");
            assert!(flow.wire.borrow().held.len() <= GATHERED);
            assert!(written < 1 << 30);
        }
        assert!(flow.blocked.get() > 0, "the peer takes nothing");
        let reading = tokio::task::spawn_local(async move {
            let mut got = Vec::new();
            peer.read_to_end(&mut got).await.expect("bytes");
            got
        });
        poll_fn(|cx| flow.poll_send(cx)).await.expect("sent");
        assert_eq!(flow.blocked.get(), 0);
        transport.shutdown().await.expect("shut");
        let got = reading.await.expect("bytes");
        assert_eq!(got.len(), written);
        assert!(got.iter().enumerate().all(|(at, byte)| *byte == piece[at % 1000]));
    });
}

#[test]
fn the_codec_finds_what_could_not_be_written() {
    local(async {
        let (mut transport, _peer) = pair().await;
        let flow = transport.flow();
        flow.gather();
        transport.write_all(b"late").await.expect("taken");
        poll_fn(|cx| Pin::new(&mut flow.wire.borrow_mut().stream).poll_shutdown(cx)).await.expect("shut");
        let mut polls = 0;
        let found = poll_fn(|cx| {
            flow.drive(cx, |cx| {
                polls += 1;
                Pin::new(&mut transport).poll_read(cx, &mut ReadBuf::new(&mut [0]))
            })
        });
        assert_eq!(found.await.expect_err("it cannot be written").kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(polls, 2, "once before, and once after it was tried");
        assert!(transport.write_all(b"more").await.is_err());
    });
}
