//! TLS towards the servers of the control side: namerds, and the stores of namerd.
//!
//! Called by whoever builds their clients. Not for: the clients of a router's requests.

use crate::config::tls::PeerTls;
use crate::handshakes;
use namers::remote::peers::{Io, Secure};
use std::io;
use std::sync::Arc;
use tls::{ClientTls, ClientTlsParams, Tls, TlsError};
use tokio::net::TcpStream;

/// What makes TLS of a socket. `alpn`: what is spoken, best first.
pub fn secure(peer: &PeerTls, alpn: Vec<Vec<u8>>, tls: &Tls) -> Result<Secure, TlsError> {
    let params = ClientTlsParams { alpn, ..(*peer.params).clone() };
    let client = Arc::new(ClientTls::new(tls.client(&params)?, peer.common_name.as_deref()));
    Ok(Arc::new(move |socket: TcpStream| {
        let client = client.clone();
        Box::pin(async move {
            let ip = socket.peer_addr()?.ip();
            let stream = client.connect(socket, ip, None).await.map_err(|error| {
                handshakes::count("client", error.reason);
                io::Error::other(format!("TLS: {error}"))
            })?;
            let stream: Box<dyn Io> = Box::new(stream);
            Ok(stream)
        })
    }))
}
