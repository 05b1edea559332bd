//! Switchyard's router: configuration, names to clients, the request path, admin pages.
//!
//! The binary is a thin shell around `cli`. `linker` builds everything from a config; see ARCHITECTURE.md for a map.

pub mod classify;
pub mod client;
pub mod clock;
pub mod config;
pub mod context;
pub mod deadline;
mod descriptors;
pub mod error;
pub mod family;
pub mod forwarded;
pub mod grpc;
pub mod h2;
pub mod headers;
pub mod identify;
pub mod interpreters;
pub mod linker;
pub mod live;
mod meter;
pub mod overrides;
pub mod pages;
pub mod pool;
pub mod proxy_status;
pub mod reload;
mod request;
pub mod respond;
mod restart;
pub mod retry;
pub mod route;
pub mod router;
pub mod scopes;
pub mod secure;
pub mod server;
pub mod stream;
pub mod timer;
pub mod worker;
