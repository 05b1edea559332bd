//! Context headers: what a request carries from hop to hop (naming reference §8, data-plane reference §5).
//!
//! Reads and removes `l5d-dtab`, `l5d-ctx-dtab`, `l5d-ctx-deadline`, `l5d-ctx-trace`, `l5d-sample`; writes the context
//! of the outgoing request. Not for: tracing; only ids are kept going here.

use crate::clock;
use crate::headers::Seen;
use bytes::BytesMut;
use dtab::Dtab;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt::Write as _;

pub(crate) const CTX_DTAB: HeaderName = HeaderName::from_static("l5d-ctx-dtab");
pub(crate) const DTAB: HeaderName = HeaderName::from_static("l5d-dtab");
const CTX_DEADLINE: HeaderName = HeaderName::from_static("l5d-ctx-deadline");
const CTX_TRACE: HeaderName = HeaderName::from_static("l5d-ctx-trace");
const SAMPLE: HeaderName = HeaderName::from_static("l5d-sample");

/// The context of one request.
#[derive(Debug, Default)]
pub struct Context {
    /// The override values as received, context values first; empty without an override. Identifies the override.
    pub raw_override: Vec<HeaderValue>,
    /// The earliest deadline of the callers.
    pub deadline: Option<Deadline>,
    /// The trace this request belongs to.
    pub trace: Option<TraceId>,
}

/// `l5d-ctx-deadline`: two times in nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// When the deadline was set.
    pub timestamp: u64,
    /// When it is over.
    pub deadline: u64,
}

/// The ids in `l5d-ctx-trace` (data-plane reference §5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId {
    span: u64,
    parent: u64,
    trace: u64,
    flags: u64,
    trace_high: Option<u64>,
}

impl Context {
    /// Takes the context out of `headers`. With `clear`, every `l5d-*` header goes and there is no context
    /// (`clearContext`, data-plane reference §5.7).
    pub fn take(headers: &mut HeaderMap, seen: &Seen, clear: bool) -> Context {
        if clear {
            remove_l5d(headers);
            return Context::default();
        }
        let mut context = Context::default();
        if seen.overrides {
            for name in [CTX_DTAB, DTAB] {
                context.raw_override.extend(headers.get_all(&name).iter().cloned());
                headers.remove(&name);
            }
        }
        if seen.context {
            context.deadline = take_deadline(headers);
            context.trace = headers.remove(&CTX_TRACE).and_then(|value| TraceId::decode(value.as_bytes()));
            headers.remove(&SAMPLE);
        }
        context
    }

    /// The override table: all values, each parsed on its own. Errors with the parser's text (naming reference §8).
    pub fn override_dtab(&self) -> Result<Dtab, String> {
        let mut all = Dtab::empty();
        for value in &self.raw_override {
            let text = String::from_utf8_lossy(value.as_bytes());
            all = all.concat(&Dtab::parse(&text).map_err(|error| error.to_string())?);
        }
        Ok(all)
    }
}

/// Removes every header whose name begins with `l5d-`.
pub fn remove_l5d(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with("l5d-")).cloned().collect();
    for name in names {
        headers.remove(&name);
    }
}

/// All deadlines as (latest timestamp, earliest deadline). Values that do not parse are left where they are when none
/// parses.
fn take_deadline(headers: &mut HeaderMap) -> Option<Deadline> {
    let combined = headers.get_all(&CTX_DEADLINE).iter().filter_map(|value| Deadline::decode(value.as_bytes()));
    let combined = combined.reduce(Deadline::and)?;
    headers.remove(&CTX_DEADLINE);
    Some(combined)
}

impl Deadline {
    fn decode(value: &[u8]) -> Option<Deadline> {
        let (timestamp, deadline) = std::str::from_utf8(value).ok()?.split_once(' ')?;
        Some(Deadline { timestamp: timestamp.parse().ok()?, deadline: deadline.parse().ok()? })
    }

    fn and(self, other: Deadline) -> Deadline {
        Deadline { timestamp: self.timestamp.max(other.timestamp), deadline: self.deadline.min(other.deadline) }
    }

    /// A deadline `timeout_ns` from now.
    pub fn after(timeout_ns: u64) -> Deadline {
        let now = clock::nanos(clock::wall());
        Deadline { timestamp: now, deadline: now.saturating_add(timeout_ns) }
    }

    /// The stricter of an incoming and an own deadline.
    pub fn strictest(incoming: Option<Deadline>, own: Option<Deadline>) -> Option<Deadline> {
        match (incoming, own) {
            (Some(a), Some(b)) => Some(a.and(b)),
            (a, b) => a.or(b),
        }
    }

    /// Writes the header line.
    pub fn write(&self, out: &mut BytesMut) {
        let mut line = String::with_capacity(64);
        // Writing to a String does not fail.
        let _ = write!(line, "l5d-ctx-deadline: {} {}\r\n", self.timestamp, self.deadline);
        out.extend_from_slice(line.as_bytes());
    }
}

impl TraceId {
    /// A new trace that starts here.
    pub fn root() -> TraceId {
        let id = fastrand::u64(..);
        TraceId { span: id, parent: id, trace: id, flags: 0, trace_high: None }
    }

    /// The id of a call made within this one.
    pub fn child(self) -> TraceId {
        TraceId { span: fastrand::u64(..), parent: self.span, ..self }
    }

    /// The id of the request, the value of `l5d-reqid`.
    pub fn request_id(&self) -> u64 {
        self.trace
    }

    /// Reads 32 or 40 bytes in Base64.
    fn decode(text: &[u8]) -> Option<TraceId> {
        let mut bytes = [0; 40];
        let length = base64_decode(text, &mut bytes)?;
        let word = |i: usize| bytes[i * 8..i * 8 + 8].iter().fold(0_u64, |word, &byte| word << 8 | u64::from(byte));
        let trace_high = match length {
            32 => None,
            40 => Some(word(4)),
            _ => return None,
        };
        Some(TraceId { span: word(0), parent: word(1), trace: word(2), flags: word(3), trace_high })
    }

    /// Writes the lines of `l5d-ctx-trace` and `l5d-reqid` (data-plane reference §5.2).
    pub fn write(&self, out: &mut BytesMut) {
        let mut bytes = [0; 40];
        let words = [self.span, self.parent, self.trace, self.flags, self.trace_high.unwrap_or_default()];
        for (slot, word) in bytes.chunks_exact_mut(8).zip(words) {
            slot.copy_from_slice(&word.to_be_bytes());
        }
        let length = if self.trace_high.is_some() { 40 } else { 32 };
        out.reserve(128);
        out.extend_from_slice(b"l5d-ctx-trace: ");
        base64_encode(&bytes[..length], out);
        out.extend_from_slice(b"\r\nl5d-reqid: ");
        let mut hex = *b"0000000000000000\r\n";
        for (digits, byte) in hex.chunks_exact_mut(2).zip(self.trace.to_be_bytes()) {
            digits.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        out.extend_from_slice(&hex);
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// At most 40 bytes.
fn base64_encode(bytes: &[u8], out: &mut BytesMut) {
    let digit = |word: u32, shift: u32| ALPHABET[(word >> shift & 63) as usize];
    let mut text = [0; 56];
    let mut groups = bytes.chunks_exact(3);
    let mut length = 0;
    for (group, digits) in (&mut groups).zip(text.chunks_exact_mut(4)) {
        let word = u32::from(group[0]) << 16 | u32::from(group[1]) << 8 | u32::from(group[2]);
        digits.copy_from_slice(&[digit(word, 18), digit(word, 12), digit(word, 6), digit(word, 0)]);
        length += 4;
    }
    out.extend_from_slice(&text[..length]);
    match *groups.remainder() {
        [a] => {
            let word = u32::from(a) << 16;
            out.extend_from_slice(&[digit(word, 18), digit(word, 12), b'=', b'=']);
        }
        [a, b] => {
            let word = u32::from(a) << 16 | u32::from(b) << 8;
            out.extend_from_slice(&[digit(word, 18), digit(word, 12), digit(word, 6), b'=']);
        }
        _ => {}
    }
}

/// Decodes into `out`; the number of bytes, or None when the text is not padded Base64 of at most 40 bytes.
fn base64_decode(text: &[u8], out: &mut [u8; 40]) -> Option<usize> {
    if !text.len().is_multiple_of(4) || text.len() > 56 {
        return None;
    }
    let digits = text.len() - text.iter().rev().take(2).take_while(|&&byte| byte == b'=').count();
    let (mut word, mut bits, mut length) = (0_u32, 0, 0);
    for &byte in &text[..digits] {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        word = word << 6 | u32::from(digit);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            *out.get_mut(length)? = (word >> bits) as u8;
            length += 1;
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of data-plane reference §5.3.
    #[test]
    fn trace_ids_round_trip() {
        let id = TraceId { span: 0xaa, parent: 0xbb, trace: 0xbb, flags: 6, trace_high: None };
        let mut out = BytesMut::new();
        id.write(&mut out);
        let text = String::from_utf8(out.to_vec()).expect("text");
        let value = text.lines().next().and_then(|line| line.split_once(": ")).expect("a line").1;
        assert_eq!((value.len(), value.ends_with('=')), (44, true));
        assert_eq!(TraceId::decode(value.as_bytes()), Some(id));
        assert!(text.contains("l5d-reqid: 00000000000000bb"));
        let wide = TraceId { trace_high: Some(7), ..id };
        let mut out = BytesMut::new();
        wide.write(&mut out);
        assert_eq!(TraceId::decode(&out[15..15 + 56]), Some(wide));
    }

    #[test]
    fn bad_trace_ids_are_ignored() {
        for bad in
            ["", "====", "AAAA", "not base64!", "A".repeat(60).as_str(), "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA!"]
        {
            assert_eq!(TraceId::decode(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn deadlines_combine() {
        let mut headers = HeaderMap::new();
        headers.append(CTX_DEADLINE, HeaderValue::from_static("5 90"));
        headers.append(CTX_DEADLINE, HeaderValue::from_static("7 100"));
        headers.append(CTX_DEADLINE, HeaderValue::from_static("junk"));
        assert_eq!(take_deadline(&mut headers), Some(Deadline { timestamp: 7, deadline: 90 }));
        assert!(headers.is_empty());
        headers.append(CTX_DEADLINE, HeaderValue::from_static("junk"));
        assert_eq!(take_deadline(&mut headers), None);
        assert_eq!(headers.len(), 1, "what does not parse is forwarded");
    }
}
