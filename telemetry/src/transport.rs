//! Bytes and lives of connections (telemetry reference §4.1, transport-level).
//!
//! What it is for: counting per connection, and adding that up per scope. What it is not: reading or writing; whoever
//! does tells a [`Transport`]. Called by: the connections of servers and clients.

use std::sync::Arc;
use std::time::Instant;

use crate::{Counter, Scope, Stat};

/// `received_bytes`, `sent_bytes` (counters, as they come), and per connection, at its end: `connection_duration`
/// (milliseconds), `connection_received_bytes`, `connection_sent_bytes`, `connection_requests` (stats).
#[derive(Debug)]
pub struct TransportStats {
    received_bytes: Arc<Counter>,
    sent_bytes: Arc<Counter>,
    connection_duration: Arc<Stat>,
    connection_received_bytes: Arc<Stat>,
    connection_sent_bytes: Arc<Stat>,
    connection_requests: Arc<Stat>,
}

/// One connection; dropping it says that it has ended.
#[derive(Debug)]
pub struct Transport {
    stats: Arc<TransportStats>,
    since: Instant,
    received: u64,
    sent: u64,
    requests: u64,
}

impl TransportStats {
    /// Registers the six under `scope`.
    pub fn new(scope: &Scope) -> Arc<TransportStats> {
        Arc::new(TransportStats {
            received_bytes: scope.counter("received_bytes"),
            sent_bytes: scope.counter("sent_bytes"),
            connection_duration: scope.stat("connection_duration"),
            connection_received_bytes: scope.stat("connection_received_bytes"),
            connection_sent_bytes: scope.stat("connection_sent_bytes"),
            connection_requests: scope.stat("connection_requests"),
        })
    }

    /// A connection begins.
    pub fn connection(self: &Arc<TransportStats>) -> Transport {
        Transport { stats: self.clone(), since: Instant::now(), received: 0, sent: 0, requests: 0 }
    }
}

impl Transport {
    /// So many bytes were read.
    #[inline]
    pub fn received(&mut self, bytes: u64) {
        self.received += bytes;
        self.stats.received_bytes.add(bytes);
    }

    /// So many bytes were written.
    #[inline]
    pub fn sent(&mut self, bytes: u64) {
        self.sent += bytes;
        self.stats.sent_bytes.add(bytes);
    }

    /// A request was exchanged on it.
    #[inline]
    pub fn exchanged(&mut self) {
        self.requests += 1;
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        let stats = &self.stats;
        stats.connection_duration.add(u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX));
        stats.connection_received_bytes.add(self.received);
        stats.connection_sent_bytes.add(self.sent);
        stats.connection_requests.add(self.requests);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{JsonQuery, Metrics};

    #[test]
    fn bytes_are_seen_at_once_and_connections_at_their_end() {
        let metrics = Metrics::new();
        let stats = TransportStats::new(&metrics.root());
        let json = || {
            let text = metrics.render_json(&JsonQuery::default()).expect("JSON");
            serde_json::from_str::<serde_json::Value>(&text).expect("JSON")
        };
        let (mut one, mut two) = (stats.connection(), stats.connection());
        one.received(100);
        one.sent(7);
        one.exchanged();
        two.received(20);
        assert_eq!((json()["received_bytes"].as_u64(), json()["sent_bytes"].as_u64()), (Some(120), Some(7)));
        assert_eq!(json()["connection_requests.count"], 0);
        drop(one);
        drop(two);
        let last = json();
        for (name, sum) in [("received_bytes", 120), ("sent_bytes", 7), ("requests", 1)] {
            assert_eq!(
                (last[format!("connection_{name}.count")].as_u64(), last[format!("connection_{name}.sum")].as_u64()),
                (Some(2), Some(sum)),
                "{name}"
            );
        }
        assert_eq!(last["connection_duration.count"], 2);
    }
}
