//! The deadline that a request carries (`l5d-ctx-deadline`): measured always, enforced where the listener says so
//! (data-plane reference §12, attack X5).
//!
//! Called by `request::prepare` once per request. Not for: reading and writing the header (`context`), nor for waiting: what
//! is enforced becomes the request's own limit.

use crate::clock;
use crate::context::Deadline;
use std::sync::Arc;
use telemetry::{Counter, Scope, Stat};

/// What a server counts of deadlines (telemetry reference §4.1).
pub struct DeadlineStats {
    /// `transit_latency_ms`: the age of the deadline when it came in.
    transit_ms: Arc<Stat>,
    /// `admission_control/deadline/exceeded`: it was over on arrival.
    exceeded: Arc<Counter>,
    /// `admission_control/deadline/rejected`: and the request was refused for it.
    rejected: Arc<Counter>,
    /// `admission_control/deadline/expired_ms`: for how long it had been over.
    expired_ms: Arc<Stat>,
    /// `admission_control/deadline/remaining_ms`: how much was left.
    remaining_ms: Arc<Stat>,
}

/// What a deadline leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nanoseconds until it is over.
    Nanos(u64),
    /// It is over.
    Nothing,
}

impl DeadlineStats {
    /// Registers them in the scope of a server.
    pub fn new(scope: &Scope) -> DeadlineStats {
        let deadline = scope.scope("admission_control").scope("deadline");
        DeadlineStats {
            transit_ms: scope.stat("transit_latency_ms"),
            exceeded: deadline.counter("exceeded"),
            rejected: deadline.counter("rejected"),
            expired_ms: deadline.stat("expired_ms"),
            remaining_ms: deadline.stat("remaining_ms"),
        }
    }

    /// Measures a deadline that came in now; what it leaves.
    pub fn measure(&self, deadline: &Deadline) -> Left {
        self.measure_at(deadline, clock::nanos(clock::wall()))
    }

    /// The request is refused for its deadline.
    pub fn reject(&self) {
        self.rejected.incr();
    }

    fn measure_at(&self, deadline: &Deadline, wall: u64) -> Left {
        self.transit_ms.add(wall.saturating_sub(deadline.timestamp) / 1_000_000);
        if deadline.deadline > wall {
            let left = deadline.deadline - wall;
            self.remaining_ms.add(left / 1_000_000);
            return Left::Nanos(left);
        }
        self.exceeded.incr();
        self.expired_ms.add((wall - deadline.deadline) / 1_000_000);
        Left::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::{JsonQuery, Metrics};

    #[test]
    fn what_is_left_is_measured_without_overflow() {
        let metrics = Metrics::new();
        let stats = DeadlineStats::new(&metrics.root());
        let at = |timestamp, deadline| stats.measure_at(&Deadline { timestamp, deadline }, 5_000_000);
        assert_eq!(at(2_000_000, 9_000_000), Left::Nanos(4_000_000));
        assert_eq!(at(2_000_000, 5_000_000), Left::Nothing);
        assert_eq!(at(u64::MAX, u64::MAX), Left::Nanos(u64::MAX - 5_000_000));
        assert_eq!(at(0, 0), Left::Nothing);
        let json = metrics.render_json(&JsonQuery::default()).expect("JSON");
        assert!(json.contains("\"admission_control/deadline/exceeded\":2"), "{json}");
        assert!(json.contains("\"admission_control/deadline/rejected\":0"), "{json}");
    }
}
