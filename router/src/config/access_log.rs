//! The keys `httpAccessLog*` of a router (config reference §5.1).
//!
//! For: the reader of routers. Not for: opening the file, which happens at start; nothing is looked at here.

use super::clash::Claims;
use super::params::AccessLogParams;
use super::problem::quote;
use super::reader::{Bad, Item, Reader};
use super::scalar::{boolean, int, string};
use std::path::PathBuf;
use telemetry::access_log::ROLL_POLICIES;
use telemetry::{AccessLogOptions, LogFormat, RollPolicy};

const FORMATS: [(&str, LogFormat); 2] = [("linkerd", LogFormat::Linkerd), ("json", LogFormat::Json)];
/// What has no meaning without `httpAccessLog`.
const OPTIONS: [&str; 4] =
    ["httpAccessLogRollPolicy", "httpAccessLogAppend", "httpAccessLogRotateCount", "httpAccessLogFormat"];

/// The access log of a router, if it wants one.
pub(super) fn access_log(router: &mut Reader<'_>, claims: &mut Claims) -> Option<AccessLogParams> {
    let default = AccessLogOptions::default();
    let at = router.take("httpAccessLog");
    let path = router.get("httpAccessLog", file);
    let options = AccessLogOptions {
        policy: router.get("httpAccessLogRollPolicy", policy).unwrap_or(default.policy),
        append: router.get("httpAccessLogAppend", boolean).unwrap_or(default.append),
        rotate_count: router.get("httpAccessLogRotateCount", rotate_count).unwrap_or(default.rotate_count),
    };
    let format = router.get("httpAccessLogFormat", format).unwrap_or_default();
    let Some(at) = at else {
        for key in OPTIONS {
            if let Some(at) = router.take(key) {
                router.context.warn(&at, "no effect without `httpAccessLog`");
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

fn format(item: &Item<'_>) -> Result<LogFormat, Bad> {
    let text = string(item)?;
    let known = FORMATS.into_iter().find(|(name, _)| *name == text);
    let bad = || Bad::new(format!("{} is not a format of access logs", quote(&text))).expected("one of: linkerd, json");
    known.map(|(_, format)| format).ok_or_else(bad)
}
