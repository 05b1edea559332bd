//! [`Links`]: the connections of a worker that many requests share, by endpoint.
//!
//! A request takes the first one that has room. When all are full another one is made, as many as the pool allows
//! (`hostConnectionPool`); requests that come meanwhile wait for it. Where no more are allowed, requests wait in line for
//! room, or for the right to make another one. Called by `request::acquire` by way of the pool. Not for: choosing the
//! endpoint, or how many connections there may be (`pool::Hosts`).

use super::{Link, Outbound};
use crate::error::RouteError;
use crate::pool::{Claims, Granted, Place, Ticket};
use balance::Endpoint;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::Notify;

/// See the module.
pub(crate) struct Links {
    by_endpoint: RefCell<HashMap<u64, Vec<Rc<Link>>>>,
    /// Connections that are being made.
    dials: RefCell<HashMap<u64, Rc<Dial>>>,
    /// Requests on their way to who waits in line for room, by the waiter's id.
    handed: RefCell<HashMap<u64, Outbound>>,
    claims: Arc<Claims>,
}

/// What a request that wants a connection gets.
pub(crate) enum Took {
    /// A place on one.
    Request(Box<Outbound>),
    /// Another request is making one: wait for it.
    Wait(Rc<Dial>),
    /// None has room: it is to make one, if it may.
    Full,
}

/// What a wait in line ends with.
pub(crate) enum Turn {
    /// Room on a connection that is there.
    Request(Box<Outbound>),
    /// The right to make another one.
    Place(Place),
}

/// A request that waits in line.
pub(crate) struct InLine {
    links: Rc<Links>,
    ticket: Ticket,
}

/// A connection that is being made.
#[derive(Default)]
pub(crate) struct Dial {
    over: Cell<bool>,
    done: Notify,
    failure: RefCell<Option<RouteError>>,
}

impl Dial {
    /// Waits until it is made, or not; the error when not.
    pub(crate) async fn finished(&self) -> Option<RouteError> {
        if !self.over.get() {
            self.done.notified().await;
        }
        self.failure.borrow().clone()
    }
}

/// Making a connection to an endpoint. Dropped, the others learn that it is over, and look what there is.
pub(crate) struct Dialing {
    links: Rc<Links>,
    uid: u64,
    dial: Rc<Dial>,
}

impl Dialing {
    /// It is made: room for the request that made it, and then for those that wait in line.
    pub(crate) fn made(self, link: &Rc<Link>) -> Option<Outbound> {
        let own = link.take();
        self.links.by_endpoint.borrow_mut().entry(self.uid).or_default().push(link.clone());
        link.attend();
        own
    }

    /// It could not be made.
    pub(crate) fn failed(self, error: &RouteError) {
        self.dial.failure.replace(Some(error.clone()));
    }
}

impl Drop for Dialing {
    fn drop(&mut self) {
        self.links.dials.borrow_mut().retain(|_, dial| !Rc::ptr_eq(dial, &self.dial));
        self.dial.over.set(true);
        self.dial.done.notify_waiters();
    }
}

impl InLine {
    /// A request in the line that `ticket` stands for.
    pub(crate) fn new(links: Rc<Links>, ticket: Ticket) -> InLine {
        InLine { links, ticket }
    }

    /// Waits until it is this request's turn. May be dropped at any time.
    pub(crate) async fn turn(&mut self) -> Turn {
        if self.ticket.granted().await == Granted::Place {
            return Turn::Place(self.ticket.place());
        }
        match self.links.taken(&mut self.ticket) {
            Some(request) => Turn::Request(Box::new(request)),
            // Room is handed before its waiter runs.
            None => std::future::pending().await,
        }
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        match self.ticket.refuse() {
            None => {}
            Some(Granted::Place) => drop(self.ticket.place()),
            // Its room goes to the next one.
            Some(Granted::Handed) => drop(self.links.taken(&mut self.ticket)),
        }
    }
}

impl Links {
    /// None yet.
    pub(crate) fn new() -> Rc<Links> {
        Rc::new(Links {
            by_endpoint: RefCell::default(),
            dials: RefCell::default(),
            handed: RefCell::default(),
            claims: Arc::new(Claims::of_shared()),
        })
    }

    /// How this worker is asked for unused ones, and whose the places of its connections are.
    pub(crate) fn claims(&self) -> &Arc<Claims> {
        &self.claims
    }

    /// Keeps a request for who waits in line for it.
    pub(super) fn hand(&self, waiter: u64, request: Outbound) {
        self.handed.borrow_mut().insert(waiter, request);
    }

    /// What is kept for the holder of this ticket.
    fn taken(&self, ticket: &mut Ticket) -> Option<Outbound> {
        self.handed.borrow_mut().remove(&ticket.take())
    }

    /// A place on a connection to `endpoint`, or how to come to one.
    pub(crate) fn take(&self, endpoint: &Endpoint) -> Took {
        let uid = endpoint.uid();
        if let Some(list) = self.by_endpoint.borrow_mut().get_mut(&uid) {
            if let Some(request) = list.iter().find_map(|link| link.take()) {
                return Took::Request(Box::new(request));
            }
            list.extract_if(.., |link| link.is_over()).for_each(|link| link.found_dead());
        }
        self.dials.borrow().get(&uid).map_or(Took::Full, |dial| Took::Wait(dial.clone()))
    }

    /// Begins to make a connection to `endpoint`. Requests that come from now on wait for it, unless there is one that
    /// they wait for already.
    pub(crate) fn dial(self: &Rc<Links>, endpoint: &Endpoint) -> Dialing {
        let (uid, dial) = (endpoint.uid(), Rc::<Dial>::default());
        self.dials.borrow_mut().entry(uid).or_insert_with(|| dial.clone());
        Dialing { links: self.clone(), uid, dial }
    }

    /// Lets go of one.
    pub(super) fn remove(&self, gone: &Rc<Link>) {
        if let Some(list) = self.by_endpoint.borrow_mut().get_mut(&gone.endpoint.uid()) {
            list.retain(|link| !Rc::ptr_eq(link, gone));
        }
    }

    /// Closes unused connections that other workers wait for the place of; runs for ever.
    pub(crate) async fn answer_claims(&self) {
        loop {
            for (uid, host) in self.claims.next().await {
                let wanted = host.upgrade().is_some_and(|host| host.still_wanted(&self.claims));
                let unused = wanted.then(|| self.unused(uid)).flatten();
                if let Some(link) = unused {
                    self.remove(&link);
                }
            }
        }
    }

    fn unused(&self, uid: u64) -> Option<Rc<Link>> {
        self.by_endpoint.borrow().get(&uid)?.iter().find(|link| link.is_unused()).cloned()
    }

    /// Lets go of connections that are over, too old, unused for too long, or lead to an endpoint that has left discovery.
    pub(crate) fn sweep(&self, now: u64) {
        self.by_endpoint.borrow_mut().retain(|_, list| {
            list.retain(|link| !link.is_over() && !link.is_spent(now));
            !list.is_empty()
        });
        // The endpoint may have said meanwhile that it takes more, or no more at all.
        let lists = self.by_endpoint.borrow();
        let limited: Vec<Rc<Link>> = lists.values().flatten().filter(|link| link.is_limited()).cloned().collect();
        drop(lists);
        limited.iter().for_each(Link::attend);
    }

    /// Lets go of all.
    pub(crate) fn clear(&self) {
        self.by_endpoint.borrow_mut().clear();
    }
}
