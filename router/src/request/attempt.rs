//! Sending a request once, or again when it is known that nothing acted on it.
//!
//! A connection that cannot be made, or that dies before the first byte of an answer, leads to another endpoint of the
//! same client at once: a requeue (data-plane reference §11.4). What the answer says is for the caller to judge.

use super::acquire::acquire;
use super::begun::Begun;
use super::call;
use super::egress;
use super::fault::{ReceiveError, failed};
use super::lease::{Dispatch, Lease, Unsettled, random};
use super::prepare::{Request, show_duration};
use super::record::SYNTHETIC;
use super::relay::{SendError, is_about_over};
use super::stall::Stalls;
use super::upgrade;
use super::{Down, Session};
use crate::classify::{self, Verdict};
use crate::client::{Client, ReplicaState};
use crate::clock;
use crate::config::ClientParams;
use crate::context::{Deadline, remove_l5d};
use crate::error::{Kind, RouteError};
use crate::headers;
use crate::pool::{Expiry, Upstream};
use crate::proxy_status::ProxyError;
use crate::route::{Leaf, PathService};
use crate::secure;
use crate::timer::NEVER;
use bytes::BytesMut;
use http::{HeaderMap, StatusCode, Version};
use http1::ResponseHead;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use telemetry::StreamRun;

/// Endpoints tried for one connection, without spending budget.
const MAX_CONNECTS: u32 = 25;
/// Requeues of a request that was sent and not answered by a single byte; each spends budget. A fresh connection that
/// dies this way may have died of the request, so it counts for all of them.
const MAX_REQUEUES: u32 = 3;
/// Interim responses passed on for one request (attack H1-12, flood of 1xx).
const MAX_INTERIM: u32 = 16;
/// What is wrong with a 1xx that nobody asked for.
pub(crate) const UNEXPECTED: &str = "unexpected-1xx";

/// A final response head, and what to settle when its body is done.
pub(crate) struct Answer {
    pub(crate) head: ResponseHead,
    pub(crate) body: Begun,
    pub(crate) lease: Lease,
    pub(crate) leaf: Arc<Leaf>,
    /// When the head was there.
    pub(crate) at: u64,
    /// What the classifier says; or what is to be settled when the end of the body tells.
    pub(crate) verdict: Judged,
    /// What becomes of its stream, where that is counted.
    pub(crate) run: StreamRun,
}

/// What is known of a response with its head.
pub(crate) enum Judged {
    /// The verdict; the attempt is settled.
    Now(Verdict),
    /// Only the trailers tell.
    AtEnd(Unsettled),
}

impl Judged {
    /// The verdict, if it is known.
    pub(crate) fn known(&self) -> Option<Verdict> {
        match self {
            Judged::Now(verdict) => Some(*verdict),
            Judged::AtEnd(_) => None,
        }
    }
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
    /// Sent, not answered by a single byte, and not to be sent twice.
    Unsafe,
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

/// Sends the request to an endpoint of `leaf`, and to others as long as nothing can have acted on it.
pub(crate) async fn run(
    session: &mut Session,
    request: &mut Request,
    service: &PathService,
    leaf: &Arc<Leaf>,
) -> Result<(Box<Answer>, Upstream), Failure> {
    let (mut connects, mut requeues) = (0, 0);
    let mut requeued = Requeued { client: &leaf.client, times: 0 };
    let mut acquire_due = None;
    loop {
        let mut lease = pick(session, request, service, leaf).await.map_err(Failure::fatal)?;
        if leaf.client.params.fail_fast && lease.endpoint().is_refused(lease.began()) {
            return Err(failed_fast(service, &leaf.client, lease.endpoint().addr()));
        }
        let failure = match once(session, request, service, leaf, &mut lease).await {
            Ok(Answered { head, body, upstream, at, verdict, run }) => {
                if classify::is_success(service.params.classifier, head.status) {
                    leaf.client.requeue_budget.deposit(at);
                }
                let leaf = leaf.clone();
                return Ok((Box::new(Answer { head, body, lease, leaf, at, verdict, run }), upstream));
            }
            Err(failure) => failure,
        };
        drop(lease);
        let again = match failure.requeue {
            Requeue::No => false,
            Requeue::Unsafe => {
                leaf.client.stats.cannot_retry.incr();
                false
            }
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
                if !allowed {
                    leaf.client.stats.request_limit.incr();
                }
                allowed && may_spend(&leaf.client)
            }
        };
        if !again {
            return Err(failure);
        }
        leaf.client.stats.requeues.incr();
        requeued.times += 1;
    }
}

/// The requeues of one attempt, counted whatever ends it (`retries/requeues_per_request`).
struct Requeued<'a> {
    client: &'a Client,
    times: u64,
}

impl Drop for Requeued<'_> {
    fn drop(&mut self) {
        self.client.stats.requeues_per_request.add(self.times);
    }
}

fn unavailable(error: RouteError) -> RouteError {
    error.because(ProxyError::DestinationUnavailable)
}

/// The failure of a request for which only an address that refused its last connection is left (`failFast: true`;
/// data-plane reference §10).
fn failed_fast(service: &PathService, client: &Client, addr: std::net::SocketAddr) -> Failure {
    client.stats.creation_failures.record("com.twitter.finagle.FailedFastException");
    let text = format!(
        "Endpoint {addr} is marked down: the last connection to it failed a moment ago (failFast), and no other address \
         is open.\n\nservice name: {}\nclient name: {}",
        service.dst.path, client.id
    );
    let error = RouteError::new(Kind::ConnectFailed, text).undispatched();
    Failure { error, retryable: true, requeue: Requeue::No }
}

fn has_open_endpoint(client: &Client) -> bool {
    let state = client.replicas.load();
    let open = matches!(&**state, ReplicaState::Bound(replicas) if replicas.counts(clock::now()).open > 0);
    if !open {
        client.stats.not_open.incr();
    }
    open
}

fn may_spend(client: &Client) -> bool {
    let spent = client.requeue_budget.try_withdraw(clock::now());
    if !spent {
        client.stats.budget_exhausted.incr();
    }
    spent
}

/// A lease on an endpoint by balance; waits for the first addresses at most as long as the binding timeout allows.
async fn pick(
    session: &mut Session,
    request: &Request,
    service: &PathService,
    leaf: &Leaf,
) -> Result<Lease, RouteError> {
    let cx = session.cx.clone();
    let client = &leaf.client;
    let router = &cx.router;
    let no_hosts =
        |why: &str| Err(router.no_hosts(&service.dst, &format!("client name: {}\nreason: {why}", client.id)));
    let choose = |state: &ReplicaState| match state {
        ReplicaState::Pending => None,
        ReplicaState::Failed(reason) => {
            Some(Err(RouteError::new(Kind::BindingFailed, reason.to_string()).undispatched()))
        }
        ReplicaState::Neg => Some(no_hosts("discovery says that this cluster does not exist")),
        ReplicaState::Bound(replicas) => match replicas.pick(clock::now(), random) {
            None => Some(no_hosts("its address set is empty").map_err(unavailable)),
            Some(pick) => {
                if pick.max_effort_exhausted {
                    client.stats.max_effort_exhausted.incr();
                }
                if pick.busy_class_skipped {
                    client.stats.busy_weight_classes.incr();
                }
                Some(Ok(Lease::new(pick.lease)))
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
            Box::pin(bound_in_time(session, request, client.replicas.wait(choose), text)).await
        }
    }?;
    // Whatever comes of the address, a new connection or one that is there: it is the one that is used.
    let (target, reserved) = ((&client.id, leaf.choice), |address| router.is_reserved(address));
    let address = picked.endpoint().addr();
    cx.server.gate.check_address(&session.connection.caller, &service.dst, target, address, reserved)?;
    if router.is_own_listener(address) {
        let text = format!(
            "The name {} leads back to this router's own listener {} (client {}). Please check the dtab for a loop.",
            service.dst.path,
            picked.endpoint().addr(),
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
    conn: &mut Down,
    body_read: bool,
    waiting: F,
) -> Result<F::Output, RouteError> {
    let mut waiting = std::pin::pin!(waiting);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = waiting.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        if conn.poll_hangup(cx, body_read).is_ready() {
            return Poll::Ready(Err(RouteError::new(Kind::ClientGone, "the client closed the connection")));
        }
        Poll::Pending
    })
    .await
}

/// What one attempt on one endpoint came to.
struct Answered {
    head: ResponseHead,
    body: Begun,
    upstream: Upstream,
    at: u64,
    verdict: Judged,
    run: StreamRun,
}

/// One attempt on one endpoint.
async fn once(
    session: &mut Session,
    request: &mut Request,
    service: &PathService,
    leaf: &Arc<Leaf>,
    lease: &mut Lease,
) -> Result<Answered, Failure> {
    let client = &leaf.client;
    let (mut upstream, started) = acquire(session, request, service, client, lease).await?;
    write_head(request, leaf, &mut upstream, session);
    request.body.begin(&mut upstream.conn).map_err(Failure::fatal)?;
    request.body.count(&client.stats.bodies);
    let mut dispatch = Dispatch::new(leaf, started);
    let mut run = StreamRun::begin(started, clock::now);
    run.join(client.stats.streams.as_ref());
    run.join(leaf.streams.as_ref());
    let attempt_due = client.params.attempt_timeout.map_or(NEVER, |limit| started + clock::nanos(limit));
    let due = attempt_due.min(request.due);
    let stalls = Stalls::new(&session.cx.server.params, &client.params);
    session.slot.set(due);
    let outcome = receive(session, request, &mut upstream, (due, &stalls)).await;
    match outcome {
        Ok((head, mut body)) => {
            let now = clock::now();
            run.response_head(now);
            let early = classify::early(service.params.classifier, &request.method, head.status, &head.headers);
            let verdict = match early {
                Some(verdict) => Some(verdict),
                None => Box::pin(judge(session, request, service, &mut upstream, (&head, &mut body, due))).await,
            };
            let Some(verdict) = verdict else {
                client.stats.status.record(head.status.as_u16(), now.saturating_sub(started) / 1_000_000);
                let verdict = Judged::AtEnd(dispatch.defer(leaf));
                return Ok(Answered { head, body, upstream, at: now, verdict, run });
            };
            let success = verdict.is_success();
            lease.judge(success, now);
            let ms = dispatch.finish(success, now);
            client.stats.status.record(head.status.as_u16(), ms);
            if !success {
                client.stats.failures.record(SYNTHETIC);
                leaf.failures.record(SYNTHETIC);
            }
            Ok(Answered { head, body, upstream, at: now, verdict: Judged::Now(verdict), run })
        }
        Err(error) => {
            // Going away in order is no failure.
            let leaves = matches!(error, ReceiveError::Send(SendError::GoneAway(_)));
            let failure = failed((&session.cx.router, request, service), leaf, &upstream, error, (due, &stalls));
            let upstreams_fault =
                matches!(failure.error.kind, Kind::UpstreamClosed | Kind::UpstreamFraming | Kind::AttemptTimeout);
            // Of a service that waits for a slow client, a limit that is over says nothing.
            let clients =
                failure.error.kind == Kind::AttemptTimeout && !request.body.read && upstream.conn.is_flushed();
            if failure.error.kind == Kind::ClientGone
                && let Some(reason) = session.conn.gone()
            {
                upstream.conn.reset(reason);
            }
            if leaves {
                // Nothing is known of the endpoint but that.
            } else if upstreams_fault && !clients {
                lease.judge(false, clock::now());
            } else if failure.error.kind == Kind::ConnectFailed {
                lease.connect_failed();
            }
            let now = clock::now();
            run.fail(failure.error.kind.class(), now);
            let ms = dispatch.finish(false, now);
            client.stats.status.error(ms);
            client.stats.failures.record(failure.error.kind.class());
            leaf.failures.record(failure.error.kind.class());
            Err(failure)
        }
    }
}

/// The verdict on a response whose head has none and of which nothing was passed on; None when only its end tells, and that is not there. It is
/// waited for only if `classificationTimeoutMs` says so and the request could be sent again.
async fn judge(
    session: &Session,
    request: &Request,
    service: &PathService,
    upstream: &mut Upstream,
    (head, body, due): (&ResponseHead, &mut Begun, u64),
) -> Option<Verdict> {
    let params = &service.params;
    if let Some(limit) = params.classification_timeout
        && request.body.may_retry()
        && classify::ever_retries(params.classifier, &request.method)
    {
        session.slot.set(clock::now().saturating_add(clock::nanos(limit)).min(due));
        // Whatever comes of it, what is there by then is looked at.
        let waited = session.slot.run(body.first(&mut upstream.conn)).await;
        if let (Some(buffers), None) = (&service.buffers, body.trailers_alone()) {
            if waited.is_err() { buffers.timeout.incr() } else { buffers.response_too_long.incr() }
        }
    }
    let trailers = body.trailers_alone()?;
    Some(classify::late(params.classifier, &request.method, head.status, trailers))
}

/// Waits for the final response head; interim ones are passed on.
async fn receive(
    session: &mut Session,
    request: &mut Request,
    upstream: &mut Upstream,
    (due, stalls): (u64, &Stalls),
) -> Result<(ResponseHead, Begun), ReceiveError> {
    loop {
        // The codec of HTTP/2 has maps of its own.
        let mut recycled = if upstream.conn.is_h2() { HeaderMap::new() } else { session.cx.spare.take() };
        let expected = (&session.cx.router.response_limits, &request.method, &mut recycled);
        let (down, up) = (&mut session.conn, &mut upstream.conn);
        let waiting = request.body.exchange(down, up, expected, (&session.slot, due, stalls));
        let head = match session.slot.run(waiting).await {
            Ok(head) => head.map_err(ReceiveError::Send)?,
            Err(_) => return Err(ReceiveError::Elapsed),
        };
        if head.status == StatusCode::GATEWAY_TIMEOUT && is_about_over(request.ends) {
            // A hop further in counts the same deadline, and cannot say so as gRPC does.
            return Err(ReceiveError::Send(SendError::Reset(h2::Reason::CANCEL)));
        }
        if !head.status.is_informational() || grants(request, &head) {
            let limits = &session.cx.router.params.limits;
            let body = Begun::read(&mut upstream.conn, &head, limits).await.map_err(ReceiveError::Send)?;
            // The server closes after a request of HTTP/1.0, whether it says so or not (data-plane reference §6.9).
            let keep_alive = head.keep_alive && request.version != Version::HTTP_10;
            return Ok((ResponseHead { keep_alive, ..head }, body));
        }
        request.interim += 1;
        // One that announces a body (attack H1-12), asks for another protocol, or is one of a flood.
        if !head.keep_alive || head.status == StatusCode::SWITCHING_PROTOCOLS || request.interim > MAX_INTERIM {
            return Err(ReceiveError::Send(SendError::Framing(http1::HeadError::Bad(UNEXPECTED))));
        }
        Box::pin(pass_interim(session, request.version, head)).await?;
    }
}

/// True for an answer 101 to a request that asked for it and has been sent as a whole.
fn grants(request: &Request, head: &ResponseHead) -> bool {
    head.status == StatusCode::SWITCHING_PROTOCOLS
        && head.keep_alive
        && request.body.read
        && request.upgrade.as_ref().is_some_and(|asked| upgrade::granted(asked, &head.headers))
}

/// Passes 100 and 103 on to a client that knows them (RFC 9110 §15.2).
async fn pass_interim(session: &mut Session, version: Version, mut head: ResponseHead) -> Result<(), ReceiveError> {
    if version == Version::HTTP_10 {
        return Ok(());
    }
    let seen = headers::Seen::of(&head.headers);
    headers::strip(&mut head.headers, &seen);
    if !session.trusts_caller() {
        remove_l5d(&mut head.headers);
    }
    session.conn.write_interim(head.status, version, &mut head.headers);
    session.cx.spare.give(head.headers);
    match session.slot.run(session.conn.flush()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(ReceiveError::Send(SendError::ClientGone)),
        Err(_) => Err(ReceiveError::Elapsed),
    }
}

fn write_head(request: &Request, leaf: &Leaf, upstream: &mut Upstream, session: &Session) {
    let params = &leaf.client.params;
    if params.egress {
        let headers = egress::stripped(&request.headers, session.cx.server.gate.baggage_key());
        // What is ours stays inside: names, context, deadline (attack O11).
        let mut lines = BytesMut::from(&request.fields[..request.context_at]);
        call::write_timeout(request.ends, &mut lines);
        return upstream.conn.write_head(request, Some(headers), None, &[&lines.freeze()]);
    }
    let mut lines = BytesMut::new();
    secure::tell_caller(session.connection.secured.as_deref(), params, &mut lines);
    let attempt = params.attempt_timeout.map(|limit| Deadline::after(clock::nanos(limit)));
    if let Some(deadline) = Deadline::strictest(request.deadline, attempt) {
        deadline.write(&mut lines);
    }
    call::write_timeout(request.ends, &mut lines);
    if let Some(announced) = &request.announced
        && (upstream.conn.is_h2() || request.version == Version::HTTP_2)
    {
        headers::write_announced(announced, &mut lines);
    }
    upstream.conn.write_head(request, None, Some(leaf), &[&request.fields, &lines.freeze()]);
}

/// When an idle connection to be kept is to be closed; `announced` is what the service says about that itself. A fifth
/// before then, so that no request meets the close (requirement P15.1).
pub(crate) fn pool_expiry(upstream: &Upstream, params: &ClientParams, announced: Option<Duration>) -> Expiry {
    let now = clock::now();
    let after =
        |from: u64, limit: Option<Duration>| limit.map_or(NEVER, |limit| from.saturating_add(clock::nanos(limit)));
    let session = after(now, params.session_idle).min(after(now, params.socket.read_timeout));
    let session = session.min(after(now, announced.map(|limit| limit * 4 / 5)));
    Expiry {
        unused: after(now, Some(params.pool_idle)),
        session: session.min(after(upstream.created, params.session_life)),
    }
}
