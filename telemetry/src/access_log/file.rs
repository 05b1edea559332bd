//! One open file of an access log, and how it gives way to the next one.
//!
//! What it is for: the file operations of `writer`. What it is not: the rules of time and names (`policy`).
//!
//! Files are renamed as `com.twitter.logging.FileHandler` does. What is not a regular file, such as `/dev/stdout`, is
//! written to and never renamed.

use super::policy::{self, RollPolicy};
use jiff::{Timestamp, Zoned};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// Other names tried for a file whose name is taken.
const NAMES: u32 = 10_000;

/// See the module.
pub(super) struct LogFile {
    file: File,
    opened: Zoned,
    policy: RollPolicy,
    due: Option<Timestamp>,
    /// Bytes in the file, as far as this process knows.
    size: u64,
    regular: bool,
}

impl LogFile {
    /// Opens the file to append, and empties it before if `truncate`. Missing files are made, missing folders are not. It is
    /// `now`.
    pub(super) fn open(path: &Path, policy: RollPolicy, truncate: bool, now: Timestamp) -> io::Result<LogFile> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let about = file.metadata()?;
        let regular = about.is_file();
        if truncate && regular {
            file.set_len(0)?;
        }
        let size = if truncate { 0 } else { about.len() };
        let opened = now.to_zoned(policy::zone());
        let mut opened = LogFile { file, opened, policy, due: None, size, regular };
        opened.set_policy(policy);
        Ok(opened)
    }

    /// Lets another policy decide from now on.
    pub(super) fn set_policy(&mut self, policy: RollPolicy) {
        self.policy = policy;
        self.due = policy.due(&self.opened).filter(|_| self.regular);
    }

    /// Whether a new file is to begin before a line of `line` bytes, with `waiting` bytes to be written before it.
    pub(super) fn is_over(&mut self, now: Timestamp, waiting: u64, line: u64) -> bool {
        if self.due.is_some_and(|due| now >= due) {
            return true;
        }
        let RollPolicy::Size(limit) = self.policy else { return false };
        if !self.regular || self.size + waiting + line <= limit {
            return false;
        }
        // Somebody else may have emptied the file.
        self.size = self.file.metadata().map_or(self.size, |about| about.len());
        let written = self.size + waiting;
        written > 0 && written + line > limit
    }

    /// Writes all of `bytes`. On an error what was written is taken off their front.
    pub(super) fn write(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let mut done = 0;
        let outcome = loop {
            if done == bytes.len() {
                break Ok(());
            }
            match self.file.write(&bytes[done..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.size += done as u64;
        bytes.drain(..done);
        outcome
    }

    /// Renames the file at `path`, opens a new one, and removes the oldest ones so that `keep` are left, if it says so.
    pub(super) fn roll(
        &self,
        path: &Path,
        policy: RollPolicy,
        keep: Option<usize>,
        now: Timestamp,
    ) -> io::Result<LogFile> {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidFilename)?;
        let (prefix, suffix) = policy::split(name);
        let time = policy.suffix(&self.opened);
        let taken = |name: &String| path.with_file_name(name).symlink_metadata().is_ok();
        let numbered = (1..NAMES).map(|n| format!("{prefix}-{time}-{n}{suffix}"));
        let mut names = std::iter::once(format!("{prefix}-{time}{suffix}")).chain(numbered);
        let free = names.find(|name| !taken(name)).ok_or(io::ErrorKind::AlreadyExists)?;
        match std::fs::rename(path, path.with_file_name(&free)) {
            // Somebody else has moved the file away: a new one is wanted all the same.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let next = LogFile::open(path, policy, false, now)?;
        if let Some(keep) = keep {
            remove_old(path, name, keep);
        }
        Ok(next)
    }
}

fn remove_old(path: &Path, name: &str, keep: usize) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut old: Vec<_> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(|other| policy::is_rotated(name, other)))
        .map(|entry| {
            let modified = entry.metadata().and_then(|about| about.modified()).unwrap_or(std::time::UNIX_EPOCH);
            (modified, entry.file_name(), entry.path())
        })
        .collect();
    old.sort();
    let surplus = old.len().saturating_sub(keep);
    for (_, _, path) in old.into_iter().take(surplus) {
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove an old access log");
        }
    }
}
