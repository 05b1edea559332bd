//! How address states travel: the one form in which this crate publishes [`Addr`], and host lookups with a port.
//!
//! An `Activity<Addr>` of this crate is `State::Pending` while nothing is known, otherwise `State::Ok`, failures included
//! (`Ok(Addr::Failed(..))`); it is never `Ok(Addr::Pending)`. Once Bound or Neg it is never Pending or Failed again
//! (naming reference §4.3): that rule is [`keeps`], applied wherever addresses are published.

use crate::dns::HostIps;
use crate::update::{Work, change};
use dtab::{Activity, Addr, BoxFuture, DelegateTree, Path, State};
use std::collections::HashMap;
use std::net::SocketAddr;
use tokio::time::Instant;

/// The published form of `addr`.
pub(crate) fn publish(addr: Addr) -> State<Addr> {
    match addr {
        Addr::Pending => State::Pending,
        known => State::Ok(known),
    }
}

/// Reads an address activity, whichever form its namer publishes.
pub(crate) fn read(state: State<Addr>) -> Addr {
    match state {
        State::Pending => Addr::Pending,
        State::Failed(reason) => Addr::Failed(reason),
        State::Ok(addr) => addr,
    }
}

/// Fills in the addresses of the leaves that have none, as far as they are known by `deadline`: what is still pending then
/// is shown as such.
pub(crate) async fn fill(tree: &mut DelegateTree, deadline: Instant, resolve: impl Fn(&Path) -> Activity<Addr>) {
    let mut live: HashMap<Path, Activity<Addr>> = HashMap::new();
    tree.for_each_leaf(&mut |name, addr| {
        if *addr == Addr::Pending {
            live.entry(name.id.clone()).or_insert_with(|| resolve(&name.id));
        }
    });
    let mut known = HashMap::new();
    for (id, mut addr) in live {
        let settled = tokio::time::timeout_at(deadline, addr.settled()).await;
        known.insert(id, read(settled.unwrap_or(State::Pending)));
    }
    tree.for_each_leaf(&mut |name, addr| {
        if let Some(known) = known.get(&name.id).filter(|_| *addr == Addr::Pending) {
            *addr = known.clone();
        }
    });
}

/// True when `new` must not replace `current`.
pub(crate) fn keeps(current: &State<Addr>, new: &State<Addr>) -> bool {
    let usable = |state: &State<Addr>| matches!(state, State::Ok(Addr::Bound(_) | Addr::Neg));
    usable(current) && !usable(new)
}

/// The addresses of a host at one port.
pub(crate) struct HostPort {
    pub(crate) ips: Activity<HostIps>,
    pub(crate) port: u16,
}

impl Work for HostPort {
    type Out = Addr;

    fn evaluate(&mut self) -> State<Addr> {
        publish(match self.ips.get() {
            State::Pending => Addr::Pending,
            State::Failed(reason) => Addr::Failed(reason),
            State::Ok(HostIps::NoSuchHost) => Addr::Neg,
            State::Ok(HostIps::Ips(ips)) => Addr::bound(ips.iter().map(|ip| SocketAddr::new(*ip, self.port))),
        })
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        change(&mut self.ips)
    }

    fn keeps(&self, current: &State<Addr>, new: &State<Addr>) -> bool {
        keeps(current, new)
    }
}
