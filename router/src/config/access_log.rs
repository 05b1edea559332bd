//! The keys `httpAccessLog*` of an http router and `h2AccessLog*` of an h2 router (config reference §5.1, §5.2).
//!
//! For: the reader of routers. Not for: opening the file, which happens at start; nothing is looked at here.

use super::clash::Claims;
use super::h2::Protocol;
use super::params::AccessLogParams;
use super::problem::quote;
use super::reader::{Bad, Item, Reader};
use super::scalar::{boolean, int, string};
use std::path::PathBuf;
use telemetry::access_log::ROLL_POLICIES;
use telemetry::{AccessLogOptions, LogFormat, RollPolicy};

const FORMATS: [(&str, LogFormat); 2] = [("linkerd", LogFormat::Linkerd), ("json", LogFormat::Json)];

/// How the keys are called: the file, and what has no meaning without it.
struct Keys {
    file: &'static str,
    policy: &'static str,
    append: &'static str,
    rotate_count: &'static str,
    format: &'static str,
    queue: &'static str,
}

const HTTP: Keys = Keys {
    file: "httpAccessLog",
    policy: "httpAccessLogRollPolicy",
    append: "httpAccessLogAppend",
    rotate_count: "httpAccessLogRotateCount",
    format: "httpAccessLogFormat",
    queue: "httpAccessLogQueueKB",
};
const H2: Keys = Keys {
    file: "h2AccessLog",
    policy: "h2AccessLogRollPolicy",
    append: "h2AccessLogAppend",
    rotate_count: "h2AccessLogRotateCount",
    format: "h2AccessLogFormat",
    queue: "h2AccessLogQueueKB",
};

/// The access log of a router with this protocol, if it wants one.
pub(super) fn access_log(router: &mut Reader<'_>, claims: &mut Claims, protocol: Protocol) -> Option<AccessLogParams> {
    let keys = match protocol {
        Protocol::Http => HTTP,
        Protocol::H2 => H2,
    };
    let default = AccessLogOptions::default();
    let at = router.take(keys.file);
    let path = router.get(keys.file, file);
    let options = AccessLogOptions {
        policy: router.get(keys.policy, policy).unwrap_or(default.policy),
        append: router.get(keys.append, boolean).unwrap_or(default.append),
        rotate_count: router.get(keys.rotate_count, rotate_count).unwrap_or(default.rotate_count),
        queue_bytes: router.get(keys.queue, queue).unwrap_or(default.queue_bytes),
    };
    let format = match (router.get(keys.format, format).unwrap_or_default(), protocol) {
        (LogFormat::Linkerd, Protocol::H2) => LogFormat::LinkerdH2,
        (format, _) => format,
    };
    let Some(at) = at else {
        for key in [keys.policy, keys.append, keys.rotate_count, keys.format, keys.queue] {
            if let Some(at) = router.take(key) {
                router.context.warn(&at, format!("no effect without `{}`", keys.file));
            }
        }
        return None;
    };
    let params = AccessLogParams { path: path?, format, options };
    claims.access_log(router.context, &at, &params);
    Some(params)
}

fn file(item: &Item<'_>) -> Result<PathBuf, Bad> {
    let text = string(item)?;
    if text.is_empty() || text.ends_with('/') || text.contains('\0') {
        return Err(
            Bad::new(format!("{} is not the name of a file", quote(&text))).expected("a path such as access.log")
        );
    }
    Ok(PathBuf::from(text))
}

fn policy(item: &Item<'_>) -> Result<RollPolicy, Bad> {
    let text = string(item)?;
    let bad =
        || Bad::new(format!("{} is not a roll policy", quote(&text))).expected(format!("one of: {ROLL_POLICIES}"));
    RollPolicy::parse(&text).ok_or_else(bad)
}

/// -1 keeps all.
fn rotate_count(item: &Item<'_>) -> Result<Option<usize>, Bad> {
    int(-1, i64::from(i32::MAX))(item).map(|count| usize::try_from(count).ok())
}

/// Up to a GiB.
fn queue(item: &Item<'_>) -> Result<usize, Bad> {
    int(1, 1 << 20)(item).map(|kb| usize::try_from(kb).unwrap_or_default() << 10)
}

fn format(item: &Item<'_>) -> Result<LogFormat, Bad> {
    let text = string(item)?;
    let known = FORMATS.into_iter().find(|(name, _)| *name == text);
    let bad = || Bad::new(format!("{} is not a format of access logs", quote(&text))).expected("one of: linkerd, json");
    known.map(|(_, format)| format).ok_or_else(bad)
}
