//! Requests for a delegation tree, and their answers, as the admin ports of router and namerd have them (naming reference
//! §10.1).
//!
//! For: the pages of both. Not for: explaining (the interpreters).

use admin::{Request, Response};
use dtab::DelegateTree;
use http::{Method, StatusCode};
use serde_json::Value;

/// The three parameters of a delegation request.
pub struct Question {
    /// Whose names.
    pub namespace: Option<String>,
    /// The label of a router whose own dtab comes before `dtab`; not in Linkerd 1.
    pub router: Option<String>,
    /// As written.
    pub dtab: String,
    /// As written.
    pub path: String,
}

/// `GET` with parameters or `POST` with JSON (naming reference §10.1).
pub fn question(request: &Request) -> Result<Question, Box<Response>> {
    let given = |name: &str| request.param(name).map(str::to_owned);
    match request.method {
        Method::GET => Ok(Question {
            namespace: given("namespace"),
            router: given("router"),
            dtab: given("dtab").unwrap_or_default(),
            path: given("path").unwrap_or_default(),
        }),
        Method::POST if request.media_type() != "application/json" => {
            let text = "delegation requests are application/json\n";
            Err(Box::new(Response::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)))
        }
        Method::POST => {
            let body = String::from_utf8_lossy(&request.body).into_owned();
            let malformed = || {
                let text = format!("Malformed delegation request: {body}");
                Box::new(Response::error(StatusCode::BAD_REQUEST, text))
            };
            let json: Value = serde_json::from_str(&body).map_err(|_| malformed())?;
            let text = |name: &str| json[name].as_str().map(str::to_owned);
            let (Some(dtab), Some(path)) = (text("dtab"), text("path")) else { return Err(malformed()) };
            Ok(Question { namespace: text("namespace"), router: text("router"), dtab, path })
        }
        _ => Err(Box::new(Response::method_not_allowed("GET, POST"))),
    }
}

/// The answer to a request.
pub fn explained(outcome: Result<DelegateTree, String>) -> Response {
    match outcome {
        Ok(tree) => Response::json(namers::wire::delegation(&tree)),
        Err(text) if text == "Request timed out." => Response::error(StatusCode::SERVICE_UNAVAILABLE, text),
        Err(text) => Response::error(StatusCode::INTERNAL_SERVER_ERROR, text),
    }
}
