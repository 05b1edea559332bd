//! Metric handles, the scope tree, exporters.
//!
//! What it is for: request statistics are plain atomics hung into a tree of scopes ([`Metrics`], [`Scope`]). The data
//! path holds the handles ([`Counter`], [`Stat`]) and never touches the tree; `/admin/metrics.json` and
//! `/admin/metrics/prometheus` walk the tree on the control runtime and render what they find.
//!
//! What it is not: a metrics server (the `admin` crate serves the text), a tracer, or a place for labels: names follow
//! Linkerd 1 (telemetry reference sections 2, 3, 8, 9).
//!
//! Who calls it: the router's data path through [`RequestStats`], [`StatusStats`], [`StreamStats`], [`Failures`] and others; balancers, caches
//! and namers through [`Scope`]; the two admin pages through [`Metrics::render_json`] and
//! [`Metrics::render_prometheus`]; one timer, once a minute, through [`Metrics::snapshot`].

pub mod access_log;
mod body;
mod control;
mod counter;
mod failures;
mod grpc;
mod h2;
mod json;
mod late;
mod node;
mod number;
mod process;
mod prometheus;
mod record;
mod request;
mod scope;
mod stat;
mod status;
mod streams;
mod transport;
mod view;

pub use access_log::{AccessLog, AccessLogOptions, LogFormat, RollPolicy};
pub use body::{BodyBytes, BodyStats, OpenStream};
pub use control::ControlMetrics;
pub use counter::Counter;
pub use failures::Failures;
pub use grpc::{GrpcStats, grpc_status_name};
pub use h2::{H2Connects, H2Stream, H2Transport, PingStats};
pub use json::{JsonError, JsonQuery};
pub use late::Late;
pub use process::register_process;
pub use prometheus::PROMETHEUS_CONTENT_TYPE;
pub use record::RequestRecord;
pub use request::RequestStats;
pub use scope::{GaugeGuard, Metrics, Scope};
pub use stat::{Stat, Summary};
pub use status::StatusStats;
pub use streams::{CANCELLED, StreamRun, StreamStats};
pub use transport::{Transport, TransportStats};
