//! The folder source of the file-system namer: which names a folder holds, over time.
//!
//! The only place where names enter: whatever a request says is compared with these listings and never joined into a path
//! (attacks N1). Not for: what is in the files (see `fs_file`).

use crate::folders::FolderEvents;
use crate::watch::{Source, SourceError, Watched};
use dtab::BoxFuture;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How often a folder or file is looked at without an event.
pub(crate) const POLL: Duration = Duration::from_secs(1);
/// The same while it cannot be read: it may come back any moment.
pub(crate) const POLL_ABSENT: Duration = Duration::from_millis(100);
/// Wait before believing that something is gone or was cut short: it may be about to be replaced.
pub(crate) const SETTLE: Duration = Duration::from_millis(50);
/// Entries of one folder.
const MAX_ENTRIES: usize = 100_000;

/// Below the root folder, made of listed names only; empty for the root itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Rel(Arc<Path>);

impl Rel {
    pub(crate) fn root() -> Rel {
        Rel(Path::new("").into())
    }

    /// The entry `name`, as listed, of this folder.
    pub(crate) fn child(&self, name: &OsStr) -> Rel {
        Rel(self.0.join(name).into())
    }

    pub(crate) fn under(&self, root: &Path) -> PathBuf {
        if self.0.as_os_str().is_empty() { root.to_owned() } else { root.join(&self.0) }
    }
}

impl fmt::Display for Rel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0.display())
    }
}

/// What an entry is; symbolic links count as what they lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
}

/// The visible entries of a folder.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Listing(Arc<BTreeMap<OsString, Kind>>);

impl Listing {
    /// The entry whose name is exactly `label`: the name as listed, and what it is.
    pub(crate) fn find(&self, label: &[u8]) -> Option<(&OsStr, Kind)> {
        self.0.get_key_value(OsStr::from_bytes(label)).map(|(name, kind)| (name.as_os_str(), *kind))
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&OsStr, Kind)> {
        self.0.iter().map(|(name, kind)| (name.as_os_str(), *kind))
    }

    /// True when a name of `self` is missing in `newer`.
    fn lost(&self, newer: &Listing) -> bool {
        self.0.keys().any(|name| !newer.0.contains_key(name))
    }
}

/// Reads a folder now. Entries whose name begins with `.`, sockets, pipes, devices and dangling links are left out.
/// Errors with the text for the operator.
pub(crate) fn list(folder: &Path) -> Result<Listing, String> {
    let failed = |error: io::Error| format!("cannot list {}: {error}", folder.display());
    let mut names = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if name.as_bytes().starts_with(b".") {
            continue;
        }
        if let Some(kind) = kind(&entry) {
            names.insert(name, kind);
        }
        if names.len() > MAX_ENTRIES {
            return Err(format!("{} has more than {MAX_ENTRIES} entries", folder.display()));
        }
    }
    Ok(Listing(Arc::new(names)))
}

fn kind(entry: &std::fs::DirEntry) -> Option<Kind> {
    let mut kind = entry.file_type().ok()?;
    if kind.is_symlink() {
        kind = std::fs::metadata(entry.path()).ok()?.file_type();
    }
    match (kind.is_file(), kind.is_dir()) {
        (true, _) => Some(Kind::File),
        (_, true) => Some(Kind::Folder),
        _ => None,
    }
}

/// Watches folders below `root`.
#[derive(Clone)]
pub(crate) struct FolderSource {
    pub(crate) root: PathBuf,
    pub(crate) events: Arc<FolderEvents>,
    pub(crate) looks: Looks,
}

impl Source<Rel, Listing> for FolderSource {
    fn run(&self, key: Rel, out: Watched<Listing>) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(watch(key.under(&self.root), self.clone(), out))
    }

    fn relist(&self, key: Rel) -> Option<BoxFuture<'static, Result<Listing, SourceError>>> {
        let (folder, source) = (key.under(&self.root), self.clone());
        Some(Box::pin(async move {
            let seen = source.look(&folder).await?.map_err(SourceError)?;
            Ok(seen.map(|seen| seen.listing).unwrap_or_default())
        }))
    }

    fn is_empty(&self, value: &Listing) -> bool {
        value.0.is_empty()
    }

    /// Names that are not UTF-8 are left out: they are not there while only the disk knows them.
    fn save(&self, value: &Listing) -> Option<Value> {
        let entry = |(name, kind): (&OsStr, Kind)| {
            let folder = Value::Bool(kind == Kind::Folder);
            Some((name.to_str()?.to_owned(), folder))
        };
        Some(Value::Object(value.entries().filter_map(entry).collect()))
    }

    fn restore(&self, saved: &Value) -> Option<Listing> {
        let entry = |(name, folder): (&String, &Value)| {
            // What is joined into a path must be one visible name, whoever wrote the file.
            let one = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
            let kind = if folder.as_bool()? { Kind::Folder } else { Kind::File };
            one.then(|| (OsString::from(name), kind))
        };
        let entries: Option<BTreeMap<OsString, Kind>> = saved.as_object()?.iter().map(entry).collect();
        Some(Listing(Arc::new(entries?)))
    }
}

/// A folder at one moment.
struct Seen {
    listing: Listing,
    device: u64,
    inode: u64,
}

async fn watch(folder: PathBuf, source: FolderSource, out: Watched<Listing>) -> Result<(), SourceError> {
    let mut changes = source.events.watch(folder.clone());
    let mut known: Option<Seen> = None;
    loop {
        let mut seen = source.look(&folder).await?;
        if let (Ok(Some(seen_now)), Some(known)) = (&seen, &known)
            && known.listing.lost(&seen_now.listing)
        {
            tokio::time::sleep(SETTLE).await;
            seen = source.look(&folder).await?;
        }
        let poll = if matches!(seen, Ok(Some(_))) { POLL } else { POLL_ABSENT };
        match seen {
            Ok(None) => {
                known = None;
                out.ok(Listing::default());
            }
            Ok(Some(seen)) => match seen.after(known.as_ref()) {
                Emptied::Unmounted => out.failed(&format!(
                    "{} is on another file system now, and empty: is it not mounted? The names before stay",
                    folder.display()
                )),
                Emptied::Replaced => out.ok_anew(seen.listing),
                Emptied::No => {
                    out.ok(seen.listing.clone());
                    known = Some(seen);
                }
            },
            Err(reason) => out.failed(&reason),
        }
        changes.changed(poll).await;
    }
}

/// How a folder came to be empty.
enum Emptied {
    No,
    /// It is another folder of the same name.
    Replaced,
    /// It is one of another file system.
    Unmounted,
}

impl Seen {
    fn after(&self, known: Option<&Seen>) -> Emptied {
        match known {
            Some(known) if !self.listing.0.is_empty() || known.listing.0.is_empty() => Emptied::No,
            Some(known) if known.device != self.device => Emptied::Unmounted,
            Some(known) if known.inode != self.inode => Emptied::Replaced,
            _ => Emptied::No,
        }
    }
}

impl FolderSource {
    /// The listing; None when the folder is certainly gone.
    async fn look(&self, folder: &Path) -> Result<Result<Option<Seen>, String>, SourceError> {
        let (folder, source) = (folder.to_owned(), self.clone());
        let look = move || {
            source.events.arm(&folder);
            match see(&folder) {
                Ok(seen) => Ok(Some(seen)),
                Err(_) if folder != source.root && gone(&folder) => Ok(None),
                Err(reason) => Err(reason),
            }
        };
        self.looks.blocking(look).await
    }
}

fn see(folder: &Path) -> Result<Seen, String> {
    let meta = std::fs::metadata(folder).map_err(|error| format!("cannot list {}: {error}", folder.display()))?;
    Ok(Seen { listing: list(folder)?, device: meta.dev(), inode: meta.ino() })
}

/// True when `path` does not exist in a folder that does: removed, and not out of reach together with its surroundings.
pub(crate) fn gone(path: &Path) -> bool {
    let absent = std::fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    absent && path.parent().is_some_and(Path::is_dir)
}

/// File IO under way at once, of one namer: a file system that hangs holds so many threads, and no more.
const MAX_LOOKS: usize = 32;

/// Runs file IO off the runtime's threads.
#[derive(Clone)]
pub(crate) struct Looks(Arc<Semaphore>);

impl Looks {
    pub(crate) fn new() -> Looks {
        Looks(Arc::new(Semaphore::new(MAX_LOOKS)))
    }

    /// Runs `work`, once it is its turn. Whoever gives up waiting leaves it running.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, SourceError> {
        let permit = self.0.clone().acquire_owned().await.map_err(|error| SourceError(error.to_string()))?;
        let ran = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        ran.await.map_err(|error| SourceError(error.to_string()))
    }
}
