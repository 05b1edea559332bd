//! [`Algorithm`]: which of the five kinds of balancer, with its options.
//!
//! It is for the router's config, which makes one, and for `draw`, which compares endpoints by it. It is not the
//! state of a balancer: see `balancer`. Source: data-plane reference section 9.

use crate::endpoint::Endpoint;

/// Picks before failing open. Source: data-plane reference section 9.
const DEFAULT_MAX_EFFORT: u32 = 5;

/// How endpoints of one weight class are compared. Source: data-plane reference section 9.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Algorithm {
    /// Of two drawn at random, fewer outstanding leases win (`p2c`).
    P2c {
        /// Picks before failing open; 0 counts as 1.
        max_effort: u32,
    },
    /// Of two drawn at random, the lower peak-EWMA latency wins (`ewma`).
    Ewma {
        /// Picks before failing open; 0 counts as 1.
        max_effort: u32,
        /// How slowly a latency is forgotten, in nanoseconds; 0 counts as 1. The reference's default is 10 s.
        decay_ns: u64,
    },
    /// As `p2c`, but only among the first few of a random order (`aperture`): as many as keep the average number of
    /// outstanding leases per endpoint between `low_load` and `high_load`.
    Aperture {
        /// Picks before failing open; 0 counts as 1.
        max_effort: u32,
        /// The window of the moving average of outstanding leases, in nanoseconds; 0 counts as 1. Default 5 s.
        smooth_window_ns: u64,
        /// Leases per endpoint at or below which the aperture narrows. Default 0.5.
        low_load: f64,
        /// Leases per endpoint at or above which the aperture widens. Default 2.
        high_load: f64,
        /// The fewest endpoints in the aperture; 0 counts as 1. Default 1.
        min_aperture: u32,
    },
    /// The fewest outstanding leases of all endpoints (`heap`).
    Heap,
    /// One after the other (`roundRobin`). Not aware of load.
    RoundRobin {
        /// Picks before failing open; 0 counts as 1.
        max_effort: u32,
    },
}

impl Default for Algorithm {
    /// `p2c` with 5 picks.
    fn default() -> Self {
        Self::P2c { max_effort: DEFAULT_MAX_EFFORT }
    }
}

impl Algorithm {
    /// The name in metrics, such as `p2c_least_loaded`. Source: telemetry reference, "Balancer".
    pub fn name(&self) -> &'static str {
        match self {
            Self::P2c { .. } => "p2c_least_loaded",
            Self::Ewma { .. } => "p2c_peak_ewma",
            Self::Aperture { .. } => "aperture_least_loaded",
            Self::Heap => "heap_least_loaded",
            Self::RoundRobin { .. } => "round_robin",
        }
    }

    /// How slowly latencies are forgotten, in nanoseconds; 0 if this algorithm does not need latencies.
    pub fn decay_ns(&self) -> u64 {
        match *self {
            Self::Ewma { decay_ns, .. } => decay_ns.max(1),
            Self::P2c { .. } | Self::Aperture { .. } | Self::Heap | Self::RoundRobin { .. } => 0,
        }
    }

    /// Picks before failing open. The heap has no such option; it draws so many when nothing is open.
    pub(crate) fn max_effort(&self) -> u32 {
        match *self {
            Self::P2c { max_effort }
            | Self::Ewma { max_effort, .. }
            | Self::Aperture { max_effort, .. }
            | Self::RoundRobin { max_effort } => max_effort.max(1),
            Self::Heap => DEFAULT_MAX_EFFORT,
        }
    }

    /// What is compared: leases, or nanoseconds times leases.
    pub(crate) fn load(&self, endpoint: &Endpoint, now: u64) -> f64 {
        match *self {
            Self::Ewma { decay_ns, .. } => endpoint.ewma_load(now, decay_ns),
            Self::P2c { .. } | Self::Aperture { .. } | Self::Heap | Self::RoundRobin { .. } => {
                f64::from(endpoint.load())
            }
        }
    }
}
