//! What a page gets and what it gives back.
//!
//! What it is for: a request with its body read and its parameters decoded, and a response in one piece. What it is not:
//! streaming. Called by: every page.

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::Full;

use crate::decode::parse_query;

/// The default policy of HTML pages: no scripts, no images, no requests.
const STRICT_POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");

/// A request to a page.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET` also when the client sent `HEAD`.
    pub method: Method,
    /// Percent-decoded, repeated slashes collapsed; without query. Exactly what the security filter saw.
    pub path: String,
    /// Decoded query parameters, in order.
    pub query: Vec<(String, String)>,
    /// Decoded body of a `POST` with `application/x-www-form-urlencoded`; else empty.
    pub form: Vec<(String, String)>,
    /// As sent.
    pub headers: HeaderMap,
    /// At most [`crate::MAX_BODY`] bytes.
    pub body: Bytes,
}

impl Request {
    /// Puts a request together; decodes `query` (the text after `?`) and, if it is one, the form in `body`.
    pub fn new(method: Method, path: String, query: &str, headers: HeaderMap, body: Bytes) -> Self {
        let form = if method == Method::POST && is_form(&headers) {
            parse_query(&String::from_utf8_lossy(&body))
        } else {
            Vec::new()
        };
        Self { method, path, query: parse_query(query), form, headers, body }
    }

    /// A `GET` without headers, for tests of pages: `/admin/metrics.json?pretty=1`.
    pub fn get(target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self::new(Method::GET, path.to_owned(), query, HeaderMap::new(), Bytes::new())
    }

    /// The first parameter of this name: in the query, else in the form.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().chain(&self.form).find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// The media type of the body in lower case, without parameters such as `charset`; empty if there is none.
    pub fn media_type(&self) -> String {
        media_type(&self.headers)
    }
}

/// The answer of a page. The server adds `X-Content-Type-Options: nosniff` and `X-Frame-Options: DENY`, and
/// `Cache-Control: no-store` unless [`Response::headers`] has that header.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status.
    pub status: StatusCode,
    /// Value of `Content-Type`.
    pub content_type: String,
    /// All of the body.
    pub body: Bytes,
    /// Further headers.
    pub headers: HeaderMap,
}

impl Response {
    /// 200 with a body of the given type.
    pub fn new(content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: content_type.to_owned(),
            body: body.into(),
            headers: HeaderMap::new(),
        }
    }

    /// 200, plain text.
    pub fn text(body: impl Into<Bytes>) -> Self {
        Self::new("text/plain; charset=utf-8", body)
    }

    /// 200, JSON that is already text.
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self::new("application/json", body)
    }

    /// 200, a JSON value.
    pub fn json_value(value: &serde_json::Value) -> Self {
        Self::json(value.to_string())
    }

    /// 200, HTML under the policy `default-src 'none'; style-src 'unsafe-inline'`. A page that needs more replaces the
    /// header `Content-Security-Policy`. Escape foreign text with [`crate::escape_html`].
    pub fn html(body: impl Into<Bytes>) -> Self {
        Self::new("text/html; charset=utf-8", body).with_header(CONTENT_SECURITY_POLICY, STRICT_POLICY)
    }

    /// 404 without a body.
    pub fn not_found() -> Self {
        Self::error(StatusCode::NOT_FOUND, Bytes::new())
    }

    /// 405; `allow` lists the methods that work, such as `POST`.
    pub fn method_not_allowed(allow: &str) -> Self {
        let response = Self::error(StatusCode::METHOD_NOT_ALLOWED, format!("use {allow}\n"));
        match HeaderValue::from_str(allow) {
            Ok(value) => response.with_header(ALLOW, value),
            Err(_) => response,
        }
    }

    /// A status with a sentence for the operator, plain text.
    pub fn error(status: StatusCode, text: impl Into<Bytes>) -> Self {
        Self::text(text).with_status(status)
    }

    /// The same with another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same with a header set (replaced if present).
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    pub(crate) fn into_http(self) -> http::Response<Full<Bytes>> {
        let content_type = HeaderValue::from_str(&self.content_type);
        let mut out = http::Response::new(Full::new(self.body));
        *out.status_mut() = self.status;
        let headers = out.headers_mut();
        *headers = self.headers;
        headers.insert(CONTENT_TYPE, content_type.unwrap_or(HeaderValue::from_static("application/octet-stream")));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        out
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    media_type(headers) == "application/x-www-form-urlencoded"
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_come_from_query_then_form() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "Application/X-WWW-Form-Urlencoded; charset=UTF-8".parse().unwrap());
        let body = Bytes::from("a=form&b=2+3");
        let request = Request::new(Method::POST, "/x".into(), "a=query", headers.clone(), body.clone());
        assert_eq!(request.param("a"), Some("query"));
        assert_eq!(request.param("b"), Some("2 3"));
        assert_eq!(request.param("c"), None);
        let get = Request::new(Method::GET, "/x".into(), "", headers, body);
        assert_eq!(get.param("b"), None, "only a POST has a form");
        assert_eq!(Request::get("/x?q=%2F").param("q"), Some("/"));
    }

    #[test]
    fn a_bad_content_type_does_no_harm() {
        let response = Response::new("bad\nvalue", "x").into_http();
        assert_eq!(response.headers()[CONTENT_TYPE], "application/octet-stream");
    }
}
