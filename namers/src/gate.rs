//! [`Gate`]: so many per second, no more; and [`Negatives`]: the bounded cache of names that do not exist.
//!
//! Called by `dns` for names that requests bring (requirements P11.5, attacks N4 and N5) and by `watched` for log lines.
//! Not for: requests; those are counted by the router.

use crate::dns::HostIps;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Lets a number pass per second, a second's worth of them at once.
pub(crate) struct Gate {
    /// Time between two; zero for no limit.
    interval: Duration,
    /// When the next one would pass if none had passed early.
    next: Mutex<Option<Instant>>,
}

/// One second's worth may pass at once.
const BURST: Duration = Duration::from_secs(1);

impl Gate {
    /// `per_second` may pass; 0 for no limit.
    pub(crate) fn new(per_second: u32) -> Gate {
        let interval = if per_second == 0 { Duration::ZERO } else { Duration::from_secs(1) / per_second };
        Gate { interval, next: Mutex::default() }
    }

    /// How long to wait before passing; None when that is longer than `patience`, and then nothing is taken.
    pub(crate) fn pass(&self, patience: Duration) -> Option<Duration> {
        let now = Instant::now();
        let mut next = self.next.lock();
        let at = next.unwrap_or(now).max(now);
        let wait = at.saturating_duration_since(now + BURST);
        (wait <= patience).then(|| {
            *next = Some(at + self.interval);
            wait
        })
    }
}

/// Names that do not exist or have no address, each with the time until which that is believed.
pub(crate) struct Negatives {
    max: usize,
    known: Mutex<HashMap<Arc<str>, (HostIps, Instant)>>,
}

impl Negatives {
    /// At most so many names.
    pub(crate) fn new(max: usize) -> Negatives {
        Negatives { max, known: Mutex::default() }
    }

    /// The answer for a name, and how long it is good.
    pub(crate) fn get(&self, name: &str) -> Option<(HostIps, Duration)> {
        let known = self.known.lock();
        let (answer, until) = known.get(name)?;
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| (answer.clone(), left))
    }

    /// Remembers an answer. When there is no room, what is over goes; when nothing is over, this is not remembered.
    pub(crate) fn put(&self, name: &Arc<str>, answer: HostIps, valid: Duration) {
        let now = Instant::now();
        let mut known = self.known.lock();
        if known.len() >= self.max && !known.contains_key(name) {
            known.retain(|_, (_, until)| *until > now);
        }
        if known.len() < self.max || known.contains_key(name) {
            known.insert(name.clone(), (answer, now + valid));
        }
        metrics::gauge!("negative_cache_entries").set(known.len() as f64);
        metrics::gauge!("negative_cache_limit").set(self.max as f64);
    }

    /// The name exists.
    pub(crate) fn remove(&self, name: &str) {
        self.known.lock().remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_PATIENCE: Duration = Duration::ZERO;

    #[tokio::test(start_paused = true)]
    async fn a_gate_lets_its_number_pass() {
        let gate = Gate::new(10);
        let passed = |gate: &Gate| (0..100).filter(|_| gate.pass(NO_PATIENCE).is_some()).count();
        assert_eq!(passed(&gate), 11);
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(passed(&gate), 10);
        }
        assert_eq!(gate.pass(BURST), Some(Duration::from_millis(100)));
        assert_eq!((0..100).filter(|_| gate.pass(BURST).is_some()).count(), 9, "who is patient waits its turn");
        assert_eq!(passed(&Gate::new(0)), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_exist_is_remembered_for_its_time_and_bounded() {
        let names = Negatives::new(2);
        let put = |name: &str, secs| names.put(&name.into(), HostIps::NoSuchHost, Duration::from_secs(secs));
        put("a", 1);
        put("b", 5);
        put("c", 5);
        assert!(names.get("a").is_some() && names.get("b").is_some() && names.get("c").is_none());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(names.get("b"), Some((HostIps::NoSuchHost, Duration::from_secs(3))));
        assert_eq!(names.get("a"), None);
        put("c", 5);
        assert!(names.get("c").is_some());
        names.remove("c");
        assert!(names.get("c").is_none());
    }
}
