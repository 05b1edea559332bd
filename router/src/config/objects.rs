//! The small objects that several others hold: sessions, budgets, back-offs (config reference §4.2,
//! §7.3, §7.4).
//!
//! For: the readers of servers, clients, services and the administrative server. Not for: anything with one holder.

use super::kinds::{BACKOFFS, Found};
use super::moved::Place;
use super::reader::Reader;
use super::scalar::{count, double, int, loose_millis};
use super::settings::{BudgetParams, SessionSettings};
use balance::Backoff;
use std::time::Duration;

const NS_PER_MS: u64 = 1_000_000;

/// Milliseconds of a key as nanoseconds.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
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
