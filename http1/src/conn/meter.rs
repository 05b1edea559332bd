//! Who wants to know what goes through a connection.
//!
//! What it is for: counting bytes and messages where every one of them passes. What it is not: part of the protocol.
//! Implemented by the router; told by [`Conn`](super::Conn).

use std::fmt::Debug;

/// Told what a connection reads and writes; dropped with it.
pub trait Meter: Debug + Send + Sync {
    /// So many bytes were read from the transport.
    fn received(&mut self, bytes: usize);
    /// So many bytes were written to the transport.
    fn sent(&mut self, bytes: usize);
    /// The head of a request, or of a response that is not an interim one, was read.
    fn exchanged(&mut self);
}
