//! The path of one request, straight through: prepare, attempts, answer, record.

use super::answer::respond;
use super::attempt::{self, Answer, Failure, bound_in_time, while_client_waits};
use super::discard::discard;
use super::notes::Notes;
use super::prepare::{Request, prepare};
use super::record::Record;
use super::{After, Session, diagnose, tunnel, why};
use crate::classify::{self, Verdict};
use crate::clock;
use crate::error::{Kind, RouteError};
use crate::grpc;
use crate::h2::Carried;
use crate::pool::Upstream;
use crate::respond::{self, ErrorResponse};
use crate::retry::{Attempts, Next};
use crate::route::{Bound, Leaf, PathService};
use crate::timer::NEVER;
use h2::Reason;
use http::{Method, StatusCode, Version, header};
use http1::{RequestHead, ResponseHead};
use std::sync::Arc;

/// Serves one request; `scheme` is what it says itself, over HTTP/2. The counters are right whatever happens, cancellation
/// included.
pub(crate) async fn run(session: &mut Session, head: RequestHead, scheme: Option<Carried>) -> After {
    let cx = session.cx.clone();
    let mut record = Record::begin(&cx.server.stats, Notes::begin(session, &head));
    let (version, head_only, keep_alive) = (head.version, head.method == Method::HEAD, head.keep_alive);
    let ends = ends_here(&head);
    if ends && !(diagnose::wanted(&head.method, &head.headers) && session.trusts_caller()) {
        record.answered_here(StatusCode::OK);
        return Box::pin(answer_trace(session, keep_alive && head.body.is_empty(), version, "")).await;
    }
    let bodiless = head.body.is_empty();
    session.request_id.set(0);
    session.upgrading.set(false);
    let is_grpc = head.headers.get(header::CONTENT_TYPE).is_some_and(grpc::is_grpc);
    session.is_grpc.set(is_grpc && session.conn.is_h2());
    let scheme = scheme.unwrap_or_else(|| Carried::of(session.connection.scheme));
    let outcome = match prepare(session, (head, scheme), record.started()) {
        Ok((request, service)) if ends => {
            let text = diagnose::block(&cx.router, &service, request.started, None);
            record.answered_here(StatusCode::OK);
            Ok(Box::pin(answer_trace(session, request.keep_alive && bodiless, version, &text)).await)
        }
        Ok((request, service)) => {
            record.named(&service);
            serve(session, request, &service, &mut record).await
        }
        Err(error) => Err((error, bodiless)),
    };
    session.slot.set(NEVER);
    match outcome {
        Ok(after) => after,
        Err((error, body_read)) => {
            let is_grpc = session.is_grpc.get();
            let status = respond::status(error.kind, cx.router.error_limits);
            // Of a call, `grpc-status` says what happened.
            record.failed(&error, if is_grpc { StatusCode::OK } else { status });
            if error.kind == Kind::ClientGone {
                return After::Close;
            }
            if let Some(reason) = error.reset
                && session.conn.is_h2()
            {
                if session.is_grpc.get() {
                    record.grpc_ended(u32::from(grpc::status_of_reset(reason.into())));
                }
                session.abort(reason);
                return After::Close;
            }
            let keep = keep_alive && body_read && !session.upgrading.get() && !session.is_last();
            let told = session.told();
            let limits = cx.router.error_limits;
            let response = if session.is_grpc.get() {
                respond::grpc(&error, limits, told)
            } else {
                respond::response(&error, limits, told)
            };
            if session.is_grpc.get() {
                record.grpc_ended(u32::from(grpc::status_of(error.kind)));
            }
            record.wrote(response.body.len(), head_only);
            session.write_error(&response, response.status, version, head_only, keep);
            session.finish(keep).await
        }
    }
}

/// True for a TRACE that may go no further (RFC 9110 §7.6.2).
fn ends_here(head: &RequestHead) -> bool {
    head.method == Method::TRACE && head.headers.get(header::MAX_FORWARDS).is_some_and(|value| value == "0")
}

async fn answer_trace(session: &mut Session, keep: bool, version: Version, text: &str) -> After {
    let lines: &[u8] =
        if text.is_empty() { b"" } else { b"content-type: text/plain\r\nx-content-type-options: nosniff\r\n" };
    let response = ErrorResponse { status: StatusCode::OK, fields: lines.into(), body: text.as_bytes().to_vec() };
    session.write_error(&response, StatusCode::OK, version, false, keep);
    session.finish(keep).await
}

/// Steps 6 to 11: attempts until one response is to be passed on. An error says whether the request body was read to
/// its end.
async fn serve(
    session: &mut Session,
    mut request: Box<Request>,
    service: &Arc<PathService>,
    record: &mut Record<'_>,
) -> Result<After, (RouteError, bool)> {
    let mut attempts = Attempts::begin(&service.params, &service.budget, request.started);
    let outcome = loop {
        let outcome = attempt_leaf(session, &mut request, service, record).await;
        if !wants_retry(&request, service, &outcome) {
            break outcome;
        }
        let pause = match attempts.next(clock::now(), &mut || fastrand::u64(..)) {
            Next::After(pause) => pause,
            Next::NoBudget => {
                service.budget_exhausted.incr();
                break outcome;
            }
            Next::NoMore => {
                service.attempts_exhausted.incr();
                break outcome;
            }
        };
        // What failed is let go of before the pause: its connection, its share of the endpoint's load.
        if let Ok((answer, upstream)) = outcome {
            discard(session, &request, answer, upstream);
        }
        service.retries.incr();
        if let Err(error) = Box::pin(wait(session, &request, pause)).await {
            break Err(Failure::fatal(error));
        }
    };
    service.retries_per_request.add(u64::from(attempts.retries()));
    if let Some(notes) = &mut record.notes {
        notes.retries = u64::from(attempts.retries());
    }
    record.bytes.0 = request.body.received;
    let (mut answer, mut upstream) = match outcome {
        Ok(answered) => answered,
        Err(failure) => return Err((why::explained(session, &request, service, failure.error), request.body.read)),
    };
    request.body.forget();
    if answer.head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Box::pin(tunnel::run(session, request, answer, upstream, record)).await);
    }
    if request.diagnose {
        answer = Box::pin(diagnose::traced(session, &request, service, answer, &mut upstream)).await;
    }
    Ok(respond(session, request, service, answer, upstream, record).await)
}

/// Pauses before a retry, within the request's time and as long as the client is there.
async fn wait(session: &mut Session, request: &Request, pause: u64) -> Result<(), RouteError> {
    if pause == 0 && clock::now() < request.due {
        return Ok(());
    }
    session.slot.set(clock::now().saturating_add(pause).min(request.due));
    let pausing = session.slot.run(std::future::pending::<()>());
    // The slot being due is what is waited for.
    let _ = while_client_waits(&mut session.conn, request.body.read, pausing).await?;
    if clock::now() >= request.due { Err(request.timed_out()) } else { Ok(()) }
}

/// One attempt on a freshly chosen leaf of the bound list.
async fn attempt_leaf(
    session: &mut Session,
    request: &mut Request,
    service: &Arc<PathService>,
    record: &mut Record<'_>,
) -> Result<(Box<Answer>, Upstream), Failure> {
    let leaf = choose_leaf(session, request, service).await.map_err(Failure::fatal)?;
    let target = (&leaf.client.id, leaf.choice);
    let gate = &session.cx.server.gate;
    gate.check_leaf(&session.connection.caller, request.rule.as_deref(), &service.dst, target)
        .map_err(Failure::fatal)?;
    if let Some(notes) = &mut record.notes {
        notes.leaf = Some(leaf.clone());
    }
    attempt::run(session, request, service, &leaf).await
}

/// Step 6 and the first half of 7: the bound list, waited for once, and a leaf by weight.
async fn choose_leaf(
    session: &mut Session,
    request: &Request,
    service: &Arc<PathService>,
) -> Result<Arc<Leaf>, RouteError> {
    let cx = session.cx.clone();
    let no_target = |bound: &Bound| match bound {
        Bound::Pending => None,
        Bound::Failed(reason) => Some(Err(RouteError::new(Kind::BindingFailed, reason.to_string()).undispatched())),
        Bound::Ok(choices) => Some(choices.choose(fastrand::f64()).cloned().ok_or_else(|| {
            cx.router.no_hosts(&service.dst, "reason: the name is negative, failed or empty after binding")
        })),
    };
    let known = no_target(&service.bound.load());
    if let Some(answer) = known {
        return answer;
    }
    let text = |limit| format!("Exceeded {limit} binding timeout while resolving name: {}", service.dst.path);
    Box::pin(bound_in_time(session, request, service.bound.wait(no_target), text)).await
}

/// Whether the classifier of the service calls the outcome retryable (data-plane reference §11.1).
fn wants_retry(request: &Request, service: &PathService, outcome: &Result<(Box<Answer>, Upstream), Failure>) -> bool {
    let wants = is_retryable(request, service, outcome);
    if wants && !request.body.may_retry() {
        if let Some(buffers) = &service.buffers {
            buffers.request_too_long.incr();
        }
        return false;
    }
    wants
}

fn is_retryable(request: &Request, service: &PathService, outcome: &Result<(Box<Answer>, Upstream), Failure>) -> bool {
    let class = service.params.classifier;
    match outcome {
        Ok((answer, _)) => match answer.verdict.known() {
            Some(Verdict::Failure { retryable }) => retryable || says_retryable(&answer.head),
            Some(Verdict::Success) | None => false,
        },
        Err(failure) => {
            let refused = failure.error.reset == Some(Reason::REFUSED_STREAM);
            failure.retryable && classify::broken(class, &request.method, refused).is_retryable()
        }
    }
}

/// True for a failure of which the head says that nothing acted on the request: a status of the server's, or a response of
/// gRPC that is all trailers.
fn says_retryable(head: &ResponseHead) -> bool {
    let fails = head.status.is_server_error() || head.headers.contains_key(&grpc::STATUS);
    fails && head.headers.get("l5d-retryable").is_some_and(|value| value.as_bytes() == b"true")
}
