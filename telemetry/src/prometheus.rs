//! `/admin/metrics/prometheus`: the tree as Prometheus text.
//!
//! What it is for: the names, labels and rewriting rules of telemetry reference section 9, so existing dashboards keep
//! working. Deliberate differences: label values are escaped as the format demands, every metric has a `# TYPE` line and
//! its series stand together, sorted. What it is not: a scrape server, OpenMetrics, or cumulative histograms.
//! Called by: the Prometheus page, through `Metrics::render_prometheus`.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::Summary;
use crate::number::decimal;
use crate::view::{Value, View};

/// Content type of the text.
pub const PROMETHEUS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Series of one metric name, by their label text.
#[derive(Default)]
struct Family {
    series: BTreeMap<String, Value>,
}

type Families = BTreeMap<String, Family>;

pub(crate) fn render(view: &View, prefix: &str, out: &mut String) {
    let prefix = legal(prefix);
    let mut families = Families::new();
    collect(view, &Place::default(), &prefix, &mut families);
    for (name, family) in &families {
        let kind = if shadowed(name, &families) { None } else { family.kind() };
        if let Some(kind) = kind {
            let _ = writeln!(out, "# TYPE {name} {kind}");
        }
        for (labels, value) in &family.series {
            write_series(name, labels, value, out);
        }
    }
}

/// Where the walk is: the elements that form the name, and the labels taken out of it, in the order found.
#[derive(Clone, Default)]
struct Place<'a> {
    name: Vec<&'a str>,
    labels: Vec<(&'static str, String)>,
}

impl<'a> Place<'a> {
    /// One level down; rule 1 of section 9.1 decides whether `element` becomes a label.
    fn step(&self, element: &'a str) -> Self {
        let mut next = self.clone();
        match next.name.as_slice() {
            ["rt"] if !self.has("rt") => next.label("rt", element),
            ["rt", "service"] if !self.has("service") => next.label("service", element),
            ["rt", "client"] if !self.has("client") => next.label("client", element),
            ["rt", "server"] if !self.has("server") => next.label("server", element),
            ["rt", "client", "service"] if !self.has("service") => next.label("service", element),
            ["rt", "service" | "client" | "server", "failures"] => next.exception(element),
            ["rt", "service" | "client" | "server", "exn"] => {
                next.name.pop();
                next.name.push("exceptions");
                next.label("exception", element);
            }
            // Ours: Linkerd 1 does not count them.
            ["rt", "service" | "client", "grpc", "status"] => next.label("grpc_status", element),
            _ => next.name.push(element),
        }
        next
    }

    fn has(&self, label: &str) -> bool {
        self.labels.iter().any(|(name, _)| *name == label)
    }

    fn label(&mut self, name: &'static str, value: &str) {
        self.labels.push((name, value.to_owned()));
    }

    /// The levels of a failure form one label: `A:B`.
    fn exception(&mut self, class: &str) {
        match self.labels.last_mut() {
            Some(("exception", chain)) => {
                chain.push(':');
                chain.push_str(class);
            }
            _ => self.label("exception", class),
        }
    }

    fn metric_name(&self, prefix: &str) -> String {
        let mut name = prefix.to_owned();
        for (i, element) in self.name.iter().enumerate() {
            if i > 0 {
                name.push(':');
            }
            name.push_str(&legal(element));
        }
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            name.insert(0, '_');
        }
        name
    }

    fn label_text(&self) -> String {
        let labels: Vec<String> = self.labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect();
        labels.join(", ")
    }
}

fn collect<'a>(view: &'a View, place: &Place<'a>, prefix: &str, families: &mut Families) {
    if let Some(value) = view.value {
        insert(place, prefix, value, families);
    }
    for (element, child) in &view.children {
        collect(child, &place.step(element), prefix, families);
    }
}

fn insert(place: &Place<'_>, prefix: &str, value: Value, families: &mut Families) {
    let name = place.metric_name(prefix);
    if name.is_empty() || matches!(value, Value::Stat(s) if s.count == 0) {
        return;
    }
    if let Value::Stat(s) = value {
        families.entry(format!("{name}_avg")).or_default().add(place.label_text(), Value::Gauge(s.avg()));
    }
    families.entry(name).or_default().add(place.label_text(), value);
}

impl Family {
    /// Scopes that differ only in characters a name cannot have become the same series: they are summed.
    fn add(&mut self, labels: String, value: Value) {
        let slot = self.series.entry(labels);
        slot.and_modify(|old| match (old, value) {
            (Value::Counter(old), Value::Counter(new)) => *old = old.wrapping_add(new),
            (Value::Gauge(old), Value::Gauge(new)) => *old += new,
            _ => {}
        })
        .or_insert(value);
    }

    /// The type all series share, if they do.
    fn kind(&self) -> Option<&'static str> {
        let mut kinds = self.series.values().map(|v| match v {
            Value::Counter(_) => "counter",
            Value::Gauge(_) => "gauge",
            Value::Stat(_) => "summary",
        });
        let first = kinds.next()?;
        kinds.all(|k| k == first).then_some(first)
    }
}

/// A name such as `x_sum` beside a summary `x` belongs to that summary for a parser: it must not get a type of its own.
fn shadowed(name: &str, families: &Families) -> bool {
    ["_sum", "_count"].iter().any(|suffix| {
        let base = name.strip_suffix(suffix).and_then(|base| families.get(base));
        base.is_some_and(|family| family.kind() == Some("summary"))
    })
}

fn write_series(name: &str, labels: &str, value: &Value, out: &mut String) {
    match value {
        Value::Counter(n) => write_line(name, labels, n, out),
        Value::Gauge(v) => write_line(name, labels, float(*v), out),
        Value::Stat(s) => write_summary(name, labels, s, out),
    }
}

fn write_summary(name: &str, labels: &str, s: &Summary, out: &mut String) {
    write_line(&format!("{name}_count"), labels, s.count, out);
    write_line(&format!("{name}_sum"), labels, s.sum, out);
    let comma = if labels.is_empty() { "" } else { ", " };
    for (quantile, value) in [
        ("0", s.min),
        ("0.5", s.p50),
        ("0.9", s.p90),
        ("0.95", s.p95),
        ("0.99", s.p99),
        ("0.999", s.p9990),
        ("0.9999", s.p9999),
        ("1", s.max),
    ] {
        write_line(name, &format!("{labels}{comma}quantile=\"{quantile}\""), value, out);
    }
}

fn write_line(name: &str, labels: &str, value: impl std::fmt::Display, out: &mut String) {
    let _ =
        if labels.is_empty() { writeln!(out, "{name} {value}") } else { writeln!(out, "{name}{{{labels}}} {value}") };
}

/// Rule 2 of section 9.1: what is not a letter, a digit or a colon becomes `_`.
fn legal(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == ':' { c } else { '_' }).collect()
}

/// A label value by the rules of the text format.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn float(v: f64) -> String {
    decimal(v).unwrap_or_else(|| {
        if v.is_nan() {
            "NaN"
        } else if v > 0.0 {
            "+Inf"
        } else {
            "-Inf"
        }
        .to_owned()
    })
}

#[cfg(test)]
#[path = "prometheus_tests.rs"]
mod tests;
