//! Limits on the connections to one address, over all workers: `hostConnectionPool` with `minSize`, `maxSize` and
//! `maxWaiters` (data-plane reference §13).
//!
//! A [`Place`] is the right to one connection and lives as long as it. When all places are taken, requests wait in line
//! for one. Connections never move between workers, so a place that is to serve another worker closes its connection: a
//! released one stays with its worker as long as that has waiters and no other worker is short of places, and an unused
//! one is asked back from the worker that keeps it. Within a worker the line is first come, first served.
//!
//! Of connections that many requests share (`h2::Links`) a worker may always have one, whatever `maxSize` says: its
//! requests cannot go to another worker, and might wait for a stream of hours there. Who has more than one then gives one
//! up. So there are at most as many as `maxSize` or as there are workers, whichever is more.
//!
//! Without `minSize` and `maxSize` there is no [`Host`], and nothing here takes a lock. Called by `pool` and
//! `request::acquire`.

use super::stats::PoolStats;
use crate::config::ClientParams;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use tokio::sync::{Notify, oneshot};

/// What the hosts know of a worker: how to ask it for an unused connection.
#[derive(Default)]
pub struct Claims {
    wanted: Mutex<Vec<(u64, Weak<Host>)>>,
    asked: Notify,
    /// One connection to each endpoint is never refused.
    always_one: bool,
}

impl Claims {
    /// Those of a worker's connections that many requests share.
    pub(crate) fn of_shared() -> Claims {
        Claims { always_one: true, ..Claims::default() }
    }

    /// Waits until somebody asks; the endpoints whose unused connections are wanted, one entry per connection.
    pub(crate) async fn next(&self) -> Vec<(u64, Weak<Host>)> {
        loop {
            let wanted = std::mem::take(&mut *self.wanted.lock());
            if !wanted.is_empty() {
                return wanted;
            }
            self.asked.notified().await;
        }
    }
}

/// The limited endpoints of one client.
pub struct Hosts {
    stats: Arc<PoolStats>,
    limits: Option<Limits>,
    hosts: Mutex<HashMap<u64, Weak<Host>>>,
}

#[derive(Clone, Copy)]
struct Limits {
    min: usize,
    max: usize,
    waiters: usize,
}

/// The places of one endpoint.
pub struct Host {
    uid: u64,
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    seats: Vec<Seat>,
    line: VecDeque<Waiter>,
}

/// What one worker has of the places.
struct Seat {
    claims: Arc<Claims>,
    open: usize,
    unused: usize,
    /// Unused ones that were asked for.
    asked: usize,
}

struct Waiter {
    id: u64,
    claims: Arc<Claims>,
    grant: oneshot::Sender<Granted>,
}

/// What a waiter gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granted {
    /// A place for a new connection.
    Place,
    /// A connection of its own worker, kept under its id.
    Handed,
}

/// The right to one connection; given back on drop.
pub struct Place {
    stats: Arc<PoolStats>,
    held: Option<(Arc<Host>, Arc<Claims>)>,
}

/// A place in the line; dropped, it leaves the line. Whoever drops it asks `refuse` first.
pub struct Ticket {
    id: u64,
    host: Arc<Host>,
    claims: Arc<Claims>,
    stats: Arc<PoolStats>,
    granted: oneshot::Receiver<Granted>,
    taken: bool,
}

/// The answer to who wants a connection.
pub enum Entry {
    /// A place is free.
    Place(Place),
    /// All are taken: wait.
    Wait(Ticket),
    /// So many wait already.
    Full,
}

/// What becomes of a connection that is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// Keep it.
    Unused,
    /// It is for this waiter of the same worker.
    Hand(u64),
    /// Close it: its place is for another worker.
    Close,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Hosts {
    /// The hosts of a client with these parameters.
    pub fn new(params: &ClientParams, stats: Arc<PoolStats>) -> Hosts {
        let limited = params.pool_max.is_some() || params.pool_min > 0;
        let limits = limited.then(|| Limits {
            min: params.pool_min,
            max: params.pool_max.unwrap_or(usize::MAX),
            waiters: params.pool_max_waiters.unwrap_or(usize::MAX),
        });
        Hosts { stats, limits, hosts: Mutex::default() }
    }

    /// A place for a connection to the endpoint with this `uid`, for a worker.
    pub fn enter(&self, uid: u64, claims: &Arc<Claims>) -> Entry {
        let Some(limits) = self.limits else {
            return Entry::Place(Place::new(self.stats.clone(), None));
        };
        let host = self.host(uid, limits);
        let entry = host.enter(claims, &self.stats);
        if let Entry::Full = entry {
            self.stats.too_many_waiters.incr();
        }
        entry
    }

    fn host(&self, uid: u64, limits: Limits) -> Arc<Host> {
        let mut hosts = self.hosts.lock();
        if let Some(host) = hosts.get(&uid).and_then(Weak::upgrade) {
            return host;
        }
        hosts.retain(|_, host| host.strong_count() > 0);
        let host = Arc::new(Host { uid, limits, state: Mutex::default() });
        hosts.insert(uid, Arc::downgrade(&host));
        host
    }
}

impl State {
    fn seat(&mut self, claims: &Arc<Claims>) -> &mut Seat {
        let at = self.seats.iter().position(|seat| Arc::ptr_eq(&seat.claims, claims));
        let at = at.unwrap_or_else(|| {
            self.seats.push(Seat { claims: claims.clone(), open: 0, unused: 0, asked: 0 });
            self.seats.len() - 1
        });
        &mut self.seats[at]
    }

    fn open(&self) -> usize {
        self.seats.iter().map(|seat| seat.open).sum()
    }

    /// Gives a free place to the first who still waits; of those of `only`, if that is given.
    fn grant(&mut self, only: Option<&Arc<Claims>>) {
        let is_meant = |waiter: &Waiter| only.is_none_or(|claims| Arc::ptr_eq(&waiter.claims, claims));
        while let Some(waiter) = self.line.iter().position(is_meant).and_then(|at| self.line.remove(at)) {
            self.seat(&waiter.claims).open += 1;
            if waiter.grant.send(Granted::Place).is_ok() {
                return;
            }
            self.seat(&waiter.claims).open -= 1;
        }
    }

    /// Hands a connection to the first of the worker's own who still waits.
    fn hand(&mut self, claims: &Arc<Claims>) -> Option<u64> {
        while let Some(at) = self.line.iter().position(|waiter| Arc::ptr_eq(&waiter.claims, claims)) {
            let waiter = self.line.remove(at)?;
            if waiter.grant.send(Granted::Handed).is_ok() {
                return Some(waiter.id);
            }
        }
        None
    }
}

impl Host {
    fn enter(self: Arc<Host>, claims: &Arc<Claims>, stats: &Arc<PoolStats>) -> Entry {
        let mut state = self.state.lock();
        let is_due = claims.always_one && state.seat(claims).open == 0;
        if is_due || (state.line.is_empty() && state.open() < self.limits.max) {
            state.seat(claims).open += 1;
            drop(state);
            return Entry::Place(Place::new(stats.clone(), Some((self, claims.clone()))));
        }
        if state.line.len() >= self.limits.waiters {
            return Entry::Full;
        }
        let (grant, granted) = oneshot::channel();
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        state.line.push_back(Waiter { id, claims: claims.clone(), grant });
        self.ask(&mut state);
        drop(state);
        stats.waited.incr();
        stats.waiters.fetch_add(1, Ordering::Relaxed);
        Entry::Wait(Ticket { id, host: self, claims: claims.clone(), stats: stats.clone(), granted, taken: false })
    }

    /// Asks a worker that has an unused connection to give it up.
    fn ask(self: &Arc<Host>, state: &mut State) {
        if let Some(seat) = state.seats.iter_mut().find(|seat| seat.unused > seat.asked) {
            seat.asked += 1;
            seat.claims.wanted.lock().push((self.uid, Arc::downgrade(self)));
            seat.claims.asked.notify_one();
        }
    }

    /// A connection of this worker is released: what becomes of it.
    fn release(&self, claims: &Arc<Claims>) -> Release {
        let mut state = self.state.lock();
        let Some(first) = state.line.front().map(|waiter| waiter.claims.clone()) else {
            state.seat(claims).unused += 1;
            return Release::Unused;
        };
        let (own, theirs) = (state.seat(claims).open, state.seat(&first).open);
        let short = !Arc::ptr_eq(&first, claims) && (theirs == 0 || own >= theirs + 2);
        match if short { None } else { state.hand(claims) } {
            Some(id) => Release::Hand(id),
            None if state.line.is_empty() => {
                state.seat(claims).unused += 1;
                Release::Unused
            }
            None => Release::Close,
        }
    }

    /// A connection of this worker is unused no longer. If it was asked for, another worker is asked instead.
    fn used(self: &Arc<Host>, claims: &Arc<Claims>) {
        let mut state = self.state.lock();
        let seat = state.seat(claims);
        seat.unused = seat.unused.saturating_sub(1);
        if seat.asked > seat.unused && !state.line.is_empty() {
            self.ask(&mut state);
        }
    }

    /// Answers a claim: true when an unused connection of this worker is still wanted.
    pub(crate) fn still_wanted(&self, claims: &Arc<Claims>) -> bool {
        let mut state = self.state.lock();
        let seat = state.seat(claims);
        seat.asked = seat.asked.saturating_sub(1);
        !state.line.is_empty()
    }

    fn leave(&self, claims: &Arc<Claims>) {
        let mut state = self.state.lock();
        let seat = state.seat(claims);
        seat.open = seat.open.saturating_sub(1);
        if state.open() < self.limits.max {
            state.grant(None);
        }
        if claims.always_one && state.seat(claims).open == 0 {
            state.grant(Some(claims));
        }
    }

    /// True when there are more than `maxSize` and this worker has several.
    fn is_excess(&self, claims: &Arc<Claims>) -> bool {
        let mut state = self.state.lock();
        state.open() > self.limits.max && state.seat(claims).open > 1
    }
}

impl Place {
    fn new(stats: Arc<PoolStats>, held: Option<(Arc<Host>, Arc<Claims>)>) -> Place {
        stats.size.fetch_add(1, Ordering::Relaxed);
        Place { stats, held }
    }

    /// Its connection is released: what becomes of it. Counts it as unused if it is kept.
    pub(crate) fn release(&self) -> Release {
        let release = self.held.as_ref().map_or(Release::Unused, |(host, claims)| host.release(claims));
        if release == Release::Unused {
            self.stats.cached.fetch_add(1, Ordering::Relaxed);
        }
        release
    }

    /// Its connection is unused no longer: taken, or about to be closed.
    pub(crate) fn used(&self) {
        self.stats.cached.fetch_sub(1, Ordering::Relaxed);
        if let Some((host, claims)) = &self.held {
            host.used(claims);
        }
    }

    /// True when its connection may stay however long it is unused (`minSize`).
    pub(crate) fn may_stay(&self) -> bool {
        self.held.as_ref().is_some_and(|(host, _)| host.limits.min > 0 && host.state.lock().open() <= host.limits.min)
    }

    /// True when it is one of a number that is limited.
    pub(crate) fn is_limited(&self) -> bool {
        self.held.is_some()
    }

    /// Its connection, which stays in use, has room for one more request: the first of its worker's own that still waits.
    pub(crate) fn hand(&self) -> Option<u64> {
        self.held.as_ref().and_then(|(host, claims)| host.state.lock().hand(claims))
    }

    /// True when there are more than `maxSize`, because each worker may have one, and its own has others.
    pub(crate) fn is_excess(&self) -> bool {
        self.held.as_ref().is_some_and(|(host, claims)| host.is_excess(claims))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stats.size.fetch_sub(1, Ordering::Relaxed);
        if let Some((host, claims)) = &self.held {
            host.leave(claims);
        }
    }
}

impl Ticket {
    /// Waits for the grant. With [`Granted::Place`] call [`Ticket::place`] next, with [`Granted::Handed`]
    /// [`Ticket::take`].
    pub(crate) async fn granted(&mut self) -> Granted {
        match (&mut self.granted).await {
            Ok(granted) => granted,
            // The line never drops a waiter unanswered while a ticket holds its host.
            Err(_) => std::future::pending().await,
        }
    }

    /// The id under which the pool keeps the connection that was handed.
    pub(crate) fn take(&mut self) -> u64 {
        self.taken = true;
        self.id
    }

    /// The place that was granted.
    pub(crate) fn place(&mut self) -> Place {
        self.taken = true;
        Place::new(self.stats.clone(), Some((self.host.clone(), self.claims.clone())))
    }

    /// What was granted and not taken, if anything; nothing is granted from now on.
    pub(crate) fn refuse(&mut self) -> Option<Granted> {
        if self.taken {
            return None;
        }
        self.granted.close();
        self.granted.try_recv().ok()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.stats.waiters.fetch_sub(1, Ordering::Relaxed);
        if !self.taken {
            self.host.state.lock().line.retain(|waiter| waiter.id != self.id);
        }
    }
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
