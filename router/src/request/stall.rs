//! How long a peer may take or give nothing while all waits for it (attack H1-16).
//!
//! Made per attempt from the parameters of both sides; `relay` and `exchange` set the connection's slot with it. Not for:
//! limits on a whole request or attempt (`Request::due`), and not for idle connections.

use crate::clock;
use crate::config::{ClientParams, ServerParams};
use crate::timer::NEVER;
use std::time::Duration;

/// Nanoseconds without a byte after which a peer is given up, per peer and direction; [`NEVER`] for no limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stalls {
    /// The client sends nothing of its request body.
    pub(crate) client_gives: u64,
    /// The client takes nothing of its response.
    pub(crate) client_takes: u64,
    /// The service sends nothing, of the head or of the body. Silence is no stall unless the config says so.
    pub(crate) service_gives: u64,
    /// The service takes nothing of the request body.
    pub(crate) service_takes: u64,
}

fn least(stall: Duration, socket: Option<Duration>) -> u64 {
    clock::nanos(socket.map_or(stall, |limit| limit.min(stall)))
}

impl Stalls {
    /// `stallTimeoutMs` of the listener, and the socket options of both sides where they are stricter.
    pub(crate) fn new(server: &ServerParams, client: &ClientParams) -> Stalls {
        Stalls {
            client_gives: least(server.stall_timeout, server.socket.read_timeout),
            client_takes: Stalls::client_takes(server),
            service_gives: client.socket.read_timeout.map_or(NEVER, clock::nanos),
            service_takes: least(server.stall_timeout, client.socket.write_timeout),
        }
    }

    /// The limit for a client that takes nothing.
    pub(crate) fn client_takes(server: &ServerParams) -> u64 {
        least(server.stall_timeout, server.socket.write_timeout)
    }
}

/// The moment `limit` from now; does not read the clock when there is no limit.
pub(crate) fn from_now(limit: u64) -> u64 {
    if limit == NEVER { NEVER } else { clock::now().saturating_add(limit) }
}
