//! Tests of the Prometheus text: the sample of telemetry reference section 9.2, escaping, and `promtool`.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::Metrics;

fn text(metrics: &Metrics, prefix: &str) -> String {
    let mut out = String::new();
    metrics.render_prometheus(prefix, &mut out);
    out
}

fn sample() -> Metrics {
    let metrics = Metrics::new();
    let http = metrics.root().scope("rt").scope("http");
    http.gauge("originator", || 1.0).keep();
    let server = http.scope("server").scope("127.0.0.1/4140");
    server.counter("requests").add(118);
    server.counter("failures").add(2);
    server.counter("failures/com.example.Synthetic").add(2);
    server.counter("failures/A/B").add(1);
    server.family("status", |emit| emit("2XX", 116)).keep();
    server.counter("exn/java.io.IOException/deep").add(3);
    server.gauge("pending", || 0.0).keep();
    let stat = server.stat("request_latency_ms");
    [2, 4, 31].into_iter().for_each(|v| stat.add(v));
    server.stat("quiet");
    let client = http.scope("client").scope("#/io.l5d.fs/web");
    client.counter("requests").add(5);
    client.counter("loadbalancer/adds").add(1);
    client.counter("exn/java.io.IOException").add(1);
    let split = client.scope("service").scope("svc/web");
    split.counter("requests").add(4);
    split.counter("failures/some.Class").add(1);
    let service = http.scope("service").scope("svc/web");
    service.counter("retries/total");
    http.scope("bindcache").scope("path").counter("misses").incr();
    metrics.root().scope("namer").scope("#/io.l5d.consul").counter("lookups").add(4);
    metrics.root().gauge("jvm/mem/current/used", || 120_586_000.0).keep();
    metrics
}

#[test]
fn names_labels_and_order_are_those_of_linkerd() {
    let text = text(&sample(), "");
    for line in [
        "rt:originator{rt=\"http\"} 1.0",
        "rt:server:requests{rt=\"http\", server=\"127.0.0.1/4140\"} 118",
        "rt:server:failures{rt=\"http\", server=\"127.0.0.1/4140\"} 2",
        "rt:server:failures{rt=\"http\", server=\"127.0.0.1/4140\", exception=\"com.example.Synthetic\"} 2",
        "rt:server:failures{rt=\"http\", server=\"127.0.0.1/4140\", exception=\"A:B\"} 1",
        "rt:server:status:2XX{rt=\"http\", server=\"127.0.0.1/4140\"} 116",
        "rt:server:exceptions:deep{rt=\"http\", server=\"127.0.0.1/4140\", exception=\"java.io.IOException\"} 3",
        "rt:server:pending{rt=\"http\", server=\"127.0.0.1/4140\"} 0.0",
        "rt:server:request_latency_ms_avg{rt=\"http\", server=\"127.0.0.1/4140\"} 12.333333333333334",
        "rt:client:requests{rt=\"http\", client=\"#/io.l5d.fs/web\"} 5",
        "rt:client:loadbalancer:adds{rt=\"http\", client=\"#/io.l5d.fs/web\"} 1",
        "rt:client:exceptions{rt=\"http\", client=\"#/io.l5d.fs/web\", exception=\"java.io.IOException\"} 1",
        "rt:client:service:requests{rt=\"http\", client=\"#/io.l5d.fs/web\", service=\"svc/web\"} 4",
        "rt:client:service:failures:some_Class{rt=\"http\", client=\"#/io.l5d.fs/web\", service=\"svc/web\"} 1",
        "rt:service:retries:total{rt=\"http\", service=\"svc/web\"} 0",
        "rt:bindcache:path:misses{rt=\"http\"} 1",
        "namer:__io_l5d_consul:lookups 4",
        "jvm:mem:current:used 1.20586E8",
    ] {
        assert!(text.lines().any(|l| l == line), "missing {line} in\n{text}");
    }
    assert!(!text.contains("quiet"), "a stat without values has no series");
}

#[test]
fn a_stat_is_a_summary_and_its_average_a_gauge() {
    let text = text(&sample(), "");
    let labels = "rt=\"http\", server=\"127.0.0.1/4140\"";
    let mut want = format!(
        "# TYPE rt:server:request_latency_ms summary\nrt:server:request_latency_ms_count{{{labels}}} 3\nrt:server:request_latency_ms_sum{{{labels}}} 37\n"
    );
    for (q, v) in
        [("0", 2), ("0.5", 4), ("0.9", 31), ("0.95", 31), ("0.99", 31), ("0.999", 31), ("0.9999", 31), ("1", 31)]
    {
        want.push_str(&format!("rt:server:request_latency_ms{{{labels}, quantile=\"{q}\"}} {v}\n"));
    }
    assert!(text.contains(&want), "{text}");
    assert!(text.contains("# TYPE rt:server:request_latency_ms_avg gauge\n"));
}

#[test]
fn every_type_line_stands_once_before_all_its_series() {
    let metrics = sample();
    metrics.root().scope("rt").scope("h2").scope("server").scope("0.0.0.0/4142").counter("requests").incr();
    let text = text(&metrics, "");
    assert_eq!(text.matches("# TYPE rt:server:requests counter\n").count(), 1);
    let from = text.find("# TYPE rt:server:requests counter\n").unwrap();
    let block: Vec<&str> = text[from..].lines().skip(1).take(2).collect();
    assert!(block.iter().all(|l| l.starts_with("rt:server:requests{")), "{block:?}");
}

#[test]
fn the_prefix_is_in_front_of_every_name_and_made_legal() {
    let text = text(&sample(), "linker-d_");
    assert!(text.contains("linker_d_rt:server:requests{"));
    assert!(text.lines().all(|l| l.starts_with("# TYPE linker_d_") || l.starts_with("linker_d_")));
}

#[test]
fn label_values_are_escaped() {
    let metrics = Metrics::new();
    metrics.root().scope("rt").scope("h").scope("service").scope("a\"b\\c\nd").counter("requests").incr();
    assert!(text(&metrics, "").contains("{rt=\"h\", service=\"a\\\"b\\\\c\\nd\"} 1\n"));
}

#[test]
fn colliding_names_stay_parseable() {
    let metrics = Metrics::new();
    let root = metrics.root();
    root.counter("a-b").add(1);
    root.counter("a.b").add(2);
    root.counter("mix/x-y").add(1);
    root.gauge("mix/x.y", || 1.0).keep();
    root.counter("1st").incr();
    root.stat("lat").add(1);
    root.counter("lat_count").add(7);
    root.counter("lat_avg").add(7);
    root.gauge("inf", || f64::NEG_INFINITY).keep();
    let text = text(&metrics, "");
    assert!(text.contains("# TYPE a_b counter\na_b 3\n"));
    assert!(text.contains("# TYPE _1st counter\n"));
    assert!(text.contains("inf -Inf\n"));
    promtool(&text);
}

#[test]
fn promtool_accepts_it() {
    let metrics = sample();
    metrics.root().scope("rt").scope("h").scope("service").scope("a\"b\\c\nd\té").counter("requests").incr();
    crate::register_process(&metrics);
    promtool(&text(&metrics, ""));
    promtool(&text(&metrics, "linkerd_"));
}

/// Fails on parse errors (exit code 1); complaints about style (exit code 3) are expected, Linkerd's names have colons.
/// Skipped where promtool is not installed.
fn promtool(text: &str) {
    let tool = Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut tool) = tool else { return };
    tool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let out = tool.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&out.stderr);
    assert_ne!(out.status.code(), Some(1), "{complaints}\n{text}");
    assert!(!complaints.contains("error while linting"), "{complaints}\n{text}");
}
