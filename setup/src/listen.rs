//! Listening sockets with the options of a config.
//!
//! For: servers, interfaces and the administrative server. Not for: accepting.

use crate::config::params::SocketParams;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;

/// Connections that may wait to be accepted, unless `socketOptions.backlog` says otherwise.
const BACKLOG: i32 = 4096;
/// Opens one listening socket.
pub fn listen_once(address: SocketAddr, options: &SocketParams) -> io::Result<std::net::TcpListener> {
    let socket = open(address, options, options.reuse_port)?;
    socket.bind(&address.into())?;
    socket.listen(backlog(options))?;
    Ok(socket.into())
}

/// What to do when an address cannot be listened on.
pub fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            "No interface of this host has this address: choose another `ip` in the config"
        }
        io::ErrorKind::PermissionDenied => {
            "Ports below 1024 need the capability CAP_NET_BIND_SERVICE: give it to this process, or choose another `port`"
        }
        _ => "Is another process using the port? Choose another one in the config",
    }
}

/// The length of the accept queue.
pub fn backlog(options: &SocketParams) -> i32 {
    options.backlog.map_or(BACKLOG, |n| i32::try_from(n).unwrap_or(BACKLOG))
}

/// A socket that is not bound yet; `shared` with others on the same address.
pub fn open(address: SocketAddr, options: &SocketParams, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(options.reuse_addr)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}
