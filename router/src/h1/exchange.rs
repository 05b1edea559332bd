//! The path of one request, straight through: context, name, service, attempts, response, record (DESIGN §5).

use super::attempt::{Answer, Failure, bound_in_time, pool_expiry, while_client_waits};
use super::relay::{BUFFERED_BYTES, Relayed, RequestBody, append_fields, relay};
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
        record.responded(StatusCode::OK, true, clock::now());
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
            session.finish(keep).await
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
    /// A response head was there at `now`.
    fn responded(&mut self, status: StatusCode, success: bool, now: u64) {
        let latency = now.saturating_sub(self.started);
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
        if let Some(reason) = error.kind.rejected() {
            metrics::counter!("rejected_total", "reason" => reason).increment(1);
        }
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
pub(crate) const SYNTHETIC: &str = "com.twitter.finagle.service.ResponseClassificationSyntheticException";

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
    target = origin_form(&method, target, &mut headers)?;
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

/// True for a TRACE that may go no further (RFC 9110 §7.6.2).
fn ends_here(head: &RequestHead) -> bool {
    head.method == Method::TRACE && head.headers.get(header::MAX_FORWARDS).is_some_and(|value| value == "0")
}

async fn answer_trace(session: &mut Session, keep: bool, version: Version) -> After {
    let out = session.conn.out();
    let empty = HeaderMap::new();
    encode_response_head(out, StatusCode::OK, None, version, &empty, BodyLength::Length(0), keep, None);
    session.finish(keep).await
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
    let mut pauses = balance::Schedule::new(service.params.backoff);
    let outcome = loop {
        let outcome = attempt_leaf(session, &mut request, service).await;
        if !wants_retry(&request, service, &outcome) {
            break outcome;
        }
        if !service.budget.try_withdraw(clock::now()) {
            service.budget_exhausted.incr();
            break outcome;
        }
        // What failed is let go of before the pause: its connection, its share of the endpoint's load.
        drop(outcome);
        retries += 1;
        service.retries.incr();
        let pause = pauses.advance(&mut || fastrand::u64(..));
        if let Err(error) = wait(session, &request, pause).await {
            break Err(Failure::fatal(error));
        }
    };
    service.retries_per_request.add(retries);
    let (answer, upstream) = outcome.map_err(|failure| (failure.error, request.body.read))?;
    request.body.forget();
    Ok(respond(session, request, service, answer, upstream, record).await)
}

/// Pauses before a retry, within the request's time and as long as the client is there.
async fn wait(session: &mut Session, request: &Request, pause: u64) -> Result<(), RouteError> {
    if pause == 0 {
        return Ok(());
    }
    session.slot.set(clock::now().saturating_add(pause).min(request.due));
    let pausing = session.slot.run(std::future::pending::<()>());
    // The slot being due is what is waited for.
    let _ = while_client_waits(&mut session.conn, request.body.read, pausing).await?;
    if clock::now() >= request.due { Err(request.timed_out()) } else { Ok(()) }
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
    bound_in_time(session, request, service.bound.wait(no_target), text).await
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

/// How the body goes down: without chunks to HTTP/1.0, and never until close to a client that knows chunks, so that it
/// can tell a whole body from a broken one.
fn framing(body: BodyLength, version: Version) -> BodyLength {
    match body {
        BodyLength::UntilClose if version != Version::HTTP_10 => BodyLength::Chunked,
        body => body.for_version(version),
    }
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
    let Answer { mut head, lease, leaf, at } = answer;
    let success = classify::is_success(service.params.classifier, head.status);
    record.responded(head.status, success, at);
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
    let body = if secret { BodyLength::Length(0) } else { framing(head.body, request.version) };
    let expects_more = request.expects_continue && !request.body.read;
    let ends = session.cx.timers.is_draining() || session.is_aged();
    let keep = request.keep_alive && body != BodyLength::UntilClose && !expects_more && !ends;
    let out = session.conn.out();
    let length = head.content_length.filter(|_| head.body == BodyLength::Empty && !secret);
    let reason = head.reason.as_deref();
    encode_response_head(out, head.status, reason, request.version, &head.headers, body, keep, length);
    append_fields(out, &fields);
    session.cx.spare.give(std::mem::take(&mut request.headers));
    session.cx.spare.give(std::mem::take(&mut head.headers));
    session.slot.set(NEVER);
    if secret {
        return session.finish(keep && request.body.read).await;
    }
    let lengths = (head.body, body);
    let ended = relay(&mut session.conn, &mut upstream.conn, &mut request.body, lengths, &session.slot).await;
    session.slot.set(NEVER);
    drop(lease);
    if ended == Relayed::Whole && head.keep_alive {
        let expires = pool_expiry(&upstream, &leaf.client.params);
        session.cx.pool.put(upstream, expires);
    }
    match ended {
        Relayed::Whole if keep => After::Keep,
        Relayed::Whole => After::Linger,
        Relayed::ResponseOnly => After::Linger,
        Relayed::UpstreamBroke => {
            leaf.client.stats.failures.record(Kind::UpstreamClosed.class());
            session.abort_if(body == BodyLength::UntilClose);
            After::Close
        }
        Relayed::ClientGone => After::Close,
    }
}
