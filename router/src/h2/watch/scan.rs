//! [`Scanner`]: finds the frame headers in the bytes of one direction of an HTTP/2 connection (RFC 9113 §4.1).
//!
//! Pure. Payloads are skipped, not looked at and not copied. Not for: judging frames (`watch`) or their legality, which
//! is the codec's.

/// Bytes of a frame header.
const HEADER: usize = 9;

/// DATA.
pub(super) const DATA: u8 = 0;
/// HEADERS.
pub(super) const HEADERS: u8 = 1;
/// RST_STREAM.
pub(super) const RST_STREAM: u8 = 3;
/// PUSH_PROMISE.
pub(super) const PUSH_PROMISE: u8 = 5;
/// GOAWAY.
pub(super) const GOAWAY: u8 = 7;
/// WINDOW_UPDATE.
pub(super) const WINDOW_UPDATE: u8 = 8;
/// CONTINUATION.
pub(super) const CONTINUATION: u8 = 9;

/// END_STREAM, of DATA and HEADERS.
const END_STREAM: u8 = 1;
/// END_HEADERS, of HEADERS, PUSH_PROMISE and CONTINUATION.
const END_HEADERS: u8 = 4;

/// What a frame header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// Bytes of the payload, at most 2^24 - 1.
    pub(super) length: u32,
    /// The type.
    pub(super) kind: u8,
    flags: u8,
    /// The stream; 0 is the connection.
    pub(super) stream: u32,
}

impl Frame {
    /// True for the last frame of a stream in its direction.
    pub(super) fn ends_stream(self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// True for the last frame of a header block; has a meaning for frames of header blocks only.
    pub(super) fn ends_headers(self) -> bool {
        self.flags & END_HEADERS != 0
    }
}

/// Where one direction stands: within a payload, or within a header.
#[derive(Debug)]
pub(super) struct Scanner {
    /// Bytes to go until the next frame header.
    skip: usize,
    /// The beginning of a header that was cut.
    head: [u8; HEADER],
    have: usize,
}

impl Scanner {
    /// At the beginning of a connection; `skip` is the length of what comes before the first frame.
    pub(super) fn new(skip: usize) -> Scanner {
        Scanner { skip, head: [0; HEADER], have: 0 }
    }

    /// Takes bytes from the front of `bytes` up to the end of the next frame header. None when it has taken them all
    /// without reaching one.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        let passed = self.skip.min(bytes.len());
        self.skip -= passed;
        *bytes = &bytes[passed..];
        if self.have == 0
            && let Some((head, rest)) = bytes.split_first_chunk::<HEADER>()
        {
            *bytes = rest;
            return Some(self.begin(*head));
        }
        let taken = bytes.len().min(HEADER - self.have);
        self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
        self.have += taken;
        *bytes = &bytes[taken..];
        if self.have < HEADER {
            return None;
        }
        self.have = 0;
        Some(self.begin(self.head))
    }

    fn begin(&mut self, [high, middle, low, kind, flags, stream @ ..]: [u8; HEADER]) -> Frame {
        let length = u32::from_be_bytes([0, high, middle, low]);
        self.skip = usize::try_from(length).unwrap_or(usize::MAX);
        // The highest bit means nothing.
        Frame { length, kind, flags, stream: u32::from_be_bytes(stream) & (u32::MAX >> 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_in_any_pieces() {
        let bytes = b"PRE\0\0\x02\0\x01\x80\0\0\x01ab\0\0\0\x04\0\0\0\0\0\0\x01\0\x06\x01\0\0\0\x03";
        let wanted = [
            Frame { length: 2, kind: DATA, flags: 1, stream: 1 },
            Frame { length: 0, kind: 4, flags: 0, stream: 0 },
            Frame { length: 256, kind: 6, flags: 1, stream: 3 },
        ];
        for size in 1..=bytes.len() {
            let mut scanner = Scanner::new(3);
            let mut found = Vec::new();
            for mut piece in bytes.chunks(size) {
                while let Some(frame) = scanner.next(&mut piece) {
                    found.push(frame);
                }
                assert!(piece.is_empty());
            }
            assert_eq!((found.as_slice(), scanner.skip), (&wanted[..], 256), "pieces of {size}");
        }
        assert!(wanted[0].ends_stream() && !wanted[1].ends_stream() && !wanted[2].ends_stream());
    }
}
