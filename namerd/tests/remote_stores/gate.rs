//! [`Gate`]: a TCP proxy on loopback that can be shut: then all connections break, and none is accepted.

use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) struct Gate {
    port: u16,
    open: watch::Sender<bool>,
    /// What is the case, soon after `open` says it.
    is_open: watch::Receiver<bool>,
}

impl Gate {
    /// A gate before this port, shut.
    pub(crate) async fn shut_before(target: u16) -> Gate {
        let port = crate::servers::free_port();
        let (open, wanted) = watch::channel(false);
        let (done, is_open) = watch::channel(false);
        tokio::spawn(keep(port, target, wanted, done));
        Gate { port, open, is_open }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) async fn open(&self) {
        self.set(true).await;
    }

    pub(crate) async fn shut(&self) {
        self.set(false).await;
    }

    async fn set(&self, open: bool) {
        self.open.send_replace(open);
        self.is_open.clone().wait_for(|is_open| *is_open == open).await.expect("the gate");
    }
}

async fn keep(port: u16, target: u16, mut open: watch::Receiver<bool>, done: watch::Sender<bool>) {
    while open.wait_for(|open| *open).await.is_ok() {
        let Ok(listener) = listen(port) else {
            tokio::task::yield_now().await;
            continue;
        };
        let mut connections = JoinSet::new();
        done.send_replace(true);
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((socket, _)) = accepted else { continue };
                    connections.spawn(pass(socket, target));
                }
                _ = open.wait_for(|open| !*open) => break,
            }
        }
        drop(listener);
        connections.shutdown().await;
        done.send_replace(false);
    }
}

fn listen(port: u16) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.listen(64)
}

async fn pass(mut from: TcpStream, target: u16) {
    if let Ok(mut to) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await {
        let _ = copy_bidirectional(&mut from, &mut to).await;
    }
}
