//! namerd's pages on the admin server (namerd reference §6): namespaces, their dtabs with a place to try names, the state of
//! store and namers.
//!
//! Called by `linker`. Plain HTML without scripts: what a dtab or a caller says is text here and never markup (attack A4).
//! Not for: changing dtabs, which is the HTTP interface's, with its rights.

use crate::config::Config;
use crate::names::Names;
use admin::{Pages, Request, Response, escape_html};
use dtab::{DelegateTree, Delegation, Dtab, Exact, Namer, Path, State};
use http::StatusCode;
use namers::Discovery;
use serde_json::{Value, json};
use setup::delegation::{explained, question};
use setup::naming::Naming;
use setup::shutdown::Shutdown;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use telemetry::Metrics;

/// A store that has not answered within this time is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);
const STYLE: &str = "<style>body{font-family:sans-serif;margin:2em}td,th{text-align:left;padding:.2em 1em .2em 0}\
    code,td{font-family:monospace}input{width:30em}.bad{color:#a00}ul{list-style:none;border-left:1px solid #bbb}</style>";

/// What the pages show.
pub struct Shown<'a> {
    /// All metrics.
    pub metrics: &'a Metrics,
    /// The config in force.
    pub config: &'a Config,
    /// Names, and the store behind them.
    pub names: &'a Names,
    /// The namers.
    pub naming: &'a Arc<Naming>,
    /// What the namers share.
    pub discovery: &'a Discovery,
    /// The way to end the process.
    pub shutdown: &'a Shutdown,
}

/// All pages.
pub fn pages(shown: &Shown<'_>) -> Pages {
    let config = shown.config.as_json.to_string();
    let mut pages = setup::pages::pages(setup::pages::Shown {
        metrics: shown.metrics,
        telemeters: &shown.config.telemetry,
        discovery: shown.discovery,
        shutdown: shown.shutdown,
        config: Arc::new(move || config.clone()),
    });
    let (names, ending) = (shown.names.clone(), shown.shutdown.clone());
    pages = pages.get("/admin/ready", "the store answers", move |_| ready(names.clone(), ending.clone()));
    let names = shown.names.clone();
    pages = pages.get("/", "", move |_| namespaces(names.clone()));
    let names = shown.names.clone();
    pages = pages.get("/dtab/", "", move |request| playground(names.clone(), request));
    let names = shown.names.clone();
    pages = pages.page("/dtab/delegator.json", "how a name resolves (path, dtab)", move |request| {
        delegator(names.clone(), request)
    });
    let names = shown.names.clone();
    pages = pages.get("/storage/", "", move |_| storage(names.clone()));
    let names = shown.names.clone();
    pages = pages.get(&storage_page(shown), "the store", move |_| storage(names.clone()));
    namer_states(pages, shown.naming)
}

/// Where Linkerd 1 shows the state of the store.
fn storage_page(shown: &Shown<'_>) -> String {
    match &shown.config.storage {
        crate::config::StorageParams::Consul { backend, .. } => format!("/storage{}.json", backend.path_prefix),
        _ => format!("/storage/{}.json", shown.names.store().kind()),
    }
}

fn namer_states(mut pages: Pages, naming: &Arc<Naming>) -> Pages {
    for fs in &naming.fs {
        let name = fs.prefix().skip(1).show_bare();
        let fs = fs.clone();
        pages = pages.get(&format!("/namer_state/{name}.json"), "what a namer watches", move |_| {
            let fs = fs.clone();
            async move { Response::json_value(&Value::Array(fs.report().iter().map(setup::watches::watch).collect())) }
        });
    }
    pages
}

/// Ready: not ending, and the store has told which namespaces there are, at least once.
async fn ready(names: Names, ending: Shutdown) -> Response {
    let unavailable = |text: String| Response::error(StatusCode::SERVICE_UNAVAILABLE, text);
    if ending.has_begun() {
        return unavailable("shutting down\n".to_owned());
    }
    match tokio::time::timeout(PATIENCE, names.store().list().settled()).await {
        Ok(State::Ok(_)) => Response::text("ready\n"),
        Ok(State::Failed(reason)) => unavailable(format!("the store has never answered: {reason}\n")),
        _ => unavailable("the store has not answered yet\n".to_owned()),
    }
}

async fn storage(names: Names) -> Response {
    Response::json_value(&names.store().report())
}

fn page(title: &str, body: &str) -> Response {
    Response::html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>{STYLE}\
        <p><a href=\"/\">Namerd</a> · <a href=\"/logging.json\">logging</a> · <a href=\"/admin\">all pages</a></p>{body}</html>\n",
        title = escape_html(title)
    ))
}

/// The list of namespaces.
async fn namespaces(names: Names) -> Response {
    let body = match tokio::time::timeout(PATIENCE, names.store().list().settled()).await {
        Ok(State::Ok(list)) if list.is_empty() => {
            "<h1>No namespaces found</h1><p>Make one: <code>echo '/svc =&gt; /#/io.l5d.fs' | namerctl dtab create default \
            -</code></p>"
                .to_owned()
        }
        Ok(State::Ok(list)) => {
            let row = |name: &String| {
                format!("<li><a href=\"/dtab/{0}\">{0}</a></li>\n", escape_html(name))
            };
            format!("<h1>Namespaces</h1><ul>\n{}</ul>", list.iter().map(row).collect::<String>())
        }
        Ok(State::Failed(reason)) => bad(&format!("The store cannot be read: {reason}")),
        _ => bad("The store has not answered yet."),
    };
    page("Namerd", &body)
}

fn bad(text: &str) -> String {
    format!("<p class=\"bad\">{}</p>", escape_html(text))
}

/// The dtab of a namespace, and how a name resolves by it.
async fn playground(names: Names, request: Request) -> Response {
    let namespace = request.path.trim_start_matches("/dtab/").to_owned();
    let stored = match tokio::time::timeout(PATIENCE, names.store().read(&namespace)).await {
        Ok(Ok(Some(stored))) => stored.dtab,
        Ok(Ok(None)) => return Response::not_found(),
        Ok(Err(error)) => return page(&namespace, &bad(&error.to_string())),
        Err(_) => return page(&namespace, &bad("The store does not answer.")),
    };
    let asked = request.param("path").unwrap_or("/svc/web");
    let extra = request.param("dtab").unwrap_or_default();
    let mut body = format!("<h1>{}</h1>{}", escape_html(&namespace), table(&stored));
    let _ = write!(
        body,
        "<form method=\"get\"><p>Name <input name=\"path\" value=\"{}\"> and further entries <input name=\"dtab\" \
        value=\"{}\"> <button>Resolve</button></p></form>",
        escape_html(asked),
        escape_html(extra)
    );
    if request.param("path").is_some() {
        match explain(&names, &namespace, extra, asked).await {
            Ok(tree) => {
                let _ = write!(body, "<ul>{}</ul>", node(&tree, MAX_DEPTH));
            }
            Err(text) => body.push_str(&bad(&text)),
        }
    }
    body.push_str(&data(&namespace, &stored));
    page(&namespace, &body)
}

/// As Linkerd's page has it, for scripts of others. In JSON `<` can be written otherwise, so no text ends the element.
fn data(namespace: &str, dtab: &Dtab) -> String {
    let entry =
        |dentry: &dtab::Dentry| json!({"prefix": dentry.prefix.to_string(), "dst": Exact(&dentry.dst).to_string()});
    let entries: Vec<Value> = dtab.dentries().iter().map(entry).collect();
    let text = json!({"namespace": namespace, "dtab": entries}).to_string().replace('<', "\\u003c");
    format!("<script id=\"data\" type=\"application/json\">{text}</script>")
}

fn table(dtab: &Dtab) -> String {
    let row = |dentry: &dtab::Dentry| {
        let (prefix, dst) = (dentry.prefix.to_string(), Exact(&dentry.dst).to_string());
        format!("<tr><td>{}</td><td>=&gt;</td><td>{}</td></tr>\n", escape_html(&prefix), escape_html(&dst))
    };
    format!("<table>\n{}</table>", dtab.dentries().iter().map(row).collect::<String>())
}

async fn explain(names: &Names, namespace: &str, extra: &str, path: &str) -> Result<DelegateTree, String> {
    let extra = Dtab::parse(extra).map_err(|error| format!("Invalid dtab: {error}"))?;
    let path = Path::parse(path).map_err(|error| format!("Invalid path: {error}"))?;
    names.explain(Some(namespace), &extra, &path).await
}

/// Deeper trees are cut.
const MAX_DEPTH: usize = 120;

fn node(tree: &DelegateTree, depth: usize) -> String {
    let rule =
        tree.dentry.as_ref().map(|dentry| format!(" <small>by {}</small>", escape_html(&Exact(dentry).to_string())));
    let head = format!("<li><code>{}</code>{} ", escape_html(&tree.path), rule.unwrap_or_default());
    let Some(depth) = depth.checked_sub(1) else { return format!("{head}…</li>") };
    let list = |inner: String| format!("<ul>{inner}</ul>");
    let rest = match &tree.node {
        Delegation::Delegate(child) => list(node(child, depth)),
        Delegation::Transformation { name, tree, .. } => format!("{} {}", escape_html(name), list(node(tree, depth))),
        Delegation::Alt(children) => {
            format!("alternatives {}", list(children.iter().map(|child| node(child, depth)).collect()))
        }
        Delegation::Union(branches) => {
            let branch =
                |(weight, child): &(f64, DelegateTree)| format!("<li>{weight} × {}</li>", list(node(child, depth)));
            format!("union {}", list(branches.iter().map(branch).collect()))
        }
        Delegation::Leaf(name, addr) => {
            format!(
                "is <b>{}</b> <code>{}</code>",
                escape_html(&name.id.to_string()),
                escape_html(&namers::wire::addr(addr))
            )
        }
        Delegation::Neg => "<b>neg</b>".to_owned(),
        Delegation::Fail => "<b>fail</b>".to_owned(),
        Delegation::Empty => "<b>empty</b>".to_owned(),
        Delegation::Exception(text) => bad(text),
    };
    format!("{head}{rest}</li>\n")
}

/// The dtab of the request alone counts: the page posts what it shows (namerd reference §6).
async fn delegator(names: Names, request: Request) -> Response {
    let question = match question(&request) {
        Ok(question) => question,
        Err(response) => return *response,
    };
    let bad = |what: &str, error: &dyn std::fmt::Display| {
        Response::error(StatusCode::BAD_REQUEST, format!("Invalid {what}: {error}"))
    };
    let dtab = match Dtab::parse(&question.dtab) {
        Ok(dtab) => dtab,
        Err(error) => return bad("dtab", &error),
    };
    match Path::parse(&question.path) {
        Ok(path) => explained(names.explain(None, &dtab, &path).await),
        Err(error) => bad("path", &error),
    }
}
