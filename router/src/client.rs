//! [`Client`]: one bound id: its replicas, its balancer, its parameters and counters; and [`Clients`], the cache.
//!
//! A task follows the addresses of the id and publishes immutable replica snapshots. Endpoints are carried over by
//! address, so that load, health and connections survive an update.

use crate::clock;
use crate::config::{ClientParams, RouterParams};
use crate::family::{self, Family};
use crate::pool::{Hosts, PoolStats};
use crate::route::Cell;
use crate::route::cache::{Cache, Entry};
use crate::scopes::{ScopeLease, Scopes};
use balance::{AccrualCounts, Algorithm, Balancer, Endpoint, Replicas, RetryBudget, Status};
use dtab::{Activity, Addr, AddrSet, Interpreter, Path};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use telemetry::{BodyStats, Counter, Failures, GaugeGuard, GrpcStats, H2Connects, H2Transport, Late, PingStats};
use telemetry::{RequestStats, Scope, Stat, StatusStats, StreamStats, TransportStats};
use tls::{ClientFiles, ClientTls, ClientTlsParams};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// What is known of the addresses of a client.
pub enum ReplicaState {
    /// Not known yet.
    Pending,
    /// The namer failed before it ever knew an address.
    Failed(Arc<str>),
    /// The namer says that there is no such cluster.
    Neg,
    /// The replicas, possibly none.
    Bound(Replicas),
}

/// The counters of a client (telemetry reference §4.3; of a router of HTTP/2, §5).
pub struct ClientStats {
    /// Request counters, one per dispatch.
    pub requests: RequestStats,
    /// `status/*` and `time/*`.
    pub status: StatusStats,
    /// `failures/<class>`.
    pub failures: Failures,
    /// `service_creation/failures/<class>`.
    pub creation_failures: Failures,
    /// `received_bytes`, `sent_bytes`, `connection_*`.
    pub transport: Arc<TransportStats>,
    /// `request_payload_bytes`, `response_payload_bytes`, `http/stream/*`.
    pub bodies: BodyStats,
    /// `request/stream/*`, `response/stream/*`, `stream/*`, one stream per dispatch; of routers of HTTP/2.
    pub streams: Option<Arc<StreamStats>>,
    /// `grpc/status/*`, one per dispatch.
    pub grpc: Late<GrpcStats>,
    /// `open_streams`, `stream/{local,remote}/*` of connections of HTTP/2.
    pub h2: Late<Arc<H2Transport>>,
    /// `connects/fail` and `/dead` of connections of HTTP/2.
    pub h2_connects: Late<H2Connects>,
    /// `failure_detector/*` of connections of HTTP/2.
    pub pings: Late<PingStats>,
    /// `connects`.
    pub connects: Arc<Counter>,
    /// `connect_latency_ms`.
    pub connect_latency_ms: Arc<Stat>,
    /// `retries/requeues`.
    pub requeues: Arc<Counter>,
    /// `failed_connect_latency_ms`.
    pub failed_connect_latency_ms: Arc<Stat>,
    /// `cancelled_connects`: given up because the request was over.
    pub cancelled_connects: Arc<Counter>,
    /// `retries/requeues_per_request`.
    pub requeues_per_request: Arc<Stat>,
    /// `retries/budget_exhausted`.
    pub budget_exhausted: Arc<Counter>,
    /// `retries/request_limit`: one request was requeued as often as it may.
    pub request_limit: Arc<Counter>,
    /// `retries/cannot_retry`: a request was lost that must not be sent twice.
    pub cannot_retry: Arc<Counter>,
    /// `retries/not_open`: a connection failed and no address is fit for another one.
    pub not_open: Arc<Counter>,
    /// `loadbalancer/max_effort_exhausted`.
    pub max_effort_exhausted: Arc<Counter>,
    /// `loadbalancer/busy_weight_classes`.
    pub busy_weight_classes: Arc<Counter>,
    /// `loadbalancer/adds` and `/removes`.
    adds: Arc<Counter>,
    removes: Arc<Counter>,
    updates: Arc<Counter>,
}

/// See the module.
pub struct Client {
    /// The bound id.
    pub id: Path,
    /// Balancer, accrual, timeouts, pool.
    pub params: ClientParams,
    /// The replicas.
    pub replicas: Arc<Cell<ReplicaState>>,
    /// TLS towards its endpoints; none for plain text.
    pub tls: Option<ClientTls>,
    /// Counters.
    pub stats: Arc<ClientStats>,
    /// The limits on its connections.
    pub hosts: Hosts,
    /// The budget of requeues.
    pub requeue_budget: Arc<RetryBudget>,
    /// When it was made, in nanoseconds of the process clock.
    pub created: u64,
    updated: Arc<AtomicU64>,
    last_used: AtomicU64,
    task: AbortHandle,
    _gauges: Vec<GaugeGuard>,
    _lease: Arc<ScopeLease>,
}

static NEXT_UID: AtomicU64 = AtomicU64::new(1);

impl Client {
    fn new(
        id: &Path,
        (params, tls): (ClientParams, Option<ClientTls>),
        mut addr: Activity<Addr>,
        (scopes, family): (&Arc<Scopes>, Family),
        handle: &Handle,
    ) -> Arc<Client> {
        let lease = scopes.lease(&["client", &id.show_bare()]);
        let scope = lease.scope.clone();
        let stats = Arc::new(ClientStats::new(&scope, family));
        let replicas = Arc::new(Cell::new(ReplicaState::Pending));
        let retired = Arc::new(Retired::default());
        let choice = &params.balancer;
        let balancer = Balancer::new(choice.algorithm, clock::nanos(choice.slow_start), fastrand::u64(..));
        let balancer = Arc::new(balancer);
        let mut keeper = Keeper {
            cell: replicas.clone(),
            balancer: balancer.clone(),
            endpoints: HashMap::new(),
            params: params.clone(),
            stats: stats.clone(),
            retired: retired.clone(),
            updated: Arc::default(),
        };
        let updated = keeper.updated.clone();
        keeper.apply(addr.get_ok());
        let budget = Arc::new(RetryBudget::new(params.requeue_budget.into(), clock::now()));
        let mut gauges = gauges(&scope, &replicas, &balancer, &budget, retired);
        gauges.extend(balancer_gauges(&scope, &replicas, balancer, params.fail_fast));
        let task = handle.spawn(keeper.follow(addr)).abort_handle();
        let hosts = Hosts::new(&params, PoolStats::new(&scope));
        Arc::new(Client {
            id: id.clone(),
            params,
            hosts,
            replicas,
            tls,
            stats,
            requeue_budget: budget,
            created: clock::now(),
            updated,
            last_used: AtomicU64::new(clock::now()),
            task,
            _gauges: gauges,
            _lease: lease,
        })
    }

    /// Notes a use at `now`.
    pub fn touch(&self, now: u64) {
        self.last_used.store(now, Ordering::Relaxed);
    }

    /// When discovery last told its addresses, in nanoseconds of the process clock; 0 before.
    pub fn updated(&self) -> u64 {
        self.updated.load(Ordering::Relaxed)
    }

    /// The addresses it knows, for error texts and `/client_state.json`.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        match &**self.replicas.load() {
            ReplicaState::Bound(replicas) => {
                let mut all: Vec<_> = replicas.endpoints().iter().map(|endpoint| endpoint.addr()).collect();
                all.sort_unstable();
                all
            }
            ReplicaState::Pending | ReplicaState::Failed(_) | ReplicaState::Neg => Vec::new(),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
        if let ReplicaState::Bound(replicas) = &**self.replicas.load() {
            replicas.endpoints().iter().for_each(|endpoint| endpoint.close());
        }
    }
}

impl Entry for Client {
    fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    /// Path services hold their clients; the cache's own reference is one.
    fn in_use(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }

    /// One that discovery has no address for serves nobody. Otherwise all alike: the path services that use a client keep
    /// it.
    fn worth(&self) -> u8 {
        match &**self.replicas.load() {
            ReplicaState::Neg | ReplicaState::Failed(_) => 0,
            ReplicaState::Pending | ReplicaState::Bound(_) => 1,
        }
    }

    fn evicted(&self) {}
}

trait GetOk {
    fn get_ok(&mut self) -> Addr;
}

impl GetOk for Activity<Addr> {
    /// The address state; an activity that is itself Pending or Failed is an address that is.
    fn get_ok(&mut self) -> Addr {
        match self.get() {
            dtab::State::Ok(addr) => addr,
            dtab::State::Pending => Addr::Pending,
            dtab::State::Failed(reason) => Addr::Failed(reason),
        }
    }
}

/// Accrual counts of endpoints that are gone; counters never go back.
#[derive(Default)]
struct Retired {
    counts: parking_lot::Mutex<AccrualCounts>,
}

/// Turns address updates into replica snapshots.
struct Keeper {
    cell: Arc<Cell<ReplicaState>>,
    balancer: Arc<Balancer>,
    endpoints: HashMap<SocketAddr, Arc<Endpoint>>,
    params: ClientParams,
    stats: Arc<ClientStats>,
    retired: Arc<Retired>,
    updated: Arc<AtomicU64>,
}

impl Keeper {
    async fn follow(mut self, mut addr: Activity<Addr>) {
        loop {
            addr.changed().await;
            self.apply(addr.get_ok());
        }
    }

    /// Once there were addresses, Pending and Failed change nothing (naming reference §4.3).
    fn apply(&mut self, addr: Addr) {
        let known = matches!(**self.cell.load(), ReplicaState::Bound(_) | ReplicaState::Neg);
        match addr {
            Addr::Bound(set) => self.replace(&set, self.params.balancer.probation),
            Addr::Neg => {
                self.replace(&AddrSet::default(), false);
                self.cell.set(ReplicaState::Neg);
            }
            Addr::Failed(reason) if !known => self.cell.set(ReplicaState::Failed(reason)),
            Addr::Failed(_) | Addr::Pending => {}
        }
    }

    /// The endpoints of `set`; with `probation` also those that have left it, as long as they are open (data-plane
    /// reference §9).
    fn replace(&mut self, set: &AddrSet, probation: bool) {
        let now = clock::now();
        let mut next = HashMap::with_capacity(set.addresses.len());
        for address in set.addresses.iter() {
            let endpoint = self.endpoints.remove(&address.socket).unwrap_or_else(|| {
                self.stats.adds.incr();
                let uid = NEXT_UID.fetch_add(1, Ordering::Relaxed);
                Arc::new(Endpoint::new(uid, address.socket, address.weight, self.params.accrual, now))
            });
            endpoint.set_weight(address.weight);
            next.insert(address.socket, endpoint);
        }
        for (address, gone) in self.endpoints.drain() {
            if probation && gone.status(now) == Status::Open {
                next.insert(address, gone);
                continue;
            }
            gone.close();
            self.stats.removes.incr();
            add_counts(&mut self.retired.counts.lock(), gone.accrual_counts());
        }
        self.endpoints = next;
        self.updated.store(clock::now(), Ordering::Relaxed);
        self.stats.updates.incr();
        self.cell.set(ReplicaState::Bound(self.balancer.replicas(self.endpoints.values().cloned().collect(), now)));
    }
}

fn add_counts(sum: &mut AccrualCounts, more: AccrualCounts) {
    sum.removals += more.removals;
    sum.revivals += more.revivals;
    sum.probes += more.probes;
    sum.removed_for_ms += more.removed_for_ms;
}

impl ClientStats {
    pub(crate) fn new(scope: &Scope, family: Family) -> ClientStats {
        ClientStats {
            requests: family.requests(scope),
            status: family.status(scope),
            failures: Failures::new(scope),
            creation_failures: Failures::new(&scope.scope("service_creation")),
            transport: TransportStats::new(scope),
            bodies: family.bodies(scope),
            streams: family.streams(scope),
            grpc: family::grpc(scope),
            h2: family.transport(scope),
            h2_connects: family.connects(scope),
            pings: family::pings(scope),
            connects: scope.counter("connects"),
            connect_latency_ms: scope.stat("connect_latency_ms"),
            requeues: scope.counter("retries/requeues"),
            failed_connect_latency_ms: scope.stat("failed_connect_latency_ms"),
            cancelled_connects: scope.counter("cancelled_connects"),
            requeues_per_request: scope.stat("retries/requeues_per_request"),
            budget_exhausted: scope.counter("retries/budget_exhausted"),
            request_limit: scope.counter("retries/request_limit"),
            cannot_retry: scope.counter("retries/cannot_retry"),
            not_open: scope.counter("retries/not_open"),
            max_effort_exhausted: scope.counter("loadbalancer/max_effort_exhausted"),
            busy_weight_classes: scope.counter("loadbalancer/busy_weight_classes"),
            adds: scope.counter("loadbalancer/adds"),
            removes: scope.counter("loadbalancer/removes"),
            updates: scope.counter("loadbalancer/updates"),
        }
    }
}

/// A reading of the replicas.
fn read(cell: &Cell<ReplicaState>, read: impl FnOnce(&Replicas) -> f64) -> f64 {
    match &**cell.load() {
        ReplicaState::Bound(replicas) => read(replicas),
        ReplicaState::Pending | ReplicaState::Failed(_) | ReplicaState::Neg => 0.0,
    }
}

fn gauges(
    scope: &Scope,
    cell: &Arc<Cell<ReplicaState>>,
    balancer: &Balancer,
    budget: &Arc<RetryBudget>,
    retired: Arc<Retired>,
) -> Vec<GaugeGuard> {
    let gauge = |name: &str, reading: fn(&Replicas) -> f64| {
        let cell = cell.clone();
        scope.gauge(name, move || read(&cell, reading))
    };
    let (budget, endpoints) = (budget.clone(), cell.clone());
    let accrual = move |emit: &mut dyn FnMut(&str, u64)| {
        let mut sum = *retired.counts.lock();
        if let ReplicaState::Bound(replicas) = &**endpoints.load() {
            replicas.endpoints().iter().for_each(|endpoint| add_counts(&mut sum, endpoint.accrual_counts()));
        }
        emit("removals", sum.removals);
        emit("revivals", sum.revivals);
        emit("probes", sum.probes);
        emit("removed_for_ms", sum.removed_for_ms);
    };
    let algorithm = format!("loadbalancer/algorithm/{}", balancer.algorithm().name());
    vec![
        gauge("available", |replicas| replicas.counts(clock::now()).open as f64),
        gauge("loadbalancer/size", |replicas| replicas.endpoints().len() as f64),
        gauge("loadbalancer/available", |replicas| replicas.counts(clock::now()).open as f64),
        gauge("loadbalancer/busy", |replicas| replicas.counts(clock::now()).busy as f64),
        gauge("loadbalancer/closed", |replicas| replicas.endpoints().iter().filter(|e| e.is_closed()).count() as f64),
        gauge("loadbalancer/load", |replicas| replicas.endpoints().iter().map(|e| f64::from(e.load())).sum()),
        gauge("loadbalancer/meanweight", Replicas::mean_weight),
        gauge("loadbalancer/num_weight_classes", |replicas| replicas.weight_classes() as f64),
        scope.gauge(&algorithm, || 1.0),
        scope.gauge("retries/budget", move || budget.balance(clock::now()) as f64),
        scope.family("failure_accrual", accrual),
    ]
}

/// What only a balancer knows (telemetry reference, "Balancer"), and how many addresses fail fast.
fn balancer_gauges(
    scope: &Scope,
    cell: &Arc<Cell<ReplicaState>>,
    balancer: Arc<Balancer>,
    fail_fast: bool,
) -> Vec<GaugeGuard> {
    let is_aperture = matches!(balancer.algorithm(), Algorithm::Aperture { .. });
    let band = balancer.clone();
    let rebuilds = scope.family("loadbalancer", move |emit| emit("rebuilds", balancer.counts().rebuilds));
    let marked_dead = |replicas: &Replicas| {
        let now = clock::now();
        replicas.endpoints().iter().filter(|endpoint| endpoint.is_refused(now)).count() as f64
    };
    let marked = fail_fast.then(|| {
        let cell = cell.clone();
        scope.gauge("failfast/is_marked_dead", move || read(&cell, marked_dead))
    });
    let mut gauges: Vec<GaugeGuard> = marked.into_iter().chain([rebuilds]).collect();
    if !is_aperture {
        return gauges;
    }
    let scope = scope.scope("loadbalancer");
    let gauge = |name: &str, reading: fn(&Replicas) -> f64| {
        let cell = cell.clone();
        scope.gauge(name, move || read(&cell, reading))
    };
    let steps = move |emit: &mut dyn FnMut(&str, u64)| {
        let counts = band.counts();
        emit("widen", counts.widened);
        emit("narrow", counts.narrowed);
    };
    gauges.extend([
        gauge("logical_aperture", |replicas| replicas.aperture() as f64),
        gauge("physical_aperture", |replicas| replicas.aperture() as f64),
        gauge("loadband/offered_load_ema", Replicas::offered_load),
        scope.family("loadband", steps),
    ]);
    gauges
}

/// The clients of one router, by bound id.
pub struct Clients {
    cache: Cache<Path, Client>,
    interpreter: Arc<dyn Interpreter>,
    params: Arc<RouterParams>,
    tls: TlsFiles,
    scopes: Arc<Scopes>,
    handle: Handle,
}

/// The certificate files of a router's clients, loaded when the router was made: by the parameters that name them.
pub type TlsFiles = HashMap<Arc<ClientTlsParams>, Arc<ClientFiles>>;

impl Clients {
    /// An empty cache of the size that the router's parameters give.
    pub fn new(
        interpreter: Arc<dyn Interpreter>,
        params: Arc<RouterParams>,
        tls: TlsFiles,
        scopes: Arc<Scopes>,
        handle: Handle,
    ) -> Clients {
        let limits = &params.binding_cache;
        let cache_scope = scopes.root().scope("bindcache").scope("client");
        let cache = Cache::new(limits.clients, clock::nanos(limits.idle_ttl), &cache_scope);
        Clients { cache, interpreter, params, tls, scopes, handle }
    }

    /// The client of `id`.
    pub fn get(&self, id: &Path) -> Arc<Client> {
        let make = || {
            let params = self.params.client.for_name(id);
            let tls = params.tls.as_ref().and_then(|tls| Some((tls, self.tls.get(&tls.params)?)));
            let tls = tls.map(|(tls, files)| ClientTls::new(files.clone(), tls.common_name.as_deref()));
            let scopes = (&self.scopes, Family::of(&self.params));
            Client::new(id, (params, tls), self.interpreter.resolve(id), scopes, &self.handle)
        };
        self.cache.get_or_make(id, make).0
    }

    /// The client of `id`, if there is one.
    pub fn peek(&self, id: &Path) -> Option<Arc<Client>> {
        self.cache.peek(id)
    }

    /// Throws out idle clients.
    pub fn sweep(&self) {
        self.cache.sweep();
    }

    /// Throws out all clients for good; who uses one keeps it.
    pub fn retire(&self) {
        self.cache.retire();
    }

    /// All clients in the cache.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.cache.all().into_iter().map(|(_, client)| client).collect()
    }
}
