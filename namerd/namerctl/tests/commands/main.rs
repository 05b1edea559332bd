//! The real binary against a namerd of our own on a real socket: outputs, requests, exit statuses, conflicts, signals.

mod changes;
mod classic;
mod fake;
mod tool;
