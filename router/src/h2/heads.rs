//! Heads between HTTP/2 and the shape that the path knows: `:authority` is `Host`, `:path` is the target (RFC 9113 §8.3).
//! What is added by the router are header lines (`lines`).
//!
//! Called by `serve`, `inbound` and `outbound`. Not for: which headers go or stay between hops (`crate::headers`).

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{self, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version, request, response};
use http1::{BodyLength, RequestHead, ResponseHead};

/// Longest method, in bytes, as over HTTP/1.
const MAX_METHOD: usize = 32;

/// What a request head says that has no place in the shape of HTTP/1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carried {
    /// `:scheme` is `http`.
    Http,
    /// `:scheme` is `https`.
    Https,
}

impl Carried {
    /// What a connection of this scheme says.
    pub(crate) fn of(scheme: &str) -> Carried {
        if scheme == "https" { Carried::Https } else { Carried::Http }
    }

    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Carried::Http => "http",
            Carried::Https => "https",
        }
    }
}

/// Fields that are about one connection, or that the codec writes itself (RFC 9113 §8.2.2).
const CONNECTION_FIELDS: [HeaderName; 6] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// True for fields that must not be in a message of HTTP/2.
pub(super) fn is_forbidden(name: &HeaderName) -> bool {
    CONNECTION_FIELDS.contains(name)
}

/// The head of a request that came in; `ended` when it has no body.
///
/// # Errors
/// What makes it malformed (RFC 9113 §8.1.1, attacks H2-11 and H2-12), a slug for the metric `rejected_total`.
pub(super) fn request_head(parts: request::Parts, ended: bool) -> Result<(RequestHead, Option<Carried>), &'static str> {
    let request::Parts { method, uri, mut headers, .. } = parts;
    let scheme = match uri.scheme_str() {
        Some("http") => Some(Carried::Http),
        Some("https") => Some(Carried::Https),
        // The codec leaves it out where there is no authority.
        None => None,
        Some(_) => return Err("h2-scheme"),
    };
    if !is_method(&method) {
        return Err("h2-method");
    }
    // Leading and trailing white space is malformed here (RFC 9113 §8.2.1); the codec lets it pass.
    if headers.values().any(|value| has_edges(value.as_bytes())) {
        return Err("h2-field-value");
    }
    host_of(&uri, &mut headers)?;
    join_cookies(&mut headers);
    let content_length = content_length(&headers).ok_or("h2-content-length")?;
    let body = match (ended, content_length) {
        (true, None) => BodyLength::Empty,
        (true, Some(0)) => BodyLength::Length(0),
        // The codec has seen to it for most; an announced body that is not there is a lie.
        (true, Some(_)) => return Err("h2-content-length"),
        (false, Some(length)) => BodyLength::Length(length),
        (false, None) => BodyLength::Chunked,
    };
    let expect = headers.get(header::EXPECT).map(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let target = uri.path_and_query().map_or(&b"/"[..], |target| target.as_str().as_bytes());
    let head = RequestHead {
        method,
        target: Bytes::copy_from_slice(target),
        version: Version::HTTP_2,
        headers,
        body,
        keep_alive: true,
        expect_continue: expect == Some(true),
        expect_other: expect == Some(false),
    };
    Ok((head, scheme))
}

/// True for what HTTP/1 takes for a method here: at most 32 bytes, no lower-case letter (attack H1-14).
fn is_method(method: &Method) -> bool {
    let name = method.as_str();
    name.len() <= MAX_METHOD && !name.bytes().any(|byte| byte.is_ascii_lowercase())
}

/// True for a value that begins or ends with white space.
fn has_edges(value: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    blank(value.first()) || blank(value.last())
}

/// Makes `Host` of `:authority`. Both may be there when they agree.
fn host_of(uri: &Uri, headers: &mut HeaderMap) -> Result<(), &'static str> {
    let Some(authority) = uri.authority() else { return Ok(()) };
    let mut hosts = headers.get_all(header::HOST).iter();
    if !hosts.all(|host| host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())) {
        return Err("h2-authority-and-host");
    }
    let value = HeaderValue::from_str(authority.as_str()).map_err(|_| "h2-authority")?;
    headers.insert(header::HOST, value);
    Ok(())
}

/// One line of cookies again, as everything but HTTP/2 wants it (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // Made of values that were legal.
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// The announced length, `Some(None)` without one; None when it is no number, or there are several.
fn content_length(headers: &HeaderMap) -> Option<Option<u64>> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let (first, second) = (values.next(), values.next());
    match (first, second) {
        (None, _) => Some(None),
        (Some(_), Some(_)) => None,
        (Some(value), None) => {
            let digits = value.as_bytes();
            let legal = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            legal.then(|| value.to_str().ok()?.parse().ok()).flatten().map(Some)
        }
    }
}

/// The head of a response that came in for a request with this method; `ended` when it has no body.
pub(super) fn response_head(parts: response::Parts, method: &Method, ended: bool) -> ResponseHead {
    let response::Parts { status, headers, .. } = parts;
    let length = content_length(&headers).flatten();
    let bodiless = *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body = match (bodiless, ended, length) {
        (true, ..) => BodyLength::Empty,
        (false, true, _) => BodyLength::Length(0),
        (false, false, Some(length)) => BodyLength::Length(length),
        (false, false, None) => BodyLength::Chunked,
    };
    let version = Version::HTTP_2;
    ResponseHead { status, reason: None, version, headers, body, keep_alive: true, content_length: length }
}

/// A request to be sent: `target` in origin form or `*`, the host among the headers, lines to be added.
///
/// # Errors
/// What cannot be said in HTTP/2.
pub(super) fn request(
    (method, target, scheme): (&Method, &[u8], Carried),
    mut headers: HeaderMap,
    body: BodyLength,
    trailers: bool,
) -> Result<Request<()>, String> {
    let authority = headers.remove(header::HOST);
    let authority = authority.filter(|host| !host.is_empty());
    clean(&mut headers, body);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if scheme == Carried::Https { Scheme::HTTPS } else { Scheme::HTTP });
    let path = PathAndQuery::from_maybe_shared(legal_target(target));
    parts.path_and_query = Some(path.map_err(|error| format!("the target cannot be sent over HTTP/2: {error}"))?);
    let authority = match authority {
        Some(host) => Authority::from_maybe_shared(Bytes::copy_from_slice(host.as_bytes()))
            .map_err(|error| format!("the Host cannot be sent as :authority: {error}"))?,
        // Only a request of HTTP/1.0 has none.
        None => Authority::from_static("localhost"),
    };
    parts.authority = Some(authority);
    let uri = Uri::from_parts(parts).map_err(|error| format!("the request cannot be sent over HTTP/2: {error}"))?;
    let mut request = Request::new(());
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The target with what may not stand in one as `%XX`, as it is done for HTTP/1.
fn legal_target(target: &[u8]) -> Bytes {
    let legal = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if target.iter().copied().all(legal) {
        return Bytes::copy_from_slice(target);
    }
    let mut out = BytesMut::with_capacity(target.len() + 16);
    for &byte in target {
        if legal(byte) {
            out.put_u8(byte);
        } else {
            out.put_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    out.freeze()
}

/// A response to be sent. `length` is what to state where there is no body (HEAD, 304).
pub(super) fn response(
    status: StatusCode,
    mut headers: HeaderMap,
    body: BodyLength,
    length: Option<u64>,
) -> Response<()> {
    clean(&mut headers, body);
    if let (BodyLength::Empty, Some(length)) = (body, length) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = Version::HTTP_2;
    *response.headers_mut() = headers;
    response
}

/// Leaves out how HTTP/1 frames a body, and states its length. Other fields about a connection were stripped
/// (`headers::strip`).
fn clean(headers: &mut HeaderMap, body: BodyLength) {
    headers.remove(header::TRANSFER_ENCODING);
    match body {
        BodyLength::Length(length) if content_length(headers) == Some(Some(length)) => {}
        BodyLength::Length(length) => _ = headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length)),
        BodyLength::Empty | BodyLength::Chunked | BodyLength::UntilClose => {
            _ = headers.remove(header::CONTENT_LENGTH);
        }
    }
}
