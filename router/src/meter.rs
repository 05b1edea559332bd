//! [`Metered`]: a connection's meter that counts into a metric scope (telemetry reference §4.1, transport-level).
//!
//! What is counted is HTTP as it is read and written, before any encryption. Given to every connection, with clients in
//! `request` and with services in `request::connect`.

use telemetry::Transport;

/// See the module.
#[derive(Debug)]
pub(crate) struct Metered(pub(crate) Transport);

impl http1::Meter for Metered {
    fn received(&mut self, bytes: usize) {
        self.0.received(bytes as u64);
    }

    fn sent(&mut self, bytes: usize) {
        self.0.sent(bytes as u64);
    }

    fn exchanged(&mut self) {
        self.0.exchanged();
    }
}
