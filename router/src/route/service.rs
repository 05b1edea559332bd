//! [`PathService`]: one logical name under one override: its policy, its counters, its bound list.

use super::cache::Entry;
use super::{Bound, Cell, Choices, Dst, Leaf, shares};
use crate::client::{Client, Clients};
use crate::clock;
use crate::config::ServiceParams;
use crate::family::{self, BufferStats, Family};
use crate::overrides::Choice;
use crate::scopes::{ScopeLease, Scopes};
use balance::RetryBudget;
use bytes::{Bytes, BytesMut};
use dtab::{Activity, BoundName, NameTree, Path, State};
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use telemetry::{Counter, Failures, GaugeGuard, GrpcStats, Late, RequestStats, Stat, StreamStats};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// What a path service is made of.
pub struct PathServiceParts<'a> {
    /// The destination.
    pub dst: Dst,
    /// Its policy.
    pub params: ServiceParams,
    /// The live binding.
    pub binding: Activity<NameTree<BoundName>>,
    /// The live binding of the same name without the override, if there is one.
    pub base: Option<Activity<NameTree<BoundName>>>,
    /// Whose requests made it necessary; None for what the router's own table leads to.
    pub owner: Option<IpAddr>,
    /// Where its clients come from.
    pub clients: Arc<Clients>,
    /// The router's scopes.
    pub scopes: &'a Arc<Scopes>,
    /// Which metrics it has there.
    pub family: Family,
    /// Where its task runs.
    pub handle: &'a Handle,
}

/// See the module.
pub struct PathService {
    /// The destination.
    pub dst: Dst,
    /// Timeouts, retries, classification.
    pub params: ServiceParams,
    /// Request counters.
    pub stats: RequestStats,
    /// `failures/<class>`.
    pub failures: Failures,
    /// `request/stream/*`, `response/stream/*`, `stream/*`; of routers of HTTP/2.
    pub streams: Option<Arc<StreamStats>>,
    /// `grpc/status/*`: how calls ended for their callers.
    pub grpc: Late<GrpcStats>,
    /// What did not fit or took too long to be judged; of routers of HTTP/2.
    pub buffers: Option<BufferStats>,
    /// `retries/total`.
    pub retries: Arc<Counter>,
    /// `retries/per_request`.
    pub retries_per_request: Arc<Stat>,
    /// `retries/budget_exhausted`.
    pub budget_exhausted: Arc<Counter>,
    /// `retries/attempts_exhausted`, of routers of HTTP/2 `backoffs_exhausted`: `retries.maxAttempts` was reached.
    pub attempts_exhausted: Arc<Counter>,
    /// The retry budget.
    pub budget: Arc<RetryBudget>,
    /// What it is bound to.
    pub bound: Arc<Cell<Bound>>,
    owner: Option<IpAddr>,
    /// How the name resolves, for error texts, and when that was told.
    pub way: parking_lot::Mutex<(u64, String)>,
    last_used: AtomicU64,
    closed: AtomicBool,
    task: AbortHandle,
    _lease: Arc<ScopeLease>,
    _budget_gauge: GaugeGuard,
}

impl PathService {
    /// Makes the service and starts its task. A binding that is settled already is in force on return.
    pub fn new(parts: PathServiceParts<'_>) -> Arc<PathService> {
        let PathServiceParts { dst, params, mut binding, mut base, owner, clients, scopes, family, handle } = parts;
        let shown = dst.path.show_bare();
        let lease = scopes.lease(&["service", &shown]);
        let scope = lease.scope.clone();
        let bound = Arc::new(Cell::new(Bound::Pending));
        let maker = LeafMaker { dst: dst.clone(), service: shown, clients, scopes: scopes.clone(), family };
        publish(&bound, &maker, binding.get(), base.as_mut().map(Activity::get));
        let task = handle.spawn(follow(bound.clone(), maker, binding, base)).abort_handle();
        let budget = Arc::new(RetryBudget::new(params.retry_budget.into(), clock::now()));
        let gauge = budget.clone();
        let _budget_gauge = scope.gauge("retries/budget", move || gauge.balance(clock::now()) as f64);
        Arc::new(PathService {
            stats: family.requests(&scope),
            failures: Failures::new(&scope),
            streams: family.streams(&scope),
            grpc: family::grpc(&scope),
            buffers: BufferStats::new(family, &scope),
            retries: scope.counter("retries/total"),
            retries_per_request: scope.stat("retries/per_request"),
            budget_exhausted: scope.counter("retries/budget_exhausted"),
            attempts_exhausted: family.attempts_exhausted(&scope),
            budget,
            bound,
            way: parking_lot::Mutex::default(),
            last_used: AtomicU64::new(clock::now()),
            closed: AtomicBool::new(false),
            dst,
            owner,
            params,
            task,
            _lease: lease,
            _budget_gauge,
        })
    }

    /// Notes a use at `now`, and every second that of its clients.
    pub fn touch(&self, now: u64) {
        if now.saturating_sub(self.last_used.load(Ordering::Relaxed)) > 1_000_000_000 {
            self.last_used.store(now, Ordering::Relaxed);
            if let Bound::Ok(choices) = &**self.bound.load() {
                choices.leaves().for_each(|leaf| leaf.client.touch(now));
            }
        }
    }

    /// True once it has left the cache: whoever remembers it should look it up anew.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

impl Drop for PathService {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Entry for PathService {
    fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    fn in_use(self: &Arc<Self>) -> bool {
        self.stats.pending() > 0
    }

    fn worth(&self) -> u8 {
        let serves = |leaf: &Arc<Leaf>| leaf.client.worth() > 0;
        let serves = matches!(&**self.bound.load(), Bound::Ok(choices) if choices.leaves().any(serves));
        match (serves, self.dst.is_base(), self.stats.requests.get()) {
            (false, _, _) => 0,
            (true, false, _) => 1,
            (true, true, 0..=1) => 2,
            (true, true, _) => 3,
        }
    }

    fn owner(&self) -> Option<IpAddr> {
        self.owner
    }

    fn evicted(&self) {
        // Its task ends with it: requests may still wait for what it is bound to.
        self.closed.store(true, Ordering::Relaxed);
    }
}

type Binding = Activity<NameTree<BoundName>>;

/// Publishes every new binding; ends by abortion.
async fn follow(cell: Arc<Cell<Bound>>, maker: LeafMaker, mut binding: Binding, mut base: Option<Binding>) {
    loop {
        match &mut base {
            None => binding.changed().await,
            Some(base) => tokio::select! {
                () = binding.changed() => {}
                () = base.changed() => {}
            },
        }
        publish(&cell, &maker, binding.get(), base.as_mut().map(Activity::get));
    }
}

/// Puts a binding in force. Once it has been bound, a path keeps its last good list (naming reference §4.4). A binding
/// under an override waits for that without it, to tell whose choice each leaf is.
fn publish(
    cell: &Cell<Bound>,
    maker: &LeafMaker,
    state: State<NameTree<BoundName>>,
    base: Option<State<NameTree<BoundName>>>,
) {
    let base = match base {
        None => None,
        Some(State::Pending) => return,
        // A name that the router's own table does not lead anywhere: all is the override's choice.
        Some(State::Failed(_)) => Some(HashSet::new()),
        Some(State::Ok(tree)) => {
            let mut ids = HashSet::new();
            tree.for_each(&mut |name| _ = ids.insert(name.id.clone()));
            Some(ids)
        }
    };
    let choice = |id: &Path| base.as_ref().map_or(Choice::Operator, |base| Choice::of(id, base));
    match state {
        State::Ok(tree) => {
            let previous = cell.load();
            let leaf = |name: BoundName| {
                let choice = choice(&name.id);
                maker.leaf(name, choice, &previous)
            };
            let shares = shares(&tree).into_iter().map(|(name, share)| (name.map(leaf), share));
            let choices = Choices::new(shares);
            cell.set(Bound::Ok(choices));
        }
        State::Failed(reason) if !matches!(**cell.load(), Bound::Ok(_)) => cell.set(Bound::Failed(reason)),
        State::Failed(_) | State::Pending => {}
    }
}

/// Makes the leaves of one service.
struct LeafMaker {
    dst: Dst,
    service: String,
    clients: Arc<Clients>,
    scopes: Arc<Scopes>,
    family: Family,
}

impl LeafMaker {
    /// The leaf for `name`; that of the previous list when it had the same name.
    fn leaf(&self, name: BoundName, choice: Choice, previous: &Bound) -> Arc<Leaf> {
        if let Bound::Ok(choices) = previous {
            let same = |leaf: &&Arc<Leaf>| {
                leaf.client.id == name.id && leaf.residual == name.residual && leaf.choice == choice
            };
            if let Some(leaf) = choices.leaves().find(same) {
                return leaf.clone();
            }
        }
        let client = self.clients.get(&name.id);
        let lease = self.scopes.lease(&["client", &name.id.show_bare(), "service", &self.service]);
        let (stats, failures) = (self.family.requests(&lease.scope), Failures::new(&lease.scope));
        let streams = self.family.streams(&lease.scope);
        let lines = self.lines(&client, &name);
        let fields = crate::h2::fields(&lines);
        Arc::new(Leaf { lines, fields, residual: name.residual, choice, client, stats, failures, streams, lease })
    }

    /// The raw header lines of a leaf (data-plane reference §5.2).
    fn lines(&self, client: &Client, name: &BoundName) -> Bytes {
        let mut lines = BytesMut::new();
        if client.params.egress {
            return lines.freeze();
        }
        let mut line = |key: &str, value: &str| {
            lines.extend_from_slice(format!("{key}: {value}\r\n").as_bytes());
        };
        line("l5d-dst-service", &self.dst.path.to_string());
        line("l5d-dst-client", &client.id.to_string());
        if !name.residual.is_empty() {
            line("l5d-dst-residual", &name.residual.to_string());
        }
        if !self.dst.local.is_empty() {
            line("l5d-ctx-dtab", &self.dst.local.to_string());
        }
        lines.freeze()
    }
}
