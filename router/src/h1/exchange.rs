//! The path of one request, straight through: context, name, service, attempts, response, record (DESIGN §5).

use super::attempt::{Answer, Failure, pool_expiry};
use super::relay::{Relayed, RequestBody, append_fields, relay};
use super::{After, Session, attempt};
use crate::classify;
use crate::clock;
use crate::config::Classifier;
use crate::context::{Context, Deadline, TraceId, remove_l5d};
use crate::error::{Kind, RouteError};
use crate::headers::{self, Seen};
use crate::identify::{self, Message, NoName};
use crate::pool::Upstream;
use crate::respond;
use crate::route::{Bound, Dst, Leaf, PathService};
use crate::server::Permit;
use crate::timer::NEVER;
use crate::worker::Remembered;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use http1::{BodyLength, RequestHead, ResponseHead, encode_response_head};
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
    keep_alive: bool,
    expects_continue: bool,
    _permit: Option<Permit>,
}

/// Serves one request. The counters are right whatever happens, cancellation included.
pub(crate) async fn run(session: &mut Session, head: RequestHead) -> After {
    let cx = session.cx.clone();
    let mut record = Record { session_stats: &cx.server.stats, service: None, started: clock::now(), done: false };
    record.session_stats.requests.begin();
    let (version, head_only, keep_alive) = (head.version, head.method == Method::HEAD, head.keep_alive);
    if ends_here(&head) {
        record.responded(StatusCode::OK, true);
        return answer_trace(session, keep_alive && head.body.is_empty(), version).await;
    }
    let bodiless = head.body.is_empty();
    let outcome = match prepare(session, head, record.started) {
        Ok((request, service)) => {
            service.stats.begin();
            record.service = Some(service.clone());
            serve(session, request, &service, &mut record).await
        }
        Err(error) => Err((error, bodiless)),
    };
    session.slot.set(NEVER);
    match outcome {
        Ok(after) => after,
        Err((error, body_read)) => {
            record.failed(&error);
            if error.kind == Kind::ClientGone {
                return After::Close;
            }
            let keep = keep_alive && body_read;
            let clear = cx.server.params.clear_context;
            let response = respond::response(&error, cx.router.error_limits, clear);
            session.write_error(&response, response.status, version, head_only, keep);
            match session.conn.flush().await {
                Ok(()) if keep => After::Keep,
                Ok(()) => After::Linger,
                Err(_) => After::Close,
            }
        }
    }
}

/// The record of a request: whatever ends it, its counters are settled.
pub(crate) struct Record<'a> {
    session_stats: &'a crate::server::ServerStats,
    service: Option<Arc<PathService>>,
    started: u64,
    done: bool,
}

impl Record<'_> {
    /// A response was produced.
    fn responded(&mut self, status: StatusCode, success: bool) {
        let latency = clock::now().saturating_sub(self.started);
        self.session_stats.status.record(status.as_u16(), latency / 1_000_000);
        self.session_stats.requests.finish(success, latency);
        if let Some(service) = &self.service {
            service.stats.finish(success, latency);
            if !success {
                service.failures.record(SYNTHETIC);
            }
        }
        if !success {
            self.session_stats.failures.record(SYNTHETIC);
        }
        self.done = true;
    }

    fn failed(&mut self, error: &RouteError) {
        metrics::counter!("route_errors_total", "origin" => error.kind.origin().label()).increment(1);
        tracing::debug!(kind = ?error.kind, service = ?self.service.as_ref().map(|s| &s.dst.path), "{error}");
        let latency = clock::now().saturating_sub(self.started);
        let status = respond::status(error.kind);
        self.session_stats.status.record(status.as_u16(), latency / 1_000_000);
        self.session_stats.requests.finish(false, latency);
        match &self.service {
            Some(service) => {
                service.stats.finish(false, latency);
                service.failures.record(error.kind.class());
                self.session_stats.failures.record(SYNTHETIC);
            }
            None => self.session_stats.failures.record(error.kind.class()),
        }
        if error.kind == Kind::Overload {
            self.session_stats.nacks.incr();
        }
        self.done = true;
    }
}

/// How Linkerd 1 names a failure that is a 5xx response (telemetry reference §4.1).
const SYNTHETIC: &str = "com.twitter.finagle.service.ResponseClassificationSyntheticException";

impl Drop for Record<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.failed(&RouteError::new(Kind::ClientGone, "the connection ended"));
        }
    }
}

/// Steps 3 to 5: checks, context, name, service.
fn prepare(session: &Session, head: RequestHead, now: u64) -> Result<(Request, Arc<PathService>), RouteError> {
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
    target = origin_form(target, &mut headers)?;
    headers::check_host(&headers, version).map_err(|text| RouteError::new(Kind::BadRequest, text))?;
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
    let (due, due_kind) = due(now, params.timeout, service.params.total_timeout);
    let request = Request {
        method,
        target,
        version,
        headers,
        body: RequestBody::new(body),
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

/// True for a TRACE that may go no further (RFC 9110 §7.6.2).
fn ends_here(head: &RequestHead) -> bool {
    head.method == Method::TRACE && head.headers.get(header::MAX_FORWARDS).is_some_and(|value| value == "0")
}

async fn answer_trace(session: &mut Session, keep: bool, version: Version) -> After {
    let out = session.conn.out();
    let empty = HeaderMap::new();
    encode_response_head(out, StatusCode::OK, None, version, &empty, BodyLength::Length(0), keep, None);
    match session.conn.flush().await {
        Ok(()) if keep => After::Keep,
        Ok(()) => After::Linger,
        Err(_) => After::Close,
    }
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
fn origin_form(target: Bytes, headers: &mut HeaderMap) -> Result<Bytes, RouteError> {
    if target.first() == Some(&b'/') {
        return Ok(target);
    }
    let absolute = identify::absolute_form(&target).map_err(|text| RouteError::new(Kind::IdentifierThrew, text))?;
    let Some((authority, rest)) = absolute else {
        if target.as_ref() == b"*" {
            return Ok(target);
        }
        return Err(RouteError::new(Kind::BadRequest, "the request target is neither a path nor an absolute URI"));
    };
    let host = HeaderValue::from_maybe_shared(authority)
        .map_err(|_| RouteError::new(Kind::BadRequest, "the authority of the request target is not legal"))?;
    headers.insert(header::HOST, host);
    Ok(rest)
}

/// Steps 4 and 5. What was identified before is found without identifying again.
fn find_service(session: &Session, message: &Message<'_>, context: &Context) -> Result<Remembered, RouteError> {
    let cx = &session.cx;
    let identifiers = &cx.router.params.identifiers;
    let mut key = Vec::with_capacity(128);
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
        cx.remember(&key, found.clone());
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

/// Steps 6 to 11: attempts until one response is to be passed on. An error says whether the request body was read to
/// its end.
async fn serve(
    session: &mut Session,
    mut request: Request,
    service: &Arc<PathService>,
    record: &mut Record<'_>,
) -> Result<After, (RouteError, bool)> {
    service.budget.deposit(request.started);
    let mut retries = 0;
    let backoff = service.params.backoff;
    let (answer, upstream) = loop {
        let outcome = attempt_leaf(session, &mut request, service).await;
        let retry = wants_retry(&request, service, &outcome);
        if !retry {
            service.retries_per_request.add(retries);
            break outcome.map_err(|failure| (failure.error, request.body.read))?;
        }
        if !service.budget.try_withdraw(clock::now()) {
            service.budget_exhausted.incr();
            service.retries_per_request.add(retries);
            break outcome.map_err(|failure| (failure.error, request.body.read))?;
        }
        retries += 1;
        service.retries.incr();
        wait_backoff(session, &request, &backoff, retries).await.map_err(|error| (error, request.body.read))?;
    };
    request.body.forget();
    Ok(respond(session, request, service, answer, upstream, record).await)
}

/// Sleeps for the configured back-off, within the request's time.
async fn wait_backoff(
    session: &Session,
    request: &Request,
    backoff: &balance::Backoff,
    retries: u64,
) -> Result<(), RouteError> {
    let delay = match *backoff {
        balance::Backoff::Constant { ns } => ns,
        balance::Backoff::Jittered { min_ns, max_ns } => {
            let spread = min_ns.saturating_mul(3_u64.saturating_pow(retries.min(30) as u32)).min(max_ns);
            min_ns + fastrand::u64(0..=spread.saturating_sub(min_ns))
        }
        balance::Backoff::EqualJittered { start_ns, max_ns } => {
            let half = start_ns.saturating_mul(1 << retries.min(30)).min(max_ns) / 2;
            half + fastrand::u64(0..=half)
        }
    };
    if delay == 0 {
        return Ok(());
    }
    let until = clock::now().saturating_add(delay);
    session.slot.set(until.min(request.due));
    // The slot being due is what is waited for.
    let _ = session.slot.run(std::future::pending::<()>()).await;
    if clock::now() >= request.due { Err(request.timed_out(session)) } else { Ok(()) }
}

impl Request {
    /// The error of the limit that `due` stands for (data-plane reference §8.2).
    pub(crate) fn timed_out(&self, session: &Session) -> RouteError {
        let spent = clock::now().saturating_sub(self.started) / 1_000_000;
        let text = match self.due_kind {
            Kind::ServerTimeout => {
                format!("exceeded {spent}.milliseconds to {} while waiting for a response", session.cx.server.label)
            }
            _ => format!(
                "exceeded {spent}.milliseconds to unspecified while waiting for a response for the request, including \
                 retries (if applicable). Remote Info: Not Available"
            ),
        };
        RouteError::new(self.due_kind, text)
    }
}

/// One attempt on a freshly chosen leaf of the bound list.
async fn attempt_leaf(
    session: &mut Session,
    request: &mut Request,
    service: &Arc<PathService>,
) -> Result<(Answer, Upstream), Failure> {
    let leaf = choose_leaf(session, request, service).await.map_err(Failure::fatal)?;
    attempt::run(session, request, service, &leaf).await
}

/// Step 6 and the first half of 7: the bound list, waited for once, and a leaf by weight.
async fn choose_leaf(
    session: &Session,
    request: &Request,
    service: &Arc<PathService>,
) -> Result<Arc<Leaf>, RouteError> {
    let no_target = |bound: &Bound| match bound {
        Bound::Pending => None,
        Bound::Failed(reason) => Some(Err(RouteError::new(Kind::BindingFailed, reason.to_string()).undispatched())),
        Bound::Ok(choices) => Some(choices.choose(fastrand::f64()).cloned().ok_or_else(|| {
            session.cx.router.no_hosts(&service.dst, "reason: the name is negative, failed or empty after binding")
        })),
    };
    if let Some(answer) = no_target(&service.bound.load()) {
        return answer;
    }
    let limit = session.cx.router.params.binding_timeout;
    let due = request.started.saturating_add(clock::nanos(limit)).min(request.due);
    session.slot.set(due);
    match session.slot.run(service.bound.wait(no_target)).await {
        Ok(answer) => answer,
        Err(_) if clock::now() >= request.due => Err(request.timed_out(session)),
        Err(_) => {
            let text =
                format!("Exceeded {} binding timeout while resolving name: {}", show_duration(limit), service.dst.path);
            Err(RouteError::new(Kind::BindingTimeout, text).undispatched())
        }
    }
}

/// As Finagle prints durations: `10.seconds`, `250.milliseconds`.
pub(crate) fn show_duration(duration: std::time::Duration) -> String {
    let ms = duration.as_millis();
    if ms.is_multiple_of(1000) { format!("{}.seconds", ms / 1000) } else { format!("{ms}.milliseconds") }
}

/// Whether the classifier of the service calls the outcome retryable (data-plane reference §11.1).
fn wants_retry(request: &Request, service: &PathService, outcome: &Result<(Answer, Upstream), Failure>) -> bool {
    if request.body.is_streamed() || !request.body.can_replay() {
        return false;
    }
    let class = service.params.classifier;
    let by_method = classify::may_retry(class, &request.method);
    match outcome {
        Ok((answer, _)) if !answer.head.status.is_server_error() => false,
        Ok((answer, _)) if class != Classifier::AllSuccessful && says_retryable(&answer.head) => true,
        Ok(_) => by_method,
        Err(failure) => by_method && failure.retryable,
    }
}

fn says_retryable(head: &ResponseHead) -> bool {
    head.headers.get("l5d-retryable").is_some_and(|value| value.as_bytes() == b"true")
}

/// Steps 10 to 12: classify, pass the response on, settle the connections.
async fn respond(
    session: &mut Session,
    mut request: Request,
    service: &Arc<PathService>,
    answer: Answer,
    mut upstream: Upstream,
    record: &mut Record<'_>,
) -> After {
    let Answer { mut head, lease, leaf } = answer;
    let success = classify::is_success(service.params.classifier, head.status);
    record.responded(head.status, success);
    let clear = session.cx.server.params.clear_context;
    // An error text of a router further in is for the operator, not for who is out there.
    let secret = clear && head.headers.contains_key("l5d-err");
    let seen = Seen::of(&head.headers);
    headers::strip(&mut head.headers, &seen);
    let mut fields = BytesMut::with_capacity(96);
    headers::write_via(&mut head.headers, &seen, head.version, &mut fields);
    if clear {
        remove_l5d(&mut head.headers);
    } else {
        fields.put_slice(if success { b"l5d-success-class: 1.0\r\n" } else { b"l5d-success-class: 0.0\r\n" });
    }
    let body = if secret { BodyLength::Length(0) } else { head.body.for_version(request.version) };
    let expects_more = request.expects_continue && !request.body.read;
    let keep =
        request.keep_alive && body != BodyLength::UntilClose && !expects_more && !session.cx.timers.is_draining();
    let out = session.conn.out();
    let length = head.content_length.filter(|_| head.body == BodyLength::Empty && !secret);
    let reason = head.reason.as_deref();
    encode_response_head(out, head.status, reason, request.version, &head.headers, body, keep, length);
    append_fields(out, &fields);
    session.cx.spare.give(std::mem::take(&mut request.headers));
    session.cx.spare.give(std::mem::take(&mut head.headers));
    session.slot.set(NEVER);
    if secret {
        let flushed = session.conn.flush().await.is_ok();
        return if flushed && keep && request.body.read { After::Keep } else { After::Linger };
    }
    let ended = relay(&mut session.conn, &mut upstream.conn, &mut request.body, head.body, body).await;
    drop(lease);
    if ended == Relayed::Whole && head.keep_alive {
        let expires = pool_expiry(&upstream, &leaf.client.params);
        session.cx.pool.put(upstream, expires);
    }
    match ended {
        Relayed::Whole if keep => After::Keep,
        Relayed::Whole => After::Linger,
        Relayed::ResponseOnly => After::Linger,
        Relayed::UpstreamBroke | Relayed::ClientGone => After::Close,
    }
}
