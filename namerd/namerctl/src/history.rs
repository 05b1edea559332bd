//! The writes to a namespace, what changed between them, and the way back.
//!
//! Called by `dtab history`, `dtab diff` and `dtab rollback`. Not for: where history is kept, which is namerd's.

use crate::error::Failure;
use crate::explain::clean;
use crate::time::utc;
use crate::wire::{self, Entry};
use serde_json::Value;

/// So many writes are looked through for a version.
pub const SEARCHED: usize = 10_000;
/// Larger tables are compared without looking for what moved.
const MAX_CELLS: usize = 16_000_000;

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The version that it made.
    pub version: String,
    /// When, as people read it.
    pub time: String,
    /// Who says to have written it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// What was written; None for a delete.
    pub dtab: Option<Vec<Entry>>,
}

/// Reads namerd's answer.
pub fn read(value: &Value) -> Result<Vec<Write>, String> {
    let list = value.as_array().ok_or_else(|| format!("a history is an array, not {}", wire::kind(value)))?;
    list.iter().map(read_write).collect()
}

fn read_write(item: &Value) -> Result<Write, String> {
    let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let time = match item.get("time") {
        // Milliseconds are told from seconds by their size.
        Some(Value::Number(number)) => number
            .as_i64()
            .map_or_else(String::new, |time| utc(if time > 100_000_000_000 { time / 1000 } else { time })),
        _ => text("time"),
    };
    let dtab = match item.get("dtab") {
        None | Some(Value::Null) => None,
        Some(entries) => Some(wire::read_entries(entries)?),
    };
    Ok(Write { version: text("version"), time, author: text("author"), reason: text("reason"), dtab })
}

/// A table of writes, newest first; every line but the last ends with a newline.
pub fn table(writes: &[Write]) -> String {
    let rows: Vec<[String; 5]> = writes
        .iter()
        .enumerate()
        .map(|(i, write)| {
            let before = writes.get(i + 1).map(|write| write.dtab.clone().unwrap_or_default());
            let change = match (&write.dtab, before) {
                (None, _) => "deleted".to_owned(),
                (Some(dtab), None) if dtab.len() == 1 => "1 entry".to_owned(),
                (Some(dtab), None) => format!("{} entries", dtab.len()),
                (Some(dtab), Some(before)) => summary(&before, dtab),
            };
            [write.version.clone(), write.time.clone(), write.author.clone(), change, write.reason.clone()]
                .map(|cell| clean(if cell.is_empty() { "-" } else { &cell }))
        })
        .collect();
    let head = ["VERSION", "TIME", "AUTHOR", "CHANGE", "REASON"].map(str::to_owned);
    columns(std::iter::once(&head).chain(&rows))
}

fn columns<'a>(rows: impl Iterator<Item = &'a [String; 5]> + Clone) -> String {
    let width = |column: usize| rows.clone().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2), width(3), 0];
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.map(line).collect::<Vec<_>>().join("\n")
}

fn summary(before: &[Entry], after: &[Entry]) -> String {
    let lines = lines(before, after);
    let count = |sign: char| lines.iter().filter(|(own, _)| *own == sign).count();
    match (count('+'), count('-')) {
        (0, 0) => "none".to_owned(),
        (added, removed) => format!("+{added} -{removed}"),
    }
}

/// What became of the entries: `+ prefix => dst ;` and `- prefix => dst ;`, and nothing when they are the same.
pub fn diff(before: &[Entry], after: &[Entry]) -> String {
    let changed = lines(before, after).into_iter().filter(|(sign, _)| *sign != ' ');
    let shown = changed.map(|(sign, entry)| clean(&format!("{sign} {} => {} ;", entry.prefix, entry.dst)));
    shown.collect::<Vec<_>>().join("\n")
}

/// The entries of both with a sign each: those that stay as ` `, by a longest common subsequence.
pub fn lines<'a>(before: &'a [Entry], after: &'a [Entry]) -> Vec<(char, &'a Entry)> {
    let head = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let (rest, new) = (&before[head..], &after[head..]);
    let tail = rest.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    let (old, new) = (&rest[..rest.len() - tail], &new[..new.len() - tail]);
    let mut out: Vec<(char, &Entry)> = before[..head].iter().map(|entry| (' ', entry)).collect();
    if old.len().saturating_mul(new.len()) > MAX_CELLS {
        out.extend(old.iter().map(|entry| ('-', entry)).chain(new.iter().map(|entry| ('+', entry))));
    } else {
        out.extend(common(old, new));
    }
    out.extend(before[before.len() - tail..].iter().map(|entry| (' ', entry)));
    out
}

fn common<'a>(old: &'a [Entry], new: &'a [Entry]) -> Vec<(char, &'a Entry)> {
    let width = new.len() + 1;
    // Lengths of the longest common subsequence of what is left of both.
    let mut best = vec![0u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            best[i * width + j] = match old[i] == new[j] {
                true => best[(i + 1) * width + j + 1] + 1,
                false => best[(i + 1) * width + j].max(best[i * width + j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut out = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            out.push((' ', &old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && best[(i + 1) * width + j] >= best[i * width + j + 1]) {
            out.push(('-', &old[i]));
            i += 1;
        } else {
            out.push(('+', &new[j]));
            j += 1;
        }
    }
    out
}

/// The write that made this version, with its place in the list.
pub fn find<'a>(writes: &'a [Write], version: &str) -> Result<(usize, &'a Write), Failure> {
    let wanted = version.trim_matches('"');
    writes
        .iter()
        .enumerate()
        .find(|(_, write)| write.version == wanted)
        .ok_or_else(|| Failure::new(format!("the history has no version {version}")).with("`dtab history` lists them"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::tests::entries;

    #[test]
    fn diffs_show_what_changed_and_keep_order() {
        let before = entries("/a=>/1;/b=>/2;/c=>/3");
        let after = entries("/a=>/1;/x=>/9;/b=>/2;/c=>/4");
        assert_eq!(diff(&before, &after), "+ /x => /9 ;\n- /c => /3 ;\n+ /c => /4 ;");
        assert_eq!(diff(&before, &before), "");
        assert_eq!(diff(&[], &before[..1]), "+ /a => /1 ;");
        let all = lines(&before, &after);
        let kept: Vec<&Entry> = all.iter().filter(|(sign, _)| *sign != '+').map(|(_, entry)| *entry).collect();
        assert_eq!(kept, before.iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_history_is_a_table() {
        let value = serde_json::json!([
            {"version": "Mw==", "time": 1_795_280_709_000_i64, "author": null, "reason": null, "dtab": null},
            {"version": "Mg==", "time": "2026-11-21T17:05:09Z", "author": "ann", "reason": "two\u{202e}", "dtab": [{"prefix": "/a", "dst": "/2"}]},
            {"version": "MQ==", "time": 0, "author": "ann", "reason": "first", "dtab": [{"prefix": "/a", "dst": "/1"}]},
        ]);
        let writes = read(&value).unwrap();
        let shown = table(&writes);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "VERSION  TIME                  AUTHOR  CHANGE   REASON");
        assert_eq!(lines[1], "Mw==     2026-11-21T17:05:09Z  -       deleted  -");
        assert_eq!(lines[2], "Mg==     2026-11-21T17:05:09Z  ann     +1 -1    two\u{fffd}");
        assert_eq!(lines[3], "MQ==     1970-01-01T00:00:00Z  ann     1 entry  first");
        assert_eq!(find(&writes, "\"Mg==\"").unwrap().0, 1);
        assert!(find(&writes, "x").is_err() && read(&serde_json::json!({})).is_err());
    }
}
