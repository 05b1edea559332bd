//! A client that sees every byte.

use super::SOON;
use std::collections::HashMap;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// An answer in one piece.
#[derive(Debug, Default, Clone)]
pub(super) struct Reply {
    pub(super) line: String,
    pub(super) status: u16,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(super) fn etag(&self) -> &str {
        self.header("etag").expect("an ETag")
    }
}

fn head_of(text: &str) -> Reply {
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default().to_owned();
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    Reply { line, status, headers: lines.filter_map(header).collect(), body: String::new() }
}

/// What a request sends before its body.
pub(super) fn head(method: &str, target: &str, headers: &[(&str, &str)], length: Option<usize>) -> String {
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        head.push_str("host: 127.0.0.1\r\n");
    }
    headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    if let Some(length) = length {
        head.push_str(&format!("content-length: {length}\r\n"));
    }
    head + "connection: close\r\n\r\n"
}

/// One request on a connection of its own.
pub(super) async fn ask(
    at: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> Reply {
    let mut bytes = head(method, target, headers, body.map(<[u8]>::len)).into_bytes();
    bytes.extend_from_slice(body.unwrap_or_default());
    raw(at, &bytes).await
}

/// What comes back for these bytes, until the end of the connection.
pub(super) async fn raw(at: SocketAddr, bytes: &[u8]) -> Reply {
    let mut socket = TcpStream::connect(at).await.expect("a connection");
    let (mut reading, mut writing) = socket.split();
    let mut all = Vec::new();
    let exchange = async {
        // A server that refuses may stop reading.
        let sending = async { drop(writing.write_all(bytes).await) };
        let receiving = async { drop(reading.read_to_end(&mut all).await) };
        tokio::join!(sending, receiving)
    };
    timeout(SOON, exchange).await.unwrap_or_else(|_| panic!("no end of an answer"));
    let text = String::from_utf8_lossy(&all);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
    let mut reply = head_of(head);
    reply.body = match reply.header("transfer-encoding") {
        Some(_) => chunks(body).concat(),
        None => body.to_owned(),
    };
    reply
}

fn chunks(mut body: &str) -> Vec<String> {
    let mut found = Vec::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a size");
        let Some(chunk) = rest.get(..size) else { break };
        if size > 0 {
            found.push(chunk.to_owned());
        }
        body = rest.get(size + 2..).unwrap_or("");
    }
    found
}

/// A watch.
pub(super) struct Stream {
    pub(super) head: Reply,
    socket: TcpStream,
    bytes: Vec<u8>,
}

impl Stream {
    pub(super) async fn open(at: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Stream {
        let mut socket = TcpStream::connect(at).await.expect("a connection");
        let request = head("GET", target, headers, None).replace("connection: close\r\n", "");
        socket.write_all(request.as_bytes()).await.expect("it is sent");
        let mut stream = Stream { head: Reply::default(), socket, bytes: Vec::new() };
        let head = timeout(SOON, stream.until(b"\r\n\r\n")).await.expect("a head").expect("a head");
        stream.head = head_of(&head);
        stream
    }

    /// Everything up to a mark, without it; None when the connection has ended.
    async fn until(&mut self, mark: &[u8]) -> Option<String> {
        loop {
            if let Some(at) = self.bytes.windows(mark.len()).position(|window| window == mark) {
                let found = self.bytes.drain(..at + mark.len()).collect::<Vec<u8>>();
                return Some(String::from_utf8_lossy(&found[..at]).into_owned());
            }
            if self.socket.read_buf(&mut self.bytes).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// The next chunk; None at the end of the stream.
    pub(super) async fn next(&mut self) -> Option<String> {
        let chunk = async {
            let size = usize::from_str_radix(&self.until(b"\r\n").await?, 16).expect("a size");
            while self.bytes.len() < size + 2 {
                if self.socket.read_buf(&mut self.bytes).await.ok()? == 0 {
                    return None;
                }
            }
            let found: Vec<u8> = self.bytes.drain(..size + 2).collect();
            (size > 0).then(|| String::from_utf8_lossy(&found[..size]).into_owned())
        };
        timeout(SOON, chunk).await.unwrap_or_else(|_| panic!("no chunk"))
    }
}
