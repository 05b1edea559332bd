//! What a listener or a client is configured with: plain data, no file read yet.
//!
//! For: whoever reads a configuration. Not for: the expected name of a peer, which belongs to a single client (see
//! `ClientTls::new`), so that clients that differ only by name share their files.

use std::path::PathBuf;

/// TLS of a listener (config reference §3.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ServerTlsParams {
    /// `certPath`: PEM, the certificate first, then any of its chain.
    pub cert_path: PathBuf,
    /// `keyPath`: PEM; PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key_path: PathBuf,
    /// `intermediateCertsPath`: PEM; sent after what `cert_path` holds.
    pub intermediate_certs_path: Option<PathBuf>,
    /// `caCertPath`: whose client certificates are accepted. The system's authorities when absent.
    pub ca_cert_path: Option<PathBuf>,
    /// `requireClientAuth`: no connection without a client certificate. Otherwise none is asked for.
    pub require_client_auth: bool,
    /// `ciphers`: names of IANA, JSSE or OpenSSL. Empty: all that are safe.
    pub ciphers: Vec<String>,
    /// `protocols`: `TLSv1.2`, `TLSv1.3`. Empty: both.
    pub protocols: Vec<String>,
    /// Protocols to agree on by ALPN, most preferred first. Empty: the extension is ignored.
    pub alpn: Vec<Vec<u8>>,
    /// `requireSniMatch`, Switchyard only: requests must be for the host that the connection was made for. For whoever
    /// serves requests to look at.
    pub require_sni_match: bool,
}

/// TLS of a client but for the expected name (config reference §8.5).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ClientTlsParams {
    /// `disableValidation`: any certificate of any issuer is accepted.
    pub disable_validation: bool,
    /// `trustCerts`, `trustCertsBundle`: who is trusted.
    pub trust: Trust,
    /// `clientAuth`: what is shown to servers that ask.
    pub client_auth: Option<ClientAuthParams>,
    /// `protocols`: `TLSv1.2`, `TLSv1.3`. Empty: both.
    pub protocols: Vec<String>,
    /// Protocols to offer by ALPN, most preferred first. Empty: the extension is not sent.
    pub alpn: Vec<Vec<u8>>,
}

/// Which authorities are trusted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Trust {
    /// Those of the operating system.
    #[default]
    System,
    /// All certificates of these PEM files and no others.
    Files(Vec<PathBuf>),
}

/// The certificate of a client (config reference §8.5, `clientAuth`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientAuthParams {
    /// `certPath`: PEM, the certificate first.
    pub cert_path: PathBuf,
    /// `intermediateCertsPath`: PEM; sent after what `cert_path` holds.
    pub intermediate_certs_path: Option<PathBuf>,
    /// `keyPath`: PEM; PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key_path: PathBuf,
}

impl ServerTlsParams {
    /// Every file that is read.
    pub fn paths(&self) -> Vec<PathBuf> {
        let mut paths = vec![self.cert_path.clone(), self.key_path.clone()];
        paths.extend(self.intermediate_certs_path.clone());
        paths.extend(self.ca_cert_path.clone().filter(|_| self.require_client_auth));
        paths
    }
}

impl ClientTlsParams {
    /// Every file that is read.
    pub fn paths(&self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        if let (Trust::Files(files), false) = (&self.trust, self.disable_validation) {
            paths.extend(files.iter().cloned());
        }
        if let Some(auth) = &self.client_auth {
            paths.extend([auth.cert_path.clone(), auth.key_path.clone()]);
            paths.extend(auth.intermediate_certs_path.clone());
        }
        paths
    }
}
