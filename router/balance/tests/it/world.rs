//! A simulated client and its servers in virtual time: requests arrive, last as the servers say, and the set of endpoints
//! changes. Seeded: a run gives the same numbers each time.

use crate::support::{SplitMix64, endpoints};
use balance::{Algorithm, Balancer, Endpoint, Lease, Replicas, SLOW_START_NS};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How one request to an endpoint goes.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Outcome {
    Success,
    Failure,
    Refused,
}

/// (uid, now, random bits) to (duration in nanoseconds, outcome).
pub(crate) type Server = dyn Fn(u64, u64, u64) -> (u64, Outcome);

/// What was counted in one run, by uid.
pub(crate) struct Report {
    pub(crate) requests: Vec<u64>,
    /// The most leases that were outstanding at once.
    pub(crate) peaks: Vec<u32>,
    /// Picks that found nothing open.
    pub(crate) exhausted: u64,
}

impl Report {
    pub(crate) fn total(&self) -> u64 {
        self.requests.iter().sum()
    }

    /// The part of all requests that went to one endpoint.
    pub(crate) fn share(&self, uid: u64) -> f64 {
        self.requests[uid as usize] as f64 / self.total() as f64
    }

    pub(crate) fn peak(&self) -> u32 {
        self.peaks.iter().copied().max().unwrap_or(0)
    }
}

/// An open loop: requests arrive at a mean gap, whatever became of those before.
pub(crate) struct World<'a> {
    pub(crate) balancer: Balancer,
    pub(crate) replicas: Replicas,
    pub(crate) now: u64,
    rng: SplitMix64,
    server: &'a Server,
    /// By end and a running number.
    flying: BTreeMap<(u64, u64), (Lease, Outcome)>,
    started: u64,
}

impl<'a> World<'a> {
    /// A world at time 0 with the default slow start, which does not concern `all`.
    pub(crate) fn new(algorithm: Algorithm, all: Vec<Arc<Endpoint>>, server: &'a Server) -> Self {
        let balancer = Balancer::new(algorithm, SLOW_START_NS, 5);
        let replicas = balancer.replicas(all, 0);
        Self { balancer, replicas, now: 0, rng: SplitMix64(42), server, flying: BTreeMap::new(), started: 0 }
    }

    /// So many endpoints of weight 1.
    pub(crate) fn of(algorithm: Algorithm, count: u64, server: &'a Server) -> Self {
        Self::new(algorithm, endpoints(count), server)
    }

    /// Discovery changes.
    pub(crate) fn replace(&mut self, all: Vec<Arc<Endpoint>>) {
        self.replicas = self.balancer.replicas(all, self.now);
    }

    /// Requests arrive for `span` nanoseconds, one each `mean_gap` on average.
    pub(crate) fn run(&mut self, span: u64, mean_gap: u64) -> Report {
        let most = self.replicas.endpoints().iter().map(|e| e.uid()).max().map_or(0, |uid| uid as usize + 1);
        let mut report = Report { requests: vec![0; most], peaks: vec![0; most], exhausted: 0 };
        let end = self.now + span;
        while self.now < end {
            self.finish_until(self.now);
            self.start(&mut report);
            self.now += self.rng.below(2 * mean_gap);
        }
        report
    }

    /// Everything under way ends.
    pub(crate) fn finish(&mut self) {
        self.finish_until(u64::MAX);
    }

    fn start(&mut self, report: &mut Report) {
        let pick = self.replicas.pick(self.now, || self.rng.next()).expect("not empty");
        let endpoint = pick.lease.endpoint();
        assert!(!endpoint.is_closed(), "{} is gone", endpoint.uid());
        let uid = endpoint.uid();
        report.exhausted += u64::from(pick.max_effort_exhausted);
        report.requests[uid as usize] += 1;
        report.peaks[uid as usize] = report.peaks[uid as usize].max(endpoint.load());
        let (duration, outcome) = (self.server)(uid, self.now, self.rng.next());
        self.started += 1;
        self.flying.insert((self.now + duration, self.started), (pick.lease, outcome));
    }

    fn finish_until(&mut self, now: u64) {
        while let Some(first) = self.flying.first_entry().filter(|first| first.key().0 <= now) {
            let ((end, _), (mut lease, outcome)) = first.remove_entry();
            match outcome {
                Outcome::Success => {
                    lease.endpoint().connected();
                    lease.succeed(end);
                }
                Outcome::Failure => lease.fail(end, &mut || self.rng.next()),
                Outcome::Refused => lease.connect_failed(end, &mut || self.rng.next()),
            }
            lease.end(end);
        }
    }
}
