//! One pick in one weight class: who is looked at, who is better, who is taken.
//!
//! It is for what the kinds of balancer have in common: the draw of two, status before load, the claim of a probe, slow
//! start. It is not for choosing a class: see `replicas`. Called by `replicas`, `heap` and `round_robin`.
//! Source: data-plane reference section 9, "Common pick loop".
//!
//! Slow start: an endpoint that came into a set which already carried traffic is empty, so every rule that looks at load
//! would send it all that comes. Until its start is over, it is taken only in so many of the cases in which it would be
//! taken as its start is along, from a tenth to all. Otherwise the request goes to the other one drawn, or to another
//! draw; if there is no other open endpoint, it is taken all the same.

use crate::algorithm::Algorithm;
use crate::endpoint::{Endpoint, Standing};
use crate::random;
use crate::upset::UpSet;
use std::sync::Arc;

/// What a new endpoint is taken for at least.
pub(crate) const WARM_FLOOR: f64 = 0.1;

/// An endpoint and how it stood when it was looked at.
#[derive(Clone, Copy)]
pub(crate) struct Candidate<'a> {
    slot: usize,
    endpoint: &'a Arc<Endpoint>,
    standing: Standing,
}

impl Candidate<'_> {
    /// Its place among the members.
    pub(crate) fn slot(&self) -> usize {
        self.slot
    }

    /// Whether it is in discovery and did not refuse its last connection a moment ago.
    pub(crate) fn takes_connections(&self) -> bool {
        self.standing > Standing::Refused
    }
}

/// What became of a candidate.
pub(crate) enum Offer<'a> {
    /// It is the choice.
    Taken(Choice<'a>),
    /// It is open, but new: another one should be looked for.
    Held(Candidate<'a>),
    /// It is not open.
    Busy(Candidate<'a>),
}

/// An endpoint that was chosen. If it is the probe, that is claimed: a lease must follow.
pub(crate) struct Choice<'a> {
    pub(crate) slot: usize,
    pub(crate) endpoint: &'a Arc<Endpoint>,
    /// False: nothing open was found.
    pub(crate) open: bool,
    /// It is new, and only taken because nothing else was found.
    pub(crate) held: bool,
    pub(crate) probe: bool,
}

/// The circumstances of one pick.
pub(crate) struct Turn<'a, R> {
    members: &'a [Arc<Endpoint>],
    algorithm: &'a Algorithm,
    now: u64,
    warm_floor: f64,
    rng: R,
}

impl<'a, R: FnMut() -> u64> Turn<'a, R> {
    /// A pick among `members` at `now`. New ones are taken in at least `warm_floor` of the cases.
    pub(crate) fn new(
        members: &'a [Arc<Endpoint>],
        algorithm: &'a Algorithm,
        now: u64,
        warm_floor: f64,
        rng: R,
    ) -> Self {
        Self { members, algorithm, now, warm_floor, rng }
    }

    pub(crate) fn members(&self) -> &'a [Arc<Endpoint>] {
        self.members
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    pub(crate) fn effort(&self) -> u32 {
        self.algorithm.max_effort()
    }

    /// 64 uniform bits.
    pub(crate) fn bits(&mut self) -> u64 {
        (self.rng)()
    }

    /// The member at `slot`, as it stands.
    pub(crate) fn candidate(&self, slot: usize) -> Option<Candidate<'a>> {
        let endpoint = self.members.get(slot)?;
        Some(Candidate { slot, endpoint, standing: endpoint.standing(self.now) })
    }

    /// Takes `candidate` if it is open, and not too new.
    pub(crate) fn offer(&mut self, candidate: Candidate<'a>) -> Offer<'a> {
        if candidate.standing == Standing::Open && !self.is_warm_enough(candidate.endpoint) {
            return Offer::Held(candidate);
        }
        self.take(candidate).map_or(Offer::Busy(candidate), Offer::Taken)
    }

    /// Takes `candidate` if it is open, new or not. Of those that want its probe, one gets it.
    pub(crate) fn take(&self, candidate: Candidate<'a>) -> Option<Choice<'a>> {
        let probe = candidate.standing == Standing::ProbeDue;
        let open = candidate.standing == Standing::Open || (probe && candidate.endpoint.claim_probe(self.now));
        open.then_some(Choice { slot: candidate.slot, endpoint: candidate.endpoint, open, held: false, probe })
    }

    /// Takes `candidate` however it stands: nothing better was found.
    pub(crate) fn settle_for(&self, candidate: Candidate<'a>) -> Choice<'a> {
        let Candidate { slot, endpoint, standing } = candidate;
        match self.take(candidate) {
            Some(choice) => Choice { held: standing == Standing::Open, ..choice },
            None => Choice { slot, endpoint, open: false, held: false, probe: false },
        }
    }

    /// Whether an endpoint has no slow start, or is let through in spite of it.
    pub(crate) fn is_warm_enough(&mut self, endpoint: &Endpoint) -> bool {
        if endpoint.warm_until(self.now).is_none() {
            return true;
        }
        let share = endpoint.warmth(self.now).max(self.warm_floor);
        random::unit(self.bits()) < share
    }

    /// Up to `max_effort` draws of two of the first `count` members, or of the first `count` that are up. Without an
    /// open one: the best of all that were looked at.
    pub(crate) fn of_two(&mut self, count: usize, up: Option<&UpSet>) -> Option<Choice<'a>> {
        let mut spare = None;
        for _ in 0..self.effort() {
            let among = up.map_or(count, |up| up.count().min(count));
            let Some((first, second)) = self.draw(among, up) else { break };
            let (winner, loser) = match second {
                Some(second) if self.is_better(&second, &first) => (second, Some(first)),
                second => (first, second),
            };
            for candidate in [Some(winner), loser].into_iter().flatten() {
                let left = match self.offer(candidate) {
                    Offer::Taken(choice) => {
                        mark_down(up, loser);
                        return Some(choice);
                    }
                    Offer::Held(left) | Offer::Busy(left) => left,
                };
                mark_down(up, Some(left));
                spare = Some(spare.filter(|spare| !self.is_better(&left, spare)).unwrap_or(left));
            }
            if among < 2 && up.is_none() {
                break;
            }
        }
        spare.map(|candidate| self.settle_for(candidate))
    }

    /// Two distinct members of the first `among`; or the only one, and the one behind it if that one is new.
    fn draw(&mut self, among: usize, up: Option<&UpSet>) -> Option<(Candidate<'a>, Option<Candidate<'a>>)> {
        let slot = |nth: usize| up.map_or(Some(nth), |up| up.nth(nth));
        if among < 2 {
            let only = self.candidate(slot(0)?)?;
            let is_new = only.endpoint.warm_until(self.now).is_some();
            return Some((only, if is_new { slot(1).and_then(|slot| self.candidate(slot)) } else { None }));
        }
        let (first, second) = random::distinct_pair(self.bits(), among);
        // The second may have been marked down in between.
        Some((self.candidate(slot(first)?)?, slot(second).and_then(|slot| self.candidate(slot))))
    }

    /// By status, then by load. A tie is no win.
    fn is_better(&self, one: &Candidate<'_>, other: &Candidate<'_>) -> bool {
        match one.standing.cmp(&other.standing) {
            std::cmp::Ordering::Equal => {
                self.algorithm.load(one.endpoint, self.now) < self.algorithm.load(other.endpoint, self.now)
            }
            order => order.is_gt(),
        }
    }
}

/// Takes `candidate` out of `up` if it is not open, so that others take its place.
fn mark_down(up: Option<&UpSet>, candidate: Option<Candidate<'_>>) {
    if let (Some(up), Some(candidate)) = (up, candidate)
        && !candidate.standing.is_open()
    {
        up.mark_down(candidate.slot);
    }
}
