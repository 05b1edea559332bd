//! Sending a request once, or again when it is known that nothing acted on it (DESIGN §5, steps 7 to 10).
//!
//! A connection that cannot be made, or that dies before the first byte of an answer, leads to another endpoint of the
//! same client at once: a requeue (data-plane reference §11.4). What the answer says is for the caller to judge.

use super::Session;
use super::connect::{TLS_CLASS, connect, not_connected};
use super::prepare::{Request, show_duration};
use super::record::SYNTHETIC;
use super::relay::{SendError, append_fields};
use crate::classify;
use crate::client::{Client, ReplicaState};
use crate::clock;
use crate::config::ClientParams;
use crate::error::{Kind, RouteError};
use crate::headers;
use crate::pool::Upstream;
use crate::route::{Leaf, PathService};
use crate::secure::{self, Caller};
use crate::stream::Stream;
use crate::timer::NEVER;
use balance::Endpoint;
use http::{StatusCode, Version};
use http1::{BodyLength, Conn, ResponseHead, encode_request_head, encode_response_head};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use telemetry::RequestStats;

/// Endpoints tried for one connection, without spending budget.
const MAX_CONNECTS: u32 = 25;
/// Requeues of a request that was sent and not answered by a single byte; each spends budget. A fresh connection that
/// dies this way may have died of the request, so it counts for all of them.
const MAX_REQUEUES: u32 = 3;
/// Interim responses passed on for one request (attack H1-12, flood of 1xx).
const MAX_INTERIM: u32 = 16;

/// A final response head, and what to settle when its body is done.
pub(crate) struct Answer {
    pub(crate) head: ResponseHead,
    pub(crate) lease: Lease,
    pub(crate) leaf: Arc<Leaf>,
    /// When the head was there.
    pub(crate) at: u64,
}

/// An attempt without an answer.
pub(crate) struct Failure {
    pub(crate) error: RouteError,
    /// A classifier may call it retryable (data-plane reference §11.1, the footnote).
    pub(crate) retryable: bool,
    /// Another endpoint may be tried at once: how.
    pub(crate) requeue: Requeue,
}

/// Whether and how another endpoint may be tried at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Requeue {
    No,
    /// No connection was made.
    Connect,
    /// Sent, and not answered by a single byte; whether the connection had served before.
    Dispatch {
        reused: bool,
    },
}

impl Failure {
    /// A failure that no other attempt can mend.
    pub(crate) fn fatal(error: RouteError) -> Failure {
        Failure { error, retryable: false, requeue: Requeue::No }
    }
}

/// A unit of load on an endpoint, from the pick to the end of the response body (data-plane reference §9).
pub(crate) struct Lease {
    pub(crate) endpoint: Arc<Endpoint>,
    began: u64,
    decay_ns: u64,
    judged: bool,
}

impl Lease {
    fn new(endpoint: Arc<Endpoint>, decay_ns: u64, began: u64) -> Lease {
        endpoint.begin(began);
        Lease { endpoint, began, decay_ns, judged: false }
    }

    fn judge(&mut self, success: bool, now: u64) {
        self.judged = true;
        if success { self.endpoint.on_success(now) } else { self.endpoint.on_failure(now, &mut random) }
    }

    pub(crate) fn connect_failed(&mut self) {
        self.judged = true;
        self.endpoint.connect_failed(clock::now(), &mut random);
    }
}

fn random() -> u64 {
    fastrand::u64(..)
}

impl Drop for Lease {
    fn drop(&mut self) {
        let now = clock::now();
        if !self.judged {
            self.endpoint.on_ignored(now);
        }
        self.endpoint.end(now, self.began, self.decay_ns);
    }
}

/// Counts one dispatch in the client's and the client's service's scope, cancellation included.
struct Dispatch<'a> {
    stats: [&'a RequestStats; 2],
    started: u64,
    done: bool,
}

impl<'a> Dispatch<'a> {
    fn new(leaf: &'a Leaf, started: u64) -> Dispatch<'a> {
        let stats = [&leaf.client.stats.requests, &leaf.stats];
        stats.iter().for_each(|stats| stats.begin());
        Dispatch { stats, started, done: false }
    }

    fn finish(&mut self, success: bool, now: u64) -> u64 {
        self.done = true;
        let latency = now.saturating_sub(self.started);
        self.stats.iter().for_each(|stats| stats.finish(success, latency));
        latency / 1_000_000
    }
}

impl Drop for Dispatch<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.finish(false, clock::now());
        }
    }
}

/// Sends the request to an endpoint of `leaf`, and to others as long as nothing can have acted on it.
pub(crate) async fn run(
    session: &mut Session,
    request: &mut Request,
    service: &PathService,
    leaf: &Arc<Leaf>,
) -> Result<(Answer, Upstream), Failure> {
    let (mut connects, mut requeues) = (0, 0);
    let mut acquire_due = None;
    loop {
        let endpoint = pick(session, request, service, &leaf.client).await.map_err(Failure::fatal)?;
        let mut lease = Lease::new(endpoint, leaf.client.params.balancer.decay_ns(), clock::now());
        let failure = match once(session, request, service, leaf, &mut lease).await {
            Ok((head, upstream, at)) => {
                if classify::is_success(service.params.classifier, head.status) {
                    leaf.client.requeue_budget.deposit(at);
                }
                return Ok((Answer { head, lease, leaf: leaf.clone(), at }, upstream));
            }
            Err(failure) => failure,
        };
        drop(lease);
        let again = match failure.requeue {
            Requeue::No => false,
            Requeue::Connect => {
                connects += 1;
                let now = clock::now();
                let limit = clock::nanos(session.cx.router.params.binding_timeout);
                let due = *acquire_due.get_or_insert(now.saturating_add(limit));
                connects <= MAX_CONNECTS && now < due && has_open_endpoint(&leaf.client)
            }
            Requeue::Dispatch { reused } => {
                let allowed = requeues < MAX_REQUEUES;
                requeues = if reused { requeues + 1 } else { MAX_REQUEUES };
                allowed && may_spend(&leaf.client)
            }
        };
        if !again {
            return Err(failure);
        }
        leaf.client.stats.requeues.incr();
    }
}

fn has_open_endpoint(client: &Client) -> bool {
    matches!(&**client.replicas.load(), ReplicaState::Bound(replicas) if replicas.counts(clock::now()).open > 0)
}

fn may_spend(client: &Client) -> bool {
    let spent = client.requeue_budget.try_withdraw(clock::now());
    if !spent {
        client.stats.budget_exhausted.incr();
    }
    spent
}

/// An endpoint by balance; waits for the first addresses at most as long as the binding timeout allows.
async fn pick(
    session: &mut Session,
    request: &Request,
    service: &PathService,
    client: &Client,
) -> Result<Arc<Endpoint>, RouteError> {
    let cx = session.cx.clone();
    let router = &cx.router;
    let no_hosts =
        |why: &str| Err(router.no_hosts(&service.dst, &format!("client name: {}\nreason: {why}", client.id)));
    let choose = |state: &ReplicaState| match state {
        ReplicaState::Pending => None,
        ReplicaState::Failed(reason) => {
            Some(Err(RouteError::new(Kind::BindingFailed, reason.to_string()).undispatched()))
        }
        ReplicaState::Neg => Some(no_hosts("discovery says that this cluster does not exist")),
        ReplicaState::Bound(replicas) => match replicas.pick(&client.params.balancer, clock::now(), random) {
            None => Some(no_hosts("its address set is empty")),
            Some(pick) => {
                if pick.max_effort_exhausted {
                    client.stats.max_effort_exhausted.incr();
                }
                Some(Ok(pick.endpoint))
            }
        },
    };
    let known = choose(&client.replicas.load());
    let picked = match known {
        Some(picked) => picked,
        None => {
            let text = |limit: String| {
                let (id, name) = (&client.id, &service.dst.path);
                format!("Exceeded {limit} binding timeout while connecting to {id} for name: {name}")
            };
            bound_in_time(session, request, client.replicas.wait(choose), text).await
        }
    }?;
    if router.is_own_listener(picked.addr()) {
        let text = format!(
            "The name {} leads back to this router's own listener {} (client {}). Please check the dtab for a loop.",
            service.dst.path,
            picked.addr(),
            client.id
        );
        return Err(RouteError::new(Kind::SelfLoop, text).undispatched());
    }
    Ok(picked)
}

/// Waits for naming at most as long as the binding timeout and the request's own limit allow, and as long as the
/// client is there.
pub(crate) async fn bound_in_time<T>(
    session: &mut Session,
    request: &Request,
    waiting: impl Future<Output = Result<T, RouteError>>,
    text: impl FnOnce(String) -> String,
) -> Result<T, RouteError> {
    let limit = session.cx.router.params.binding_timeout;
    session.slot.set(clock::now().saturating_add(clock::nanos(limit)).min(request.due));
    match while_client_waits(&mut session.conn, request.body.read, session.slot.run(waiting)).await? {
        Ok(outcome) => outcome,
        Err(_) if clock::now() >= request.due => Err(request.timed_out()),
        Err(_) => Err(RouteError::new(Kind::BindingTimeout, text(show_duration(limit))).undispatched()),
    }
}

/// Runs `waiting` until it is ready or the client hangs up. What a client that still sends its body wants is known.
pub(crate) async fn while_client_waits<F: Future>(
    conn: &mut Conn<Stream>,
    body_read: bool,
    waiting: F,
) -> Result<F::Output, RouteError> {
    let mut waiting = std::pin::pin!(waiting);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = waiting.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        if body_read && conn.poll_hangup(cx).is_ready() {
            return Poll::Ready(Err(RouteError::new(Kind::ClientGone, "the client closed the connection")));
        }
        Poll::Pending
    })
    .await
}

/// One attempt on one endpoint.
async fn once(
    session: &mut Session,
    request: &mut Request,
    service: &PathService,
    leaf: &Leaf,
    lease: &mut Lease,
) -> Result<(ResponseHead, Upstream, u64), Failure> {
    let client = &leaf.client;
    let mut upstream = match session.cx.pool.take(&lease.endpoint, lease.began) {
        Some(upstream) => upstream,
        None => connect(session, request, service, client, lease).await?,
    };
    write_head(request, leaf, session.caller.as_deref(), &mut upstream);
    request.body.begin(&mut upstream.conn).map_err(Failure::fatal)?;
    let started = if upstream.reused { lease.began } else { clock::now() };
    let mut dispatch = Dispatch::new(leaf, started);
    let attempt_due = client.params.attempt_timeout.map_or(NEVER, |limit| started + clock::nanos(limit));
    let due = attempt_due.min(request.due);
    session.slot.set(due);
    let outcome = receive(session, request, &mut upstream, due).await;
    match outcome {
        Ok(head) => {
            let success = classify::is_success(service.params.classifier, head.status);
            let now = clock::now();
            lease.judge(success, now);
            let ms = dispatch.finish(success, now);
            client.stats.status.record(head.status.as_u16(), ms);
            if !success {
                client.stats.failures.record(SYNTHETIC);
                leaf.failures.record(SYNTHETIC);
            }
            Ok((head, upstream, now))
        }
        Err(error) => {
            let failure = failed(request, service, leaf, &upstream, error, due);
            let upstreams_fault =
                matches!(failure.error.kind, Kind::UpstreamClosed | Kind::UpstreamFraming | Kind::AttemptTimeout);
            if upstreams_fault {
                lease.judge(false, clock::now());
            } else if failure.error.kind == Kind::ConnectFailed {
                lease.connect_failed();
            }
            let ms = dispatch.finish(false, clock::now());
            client.stats.status.error(ms);
            client.stats.failures.record(failure.error.kind.class());
            leaf.failures.record(failure.error.kind.class());
            Err(failure)
        }
    }
}

enum ReceiveError {
    Send(SendError),
    Elapsed,
}

/// Waits for the final response head; interim ones are passed on.
async fn receive(
    session: &mut Session,
    request: &mut Request,
    upstream: &mut Upstream,
    due: u64,
) -> Result<ResponseHead, ReceiveError> {
    let mut interim = 0;
    loop {
        let mut recycled = session.cx.spare.take();
        let expected = (&session.cx.router.limits, &request.method, &mut recycled);
        let (down, up) = (&mut session.conn, &mut upstream.conn);
        let waiting = request.body.exchange(down, up, expected, (&session.slot, due));
        let head = match session.slot.run(waiting).await {
            Ok(head) => head.map_err(ReceiveError::Send)?,
            Err(_) => return Err(ReceiveError::Elapsed),
        };
        if !head.status.is_informational() {
            return Ok(head);
        }
        interim += 1;
        // One that announces a body (attack H1-12), asks for another protocol, or is one of a flood.
        if !head.keep_alive || head.status == StatusCode::SWITCHING_PROTOCOLS || interim > MAX_INTERIM {
            return Err(ReceiveError::Send(SendError::Framing(http1::HeadError::Bad("unexpected-1xx"))));
        }
        pass_interim(session, request.version, head).await?;
    }
}

/// Passes 100 and 103 on to a client that knows them (RFC 9110 §15.2).
async fn pass_interim(session: &mut Session, version: Version, mut head: ResponseHead) -> Result<(), ReceiveError> {
    if version == Version::HTTP_10 {
        return Ok(());
    }
    let seen = headers::Seen::of(&head.headers);
    headers::strip(&mut head.headers, &seen);
    let out = session.conn.out();
    encode_response_head(out, head.status, None, version, &head.headers, BodyLength::Empty, true, None);
    session.cx.spare.give(head.headers);
    match session.slot.run(session.conn.flush()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(ReceiveError::Send(SendError::ClientGone)),
        Err(_) => Err(ReceiveError::Elapsed),
    }
}

fn write_head(request: &Request, leaf: &Leaf, caller: Option<&Caller>, upstream: &mut Upstream) {
    let out = upstream.conn.out();
    out.clear();
    encode_request_head(out, &request.method, &request.target, request.version, &request.headers, request.body.length);
    append_fields(out, &leaf.fields);
    append_fields(out, &request.fields);
    if leaf.client.params.forward_client_cert
        && let Some(peer) = caller.and_then(Caller::peer)
    {
        append_fields(out, format!("x-forwarded-client-cert: {}\r\n", peer.forwarded()).as_bytes());
    }
}

/// The failure for what went wrong after the head was written; `due` was the limit of the attempt.
fn failed(
    request: &Request,
    service: &PathService,
    leaf: &Leaf,
    upstream: &Upstream,
    error: ReceiveError,
    due: u64,
) -> Failure {
    let (addr, id) = (upstream.endpoint.addr(), &leaf.client.id);
    match error {
        ReceiveError::Elapsed if clock::now() >= request.due => Failure::fatal(request.timed_out()),
        // Nothing is due yet: the slot was, for a peer that stalls.
        ReceiveError::Elapsed if clock::now() < due => stalled(request, upstream),
        ReceiveError::Elapsed => {
            let limit = leaf.client.params.attempt_timeout.unwrap_or_default();
            let text = format!(
                "exceeded {} to {} while waiting for a response for an individual request, excluding retries. Remote \
                 Info: Upstream Address: /{addr}",
                show_duration(limit),
                id.show_bare()
            );
            Failure { error: RouteError::new(Kind::AttemptTimeout, text), retryable: true, requeue: Requeue::No }
        }
        ReceiveError::Send(SendError::Downstream(error)) => Failure::fatal(error),
        ReceiveError::Send(SendError::ClientGone) => {
            Failure::fatal(RouteError::new(Kind::ClientGone, "the client closed the connection"))
        }
        ReceiveError::Send(SendError::Tls(said)) if said.is_refusal() && !upstream.reused => {
            secure::count("client", said.reason);
            leaf.client.stats.creation_failures.record(TLS_CLASS);
            let error = not_connected(addr, service, &leaf.client, &format!("TLS: {said}"));
            Failure { error, retryable: true, requeue: Requeue::Connect }
        }
        ReceiveError::Send(SendError::Tls(said)) => closed(request, leaf, upstream, &said.text),
        ReceiveError::Send(SendError::Closed(reason)) => closed(request, leaf, upstream, &reason),
        ReceiveError::Send(SendError::Framing(reason)) => {
            let text = format!(
                "the response is not legal HTTP: {reason}. Remote Info: Upstream Address: /{addr}, Downstream label: {id}"
            );
            Failure { error: RouteError::new(Kind::UpstreamFraming, text), retryable: true, requeue: Requeue::No }
        }
    }
}

/// The failure of a connection that ended without an answer.
fn closed(request: &Request, leaf: &Leaf, upstream: &Upstream, reason: &str) -> Failure {
    let (addr, id) = (upstream.endpoint.addr(), &leaf.client.id);
    let text = format!("{reason}. Remote Info: Upstream Address: /{addr}, Downstream label: {id}");
    let unanswered = !upstream.conn.has_buffered();
    let safe = unanswered && request.body.can_replay() && headers::is_idempotent(&request.method);
    Failure {
        error: RouteError::new(Kind::UpstreamClosed, text),
        retryable: true,
        requeue: if safe { Requeue::Dispatch { reused: upstream.reused } } else { Requeue::No },
    }
}

/// The failure of a request body that does not move: the upstream takes nothing, or the client gives nothing.
fn stalled(request: &Request, upstream: &Upstream) -> Failure {
    let limit = show_duration(super::relay::STALL);
    if upstream.conn.pending_out() > 0 || request.body.read {
        let text = format!("the upstream took nothing of the request body for {limit}");
        return Failure { error: RouteError::new(Kind::UpstreamClosed, text), retryable: false, requeue: Requeue::No };
    }
    let text = format!("the client sent nothing of the request body for {limit}");
    Failure::fatal(RouteError::new(Kind::BodyTimeout, text))
}

/// When an idle connection to be kept is to be closed.
pub(crate) fn pool_expiry(upstream: &Upstream, params: &ClientParams) -> u64 {
    let now = clock::now();
    let after =
        |from: u64, limit: Option<Duration>| limit.map_or(NEVER, |limit| from.saturating_add(clock::nanos(limit)));
    let idle = after(now, Some(params.pool_idle)).min(after(now, params.session_idle));
    idle.min(after(upstream.created, params.session_life))
}
