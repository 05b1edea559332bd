//! The `curl` lines in the header of an example: what they ask for, and which answer they promise.
//!
//! For: the stories beside it. Not for: every option of curl, nor a shell; lines that need more are not read.

use e2e::{Client, Https, PairFiles, Response};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// What the text after a command says of its answer.
#[derive(Debug, PartialEq)]
pub(crate) enum Promise {
    /// A status: `502: no route`.
    Status(u16),
    /// A 200 with this body: "answers `web v1`".
    Body(String),
    /// No answer at all: `refused: no client certificate`.
    Refused,
    /// Nothing that can be tested.
    Nothing,
}

/// One command of a header.
#[derive(Debug, Default)]
pub(crate) struct Curl {
    method: Option<String>,
    headers: Vec<(String, String)>,
    /// The port of `http_proxy`.
    proxy: Option<u16>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    url: String,
}

/// The first word as a shell takes it, and what comes after it.
fn word(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start();
    let (mut word, mut quote) = (String::new(), None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (None, ' ') => return Some((word, &text[at..])),
            (Some(open), c) if c == open => quote = None,
            (_, c) => word.push(c),
        }
    }
    (!text.is_empty()).then_some((word, ""))
}

impl Promise {
    /// `after`: what stands after the command.
    fn read(after: &str) -> Promise {
        let after = after.trim_start();
        if let Some((body, _)) = after.strip_prefix("answers `").and_then(|body| body.split_once('`')) {
            return Promise::Body(body.to_owned());
        }
        if after.starts_with("refused") {
            return Promise::Refused;
        }
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        after[..end].parse().map_or(Promise::Nothing, Promise::Status)
    }

    /// Whether this answer keeps it.
    pub(crate) fn is_kept(&self, answer: &io::Result<Response>) -> bool {
        match (self, answer) {
            (Promise::Refused, answer) => answer.is_err(),
            (_, Err(_)) => false,
            (Promise::Status(status), Ok(response)) => response.status == *status,
            (Promise::Body(body), Ok(response)) => response.status == 200 && response.text().trim() == body,
            (Promise::Nothing, Ok(_)) => true,
        }
    }
}

impl Curl {
    /// A command with its promise; none when it is no `curl`, or one that this reader does not understand.
    pub(crate) fn read(line: &str) -> Option<(Curl, Promise)> {
        let mut curl = Curl::default();
        let (mut first, mut rest) = word(line)?;
        if let Some(proxy) = first.strip_prefix("http_proxy=localhost:") {
            curl.proxy = proxy.parse().ok();
            (first, rest) = word(rest)?;
        }
        if first != "curl" || line.contains("$(") {
            return None;
        }
        while let Some((option, after)) = word(rest) {
            if option.starts_with("http") {
                curl.url = option;
                return Some((curl, Promise::read(after)));
            }
            rest = if matches!(&*option, "-s" | "-i" | "-si" | "--compressed") {
                after
            } else {
                let (value, after) = word(after)?;
                curl.set(&option, value)?;
                after
            };
        }
        None
    }

    fn set(&mut self, option: &str, value: String) -> Option<()> {
        match option {
            "-X" => self.method = Some(value),
            "-H" => self.headers.push(value.split_once(": ").map(|(name, value)| (name.into(), value.into()))?),
            "--cacert" => self.ca = Some(value.into()),
            "--cert" => self.cert = Some(value.into()),
            "--key" => self.key = Some(value.into()),
            "-m" => {}
            _ => return None,
        }
        Some(())
    }

    /// Sends it. Every host of a URL is this one.
    pub(crate) fn run(&self) -> io::Result<Response> {
        let (scheme, rest) = self.url.split_once("://").expect("a URL has a scheme");
        let (authority, path) = rest.split_at(rest.find('/').expect("a URL has a path"));
        let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let is_host = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("host");
        let host = self.headers.iter().find(is_host).map_or(authority, |(_, value)| value);
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, self.proxy.or(port).expect("a port")));
        if scheme == "https" {
            let name = authority.split(':').next().unwrap_or_default();
            let own = self.cert.clone().zip(self.key.clone()).map(|(cert, key)| PairFiles { cert, key });
            return https(addr, name, self.ca.as_deref().expect("--cacert"), own.as_ref(), (host, path));
        }
        let target = if self.proxy.is_some() { &self.url } else { path };
        let headers: Vec<(&str, &str)> =
            self.headers.iter().filter(|header| !is_host(header)).map(|(name, value)| (&**name, &**value)).collect();
        Client::try_connect(addr)?.try_request(self.method.as_deref().unwrap_or("GET"), host, target, &headers, b"")
    }
}

/// A request by TLS; of the answer the status and the body.
pub(crate) fn https(
    addr: SocketAddr,
    name: &str,
    ca: &Path,
    own: Option<&PairFiles>,
    (host, path): (&str, &str),
) -> io::Result<Response> {
    let text = Https::connect(addr, name, ca, own)?.get(host, path)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    let mut lines = head.lines();
    let mut start = lines.next().unwrap_or_default().splitn(3, ' ').map(str::to_owned);
    let mut part = || start.next().unwrap_or_default();
    let (version, status, reason) = (part(), part(), part());
    let status = status.parse().map_err(|_| io::ErrorKind::InvalidData)?;
    let headers = lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.into(), value.into()));
    let (headers, body) = (headers.collect(), body.as_bytes().to_vec());
    Ok(Response { status, version, reason, headers, body, trailers: Vec::new(), interims: Vec::new() })
}

#[test]
fn lines_are_read() {
    let line =
        "http_proxy=localhost:4140 curl -s -X POST -H 'l5d-dtab: /a => /b' http://web/x   answers `v 1`, it says";
    let (curl, promise) = Curl::read(line).expect("a command");
    assert_eq!((curl.proxy, &*curl.url, curl.method.as_deref()), (Some(4140), "http://web/x", Some("POST")));
    assert_eq!(curl.headers, [("l5d-dtab".to_owned(), "/a => /b".to_owned())]);
    assert_eq!(promise, Promise::Body("v 1".to_owned()));
    let promised = |line: &str| Curl::read(line).map(|(_, promise)| promise);
    assert_eq!(promised("curl -si http://localhost:1/ 502: no route"), Some(Promise::Status(502)));
    assert_eq!(promised("curl -s http://localhost:1/ | grep 200"), Some(Promise::Nothing));
    for unread in ["for i in 1; do curl -s http://x/; done", "curl --data x http://x/", "curl -H \"a: $(b)\" http://x/"]
    {
        assert_eq!(promised(unread), None, "{unread}");
    }
}
