//! [`ClientTls`]: TLS towards the endpoints of one client, and [`ClientFiles`], what clients with the same settings share.
//!
//! For: whoever connects. Not for: timeouts, which are the caller's. Each name has its own store of sessions and its own
//! verifier, so a session that was verified for one name is never resumed for another.

use crate::error::{Part, TlsError};
use crate::expiry::CertificateInfo;
use crate::files::Files;
use crate::handshake::HandshakeError;
use crate::held::{Held, Reload, State};
use crate::name::PeerName;
use crate::params::{ClientTlsParams, Trust};
use crate::pem::{Anchors, KeyPaths, anchors, certified_key, system_anchors};
use crate::suites;
use crate::verify::ServerCheck;
use arc_swap::ArcSwapOption;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::sign::SingleCertAndKey;
use rustls_pki_types::{DnsName, ServerName};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

/// A connection that was made.
pub type ClientStream<S> = tokio_rustls::client::TlsStream<S>;

/// Servers whose sessions one client remembers; each with a few tickets.
const SESSIONS: usize = 64;

pub(crate) struct ClientState {
    /// Complete but for the verifier of the name and the store of sessions.
    template: ClientConfig,
    anchors: Option<Arc<Anchors>>,
    algorithms: WebPkiSupportedAlgorithms,
    infos: Vec<CertificateInfo>,
}

impl State for ClientState {
    fn certificates(&self) -> &[CertificateInfo] {
        &self.infos
    }
}

/// Authorities and the certificate to show, shared by all clients with these settings, kept up to date by the `Tls` that
/// made it.
pub struct ClientFiles {
    held: Arc<Held<ClientState>>,
}

impl ClientFiles {
    pub(crate) fn new(params: &ClientTlsParams) -> Result<ClientFiles, TlsError> {
        let own = params.clone();
        let paths = params.paths();
        let name = match (&params.client_auth, paths.first()) {
            (Some(auth), _) => auth.cert_path.display().to_string(),
            (None, Some(first)) => first.display().to_string(),
            (None, None) => "system".to_owned(),
        };
        let held = Held::new(name, paths, move |files| build(&own, files))?;
        Ok(ClientFiles { held: Arc::new(held) })
    }

    pub(crate) fn held(&self) -> Arc<dyn Reload> {
        self.held.clone()
    }
}

/// TLS of one client.
pub struct ClientTls {
    files: Arc<ClientFiles>,
    name: Option<PeerName>,
    derived: ArcSwapOption<Derived>,
}

/// The configuration for the name, made of one state of the files.
struct Derived {
    of: Arc<ClientState>,
    config: Arc<ClientConfig>,
}

impl ClientTls {
    /// `common_name`: what the servers must prove; also sent as SNI when it is a host name. Without it the host of each
    /// connection counts. Any text will do: one that no certificate can have fails the handshake.
    pub fn new(files: Arc<ClientFiles>, common_name: Option<&str>) -> ClientTls {
        ClientTls { files, name: common_name.map(PeerName::new), derived: ArcSwapOption::empty() }
    }

    /// The client's side of a handshake on `io` with the endpoint `ip`. `host`: how the endpoint is called, if known; it
    /// is sent as SNI when there is no common name. Waits as long as the peer does: bound it by a timeout.
    pub async fn connect<S>(&self, io: S, ip: IpAddr, host: Option<&str>) -> Result<ClientStream<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let connector = TlsConnector::from(self.config());
        let stream = connector.connect(self.server_name(ip, host), io).await;
        stream.map_err(|error| HandshakeError::of(&error))
    }

    /// The same for HTTP/2, which is all that is offered then (ALPN `h2`, RFC 9113 §3.2).
    pub async fn connect_h2<S>(&self, io: S, ip: IpAddr) -> Result<ClientStream<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let connector = TlsConnector::from(self.config());
        let stream = connector.with_alpn(vec![b"h2".to_vec()]).connect(self.server_name(ip, None), io).await;
        let stream = stream.map_err(|error| HandshakeError::of(&error))?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            let text = "no application protocol in common (ALPN): HTTP/2 towards an HTTP/1 port?".to_owned();
            return Err(HandshakeError { reason: "alpn", text });
        }
        Ok(stream)
    }

    /// An address is never sent as SNI (RFC 6066 §3): rustls sends nothing for one.
    fn server_name(&self, ip: IpAddr, host: Option<&str>) -> ServerName<'static> {
        let named = match &self.name {
            Some(name) => name.server_name(),
            None => host.and_then(|host| DnsName::try_from(host.to_owned()).ok()).map(ServerName::DnsName),
        };
        named.unwrap_or(ServerName::IpAddress(ip.into()))
    }

    fn config(&self) -> Arc<ClientConfig> {
        let state = self.files.held.load();
        if let Some(derived) = &*self.derived.load()
            && Arc::ptr_eq(&derived.of, &state)
        {
            return derived.config.clone();
        }
        let mut config = state.template.clone();
        let (anchors, name, algorithms) = (state.anchors.clone(), self.name.clone(), state.algorithms);
        config.dangerous().set_certificate_verifier(Arc::new(ServerCheck { anchors, name, algorithms }));
        // A new store: nothing is resumed across a change of trust (attack T2).
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let config = Arc::new(config);
        self.derived.store(Some(Arc::new(Derived { of: state.clone(), config: config.clone() })));
        config
    }
}

fn build(params: &ClientTlsParams, files: &Files) -> Result<ClientState, TlsError> {
    let (provider, versions) = suites::choose(&params.protocols, &[])?;
    let algorithms = provider.signature_verification_algorithms;
    let trusted = match &params.trust {
        _ if params.disable_validation => None,
        Trust::System => Some(Arc::new(system_anchors()?)),
        Trust::Files(paths) => Some(Arc::new(anchors(files, paths)?)),
    };
    let mut infos = trusted.as_ref().map_or_else(Vec::new, |trusted| trusted.infos.clone());
    let check = ServerCheck { anchors: trusted.clone(), name: None, algorithms };
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&versions);
    let builder = builder.map_err(|error| TlsError::new(Part::Protocols, error.to_string()))?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(check));
    let mut template = match &params.client_auth {
        None => builder.with_no_client_auth(),
        Some(auth) => {
            let paths = KeyPaths {
                cert: &auth.cert_path,
                key: &auth.key_path,
                intermediates: auth.intermediate_certs_path.as_deref(),
            };
            let (key, more) = certified_key(files, &paths, &provider)?;
            infos.extend(more);
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
        }
    };
    template.alpn_protocols.clone_from(&params.alpn);
    template.enable_early_data = false;
    Ok(ClientState { template, anchors: trusted, algorithms, infos })
}

/// Loads a client's files and forgets them: what is wrong, or all certificates that would be in use. Blocks.
pub fn check_client(params: &ClientTlsParams) -> Result<Vec<CertificateInfo>, TlsError> {
    build(params, &Files::read(&params.paths())).map(|state| state.infos)
}
