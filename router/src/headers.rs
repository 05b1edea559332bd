//! Header edits of a proxy: hop-by-hop fields, Via, the checks of Host and Connection (RFC 9110 §7.6, data-plane
//! reference §6).
//!
//! One pass over the names notes what is there ([`Seen`]); only what is there is then removed.

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};
use std::time::Duration;

/// Which headers that the router acts on a message has.
#[derive(Debug, Default, Clone, Copy)]
pub struct Seen {
    /// Anything that is hop-by-hop.
    pub hop_by_hop: bool,
    /// `Connection`.
    pub connection: bool,
    /// `l5d-dtab` or `l5d-ctx-dtab`.
    pub overrides: bool,
    /// `l5d-override` or `l5d-ctx-override`.
    pub named: bool,
    /// `baggage`.
    pub baggage: bool,
    /// Override headers of Finagle: `dtab-local`, `x-dtab-*`.
    pub finagle: bool,
    /// Other context headers of ours.
    pub context: bool,
    /// What proxies say of the hops before them: `Forwarded`, `X-Forwarded-*`, `X-Real-IP`.
    pub forwarded: bool,
    /// Headers that the router sets itself.
    pub owned: bool,
    /// Names that other software takes for ours, such as `l5d_dtab` (attack X3).
    pub aliases: bool,
    /// `Via`.
    pub via: bool,
}

/// Removed from every message (RFC 9110 §7.6.1 and data-plane reference §19). Framing fields are the codec's.
const HOP_BY_HOP: [HeaderName; 8] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("http2-settings"),
];

/// Set by the router; whatever a peer sent under these names is dropped (attack X2).
const OWNED: [HeaderName; 7] = [
    HeaderName::from_static("l5d-dst-service"),
    HeaderName::from_static("l5d-dst-client"),
    HeaderName::from_static("l5d-dst-residual"),
    HeaderName::from_static("l5d-reqid"),
    HeaderName::from_static("l5d-success-class"),
    HeaderName::from_static("x-forwarded-client-cert"),
    HeaderName::from_static("finagle-http-retryable-request"),
];

impl Seen {
    /// One pass over the names.
    pub fn of(headers: &HeaderMap) -> Seen {
        let mut seen = Seen::default();
        for name in headers.keys() {
            match name.as_str() {
                "connection" => seen.connection = true,
                "keep-alive"
                | "proxy-connection"
                | "te"
                | "trailer"
                | "upgrade"
                | "proxy-authenticate"
                | "proxy-authorization"
                | "http2-settings" => seen.hop_by_hop = true,
                "via" => seen.via = true,
                "l5d-dtab" | "l5d-ctx-dtab" => seen.overrides = true,
                "l5d-override" | "l5d-ctx-override" => seen.named = true,
                "baggage" => seen.baggage = true,
                "dtab-local" => seen.finagle = true,
                "forwarded" | "x-real-ip" => seen.forwarded = true,
                "l5d-ctx-deadline" | "l5d-ctx-trace" | "l5d-sample" => seen.context = true,
                "l5d-dst-service"
                | "l5d-dst-client"
                | "l5d-dst-residual"
                | "l5d-reqid"
                | "l5d-success-class"
                | "x-forwarded-client-cert"
                | "finagle-http-retryable-request" => seen.owned = true,
                name if name.starts_with(['l', 'x']) => seen.note(name),
                _ => {}
            }
        }
        seen
    }

    /// Names that are known by how they begin.
    fn note(&mut self, name: &str) {
        self.forwarded |= name.starts_with("x-forwarded-");
        self.finagle |= name.starts_with("x-dtab-");
        self.aliases |= is_alias(name);
    }
}

/// True for names that software which takes `_` for `-` confuses with one that is trusted (attack X3).
fn is_alias(name: &str) -> bool {
    if !name.contains('_') {
        return false;
    }
    let name = name.replace('_', "-");
    name.starts_with("l5d-") || name.starts_with("x-forwarded-") || name == "x-real-ip"
}

/// Removes the headers whose names `goes`.
fn remove_if(headers: &mut HeaderMap, goes: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| goes(name.as_str())).cloned().collect();
    names.iter().for_each(|name| drop(headers.remove(name)));
}

/// Removes what a caller says of the hops before it (attack X2). Of `Via`, only the entries of routers like this one are
/// left: whoever adds some harms nobody else, and a loop must not get rid of them (attack P23).
pub fn drop_forwarded(headers: &mut HeaderMap, seen: &Seen) {
    if seen.forwarded {
        remove_if(headers, |name| name == "forwarded" || name == "x-real-ip" || name.starts_with("x-forwarded-"));
    }
    if seen.via {
        let entries = headers.get_all(header::VIA).iter().flat_map(|via| via.as_bytes().split(|&byte| byte == b','));
        let own: Vec<&[u8]> = entries.map(<[u8]>::trim_ascii).filter(|entry| is_own_hop(entry)).collect();
        match HeaderValue::from_bytes(&own.join(&b", "[..])) {
            Ok(via) if !via.is_empty() => drop(headers.insert(header::VIA, via)),
            Ok(_) | Err(_) => drop(headers.remove(header::VIA)),
        }
    }
}

fn is_own_hop(entry: &[u8]) -> bool {
    matches!(entry, b"1.0 linkerd" | b"1.1 linkerd" | b"h2 linkerd")
}

/// Removes the override headers of Finagle (attack O7).
pub fn drop_finagle(headers: &mut HeaderMap) {
    remove_if(headers, |name| name == "dtab-local" || name.starts_with("x-dtab-"));
}

/// Removes hop-by-hop headers, those that `Connection` names, and those the router sets itself.
pub fn strip(headers: &mut HeaderMap, seen: &Seen) {
    if seen.connection {
        strip_nominated(headers);
    }
    if seen.hop_by_hop {
        HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(name)));
    }
    if seen.owned {
        OWNED.iter().for_each(|name| drop(headers.remove(name)));
    }
    if seen.aliases {
        remove_if(headers, is_alias);
    }
}

/// Removes what `Connection` names, but for names that routing, framing or trust depend on (attack X1, rule L10).
fn strip_nominated(headers: &mut HeaderMap) {
    let nominated: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(may_be_nominated)
        .collect();
    nominated.iter().for_each(|name| drop(headers.remove(name)));
    headers.remove(header::CONNECTION);
}

fn may_be_nominated(name: &HeaderName) -> bool {
    let name = name.as_str();
    let kept = matches!(
        name,
        "host"
            | "content-length"
            | "content-type"
            | "transfer-encoding"
            | "authorization"
            | "cookie"
            | "set-cookie"
            | "via"
            | "forwarded"
            | "expect"
            | "cache-control"
            | "close"
    );
    !kept && !name.starts_with("l5d-") && !name.starts_with("x-forwarded-")
}

/// Takes `Via` out of `headers` and writes the line with this hop appended (data-plane reference §6.3).
pub fn write_via(headers: &mut HeaderMap, seen: &Seen, version: Version, out: &mut BytesMut) {
    out.extend_from_slice(b"via: ");
    if seen.via
        && let Some(first) = headers.remove(header::VIA)
        && !first.is_empty()
    {
        out.extend_from_slice(first.as_bytes());
        out.extend_from_slice(b", ");
    }
    out.extend_from_slice(match version {
        Version::HTTP_10 => b"1.0 linkerd\r\n",
        // As Linkerd 1 writes it, for `2`.
        Version::HTTP_2 => b"h2 linkerd\r\n",
        _ => b"1.1 linkerd\r\n",
    });
}

/// True when the sender reads trailers (`TE: trailers`, RFC 9110 §10.1.4).
pub fn wants_trailers(headers: &HeaderMap) -> bool {
    all_elements(headers, header::TE).any(|element| element.eq_ignore_ascii_case(b"trailers"))
}

/// Writes the line that announces trailers: HTTP/2 has it, and servers there read no others (RFC 9110 §6.6.2).
pub fn write_announced(names: &HeaderValue, out: &mut BytesMut) {
    out.extend_from_slice(b"trailer: ");
    out.extend_from_slice(names.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// How long a service keeps an unused connection, as it says itself (`Keep-Alive: timeout=5`); None when it does not.
pub fn keep_alive_timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("keep-alive")?.to_str().ok()?;
    let seconds = value.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
    seconds.trim().parse::<u32>().ok().map(|seconds| Duration::from_secs(u64::from(seconds)))
}

/// Number of hops in the first `Via`.
pub fn call_depth(headers: &HeaderMap) -> usize {
    headers.get(header::VIA).map_or(0, |via| via.as_bytes().split(|&byte| byte == b',').count())
}

/// Checks the Host of a request (attack H1-8). The error says what is wrong.
pub fn check_host(headers: &HeaderMap, version: Version) -> Result<(), String> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::HTTP_10 => Ok(()),
        (None, _) if version == Version::HTTP_2 => Err("an HTTP/2 request must have an :authority".into()),
        (None, _) => Err("an HTTP/1.1 request must have a Host header".into()),
        (Some(_), Some(_)) => Err("the request has more than one Host header".into()),
        (Some(host), None) => check_authority(host),
    }
}

fn check_authority(host: &HeaderValue) -> Result<(), String> {
    let bytes = host.as_bytes();
    let legal = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'-' | b'.' | b'_' | b'~' | b':' | b'[' | b']' | b'%' | b'+' | b'!' | b'$' | b'&' | b'*' | b'='
            )
    };
    if let Some(bad) = bytes.iter().find(|byte| !legal(byte)) {
        return Err(format!("the Host header holds {:?}, which no host name may", char::from(*bad)));
    }
    let port_at = bytes.iter().rposition(|&byte| byte == b':').filter(|at| !bytes[*at..].contains(&b']'));
    let is_v6_literal = bytes.first() == Some(&b'[');
    if let Some(at) = port_at.filter(|_| is_v6_literal || bytes.iter().filter(|b| **b == b':').count() == 1) {
        let port = std::str::from_utf8(&bytes[at + 1..]).unwrap_or_default();
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let exists = digits && matches!(port.parse::<u32>(), Ok(1..=65_535));
        if !port.is_empty() && !exists {
            return Err(format!("the Host header names port {port}, which does not exist"));
        }
    }
    Ok(())
}

/// True for methods that may be sent again when it is not known whether they were acted on (RFC 9110 §9.2.2).
pub fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE)
}

/// The elements of a list in one value, without white space around them and without empty ones (RFC 9110 §5.6.1).
pub fn elements(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// The elements of all lines of a header.
pub fn all_elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers.get_all(name).into_iter().flat_map(elements)
}

/// True for the characters of a token (RFC 9110 §5.6.2).
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_say_how_long_they_keep_a_connection() {
        for (value, seconds) in [
            ("timeout=5", Some(5)),
            ("timeout=5, max=100", Some(5)),
            ("max=100,timeout = 5", None),
            ("max=100, timeout=0", Some(0)),
            ("timeout=", None),
            ("timeout=-1", None),
            ("timeout=99999999999", None),
            ("soon", None),
        ] {
            let headers =
                HeaderMap::from_iter([(HeaderName::from_static("keep-alive"), HeaderValue::from_static(value))]);
            assert_eq!(keep_alive_timeout(&headers), seconds.map(Duration::from_secs), "{value}");
        }
        assert_eq!(keep_alive_timeout(&HeaderMap::new()), None);
    }
}
