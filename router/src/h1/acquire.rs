//! A connection to the endpoint that was picked: an idle one of this worker, a new one, or one that another request
//! releases while this one waits in line (`hostConnectionPool`).
//!
//! Called by `attempt`. Not for: choosing the endpoint, or making the connection (`connect`).

use super::Session;
use super::attempt::{Failure, while_client_waits};
use super::connect::connect;
use super::lease::Lease;
use super::prepare::{Request, show_duration};
use crate::client::Client;
use crate::clock;
use crate::error::{Kind, RouteError};
use crate::pool::{Entry, Got, Ticket, Upstream, Waiting};
use crate::route::PathService;

/// A connection to the endpoint of `lease`, waited for at most as long as the binding timeout and the request allow.
pub(crate) async fn acquire(
    session: &mut Session,
    request: &Request,
    service: &PathService,
    client: &Client,
    lease: &mut Lease,
) -> Result<Upstream, Failure> {
    if let Some(upstream) = session.cx.pool.take(lease.endpoint(), lease.began()) {
        return Ok(upstream);
    }
    let place = match client.hosts.enter(lease.endpoint().uid(), session.cx.pool.claims()) {
        Entry::Place(place) => place,
        Entry::Full => return Err(Failure::fatal(too_many_waiters(client, lease))),
        Entry::Wait(ticket) => match wait(session, request, service, client, ticket).await.map_err(Failure::fatal)? {
            Got::Connection(upstream) => return Ok(*upstream),
            Got::Place(place) => place,
        },
    };
    connect(session, request, service, client, lease, place).await
}

fn too_many_waiters(client: &Client, lease: &Lease) -> RouteError {
    let (addr, id) = (lease.endpoint().addr(), &client.id);
    let most = client.params.pool_max_waiters.unwrap_or_default();
    let text = format!(
        "all connections to {addr} are in use and {most} requests wait for one already \
         (hostConnectionPool.maxSize, maxWaiters). Remote Info: Upstream Address: /{addr}, Downstream label: {id}"
    );
    RouteError::new(Kind::TooManyWaiters, text).undispatched()
}

async fn wait(
    session: &mut Session,
    request: &Request,
    service: &PathService,
    client: &Client,
    ticket: Ticket,
) -> Result<Got, RouteError> {
    let limit = session.cx.router.params.binding_timeout;
    session.slot.set(clock::now().saturating_add(clock::nanos(limit)).min(request.due));
    let mut waiting = Waiting::new(session.cx.pool.clone(), ticket);
    let turn = session.slot.run(waiting.turn());
    match while_client_waits(&mut session.conn, request.body.read, turn).await? {
        Ok(got) => Ok(got),
        Err(_) if clock::now() >= request.due => Err(request.timed_out()),
        Err(_) => {
            let (limit, name) = (show_duration(limit), &service.dst.path);
            let text = format!(
                "Exceeded {limit} binding timeout while waiting for a connection to {} (hostConnectionPool.maxSize) for \
                 name: {name}",
                client.id
            );
            Err(RouteError::new(Kind::BindingTimeout, text).undispatched())
        }
    }
}
