//! Settings of one router that contradict each other, each being legal by itself.
//!
//! For: the reader of routers, which warns about limits that can never take effect because a shorter one around them
//! always fires first. Not for: single values (`scalar`) or contradictions within one object (its own reader). Only
//! limits that hold for every name are compared: what a section with a pattern sets may concern no name at all.

use super::h2::ClientProtocol;
use super::params::RouterParams;
use super::reader::Reader;
use super::settings::{Classifier, ClientSettings, Sections, ServiceSettings};
use std::time::Duration;

/// Warns about limits of `router` that a shorter one makes useless.
pub(super) fn check(reader: &Reader<'_>, router: &RouterParams) {
    let total = total_for_all(&router.service);
    let longer = |what: &str, time: Option<Duration>, bound: &str, limit: Option<Duration>| {
        if let (Some(time), Some(limit)) = (time, limit)
            && time > limit
        {
            let (time, limit) = (time.as_millis(), limit.as_millis());
            let text = format!("`{what}` of {time} never takes effect: `{bound}` of {limit} is over before");
            reader.context.warn(&reader.item, text);
        }
    };
    for (_, client) in &router.client.list {
        longer("requestAttemptTimeoutMs", client.attempt_timeout, "totalTimeoutMs", total);
        longer("connectTimeoutMs", client.connect_timeout, "totalTimeoutMs", total);
    }
    grpc(reader, router);
    let attempt = attempt_for_all(&router.client);
    for server in &router.servers {
        longer("totalTimeoutMs", total, "timeoutMs", server.timeout);
        longer("requestAttemptTimeoutMs", attempt, "timeoutMs", server.timeout);
    }
}

/// Statuses of gRPC are in trailers, which HTTP/1 services do not send.
fn grpc(reader: &Reader<'_>, router: &RouterParams) {
    let by_status = |(_, section): &(_, ServiceSettings)| matches!(section.classifier, Some(Classifier::Grpc(_)));
    let h1_for_all =
        matches!(router.client.list.as_slice(), [(None, only)] if only.protocol == Some(ClientProtocol::Http));
    if h1_for_all && router.service.list.iter().any(by_status) {
        let text = "a gRPC classifier, and `client.protocol: http`: services that speak HTTP/1 have no gRPC status, so \
            every call is a failure";
        reader.context.warn(&reader.item, text);
    }
}

/// The total timeout of every name, if there is one: that of the only section, for all names.
fn total_for_all(service: &Sections<ServiceSettings>) -> Option<Duration> {
    match service.list.as_slice() {
        [(None, only)] => only.total_timeout.filter(|limit| !limit.is_zero()),
        _ => None,
    }
}

/// As [`total_for_all`], of an attempt.
fn attempt_for_all(client: &Sections<ClientSettings>) -> Option<Duration> {
    match client.list.as_slice() {
        [(None, only)] => only.attempt_timeout.filter(|limit| !limit.is_zero()),
        _ => None,
    }
}
