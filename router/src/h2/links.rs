//! [`Links`]: the connections of a worker that many requests share, by endpoint.
//!
//! A request takes the first one that has room. When all are full another one is made, by one request at a time; the
//! others wait for it. Called by `request::acquire` by way of the pool. Not for: choosing the endpoint.

use super::{Link, Outbound};
use crate::error::RouteError;
use balance::Endpoint;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;
use tokio::sync::Notify;

/// See the module.
#[derive(Default)]
pub(crate) struct Links {
    by_endpoint: RefCell<HashMap<u64, Vec<Rc<Link>>>>,
    /// Connections that are being made.
    dials: RefCell<HashMap<u64, Rc<Dial>>>,
}

/// What a request that wants a connection gets.
pub(crate) enum Took {
    /// A place on one.
    Request(Box<Outbound>),
    /// Another request is making one: wait for it.
    Wait(Rc<Dial>),
    /// It is to make one.
    Dial(Dialing),
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

/// The right to make a connection to an endpoint. Dropped, the others learn that there is none, and one of them tries.
pub(crate) struct Dialing {
    links: Rc<Links>,
    uid: u64,
    dial: Rc<Dial>,
}

impl Dialing {
    /// It is made.
    pub(crate) fn made(self, link: Rc<Link>) {
        self.links.by_endpoint.borrow_mut().entry(self.uid).or_default().push(link);
    }

    /// It could not be made.
    pub(crate) fn failed(self, error: &RouteError) {
        self.dial.failure.replace(Some(error.clone()));
    }
}

impl Drop for Dialing {
    fn drop(&mut self) {
        self.links.dials.borrow_mut().remove(&self.uid);
        self.dial.over.set(true);
        self.dial.done.notify_waiters();
    }
}

impl Links {
    /// A place on a connection to `endpoint`, or how to come to one.
    pub(crate) fn take(self: &Rc<Links>, endpoint: &Endpoint) -> Took {
        let uid = endpoint.uid();
        if let Some(list) = self.by_endpoint.borrow_mut().get_mut(&uid) {
            if let Some(request) = list.iter().find_map(|link| link.take()) {
                return Took::Request(Box::new(request));
            }
            list.extract_if(.., |link| link.is_over()).for_each(|link| link.found_dead());
        }
        match self.dials.borrow_mut().entry(uid) {
            Entry::Occupied(dial) => Took::Wait(dial.get().clone()),
            Entry::Vacant(vacant) => {
                let dial = vacant.insert(Rc::default()).clone();
                Took::Dial(Dialing { links: self.clone(), uid, dial })
            }
        }
    }

    /// Lets go of connections that are over, too old, unused for too long, or lead to an endpoint that has left discovery.
    pub(crate) fn sweep(&self, now: u64) {
        self.by_endpoint.borrow_mut().retain(|_, list| {
            list.retain(|link| !link.is_over() && !link.is_spent(now));
            !list.is_empty()
        });
    }

    /// Lets go of all.
    pub(crate) fn clear(&self) {
        self.by_endpoint.borrow_mut().clear();
    }
}
