//! The small objects that several others hold: socket options, sessions, budgets, back-offs (config reference §3.2,
//! §4.2, §7.3, §7.4).
//!
//! For: the readers of servers, clients, services and the administrative server. Not for: anything with one holder.

use super::kinds::{BACKOFFS, Found, Kinds};
use super::moved::Place;
use super::params::SocketParams;
use super::reader::Reader;
use super::scalar::{boolean, count, double, int, loose_millis, millis_or_off};
use super::settings::{BudgetParams, SessionSettings, limit};
use balance::Backoff;
use std::time::Duration;

const NS_PER_MS: u64 = 1_000_000;

/// Milliseconds of a key as nanoseconds.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// `socketOptions` under the key of that name; members that are absent have their defaults.
pub(super) fn socket(parent: &mut Reader<'_>) -> Option<SocketParams> {
    let mut reader = parent.sub("socketOptions", Place::Other)?;
    let default = SocketParams::default();
    let socket = SocketParams {
        no_delay: reader.get("noDelay", boolean).unwrap_or(default.no_delay),
        reuse_addr: reader.get("reuseAddr", boolean).unwrap_or(default.reuse_addr),
        reuse_port: reader.get("reusePort", boolean).unwrap_or(default.reuse_port),
        keep_alive: reader.get("keepAlive", boolean),
        backlog: reader.get("backlog", count(1)),
        read_timeout: reader.get("readTimeoutMs", millis_or_off).and_then(limit),
        write_timeout: reader.get("writeTimeoutMs", millis_or_off).and_then(limit),
    };
    reader.finish();
    Some(socket)
}

/// `clientSession` or `serverSession` under the key given.
pub(super) fn session(parent: &mut Reader<'_>, key: &'static str) -> Option<SessionSettings> {
    let mut reader = parent.sub(key, Place::Other)?;
    let idle = reader.get("idleTimeMs", loose_millis(1));
    let life = reader.get("lifeTimeMs", loose_millis(1));
    if let (Some(idle), Some(life)) = (idle, life)
        && idle > life
    {
        reader.context.warn(&reader.item, "`idleTimeMs` never takes effect: `lifeTimeMs` is over before");
    }
    reader.finish();
    Some(SessionSettings { idle, life })
}

/// A budget under the key given.
pub(super) fn budget(parent: &mut Reader<'_>, key: &'static str) -> Option<BudgetParams> {
    let mut reader = parent.sub(key, Place::Other)?;
    let default = BudgetParams::default();
    let ttl = reader.get("ttlSecs", int(1, 60)).map(|secs| Duration::from_secs(secs.unsigned_abs()));
    let budget = BudgetParams {
        ttl: ttl.unwrap_or(default.ttl),
        min_per_sec: reader.get("minRetriesPerSec", count(0)).unwrap_or(default.min_per_sec),
        percent: reader.get("percentCanRetry", double(0.0, 1000.0)).unwrap_or(default.percent),
    };
    reader.finish();
    Some(budget)
}

/// A back-off under the key `backoff`.
pub(super) fn backoff(parent: &mut Reader<'_>) -> Option<Backoff> {
    let mut reader = parent.sub("backoff", Place::Other)?;
    let backoff = match BACKOFFS.of(&mut reader) {
        Found::Built("jittered") => jittered(&mut reader),
        Found::Built(_) => {
            let ms = reader.get("ms", count(0)).unwrap_or(0);
            Some(Backoff::Constant { ns: u64::from(ms) * NS_PER_MS })
        }
        Found::Refused | Found::Unknown => return None,
    };
    reader.finish();
    backoff
}

fn jittered(reader: &mut Reader<'_>) -> Option<Backoff> {
    let min = reader.need("minMs", count(1));
    let max = reader.need("maxMs", count(1));
    let (min, max) = (min?, max?);
    if min > max {
        let message = format!("`minMs` is {min} and `maxMs` is {max}; the first must not be the greater one");
        reader.refuse("minMs", message);
        return None;
    }
    Some(Backoff::Jittered { min_ns: u64::from(min) * NS_PER_MS, max_ns: u64::from(max) * NS_PER_MS })
}

/// A list of plug-ins none of which is built: each element is reported by its kind.
pub(super) fn none_of(reader: &mut Reader<'_>, key: &'static str, kinds: &Kinds) {
    for item in reader.list(key) {
        if let Some(mut inner) = Reader::open(reader.context, item, Place::Other) {
            kinds.of(&mut inner);
        }
    }
}
