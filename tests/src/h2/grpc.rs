//! gRPC without a library: messages in their five bytes of framing, calls and statuses.

use super::{Answer, Ask, Script, Step, fields};
use bytes::{BufMut, Bytes, BytesMut};

/// The usual content type.
pub const CONTENT_TYPE: &str = "application/grpc";

/// A message in its framing: not compressed, four bytes of length, the message.
pub fn framed(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(5 + message.len());
    out.put_u8(0);
    out.put_u32(u32::try_from(message.len()).expect("a message of a test"));
    out.put_slice(message);
    out.freeze()
}

/// All messages of a body; panics when they are not whole.
pub fn messages(mut body: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some((head, rest)) = body.split_at_checked(5) {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let (message, rest) = rest.split_at_checked(length).unwrap_or_else(|| panic!("a message of {length} is cut"));
        messages.push(message.to_vec());
        body = rest;
    }
    assert!(body.is_empty(), "{} bytes are no message", body.len());
    messages
}

/// A call of `/<service>/<method>` with these messages.
pub fn call(service: &str, method: &str, sent: &[&[u8]]) -> Ask {
    let body: Vec<u8> = sent.iter().flat_map(|message| framed(message)).collect();
    let ask = Ask::post(service, &format!("/{service}/{method}"), body);
    ask.header("content-type", CONTENT_TYPE).header("te", "trailers")
}

/// The header fields of an answer.
pub fn head() -> Step {
    Step::Head(200, fields(&[("content-type", CONTENT_TYPE)]))
}

/// The trailers with this status.
pub fn trailers(status: u32, message: &str) -> Step {
    Step::Trailers(fields(&[("grpc-status", &status.to_string()), ("grpc-message", message)]))
}

/// An answer that has nothing but this status.
pub fn only(status: u32, message: &str) -> Script {
    let status = status.to_string();
    let pairs = [("content-type", CONTENT_TYPE), ("grpc-status", &status), ("grpc-message", message)];
    vec![Step::Only(200, fields(&pairs))]
}

/// Reads the request, answers with these messages and status 0.
pub fn reply(answers: &[&[u8]]) -> Script {
    let mut script = vec![Step::Read, head()];
    script.extend(answers.iter().map(|message| Step::Data(framed(message))));
    script.push(trailers(0, ""));
    script
}

/// Sends every message back as it comes, then status 0. The framing comes back as it came.
pub fn echo() -> Script {
    vec![head(), Step::Echo, trailers(0, "")]
}

/// The status of an answer, from its trailers or its headers.
pub fn status(answer: &Answer) -> Option<u32> {
    answer.field("grpc-status").parse().ok()
}
