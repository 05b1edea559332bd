//! Tests of the codec through its public interface: tables for every rule, attacks H1-1 to H1-7, H1-12 to H1-14,
//! properties, and hyper as an oracle. Not for timing. Run by `cargo test -p http1`.
#![allow(clippy::unwrap_used, clippy::panic)]

mod body;
mod conn;
mod duplex;
mod encode;
mod head_request;
mod head_response;
mod oracle;
mod props;
