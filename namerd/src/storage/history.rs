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

/// Records kept per namespace.
pub(crate) const KEPT: usize = 100;

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

/// The names beyond those that are kept, the oldest of `names`, which sort by age.
pub(crate) fn surplus(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names.truncate(names.len().saturating_sub(KEPT));
    names
}

/// A write whose record could not be kept is a write nevertheless.
pub(crate) fn note_failure(namespace: &str, outcome: Result<(), StoreError>) {
    if let Err(error) = outcome {
        tracing::warn!(namespace, "the history of a dtab lacks a write that was made: {error}");
    }
}
