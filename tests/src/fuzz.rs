//! Fuzz targets as plain functions: bytes in, a panic when something that must hold does not (attack S3).
//!
//! proptest drives them in `tests/fuzz.rs`, with every test run; cargo-fuzz drives them from the folder `fuzz`, by hand.
//! Each is total: any bytes are legal input. Not for: behaviour over sockets.

use bytes::BytesMut;
use dtab::{Dtab, DtabStack, Lookups, Name, NameTree, Path, Pattern, State};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use http1::{BodyDecoder, BodyEncoder, BodyLength, Decoded, Limits, RequestHead};
use router::context::Context;
use router::headers::{self, Seen};
use router::overrides::{CallerIdentity, Gate, baggage};
use std::sync::OnceLock;

/// Limits under which nothing that a target builds takes long.
const LIMITS: Limits = Limits { max_line_bytes: 4096, max_head_bytes: 8192, max_headers: 200 };

fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

/// Paths and patterns: what parses prints as what parses to the same; patterns never match without an answer.
pub fn path(data: &[u8]) {
    let text = text(data);
    let (left, right) = text.split_once('\n').unwrap_or((&text, "/svc/web"));
    if let Ok(path) = Path::parse(left) {
        assert_eq!(Path::parse(&path.to_string()).as_ref(), Ok(&path), "print and parse");
        assert_eq!(Path::from_labels(path.labels()).ok(), Some(path.clone()), "labels");
        for at in 0..=path.len() {
            assert_eq!(path.take(at).concat(&path.skip(at)), path, "take and skip");
        }
        assert!(path.starts_with(&path.take(path.len() / 2)));
    }
    if let (Ok(pattern), Ok(path)) = (Pattern::parse(left), Path::parse(right)) {
        // A pattern longer than the path may be an error, never a panic.
        if let Ok(Some(captures)) = pattern.match_path(&path) {
            captures.substitute(right);
        }
    }
}

/// Namers that know one name, rewrite another, and are still asking for a third.
struct Few;

impl Lookups for Few {
    fn lookup(&mut self, path: &Path) -> State<NameTree<Name>> {
        let bound = |id: Path, residual: Path| Name::Bound(dtab::BoundName { id, residual });
        match (path.text(0), path.text(1)) {
            (Some("#"), Some("known")) => State::Ok(NameTree::Leaf(bound(path.take(2), path.skip(2)))),
            (Some("#"), Some("again")) => State::Ok(NameTree::Leaf(Name::Path(path.skip(2)))),
            (Some("#"), Some("later")) => State::Pending,
            (Some("#"), Some("broken")) => State::Failed("broken".into()),
            _ => State::Ok(NameTree::Neg),
        }
    }
}

/// Tables: parse and print agree, and binding and explaining any name ends within the budget.
pub fn dtab(data: &[u8]) {
    let text = text(data);
    let table = match Dtab::parse(&text) {
        Ok(table) => table,
        Err(error) => {
            assert!(error.offset() <= text.len(), "the place of the error is in the text");
            return assert!(!error.to_string().is_empty());
        }
    };
    let shown = table.to_string();
    let again = Dtab::parse(&shown).unwrap_or_else(|error| panic!("{shown:?} does not parse: {error}"));
    assert_eq!(again.to_string(), shown, "the print is a fixed point");
    assert_eq!(again.dentries().len(), table.dentries().len());
    let stack = DtabStack::new([table]);
    for name in ["/svc/web", "/a/b/c", "/", "/$/inet/x/1", "/#/again/a"] {
        let Ok(name) = Path::parse(name) else { continue };
        if let State::Ok(tree) = dtab::bind(&stack, &name, &mut Few) {
            assert!(!matches!(tree, NameTree::Alt(_)), "a bound tree has no alternatives");
        }
        dtab::explain(&stack, &name, &mut Few);
    }
}

/// Configs: any text is a config or a list of problems with places.
pub fn config(data: &[u8]) {
    let text = text(data);
    if let Err(problems) = router::config::load("fuzz", &text) {
        // As YAML ends lines; CR LF counts twice here, which only makes the bound wider.
        let breaks = text.chars().filter(|c| matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')).count();
        let lines = u32::try_from(breaks + 1).unwrap_or(u32::MAX);
        for problem in &problems.list {
            assert!(problem.line >= 1 && problem.line <= lines + 1, "line {} of {lines}", problem.line);
            assert!(!problem.message.is_empty());
        }
        assert!(!problems.to_string().is_empty());
    }
}

/// Context headers, overrides and baggage: whatever a client sends of it leaves the message, listeners take from it no more
/// than their mode allows, and foreign members of baggage stay.
pub fn context(data: &[u8]) {
    let mut fields = HeaderMap::new();
    for line in data.split(|&byte| byte == b'\n').take(50) {
        let at = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
        let value = line.get(at + 1..).unwrap_or_default();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..at]), HeaderValue::from_bytes(value)) {
            fields.append(name, value);
        }
    }
    for clear in [false, true] {
        let mut headers = fields.clone();
        let seen = Seen::of(&headers);
        let context = Context::take(&mut headers, &seen, clear);
        for gone in ["l5d-dtab", "l5d-ctx-dtab", "l5d-ctx-trace", "l5d-sample"] {
            assert!(!headers.contains_key(gone), "{gone} stays");
        }
        // An override that does not parse is an error with a text.
        if let Ok(table) = context.override_dtab() {
            assert!(Dtab::parse(&table.to_string()).is_ok());
        }
        headers::strip(&mut headers, &seen);
        for gone in ["connection", "keep-alive", "te", "upgrade", "l5d-dst-service", "l5d-reqid"] {
            assert!(!headers.contains_key(gone), "{gone} stays");
        }
        if headers::check_host(&headers, Version::HTTP_11).is_ok() {
            assert_eq!(headers.get_all("host").iter().count(), 1, "one Host and no other");
        }
        headers::write_via(&mut headers, &seen, Version::HTTP_11, &mut BytesMut::new());
    }
    let caller = CallerIdentity::plain(([127, 0, 0, 1], 4140).into());
    for (mode, gate) in gates() {
        let mut headers = fields.clone();
        let seen = Seen::of(&headers);
        let Ok(admitted) = gate.admit(&mut headers, &seen, &caller) else { continue };
        assert!(*mode != "off" || !admitted.is_override(), "an override where none is read");
        assert!(*mode != "named" || admitted.context.raw_override.is_empty(), "a table where only names count");
        for gone in ["l5d-dtab", "l5d-ctx-dtab", "l5d-override", "l5d-ctx-override"] {
            assert!(!headers.contains_key(gone), "{gone} stays under {mode}");
        }
        for other in ["a", "b", "DTAB"] {
            assert_eq!(baggage::find(&headers, other).values, baggage::find(&fields, other).values, "{other}: {mode}");
        }
    }
}

/// Listeners of all modes; the first two of them trust no tables.
fn gates() -> &'static [(&'static str, Gate)] {
    const CONFIG: &str = "
routers:
- protocol: http
  overrideSets: [{ name: pr-1, dtab: /svc => /x }, { name: old, dtab: /a => /b, expires: 2001-01-01T00:00:00Z }]
  servers:
  - { port: 1, overrides: off }
  - { port: 2, overrides: named }
  - { port: 3, overrides: { mode: policy, dtabLocal: true, rules: [{ maxBytes: 200, prefixes: [/svc] }] } }
  - { port: 4, overrides: legacy }
  - { port: 5, clearContext: true, overrides: named }
";
    static GATES: OnceLock<Vec<(&str, Gate)>> = OnceLock::new();
    GATES.get_or_init(|| {
        let config = router::config::load("fuzz", CONFIG).expect("a config");
        let router = &config.routers[0];
        let modes = ["off", "named", "policy", "legacy", "named"];
        modes.into_iter().zip(&router.servers).map(|(mode, server)| (mode, Gate::new(server, router, mode))).collect()
    })
}

/// One message as the codec reads it: its head, then its whole body; None as soon as something is refused.
fn read_request(buf: &mut BytesMut, feed: &mut dyn Iterator<Item = u8>) -> Option<(RequestHead, Vec<u8>)> {
    let head = loop {
        match http1::parse_request(buf, &LIMITS, HeaderMap::new()) {
            Ok(Some(head)) => break head,
            Ok(None) => buf.extend_from_slice(&[feed.next()?]),
            Err(_) => return None,
        }
    };
    let (mut decoder, mut body) = (BodyDecoder::new(head.body), Vec::new());
    loop {
        match decoder.decode(buf, LIMITS.max_head_bytes) {
            Ok(Decoded::Data(data)) => body.extend_from_slice(&data),
            Ok(Decoded::Trailers(_) | Decoded::Done) => return Some((head, body)),
            Ok(Decoded::NeedMore) => buf.extend_from_slice(&[feed.next()?]),
            Err(_) => return None,
        }
    }
}

/// HTTP/1 framing: reading all at once and byte by byte agree, and what is passed on is read as the same message, with
/// nothing before or after it.
pub fn framing(data: &[u8]) {
    let mut whole = BytesMut::from(data);
    let at_once = read_request(&mut whole, &mut std::iter::empty());
    let mut grown = BytesMut::new();
    let slowly = read_request(&mut grown, &mut data.iter().copied());
    let Some((head, body)) = at_once else {
        // Byte by byte nothing is accepted either that was refused at once.
        return assert!(slowly.is_none(), "accepted byte by byte only: {data:?}");
    };
    let (slow_head, slow_body) = slowly.unwrap_or_else(|| panic!("accepted at once only: {data:?}"));
    assert_eq!((&head.method, &head.target, &head.headers), (&slow_head.method, &slow_head.target, &slow_head.headers));
    assert_eq!(body, slow_body);

    let mut out = BytesMut::new();
    http1::encode_request_head(&mut out, &head.method, &head.target, head.version, &head.headers, head.body);
    let mut encoder = BodyEncoder::for_request(head.body);
    if !body.is_empty() {
        encoder.chunk_header(body.len(), &mut out).unwrap_or_else(|error| panic!("{error}: {data:?}"));
        out.extend_from_slice(&body);
        encoder.chunk_end(&mut out);
    }
    encoder.finish(None, &mut out).unwrap_or_else(|error| panic!("{error}: {data:?}"));
    let wire = out.clone();
    let (again, again_body) =
        read_request(&mut out, &mut std::iter::empty()).unwrap_or_else(|| panic!("not read again: {wire:?}"));
    assert_eq!((again.method, again.target), (head.method, head.target), "{wire:?}");
    assert_eq!(again_body, body);
    assert!(out.is_empty(), "bytes are left over: {wire:?}");
}

/// Responses: reading never takes more than the message, and no 1xx, 204 or 304 has a body.
pub fn response(data: &[u8]) {
    let mut buf = BytesMut::from(data);
    let parsed = http1::parse_response(&mut buf, &LIMITS, &Method::GET, HeaderMap::new());
    let Ok(Some(head)) = parsed else { return };
    if head.status.is_informational() || matches!(head.status.as_u16(), 204 | 304) {
        assert_eq!(head.body, BodyLength::Empty);
    }
    let mut decoder = BodyDecoder::new(head.body);
    let mut left = buf.len();
    while let Ok(Decoded::Data(data)) = decoder.decode(&mut buf, LIMITS.max_head_bytes) {
        assert!(!data.is_empty() && data.len() <= left, "no byte twice");
        left -= data.len();
    }
}
