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
//! use balance::{AccrualConfig, Algorithm, Balancer, Endpoint, SLOW_START_NS};
//! use std::sync::Arc;
//!
//! let balancer = Balancer::new(Algorithm::default(), SLOW_START_NS, 7);
//! let address = "10.0.0.1:80".parse().expect("an address");
//! let endpoint = Arc::new(Endpoint::new(1, address, 1.0, AccrualConfig::default(), 0));
//! let replicas = balancer.replicas(vec![endpoint.clone()], 0);
//!
//! let mut lease = replicas.pick(10, || 42).expect("at least one endpoint").lease;
//! assert_eq!(endpoint.load(), 1);
//! // connect, send, receive; then at most one verdict:
//! lease.succeed(20);
//! lease.end(30);
//! assert_eq!(endpoint.load(), 0);
//! ```

mod accrual;
mod algorithm;
mod aperture;
mod backoff;
mod balancer;
mod budget;
mod cell;
mod draw;
mod endpoint;
mod ewma;
mod heap;
mod lease;
mod policy;
mod random;
mod refusal;
mod replicas;
mod round_robin;
mod tree;
mod upset;
mod window;

pub use accrual::AccrualCounts;
pub use algorithm::Algorithm;
pub use backoff::{Backoff, Schedule};
pub use balancer::{Balancer, BalancerCounts, SLOW_START_NS};
pub use budget::{RetryBudget, RetryBudgetConfig};
pub use endpoint::{Endpoint, Status};
pub use lease::Lease;
pub use policy::AccrualConfig;
pub use refusal::{REFUSAL_FIRST_NS, REFUSAL_MAX_NS};
pub use replicas::{Pick, Replicas, StatusCounts};
