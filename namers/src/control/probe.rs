//! [`Probes`]: finds out whether a namerd still answers, while its streams are silent because nothing changes.
//!
//! A stream of the HTTP API has no heartbeat. Keep-alives of TCP find a host that is gone; a process that hangs is found by
//! asking it for something small now and then: once per address, however many streams there are. Called by `control`. Not
//! for: what to do then, which is the watch table's business.

use super::connection::Client;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Between two questions to one address, at least; at most half as much again.
const PERIOD: Duration = Duration::from_secs(10);
/// So many questions in a row without an answer end the streams.
const FAILURES: u32 = 2;

/// The addresses that have streams.
#[derive(Default)]
pub(super) struct Probes {
    known: Mutex<HashMap<SocketAddr, Weak<Probe>>>,
}

/// One address, for as long as it has streams.
pub(super) struct Probe {
    failed: watch::Receiver<Option<String>>,
    _task: JoinSet<()>,
}

impl Probes {
    /// The probe of an address, which the caller keeps while it reads from there.
    pub(super) fn of(&self, client: &Arc<Client>, address: SocketAddr) -> Arc<Probe> {
        let mut known = self.known.lock();
        known.retain(|_, probe| probe.strong_count() > 0);
        let alive = known.get(&address).and_then(Weak::upgrade).filter(|probe| probe.failed.borrow().is_none());
        if let Some(probe) = alive {
            return probe;
        }
        let (failed, seen) = watch::channel(None);
        let mut task = JoinSet::new();
        let client = Arc::downgrade(client);
        task.spawn(async move {
            let mut failures = 0;
            while failures < FAILURES {
                sleep(PERIOD.mul_f64(1.0 + fastrand::f64() / 2.0)).await;
                let Some(client) = client.upgrade() else { return };
                let answered = client.ping(address).await;
                failures = if answered.is_ok() { 0 } else { failures + 1 };
                if let Err(reason) = answered
                    && failures == FAILURES
                {
                    failed.send_replace(Some(format!("its streams are silent and it does not answer: {reason}")));
                }
            }
        });
        let probe = Arc::new(Probe { failed: seen, _task: task });
        known.insert(address, Arc::downgrade(&probe));
        probe
    }
}

impl Probe {
    /// Waits until the address has not answered; says why.
    pub(super) async fn failed(&self) -> String {
        let mut failed = self.failed.clone();
        let reason = failed.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        match reason {
            Some(reason) => reason,
            None => pending().await,
        }
    }
}
