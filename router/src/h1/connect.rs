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
use crate::meter::Metered;
use crate::pool::{Place, Upstream};
use crate::route::PathService;
use crate::stream::Stream;
use http1::Conn;
use tokio::net::TcpStream;

/// A new connection to the endpoint of `lease`.
pub(crate) async fn connect(
    session: &Session,
    request: &Request,
    service: &PathService,
    client: &Client,
    lease: &mut Lease,
    place: Place,
) -> Result<Upstream, Failure> {
    let addr = lease.endpoint().addr();
    let started = clock::now();
    let limit = client.params.connect_timeout;
    session.slot.set(started.saturating_add(clock::nanos(limit)).min(request.due));
    let (reason, kind) = match session.slot.run(TcpStream::connect(addr)).await {
        Ok(Ok(socket)) => {
            lease.endpoint().connected();
            client.stats.connects.incr();
            client.stats.connect_latency_ms.add(clock::now().saturating_sub(started) / 1_000_000);
            set_options(&socket, &client.params);
            let endpoint = lease.endpoint().clone();
            let meter = Box::new(Metered(client.stats.transport.connection()));
            let conn = Conn::new(Stream::Plain(socket)).with_meter(meter);
            return Ok(Upstream { conn, endpoint, created: started, reused: false, place });
        }
        Ok(Err(error)) => {
            if is_out_of_descriptors(&error) {
                session.cx.pool.make_room();
            }
            (error.to_string(), Kind::ConnectFailed)
        }
        Err(_) if clock::now() >= request.due => {
            client.stats.cancelled_connects.incr();
            return Err(Failure::fatal(request.timed_out()));
        }
        Err(_) => (format!("no answer within {}", show_duration(limit)), Kind::ConnectTimeout),
    };
    client.stats.failed_connect_latency_ms.add(clock::now().saturating_sub(started) / 1_000_000);
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
    let error = RouteError::new(kind, text).undispatched();
    Err(Failure { error, retryable: true, requeue: Requeue::Connect })
}

/// True when the process has no file descriptors left (EMFILE), or the system (ENFILE).
pub(crate) fn is_out_of_descriptors(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

fn set_options(socket: &TcpStream, params: &ClientParams) {
    // A connection without these options still works.
    let _ = socket.set_nodelay(params.socket.no_delay);
    if let Some(keep_alive) = params.socket.keep_alive {
        let _ = socket2::SockRef::from(socket).set_keepalive(keep_alive);
    }
}
