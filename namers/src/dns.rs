//! [`DnsResolver`]: host names to IP addresses over time, by DNS and `/etc/hosts`.
//!
//! Shared by the system namer and the file-system namer: one watch per live name. A name is asked again when its TTL has
//! passed, but not sooner than 1 s and not later than 5 min; an absent name or one without addresses after its negative
//! TTL, at most 5 s; a name from `/etc/hosts` after 5 s. A failure is retried with the back-off of the watch table, and
//! the addresses known before stay. Not for: one complete query (see `dns_query`), ports (see `addresses`).

use crate::dns_query::{Found, Query};
use crate::watch::{Source, SourceError, WatchOptions, WatchReport, WatchTable, Watched};
use dtab::{Activity, BoxFuture};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// Names that `fixedinet` remembers (naming reference §5).
const MAX_FIXED: usize = 16_000;

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
    /// Queries under way at once; others wait (attacks N4). Default 64.
    pub max_queries: usize,
    /// Linger, number of names (the bound of the cache) and back-off.
    pub watch: WatchOptions,
}

impl Default for DnsOptions {
    fn default() -> DnsOptions {
        DnsOptions { timeout: None, attempts: None, max_queries: 64, watch: WatchOptions::default() }
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
        DnsResolver::new(Query::system(options.clone()), options, handle)
    }

    /// A resolver that asks exactly these servers over UDP; no search list, no `/etc/hosts`.
    pub fn with_servers(servers: &[SocketAddr], options: DnsOptions, handle: Handle) -> Arc<DnsResolver> {
        DnsResolver::new(Query::servers(servers.to_vec(), options.clone()), options, handle)
    }

    fn new(query: Query, options: DnsOptions, handle: Handle) -> Arc<DnsResolver> {
        let source = DnsSource { query: Arc::new(query), fixed: Arc::default() };
        Arc::new(DnsResolver { table: WatchTable::new(source, options.watch, handle) })
    }

    /// The addresses of `name` (lower case, no literal), renewed as its TTL says.
    pub fn lookup(&self, name: &Arc<str>) -> Activity<HostIps> {
        self.table.get(&DnsKey { name: name.clone(), once: false })
    }

    /// The addresses of `name` as of the first successful query; remembered for 16 000 names and never refreshed. A
    /// name that does not exist is asked again.
    pub fn lookup_once(&self, name: &Arc<str>) -> Activity<HostIps> {
        self.table.get(&DnsKey { name: name.clone(), once: true })
    }

    /// The live names, for admin pages.
    pub fn report(&self) -> Vec<WatchReport> {
        self.table.report()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct DnsKey {
    name: Arc<str>,
    once: bool,
}

impl fmt::Display for DnsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name, if self.once { " (once)" } else { "" })
    }
}

struct DnsSource {
    query: Arc<Query>,
    fixed: Arc<Mutex<HashMap<Arc<str>, HostIps>>>,
}

impl Source<DnsKey, HostIps> for DnsSource {
    fn run(&self, key: DnsKey, out: Watched<HostIps>) -> BoxFuture<'static, Result<(), SourceError>> {
        let (query, fixed) = (self.query.clone(), self.fixed.clone());
        Box::pin(async move {
            if key.once { once(&query, &fixed, &key.name, &out).await } else { renew(&query, &key.name, &out).await }
        })
    }
}

async fn renew(query: &Query, name: &str, out: &Watched<HostIps>) -> Result<(), SourceError> {
    loop {
        let found = ask(query, name).await?;
        out.ok(found.ips);
        tokio::time::sleep(found.valid).await;
    }
}

async fn once(
    query: &Query,
    fixed: &Mutex<HashMap<Arc<str>, HostIps>>,
    name: &Arc<str>,
    out: &Watched<HostIps>,
) -> Result<(), SourceError> {
    if let Some(known) = fixed.lock().get(name) {
        out.ok(known.clone());
        return Ok(());
    }
    loop {
        let found = ask(query, name).await?;
        out.ok(found.ips.clone());
        if found.ips != HostIps::NoSuchHost {
            let mut fixed = fixed.lock();
            if fixed.len() < MAX_FIXED {
                fixed.insert(name.clone(), found.ips);
            }
            return Ok(());
        }
        tokio::time::sleep(found.valid).await;
    }
}

async fn ask(query: &Query, name: &str) -> Result<Found, SourceError> {
    query.ask(name).await.map_err(|reason| SourceError(format!("cannot resolve {name}: {reason}")))
}

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;
