//! `stateDir` and `discovery`: what happens when discovery is away, and how much of it there may be.
//!
//! Keys of Switchyard; Linkerd 1 has neither. For: `load`. Not for: namers (see `namer`). The only thing looked at outside
//! the text is whether `stateDir` is a folder, or could be one.

use super::moved::Place;
use super::problem::quote;
use super::reader::{Bad, Item, Reader};
use super::scalar::{count, millis, size, string};
use namers::{DenyList, Net, WatchOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How discovery outlives outages and floods; see `docs/outages.md`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveryParams {
    /// The folder for what must outlive the process. Default none: nothing is written.
    pub state_dir: Option<PathBuf>,
    /// A watch that is silent for so long is started again. Default 60 s; zero for never.
    pub silent_after: Duration,
    /// How often watched values are compared with a fresh list. Default 60 s; zero for never.
    pub relist: Duration,
    /// How long an empty answer is held back after a failure or a start. Default 5 s; zero for not at all.
    pub empty_grace: Duration,
    /// How long the first answer of a registry may take before what is on disk stands in. Default 1 s.
    pub first_answer: Duration,
    /// Watches of one kind and namer at once. Default 100 000.
    pub max_watches: usize,
    /// Names of requests that DNS is asked for the first time, per second. Default 500; 0 for no limit.
    pub new_names_per_sec: u32,
    /// Of those, how many may wait for their turn; more fail at once. Default 256.
    pub max_waiting_names: usize,
    /// Names that do not exist and are remembered for their negative TTL. Default 10 000.
    pub max_unknown_names: usize,
    /// Names that are kept in `state_dir`. Default 20 000.
    pub max_stored_names: usize,
    /// The DNS servers to ask, by UDP. Default none: those of the system, with its search list and hosts file.
    pub dns_servers: Vec<SocketAddr>,
    /// Addresses that DNS servers must not give. Default: this host and link-local ones.
    pub deny: DenyList,
}

impl Default for DiscoveryParams {
    fn default() -> DiscoveryParams {
        let watch = WatchOptions::default();
        DiscoveryParams {
            state_dir: None,
            silent_after: watch.silent_after,
            relist: watch.relist,
            empty_grace: watch.empty_grace,
            first_answer: watch.first_answer,
            max_watches: watch.max_keys,
            new_names_per_sec: 500,
            max_waiting_names: 256,
            max_unknown_names: 10_000,
            max_stored_names: 20_000,
            dns_servers: Vec::new(),
            deny: DenyList::default(),
        }
    }
}

impl DiscoveryParams {
    /// The numbers for watch tables.
    pub fn watch(&self) -> WatchOptions {
        WatchOptions {
            silent_after: self.silent_after,
            relist: self.relist,
            empty_grace: self.empty_grace,
            first_answer: self.first_answer,
            max_keys: self.max_watches,
            ..WatchOptions::default()
        }
    }
}

/// `stateDir` and `discovery`; all defaults when the keys are absent.
pub fn discovery(top: &mut Reader<'_>) -> DiscoveryParams {
    let default = DiscoveryParams { state_dir: top.get("stateDir", state_dir), ..DiscoveryParams::default() };
    let Some(mut reader) = top.sub("discovery", Place::Other) else { return default };
    let params = DiscoveryParams {
        state_dir: default.state_dir,
        silent_after: reader.get("silentAfterMs", millis_or_zero(1000)).unwrap_or(default.silent_after),
        relist: reader.get("relistMs", millis_or_zero(1000)).unwrap_or(default.relist),
        empty_grace: reader.get("emptyGraceMs", millis(0)).unwrap_or(default.empty_grace),
        first_answer: reader.get("firstAnswerMs", millis(0)).unwrap_or(default.first_answer),
        max_watches: reader.get("maxWatches", size(1)).unwrap_or(default.max_watches),
        new_names_per_sec: reader.get("newNamesPerSec", count(0)).unwrap_or(default.new_names_per_sec),
        max_waiting_names: reader.get("maxWaitingNames", size(1)).unwrap_or(default.max_waiting_names),
        max_unknown_names: reader.get("maxUnknownNames", size(1)).unwrap_or(default.max_unknown_names),
        max_stored_names: reader.get("maxStoredNames", size(10)).unwrap_or(default.max_stored_names),
        dns_servers: each(&mut reader, "dnsServers", server).unwrap_or(default.dns_servers),
        deny: each(&mut reader, "denyAddresses", net).map_or(default.deny, DenyList),
    };
    reader.finish();
    params
}

/// Milliseconds of at least `min`, or zero for never.
fn millis_or_zero(min: u32) -> impl Fn(&Item<'_>) -> Result<Duration, Bad> {
    move |item| match millis(0)(item)? {
        time if time.is_zero() || time >= Duration::from_millis(min.into()) => Ok(time),
        time => {
            let message = format!("{} is too short: it would keep the registry busy", time.as_millis());
            Err(Bad::new(message).expected(format!("0 for never, or at least {min}")))
        }
    }
}

/// The elements of a list; None when the key is absent, and none of those that are wrong.
fn each<T>(reader: &mut Reader<'_>, key: &'static str, read: impl Fn(&Item<'_>) -> Result<T, Bad>) -> Option<Vec<T>> {
    reader.take(key)?;
    let mut values = Vec::new();
    for item in reader.list(key) {
        match read(&item) {
            Ok(value) => values.push(value),
            Err(bad) => reader.context.bad(item.pos, &item.path, bad),
        }
    }
    Some(values)
}

fn server(item: &Item<'_>) -> Result<SocketAddr, Bad> {
    let text = string(item)?;
    let address = text.parse::<SocketAddr>().or_else(|_| text.parse().map(|ip| SocketAddr::new(ip, 53)));
    let expected = "an address such as 127.0.0.1:8600, or 10.0.0.2 for port 53";
    address.map_err(|_| Bad::new(format!("{} is not a literal address", quote(&text))).expected(expected))
}

fn net(item: &Item<'_>) -> Result<Net, Bad> {
    string(item)?.parse().map_err(Bad::new)
}

/// A folder, or a place where one can be made.
fn state_dir(item: &Item<'_>) -> Result<PathBuf, Bad> {
    let text = string(item)?;
    let bad = |reason: String| Bad::new(reason).expected("a folder that exists or can be made");
    if text.is_empty() {
        return Err(bad("`stateDir` is empty".to_owned()));
    }
    let path = std::path::absolute(&text).map_err(|error| bad(error.to_string()))?;
    let nearest = path.ancestors().find(|at| std::fs::symlink_metadata(at).is_ok()).unwrap_or(Path::new("/"));
    match std::fs::metadata(nearest) {
        Ok(meta) if meta.is_dir() => Ok(PathBuf::from(text)),
        Ok(_) => Err(bad(format!("{} is not a folder", quote(&nearest.display().to_string())))),
        Err(error) => Err(bad(format!("{} cannot be read: {error}", quote(&nearest.display().to_string())))),
    }
}
