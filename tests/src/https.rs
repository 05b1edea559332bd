//! A client that speaks TLS, as stories need it: it chooses what it sends as SNI, which certificate it shows, and which
//! protocols and versions it offers.

use crate::PairFiles;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ALL_VERSIONS, ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// One TLS connection.
pub struct Https {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

/// What a client offers in its handshake.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// The protocols of ALPN, the best first; none: the extension is not sent.
    pub alpn: &'a [&'a str],
    /// The versions of TLS.
    pub versions: &'a [&'static SupportedProtocolVersion],
}

impl Default for Offer<'_> {
    fn default() -> Self {
        Offer { alpn: &[], versions: ALL_VERSIONS }
    }
}

impl Https {
    /// Connects and shakes hands. `name`: what the certificate must be for; a host name is sent as SNI, an address is not.
    pub fn connect(addr: SocketAddr, name: &str, ca: &Path, own: Option<&PairFiles>) -> io::Result<Https> {
        Https::offering(addr, name, ca, own, Offer::default())
    }

    /// As [`Https::connect`], with another offer than the usual one. The error is that of rustls when the handshake fails.
    pub fn offering(
        addr: SocketAddr,
        name: &str,
        ca: &Path,
        own: Option<&PairFiles>,
        offer: Offer<'_>,
    ) -> io::Result<Https> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).expect("an authority")).expect("it can be trusted");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(offer.versions);
        let builder = builder.expect("versions that fit").with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(PairFiles { cert, key }) => {
                let cert = CertificateDer::from_pem_file(cert).expect("a certificate");
                let key = PrivateKeyDer::from_pem_file(key).expect("a key");
                builder.with_client_auth_cert(vec![cert], key).expect("they belong together")
            }
        };
        config.alpn_protocols = offer.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut socket = TcpStream::connect(addr)?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut connection = connection;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Https { stream: StreamOwned::new(connection, socket) })
    }

    /// The protocol that was agreed on by ALPN.
    pub fn alpn(&self) -> Option<String> {
        self.stream.conn.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned())
    }

    /// `GET path`, with `connection: close`; all that was answered, as text.
    pub fn get(mut self, host: &str, path: &str) -> io::Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        self.stream.write_all(request.as_bytes())?;
        self.stream.flush()?;
        let mut answer = Vec::new();
        // An end without a goodbye is an error: the router says goodbye.
        self.stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}
