//! The real binary against a namerd of our own on a real socket: outputs, requests, exit statuses, conflicts, signals.

#![allow(clippy::unwrap_used, clippy::panic)]

mod changes;
mod classic;
mod fake;
mod pipeline;
mod real;
mod secure;
mod tool;
