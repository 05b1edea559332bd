//! Load balancers, failure accrual and retry budgets: sans-io and deterministic.
//!
//! It is for choosing which address of a client gets the next request, for keeping bad addresses out of that choice,
//! and for saying how many retries a client may spend. It is not for connecting, waiting, classifying responses or
//! reporting metrics: the router does those and tells this crate what happened. The router's client calls it.
//!
//! Nothing here reads a clock or a random source. Time is a `u64` of nanoseconds on one monotonic process clock.
//! Randomness is a function returning 64 uniform bits. All state is shared atomics, so many workers balance as one.
//! On the common path nothing takes a lock and nothing allocates. A lock is taken only where an endpoint changes its
//! health and where a window moves on to its next slice.
//!
//! The life of one request:
//!
//! ```
//! use balance::{AccrualConfig, Algorithm, Endpoint, Replicas};
//! use std::sync::Arc;
//!
//! let address = "10.0.0.1:80".parse().expect("an address");
//! let endpoint = Arc::new(Endpoint::new(1, address, 1.0, AccrualConfig::default(), 0));
//! let replicas = Replicas::new(vec![endpoint]);
//! let algorithm = Algorithm::default();
//!
//! let pick = replicas.pick(&algorithm, 10, || 42).expect("at least one endpoint");
//! pick.endpoint.begin(10);
//! // connect, send, receive; then exactly one verdict:
//! pick.endpoint.on_success(20);
//! pick.endpoint.end(20, 10, algorithm.decay_ns());
//! assert_eq!(pick.endpoint.load(), 0);
//! ```

mod accrual;
mod backoff;
mod budget;
mod cell;
mod endpoint;
mod ewma;
mod policy;
mod random;
mod refusal;
mod replicas;
mod window;

pub use accrual::AccrualCounts;
pub use backoff::{Backoff, Schedule};
pub use budget::{RetryBudget, RetryBudgetConfig};
pub use endpoint::{Endpoint, Status};
pub use policy::AccrualConfig;
pub use refusal::{REFUSAL_FIRST_NS, REFUSAL_MAX_NS};
pub use replicas::{Algorithm, Pick, Replicas, StatusCounts};
