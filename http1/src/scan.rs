//! Finds where a message head or a trailer section ends.
//!
//! What it is for: linear time however slowly the bytes arrive (offsets are remembered between calls), limits that
//! hold before the end is seen, and CRLF as the only line end. What it is not: a parser; it looks at line ends, line
//! lengths and the very first byte only. Called by `head`, `body` and `conn`.
//!
//! Every decision depends on the bytes in order, never on how they were split into reads.

use crate::error::HeadError;
use crate::head::Limits;
use std::ops::Range;

/// The position of the first LF in `hay`, eight bytes at a time.
pub(crate) fn find_lf(hay: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    const LF: u64 = u64::from_ne_bytes([b'\n'; 8]);
    let (words, rest) = hay.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let x = u64::from_le_bytes(*word) ^ LF;
        let zeros = x.wrapping_sub(ONES) & !x & HIGH;
        if zeros != 0 {
            return Some(i * 8 + (zeros.trailing_zeros() / 8) as usize);
        }
    }
    rest.iter().position(|&b| b == b'\n').map(|i| words.len() * 8 + i)
}

/// Whether `b` is a `tchar` (RFC 9110 section 5.6.2).
pub(crate) fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(
            b,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

/// Progress through a block of field lines that ends with an empty line.
#[derive(Debug, Default, Clone)]
pub(crate) struct BlockScan {
    line_start: usize,
    scanned: usize,
    lines: usize,
}

impl BlockScan {
    /// Looks for the end of `block`, of which earlier calls saw a prefix. Returns the block's length in bytes with
    /// its final CRLF, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// `Bad("bare-lf")`, `TooManyHeaders` above `max_lines`, `HeadTooLarge` above `max_bytes`.
    pub(crate) fn scan(
        &mut self,
        block: &[u8],
        max_bytes: usize,
        max_lines: usize,
    ) -> Result<Option<usize>, HeadError> {
        let window = &block[..block.len().min(max_bytes)];
        while let Some(i) = window.get(self.scanned..).and_then(find_lf) {
            let lf = self.scanned + i;
            if lf == self.line_start || window[lf - 1] != b'\r' {
                return Err(HeadError::Bad("bare-lf"));
            }
            self.scanned = lf + 1;
            if lf - 1 == self.line_start {
                return Ok(Some(self.scanned));
            }
            self.line_start = self.scanned;
            self.lines += 1;
            if self.lines > max_lines {
                return Err(HeadError::TooManyHeaders);
            }
        }
        self.scanned = window.len();
        if window.len() == max_bytes { Err(HeadError::HeadTooLarge) } else { Ok(None) }
    }
}

/// Which kind of head is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Response,
}

/// Where the parts of a complete head lie, in bytes from the start of the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    /// The start line without its CRLF.
    pub(crate) line: Range<usize>,
    /// The header block, with the final empty line.
    pub(crate) fields: Range<usize>,
}

/// Progress through a head at the start of a buffer.
#[derive(Debug, Default, Clone)]
pub(crate) struct HeadScan {
    started: bool,
    start: usize,
    scanned: usize,
    line_end: Option<usize>,
    block: BlockScan,
}

impl HeadScan {
    /// Whether any byte of a head has been looked at.
    pub(crate) fn is_started(&self) -> bool {
        self.started
    }

    /// Looks for the end of the head at the start of `buf`, of which earlier calls saw a prefix. `None` when more
    /// bytes are needed.
    ///
    /// # Errors
    /// Those of [`BlockScan::scan`], `LineTooLong`, and `Bad` for a first byte that can begin no message.
    pub(crate) fn scan(&mut self, buf: &[u8], limits: &Limits, kind: Kind) -> Result<Option<Span>, HeadError> {
        if !self.started && !self.begin(buf, kind)? {
            return Ok(None);
        }
        let line_end = match self.line_end {
            Some(end) => end,
            None => match self.line(buf, limits.max_line_bytes)? {
                Some(end) => end,
                None => return Ok(None),
            },
        };
        let fields = line_end + 2;
        let found = self.block.scan(&buf[fields..], limits.max_head_bytes, limits.max_headers)?;
        Ok(found.map(|len| Span { line: self.start..line_end, fields: fields..fields + len }))
    }

    /// Skips at most one empty line before a request (RFC 9112 section 2.2) and judges the first byte. False when
    /// more bytes are needed.
    fn begin(&mut self, buf: &[u8], kind: Kind) -> Result<bool, HeadError> {
        let skip = match (kind, buf) {
            (Kind::Request, [b'\r', b'\n', ..]) => 2,
            (Kind::Request, [b'\r']) => return Ok(false),
            _ => 0,
        };
        let Some(&first) = buf.get(skip) else { return Ok(false) };
        let fits = match kind {
            Kind::Request => is_token_byte(first),
            Kind::Response => first == b'H',
        };
        if !fits {
            return Err(HeadError::Bad(match (kind, first, skip) {
                (Kind::Response, ..) => "status-line",
                (Kind::Request, b'\r', 0) => "bare-cr",
                (Kind::Request, b'\n', 0) => "bare-lf",
                (Kind::Request, b'\r' | b'\n', _) => "empty-line",
                (Kind::Request, ..) => "method",
            }));
        }
        self.started = true;
        self.start = skip;
        self.scanned = skip;
        Ok(true)
    }

    /// Finds the end of the start line, without its CRLF.
    fn line(&mut self, buf: &[u8], max: usize) -> Result<Option<usize>, HeadError> {
        let window_end = buf.len().min(self.start.saturating_add(max).saturating_add(2));
        let Some(i) = buf.get(self.scanned..window_end).and_then(find_lf) else {
            self.scanned = window_end;
            let full = window_end - self.start >= max.saturating_add(2);
            return if full { Err(HeadError::LineTooLong) } else { Ok(None) };
        };
        let lf = self.scanned + i;
        let crlf = buf[lf - 1] == b'\r';
        let end = if crlf { lf - 1 } else { lf };
        if end - self.start > max {
            return Err(HeadError::LineTooLong);
        }
        if !crlf {
            return Err(HeadError::Bad("bare-lf"));
        }
        self.line_end = Some(end);
        Ok(Some(end))
    }
}
