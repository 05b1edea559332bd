//! HTTP/2 on both sides of the request path: what carries messages there in place of an HTTP/1 connection.
//!
//! The codec is the crate `h2` (decision 11); routing, retries, policy and bodies are those of every request (`request`). Here
//! is what differs: a client's connection with many requests (`serve`), one of them (`inbound`); the connections of a
//! worker to endpoints (`links`), one of them (`link`), one request on it (`outbound`); bodies that wait for window
//! (`queue`); heads in the shape that the path knows (`heads`), and
//! what the router adds to them (`lines`).

pub mod detect;
mod heads;
mod inbound;
mod keep_alive;
mod lines;
mod link;
mod links;
mod outbound;
mod queue;
mod reading;
mod serve;
mod transport;
pub mod watch;

pub(crate) use detect::{PREFACE, Sniffed, sniff};
pub(crate) use heads::Carried;
pub(crate) use inbound::Inbound;
pub(crate) use keep_alive::KeepAlive;
pub(crate) use lines::fields;
pub(crate) use link::{Limits, Link, Opening};
pub(crate) use links::{Dial, InLine, Links, Took, Turn};
pub(crate) use outbound::Outbound;
pub(crate) use serve::serve;
pub(crate) use transport::Transport;

use std::io;

/// What the codec says, as an error of a connection. [`reset_of`] and [`is_gone_away`] look inside again.
pub(crate) fn io_error(error: h2::Error) -> io::Error {
    io::Error::other(error)
}

fn inner(error: &io::Error) -> Option<&h2::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<h2::Error>())
}

/// The code with which the peer reset the stream; None when it was something else that ended it.
pub(crate) fn reset_of(error: &io::Error) -> Option<h2::Reason> {
    inner(error).filter(|error| error.is_reset() && error.is_remote()).and_then(h2::Error::reason)
}

/// True when the codec has reset the stream for what the peer sent.
pub(crate) fn is_malformed(error: &io::Error) -> bool {
    inner(error).is_some_and(|error| error.is_reset() && !error.is_remote())
}

/// True when the peer goes away and did not act on the request (RFC 9113 §6.8).
pub(crate) fn is_gone_away(error: &io::Error) -> bool {
    inner(error).is_some_and(|error| error.is_go_away() && error.is_remote())
}

/// True for errors of HTTP/2, as against those of a socket.
pub(crate) fn is_of_codec(error: &io::Error) -> bool {
    inner(error).is_some()
}
