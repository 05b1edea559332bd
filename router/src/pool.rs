//! The upstream connections of one worker: idle ones by endpoint, newest first, with an age limit.
//!
//! Connections never move between workers; what all workers may have together is decided in `host`. Not for: connecting
//! (`request::connect`), waiting for a connection (`request::acquire`), or load (`balance`).

mod host;
mod stats;

pub(crate) use host::Release;
pub use host::{Claims, Entry, Granted, Host, Hosts, Place, Ticket};
pub use stats::PoolStats;

use crate::clock;
use crate::h2::Links;
use crate::request::Up;
use balance::Endpoint;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// A full pool closes one idle connection in so many, the oldest ones, to make room.
const SHED_SHARE: usize = 16;

/// A connection to an endpoint.
pub struct Upstream {
    /// The connection, or a request's place on one.
    pub(crate) conn: Up,
    /// Where it leads.
    pub endpoint: Arc<Endpoint>,
    /// When it was made, in nanoseconds of the process clock.
    pub created: u64,
    /// True when it has served a request before.
    pub reused: bool,
    /// The right to it; None for a request's place on a connection that many share.
    pub place: Option<Place>,
}

/// When an idle connection is closed, in nanoseconds of the process clock.
#[derive(Debug, Clone, Copy)]
pub struct Expiry {
    /// For having been unused, unless `minSize` lets it stay.
    pub unused: u64,
    /// In any case: by the limits of the session.
    pub session: u64,
}

struct Idle {
    upstream: Upstream,
    expiry: Expiry,
    /// When it was put here, as a number that grows.
    turn: u64,
}

impl Idle {
    fn is_usable(&mut self, now: u64) -> bool {
        let stays = self.upstream.place.as_ref().is_some_and(Place::may_stay);
        let fresh = self.expiry.unused > now || stays;
        fresh && self.expiry.session > now && is_alive(&mut self.upstream.conn)
    }
}

/// See the module.
pub struct Pool {
    idle: RefCell<HashMap<u64, Vec<Idle>>>,
    /// Connections on their way to a waiter of this worker, by the waiter's id.
    handed: RefCell<HashMap<u64, Idle>>,
    claims: Arc<Claims>,
    count: Cell<usize>,
    limit: Cell<usize>,
    turn: Cell<u64>,
    links: Rc<Links>,
}

/// A request that waits for a connection to one endpoint.
pub struct Waiting {
    pool: Rc<Pool>,
    ticket: Ticket,
}

/// What a wait ends with.
pub enum Got {
    /// The right to make a connection.
    Place(Place),
    /// A connection that another request of the worker has released.
    Connection(Box<Upstream>),
}

/// True when nothing has arrived on an idle connection and it is open, as far as the runtime knows; costs no system
/// call then.
fn is_alive(conn: &mut Up) -> bool {
    match conn {
        Up::H1(conn) => conn.io_mut().is_quiet() && !conn.is_eof() && !conn.has_buffered(),
        Up::H2(_) => false,
    }
}

impl Pool {
    /// An empty pool that keeps at most `limit` idle connections.
    pub fn new(limit: usize) -> Pool {
        Pool {
            idle: RefCell::default(),
            handed: RefCell::default(),
            claims: Arc::default(),
            count: Cell::new(0),
            limit: Cell::new(limit),
            turn: Cell::new(0),
            links: Links::new(),
        }
    }

    /// The connections that many requests share.
    pub(crate) fn links(&self) -> &Rc<Links> {
        &self.links
    }

    /// Keeps at most `limit` idle connections from now on; more are let go of as they come.
    pub fn set_limit(&self, limit: usize) {
        self.limit.set(limit);
    }

    /// How this worker is asked for unused connections.
    pub fn claims(&self) -> &Arc<Claims> {
        &self.claims
    }

    /// A live idle connection to `endpoint`, if there is one. Dead ones found on the way are closed.
    pub fn take(&self, endpoint: &Endpoint, now: u64) -> Option<Upstream> {
        let mut idle = self.idle.borrow_mut();
        let list = idle.get_mut(&endpoint.uid())?;
        while let Some(mut entry) = list.pop() {
            let usable = entry.is_usable(now);
            self.leaves(&entry);
            if usable {
                entry.upstream.reused = true;
                return Some(entry.upstream);
            }
        }
        None
    }

    /// Keeps `upstream`, or gives it to who waits for it, unless its endpoint has left discovery.
    pub fn put(&self, mut upstream: Upstream, expiry: Expiry) {
        let Up::H1(conn) = &mut upstream.conn else { return };
        if upstream.endpoint.is_closed() || conn.has_buffered() || self.limit.get() == 0 {
            return;
        }
        conn.release_buffers();
        self.turn.set(self.turn.get() + 1);
        self.keep(Idle { upstream, expiry, turn: self.turn.get() });
    }

    fn keep(&self, entry: Idle) {
        match entry.upstream.place.as_ref().map_or(Release::Unused, Place::release) {
            Release::Unused => {}
            Release::Hand(waiter) => {
                self.handed.borrow_mut().insert(waiter, entry);
                return;
            }
            // Dropping it makes its place free.
            Release::Close => return,
        }
        if self.count.get() >= self.limit.get() {
            self.shed(self.count.get() / SHED_SHARE + 1, "limit");
        }
        self.count.set(self.count.get() + 1);
        self.idle.borrow_mut().entry(entry.upstream.endpoint.uid()).or_default().push(entry);
    }

    /// Counts an entry that is taken out, whatever becomes of it.
    fn leaves(&self, entry: &Idle) {
        self.count.set(self.count.get() - 1);
        if let Some(place) = &entry.upstream.place {
            place.used();
        }
    }

    /// Closes what is too old, dead, or leads to an endpoint that has left discovery.
    pub fn sweep(&self, now: u64) {
        self.retain(|entry| entry.is_usable(now) && !entry.upstream.endpoint.is_closed());
        self.links.sweep(now);
    }

    fn retain(&self, stays: impl Fn(&mut Idle) -> bool) {
        self.idle.borrow_mut().retain(|_, list| {
            list.retain_mut(|entry| {
                let stays = stays(entry);
                if !stays {
                    self.leaves(entry);
                }
                stays
            });
            !list.is_empty()
        });
    }

    /// Closes the `n` connections that have been idle for the longest; `reason` is for the metric.
    fn shed(&self, n: usize, reason: &'static str) {
        let mut turns: Vec<u64> = self.idle.borrow().values().flatten().map(|entry| entry.turn).collect();
        if turns.is_empty() {
            return;
        }
        let at = n.clamp(1, turns.len()) - 1;
        let last = *turns.select_nth_unstable(at).1;
        self.retain(|entry| entry.turn > last);
        metrics::counter!("idle_connections_closed_total", "reason" => reason).increment(at as u64 + 1);
    }

    /// Closes half of the idle connections: the process has no descriptors left.
    pub fn make_room(&self) {
        self.shed(self.count.get().div_ceil(2), "descriptors");
    }

    /// Closes unused connections that other workers wait for the place of; runs for ever.
    pub async fn answer_claims(&self) {
        tokio::join!(self.answer_own_claims(), self.links.answer_claims());
    }

    async fn answer_own_claims(&self) {
        loop {
            for (uid, host) in self.claims.next().await {
                let wanted = host.upgrade().is_some_and(|host| host.still_wanted(&self.claims));
                let entry = wanted.then(|| self.oldest(uid)).flatten();
                // Dropping it makes its place free.
                drop(entry);
            }
        }
    }

    fn oldest(&self, uid: u64) -> Option<Idle> {
        let mut idle = self.idle.borrow_mut();
        let list = idle.get_mut(&uid).filter(|list| !list.is_empty())?;
        let entry = list.remove(0);
        self.leaves(&entry);
        Some(entry)
    }

    /// Closes all.
    pub fn clear(&self) {
        self.retain(|_| false);
        self.links.clear();
    }
}

impl Waiting {
    /// A request in the line that `ticket` stands for.
    pub fn new(pool: Rc<Pool>, ticket: Ticket) -> Waiting {
        Waiting { pool, ticket }
    }

    /// Waits until it is this request's turn. May be dropped at any time.
    pub async fn turn(&mut self) -> Got {
        if self.ticket.granted().await == Granted::Place {
            return Got::Place(self.ticket.place());
        }
        let id = self.ticket.take();
        let handed = self.pool.handed.borrow_mut().remove(&id);
        match handed {
            Some(mut entry) => match (entry.is_usable(clock::now()), entry.upstream.place.take()) {
                // Too old, closed, or with bytes that nobody asked for: its place is for a new one.
                (false, Some(place)) => Got::Place(place),
                (_, place) => Got::Connection(Box::new(Upstream { reused: true, place, ..entry.upstream })),
            },
            // A connection is handed before its waiter is told.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        match self.ticket.refuse() {
            None => {}
            Some(Granted::Place) => drop(self.ticket.place()),
            Some(Granted::Handed) => {
                let id = self.ticket.take();
                let handed = self.pool.handed.borrow_mut().remove(&id);
                if let Some(entry) = handed {
                    self.pool.keep(entry);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ClientParams;
    use crate::stream::Stream;
    use balance::AccrualConfig;
    use http1::Conn;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    async fn pair(endpoint: &Arc<Endpoint>, hosts: &Hosts, pool: &Pool) -> (Upstream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let near = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
        let far = listener.accept().await.expect("a connection").0;
        let conn = Up::H1(Box::new(Conn::new(Stream::Plain(near))));
        let place = Some(place(hosts, pool));
        (Upstream { conn, endpoint: endpoint.clone(), created: 0, reused: false, place }, far)
    }

    /// A place that is free.
    fn place(hosts: &Hosts, pool: &Pool) -> Place {
        match hosts.enter(1, pool.claims()) {
            Entry::Place(place) => place,
            Entry::Wait(_) | Entry::Full => panic!("no place is free"),
        }
    }

    fn hosts(params: &ClientParams) -> Hosts {
        Hosts::new(params, PoolStats::new(&telemetry::Metrics::new().root()))
    }

    fn unused(expires: u64) -> Expiry {
        Expiry { unused: expires, session: u64::MAX }
    }

    fn endpoint() -> Arc<Endpoint> {
        Arc::new(Endpoint::new(1, ([127, 0, 0, 1], 1).into(), 1.0, AccrualConfig::None, 0))
    }

    #[tokio::test]
    async fn a_connection_is_used_again_until_it_expires() {
        let (pool, endpoint, hosts) = (Pool::new(10), endpoint(), hosts(&ClientParams::default()));
        let (upstream, _far) = pair(&endpoint, &hosts, &pool).await;
        pool.put(upstream, unused(100));
        let again = pool.take(&endpoint, 99).expect("it is alive");
        assert!(again.reused);
        pool.put(again, unused(100));
        assert!(pool.take(&endpoint, 100).is_none());
    }

    #[tokio::test]
    async fn bytes_nobody_asked_for_and_a_close_end_it() {
        let (pool, endpoint, hosts) = (Pool::new(10), endpoint(), hosts(&ClientParams::default()));
        for close in [false, true] {
            let (upstream, mut far) = pair(&endpoint, &hosts, &pool).await;
            if close {
                drop(far);
            } else {
                far.write_all(b"HTTP/1.1 408 late\r\n\r\n").await.expect("written");
            }
            let Up::H1(conn) = &upstream.conn else { panic!("a connection of its own") };
            conn.io().tcp().readable().await.expect("it has happened");
            pool.put(upstream, unused(u64::MAX));
            assert!(pool.take(&endpoint, 0).is_none(), "close: {close}");
        }
    }

    #[tokio::test]
    async fn nothing_is_kept_for_an_endpoint_that_left() {
        let (pool, endpoint, hosts) = (Pool::new(10), endpoint(), hosts(&ClientParams::default()));
        let (upstream, _far) = pair(&endpoint, &hosts, &pool).await;
        endpoint.close();
        pool.put(upstream, unused(u64::MAX));
        assert!(pool.take(&endpoint, 0).is_none());
    }

    #[tokio::test]
    async fn a_full_pool_closes_what_was_unused_for_the_longest() {
        let (pool, endpoint, hosts) = (Pool::new(2), endpoint(), hosts(&ClientParams::default()));
        let mut far = Vec::new();
        for i in 0..3 {
            let (upstream, peer) = pair(&endpoint, &hosts, &pool).await;
            let created = i;
            pool.put(Upstream { created, ..upstream }, unused(u64::MAX));
            far.push(peer);
        }
        let kept: Vec<u64> = std::iter::from_fn(|| pool.take(&endpoint, 0)).map(|upstream| upstream.created).collect();
        assert_eq!((kept, pool.count.get()), (vec![2, 1], 0));
    }

    #[tokio::test]
    async fn half_is_closed_when_descriptors_run_out() {
        let (pool, endpoint, hosts) = (Pool::new(9), endpoint(), hosts(&ClientParams::default()));
        let mut far = Vec::new();
        for _ in 0..5 {
            let (upstream, peer) = pair(&endpoint, &hosts, &pool).await;
            pool.put(upstream, unused(u64::MAX));
            far.push(peer);
        }
        let left = [2, 1, 0, 0].map(|_| {
            pool.make_room();
            pool.count.get()
        });
        assert_eq!(left, [2, 1, 0, 0]);
    }

    #[tokio::test]
    async fn the_smallest_size_stays_however_long_it_is_unused() {
        let params = ClientParams { pool_min: 1, ..ClientParams::default() };
        let (pool, endpoint, hosts) = (Pool::new(10), endpoint(), hosts(&params));
        let (first, _far) = pair(&endpoint, &hosts, &pool).await;
        let (second, _far2) = pair(&endpoint, &hosts, &pool).await;
        pool.put(first, unused(100));
        pool.put(second, unused(100));
        pool.sweep(200);
        assert_eq!(pool.count.get(), 1, "one of two has expired");
        assert!(pool.take(&endpoint, 300).is_some(), "the other is used again");
        let (third, _far3) = pair(&endpoint, &hosts, &pool).await;
        pool.put(third, Expiry { unused: 100, session: 150 });
        pool.sweep(200);
        assert_eq!(pool.count.get(), 0, "the limits of the session hold all the same");
    }

    fn limited(max: usize, waiters: Option<usize>) -> ClientParams {
        ClientParams { pool_max: Some(max), pool_max_waiters: waiters, ..ClientParams::default() }
    }

    fn wait(hosts: &Hosts, pool: &Rc<Pool>) -> Waiting {
        match hosts.enter(1, pool.claims()) {
            Entry::Wait(ticket) => Waiting::new(pool.clone(), ticket),
            Entry::Place(_) | Entry::Full => panic!("it does not have to wait"),
        }
    }

    fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn who_waits_gets_a_released_connection_in_turn() {
        let (pool, endpoint, hosts) = (Rc::new(Pool::new(10)), endpoint(), hosts(&limited(1, Some(2))));
        let (upstream, _far) = pair(&endpoint, &hosts, &pool).await;
        let (mut first, mut second) = (wait(&hosts, &pool), wait(&hosts, &pool));
        assert!(matches!(hosts.enter(1, pool.claims()), Entry::Full));
        assert!(now_or_never(first.turn()).is_none());
        pool.put(upstream, unused(u64::MAX));
        assert!(now_or_never(second.turn()).is_none());
        let Some(Got::Connection(upstream)) = now_or_never(first.turn()) else { panic!("not handed") };
        assert!(upstream.reused);
        drop(upstream);
        assert!(matches!(now_or_never(second.turn()), Some(Got::Place(_))), "a closed one leaves its place");
        drop(place(&hosts, &pool));
    }

    #[tokio::test]
    async fn what_was_granted_and_not_taken_is_given_on() {
        let (pool, endpoint, hosts) = (Rc::new(Pool::new(10)), endpoint(), hosts(&limited(1, None)));
        let (upstream, _far) = pair(&endpoint, &hosts, &pool).await;
        let (gone, gone_too, mut last) = (wait(&hosts, &pool), wait(&hosts, &pool), wait(&hosts, &pool));
        drop(gone);
        pool.put(upstream, unused(u64::MAX));
        drop(gone_too);
        let Some(Got::Connection(upstream)) = now_or_never(last.turn()) else { panic!("not handed on") };
        let fourth = wait(&hosts, &pool);
        drop(upstream);
        drop(fourth);
        assert!(pool.handed.borrow().is_empty());
        drop(place(&hosts, &pool));
    }

    #[tokio::test]
    async fn an_unused_connection_of_another_worker_is_asked_back() {
        let (a, b) = (Rc::new(Pool::new(10)), Rc::new(Pool::new(10)));
        let (endpoint, hosts) = (endpoint(), hosts(&limited(1, None)));
        let (upstream, _far) = pair(&endpoint, &hosts, &a).await;
        a.put(upstream, unused(u64::MAX));
        let mut waiting = wait(&hosts, &b);
        assert!(now_or_never(waiting.turn()).is_none());
        assert!(now_or_never(a.answer_claims()).is_none(), "it goes on for ever");
        assert_eq!(a.count.get(), 0);
        assert!(matches!(now_or_never(waiting.turn()), Some(Got::Place(_))));
    }

    #[tokio::test]
    async fn places_are_shared_between_workers_that_wait() {
        let (a, b) = (Rc::new(Pool::new(10)), Rc::new(Pool::new(10)));
        let (endpoint, hosts) = (endpoint(), hosts(&limited(3, None)));
        let mut open = Vec::new();
        for _ in 0..3 {
            open.push(pair(&endpoint, &hosts, &a).await);
        }
        let (mut theirs, mut own) = (wait(&hosts, &b), wait(&hosts, &a));
        a.put(open.remove(0).0, unused(u64::MAX));
        let Some(Got::Place(_one)) = now_or_never(theirs.turn()) else { panic!("b has none and is first") };
        let mut more = wait(&hosts, &b);
        a.put(open.remove(0).0, unused(u64::MAX));
        assert!(matches!(now_or_never(own.turn()), Some(Got::Connection(_))), "a has waited, and has no more than b");
        assert!(matches!(now_or_never(more.turn()), Some(Got::Place(_))), "which that one closed");
    }
}
