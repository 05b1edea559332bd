//! The HTTP server on the admin port: takes a list of pages.
//!
//! What it is for: one small, bounded HTTP/1 server on port 9990 (telemetry reference section 16). It routes a request to
//! a page, applies the `admin.security` filter and the Host and Origin checks, and contains what goes wrong in a handler.
//!
//! What it is not: it knows nothing of routers, metrics or config files; ping, shutdown, metrics, the dashboard and all
//! other pages are registered by the binaries. It has no sessions and no authentication of its own.
//!
//! Who calls it: the router's and namerd's start-up build [`Pages`] and run [`serve`] on the control runtime.

mod decode;
mod hosts;
mod linger;
mod message;
mod pages;
mod security;
mod server;

pub use decode::{escape_html, parse_query};
pub use hosts::HostCheck;
pub use linger::Lingering;
pub use message::{Request, Response};
pub use pages::{LivePages, Pages};
pub use security::{Category, PathMatcher, Security, TokenCheck};
pub use server::{MAX_BODY, MAX_CONNECTIONS, serve, serve_over};
