//! Requests that leave for services of others: nothing of ours goes with them (attack O11).
//!
//! Called by `attempt` for clients with `egress: true`. Not for: what the router adds itself; that is left out where it
//! would be added.

use crate::context::remove_l5d;
use crate::overrides::baggage;
use http::HeaderMap;

/// The headers without those that begin with `l5d-`, and without our member of `baggage`.
pub(crate) fn stripped(headers: &HeaderMap, baggage_key: &str) -> HeaderMap {
    let mut headers = headers.clone();
    remove_l5d(&mut headers);
    baggage::remove(&mut headers, baggage_key, |_| true);
    headers
}
