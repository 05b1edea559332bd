//! [`Pattern`]: the prefix patterns of per-client and per-service configuration and of the rewrite namer
//! (naming reference §6.13, config reference §8.2).

use crate::path::Path;
use regex::Regex;
use std::collections::HashMap;

/// A pattern over the leading segments of a path.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone)]
enum Segment {
    Literal(String),
    Any,
    /// Unanchored, with the names of its groups in order.
    Captures(Regex, Vec<String>),
}

/// Why a pattern does not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A segment is not legal.
    #[error("pattern segment `{0}` is not legal: {1}")]
    Segment(String, String),
    /// A `*` stands beyond the end of the path (config reference §8.2: throws).
    #[error("pattern `{0}` has a `*` beyond the end of the name {1}")]
    TooShort(String, String),
}

/// Values of the variables of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Captures {
    values: HashMap<String, String>,
}

impl Pattern {
    /// Reads a pattern: segments split at `/`; a leading and a trailing slash mean nothing.
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        let inner = text.strip_prefix('/').unwrap_or(text);
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        let segments = match inner {
            "" => Vec::new(),
            _ => inner.split('/').map(Segment::parse).collect::<Result<_, _>>()?,
        };
        Ok(Pattern { text: text.to_owned(), segments })
    }

    /// The captures, when the first segments of `path` match. Errors when a `*` has no segment left to match.
    pub fn match_path(&self, path: &Path) -> Result<Option<Captures>, PatternError> {
        let mut captures = Captures::default();
        for (i, segment) in self.segments.iter().enumerate() {
            let shown = path.get(i).map(shown_label);
            match (segment, shown) {
                (Segment::Any, Some(_)) => {}
                (Segment::Any, None) => return Err(PatternError::TooShort(self.text.clone(), path.to_string())),
                (_, None) => return Ok(None),
                (Segment::Literal(literal), Some(shown)) if *literal == shown => {}
                (Segment::Literal(_), Some(_)) => return Ok(None),
                (Segment::Captures(regex, names), Some(shown)) => {
                    let Some(found) = regex.captures(&shown) else { return Ok(None) };
                    for (name, group) in names.iter().zip(found.iter().skip(1)) {
                        captures.values.insert(name.clone(), group.map_or("", |m| m.as_str()).to_owned());
                    }
                }
            }
        }
        Ok(Some(captures))
    }

    /// The names of its variables, in order.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        let names = self.segments.iter().filter_map(|segment| match segment {
            Segment::Captures(_, names) => Some(names),
            Segment::Literal(_) | Segment::Any => None,
        });
        names.flatten().map(String::as_str)
    }

    /// The pattern as written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Captures {
    /// `text` with every `{name}` that was captured replaced by its value.
    pub fn substitute(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let close = rest[open..].find('}').map(|at| open + at);
            let value = close.and_then(|close| self.values.get(&rest[open + 1..close]));
            let end = match (value, close) {
                (Some(value), Some(close)) => {
                    out.push_str(&rest[..open]);
                    out.push_str(value);
                    close + 1
                }
                _ => {
                    out.push_str(&rest[..=open]);
                    open + 1
                }
            };
            rest = &rest[end..];
        }
        out.push_str(rest);
        out
    }
}

fn shown_label(label: &[u8]) -> String {
    let mut shown = String::new();
    // Writing to a String does not fail.
    let _ = crate::show::write_label(&mut shown, label);
    shown
}

impl Segment {
    fn parse(text: &str) -> Result<Segment, PatternError> {
        if text == "*" {
            return Ok(Segment::Any);
        }
        let mut names = Vec::new();
        let mut regex = String::new();
        let mut rest = text;
        while let Some((before, name, after)) = variable(rest) {
            regex.push_str(&literal(before));
            regex.push_str("(.*)");
            names.push(name.to_owned());
            rest = after;
        }
        if names.is_empty() {
            return Ok(Segment::Literal(text.to_owned()));
        }
        regex.push_str(&literal(rest));
        let built = regex::RegexBuilder::new(&regex).size_limit(1 << 20).dot_matches_new_line(false).build();
        let built = built.map_err(|error| PatternError::Segment(text.to_owned(), error.to_string()))?;
        if built.captures_len() != names.len() + 1 {
            return Err(PatternError::Segment(text.to_owned(), "it has groups of its own".to_owned()));
        }
        Ok(Segment::Captures(built, names))
    }
}

/// Only `.` is escaped: the rest of a segment with variables is a regular expression (config reference §8.2).
fn literal(text: &str) -> String {
    text.replace('.', "\\.")
}

/// Splits at the first `{name}`.
fn variable(text: &str) -> Option<(&str, &str, &str)> {
    for (open, _) in text.match_indices('{') {
        let close = open + text[open..].find('}')?;
        let name = &text[open + 1..close];
        if !name.is_empty() && name.chars().all(is_variable_char) {
            return Some((&text[..open], name, &text[close + 1..]));
        }
    }
    None
}

/// Letters, digits, `.` and the ASCII range from `:` to `_`.
fn is_variable_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '.' || (':'..='_').contains(&c)
}
