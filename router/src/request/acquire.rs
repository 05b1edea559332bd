//! A connection to the endpoint that was picked: an idle one of this worker, a new one, or one that another request
//! releases while this one waits in line (`hostConnectionPool`); or a place on one that many requests share.
//!
//! Called by `attempt`. Not for: choosing the endpoint, or making the connection (`connect`).

use super::attempt::{Failure, Requeue, while_client_waits};
use super::connect::{connect, link};
use super::lease::Lease;
use super::prepare::{Request, show_duration};
use super::{Session, Up};
use crate::client::Client;
use crate::clock;
use crate::error::{Kind, RouteError};
use crate::h2::{Dial, InLine, Outbound, Took, Turn};
use crate::pool::{Entry, Got, Place, Ticket, Upstream, Waiting};
use crate::route::PathService;

/// A connection to the endpoint of `lease`, waited for at most as long as the binding timeout and the request allow; and when
/// it was there, from which on the attempt is timed.
pub(crate) async fn acquire(
    session: &mut Session,
    request: &Request,
    service: &PathService,
    client: &Client,
    lease: &mut Lease,
) -> Result<(Upstream, u64), Failure> {
    if client.params.protocol.is_h2(request.version) {
        return shared(session, request, service, client, lease).await;
    }
    if let Some(upstream) = session.cx.pool.take(lease.endpoint(), lease.began()) {
        return Ok((upstream, lease.began()));
    }
    let place = match client.hosts.enter(lease.endpoint().uid(), session.cx.pool.claims()) {
        Entry::Place(place) => place,
        Entry::Full => return Err(Failure::fatal(too_many_waiters(client, lease))),
        // What is seldom needed takes no room in every request: these are boxed.
        Entry::Wait(ticket) => {
            match Box::pin(wait(session, request, service, client, ticket)).await.map_err(Failure::fatal)? {
                Got::Connection(upstream) => return Ok((*upstream, clock::now())),
                Got::Place(place) => place,
            }
        }
    };
    let upstream = Box::pin(connect(session, request, service, client, lease, place)).await?;
    Ok((upstream, clock::now()))
}

/// A place on a connection that many requests share (`Links`).
async fn shared(
    session: &mut Session,
    request: &Request,
    service: &PathService,
    client: &Client,
    lease: &mut Lease,
) -> Result<(Upstream, u64), Failure> {
    let sent = loop {
        match session.cx.pool.links().take(lease.endpoint()) {
            Took::Request(sent) => break sent,
            Took::Wait(dial) => {
                let waiting = Box::pin(dialled(session, request, service, client, &dial));
                if let Some(error) = waiting.await.map_err(Failure::fatal)? {
                    return Err(Failure { error, retryable: true, requeue: Requeue::Connect });
                }
            }
            Took::Full => {
                let place = match client.hosts.enter(lease.endpoint().uid(), session.cx.pool.links().claims()) {
                    Entry::Place(place) => place,
                    Entry::Full => return Err(Failure::fatal(too_many_waiters(client, lease))),
                    Entry::Wait(ticket) => {
                        let waiting = Box::pin(wait_for_room(session, request, service, client, ticket));
                        match waiting.await.map_err(Failure::fatal)? {
                            Turn::Request(sent) => break sent,
                            Turn::Place(place) => place,
                        }
                    }
                };
                if let Some(sent) = Box::pin(dialling(session, request, service, client, (lease, place))).await? {
                    break Box::new(sent);
                }
            }
        }
    };
    let (endpoint, reused) = (lease.endpoint().clone(), sent.is_reused());
    let (conn, created) = (Up::H2(sent), clock::now());
    Ok((Upstream { conn, endpoint, created, reused, place: None }, created))
}

/// Makes a connection that many requests share, for all that need one now, and puts this one on it.
async fn dialling(
    session: &mut Session,
    request: &Request,
    service: &PathService,
    client: &Client,
    (lease, place): (&mut Lease, Place),
) -> Result<Option<Outbound>, Failure> {
    let dialing = session.cx.pool.links().dial(lease.endpoint());
    match link(session, request, service, client, lease, place).await {
        Ok(link) => Ok(dialing.made(&link)),
        Err(failure) => {
            // What ends this request alone, such as its own deadline, says nothing to those who wait.
            if failure.requeue == Requeue::Connect {
                dialing.failed(&failure.error);
            }
            Err(failure)
        }
    }
}

/// Waits until another request has made the connection that this one needs too; the error when it could not.
async fn dialled(
    session: &mut Session,
    request: &Request,
    service: &PathService,
    client: &Client,
    dial: &Dial,
) -> Result<Option<RouteError>, RouteError> {
    let what = format!("waiting for a connection to {}", client.id);
    within_binding_timeout(session, request, service, &what, dial.finished()).await
}

/// Runs `waiting` at most as long as the binding timeout and the request allow, and as long as the client is there.
async fn within_binding_timeout<T>(
    session: &mut Session,
    request: &Request,
    service: &PathService,
    what: &str,
    waiting: impl Future<Output = T>,
) -> Result<T, RouteError> {
    let limit = session.cx.router.params.binding_timeout;
    session.slot.set(clock::now().saturating_add(clock::nanos(limit)).min(request.due));
    match while_client_waits(&mut session.conn, request.body.read, session.slot.run(waiting)).await? {
        Ok(got) => Ok(got),
        Err(_) if clock::now() >= request.due => Err(request.timed_out()),
        Err(_) => {
            let (limit, name) = (show_duration(limit), &service.dst.path);
            let text = format!("Exceeded {limit} binding timeout while {what} for name: {name}");
            Err(RouteError::new(Kind::BindingTimeout, text).undispatched())
        }
    }
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
    let mut waiting = Waiting::new(session.cx.pool.clone(), ticket);
    within_binding_timeout(session, request, service, &in_line(client), waiting.turn()).await
}

/// Waits in line for room on a connection that many requests share, or for the right to make another one.
async fn wait_for_room(
    session: &mut Session,
    request: &Request,
    service: &PathService,
    client: &Client,
    ticket: Ticket,
) -> Result<Turn, RouteError> {
    let mut waiting = InLine::new(session.cx.pool.links().clone(), ticket);
    within_binding_timeout(session, request, service, &in_line(client), waiting.turn()).await
}

fn in_line(client: &Client) -> String {
    format!("waiting for a connection to {} (hostConnectionPool.maxSize)", client.id)
}
