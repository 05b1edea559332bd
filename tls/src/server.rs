//! [`ServerTls`]: TLS of a listener.
//!
//! For: whoever accepts connections. A handshake takes the configuration of its moment; connections keep theirs. Not for:
//! timeouts and limits of handshakes, which are the caller's.

use crate::error::{Part, TlsError};
use crate::expiry::CertificateInfo;
use crate::files::Files;
use crate::handshake::HandshakeError;
use crate::held::{Held, Reload, State};
use crate::identity::Peer;
use crate::params::ServerTlsParams;
use crate::pem::{Anchors, KeyPaths, anchors, certified_key, system_anchors};
use crate::suites;
use crate::verify::{ClientCheck, check_time};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{HandshakeKind, ServerConfig, ServerConnection};
use rustls_pki_types::UnixTime;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

/// What a peer still sends after a handshake that failed is thrown away for so long ...
const PARTING: Duration = Duration::from_secs(1);
/// ... and so many bytes of it, at most.
const MOST_UNREAD: u64 = 1 << 20;

/// An accepted connection.
pub type ServerStream<S> = tokio_rustls::server::TlsStream<S>;

pub(crate) struct ServerState {
    config: Arc<ServerConfig>,
    infos: Vec<CertificateInfo>,
}

impl State for ServerState {
    fn certificates(&self) -> &[CertificateInfo] {
        &self.infos
    }
}

/// TLS of a listener, kept up to date by the `Tls` that made it.
pub struct ServerTls {
    held: Arc<Held<ServerState>>,
    require_client_auth: bool,
    require_sni_match: bool,
}

impl ServerTls {
    pub(crate) fn new(params: &ServerTlsParams) -> Result<ServerTls, TlsError> {
        let own = params.clone();
        let name = params.cert_path.display().to_string();
        let held = Held::new(name, params.paths(), move |files| build(&own, files))?;
        let ServerTlsParams { require_client_auth, require_sni_match, .. } = *params;
        Ok(ServerTls { held: Arc::new(held), require_client_auth, require_sni_match })
    }

    pub(crate) fn held(&self) -> Arc<dyn Reload> {
        self.held.clone()
    }

    /// Whether clients must show a certificate.
    pub fn requires_client_auth(&self) -> bool {
        self.require_client_auth
    }

    /// Whether requests must be for the host that their connection was made for.
    pub fn requires_sni_match(&self) -> bool {
        self.require_sni_match
    }

    /// The server's side of a handshake on `io`. Waits as long as the peer does: bound it by a timeout.
    pub async fn accept<S>(&self, io: S) -> Result<ServerStream<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.held.load().config.clone();
        let stream = match TlsAcceptor::from(config).accept(io).into_fallible().await {
            Ok(stream) => stream,
            Err((error, io)) => {
                part(io).await;
                return Err(HandshakeError::of(&error));
            }
        };
        still_valid(stream.get_ref().1)?;
        Ok(stream)
    }

    /// Who the peer of a connection is; none when it showed no certificate.
    pub fn peer<S>(stream: &ServerStream<S>) -> Option<Peer> {
        stream.get_ref().1.peer_certificates()?.first().map(Peer::of)
    }

    /// The name that the client asked for (SNI), in lower case; none when it sent none.
    pub fn server_name<S>(stream: &ServerStream<S>) -> Option<&str> {
        stream.get_ref().1.server_name()
    }
}

/// Lets the peer hear why the handshake failed. With TLS 1.3 it may be sending requests already, and a socket that is closed
/// with bytes unread resets the connection, and takes that word away.
async fn part<S: AsyncRead + AsyncWrite + Unpin>(mut io: S) {
    let parting = async {
        io.shutdown().await?;
        tokio::io::copy(&mut io.take(MOST_UNREAD), &mut tokio::io::sink()).await
    };
    // However that ends, the handshake has failed.
    let _ = tokio::time::timeout(PARTING, parting).await;
}

/// A resumed session shows no certificate anew, so its time is looked at here.
fn still_valid(connection: &ServerConnection) -> Result<(), HandshakeError> {
    match (connection.handshake_kind(), connection.peer_certificates()) {
        (Some(HandshakeKind::Resumed), Some([leaf, ..])) => {
            check_time(leaf, UnixTime::now()).map_err(|error| HandshakeError::from_rustls(&error))
        }
        _ => Ok(()),
    }
}

fn build(params: &ServerTlsParams, files: &Files) -> Result<ServerState, TlsError> {
    let (provider, versions) = suites::choose(&params.protocols, &params.ciphers)?;
    let paths = KeyPaths {
        cert: &params.cert_path,
        key: &params.key_path,
        intermediates: params.intermediate_certs_path.as_deref(),
    };
    let (key, mut infos) = certified_key(files, &paths, &provider)?;
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&versions);
    let builder = builder.map_err(|error| TlsError::new(Part::Protocols, error.to_string()))?;
    let builder = if params.require_client_auth {
        let (verifier, trusted) = client_verifier(params, files, &provider)?;
        infos.extend(trusted);
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols.clone_from(&params.alpn);
    // Sessions are resumed by tickets alone, whose keys live and die with this configuration (attack T2).
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Ticketer::new().map_err(|error| TlsError::new(Part::Key, error.to_string()))?;
    config.max_early_data_size = 0;
    Ok(ServerState { config: Arc::new(config), infos })
}

type Verifier = (Arc<dyn ClientCertVerifier>, Vec<CertificateInfo>);

fn client_verifier(
    params: &ServerTlsParams,
    files: &Files,
    provider: &Arc<CryptoProvider>,
) -> Result<Verifier, TlsError> {
    let trusted: Anchors = match &params.ca_cert_path {
        Some(path) => anchors(files, std::slice::from_ref(path))?,
        None => system_anchors()?,
    };
    let roots = Arc::new(trusted.roots.clone());
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
    if params.ca_cert_path.is_none() {
        // The names of all public authorities would not fit into one packet.
        builder = builder.clear_root_hint_subjects();
    }
    let inner = builder.build().map_err(|error| TlsError::new(Part::Trust, error.to_string()))?;
    let infos = trusted.infos.clone();
    Ok((Arc::new(ClientCheck { inner, anchors: Arc::new(trusted) }), infos))
}

/// Loads a listener's files and forgets them: what is wrong, or all certificates that would be in use. Blocks.
pub fn check_server(params: &ServerTlsParams) -> Result<Vec<CertificateInfo>, TlsError> {
    build(params, &Files::read(&params.paths())).map(|state| state.infos)
}
