//! Records of writes, as shared stores keep them beside the dtabs: one JSON object each, bounded per namespace.
//!
//! They are where Linkerd 1 never looks: below the path prefix with `-history` at its end. Called by [`super::shared`] and
//! the backends. Not for: how they are written, which is each backend's.

use super::{Entry, Note, StoreError, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dtab::Dtab;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::timeout;

/// Records kept per namespace.
pub(crate) const KEPT: usize = 100;

/// A history that is read ends with the record that brings it to so many bytes.
const READ_BYTES: usize = 32 << 20;

/// Keeping the record of a write may take so long.
const KEEPING: Duration = Duration::from_secs(2);

/// A write, before its version is known.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    time: SystemTime,
    note: Note,
    /// None for a delete.
    text: Option<String>,
}

/// A record as it was found in the store.
#[derive(Debug, Clone)]
pub(crate) struct Logged {
    pub(crate) json: Vec<u8>,
    /// What the store says of the record itself: the version where the record names none.
    pub(crate) revision: Version,
}

impl Record {
    /// A write that happens now.
    pub(crate) fn now(note: Note, text: Option<String>) -> Record {
        Record { time: SystemTime::now(), note, text }
    }

    /// The JSON object; `version` is what the write made, None where the record's own revision stands for it.
    pub(crate) fn to_json(&self, version: Option<&Version>) -> String {
        json!({
            "version": version.map(|version| STANDARD.encode(&version.0)),
            "time": u64::try_from(self.since_epoch().as_millis()).unwrap_or(u64::MAX),
            "author": self.note.author,
            "reason": self.note.reason,
            "dtab": self.text,
        })
        .to_string()
    }

    /// Microseconds since 1970: an order for stores that give none before the write.
    pub(crate) fn micros(&self) -> u64 {
        u64::try_from(self.since_epoch().as_micros()).unwrap_or(u64::MAX)
    }

    fn since_epoch(&self) -> Duration {
        self.time.duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

/// The name of a record: sorts by `order`, and no two are equal.
pub(crate) fn name(order: u64) -> String {
    format!("{order:020}-{:08x}", fastrand::u32(..))
}

/// The entry in a record; None when it is none of ours.
pub(crate) fn entry(logged: &Logged) -> Option<Entry> {
    let value: Value = serde_json::from_slice(&logged.json).ok()?;
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let version = match text("version") {
        Some(encoded) => Version(STANDARD.decode(encoded).ok()?.into()),
        None => logged.revision.clone(),
    };
    let time = UNIX_EPOCH.checked_add(Duration::from_millis(value.get("time")?.as_u64()?))?;
    let dtab = text("dtab").map(|text| Dtab::parse(&text)).transpose().ok()?;
    Some(Entry { version, time, note: Note { author: text("author"), reason: text("reason") }, dtab })
}

/// Records of one answer about a history, as they come, newest first: bounded in number and in bytes, whatever is stored.
#[derive(Debug)]
pub(crate) struct Gathered {
    found: Vec<Logged>,
    most: usize,
    bytes: usize,
}

impl Gathered {
    /// At most `limit` records, and never more than are kept.
    pub(crate) fn new(limit: usize) -> Gathered {
        Gathered { found: Vec::new(), most: limit.min(KEPT), bytes: 0 }
    }

    /// How many more it takes; 0 when it has enough.
    pub(crate) fn room(&self) -> usize {
        if self.bytes < READ_BYTES { self.most.saturating_sub(self.found.len()) } else { 0 }
    }

    /// Takes the next one; drops it when there is no room.
    pub(crate) fn take(&mut self, logged: Logged) {
        if self.room() > 0 {
            self.bytes += logged.json.len();
            self.found.push(logged);
        }
    }

    /// All that were taken.
    pub(crate) fn into_found(self) -> Vec<Logged> {
        self.found
    }
}

/// The names beyond those that are kept, the oldest of `names`, which sort by age.
pub(crate) fn surplus(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names.truncate(names.len().saturating_sub(KEPT));
    names
}

/// Keeps the record of a write that is done: a write whose record could not be kept, or not in time, is a write
/// nevertheless.
pub(crate) async fn keep(namespace: &str, keeping: impl Future<Output = Result<(), StoreError>>) {
    let problem = match timeout(KEEPING, keeping).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("its record was not kept within {KEEPING:?}"),
    };
    tracing::warn!(namespace, "the history of a dtab may lack a write that was made: {problem}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back() {
        let note = Note { author: Some("ana".to_owned()), reason: Some("\"why\" ü".to_owned()) };
        let record = Record::now(note.clone(), Some("/a=>0.001*/b & /c".to_owned()));
        let (made, revision) = (Version("\u{1}\u{2}".into()), Version("7".into()));
        let found = |version| Logged { json: record.to_json(version).into_bytes(), revision: revision.clone() };
        let with = entry(&found(Some(&made))).expect("an entry");
        assert_eq!((&with.version, &with.note), (&made, &note));
        assert_eq!(with.dtab, Dtab::parse("/a=>0.001*/b & /c").ok());
        assert_eq!(entry(&found(None)).map(|entry| entry.version), Some(revision));
        let delete = Record::now(Note::default(), None);
        let logged = Logged { json: delete.to_json(Some(&made)).into_bytes(), revision: made.clone() };
        assert_eq!(entry(&logged).map(|entry| (entry.dtab, entry.note)), Some((None, Note::default())));
    }

    #[test]
    fn what_is_no_record_is_none() {
        let none: [&[u8]; 9] = [
            b"",
            b"null",
            b"[]",
            b"{}",
            b"\xff\xfe",
            br#"{"time":-1,"dtab":null}"#,
            br#"{"time":18446744073709551615,"version":"!","dtab":null}"#,
            br#"{"time":1,"dtab":"this is no dtab"}"#,
            br#"{"time":"1","dtab":null}"#,
        ];
        for json in none {
            let logged = Logged { json: json.to_vec(), revision: Version("7".into()) };
            assert_eq!(entry(&logged), None, "{:?}", String::from_utf8_lossy(json));
        }
    }

    #[test]
    fn what_is_read_is_bounded_in_number_and_bytes() {
        let logged = |bytes: usize| Logged { json: vec![b'x'; bytes], revision: Version("7".into()) };
        let count = |limit: usize, bytes: usize| {
            let mut gathered = Gathered::new(limit);
            let mut offered = 0;
            while gathered.room() > 0 {
                gathered.take(logged(bytes));
                offered += 1;
            }
            gathered.take(logged(bytes));
            assert_eq!(gathered.found.len(), offered, "without room nothing is taken");
            gathered.into_found().len()
        };
        assert_eq!((count(3, 10), count(KEPT + 5, 10), count(0, 10)), (3, KEPT, 0));
        assert_eq!(count(KEPT, 1 << 20), 32);
        assert_eq!(count(KEPT, READ_BYTES * 2), 1, "one alone is always told");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_store_does_not_hold_up_a_write_that_is_done() {
        let begun = tokio::time::Instant::now();
        keep("ns", std::future::pending()).await;
        assert_eq!(begun.elapsed().as_secs(), KEEPING.as_secs());
        keep("ns", async { Err(StoreError::Mismatch) }).await;
        keep("ns", async { Ok(()) }).await;
        assert_eq!(begun.elapsed().as_secs(), KEEPING.as_secs());
    }

    #[test]
    fn the_oldest_names_are_surplus() {
        let names: Vec<String> = (0..KEPT as u64 + 3).rev().map(name).collect();
        let mut oldest: Vec<String> = names[KEPT..].to_vec();
        oldest.reverse();
        assert_eq!(surplus(names), oldest);
        assert_eq!(surplus((0..KEPT as u64).map(name).collect()), Vec::<String>::new());
        assert!(name(9) < name(10) && name(u64::MAX - 1) < name(u64::MAX));
    }
}
