//! A request before it is sent: the checks of its head, its context, its name, its service.
//!
//! Not for: bodies, attempts, responses. Called once per request by `exchange`.

use super::call::Call;
use super::relay::{RequestBody, is_streamed};
use super::replay::Replay;
use super::upgrade;
use super::{Session, diagnose};
use crate::classify;
use crate::clock;
use crate::config::OverrideRule;
use crate::context::{Context, Deadline, TraceId};
use crate::deadline::Left;
use crate::error::{Kind, RouteError};
use crate::h2::Carried;
use crate::headers::{self, Seen};
use crate::identify::{self, Message, NoName};
use crate::overrides::Admitted;
use crate::route::{Dst, PathService};
use crate::secure;
use crate::server::Permit;
use crate::timer::NEVER;
use crate::worker::Remembered;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Version, header};
use http1::{BodyLength, RequestHead};
use std::sync::Arc;
use std::time::Duration;

/// A request between its head and its end.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) target: Bytes,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: RequestBody,
    /// Raw header lines of the outgoing request that do not depend on the leaf.
    pub(crate) fields: Bytes,
    /// Where those of them begin that are context of ours; they are the last.
    pub(crate) context_at: usize,
    /// What the listener's policy says of the override.
    pub(crate) rule: Option<Arc<OverrideRule>>,
    pub(crate) started: u64,
    /// When all of it must be over, and which limit says so.
    pub(crate) due: u64,
    pub(crate) due_kind: Kind,
    /// What services are told, the limit of an attempt apart.
    pub(crate) deadline: Option<Deadline>,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
    /// What it says of the scheme, or its connection does.
    pub(crate) scheme: Carried,
    /// Its client reads trailers (`te: trailers`).
    pub(crate) wants_trailers: bool,
    /// The trailers that it announces, for services that speak HTTP/2.
    pub(crate) announced: Option<HeaderValue>,
    /// It is a call of gRPC.
    pub(crate) is_grpc: bool,
    /// When the call must be over, response body included; only calls of gRPC say so.
    pub(crate) ends: u64,
    /// The protocols it asks for instead of HTTP (RFC 9110 §7.8).
    pub(crate) upgrade: Option<HeaderValue>,
    /// It asks for what the routers make of it (data-plane reference §17).
    pub(crate) diagnose: bool,
    /// The identifier that named it, counted from 0.
    pub(crate) identifier: usize,
    /// Interim responses that were passed on.
    pub(crate) interim: u32,
    _permit: Option<Permit>,
}

/// Steps 3 to 5: checks, context, name, service.
pub(crate) fn prepare(
    session: &Session,
    (head, scheme): (RequestHead, Carried),
    now: u64,
) -> Result<(Box<Request>, Arc<PathService>), RouteError> {
    let server = &session.cx.server;
    let Some(permit) = server.permit() else {
        return Err(RouteError::new(Kind::Overload, "maxConcurrentRequests is reached"));
    };
    let RequestHead { method, mut target, version, mut headers, body, keep_alive, expect_continue, expect_other } =
        head;
    check_method(&method, &mut headers)?;
    if expect_other {
        return Err(RouteError::new(Kind::ExpectationFailed, "the Expect header asks for something unknown"));
    }
    target = origin_form(&method, target, &mut headers)?;
    headers::check_host(&headers, version).map_err(|text| RouteError::new(Kind::BadRequest, text))?;
    secure::check_host(session.connection.secured.as_deref(), server, &headers)?;
    let seen = Seen::of(&headers);
    let params = &server.params;
    let upgrade = params.upgrades.then(|| upgrade::wanted(&headers, &seen, version, body)).flatten();
    session.upgrading.set(upgrade.is_some());
    check_depth(&headers, &seen, params.max_call_depth)?;
    let admitted = server.gate.admit(&mut headers, &seen, &session.connection.caller)?;
    let trace = admitted.context.trace.map_or_else(TraceId::root, TraceId::child);
    session.request_id.set(trace.request_id());
    check_length(session, body)?;
    let message = Message { method: &method, target: &target, version, headers: &headers, scheme: scheme.name() };
    let found = find_service(session, &message, &admitted)?;
    if found.consume > 0 {
        target = identify::consume(&target, found.consume);
    }
    let service = found.service;
    service.touch(now);
    if !service.dst.is_base() {
        server.stats.dtab_size.add(service.dst.override_len() as u64);
    }
    let diagnose = diagnose::wanted(&method, &headers) && session.trusts_caller();
    let call = Call::of(&mut headers, now);
    let wants_trailers = seen.hop_by_hop && headers::wants_trailers(&headers);
    let announced = if seen.hop_by_hop { headers.remove(header::TRAILER) } else { None };
    headers::strip(&mut headers, &seen);
    let mut fields = own_fields(session, &mut headers, (&seen, version), upgrade.as_ref());
    let context_at = fields.len();
    write_context(&admitted, trace, &mut fields);
    let (due, due_kind) = call.due(due(session, &service, &admitted.context, now)?);
    let body = request_body(session, &service, &method, body);
    let deadline = outgoing_deadline(&admitted.context, params.timeout, service.params.total_timeout);
    let request = Box::new(Request {
        method,
        target,
        version,
        headers,
        body,
        fields: fields.freeze(),
        context_at,
        rule: admitted.rule.map(|(_, rule)| rule),
        started: now,
        due,
        due_kind,
        deadline: Deadline::strictest(deadline, call.deadline()),
        keep_alive: keep_alive && upgrade.is_none(),
        expects_continue: expect_continue,
        scheme,
        wants_trailers,
        announced,
        is_grpc: call.is_grpc,
        ends: call.ends,
        upgrade,
        diagnose,
        identifier: found.identifier,
        interim: 0,
        _permit: permit,
    });
    Ok((request, service))
}

/// A body that is longer than it may be is refused before anything of it is sent on (requirements P8.3).
fn check_length(session: &Session, body: BodyLength) -> Result<(), RouteError> {
    match (body, session.cx.router.params.limits.request_body) {
        (BodyLength::Length(length), Some(most)) if length > most => Err(too_large(most)),
        _ => Ok(()),
    }
}

/// The error of a request body that is longer than `maxRequestBodyKB`.
pub(crate) fn too_large(most: u64) -> RouteError {
    let text = format!("the request body is longer than maxRequestBodyKB allows, {} KiB", most / 1024);
    RouteError::new(Kind::RequestTooLarge, text)
}

/// The line of `addForwardedHeader`. Those of trusted callers stay before it (RFC 7239 §4).
fn write_forwarded(session: &Session, headers: &mut HeaderMap, fields: &mut BytesMut) {
    let Some(labels) = session.labels() else { return };
    if !session.trusts_caller() {
        headers.remove(header::FORWARDED);
    }
    let host = headers.get(header::HOST).map(|host| host.as_bytes());
    labels.write(host, session.connection.scheme, fields);
}

/// When the first of all limits is over, and which one that is.
fn due(session: &Session, service: &PathService, context: &Context, now: u64) -> Result<(u64, Kind), RouteError> {
    let at = |limit: Option<std::time::Duration>| limit.map_or(NEVER, |limit| now.saturating_add(clock::nanos(limit)));
    let (server, total) = (at(session.cx.server.params.timeout), at(service.params.total_timeout));
    let due = if server < total { (server, Kind::ServerTimeout) } else { (total, Kind::TotalTimeout) };
    Ok(match enforced(session, context, now)? {
        Some(deadline) if deadline < due.0 => (deadline, Kind::DeadlineExceeded),
        _ => due,
    })
}

/// The body, with what is kept of it to be sent again.
fn request_body(session: &Session, service: &PathService, method: &Method, body: BodyLength) -> RequestBody {
    let params = &session.cx.router.params;
    // A backend may ask for a retry of anything that Linkerd 1 buffers (`l5d-retryable`).
    let buffered = params.buffered_bytes;
    let replay = !is_streamed(body, buffered)
        || service.params.replay_bytes.is_some()
        || headers::is_idempotent(method)
        || classify::ever_retries(service.params.classifier, method);
    let keep = Replay::new(body, replay, service.params.replay_bytes, buffered);
    let mut body = RequestBody::new(body, keep, (&params.limits, buffered));
    body.count(&session.cx.server.stats.bodies);
    body
}

/// What this router adds to the headers of every request.
fn own_fields(
    session: &Session,
    headers: &mut HeaderMap,
    (seen, version): (&Seen, Version),
    upgrade: Option<&HeaderValue>,
) -> BytesMut {
    let mut fields = BytesMut::with_capacity(192);
    headers::write_via(headers, seen, version, &mut fields);
    write_forwarded(session, headers, &mut fields);
    if let Some(asked) = upgrade {
        upgrade::write(asked.as_bytes(), &mut fields);
    }
    if let Some(name) = &session.cx.server.params.timestamp_header {
        let line = format!("{name}: {}\r\n", clock::wall().as_millis());
        fields.put_slice(line.as_bytes());
    }
    fields
}

/// A request that went through too many routers goes round in circles (data-plane reference §7).
fn check_depth(headers: &HeaderMap, seen: &Seen, most: usize) -> Result<(), RouteError> {
    if seen.via && headers::call_depth(headers) > most {
        let text = format!("Maximum number of calls ({most}) has been exceeded. Please check for proxy loops.");
        return Err(RouteError::new(Kind::CallDepth, text));
    }
    Ok(())
}

/// CONNECT is refused (attack H1-14); TRACE keeps count in Max-Forwards (data-plane reference §6.5).
fn check_method(method: &Method, headers: &mut HeaderMap) -> Result<(), RouteError> {
    if *method == Method::CONNECT {
        return Err(RouteError::new(Kind::MethodNotAllowed, "CONNECT is not served: this router opens no tunnels"));
    }
    if *method != Method::TRACE {
        return Ok(());
    }
    let Some(value) = headers.get_mut(header::MAX_FORWARDS) else { return Ok(()) };
    match value.to_str().ok().and_then(|text| text.parse::<u32>().ok()) {
        None => Err(RouteError::new(Kind::BadRequest, "Invalid value for Max-Forwards header")),
        Some(hops) => {
            *value = HeaderValue::from(hops.saturating_sub(1));
            Ok(())
        }
    }
}

/// The request target in origin form; the authority of an absolute one becomes the Host.
fn origin_form(method: &Method, target: Bytes, headers: &mut HeaderMap) -> Result<Bytes, RouteError> {
    if target.first() == Some(&b'/') || (target == "*" && *method == Method::OPTIONS) {
        return Ok(target);
    }
    let absolute = identify::absolute_form(&target).map_err(|text| RouteError::new(Kind::IdentifierThrew, text))?;
    let Some((authority, rest)) = absolute else {
        return Err(RouteError::new(Kind::BadRequest, "the request target is neither a path nor an absolute URI"));
    };
    if headers.get_all(header::HOST).iter().count() > 1 {
        return Err(RouteError::new(Kind::BadRequest, "the request has more than one Host header"));
    }
    let host = HeaderValue::from_maybe_shared(authority)
        .map_err(|_| RouteError::new(Kind::BadRequest, "the authority of the request target is not legal"))?;
    headers.insert(header::HOST, host);
    if rest.first() == Some(&b'/') {
        return Ok(rest);
    }
    let mut target = BytesMut::with_capacity(rest.len() + 1);
    target.put_u8(b'/');
    target.put_slice(&rest);
    Ok(target.freeze())
}

/// Steps 4 and 5. What was identified before is found without identifying again.
fn find_service(session: &Session, message: &Message<'_>, admitted: &Admitted) -> Result<Remembered, RouteError> {
    let cx = &session.cx;
    let identifiers = &cx.router.params.identifiers;
    let mut key = cx.key.borrow_mut();
    key.clear();
    identify::memo_key(identifiers, message, &mut key);
    admitted.memo_key(&mut key);
    let plain = !admitted.is_override();
    if let Some(found) = cx.recall(&key, plain) {
        return Ok(found);
    }
    let local = admitted.context.override_dtab().map_err(|text| RouteError::new(Kind::BadOverride, text))?;
    let identified = identify::identify(identifiers, &cx.router.params.dst_prefix, message)
        .map_err(|reason| no_name(session, message, reason))?;
    let dst = Dst { path: identified.dst, local, sets: admitted.sets.clone() };
    let caller = &session.connection.caller;
    cx.server.gate.check_table(caller, admitted, &dst)?;
    let (service, kept) = cx.router.service(&dst, caller.ip);
    let found = Remembered { service, consume: identified.consume, identifier: identified.identifier };
    if kept {
        cx.remember(&key, &found, plain);
    }
    Ok(found)
}

fn no_name(session: &Session, message: &Message<'_>, reason: NoName) -> RouteError {
    let request = format!(
        "Unknown destination: Request(\"{} {}\", from /{})",
        message.method,
        String::from_utf8_lossy(message.target),
        session.connection.peer
    );
    match reason {
        NoName::Unidentified(text) | NoName::Failure(text) => {
            RouteError::new(Kind::Unidentified, format!("{request} / {text}"))
        }
        NoName::Threw(text, true) => RouteError::new(Kind::IdentifierThrew, text),
        NoName::Threw(text, false) => RouteError::new(Kind::Unidentified, format!("{request} / {text}")),
    }
}

/// When the deadline of the request is over, if this server enforces it. It is measured in any case. Behind
/// `clearContext` there is none: strangers set no limits here.
fn enforced(session: &Session, context: &Context, now: u64) -> Result<Option<u64>, RouteError> {
    let Some(deadline) = &context.deadline else { return Ok(None) };
    let server = &session.cx.server;
    match server.stats.deadlines.measure(deadline) {
        _ if !server.params.enforce_deadlines => Ok(None),
        Left::Nanos(left) => Ok(Some(now.saturating_add(left))),
        Left::Nothing => {
            server.stats.deadlines.reject();
            let text = "the deadline in l5d-ctx-deadline was over when the request came in";
            Err(RouteError::new(Kind::DeadlineExceeded, text).undispatched())
        }
    }
}

/// The context of the outgoing request (data-plane reference §5.2); the override is among the leaf's lines, the deadline
/// is written per attempt.
fn write_context(admitted: &Admitted, trace: TraceId, fields: &mut BytesMut) {
    if !admitted.carried.is_empty() {
        fields.put_slice(format!("l5d-ctx-override: {}\r\n", admitted.carried).as_bytes());
    }
    trace.write(fields);
}

/// The deadline of the outgoing request: the strictest of the incoming one and of our limits (data-plane reference §12).
fn outgoing_deadline(context: &Context, server: Option<Duration>, service: Option<Duration>) -> Option<Deadline> {
    let own = match (server, service) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    Deadline::strictest(context.deadline, own.map(|limit| Deadline::after(clock::nanos(limit))))
}

impl Request {
    /// The error of the limit that `due` stands for (data-plane reference §8.2).
    pub(crate) fn timed_out(&self) -> RouteError {
        let limit = show_duration(std::time::Duration::from_millis((self.due - self.started) / 1_000_000));
        let what = match self.due_kind {
            Kind::ServerTimeout => "a response".to_owned(),
            Kind::DeadlineExceeded => "a response: the deadline in l5d-ctx-deadline is over".to_owned(),
            _ => "a response for the request, including retries (if applicable)".to_owned(),
        };
        let text = format!("exceeded {limit} to unspecified while waiting for {what}. Remote Info: Not Available");
        RouteError::new(self.due_kind, text)
    }
}

/// As Finagle prints durations: `10.seconds`, `250.milliseconds`.
pub(crate) fn show_duration(duration: std::time::Duration) -> String {
    let ms = duration.as_millis();
    if ms.is_multiple_of(1000) { format!("{}.seconds", ms / 1000) } else { format!("{ms}.milliseconds") }
}
