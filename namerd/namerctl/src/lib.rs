//! `namerctl`: changes the dtabs of a namerd, and shows what a change does.
//!
//! A drop-in for the first `namerctl`, with what continuous integration needs: one entry changed atomically, history and
//! rollback, plans, lint, unit tests, traffic shifting. [`run`] is the whole program; the engines ([`edit`], [`lint`],
//! [`plan`], [`shift`], [`mod@unit`]) take values and know neither words nor terminals.

pub mod api;
pub mod args;
mod commands;
mod connect;
pub mod edit;
pub mod error;
mod examples;
pub mod explain;
pub mod history;
pub mod http;
pub mod lint;
pub mod metrics;
pub mod plan;
mod proxy;
pub mod settings;
pub mod shift;
pub mod source;
pub mod time;
pub mod unit;
pub mod url;
pub mod wire;

pub use commands::run;
