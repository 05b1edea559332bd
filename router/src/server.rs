//! [`Server`]: one listener of a router: its parameters and counters, shared by all workers; and the sockets.

use crate::config::{OverrideMode, RouterParams, ServerParams};
use crate::deadline::DeadlineStats;
use crate::descriptors;
use crate::family::Family;
use crate::overrides::Gate;
use crate::secure::TlsStats;
use parking_lot::Mutex;
use setup::listen::{backlog, open};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use telemetry::{BodyStats, Counter, Failures, GaugeGuard, H2Transport, Late, RequestStats, Scope, Stat};
use telemetry::{StatusStats, StreamStats, TransportStats};
use tls::ServerTls;

/// The counters of a server (telemetry reference §4.1; of a router of HTTP/2, §5).
pub struct ServerStats {
    /// Request counters.
    pub requests: RequestStats,
    /// `status/*`, `time/*`.
    pub status: StatusStats,
    /// `failures/<class>`.
    pub failures: Failures,
    /// `connects`.
    pub connects: Arc<Counter>,
    /// `closes`.
    pub closes: Arc<Counter>,
    /// `nacks`; shown by routers of HTTP/1.
    pub nacks: Arc<Counter>,
    /// `idle`: connections closed for having been idle.
    pub idle: Arc<Counter>,
    /// `lifetime`: connections closed for their age.
    pub lifetime: Arc<Counter>,
    /// `upgrades`: tunnels opened.
    pub upgrades: Arc<Counter>,
    /// `received_bytes`, `sent_bytes`, `connection_*`.
    pub transport: Arc<TransportStats>,
    /// `request_payload_bytes`, `response_payload_bytes`, `http/stream/*`.
    pub bodies: BodyStats,
    /// `request/stream/*`, `response/stream/*`, `stream/*`; of routers of HTTP/2.
    pub streams: Option<Arc<StreamStats>>,
    /// `open_streams`, `stream/{local,remote}/*` of connections of HTTP/2.
    pub h2: Late<Arc<H2Transport>>,
    /// `dtab/size`: entries of override tables.
    pub dtab_size: Arc<Stat>,
    /// `transit_latency_ms` and `admission_control/deadline/*`.
    pub deadlines: DeadlineStats,
    /// `tls/*`, once the server speaks TLS.
    pub tls: OnceLock<TlsStats>,
    /// `connections`.
    pub connections: Arc<AtomicI64>,
    tunnels: Arc<AtomicI64>,
    _tunnels: GaugeGuard,
    _connections: GaugeGuard,
}

/// See the module.
pub struct Server {
    /// Its parameters.
    pub params: ServerParams,
    /// `<ip>/<port>`, as configured.
    pub label: String,
    /// Counters; those of the server that a reload replaced with this one.
    pub stats: Arc<ServerStats>,
    /// TLS, when it speaks it.
    pub tls: Option<Arc<ServerTls>>,
    /// What requests may say about their route, and who is trusted.
    pub gate: Gate,
    counts: Arc<Counts>,
    scope: Scope,
}

/// What is counted against the limits of a server; a reload hands it on.
#[derive(Default)]
struct Counts {
    requests: AtomicUsize,
    /// `request_concurrency`, once `maxConcurrentRequests` is given.
    gauge: OnceLock<GaugeGuard>,
    /// Open connections, all and by source.
    connections: Mutex<(usize, HashMap<IpAddr, usize>)>,
    /// What it does with overrides, and its limits.
    gauges: Mutex<Vec<GaugeGuard>>,
}

/// An open connection: one of those that `maxConnections` and `maxConnectionsPerSource` allow.
pub struct Admission {
    counts: Arc<Counts>,
    stats: Arc<ServerStats>,
    source: IpAddr,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut connections = self.counts.connections.lock();
        connections.0 = connections.0.saturating_sub(1);
        if let Entry::Occupied(mut of_source) = connections.1.entry(self.source) {
            *of_source.get_mut() = of_source.get().saturating_sub(1);
            if *of_source.get() == 0 {
                of_source.remove();
            }
        }
        drop(connections);
        self.stats.closes.incr();
        self.stats.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One of the requests that `maxConcurrentRequests` allows.
pub struct Permit(Arc<Counts>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One of the tunnels that upgrades opened: counts it as long as it lives.
pub struct OpenTunnel<'a>(&'a ServerStats);

impl<'a> OpenTunnel<'a> {
    /// Counts one more.
    pub fn new(stats: &'a ServerStats) -> OpenTunnel<'a> {
        stats.upgrades.incr();
        stats.tunnels.fetch_add(1, Ordering::Relaxed);
        OpenTunnel(stats)
    }
}

impl Drop for OpenTunnel<'_> {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Server {
    /// The server of `params` in the router's scope. With the server that it replaces on the same listener of the same
    /// router, it goes on with that one's counts.
    pub fn new(
        mut params: ServerParams,
        bound: SocketAddr,
        router: &RouterParams,
        scope: &Scope,
        before: Option<&Server>,
        tls: Option<Arc<ServerTls>>,
    ) -> Server {
        descriptors::within(&mut params);
        let label = format!("{}/{}", bound.ip(), bound.port());
        let scope = scope.scope("server").scope(&label);
        let (counts, stats) = match before {
            Some(before) => (before.counts.clone(), before.stats.clone()),
            None => {
                tracing::info!(router = %router.label, address = %bound, "listening");
                (Arc::new(Counts::default()), Arc::new(ServerStats::new(&scope, Family::of(router))))
            }
        };
        if params.max_concurrent_requests.is_some() {
            let running = Arc::downgrade(&counts);
            let read = move || running.upgrade().map_or(0, |counts| counts.requests.load(Ordering::Relaxed)) as f64;
            counts.gauge.get_or_init(|| scope.gauge("request_concurrency", read));
        }
        let gate = Gate::new(&params, router, &label);
        if tls.is_some() {
            stats.tls.get_or_init(|| TlsStats::new(&scope));
        }
        Server { params, label, stats, tls, gate, counts, scope }
    }

    /// Shows its settings, in place of those of the server that it replaces.
    pub fn tell(&self) {
        let mut gauges = note_overrides(&self.params, &self.label, &self.scope);
        let (most, of_source) = (self.params.max_connections as f64, self.params.max_connections_per_source as f64);
        gauges.push(self.scope.gauge("connections_limit", move || most));
        gauges.push(self.scope.gauge("connections_per_source_limit", move || of_source));
        *self.counts.gauges.lock() = gauges;
    }

    /// A permit for one more request; None when `maxConcurrentRequests` is reached.
    pub fn permit(&self) -> Option<Option<Permit>> {
        let Some(most) = self.params.max_concurrent_requests else { return Some(None) };
        let permit = Permit(self.counts.clone());
        if self.counts.requests.fetch_add(1, Ordering::Relaxed) < most {
            return Some(Some(permit));
        }
        None
    }

    /// Counts one more connection; None, counted in `rejected_total`, when it would be one too many, of all or of its
    /// source (attacks H1-16, M1).
    pub fn admit(&self, source: IpAddr) -> Option<Admission> {
        let mut connections = self.counts.connections.lock();
        let of_source = connections.1.get(&source).copied().unwrap_or(0);
        let reason = match () {
            () if connections.0 >= self.params.max_connections => Some("too-many-connections"),
            () if of_source >= self.params.max_connections_per_source => Some("too-many-connections-of-source"),
            () => None,
        };
        if let Some(reason) = reason {
            drop(connections);
            metrics::counter!("rejected_total", "reason" => reason).increment(1);
            return None;
        }
        connections.0 += 1;
        connections.1.insert(source, of_source + 1);
        drop(connections);
        self.stats.connects.incr();
        self.stats.connections.fetch_add(1, Ordering::Relaxed);
        Some(Admission { counts: self.counts.clone(), stats: self.stats.clone(), source })
    }
}

/// Says in a gauge, and for a listener that does not say in the log, how overrides are treated (requirements §5, rule 1).
fn note_overrides(params: &ServerParams, label: &str, scope: &Scope) -> Vec<GaugeGuard> {
    let mode = params.overrides.mode;
    let scope = scope.scope("overrides");
    let mut gauges = vec![scope.gauge(mode.label(), || 1.0)];
    if mode == OverrideMode::Legacy && !params.overrides.stated {
        gauges.push(scope.gauge("unstated", || 1.0));
        tracing::warn!(
            listener = label,
            "this listener does not say what it does with overrides, so whoever reaches it chooses routes by \
             `l5d-dtab`; write `overrides: off`, `named`, `policy` or `legacy`"
        );
    }
    gauges
}

impl ServerStats {
    pub(crate) fn new(scope: &Scope, family: Family) -> ServerStats {
        let connections = Arc::new(AtomicI64::new(0));
        let tunnels = Arc::new(AtomicI64::new(0));
        let (open, open_tunnels) = (connections.clone(), tunnels.clone());
        ServerStats {
            requests: family.requests(scope),
            status: family.status(scope),
            failures: Failures::new(scope),
            connects: scope.counter("connects"),
            closes: scope.counter("closes"),
            nacks: family.http_counter(scope, "nacks"),
            idle: scope.counter("idle"),
            lifetime: scope.counter("lifetime"),
            upgrades: scope.counter("upgrades"),
            tunnels,
            _tunnels: scope.gauge("tunnels", move || open_tunnels.load(Ordering::Relaxed) as f64),
            transport: TransportStats::new(scope),
            bodies: family.bodies(scope),
            streams: family.streams(scope),
            h2: family.transport(scope),
            dtab_size: scope.stat("dtab/size"),
            deadlines: DeadlineStats::new(scope),
            tls: OnceLock::new(),
            _connections: scope.gauge("connections", move || open.load(Ordering::Relaxed) as f64),
            connections,
        }
    }
}

/// Opens one listening socket per worker on the same address, so that each worker accepts for itself.
///
/// Errors when the address cannot be had; nothing stays open then. The first socket is bound without `SO_REUSEPORT`
/// being shared with foreign processes unless `socketOptions.reusePort` asks for it: a port that is taken is an error.
/// `ours` says that a listener of this process has the port as well, on another address, and is about to leave it.
pub fn listen(
    params: &ServerParams,
    workers: usize,
    ours: bool,
) -> io::Result<(SocketAddr, Vec<std::net::TcpListener>)> {
    let mut address = SocketAddr::new(params.ip, params.port);
    if !params.socket.reuse_port && !ours {
        address = probe(params, address)?;
    }
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = open(address, &params.socket, true)?;
        socket.bind(&address.into())?;
        socket.listen(backlog(&params.socket))?;
        let listener: std::net::TcpListener = socket.into();
        address = listener.local_addr()?;
        sockets.push(listener);
    }
    Ok((address, sockets))
}

/// Binds once without `SO_REUSEPORT`, which fails when anybody else listens there, and tells the port that was given.
fn probe(params: &ServerParams, address: SocketAddr) -> io::Result<SocketAddr> {
    let socket = open(address, &params.socket, false)?;
    socket.bind(&address.into())?;
    socket.listen(1)?;
    let bound: std::net::TcpListener = socket.into();
    bound.local_addr()
}
