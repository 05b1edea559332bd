//! Compression of responses by gzip and deflate, as `compressionLevel` says (data-plane reference §6.11).
//!
//! What a client gets at once without compression it gets at once with it: whenever the service pauses, what is there is
//! flushed. Called by `answer`, which asks [`begin`] once per response if the router compresses at all, and by `relay`.
//! Not for: what the router itself writes, request bodies, taking compression off.

use crate::config::Compression as What;
use crate::headers::all_elements;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use http1::ResponseHead;
use std::cell::{Cell, RefCell};

/// The level for textual types.
const TEXTUAL_LEVEL: u32 = 6;
/// In use at most, per worker; each takes some 300 KB. Beyond them bodies are passed on as they are.
const MOST_LIVE: usize = 1000;
/// Compressors kept by a worker, at most; each is about 300 KiB.
const SPARE: usize = 8;
/// Room made for output at a time.
const ROOM: usize = 4 * 1024;

/// Digests of a body in one form; they would not hold for another.
const DIGESTS: [&str; 4] = ["content-md5", "digest", "content-digest", "repr-digest"];

const TEXTUAL: [&str; 8] = [
    "application/json",
    "application/javascript",
    "application/x-javascript",
    "application/xml",
    "application/xhtml+xml",
    "application/atom+xml",
    "application/rss+xml",
    "image/svg+xml",
];

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// RFC 1952.
    Gzip,
    /// The zlib format, RFC 1950.
    Deflate,
}

thread_local! {
    static COMPRESSORS: RefCell<Vec<Compressor>> = const { RefCell::new(Vec::new()) };
    /// How many of this worker's compressors are in use.
    static LIVE: Cell<usize> = const { Cell::new(0) };
}

/// A compressor for the body of the response, if it is to be compressed; its head then says so. `asked` are the headers
/// of the request. A response that others might get compressed says so in `Vary`.
pub(crate) fn begin(what: What, asked: &HeaderMap, head: &mut ResponseHead) -> Option<Compressor> {
    if !may_change(head) || !fits(what, head.headers.get(CONTENT_TYPE)) {
        return None;
    }
    let headers = &mut head.headers;
    vary(headers);
    let coding = accepted(asked)?;
    let level = match what {
        What::Textual => TEXTUAL_LEVEL,
        What::All(level) => level,
    };
    let compressor = Compressor::take(coding, level)?;
    let name = match coding {
        Coding::Gzip => "gzip",
        Coding::Deflate => "deflate",
    };
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
    // Neither bytes nor ranges of the compressed form are those of the service.
    headers.remove(ACCEPT_RANGES);
    weaken(headers);
    Some(compressor)
}

/// Whether there is a body and nobody minds that its bytes change.
fn may_change(head: &ResponseHead) -> bool {
    let headers = &head.headers;
    let whole = !matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::PARTIAL_CONTENT);
    whole
        && !head.body.is_empty()
        && headers.get(CONTENT_ENCODING).is_none_or(|coding| coding == "identity")
        && !headers.contains_key(CONTENT_RANGE)
        && !all_elements(headers, CACHE_CONTROL).any(|token| token.eq_ignore_ascii_case(b"no-transform"))
        && !DIGESTS.iter().any(|digest| headers.contains_key(*digest))
}

fn fits(what: What, kind: Option<&HeaderValue>) -> bool {
    if let What::All(_) = what {
        return true;
    }
    let kind = kind.map_or(&b""[..], HeaderValue::as_bytes);
    let kind = kind.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let text = kind.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"text/"));
    text || TEXTUAL.iter().any(|known| kind.eq_ignore_ascii_case(known.as_bytes()))
}

/// The coding that the client likes best of those there are, if it likes one at least as much as none.
fn accepted(asked: &HeaderMap) -> Option<Coding> {
    let (mut gzip, mut deflate, mut identity, mut rest) = (None, None, None, None);
    for element in all_elements(asked, ACCEPT_ENCODING) {
        let mut parts = element.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = Some(parts.find_map(quality).unwrap_or(1000));
        match name.as_slice() {
            b"gzip" | b"x-gzip" => gzip = weight,
            b"deflate" => deflate = weight,
            b"identity" => identity = weight,
            b"*" => rest = weight,
            _ => {}
        }
    }
    let (gzip, deflate) = (gzip.or(rest).unwrap_or(0), deflate.or(rest).unwrap_or(0));
    let best = gzip.max(deflate);
    if best == 0 || identity.is_some_and(|plain| plain > best) {
        return None;
    }
    Some(if gzip == best { Coding::Gzip } else { Coding::Deflate })
}

/// The weight that a parameter gives, in thousandths; 0 when it is no weight at all.
fn quality(parameter: &[u8]) -> Option<u16> {
    let (name, value) = parameter.split_at_checked(2)?;
    if !name.eq_ignore_ascii_case(b"q=") {
        return None;
    }
    let weight = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse::<f32>().ok());
    Some(weight.filter(|weight| (0.0..=1.0).contains(weight)).map_or(0, |weight| (weight * 1000.0) as u16))
}

fn vary(headers: &mut HeaderMap) {
    let said = all_elements(headers, VARY).any(|token| token == b"*" || token.eq_ignore_ascii_case(b"accept-encoding"));
    if !said {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// A strong validator says that two bodies are equal byte for byte.
fn weaken(headers: &mut HeaderMap) {
    let strong = headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"));
    let Some(weak) = strong.and_then(|tag| HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()).ok()) else {
        return;
    };
    headers.insert(ETAG, weak);
}

/// One of the compressors in use, as long as it lives.
struct Live;

impl Live {
    fn new() -> Option<Live> {
        let live = LIVE.get();
        (live < MOST_LIVE).then(|| {
            LIVE.set(live + 1);
            Live
        })
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        LIVE.set(LIVE.get() - 1);
    }
}

/// The compression of one body. What comes out collects in `out`.
pub(crate) struct Compressor {
    coding: Coding,
    level: u32,
    deflate: Compress,
    crc: Crc,
    begun: bool,
    /// None while it is spare.
    live: Option<Live>,
    /// Something was put in since the last flush.
    dirty: bool,
    /// What is to be passed on; to be cleared by whoever does.
    pub(crate) out: Vec<u8>,
}

/// The compressor failed; cannot happen with a sound library.
#[derive(Debug)]
pub(crate) struct Failed;

impl Compressor {
    fn new(coding: Coding, level: u32) -> Compressor {
        let deflate = Compress::new(Compression::new(level), coding == Coding::Deflate);
        Compressor { coding, level, deflate, crc: Crc::new(), begun: false, live: None, dirty: false, out: Vec::new() }
    }

    /// One of this worker's spare ones, or a new one; None when too many are in use.
    fn take(coding: Coding, level: u32) -> Option<Compressor> {
        let live = Some(Live::new()?);
        let spare = COMPRESSORS.with_borrow_mut(|spare| {
            let at = spare.iter().position(|known| (known.coding, known.level) == (coding, level))?;
            Some(spare.swap_remove(at))
        });
        let compressor = spare.unwrap_or_else(|| Compressor::new(coding, level));
        Some(Compressor { live, ..compressor })
    }

    /// Keeps the compressor for another body.
    pub(crate) fn give(mut self) {
        self.live = None;
        COMPRESSORS.with_borrow_mut(|spare| {
            if spare.len() < SPARE {
                self.deflate.reset();
                self.crc.reset();
                (self.begun, self.dirty, self.out) = (false, false, Vec::new());
                spare.push(self);
            }
        });
    }

    /// Compresses more of the body.
    pub(crate) fn write(&mut self, input: &[u8]) -> Result<(), Failed> {
        self.dirty = true;
        self.crc.update(input);
        self.run(input, FlushCompress::None)
    }

    /// Brings out all that was put in.
    pub(crate) fn flush(&mut self) -> Result<(), Failed> {
        if !std::mem::take(&mut self.dirty) {
            return Ok(());
        }
        self.run(&[], FlushCompress::Sync)
    }

    /// Ends the body.
    pub(crate) fn finish(&mut self) -> Result<(), Failed> {
        self.run(&[], FlushCompress::Finish)?;
        if self.coding == Coding::Gzip {
            self.out.extend_from_slice(&self.crc.sum().to_le_bytes());
            self.out.extend_from_slice(&self.crc.amount().to_le_bytes());
        }
        Ok(())
    }

    fn run(&mut self, mut input: &[u8], flush: FlushCompress) -> Result<(), Failed> {
        if !std::mem::replace(&mut self.begun, true) && self.coding == Coding::Gzip {
            // Deflate, no flags, no time, unknown system (RFC 1952 section 2.3).
            self.out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
        }
        loop {
            self.out.reserve(ROOM);
            let before = self.deflate.total_in();
            let status = self.deflate.compress_vec(input, &mut self.out, flush).map_err(|_| Failed)?;
            let taken = usize::try_from(self.deflate.total_in() - before).map_err(|_| Failed)?;
            input = input.get(taken..).ok_or(Failed)?;
            let room_left = self.out.len() < self.out.capacity();
            match status {
                Status::StreamEnd => return Ok(()),
                // With room left, all that was asked for is out.
                Status::Ok if room_left && input.is_empty() && !matches!(flush, FlushCompress::Finish) => return Ok(()),
                Status::Ok => {}
                Status::BufError if input.is_empty() && !matches!(flush, FlushCompress::Finish) => return Ok(()),
                Status::BufError => return Err(Failed),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, Version};
    use http1::BodyLength;
    use std::io::Read as _;

    fn asked(value: &str) -> HeaderMap {
        headers(&[("accept-encoding", value)])
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
        };
        lines.iter().map(line).collect()
    }

    fn head(status: u16, lines: &[(&'static str, &str)]) -> ResponseHead {
        ResponseHead {
            status: StatusCode::from_u16(status).expect("a status"),
            reason: None,
            version: Version::HTTP_11,
            headers: headers(lines),
            body: BodyLength::Length(100),
            keep_alive: true,
            content_length: Some(100),
        }
    }

    #[test]
    fn weights_are_respected() {
        use Coding::{Deflate, Gzip};
        for (value, wanted) in [
            ("gzip", Some(Gzip)),
            ("GZIP, deflate", Some(Gzip)),
            ("deflate", Some(Deflate)),
            ("x-gzip", Some(Gzip)),
            ("deflate, gzip;q=0.5", Some(Deflate)),
            ("gzip;q=0, deflate;q=0.1", Some(Deflate)),
            ("gzip; Q=0", None),
            ("gzip;q=0.000, *", Some(Deflate)),
            ("*", Some(Gzip)),
            ("*;q=0", None),
            ("gzip;q=0.5, *;q=0", Some(Gzip)),
            ("identity", None),
            ("identity;q=0, gzip;q=0.1", Some(Gzip)),
            ("identity, gzip;q=0.5", None),
            ("gzip;q=0.5, identity;q=0.5", Some(Gzip)),
            ("br, zstd", None),
            ("", None),
            ("gzip;q=x", None),
            ("gzip;q=2", None),
            ("gzip;q=NaN", None),
            ("gzip;level=1", Some(Gzip)),
        ] {
            assert_eq!(accepted(&asked(value)), wanted, "{value}");
        }
        assert_eq!(accepted(&HeaderMap::new()), None);
    }

    #[test]
    fn what_is_compressed() {
        const TEXT: (&str, &str) = ("content-type", "Text/HTML; charset=utf-8");
        let begun = |what, mut head: ResponseHead| begin(what, &asked("gzip"), &mut head).is_some();
        for kind in
            ["text/plain", "application/json;charset=x", "APPLICATION/XML", "image/svg+xml", "text/event-stream"]
        {
            assert!(begun(What::Textual, head(200, &[("content-type", kind)])), "{kind}");
        }
        for kind in ["image/png", "application/grpc", "application/jsonx", "text", ""] {
            assert!(!begun(What::Textual, head(200, &[("content-type", kind)])), "{kind}");
            assert!(begun(What::All(1), head(200, &[("content-type", kind)])), "{kind}");
        }
        assert!(!begun(What::Textual, head(200, &[])));
        assert!(begun(What::Textual, head(404, &[TEXT, ("content-encoding", "identity")])));
        for (status, line) in [
            (204, ("x", "")),
            (304, ("x", "")),
            (206, ("x", "")),
            (200, ("content-encoding", "br")),
            (200, ("content-range", "bytes 0-99/200")),
            (200, ("cache-control", "private, No-Transform")),
            (200, ("content-digest", "sha-256=:x:")),
        ] {
            assert!(!begun(What::All(1), head(status, &[TEXT, line])), "{status} {line:?}");
        }
        for body in [BodyLength::Empty, BodyLength::Length(0)] {
            assert!(!begun(What::All(1), ResponseHead { body, ..head(200, &[TEXT]) }), "{body:?}");
        }
    }

    #[test]
    fn the_head_says_what_was_done() {
        let lines = [("content-type", "text/css"), ("etag", "\"a\""), ("accept-ranges", "bytes"), ("vary", "cookie")];
        let mut told = head(200, &lines);
        assert!(begin(What::Textual, &asked("gzip"), &mut told).is_some());
        let all = |head: &ResponseHead, name: &str| -> Vec<String> {
            let values = head.headers.get_all(name).iter();
            values.map(|value| value.to_str().expect("text").to_owned()).collect()
        };
        assert_eq!(all(&told, "content-encoding"), ["gzip"]);
        assert_eq!(all(&told, "etag"), ["W/\"a\""]);
        assert_eq!(all(&told, "vary"), ["cookie", "accept-encoding"]);
        assert!(all(&told, "accept-ranges").is_empty());
        // Another client would get another body.
        let mut plain = head(200, &lines);
        assert!(begin(What::Textual, &HeaderMap::new(), &mut plain).is_none());
        assert_eq!((all(&plain, "vary").len(), all(&plain, "etag")), (2, vec!["\"a\"".to_owned()]));
        for known in ["*", "Origin, Accept-Encoding"] {
            let mut told = head(200, &[("content-type", "text/css"), ("vary", known), ("etag", "W/\"a\"")]);
            assert!(begin(What::Textual, &asked("deflate"), &mut told).is_some());
            assert_eq!((all(&told, "vary"), all(&told, "etag")), (vec![known.to_owned()], vec!["W/\"a\"".to_owned()]));
        }
    }

    fn unpack(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        let read = match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain),
            Coding::Deflate => flate2::read::ZlibDecoder::new(bytes).read_to_end(&mut plain),
        };
        read.expect("a whole stream");
        plain
    }

    #[test]
    fn bodies_come_out_as_they_went_in() {
        let mut random = fastrand::Rng::with_seed(1);
        for coding in [Coding::Gzip, Coding::Deflate] {
            for level in [1, 6, 9] {
                // Twice: the second one is a spare of the first.
                for _ in 0..2 {
                    let mut compressor = Compressor::take(coding, level).expect("few are in use");
                    let (mut plain, mut packed) = (Vec::new(), Vec::new());
                    for n in 0..40 {
                        // Text and noise: the latter fills the output to its end.
                        let length = random.usize(0..20_000);
                        let noise = n % 3 == 0;
                        let piece: Vec<u8> =
                            (0..length).map(|i| if noise { random.u8(..) } else { (i % 7) as u8 }).collect();
                        compressor.write(&piece).expect("it compresses");
                        if n % 4 == 0 {
                            compressor.flush().expect("it flushes");
                            compressor.flush().expect("and again");
                        }
                        plain.extend_from_slice(&piece);
                        packed.append(&mut compressor.out);
                    }
                    compressor.finish().expect("it ends");
                    packed.append(&mut compressor.out);
                    assert!(unpack(coding, &packed) == plain, "{coding:?} {level}");
                    compressor.give();
                }
            }
        }
        COMPRESSORS.with_borrow(|spare| assert_eq!(spare.len(), 6));
    }

    #[test]
    fn a_flush_brings_out_everything() {
        let mut compressor = Compressor::take(Coding::Gzip, 6).expect("few are in use");
        for text in ["data: 1\n\n", "data: 2\n\n"] {
            compressor.write(text.as_bytes()).expect("it compresses");
            compressor.flush().expect("it flushes");
        }
        let mut plain = [0; 18];
        flate2::read::GzDecoder::new(compressor.out.as_slice()).read_exact(&mut plain).expect("both");
        assert_eq!(&plain, b"data: 1\n\ndata: 2\n\n");
        let before = compressor.out.len();
        compressor.flush().expect("it flushes");
        assert_eq!(compressor.out.len(), before, "nothing new, nothing written");
    }

    #[test]
    fn a_worker_has_so_many_and_no_more() {
        let what = || begin(What::Textual, &asked("gzip"), &mut head(200, &[("content-type", "text/plain")]));
        let mut all: Vec<Compressor> = std::iter::from_fn(what).take(2 * MOST_LIVE).collect();
        assert_eq!(all.len(), MOST_LIVE);
        let mut plain = head(200, &[("content-type", "text/plain")]);
        assert!(begin(What::Textual, &asked("gzip"), &mut plain).is_none());
        assert!(!plain.headers.contains_key("content-encoding"), "and the head says so");
        all.pop().expect("some").give();
        drop(all.pop());
        assert!(
            [what(), what(), what()].map(|made| made.is_some()) == [true, true, false],
            "spare ones are not in use"
        );
    }
}
