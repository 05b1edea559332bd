//! Files and standard input: dtabs as text or JSON, and where in them something is wrong.
//!
//! JSON is what begins with `{` or `[`, everything else is the dtab grammar (namerd reference §7.2). Called by the commands
//! that read a FILE.

use crate::api::Body;
use crate::error::Failure;
use crate::wire::{self, Entry, Versioned};
use dtab::Dtab;
use std::io::Read as _;

/// A file may have this many bytes.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// So much of a line is shown around a caret.
const WINDOW: usize = 100;

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The path as given; `-` is called `<stdin>`.
    pub name: String,
    bytes: Vec<u8>,
}

/// A place in a text; both count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// A dtab with where its entries stand.
#[derive(Debug, Clone)]
pub struct Table {
    /// The dtab.
    pub dtab: Dtab,
    /// The dtab as text with all that the file says, to be sent.
    pub text: String,
    /// Where each entry begins; None in a JSON file.
    pub places: Vec<Option<Place>>,
}

impl Source {
    /// Reads the file; `-` is standard input.
    pub fn read(path: &str) -> Result<Source, Failure> {
        let mut bytes = Vec::new();
        let read = match path {
            "" => return Err(Failure::new("empty dtab path")),
            "-" => std::io::stdin().take(MAX_BYTES + 1).read_to_end(&mut bytes),
            path => std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)),
        };
        let name = if path == "-" { "<stdin>" } else { path };
        read.map_err(|error| Failure::new(format!("open {name}: {error}")))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Failure::new(format!("{name} has more than {MAX_BYTES} bytes")));
        }
        Ok(Source::of(name, bytes))
    }

    /// A source with this content.
    pub fn of(name: &str, bytes: impl Into<Vec<u8>>) -> Source {
        Source { name: name.to_owned(), bytes: bytes.into() }
    }

    /// True for a file that parses to no entry at all: nothing, blank lines, comments, `[]`.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() || self.table().is_ok_and(|table| table.dtab.dentries().is_empty())
    }

    fn is_json(&self) -> bool {
        matches!(self.bytes.first(), Some(b'{' | b'['))
    }

    /// The content as text.
    pub fn text(&self) -> Result<&str, Failure> {
        std::str::from_utf8(&self.bytes).map_err(|error| Failure::new(format!("{}: not UTF-8: {error}", self.name)))
    }

    /// What is sent to namerd, and the version that a JSON file holds.
    pub fn body(&self) -> Result<(Body, Option<String>), Failure> {
        if !self.is_json() {
            return Ok((Body::Text(self.bytes.clone().into()), None));
        }
        let Versioned { version, entries } = self.json()?;
        Ok((Body::Entries(entries), (!version.is_empty()).then_some(version)))
    }

    /// The dtab, parsed here. An error shows the place.
    pub fn table(&self) -> Result<Table, Failure> {
        if self.is_json() {
            let entries = self.json()?.entries;
            let dtab = wire::compile(&entries).map_err(|why| Failure::new(format!("{}: {why}", self.name)))?;
            let places = vec![None; entries.len()];
            return Ok(Table { dtab, text: wire::text(&entries), places });
        }
        let text = self.text()?;
        let dtab = Dtab::parse(text).map_err(|error| self.wrong(text, &error))?;
        let offsets = dtab::dentry_offsets(text).map_err(|error| self.wrong(text, &error))?;
        let places = offsets.iter().map(|&offset| Some(place(text, offset))).collect();
        Ok(Table { dtab, text: text.to_owned(), places })
    }

    fn wrong(&self, text: &str, error: &dtab::ParseError) -> Failure {
        let at = place(text, error.offset());
        let message = error.to_string();
        // The parser shows the text as well; the caret shows it better.
        let message = message.split(" found at '").next().unwrap_or(&message);
        let caret = caret(text, error.offset());
        Failure::new(format!("{}:{}:{}: {message}", self.name, at.line, at.column)).with(caret)
    }

    /// `{"version", "dtab"}`, as `get --json` prints it, or the array of entries alone.
    fn json(&self) -> Result<Versioned, Failure> {
        let wrong = |why: String| Failure::new(format!("{}: {why}", self.name));
        let value: serde_json::Value = serde_json::from_slice(&self.bytes).map_err(|error| wrong(error.to_string()))?;
        let (version, dtab) = match &value {
            serde_json::Value::Array(_) => ("", &value),
            object => match object.get("dtab") {
                Some(dtab) if !dtab.is_null() => {
                    (object.get("version").and_then(serde_json::Value::as_str).unwrap_or(""), dtab)
                }
                _ => return Err(wrong("the object has no `dtab`".into())),
            },
        };
        let entries: Vec<Entry> = wire::read_entries(dtab).map_err(wrong)?;
        Ok(Versioned { version: version.to_owned(), entries })
    }
}

/// The place of a byte offset.
pub fn place(text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    Place { line: before.matches('\n').count() + 1, column: before[start..].chars().count() + 1 }
}

/// The line of a byte offset, with a caret below the character.
pub fn caret(text: &str, offset: usize) -> String {
    let Place { line, column } = place(text, offset);
    let shown: Vec<char> = text.lines().nth(line - 1).unwrap_or("").chars().collect();
    let from = column.saturating_sub(WINDOW / 2 + 1);
    let clean = |c: &char| if c.is_control() { ' ' } else { *c };
    let part: String = shown.iter().skip(from).take(WINDOW).map(clean).collect();
    let (number, pad) = (line.to_string(), " ".repeat(column - 1 - from));
    format!("  {number} | {part}\n  {} | {pad}^", " ".repeat(number.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_line_column_and_caret() {
        let source = Source::of("x.dtab", "# routes\n/svc => /a ;\n/host -> /b\n");
        let failure = source.table().unwrap_err();
        assert_eq!(failure.message, "x.dtab:3:7: '=' expected but '-'");
        assert_eq!(failure.detail.unwrap(), "  3 | /host -> /b\n    |       ^");
        let long = format!("/{} => ,", "x".repeat(500));
        let failure = Source::of("x", long).table().unwrap_err();
        let detail = failure.detail.unwrap();
        let lines: Vec<&str> = detail.lines().collect();
        assert!(lines[0].len() < WINDOW + 10, "{detail}");
        assert_eq!(lines[0].find(','), lines[1].find('^'), "{detail}");
        assert!(Source::of("x", "/a =>").table().unwrap_err().detail.unwrap().ends_with("     ^"));
    }

    #[test]
    fn entries_have_places() {
        let table = Source::of("x", "# c\n/a => /b;\n  /c => 0.125*/d & /e # f\n;").table().unwrap();
        let places: Vec<(usize, usize)> = table.places.iter().flatten().map(|at| (at.line, at.column)).collect();
        assert_eq!(places, [(2, 1), (3, 3)]);
        assert!(table.text.contains("0.125"));
    }

    #[test]
    fn a_file_without_entries_is_empty() {
        for text in ["", "\n", " \t\r\n", "# all is gone\n", "[]", "[]\n", r#"{"version":"MQ==","dtab":[]}"#] {
            assert!(Source::of("x", text).is_empty(), "{text:?}");
        }
        for text in ["/a => /b", "/a", "{}", "[", "\u{fffd}", r#"[{"prefix":"/a","dst":"/b"}]"#] {
            assert!(!Source::of("x", text).is_empty(), "{text:?}");
        }
    }

    #[test]
    fn json_is_told_by_the_first_byte() {
        let entries = vec![Entry { prefix: "/a".into(), dst: "/b".into() }];
        let object = r#"{"version":"MQ==","dtab":[{"prefix":"/a","dst":"/b"}]}"#;
        assert_eq!(Source::of("x", object).body().unwrap(), (Body::Entries(entries.clone()), Some("MQ==".into())));
        let array = r#"[{"prefix":"/a","dst":"/b"}]"#;
        assert_eq!(Source::of("x", array).body().unwrap(), (Body::Entries(entries), None));
        let spaced = Source::of("x", " []");
        assert_eq!(spaced.body().unwrap(), (Body::Text(" []".into()), None));
        for wrong in ["{}", "{\"dtab\":null}", "[1]", "{"] {
            assert!(Source::of("x", wrong).body().is_err(), "{wrong}");
        }
        let failure = Source::of("x", r#"[{"prefix":"/a","dst":"b"}]"#).table().unwrap_err();
        assert!(failure.message.starts_with("x: entry 1 (/a => b): simple expected"), "{failure}");
    }
}
