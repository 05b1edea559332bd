//! What the frames of an HTTP/2 peer cost: [`FrameWatch`] counts them by their headers and says when it is a flood
//! (attacks H2-2, 3, 5 and 7), [`Watched`] feeds it with what a connection reads and writes.
//!
//! Sans-io: bytes and times go in, a verdict comes out, which is final. It stands below the codec, so it sees what the
//! codec answers by itself and never tells. Not for: whether frames are legal, nor header lists and held data, which the
//! codec bounds; nor what streams mean: trailers and who cancelled are for the code that serves them.
//!
//! A limit is a rate with a second's worth at once. Where an honest peer sends more because it is sent more, it earns
//! more (see [`WatchLimits`]).

mod bucket;
mod io;
mod scan;

pub use io::{WatchHandle, Watched};

use super::detect::PREFACE;
use bucket::Bucket;
use scan::{CONTINUATION, DATA, Frame, GOAWAY, HEADERS, PUSH_PROMISE, RST_STREAM, Scanner, WINDOW_UPDATE};

/// DATA frames of fewer bytes are small: they cost more to handle than to send.
const SMALL: u32 = 16;
/// So many bytes of other DATA frames earn one small frame.
const BYTES_PER_SMALL: u32 = 64;
/// DATA frames that we send of at least so many bytes earn WINDOW_UPDATE frames: four each, for stream and connection
/// by halves, and one more per so many times four bytes.
const BYTES_PER_UPDATE: u32 = 64;
/// Frames that can be earned in stock, where it is not as many as the rate: of control frames, of WINDOW_UPDATE.
const MOST_CONTROL: u32 = 1024;
const MOST_UPDATES: u32 = 65_536;

/// Bytes of a frame at most, unless larger ones were agreed on (RFC 9113 §6.5.2).
const DEFAULT_FRAME: u32 = 16_384;
/// The code PROTOCOL_ERROR in a frame (RFC 9113 §7).
const PROTOCOL_ERROR: u32 = 1;
/// Bytes of such a code.
const CODE: u32 = 4;

/// So many of the last streams that the peer reset are known.
const REMEMBERED: usize = 256;

/// What a peer may send, and what it may make us send. Rates are in frames per second, with as many at once; 0 allows
/// none, `u32::MAX` any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchLimits {
    /// Streams that the peer resets (H2-2). Every answer that we finish earns one: who resets what was answered gains
    /// nothing by it.
    pub resets_per_sec: u32,
    /// RST_STREAM that we send (H2-3), whatever for: errors of the peer, refused streams, failures behind us. Earned in
    /// the same way.
    pub local_resets_per_sec: u32,
    /// PING, SETTINGS, PRIORITY, GOAWAY and unknown types, acknowledgements included (H2-7), and RST_STREAM for a stream
    /// that the peer has just reset. Every DATA and HEADERS frame that we send earns one, for peers that measure the
    /// bandwidth by PING, or answer each frame of a forgotten stream by another reset; and every HEADERS frame of the
    /// peer, for its priority.
    pub control_frames_per_sec: u32,
    /// DATA without a byte that does not end its stream, and HEADERS, CONTINUATION and PUSH_PROMISE without a byte (H2-5,
    /// H2-7). The codec allows 100 of these DATA frames in the life of a connection, so more is of no use.
    pub empty_frames_per_sec: u32,
    /// DATA of 1 to 15 bytes that does not end its stream (H2-7). 64 bytes of larger frames earn one, and so does every
    /// DATA frame that we send, for peers that acknowledge messages.
    pub small_frames_per_sec: u32,
    /// WINDOW_UPDATE (H2-7). What we send earns them: four per DATA frame of 64 bytes or more, and one per 256 bytes.
    pub window_updates_per_sec: u32,
    /// CONTINUATION frames of one header block, but for the last (H2-5).
    pub continuation_frames: u32,
    /// Bytes of one header block as it is sent, compressed and padded, over all its frames (H2-5). To be well above the
    /// largest header list that is accepted: what is between the two can be answered, what is above ends the connection.
    pub header_block_bytes: u32,
}

impl WatchLimits {
    /// For connections of clients. Twice what a busy client was seen to cancel, 2,000 calls per second (H2-4).
    pub fn downstream() -> WatchLimits {
        WatchLimits {
            resets_per_sec: 4000,
            local_resets_per_sec: 4000,
            control_frames_per_sec: 500,
            empty_frames_per_sec: 100,
            small_frames_per_sec: 20_000,
            window_updates_per_sec: 20_000,
            continuation_frames: 64,
            header_block_bytes: 1 << 20,
        }
    }

    /// The limits of header blocks where the codec accepts header lists of so many bytes (`maxHeaderListBytes`): as many
    /// frames as the codec takes, so that it is told here what it was, and four times the bytes, from where on the codec
    /// does not answer either.
    pub fn sized_for(self, header_list_bytes: u32) -> WatchLimits {
        let full = (header_list_bytes / DEFAULT_FRAME).max(1);
        WatchLimits {
            continuation_frames: (full + full / 4).max(5),
            header_block_bytes: header_list_bytes.saturating_mul(4).max(2 * DEFAULT_FRAME),
            ..self
        }
    }

    /// For connections to services. The same but for the resets that we send: they are what many clients cancelled, and
    /// the service is not to blame for them.
    pub fn upstream() -> WatchLimits {
        WatchLimits { local_resets_per_sec: u32::MAX, ..WatchLimits::downstream() }
    }
}

/// Which end of the connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The peer is a client: what it sends begins with the preface.
    Server,
    /// The peer is a service: what we send begins with the preface.
    Client,
}

/// The peer costs more than it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flood {
    /// The reason in `rejected_total{reason}`, of a closed list.
    pub what: &'static str,
    /// A sentence for the log, without the peer's address.
    pub text: String,
}

/// What went in one direction since the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Frames of any type.
    pub frames: u64,
    /// DATA frames.
    pub data_frames: u64,
    /// Bytes of DATA frames, padding included.
    pub data_bytes: u64,
    /// RST_STREAM frames.
    pub resets: u64,
    /// Those of them that we sent and that say PROTOCOL_ERROR.
    pub protocol_errors: u64,
    /// GOAWAY frames.
    pub goaways: u64,
}

impl Totals {
    fn count(&mut self, frame: Frame) {
        self.frames += 1;
        match frame.kind {
            DATA => {
                self.data_frames += 1;
                self.data_bytes += u64::from(frame.length);
            }
            RST_STREAM => self.resets += 1,
            GOAWAY => self.goaways += 1,
            _ => {}
        }
    }
}

/// Which limit was passed.
#[derive(Debug, Clone, Copy)]
enum Excess {
    Resets,
    LocalResets,
    Control,
    Empty,
    Small,
    Updates,
    Continuations,
    Block,
}

/// Which streams the peer reset last, so that it may say so twice; nothing is allocated before the first.
#[derive(Debug, Default)]
struct LastReset(Option<Box<[u32; REMEMBERED]>>);

impl LastReset {
    /// False if `stream` is known to be reset already.
    fn is_first(&mut self, stream: u32) -> bool {
        let known = self.0.get_or_insert_with(|| Box::new([0; REMEMBERED]));
        // Streams of one side have every other number.
        let place = usize::try_from(stream / 2).unwrap_or_default() % REMEMBERED;
        std::mem::replace(&mut known[place], stream) != stream
    }
}

/// Counts the frames of both directions of one connection. Under 400 bytes, and 1 KiB more where the peer resets streams;
/// nothing in it grows.
#[derive(Debug)]
pub struct FrameWatch {
    limits: WatchLimits,
    incoming: Scanner,
    outgoing: Scanner,
    received: Totals,
    sent: Totals,
    /// CONTINUATION frames but for the last, and bytes, of the header block at hand.
    continuations: u32,
    block: u32,
    last_reset: LastReset,
    /// Of the code of a reset that is being sent: the bytes to go, and what was read.
    code: (u32, u32),
    resets: Bucket,
    local_resets: Bucket,
    control: Bucket,
    empty: Bucket,
    small: Bucket,
    updates: Bucket,
    flood: Option<Flood>,
}

impl FrameWatch {
    /// For a connection on which nothing was read or written.
    pub fn new(side: Side, limits: WatchLimits) -> FrameWatch {
        let (incoming, outgoing) = match side {
            Side::Server => (PREFACE.len(), 0),
            Side::Client => (0, PREFACE.len()),
        };
        FrameWatch {
            limits,
            incoming: Scanner::new(incoming),
            outgoing: Scanner::new(outgoing),
            received: Totals::default(),
            sent: Totals::default(),
            continuations: 0,
            block: 0,
            last_reset: LastReset::default(),
            code: (0, 0),
            resets: Bucket::new(limits.resets_per_sec, limits.resets_per_sec),
            local_resets: Bucket::new(limits.local_resets_per_sec, limits.local_resets_per_sec),
            control: Bucket::new(limits.control_frames_per_sec, MOST_CONTROL),
            empty: Bucket::new(limits.empty_frames_per_sec, 0),
            small: Bucket::new(limits.small_frames_per_sec, limits.small_frames_per_sec),
            updates: Bucket::new(limits.window_updates_per_sec, MOST_UPDATES),
            flood: None,
        }
    }

    /// Counts the next bytes from the peer, in pieces of any size; `now` in nanoseconds of the process clock. Nothing
    /// counts after a verdict.
    pub fn received(&mut self, mut bytes: &[u8], now: u64) {
        while self.flood.is_none()
            && let Some(frame) = self.incoming.next(&mut bytes)
        {
            self.received.count(frame);
            if let Some(excess) = self.judge(frame, now) {
                self.flood = Some(self.flood_of(excess));
            }
        }
    }

    /// Counts the next bytes that were written to the peer, likewise.
    pub fn sent(&mut self, mut bytes: &[u8], now: u64) {
        self.read_code(bytes);
        while let Some(frame) = self.outgoing.next(&mut bytes) {
            self.sent.count(frame);
            if frame.ends_stream() {
                self.resets.earn(1);
                self.local_resets.earn(1);
            }
            if matches!(frame.kind, DATA | HEADERS) {
                self.control.earn(1);
            }
            if frame.kind == DATA {
                self.small.earn(1);
                if frame.length >= BYTES_PER_UPDATE {
                    self.updates.earn(4 + frame.length / (4 * BYTES_PER_UPDATE));
                }
            }
            if frame.kind == RST_STREAM && frame.length == CODE {
                self.code = (CODE, 0);
                self.read_code(bytes);
            }
            if frame.kind == RST_STREAM && self.flood.is_none() && !self.local_resets.take(now) {
                self.flood = Some(self.flood_of(Excess::LocalResets));
            }
        }
    }

    /// Reads on in the code of a reset that we send; its bytes stay for the scanner.
    fn read_code(&mut self, bytes: &[u8]) {
        let (left, code) = self.code;
        if left == 0 {
            return;
        }
        let there = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let code = bytes[..there].iter().fold(code, |code, &byte| code << 8 | u32::from(byte));
        let left = left.saturating_sub(u32::try_from(there).unwrap_or(u32::MAX));
        self.code = (left, code);
        if left == 0 && code == PROTOCOL_ERROR {
            self.sent.protocol_errors += 1;
        }
    }

    /// What the peer has done too much of; once there, it stays.
    pub fn verdict(&self) -> Option<&Flood> {
        self.flood.as_ref()
    }

    /// What we sent.
    pub fn sent_totals(&self) -> Totals {
        self.sent
    }

    fn judge(&mut self, frame: Frame, now: u64) -> Option<Excess> {
        let (bucket, excess) = match frame.kind {
            // Once per stream, and streams are bounded.
            DATA if frame.ends_stream() => return None,
            DATA if frame.length == 0 => (&mut self.empty, Excess::Empty),
            DATA if frame.length < SMALL => (&mut self.small, Excess::Small),
            DATA => {
                self.small.earn(frame.length / BYTES_PER_SMALL);
                return None;
            }
            HEADERS | PUSH_PROMISE | CONTINUATION => return self.judge_block(frame, now),
            RST_STREAM if self.last_reset.is_first(frame.stream) => (&mut self.resets, Excess::Resets),
            WINDOW_UPDATE => (&mut self.updates, Excess::Updates),
            _ => (&mut self.control, Excess::Control),
        };
        (!bucket.take(now)).then_some(excess)
    }

    /// By the announced length: a block that is too long is never read in.
    fn judge_block(&mut self, frame: Frame, now: u64) -> Option<Excess> {
        if frame.kind == CONTINUATION {
            self.continuations = self.continuations.saturating_add(u32::from(!frame.ends_headers()));
            self.block = self.block.saturating_add(frame.length);
        } else {
            (self.continuations, self.block) = (0, frame.length);
            self.control.earn(1);
        }
        if self.continuations > self.limits.continuation_frames {
            return Some(Excess::Continuations);
        }
        if self.block > self.limits.header_block_bytes {
            return Some(Excess::Block);
        }
        (frame.length == 0 && !self.empty.take(now)).then_some(Excess::Empty)
    }

    fn flood_of(&self, excess: Excess) -> Flood {
        let limits = &self.limits;
        let (what, limit, of) = match excess {
            Excess::Resets => ("h2-rapid-reset", limits.resets_per_sec, "streams reset per second"),
            Excess::LocalResets => {
                ("h2-local-resets", limits.local_resets_per_sec, "streams per second that had to be reset")
            }
            Excess::Control => {
                let of = "PING, SETTINGS, PRIORITY, unknown and repeated RST_STREAM frames per second";
                ("h2-control-flood", limits.control_frames_per_sec, of)
            }
            Excess::Empty => ("h2-empty-frames", limits.empty_frames_per_sec, "frames per second without a byte"),
            Excess::Small => {
                ("h2-small-frames", limits.small_frames_per_sec, "DATA frames per second of under 16 bytes")
            }
            Excess::Updates => ("h2-window-updates", limits.window_updates_per_sec, "WINDOW_UPDATE frames per second"),
            Excess::Continuations => {
                ("h2-continuation-flood", limits.continuation_frames, "CONTINUATION frames in a header block")
            }
            Excess::Block => ("h2-header-block", limits.header_block_bytes, "bytes in a header block"),
        };
        let text = format!("more than {limit} {of}, after {} frames from the peer", self.received.frames);
        Flood { what, text }
    }
}

#[cfg(test)]
#[path = "watch/tests.rs"]
mod tests;
