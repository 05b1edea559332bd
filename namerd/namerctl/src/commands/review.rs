//! `dtab history`, `dtab diff`, `dtab rollback` and `dtab plan`: what was, and what would be.

use super::{Outcome, namerd, print};
use crate::api::{ApiError, Body, Namerd};
use crate::args::PlanArgs;
use crate::error::{Failure, OK};
use crate::history::{self, SEARCHED, Write};
use crate::plan::{self, MAX_NAMES, Plan};
use crate::settings::Settings;
use crate::source::Source;
use crate::wire::{self, Entry, Versioned};
use dtab::Path;
use std::sync::Arc;

/// The writes; a namerd without a history says so by 404.
async fn writes(namerd: &Namerd, name: &str, limit: usize) -> Result<Vec<Write>, Failure> {
    let answer = namerd.history(name, limit).await.map_err(|error| match error {
        ApiError::NotFound => Failure::new(format!("there is no history of {name}"))
            .with("there has never been such a namespace, or this namerd keeps no history"),
        error => error.into(),
    })?;
    history::read(&answer.value).map_err(|why| Failure::new(format!("unexpected answer: {why}")))
}

/// No write to this namespace is known.
fn unknown(name: &str) -> Failure {
    Failure::new(format!("there is no history of {name}"))
        .with("there has never been such a namespace, or nobody has written to it since this namerd keeps a history")
}

pub(super) async fn history(namerd: &Namerd, name: &str, limit: usize, json: bool) -> Outcome {
    if json {
        return Ok((format!("{}\n", namerd.history(name, limit).await?.text), OK));
    }
    // One more than is shown, so that the last one shows what it changed.
    let all = writes(namerd, name, limit.saturating_add(1)).await?;
    if all.is_empty() {
        return Err(unknown(name));
    }
    let table = history::table(&all);
    let shown: Vec<&str> = table.lines().take(limit.min(all.len()) + 1).collect();
    Ok((format!("{}\n", shown.join("\n")), OK))
}

pub(super) async fn diff(namerd: &Namerd, name: &str, version: Option<&str>, to: Option<&str>, json: bool) -> Outcome {
    let all = writes(namerd, name, SEARCHED).await?;
    if all.is_empty() {
        return Err(unknown(name));
    }
    let empty = Vec::new();
    let entries = |write: Option<&Write>| write.and_then(|write| write.dtab.clone()).unwrap_or_else(|| empty.clone());
    let after = match to {
        Some(to) => history::find(&all, to)?.0,
        None => 0,
    };
    let before = match version {
        Some(version) => entries(Some(history::find(&all, version)?.1)),
        None => entries(all.get(after + 1)),
    };
    let after = entries(all.get(after));
    if json {
        return Ok((format!("{}\n", diff_json(&before, &after)), OK));
    }
    let diff = history::diff(&before, &after);
    Ok((if diff.is_empty() { String::new() } else { format!("{diff}\n") }, OK))
}

/// The changes as a JSON array of `{"op": "+" or "-", "prefix", "dst"}`.
pub(super) fn diff_json(before: &[Entry], after: &[Entry]) -> String {
    let changed = history::lines(before, after).into_iter().filter(|(sign, _)| *sign != ' ');
    let one = |(sign, entry): (char, &Entry)| {
        format!("{{\"op\":\"{sign}\",\"prefix\":{},\"dst\":{}}}", wire::quote(&entry.prefix), wire::quote(&entry.dst))
    };
    format!("[{}]", changed.map(one).collect::<Vec<_>>().join(","))
}

pub(super) async fn rollback(settings: Settings, name: &str, version: Option<&str>, json: bool) -> Outcome {
    let reader = namerd(&settings)?;
    let current = match reader.read(name).await {
        Ok(dtab) => Some(dtab),
        Err(ApiError::NotFound) => None,
        Err(error) => return Err(error.into()),
    };
    let all = writes(&reader, name, SEARCHED).await?;
    let target = match version {
        Some(version) => history::find(&all, version)?.1,
        None => {
            let newest = all.first().map(|write| write.version.as_str());
            if let (Some(current), Some(newest)) = (&current, newest)
                && current.version.trim_matches('"') != newest
            {
                return Err(
                    Failure::new("somebody else is writing").with("look at `dtab history`, and name the version")
                );
            }
            all.get(1).ok_or_else(|| match all.is_empty() {
                true => unknown(name),
                false => Failure::new(format!("{name} has only one version, so there is nothing to go back to")),
            })?
        }
    };
    let Some(entries) = &target.dtab else {
        let text = format!("version {} is a delete", target.version);
        return Err(Failure::new(text).with(format!("namerctl dtab delete {name} does that")));
    };
    let writer = namerd(&settings.or_reason(&format!("rollback to {}", target.version)))?;
    let body = Body::Entries(entries.clone());
    match &current {
        Some(Versioned { version, .. }) if version.is_empty() => {
            return Err(Failure::new("namerd sent no version (ETag), so the dtab cannot be changed safely"));
        }
        Some(current) => writer.update(name, &body, Some(&current.version)).await?,
        None => writer.create(name, &body).await?,
    }
    let before = current.map(|dtab| dtab.entries).unwrap_or_default();
    if json {
        let (version, diff) = (wire::quote(&target.version), diff_json(&before, entries));
        return Ok((format!("{{\"version\":{version},\"diff\":{diff}}}\n"), OK));
    }
    let diff = history::diff(&before, entries);
    let newline = if diff.is_empty() { "" } else { "\n" };
    Ok((format!("Rolled back {name} to {}\n{diff}{newline}", target.version), OK))
}

pub(super) async fn plan(namerd: Namerd, args: PlanArgs, json: bool) -> Outcome {
    let scope = args
        .scope
        .iter()
        .map(|prefix| dtab::parse_prefix(prefix).map_err(|error| Failure::usage(format!("--scope {prefix}: {error}"))));
    let scope = scope.collect::<Result<Vec<_>, _>>()?;
    let new = Source::read(&args.file)?.table()?;
    let old = match namerd.read(&args.name).await {
        Ok(dtab) => dtab,
        Err(ApiError::NotFound) => Versioned::default(),
        Err(error) => return Err(error.into()),
    };
    let names = names(&namerd, &args).await?;
    let looked_up = names.len();
    let texts = (wire::text(&old.entries), new.text);
    let rows = plan::compare(Arc::new(namerd), texts, names, &scope).await?;
    let plan = Plan { namespace: args.name, version: old.version, names: looked_up, rows };
    let text = format!("{}\n", if json { plan.json() } else { plan.text() });
    match plan.verdict() {
        Ok(status) => Ok((text, status)),
        Err(failure) => {
            print(&text);
            Err(failure)
        }
    }
}

/// The names to look at: those given, or those that routers have asked for.
async fn names(namerd: &Namerd, args: &PlanArgs) -> Result<Vec<String>, Failure> {
    let mut names = args.paths.clone();
    if let Some(file) = &args.names {
        names.extend(names_in(&Source::read(file)?)?);
    }
    if args.paths.is_empty() && args.names.is_none() {
        names = namerd.names(&args.name).await.map_err(|error| match error {
            ApiError::NotFound => Failure::new("this namerd does not tell which names routers ask for")
                .with("give them by --names FILE or --name PATH"),
            error => error.into(),
        })?;
        if names.is_empty() {
            let advice = "give names by --names FILE or --name PATH";
            return Err(Failure::new(format!("no router has asked {} for a name", args.name)).with(advice));
        }
    }
    if names.len() > MAX_NAMES {
        return Err(Failure::new(format!("{} names are too many; at most {MAX_NAMES}", names.len())));
    }
    names.sort();
    names.dedup();
    for name in &names {
        Path::parse(name).map_err(|error| Failure::new(format!("{name} is no name: {error}")))?;
    }
    Ok(names)
}

/// One name a line, with `#` at the beginning of comments; or a JSON array.
fn names_in(source: &Source) -> Result<Vec<String>, Failure> {
    let text = source.text()?;
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(|error| Failure::new(format!("{}: {error}", source.name)));
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}
