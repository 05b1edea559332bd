//! What a request fails with when something goes wrong after its head was written: kind, text, and whether it may be sent
//! again (data-plane reference §11).
//!
//! Pure but for a counter. Called by `attempt`. Not for: connections that cannot be made (`connect`).

use super::attempt::{Failure, Requeue, UNEXPECTED};
use super::connect::tls_failed;
use super::prepare::{Request, show_duration};
use super::relay::{SendError, is_about_over};
use super::stall::Stalls;
use crate::clock;
use crate::error::{Kind, RouteError};
use crate::headers;
use crate::pool::Upstream;
use crate::proxy_status::ProxyError;
use crate::route::{Leaf, PathService};
use crate::router::Router;
use http1::BodyError;
use std::time::Duration;

/// Why no final head came.
pub(crate) enum ReceiveError {
    Send(SendError),
    Elapsed,
}

/// The failure for what went wrong after the head was written; `due` was the limit of the attempt.
pub(crate) fn failed(
    (router, request, service): (&Router, &Request, &PathService),
    leaf: &Leaf,
    upstream: &Upstream,
    error: ReceiveError,
    (due, stalls): (u64, &Stalls),
) -> Failure {
    let (addr, id) = (upstream.endpoint.addr(), &leaf.client.id);
    match error {
        ReceiveError::Elapsed if clock::now() >= request.due => Failure::fatal(request.timed_out()),
        // Nothing is due yet: the slot was, for a peer that stalls.
        ReceiveError::Elapsed if clock::now() < due => stalled(request, leaf, upstream, stalls),
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
        ReceiveError::Send(SendError::Tls(said)) => {
            let error = tls_failed(addr, service, &leaf.client, &said);
            // The service has not looked at the request; that alone does not bring its body back.
            let again = request.body.can_resend() && !upstream.reused;
            Failure { error, retryable: true, requeue: if again { Requeue::Connect } else { Requeue::No } }
        }
        ReceiveError::Send(SendError::GoneAway(reason)) => {
            let text = format!("{reason}. Remote Info: Upstream Address: /{addr}, Downstream label: {id}");
            let again = request.body.can_resend() && request.interim == 0;
            let requeue = if again { Requeue::Connect } else { Requeue::No };
            Failure { error: RouteError::new(Kind::UpstreamClosed, text).undispatched(), retryable: true, requeue }
        }
        ReceiveError::Send(SendError::Reset(_)) if is_about_over(request.ends) => Failure::fatal(request.timed_out()),
        ReceiveError::Send(SendError::Reset(reason)) => {
            let text = format!(
                "the upstream has reset the stream: {reason} ({}). Remote Info: Upstream Address: /{addr}, Downstream \
                 label: {id}",
                u32::from(reason)
            );
            // Refused is not acted on (RFC 9113 §8.7).
            let again = reason == h2::Reason::REFUSED_STREAM && request.body.can_resend() && request.interim == 0;
            let requeue = if again { Requeue::Dispatch { reused: true } } else { Requeue::No };
            let error = RouteError { reset: Some(reason), ..RouteError::new(Kind::UpstreamClosed, text) };
            Failure { error, retryable: true, requeue }
        }
        ReceiveError::Send(SendError::Closed(reason)) => {
            let text = format!("{reason}. Remote Info: Upstream Address: /{addr}, Downstream label: {id}");
            let unanswered = !upstream.conn.is_answered() && request.interim == 0;
            let safe = unanswered && request.body.can_replay() && headers::is_idempotent(&request.method);
            Failure {
                error: RouteError::new(Kind::UpstreamClosed, text),
                retryable: true,
                requeue: match (unanswered, safe) {
                    (true, true) => Requeue::Dispatch { reused: upstream.reused },
                    (true, false) => Requeue::Unsafe,
                    (false, _) => Requeue::No,
                },
            }
        }
        ReceiveError::Send(error) => unusable(router, request, &error, &format!("/{addr}, Downstream label: {id}")),
    }
}

/// The failure of an answer that cannot be passed on; `from` says whose it is.
fn unusable(router: &Router, request: &Request, error: &SendError, from: &str) -> Failure {
    let end = format!("Remote Info: Upstream Address: {from}");
    let failure = |kind, text: String, cause: Option<ProxyError>| {
        let error = RouteError { cause, ..RouteError::new(kind, text) };
        Failure { error, retryable: kind != Kind::ResponseTooLarge, requeue: Requeue::No }
    };
    match error {
        SendError::Framing(reason) => {
            let limit = router.response_limit_of(reason);
            let (mut text, mut cause) = (format!("the response is not legal HTTP: {reason}"), None);
            if let Some((name, limit)) = limit {
                metrics::counter!("rejected_total", "reason" => name).increment(1);
                text = format!("{text} ({limit})");
                cause = Some(ProxyError::HttpResponseHeaderSectionSize);
            } else if request.upgrade.is_some() && matches!(reason, http1::HeadError::Bad(UNEXPECTED)) {
                cause = Some(ProxyError::HttpUpgradeFailed);
            }
            failure(Kind::UpstreamFraming, format!("{text}. {end}"), cause)
        }
        SendError::Body(BodyError::Truncated | BodyError::Io(_)) => {
            let text = format!("the response broke off after its head. {end}");
            failure(Kind::UpstreamClosed, text, Some(ProxyError::HttpResponseIncomplete))
        }
        SendError::Body(reason) => {
            failure(Kind::UpstreamFraming, format!("the response is not legal HTTP: {reason}. {end}"), None)
        }
        SendError::TooLarge(most) => {
            let kib = most / 1024;
            let text = format!("the response announces a body longer than maxResponseBodyKB allows, {kib} KiB. {end}");
            failure(Kind::ResponseTooLarge, text, None)
        }
        SendError::Downstream(error) => Failure::fatal(error.clone()),
        SendError::ClientGone
        | SendError::Closed(_)
        | SendError::GoneAway(_)
        | SendError::Reset(_)
        | SendError::Tls(_) => Failure::fatal(RouteError::new(Kind::ClientGone, "the client closed the connection")),
    }
}

/// The failure of a peer that does not move: the service takes or sends nothing, or the client gives nothing.
fn stalled(request: &Request, leaf: &Leaf, upstream: &Upstream, stalls: &Stalls) -> Failure {
    let limit = |ns: u64| show_duration(Duration::from_nanos(ns));
    let taken = upstream.conn.is_flushed();
    if taken && !request.body.read {
        let text = format!("the client sent nothing of the request body for {}", limit(stalls.client_gives));
        return Failure::fatal(RouteError::new(Kind::BodyTimeout, text));
    }
    let (what, retryable) = match taken {
        true => (format!("the upstream sent nothing for {}", limit(stalls.service_gives)), true),
        false => (format!("the upstream took nothing of the request body for {}", limit(stalls.service_takes)), false),
    };
    let (addr, id) = (upstream.endpoint.addr(), &leaf.client.id);
    let text = format!("{what}. Remote Info: Upstream Address: /{addr}, Downstream label: {id}");
    Failure { error: RouteError::new(Kind::UpstreamClosed, text), retryable, requeue: Requeue::No }
}
