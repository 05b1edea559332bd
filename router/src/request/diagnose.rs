//! `TRACE` with `l5d-add-context: true`: each router appends what it made of the request (data-plane reference §17).
//!
//! For callers that are trusted only: the text shows names and addresses. Called by `exchange`. Not for:
//! `Max-Forwards`, which `prepare` counts.

use super::Session;
use super::attempt::Answer;
use super::begun::Begun;
use super::prepare::Request;
use super::why::way_to;
use crate::clock;
use crate::pool::Upstream;
use crate::route::{Leaf, PathService};
use crate::router::Router;
use crate::timer::NEVER;
use http::{HeaderMap, Method, StatusCode};
use http1::{BodyFrame, BodyLength, ResponseHead};
use std::fmt::Write as _;
use std::future::poll_fn;

/// A body up to this size is passed on before the text; a larger one is replaced by what its head said.
const MAX_BODY: usize = 64 * 1024;

/// True for a request that asks for the text.
pub(crate) fn wanted(method: &Method, headers: &HeaderMap) -> bool {
    let asks = |value: &[u8]| [&b"1"[..], b"t", b"true"].iter().any(|yes| value.eq_ignore_ascii_case(yes));
    *method == Method::TRACE && headers.get("l5d-add-context").is_some_and(|value| asks(value.as_bytes()))
}

/// The text of this router; `asked` is the leaf and the address that answered, unless this router is the last.
pub(crate) fn block(
    router: &Router,
    service: &PathService,
    started: u64,
    asked: Option<(&Leaf, std::net::SocketAddr)>,
) -> String {
    let ms = clock::now().saturating_sub(started) / 1_000_000;
    let label = &router.params.label;
    let mut text = format!("--- Router: {label} ---\nrequest duration: {ms} ms\nservice name: {}\n", service.dst.path);
    if let Some((leaf, addr)) = asked {
        let all: Vec<String> = leaf.client.addresses().iter().take(20).map(ToString::to_string).collect();
        // Writing to a String does not fail.
        let _ = writeln!(text, "client name: {}", leaf.client.id);
        let _ = writeln!(text, "addresses: [{}]\nselected address: {addr}", all.join(", "));
    }
    text.push_str("dtab resolution:\n");
    text.push_str(&way_to(router, service, asked.map(|(leaf, _)| &leaf.client.id)));
    text
}

/// `answer` with the text of this router after its body.
pub(crate) async fn traced(
    session: &Session,
    request: &Request,
    service: &PathService,
    mut answer: Box<Answer>,
    upstream: &mut Upstream,
) -> Box<Answer> {
    if matches!(answer.head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        // These have no body, so there is nowhere to say it.
        return answer;
    }
    let (mut bytes, whole) = body(upstream, &answer.head, answer.body, session).await;
    let asked = Some((&*answer.leaf, upstream.endpoint.addr()));
    bytes.extend_from_slice(block(&session.cx.router, service, request.started, asked).as_bytes());
    answer.head.keep_alive &= whole;
    answer.head.body = BodyLength::Length(bytes.len() as u64);
    answer.body = Begun::of(bytes.into());
    answer
}

/// The whole body of an answer, or a note in its place; false when the connection cannot be used again.
async fn body(upstream: &mut Upstream, head: &ResponseHead, mut begun: Begun, session: &Session) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let slot = &session.slot;
    slot.set(clock::now().saturating_add(clock::nanos(session.cx.server.params.stall_timeout)));
    let reading = async {
        while bytes.len() <= MAX_BODY {
            match poll_fn(|cx| begun.poll_frame(&mut upstream.conn, cx)).await {
                Ok(Some(BodyFrame::Data(chunk))) => bytes.extend_from_slice(&chunk),
                Ok(Some(BodyFrame::Trailers(_)) | None) => return true,
                Err(_) => return false,
            }
        }
        false
    };
    let whole = slot.run(reading).await.unwrap_or(false);
    slot.set(NEVER);
    if whole {
        if bytes.last().is_some_and(|last| *last != b'\n') {
            bytes.push(b'\n');
        }
        return (bytes, true);
    }
    let mut note = format!("status: {}\n", head.status);
    for (name, value) in &head.headers {
        // Writing to a String does not fail.
        let _ = writeln!(note, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    note.push_str("(the body is left out: it is longer than 64 KiB, or did not end)\n");
    (note.into_bytes(), false)
}
