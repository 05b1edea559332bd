//! Making a connection to an endpoint, within its time (DESIGN §5, step 8).
//!
//! Called by `attempt` when the worker's pool has none. Not for: choosing the endpoint, or trying another one.

use super::Session;
use super::attempt::{Failure, Lease, Requeue};
use super::prepare::{Request, show_duration};
use crate::client::Client;
use crate::clock;
use crate::config::ClientParams;
use crate::error::{Kind, RouteError};
use crate::pool::Upstream;
use crate::route::PathService;
use crate::stream::Stream;
use http1::Conn;
use std::time::Duration;
use tokio::net::TcpStream;

/// A connection must be made within this time (data-plane reference §12: fixed in Linkerd 1).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A new connection to the endpoint of `lease`.
pub(crate) async fn connect(
    session: &Session,
    request: &Request,
    service: &PathService,
    client: &Client,
    lease: &mut Lease,
) -> Result<Upstream, Failure> {
    let addr = lease.endpoint.addr();
    let started = clock::now();
    session.slot.set(started.saturating_add(clock::nanos(CONNECT_TIMEOUT)).min(request.due));
    let reason = match session.slot.run(TcpStream::connect(addr)).await {
        Ok(Ok(socket)) => {
            lease.endpoint.connected();
            client.stats.connects.incr();
            client.stats.connect_latency_ms.add(clock::now().saturating_sub(started) / 1_000_000);
            set_options(&socket, &client.params);
            let endpoint = lease.endpoint.clone();
            return Ok(Upstream { conn: Conn::new(Stream::Plain(socket)), endpoint, created: started, reused: false });
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) if clock::now() >= request.due => return Err(Failure::fatal(request.timed_out())),
        Err(_) => format!("no answer within {}", show_duration(CONNECT_TIMEOUT)),
    };
    lease.connect_failed();
    client.stats.creation_failures.record("java.net.ConnectException");
    let addresses: Vec<String> = client.addresses().iter().take(20).map(ToString::to_string).collect();
    let text = format!(
        "Unable to establish connection to {addr}: {reason}.\n\nservice name: {}\nclient name: {}\naddresses: [{}]\n\
         selected address: {addr}",
        service.dst.path,
        client.id,
        addresses.join(", ")
    );
    let error = RouteError::new(Kind::ConnectFailed, text).undispatched();
    Err(Failure { error, retryable: true, requeue: Requeue::Connect })
}

fn set_options(socket: &TcpStream, params: &ClientParams) {
    // A connection without these options still works.
    let _ = socket.set_nodelay(params.socket.no_delay);
    if let Some(keep_alive) = params.socket.keep_alive {
        let _ = socket2::SockRef::from(socket).set_keepalive(keep_alive);
    }
}
