//! [`Namerd`]: the requests of namerd's HTTP API, as values (namerd reference §2, §7.3).
//!
//! Called by every command that talks to a namerd. Not for: bytes on the wire ([`crate::http`]), what to do about a conflict.

use crate::error::Failure;
use crate::http::{Answer, Client, HttpError, Request};
use crate::url::Url;
use crate::wire::{self, Entry, Versioned};
use ::http::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_MATCH};
use ::http::{Method, StatusCode};
use bytes::Bytes;
use serde_json::Value;

/// What to do when nobody answers, or somebody else does.
const WHERE: &str =
    "--base-url or NAMERCTL_BASE_URL says where namerd is; its io.l5d.httpController listens on 4180 by default";
/// So much of the text of an error answer is shown.
const SHOWN: usize = 2000;

/// Why a request has no result, by what the caller may do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// There is no such namespace.
    #[error("resource was not found by ID or name")]
    NotFound,
    /// Another status than those of a success; the text of the body.
    #[error("unexpected response: {status} {reason}")]
    Status {
        /// The status code.
        status: u16,
        /// The reason on the status line.
        reason: String,
        /// What the server says, shortened.
        says: String,
    },
    /// There is no answer, or not a whole one.
    #[error("{0}")]
    Transport(#[from] HttpError),
    /// The answer is not what the API promises.
    #[error("unexpected answer: {0}")]
    Answer(String),
}

impl ApiError {
    /// True when somebody else has written in between.
    pub fn is_conflict(&self) -> bool {
        matches!(self, ApiError::Status { status: 409 | 412, .. })
    }
}

impl ApiError {
    /// True when the same may succeed a little later: nobody answers, or a gateway or store is not ready. Of a write, the
    /// outcome is not known.
    pub fn is_passing(&self) -> bool {
        matches!(self, ApiError::Transport(_) | ApiError::Status { status: 502..=504, .. })
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Failure {
        let failure = Failure::new(error.to_string());
        match error {
            ApiError::Status { status, says, .. } => {
                let advice = match status {
                    401 => "namerd wants to know who asks: give --token or NAMERCTL_TOKEN, or --cert and --key",
                    403 => "namerd does not allow this to the caller",
                    409 => "the namespace exists already: use `dtab update`, or `dtab set` for one entry",
                    412 => "the dtab has changed since that version was read: read it again, or use `dtab set`",
                    503 => "namerd or its store is not ready: try again",
                    _ => "",
                };
                let lines: Vec<&str> = [says.as_str(), advice].into_iter().filter(|text| !text.is_empty()).collect();
                failure.with(lines.join("\n"))
            }
            ApiError::Transport(error) if error.may_have_acted() => {
                failure.with("it is not known whether namerd has acted on it")
            }
            ApiError::Transport(_) => failure.with(WHERE),
            ApiError::Answer(_) => failure.with(format!("is this the HTTP interface of a namerd? {WHERE}")),
            ApiError::NotFound => failure.with("`namerctl dtab list` shows the namespaces that there are"),
        }
    }
}

/// A namerd.
pub struct Namerd {
    client: Client,
    base: Url,
    /// Sent with every request: who asks.
    common: HeaderMap,
    /// Sent with every write besides: who says to have written it, and why.
    note: HeaderMap,
}

/// An answer, also as the server wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Parsed.
    pub value: Value,
    /// As it came, without white space around it.
    pub text: String,
}

/// What is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The dtab grammar, as it was given.
    Text(Bytes),
    /// Entries, sent as JSON.
    Entries(Vec<Entry>),
}

impl Body {
    fn parts(&self) -> (&'static str, Bytes) {
        match self {
            Body::Text(text) => ("application/dtab", text.clone()),
            Body::Entries(entries) => ("application/json", wire::json(entries).into()),
        }
    }
}

impl Namerd {
    /// The namerd at `base`.
    pub fn new(client: Client, base: Url, common: HeaderMap, note: HeaderMap) -> Namerd {
        Namerd { client, base, common, note }
    }

    /// The namespaces.
    pub async fn list(&self) -> Result<Vec<String>, ApiError> {
        let answer = self.get(self.base.below("api/1/dtabs")).await?;
        strings(&success(answer)?)
    }

    /// The dtab of a namespace, with its stamp.
    pub async fn read(&self, namespace: &str) -> Result<Versioned, ApiError> {
        let answer = self.get(self.dtab(namespace)).await?;
        let version = answer.headers.get(ETAG).map(|tag| String::from_utf8_lossy(tag.as_bytes()).into_owned());
        let entries = wire::read_entries(&success(found(answer)?)?).map_err(ApiError::Answer)?;
        Ok(Versioned { version: version.unwrap_or_default(), entries })
    }

    /// Makes a namespace. A conflict when it is there.
    pub async fn create(&self, namespace: &str, body: &Body) -> Result<(), ApiError> {
        let answer = self.write(Method::POST, namespace, Some(body), None).await?;
        // To the first namerctl, a 404 was a status like any other here.
        if answer.status == StatusCode::NOT_FOUND { Err(unexpected(&answer)) } else { Ok(()) }
    }

    /// Writes the dtab of a namespace; with a stamp only over that version.
    pub async fn update(&self, namespace: &str, body: &Body, version: Option<&str>) -> Result<(), ApiError> {
        found(self.write(Method::PUT, namespace, Some(body), version).await?).map(|_| ())
    }

    /// Removes a namespace; with a stamp only in that version, as far as the server looks at it.
    pub async fn delete(&self, namespace: &str, version: Option<&str>) -> Result<(), ApiError> {
        found(self.write(Method::DELETE, namespace, None, version).await?).map(|_| ())
    }

    /// The writes to a namespace, newest first.
    pub async fn history(&self, namespace: &str, limit: usize) -> Result<Document, ApiError> {
        let url = self.base.below(&format!("api/1/history/{namespace}")).with("limit", &limit.to_string());
        document(found(self.get(url).await?)?)
    }

    /// The names that routers have asked this namespace for.
    pub async fn names(&self, namespace: &str) -> Result<Vec<String>, ApiError> {
        strings(&success(found(self.get(self.base.below(&format!("api/1/names/{namespace}"))).await?)?)?)
    }

    /// How a path resolves by a namespace's dtab and then `extra`.
    pub async fn delegate(&self, namespace: &str, path: &str, extra: Option<&str>) -> Result<Document, ApiError> {
        let url = self.base.below(&format!("api/1/delegate/{namespace}")).with("path", path);
        let url = extra.map_or_else(|| url.clone(), |dtab| url.with("dtab", dtab));
        document(self.get(url).await?)
    }

    /// How a path resolves by this dtab alone, over the namers of namerd. The path is in the query as well because the
    /// first namerd wants it there.
    pub async fn delegate_by(&self, dtab: &str, path: &str) -> Result<Value, ApiError> {
        let body = format!("{{\"dtab\":{},\"path\":{}}}", Value::from(dtab), Value::from(path));
        let mut headers = self.common.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let url = self.base.below("api/1/delegate").with("path", path);
        let request = Request { method: Method::POST, url, headers, body: Some(body.into()) };
        success(self.client.send(request).await?)
    }

    fn dtab(&self, namespace: &str) -> Url {
        self.base.below(&format!("api/1/dtabs/{namespace}"))
    }

    async fn get(&self, url: Url) -> Result<Answer, ApiError> {
        let mut headers = self.common.clone();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        Ok(self.client.send(Request { method: Method::GET, url, headers, body: None }).await?)
    }

    /// A success, or a 404 for the caller to judge.
    async fn write(
        &self,
        method: Method,
        namespace: &str,
        body: Option<&Body>,
        version: Option<&str>,
    ) -> Result<Answer, ApiError> {
        let mut headers = self.common.clone();
        headers.extend(self.note.clone());
        if let Some(version) = version {
            let stamp = HeaderValue::from_str(version)
                .map_err(|_| ApiError::Answer(format!("{version:?} cannot be a version")))?;
            headers.insert(IF_MATCH, stamp);
        }
        let body = body.map(|body| {
            let (kind, bytes) = body.parts();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            bytes
        });
        let answer = self.client.send(Request { method, url: self.dtab(namespace), headers, body }).await?;
        match answer.status.as_u16() {
            200 | 201 | 204 | 404 => Ok(answer),
            _ => Err(unexpected(&answer)),
        }
    }
}

fn found(answer: Answer) -> Result<Answer, ApiError> {
    if answer.status == StatusCode::NOT_FOUND { Err(ApiError::NotFound) } else { Ok(answer) }
}

/// The JSON document of a 200.
fn success(answer: Answer) -> Result<Value, ApiError> {
    if answer.status != StatusCode::OK {
        return Err(unexpected(&answer));
    }
    // Whatever follows the document is not looked at, as in the first namerctl.
    let mut documents = serde_json::Deserializer::from_slice(&answer.body).into_iter::<Value>();
    match documents.next() {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => Err(ApiError::Answer(format!("not JSON: {error}"))),
        None => Err(ApiError::Answer("EOF".into())),
    }
}

fn document(answer: Answer) -> Result<Document, ApiError> {
    let text = String::from_utf8_lossy(&answer.body).trim().to_owned();
    Ok(Document { value: success(answer)?, text })
}

fn unexpected(answer: &Answer) -> ApiError {
    let text = String::from_utf8_lossy(&answer.body);
    let clean = |c: char| if c.is_control() && c != '\n' { '\u{fffd}' } else { c };
    let says = text.trim().chars().take(SHOWN).map(clean).collect();
    ApiError::Status { status: answer.status.as_u16(), reason: answer.reason.clone(), says }
}

fn strings(value: &Value) -> Result<Vec<String>, ApiError> {
    let wrong = || ApiError::Answer(format!("an array of texts was expected, not {}", wire::kind(value)));
    let list = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(list) => list,
        _ => return Err(wrong()),
    };
    list.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
}
