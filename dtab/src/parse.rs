//! Text to paths, trees and tables, with nom; error texts are those of naming reference §1.2.
//!
//! Linear in the input, no panic on any text. Nesting of parentheses is bounded by [`MAX_NESTING`]. Not for: printing.

use crate::dtab::{Dentry, Dtab, Element, Prefix};
use crate::path::{Path, PathBuilder};
use crate::tree::{NameTree, Weighted};
use nom::branch::alt;
use nom::bytes::complete::{tag, take_while1};
use nom::character::complete::char as just;
use nom::combinator::value;
use nom::error::ErrorKind;
use nom::{Err, IResult, Parser};
use std::fmt;

/// Parentheses may nest this deep; deeper input is an error (attack D5).
pub const MAX_NESTING: usize = 64;

/// What was expected, what was found and where (naming reference §1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    expected: String,
    found: Option<String>,
    input: String,
    offset: usize,
}

/// The displayed input is cut to this many bytes on either side of the error, and so is what was found there, so that a message about a huge table
/// stays readable.
const SHOWN: usize = 4096;

impl ParseError {
    /// Byte offset of the offending character in the input.
    pub fn offset(&self) -> usize {
        self.offset
    }
}

impl std::error::Error for ParseError {}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = &self.input[self.offset..];
        let here = rest.chars().next();
        let found = match (&self.found, here) {
            (Some(text), _) => format!("'{}'", head(text)),
            (None, Some(c)) => format!("'{c}'"),
            (None, None) => "end of input".to_owned(),
        };
        let before = tail(&self.input[..self.offset]);
        let (inside, after) = match here {
            Some(c) => rest.split_at(c.len_utf8()),
            None => ("", ""),
        };
        write!(f, "{} expected but {found} found at '{before}[{inside}]{}'", self.expected, head(after))
    }
}

fn head(text: &str) -> &str {
    let mut end = text.len().min(SHOWN);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn tail(text: &str) -> &str {
    let mut start = text.len().saturating_sub(SHOWN);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

/// nom's error: what was expected at `rest`.
#[derive(Debug)]
struct Miss<'a> {
    rest: &'a str,
    expected: &'static str,
    found: Option<String>,
}

impl<'a> nom::error::ParseError<&'a str> for Miss<'a> {
    fn from_error_kind(rest: &'a str, _: ErrorKind) -> Self {
        Miss { rest, expected: "", found: None }
    }
    fn append(_: &'a str, _: ErrorKind, other: Self) -> Self {
        other
    }
}

type Parsed<'a, T> = IResult<&'a str, T, Miss<'a>>;

fn miss<'a, T>(rest: &'a str, expected: &'static str) -> Parsed<'a, T> {
    Err(Err::Failure(Miss { rest, expected, found: None }))
}

/// Parses a path and nothing else (naming reference §1.1).
pub fn parse_path(text: &str) -> Result<Path, ParseError> {
    whole(text, path)
}

/// Parses a name tree and nothing else (naming reference §2.1).
pub fn parse_tree(text: &str) -> Result<NameTree<Path>, ParseError> {
    whole(text, |input| tree(input, 0))
}

/// Parses the left-hand side of a dentry alone (naming reference §3.1).
pub fn parse_prefix(text: &str) -> Result<Prefix, ParseError> {
    whole(text, prefix)
}

/// Parses a table; the empty text is the empty table (naming reference §3.1).
pub fn parse_dtab(text: &str) -> Result<Dtab, ParseError> {
    whole(text, |input| dentries(input, &mut Vec::new())).map(Dtab::new)
}

/// The byte offset of every entry of a table in its text, for reports that name where an entry stands.
pub fn dentry_offsets(text: &str) -> Result<Vec<usize>, ParseError> {
    let mut left = Vec::new();
    whole(text, |input| dentries(input, &mut left))?;
    Ok(left.into_iter().map(|left| text.len() - left).collect())
}

fn whole<T>(text: &str, mut parser: impl FnMut(&str) -> Parsed<'_, T>) -> Result<T, ParseError> {
    let outcome = parser(skip_space(text)).and_then(|(rest, parsed)| {
        let rest = skip_space(rest);
        if rest.is_empty() { Ok(parsed) } else { miss(rest, "end of input").map(|(_, never)| never) }
    });
    outcome.map_err(|error| {
        let Miss { rest, expected, found } = match error {
            Err::Error(miss) | Err::Failure(miss) => miss,
            Err::Incomplete(_) => Miss { rest: "", expected: "more input", found: None },
        };
        ParseError { expected: expected.to_owned(), found, input: text.to_owned(), offset: text.len() - rest.len() }
    })
}

/// `Character.isWhitespace` of Java (naming reference §1.1); not Rust's notion.
fn is_space(c: char) -> bool {
    matches!(c, '\t'..='\r' | ' ' | '\u{1c}'..='\u{1f}' | '\u{1680}' | '\u{2000}'..='\u{2006}' | '\u{2008}'..='\u{200a}'
        | '\u{2028}' | '\u{2029}' | '\u{205f}' | '\u{3000}')
}

/// Without leading white space and comments.
fn skip_space(mut input: &str) -> &str {
    loop {
        input = input.trim_start_matches(is_space);
        match input.strip_prefix('#') {
            Some(comment) => input = comment.find('\n').map_or("", |end| &comment[end + 1..]),
            None => return input,
        }
    }
}

/// True for the characters a label may hold unescaped (naming reference §1.1).
pub(crate) fn is_label_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.' | '#' | '$' | '%' | '-')
}

fn expect<'a>(input: &'a str, token: char, expected: &'static str) -> Parsed<'a, char> {
    just::<_, Miss<'a>>(token).parse(input).or_else(|_| miss(input, expected))
}

fn path(input: &str) -> Parsed<'_, Path> {
    let (input, _) = expect(skip_space(input), '/', "'/'")?;
    path_rest(input)
}

/// The labels of a path whose first slash is read.
fn path_rest(input: &str) -> Parsed<'_, Path> {
    let mut builder = PathBuilder::default();
    if !input.starts_with(|c| is_label_char(c) || c == '\\') {
        return Ok((input, builder.build()));
    }
    let mut rest = input;
    loop {
        let (after, label) = label(rest)?;
        if builder.push(&label).is_err() {
            return miss(rest, "label char");
        }
        match after.strip_prefix('/') {
            Some(next) => rest = next,
            None => return Ok((after, builder.build())),
        }
    }
}

fn label(input: &str) -> Parsed<'_, Vec<u8>> {
    let mut label = Vec::new();
    let mut rest = input;
    loop {
        if let Ok((after, plain)) = take_while1::<_, _, Miss<'_>>(is_label_char).parse(rest) {
            label.extend_from_slice(plain.as_bytes());
            rest = after;
        } else if let Some(after) = rest.strip_prefix('\\') {
            let (after, byte) = escape(after)?;
            label.push(byte);
            rest = after;
        } else if label.is_empty() {
            return miss(rest, "label char");
        } else {
            return Ok((rest, label));
        }
    }
}

/// `xHH`, after the backslash.
fn escape(input: &str) -> Parsed<'_, u8> {
    let (input, _) = expect(input, 'x', "'x'")?;
    let (input, high) = hex_digit(input)?;
    let (input, low) = hex_digit(input)?;
    Ok((input, high * 16 + low))
}

fn hex_digit(input: &str) -> Parsed<'_, u8> {
    match input.chars().next().and_then(|c| c.to_digit(16)) {
        Some(digit) => Ok((&input[1..], digit as u8)),
        None => miss(input, "hex char"),
    }
}

fn tree(input: &str, nesting: usize) -> Parsed<'_, NameTree<Path>> {
    let (mut rest, first) = union(input, nesting)?;
    let mut trees = vec![first];
    loop {
        rest = skip_space(rest);
        let Some(after) = rest.strip_prefix('|') else { break };
        let (after, next) = union(after, nesting)?;
        trees.push(next);
        rest = after;
    }
    let tree = if trees.len() == 1 { trees.remove(0) } else { NameTree::Alt(trees) };
    Ok((rest, tree))
}

fn union(input: &str, nesting: usize) -> Parsed<'_, NameTree<Path>> {
    let (mut rest, first) = weighted(input, nesting)?;
    let mut branches = vec![first];
    loop {
        rest = skip_space(rest);
        let Some(after) = rest.strip_prefix('&') else { break };
        let (after, next) = weighted(after, nesting)?;
        branches.push(next);
        rest = after;
    }
    let tree = if branches.len() == 1 { branches.remove(0).tree } else { NameTree::Union(branches) };
    Ok((rest, tree))
}

fn weighted(input: &str, nesting: usize) -> Parsed<'_, Weighted<Path>> {
    let input = skip_space(input);
    if !input.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        let (rest, tree) = simple(input, nesting)?;
        return Ok((rest, Weighted { weight: 1.0, tree }));
    }
    let (rest, weight) = number(input)?;
    let (rest, _) = expect(skip_space(rest), '*', "'*'")?;
    let (rest, tree) = simple(skip_space(rest), nesting)?;
    Ok((rest, Weighted { weight, tree }))
}

/// Digits with at most one dot; at least one digit; no sign, no exponent.
fn number(input: &str) -> Parsed<'_, f64> {
    let end = input.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(input.len());
    let text = &input[..end];
    let mut dots = text.match_indices('.').skip(1);
    if let Some((second, _)) = dots.next() {
        return miss(&input[second..], "number char");
    }
    match text.parse::<f64>() {
        Ok(weight) if weight.is_finite() => Ok((&input[end..], weight)),
        _ => Err(Err::Failure(Miss { rest: &input[end..], expected: "weight", found: Some(text.to_owned()) })),
    }
}

fn simple(input: &str, nesting: usize) -> Parsed<'_, NameTree<Path>> {
    let constant = alt((
        value(NameTree::Neg, just::<_, Miss<'_>>('~')),
        value(NameTree::Fail, just('!')),
        value(NameTree::Empty, just('$')),
    ))
    .parse(input);
    if let Ok(found) = constant {
        return Ok(found);
    }
    if let Some(rest) = input.strip_prefix('/') {
        return path_rest(rest).map(|(rest, path)| (rest, NameTree::Leaf(path)));
    }
    let Some(rest) = input.strip_prefix('(') else { return miss(input, "simple") };
    if nesting >= MAX_NESTING {
        return miss(input, "at most 64 nested parentheses");
    }
    let (rest, inner) = tree(rest, nesting + 1)?;
    let (rest, _) = expect(skip_space(rest), ')', "')'")?;
    Ok((rest, inner))
}

fn prefix(input: &str) -> Parsed<'_, Prefix> {
    let (mut rest, _) = expect(skip_space(input), '/', "'/'")?;
    let mut elements = Vec::new();
    if !rest.starts_with(|c| is_label_char(c) || c == '\\' || c == '*') {
        return Ok((rest, Prefix::new(elements)));
    }
    loop {
        let (after, element) = match rest.strip_prefix('*') {
            Some(after) => (after, Element::Wildcard),
            None => label(rest).map(|(after, label)| (after, Element::Label(label.into())))?,
        };
        elements.push(element);
        match after.strip_prefix('/') {
            Some(next) => rest = next,
            None => return Ok((after, Prefix::new(elements))),
        }
    }
}

/// `left` gets how many bytes were left where each entry starts.
fn dentries<'a>(input: &'a str, left: &mut Vec<usize>) -> Parsed<'a, Vec<Dentry>> {
    let mut rest = input;
    let mut table = Vec::new();
    while !rest.is_empty() {
        left.push(rest.len());
        let (after, dentry) = dentry(rest)?;
        table.push(dentry);
        let after = skip_space(after);
        let Some(next) = after.strip_prefix(';') else { return Ok((after, table)) };
        rest = skip_space(next);
    }
    Ok((rest, table))
}

fn dentry(input: &str) -> Parsed<'_, Dentry> {
    let (rest, prefix) = prefix(input)?;
    let rest = skip_space(rest);
    let rest = match tag::<_, _, Miss<'_>>("=>").parse(rest) {
        Ok((rest, _)) => rest,
        Err(_) => {
            let (after, _) = expect(rest, '=', "'='")?;
            return expect(after, '>', "'>'").and_then(|(rest, _)| miss(rest, "'='"));
        }
    };
    let (rest, dst) = tree(rest, 0)?;
    Ok((rest, Dentry { prefix, dst }))
}
