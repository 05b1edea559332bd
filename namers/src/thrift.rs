//! The thrift API of namerd (`io.l5d.thriftNameInterpreter`): ThriftMux, long polls, trees as tables of nodes.
//!
//! Written once for both ends: [`client`] is the interpreter `io.l5d.namerd`, the server is in namerd. From the bytes
//! upwards: [`mux`] cuts frames, [`call`] opens envelopes, [`binary`] reads values, [`messages`] are the structs of the
//! service, [`convert`] and [`delegation`] make names of them. All but `client` and `link` are pure. The facts are in the
//! namerd reference §4 and §8.2. Not for: the protocols `thrift` and `thriftmux` of routers.

pub mod binary;
pub mod call;
pub mod client;
pub mod convert;
pub mod delegation;
mod link;
pub mod messages;
pub mod mux;

/// The largest message that either end sends or takes, in bytes.
pub const MAX_MESSAGE: usize = 32 * 1024 * 1024;
/// The kind of the interface in a namerd's config.
pub const INTERFACE: &str = "io.l5d.thriftNameInterpreter";
/// The kind of the interpreter in a router's config.
pub const INTERPRETER: &str = "io.l5d.namerd";
