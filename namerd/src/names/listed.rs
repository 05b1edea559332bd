//! [`Listed`]: the names that namers can enumerate, over time (namerd reference §2.13).
//!
//! One look at all folders now and then, however many clients follow it, and none while nobody does. Called by `names`. Not
//! for: what routers have asked for, see `seen`.

use dtab::{Activity, BoxFuture, Path};
use namers::{Discovery, FsNamer, Source, SourceError, WatchOptions, WatchTable, Watched};
use std::sync::Arc;
use std::time::Duration;

/// Folders are looked at so often.
const EVERY: Duration = Duration::from_secs(1);
/// The one key of the table.
const ALL: &str = "all";

/// See the module; cloning shares it.
#[derive(Clone)]
pub(super) struct Listed(WatchTable<&'static str, Arc<[Path]>>);

impl Listed {
    /// The names of `namers`, each with its prefix.
    pub(super) fn new(namers: Vec<Arc<FsNamer>>, discovery: &Discovery, options: WatchOptions) -> Listed {
        Listed(WatchTable::within(discovery, "names", "bound names", Folders(namers.into()), options))
    }

    /// All names, sorted; live until dropped.
    pub(super) fn all(&self) -> Activity<Arc<[Path]>> {
        self.0.get(&ALL)
    }
}

struct Folders(Arc<[Arc<FsNamer>]>);

impl Source<&'static str, Arc<[Path]>> for Folders {
    fn run(&self, _: &'static str, out: Watched<Arc<[Path]>>) -> BoxFuture<'static, Result<(), SourceError>> {
        let namers = self.0.clone();
        Box::pin(async move {
            loop {
                let namers = namers.clone();
                let looking = tokio::task::spawn_blocking(move || names(&namers));
                out.ok(looking
                    .await
                    .map_err(|error| SourceError(format!("the look at the folders ended: {error}")))?);
                tokio::time::sleep(EVERY).await;
            }
        })
    }
}

fn names(namers: &[Arc<FsNamer>]) -> Arc<[Path]> {
    let mut all: Vec<Path> = namers.iter().flat_map(|namer| namer.names()).collect();
    all.sort_by_cached_key(ToString::to_string);
    all.into()
}
