//! Which sites may talk to a server through a browser.
//!
//! What it is for: a page on the internet must not reach `localhost:9990` through its visitor's browser, neither by DNS
//! rebinding (Host check) nor by a form (Origin check): attack A2. What it is not: a defence against anyone who can open
//! a connection himself. Called by: `server`, first thing for every request, and the HTTP interface of namerd.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, Method, StatusCode, Version};

use crate::Response;

/// The host names the server answers to, beside every IP literal and `localhost`.
#[derive(Clone, Debug, Default)]
pub struct HostCheck {
    names: Vec<String>,
}

impl HostCheck {
    /// Allows `names` (no ports, any case) in addition. `*` switches the Host check off; the Origin check stays.
    pub fn new<I, S>(names: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        Self { names: names.into_iter().map(|name| plain(&name.into())).collect() }
    }

    /// `Err` is the answer: 400 for a request without one valid host, 403 for a foreign host, and for a foreign origin of
    /// a request that is not GET, HEAD or OPTIONS.
    pub fn check(&self, request: &Parts) -> Result<(), Box<Response>> {
        let host = host_of(request)?;
        let target = request.uri.authority();
        for authority in [host.as_ref(), target].into_iter().flatten() {
            if !self.allows(authority) {
                return Err(foreign_host(authority.host()));
            }
        }
        let safe = [Method::GET, Method::HEAD, Method::OPTIONS].contains(&request.method);
        match single(&request.headers, ORIGIN)? {
            Some(origin) if !safe => same_site(origin, host.as_ref().or(target)),
            _ => Ok(()),
        }
    }

    fn allows(&self, authority: &Authority) -> bool {
        let name = plain(authority.host());
        let v6 = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
        name == "localhost"
            || name.parse::<Ipv4Addr>().is_ok()
            || v6.is_some_and(|n| n.parse::<Ipv6Addr>().is_ok())
            || self.names.iter().any(|allowed| allowed == "*" || *allowed == name)
    }
}

/// The Host header. Only HTTP/1.0 may leave it out: browsers, the only ones that can be tricked, never do.
fn host_of(request: &Parts) -> Result<Option<Authority>, Box<Response>> {
    let Some(value) = single(&request.headers, HOST)? else {
        return if request.version < Version::HTTP_11 { Ok(None) } else { Err(bad("the Host header is missing\n")) };
    };
    match authority(value) {
        Some(host) => Ok(Some(host)),
        None => Err(bad("the Host header is not a host name or address\n")),
    }
}

fn same_site(origin: &str, host: Option<&Authority>) -> Result<(), Box<Response>> {
    let (scheme, rest) = origin.split_once("://").unwrap_or(("", ""));
    let default = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
    let key = |a: &Authority| (plain(a.host()), a.port_u16().unwrap_or(default));
    match (authority(rest), host) {
        (Some(from), Some(host)) if key(&from) == key(host) => Ok(()),
        _ => Err(forbidden(format!(
            "this request changes something and was sent by a page of another site (Origin: {origin}); open the \
             server's own page, or send the request without an Origin header from a command line\n"
        ))),
    }
}

/// A host with optional port; no user, nothing after it.
fn authority(text: &str) -> Option<Authority> {
    let parsed: Authority = text.parse().ok()?;
    let port_ok = parsed.port().is_none() || parsed.port_u16().is_some();
    (!text.contains('@') && !parsed.host().is_empty() && port_ok).then_some(parsed)
}

fn single(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Box<Response>> {
    let mut all = headers.get_all(&name).iter();
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(one), None) => one.to_str().map(Some).map_err(|_| bad("a header is not ASCII\n")),
        _ => Err(bad("a header occurs twice that may occur only once\n")),
    }
}

/// Lower case, without the dot of a fully qualified name.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn bad(text: &'static str) -> Box<Response> {
    Box::new(Response::error(StatusCode::BAD_REQUEST, text))
}

fn forbidden(text: String) -> Box<Response> {
    Box::new(Response::error(StatusCode::FORBIDDEN, text))
}

fn foreign_host(host: &str) -> Box<Response> {
    forbidden(format!(
        "this server does not answer to the host name {host:?}, as protection against DNS rebinding; use an IP \
         address or localhost\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(check: &HostCheck, method: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = http::Request::builder().method(method).uri("/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        check.check(&parts).map_or_else(|response| response.status.as_u16(), |()| 200)
    }

    #[test]
    fn hosts() {
        let check = HostCheck::new(["Admin.Example.com"]);
        for (host, want) in [
            ("127.0.0.1:9990", 200),
            ("10.1.2.3", 200),
            ("[::1]:9990", 200),
            ("localhost", 200),
            ("LOCALHOST.:1", 200),
            ("admin.example.com.:443", 200),
            ("evil.example", 403),
            ("localhost.evil.example", 403),
            ("127.0.0.1.evil.example", 403),
            ("127.1", 403),
            ("user@localhost", 400),
            ("", 400),
            ("a b", 400),
        ] {
            assert_eq!(status(&check, "GET", &[("host", host)]), want, "{host}");
        }
        assert_eq!(status(&check, "GET", &[]), 400);
        assert_eq!(status(&check, "GET", &[("host", "localhost"), ("host", "localhost")]), 400);
        assert_eq!(status(&HostCheck::new(["*"]), "GET", &[("host", "evil.example")]), 200);
    }

    #[test]
    fn an_absolute_target_is_checked_too() {
        let request = http::Request::builder().uri("http://evil.example/x").header("host", "localhost");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        assert_eq!(HostCheck::default().check(&parts).unwrap_err().status, 403);
    }

    #[test]
    fn origins() {
        let check = HostCheck::default();
        for (host, origin, want) in [
            ("localhost:9990", "http://localhost:9990", 200),
            ("localhost", "http://localhost:80", 200),
            ("localhost:443", "https://LOCALHOST", 200),
            ("localhost:9990", "http://localhost:3000", 403),
            ("127.0.0.1:9990", "http://localhost:9990", 403),
            ("localhost:9990", "http://evil.example", 403),
            ("localhost:9990", "null", 403),
            ("localhost:9990", "", 403),
        ] {
            assert_eq!(status(&check, "POST", &[("host", host), ("origin", origin)]), want, "{host} {origin}");
        }
        assert_eq!(status(&check, "GET", &[("host", "localhost"), ("origin", "http://evil.example")]), 200);
        assert_eq!(status(&check, "DELETE", &[("host", "localhost"), ("origin", "http://evil.example")]), 403);
        assert_eq!(status(&check, "POST", &[("host", "localhost")]), 200);
    }
}
