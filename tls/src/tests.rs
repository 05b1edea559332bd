//! Handshakes in memory, files that change, and OpenSSL as the other side.

mod handshakes;
mod openssl;
mod reload;

use crate::client::{ClientFiles, ClientStream, ClientTls};
use crate::handshake::HandshakeError;
use crate::params::{ClientAuthParams, ClientTlsParams, ServerTlsParams, Trust};
use crate::server::{ServerStream, ServerTls};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

type Files = (PathBuf, PathBuf);

fn server_params((cert_path, key_path): Files) -> ServerTlsParams {
    ServerTlsParams { cert_path, key_path, ..ServerTlsParams::default() }
}

fn mutual(files: Files, ca: PathBuf) -> ServerTlsParams {
    ServerTlsParams { require_client_auth: true, ca_cert_path: Some(ca), ..server_params(files) }
}

fn trusting(ca: PathBuf) -> ClientTlsParams {
    ClientTlsParams { trust: Trust::Files(vec![ca]), ..ClientTlsParams::default() }
}

fn showing(ca: PathBuf, (cert_path, key_path): Files) -> ClientTlsParams {
    let client_auth = Some(ClientAuthParams { cert_path, key_path, intermediate_certs_path: None });
    ClientTlsParams { client_auth, ..trusting(ca) }
}

fn client(params: &ClientTlsParams, name: Option<&str>) -> ClientTls {
    ClientTls::new(Arc::new(ClientFiles::new(params).unwrap()), name)
}

type Shaken = (ServerStream<DuplexStream>, ClientStream<DuplexStream>);

/// A handshake and a byte each way. The error is that of the server, or that of the client.
async fn shake(server: &ServerTls, client: &ClientTls) -> Result<Shaken, (Option<HandshakeError>, HandshakeError)> {
    let (here, there) = tokio::io::duplex(64 * 1024);
    let ip = [127, 0, 0, 1].into();
    let (accepted, connected) = tokio::join!(server.accept(there), client.connect(here, ip, None));
    match (accepted, connected) {
        (Ok(mut accepted), Ok(mut connected)) => {
            accepted.write_all(b"s").await.unwrap();
            accepted.flush().await.unwrap();
            connected.write_all(b"c").await.unwrap();
            connected.flush().await.unwrap();
            assert_eq!((connected.read_u8().await.unwrap(), accepted.read_u8().await.unwrap()), (b's', b'c'));
            Ok((accepted, connected))
        }
        (Err(server), Ok(mut connected)) => {
            // With TLS 1.3 the client learns it when it reads.
            let said = connected.read_u8().await.unwrap_err();
            Err((Some(server), HandshakeError::of_established(&said).unwrap()))
        }
        (accepted, Err(client)) => Err((accepted.err(), client)),
    }
}

/// Why the client refuses.
async fn refused(server: &ServerTls, client: &ClientTls) -> HandshakeError {
    shake(server, client).await.map(|_| ()).unwrap_err().1
}
