//! Calls and replies: the envelope of a thrift message and what the four methods put into it.
//!
//! A reply is a success (field 0), the exception that the method declares (field 1), or a `TApplicationException`. Called
//! by both ends. Not for: how messages travel.

use super::binary::{Reader, Wire, WireError, Writer, kind};

/// First bytes of a message that is written strictly; the last byte is what it is.
const VERSION: u32 = 0x8001_0000;
const VERSION_MASK: u32 = 0xffff_0000;
const CALL: u8 = 1;
const REPLY: u8 = 2;
const EXCEPTION: u8 = 3;
const ONEWAY: u8 = 4;

/// By this call a client asks whether the server understands the headers of TTwitter.
pub const UPGRADE: &str = "__can__finagle__trace__v3__";

/// Kind of a `TApplicationException`: there is no such method.
pub const UNKNOWN_METHOD: i32 = 1;
/// Kind of a `TApplicationException`: the server failed.
pub const INTERNAL_ERROR: i32 = 6;
/// Kind of a `TApplicationException`: the arguments cannot be read.
pub const PROTOCOL_ERROR: i32 = 7;

/// What names a method and its reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The method.
    pub method: String,
    /// The caller's number of the call.
    pub sequence: i32,
}

/// A call as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call<'a> {
    /// Which.
    pub head: Head,
    /// The caller wants no reply.
    pub oneway: bool,
    /// The struct of arguments.
    pub arguments: &'a [u8],
}

/// Why a reply is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// The server says so, outside of what the method declares.
    #[error("{0}")]
    Application(String),
    /// The reply cannot be read.
    #[error("the reply cannot be read: {0}")]
    Wire(#[from] WireError),
}

fn write_head(out: &mut Writer, head: &Head, what: u8) {
    out.i32((VERSION | u32::from(what)).cast_signed());
    out.string(head.method.as_bytes());
    out.i32(head.sequence);
}

/// The head of a message, strict or as it was before there was a version; what it is.
fn read_head(from: &mut Reader<'_>) -> Result<(Head, u8), WireError> {
    let first = from.i32()?;
    if first >= 0 {
        let length = usize::try_from(first).unwrap_or_default();
        let method = String::from_utf8_lossy(from.take(length)?).into_owned();
        let what = from.byte()?;
        return Ok((Head { method, sequence: from.i32()? }, what));
    }
    let first = first.cast_unsigned();
    if first & VERSION_MASK != VERSION {
        return Err(WireError::malformed(format!("a message begins with {first:#010x}, which is no version")));
    }
    let method = from.text()?;
    Ok((Head { method, sequence: from.i32()? }, (first & 0xff) as u8))
}

/// True for the begin of a frame that can be no message of mux, but one of plain thrift.
pub fn is_call(frame: &[u8]) -> bool {
    matches!(frame, [0x80, 0x01, 0x00, CALL | ONEWAY, ..] | [0x00, ..])
}

/// A call of `method`, whose only argument is `request`.
pub fn write_call(method: &str, request: &impl Wire) -> Vec<u8> {
    let mut out = Writer::default();
    write_head(&mut out, &Head { method: method.to_owned(), sequence: 0 }, CALL);
    out.struct_field(1, request);
    out.stop();
    out.bytes
}

/// The call of a message.
pub fn read_call(message: &[u8]) -> Result<Call<'_>, WireError> {
    let mut from = Reader::new(message);
    match read_head(&mut from)? {
        (head, what @ (CALL | ONEWAY)) => Ok(Call { head, oneway: what == ONEWAY, arguments: from.rest() }),
        (head, what) => Err(WireError::malformed(format!("`{}` is no call, but message {what}", head.method))),
    }
}

/// The only argument of a method.
pub fn read_argument<T: Wire>(arguments: &[u8]) -> Result<T, WireError> {
    let mut request = None;
    Reader::new(arguments).fields(|from, kind, id| match (id, kind) {
        (1, kind::STRUCT) => {
            request = Some(T::read(from)?);
            Ok(())
        }
        _ => from.skip(kind),
    })?;
    request.ok_or_else(|| WireError::malformed("the argument is missing"))
}

/// The reply whose success is the struct `encoded`.
pub fn success(head: &Head, encoded: &[u8]) -> Vec<u8> {
    result(head, 0, encoded)
}

/// The reply that is the exception which the method declares.
pub fn declared(head: &Head, failure: &impl Wire) -> Vec<u8> {
    result(head, 1, &failure.encode())
}

fn result(head: &Head, field: i16, encoded: &[u8]) -> Vec<u8> {
    let mut out = Writer { bytes: Vec::with_capacity(32 + head.method.len() + encoded.len()) };
    write_head(&mut out, head, REPLY);
    out.field(kind::STRUCT, field);
    out.bytes.extend_from_slice(encoded);
    out.stop();
    out.bytes
}

/// The reply to [`UPGRADE`].
pub fn upgraded(head: &Head) -> Vec<u8> {
    let mut out = Writer::default();
    write_head(&mut out, head, REPLY);
    out.stop();
    out.bytes
}

/// The reply that is a `TApplicationException` of this kind.
pub fn exception(head: &Head, what: i32, text: &str) -> Vec<u8> {
    let mut out = Writer::default();
    write_head(&mut out, head, EXCEPTION);
    out.string_field(1, text.as_bytes());
    out.field(kind::I32, 2);
    out.i32(what);
    out.stop();
    out.bytes
}

/// What a reply says: the success, or the exception that the method declares.
pub fn read_reply<T: Wire, E: Wire>(message: &[u8]) -> Result<Result<T, E>, ReplyError> {
    let mut from = Reader::new(message);
    let (head, what) = read_head(&mut from)?;
    match what {
        REPLY => {}
        EXCEPTION => return Err(ReplyError::Application(read_exception(&mut from)?)),
        _ => return Err(WireError::malformed(format!("`{}` is no reply, but message {what}", head.method)).into()),
    }
    let mut found = None;
    from.fields(|from, kind, id| {
        match (id, kind) {
            (0, kind::STRUCT) => found = Some(Ok(T::read(from)?)),
            (1, kind::STRUCT) => found = Some(Err(E::read(from)?)),
            _ => from.skip(kind)?,
        }
        Ok(())
    })?;
    found.ok_or_else(|| WireError::malformed(format!("the reply to `{}` holds nothing", head.method)).into())
}

fn read_exception(from: &mut Reader<'_>) -> Result<String, WireError> {
    let mut text = String::new();
    from.fields(|from, kind, id| match (id, kind) {
        (1, kind::STRING) => {
            text = String::from_utf8_lossy(from.bytes()?).into_owned();
            Ok(())
        }
        _ => from.skip(kind),
    })?;
    Ok(text)
}

/// The message behind the header that TTwitter puts before each call.
pub fn behind_header(frame: &[u8]) -> Result<&[u8], WireError> {
    let mut from = Reader::new(frame);
    from.skip(kind::STRUCT)?;
    Ok(from.rest())
}

/// The header that TTwitter puts before each reply.
pub const REPLY_HEADER: &[u8] = &[kind::STOP];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A struct with one text.
    #[derive(Debug, PartialEq)]
    struct Word(String);

    impl Wire for Word {
        fn write(&self, out: &mut Writer) {
            out.string_field(1, self.0.as_bytes());
            out.stop();
        }

        fn read(from: &mut Reader<'_>) -> Result<Word, WireError> {
            let mut word = String::new();
            from.fields(|from, kind, id| match (id, kind) {
                (1, kind::STRING) => {
                    word = from.text()?;
                    Ok(())
                }
                _ => from.skip(kind),
            })?;
            Ok(Word(word))
        }
    }

    fn head() -> Head {
        Head { method: "bind".into(), sequence: 7 }
    }

    #[test]
    fn a_call_is_written_strictly_to_the_byte() {
        let call = write_call("dtab", &Word("ab".into()));
        let bytes = b"\x80\x01\x00\x01\0\0\0\x04dtab\0\0\0\0\x0c\0\x01\x0b\0\x01\0\0\0\x02ab\0\0";
        assert_eq!(call, bytes);
        assert!(is_call(&call));
        let read = read_call(&call).expect("a call");
        assert_eq!((read.head.method.as_str(), read.oneway), ("dtab", false));
        assert_eq!(read_argument::<Word>(read.arguments), Ok(Word("ab".into())));
    }

    #[test]
    fn a_call_from_before_there_was_a_version_is_read() {
        let old = b"\0\0\0\x04bind\x01\0\0\0\x07\x0c\0\x01\0\0";
        assert!(is_call(old));
        let read = read_call(old).expect("a call");
        assert_eq!(read.head, head());
        assert_eq!(read_argument::<Word>(read.arguments), Ok(Word(String::new())));
    }

    #[test]
    fn unknown_fields_and_kinds_are_passed_over() {
        let arguments = b"\x0a\0\x09\0\0\0\0\0\0\0\0\x0c\0\x01\x08\0\x01\0\0\0\x05\x0b\0\x01\0\0\0\x01x\0\0";
        assert_eq!(read_argument::<Word>(arguments), Ok(Word("x".into())));
    }

    #[test]
    fn replies_are_told_apart() {
        let ok = success(&head(), &Word("yes".into()).encode());
        assert_eq!(read_reply::<Word, Word>(&ok), Ok(Ok(Word("yes".into()))));
        assert_eq!(&ok[..16], b"\x80\x01\x00\x02\0\0\0\x04bind\0\0\0\x07");
        let failed = declared(&head(), &Word("no".into()));
        assert_eq!(read_reply::<Word, Word>(&failed), Ok(Err(Word("no".into()))));
        let thrown = exception(&head(), UNKNOWN_METHOD, "what?");
        assert_eq!(read_reply::<Word, Word>(&thrown), Err(ReplyError::Application("what?".into())));
        let empty = upgraded(&head());
        assert!(read_reply::<Word, Word>(&empty).is_err());
        assert!(read_call(&ok).is_err());
    }

    #[test]
    fn a_header_of_ttwitter_is_passed_over() {
        let frame = b"\x0a\0\x01\0\0\0\0\0\0\0\x05\x02\0\x05\x01\x0f\0\x08\x0c\0\0\0\0\0call";
        assert_eq!(behind_header(frame), Ok(&b"call"[..]));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = is_call(&bytes);
            let _ = read_call(&bytes).map(|call| read_argument::<Word>(call.arguments));
            let _ = read_reply::<Word, Word>(&bytes);
            let _ = behind_header(&bytes);
        }
    }
}
