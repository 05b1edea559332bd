//! A keep-alive HTTP/1 client that sends what it is told, byte for byte.

use crate::message::Reader;
use crate::{Headers, find};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest time to wait for bytes of the router, unless a story says otherwise.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// One connection to the router.
pub struct Client {
    reader: Reader,
    socket: TcpStream,
}

/// What the router answered.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// The reason phrase.
    pub reason: String,
    /// All header lines.
    pub headers: Headers,
    /// The body, chunks joined.
    pub body: Vec<u8>,
    /// Fields after a chunked body.
    pub trailers: Headers,
    /// Interim responses that came before, in order.
    pub interims: Vec<Response>,
}

impl Response {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics when it is not.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON: {error}: {}", self.text()))
    }
}

impl Client {
    /// Opens a connection; panics when it is refused.
    pub fn connect(addr: SocketAddr) -> Client {
        Client::try_connect(addr).unwrap_or_else(|error| panic!("cannot connect to {addr}: {error}"))
    }

    /// Opens a connection.
    pub fn try_connect(addr: SocketAddr) -> io::Result<Client> {
        let socket = TcpStream::connect_timeout(&addr, READ_TIMEOUT)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(READ_TIMEOUT))?;
        socket.set_write_timeout(Some(READ_TIMEOUT))?;
        Ok(Client { reader: Reader::new(socket.try_clone()?, None), socket })
    }

    /// Waits at most so long for bytes, from now on.
    pub fn set_read_timeout(&self, limit: Duration) {
        self.reader.socket().set_read_timeout(Some(limit)).expect("the time-out can be set");
    }

    /// The socket, to shut it down or to change its options.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Sends these bytes; panics when that fails.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.try_send_raw(bytes).unwrap_or_else(|error| panic!("cannot send: {error}"));
    }

    /// Sends these bytes.
    pub fn try_send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// `GET path` with this Host; panics when there is no complete answer.
    pub fn get(&mut self, host: &str, path: &str) -> Response {
        self.request("GET", host, path, &[], b"")
    }

    /// As [`Client::get`], without a panic.
    pub fn try_get(&mut self, host: &str, path: &str) -> io::Result<Response> {
        self.try_request("GET", host, path, &[], b"")
    }

    /// One request; panics when there is no complete answer. A body gets a `content-length`, unless the headers frame
    /// it.
    pub fn request(&mut self, method: &str, host: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.try_request(method, host, path, headers, body)
            .unwrap_or_else(|error| panic!("no answer to {method} {host} {path}: {error}\n{}", crate::wait::logs()))
    }

    /// As [`Client::request`], without a panic.
    pub fn try_request(
        &mut self,
        method: &str,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Response> {
        let mut message = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n").into_bytes();
        let mut framed = body.is_empty() && !matches!(method, "POST" | "PUT" | "PATCH");
        for (name, value) in headers {
            framed |= name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("transfer-encoding");
            message.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if !framed {
            message.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
        }
        message.extend_from_slice(b"\r\n");
        message.extend_from_slice(body);
        self.try_send_raw(&message)?;
        self.read_response(method == "HEAD")
    }

    /// Reads one response with its body; `head_only` for the answer to HEAD. Interim ones are collected.
    pub fn read_response(&mut self, head_only: bool) -> io::Result<Response> {
        let mut interims = Vec::new();
        loop {
            let mut response = self.read_head()?;
            if (100..200).contains(&response.status) && response.status != 101 {
                interims.push(response);
                continue;
            }
            if !head_only && !matches!(response.status, 101 | 204 | 304) {
                (response.body, response.trailers) = self.reader.body(&response.headers, true)?;
            }
            response.interims = interims;
            return Ok(response);
        }
    }

    fn read_head(&mut self) -> io::Result<Response> {
        let line = self.reader.line()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut parts = line.splitn(3, ' ');
        let (version, status) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let status = status
            .parse()
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("not a status line: {line:?}")))?;
        Ok(Response {
            status,
            version: version.to_owned(),
            reason: parts.next().unwrap_or_default().to_owned(),
            headers: self.reader.fields()?,
            body: Vec::new(),
            trailers: Vec::new(),
            interims: Vec::new(),
        })
    }

    /// True when the router has closed the connection and nothing is left to read. Waits for the read time-out.
    pub fn closed_by_peer(&mut self) -> bool {
        self.reader.at_end()
    }
}

/// One `GET /` on a connection of its own; panics when there is no complete answer.
pub fn get(addr: SocketAddr, host: &str) -> Response {
    Client::connect(addr).get(host, "/")
}

/// As [`get`], without a panic.
pub fn try_get(addr: SocketAddr, host: &str) -> io::Result<Response> {
    Client::try_connect(addr)?.try_get(host, "/")
}
