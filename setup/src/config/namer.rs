//! `namers` (config reference §11).
//!
//! For: `load`. Not for: looking names up. Whether a directory exists is checked here, as Linkerd does; nothing else
//! touches the file system or the network.

use super::kinds::{Found, NAMERS};
use super::moved::Place;
use super::params::{NamerKind, NamerParams};
use super::problem::quote;
use super::reader::{Bad, Context, Item, Reader};
use super::scalar::{path, pattern, string};
use super::transformer::transformers;
use dtab::Path;
use std::path::PathBuf;

/// The namers in file order. With a `stateDir` a missing directory is a warning: what is on disk serves until it is there.
pub fn namers(top: &mut Reader<'_>, has_state: bool) -> Vec<NamerParams> {
    top.list("namers").into_iter().filter_map(|item| namer(top, item, has_state)).collect()
}

fn namer<'a>(top: &Reader<'a>, item: Item<'a>, has_state: bool) -> Option<NamerParams> {
    let mut reader = Reader::open(top.context, item, Place::Other)?;
    let Found::Built(kind) = NAMERS.of(&mut reader) else { return None };
    reader.get("experimental", string);
    let transformers = transformers(&mut reader);
    let kind = match kind {
        "io.l5d.rewrite" => rewrite(&mut reader),
        _ => fs(&mut reader, has_state),
    };
    reader.finish();
    Some(NamerParams { kind: kind?, transformers })
}

fn fs(reader: &mut Reader<'_>, has_state: bool) -> Option<NamerKind> {
    let prefix = match reader.take("prefix") {
        Some(_) => reader.get("prefix", prefix),
        None => Path::parse("/#/io.l5d.fs").ok(),
    };
    let context = reader.context;
    let root_dir = reader.need("rootDir", |item| directory(item).or_else(|bad| missing(context, item, bad, has_state)));
    Some(NamerKind::Fs { prefix: prefix?, root_dir: root_dir? })
}

fn rewrite(reader: &mut Reader<'_>) -> Option<NamerKind> {
    let prefix = reader.need("prefix", prefix);
    let pattern = reader.need("pattern", pattern);
    let variables = pattern.as_ref().map(|pattern| pattern.text());
    let name = reader.need("name", |item| target(item, variables));
    Some(NamerKind::Rewrite { prefix: prefix?, pattern: pattern?, name: name? })
}

/// The prefix of a namer, with the `/#` that is not written.
fn prefix(item: &Item<'_>) -> Result<Path, Bad> {
    let written = path(item)?;
    if written.get(0) == Some(b"#") {
        let without = written.skip(1).to_string();
        return Err(Bad::new("the prefix of a namer is written without the leading `/#`").nearest(Some(without)));
    }
    let root = Path::parse("/#").map_err(|error| Bad::new(error.to_string()))?;
    Ok(root.concat(&written))
}

/// A directory that exists.
fn directory(item: &Item<'_>) -> Result<PathBuf, Bad> {
    let text = string(item)?;
    let bad = |reason: &str| Bad::new(format!("{} {reason}", quote(&text))).expected("an existing directory");
    match std::fs::metadata(&text) {
        Ok(found) if found.is_dir() => Ok(PathBuf::from(&text)),
        Ok(_) => Err(bad("is not a directory")),
        Err(error) => Err(bad(&format!("cannot be read: {error}"))),
    }
}

/// A directory that does not exist yet, where names on disk serve meanwhile.
fn missing(context: &Context<'_>, item: &Item<'_>, bad: Bad, has_state: bool) -> Result<PathBuf, Bad> {
    let text = string(item)?;
    if !has_state || std::fs::metadata(&text).is_ok() {
        return Err(bad);
    }
    context.warn(item, format!("{}; the names in `stateDir` serve until it is there", bad.message));
    Ok(PathBuf::from(text))
}

/// The target of a rewrite: a path once the variables, all from the pattern, are filled in.
fn target(item: &Item<'_>, pattern: Option<&str>) -> Result<String, Bad> {
    let text = string(item)?;
    let mut filled = String::new();
    let mut rest = text.as_str();
    while let Some((before, (variable, after))) = rest.split_once('{').and_then(|(a, b)| Some((a, b.split_once('}')?)))
    {
        if pattern.is_some_and(|pattern| !pattern.contains(&format!("{{{variable}}}"))) {
            let message = format!("`pattern` has no variable {}", quote(&format!("{{{variable}}}")));
            return Err(Bad::new(message));
        }
        filled.push_str(before);
        filled.push('x');
        rest = after;
    }
    filled.push_str(rest);
    match Path::parse(&filled) {
        Ok(_) => Ok(text),
        Err(error) => Err(Bad::new(format!("{} does not give a path: {error}", quote(&text)))),
    }
}
