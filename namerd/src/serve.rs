//! Listening for the interfaces: accepts, does TLS, and hands each connection to its protocol, within bounds.
//!
//! Called by `linker`. Not for: what is spoken on a connection.

mod sources;

use crate::config::InterfaceParams;
use crate::iface::{Closing, Interface, Peer};
use admin::Lingering;
use namers::remote::peers::{Io, notice_silence};
use setup::config::params::SocketParams;
use setup::{handshakes, listen};
use sources::Sources;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tls::ServerTls;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// After a failed accept (no descriptors are left) nothing is accepted for so long.
const PAUSE: Duration = Duration::from_millis(50);

/// A listening socket that accepts nothing yet.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<ServerTls>>,
    max_connections: usize,
    sources: Sources,
    options: SocketParams,
}

impl Listener {
    /// Listens where `params` says; the certificate is `tls`.
    pub fn open(params: &InterfaceParams, tls: Option<Arc<ServerTls>>) -> io::Result<Listener> {
        let socket = listen::listen_once(SocketAddr::new(params.ip, params.port), &params.socket)?;
        let address = socket.local_addr()?;
        let most = setup::descriptors::most_connections().unwrap_or(usize::MAX);
        let max_connections = params.max_connections.min(most).min(Semaphore::MAX_PERMITS);
        let socket = TcpListener::from_std(socket)?;
        let sources = Sources::new(per_source(params.max_connections_per_source, max_connections));
        Ok(Listener { socket, address, tls, max_connections, sources, options: params.socket })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until `closing`, then waits for the connections that are left; dropping it cuts them.
    pub async fn run(self, interface: Arc<dyn Interface>, mut closing: Closing) {
        let room = Arc::new(Semaphore::new(self.max_connections));
        let kind = interface.kind();
        let mut connections = JoinSet::new();
        let stats = interface.stats().clone();
        loop {
            let accepted = tokio::select! {
                _ = closing.wait_for(|closing| *closing) => break,
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        tracing::error!(interface = kind, "a connection ended by an internal error");
                    }
                    continue;
                }
                accepted = self.accept(&room) => accepted,
            };
            match accepted {
                Ok((socket, address, permit)) => {
                    let Some(counted) = self.sources.count(address.ip()) else {
                        stats.accept_failed();
                        tracing::debug!(interface = kind, %address, "closed: too many connections of one address");
                        continue;
                    };
                    let serving = serve(interface.clone(), self.tls.clone(), socket, address, closing.clone());
                    let open = stats.connection();
                    connections.spawn(async move {
                        serving.await;
                        drop((permit, open, counted));
                    });
                }
                Err(error) => {
                    stats.accept_failed();
                    tracing::warn!(interface = kind, %error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        drop(self.socket);
        while connections.join_next().await.is_some() {}
    }

    /// The next connection, once there is room for it.
    async fn accept(
        &self,
        room: &Arc<Semaphore>,
    ) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
        let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (socket, address) = self.socket.accept().await?;
        // A socket without these options works as well.
        _ = set_options(&socket, &self.options);
        Ok((socket, address, permit))
    }
}

/// Connections of one client address: never more than half of what there is room for, or it would keep the others out.
fn per_source(configured: usize, most: usize) -> usize {
    configured.min(most / 2).max(1)
}

/// A client whose host is gone without a word is noticed within 25 s, unless the config says `keepAlive: false`: else what
/// it follows would be kept until something changes.
fn set_options(socket: &TcpStream, options: &SocketParams) -> io::Result<()> {
    socket.set_nodelay(options.no_delay)?;
    match options.keep_alive {
        Some(false) => socket2::SockRef::from(socket).set_keepalive(false),
        Some(true) | None => notice_silence(socket),
    }
}

async fn serve(
    interface: Arc<dyn Interface>,
    tls: Option<Arc<ServerTls>>,
    socket: TcpStream,
    address: SocketAddr,
    closing: Closing,
) {
    let (io, identity): (Box<dyn Io>, _) = match tls {
        None => (Box::new(Lingering::new(socket)), None),
        Some(tls) => {
            let Some(stream) = handshakes::accept("namerd", tls, socket).await else { return };
            let identity = ServerTls::peer(&stream).and_then(|peer| peer.name().map(str::to_owned));
            (Box::new(Lingering::new(stream)), identity)
        }
    };
    interface.serve(io, Peer { address, identity }, closing).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn one_address_has_at_most_half_of_the_room() {
        for (configured, most, expected) in [(5000, 10_000, 5000), (5000, 768, 384), (7, 768, 7), (5000, 1, 1)] {
            assert_eq!(per_source(configured, most), expected, "{configured} of {most}");
        }
    }

    #[tokio::test]
    async fn accepted_sockets_have_the_options_of_the_config() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let default = SocketParams::default();
        for (options, no_delay, keep_alive) in [
            (default, true, true),
            (SocketParams { keep_alive: Some(true), no_delay: false, ..default }, false, true),
            (SocketParams { keep_alive: Some(false), ..default }, true, false),
        ] {
            let _client = TcpStream::connect(address).await.expect("a connection");
            let (socket, _) = listener.accept().await.expect("a connection");
            set_options(&socket, &options).expect("they can be set");
            let shown = socket2::SockRef::from(&socket);
            assert_eq!(socket.nodelay().expect("shown"), no_delay, "{options:?}");
            assert_eq!(shown.keepalive().expect("shown"), keep_alive, "{options:?}");
            #[cfg(target_os = "linux")]
            assert_eq!(shown.tcp_user_timeout().expect("shown").is_some(), keep_alive, "{options:?}");
        }
    }
}
