//! [`Url`]: where a request goes, made of a base URL that may have a path and a query of its own.
//!
//! Called by [`crate::settings`], [`crate::api`] and [`crate::http`].

use ::http::Uri;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stays as it is in a path, as Go writes it; `/` included.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}')
    .add(b'!')
    .add(b'\'')
    .add(b'(')
    .add(b')')
    .add(b'*');
/// What stays as it is in the value of a query parameter.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// An http or https URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// True for https.
    pub secure: bool,
    /// Host name or address, without brackets.
    pub host: String,
    /// The port, also when it is the default one.
    pub port: u16,
    /// `host[:port]` as it was written, for the `Host` line.
    pub authority: String,
    /// `user:password`, when it was written.
    pub credentials: Option<String>,
    /// Begins with a slash; no query.
    pub path: String,
    /// Without the question mark.
    pub query: Option<String>,
}

impl Url {
    /// Reads an absolute URL. None when it is not one of http or https with a host.
    pub fn parse(text: &str) -> Option<Url> {
        let uri: Uri = text.split('#').next()?.parse().ok()?;
        let secure = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority = uri.authority()?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let (credentials, place) = match authority.as_str().rsplit_once('@') {
            Some((credentials, place)) => {
                (Some(percent_encoding::percent_decode_str(credentials).decode_utf8_lossy().into_owned()), place)
            }
            None => (None, authority.as_str()),
        };
        // A port that is none of 16 bits is not told apart from none.
        if host.is_empty() || (place != authority.host() && authority.port_u16().is_none()) {
            return None;
        }
        Some(Url {
            secure,
            port: authority.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            host,
            authority: place.to_owned(),
            credentials,
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
        })
    }

    /// This URL with `segments` below its path. The text is escaped as the first `namerctl` did: `/` stays.
    #[must_use]
    pub fn below(&self, segments: &str) -> Url {
        let slash = if self.path.ends_with('/') { "" } else { "/" };
        Url { path: format!("{}{slash}{}", self.path, utf8_percent_encode(segments, PATH)), ..self.clone() }
    }

    /// This URL with one more query parameter.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Url {
        let pair = format!("{name}={}", utf8_percent_encode(value, VALUE));
        let query = match self.query.as_deref() {
            None | Some("") => pair,
            Some(query) => format!("{query}&{pair}"),
        };
        Url { query: Some(query), ..self.clone() }
    }

    /// Path and query: the target of a request to the server itself.
    pub fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// The whole URL without credentials: for messages, and the target of a request to a proxy.
    pub fn shown(&self) -> String {
        format!("{}://{}{}", self.scheme(), self.authority, self.target())
    }

    /// True when both lead to the same server.
    pub fn same_origin(&self, other: &Url) -> bool {
        (self.secure, &self.host, self.port) == (other.secure, &other.host, other.port)
    }

    /// Where a `Location` leads from here: an absolute URL, or a path on this server.
    pub fn join(&self, location: &str) -> Option<Url> {
        if !location.starts_with('/') {
            return Url::parse(location);
        }
        if location.starts_with("//") {
            return Url::parse(&format!("{}:{location}", self.scheme()));
        }
        let (path, query) = match location.split('#').next()?.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (location.split('#').next()?, None),
        };
        Some(Url { path: path.to_owned(), query, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_and_the_query_of_the_base_stay() {
        let base = Url::parse("http://user:p%40w@Namerd.example:4180/pre/fix?tenant=a").unwrap();
        assert_eq!(
            (base.host.as_str(), base.port, base.authority.as_str()),
            ("Namerd.example", 4180, "Namerd.example:4180")
        );
        assert_eq!(base.credentials.as_deref(), Some("user:p@w"));
        let url = base.below("api/1/dtabs/a b?c/d%").with("dtab", "/a=>/b;/c => 2*/d & /#/e");
        let expected =
            "/pre/fix/api/1/dtabs/a%20b%3Fc/d%25?tenant=a&dtab=/a%3D%3E/b%3B/c%20%3D%3E%202%2A/d%20%26%20/%23/e";
        assert_eq!(url.target(), expected);
        assert_eq!(Url::parse("https://[::1]").unwrap().below("x").shown(), "https://[::1]/x");
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for text in ["", "namerd:4180", "127.0.0.1:4180", "ftp://h", "http://", "/path", "http://h:99999", "http://a b"]
        {
            assert_eq!(Url::parse(text), None, "{text}");
        }
    }

    #[test]
    fn locations_are_absolute_or_paths() {
        let url = Url::parse("http://a:1/x?y").unwrap();
        assert_eq!(url.join("/z?q").unwrap().shown(), "http://a:1/z?q");
        assert_eq!(url.join("https://b/").unwrap().shown(), "https://b/");
        assert_eq!(url.join("//c/d").unwrap().shown(), "http://c/d");
        assert_eq!(url.join("relative"), None);
    }
}
