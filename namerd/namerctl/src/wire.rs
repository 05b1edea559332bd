//! Dtabs as namerd's HTTP API carries them, and as they are printed: to the byte what the first `namerctl` printed
//! (namerd reference §7.1, §7.2).
//!
//! Called by [`crate::api`] and the commands. Entries stay the text that namerd sent, so that what is not edited goes back
//! unchanged. Not for: parsing entries, which is `dtab`'s.

use dtab::{Dtab, ParseError};
use serde_json::Value;

/// One entry, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The left-hand side.
    pub prefix: String,
    /// The right-hand side.
    pub dst: String,
}

/// A dtab with the stamp under which namerd gave it out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Versioned {
    /// Opaque; empty when none was sent.
    pub version: String,
    /// The entries in order.
    pub entries: Vec<Entry>,
}

/// The entries in a JSON array of `{"prefix", "dst"}`; what is missing in one is empty text, as in the first `namerctl`.
pub fn read_entries(value: &Value) -> Result<Vec<Entry>, String> {
    let list = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(list) => list,
        other => return Err(format!("a dtab is an array of entries, not {}", kind(other))),
    };
    list.iter().filter(|item| !item.is_null()).map(read_entry).collect()
}

fn read_entry(item: &Value) -> Result<Entry, String> {
    let text = |key: &str| match item.get(key) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(format!("`{key}` of an entry is text, not {}", kind(other))),
    };
    if !item.is_object() {
        return Err(format!("an entry is an object with `prefix` and `dst`, not {}", kind(item)));
    }
    Ok(Entry { prefix: text("prefix")?, dst: text("dst")? })
}

/// What a JSON value is, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

impl Entry {
    /// The entry parsed. Errors with the parser's message.
    pub fn parse(&self) -> Result<dtab::Dentry, ParseError> {
        let prefix = dtab::parse_prefix(&self.prefix)?;
        Ok(dtab::Dentry { prefix, dst: dtab::parse_tree(&self.dst)? })
    }
}

/// `prefix=>dst;` for every entry, without spaces.
pub fn text(entries: &[Entry]) -> String {
    entries.iter().map(|entry| format!("{}=>{};", entry.prefix, entry.dst)).collect()
}

/// One line per entry, arrows aligned; every line ends with a newline.
pub fn pretty(entries: &[Entry]) -> String {
    let widest = entries.iter().map(|entry| entry.prefix.len()).max().unwrap_or(0);
    let line = |entry: &Entry| {
        let pad = " ".repeat(widest - entry.prefix.len());
        format!("{}{pad}  => {} ;\n", entry.prefix, entry.dst)
    };
    entries.iter().map(line).collect()
}

/// The entries as a JSON array.
pub fn json(entries: &[Entry]) -> String {
    let one = |entry: &Entry| format!("{{\"prefix\":{},\"dst\":{}}}", quote(&entry.prefix), quote(&entry.dst));
    format!("[{}]", entries.iter().map(one).collect::<Vec<_>>().join(","))
}

/// `{"version": ..., "dtab": [...]}`: what `get --json` prints and `update` reads.
pub fn versioned_json(dtab: &Versioned) -> String {
    format!("{{\"version\":{},\"dtab\":{}}}", quote(&dtab.version), json(&dtab.entries))
}

/// A JSON string as Go writes it: `&`, `<`, `>` and the two line separators escaped.
pub fn quote(text: &str) -> String {
    let mut out = String::new();
    for c in Value::from(text).to_string().chars() {
        match c {
            '&' => out.push_str("\\u0026"),
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
    out
}

/// The entries parsed to a table. Errors with the number of the entry, counted from 1, and the parser's message.
pub fn compile(entries: &[Entry]) -> Result<Dtab, String> {
    let parsed = entries.iter().enumerate().map(|(i, entry)| {
        entry.parse().map_err(|error| format!("entry {} ({} => {}): {error}", i + 1, entry.prefix, entry.dst))
    });
    Ok(Dtab::new(parsed.collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(list: &[(&str, &str)]) -> Vec<Entry> {
        list.iter().map(|(prefix, dst)| Entry { prefix: (*prefix).into(), dst: (*dst).into() }).collect()
    }

    #[test]
    fn arrows_stand_in_one_column() {
        let dtab = entries(&[("/srv", "/#/io.l5d.k8s/default/http"), ("/host/world", "/srv/world-v1")]);
        let expected = "/srv         => /#/io.l5d.k8s/default/http ;\n/host/world  => /srv/world-v1 ;\n";
        assert_eq!(pretty(&dtab), expected);
        assert_eq!(text(&dtab), "/srv=>/#/io.l5d.k8s/default/http;/host/world=>/srv/world-v1;");
        assert_eq!((pretty(&[]), text(&[])), (String::new(), String::new()));
    }

    #[test]
    fn json_is_escaped_as_go_does() {
        let dtab = Versioned { version: "MQ==".into(), entries: entries(&[("/a", "/b & <\u{2028}\u{1}\"\n")]) };
        let expected = r#"{"version":"MQ==","dtab":[{"prefix":"/a","dst":"/b \u0026 \u003c\u2028\u0001\"\n"}]}"#;
        assert_eq!(versioned_json(&dtab), expected);
        assert_eq!(versioned_json(&Versioned::default()), r#"{"version":"","dtab":[]}"#);
    }

    #[test]
    fn entries_are_read_strictly_in_type_and_leniently_in_presence() {
        let read = |text: &str| read_entries(&serde_json::from_str(text).unwrap());
        assert_eq!(read(r#"[{"prefix":"/a"},null]"#).unwrap(), entries(&[("/a", "")]));
        assert_eq!(read("null").unwrap(), vec![]);
        for wrong in ["{}", "[1]", r#"[{"prefix":1}]"#, "\"x\""] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
