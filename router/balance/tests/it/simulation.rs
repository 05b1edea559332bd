//! Seeded load in virtual time: spread, slow endpoints, dead endpoints, refused connections.

use crate::support::{MILLI, SECOND, SplitMix64, endpoint, endpoints};
use balance::{AccrualConfig, Algorithm, Endpoint, Replicas};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

const P2C: Algorithm = Algorithm::P2c { max_effort: 5 };
const EWMA: Algorithm = Algorithm::Ewma { max_effort: 5, decay_ns: 10 * SECOND };

/// How one request to an endpoint goes.
#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    Success,
    Failure,
    Refused,
}

/// What the simulation counted per endpoint, by uid.
struct Report {
    requests: Vec<u64>,
    peak_load: u32,
}

/// An open loop: requests arrive at a mean gap and last as the server says.
struct Simulation<'a> {
    replicas: Replicas,
    algorithm: Algorithm,
    rng: SplitMix64,
    /// (uid, now, random bits) to (duration in nanoseconds, outcome).
    server: &'a dyn Fn(u64, u64, u64) -> (u64, Outcome),
    /// Requests in flight: (end, uid, began).
    flying: BinaryHeap<Reverse<(u64, u64, u64)>>,
    report: Report,
}

impl<'a> Simulation<'a> {
    fn new(all: Vec<Arc<Endpoint>>, algorithm: Algorithm, server: &'a dyn Fn(u64, u64, u64) -> (u64, Outcome)) -> Self {
        let report = Report { requests: vec![0; all.len()], peak_load: 0 };
        let replicas = Replicas::new(all);
        Self { replicas, algorithm, rng: SplitMix64(42), server, flying: BinaryHeap::new(), report }
    }

    fn run(mut self, from: u64, to: u64, mean_gap: u64) -> (Replicas, Report) {
        let mut now = from;
        while now < to {
            self.finish_until(now);
            self.start(now);
            now += self.rng.below(2 * mean_gap);
        }
        self.finish_until(u64::MAX);
        (self.replicas, self.report)
    }

    fn start(&mut self, now: u64) {
        let picked = self.replicas.pick(&self.algorithm, now, || self.rng.next()).expect("not empty").endpoint;
        picked.begin(now);
        self.report.requests[picked.uid() as usize] += 1;
        self.report.peak_load = self.report.peak_load.max(picked.load());
        let (duration, _) = (self.server)(picked.uid(), now, self.rng.next());
        self.flying.push(Reverse((now + duration, picked.uid(), now)));
    }

    fn finish_until(&mut self, now: u64) {
        while let Some(&Reverse((end, uid, began))) = self.flying.peek() {
            if end > now {
                return;
            }
            self.flying.pop();
            let endpoint = self.replicas.endpoints().iter().find(|e| e.uid() == uid).expect("known");
            match (self.server)(uid, began, 0).1 {
                Outcome::Success => {
                    endpoint.connected();
                    endpoint.on_success(end);
                }
                Outcome::Failure => endpoint.on_failure(end, &mut || self.rng.next()),
                Outcome::Refused => endpoint.connect_failed(end, &mut || self.rng.next()),
            }
            endpoint.end(end, began, self.algorithm.decay_ns());
        }
    }
}

#[test]
fn p2c_spreads_evenly_and_keeps_loads_close() {
    let server = |_, _, bits| (5 * MILLI + bits % (10 * MILLI), Outcome::Success);
    let (replicas, report) = Simulation::new(endpoints(10), P2C, &server).run(0, 100 * SECOND, MILLI);
    let mean = report.requests.iter().sum::<u64>() as f64 / 10.0;
    for (uid, count) in report.requests.iter().enumerate() {
        assert!((*count as f64 - mean).abs() < mean * 0.02, "{uid}: {count} of {mean}");
    }
    // 10 in flight on 10 endpoints: a random choice would pile up 7 or more.
    assert!(report.peak_load <= 5, "{}", report.peak_load);
    assert!(replicas.endpoints().iter().all(|e| e.load() == 0));
}

#[test]
fn ewma_avoids_a_slow_endpoint_and_comes_back_to_it() {
    // Endpoint 0 takes 50 times as long in the first 60 s.
    let server = |uid, now, bits| {
        let slow = uid == 0 && now < 60 * SECOND;
        (if slow { 100 * MILLI } else { 2 * MILLI } + bits % MILLI, Outcome::Success)
    };
    let all = endpoints(5);
    let (_, slow) = Simulation::new(all.clone(), EWMA, &server).run(0, 60 * SECOND, 2 * MILLI);
    let share = slow.requests[0] as f64 / slow.requests.iter().sum::<u64>() as f64;
    assert!(share < 0.01, "{share}");
    let (_, healed) = Simulation::new(all, EWMA, &server).run(200 * SECOND, 260 * SECOND, 2 * MILLI);
    let share = healed.requests[0] as f64 / healed.requests.iter().sum::<u64>() as f64;
    assert!(share > 0.1, "{share}");
    // Least loaded looks only at requests in flight, so it sends more.
    let (_, p2c) = Simulation::new(endpoints(5), P2C, &server).run(0, 60 * SECOND, 2 * MILLI);
    assert!(p2c.requests[0] > slow.requests[0]);
}

#[test]
fn a_dead_endpoint_gets_only_probes_and_is_revived() {
    // Endpoint 0 fails from 10 s to 100 s. Requests last 1 ms and arrive every 2 ms at most one at a time per endpoint.
    let server = |uid, now, _| {
        let bad = uid == 0 && (10 * SECOND..100 * SECOND).contains(&now);
        (MILLI, if bad { Outcome::Failure } else { Outcome::Success })
    };
    let all = endpoints(4);
    let before = Simulation::new(all.clone(), P2C, &server).run(0, 10 * SECOND, 2 * MILLI).1;
    assert!(before.requests[0] > 1000);
    let during = Simulation::new(all.clone(), P2C, &server).run(10 * SECOND, 100 * SECOND, 2 * MILLI).1;
    let counts = all[0].accrual_counts();
    assert_eq!((counts.removals, counts.revivals), (1, 0));
    assert!((3..=5).contains(&counts.probes), "{counts:?}");
    // 5 failures to die, the probes, and at most one more in flight at the moment of death.
    let failed = during.requests[0];
    assert!((5 + counts.probes..=6 + counts.probes).contains(&failed), "{failed} {counts:?}");
    let after = Simulation::new(all.clone(), P2C, &server).run(200 * SECOND, 210 * SECOND, 2 * MILLI).1;
    assert_eq!(all[0].accrual_counts().revivals, 1);
    assert!(after.requests[0] > 1000);
}

#[test]
fn a_refusing_endpoint_is_skipped_at_once_and_recovers() {
    // Accrual is off: the refusal alone keeps traffic away. Down from 1 s to 31 s.
    let all: Vec<_> = (0..3).map(|uid| endpoint(uid, 1.0, AccrualConfig::None)).collect();
    let server = |uid, now, _| {
        let down = uid == 0 && (SECOND..31 * SECOND).contains(&now);
        if down { (MILLI / 10, Outcome::Refused) } else { (MILLI, Outcome::Success) }
    };
    let during = Simulation::new(all.clone(), P2C, &server).run(SECOND, 31 * SECOND, MILLI).1;
    // At least 0.25 + 0.25 + 0.5 + 1 + 2 + 4 s before every further wait is up to 8 s.
    assert!((5..=20).contains(&during.requests[0]), "{:?}", during.requests);
    let after = Simulation::new(all, P2C, &server).run(39 * SECOND, 49 * SECOND, MILLI).1;
    assert!(after.requests[0] > 2500, "{:?}", after.requests);
}

#[test]
fn a_single_failing_endpoint_still_gets_all_traffic() {
    let server = |_, _, _| (MILLI, Outcome::Failure);
    let report = Simulation::new(endpoints(1), P2C, &server).run(0, 20 * SECOND, 2 * MILLI).1;
    assert!(report.requests[0] > 5000);
}
