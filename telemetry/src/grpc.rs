//! gRPC statuses: their names, and how many calls ended with which (ours; Linkerd 1 does not count them).
//!
//! What it is for: `grpc/status/<NAME>` of service and client scopes, and the name of a status in records. What it is
//! not: the success classification (`request`). Called by: the request path, once per gRPC call that has ended.

use std::sync::Arc;

use crate::{Counter, GaugeGuard, Scope};

/// The statuses by number (gRPC's `statuscodes.md`).
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The name of a status; none for a number that gRPC does not define.
pub fn grpc_status_name(status: u32) -> Option<&'static str> {
    NAMES.get(usize::try_from(status).ok()?).copied()
}

/// `grpc/status/<NAME>` of one scope; numbers that gRPC does not define are `grpc/status/other`. A status appears with
/// its first call. Share it: the counters disappear from the exporters when this is dropped.
pub struct GrpcStats {
    counts: Arc<Counts>,
    _guard: GaugeGuard,
}

#[derive(Default)]
struct Counts {
    known: [Counter; NAMES.len()],
    other: Counter,
}

impl GrpcStats {
    /// Registers under `scope`; nothing is shown before the first call.
    pub fn new(scope: &Scope) -> GrpcStats {
        let counts = Arc::new(Counts::default());
        let read = counts.clone();
        GrpcStats { counts, _guard: scope.family("grpc/status", move |emit| read.emit(emit)) }
    }

    /// A call ended with this `grpc-status`. One that ends without any is `UNKNOWN`, 2, for its caller.
    #[inline]
    pub fn record(&self, status: u32) {
        let known = usize::try_from(status).ok().and_then(|status| self.counts.known.get(status));
        known.unwrap_or(&self.counts.other).incr();
    }
}

impl Counts {
    fn emit(&self, emit: &mut dyn FnMut(&str, u64)) {
        NAMES.iter().zip(&self.known).for_each(|(name, counter)| emit(name, counter.get()));
        emit("other", self.other.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{JsonQuery, Metrics};

    #[test]
    fn statuses_are_counted_by_name() {
        let metrics = Metrics::new();
        let stats = GrpcStats::new(&metrics.root());
        for status in [0, 0, 14, 16, 17, u32::MAX] {
            stats.record(status);
        }
        let shown = metrics.render_json(&JsonQuery::default()).expect("JSON");
        let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
        let wanted = serde_json::json!({
            "grpc/status/OK": 2, "grpc/status/UNAVAILABLE": 1, "grpc/status/UNAUTHENTICATED": 1, "grpc/status/other": 2
        });
        assert_eq!(shown, wanted);
    }

    #[test]
    fn names_are_those_of_grpc() {
        for (status, name) in [(0, "OK"), (1, "CANCELLED"), (4, "DEADLINE_EXCEEDED"), (7, "PERMISSION_DENIED")] {
            assert_eq!(grpc_status_name(status), Some(name));
        }
        for (status, name) in [(8, "RESOURCE_EXHAUSTED"), (12, "UNIMPLEMENTED"), (13, "INTERNAL"), (14, "UNAVAILABLE")]
        {
            assert_eq!(grpc_status_name(status), Some(name));
        }
        assert_eq!((grpc_status_name(16), grpc_status_name(17)), (Some("UNAUTHENTICATED"), None));
    }
}
