//! [`Query`]: one complete lookup of a host name: `/etc/hosts`, the search list, A and AAAA records.
//!
//! Called by `dns` only. The search list is walked here and not in hickory, because hickory answers with the last error
//! it met: "no such name" for the last candidate would hide a server failure for the one that mattered, and a good
//! address set would be believed gone.

use crate::dns::{DnsOptions, HostIps};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query as Question, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver, system_conf};
use parking_lot::Mutex;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;

const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_secs(300);
/// Longest belief in an absence, and in `/etc/hosts`.
const MAX_OTHER_TTL: Duration = Duration::from_secs(5);
const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// The answer for a name.
pub(crate) struct Found {
    pub(crate) ips: HostIps,
    /// How long to believe it.
    pub(crate) valid: Duration,
    /// What of the answer was left out.
    pub(crate) problem: Option<String>,
}

/// Which line a query waits in: a flood of new names does not hold up what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asking {
    /// For a name that is served.
    Known,
    /// For a name that was not found, once more.
    Again,
    /// For a name that was never asked for; given up at once when too many wait.
    First,
}

/// Asks; builds the hickory resolver when first needed.
pub(crate) struct Query {
    servers: Option<Vec<SocketAddr>>,
    options: DnsOptions,
    known: Semaphore,
    unknown: Semaphore,
    waiting: AtomicUsize,
    built: Mutex<Option<(Stamp, Arc<Built>)>>,
}

/// When the configuration files were last changed.
type Stamp = [Option<SystemTime>; 2];

struct Built {
    resolver: Result<TokioResolver, String>,
    hosts: Hosts,
    search: Vec<Name>,
    ndots: usize,
}

/// What one candidate name gave.
enum Answer {
    Ips(Vec<IpAddr>, Duration),
    Empty(Duration),
    Absent(Duration),
}

impl Query {
    pub(crate) fn system(options: DnsOptions) -> Query {
        let (known, unknown) = (Semaphore::new(options.max_queries), Semaphore::new(options.max_first_queries));
        Query { servers: None, options, known, unknown, waiting: AtomicUsize::new(0), built: Mutex::default() }
    }

    pub(crate) fn servers(servers: Vec<SocketAddr>, options: DnsOptions) -> Query {
        Query { servers: Some(servers), ..Query::system(options) }
    }

    /// Looks `host` up; None when too many names wait. Errors with the reason when neither an address nor an
    /// authoritative absence is known.
    pub(crate) async fn ask(&self, host: &str, asking: Asking) -> Option<Result<Found, String>> {
        let found = |ips, problem| Some(Ok(Found { ips, valid: MAX_OTHER_TTL, problem }));
        let Ok(name) = Name::from_utf8(host) else { return found(HostIps::NoSuchHost, None) };
        let built = self.built();
        let listed = from_hosts(&built.hosts, &name);
        if !listed.is_empty() {
            return found(ips(listed), None);
        }
        let resolver = match &built.resolver {
            Ok(resolver) => resolver,
            Err(reason) => return Some(Err(reason.clone())),
        };
        let _permit = match asking {
            Asking::Known => self.known.acquire().await,
            Asking::Again => self.unknown.acquire().await,
            Asking::First => {
                let _place = Place::take(&self.waiting, self.options.max_waiting)?;
                self.unknown.acquire().await
            }
        };
        Some(self.walk(resolver, candidates(name, &built.search, built.ndots)).await)
    }

    /// Asks for one candidate after the other.
    async fn walk(&self, resolver: &TokioResolver, candidates: Vec<Name>) -> Result<Found, String> {
        let (mut failure, mut empty, mut valid) = (None, false, MAX_OTHER_TTL);
        for candidate in candidates {
            match addresses(resolver, candidate).await {
                Ok(Answer::Ips(found, ttl)) => return Ok(self.allowed(found, ttl.clamp(MIN_TTL, MAX_TTL))),
                Ok(Answer::Empty(ttl)) => (empty, valid) = (true, valid.min(ttl)),
                Ok(Answer::Absent(ttl)) => valid = valid.min(ttl),
                Err(reason) => failure = failure.or(Some(reason)),
            }
        }
        let ips = if empty { ips(Vec::new()) } else { HostIps::NoSuchHost };
        failure.map_or(Ok(Found { ips, valid: valid.max(MIN_TTL), problem: None }), Err)
    }

    /// The answer without the addresses that no server may give.
    fn allowed(&self, found: Vec<IpAddr>, valid: Duration) -> Found {
        let (denied, fine): (Vec<IpAddr>, Vec<IpAddr>) =
            found.into_iter().partition(|ip| self.options.deny.denies(*ip));
        let problem = denied.first().map(|ip| {
            metrics::counter!("denied_addresses_total", "namer" => "/$/inet").increment(denied.len() as u64);
            format!("{ip} is left out: DNS must not give such addresses (discovery.denyAddresses)")
        });
        Found { ips: ips(fine), valid, problem }
    }

    /// The resolver for the present configuration files.
    fn built(&self) -> Arc<Built> {
        let stamp = match self.servers {
            Some(_) => Stamp::default(),
            None => [RESOLV_CONF, HOSTS].map(|file| std::fs::metadata(file).and_then(|m| m.modified()).ok()),
        };
        let mut built = self.built.lock();
        match &*built {
            Some((old, kept)) if *old == stamp => kept.clone(),
            _ => {
                let new = Arc::new(self.build());
                *built = Some((stamp, new.clone()));
                new
            }
        }
    }

    fn build(&self) -> Built {
        let (hosts, config) = match &self.servers {
            Some(servers) => (Hosts::default(), Ok((explicit(servers), ResolverOpts::default()))),
            None => (Hosts::from_system().unwrap_or_default(), system_conf::read_system_conf()),
        };
        let (config, options) = match config {
            Ok(read) => read,
            Err(error) => {
                let resolver = Err(format!("{RESOLV_CONF} is not usable: {error}"));
                return Built { resolver, hosts, search: Vec::new(), ndots: 1 };
            }
        };
        let search = config.search().iter().chain(config.domain()).cloned().collect();
        let ndots = options.ndots;
        Built { resolver: self.resolver(config, options), hosts, search, ndots }
    }

    fn resolver(&self, config: ResolverConfig, mut options: ResolverOpts) -> Result<TokioResolver, String> {
        // The watch table remembers answers; a second cache would only make them older than their TTL.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.timeout = self.options.timeout.unwrap_or(options.timeout);
        options.attempts = self.options.attempts.unwrap_or(options.attempts);
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.with_options(options).build().map_err(|error| error.to_string())
    }
}

/// A place among those who wait; left by drop.
struct Place<'a>(&'a AtomicUsize);

impl Place<'_> {
    fn take(waiting: &AtomicUsize, max: usize) -> Option<Place<'_>> {
        let place = Place(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < max).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn explicit(servers: &[SocketAddr]) -> ResolverConfig {
    let server = |address: &SocketAddr| {
        let mut connection = ConnectionConfig::udp();
        connection.port = address.port();
        NameServerConfig::new(address.ip(), true, vec![connection])
    };
    ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect())
}

fn ips(mut found: Vec<IpAddr>) -> HostIps {
    found.sort_unstable();
    found.dedup();
    HostIps::Ips(found.into())
}

/// Like the C library: IPv4 and, when there is none or the machine has IPv6, IPv6.
fn from_hosts(hosts: &Hosts, name: &Name) -> Vec<IpAddr> {
    let listed = |kind| {
        let found = hosts.lookup_static_host(&Question::query(name.clone(), kind));
        found.iter().flat_map(|f| f.answers()).filter_map(|r| r.data.ip_addr()).collect::<Vec<_>>()
    };
    let mut found = listed(RecordType::A);
    if found.is_empty() || has_global_ipv6() {
        found.extend(listed(RecordType::AAAA));
    }
    found
}

/// The absolute names to try, in order: a name with `ndots` dots or more as it is first, others with the search list first.
fn candidates(name: Name, search: &[Name], ndots: usize) -> Vec<Name> {
    let mut absolute = name.clone();
    absolute.set_fqdn(true);
    if name.is_fqdn() {
        return vec![absolute];
    }
    let mut names: Vec<Name> = search.iter().filter_map(|domain| name.clone().append_domain(domain).ok()).collect();
    for name in &mut names {
        name.set_fqdn(true);
    }
    let at = if usize::from(name.num_labels()) > ndots { 0 } else { names.len() };
    names.insert(at, absolute);
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

async fn addresses(resolver: &TokioResolver, name: Name) -> Result<Answer, String> {
    let v4 = records(resolver, name.clone(), RecordType::A).await?;
    match &v4 {
        Answer::Absent(_) => return Ok(v4),
        Answer::Ips(..) if !has_global_ipv6() => return Ok(v4),
        _ => {}
    }
    match (v4, records(resolver, name, RecordType::AAAA).await) {
        (Answer::Ips(mut ips, ttl), Ok(Answer::Ips(more, other))) => {
            ips.extend(more);
            Ok(Answer::Ips(ips, ttl.min(other)))
        }
        (v4 @ Answer::Ips(..), _) => Ok(v4),
        (Answer::Empty(_), Ok(v6 @ Answer::Ips(..))) => Ok(v6),
        (v4, Ok(_)) => Ok(v4),
        (_, Err(reason)) => Err(reason),
    }
}

async fn records(resolver: &TokioResolver, name: Name, kind: RecordType) -> Result<Answer, String> {
    match resolver.lookup(name, kind).await {
        Ok(lookup) => {
            let ttl = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
            let ttl = Duration::from_secs(ttl.into());
            let found: Vec<IpAddr> = lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
            Ok(if found.is_empty() { Answer::Empty(ttl) } else { Answer::Ips(found, ttl) })
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            let ttl = none.negative_ttl.map_or(MAX_OTHER_TTL, |seconds| Duration::from_secs(seconds.into()));
            match none.response_code {
                ResponseCode::NXDomain => Ok(Answer::Absent(ttl)),
                ResponseCode::NoError => Ok(Answer::Empty(ttl)),
                code => Err(format!("error response: {code}")),
            }
        }
        Err(error) => Err(error.to_string()),
    }
}

/// True when an interface other than loopback has an IPv6 address of global scope. Only known on Linux.
fn has_global_ipv6() -> bool {
    let text = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    text.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(3) == Some(&"00") && fields.get(5) != Some(&"lo")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_list_comes_first_for_short_names() {
        let name = |text: &str| Name::from_utf8(text).unwrap();
        let search = [name("svc.cluster.local"), name("cluster.local")];
        let shown = |text: &str, ndots| -> Vec<String> {
            candidates(name(text), &search, ndots).iter().map(ToString::to_string).collect()
        };
        assert_eq!(shown("web.", 5), ["web."]);
        assert_eq!(shown("web", 1), ["web.svc.cluster.local.", "web.cluster.local.", "web."]);
        assert_eq!(shown("a.b", 1), ["a.b.", "a.b.svc.cluster.local.", "a.b.cluster.local."]);
        assert_eq!(shown("a.b", 5), ["a.b.svc.cluster.local.", "a.b.cluster.local.", "a.b."]);
    }
}
