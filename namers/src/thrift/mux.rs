//! mux: the frames in which thrift messages of many calls share a connection (namerd reference §4.3).
//!
//! Bytes become frames in [`Frames`], frames become messages in [`Assembler`], which puts fragments together. Pure: no IO.
//! Called by the server of namerd and by `link`. Not for: what a call means. The numbers of `Tdiscarded` and `Rerr` that
//! are written are the old ones, as Finagle writes them; both are read.

use super::binary::{Reader, WireError};
use bytes::{Buf, BytesMut};
use std::collections::HashMap;

/// The tag of pings, of draining and of the handshake.
pub const CONTROL_TAG: u32 = 1;
/// The first tag of a call.
pub const FIRST_TAG: u32 = 2;
/// The last tag of a call.
pub const LAST_TAG: u32 = (1 << 23) - 1;
/// Set in a tag: more fragments of the message follow.
const FRAGMENT: u32 = 1 << 23;
/// What a client says to learn whether the server knows `Tinit`; such a server says it back.
pub const PROBE: &str = "tinit check";
/// The version that both ends speak.
pub const VERSION: u16 = 1;
/// Messages of which fragments wait for the rest, at most.
const MAX_UNFINISHED: usize = 16;

/// Status of a reply.
pub mod status {
    /// The body is the answer.
    pub const OK: u8 = 0;
    /// The body is a text that says what failed.
    pub const ERROR: u8 = 1;
    /// The server does not take the call now.
    pub const NACK: u8 = 2;
}

/// A message, without what nobody here reads: contexts, destinations, session headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A call in the old form.
    Treq(u32, Vec<u8>),
    /// The reply to it: status and body.
    Rreq(u32, u8, Vec<u8>),
    /// A call.
    Tdispatch(u32, Vec<u8>),
    /// The reply to it: status and body.
    Rdispatch(u32, u8, Vec<u8>),
    /// No new calls, please.
    Tdrain(u32),
    /// The answer to that.
    Rdrain(u32),
    /// Are you there?
    Tping(u32),
    /// The answer to that.
    Rping(u32),
    /// Nobody waits for the reply to the call of this tag any more.
    Tdiscarded(u32, String),
    /// The call of this tag is forgotten; its reply will not come.
    Rdiscarded(u32),
    /// For how long calls are welcome; ignored.
    Tlease,
    /// The client's version.
    Tinit(u32, u16),
    /// The server's version.
    Rinit(u32, u16),
    /// The call or the message of this tag failed.
    Rerr(u32, String),
    /// Something else: its type and tag.
    Unknown(i8, u32),
}

mod types {
    pub(super) const TREQ: i8 = 1;
    pub(super) const RREQ: i8 = -1;
    pub(super) const TDISPATCH: i8 = 2;
    pub(super) const RDISPATCH: i8 = -2;
    pub(super) const TDRAIN: i8 = 64;
    pub(super) const RDRAIN: i8 = -64;
    pub(super) const TPING: i8 = 65;
    pub(super) const RPING: i8 = -65;
    pub(super) const TDISCARDED: i8 = 66;
    pub(super) const OLD_TDISCARDED: i8 = -62;
    pub(super) const RDISCARDED: i8 = -66;
    pub(super) const TLEASE: i8 = 67;
    pub(super) const TINIT: i8 = 68;
    pub(super) const RINIT: i8 = -68;
    pub(super) const RERR: i8 = -128;
    pub(super) const OLD_RERR: i8 = 127;
}

impl Message {
    /// The whole frame: length, type, tag, body.
    pub fn frame(&self) -> Vec<u8> {
        match self {
            Message::Treq(tag, body) => frame(types::TREQ, *tag, &[&[0], body]),
            Message::Rreq(tag, status, body) => frame(types::RREQ, *tag, &[&[*status], body]),
            Message::Tdispatch(tag, body) => frame(types::TDISPATCH, *tag, &[&[0; 6], body]),
            Message::Rdispatch(tag, status, body) => frame(types::RDISPATCH, *tag, &[&[*status, 0, 0], body]),
            Message::Tdrain(tag) => frame(types::TDRAIN, *tag, &[]),
            Message::Rdrain(tag) => frame(types::RDRAIN, *tag, &[]),
            Message::Tping(tag) => frame(types::TPING, *tag, &[]),
            Message::Rping(tag) => frame(types::RPING, *tag, &[]),
            Message::Tdiscarded(which, why) => {
                frame(types::OLD_TDISCARDED, 0, &[&which.to_be_bytes()[1..], why.as_bytes()])
            }
            Message::Rdiscarded(tag) => frame(types::RDISCARDED, *tag, &[]),
            Message::Tlease => frame(types::TLEASE, 0, &[&[0; 9]]),
            Message::Tinit(tag, version) => frame(types::TINIT, *tag, &[&version.to_be_bytes()]),
            Message::Rinit(tag, version) => frame(types::RINIT, *tag, &[&version.to_be_bytes()]),
            Message::Rerr(tag, text) => frame(types::OLD_RERR, *tag, &[text.as_bytes()]),
            Message::Unknown(kind, tag) => frame(*kind, *tag, &[]),
        }
    }

    fn read(kind: i8, tag: u32, body: &[u8]) -> Result<Message, WireError> {
        let mut from = Reader::new(body);
        let text = |from: &Reader<'_>| String::from_utf8_lossy(from.rest()).into_owned();
        Ok(match kind {
            types::TREQ => {
                for _ in 0..from.byte()? {
                    from.take(1)?;
                    let length = from.byte()?;
                    from.take(length.into())?;
                }
                Message::Treq(tag, from.rest().to_vec())
            }
            types::RREQ => Message::Rreq(tag, from.byte()?, from.rest().to_vec()),
            types::TDISPATCH => {
                skip_pairs(&mut from)?;
                skip_short(&mut from)?;
                skip_pairs(&mut from)?;
                Message::Tdispatch(tag, from.rest().to_vec())
            }
            types::RDISPATCH => {
                let status = from.byte()?;
                skip_pairs(&mut from)?;
                Message::Rdispatch(tag, status, from.rest().to_vec())
            }
            types::TDRAIN => Message::Tdrain(tag),
            types::RDRAIN => Message::Rdrain(tag),
            types::TPING => Message::Tping(tag),
            types::RPING => Message::Rping(tag),
            types::TDISCARDED | types::OLD_TDISCARDED => {
                let which = from.take(3)?.iter().fold(0, |tag, byte| tag << 8 | u32::from(*byte));
                Message::Tdiscarded(which & !FRAGMENT, text(&from))
            }
            types::RDISCARDED => Message::Rdiscarded(tag),
            types::TLEASE => Message::Tlease,
            types::TINIT => Message::Tinit(tag, from.u16()?),
            types::RINIT => Message::Rinit(tag, from.u16()?),
            types::RERR | types::OLD_RERR => Message::Rerr(tag, text(&from)),
            other => Message::Unknown(other, tag),
        })
    }
}

fn frame(kind: i8, tag: u32, parts: &[&[u8]]) -> Vec<u8> {
    let length = 4 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut out = Vec::with_capacity(4 + length);
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    out.push(kind.cast_unsigned());
    out.extend_from_slice(&tag.to_be_bytes()[1..]);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// Length of two bytes, then so many.
fn skip_short(from: &mut Reader<'_>) -> Result<(), WireError> {
    let length = from.u16()?;
    from.take(length.into()).map(drop)
}

/// A count, then pairs: contexts, or the entries of a dtab.
fn skip_pairs(from: &mut Reader<'_>) -> Result<(), WireError> {
    for _ in 0..from.u16()? {
        skip_short(from)?;
        skip_short(from)?;
    }
    Ok(())
}

/// Bytes of a connection, cut into frames: a length of four bytes, then so many. The same for mux and for framed thrift.
pub struct Frames {
    received: BytesMut,
    limit: usize,
}

impl Frames {
    /// Frames of at most `limit` bytes.
    pub fn new(limit: usize) -> Frames {
        Frames { received: BytesMut::new(), limit }
    }

    /// Where received bytes are appended.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.received
    }

    /// The next frame without its length; None when more bytes are needed.
    pub fn frame(&mut self) -> Result<Option<BytesMut>, WireError> {
        let Some(length) = self.received.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > self.limit {
            return Err(WireError::TooLarge(length, self.limit));
        }
        if self.received.len() < 4 + length {
            return Ok(None);
        }
        self.received.advance(4);
        Ok(Some(self.received.split_to(length)))
    }
}

/// Frames become messages. Fragments wait for their last one, within a limit for all of them.
pub struct Assembler {
    unfinished: HashMap<u32, Vec<u8>>,
    bytes: usize,
    limit: usize,
}

impl Assembler {
    /// Messages in fragments may have `limit` bytes, all that are under way together.
    pub fn new(limit: usize) -> Assembler {
        Assembler { unfinished: HashMap::new(), bytes: 0, limit }
    }

    /// The message that this frame is, or completes.
    pub fn accept(&mut self, frame: &[u8]) -> Result<Option<Message>, WireError> {
        let mut from = Reader::new(frame);
        let kind = from.byte()?.cast_signed();
        let tag = from.take(3)?.iter().fold(0, |tag, byte| tag << 8 | u32::from(*byte));
        if tag & FRAGMENT != 0 {
            self.keep(tag & !FRAGMENT, from.rest())?;
            return Ok(None);
        }
        let message = match self.forget(tag).filter(|_| tag != 0) {
            None => Message::read(kind, tag, from.rest())?,
            Some(mut body) => {
                body.extend_from_slice(from.rest());
                Message::read(kind, tag, &body)?
            }
        };
        if let Message::Tdiscarded(which, _) = &message {
            self.forget(*which);
        }
        Ok(Some(message))
    }

    fn keep(&mut self, tag: u32, part: &[u8]) -> Result<(), WireError> {
        self.bytes += part.len();
        if self.bytes > self.limit {
            return Err(WireError::TooLarge(self.bytes, self.limit));
        }
        self.unfinished.entry(tag).or_default().extend_from_slice(part);
        match self.unfinished.len() > MAX_UNFINISHED {
            true => Err(WireError::malformed(format!("more than {MAX_UNFINISHED} messages come in fragments at once"))),
            false => Ok(()),
        }
    }

    fn forget(&mut self, tag: u32) -> Option<Vec<u8>> {
        let body = self.unfinished.remove(&tag)?;
        self.bytes -= body.len();
        Some(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: usize = 1000;

    fn read(frame: &[u8]) -> Result<Option<Message>, WireError> {
        let mut frames = Frames::new(LIMIT);
        frames.buffer().extend_from_slice(frame);
        let frame = frames.frame()?.expect("a whole frame");
        Assembler::new(LIMIT).accept(&frame)
    }

    /// Bytes as the reference has them, and what they are. Those that are written as well come first.
    #[test]
    fn messages_are_these_bytes() {
        let both: Vec<(&[u8], Message)> = vec![
            (b"\0\0\0\x06\x01\0\0\x02\0x", Message::Treq(2, b"x".into())),
            (b"\0\0\0\x06\xff\0\0\x02\0x", Message::Rreq(2, status::OK, b"x".into())),
            (b"\0\0\0\x0b\x02\0\x01\0\0\0\0\0\0\0x", Message::Tdispatch(256, b"x".into())),
            (b"\0\0\0\x08\xfe\x7f\xff\xff\x02\0\0x", Message::Rdispatch(LAST_TAG, status::NACK, b"x".into())),
            (b"\0\0\0\x04\x40\0\0\x01", Message::Tdrain(1)),
            (b"\0\0\0\x04\xc0\0\0\x01", Message::Rdrain(1)),
            (b"\0\0\0\x04\x41\0\0\x01", Message::Tping(1)),
            (b"\0\0\0\x04\xbf\0\0\x01", Message::Rping(1)),
            (b"\0\0\0\x09\xc2\0\0\0\0\0\x05by", Message::Tdiscarded(5, "by".into())),
            (b"\0\0\0\x04\xbe\0\0\x05", Message::Rdiscarded(5)),
            (b"\0\0\0\x0d\x43\0\0\0\0\0\0\0\0\0\0\0\0", Message::Tlease),
            (b"\0\0\0\x06\x44\0\0\x01\0\x01", Message::Tinit(1, 1)),
            (b"\0\0\0\x06\xbc\0\0\x01\0\x01", Message::Rinit(1, 1)),
            (b"\0\0\0\x0f\x7f\0\0\x01tinit check", Message::Rerr(1, PROBE.into())),
            (b"\0\0\0\x04\x09\0\0\x07", Message::Unknown(9, 7)),
        ];
        for (bytes, message) in both {
            assert_eq!(message.frame(), bytes, "{message:?}");
            assert_eq!(read(bytes), Ok(Some(message)));
        }
        let read_only: Vec<(&[u8], Message)> = vec![
            (b"\0\0\0\x09\x42\0\0\0\0\0\x05by", Message::Tdiscarded(5, "by".into())),
            (b"\0\0\0\x08\x80\0\0\x01what", Message::Rerr(1, "what".into())),
            (b"\0\0\0\x09\x01\0\0\x02\x01\x02\x01\x01x", Message::Treq(2, b"x".into())),
            (
                b"\0\0\0\x1c\x02\0\0\x02\0\x01\0\x01k\0\x02vv\0\x02/d\0\x01\0\x02/a\0\x02/bx",
                Message::Tdispatch(2, b"x".into()),
            ),
            (b"\0\0\0\x0e\xfe\0\0\x02\0\0\x01\0\x01k\0\x01vx", Message::Rdispatch(2, status::OK, b"x".into())),
            (b"\0\0\0\x0f\x44\0\0\x01\0\x01\0\0\0\x01k\0\0\0\0", Message::Tinit(1, 1)),
        ];
        for (bytes, message) in read_only {
            assert_eq!(read(bytes), Ok(Some(message)), "{bytes:?}");
        }
    }

    #[test]
    fn what_ends_early_is_refused() {
        for bytes in [
            &b"\0\0\0\0"[..],
            b"\0\0\0\x03\x41\0\0",
            b"\0\0\0\x04\x01\0\0\x02",
            b"\0\0\0\x05\x01\0\0\x02\x01",
            b"\0\0\0\x06\x02\0\0\x02\xff\xff",
            b"\0\0\0\x06\xc2\0\0\0\0\0",
            b"\0\0\0\x05\x44\0\0\x01\0",
        ] {
            assert_eq!(read(bytes), Err(WireError::Truncated), "{bytes:?}");
        }
        assert_eq!(read(b"\x80\0\0\0"), Err(WireError::TooLarge(0x8000_0000, LIMIT)));
    }

    #[test]
    fn frames_may_come_in_any_pieces() {
        let all = [Message::Tping(1).frame(), Message::Tdispatch(2, vec![7; 50]).frame()].concat();
        let mut frames = Frames::new(LIMIT);
        let mut count = 0;
        for byte in all {
            frames.buffer().extend_from_slice(&[byte]);
            count += usize::from(frames.frame().expect("no error").is_some());
        }
        assert_eq!(count, 2);
    }

    #[test]
    fn fragments_are_put_together_and_forgotten_when_discarded() {
        let mut assembler = Assembler::new(LIMIT);
        assert_eq!(assembler.accept(b"\x02\x80\0\x05\0\0\0\0"), Ok(None));
        assert_eq!(assembler.accept(b"\x02\x80\0\x06\0\0\0\0\0\0other"), Ok(None));
        assert_eq!(assembler.accept(b"\x02\x80\0\x05\0\0ab"), Ok(None));
        assert_eq!(assembler.accept(b"\x02\0\0\x05cd"), Ok(Some(Message::Tdispatch(5, b"abcd".into()))));
        assert_eq!(assembler.accept(b"\xc2\0\0\0\0\0\x06"), Ok(Some(Message::Tdiscarded(6, String::new()))));
        assert_eq!((assembler.bytes, assembler.unfinished.len()), (0, 0));
    }

    #[test]
    fn fragments_are_bounded() {
        let mut assembler = Assembler::new(10);
        assert_eq!(assembler.accept(b"\x02\x80\0\x05123456"), Ok(None));
        assert_eq!(assembler.accept(b"\x02\x80\0\x06123456"), Err(WireError::TooLarge(12, 10)));
        let mut assembler = Assembler::new(LIMIT);
        let tags = (0..=MAX_UNFINISHED).map(|tag| assembler.accept(&[2, 0x80, 0, tag as u8]));
        assert_eq!(tags.filter(Result::is_err).count(), 1);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let (mut frames, mut assembler) = (Frames::new(LIMIT), Assembler::new(LIMIT));
            for chunk in &chunks {
                let _ = assembler.accept(chunk);
                frames.buffer().extend_from_slice(chunk);
                while let Ok(Some(frame)) = frames.frame() {
                    let _ = assembler.accept(&frame);
                }
            }
            prop_assert!(assembler.bytes <= LIMIT + 40);
        }

        #[test]
        fn a_call_comes_back(tag in FIRST_TAG..=LAST_TAG, body in proptest::collection::vec(any::<u8>(), 0..100)) {
            let message = Message::Tdispatch(tag, body);
            prop_assert_eq!(read(&message.frame()), Ok(Some(message)));
        }
    }
}
