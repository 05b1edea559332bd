//! Tests of the names that each family of routers shows (telemetry reference sections 4 and 5).

use super::*;
use crate::client::ClientStats;
use crate::server::ServerStats;
use serde_json::Value;
use telemetry::{Failures, JsonQuery, Metrics, StreamRun};

/// What no router of HTTP/2 shows.
const HTTP_ONLY: [&str; 9] = [
    "pending",
    "status/200",
    "status/2XX",
    "time/2XX.count",
    "nacks",
    "request_payload_bytes.count",
    "response_payload_bytes.count",
    "http/stream/response/opened",
    "retries/attempts_exhausted",
];

/// What only these show.
const H2_ONLY: [&str; 12] = [
    "request/stream/stream_duration_ms.count",
    "request/stream/stream_success",
    "request/stream/stream_failures",
    "request/stream/data_bytes.count",
    "response/stream/stream_success",
    "stream/total_latency_ms.count",
    "stream/stream_success",
    "stream/stream_failures",
    "stream/data_bytes.count",
    "open_streams",
    "stream/local/data/frames",
    "stream/remote/reset",
];

/// The same in both.
const BOTH: [&str; 4] = ["requests", "success", "failures", "request_latency_ms.count"];

fn shown(metrics: &Metrics) -> Value {
    serde_json::from_str(&metrics.render_json(&JsonQuery::default()).expect("JSON")).expect("JSON")
}

fn has(shown: &Value, scope: &str, names: &[&str], wanted: bool) {
    for name in names {
        assert_eq!(shown.get(format!("{scope}/{name}")).is_some(), wanted, "{scope}/{name} in {shown:#}");
    }
}

/// One request, as the request path counts it whatever the family is.
fn serve(stats: &ServerStats, client: &ClientStats) {
    let mut run = StreamRun::begin(0, || 0);
    run.join(stats.streams.as_ref());
    run.join(client.streams.as_ref());
    for requests in [&stats.requests, &client.requests] {
        requests.begin();
        requests.finish(true, 0);
    }
    run.request_end(Ok(()), 0);
    run.response_head(0);
    run.response_end(Ok(()), 0);
    stats.nacks.incr();
    for (status, bodies) in [(&stats.status, &stats.bodies), (&client.status, &client.bodies)] {
        status.record(200, 1);
        bodies.request_bytes.add(1);
        bodies.response_bytes.add(1);
        bodies.open_response().end();
    }
}

#[test]
fn an_h2_router_has_its_names_and_not_those_of_http() {
    let metrics = Metrics::new();
    let (server, client) = (metrics.root().scope("server"), metrics.root().scope("client"));
    let stats = (ServerStats::new(&server, Family::H2), ClientStats::new(&client, Family::H2));
    serve(&stats.0, &stats.1);
    let shown = shown(&metrics);
    for scope in ["server", "client"] {
        has(&shown, scope, &BOTH, true);
        has(&shown, scope, &H2_ONLY, true);
        has(&shown, scope, &HTTP_ONLY, false);
        assert_eq!((&shown[format!("{scope}/requests")], &shown[format!("{scope}/success")]), (&1.into(), &1.into()));
        assert_eq!(shown[format!("{scope}/stream/stream_success")], 1);
    }
    has(&shown, "client", &["connects", "connects/fail", "connects/dead", "connect_latency_ms.count"], true);
    has(&shown, "client", &["failure_detector/ping", "grpc/status/OK"], false);
}

#[test]
fn an_http_router_keeps_its_names_and_shows_others_when_they_happen() {
    let metrics = Metrics::new();
    let (server, client) = (metrics.root().scope("server"), metrics.root().scope("client"));
    let stats = (ServerStats::new(&server, Family::Http), ClientStats::new(&client, Family::Http));
    serve(&stats.0, &stats.1);
    let before = shown(&metrics);
    for scope in ["server", "client"] {
        has(&before, scope, &BOTH, true);
        has(&before, scope, &H2_ONLY, false);
        has(&before, scope, &["pending", "status/200", "time/2XX.count", "http/stream/response/opened"], true);
    }
    has(&before, "server", &["nacks"], true);
    let _stream = stats.0.h2.get().open();
    stats.1.grpc.get().record(0);
    stats.1.pings.get().ping.incr();
    stats.1.h2_connects.get().fail.incr();
    let after = shown(&metrics);
    assert_eq!(after["server/open_streams"], 1.0);
    for name in ["client/grpc/status/OK", "client/failure_detector/ping", "client/connects/fail"] {
        assert_eq!(after[name], 1, "{name}");
    }
    has(&after, "client", &["open_streams"], false);
}

/// Telemetry reference section 5, service retries.
#[test]
fn a_service_of_an_h2_router() {
    let metrics = Metrics::new();
    let scope = metrics.root().scope("service");
    let buffers = BufferStats::new(Family::H2, &scope);
    let (requests, failures) = (Family::H2.requests(&scope), Failures::new(&scope));
    requests.begin();
    requests.finish(false, 0);
    failures.record("A");
    Family::H2.attempts_exhausted(&scope).incr();
    let shown = shown(&metrics);
    let names = ["request_stream_too_long", "response_stream_too_long", "classification_timeout", "backoffs_exhausted"];
    has(&shown, "service/retries", &names, true);
    has(&shown, "service", &["pending", "retries/attempts_exhausted"], false);
    assert_eq!((&shown["service/failures"], &shown["service/failures/A"]), (&1.into(), &1.into()));
    assert!(buffers.is_some() && BufferStats::new(Family::Http, &scope).is_none());
}
