//! [`TlsError`]: why files or settings make no TLS configuration.
//!
//! For: the configuration, which turns [`Part`] into the key to blame, and the log at a reload. Not for: handshakes (see
//! `handshake`).

use std::fmt;
use std::path::Path;

/// Which part of the settings is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// `certPath`.
    Certificate,
    /// `keyPath`.
    Key,
    /// `intermediateCertsPath`.
    Intermediates,
    /// `caCertPath`, `trustCerts`, `trustCertsBundle`, or the system's authorities.
    Trust,
    /// `protocols`.
    Protocols,
    /// `ciphers`.
    Ciphers,
}

/// Why there is no configuration. The text says what, where and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct TlsError {
    /// What is to blame.
    pub part: Part,
    /// The whole message; a file is named in it.
    pub text: String,
}

impl TlsError {
    pub(crate) fn new(part: Part, text: impl Into<String>) -> TlsError {
        TlsError { part, text: text.into() }
    }

    pub(crate) fn file(part: Part, path: &Path, what: impl fmt::Display) -> TlsError {
        TlsError::new(part, format!("{}: {what}", path.display()))
    }
}

/// What to do about a certificate of version 1, in every message about one.
pub(crate) const V1_ADVICE: &str = "it is an X.509 version 1 certificate, which has no extensions and is not accepted; \
    issue it again as version 3 with a subjectAltName, for example `openssl x509 -req ... -extfile ext.cnf` with the \
    line `subjectAltName=DNS:...` in ext.cnf";
