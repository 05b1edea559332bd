//! The router's pages on the admin server (telemetry reference §17): health, metrics, config, names, logging, shutdown.

mod names;

use crate::config::TelemeterParams;
use crate::linker::Workers;
use crate::live::Live;
use admin::{Pages, Response};
use arc_swap::ArcSwap;
use http::StatusCode;
use namers::Discovery;
use setup::pages::Shown;
use setup::shutdown::Shutdown;
use std::sync::Arc;
use std::time::Duration;
use telemetry::Metrics;

/// A worker has this long to prove that it serves.
const READY_WITHIN: Duration = Duration::from_secs(1);

/// What the pages show.
pub struct State {
    /// All metrics.
    pub metrics: Metrics,
    /// What is in force.
    pub live: Arc<ArcSwap<Live>>,
    /// What the namers share.
    pub discovery: Discovery,
    /// The workers.
    pub workers: Workers,
    /// The way to end the process.
    pub shutdown: Shutdown,
}

/// All pages.
pub fn pages(state: &Arc<State>, telemeters: &[TelemeterParams]) -> Pages {
    let live = state.live.clone();
    let pages = setup::pages::pages(Shown {
        metrics: &state.metrics,
        telemeters,
        discovery: &state.discovery,
        shutdown: &state.shutdown,
        config: Arc::new(move || live.load().config.clone()),
    });
    let s = state.clone();
    names::add(pages.get("/admin/ready", "every data worker serves", move |_| ready(s.clone())), state)
}

/// Ready: not ending, and every worker answers; asked of the threads that serve.
async fn ready(state: Arc<State>) -> Response {
    if state.shutdown.has_begun() {
        return Response::error(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n");
    }
    if !state.workers.answer_within(READY_WITHIN).await {
        return Response::error(StatusCode::SERVICE_UNAVAILABLE, "a data worker does not answer\n");
    }
    Response::text("ready\n")
}
