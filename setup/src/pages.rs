//! Pages that every server of ours has on its admin port (telemetry reference §17): ping, live, shutdown, metrics, config,
//! log levels, watches.
//!
//! For: the pages of router and namerd, which add their own. Not for: serving (crate `admin`).

use crate::config::params::TelemeterParams;
use crate::shutdown::{Shutdown, parse_duration};
use crate::{logging, watches};
use admin::{Pages, Request, Response};
use http::StatusCode;
use namers::Discovery;
use serde_json::json;
use std::sync::Arc;
use telemetry::{JsonQuery, Metrics, PROMETHEUS_CONTENT_TYPE};

/// What the pages show.
pub struct Shown<'a> {
    /// All metrics.
    pub metrics: &'a Metrics,
    /// Where and with which prefix Prometheus finds them, besides the default page.
    pub telemeters: &'a [TelemeterParams],
    /// What the namers share.
    pub discovery: &'a Discovery,
    /// The way to end the process.
    pub shutdown: &'a Shutdown,
    /// The config in force, as JSON without secrets.
    pub config: Arc<dyn Fn() -> String + Send + Sync>,
}

/// The pages.
pub fn pages(shown: Shown<'_>) -> Pages {
    let mut pages = Pages::new().get("/admin/ping", "answers pong", |_| async { Response::text("pong") }).get(
        "/admin/live",
        "the process lives",
        |_| async { Response::text("live\n") },
    );
    let shutdown = shown.shutdown.clone();
    pages = pages.post("/admin/shutdown", move |request| {
        let shutdown = shutdown.clone();
        async move { begin_shutdown(&shutdown, &request) }
    });
    let metrics = shown.metrics.clone();
    pages = pages.get("/admin/metrics.json", "metrics as JSON (pretty, tree, q)", move |request| {
        let metrics = metrics.clone();
        async move { metrics_json(&metrics, &request) }
    });
    for (path, prefix) in prometheus_pages(shown.telemeters) {
        let metrics = shown.metrics.clone();
        pages = pages.get(&path, "metrics for Prometheus", move |_| {
            let mut text = String::new();
            metrics.render_prometheus(&prefix, &mut text);
            async move { Response::new(PROMETHEUS_CONTENT_TYPE, text) }
        });
    }
    let config = shown.config;
    pages = pages.get("/config.json", "the config in force", move |_| {
        let text = config();
        async move { Response::json(text) }
    });
    logging_pages(watches::add(pages, shown.discovery))
}

/// Paths and prefixes of the Prometheus pages: the default one is always there.
fn prometheus_pages(telemeters: &[TelemeterParams]) -> Vec<(String, String)> {
    const DEFAULT: &str = "/admin/metrics/prometheus";
    let mut pages: Vec<(String, String)> = Vec::new();
    for TelemeterParams::Prometheus { path, prefix } in telemeters {
        pages.retain(|(known, _)| known != path);
        pages.push((path.clone(), prefix.clone()));
    }
    if !pages.iter().any(|(path, _)| path == DEFAULT) {
        pages.push((DEFAULT.to_owned(), String::new()));
    }
    pages
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
