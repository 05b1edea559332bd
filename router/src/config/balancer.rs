//! `client.loadBalancer` (config reference §8.3): the reader and its parameters.
//!
//! For: the reader of clients, and the router's client, which makes a balancer of [`BalancerParams`]. Not for: what the
//! kinds do (crate `balance`).

use super::kinds::{BALANCERS, Found};
use super::moved::Place;
use super::objects::nanos;
use super::reader::Reader;
use super::scalar::{boolean, count, double, millis};
use balance::{Algorithm, SLOW_START_NS};
use std::time::Duration;

const DEFAULT_EFFORT: u32 = 5;
const DEFAULT_DECAY: Duration = Duration::from_secs(10);
const DEFAULT_SMOOTH_WINDOW: Duration = Duration::from_secs(5);
const DEFAULT_LOW_LOAD: f64 = 0.5;
const DEFAULT_HIGH_LOAD: f64 = 2.0;
const DEFAULT_MIN_APERTURE: u32 = 1;
/// More requests outstanding per address than any service can have.
const MAX_LOAD: f64 = 1e9;

/// A load balancer (config reference §8.3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BalancerParams {
    /// The kind with its options. Default p2c with 5 picks.
    pub algorithm: Algorithm,
    /// An address that left discovery stays as long as it is open. Default false.
    pub probation: bool,
    /// How long a new address takes to get its full share; zero is no such time. Default 10 s.
    pub slow_start: Duration,
}

impl Default for BalancerParams {
    fn default() -> BalancerParams {
        let slow_start = Duration::from_nanos(SLOW_START_NS);
        BalancerParams { algorithm: Algorithm::default(), probation: false, slow_start }
    }
}

/// The object under `loadBalancer`. `slowStartMs` is Switchyard's own.
pub(super) fn balancer(parent: &mut Reader<'_>) -> Option<BalancerParams> {
    let mut reader = parent.sub("loadBalancer", Place::Other)?;
    let Found::Built(kind) = BALANCERS.of(&mut reader) else { return None };
    let default = BalancerParams::default();
    let probation = reader.get("enableProbation", boolean).unwrap_or(default.probation);
    let slow_start = reader.get("slowStartMs", millis(0)).unwrap_or(default.slow_start);
    let mut effort = || reader.get("maxEffort", count(1)).unwrap_or(DEFAULT_EFFORT);
    let algorithm = match kind {
        "ewma" => {
            let max_effort = effort();
            let decay = reader.get("decayTimeMs", millis(1)).unwrap_or(DEFAULT_DECAY);
            Some(Algorithm::Ewma { max_effort, decay_ns: nanos(decay) })
        }
        "aperture" => {
            let max_effort = effort();
            aperture(&mut reader, max_effort)
        }
        "heap" => Some(Algorithm::Heap),
        "roundRobin" => Some(Algorithm::RoundRobin { max_effort: effort() }),
        _ => Some(Algorithm::P2c { max_effort: effort() }),
    };
    reader.finish();
    algorithm.map(|algorithm| BalancerParams { algorithm, probation, slow_start })
}

/// The options of `aperture`. Nothing when the band of loads is empty, which is reported: the aperture would never rest.
fn aperture(reader: &mut Reader<'_>, max_effort: u32) -> Option<Algorithm> {
    let window = reader.get("smoothWindowMs", millis(1)).unwrap_or(DEFAULT_SMOOTH_WINDOW);
    let low_load = reader.get("lowLoad", double(0.0, MAX_LOAD)).unwrap_or(DEFAULT_LOW_LOAD);
    let high_load = reader.get("highLoad", double(0.0, MAX_LOAD)).unwrap_or(DEFAULT_HIGH_LOAD);
    let min_aperture = reader.get("minAperture", count(1)).unwrap_or(DEFAULT_MIN_APERTURE);
    if low_load >= high_load {
        let key = if reader.take("highLoad").is_some() { "highLoad" } else { "lowLoad" };
        let message =
            format!("`lowLoad` is {low_load} and `highLoad` is {high_load}; the first must be the smaller one");
        reader.refuse(key, message);
        return None;
    }
    Some(Algorithm::Aperture { max_effort, smooth_window_ns: nanos(window), low_load, high_load, min_aperture })
}
