//! A request before it is sent: the checks of its head, its context, its name, its service (DESIGN §5, steps 3 to 5).
//!
//! Not for: bodies, attempts, responses. Called once per request by `exchange`.

use super::Session;
use super::relay::{BUFFERED_BYTES, RequestBody};
use crate::classify;
use crate::clock;
use crate::context::{Context, Deadline, TraceId};
use crate::error::{Kind, RouteError};
use crate::headers::{self, Seen};
use crate::identify::{self, Message, NoName};
use crate::route::{Dst, PathService};
use crate::secure;
use crate::server::Permit;
use crate::timer::NEVER;
use crate::worker::Remembered;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Version, header};
use http1::{BodyLength, RequestHead};
use std::sync::Arc;

/// A request between its head and its end.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) target: Bytes,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: RequestBody,
    /// Raw header lines of the outgoing request that do not depend on the leaf.
    pub(crate) fields: BytesMut,
    pub(crate) started: u64,
    /// When all of it must be over, and which limit says so.
    pub(crate) due: u64,
    pub(crate) due_kind: Kind,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
    _permit: Option<Permit>,
}

/// Steps 3 to 5: checks, context, name, service.
pub(crate) fn prepare(
    session: &Session,
    head: RequestHead,
    now: u64,
) -> Result<(Request, Arc<PathService>), RouteError> {
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
    secure::check_host(session.caller.as_deref(), server, &headers)?;
    let seen = Seen::of(&headers);
    let params = &server.params;
    if seen.via && headers::call_depth(&headers) > params.max_call_depth {
        let text = format!(
            "Maximum number of calls ({}) has been exceeded. Please check for proxy loops.",
            params.max_call_depth
        );
        return Err(RouteError::new(Kind::CallDepth, text));
    }
    let context = Context::take(&mut headers, &seen, params.clear_context);
    let message = Message { method: &method, target: &target, version, headers: &headers };
    let found = find_service(session, &message, &context)?;
    if found.consume > 0 {
        target = identify::consume(&target, found.consume);
    }
    let service = found.service;
    service.touch(now);
    if !service.dst.local.is_empty() {
        server.stats.dtab_size.add(service.dst.local.dentries().len() as u64);
    }
    headers::strip(&mut headers, &seen);
    let mut fields = BytesMut::with_capacity(192);
    headers::write_via(&mut headers, &seen, version, &mut fields);
    write_context(&context, &service, &mut fields);
    if let Some(name) = &params.timestamp_header {
        let line = format!("{name}: {}\r\n", clock::wall().as_millis());
        fields.put_slice(line.as_bytes());
    }
    let class = service.params.classifier;
    // A backend may ask for a retry of anything that Linkerd 1 buffers (`l5d-retryable`).
    let small = matches!(body, BodyLength::Length(0..=BUFFERED_BYTES));
    let replay = small || headers::is_idempotent(&method) || classify::may_retry(class, &method);
    let (due, due_kind) = due(now, params.timeout, service.params.total_timeout);
    let request = Request {
        method,
        target,
        version,
        headers,
        body: RequestBody::new(body, replay),
        fields,
        started: now,
        due,
        due_kind,
        keep_alive,
        expects_continue: expect_continue,
        _permit: permit,
    };
    Ok((request, service))
}

fn due(now: u64, server: Option<std::time::Duration>, service: Option<std::time::Duration>) -> (u64, Kind) {
    let at = |limit: Option<std::time::Duration>| limit.map_or(NEVER, |limit| now.saturating_add(clock::nanos(limit)));
    let (server, service) = (at(server), at(service));
    if server < service { (server, Kind::ServerTimeout) } else { (service, Kind::TotalTimeout) }
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
fn find_service(session: &Session, message: &Message<'_>, context: &Context) -> Result<Remembered, RouteError> {
    let cx = &session.cx;
    let identifiers = &cx.router.params.identifiers;
    let mut key = cx.key.borrow_mut();
    key.clear();
    identify::memo_key(identifiers, message, &mut key);
    for value in &context.raw_override {
        key.extend_from_slice(value.as_bytes());
        key.push(b'\n');
    }
    if let Some(found) = cx.recall(&key) {
        return Ok(found);
    }
    let local = context.override_dtab().map_err(|text| RouteError::new(Kind::BadOverride, text))?;
    let identified = identify::identify(identifiers, &cx.router.params.dst_prefix, message)
        .map_err(|reason| no_name(session, message, reason))?;
    let (service, kept) = cx.router.service(&Dst { path: identified.dst, local });
    let found = Remembered { service, consume: identified.consume };
    if kept {
        cx.remember(&key, &found);
    }
    Ok(found)
}

fn no_name(session: &Session, message: &Message<'_>, reason: NoName) -> RouteError {
    let request = format!(
        "Unknown destination: Request(\"{} {}\", from /{})",
        message.method,
        String::from_utf8_lossy(message.target),
        session.peer
    );
    match reason {
        NoName::Unidentified(text) | NoName::Failure(text) => {
            RouteError::new(Kind::Unidentified, format!("{request} / {text}"))
        }
        NoName::Threw(text, true) => RouteError::new(Kind::IdentifierThrew, text),
        NoName::Threw(text, false) => RouteError::new(Kind::Unidentified, format!("{request} / {text}")),
    }
}

/// The context of the outgoing request (data-plane reference §5.2); the override is among the leaf's lines.
fn write_context(context: &Context, service: &PathService, fields: &mut BytesMut) {
    let own = service.params.total_timeout.map(|limit| Deadline::after(clock::nanos(limit)));
    if let Some(deadline) = Deadline::strictest(context.deadline, own) {
        deadline.write(fields);
    }
    context.trace.map_or_else(TraceId::root, TraceId::child).write(fields);
}

impl Request {
    /// The error of the limit that `due` stands for (data-plane reference §8.2).
    pub(crate) fn timed_out(&self) -> RouteError {
        let limit = show_duration(std::time::Duration::from_millis((self.due - self.started) / 1_000_000));
        let what = match self.due_kind {
            Kind::ServerTimeout => "a response".to_owned(),
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
