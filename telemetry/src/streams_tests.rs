//! Tests of streams: every end once, whatever the order; the names of a router of HTTP/2 in both exporters.

use super::*;
use crate::{GrpcStats, H2Transport, JsonQuery, Metrics, RequestStats};

const MS: u64 = 1_000_000;
const RESET: &str = "com.twitter.finagle.buoyant.h2.Reset$Cancel$";

fn late() -> u64 {
    70 * MS
}

fn json(metrics: &Metrics) -> serde_json::Value {
    serde_json::from_str(&metrics.render_json(&JsonQuery::default()).expect("JSON")).expect("JSON")
}

/// The counters of `request/stream`, `response/stream` and `stream`: (success, failures) of each.
fn ends(metrics: &Metrics) -> [(u64, u64); 3] {
    let shown = json(metrics);
    ["request/stream", "response/stream", "stream"].map(|scope| {
        let count = |name: &str| shown[format!("{scope}/stream_{name}")].as_u64().expect("a counter");
        (count("success"), count("failures"))
    })
}

fn run(metrics: &Metrics) -> StreamRun {
    let mut run = StreamRun::begin(10 * MS, late);
    run.join(Some(&StreamStats::new(&metrics.root())));
    run
}

#[test]
fn a_stream_that_goes_well() {
    let metrics = Metrics::new();
    let mut stream = run(&metrics);
    stream.request_data(4);
    stream.request_data(6);
    stream.request_end(Ok(()), 13 * MS);
    stream.response_head(20 * MS);
    stream.response_data(100);
    assert_eq!(ends(&metrics), [(1, 0), (0, 0), (0, 0)]);
    stream.response_end(Ok(()), 25 * MS);
    drop(stream);
    assert_eq!(ends(&metrics), [(1, 0), (1, 0), (1, 0)]);
    let shown = json(&metrics);
    for (name, wanted) in [
        ("request/stream/stream_duration_ms.sum", 3),
        ("request/stream/data_bytes.sum", 10),
        ("response/stream/stream_duration_ms.sum", 5),
        ("response/stream/data_bytes.sum", 100),
        ("stream/total_latency_ms.sum", 15),
        ("stream/data_bytes.sum", 110),
    ] {
        assert_eq!(shown[name], wanted, "{name}");
        assert_eq!(shown[name.replace(".sum", ".count")], 1, "{name}");
    }
}

#[test]
fn the_response_may_end_first() {
    let metrics = Metrics::new();
    let mut stream = run(&metrics);
    stream.response_head(11 * MS);
    stream.response_end(Ok(()), 12 * MS);
    assert_eq!(ends(&metrics), [(0, 0), (1, 0), (0, 0)]);
    stream.request_end(Ok(()), 30 * MS);
    assert_eq!(ends(&metrics), [(1, 0), (1, 0), (1, 0)]);
    assert_eq!(json(&metrics)["stream/total_latency_ms.max"], 20);
}

/// Telemetry reference section 5: Linkerd 1 counted a failure for the read and for the end of the stream.
#[test]
fn a_failure_is_counted_once() {
    let metrics = Metrics::new();
    let mut stream = run(&metrics);
    stream.request_end(Ok(()), 11 * MS);
    stream.response_head(12 * MS);
    stream.response_data(7);
    for now in [13 * MS, 14 * MS] {
        stream.response_end(Err(RESET), now);
        stream.request_end(Err(RESET), now);
    }
    stream.fail(RESET, 15 * MS);
    drop(stream);
    assert_eq!(ends(&metrics), [(1, 0), (0, 1), (0, 1)]);
    let shown = json(&metrics);
    assert_eq!(shown[format!("response/stream/failures/{RESET}")], 1);
    assert_eq!(shown.get(format!("request/stream/failures/{RESET}")), None);
    assert_eq!((&shown["response/stream/data_bytes.sum"], &shown["stream/data_bytes.sum"]), (&7.into(), &7.into()));
}

#[test]
fn what_is_dropped_was_cancelled() {
    let metrics = Metrics::new();
    drop(run(&metrics));
    assert_eq!(ends(&metrics), [(0, 1), (0, 0), (0, 1)], "no head, no stream of a response");
    let mut stream = run(&metrics);
    stream.request_end(Ok(()), 11 * MS);
    stream.response_head(20 * MS);
    drop(stream);
    assert_eq!(ends(&metrics), [(1, 1), (0, 1), (0, 2)]);
    let mut stream = run(&metrics);
    stream.request_end(Ok(()), 11 * MS);
    drop(stream);
    assert_eq!(ends(&metrics), [(2, 1), (0, 1), (0, 3)]);
    let shown = json(&metrics);
    for side in ["request", "response"] {
        assert_eq!(shown[format!("{side}/stream/failures/{CANCELLED}")], 1, "{side}");
    }
    assert_eq!(shown["response/stream/stream_duration_ms.max"], 50, "by the clock");
    assert_eq!(shown["stream/total_latency_ms.max"], 60);
}

#[test]
fn a_scope_that_joins_late_misses_nothing() {
    let metrics = Metrics::new();
    let (server, service) = (metrics.root().scope("a"), metrics.root().scope("b"));
    let mut stream = StreamRun::begin(0, late);
    stream.join(None);
    stream.join(Some(&StreamStats::new(&server)));
    stream.request_data(5);
    stream.request_end(Ok(()), MS);
    stream.join(Some(&StreamStats::new(&service)));
    stream.join(Some(&StreamStats::new(&metrics.root().scope("c"))));
    stream.response_head(2 * MS);
    stream.response_end(Ok(()), 3 * MS);
    let shown = json(&metrics);
    for scope in ["a", "b"] {
        for name in ["request/stream/stream_success", "response/stream/stream_success", "stream/stream_success"] {
            assert_eq!(shown[format!("{scope}/{name}")], 1, "{scope}/{name}");
        }
        assert_eq!(shown[format!("{scope}/request/stream/data_bytes.sum")], 5);
    }
    assert_eq!(shown["c/request/stream/stream_success"], 0, "two scopes are the most");
}

#[test]
fn without_a_scope_nothing_is_counted() {
    fn never() -> u64 {
        panic!("nobody wants to know the time")
    }
    let mut stream = StreamRun::begin(0, never);
    stream.request_data(u64::MAX);
    stream.request_data(1);
    stream.response_head(1);
    drop(stream);
}

/// What must live while the tree is looked at.
type Handles = (Vec<GrpcStats>, std::sync::Arc<H2Transport>);

/// A server, a service and a client of a router of HTTP/2 after one gRPC call each.
fn tree() -> (Metrics, Handles) {
    let metrics = Metrics::new();
    let router = metrics.root().scope("rt").scope("h2");
    let server = router.scope("server").scope("0.0.0.0/4142");
    let service = router.scope("service").scope("svc/web");
    let client = router.scope("client").scope("#/io.l5d.fs/web");
    let pair = client.scope("service").scope("svc/web");
    for scopes in [[&server, &service], [&client, &pair]] {
        let mut stream = StreamRun::begin(0, late);
        for scope in scopes {
            let requests = RequestStats::of_streams(scope);
            requests.begin();
            requests.responded(3 * MS);
            requests.settle(true);
            stream.join(Some(&StreamStats::new(scope)));
        }
        stream.request_data(5);
        stream.request_end(Ok(()), MS);
        stream.response_head(3 * MS);
        stream.response_data(12);
        stream.response_end(Err(RESET), 5 * MS);
    }
    let grpc: Vec<GrpcStats> = [&service, &client].map(GrpcStats::new).into();
    grpc.iter().for_each(|grpc| grpc.record(14));
    let transport = H2Transport::new(&server);
    transport.open().received_data(5);
    (metrics, (grpc, transport))
}

/// Telemetry reference section 5: these names and no others.
#[test]
fn names_in_json() {
    let (metrics, _handles) = tree();
    let shown = json(&metrics);
    let shown = shown.as_object().expect("an object");
    let below = shown.keys().filter_map(|name| name.strip_prefix("rt/h2/server/0.0.0.0/4142/"));
    let members = ["max", "min", "p50", "p90", "p95", "p99", "p9990", "p9999", "sum", "avg"];
    let mut names: Vec<&str> =
        below.filter(|name| !name.rsplit_once('.').is_some_and(|(_, member)| members.contains(&member))).collect();
    names.sort_unstable();
    let class = format!("response/stream/failures/{RESET}");
    let wanted = [
        "failures",
        "open_streams",
        "request/stream/data_bytes.count",
        "request/stream/stream_duration_ms.count",
        "request/stream/stream_failures",
        "request/stream/stream_success",
        "request_latency_ms.count",
        "requests",
        "response/stream/data_bytes.count",
        &class,
        "response/stream/stream_duration_ms.count",
        "response/stream/stream_failures",
        "response/stream/stream_success",
        "stream/data_bytes.count",
        "stream/local/data/bytes.count",
        "stream/local/data/frames",
        "stream/local/reset",
        "stream/local/trailers",
        "stream/remote/data/bytes.count",
        "stream/remote/data/frames",
        "stream/remote/reset",
        "stream/remote/trailers",
        "stream/stream_failures",
        "stream/stream_success",
        "stream/total_latency_ms.count",
        "success",
    ];
    assert_eq!(names, wanted);
    for (name, wanted) in [
        ("rt/h2/server/0.0.0.0/4142/response/stream/data_bytes.sum", 12),
        ("rt/h2/service/svc/web/requests", 1),
        ("rt/h2/service/svc/web/grpc/status/UNAVAILABLE", 1),
        ("rt/h2/client/#/io.l5d.fs/web/grpc/status/UNAVAILABLE", 1),
        ("rt/h2/client/#/io.l5d.fs/web/stream/total_latency_ms.sum", 5),
        ("rt/h2/client/#/io.l5d.fs/web/service/svc/web/request/stream/stream_duration_ms.sum", 1),
        ("rt/h2/client/#/io.l5d.fs/web/service/svc/web/request_latency_ms.sum", 3),
    ] {
        assert_eq!(shown[name], wanted, "{name}");
    }
}

/// Telemetry reference section 9, its example of a router of HTTP/2 among them.
#[test]
fn names_in_prometheus() {
    let mut text = String::new();
    let (metrics, _handles) = tree();
    metrics.render_prometheus("", &mut text);
    for line in [
        "rt:server:response:stream:data_bytes_sum{rt=\"h2\", server=\"0.0.0.0/4142\"} 12",
        "rt:server:response:stream:data_bytes_count{rt=\"h2\", server=\"0.0.0.0/4142\"} 1",
        "rt:server:requests{rt=\"h2\", server=\"0.0.0.0/4142\"} 1",
        "rt:server:open_streams{rt=\"h2\", server=\"0.0.0.0/4142\"} 0.0",
        "rt:server:stream:remote:data:frames{rt=\"h2\", server=\"0.0.0.0/4142\"} 1",
        "rt:server:stream:stream_failures{rt=\"h2\", server=\"0.0.0.0/4142\"} 1",
        "rt:service:stream:total_latency_ms_sum{rt=\"h2\", service=\"svc/web\"} 5",
        "rt:service:response:stream:failures:com_twitter_finagle_buoyant_h2_Reset_Cancel_{rt=\"h2\", service=\"svc/web\"} 1",
        "rt:service:grpc:status{rt=\"h2\", service=\"svc/web\", grpc_status=\"UNAVAILABLE\"} 1",
        "rt:client:grpc:status{rt=\"h2\", client=\"#/io.l5d.fs/web\", grpc_status=\"UNAVAILABLE\"} 1",
        "rt:client:service:request:stream:stream_success{rt=\"h2\", client=\"#/io.l5d.fs/web\", service=\"svc/web\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "missing {line} in\n{text}");
    }
    assert!(text.contains("# TYPE rt:service:grpc:status counter\n"), "{text}");
    assert!(!text.contains("pending") && !text.contains(":status:2"), "{text}");
}
