//! A TCP relay that can become a black hole: it keeps its connections open, and neither reads nor writes any more.

use super::origin::listen;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// See the module. Dropping it cuts all connections.
pub struct Relay {
    addr: SocketAddr,
    connections: Arc<AtomicU64>,
    /// The number of connections that are holes: all up to the one of this number.
    holes: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Passes bytes on to `target`.
    pub fn to(target: SocketAddr) -> Relay {
        let (listener, addr) = listen();
        let (connections, holes) = (Arc::new(AtomicU64::new(0)), watch::Sender::new(0));
        let task = tokio::spawn(accept(listener, target, connections.clone(), holes.subscribe()));
        Relay { addr, connections, holes, task }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Number of connections so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    /// Makes a hole of every connection that there is; those that come later work.
    pub fn swallow(&self) {
        self.holes.send_replace(self.connections());
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, count: Arc<AtomicU64>, holes: watch::Receiver<u64>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else { continue };
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let holes = holes.clone();
                connections.spawn(async move {
                    let Ok(onward) = TcpStream::connect(target).await else { return };
                    let _ = (socket.set_nodelay(true), onward.set_nodelay(true));
                    let ((from, to), (back, answer)) = (socket.into_split(), onward.into_split());
                    tokio::join!(pump(from, answer, number, holes.clone()), pump(back, to, number, holes));
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Waits until this connection is a hole; false when the relay has gone.
async fn swallowed(holes: &mut watch::Receiver<u64>, number: u64) -> bool {
    holes.wait_for(|holes| *holes >= number).await.is_ok()
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    number: u64,
    mut holes: watch::Receiver<u64>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        tokio::select! {
            biased;
            swallowed = swallowed(&mut holes, number) => match swallowed {
                // Both sockets stay open, and nobody touches them.
                true => std::future::pending().await,
                false => return,
            },
            read = from.read(&mut buffer) => match read {
                Ok(n) if n > 0 => {
                    if to.write_all(&buffer[..n]).await.is_err() {
                        return;
                    }
                }
                _ => {
                    let _ = to.shutdown().await;
                    return;
                }
            }
        }
    }
}
