//! From a text of YAML to running parts: what the two servers, router and namerd, have in common.
//!
//! [`config`] reads a file and says all that is wrong with it; [`naming`] builds namers and transformers from parameters;
//! the rest is what a process needs: logs, signals, descriptors, tokens. For: `router` and `namerd`, which do not know each
//! other. Not for: requests, dtabs in storage, or anything that only one of them has.

pub mod administration;
pub mod config;
pub mod descriptors;
pub mod handshakes;
pub mod listen;
pub mod logging;
pub mod naming;
pub mod pages;
pub mod panics;
pub mod shutdown;
pub mod tokens;
pub mod watches;
