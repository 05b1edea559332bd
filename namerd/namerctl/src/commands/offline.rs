//! `dtab check` and `dtab test`: what needs no namerd.

use super::{Outcome, print};
use crate::error::{Failure, OK};
use crate::lint::{self, Finding, Severity};
use crate::source::{Source, Table};
use crate::unit::{Suite, Verdict};
use crate::wire::quote;
use dtab::Path;

pub(super) fn check(file: &str, strict: bool, roots: &[String], json: bool) -> Outcome {
    let source = Source::read(file)?;
    let roots = roots.iter().map(|root| Path::parse(root).map_err(|error| Failure::usage(format!("--root: {error}"))));
    let roots = roots.collect::<Result<Vec<_>, _>>()?;
    let table = match source.table() {
        Ok(table) => table,
        Err(failure) if json => {
            print(&format!(
                "[{{\"severity\":\"error\",\"code\":\"parse\",\"message\":{}}}]\n",
                quote(&failure.message)
            ));
            return Err(failure);
        }
        Err(failure) => return Err(failure),
    };
    let found = lint::lint(&table.dtab, &roots);
    let text = if json { as_json(&table, &found) } else { as_text(&source, &table, &found) };
    let count = |severity| found.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if errors == 0 && (warnings == 0 || !strict) {
        return Ok((text, OK));
    }
    print(&text);
    Err(Failure::new(format!("{}: {errors} errors, {warnings} warnings", source.name)))
}

fn as_text(source: &Source, table: &Table, found: &[Finding]) -> String {
    let mut lines = Vec::new();
    for finding in found {
        let place = match table.places.get(finding.entry).copied().flatten() {
            Some(place) => format!("{}:{}:{}", source.name, place.line, place.column),
            None => format!("{}: entry {}", source.name, finding.entry + 1),
        };
        let entry = table.dtab.dentries().get(finding.entry);
        let shown = entry.map(|entry| format!("\n    {} => {}", entry.prefix, entry.dst)).unwrap_or_default();
        lines.push(format!("{place}: {}: {} [{}]{shown}\n", finding.severity.name(), finding.message, finding.code));
    }
    if found.is_empty() {
        lines.push(format!("{}: {} entries, nothing to report\n", source.name, table.places.len()));
    }
    lines.concat()
}

fn as_json(table: &Table, found: &[Finding]) -> String {
    let one = |finding: &Finding| {
        let place = table.places.get(finding.entry).copied().flatten();
        let place = place.map(|at| format!("\"line\":{},\"column\":{},", at.line, at.column)).unwrap_or_default();
        format!(
            "{{\"severity\":\"{}\",\"code\":\"{}\",\"entry\":{},{place}\"message\":{}}}",
            finding.severity.name(),
            finding.code,
            finding.entry + 1,
            quote(&finding.message)
        )
    };
    format!("[{}]\n", found.iter().map(one).collect::<Vec<_>>().join(","))
}

pub(super) fn test(file: &str, json: bool) -> Outcome {
    let source = Source::read(file)?;
    let suite = Suite::read(&source).map_err(Failure::new)?;
    let dtab = match (&suite.dtab, &suite.file) {
        (Some(text), _) => Source::of("dtab", text.as_bytes()),
        (None, Some(name)) => {
            let folder = std::path::Path::new(file).parent().filter(|_| file != "-").map(ToOwned::to_owned);
            Source::read(&folder.unwrap_or_default().join(name).to_string_lossy())?
        }
        (None, None) => Source::of("dtab", ""),
    };
    let verdicts = suite.run(&dtab.table()?.dtab).map_err(Failure::new)?;
    let failed = verdicts.iter().filter(|verdict| verdict.failure.is_some()).count();
    let text = if json { verdicts_json(&verdicts) } else { verdicts_text(&verdicts) };
    if failed == 0 {
        return Ok((text, OK));
    }
    print(&text);
    Err(Failure::new(format!("{failed} of {} cases fail", verdicts.len())))
}

fn verdicts_text(verdicts: &[Verdict]) -> String {
    let one = |verdict: &Verdict| match &verdict.failure {
        None => format!("ok    {}\n", verdict.title),
        Some(why) => format!("FAIL  {}\n{why}\n", verdict.title),
    };
    verdicts.iter().map(one).collect()
}

fn verdicts_json(verdicts: &[Verdict]) -> String {
    let one = |verdict: &Verdict| {
        let why = verdict.failure.as_deref().map_or("null".to_owned(), quote);
        format!("{{\"title\":{},\"ok\":{},\"failure\":{why}}}", quote(&verdict.title), verdict.failure.is_none())
    };
    format!("[{}]\n", verdicts.iter().map(one).collect::<Vec<_>>().join(","))
}
