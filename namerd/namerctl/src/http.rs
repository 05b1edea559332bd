//! [`Client`]: one HTTP/1.1 request after the other, each on a connection of its own, as a command needs them.
//!
//! Time and size of every answer are bounded; proxies of the environment are honoured; redirects are followed. A redirect
//! keeps the method and the body, but for 303: a write that silently became a GET would be reported as done. Credentials
//! never go to another server than the one they are for. Called by [`crate::api`] and [`crate::metrics`].

use crate::connect::{self, basic};
use crate::proxy::{self, Proxy};
use crate::url::Url;
use ::http::header::{
    AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, PROXY_AUTHORIZATION,
};
use ::http::{Method, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tls::{ClientAuthParams, ClientFiles, ClientTlsParams, Tls, Trust};
use tokio::sync::OnceCell;

/// An answer may have this many bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// So many redirects are followed.
const MAX_REDIRECTS: usize = 10;

/// How requests are made.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// For one request, redirects included; None for ever.
    pub timeout: Option<Duration>,
    /// PEM file of the authorities to trust instead of the system's.
    pub cacert: Option<PathBuf>,
    /// PEM files of our certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Header lines besides those of the connection.
    pub headers: HeaderMap,
    /// The body; sent with `Content-Length`, never chunked.
    pub body: Option<Bytes>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// The reason as the server wrote it.
    pub reason: String,
    /// The header lines.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{method} {url}: {why}")]
pub struct HttpError {
    method: Method,
    url: String,
    why: String,
    /// False when it is certain that no byte of the request was sent.
    sent: bool,
}

impl HttpError {
    /// True when the request wanted to change something, and may have done so.
    pub fn may_have_acted(&self) -> bool {
        self.sent && self.method != Method::GET
    }
}

/// See the module.
pub struct Client {
    options: Options,
    tls: OnceCell<Result<Arc<ClientFiles>, String>>,
}

impl Client {
    /// A client. Files of certificates are read when they are needed for the first time.
    pub fn new(options: Options) -> Client {
        Client { options, tls: OnceCell::new() }
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&self, request: Request) -> Result<Answer, HttpError> {
        let error =
            |why: String, sent| HttpError { method: request.method.clone(), url: request.url.shown(), why, sent };
        let (answer, time) = (self.follow(request.clone()), self.options.timeout);
        let outcome = match time {
            None => answer.await,
            Some(time) => tokio::time::timeout(time, answer)
                .await
                .unwrap_or_else(|_| Err((format!("no answer within {} s (--timeout)", time.as_secs_f64()), true))),
        };
        outcome.map_err(|(why, sent)| error(why, sent))
    }

    async fn follow(&self, mut request: Request) -> Result<Answer, (String, bool)> {
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.once(&request).await?;
            let location = match answer.status.as_u16() {
                301 | 302 | 303 | 307 | 308 => answer.headers.get(LOCATION),
                _ => None,
            };
            let Some(location) = location else { return Ok(answer) };
            let next = location.to_str().ok().and_then(|location| request.url.join(location));
            let Some(next) = next else { return Err((format!("redirected to {location:?}, which is no URL"), true)) };
            if request.url.secure && !next.secure {
                return Err((format!("redirected from https to {}, which is refused", next.shown()), true));
            }
            if !next.same_origin(&request.url) {
                request.headers.remove(AUTHORIZATION);
            }
            if answer.status == StatusCode::SEE_OTHER {
                request = Request { method: Method::GET, body: None, ..request };
            }
            request.url = next;
        }
        Err((format!("more than {MAX_REDIRECTS} redirects"), true))
    }

    async fn once(&self, request: &Request) -> Result<Answer, (String, bool)> {
        let url = &request.url;
        let env = |name: &str| std::env::var(name).ok();
        let proxy = proxy::choose(url.scheme(), &url.host, url.port, &env).map_err(|why| (why, false))?;
        let files = if url.secure { Some(self.files().await.map_err(|why| (why, false))?) } else { None };
        let io = connect::open(url, proxy.as_ref(), files.as_ref()).await.map_err(|why| (why, false))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
            .await
            .map_err(|error| (error.to_string(), false))?;
        // It ends with the connection: nothing waits for it.
        let driver = tokio::spawn(connection);
        let message = message(request, proxy.as_ref()).map_err(|why| (why, false))?;
        let exchanged = exchange(&mut sender, message).await.map_err(|why| (why, true));
        drop(sender);
        driver.abort();
        exchanged
    }

    /// The TLS settings, read once.
    async fn files(&self) -> Result<Arc<ClientFiles>, String> {
        let read = || async {
            let trust = self.options.cacert.clone().map_or(Trust::System, |file| Trust::Files(vec![file]));
            let client_auth = self.options.identity.clone().map(|(cert_path, key_path)| ClientAuthParams {
                cert_path,
                key_path,
                intermediate_certs_path: None,
            });
            let params = ClientTlsParams { trust, client_auth, ..ClientTlsParams::default() };
            let tls = Tls::new(&tokio::runtime::Handle::current());
            tls.client(&params).map_err(|error| format!("TLS: {}", error.text))
        };
        self.tls.get_or_init(read).await.clone()
    }
}

/// The request as it goes out on the connection.
fn message(request: &Request, proxy: Option<&Proxy>) -> Result<http::Request<Full<Bytes>>, String> {
    let url = &request.url;
    let through = proxy.filter(|_| !url.secure);
    let target = if through.is_some() { url.shown() } else { url.target() };
    let mut out = http::Request::builder().method(request.method.clone()).uri(target);
    if let Some(headers) = out.headers_mut() {
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| format!("{text:?} cannot be a header"));
        headers.insert(HOST, value(&url.authority)?);
        headers.insert(
            HeaderName::from_static("user-agent"),
            HeaderValue::from_static(concat!("namerctl/", env!("CARGO_PKG_VERSION"))),
        );
        headers.extend(request.headers.clone());
        if let Some(body) = &request.body {
            // Also of an empty body: a namerd must not take silence for an empty dtab.
            headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        if let (Some(credentials), false) = (&url.credentials, headers.contains_key(AUTHORIZATION)) {
            headers.insert(AUTHORIZATION, value(&basic(credentials))?);
        }
        if let Some(credentials) = through.and_then(|proxy| proxy.credentials.as_ref()) {
            headers.insert(PROXY_AUTHORIZATION, value(&basic(credentials))?);
        }
    }
    out.body(Full::new(request.body.clone().unwrap_or_default())).map_err(|error| error.to_string())
}

async fn exchange(
    sender: &mut hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    message: http::Request<Full<Bytes>>,
) -> Result<Answer, String> {
    let answer = sender.send_request(message).await.map_err(|error| describe(&error))?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await;
    let body = body.map_err(|error| format!("the answer breaks off or is larger than {MAX_ANSWER} bytes: {error}"))?;
    let reason = match head.extensions.get::<hyper::ext::ReasonPhrase>() {
        Some(reason) => String::from_utf8_lossy(reason.as_bytes()).into_owned(),
        None => head.status.canonical_reason().unwrap_or_default().to_owned(),
    };
    Ok(Answer { status: head.status, reason, headers: head.headers, body: body.to_bytes() })
}

/// The error with its causes.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// An error of a request that may have been acted on.
#[cfg(test)]
pub(crate) fn lost_for_tests() -> HttpError {
    HttpError { method: Method::PUT, url: "http://namerd/".into(), why: "the connection was reset".into(), sent: true }
}
