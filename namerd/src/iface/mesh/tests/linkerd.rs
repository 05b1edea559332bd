//! The bytes of a Linkerd 1 router on a socket, written by hand.
//!
//! Its HTTP/2 is Netty's: the header table is used, strings are plain, `:authority` is there with an empty value, there is no
//! `te`, no `user-agent` and no `grpc-timeout` (namerd reference §3.4).

use super::world::{World, path, within};
use crate::iface::mesh::filter::PREFACE;
use bytes::Bytes;
use dtab::{Addr, Dtab};
use namers::mesh::calls::{self, Bind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

pub(super) struct Socket(TcpStream);

/// A frame as bytes.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A connection on which nothing is said yet.
pub(super) async fn plain(world: &World) -> Socket {
    Socket(TcpStream::connect(world.address).await.expect("a connection"))
}

/// A connection whose preface and settings are sent.
pub(super) async fn connect(world: &World) -> Socket {
    let mut socket = plain(world).await;
    // MAX_CONCURRENT_STREAMS and INITIAL_WINDOW_SIZE.
    let settings = [0, 3, 0x7f, 0xff, 0xff, 0xff, 0, 4, 0, 0xa0, 0, 0];
    socket.write(&[PREFACE, &frame(SETTINGS, 0, 0, &settings)].concat()).await;
    socket
}

impl Socket {
    pub(super) async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("room");
    }

    /// Reads the head of a response that agrees to HTTP/2.
    pub(super) async fn switched(&mut self) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within("a head", self.0.read_u8()).await.expect("a byte"));
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    }

    pub(super) async fn next(&mut self) -> Frame {
        let mut head = [0; 9];
        within("a frame", self.0.read_exact(&mut head)).await.expect("a frame");
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        within("a payload", self.0.read_exact(&mut payload)).await.expect("a payload");
        Frame { kind, flags, stream: u32::from_be_bytes(stream), payload }
    }

    pub(super) async fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.next().await;
            if wanted(&frame) {
                return frame;
            }
        }
    }

    /// The next message of a stream that comes in one frame.
    async fn message(&mut self, stream: u32) -> Bytes {
        let data = self.until(|frame| frame.kind == DATA && frame.stream == stream).await;
        assert_eq!(data.payload[..5], [&[0][..], &(data.payload.len() as u32 - 5).to_be_bytes()].concat());
        Bytes::from(data.payload).slice(5..)
    }
}

fn literal(name: &str, value: &str) -> Vec<u8> {
    [&[0x40, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

/// The first request of a connection: all headers go to the table.
pub(super) fn first(call: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86, 0x41, 0x00, 0x44, call.len() as u8];
    block.extend(call.as_bytes());
    block.extend(literal("content-type", "application/grpc+proto"));
    block
}

/// The same request again: the newest entries are content-type, :path, :authority.
const AGAIN: [u8; 5] = [0x83, 0x86, 0xc0, 0xbf, 0xbe];

pub(super) fn request(stream: u32, block: &[u8], message: &[u8]) -> Vec<u8> {
    [frame(HEADERS, 4, stream, block), frame(DATA, 1, stream, message)].concat()
}

#[tokio::test]
async fn a_linkerd_1_router_is_served() {
    let world = World::new().await;
    world.store.says(Some("/svc => 0 * /#/t/a & 1 * /#/t/b"));
    world.namer.says("a", Addr::bound(["10.1.2.3:80".parse().expect("an address")]));
    let held = world.told("a", &Addr::bound(["10.1.2.3:80".parse().expect("an address")])).await;
    let mut socket = connect(&world).await;
    let bind = |name| Bind { root: Some(path("/default")), name: Some(path(name)), dtab: Dtab::empty() }.write();
    socket.write(&request(1, &first("/io.linkerd.mesh.Interpreter/StreamBoundTree"), &bind("/svc/x"))).await;
    let settings = socket.next().await;
    assert_eq!((settings.kind, settings.flags), (SETTINGS, 0));
    assert!(
        !settings.payload.as_chunks::<6>().0.iter().any(|setting| setting[1] == 1),
        "a header table of the default size, which the filter knows"
    );
    socket.write(&frame(SETTINGS, 1, 0, &[])).await;
    let tree = socket.message(1).await;
    // union { trees { weight: 0.0, tree { leaf { id: /#/t/a, residual: /x } } } trees { weight: 1.0, ... } }
    let branch = |weight: f64, label: u8| {
        let leaf = [&[0x0a, 9, 0x0a, 1, b'#', 0x0a, 1, b't', 0x0a, 1, label, 0x12, 3, 0x0a, 1, b'x'][..]].concat();
        let branch = [&[0x09][..], &weight.to_le_bytes(), &[0x12, 18, 0x32, 16], &leaf].concat();
        [&[0x0a, branch.len() as u8][..], &branch].concat()
    };
    let branches = [branch(0.0, b'a'), branch(1.0, b'b')].concat();
    let union = [&[0x0a, branches.len() as u8 + 2, 0x2a, branches.len() as u8][..], &branches].concat();
    assert_eq!(tree, union);

    // The same path again by reference, another message; then addresses, with a new path.
    socket.write(&request(3, &AGAIN, &bind("/svc/y"))).await;
    assert!(calls::read_tree(socket.message(3).await).is_ok());
    let mut block = vec![0x83, 0x86, 0xc0, 0x44, 40];
    block.extend(b"/io.linkerd.mesh.Resolver/StreamReplicas");
    // content-type is an entry older now.
    block.push(0xbf);
    socket.write(&request(5, &block, &calls::write_id(&path("/#/t/a")))).await;
    assert_eq!(socket.message(5).await, &[0x22, 0x0c, 0x0a, 0x0a, 0x08, 0, 0x12, 4, 10, 1, 2, 3, 0x18, 80][..]);

    socket.write(&frame(PING, 0, 0, b"12345678")).await;
    let pong = socket.until(|frame| frame.kind == PING).await;
    assert_eq!((pong.flags, &pong.payload[..]), (1, &b"12345678"[..]));
    drop(held);
    assert_eq!(world.namer.watched(), 1);
    socket.write(&frame(RST_STREAM, 0, 5, &[0, 0, 0, 8])).await;
    world.watched(0).await;
    // The others go on.
    world.store.says(Some("/svc => ~"));
    assert_eq!(socket.message(1).await, &[0x0a, 2, 0x0a, 0][..]);
}

#[tokio::test]
async fn an_error_is_a_head_and_trailers() {
    let world = World::new().await;
    let mut socket = connect(&world).await;
    socket.write(&request(1, &first("/io.linkerd.mesh.Other/Call"), &[0; 5])).await;
    let head = socket.until(|frame| frame.kind == HEADERS).await;
    // :status 400 is entry 12; the stream goes on.
    assert_eq!((head.payload[0], head.flags & 1), (0x8c, 0));
    let trailers = socket.until(|frame| frame.kind == HEADERS).await;
    assert_eq!(trailers.flags & 1, 1);
}
