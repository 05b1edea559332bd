//! HTTP/2 beside the request path: which protocol a connection speaks, and what the frames of a peer cost.

pub mod detect;
pub mod watch;
