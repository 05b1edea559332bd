//! `socketOptions` (config reference §3.2).
//!
//! For: the readers of servers, interfaces and the administrative server. Not for: setting them.

use super::moved::Place;
use super::params::SocketParams;
use super::reader::Reader;
use super::scalar::{boolean, count, limit, millis_or_off};

/// `socketOptions` under the key of that name; members that are absent have their defaults.
pub fn socket(parent: &mut Reader<'_>) -> Option<SocketParams> {
    let mut reader = parent.sub("socketOptions", Place::Other)?;
    let default = SocketParams::default();
    let socket = SocketParams {
        no_delay: reader.get("noDelay", boolean).unwrap_or(default.no_delay),
        reuse_addr: reader.get("reuseAddr", boolean).unwrap_or(default.reuse_addr),
        reuse_port: reader.get("reusePort", boolean).unwrap_or(default.reuse_port),
        keep_alive: reader.get("keepAlive", boolean),
        backlog: reader.get("backlog", count(1)),
        read_timeout: reader.get("readTimeoutMs", millis_or_off).and_then(limit),
        write_timeout: reader.get("writeTimeoutMs", millis_or_off).and_then(limit),
    };
    reader.finish();
    Some(socket)
}
