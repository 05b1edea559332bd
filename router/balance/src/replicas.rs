//! The balancer: which endpoint gets the next request?
//!
//! It is for choosing among one client's endpoints by power of two choices. It does not start leases: the caller does,
//! with `Endpoint::begin`. Called by the router's client, which makes a new snapshot when discovery changes.
//! Source: data-plane reference section 9.

use crate::endpoint::{Endpoint, Status};
use crate::random;
use std::ops::Range;
use std::sync::Arc;

/// Picks before failing open. Source: data-plane reference section 9.
const DEFAULT_MAX_EFFORT: u32 = 5;

/// How endpoints of one weight class are compared. Source: data-plane reference section 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Fewer outstanding leases win (`p2c`).
    P2c {
        /// Picks before failing open; 0 counts as 1.
        max_effort: u32,
    },
    /// The lower peak-EWMA latency wins (`ewma`).
    Ewma {
        /// Picks before failing open; 0 counts as 1.
        max_effort: u32,
        /// How slowly a latency is forgotten, in nanoseconds; 0 counts as 1. The reference's default is 10 s.
        decay_ns: u64,
    },
}

impl Default for Algorithm {
    /// `p2c` with 5 picks.
    fn default() -> Self {
        Self::P2c { max_effort: DEFAULT_MAX_EFFORT }
    }
}

impl Algorithm {
    /// The name in metrics: `p2c_least_loaded` or `p2c_peak_ewma`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::P2c { .. } => "p2c_least_loaded",
            Self::Ewma { .. } => "p2c_peak_ewma",
        }
    }

    /// What to give `Endpoint::end`, in nanoseconds: 0 if this algorithm does not need latencies.
    pub fn decay_ns(&self) -> u64 {
        match *self {
            Self::P2c { .. } => 0,
            Self::Ewma { decay_ns, .. } => decay_ns.max(1),
        }
    }

    fn max_effort(&self) -> u32 {
        match *self {
            Self::P2c { max_effort } | Self::Ewma { max_effort, .. } => max_effort.max(1),
        }
    }

    fn load(&self, endpoint: &Endpoint, now: u64) -> f64 {
        match *self {
            Self::P2c { .. } => f64::from(endpoint.load()),
            Self::Ewma { decay_ns, .. } => endpoint.ewma_load(now, decay_ns),
        }
    }

    /// The better of two: by status, then by load. The first wins a tie.
    fn better<'a>(&self, first: Candidate<'a>, second: Candidate<'a>, now: u64) -> Candidate<'a> {
        let second_wins = match second.status.cmp(&first.status) {
            std::cmp::Ordering::Equal => self.load(second.endpoint, now) < self.load(first.endpoint, now),
            order => order.is_gt(),
        };
        if second_wins { second } else { first }
    }
}

/// What `Replicas::pick` chose.
#[derive(Clone, Debug)]
pub struct Pick {
    /// The endpoint to use.
    pub endpoint: Arc<Endpoint>,
    /// No open endpoint was found, so this one is used whatever its status. Counted as `max_effort_exhausted`.
    pub max_effort_exhausted: bool,
    /// The drawn weight class had no open endpoint and another class was used. Counted as `busy_weight_classes`.
    pub busy_class_skipped: bool,
}

/// How many endpoints are in which status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusCounts {
    /// Endpoints fit for traffic.
    pub open: usize,
    /// Endpoints to avoid.
    pub busy: usize,
}

/// The endpoints of one client at one moment, grouped by weight. Immutable; the endpoints themselves live on.
/// Source: data-plane reference section 9, "Weights".
#[derive(Debug, Default)]
pub struct Replicas {
    /// Ordered by weight, greatest first.
    endpoints: Vec<Arc<Endpoint>>,
    /// The classes that may be drawn come first.
    classes: Vec<Class>,
    /// How many classes may be drawn: those of weight above 0, or the only one.
    drawable: usize,
    /// The sum of weight times size.
    total: f64,
}

/// The endpoints of one weight.
#[derive(Debug)]
struct Class {
    members: Range<usize>,
    /// Weight times size of this class and all before it.
    cumulative: f64,
}

/// An endpoint and the status it had when it was drawn.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    endpoint: &'a Arc<Endpoint>,
    status: Status,
}

impl<'a> Candidate<'a> {
    fn new(endpoint: &'a Arc<Endpoint>, now: u64) -> Self {
        Self { endpoint, status: endpoint.status(now) }
    }

    fn is_open(&self) -> bool {
        self.status == Status::Open
    }

    fn into_pick(self, busy_class_skipped: bool) -> Pick {
        Pick { endpoint: Arc::clone(self.endpoint), max_effort_exhausted: !self.is_open(), busy_class_skipped }
    }
}

impl Replicas {
    /// A snapshot. Weights are read once, here. Endpoints keep their order within a weight.
    pub fn new(endpoints: Vec<Arc<Endpoint>>) -> Self {
        let mut weighted: Vec<(f64, Arc<Endpoint>)> = endpoints.into_iter().map(|e| (e.weight(), e)).collect();
        weighted.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut replicas = Self::empty();
        for group in weighted.chunk_by(|a, b| a.0 == b.0) {
            let start = replicas.endpoints.len();
            replicas.endpoints.extend(group.iter().map(|(_, endpoint)| Arc::clone(endpoint)));
            let weight = group.first().map_or(0.0, |(weight, _)| *weight);
            replicas.total += weight * group.len() as f64;
            let members = start..replicas.endpoints.len();
            replicas.classes.push(Class { members, cumulative: replicas.total });
            if weight > 0.0 || start == 0 {
                replicas.drawable += 1;
            }
        }
        replicas
    }

    /// A snapshot without endpoints.
    pub fn empty() -> Self {
        Self::default()
    }

    /// All endpoints, ordered by weight, greatest first.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// How many different weights there are.
    pub fn weight_classes(&self) -> usize {
        self.classes.len()
    }

    /// The mean weight of the endpoints when the snapshot was made; 0 if there are none.
    pub fn mean_weight(&self) -> f64 {
        if self.endpoints.is_empty() { 0.0 } else { self.total / self.endpoints.len() as f64 }
    }

    /// How many endpoints are open and busy at `now` (nanoseconds). Looks at each.
    pub fn counts(&self, now: u64) -> StatusCounts {
        let open = self.endpoints.iter().filter(|e| e.status(now) == Status::Open).count();
        StatusCounts { open, busy: self.endpoints.len() - open }
    }

    /// Chooses an endpoint at `now` (nanoseconds). `rng` gives 64 uniform bits per call. `None` only when there are no
    /// endpoints: if all are busy, one of them is used. Source: data-plane reference section 9.
    pub fn pick(&self, algorithm: &Algorithm, now: u64, mut rng: impl FnMut() -> u64) -> Option<Pick> {
        let drawn = self.draw_class(&mut rng);
        let candidate = self.pick_in_class(drawn, algorithm, now, &mut rng)?;
        if candidate.is_open() || self.drawable == 1 {
            return Some(candidate.into_pick(false));
        }
        for offset in 1..self.drawable {
            let other = self.pick_in_class((drawn + offset) % self.drawable, algorithm, now, &mut rng);
            if let Some(other) = other.filter(Candidate::is_open) {
                return Some(other.into_pick(true));
            }
        }
        Some(candidate.into_pick(false))
    }

    /// The index of a class, drawn with probability in proportion to weight times size.
    fn draw_class(&self, rng: &mut impl FnMut() -> u64) -> usize {
        if self.drawable < 2 {
            return 0;
        }
        let point = random::unit(rng()) * self.total;
        let index = self.classes.partition_point(|class| class.cumulative <= point);
        index.min(self.drawable - 1)
    }

    /// Up to `max_effort` picks of two, stopping at an open one; else the last.
    fn pick_in_class(
        &self,
        class: usize,
        algorithm: &Algorithm,
        now: u64,
        rng: &mut impl FnMut() -> u64,
    ) -> Option<Candidate<'_>> {
        let members = self.endpoints.get(self.classes.get(class)?.members.clone())?;
        if let [only] = members {
            return Some(Candidate::new(only, now));
        }
        let mut last = None;
        for _ in 0..algorithm.max_effort() {
            let (first, second) = random::distinct_pair(rng(), members.len());
            let first = Candidate::new(members.get(first)?, now);
            let second = Candidate::new(members.get(second)?, now);
            let winner = algorithm.better(first, second, now);
            if winner.is_open() {
                return Some(winner);
            }
            last = Some(winner);
        }
        last
    }
}
