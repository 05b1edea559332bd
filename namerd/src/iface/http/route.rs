//! From a path to what is asked for (namerd reference §2.2).
//!
//! The path is compared as it was sent; only the name of a namespace is percent-decoded, once. Called by the interface.
//! Not for: methods, parameters.

use super::answer::Refusal;
use http::StatusCode;

/// What a request is for. A namespace is percent-decoded and otherwise as it was sent, further slashes included.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    List,
    Dtab(String),
    Bind(Option<String>),
    Addr(Option<String>),
    Resolve(Option<String>),
    Delegate(Option<String>),
    BoundNames,
    History(String),
    Names(String),
}

type Named = fn(Option<String>) -> Route;

impl Route {
    /// The route of a raw path. Errors with 404, or with 400 for escapes that are none.
    pub(super) fn of(path: &str) -> Result<Route, Refusal> {
        if matches!(path, "/api/1/dtabs" | "/api/1/dtabs/") {
            return Ok(Route::List);
        }
        if let Some(namespace) = path.strip_prefix("/api/1/dtabs/") {
            return Ok(Route::Dtab(decode(namespace)?));
        }
        let loose: [(&str, Named); 4] = [
            ("/api/1/bind", Route::Bind),
            ("/api/1/addr", Route::Addr),
            ("/api/1/resolve", Route::Resolve),
            ("/api/1/delegate", Route::Delegate),
        ];
        for (prefix, route) in loose {
            if let Some(rest) = path.strip_prefix(prefix) {
                let namespace = rest.strip_prefix('/').filter(|namespace| !namespace.is_empty());
                return Ok(route(namespace.map(decode).transpose()?));
            }
        }
        if path == "/api/1/bound-names" {
            return Ok(Route::BoundNames);
        }
        let below = |prefix| path.strip_prefix(prefix).filter(|namespace| !namespace.is_empty());
        if let Some(namespace) = below("/api/1/history/") {
            return Ok(Route::History(decode(namespace)?));
        }
        if let Some(namespace) = below("/api/1/names/") {
            return Ok(Route::Names(decode(namespace)?));
        }
        let text = "there is nothing at this path; dtabs are at /api/1/dtabs and /api/1/dtabs/<namespace>";
        Err(Refusal::new(StatusCode::NOT_FOUND, text))
    }
}

/// Decodes `%xx`.
fn decode(text: &str) -> Result<String, Refusal> {
    let bad = || Refusal::new(StatusCode::BAD_REQUEST, "the namespace in the path is not percent-encoded UTF-8");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%' {
            let digit = |at: usize| tail.get(at).and_then(|digit| char::from(*digit).to_digit(16));
            let (Some(high), Some(low)) = (digit(0), digit(1)) else { return Err(bad()) };
            bytes.push((high * 16 + low) as u8);
            rest = &tail[2..];
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_where_they_led() {
        let some = |text: &str| Some(text.to_owned());
        let cases = [
            ("/api/1/dtabs", Some(Route::List)),
            ("/api/1/dtabs/", Some(Route::List)),
            ("/api/1/dtabs/a", Some(Route::Dtab("a".into()))),
            ("/api/1/dtabs/a/b", Some(Route::Dtab("a/b".into()))),
            ("/api/1/dtabs/a%20b", Some(Route::Dtab("a b".into()))),
            ("/api/1/dtabs/%2541", Some(Route::Dtab("%41".into()))),
            ("/api/1/dtabs/%zz", None),
            ("/api/1/dtabs/%a", None),
            ("/api/1/dtabs/%ff", None),
            ("/api/1/dtabsfoo", None),
            ("/api/1/bind", Some(Route::Bind(None))),
            ("/api/1/bind/", Some(Route::Bind(None))),
            ("/api/1/bind/x", Some(Route::Bind(some("x")))),
            ("/api/1/bindx", Some(Route::Bind(None))),
            ("/api/1/addr/x", Some(Route::Addr(some("x")))),
            ("/api/1/resolve/x", Some(Route::Resolve(some("x")))),
            ("/api/1/delegate", Some(Route::Delegate(None))),
            ("/api/1/delegate/x", Some(Route::Delegate(some("x")))),
            ("/api/1/bound-names", Some(Route::BoundNames)),
            ("/api/1/bound-names/", None),
            ("/api/1/history/x", Some(Route::History("x".into()))),
            ("/api/1/history/", None),
            ("/api/1/names/x", Some(Route::Names("x".into()))),
            ("/", None),
            ("*", None),
        ];
        for (path, route) in cases {
            assert_eq!(Route::of(path).ok(), route, "{path}");
        }
    }
}
