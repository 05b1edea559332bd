//! [`DnsResolver`]: host names to IP addresses over time, by DNS and `/etc/hosts`.
//!
//! Shared by the system namer and the file-system namer: one watch per live name. A name is asked again when its TTL has
//! passed, but not sooner than 1 s and not later than 5 min; an absent name or one without addresses after its negative
//! TTL, at most 5 s; a name from `/etc/hosts` after 5 s. A failure is retried with the back-off of the watch table, and
//! the addresses known before stay. Not for: one complete query (see `dns_query`), ports (see `addresses`).

use crate::deny::DenyList;
use crate::dns_query::{Asking, Found, Query};
use crate::gate::{Gate, Negatives};
use crate::watch::{Source, SourceError, WatchOptions, WatchReport, WatchTable, Watched};
use crate::watches::Discovery;
use dtab::{Activity, BoxFuture};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// Names that `fixedinet` remembers (naming reference §5).
const MAX_FIXED: usize = 16_000;
/// A new name waits so long for its turn; when its turn is later than that, it is refused at once.
const PATIENCE: Duration = Duration::from_secs(1);
/// An absent name that nobody reads is kept by the negative cache and not by a watch.
const NEGATIVE_LINGER: Duration = Duration::from_millis(250);
/// Whose the watches are in metrics and on disk.
const NAMER: &str = "/$/inet";

/// What DNS says of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostIps {
    /// There is no such name (NXDOMAIN).
    NoSuchHost,
    /// Its addresses, sorted; none when the name exists without addresses.
    Ips(Arc<[IpAddr]>),
}

/// Numbers of a resolver.
#[derive(Debug, Clone)]
pub struct DnsOptions {
    /// How long one query to one server may take. Default 5 s, or what `/etc/resolv.conf` says.
    pub timeout: Option<Duration>,
    /// How often a query is sent again. Default 2, or what `/etc/resolv.conf` says.
    pub attempts: Option<usize>,
    /// Queries under way at once for names that are known; others wait. Default 64.
    pub max_queries: usize,
    /// The same for names of requests that have not been found yet (attacks N4). Default 32.
    pub max_first_queries: usize,
    /// Names of requests that wait for their first query; further ones fail at once. Default 256.
    pub max_waiting: usize,
    /// Names of requests that are asked for the first time, per second; further ones fail at once. 0 for no limit.
    /// Default 500.
    pub new_names_per_sec: u32,
    /// Names that do not exist and are remembered for their negative TTL. Default 10 000.
    pub max_unknown: usize,
    /// Addresses that answers of servers must not hold. Default: this host and link-local ones.
    pub deny: DenyList,
    /// Linger, number of names (the bound of the cache) and back-off.
    pub watch: WatchOptions,
}

impl Default for DnsOptions {
    fn default() -> DnsOptions {
        DnsOptions {
            timeout: None,
            attempts: None,
            max_queries: 64,
            max_first_queries: 32,
            max_waiting: 256,
            new_names_per_sec: 500,
            max_unknown: 10_000,
            deny: DenyList::default(),
            watch: WatchOptions::default(),
        }
    }
}

/// Resolves names; readers of one name share one watch.
pub struct DnsResolver {
    table: WatchTable<DnsKey, HostIps>,
}

impl DnsResolver {
    /// A resolver with the configuration of the system (`/etc/resolv.conf`, `/etc/hosts`), which is read on the first
    /// query and again when a file has changed. Never fails: an unusable configuration is the failure of each name.
    pub fn system(options: DnsOptions, handle: Handle) -> Arc<DnsResolver> {
        DnsResolver::within(&Discovery::new(handle), &[], options)
    }

    /// A resolver that asks exactly these servers over UDP; no search list, no `/etc/hosts`.
    pub fn with_servers(servers: &[SocketAddr], options: DnsOptions, handle: Handle) -> Arc<DnsResolver> {
        DnsResolver::new(Query::servers(servers.to_vec(), options.clone()), options, &Discovery::new(handle))
    }

    /// A resolver as a part of `discovery`, which asks these servers; those of the system if there are none.
    pub fn within(discovery: &Discovery, servers: &[SocketAddr], options: DnsOptions) -> Arc<DnsResolver> {
        let query = match servers {
            [] => Query::system(options.clone()),
            _ => Query::servers(servers.to_vec(), options.clone()),
        };
        DnsResolver::new(query, options, discovery)
    }

    fn new(query: Query, options: DnsOptions, discovery: &Discovery) -> Arc<DnsResolver> {
        let source = DnsSource(Arc::new(Shared {
            query,
            fixed: Mutex::default(),
            negatives: Negatives::new(options.max_unknown),
            gate: Gate::new(options.new_names_per_sec),
            deny: options.deny,
        }));
        let mut watch = options.watch;
        watch.negative_linger = watch.negative_linger.min(NEGATIVE_LINGER);
        Arc::new(DnsResolver { table: WatchTable::within(discovery, NAMER, "dns", source, watch) })
    }

    /// The addresses of a `name` (lower case, no literal) that a request brought, renewed as its TTL says. How many new
    /// ones are asked for is limited; beyond that a name is Failed until its turn comes.
    pub fn lookup(&self, name: &Arc<str>) -> Activity<HostIps> {
        self.table.get(&DnsKey { name: name.clone(), mode: Mode::Asked })
    }

    /// The same for a name that a registry lists: it is not limited.
    pub fn lookup_listed(&self, name: &Arc<str>) -> Activity<HostIps> {
        self.table.get(&DnsKey { name: name.clone(), mode: Mode::Listed })
    }

    /// The addresses of `name` as of the first successful query; remembered for 16 000 names and never refreshed. A
    /// name that does not exist is asked again. Limited like [`DnsResolver::lookup`].
    pub fn lookup_once(&self, name: &Arc<str>) -> Activity<HostIps> {
        self.table.get(&DnsKey { name: name.clone(), mode: Mode::Once })
    }

    /// The live names, for admin pages.
    pub fn report(&self) -> Vec<WatchReport> {
        self.table.report()
    }
}

/// Why a name is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Mode {
    /// A request named it.
    Asked,
    /// A registry lists it.
    Listed,
    /// A request named it, for good.
    Once,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct DnsKey {
    name: Arc<str>,
    mode: Mode,
}

impl fmt::Display for DnsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            Mode::Asked => "",
            Mode::Listed => " (listed)",
            Mode::Once => " (once)",
        };
        write!(f, "{}{mode}", self.name)
    }
}

struct DnsSource(Arc<Shared>);

struct Shared {
    query: Query,
    fixed: Mutex<HashMap<Arc<str>, HostIps>>,
    negatives: Negatives,
    gate: Gate,
    deny: DenyList,
}

impl Source<DnsKey, HostIps> for DnsSource {
    fn run(&self, key: DnsKey, out: Watched<HostIps>) -> BoxFuture<'static, Result<(), SourceError>> {
        let shared = self.0.clone();
        Box::pin(async move {
            if key.mode == Mode::Once { shared.once(key, out).await } else { shared.renew(key, out).await }
        })
    }

    /// No such name counts as empty, too: a server that has just been started may not know its zones yet.
    fn is_empty(&self, value: &HostIps) -> bool {
        match value {
            HostIps::NoSuchHost => true,
            HostIps::Ips(ips) => ips.is_empty(),
        }
    }

    fn save(&self, value: &HostIps) -> Option<Value> {
        match value {
            HostIps::NoSuchHost => None,
            HostIps::Ips(ips) => Some(json!(ips.iter().map(ToString::to_string).collect::<Vec<_>>())),
        }
    }

    fn restore(&self, saved: &Value) -> Option<HostIps> {
        let read = |ip: &Value| ip.as_str()?.parse().ok();
        let ips: Option<Vec<IpAddr>> = saved.as_array()?.iter().map(read).collect();
        let fine = ips?.into_iter().filter(|ip| !self.0.deny.denies(*ip));
        Some(HostIps::Ips(fine.collect()))
    }
}

impl Shared {
    async fn renew(&self, key: DnsKey, out: Watched<HostIps>) -> Result<(), SourceError> {
        self.believe_absent(&key, &out).await;
        loop {
            let found = self.ask(&key, &out).await?;
            self.report(&found, &out);
            tokio::time::sleep(found.valid).await;
        }
    }

    async fn once(&self, key: DnsKey, out: Watched<HostIps>) -> Result<(), SourceError> {
        if let Some(known) = self.fixed.lock().get(&key.name) {
            out.ok(known.clone());
            return Ok(());
        }
        self.believe_absent(&key, &out).await;
        loop {
            let found = self.ask(&key, &out).await?;
            self.report(&found, &out);
            if found.ips != HostIps::NoSuchHost {
                let mut fixed = self.fixed.lock();
                if fixed.len() < MAX_FIXED {
                    fixed.insert(key.name.clone(), found.ips);
                }
                return Ok(());
            }
            tokio::time::sleep(found.valid).await;
        }
    }

    /// Answers from the negative cache, until that is over.
    async fn believe_absent(&self, key: &DnsKey, out: &Watched<HostIps>) {
        if out.has_content() {
            return;
        }
        if let Some((answer, left)) = self.negatives.get(&key.name) {
            metrics::counter!("negative_cache_hits_total").increment(1);
            out.ok(answer);
            out.quiet_for(left);
            tokio::time::sleep(left).await;
        }
    }

    fn report(&self, found: &Found, out: &Watched<HostIps>) {
        match &found.problem {
            None => out.ok(found.ips.clone()),
            Some(problem) => out.ok_but(found.ips.clone(), problem),
        }
        out.quiet_for(found.valid);
    }

    async fn ask(&self, key: &DnsKey, out: &Watched<HostIps>) -> Result<Found, SourceError> {
        let name = &key.name;
        let asking = match key.mode {
            Mode::Listed => Asking::Known,
            Mode::Asked | Mode::Once if out.has_content() => Asking::Known,
            // It has been asked for, and somebody still wants it: it need not wait in line again.
            Mode::Asked | Mode::Once if out.is_ok() => Asking::Again,
            Mode::Asked | Mode::Once => {
                let Some(wait) = self.gate.pass(PATIENCE) else {
                    return Err(refused(name, "rate"));
                };
                tokio::time::sleep(wait).await;
                Asking::First
            }
        };
        let found = self.query.ask(name, asking).await;
        let found = found.ok_or_else(|| refused(name, "queue"))?;
        let found = found.map_err(|reason| SourceError(format!("cannot resolve {name}: {reason}")))?;
        match &found.ips {
            HostIps::Ips(ips) if !ips.is_empty() => self.negatives.remove(name),
            absent => self.negatives.put(name, absent.clone(), found.valid),
        }
        Ok(found)
    }
}

fn refused(name: &str, reason: &'static str) -> SourceError {
    metrics::counter!("negative_cache_refused_total", "reason" => reason).increment(1);
    SourceError(format!("cannot resolve {name} now: too many unknown names are being asked for; try again"))
}

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;
