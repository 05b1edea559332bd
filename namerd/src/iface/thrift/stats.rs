//! [`ThriftStats`]: what this interface counts beside what all interfaces do: `<method>/success`, `<method>/failure`, and
//! `watches` for polls that wait.
//!
//! Called by `calls`. Not for: connections.

use crate::iface::stats::{InterfaceStats, Open, Outcome, Request};
use std::sync::Arc;
use telemetry::{Counter, Metrics, Scope};

/// The methods, as they are counted; the last stands for all others.
const METHODS: [&str; 5] = ["bind", "addr", "delegate", "dtab", "unknown"];

/// See the module; cloning shares it.
#[derive(Clone)]
pub(super) struct ThriftStats {
    pub(super) all: InterfaceStats,
    methods: Arc<[Method; 5]>,
}

struct Method {
    success: Arc<Counter>,
    failure: Arc<Counter>,
}

/// A call under way.
pub(super) struct Counted {
    stats: ThriftStats,
    method: &'static str,
    request: Request,
    _waits: Open,
}

impl Default for ThriftStats {
    /// Numbers that nobody sees.
    fn default() -> ThriftStats {
        ThriftStats::new(&Metrics::new().root())
    }
}

impl ThriftStats {
    /// Numbers below `scope`.
    pub(super) fn new(scope: &Scope) -> ThriftStats {
        let method = |name: &str| {
            let scope = scope.scope(name);
            Method { success: scope.counter("success"), failure: scope.counter("failure") }
        };
        ThriftStats { all: InterfaceStats::new(scope), methods: Arc::new(METHODS.map(method)) }
    }

    /// A call of `method` begins.
    pub(super) fn begin(&self, method: &'static str) -> Counted {
        Counted { stats: self.clone(), method, request: self.all.request(), _waits: self.all.watch() }
    }
}

impl Counted {
    /// It is answered so. A refusal is told as a failure, and is none of ours.
    pub(super) fn end(self, outcome: Outcome) {
        let at = METHODS.iter().position(|known| *known == self.method).unwrap_or(METHODS.len() - 1);
        if let Some(method) = self.stats.methods.get(at) {
            let told = if outcome == Outcome::Success { &method.success } else { &method.failure };
            told.incr();
        }
        self.request.end(outcome);
    }
}
