//! A strict HTTP/1.0 and HTTP/1.1 codec for a proxy.
//!
//! What it is for: reading and writing HTTP/1 messages on connections that a single-threaded worker owns, with
//! [`http`] types, bodies passed through without copying, and no buffer held while a connection is idle.
//!
//! What it is not: it does not judge `Host`, route, time out, retry, or strip hop-by-hop fields; it only guarantees
//! that where a message ends is beyond doubt (RFC 9112 section 6, attacks H1-1 to H1-7, H1-13, H1-14). It speaks no
//! HTTP/2 and makes no tunnels.
//!
//! Who calls it: the router's HTTP/1 server and client sides, through [`Conn`].
//!
//! | Module | Purpose |
//! |---|---|
//! | `scan` | finds the end of a head in linear time, bounded |
//! | `fields` | tokenises header and trailer lines, judges framing fields |
//! | `head` | request and response heads |
//! | `body` | sans-io body decoder |
//! | `encode` | heads, bodies and chunks out |
//! | `pool` | the thread's bounded pool of buffers |
//! | `conn` | a buffered connection over any `AsyncRead + AsyncWrite + Unpin` |

mod body;
mod conn;
mod encode;
mod error;
mod fields;
mod head;
mod pool;
mod scan;

pub use body::{BodyDecoder, Decoded};
pub use conn::{BodyFrame, Conn, Meter};
pub use encode::{BodyEncoder, encode_request_head, encode_response_head};
pub use error::{BodyError, EncodeError, HeadError};
pub use head::{BodyLength, Limits, RequestHead, ResponseHead, parse_request, parse_response};
