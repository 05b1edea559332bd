//! `telemetry` and `usage` (config reference §3.4, §14.1).
//!
//! For: `load`. Not for: metrics.

use super::kinds::{Found, TELEMETERS};
use super::moved::Place;
use super::params::TelemeterParams;
use super::problem::quote;
use super::reader::{Bad, Item, Reader};
use super::scalar::{boolean, string};

const PROMETHEUS_PATH: &str = "/admin/metrics/prometheus";

/// The telemeters in file order.
pub fn telemetry(top: &mut Reader<'_>) -> Vec<TelemeterParams> {
    top.list("telemetry").into_iter().filter_map(|item| telemeter(top, item)).collect()
}

fn telemeter<'a>(top: &Reader<'a>, item: Item<'a>) -> Option<TelemeterParams> {
    let mut reader = Reader::open(top.context, item, Place::Other)?;
    let Found::Built(_) = TELEMETERS.of(&mut reader) else { return None };
    reader.get("experimental", string);
    let path = reader.get("path", page).unwrap_or_else(|| PROMETHEUS_PATH.to_owned());
    let prefix = reader.get("prefix", string).unwrap_or_default();
    reader.finish();
    Some(TelemeterParams::Prometheus { path, prefix })
}

fn page(item: &Item<'_>) -> Result<String, Bad> {
    let text = string(item)?;
    match text.starts_with('/') {
        true => Ok(text),
        false => {
            Err(Bad::new(format!("{} is not the path of a page", quote(&text))).expected("a path that starts with /"))
        }
    }
}

/// Checks `usage`. Linkerd reports to its makers unless this says no; Switchyard never reports.
pub fn usage(top: &mut Reader<'_>) {
    if let Some(mut reader) = top.sub("usage", Place::Other) {
        reader.get("enabled", boolean);
        reader.get("orgId", string);
        reader.finish();
    }
}
