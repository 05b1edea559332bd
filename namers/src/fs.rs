//! [`FsNamer`]: `io.l5d.fs`: names are files below a root folder, addresses are their lines (naming reference §6.1).
//!
//! The first element of a path names a child of the root; a folder is entered with the next element; a file ends the
//! search. A name that is missing, or a path that ends at a folder, is Neg. A folder that cannot be read is Failed at
//! first; later the last listing stays. Making and removing files changes the tree, editing them only the addresses.
//!
//! Differences from Linkerd: a malformed line is reported and the others are used; a file without any good line keeps
//! the addresses known before; host names are resolved over time and not only when the file is read.

use crate::addresses;
use crate::dns::{DnsResolver, HostIps};
use crate::folders::FolderEvents;
use crate::fs_file::{File, FileSource, Line};
use crate::fs_list::{FolderSource, Kind, Listing, Looks, Rel, list};
use crate::host::Host;
use crate::update::{Work, any_of, change, follow};
use crate::watch::{WatchOptions, WatchReport, WatchTable};
use crate::watches::Discovery;
use dtab::{Activity, Addr, AddrSet, Address, BoundName, BoxFuture, Name, NameTree, Namer, Path, State};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// Names below this many folders are not found; bounds links that lead in circles.
const MAX_DEPTH: usize = 32;
/// Names that [`FsNamer::names`] gives at most.
const MAX_NAMES: usize = 10_000;
/// Readers of a file that is removed keep its addresses for this long, so that the tree changes first.
const GONE_GRACE: Duration = Duration::from_millis(500);

/// Why a file-system namer cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// `rootDir` must be a folder at start.
    #[error("rootDir {} is not a directory", .0.display())]
    NotAFolder(PathBuf),
}

/// The namer of kind `io.l5d.fs`.
pub struct FsNamer {
    prefix: Path,
    root: PathBuf,
    tables: Tables,
    handle: Handle,
}

#[derive(Clone)]
struct Tables {
    folders: WatchTable<Rel, Listing>,
    files: WatchTable<Rel, File>,
    dns: Arc<DnsResolver>,
}

impl FsNamer {
    /// A namer at `prefix` (with its `/#`) over the folder `root`. Host names in files go through `dns`; all tasks run
    /// on `handle`. Errors when `root` is not a folder now; it may vanish and come back later.
    pub fn new(prefix: Path, root: PathBuf, dns: Arc<DnsResolver>, handle: Handle) -> Result<FsNamer, FsError> {
        FsNamer::within(&Discovery::new(handle), prefix, root, dns)
    }

    /// The same with other numbers for the watches on folders and files.
    pub fn with_options(
        prefix: Path,
        root: PathBuf,
        dns: Arc<DnsResolver>,
        options: WatchOptions,
        handle: Handle,
    ) -> Result<FsNamer, FsError> {
        FsNamer::within(&Discovery { watch: options, ..Discovery::new(handle) }, prefix, root, dns)
    }

    /// The same as a part of `discovery`. With a snapshot on disk `root` may be missing at start: then the names of the
    /// snapshot serve until it appears.
    pub fn within(
        discovery: &Discovery,
        prefix: Path,
        root: PathBuf,
        dns: Arc<DnsResolver>,
    ) -> Result<FsNamer, FsError> {
        let root = std::path::absolute(&root).unwrap_or(root);
        match std::fs::metadata(&root) {
            Ok(meta) if meta.is_dir() => {}
            Err(error) if discovery.snapshot.is_some() => {
                tracing::warn!("rootDir {} cannot be read: {error}; the names on disk serve", root.display());
            }
            _ => return Err(FsError::NotAFolder(root)),
        }
        let (events, looks) = (FolderEvents::new(), Looks::new());
        let folders = FolderSource { root: root.clone(), events: events.clone(), looks: looks.clone() };
        let files = FileSource { root: root.clone(), events, looks };
        let (namer, place, options) = (prefix.to_string(), root.display().to_string(), &discovery.watch);
        let tables = Tables {
            folders: WatchTable::within_at(discovery, (&namer, &place), "folders", folders, options.clone()),
            files: WatchTable::within_at(discovery, (&namer, &place), "files", files, options.clone()),
            dns,
        };
        Ok(FsNamer { prefix, root, tables, handle: discovery.handle.clone() })
    }

    /// All names at this moment, as paths below the prefix, sorted; at most 10 000, from at most 10 000 folders. Reads
    /// folders: call it where blocking is allowed. Folders that cannot be read are left out.
    pub fn names(&self) -> Vec<Path> {
        let mut names = Vec::new();
        let mut folders = vec![(Rel::root(), self.prefix.clone())];
        for _ in 0..MAX_NAMES {
            let Some((rel, path)) = folders.pop() else { break };
            let Ok(listing) = list(&rel.under(&self.root)) else { continue };
            for (name, kind) in listing.entries() {
                let Ok(label) = Path::from_labels([name.as_bytes()]) else { continue };
                match kind {
                    Kind::File if names.len() == MAX_NAMES => return sorted(names),
                    Kind::File => names.push(path.concat(&label)),
                    Kind::Folder if path.len() - self.prefix.len() + 1 >= MAX_DEPTH => {}
                    Kind::Folder => folders.push((rel.child(name), path.concat(&label))),
                }
            }
        }
        sorted(names)
    }

    /// The live watches on folders and files, for admin pages. Folders end in `/`.
    pub fn report(&self) -> Vec<WatchReport> {
        let mut reports = self.tables.folders.report();
        for report in &mut reports {
            report.key = format!("{}/", report.key.trim_end_matches('/'));
        }
        reports.extend(self.tables.files.report());
        reports
    }

    fn walk(&self, labels: Path) -> Walk {
        Walk { tables: self.tables.clone(), labels, listings: Vec::new() }
    }
}

fn sorted(mut names: Vec<Path>) -> Vec<Path> {
    names.sort();
    names
}

impl Namer for FsNamer {
    fn prefix(&self) -> &Path {
        &self.prefix
    }

    fn lookup(&self, rest: &Path) -> Activity<NameTree<Name>> {
        follow(&self.handle, Lookup { prefix: self.prefix.clone(), walk: self.walk(rest.clone()) })
    }

    fn resolve(&self, id: &Path) -> Activity<Addr> {
        if !id.starts_with(&self.prefix) {
            return Activity::constant(State::Ok(Addr::Neg));
        }
        let walk = self.walk(id.skip(self.prefix.len()));
        follow(&self.handle, Resolve { walk, file: None, hosts: HashMap::new(), bound: false, gone: None })
    }
}

/// Where a path leads at one moment.
enum Found {
    Pending,
    Failed(Arc<str>),
    Missing,
    File { rel: Rel, consumed: usize },
}

/// Follows a path through listings.
struct Walk {
    tables: Tables,
    labels: Path,
    /// The listings read, from the root down.
    listings: Vec<(Rel, Activity<Listing>)>,
}

impl Walk {
    fn step(&mut self) -> Found {
        let mut rel = Rel::root();
        for depth in 0..self.labels.len().min(MAX_DEPTH) {
            let state = self.listing(depth, &rel);
            let label = self.labels.get(depth).unwrap_or_default();
            let found = match &state {
                State::Pending => return self.end(depth, Found::Pending),
                State::Failed(reason) => return self.end(depth, Found::Failed(reason.clone())),
                State::Ok(listing) => listing.find(label),
            };
            match found {
                None => return self.end(depth, Found::Missing),
                Some((name, Kind::File)) => {
                    return self.end(depth, Found::File { rel: rel.child(name), consumed: depth + 1 });
                }
                Some((name, Kind::Folder)) => rel = rel.child(name),
            }
        }
        Found::Missing
    }

    fn listing(&mut self, depth: usize, rel: &Rel) -> State<Listing> {
        if self.listings.get(depth).is_none_or(|(known, _)| known != rel) {
            self.listings.truncate(depth);
            self.listings.push((rel.clone(), self.tables.folders.get(rel)));
        }
        self.listings.get_mut(depth).map_or(State::Pending, |(_, listing)| listing.get())
    }

    /// Lets go of the listings below `depth`.
    fn end(&mut self, depth: usize, found: Found) -> Found {
        self.listings.truncate(depth + 1);
        found
    }

    fn changes(&mut self) -> Vec<BoxFuture<'_, ()>> {
        self.listings.iter_mut().map(|(_, listing)| change(listing)).collect()
    }
}

/// The tree of a path.
struct Lookup {
    prefix: Path,
    walk: Walk,
}

impl Work for Lookup {
    type Out = NameTree<Name>;

    fn evaluate(&mut self) -> State<NameTree<Name>> {
        match self.walk.step() {
            Found::Pending => State::Pending,
            Found::Failed(reason) => State::Failed(reason),
            Found::Missing => State::Ok(NameTree::Neg),
            Found::File { consumed, .. } => {
                let id = self.prefix.concat(&self.walk.labels.take(consumed));
                let residual = self.walk.labels.skip(consumed);
                State::Ok(NameTree::Leaf(Name::Bound(BoundName { id, residual })))
            }
        }
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(any_of(self.walk.changes()))
    }
}

/// The addresses of an id.
struct Resolve {
    walk: Walk,
    file: Option<(Rel, Activity<File>)>,
    hosts: HashMap<Arc<str>, Activity<HostIps>>,
    bound: bool,
    /// Since when a file that was there is missing, during the grace.
    gone: Option<Instant>,
}

impl Work for Resolve {
    type Out = Addr;

    fn evaluate(&mut self) -> State<Addr> {
        let gone = self.gone.take();
        let addr = match self.walk.step() {
            Found::Pending => Addr::Pending,
            Found::Failed(reason) => Addr::Failed(reason),
            Found::File { rel, consumed } if consumed == self.walk.labels.len() => self.read(rel),
            Found::File { .. } | Found::Missing => self.missing(gone.unwrap_or_else(Instant::now)),
        };
        self.bound |= matches!(addr, Addr::Bound(_));
        addresses::publish(addr)
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        let mut waits = self.walk.changes();
        waits.extend(self.file.as_mut().map(|(_, lines)| change(lines)));
        waits.extend(self.hosts.values_mut().map(change));
        if let Some(gone) = self.gone {
            waits.push(Box::pin(tokio::time::sleep_until(gone + GONE_GRACE)));
        }
        Box::pin(any_of(waits))
    }

    fn keeps(&self, current: &State<Addr>, new: &State<Addr>) -> bool {
        addresses::keeps(current, new)
    }
}

impl Resolve {
    /// Neg, but for a file that was there only after the grace.
    fn missing(&mut self, since: Instant) -> Addr {
        if self.bound && since.elapsed() < GONE_GRACE {
            self.gone = Some(since);
            return Addr::Pending;
        }
        self.bound = false;
        self.file = None;
        self.hosts.clear();
        Addr::Neg
    }

    fn read(&mut self, rel: Rel) -> Addr {
        if self.file.as_ref().is_none_or(|(known, _)| *known != rel) {
            let file = self.walk.tables.files.get(&rel);
            self.file = Some((rel, file));
        }
        match self.file.as_mut().map_or(State::Pending, |(_, file)| file.get()) {
            // Listed, but gone when it was last read: it is being replaced.
            State::Pending | State::Ok(None) => Addr::Pending,
            State::Failed(reason) => Addr::Failed(reason),
            State::Ok(Some(lines)) => self.compose(&lines),
        }
    }

    /// The addresses of these lines. What is still being resolved, or cannot be, is left out; when nothing at all is
    /// left of names that may exist, so is the answer.
    fn compose(&mut self, lines: &[Line]) -> Addr {
        let mut before = std::mem::take(&mut self.hosts);
        let mut states: HashMap<Arc<str>, State<HostIps>> = HashMap::new();
        let (mut found, mut pending, mut failed) = (Vec::new(), false, None);
        for line in lines {
            let mut add = |ip: IpAddr| {
                found.push(Address { weight: line.weight, ..Address::new(SocketAddr::new(ip, line.port)) });
            };
            match &line.host {
                Host::Ip(ip) => add(*ip),
                Host::Name(name) => match states.entry(name.clone()).or_insert_with(|| {
                    let ips = before.remove(name).unwrap_or_else(|| self.walk.tables.dns.lookup_listed(name));
                    self.hosts.entry(name.clone()).or_insert(ips).get()
                }) {
                    State::Ok(HostIps::Ips(ips)) => ips.iter().copied().for_each(add),
                    State::Ok(HostIps::NoSuchHost) => {}
                    State::Pending => pending = true,
                    State::Failed(reason) => failed = failed.or(Some(reason.clone())),
                },
            }
        }
        match (found.is_empty(), pending, failed) {
            (true, true, _) => Addr::Pending,
            (true, false, Some(reason)) => Addr::Failed(reason),
            _ => Addr::Bound(AddrSet::new(found)),
        }
    }
}

#[cfg(test)]
#[path = "fs_tests.rs"]
mod tests;
