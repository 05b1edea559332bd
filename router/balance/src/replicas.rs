//! The snapshot of one client's endpoints: which one gets the next request?
//!
//! It is for choosing a weight class, and in it an endpoint as the kind of balancer does: see `draw`, `heap`, `aperture`
//! and `round_robin`. `Balancer` makes it when discovery changes; the router's attempts ask it.
//! Source: data-plane reference section 9.
//!
//! No pick takes a lock or allocates. When no endpoint of any class is open, one is used all the same: of those looked
//! at, one to which a connection could be made last, and among them the one with the least load. So what is left of a
//! failing service shares the requests; they do not all go to one endpoint.

use crate::algorithm::Algorithm;
use crate::aperture::Aperture;
use crate::balancer::Balancer;
use crate::draw::{Choice, Offer, Turn, WARM_FLOOR};
use crate::endpoint::{Endpoint, Status};
use crate::heap::Heap;
use crate::lease::{Lease, Link};
use crate::random;
use crate::round_robin::RoundRobin;
use crate::upset::UpSet;
use std::ops::Range;
use std::sync::Arc;

/// Classes looked at for one that is not new, besides the drawn one.
const HELD_EFFORT: usize = 8;

/// What `Replicas::pick` chose.
#[derive(Debug)]
pub struct Pick {
    /// The endpoint to use. The lease has begun.
    pub lease: Lease,
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
#[derive(Debug)]
pub struct Replicas {
    algorithm: Algorithm,
    /// Ordered by weight, greatest first; in random order within a weight.
    endpoints: Vec<Arc<Endpoint>>,
    /// The classes that may be drawn come first.
    classes: Vec<Class>,
    /// How many classes may be drawn: those of weight above 0, or the only one.
    drawable: usize,
    /// The sum of weight times size.
    total: f64,
    /// The least share of a new endpoint: more than usual when most are new.
    warm_floor: f64,
}

/// The endpoints of one weight.
#[derive(Debug)]
struct Class {
    members: Range<usize>,
    /// Weight times size of this class and all before it.
    cumulative: f64,
    kind: ClassKind,
}

/// What a class needs besides its members.
#[derive(Debug)]
enum ClassKind {
    OfTwo,
    Aperture(Arc<Aperture>, UpSet),
    Heap(Arc<Heap>),
    RoundRobin(RoundRobin),
}

impl Replicas {
    /// See `Balancer::replicas`. `aperture` gives the aperture of a class by its weight and size.
    pub(crate) fn new(
        balancer: &Balancer,
        endpoints: Vec<Arc<Endpoint>>,
        now: u64,
        seed: u64,
        aperture: &mut dyn FnMut(f64, usize) -> Arc<Aperture>,
    ) -> Self {
        let mut weighted: Vec<(f64, Arc<Endpoint>)> = endpoints.into_iter().map(|e| (e.weight(), e)).collect();
        weighted.sort_by(|a, b| b.0.total_cmp(&a.0));
        let algorithm = *balancer.algorithm();
        let warm_floor = warm_floor(&weighted, now);
        let mut replicas =
            Self { algorithm, endpoints: Vec::new(), classes: Vec::new(), drawable: 0, total: 0.0, warm_floor };
        for group in weighted.chunk_by(|a, b| a.0 == b.0) {
            let start = replicas.endpoints.len();
            replicas.endpoints.extend(group.iter().map(|(_, endpoint)| Arc::clone(endpoint)));
            let weight = group.first().map_or(0.0, |(weight, _)| *weight);
            replicas.total += weight * group.len() as f64;
            let members = start..replicas.endpoints.len();
            let own = replicas.endpoints.get(members.clone()).unwrap_or(&[]);
            let (tally, heaps) = (&balancer.tally, &balancer.heaps);
            let kind = match algorithm {
                Algorithm::P2c { .. } | Algorithm::Ewma { .. } => ClassKind::OfTwo,
                Algorithm::Aperture { .. } => {
                    ClassKind::Aperture(aperture(weight, own.len()), UpSet::new(own.len(), Arc::clone(tally)))
                }
                Algorithm::Heap => ClassKind::Heap(Arc::new(Heap::new(own, heaps, tally, now))),
                Algorithm::RoundRobin { .. } => ClassKind::RoundRobin(RoundRobin::new(own.len(), seed, tally)),
            };
            replicas.classes.push(Class { members, cumulative: replicas.total, kind });
            if weight > 0.0 || start == 0 {
                replicas.drawable += 1;
            }
        }
        replicas.publish_heaps(balancer, now);
        replicas
    }

    fn publish_heaps(&self, balancer: &Balancer, now: u64) {
        let heap = |class: &Class| match &class.kind {
            ClassKind::Heap(heap) => Some((Arc::clone(heap), class.members.clone())),
            ClassKind::OfTwo | ClassKind::Aperture(..) | ClassKind::RoundRobin(_) => None,
        };
        let heaps = self.classes.iter().filter_map(heap);
        let members = heaps.map(|(heap, members)| (heap, self.endpoints.get(members).unwrap_or(&[])));
        balancer.heaps.replace(&members.collect::<Vec<_>>(), now);
    }

    fn members(&self, class: &Class) -> &[Arc<Endpoint>] {
        self.endpoints.get(class.members.clone()).unwrap_or(&[])
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

    /// How many endpoints get traffic, all classes together: all of them, unless this is an aperture.
    pub fn aperture(&self) -> usize {
        let sizes = self.classes.iter().map(|class| match &class.kind {
            ClassKind::Aperture(aperture, _) => aperture.size(),
            ClassKind::OfTwo | ClassKind::Heap(_) | ClassKind::RoundRobin(_) => class.members.len(),
        });
        sizes.sum()
    }

    /// The moving average of outstanding leases that the size of an aperture follows; 0 for other kinds.
    pub fn offered_load(&self) -> f64 {
        let loads = self.classes.iter().map(|class| match &class.kind {
            ClassKind::Aperture(aperture, _) => aperture.offered_load(),
            ClassKind::OfTwo | ClassKind::Heap(_) | ClassKind::RoundRobin(_) => 0.0,
        });
        loads.sum()
    }

    /// Chooses an endpoint at `now` (nanoseconds) and begins a lease on it. `rng` gives 64 uniform bits per call. `None`
    /// only when there are no endpoints: if all are busy, one of them is used. Source: data-plane reference section 9.
    pub fn pick(&self, now: u64, mut rng: impl FnMut() -> u64) -> Option<Pick> {
        let drawn = self.draw_class(&mut rng);
        let choice = self.pick_in_class(drawn, now, &mut rng)?;
        if choice.open && !choice.held {
            return Some(self.lease(drawn, choice, now, false));
        }
        let limit = if choice.held { HELD_EFFORT.min(self.drawable - 1) } else { self.drawable - 1 };
        for offset in 1..=limit {
            let class = (drawn + offset) % self.drawable;
            let Some(other) = self.pick_in_class(class, now, &mut rng) else { continue };
            if other.open && (!other.held || !choice.open) {
                return Some(self.lease(class, other, now, !choice.open));
            }
        }
        Some(self.lease(drawn, choice, now, false))
    }

    fn lease(&self, class: usize, choice: Choice<'_>, now: u64, busy_class_skipped: bool) -> Pick {
        let link = match self.classes.get(class).map(|class| &class.kind) {
            Some(ClassKind::Aperture(aperture, _)) => Link::Aperture(Arc::clone(aperture)),
            Some(ClassKind::Heap(heap)) => Link::Heap(Arc::clone(heap), choice.slot),
            Some(ClassKind::OfTwo | ClassKind::RoundRobin(_)) | None => Link::None,
        };
        // One that was refused can be due for a probe as well.
        let probe = choice.probe || (!choice.open && choice.endpoint.claim_probe(now));
        let lease = Lease::begin(choice.endpoint, link, now, self.algorithm.decay_ns(), probe);
        Pick { lease, max_effort_exhausted: !choice.open, busy_class_skipped }
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

    /// A choice as the kind of balancer makes it.
    fn pick_in_class(&self, class: usize, now: u64, rng: &mut impl FnMut() -> u64) -> Option<Choice<'_>> {
        let class = self.classes.get(class)?;
        let members = self.members(class);
        let mut turn = Turn::new(members, &self.algorithm, now, self.warm_floor, rng);
        if members.len() == 1 {
            return match turn.offer(turn.candidate(0)?) {
                Offer::Taken(choice) => Some(choice),
                Offer::Held(only) | Offer::Busy(only) => Some(turn.settle_for(only)),
            };
        }
        match &class.kind {
            ClassKind::OfTwo => turn.of_two(members.len(), None),
            ClassKind::Heap(heap) => heap.pick(&mut turn),
            ClassKind::RoundRobin(cycle) => cycle.pick(&mut turn),
            ClassKind::Aperture(aperture, up) => {
                up.review(members, now, |_| {});
                let size = aperture.size().min(members.len());
                turn.of_two(size, Some(up)).or_else(|| turn.of_two(size, None))
            }
        }
    }
}

/// With many new endpoints beside few others, the usual floor would leave most requests to those few. The floor is such
/// that none of them gets more than twice its share.
fn warm_floor(weighted: &[(f64, Arc<Endpoint>)], now: u64) -> f64 {
    let warm = weighted.iter().filter(|(_, endpoint)| endpoint.warm_until(now).is_some()).count();
    let settled = weighted.len() - warm;
    let needed = 1.0 - settled as f64 / (warm as f64).max(1.0);
    needed.clamp(WARM_FLOOR, 1.0)
}
