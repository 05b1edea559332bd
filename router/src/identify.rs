//! Identifiers: from a request's head to the name of its service (naming reference §7, `identify.json`).
//!
//! Pure. Also the proxy form of the request-target, and the key under which a worker remembers what it identified.

use crate::config::IdentifierParams;
use bytes::Bytes;
use dtab::{Path, PathBuilder};
use http::{HeaderMap, HeaderValue, Method, Version, header};
use std::borrow::Cow;

/// What identifiers look at; `target` is already in origin form.
pub struct Message<'a> {
    /// The method.
    pub method: &'a Method,
    /// The request-target in origin form; may be empty.
    pub target: &'a [u8],
    /// HTTP/1.0, 1.1 or 2.
    pub version: Version,
    /// The headers; Host is that of an absolute target, or the `:authority` of HTTP/2.
    pub headers: &'a HeaderMap,
    /// `http` or `https`: how the connection is made, or the `:scheme` of HTTP/2.
    pub scheme: &'a str,
}

/// A name for a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Identified {
    /// The destination, prefix included.
    pub dst: Path,
    /// Leading path segments to remove from the target before it is forwarded.
    pub consume: usize,
    /// Which identifier answered, counted from 0.
    pub identifier: usize,
}

/// Why there is no name (naming reference §7.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoName {
    /// All identifiers declined; the last one's reason.
    Unidentified(String),
    /// An identifier reported an error.
    Failure(String),
    /// An identifier threw; `true` when it was the first of the list.
    Threw(String, bool),
}

enum Answer {
    Named(Path, usize),
    Declined(String),
    Failure(String),
    Threw(String),
}

/// The name of a request: the first identifier that answers (naming reference §7.1).
pub fn identify(identifiers: &[IdentifierParams], prefix: &Path, message: &Message<'_>) -> Result<Identified, NoName> {
    let mut last = "no identifier is configured".to_owned();
    for (i, identifier) in identifiers.iter().enumerate() {
        match ask(identifier, message) {
            Answer::Named(path, consume) => {
                return Ok(Identified { dst: prefix.concat(&path), consume, identifier: i });
            }
            Answer::Declined(reason) => last = reason,
            Answer::Failure(reason) => return Err(NoName::Failure(reason)),
            Answer::Threw(reason) => return Err(NoName::Threw(reason, i == 0)),
        }
    }
    Err(NoName::Unidentified(last))
}

fn ask(identifier: &IdentifierParams, message: &Message<'_>) -> Answer {
    match identifier {
        IdentifierParams::HeaderToken { header, written } => token(header, written, message),
        IdentifierParams::Header { header, written } => header_path(header, written, message),
        IdentifierParams::HeaderPath { header, segments } => leading_path(value(header, message), *segments),
        IdentifierParams::MethodAndHost { http_uri_in_dst } => method_and_host(*http_uri_in_dst, message),
        IdentifierParams::Path { segments, consume } => path_segments(*segments, *consume, message),
        IdentifierParams::Static { path } => Answer::Named(path.clone(), 0),
    }
}

fn one_label(label: &[u8]) -> Answer {
    labels([label], None)
}

/// A name of raw labels, followed by the labels of `rest`.
fn labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>, rest: Option<&Path>) -> Answer {
    let mut builder = PathBuilder::default();
    for label in labels {
        if let Err(error) = builder.push(label) {
            return Answer::Threw(error.to_string());
        }
    }
    if let Some(rest) = rest {
        builder.extend(rest);
    }
    Answer::Named(builder.build(), 0)
}

/// The value of a header, or of what a pseudo header of HTTP/2 stands for; empty when it is absent.
pub fn value<'a>(name: &str, message: &Message<'a>) -> &'a [u8] {
    match name {
        ":path" => message.target,
        ":method" => message.method.as_str().as_bytes(),
        ":scheme" => message.scheme.as_bytes(),
        ":authority" => host(message),
        _ => message.headers.get(name).map_or(b"", HeaderValue::as_bytes),
    }
}

fn host<'a>(message: &Message<'a>) -> &'a [u8] {
    message.headers.get(header::HOST).map_or(b"", HeaderValue::as_bytes)
}

fn token(name: &str, written: &str, message: &Message<'_>) -> Answer {
    match value(name, message) {
        b"" if message.version == Version::HTTP_2 => Answer::Declined(format!("missing header: '{written}'")),
        b"" => Answer::Declined(format!("{written} header is absent")),
        token => one_label(token),
    }
}

fn header_path(name: &str, written: &str, message: &Message<'_>) -> Answer {
    let value = value(name, message);
    if value.is_empty() {
        return Answer::Declined(format!("{written} header is absent"));
    }
    match Path::parse(&String::from_utf8_lossy(value)) {
        Ok(path) => Answer::Named(path, 0),
        Err(error) => Answer::Failure(error.to_string()),
    }
}

/// The first segments of a path, or all of them (naming reference §7.7). What comes behind those that count may hold any
/// characters (Linkerd: only those of names).
fn leading_path(value: &[u8], segments: Option<usize>) -> Answer {
    let path = path_part(value);
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let inner = path.strip_prefix(b"/").unwrap_or(path);
    let there = if inner.is_empty() { 0 } else { 1 + inner.iter().filter(|&&byte| byte == b'/').count() };
    match segments {
        None if there == 0 => return Answer::Declined("Missing destination path".to_owned()),
        Some(count) if there < count => {
            return Answer::Declined(format!("Path must have at least {count} segment(s)"));
        }
        _ => {}
    }
    if climbs(inner, segments.unwrap_or(there)) {
        return Answer::Failure("dot segments of the path lead out of the segments that name the service".to_owned());
    }
    let named = match leading(path, segments.unwrap_or(there)) {
        // An empty first segment: what is wrong with it, the whole path says.
        b"/" => path,
        named => named,
    };
    match Path::parse(&String::from_utf8_lossy(named)) {
        Ok(path) => Answer::Named(path, 0),
        Err(error) => Answer::Threw(error.to_string()),
    }
}

/// `path` up to the end of its first `count` segments.
fn leading(path: &[u8], count: usize) -> &[u8] {
    let end = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').nth(count);
    end.map_or(path, |(at, _)| &path[..at])
}

fn method_and_host(uri_in_dst: bool, message: &Message<'_>) -> Answer {
    let rest = match uri_in_dst.then(|| Path::parse(&String::from_utf8_lossy(path_part(message.target)))) {
        None => None,
        Some(Ok(path)) => Some(path),
        Some(Err(error)) => return Answer::Threw(error.to_string()),
    };
    let method = message.method.as_str().as_bytes();
    if message.version == Version::HTTP_10 {
        return labels([b"1.0", method], rest.as_ref());
    }
    let host = host(message).to_ascii_lowercase();
    if host.is_empty() {
        return Answer::Declined("HTTP/1.1 request missing hostname".to_owned());
    }
    // Also for HTTP/2: what a service is called does not depend on how its clients connect.
    labels([b"1.1", method, &host], rest.as_ref())
}

fn path_segments(count: usize, consume: bool, message: &Message<'_>) -> Answer {
    let path = path_part(message.target);
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |at| at + 1);
    let segments: Vec<&[u8]> = match &path[..end] {
        [] => Vec::new(),
        used => used.split(|&byte| byte == b'/').collect(),
    };
    if segments.len() < count {
        return Answer::Declined("not enough segments in path".to_owned());
    }
    if climbs(path, count) {
        return Answer::Failure("dot segments of the path lead out of the segments that name the service".to_owned());
    }
    match labels(segments.into_iter().take(count), None) {
        Answer::Named(path, _) => Answer::Named(path, if consume { count } else { 0 }),
        other => other,
    }
}

/// True when somebody who resolves dot segments would see other first `count` segments than the router does (attack
/// X6). The router resolves and decodes nothing: it routes by the bytes that it passes on. Services are not of one mind
/// about `%2e`, `%2f`, `\` and what follows a `;`, so all are taken for what they may be taken for.
fn climbs(path: &[u8], count: usize) -> bool {
    let encoded = path.contains(&b'%');
    if !path.contains(&b'.') && !encoded {
        return false;
    }
    let plain = if encoded { Cow::Owned(decoded(path)) } else { Cow::Borrowed(path) };
    let mut depth = 0;
    for segment in plain.split(|&byte| matches!(byte, b'/' | b'\\')) {
        match segment.split(|&byte| byte == b';').next().unwrap_or_default() {
            b"." if depth < count => return true,
            b".." if depth <= count => return true,
            b".." => depth -= 1,
            b"." | b"" => {}
            _ => depth += 1,
        }
    }
    false
}

/// `path` with `%2e`, `%2f` and `%5c` decoded, over and over, so that `%252e` is no way around.
fn decoded(path: &[u8]) -> Vec<u8> {
    let mut plain: Vec<u8> = Vec::with_capacity(path.len());
    for &byte in path {
        plain.push(byte);
        while let [.., b'%', high, low] = plain.as_slice() {
            let byte = match (high, low.to_ascii_lowercase()) {
                (b'2', b'5') => b'%',
                (b'2', b'e') => b'.',
                (b'2', b'f') => b'/',
                (b'5', b'c') => b'\\',
                _ => break,
            };
            plain.truncate(plain.len() - 3);
            plain.push(byte);
        }
    }
    plain
}

/// The path of a target, without the query.
fn path_part(target: &[u8]) -> &[u8] {
    target.iter().position(|&byte| byte == b'?').map_or(target, |at| &target[..at])
}

/// `target` without its first `segments` path segments; query and trailing slash stay, `/` when nothing is left
/// (naming reference §7.4).
pub fn consume(target: &Bytes, segments: usize) -> Bytes {
    let path = path_part(target);
    let mut at = 0;
    for _ in 0..segments {
        at += 1;
        at += path.get(at..).and_then(|rest| rest.iter().position(|&byte| byte == b'/')).unwrap_or(path.len());
        at = at.min(path.len());
    }
    if at < path.len() {
        return target.slice(at..);
    }
    if at == target.len() {
        return Bytes::from_static(b"/");
    }
    let mut rest = Vec::with_capacity(target.len() - at + 1);
    rest.push(b'/');
    rest.extend_from_slice(&target[at..]);
    rest.into()
}

/// Authority and origin form of an absolute target (naming reference §7.3, RFC 9112 §3.2.2). None for any other
/// target; an error for one that looks absolute but is not legal.
pub fn absolute_form(target: &Bytes) -> Result<Option<(Bytes, Bytes)>, String> {
    let Some(at) = target.windows(3).position(|window| window == b"://") else { return Ok(None) };
    let scheme = &target[..at];
    if scheme.starts_with(b"/") || scheme.contains(&b'?') {
        return Ok(None);
    }
    let legal = scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    let rest = target.slice(at + 3..);
    let end = rest.iter().position(|&byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    if !legal || end == 0 {
        return Err(format!("the request target {} is not a legal URI", String::from_utf8_lossy(target)));
    }
    Ok(Some((rest.slice(..end), rest.slice(end..))))
}

/// Appends to `key` all that identification reads of the message: two messages with one key have one name.
pub fn memo_key(identifiers: &[IdentifierParams], message: &Message<'_>, key: &mut Vec<u8>) {
    for identifier in identifiers {
        match identifier {
            IdentifierParams::HeaderToken { header, .. } | IdentifierParams::Header { header, .. } => {
                key.extend_from_slice(value(header, message));
            }
            IdentifierParams::MethodAndHost { http_uri_in_dst } => {
                key.push(if message.version == Version::HTTP_10 { b'0' } else { b'1' });
                key.extend_from_slice(message.method.as_str().as_bytes());
                key.push(b'\n');
                key.extend_from_slice(host(message));
                if *http_uri_in_dst {
                    key.push(b'\n');
                    key.extend_from_slice(path_part(message.target));
                }
            }
            IdentifierParams::Path { segments, .. } => first_segments(message.target, *segments, key),
            IdentifierParams::HeaderPath { header, segments } => {
                first_segments(value(header, message), segments.unwrap_or(usize::MAX), key);
            }
            IdentifierParams::Static { .. } => {}
        }
        key.push(b'\n');
    }
}

/// Appends what decides about a name that is made of the first segments of `target`.
fn first_segments(target: &[u8], segments: usize, key: &mut Vec<u8>) {
    let path = path_part(target);
    // The rest decides whether the name counts at all.
    key.push(b'0' + u8::from(climbs(path.strip_prefix(b"/").unwrap_or(path), segments)));
    key.extend_from_slice(leading(path, segments));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attack X6: dot segments in any spelling never name another service than the one that is routed to.
    #[test]
    fn dot_segments_that_change_the_name() {
        for path in [
            "..",
            ".",
            "../web",
            "./web",
            "web/..",
            "web/../admin",
            "web/a/../../admin",
            "web/%2e%2e/admin",
            "%2E%2e/web",
            "web/.%2e/x",
            "web/..;/admin",
            "web/..%2fadmin",
            "web/..\\admin",
            "web%2f..%2fadmin",
            "web/%252e%252e/admin",
            "%2e/web",
            "web\\..\\admin",
            "web/..;a=b/x",
            "web//../admin",
            "web/%25252e./admin",
        ] {
            assert!(climbs(path.as_bytes(), 1), "{path}");
        }
        for path in [
            "",
            "web",
            "web/",
            "web/a/../b",
            "web/./a",
            "web/...",
            "web/..a",
            "a..b/c",
            ".well-known/x",
            "web/%2e%2ea",
            "web/a/%2e%2e/b",
            "web/;x",
            "web;x/y",
            "web//a",
            "%2x/%",
            "%e0%80%ae/x",
            "web/a.b/c..d",
            "web/%41",
        ] {
            assert!(!climbs(path.as_bytes(), 1), "{path}");
        }
        assert!(climbs(b"a/b/..", 2) && climbs(b"a/./b", 2) && !climbs(b"a/b/c/..", 2) && !climbs(b"a/b/./c", 2));
    }

    /// What was remembered of one path must not let another one through.
    #[test]
    fn the_memo_tells_them_apart() {
        let identifiers = [IdentifierParams::Path { segments: 1, consume: false }];
        let headers = HeaderMap::new();
        let key = |target: &str| {
            let message = Message {
                method: &Method::GET,
                target: target.as_bytes(),
                version: Version::HTTP_11,
                headers: &headers,
                scheme: "http",
            };
            let mut key = Vec::new();
            memo_key(&identifiers, &message, &mut key);
            (key, identify(&identifiers, &Path::empty(), &message).is_ok())
        };
        let (good, bad) = (key("/web/x"), key("/web/../x"));
        assert!(good.1 && !bad.1 && good.0 != bad.0);
        assert_eq!(good.0, key("/web/y/z").0);
    }

    /// What comes of a request for `:path` with one identifier, and the key that it is remembered by.
    fn asked(identifier: &IdentifierParams, target: &str) -> (Result<String, NoName>, Vec<u8>) {
        let headers: HeaderMap = [(header::HOST, HeaderValue::from_static("Web:80"))].into_iter().collect();
        let message = Message {
            method: &Method::POST,
            target: target.as_bytes(),
            version: Version::HTTP_2,
            headers: &headers,
            scheme: "https",
        };
        let identifiers = [identifier.clone()];
        let mut key = Vec::new();
        memo_key(&identifiers, &message, &mut key);
        (identify(&identifiers, &Path::empty(), &message).map(|found| found.dst.to_string()), key)
    }

    #[test]
    fn pseudo_headers_stand_for_what_a_request_has() {
        for (name, want) in
            [(":authority", "/Web:80"), (":method", "/POST"), (":scheme", "/https"), ("host", "/Web:80")]
        {
            let by = IdentifierParams::HeaderToken { header: name.to_owned(), written: name.to_owned() };
            assert_eq!(asked(&by, "/x").0.as_deref(), Ok(want), "{name}");
        }
        let by = IdentifierParams::Header { header: ":path".to_owned(), written: ":path".to_owned() };
        assert_eq!(asked(&by, "/a/b").0.as_deref(), Ok("/a/b"));
        let by = IdentifierParams::HeaderToken { header: "x-a".to_owned(), written: "X-A".to_owned() };
        assert_eq!(asked(&by, "/").0, Err(NoName::Unidentified("missing header: 'X-A'".to_owned())));
        let by = IdentifierParams::MethodAndHost { http_uri_in_dst: false };
        assert_eq!(asked(&by, "/x").0.as_deref(), Ok("/1.1/POST/web:80"));
    }

    /// Naming reference §7.7, and what is ours: dot segments, and what follows the segments that count.
    #[test]
    fn leading_segments_of_a_header() {
        let by = |segments| IdentifierParams::HeaderPath { header: ":path".to_owned(), segments };
        for (target, segments, want) in [
            ("/pkg.Svc/Method", Some(1), "/pkg.Svc"),
            ("/pkg.Svc/Method", Some(2), "/pkg.Svc/Method"),
            ("/pkg.Svc/Method", None, "/pkg.Svc/Method"),
            ("/a/b/?q=/x/../y", None, "/a/b"),
            ("/a/?q", Some(1), "/a"),
            ("/a/~user/x y", Some(1), "/a"),
            ("/a//b", Some(1), "/a"),
            ("/a/b/../c", Some(1), "/a"),
        ] {
            assert_eq!(asked(&by(segments), target).0.as_deref(), Ok(want), "{target}");
        }
        let unidentified = |text: &str| Err(NoName::Unidentified(text.to_owned()));
        for target in ["/", "//", "/?q", "", "?q"] {
            assert_eq!(asked(&by(None), target).0, unidentified("Missing destination path"), "{target}");
            assert_eq!(asked(&by(Some(1)), target).0, unidentified("Path must have at least 1 segment(s)"), "{target}");
        }
        assert_eq!(asked(&by(Some(2)), "/a/").0, unidentified("Path must have at least 2 segment(s)"));
        for (target, segments) in
            [("//a", Some(1)), ("/a//b", None), ("/~x", Some(1)), ("a", Some(1)), ("/a/\u{e9}", None)]
        {
            assert!(matches!(asked(&by(segments), target).0, Err(NoName::Threw(..))), "{target}");
        }
        for (target, segments) in
            [("/a/../b", Some(1)), ("/../a", Some(1)), ("/a/b/..", None), ("/a/%2e%2e/b", Some(1))]
        {
            assert!(matches!(asked(&by(segments), target).0, Err(NoName::Failure(_))), "{target}");
        }
    }

    /// Two requests with one key have one outcome, and requests with one name share a key.
    #[test]
    fn the_memo_of_leading_segments() {
        let targets = [
            "/",
            "//",
            "///",
            "/a",
            "/a/",
            "/a/b",
            "/a/b/",
            "/a/b/c?d",
            "/a/../b",
            "/a//",
            "//a",
            "/b/a",
            "/~/a",
            "/a/b/../../c",
        ];
        for segments in [None, Some(1), Some(2)] {
            let by = IdentifierParams::HeaderPath { header: ":path".to_owned(), segments };
            for (one, other) in targets.iter().flat_map(|one| targets.iter().map(move |other| (one, other))) {
                let (one, other) = (asked(&by, one), asked(&by, other));
                assert!(
                    one.1 != other.1 || one.0 == other.0 || (one.0.is_err() && other.0.is_err()),
                    "{one:?} {other:?}"
                );
            }
        }
        let by = IdentifierParams::HeaderPath { header: ":path".to_owned(), segments: Some(1) };
        assert_eq!(asked(&by, "/pkg.Svc/One").1, asked(&by, "/pkg.Svc/Two").1);
    }
}
