//! The compression of HTTP/2's headers (RFC 7541): a bounded decoder, and the plainest encoding.
//!
//! Called by `filter`. What is encoded here refers to nothing, so whoever decodes it needs no table. Not for: what headers
//! mean.

use super::tables::{LENGTHS, STATIC};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::LazyLock;

/// The size of the dynamic table, which this side never changes.
const TABLE_SIZE: usize = 4096;
/// What an entry counts besides its bytes.
const OVERHEAD: usize = 32;
/// The end of a string in Huffman's code.
const END: u16 = 256;
const MAX_BITS: usize = 30;

/// Why a block of headers is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is none: the tables of both sides would differ from here on.
    Broken,
    /// It holds more than it may.
    TooLarge,
}

/// One side's dynamic table.
#[derive(Default)]
pub(super) struct Decoder {
    /// The newest first.
    entries: VecDeque<(Bytes, Bytes)>,
    size: usize,
    /// What the peer lets the table hold; none before it has said so.
    allowed: Option<usize>,
}

impl Decoder {
    /// The headers of a block, in order. They may count `limit` bytes together, 32 for each besides its own.
    pub(super) fn decode(&mut self, block: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, Refused> {
        let mut rest = Rest(block);
        let (mut headers, mut left) = (Vec::new(), limit);
        while let Some(&first) = rest.0.first() {
            if first & 0xe0 == 0x20 {
                self.resize(rest.number(5)?, headers.is_empty())?;
                continue;
            }
            let (name, value) = self.header(first, &mut rest, left)?;
            left = left.checked_sub(name.len() + value.len() + OVERHEAD).ok_or(Refused::TooLarge)?;
            headers.push((name, value));
        }
        Ok(headers)
    }

    fn header(&mut self, first: u8, rest: &mut Rest<'_>, left: usize) -> Result<(Bytes, Bytes), Refused> {
        if first & 0x80 != 0 {
            let index = rest.number(7)?;
            return self.entry(index);
        }
        let kept = first & 0x40 != 0;
        let index = rest.number(if kept { 6 } else { 4 })?;
        let name = match index {
            0 => rest.string(left)?,
            index => self.entry(index)?.0,
        };
        let value = rest.string(left)?;
        if kept {
            self.keep(name.clone(), value.clone());
        }
        Ok((name, value))
    }

    fn entry(&self, index: usize) -> Result<(Bytes, Bytes), Refused> {
        let at = index.checked_sub(1).ok_or(Refused::Broken)?;
        if let Some((name, value)) = STATIC.get(at) {
            return Ok((Bytes::from_static(name.as_bytes()), Bytes::from_static(value.as_bytes())));
        }
        self.entries.get(at - STATIC.len()).cloned().ok_or(Refused::Broken)
    }

    fn keep(&mut self, name: Bytes, value: Bytes) {
        self.size += name.len() + value.len() + OVERHEAD;
        self.entries.push_front((name, value));
        self.shrink();
    }

    fn resize(&mut self, allowed: usize, at_front: bool) -> Result<(), Refused> {
        if allowed > TABLE_SIZE || !at_front {
            return Err(Refused::Broken);
        }
        self.allowed = Some(allowed);
        self.shrink();
        Ok(())
    }

    fn shrink(&mut self) {
        while self.size > self.allowed.unwrap_or(TABLE_SIZE) {
            let Some((name, value)) = self.entries.pop_back() else { break };
            self.size -= name.len() + value.len() + OVERHEAD;
        }
    }
}

/// What is left of a block.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn byte(&mut self) -> Result<u8, Refused> {
        let (first, rest) = self.0.split_first().ok_or(Refused::Broken)?;
        self.0 = rest;
        Ok(*first)
    }

    /// A number that begins in the last `bits` bits of the next byte; less than 2^28.
    fn number(&mut self, bits: u32) -> Result<usize, Refused> {
        let most = (1_usize << bits) - 1;
        let mut number = usize::from(self.byte()?) & most;
        if number < most {
            return Ok(number);
        }
        for shift in [0, 7, 14, 21] {
            let byte = usize::from(self.byte()?);
            number += (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Refused::Broken)
    }

    /// A string of at most `limit` bytes.
    fn string(&mut self, limit: usize) -> Result<Bytes, Refused> {
        let coded = self.0.first().is_some_and(|first| first & 0x80 != 0);
        let length = self.number(7)?;
        let (string, rest) = self.0.split_at_checked(length).ok_or(Refused::Broken)?;
        self.0 = rest;
        if coded {
            return huffman(string, limit);
        }
        if length > limit { Err(Refused::TooLarge) } else { Ok(Bytes::copy_from_slice(string)) }
    }
}

/// Canonical codes: those of one length are successive numbers.
struct Codes {
    /// By length: the first code, how many there are, and where their symbols begin.
    lengths: [(u32, u32, usize); MAX_BITS + 1],
    symbols: Vec<u16>,
}

static CODES: LazyLock<Codes> = LazyLock::new(|| {
    let mut codes = Codes { lengths: [(0, 0, 0); MAX_BITS + 1], symbols: Vec::new() };
    let mut code = 0_u32;
    for bits in 1..=MAX_BITS {
        code <<= 1;
        let begin = codes.symbols.len();
        let of_this = LENGTHS.iter().zip(0_u16..).filter(|(length, _)| usize::from(**length) == bits);
        codes.symbols.extend(of_this.map(|(_, symbol)| symbol));
        let count = (codes.symbols.len() - begin) as u32;
        codes.lengths[bits] = (code, count, begin);
        code += count;
    }
    codes
});

/// The string behind Huffman's code. What is left over at the end must be fewer than eight ones.
fn huffman(coded: &[u8], limit: usize) -> Result<Bytes, Refused> {
    let codes = &*CODES;
    let mut string = BytesMut::new();
    let (mut code, mut bits) = (0_u32, 0_usize);
    for byte in coded {
        for shift in (0..8).rev() {
            code = code << 1 | u32::from(byte >> shift & 1);
            bits += 1;
            let (first, count, begin) = *codes.lengths.get(bits).ok_or(Refused::Broken)?;
            let Some(at) = code.checked_sub(first).filter(|at| *at < count) else { continue };
            match codes.symbols.get(begin + at as usize) {
                Some(&symbol) if symbol != END => string.put_u8(symbol as u8),
                _ => return Err(Refused::Broken),
            }
            if string.len() > limit {
                return Err(Refused::TooLarge);
            }
            (code, bits) = (0, 0);
        }
    }
    let padded = bits < 8 && code == (1 << bits) - 1;
    padded.then(|| string.freeze()).ok_or(Refused::Broken)
}

/// Appends a header that is not kept in any table and refers to none.
pub(super) fn encode(name: &[u8], value: &[u8], block: &mut BytesMut) {
    block.put_u8(0);
    for string in [name, value] {
        length(string.len(), block);
        block.put_slice(string);
    }
}

fn length(length: usize, block: &mut BytesMut) {
    if length < 0x7f {
        block.put_u8(length as u8);
        return;
    }
    block.put_u8(0x7f);
    let mut rest = length - 0x7f;
    while rest >= 0x80 {
        block.put_u8(rest as u8 & 0x7f | 0x80);
        rest >>= 7;
    }
    block.put_u8(rest as u8);
}

#[cfg(test)]
#[path = "hpack_tests.rs"]
mod tests;
