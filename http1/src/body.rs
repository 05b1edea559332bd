//! Reading a body out of a buffer, without any input or output of its own.
//!
//! What it is for: handing out body bytes as slices of the read buffer, and holding chunked framing to the letter
//! (RFC 9112 section 7, attacks H1-5, H1-6, H1-13). What it is not: it does not read from the connection; `conn`
//! calls it, and so may anything with a buffer.

use crate::error::BodyError;
use crate::fields::{is_forbidden_trailer, next_field};
use crate::head::BodyLength;
use crate::scan::BlockScan;
use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderMap;

/// Most hexadecimal digits in a chunk size: 64 bits.
const MAX_SIZE_DIGITS: u8 = 16;
/// Longest extension of one chunk, in bytes.
const MAX_EXTENSION: usize = 256;
/// All extensions of one body together, in bytes.
const MAX_EXTENSIONS: usize = 16 * 1024;
/// Most trailer lines.
const MAX_TRAILERS: usize = 200;
/// Default limit of a trailer section, in bytes.
const TRAILER_LIMIT: usize = 8192;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Done,
    UntilClose,
    Length(u64),
    /// In the digits of a chunk size; how many were read.
    Size(u8),
    /// In an extension; its bytes so far.
    Extension(usize),
    /// After the CR of a size line.
    SizeLf,
    /// In chunk data; bytes left.
    Data(u64),
    /// After chunk data.
    DataCr,
    DataLf,
    Trailers,
}

/// What [`BodyDecoder::decode`] found.
#[derive(Debug)]
pub enum Decoded {
    /// Body bytes, never empty, sharing the buffer's memory.
    Data(Bytes),
    /// The end, with the trailers that may be passed on; never empty.
    Trailers(HeaderMap),
    /// The end. Given again on every later call.
    Done,
    /// The buffer is used up, or holds an incomplete trailer section.
    NeedMore,
}

/// Where the reading of one body stands.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    size: u64,
    extensions: usize,
    block: BlockScan,
    trailer_limit: usize,
}

impl BodyDecoder {
    /// A decoder at the start of a body delimited by `length`.
    #[must_use]
    pub fn new(length: BodyLength) -> Self {
        let state = match length {
            BodyLength::Empty | BodyLength::Length(0) => State::Done,
            BodyLength::Length(n) => State::Length(n),
            BodyLength::Chunked => State::Size(0),
            BodyLength::UntilClose => State::UntilClose,
        };
        Self { state, size: 0, extensions: 0, block: BlockScan::default(), trailer_limit: TRAILER_LIMIT }
    }

    /// Sets the longest trailer section [`Conn::poll_body`](crate::Conn::poll_body) accepts, in bytes; 8192 unless
    /// said.
    #[must_use]
    pub fn with_trailer_limit(mut self, bytes: usize) -> Self {
        self.trailer_limit = bytes;
        self
    }

    /// The limit set by [`Self::with_trailer_limit`], in bytes.
    #[must_use]
    pub fn trailer_limit(&self) -> usize {
        self.trailer_limit
    }

    /// Whether the whole body, with its trailers, has been read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes the next piece of the body off the front of `buf`. `trailer_limit` bounds the trailer section, in bytes.
    /// Bytes after the body stay in `buf`.
    ///
    /// # Errors
    /// [`BodyError`], except `Truncated` and `Io`. After one the decoder and the connection are of no further use.
    pub fn decode(&mut self, buf: &mut BytesMut, trailer_limit: usize) -> Result<Decoded, BodyError> {
        loop {
            match self.state {
                State::Done => return Ok(Decoded::Done),
                State::Trailers => return self.trailers(buf, trailer_limit),
                _ if buf.is_empty() => return Ok(Decoded::NeedMore),
                State::UntilClose => return Ok(Decoded::Data(buf.split().freeze())),
                State::Length(left) => {
                    let (data, left) = take(buf, left);
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                    return Ok(Decoded::Data(data));
                }
                State::Data(left) => {
                    let (data, left) = take(buf, left);
                    self.state = if left == 0 { State::DataCr } else { State::Data(left) };
                    return Ok(Decoded::Data(data));
                }
                _ => self.framing(buf)?,
            }
        }
    }

    /// Tells the decoder that the peer closed and `buf` is used up.
    ///
    /// # Errors
    /// `Truncated` unless the body ends with the connection or had ended before.
    pub fn eof(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::Done | State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(BodyError::Truncated),
        }
    }

    /// Reads framing bytes up to the next data or the trailers.
    fn framing(&mut self, buf: &mut BytesMut) -> Result<(), BodyError> {
        let mut used = 0;
        for &byte in buf.iter() {
            used += 1;
            self.state = self.step(byte)?;
            if matches!(self.state, State::Data(_) | State::Trailers) {
                break;
            }
        }
        buf.advance(used);
        Ok(())
    }

    /// One framing byte: `[CRLF] 1*16HEXDIG [";" extension] CRLF`.
    fn step(&mut self, byte: u8) -> Result<State, BodyError> {
        match (self.state, byte) {
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size(0)),
            (State::DataCr | State::DataLf, _) => Err(BodyError::ChunkEnd),
            (State::Size(1..), b'\r') | (State::Extension(_), b'\r') => Ok(State::SizeLf),
            (State::Size(1..), b';') => self.extension(0),
            (State::Size(digits), _) => self.size_digit(digits, byte),
            (State::Extension(length), b'\t' | b' '..=b'~' | 0x80..) => self.extension(length),
            (State::Extension(_), _) => Err(BodyError::ChunkExtension),
            (State::SizeLf, b'\n') => Ok(self.start_chunk()),
            (State::SizeLf, _) => Err(BodyError::ChunkSize),
            (state, _) => Ok(state),
        }
    }

    fn size_digit(&mut self, digits: u8, byte: u8) -> Result<State, BodyError> {
        let value = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => return Err(BodyError::ChunkSize),
        };
        if digits == MAX_SIZE_DIGITS {
            return Err(BodyError::ChunkSize);
        }
        self.size = (self.size << 4) | u64::from(value);
        Ok(State::Size(digits + 1))
    }

    fn extension(&mut self, length: usize) -> Result<State, BodyError> {
        self.extensions += 1;
        if length == MAX_EXTENSION || self.extensions > MAX_EXTENSIONS {
            return Err(BodyError::ChunkExtension);
        }
        Ok(State::Extension(length + 1))
    }

    fn start_chunk(&mut self) -> State {
        match std::mem::take(&mut self.size) {
            0 => State::Trailers,
            size => State::Data(size),
        }
    }

    /// Reads the trailer section once it is complete, without the fields of attack H1-6.
    fn trailers(&mut self, buf: &mut BytesMut, limit: usize) -> Result<Decoded, BodyError> {
        let found = self.block.scan(buf, limit, MAX_TRAILERS).map_err(|e| BodyError::Trailers(e.reason()))?;
        let Some(length) = found else { return Ok(Decoded::NeedMore) };
        self.state = State::Done;
        if length == 2 {
            buf.advance(2);
            return Ok(Decoded::Done);
        }
        let block = buf.split_to(length).freeze();
        let mut trailers = HeaderMap::new();
        let mut at = 0;
        while let Some(field) = next_field(&block, &mut at).map_err(|e| BodyError::Trailers(e.reason()))? {
            if !is_forbidden_trailer(&field.name) {
                let added = trailers.try_append(field.name, field.value);
                added.map_err(|_| BodyError::Trailers("too-many-headers"))?;
            }
        }
        Ok(if trailers.is_empty() { Decoded::Done } else { Decoded::Trailers(trailers) })
    }
}

/// Splits up to `left` bytes off `buf`; returns them and what is left to come.
fn take(buf: &mut BytesMut, left: u64) -> (Bytes, u64) {
    let n = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
    (buf.split_to(n).freeze(), left - n as u64)
}
