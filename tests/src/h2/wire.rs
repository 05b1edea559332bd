//! Frames by hand: for what no library would send, or would not show.
//!
//! Header blocks are written without Huffman coding and without the table. They are read only as far as the status, which
//! the usual encoders take from the static table.

use super::origin::listen;
use bytes::{Buf, BytesMut};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};

/// What a client says first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames.
#[allow(missing_docs, reason = "the names are those of RFC 9113")]
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
#[allow(missing_docs, reason = "the names are those of RFC 9113")]
pub mod flag {
    pub const END_STREAM: u8 = 1;
    pub const ACK: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 32;
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// See [`kind`].
    pub kind: u8,
    /// See [`flag`].
    pub flags: u8,
    /// 0: the connection.
    pub stream: u32,
    /// What follows the nine bytes of the head.
    pub payload: Vec<u8>,
}

impl Frame {
    /// One of these parts.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Frame {
        Frame { kind, flags, stream, payload: payload.into() }
    }

    /// GOAWAY: the last stream that was or will be processed, and the code.
    pub fn goaway(last: u32, code: u32) -> Frame {
        Frame::new(kind::GOAWAY, 0, 0, [last.to_be_bytes(), code.to_be_bytes()].concat())
    }

    /// WINDOW_UPDATE.
    pub fn window(stream: u32, bytes: u32) -> Frame {
        Frame::new(kind::WINDOW_UPDATE, 0, stream, bytes.to_be_bytes())
    }

    /// RST_STREAM.
    pub fn reset(stream: u32, code: u32) -> Frame {
        Frame::new(kind::RST_STREAM, 0, stream, code.to_be_bytes())
    }

    /// SETTINGS of these identifiers and values.
    pub fn settings(values: &[(u16, u32)]) -> Frame {
        let pair = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        Frame::new(kind::SETTINGS, 0, 0, values.iter().flat_map(pair).collect::<Vec<u8>>())
    }

    /// HEADERS of one block.
    pub fn headers(stream: u32, fields: &[(&str, &str)], end: bool) -> Frame {
        Frame::new(kind::HEADERS, flag::END_HEADERS | u8::from(end), stream, literals(fields))
    }

    /// DATA.
    pub fn data(stream: u32, bytes: &[u8], end: bool) -> Frame {
        Frame::new(kind::DATA, u8::from(end), stream, bytes)
    }

    /// As it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("a frame").to_be_bytes();
        [&length[1..], &[self.kind, self.flags], &self.stream.to_be_bytes(), &self.payload].concat()
    }

    /// The number in four bytes at this place of the payload: 4 is the code of a GOAWAY, 0 that of a reset.
    pub fn number(&self, at: usize) -> Option<u32> {
        Some(u32::from_be_bytes(self.payload.get(at..at + 4)?.try_into().ok()?))
    }

    /// True when this flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The status, when a header block begins with one of the static table.
    pub fn status(&self) -> Option<u16> {
        // Updates of the table's size may come first: 001xxxxx.
        let block = self.payload.iter().skip_while(|byte| *byte & 0xe0 == 0x20);
        let known = [200, 204, 206, 304, 400, 404, 500];
        block.copied().next().and_then(|byte| known.get(usize::from(byte.checked_sub(0x88)?)).copied())
    }
}

/// A header block of literals: never indexed, not Huffman-coded.
pub fn literals(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// An integer with a prefix of seven bits.
fn length(block: &mut Vec<u8>, n: usize) {
    if n < 127 {
        return block.push(n as u8);
    }
    block.push(127);
    let mut rest = n - 127;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// One connection, frame by frame.
pub struct Wire {
    socket: TcpStream,
    /// What was read and is no whole frame yet.
    read: BytesMut,
    /// SETTINGS and PING are acknowledged by [`Wire::next`].
    pub polite: bool,
}

impl Wire {
    /// Connects, and sends nothing.
    pub async fn silent(addr: SocketAddr) -> Wire {
        let socket = TcpStream::connect(addr).await.unwrap_or_else(|error| panic!("no connection to {addr}: {error}"));
        let _ = socket.set_nodelay(true);
        Wire { socket, read: BytesMut::new(), polite: true }
    }

    /// Connects as a client: the preface and these settings.
    pub async fn client(addr: SocketAddr, settings: &[(u16, u32)]) -> Wire {
        let mut wire = Wire::silent(addr).await;
        wire.raw(PREFACE).await.expect("the preface is sent");
        wire.send(&Frame::settings(settings)).await.expect("the settings are sent");
        wire
    }

    /// Sends bytes as they are.
    pub async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes).await
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.raw(&frame.bytes()).await
    }

    /// Sends all frames in one write.
    pub async fn send_all(&mut self, frames: &[Frame]) -> io::Result<()> {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        self.raw(&bytes).await
    }

    /// The next frame; None at the end of the connection, however it came. Nothing is lost when it is not awaited.
    pub async fn next(&mut self) -> Option<Frame> {
        let frame = loop {
            if let Some(frame) = self.whole() {
                break frame;
            }
            if self.socket.read_buf(&mut self.read).await.ok()? == 0 {
                return None;
            }
        };
        if self.polite && !frame.has(flag::ACK) {
            let answer = match frame.kind {
                kind::SETTINGS => Some(Frame::new(kind::SETTINGS, flag::ACK, 0, [])),
                kind::PING => Some(Frame::new(kind::PING, flag::ACK, 0, frame.payload.clone())),
                _ => None,
            };
            if let Some(answer) = answer {
                // The end is seen at the next frame.
                let _ = self.send(&answer).await;
            }
        }
        Some(frame)
    }

    /// A whole frame of what was read.
    fn whole(&mut self) -> Option<Frame> {
        let &[a, b, c, kind, flags, d, e, f, g] = self.read.first_chunk()?;
        let end = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
        let payload = self.read.get(9..end)?.to_vec();
        self.read.advance(end);
        Some(Frame { kind, flags, stream: u32::from_be_bytes([d, e, f, g]) & 0x7fff_ffff, payload })
    }

    /// The next frame that `wanted` takes, within the limit; None at the end of the connection.
    pub async fn until(&mut self, limit: Duration, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        super::within("a frame", limit, async {
            loop {
                match self.next().await {
                    Some(frame) if !wanted(&frame) => {}
                    frame => return frame,
                }
            }
        })
        .await
    }

    /// Bytes that come next, at most so many; empty at the end. Not to be mixed with frames.
    pub async fn some(&mut self, most: usize) -> Vec<u8> {
        let mut buffer = vec![0; most];
        let n = self.socket.read(&mut buffer).await.unwrap_or(0);
        buffer.truncate(n);
        buffer
    }
}

/// A server that gives every connection to a story, after the preface of the client.
pub struct RawOrigin {
    addr: SocketAddr,
    connections: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl RawOrigin {
    /// `serve` gets each connection and its number, counted from 0; SETTINGS were sent.
    pub fn with<F, S>(serve: S) -> RawOrigin
    where
        S: Fn(Wire, u64) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (listener, addr) = listen();
        let connections = Arc::new(AtomicU64::new(0));
        let (count, serve) = (connections.clone(), Arc::new(serve));
        let task = tokio::spawn(async move {
            let mut running = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let serve = serve.clone();
                running.spawn(async move {
                    if let Some(wire) = greeted(socket).await {
                        serve(wire, number).await;
                    }
                });
            }
        });
        RawOrigin { addr, connections, task }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Number of connections so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for RawOrigin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn greeted(socket: TcpStream) -> Option<Wire> {
    let _ = socket.set_nodelay(true);
    let mut wire = Wire { socket, read: BytesMut::new(), polite: true };
    let mut preface = [0; 24];
    wire.socket.read_exact(&mut preface).await.ok()?;
    wire.send(&Frame::settings(&[])).await.ok()?;
    (preface == *PREFACE).then_some(wire)
}
