//! Pages about names: how a name resolves, which names there are, what the clients know, what the namers watch.

use super::State;
use crate::client::{Client, ReplicaState};
use crate::config::InterpreterKind;
use crate::interpreters::place;
use crate::live::Live;
use crate::router::Router;
use admin::{Pages, Request, Response};
use dtab::{Dtab, DtabStack, Interpreter, Namer, Path};
use http::StatusCode;
use namers::FsNamer;
use serde_json::{Map, Value, json};
use setup::delegation::{explained, question};
use std::sync::Arc;

/// `/<router>/interpreter_state/<kind>/<namespace>.json`: what a router was told by its namerd, and when (config reference
/// §9.1).
fn interpreter_states(mut pages: Pages, state: &Arc<State>) -> Pages {
    for router in &state.live.load().routers {
        let InterpreterKind::Namerd(params) = &router.params.interpreter.kind else { continue };
        let (label, kind, namespace) = (&router.params.label, params.protocol.kind(), &params.namespace);
        let (place, discovery) = (place(params), state.discovery.clone());
        let path = format!("/{label}/interpreter_state/{kind}/{namespace}.json");
        pages = pages.get(&path, "what namerd has told", move |_| {
            let tables = discovery.watches.report().into_iter().filter(|table| table.namer == place);
            let lists: Map<String, Value> = tables
                .map(|table| (table.table.to_owned(), table.watches.iter().map(setup::watches::watch).collect()))
                .collect();
            async move { Response::json_value(&Value::Object(lists)) }
        });
    }
    pages
}

/// Adds the pages about names.
pub(super) fn add(mut pages: Pages, state: &Arc<State>) -> Pages {
    let s = state.clone();
    pages = pages.page("/delegator.json", "how a name resolves (path, dtab, namespace or router)", move |request| {
        let state = s.clone();
        async move { delegator(&state, &request).await }
    });
    let s = state.clone();
    pages = pages.get("/client_state.json", "addresses of every client", move |_| {
        let state = s.clone();
        async move { client_state(&state) }
    });
    let fs = state.live.load().naming.fs.clone();
    pages = pages.get("/bound-names.json", "names that the namers can list", move |_| {
        let fs = fs.clone();
        async move { bound_names(fs).await }
    });
    for fs in &state.live.load().naming.fs {
        let name = fs.prefix().skip(1).show_bare();
        let fs = fs.clone();
        pages = pages.get(&format!("/namer_state/{name}.json"), "what a namer watches", move |_| {
            let fs = fs.clone();
            async move { Response::json_value(&Value::Array(fs.report().iter().map(setup::watches::watch).collect())) }
        });
    }
    interpreter_states(pages, state)
}

async fn delegator(state: &State, request: &Request) -> Response {
    let question = match question(request) {
        Ok(question) => question,
        Err(response) => return *response,
    };
    let bad = |what: &str, error: &dyn std::fmt::Display| {
        Response::error(StatusCode::BAD_REQUEST, format!("Invalid {what}: {error}"))
    };
    let live = state.live.load_full();
    let base = question.router.as_deref().and_then(|label| router(&live, label)).map(|router| &router.params.dtab);
    let dtab = match Dtab::parse(&question.dtab) {
        Ok(dtab) => DtabStack::new(base.into_iter().cloned().chain([dtab])),
        Err(error) => return bad("dtab", &error),
    };
    let path = match Path::parse(&question.path) {
        Ok(path) => path,
        Err(error) => return bad("path", &error),
    };
    let Some(interpreter) = interpreter(&live, question.router.as_deref().or(question.namespace.as_deref())) else {
        let label = question.router.or(question.namespace).unwrap_or_default();
        let text = format!("Name Interpreter for {label} cannot show delegations");
        return Response::error(StatusCode::NOT_IMPLEMENTED, text);
    };
    explained(interpreter.explain(&dtab, &path).await)
}

/// The interpreter of a namespace; None when there is none or it cannot explain.
fn interpreter<'a>(live: &'a Live, namespace: Option<&str>) -> Option<&'a Arc<dyn Interpreter>> {
    let Some(label) = namespace else { return Some(&live.naming.bare) };
    router(live, label).map(|router| &router.interpreter).filter(|interpreter| interpreter.explains())
}

fn router<'a>(live: &'a Live, label: &str) -> Option<&'a Arc<Router>> {
    live.routers.iter().find(|router| router.params.label == label)
}

/// Client id to state and addresses, all routers together (telemetry reference §17.2).
fn client_state(state: &State) -> Response {
    let mut clients = Map::new();
    for client in state.live.load().routers.iter().flat_map(|router| router.clients.all()) {
        clients.insert(client.id.to_string(), one_client(&client));
    }
    Response::json_value(&Value::Object(clients))
}

fn one_client(client: &Client) -> Value {
    match &**client.replicas.load() {
        ReplicaState::Pending => json!("Pending"),
        ReplicaState::Neg => json!("Neg"),
        ReplicaState::Failed(reason) => json!(format!("Failed: {reason}")),
        ReplicaState::Bound(_) => {
            let addresses: Vec<String> = client.addresses().iter().map(ToString::to_string).collect();
            json!({ "state": "bound", "addresses": addresses })
        }
    }
}

async fn bound_names(fs: Vec<Arc<FsNamer>>) -> Response {
    let list = move || fs.iter().flat_map(|fs| fs.names()).map(|name| name.to_string()).collect::<Vec<_>>();
    match tokio::task::spawn_blocking(list).await {
        Ok(names) => Response::json_value(&json!(names)),
        Err(error) => Response::error(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot list the names: {error}\n")),
    }
}
