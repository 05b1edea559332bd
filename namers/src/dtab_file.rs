//! [`DtabFile`]: the dtab in a file, over time: what the interpreter `io.l5d.fs` binds by.
//!
//! Built from config. The folder is watched, so that editors and ConfigMaps, which replace files by rename, are noticed. A
//! file that is gone, unreadable or no dtab leaves the last good one in force, and says so. Not for: binding.

use crate::folders::FolderEvents;
use crate::snapshot;
use crate::watch::{Source, SourceError, WatchOptions, WatchTable, Watched};
use crate::watches::Discovery;
use dtab::{Activity, BoxFuture, Dtab, Exact};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What the table is called in metrics, on pages and on disk; with the place behind it, also there.
const NAMER: &str = "io.l5d.fs";
const TABLE: &str = "dtabs";
/// A larger file is an error.
const MAX_BYTES: u64 = 5 * 1024 * 1024;
/// How often the file is looked at without an event.
const POLL: Duration = Duration::from_secs(1);
/// What is read twice, so far apart, and is the same, is not being written.
const SETTLE: Duration = Duration::from_millis(20);
/// An empty file, in place of one that was not, is looked at so often before that is believed.
const EMPTY_LOOKS: u32 = 10;
/// A file that never stands still is believed after so many looks.
const MOST_LOOKS: u32 = 20;

/// See the module.
pub struct DtabFile {
    table: WatchTable<Name, Dtab>,
    name: Name,
}

/// The file's name as a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Name(PathBuf);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.display())
    }
}

impl DtabFile {
    /// Follows `path`, relative to the working directory, while its dtab is read.
    pub fn new(path: &Path, discovery: &Discovery) -> std::io::Result<DtabFile> {
        let name = Name(std::path::absolute(path)?);
        let source = Files { events: FolderEvents::new() };
        let options = WatchOptions { silent_after: Duration::ZERO, relist: Duration::ZERO, ..discovery.watch.clone() };
        let table = WatchTable::within_at(discovery, (NAMER, &name.to_string()), TABLE, source, options);
        Ok(DtabFile { table, name })
    }

    /// How long ago the dtab was seen that stands in for the file at `path` while that cannot be used: the one that the
    /// state folder has of it. None when it has none.
    pub fn known_in(state_dir: &Path, path: &Path) -> Option<Duration> {
        let name = std::path::absolute(path).ok()?.display().to_string();
        let (saved, age) = snapshot::on_disk(state_dir, &format!("{NAMER} {TABLE} {name}"), &name)?;
        restored(&saved).filter(|dtab| !dtab.is_empty()).map(|_| age)
    }

    /// The dtab over time.
    pub fn dtab(&self) -> Activity<Dtab> {
        self.table.get(&self.name)
    }
}

struct Files {
    events: Arc<FolderEvents>,
}

impl Source<Name, Dtab> for Files {
    fn run(&self, name: Name, out: Watched<Dtab>) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(follow(self.events.clone(), name.0, out))
    }

    fn is_empty(&self, dtab: &Dtab) -> bool {
        dtab.is_empty()
    }

    fn save(&self, dtab: &Dtab) -> Option<serde_json::Value> {
        Some(Exact(dtab).to_string().into())
    }

    fn restore(&self, saved: &serde_json::Value) -> Option<Dtab> {
        restored(saved)
    }
}

fn restored(saved: &serde_json::Value) -> Option<Dtab> {
    Dtab::parse(saved.as_str()?).ok()
}

async fn follow(events: Arc<FolderEvents>, path: PathBuf, out: Watched<Dtab>) -> Result<(), SourceError> {
    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
    let mut changes = events.watch(folder.clone());
    let mut known: Option<Vec<u8>> = None;
    loop {
        events.arm(&folder);
        match settled(&path, known.as_deref()).await {
            Ok(text) if known.as_ref() == Some(&text) => {}
            Ok(text) => {
                match parsed(&text) {
                    Ok(dtab) => out.ok(dtab),
                    Err(reason) => out.failed(&format!("{}: {reason}", path.display())),
                }
                known = Some(text);
            }
            Err(reason) => {
                known = None;
                out.failed(&format!("{}: {reason}", path.display()));
            }
        }
        changes.changed(POLL).await;
    }
}

fn parsed(text: &[u8]) -> Result<Dtab, String> {
    let text = std::str::from_utf8(text).map_err(|error| format!("the dtab is not UTF-8: {error}"))?;
    Dtab::parse(text).map_err(|error| format!("not a dtab: {error}"))
}

/// The content of the file once it stands still.
async fn settled(path: &Path, known: Option<&[u8]>) -> Result<Vec<u8>, String> {
    let mut text = read(path).await?;
    for look in 0..MOST_LOOKS {
        if known == Some(&text[..]) {
            break;
        }
        tokio::time::sleep(SETTLE).await;
        let again = read(path).await?;
        let emptied = again.is_empty() && known.is_some_and(|known| !known.is_empty());
        if again == text && (!emptied || look >= EMPTY_LOOKS) {
            break;
        }
        text = again;
    }
    Ok(text)
}

async fn read(path: &Path) -> Result<Vec<u8>, String> {
    let path = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        let length = std::fs::metadata(&path).map_err(|error| error.to_string())?.len();
        if length > MAX_BYTES {
            return Err(format!("the file has {length} bytes, and a dtab has at most {MAX_BYTES}"));
        }
        std::fs::read(&path).map_err(|error| error.to_string())
    });
    reading.await.map_err(|error| error.to_string())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::test_support::until;
    use dtab::State;
    use tokio::runtime::Handle;

    fn dtab(text: &str) -> State<Dtab> {
        State::Ok(Dtab::parse(text).expect("a dtab"))
    }

    #[tokio::test]
    async fn a_file_is_followed_and_the_last_good_dtab_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.dtab");
        std::fs::write(&path, "/svc => /a ;\n# more\n").expect("written");
        let file = DtabFile::new(&path, &Discovery::new(Handle::current())).expect("a path");
        let mut live = file.dtab();
        until(&mut live, |state| *state == dtab("/svc => /a")).await;
        std::fs::write(&path, "/svc => ").expect("written");
        let error = || file.table.report().first().and_then(|watch| watch.last_error.clone());
        while !error().is_some_and(|error| error.contains("not a dtab")) {
            tokio::time::sleep(SETTLE).await;
        }
        assert_eq!(live.get(), dtab("/svc => /a"));
        let next = folder.path().join("next");
        std::fs::write(&next, "/svc => /b").expect("written");
        std::fs::rename(&next, &path).expect("renamed");
        until(&mut live, |state| *state == dtab("/svc => /b")).await;
        std::fs::remove_file(&path).expect("removed");
        while !error().is_some_and(|error| error.contains("No such file")) {
            tokio::time::sleep(SETTLE).await;
        }
        assert_eq!(live.get(), dtab("/svc => /b"));
    }

    /// What was on disk stands in, of this file alone, and the file counts again once it is a dtab.
    #[tokio::test]
    async fn the_last_good_dtab_outlives_the_process() {
        let (folder, state) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let path = folder.path().join("x.dtab");
        let discovery = || {
            let options = snapshot::SnapshotOptions::default();
            let snapshot = snapshot::Snapshot::open(state.path().to_owned(), options, &Handle::current());
            Discovery { snapshot: Some(snapshot), ..Discovery::new(Handle::current()) }
        };
        std::fs::write(&path, "/svc => /a").expect("written");
        assert_eq!(DtabFile::known_in(state.path(), &path), None, "nothing was seen yet");
        let first = discovery();
        let mut live = DtabFile::new(&path, &first).expect("a path").dtab();
        until(&mut live, |state| *state == dtab("/svc => /a")).await;
        first.snapshot.as_ref().expect("a snapshot").flush();
        drop((first, live));
        assert!(DtabFile::known_in(state.path(), &path).is_some());
        assert_eq!(DtabFile::known_in(state.path(), &folder.path().join("y.dtab")), None);
        assert_eq!(DtabFile::known_in(folder.path(), &path), None);
        std::fs::write(&path, "/svc => ").expect("written");
        let file = DtabFile::new(&path, &discovery()).expect("a path");
        let mut live = file.dtab();
        until(&mut live, |state| *state == dtab("/svc => /a")).await;
        let report = file.table.report();
        assert!(report[0].stale.is_some() && report[0].last_error.is_some(), "{report:?}");
        std::fs::write(&path, "/svc => /b").expect("written");
        until(&mut live, |state| *state == dtab("/svc => /b")).await;
        assert_eq!(file.table.report()[0].stale, None);
    }

    #[tokio::test]
    async fn a_missing_file_fails_with_the_reason() {
        let file = DtabFile::new(Path::new("/nowhere/x.dtab"), &Discovery::new(Handle::current())).expect("a path");
        let mut live = file.dtab();
        until(&mut live, |state| matches!(state, State::Failed(why) if why.contains("/nowhere/x.dtab"))).await;
    }
}
