//! A filter in front of the HTTP/2 library: it lets the clients of Linkerd 1 in, and keeps floods out.
//!
//! A Linkerd 1 router sends `:authority` with an empty value, for which the library resets the stream (namerd reference
//! §3.4). So the frames of a client are read here first. Its headers are decoded, an empty `:authority` is left out, and
//! they are encoded again without references, so that the library keeps no table of its own. All other frames go on
//! unchanged. Both blocks and lists of headers are bounded here, also over CONTINUATION frames, and so is how often a
//! client sends frames that cost it nothing. Called by the interface. Not for: what the library checks itself.

use super::hpack::{self, Decoder, Refused};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::Reason;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::Instant;

/// What every client begins with.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes before the payload of a frame.
const HEAD: usize = 9;
/// A payload may have so many bytes: the least that every server takes, and all that this one says it does.
const MAX_PAYLOAD: usize = 16_384;
/// A list of headers may count so many bytes, 32 for each besides its own: encoded again it fits one frame.
const MAX_HEADERS: usize = 16_000;
/// A block of headers may have so many bytes as it comes.
const MAX_BLOCK: usize = 32 * 1024;
/// CONTINUATION frames of one block.
const MAX_CONTINUATIONS: u32 = 8;

/// What a client may spend at once, and per second.
const PURSE: f64 = 80_000.0;
const INCOME: f64 = 8_000.0;
/// Of a frame that makes work and brings nothing.
const IDLE_COST: f64 = 40.0;
/// Of a stream that is given up: 4,000 per second.
const RESET_COST: f64 = 2.0;
/// Of a stream that is begun: 20,000 per second, and fewer when the list of headers is long.
const HEADERS_COST: f64 = 0.4;
const LIST_COST: f64 = 1.0 / 4096.0;
/// Of a WINDOW_UPDATE.
const WINDOW_COST: f64 = 0.2;
/// So much may wait for the reader: a short block of headers can stand for a long list.
const MAX_CHECKED: usize = 64 * 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The bytes of a connection, filtered as they are read; written ones pass.
pub(super) struct Filter<T> {
    io: T,
    incoming: BytesMut,
    checked: BytesMut,
    frames: Frames,
    /// Why the client is to be sent away, once it is.
    refused: watch::Sender<Option<Reason>>,
}

impl<T> Filter<T> {
    /// A filter over `io`, of which `begun` has been read already, and where it says that the client must go. `first` are
    /// frames that are put behind the first ones of the client, its settings.
    pub(super) fn new(io: T, begun: &[u8], first: Bytes) -> (Filter<T>, watch::Receiver<Option<Reason>>) {
        let (refused, verdict) = watch::channel(None);
        let frames = Frames { first, ..Frames::new() };
        (Filter { io, incoming: begun.into(), checked: BytesMut::new(), frames, refused }, verdict)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Filter<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.checked.is_empty() {
                let count = this.checked.len().min(out.remaining());
                out.put_slice(&this.checked.split_to(count));
                return Poll::Ready(Ok(()));
            }
            if this.refused.borrow().is_some() {
                // Whoever drives the connection has been told, and ends it.
                return Poll::Pending;
            }
            let passed = this.frames.pass(&mut this.incoming, &mut this.checked);
            if let Err(reason) = passed {
                this.refused.send_replace(Some(reason));
            }
            if !this.checked.is_empty() || passed.is_err() {
                continue;
            }
            let before = this.incoming.len();
            this.incoming.resize(before + MAX_PAYLOAD, 0);
            let mut room = ReadBuf::new(&mut this.incoming[before..]);
            let read = Pin::new(&mut this.io).poll_read(cx, &mut room);
            let count = room.filled().len();
            this.incoming.truncate(before + count);
            match read {
                Poll::Ready(Ok(())) if count > 0 => {}
                other => return other,
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Filter<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
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
}

/// The frames of a client, without IO.
struct Frames {
    /// Bytes that pass unseen: of the preface, then of payloads.
    pass: usize,
    /// What goes behind the first frame.
    first: Bytes,
    /// The first frame has begun.
    greeted: bool,
    /// A block of headers that has begun.
    block: Option<Block>,
    decoder: Decoder,
    purse: f64,
    counted: Instant,
}

/// Headers whose end has not come yet.
struct Block {
    stream: [u8; 4],
    ends_stream: bool,
    priority: Option<[u8; 5]>,
    bytes: BytesMut,
    continuations: u32,
}

/// The beginning of a frame.
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: [u8; 4],
}

impl Frames {
    fn new() -> Frames {
        Frames {
            pass: PREFACE.len(),
            first: Bytes::new(),
            greeted: false,
            block: None,
            decoder: Decoder::default(),
            purse: PURSE,
            counted: Instant::now(),
        }
    }

    /// Moves what may pass from `incoming` to `checked`; leaves the beginning of what is not complete.
    fn pass(&mut self, incoming: &mut BytesMut, checked: &mut BytesMut) -> Result<(), Reason> {
        loop {
            let passing = self.pass.min(incoming.len());
            checked.put_slice(&incoming.split_to(passing));
            self.pass -= passing;
            if self.greeted && self.pass == 0 {
                checked.put_slice(&std::mem::take(&mut self.first));
            }
            let Some(head) = incoming.first_chunk::<HEAD>().filter(|_| self.pass == 0) else { return Ok(()) };
            if checked.len() > MAX_CHECKED {
                return Ok(());
            }
            let head = Head::of(head);
            if head.length > MAX_PAYLOAD {
                return Err(Reason::FRAME_SIZE_ERROR);
            }
            let whole = HEAD + head.length;
            self.greeted = true;
            if self.block.is_some() && head.kind != CONTINUATION {
                return Err(Reason::PROTOCOL_ERROR);
            }
            if !matches!(head.kind, HEADERS | CONTINUATION) {
                self.pay(head.cost())?;
                self.pass = whole;
                continue;
            }
            if incoming.len() < whole {
                return Ok(());
            }
            self.pay(head.cost())?;
            let mut payload = incoming.split_to(whole);
            payload.advance(HEAD);
            let block = if head.kind == HEADERS { begin(&head, payload)? } else { self.go_on(&head, &payload)? };
            if head.flags & END_HEADERS == 0 {
                self.block = Some(block);
            } else {
                self.end(&block, checked)?;
            }
        }
    }

    /// The block that has begun, with what a CONTINUATION adds.
    fn go_on(&mut self, head: &Head, payload: &[u8]) -> Result<Block, Reason> {
        let mut block = self.block.take().filter(|block| block.stream == head.stream).ok_or(Reason::PROTOCOL_ERROR)?;
        block.continuations += 1;
        if block.continuations > MAX_CONTINUATIONS || block.bytes.len() + payload.len() > MAX_BLOCK {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        block.bytes.extend_from_slice(payload);
        Ok(block)
    }

    /// Writes the block again as one HEADERS frame, without an empty `:authority`.
    fn end(&mut self, block: &Block, checked: &mut BytesMut) -> Result<(), Reason> {
        let headers = self.decoder.decode(&block.bytes, MAX_HEADERS).map_err(|refused| match refused {
            Refused::Broken => Reason::COMPRESSION_ERROR,
            Refused::TooLarge => Reason::ENHANCE_YOUR_CALM,
        })?;
        let mut payload = BytesMut::from(block.priority.as_ref().map_or(&[][..], |priority| priority));
        for (name, value) in &headers {
            if name != ":authority" || !value.is_empty() {
                hpack::encode(name, value, &mut payload);
            }
        }
        self.pay(payload.len() as f64 * LIST_COST)?;
        let ends_stream = if block.ends_stream { END_STREAM } else { 0 };
        let priority = if block.priority.is_some() { PRIORITY } else { 0 };
        put(HEADERS, END_HEADERS | ends_stream | priority, block.stream, &payload, checked);
        Ok(())
    }

    fn pay(&mut self, cost: f64) -> Result<(), Reason> {
        if cost > 0.0 {
            let now = Instant::now();
            self.purse = (self.purse + (now - self.counted).as_secs_f64() * INCOME).min(PURSE) - cost;
            self.counted = now;
        }
        if self.purse < 0.0 { Err(Reason::ENHANCE_YOUR_CALM) } else { Ok(()) }
    }
}

/// The frames of a request on stream 1 whose headers are less than what a client may send as a list.
pub(super) fn request(headers: &[(&[u8], &[u8])], body: &[u8]) -> Bytes {
    let (mut block, mut frames) = (BytesMut::new(), BytesMut::new());
    headers.iter().filter(|header| **header != (b":authority", b"")).for_each(|(name, value)| {
        hpack::encode(name, value, &mut block);
    });
    let stream = 1_u32.to_be_bytes();
    let ends_stream = if body.is_empty() { END_STREAM } else { 0 };
    put(HEADERS, END_HEADERS | ends_stream, stream, &block, &mut frames);
    if !body.is_empty() {
        put(DATA, END_STREAM, stream, body, &mut frames);
    }
    frames.freeze()
}

fn put(kind: u8, flags: u8, stream: [u8; 4], payload: &[u8], frames: &mut BytesMut) {
    frames.put_uint(payload.len() as u64, 3);
    frames.put_u8(kind);
    frames.put_u8(flags);
    frames.put_slice(&stream);
    frames.put_slice(payload);
}

/// The beginning of a block, without padding.
fn begin(head: &Head, mut payload: BytesMut) -> Result<Block, Reason> {
    let broken = Reason::PROTOCOL_ERROR;
    if head.flags & PADDED != 0 {
        let padding = usize::from(payload.first().copied().ok_or(broken)?);
        payload.advance(1);
        payload.truncate(payload.len().checked_sub(padding).ok_or(broken)?);
    }
    let mut priority = None;
    if head.flags & PRIORITY != 0 {
        priority = Some(*payload.first_chunk::<5>().ok_or(broken)?);
        payload.advance(5);
    }
    let ends_stream = head.flags & END_STREAM != 0;
    Ok(Block { stream: head.stream, ends_stream, priority, bytes: payload, continuations: 0 })
}

impl Head {
    fn of(bytes: &[u8; HEAD]) -> Head {
        let [a, b, c, kind, flags, stream @ ..] = *bytes;
        Head { length: u32::from_be_bytes([0, a, b, c]) as usize, kind, flags, stream }
    }

    fn cost(&self) -> f64 {
        match self.kind {
            HEADERS => HEADERS_COST,
            RST_STREAM => RESET_COST,
            WINDOW_UPDATE => WINDOW_COST,
            DATA if self.length > 0 || self.flags & END_STREAM != 0 => 0.0,
            _ => IDLE_COST,
        }
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
