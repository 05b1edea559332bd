//! TBinaryProtocol: values to bytes and back. Written strictly, read leniently; unknown fields are skipped.
//!
//! A reader never believes a length: it takes what is there or fails, so that what it allocates is bounded by what was
//! received. Called by `call` and `messages`. Not for: frames, what a struct means.

/// How deep a value that is skipped may nest.
pub const MAX_DEPTH: usize = 64;

/// The wire's numbers for kinds of values.
pub mod kind {
    /// The end of a struct.
    pub const STOP: u8 = 0;
    /// One byte, 0 or 1.
    pub const BOOL: u8 = 2;
    /// One byte.
    pub const BYTE: u8 = 3;
    /// Eight bytes, IEEE 754.
    pub const DOUBLE: u8 = 4;
    /// Two bytes.
    pub const I16: u8 = 6;
    /// Four bytes.
    pub const I32: u8 = 8;
    /// Eight bytes.
    pub const I64: u8 = 10;
    /// A length of four bytes, then so many; text or not.
    pub const STRING: u8 = 11;
    /// Fields, then [`STOP`].
    pub const STRUCT: u8 = 12;
    /// Two kinds, a count, pairs.
    pub const MAP: u8 = 13;
    /// A kind, a count, values.
    pub const SET: u8 = 14;
    /// A kind, a count, values.
    pub const LIST: u8 = 15;
}

/// What is wrong with bytes from a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It ends before it is complete.
    #[error("the message ends early")]
    Truncated,
    /// Skipped values nest too deep.
    #[error("the message nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// Larger than this end takes.
    #[error("a message of {0} bytes is larger than the limit of {1}")]
    TooLarge(usize, usize),
    /// Anything else.
    #[error("{0}")]
    Malformed(String),
}

impl WireError {
    /// Malformed, with this text.
    pub fn malformed(text: impl Into<String>) -> WireError {
        WireError::Malformed(text.into())
    }
}

/// A value that is a struct on the wire.
pub trait Wire: Sized {
    /// Appends the fields and the end of the struct.
    fn write(&self, out: &mut Writer);
    /// Reads fields up to the end of the struct. What is absent is empty; a union without a member is an error.
    fn read(from: &mut Reader<'_>) -> Result<Self, WireError>;

    /// The bytes of the struct.
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        self.write(&mut out);
        out.bytes
    }

    /// The struct at the begin of `bytes`.
    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        Self::read(&mut Reader::new(bytes))
    }
}

/// Appends values.
#[derive(Default)]
pub struct Writer {
    /// What was written.
    pub bytes: Vec<u8>,
}

impl Writer {
    /// A number of four bytes.
    pub fn i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// A number of eight bytes.
    pub fn double(&mut self, value: f64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Bytes or text, with their length.
    pub fn string(&mut self, value: &[u8]) {
        self.count(value.len());
        self.bytes.extend_from_slice(value);
    }

    /// What precedes the value of a field.
    pub fn field(&mut self, kind: u8, id: i16) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(&id.to_be_bytes());
    }

    /// A field of bytes or text.
    pub fn string_field(&mut self, id: i16, value: &[u8]) {
        self.field(kind::STRING, id);
        self.string(value);
    }

    /// A field that is a struct.
    pub fn struct_field(&mut self, id: i16, value: &impl Wire) {
        self.field(kind::STRUCT, id);
        value.write(self);
    }

    /// A field that is a struct without members.
    pub fn void_field(&mut self, id: i16) {
        self.field(kind::STRUCT, id);
        self.stop();
    }

    /// What precedes the values of a list or a set.
    pub fn list(&mut self, kind: u8, count: usize) {
        self.bytes.push(kind);
        self.count(count);
    }

    /// The end of a struct.
    pub fn stop(&mut self) {
        self.bytes.push(kind::STOP);
    }

    /// A count or a length; what is too large for the wire is refused long before by the limit of a frame.
    fn count(&mut self, count: usize) {
        self.i32(i32::try_from(count).unwrap_or(i32::MAX));
    }
}

/// Takes values from the begin of bytes.
pub struct Reader<'a> {
    rest: &'a [u8],
    depth: usize,
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes, depth: 0 }
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, WireError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    /// Two bytes, without a sign.
    pub fn u16(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// Four bytes.
    pub fn i32(&mut self) -> Result<i32, WireError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// Eight bytes, IEEE 754.
    pub fn double(&mut self) -> Result<f64, WireError> {
        Ok(f64::from_be_bytes(self.array()?))
    }

    /// Bytes with their length.
    pub fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.i32()?;
        let length = usize::try_from(length).map_err(|_| WireError::malformed("a length is negative"))?;
        self.take(length)
    }

    /// Text with its length. Errors when it is not UTF-8.
    pub fn text(&mut self) -> Result<String, WireError> {
        let text = std::str::from_utf8(self.bytes()?).map_err(|_| WireError::malformed("a text is not UTF-8"))?;
        Ok(text.to_owned())
    }

    /// Calls `read` with kind and number of every field of a struct; it must take the value, or [`Reader::skip`] it.
    pub fn fields(
        &mut self,
        mut read: impl FnMut(&mut Reader<'a>, u8, i16) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        loop {
            let kind = self.byte()?;
            if kind == kind::STOP {
                return Ok(());
            }
            let id = i16::from_be_bytes(self.array()?);
            read(self, kind, id)?;
        }
    }

    /// Kind and number of the values of a list or a set. No value takes less than a byte, so there are no more of them
    /// than bytes.
    pub fn list(&mut self) -> Result<(u8, usize), WireError> {
        let kind = self.byte()?;
        Ok((kind, self.count(1)?))
    }

    /// Kinds and number of the pairs of a map.
    pub fn map(&mut self) -> Result<(u8, u8, usize), WireError> {
        let (key, value) = (self.byte()?, self.byte()?);
        Ok((key, value, self.count(2)?))
    }

    fn count(&mut self, bytes_each: usize) -> Result<usize, WireError> {
        let count = self.i32()?;
        let count = usize::try_from(count).map_err(|_| WireError::malformed("a count is negative"))?;
        if count > self.rest.len() / bytes_each { Err(WireError::Truncated) } else { Ok(count) }
    }

    /// The values of a list or a set whose kind must be `kind`.
    pub fn values<T>(
        &mut self,
        kind: u8,
        mut read: impl FnMut(&mut Reader<'a>) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let (found, count) = self.list()?;
        if found != kind && count > 0 {
            return Err(WireError::malformed(format!("a list holds kind {found} in place of {kind}")));
        }
        (0..count).map(|_| read(self)).collect()
    }

    /// Passes over a value of this kind.
    pub fn skip(&mut self, kind: u8) -> Result<(), WireError> {
        if self.depth >= MAX_DEPTH {
            return Err(WireError::TooDeep);
        }
        self.depth += 1;
        let skipped = self.skip_value(kind);
        self.depth -= 1;
        skipped
    }

    fn skip_value(&mut self, kind: u8) -> Result<(), WireError> {
        match kind {
            kind::BOOL | kind::BYTE => self.take(1).map(drop),
            kind::I16 => self.take(2).map(drop),
            kind::I32 => self.take(4).map(drop),
            kind::I64 | kind::DOUBLE => self.take(8).map(drop),
            kind::STRING => self.bytes().map(drop),
            kind::STRUCT => self.fields(|from, kind, _| from.skip(kind)),
            kind::LIST | kind::SET => {
                let (kind, count) = self.list()?;
                (0..count).try_for_each(|_| self.skip(kind))
            }
            kind::MAP => {
                let (key, value, count) = self.map()?;
                (0..count).try_for_each(|_| {
                    self.skip(key)?;
                    self.skip(value)
                })
            }
            other => Err(WireError::malformed(format!("there is no kind of value {other}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lists in lists, without an end.
    fn nested(depth: usize) -> Vec<u8> {
        [kind::LIST, 0, 0, 0, 1].repeat(depth)
    }

    #[test]
    fn what_is_skipped_may_not_nest_without_end() {
        assert_eq!(Reader::new(&nested(10)).skip(kind::LIST), Err(WireError::Truncated));
        assert_eq!(Reader::new(&nested(100_000)).skip(kind::LIST), Err(WireError::TooDeep));
    }

    #[test]
    fn a_length_is_not_believed() {
        for (bytes, error) in [
            (vec![0x7f, 0xff, 0xff, 0xff, 1], WireError::Truncated),
            (vec![0xff, 0xff, 0xff, 0xff, 1], WireError::malformed("a length is negative")),
        ] {
            assert_eq!(Reader::new(&bytes).bytes(), Err(error));
        }
        let list = [kind::STRUCT, 0x7f, 0xff, 0xff, 0xff, 0, 0];
        assert_eq!(Reader::new(&list).list(), Err(WireError::Truncated));
        let text = [0, 0, 0, 1, 0xff];
        assert!(Reader::new(&text).text().is_err());
    }

    #[test]
    fn an_empty_list_may_be_of_any_kind() {
        let read = |from: &mut Reader<'_>| from.i32();
        assert_eq!(Reader::new(&[0, 0, 0, 0, 0]).values(kind::I32, read), Ok(Vec::new()));
        assert!(Reader::new(&[kind::BYTE, 0, 0, 0, 1, 9]).values(kind::I32, read).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0_u8..20) {
            let _ = Reader::new(&bytes).skip(kind);
        }
    }
}
