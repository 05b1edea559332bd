//! TLS for listeners and clients: configurations made from files that change, the rule for names in certificates, and
//! who the peer is (config reference §3.3, §8.5; data-plane reference §14).
//!
//! For: every binary that listens or connects with TLS. All calls on rustls are in this crate. Not for: deciding which
//! connection uses TLS, timeouts, and what a peer may do once it is known.
//!
//! ```text
//! params ──Tls::server / Tls::client──> ServerTls, ClientFiles   files are read here and on the control runtime only
//! files change ──watch──> load, check, swap                      the next handshake takes the new ones
//! ServerTls::accept, ClientTls::connect                          no file is read, no lock is held
//! ```
//!
//! What holds for every connection:
//!
//! - TLS 1.2 and 1.3 only. Early data is not offered and not accepted; there is no renegotiation, no compression and no
//!   key log. A ClientHello is at most 64 KiB, which rustls sees to.
//! - **The caller bounds the time of a handshake.** `accept` and `connect` wait as long as the peer lets them.
//! - A session is resumed only within one configuration. New files make a new configuration with new ticket keys and a
//!   new store, so nothing that was trusted before is taken over (attack T2).
//! - Revocation lists are not looked at: rotate the authority instead.

mod client;
mod error;
mod expiry;
mod files;
mod handshake;
mod held;
mod identity;
mod name;
mod params;
mod pem;
mod server;
mod subject;
mod suites;
mod verify;
mod watch;

#[cfg(test)]
mod test_certs;
#[cfg(test)]
mod tests;

pub use client::{ClientFiles, ClientStream, ClientTls, check_client};
pub use error::{Part, TlsError};
pub use expiry::{CertificateInfo, SOON, show_time};
pub use handshake::HandshakeError;
pub use identity::{Identity, Peer};
pub use params::{ClientAuthParams, ClientTlsParams, ServerTlsParams, Trust};
pub use server::{ServerStream, ServerTls, check_server};
pub use watch::Tls;
