//! `/admin/metrics.json`: the tree as JSON.
//!
//! What it is for: the format of telemetry reference section 8. One deliberate difference: `q` can address scope
//! elements that contain slashes (the longest matching element wins), which Linkerd could not.
//! What it is not: the HTTP side. Called by: the metrics page, through `Metrics::render_json`.

use std::fmt;

use crate::number::decimal;
use crate::view::{Value, View};

/// What a request for metrics asks for (telemetry reference section 8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JsonQuery {
    /// `pretty=1`: sorted by key, one per line, spaces around the colon.
    pub pretty: bool,
    /// `tree=1`: nested objects instead of flat keys; `pretty` is then ignored.
    pub tree: bool,
    /// `q=a/b/c`: only this subtree, keys relative to it.
    pub subtree: Option<String>,
}

/// Why metrics could not be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonError {
    /// `q` names no scope of the tree: 404.
    NoSuchSubtree(String),
}

impl JsonQuery {
    /// Reads the decoded query parameters of a request; unknown ones are ignored, the first of several counts. True is
    /// `1`, `t` or `true`.
    pub fn from_pairs<K: AsRef<str>, V: AsRef<str>>(pairs: &[(K, V)]) -> Self {
        let first = |name: &str| pairs.iter().find(|(k, _)| k.as_ref() == name).map(|(_, v)| v.as_ref());
        let flag = |name: &str| matches!(first(name), Some("1" | "t" | "true"));
        Self { pretty: flag("pretty"), tree: flag("tree"), subtree: first("q").map(str::to_owned) }
    }
}

impl JsonError {
    /// The body of the answer.
    pub fn to_json(&self) -> String {
        format!("{{\"error\": {}}}", quote(&self.to_string()))
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchSubtree(q) => write!(f, "No such subtree: {q}"),
        }
    }
}

impl std::error::Error for JsonError {}

pub(crate) fn render(view: &View, query: &JsonQuery) -> Result<String, JsonError> {
    let view = match &query.subtree {
        None => view,
        Some(q) => view.find(q.trim_matches('/')).ok_or_else(|| JsonError::NoSuchSubtree(q.clone()))?,
    };
    if query.tree {
        let mut out = String::new();
        tree(view, &mut out);
        return Ok(out);
    }
    let mut members = Vec::new();
    flat(view, "", &mut members);
    if !query.pretty {
        return Ok(object(&members, "{", ":", ",", "}"));
    }
    members.sort();
    Ok(object(&members, "{\n  ", " : ", ",\n  ", "\n}\n"))
}

fn object(members: &[(String, String)], open: &str, colon: &str, comma: &str, close: &str) -> String {
    if members.is_empty() {
        return "{}".to_owned();
    }
    let mut out = String::from(open);
    for (i, (key, value)) in members.iter().enumerate() {
        if i > 0 {
            out.push_str(comma);
        }
        out.push_str(&quote(key));
        out.push_str(colon);
        out.push_str(value);
    }
    out.push_str(close);
    out
}

fn flat(view: &View, key: &str, out: &mut Vec<(String, String)>) {
    match view.value {
        Some(Value::Counter(n)) => out.push((key.to_owned(), n.to_string())),
        Some(Value::Gauge(v)) => out.push((key.to_owned(), float(v))),
        Some(Value::Stat(_)) => {
            out.extend(stat_members(view).into_iter().map(|(suffix, v)| (format!("{key}.{suffix}"), v)));
        }
        None => {}
    }
    for (name, child) in &view.children {
        let key = if key.is_empty() { name.to_string() } else { format!("{key}/{name}") };
        flat(child, &key, out);
    }
}

fn tree(view: &View, out: &mut String) {
    let mut first = true;
    let mut member = |key: &str, out: &mut String| {
        out.push(if first { '{' } else { ',' });
        first = false;
        out.push_str(&quote(key));
        out.push(':');
    };
    for (key, value) in own_members(view) {
        member(&key, out);
        out.push_str(&value);
    }
    for (name, child) in &view.children {
        member(name, out);
        tree(child, out);
    }
    out.push_str(if first { "{}" } else { "}" });
}

fn own_members(view: &View) -> Vec<(String, String)> {
    match view.value {
        None => Vec::new(),
        Some(Value::Counter(n)) => vec![("counter".to_owned(), n.to_string())],
        Some(Value::Gauge(v)) => vec![("gauge".to_owned(), float(v))],
        Some(Value::Stat(_)) => {
            stat_members(view).into_iter().map(|(suffix, v)| (format!("stat.{suffix}"), v)).collect()
        }
    }
}

fn stat_members(view: &View) -> Vec<(&'static str, String)> {
    let Some(Value::Stat(s)) = view.value else { return Vec::new() };
    if s.count == 0 {
        return vec![("count", "0".to_owned())];
    }
    let whole = [
        ("count", s.count),
        ("max", s.max),
        ("min", s.min),
        ("p50", s.p50),
        ("p90", s.p90),
        ("p95", s.p95),
        ("p99", s.p99),
        ("p9990", s.p9990),
        ("p9999", s.p9999),
        ("sum", s.sum),
    ];
    let avg = [("avg", float(s.avg()))];
    whole.into_iter().map(|(k, v)| (k, v.to_string())).chain(avg).collect()
}

/// JSON has no word for infinity and NaN: those are `null`.
fn float(v: f64) -> String {
    decimal(v).unwrap_or_else(|| "null".to_owned())
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metrics;

    fn sample() -> Metrics {
        let metrics = Metrics::new();
        let http = metrics.root().scope("rt").scope("http");
        let server = http.scope("server").scope("127.0.0.1/4140");
        server.counter("requests").add(118);
        server.counter("failures").add(2);
        server.counter("failures/com.example.Error").add(2);
        server.gauge("pending", || 0.0).keep();
        server.stat("idle_stat");
        let stat = server.stat("request_latency_ms");
        [2, 4, 31].into_iter().for_each(|v| stat.add(v));
        http.scope("client").scope("#/io.l5d.fs/web").scope("service").scope("svc/web").counter("requests").incr();
        metrics
    }

    fn query(pairs: &[(&str, &str)]) -> JsonQuery {
        JsonQuery::from_pairs(pairs)
    }

    #[test]
    fn flat_keys_and_stat_members_in_order() {
        let text = sample().render_json(&JsonQuery::default()).unwrap();
        assert!(text.contains(concat!(
            "\"rt/http/server/127.0.0.1/4140/request_latency_ms.count\":3,",
            "\"rt/http/server/127.0.0.1/4140/request_latency_ms.max\":31,",
            "\"rt/http/server/127.0.0.1/4140/request_latency_ms.min\":2,",
            "\"rt/http/server/127.0.0.1/4140/request_latency_ms.p50\":4,",
            "\"rt/http/server/127.0.0.1/4140/request_latency_ms.p90\":31,",
        )));
        assert!(text.contains("request_latency_ms.sum\":37,"));
        assert!(text.contains("request_latency_ms.avg\":12.333333333333334"));
        assert!(text.contains("pending\":0.0"));
        assert!(text.contains("idle_stat.count\":0,"), "{text}");
        assert!(!text.contains("idle_stat.max"));
        assert!(text.contains("\"rt/http/client/#/io.l5d.fs/web/service/svc/web/requests\":1"));
    }

    #[test]
    fn pretty_is_sorted_with_spaces_around_the_colon() {
        let metrics = Metrics::new();
        metrics.root().scope("b").counter("x").incr();
        metrics.root().counter("a\"quote").add(2);
        metrics.root().scope("b/c").gauge("d", || 1.5e9).keep();
        let text = metrics.render_json(&query(&[("pretty", "true")])).unwrap();
        assert_eq!(text, "{\n  \"a\\\"quote\" : 2,\n  \"b/c/d\" : 1.5E9,\n  \"b/x\" : 1\n}\n");
        assert_eq!(Metrics::new().render_json(&query(&[("pretty", "1")])).unwrap(), "{}");
    }

    #[test]
    fn tree_nests_and_a_node_may_hold_both() {
        let metrics = sample();
        metrics.root().scope("empty");
        let text = metrics.render_json(&query(&[("tree", "1"), ("pretty", "1")])).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let server = &value["rt"]["http"]["server"]["127.0.0.1/4140"];
        assert_eq!(server["failures"], serde_json::json!({"counter": 2, "com.example.Error": {"counter": 2}}));
        assert_eq!(server["pending"], serde_json::json!({"gauge": 0.0}));
        assert_eq!(server["request_latency_ms"].as_object().unwrap().len(), 11);
        assert_eq!(server["request_latency_ms"]["stat.max"], 31);
        assert_eq!(value["empty"], serde_json::json!({}));
    }

    #[test]
    fn q_reaches_elements_with_slashes() {
        let metrics = sample();
        let get = |q: &str| metrics.render_json(&query(&[("q", q)]));
        assert_eq!(get("rt/http/client/#/io.l5d.fs/web").unwrap(), "{\"service/svc/web/requests\":1}");
        assert_eq!(get("/rt/http/server/127.0.0.1/4140/requests/").unwrap(), "{\"\":118}");
        assert!(get("rt/http/server/127.0.0.1/4140").unwrap().contains("\"pending\":0.0"));
        assert_eq!(get("").unwrap(), get("/").unwrap());
    }

    #[test]
    fn q_backtracks_from_the_longest_element() {
        let metrics = Metrics::new();
        metrics.root().scope("a/b").counter("x").incr();
        metrics.root().scope("a").scope("b").counter("y").add(2);
        let get = |q: &str| metrics.render_json(&query(&[("q", q)])).unwrap();
        assert_eq!(get("a/b"), "{\"x\":1}");
        assert_eq!(get("a/b/y"), "{\"\":2}");
    }

    #[test]
    fn an_unknown_subtree_is_an_error_with_its_name() {
        let error = sample().render_json(&query(&[("q", "a/b/\"c")])).unwrap_err();
        assert_eq!(error.to_json(), "{\"error\": \"No such subtree: a/b/\\\"c\"}");
    }

    #[test]
    fn what_is_not_a_number_is_null() {
        let metrics = Metrics::new();
        metrics.root().gauge("g", || f64::NAN).keep();
        assert_eq!(metrics.render_json(&JsonQuery::default()).unwrap(), "{\"g\":null}");
    }
}
