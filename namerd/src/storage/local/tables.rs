//! What is in the file of a local store: four tables, and the transactions over them.
//!
//! Every write is an entry of `history`; the newest entry of a namespace is its present dtab, or its delete. So a write and
//! its history cannot be told apart, let alone separated by a crash. Called by `local` and `file`. Not for: files, errors of
//! the operating system.

use crate::storage::write::{Retention, Write, next_version, version_of};
use crate::storage::{Entry, Note, StoreError, Version};
use dtab::{Dtab, Exact};
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction,
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An answer about a history ends with the entry that brings its text to so many bytes.
const HISTORY_BYTES: u64 = 32 << 20;
/// What this version writes and reads.
pub(super) const FORMAT: u64 = 1;

/// `format`, and `last`: the number of the newest version of all.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// By namespace: number of the newest entry; whether that is a dtab, not a delete; entries in its history; bytes of them.
const NAMESPACES: TableDefinition<'_, &str, (u64, bool, u64, u64)> = TableDefinition::new("namespaces");
/// By namespace and number of the version: milliseconds since 1970; author; reason; text of the dtab, None for a delete.
const HISTORY: TableDefinition<'_, (&str, u64), Columns<'_>> = TableDefinition::new("history");
/// By number of the delete: the namespace that is gone.
const GONE: TableDefinition<'_, u64, &str> = TableDefinition::new("gone");

type Columns<'a> = (u64, Option<&'a str>, Option<&'a str>, Option<&'a str>);

/// An entry of the history as it is stored.
pub(super) struct Row {
    number: u64,
    millis: u64,
    author: Option<String>,
    reason: Option<String>,
    text: Option<String>,
}

impl Row {
    fn new(number: u64, (millis, author, reason, text): Columns<'_>) -> Row {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Row { number, millis, author: owned(author), reason: owned(reason), text: owned(text) }
    }

    /// Errors with what is wrong with the text of the dtab.
    pub(super) fn into_entry(self) -> Result<Entry, String> {
        let dtab = self.text.as_deref().map(Dtab::parse).transpose().map_err(|error| error.to_string())?;
        Ok(Entry {
            version: version_of(self.number),
            time: UNIX_EPOCH.checked_add(Duration::from_millis(self.millis)).unwrap_or(UNIX_EPOCH),
            note: Note { author: self.author, reason: self.reason },
            dtab,
        })
    }
}

/// Makes the tables of an empty store.
pub(super) fn make(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    Tables::open(&transaction)?.meta.insert("format", FORMAT)?;
    Ok(transaction.commit()?)
}

/// The format of the file; 0 when it says none.
pub(super) fn format(database: &Database) -> Result<u64, redb::Error> {
    let meta = database.begin_read()?.open_table(META)?;
    Ok(meta.get("format")?.map_or(0, |format| format.value()))
}

/// The newest entry of every namespace that is there.
pub(super) fn load(database: &Database) -> Result<Vec<(String, Row)>, redb::Error> {
    let transaction = database.begin_read()?;
    let history = transaction.open_table(HISTORY)?;
    let mut rows = Vec::new();
    for item in transaction.open_table(NAMESPACES)?.iter()? {
        let (name, facts) = item?;
        let (newest, there, ..) = facts.value();
        if there {
            let entry = history.get((name.value(), newest))?;
            let entry =
                entry.ok_or_else(|| redb::Error::Corrupted(format!("{:?} has no entry {newest}", name.value())))?;
            rows.push((name.value().to_owned(), Row::new(newest, entry.value())));
        }
    }
    Ok(rows)
}

/// The newest entries of a namespace, newest first; none after [`HISTORY_BYTES`] of text.
pub(super) fn history(database: &Database, namespace: &str, limit: usize) -> Result<Vec<Row>, redb::Error> {
    let history = database.begin_read()?.open_table(HISTORY)?;
    let (mut rows, mut bytes) = (Vec::new(), 0_u64);
    for item in history.range((namespace, 0)..=(namespace, u64::MAX))?.rev().take(limit) {
        let (key, columns) = item?;
        bytes = bytes.saturating_add(size(columns.value()));
        rows.push(Row::new(key.value().1, columns.value()));
        if bytes >= HISTORY_BYTES {
            break;
        }
    }
    Ok(rows)
}

/// Applies these writes in their order, each seeing the ones before it, and syncs them to disk: all of them or, on an
/// error, none. One outcome per write.
pub(super) fn write(
    database: &Database,
    writes: &[Write],
    retention: &Retention,
) -> Result<Vec<Result<Version, StoreError>>, redb::Error> {
    let transaction = database.begin_write()?;
    let mut tables = Tables::open(&transaction)?;
    let mut outcomes = Vec::with_capacity(writes.len());
    for write in writes {
        outcomes.push(tables.write(write, retention)?);
    }
    drop(tables);
    if outcomes.iter().any(Result::is_ok) {
        transaction.commit()?;
    } else {
        transaction.abort()?;
    }
    Ok(outcomes)
}

struct Tables<'t> {
    meta: Table<'t, &'static str, u64>,
    namespaces: Table<'t, &'static str, (u64, bool, u64, u64)>,
    history: Table<'t, (&'static str, u64), Columns<'static>>,
    gone: Table<'t, u64, &'static str>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Tables<'t>, redb::Error> {
        Ok(Tables {
            meta: transaction.open_table(META)?,
            namespaces: transaction.open_table(NAMESPACES)?,
            history: transaction.open_table(HISTORY)?,
            gone: transaction.open_table(GONE)?,
        })
    }

    fn write(&mut self, write: &Write, retention: &Retention) -> Result<Result<Version, StoreError>, redb::Error> {
        let name = write.namespace.as_str();
        let known = self.namespaces.get(name)?.map(|facts| facts.value());
        let (before, there, mut entries, mut bytes) = known.unwrap_or_default();
        let current = there.then(|| version_of(before));
        if let Err(error) = write.condition.check(current.as_ref()) {
            return Ok(Err(error));
        }
        let number = next_version(self.meta.get("last")?.map_or(0, |last| last.value()));
        let text = write.dtab.as_ref().map(|dtab| Exact(dtab).to_string());
        let columns = (now(), write.note.author.as_deref(), write.note.reason.as_deref(), text.as_deref());
        self.meta.insert("last", number)?;
        self.history.insert((name, number), columns)?;
        (entries, bytes) = (entries.saturating_add(1), bytes.saturating_add(size(columns)));
        while entries > 1 && (entries > retention.entries || bytes > retention.bytes) {
            (entries, bytes) = (entries - 1, bytes.saturating_sub(self.drop_oldest(name)?));
        }
        self.namespaces.insert(name, (number, text.is_some(), entries, bytes))?;
        if known.is_some() && !there {
            self.gone.remove(before)?;
        }
        if text.is_none() {
            self.gone.insert(number, name)?;
            self.forget_gone(retention)?;
        }
        Ok(Ok(version_of(number)))
    }

    /// Removes the oldest entry of a namespace and gives its size.
    fn drop_oldest(&mut self, namespace: &str) -> Result<u64, redb::Error> {
        let oldest = self.history.range((namespace, 0)..=(namespace, u64::MAX))?.next().transpose()?;
        let Some(number) = oldest.map(|(key, _)| key.value().1) else { return Ok(0) };
        let removed = self.history.remove((namespace, number))?;
        Ok(removed.map_or(0, |columns| size(columns.value())))
    }

    /// Removes the history of the namespaces that are longest gone, when there are too many.
    fn forget_gone(&mut self, retention: &Retention) -> Result<(), redb::Error> {
        while self.gone.len()? > retention.gone {
            let Some(name) = self.gone.pop_first()?.map(|(_, name)| name.value().to_owned()) else { break };
            self.namespaces.remove(name.as_str())?;
            self.history.retain_in((name.as_str(), 0)..=(name.as_str(), u64::MAX), |_, _| false)?;
        }
        Ok(())
    }
}

/// Bytes of text of an entry.
fn size((_, author, reason, text): Columns<'_>) -> u64 {
    [author, reason, text].into_iter().flatten().map(|text| text.len() as u64).sum()
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
