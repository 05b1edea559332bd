//! Metrics of the control plane: whatever uses the `metrics` macros.
//!
//! What it is for: one process-wide recorder whose text is appended to the Prometheus page. What it is not: for request
//! statistics; its histograms keep every raw sample until drained. Called by: the binaries, once, at start; a timer calls
//! [`ControlMetrics::run_upkeep`] every few seconds.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::Metrics;

static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// The recorder behind the `metrics` macros. A clone refers to the same recorder.
#[derive(Clone)]
pub struct ControlMetrics(PrometheusHandle);

impl ControlMetrics {
    /// Installs the recorder, or gives the one this function installed before. `None` if something else in the process
    /// installed a recorder first; the macros then report there.
    pub fn install() -> Option<Self> {
        HANDLE.get_or_init(|| PrometheusBuilder::new().install_recorder().ok()).clone().map(Self)
    }

    /// Prometheus text of everything recorded.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Drains the raw samples of histograms into their summaries. Without a call every few seconds memory grows with
    /// every sample (dependencies reference section 3).
    pub fn run_upkeep(&self) {
        self.0.run_upkeep();
    }

    /// Lets every `Metrics::render_prometheus` end with [`ControlMetrics::render`].
    pub fn attach(&self, metrics: &Metrics) {
        let this = self.clone();
        metrics.append_prometheus(move |out| out.push_str(&this.render()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_macros_end_up_on_the_prometheus_page() {
        let control = ControlMetrics::install().unwrap();
        assert!(ControlMetrics::install().is_some(), "a second call gives the same recorder");
        metrics::counter!("namer_lookups_total", "namer" => "dns").increment(3);
        control.run_upkeep();
        let tree = Metrics::new();
        control.attach(&tree);
        let mut out = String::new();
        tree.render_prometheus("p_", &mut out);
        assert!(out.contains("namer_lookups_total{namer=\"dns\"} 3\n"), "{out}");
    }
}
