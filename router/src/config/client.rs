//! `client` of a router: parameters per concrete name (config reference §8).
//!
//! For: the reader of routers. Not for: choosing among sections (see `settings`).

use super::balancer::balancer;
use super::h2::{self, ClientProtocol, Protocol};
use super::kinds::{ACCRUALS, AUTHORIZERS, Found, none_of};
use super::moved::Place;
use super::objects::{backoff, budget, nanos, session};
use super::reader::Reader;
use super::scalar::{boolean, count, double, loose_millis, millis, millis_or_off, size};
use super::sections::sections;
use super::settings::{ClientSettings, PoolSettings, Sections};
use super::socket::socket;
use super::tls::client_tls;
use balance::{AccrualConfig, Backoff};
use dtab::Pattern;
use std::cell::RefCell;
use std::time::Duration;

/// The sections under the key `client` of a router with this protocol.
pub(super) fn client(router: &mut Reader<'_>, protocol: Protocol) -> Sections<ClientSettings> {
    let idle = RefCell::new(Vec::new());
    let mut sections = sections(router, "client", Place::Client, |reader, prefix| {
        idle.borrow_mut().extend(h2::of_client(reader));
        settings(reader, prefix)
    });
    sections.base.protocol = protocol.into();
    let said = sections.list.iter().filter_map(|(_, section)| section.protocol);
    if said.chain([sections.base.protocol]).all(|protocol| protocol == ClientProtocol::Http) {
        let text =
            "no effect: nothing here speaks HTTP/2 to services; `protocol: h2` or `protocol: same` would change that";
        idle.take().iter().for_each(|at| router.context.warn(at, text));
    }
    sections
}

fn settings(reader: &mut Reader<'_>, prefix: Option<&Pattern>) -> ClientSettings {
    none_of(reader, "requestAuthorizers", &AUTHORIZERS);
    ClientSettings {
        balancer: balancer(reader),
        accrual: accrual(reader),
        fail_fast: reader.get("failFast", boolean),
        requeue_budget: budget(reader, "requeueBudget"),
        attempt_timeout: reader.get("requestAttemptTimeoutMs", millis_or_off),
        connect_timeout: reader.get("connectTimeoutMs", millis(1)),
        pool: pool(reader),
        session: session(reader, "clientSession"),
        socket: socket(reader),
        tls: client_tls(reader, prefix),
        forward_client_cert: reader.get("forwardClientCert", boolean),
        egress: reader.get("egress", boolean),
        protocol: reader.get("protocol", h2::client_protocol),
        h2: h2::settings(reader),
    }
}

fn pool(parent: &mut Reader<'_>) -> Option<PoolSettings> {
    let mut reader = parent.sub("hostConnectionPool", Place::Other)?;
    let idle = reader.get("idleTimeMs", loose_millis(0));
    let min = reader.get("minSize", size(0));
    let max = reader.get("maxSize", size(1));
    let max_waiters = reader.get("maxWaiters", size(0));
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        let message = format!("`minSize` is {min} and `maxSize` is {max}; the first must not be the greater one");
        reader.refuse("minSize", message);
    }
    if max_waiters.is_some() && max.is_none() {
        reader.context.warn(&reader.item, "`maxWaiters` has no effect without `maxSize`: nobody ever waits");
    }
    reader.finish();
    Some(PoolSettings { idle, min, max, max_waiters })
}

fn accrual(parent: &mut Reader<'_>) -> Option<AccrualConfig> {
    let mut reader = parent.sub("failureAccrual", Place::Other)?;
    let Found::Built(kind) = ACCRUALS.of(&mut reader) else { return None };
    let backoff = backoff(&mut reader).unwrap_or_default();
    let accrual = match kind {
        "io.l5d.consecutiveFailures" => Some(consecutive(&mut reader, backoff)),
        "io.l5d.successRate" => {
            let rate = rate(&mut reader);
            reader.need("requests", count(1)).map(|requests| AccrualConfig::SuccessRate { rate, requests, backoff })
        }
        "io.l5d.successRateWindowed" => {
            let rate = rate(&mut reader);
            let window = reader.need("window", count(1)).map(|secs| nanos(Duration::from_secs(u64::from(secs))));
            window.map(|window_ns| AccrualConfig::SuccessRateWindowed { rate, window_ns, backoff })
        }
        _ => Some(AccrualConfig::None),
    };
    reader.finish();
    accrual
}

/// Linkerd takes 0 when `failures` is absent, and then the first failure counts.
fn consecutive(reader: &mut Reader<'_>, backoff: Backoff) -> AccrualConfig {
    let absent = reader.take("failures").is_none();
    if absent {
        reader.context.warn(&reader.item, "`failures` is absent, so the first failure takes an address out");
    }
    let failures = reader.get("failures", count(0)).unwrap_or(0);
    AccrualConfig::Consecutive { failures, backoff }
}

/// Linkerd takes 0 when `successRate` is absent, and then no address is ever taken out.
fn rate(reader: &mut Reader<'_>) -> f64 {
    if reader.take("successRate").is_none() {
        reader.context.warn(&reader.item, "`successRate` is absent, so no address is ever taken out");
    }
    reader.get("successRate", double(0.0, 1.0)).unwrap_or(0.0)
}
