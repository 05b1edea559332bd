//! [`Watches`]: how many streams each client address has (attack A8).
//!
//! Called by the interface. Not for: what the streams say.

use crate::iface::stats::{InterfaceStats, Open};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// See the module.
pub(super) struct Watches {
    limit: usize,
    stats: InterfaceStats,
    clients: Mutex<HashMap<IpAddr, usize>>,
}

/// A stream of a client, until it is dropped.
pub(super) struct Permit {
    watches: Arc<Watches>,
    client: IpAddr,
    _counted: Open,
}

impl Watches {
    /// No streams yet; each client address may have `limit`.
    pub(super) fn new(limit: usize, stats: InterfaceStats) -> Watches {
        Watches { limit, stats, clients: Mutex::default() }
    }

    /// A further stream of `client`; None when it has too many.
    pub(super) fn open_one(self: &Arc<Watches>, client: IpAddr) -> Option<Permit> {
        let mut clients = self.clients.lock();
        let open = clients.entry(client).or_default();
        if *open >= self.limit {
            return None;
        }
        *open += 1;
        Some(Permit { watches: self.clone(), client, _counted: self.stats.watch() })
    }

    /// Streams of all clients.
    pub(super) fn open(&self) -> usize {
        self.clients.lock().values().sum()
    }

    /// What each client address may have.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut clients = self.watches.clients.lock();
        if let Some(open) = clients.get_mut(&self.client) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                clients.remove(&self.client);
            }
        }
    }
}
