//! [`File`]: the folder of a local store: its lock, the making of the file, opening it, and what goes wrong with these.
//!
//! Two files: `dtabs.lock`, locked while a process uses the folder, and `dtabs.redb`. The latter is made under another name
//! and renamed when it is complete, so a file of that name that cannot be read is damaged, and is never taken for a new
//! store. Called by `local`. Not for: what is in the file, which `tables` knows.

use crate::storage::VersionedDtab;
use crate::storage::local::{shrink, tables};
use redb::backends::FileBackend;
use redb::{Builder, Database};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Memory for pages of the file; all dtabs are in memory anyway.
const CACHE: usize = 8 << 20;

/// Why a local store cannot be opened or used. The texts are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The operating system refuses.
    #[error("cannot {what} {}: {source}; {}", path.display(), advice(source))]
    Io {
        /// What was tried, e.g. "write".
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// Another process has the folder.
    #[error("the folder {} is in use by {holder}; it serves one process at a time: end that one, or give each its own `path`", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// The other process.
        holder: String,
    },
    /// The file is not what a store of this kind has written.
    #[error("the file {} is damaged, or no store of dtabs: {why}; put a copy from a backup in its place, or move it away to begin with an empty store", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file was written by a later version.
    #[error("the file {} has format {found}, and this version knows format {known} only; use the version that wrote it", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// Ours.
        known: u64,
    },
    /// The store was closed.
    #[error("the store is closed, because this process ends")]
    Closed,
}

/// What can be done about an error of the operating system.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull => "its disk is full: free some space",
        ErrorKind::QuotaExceeded => "the quota of its owner is used up: free some space",
        ErrorKind::FileTooLarge => "the limit on the size of files is reached: raise it (ulimit -f)",
        ErrorKind::ReadOnlyFilesystem => "its file system is read-only: mount it for writing, or set another `path`",
        ErrorKind::PermissionDenied => "the user of this process must be able to read and write it",
        ErrorKind::NotADirectory | ErrorKind::IsADirectory => "set `path` of the storage to a folder",
        _ => "check the disk and its mount",
    }
}

/// See the module.
pub(super) struct File {
    folder: PathBuf,
    /// Its lock ends when it is closed; None when the folder is nobody's.
    lock: Option<fs::File>,
    database: Option<Database>,
}

impl File {
    /// No file, and none to be opened.
    pub(super) fn nowhere() -> File {
        File { folder: PathBuf::new(), lock: None, database: None }
    }

    /// Makes the folder where it is not there, and locks it.
    pub(super) fn lock(folder: PathBuf) -> Result<File, LocalError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|source| LocalError::Io { what: "make the folder", path: folder.clone(), source })?;
        let path = folder.join("dtabs.lock");
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).clone();
        let mut lock =
            options.open(&path).map_err(|source| LocalError::Io { what: "open", path: path.clone(), source })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LocalError::Locked { path: folder, holder: holder(&mut lock) });
            }
            Err(TryLockError::Error(source)) => return Err(LocalError::Io { what: "lock", path, source }),
        }
        // For the text above only: whether it can be written decides nothing.
        let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        Ok(File { folder, lock: Some(lock), database: None })
    }

    /// The file of the dtabs.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.join("dtabs.redb")
    }

    pub(super) fn is_open(&self) -> bool {
        self.database.is_some()
    }

    /// Opens the file, makes it where there is none, checks all of it, and gives the dtabs in it.
    pub(super) fn open(&mut self) -> Result<BTreeMap<String, VersionedDtab>, LocalError> {
        if self.lock.is_none() {
            return Err(LocalError::Closed);
        }
        let path = self.path();
        match fs::symlink_metadata(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => self.make(&path)?,
            Err(source) => return Err(LocalError::Io { what: "open", path, source }),
        }
        let database = contained(|| builder(true).open(&path).map_err(redb::Error::from));
        let database = database.map_err(|error| error.at("open", &path))?;
        let format = contained(|| tables::format(&database)).map_err(|error| error.at("read", &path))?;
        if format != tables::FORMAT {
            return Err(LocalError::Format { path, found: format, known: tables::FORMAT });
        }
        let rows = contained(|| tables::load(&database)).map_err(|error| error.at("read", &path))?;
        let mut dtabs = BTreeMap::new();
        for (namespace, row) in rows {
            let damaged =
                |why| LocalError::Damaged { path: path.clone(), why: format!("namespace {namespace:?}: {why}") };
            let entry = row.into_entry().map_err(damaged)?;
            let dtab = entry.dtab.ok_or_else(|| damaged("its present dtab is a delete".to_owned()))?;
            dtabs.insert(namespace, VersionedDtab { dtab, version: entry.version });
        }
        self.database = Some(database);
        Ok(dtabs)
    }

    /// Makes the open file smaller, when most of it is free. It stays open, unless that fails.
    pub(super) fn shrink(&mut self) -> Result<(), LocalError> {
        let path = self.path();
        let length = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
        let (before, begun) = (length(&path), std::time::Instant::now());
        let mut database = self.database.take().ok_or(LocalError::Closed)?;
        let (shrunk, database) = contained(|| Ok((shrink::shrink(&mut database, before)?, database)))
            .map_err(|error| error.at("make smaller", &path))?;
        self.database = Some(database);
        if shrunk {
            let (after, took) = (length(&path), begun.elapsed());
            tracing::info!(before, after, ?took, "the file of the dtabs was made smaller");
        }
        Ok(())
    }

    /// Makes an empty store beside the place where it is to be, and moves it there when it is complete and on disk.
    fn make(&self, path: &Path) -> Result<(), LocalError> {
        let new = path.with_extension("redb.new");
        let failed = |source| LocalError::Io { what: "make", path: new.clone(), source };
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let options = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).clone();
        let file = options.open(&new).map_err(failed)?;
        let made = contained(|| {
            let database = builder(false).create_with_backend(FileBackend::new(file)?)?;
            tables::make(&database)?;
            Ok(database.close()?)
        });
        made.map_err(|error| error.at("make", &new))?;
        fs::rename(&new, path).map_err(failed)?;
        fs::File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }

    /// Uses the open file. What panics in it is an error like any other.
    pub(super) fn with<T>(&self, act: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, LocalError> {
        let database = self.database.as_ref().ok_or(LocalError::Closed)?;
        contained(|| act(database)).map_err(|error| error.at("write or read", &self.path()))
    }

    /// Closes the file; the folder stays locked.
    pub(super) fn close(&mut self) {
        let database = self.database.take();
        if let Err(Fault::Panicked(why)) = contained(|| {
            drop(database);
            Ok(())
        }) {
            tracing::error!("closing the local store: {why}");
        }
    }
}

fn builder(check: bool) -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(check);
    builder
}

/// What the holder of the lock has written into it.
fn holder(lock: &mut fs::File) -> String {
    let mut text = String::new();
    let _ = lock.take(20).read_to_string(&mut text);
    text.trim().parse::<u32>().map_or_else(|_| "another process".to_owned(), |id| format!("process {id}"))
}

enum Fault {
    Error(redb::Error),
    Panicked(String),
}

/// Runs something over a file that may be damaged.
fn contained<T>(act: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(outcome) => outcome.map_err(Fault::Error),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(Fault::Panicked(text.unwrap_or_else(|| "it cannot be read".to_owned())))
        }
    }
}

impl Fault {
    fn at(self, what: &'static str, path: &Path) -> LocalError {
        let path = path.to_owned();
        match self {
            Fault::Error(redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch) => {
                LocalError::Locked { path, holder: "another process".to_owned() }
            }
            Fault::Error(redb::Error::Io(source))
                if !matches!(source.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
            {
                LocalError::Io { what, path, source }
            }
            Fault::Error(error) => LocalError::Damaged { path, why: error.to_string() },
            Fault::Panicked(why) => LocalError::Damaged { path, why },
        }
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
