//! The router's pages on the admin server (telemetry reference §17): health, metrics, config, names, logging, shutdown.

mod names;
mod watches;

use crate::linker::Workers;
use crate::live::Live;
use admin::{Pages, Request, Response};
use arc_swap::ArcSwap;
use http::StatusCode;
use namers::Discovery;
use serde_json::json;
use setup::logging;
use setup::shutdown::{Shutdown, parse_duration};
use std::sync::Arc;
use std::time::Duration;
use telemetry::{JsonQuery, Metrics, PROMETHEUS_CONTENT_TYPE};

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

/// All pages; `prometheus` lists (path, metric prefix).
pub fn pages(state: &Arc<State>, prometheus: &[(String, String)]) -> Pages {
    let with = |state: &Arc<State>| state.clone();
    let mut pages = Pages::new().get("/admin/ping", "answers pong", |_| async { Response::text("pong") }).get(
        "/admin/live",
        "the process lives",
        |_| async { Response::text("live\n") },
    );
    let s = with(state);
    pages = pages.get("/admin/ready", "every data worker serves", move |_| ready(s.clone()));
    let s = with(state);
    pages = pages.post("/admin/shutdown", move |request| {
        let shutdown = s.shutdown.clone();
        async move { begin_shutdown(&shutdown, &request) }
    });
    let s = with(state);
    pages = pages.get("/admin/metrics.json", "metrics as JSON (pretty, tree, q)", move |request| {
        let metrics = s.metrics.clone();
        async move { metrics_json(&metrics, &request) }
    });
    for (path, prefix) in prometheus {
        let (metrics, prefix) = (state.metrics.clone(), prefix.clone());
        pages = pages.get(path, "metrics for Prometheus", move |_| {
            let mut text = String::new();
            metrics.render_prometheus(&prefix, &mut text);
            async move { Response::new(PROMETHEUS_CONTENT_TYPE, text) }
        });
    }
    let s = with(state);
    pages = pages.get("/config.json", "the config in force", move |_| {
        let text = s.live.load().config.clone();
        async move { Response::json(text) }
    });
    pages = logging_pages(pages);
    names::add(watches::add(pages, state), state)
}

fn logging_pages(mut pages: Pages) -> Pages {
    for path in ["/admin/logging", "/logging.json"] {
        pages = pages.page(path, "log levels (POST logger, level)", |request| async move { logging_page(&request) });
    }
    pages
}

fn logging_page(request: &Request) -> Response {
    if request.method == http::Method::GET {
        let levels = logging::levels();
        let rows = levels.iter().map(|(logger, level)| json!({ "logger": logger, "level": level }));
        return Response::json_value(&rows.collect());
    }
    if request.method != http::Method::POST {
        return Response::method_not_allowed("GET, POST");
    }
    let (Some(logger), Some(level)) = (request.param("logger"), request.param("level")) else {
        let text = "needs the parameters `logger` and `level`, e.g. logger=root&level=DEBUG\n";
        return Response::error(StatusCode::BAD_REQUEST, text);
    };
    match logging::set_level(logger, level) {
        Ok(()) => Response::text(format!("{logger} is at {}\n", level.to_ascii_uppercase())),
        Err(text) => Response::error(StatusCode::BAD_REQUEST, format!("{text}\n")),
    }
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

fn begin_shutdown(shutdown: &Shutdown, request: &Request) -> Response {
    let grace = match request.param("grace") {
        None => None,
        Some(text) => match parse_duration(text) {
            Some(grace) => Some(grace),
            None => {
                let text = format!("could not parse 'grace' parameter: {text} is not a valid duration\n");
                return Response::error(StatusCode::BAD_REQUEST, text);
            }
        },
    };
    shutdown.begin(grace);
    Response::text("quitting\n")
}

fn metrics_json(metrics: &Metrics, request: &Request) -> Response {
    match metrics.render_json(&JsonQuery::from_pairs(&request.query)) {
        Ok(text) => Response::json(text),
        Err(error) => Response::json(error.to_json()).with_status(StatusCode::NOT_FOUND),
    }
}
