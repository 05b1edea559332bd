//! Responses by status code.
//!
//! What it is for: `status/<code>`, `status/<n>XX`, `time/<n>XX` of server and client scopes (telemetry reference section
//! 4.1). What it is not: the success classification (`request`). Called by: the request path, once per response.
//!
//! As in Linkerd a code appears with its first response. The hundred counters of a class are allocated then, too.

use std::sync::{Arc, OnceLock};

use crate::{Counter, GaugeGuard, Scope, Stat};

const CLASSES: usize = 5;
const CODES: usize = 100;
const CLASS_NAMES: [&str; CLASSES] = ["1XX", "2XX", "3XX", "4XX", "5XX"];

/// Counts and times of the responses of one scope. Share it: the counters disappear from the exporters when this is
/// dropped.
pub struct StatusStats {
    listed: Option<Listed>,
}

struct Listed {
    codes: Arc<Codes>,
    time: Scope,
    times: [OnceLock<Arc<Stat>>; CLASSES],
    error_time: OnceLock<Arc<Stat>>,
    _guard: GaugeGuard,
}

#[derive(Default)]
struct Codes {
    classes: [OnceLock<Box<[Counter; CODES]>>; CLASSES],
    other: Counter,
    error: Counter,
}

impl StatusStats {
    /// Registers under `scope`; nothing is shown before the first response.
    pub fn new(scope: &Scope) -> Self {
        let codes = Arc::new(Codes::default());
        let read = codes.clone();
        let listed = Listed {
            codes,
            time: scope.scope("time"),
            times: Default::default(),
            error_time: OnceLock::new(),
            _guard: scope.family("status", move |emit| read.emit(emit)),
        };
        Self { listed: Some(listed) }
    }

    /// Counts nothing, as in a router of HTTP/2 (telemetry reference section 5).
    pub fn none() -> Self {
        Self { listed: None }
    }

    /// A response with status `code`, `ms` milliseconds after the request. Codes outside 100 … 599 count as
    /// `status/other`.
    #[inline]
    pub fn record(&self, code: u16, ms: u64) {
        if let Some(listed) = &self.listed {
            listed.record(code, ms);
        }
    }

    /// No response after `ms` milliseconds: `status/error`, `time/error`.
    pub fn error(&self, ms: u64) {
        if let Some(listed) = &self.listed {
            listed.error(ms);
        }
    }
}

impl Listed {
    fn record(&self, code: u16, ms: u64) {
        let code = usize::from(code);
        let class = (code / CODES).wrapping_sub(1);
        let (Some(cell), Some(time)) = (self.codes.classes.get(class), self.times.get(class)) else {
            return self.codes.other.incr();
        };
        let counters = cell.get_or_init(|| Box::new([const { Counter::new() }; CODES]));
        counters[code % CODES].incr();
        time.get_or_init(|| self.time.stat(CLASS_NAMES[class])).add(ms);
    }

    fn error(&self, ms: u64) {
        self.codes.error.incr();
        self.error_time.get_or_init(|| self.time.stat("error")).add(ms);
    }
}

impl Codes {
    fn emit(&self, emit: &mut dyn FnMut(&str, u64)) {
        for (class, cell) in self.classes.iter().enumerate() {
            let Some(counters) = cell.get() else { continue };
            let mut total = 0u64;
            for (code, counter) in counters.iter().enumerate() {
                let n = counter.get();
                total = total.wrapping_add(n);
                if n > 0 {
                    emit(&((class + 1) * CODES + code).to_string(), n);
                }
            }
            emit(CLASS_NAMES[class], total);
        }
        emit("other", self.other.get());
        emit("error", self.error.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{JsonQuery, Metrics};

    #[test]
    fn none_counts_nothing() {
        let status = StatusStats::none();
        status.record(200, 1);
        status.error(1);
    }

    #[test]
    fn codes_classes_and_times() {
        let metrics = Metrics::new();
        let status = StatusStats::new(&metrics.root());
        for (code, ms) in [(200, 4), (200, 6), (204, 8), (503, 100), (100, 0), (599, 1), (0, 1), (99, 1), (600, 1)] {
            status.record(code, ms);
        }
        status.record(u16::MAX, 1);
        status.error(9);
        let text = metrics.render_json(&JsonQuery::default()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        for (key, want) in [
            ("status/200", 2),
            ("status/204", 1),
            ("status/2XX", 3),
            ("status/100", 1),
            ("status/503", 1),
            ("status/599", 1),
            ("status/5XX", 2),
            ("status/other", 4),
            ("status/error", 1),
            ("time/2XX.count", 3),
            ("time/2XX.sum", 18),
            ("time/5XX.max", 100),
            ("time/error.max", 9),
        ] {
            assert_eq!(value[key], want, "{key} in {text}");
        }
        assert!(!text.contains("3XX") && !text.contains("status/404"));
    }
}
