//! Metrics of the process itself.
//!
//! What it is for: the `jvm/…` aliases that Linkerd dashboards read and the `process_*` names every Prometheus knows
//! (telemetry reference section 21). What it is not: a system monitor. Values come from `/proc/self` at read time and are
//! 0 where that does not exist. Called by: the binaries, once, at start.

use std::fmt::Write;
use std::fs;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::Metrics;
use crate::number::decimal;

/// Clock ticks per second in `/proc`: a constant of Linux's interface to user space.
const TICKS_PER_SECOND: f64 = 100.0;

/// Registers the process metrics; call once per tree.
///
/// In the tree, as gauges: `jvm/uptime` and `jvm/start_time` (milliseconds; since registration, and since 1970),
/// `jvm/num_cpus`, `jvm/mem/current/used` (resident bytes), `jvm/thread/count`, `jvm/fd_count`. On the Prometheus page
/// only, without prefix: `process_resident_memory_bytes`, `process_open_fds`, `process_start_time_seconds`,
/// `process_cpu_seconds_total`.
pub fn register_process(metrics: &Metrics) {
    let begin = Instant::now();
    let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    let jvm = metrics.root().scope("jvm");
    jvm.gauge("uptime", move || begin.elapsed().as_millis() as f64).keep();
    jvm.gauge("start_time", move || (started * 1_000.0).floor()).keep();
    jvm.gauge("num_cpus", || std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64)).keep();
    jvm.gauge("mem/current/used", resident_bytes).keep();
    jvm.gauge("thread/count", || status_field("Threads:")).keep();
    jvm.gauge("fd_count", open_fds).keep();
    metrics.append_prometheus(move |out| render(started, out));
}

fn render(started: f64, out: &mut String) {
    for (name, kind, value) in [
        ("process_cpu_seconds_total", "counter", cpu_seconds()),
        ("process_open_fds", "gauge", open_fds()),
        ("process_max_fds", "gauge", max_fds()),
        ("process_resident_memory_bytes", "gauge", resident_bytes()),
        ("process_start_time_seconds", "gauge", started),
    ] {
        let value = decimal(value).unwrap_or_else(|| "0.0".to_owned());
        let _ = write!(out, "# TYPE {name} {kind}\n{name} {value}\n");
    }
}

/// `VmRSS` rather than `/proc/self/statm`: it is in kB whatever the page size.
fn resident_bytes() -> f64 {
    status_field("VmRSS:") * 1_024.0
}

fn status_field(name: &str) -> f64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(name));
    line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0.0)
}

/// The soft limit of open files; none is infinity.
fn max_fds() -> f64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    soft.map_or(f64::NAN, |soft| soft.parse().unwrap_or(f64::INFINITY))
}

/// Open file descriptors, without the one that reads the directory.
fn open_fds() -> f64 {
    fs::read_dir("/proc/self/fd").map_or(0.0, |dir| dir.count().saturating_sub(1) as f64)
}

/// User and system time: fields 14 and 15 of `/proc/self/stat`, counted after the command in parentheses.
fn cpu_seconds() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: f64 = after.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_SECOND
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::JsonQuery;

    #[test]
    fn the_aliases_and_the_standard_names_have_plausible_values() {
        let metrics = Metrics::new();
        register_process(&metrics);
        let text = metrics.render_json(&JsonQuery::default()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        for key in ["jvm/start_time", "jvm/num_cpus", "jvm/mem/current/used", "jvm/thread/count", "jvm/fd_count"] {
            assert!(value[key].as_f64().unwrap() >= 1.0, "{key} in {text}");
        }
        assert!(value["jvm/mem/current/used"].as_f64().unwrap() > 100_000.0);
        assert!(value["jvm/uptime"].is_f64());
        let mut out = String::new();
        metrics.render_prometheus("p_", &mut out);
        for name in [
            "process_cpu_seconds_total counter",
            "process_open_fds gauge",
            "process_max_fds gauge",
            "process_start_time_seconds gauge",
        ] {
            assert!(out.contains(&format!("# TYPE {name}\n")), "{out}");
        }
        assert!(!out.contains("p_process"));
    }

    #[test]
    fn cpu_time_grows() {
        let before = cpu_seconds();
        let begin = Instant::now();
        while begin.elapsed().as_millis() < 200 {
            std::hint::spin_loop();
        }
        assert!(cpu_seconds() > before);
    }
}
