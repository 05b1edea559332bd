//! Dtabs as text and as JSON, media types, and versions as ETags (namerd reference §2.4, §2.7).
//!
//! Called by the routes of dtabs. Not for: namerctl's own formats.

use super::answer::Refusal;
use crate::storage::Version;
use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use dtab::{Dentry, Dtab, Exact, ParseError, parse_prefix, parse_tree};
use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use serde_json::Value;

/// How a dtab is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// `application/json`.
    Json,
    /// `application/dtab`.
    Dtab,
    /// `text/plain`, the same text.
    Plain,
}

/// The media type of JSON.
pub(super) const JSON: &str = "application/json";

impl Format {
    fn of(media_type: &str) -> Option<Format> {
        let bare = media_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        [Format::Json, Format::Dtab, Format::Plain].into_iter().find(|format| format.media_type() == bare)
    }

    /// The media type, without parameters.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Format::Json => JSON,
            Format::Dtab => "application/dtab",
            Format::Plain => "text/plain",
        }
    }

    /// The format that a client likes best: the first of its `Accept` that there is, whatever `q` says; else JSON.
    pub(super) fn accepted(headers: &HeaderMap) -> Format {
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).find_map(Format::of).unwrap_or(Format::Json)
    }

    /// The format of a body. The text of an error is the one of the original.
    pub(super) fn of_body(headers: &HeaderMap) -> Result<Format, Refusal> {
        let sent = headers.get(CONTENT_TYPE).map_or("".into(), |value| String::from_utf8_lossy(value.as_bytes()));
        Format::of(&sent)
            .ok_or_else(|| Refusal::exactly(StatusCode::BAD_REQUEST, format!("Invalid Content-Type \"{sent}\". ")))
    }

    /// The dtab, with exact weights, without a line end.
    pub(super) fn show(self, dtab: &Dtab) -> String {
        match self {
            Format::Json => json(dtab),
            Format::Dtab | Format::Plain => Exact(dtab).to_string(),
        }
    }

    /// The dtab of a body. The text of an error says where it is wrong.
    pub(super) fn read(self, body: &[u8]) -> Result<Dtab, Refusal> {
        let bad = |text: String| Refusal::new(StatusCode::BAD_REQUEST, text);
        match self {
            Format::Json => from_json(body).map_err(bad),
            Format::Dtab | Format::Plain => {
                let text = std::str::from_utf8(body).map_err(|error| bad(format!("the dtab is not UTF-8: {error}")))?;
                Dtab::parse(text).map_err(|error| bad(located(text, &error)))
            }
        }
    }
}

/// An array of `{"prefix", "dst"}`, with exact weights.
pub(super) fn json(dtab: &Dtab) -> String {
    let text = |shown: String| Value::from(shown);
    array(dtab.dentries().iter().map(|dentry| {
        let (prefix, dst) = (text(dentry.prefix.to_string()), text(Exact(&dentry.dst).to_string()));
        format!("{{\"prefix\":{prefix},\"dst\":{dst}}}")
    }))
}

/// A JSON array of what is JSON already.
pub(super) fn array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

/// A JSON array of texts.
pub(super) fn texts<T: AsRef<str>>(items: impl Iterator<Item = T>) -> String {
    array(items.map(|item| Value::from(item.as_ref()).to_string()))
}

/// The parser's message, and where that is in a text of several lines.
fn located(text: &str, error: &ParseError) -> String {
    let before = &text[..error.offset()];
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    let entry = before.matches(';').count() + 1;
    format!("{error}\nline {line}, column {column}, about entry {entry}; nothing was changed")
}

fn from_json(body: &[u8]) -> Result<Dtab, String> {
    let value: Value = serde_json::from_slice(body).map_err(|error| format!("the dtab is not JSON: {error}"))?;
    let Value::Array(entries) = value else {
        return Err("the dtab is not an array of {\"prefix\": \"/a\", \"dst\": \"/b\"}".into());
    };
    if entries.iter().any(Value::is_null) {
        return Err(format!("The dtab contains invalid dentries: {}", String::from_utf8_lossy(body)));
    }
    let dentry = |(at, entry)| dentry(entry).map_err(|error| format!("entry {} of the dtab: {error}", at + 1));
    entries.iter().enumerate().map(dentry).collect::<Result<Vec<Dentry>, String>>().map(Dtab::new)
}

fn dentry(entry: &Value) -> Result<Dentry, String> {
    let Value::Object(members) = entry else { return Err("it is not an object".into()) };
    if let Some(unknown) = members.keys().find(|key| !matches!(key.as_str(), "prefix" | "dst")) {
        return Err(format!("it has the unknown key {unknown:?}; there are prefix and dst"));
    }
    let part = |key: &str| match members.get(key) {
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(format!("its {key} is not a text")),
        None => Err(format!("it has no {key}")),
    };
    let (prefix, dst) = (part("prefix")?, part("dst")?);
    let prefix = parse_prefix(prefix).map_err(|error| format!("prefix: {error}"))?;
    Ok(Dentry { prefix, dst: parse_tree(dst).map_err(|error| format!("dst: {error}"))? })
}

/// The version as an ETag: Base64, without quotes.
pub(super) fn etag(version: &Version) -> String {
    STANDARD.encode(&version.0)
}

/// As strict as the original's decoder: padding may be missing.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// What a client wants the stored version to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expected {
    /// Any, but there has to be one.
    Some,
    /// This one.
    Version(Version),
}

/// The value of `If-Match`. Characters outside of the alphabet are skipped, so quotes do not matter; `W/` before a quoted
/// one is ignored.
pub(super) fn read_if_match(value: &[u8]) -> Result<Expected, Refusal> {
    let value = value.trim_ascii();
    if value == b"*" {
        return Ok(Expected::Some);
    }
    let bare = value.strip_prefix(b"W/\"").unwrap_or(value);
    let skipped = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let text: Vec<u8> = bare.iter().copied().filter(skipped).collect();
    match LENIENT.decode(&text) {
        Ok(bytes) if !bytes.is_empty() => Ok(Expected::Version(Version(bytes.into()))),
        _ => {
            let text = "If-Match is not a version; send the ETag of the answer that you have read";
            Err(Refusal::new(StatusCode::BAD_REQUEST, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dtab(text: &str) -> Dtab {
        Dtab::parse(text).expect("a dtab")
    }

    #[test]
    fn both_formats_are_those_of_the_reference() {
        let shown = dtab("/srv=>/#/io.l5d.k8s/default/http; /svc/* => 2 * /srv/a & /srv/b | ~ ;");
        let text = r##"[{"prefix":"/srv","dst":"/#/io.l5d.k8s/default/http"},{"prefix":"/svc/*","dst":"2.00*/srv/a & /srv/b | ~"}]"##;
        assert_eq!(Format::Json.show(&shown), text);
        assert_eq!(Format::Json.read(text.as_bytes()).expect("a dtab"), shown);
        assert_eq!(Format::Dtab.show(&shown), "/srv=>/#/io.l5d.k8s/default/http;/svc/*=>2.00*/srv/a & /srv/b | ~");
        let small = dtab("/a => 0.001 * /b & 0.999 * /c");
        for format in [Format::Json, Format::Dtab] {
            assert_eq!(format.read(format.show(&small).as_bytes()).expect("a dtab"), small);
        }
        assert_eq!(Format::Plain.read(b" # nothing\n ").expect("a dtab"), Dtab::empty());
        assert_eq!(Format::Json.read(b"[]").expect("a dtab"), Dtab::empty());
    }

    #[test]
    fn what_is_no_dtab_is_refused_with_its_place() {
        for (format, body, part) in [
            (Format::Dtab, "/a => /b;\n/c => ", "line 2, column 7"),
            (Format::Dtab, "/a => /b;\n/c = /d", "expected but"),
            (Format::Json, "null", "not an array"),
            (Format::Json, "[null]", "The dtab contains invalid dentries: [null]"),
            (Format::Json, "[{\"prefix\":\"/a\"}]", "entry 1 of the dtab: it has no dst"),
            (Format::Json, "[{\"prefix\":\"/a\",\"dst\":null}]", "its dst is not a text"),
            (Format::Json, "[{\"prefix\":\"/a\",\"dst\":\"/b\",\"x\":1}]", "unknown key \"x\""),
            (Format::Json, "[{\"prefix\":\"a\",\"dst\":\"/b\"}]", "prefix: "),
            (Format::Json, "[{\"prefix\":\"/a\",\"dst\":\"/b", "not JSON"),
            (Format::Json, "", "not JSON"),
        ] {
            let refusal = format.read(body.as_bytes()).expect_err(body);
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
            assert!(refusal.text.contains(part), "{body}: {}", refusal.text);
        }
        assert!(Format::Dtab.read(b"/a => \xff").is_err());
        let deep = "[".repeat(100_000);
        assert!(Format::Json.read(deep.as_bytes()).is_err());
    }

    #[test]
    fn the_first_type_that_there_is_wins() {
        let headers = |list: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in list {
                headers.append(ACCEPT, value.parse().expect("a value"));
            }
            headers
        };
        for (accept, format) in [
            (&[][..], Format::Json),
            (&["*/*"], Format::Json),
            (&["text/html, Application/DTAB;q=0.1, application/json"], Format::Dtab),
            (&["text/html", "text/plain; charset=utf-8"], Format::Plain),
            (&["text/*"], Format::Json),
        ] {
            assert_eq!(Format::accepted(&headers(accept)), format, "{accept:?}");
        }
    }

    #[test]
    fn etags_come_back_quoted_and_unquoted() {
        let version = Version(bytes::Bytes::from_static(b"1742"));
        assert_eq!(etag(&version), "MTc0Mg==");
        for sent in ["MTc0Mg==", "\"MTc0Mg==\"", " MTc0Mg ", "W/\"MTc0Mg==\""] {
            assert_eq!(read_if_match(sent.as_bytes()).expect(sent), Expected::Version(version.clone()), "{sent}");
        }
        assert_eq!(read_if_match(b"*").expect("a star"), Expected::Some);
        for sent in ["", "\"\"", "x", "a=b"] {
            assert!(read_if_match(sent.as_bytes()).is_err(), "{sent}");
        }
    }
}
