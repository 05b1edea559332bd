//! The harness of the end-to-end stories: the real binary, real sockets, real files.
//!
//! - [`Switchyard`]: one running process of the router, from YAML text.
//! - [`Namerd`]: one namerd, which can be killed and started again, and `namerctl` on it.
//! - [`Disco`]: the discovery folder of an `io.l5d.fs` namer.
//! - [`NameServer`]: a DNS server that says what it is told.
//! - [`Backend`]: a scripted HTTP/1 server that remembers what it was asked.
//! - [`Client`]: a keep-alive HTTP/1 client that sends exactly the bytes it is given; [`Https`]: one that speaks TLS.
//! - [`Load`]: requests at a steady pace while something happens.
//! - [`Authority`]: issues certificates.
//! - [`mod@h2`]: servers, clients and single frames of HTTP/2, and gRPC.
//!
//! For: the stories in `tests/`, one file each. Not for: unit tests. Everything listens on loopback, on ports that
//! nobody else gets. A harness function panics when a story cannot go on; the log of the process is printed then.
//!
//! The binary is looked for beside the test executable. `cargo test --workspace` builds it; with `--test NAME` add
//! `--test cli`, or build the workspace before.

#![allow(clippy::panic, reason = "a story that cannot go on has failed")]

mod backend;
mod certs;
mod client;
mod disco;
mod dns;
pub mod fuzz;
pub mod h2;
mod https;
mod load;
mod message;
mod namerd;
mod ports;
mod process;
mod wait;

pub use backend::{Backend, Received, Reply};
pub use certs::{Authority, Issued, Pair, PairFiles};
pub use client::{Client, Response, get, try_get};
pub use disco::Disco;
pub use dns::NameServer;
pub use https::{Https, Offer};
pub use load::Load;
pub use namerd::{NAMERD_CONFIG, Namerd, Place, namerd_command};
pub use ports::free_ports;
pub use process::{FS_CONFIG, Switchyard};
pub use wait::{StopOnDrop, eventually, holds_for};

/// Header lines in the order of the wire, names as they were sent.
pub type Headers = Vec<(String, String)>;

fn find<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}
