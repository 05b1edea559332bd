//! The upstream connections of one worker: idle ones by endpoint, newest first, with an age limit.
//!
//! Connections never move between workers. Not for: connecting (`h1::attempt`) or load (`balance`).

use crate::stream::Stream;
use balance::Endpoint;
use http1::Conn;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// A connection to an endpoint.
pub struct Upstream {
    /// The connection.
    pub conn: Conn<Stream>,
    /// Where it leads.
    pub endpoint: Arc<Endpoint>,
    /// When it was made, in nanoseconds of the process clock.
    pub created: u64,
    /// True when it has served a request before.
    pub reused: bool,
}

struct Idle {
    upstream: Upstream,
    /// When it is closed for having been idle.
    expires: u64,
}

/// See the module.
#[derive(Default)]
pub struct Pool {
    idle: RefCell<HashMap<u64, Vec<Idle>>>,
}

/// True when nothing has arrived on an idle connection and it is open, as far as the runtime knows; costs no system
/// call then.
fn is_alive(conn: &mut Conn<Stream>) -> bool {
    conn.io_mut().is_quiet() && !conn.is_eof() && !conn.has_buffered()
}

impl Pool {
    /// A live idle connection to `endpoint`, if there is one. Dead ones found on the way are closed.
    pub fn take(&self, endpoint: &Endpoint, now: u64) -> Option<Upstream> {
        let mut idle = self.idle.borrow_mut();
        let list = idle.get_mut(&endpoint.uid())?;
        while let Some(mut entry) = list.pop() {
            if entry.expires > now && is_alive(&mut entry.upstream.conn) {
                entry.upstream.reused = true;
                return Some(entry.upstream);
            }
        }
        None
    }

    /// Keeps `upstream` until `expires`, unless its endpoint has left discovery.
    pub fn put(&self, mut upstream: Upstream, expires: u64) {
        if upstream.endpoint.is_closed() || upstream.conn.has_buffered() {
            return;
        }
        upstream.conn.release_buffers();
        self.idle.borrow_mut().entry(upstream.endpoint.uid()).or_default().push(Idle { upstream, expires });
    }

    /// Closes what is too old, dead, or leads to an endpoint that has left discovery.
    pub fn sweep(&self, now: u64) {
        self.idle.borrow_mut().retain(|_, list| {
            list.retain_mut(|entry| {
                entry.expires > now && !entry.upstream.endpoint.is_closed() && is_alive(&mut entry.upstream.conn)
            });
            !list.is_empty()
        });
    }

    /// Closes all.
    pub fn clear(&self) {
        self.idle.borrow_mut().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use balance::AccrualConfig;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    async fn pair(endpoint: &Arc<Endpoint>) -> (Upstream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let near = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
        let far = listener.accept().await.expect("a connection").0;
        (Upstream { conn: Conn::new(Stream::Plain(near)), endpoint: endpoint.clone(), created: 0, reused: false }, far)
    }

    fn endpoint() -> Arc<Endpoint> {
        Arc::new(Endpoint::new(1, ([127, 0, 0, 1], 1).into(), 1.0, AccrualConfig::None, 0))
    }

    #[tokio::test]
    async fn a_connection_is_used_again_until_it_expires() {
        let (pool, endpoint) = (Pool::default(), endpoint());
        let (upstream, _far) = pair(&endpoint).await;
        pool.put(upstream, 100);
        let again = pool.take(&endpoint, 99).expect("it is alive");
        assert!(again.reused);
        pool.put(again, 100);
        assert!(pool.take(&endpoint, 100).is_none());
    }

    #[tokio::test]
    async fn bytes_nobody_asked_for_and_a_close_end_it() {
        let (pool, endpoint) = (Pool::default(), endpoint());
        for close in [false, true] {
            let (upstream, mut far) = pair(&endpoint).await;
            if close {
                drop(far);
            } else {
                far.write_all(b"HTTP/1.1 408 late\r\n\r\n").await.expect("written");
            }
            upstream.conn.io().tcp().readable().await.expect("it has happened");
            pool.put(upstream, u64::MAX);
            assert!(pool.take(&endpoint, 0).is_none(), "close: {close}");
        }
    }

    #[tokio::test]
    async fn nothing_is_kept_for_an_endpoint_that_left() {
        let (pool, endpoint) = (Pool::default(), endpoint());
        let (upstream, _far) = pair(&endpoint).await;
        endpoint.close();
        pool.put(upstream, u64::MAX);
        assert!(pool.take(&endpoint, 0).is_none());
    }
}
