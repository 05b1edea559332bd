//! A client that speaks TLS, as stories need it: it chooses what it sends as SNI and which certificate it shows.

use crate::PairFiles;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// One TLS connection.
pub struct Https {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Https {
    /// Connects and shakes hands. `name`: what the certificate must be for; a host name is sent as SNI, an address is not.
    pub fn connect(addr: SocketAddr, name: &str, ca: &Path, own: Option<&PairFiles>) -> io::Result<Https> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).expect("an authority")).expect("it can be trusted");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("safe versions").with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(PairFiles { cert, key }) => {
                let cert = CertificateDer::from_pem_file(cert).expect("a certificate");
                let key = PrivateKeyDer::from_pem_file(key).expect("a key");
                builder.with_client_auth_cert(vec![cert], key).expect("they belong together")
            }
        };
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut socket = TcpStream::connect(addr)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut connection = connection;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Https { stream: StreamOwned::new(connection, socket) })
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
