//! Random traffic over the places of one endpoint: no place is lost, none is given twice, and nobody waits while one is
//! free. Connections are left out: a place stands for one.

use super::super::stats::PoolStats;
use super::{Claims, Entry, Granted, Hosts, Place, Release, Ticket};
use crate::config::ClientParams;
use proptest::prelude::*;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use telemetry::Metrics;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A request of this worker wants a connection.
    Want(usize),
    /// One of those in use is released.
    Done(usize),
    /// One of those in use breaks.
    Break(usize),
    /// One of those unused breaks.
    Rot(usize),
    /// One of those who wait gives up, possibly when it is just its turn.
    GiveUp(usize),
    /// This worker answers claims.
    Answer(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0..8_usize;
    prop_oneof![
        4 => (0..3_usize).prop_map(Step::Want),
        3 => at.clone().prop_map(Step::Done),
        1 => at.clone().prop_map(Step::Break),
        1 => at.clone().prop_map(Step::Rot),
        2 => at.prop_map(Step::GiveUp),
        2 => (0..3_usize).prop_map(Step::Answer),
    ]
}

fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// What three workers have; each entry with its worker.
struct Traffic {
    hosts: Hosts,
    stats: Arc<PoolStats>,
    claims: [Arc<Claims>; 3],
    used: Vec<(usize, Place)>,
    unused: Vec<(usize, Place)>,
    handed: HashMap<u64, Place>,
    waiting: Vec<(usize, Ticket)>,
}

impl Traffic {
    fn new(max: usize) -> Traffic {
        Traffic::of(max, Default::default())
    }

    /// Of connections that many requests share.
    fn shared(max: usize) -> Traffic {
        Traffic::of(max, std::array::from_fn(|_| Arc::new(Claims::of_shared())))
    }

    fn of(max: usize, claims: [Arc<Claims>; 3]) -> Traffic {
        let stats = PoolStats::new(&Metrics::new().root());
        let params = ClientParams { pool_max: Some(max), ..ClientParams::default() };
        Traffic {
            hosts: Hosts::new(&params, stats.clone()),
            stats,
            claims,
            used: Vec::new(),
            unused: Vec::new(),
            handed: HashMap::new(),
            waiting: Vec::new(),
        }
    }

    fn want(&mut self, worker: usize) {
        if let Some(at) = self.unused.iter().rposition(|(whose, _)| *whose == worker) {
            let entry = self.unused.remove(at);
            entry.1.used();
            return self.used.push(entry);
        }
        match self.hosts.enter(1, &self.claims[worker]) {
            Entry::Place(place) => self.used.push((worker, place)),
            Entry::Wait(ticket) => self.waiting.push((worker, ticket)),
            Entry::Full => panic!("the line has no end here"),
        }
    }

    fn release(&mut self, worker: usize, place: Place) {
        if place.is_excess() {
            return;
        }
        match place.release() {
            Release::Unused => self.unused.push((worker, place)),
            Release::Hand(id) => _ = self.handed.insert(id, place),
            Release::Close => drop(place),
        }
    }

    fn give_up(&mut self, at: usize) {
        let (worker, mut ticket) = self.waiting.remove(at);
        match ticket.refuse() {
            None => {}
            Some(Granted::Place) => drop(ticket.place()),
            Some(Granted::Handed) => {
                let place = self.handed.remove(&ticket.take()).expect("it was handed");
                drop(ticket);
                self.release(worker, place);
            }
        }
    }

    fn answer(&mut self, worker: usize) {
        for (_, host) in now_or_never(self.claims[worker].next()).unwrap_or_default() {
            let wanted = host.upgrade().is_some_and(|host| host.still_wanted(&self.claims[worker]));
            let oldest = self.unused.iter().position(|(whose, _)| *whose == worker).filter(|_| wanted);
            if let Some(at) = oldest {
                let (_, place) = self.unused.remove(at);
                place.used();
            }
        }
    }

    /// Everybody who waits looks whether it is its turn.
    fn look(&mut self) {
        let mut at = 0;
        while at < self.waiting.len() {
            let (worker, ticket) = &mut self.waiting[at];
            let place = match now_or_never(ticket.granted()) {
                None => {
                    at += 1;
                    continue;
                }
                Some(Granted::Place) => ticket.place(),
                Some(Granted::Handed) => self.handed.remove(&ticket.take()).expect("it was handed"),
            };
            self.used.push((*worker, place));
            self.waiting.remove(at);
        }
    }

    fn step(&mut self, step: Step) {
        let at = |at: usize, len: usize| (len > 0).then(|| at % len);
        match step {
            Step::Want(worker) => self.want(worker),
            Step::Done(i) => {
                if let Some(i) = at(i, self.used.len()) {
                    let (worker, place) = self.used.remove(i);
                    self.release(worker, place);
                }
            }
            Step::Break(i) => _ = at(i, self.used.len()).map(|i| self.used.remove(i)),
            Step::Rot(i) => {
                if let Some(i) = at(i, self.unused.len()) {
                    self.unused.remove(i).1.used();
                }
            }
            Step::GiveUp(i) => {
                if let Some(i) = at(i, self.waiting.len()) {
                    self.give_up(i);
                }
            }
            Step::Answer(worker) => self.answer(worker),
        }
    }

    fn places(&self) -> usize {
        self.used.len() + self.unused.len() + self.handed.len()
    }

    /// Each worker looks at its unused connections.
    fn sweep(&mut self) {
        let excess = |(_, place): &mut (usize, Place)| place.is_excess();
        while let Some(at) = self.unused.iter_mut().position(excess) {
            self.unused.remove(at).1.used();
        }
    }

    fn has_one(&self, worker: usize) -> bool {
        self.used.iter().chain(&self.unused).any(|(whose, _)| *whose == worker)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_place_is_lost_or_given_twice(max in 1..5_usize, steps in prop::collection::vec(step(), 1..120)) {
        let mut traffic = Traffic::new(max);
        for step in steps {
            traffic.step(step);
            prop_assert!(traffic.places() <= max, "{} places of {max}", traffic.places());
            // Whoever is granted something late finds it still there.
            if !matches!(step, Step::Done(_) | Step::Break(_)) {
                traffic.look();
            }
        }
        (0..3).for_each(|worker| traffic.answer(worker));
        traffic.look();
        if !traffic.waiting.is_empty() {
            let (used, unused) = (traffic.used.len(), traffic.unused.len());
            prop_assert_eq!((used, unused), (max, 0), "{} wait", traffic.waiting.len());
        }
        prop_assert!(traffic.handed.is_empty());
        prop_assert_eq!(traffic.stats.size.load(Ordering::Relaxed), traffic.places() as i64);
        prop_assert_eq!(traffic.stats.cached.load(Ordering::Relaxed), traffic.unused.len() as i64);
        prop_assert_eq!(traffic.stats.waiters.load(Ordering::Relaxed), traffic.waiting.len() as i64);
        // Everybody is served in the end, and nothing stays behind.
        while !traffic.used.is_empty() {
            traffic.step(Step::Done(0));
            (0..3).for_each(|worker| traffic.answer(worker));
            traffic.look();
        }
        prop_assert!(traffic.waiting.is_empty(), "{} wait for ever", traffic.waiting.len());
        (0..traffic.unused.len()).for_each(|_| traffic.step(Step::Rot(0)));
        prop_assert_eq!(traffic.stats.size.load(Ordering::Relaxed), 0);
        prop_assert_eq!(traffic.stats.cached.load(Ordering::Relaxed), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whose requests share connections always gets one; beyond that the limit holds, once who has several let go of one.
    #[test]
    fn no_worker_waits_for_its_first_shared_connection(max in 1..5_usize, steps in prop::collection::vec(step(), 1..120)) {
        let mut traffic = Traffic::shared(max);
        for step in steps {
            traffic.step(step);
            traffic.look();
            prop_assert!(traffic.places() <= max + 2, "{} places of {max}", traffic.places());
            let idle = traffic.waiting.iter().find(|(worker, _)| !traffic.has_one(*worker));
            prop_assert!(idle.is_none(), "{:?} waits and has none", idle.map(|(worker, _)| worker));
        }
        while !traffic.used.is_empty() {
            traffic.step(Step::Done(0));
            (0..3).for_each(|worker| traffic.answer(worker));
            traffic.look();
        }
        prop_assert!(traffic.waiting.is_empty(), "{} wait for ever", traffic.waiting.len());
        traffic.sweep();
        prop_assert!(traffic.places() <= max.max(3), "{} places of {max}", traffic.places());
    }
}

/// A worker that was asked for an unused connection may need it itself before it hears of that: another one is asked.
#[test]
fn a_claim_that_comes_too_late_goes_to_another_worker() {
    let mut traffic = Traffic::new(3);
    // Worker 1 has two connections, worker 0 one; of each one is unused.
    for step in [Step::Want(1), Step::Want(1), Step::Want(0), Step::Done(2), Step::Done(1)] {
        traffic.step(step);
    }
    traffic.step(Step::Want(2));
    traffic.step(Step::Want(1));
    (0..3).for_each(|worker| traffic.answer(worker));
    traffic.look();
    assert!(traffic.waiting.is_empty(), "worker 2 waits, although worker 0 has a connection that nobody uses");
}
