//! Single values: booleans, numbers, texts, addresses, paths, patterns, dtabs (config reference §2.2).
//!
//! For: the readers of objects. Each function takes an item and gives the value or why not. Not for: defaults.

use super::problem::quote;
use super::reader::{Bad, Item};
use super::source::{Pos, Source, narrow};
use super::tree::Value;
use dtab::{Dtab, Path, Pattern};
use regex::Regex;
use std::net::IpAddr;
use std::time::Duration;

/// The largest value of a Java `int`, the type of most numbers of Linkerd.
const MAX_INT: i64 = i32::MAX as i64;

/// A scalar: its text and whether it was quoted.
fn scalar<'a>(item: &Item<'a>, expected: &str) -> Result<(&'a str, bool), Bad> {
    match &item.node.value {
        Value::Scalar { text, quoted } => Ok((text, *quoted)),
        _ => Err(Bad::new(format!("{} where {expected} belongs", item.shape())).expected(expected)),
    }
}

/// Any scalar, in its source text.
pub fn string(item: &Item<'_>) -> Result<String, Bad> {
    Ok(scalar(item, "a text")?.0.to_owned())
}

/// The YAML 1.1 booleans without the one-letter ones, unquoted.
pub fn boolean(item: &Item<'_>) -> Result<bool, Bad> {
    let (text, quoted) = scalar(item, "true or false")?;
    let bad = |what: &str| Bad::new(format!("{} is {what}", quote(text))).expected("true or false");
    match (plain_bool(text), quoted) {
        (Some(value), false) => Ok(value),
        (Some(_), true) => Err(bad("quoted, which makes it a text")),
        (None, _) => Err(bad("not a boolean")),
    }
}

/// A plain scalar as a boolean, if it is one.
pub fn plain_bool(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// A plain scalar as an integer, if it is one: decimal, `_` between digits, leading zeros without meaning.
pub fn plain_int(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) || !digits.bytes().all(|b| b.is_ascii_digit() || b == b'_') {
        return None;
    }
    text.replace('_', "").parse().ok()
}

/// An integer from `min` to `max`; a quoted number is refused.
pub fn int(min: i64, max: i64) -> impl Fn(&Item<'_>) -> Result<i64, Bad> {
    move |item| {
        let (text, quoted) = scalar(item, &range(min, max))?;
        match (plain_int(text), quoted) {
            (Some(value), false) => in_range(value, min, max),
            (Some(_), true) => {
                let message = format!("{} is quoted, which makes it a text", quote(text));
                Err(Bad::new(message).expected(range(min, max)))
            }
            (None, _) => Err(Bad::new(format!("{} is not a whole number", quote(text))).expected(range(min, max))),
        }
    }
}

/// As [`int`], for the keys that also accept quoted numbers and cut fractions off.
pub fn loose_int(min: i64, max: i64) -> impl Fn(&Item<'_>) -> Result<i64, Bad> {
    move |item| {
        let (text, _) = scalar(item, &range(min, max))?;
        let cut = || text.trim().parse::<f64>().ok().filter(|value| value.is_finite()).map(|value| value as i64);
        match plain_int(text.trim()).or_else(cut) {
            Some(value) => in_range(value, min, max),
            None => Err(Bad::new(format!("{} is not a number", quote(text))).expected(range(min, max))),
        }
    }
}

fn in_range(value: i64, min: i64, max: i64) -> Result<i64, Bad> {
    match (min..=max).contains(&value) {
        true => Ok(value),
        false => Err(Bad::new(format!("{value} is out of range")).expected(range(min, max))),
    }
}

fn range(min: i64, max: i64) -> String {
    match max >= MAX_INT {
        true if min == i64::from(i32::MIN) => "a whole number".to_owned(),
        true => format!("a whole number of at least {min}"),
        false => format!("a whole number from {min} to {max}"),
    }
}

/// A whole number of at least `min` that fits a Java `int`.
pub fn size(min: u32) -> impl Fn(&Item<'_>) -> Result<usize, Bad> {
    move |item| int(i64::from(min), MAX_INT)(item).map(|value| usize::try_from(value).unwrap_or(usize::MAX))
}

/// As [`size`], 32 bits wide.
pub fn count(min: u32) -> impl Fn(&Item<'_>) -> Result<u32, Bad> {
    move |item| int(i64::from(min), MAX_INT)(item).map(|value| u32::try_from(value).unwrap_or(u32::MAX))
}

/// Milliseconds of at least `min`.
pub fn millis(min: u32) -> impl Fn(&Item<'_>) -> Result<Duration, Bad> {
    move |item| int(i64::from(min), MAX_INT)(item).map(from_millis)
}

/// Milliseconds, where zero or less switches the limit off; off is given as zero.
pub fn millis_or_off(item: &Item<'_>) -> Result<Duration, Bad> {
    int(i64::from(i32::MIN), MAX_INT)(item).map(from_millis)
}

/// Milliseconds of at least `min`, of the keys that accept quoted numbers.
pub fn loose_millis(min: u32) -> impl Fn(&Item<'_>) -> Result<Duration, Bad> {
    move |item| loose_int(i64::from(min), MAX_INT)(item).map(from_millis)
}

/// Seconds of at least `min`.
pub fn seconds(min: u32) -> impl Fn(&Item<'_>) -> Result<Duration, Bad> {
    move |item| int(i64::from(min), MAX_INT)(item).map(|value| Duration::from_secs(value.unsigned_abs()))
}

fn from_millis(value: i64) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or(0))
}

/// A number from `min` to `max`; fractions and quotes are both allowed.
pub fn double(min: f64, max: f64) -> impl Fn(&Item<'_>) -> Result<f64, Bad> {
    move |item| {
        let expected = format!("a number from {min} to {max}");
        let (text, _) = scalar(item, &expected)?;
        let value = plain_int(text).map(|value| value as f64).or_else(|| text.trim().parse().ok());
        match value {
            Some(value) if (min..=max).contains(&value) => Ok(value),
            Some(_) => Err(Bad::new(format!("{} is out of range", quote(text))).expected(expected)),
            None => Err(Bad::new(format!("{} is not a number", quote(text))).expected(expected)),
        }
    }
}

/// A port: an unquoted number.
pub fn port(item: &Item<'_>) -> Result<u16, Bad> {
    int(0, i64::from(u16::MAX))(item).map(|value| u16::try_from(value).unwrap_or(0))
}

/// A literal address; host names are refused.
pub fn ip(item: &Item<'_>) -> Result<IpAddr, Bad> {
    let (text, _) = scalar(item, "an IP address")?;
    let bad = |_| Bad::new(format!("{} is not a literal IP address", quote(text)));
    text.parse().map_err(|error| bad(error).expected("an IPv4 or IPv6 address such as 127.0.0.1, not a host name"))
}

/// A path such as `/svc`.
pub fn path(item: &Item<'_>) -> Result<Path, Bad> {
    let (text, _) = scalar(item, "a path")?;
    Path::parse(text).map_err(|error| {
        let hint =
            Path::parse(&format!("/{text}")).ok().filter(|_| !text.starts_with('/')).map(|path| path.to_string());
        Bad::new(format!("{} is not a path: {error}", quote(text))).expected("a path such as /svc").nearest(hint)
    })
}

/// A prefix pattern (config reference §8.2).
pub fn pattern(item: &Item<'_>) -> Result<Pattern, Bad> {
    let (text, _) = scalar(item, "a prefix pattern")?;
    let bad = |error: dtab::PatternError| Bad::new(error.to_string());
    Pattern::parse(text).map_err(|error| bad(error).expected("a prefix pattern such as /svc/* or /svc/{name}"))
}

/// A regular expression that must match a whole text.
pub fn full_regex(item: &Item<'_>) -> Result<Regex, Bad> {
    let (text, _) = scalar(item, "a regular expression")?;
    let bad = |error: regex::Error| {
        let error = error.to_string();
        let reason = error.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned();
        Bad::new(format!("{} is not a regular expression: {reason}", quote(text)))
    };
    Regex::new(text).map_err(bad)?;
    Regex::new(&format!("^(?:{text})$")).map_err(bad)
}

/// A legal name of an HTTP header, as written.
pub fn header(item: &Item<'_>) -> Result<String, Bad> {
    let (text, _) = scalar(item, "the name of an HTTP header")?;
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    match !text.is_empty() && text.len() <= 1024 && text.bytes().all(token) {
        true => Ok(text.to_owned()),
        false => {
            let expected = "letters, digits and !#$%&'*+-.^_`|~";
            Err(Bad::new(format!("{} is not a legal header name", quote(text))).expected(expected))
        }
    }
}

/// A delegation table. The place of an error is the place within the table where that can be told.
pub fn dtab(source: &Source<'_>, item: &Item<'_>) -> Result<Dtab, Bad> {
    let (text, _) = scalar(item, "a dtab")?;
    dtab::parse_dtab(text).map_err(|error| {
        let before = text.get(..error.offset()).unwrap_or("");
        let line = before.matches('\n').count();
        let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1);
        let shown = text.lines().nth(line).unwrap_or("").trim();
        let mut bad = Bad::new(format!("not a dtab, in line {} of it, {}: {}", line + 1, quote(shown), short(&error)));
        bad.at = within(source, item.pos, text, line, column);
        bad
    })
}

/// The line of every entry of a table, from 1; that of the key where the source does not look like the value.
pub fn dtab_lines(source: &Source<'_>, item: &Item<'_>) -> Vec<u32> {
    let Ok((text, _)) = scalar(item, "a dtab") else { return Vec::new() };
    let raw = source.from(item.pos);
    let block = raw.starts_with('|');
    let start = source.offset(item.pos).filter(|_| raw.starts_with(text));
    let (mut line, mut seen) = (0, 0);
    let place = |at: usize| {
        line += text.get(seen..at).unwrap_or("").matches('\n').count();
        seen = at;
        match start {
            _ if block => item.pos.line.saturating_add(narrow(line + 1)),
            Some(start) => source.pos(start + at).line,
            None => item.pos.line,
        }
    };
    dtab::dentry_offsets(text).unwrap_or_default().into_iter().map(place).collect()
}

/// The part of a dtab error that does not repeat the table.
fn short(error: &dtab::ParseError) -> String {
    let text = error.to_string();
    text.split(" found at '").next().map_or_else(|| text.clone(), str::to_owned)
}

/// The place of a byte of a scalar that starts at `start`, for those whose source looks like their value: literal
/// blocks, and scalars in one line.
fn within(source: &Source<'_>, start: Pos, text: &str, line: usize, column: usize) -> Option<Pos> {
    let raw = source.from(start);
    if !raw.starts_with('|') {
        let quote = usize::from(raw.starts_with(['"', '\'']));
        let shown = raw.get(quote..)?.starts_with(text);
        return shown.then(|| source.offset(start).map(|at| source.pos(at + quote + column))).flatten();
    }
    let wanted = text.split('\n').nth(line)?;
    let in_file = start.line.checked_add(narrow(line + 1))?;
    let shown = source.line(in_file);
    let indent = shown.len().checked_sub(wanted.len()).filter(|_| shown.ends_with(wanted))?;
    let chars = shown.get(..indent + column)?.chars().count();
    Some(Pos { line: in_file, column: narrow(chars + 1) })
}

/// A time limit, where zero is none.
pub fn limit(time: Duration) -> Option<Duration> {
    (!time.is_zero()).then_some(time)
}
