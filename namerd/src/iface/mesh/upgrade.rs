//! The first bytes of a connection: HTTP/2 by prior knowledge, or HTTP/1.1 with `Upgrade: h2c`.
//!
//! The library knows no upgrades. So a request that asks for one becomes the frames of stream 1, which the filter puts
//! behind the client's settings; what `HTTP2-Settings` says is said again there. Called by the interface. Not for: TLS,
//! where the protocol is agreed on before.

use super::filter::{self, PREFACE};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, Method, header};
use http1::{BodyLength, Limits, RequestHead};
use namers::remote::peers::Io;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: h2c\r\n\r\n";
const OTHER: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\nconnection: close\r\n\
    content-length: 59\r\n\r\nThis port speaks gRPC (io.l5d.mesh), which needs HTTP/2.  \n";
const NO_HTTP2: &str = "the client does not speak HTTP/2";
/// What such a client sends is read so far, so that it can read why it is refused.
const MAX_REFUSED: u64 = 64 * 1024;
/// The body of a request that asks for an upgrade: one frame.
const MAX_BODY: usize = 16 * 1024;

/// A connection that goes on as HTTP/2.
pub(super) struct Greeted {
    pub(super) io: Box<dyn Io>,
    /// What has been read of it already.
    pub(super) begun: Bytes,
    /// Frames of a request that came before; nothing without an upgrade.
    pub(super) request: Bytes,
}

/// Reads until it is certain that the client speaks HTTP/2; another one is told so.
pub(super) async fn greet(mut io: Box<dyn Io>) -> Result<Greeted, String> {
    let mut begun = BytesMut::new();
    let head = loop {
        let known = begun.len().min(PREFACE.len());
        if known == PREFACE.len() && begun[..] == PREFACE[..] {
            return Ok(Greeted { io, begun: begun.freeze(), request: Bytes::new() });
        }
        if begun[..known] != PREFACE[..known] {
            match http1::parse_request(&mut begun, &Limits::default(), HeaderMap::new()) {
                Ok(None) => {}
                Ok(Some(head)) => break head,
                Err(_) => return Err(refuse(io).await),
            }
        }
        let left =
            if known < PREFACE.len() && begun[..] == PREFACE[..known] { PREFACE.len() - known } else { MAX_BODY };
        let read = (&mut io).take(left as u64).read_buf(&mut begun).await;
        if read.map_err(|error| error.to_string())? == 0 {
            return Err(refuse(io).await);
        }
    };
    let Some(length) = wanted(&head) else { return Err(refuse(io).await) };
    let request = switch(&mut io, &head, &mut begun, length).await.map_err(|error| error.to_string())?;
    Ok(Greeted { io, begun: begun.freeze(), request })
}

/// The length of the body, when the request asks for HTTP/2 in a way that can be followed.
fn wanted(head: &RequestHead) -> Option<usize> {
    let asks = |name: HeaderName, token: &str| {
        let values = head.headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
    };
    let settings = head.headers.contains_key("http2-settings");
    let target = (head.target.first() == Some(&b'/') || head.target[..] == b"*"[..]) && head.method != Method::CONNECT;
    let length = match head.body {
        BodyLength::Empty => 0,
        BodyLength::Length(length) => usize::try_from(length).ok().filter(|length| *length <= MAX_BODY)?,
        BodyLength::Chunked | BodyLength::UntilClose => return None,
    };
    (asks(header::UPGRADE, "h2c") && asks(header::CONNECTION, "upgrade") && settings && target).then_some(length)
}

/// Agrees, and makes the frames of the request.
async fn switch(io: &mut Box<dyn Io>, head: &RequestHead, begun: &mut BytesMut, length: usize) -> io::Result<Bytes> {
    while begun.len() < length {
        if io.read_buf(begun).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let body = begun.split_to(length);
    io.write_all(SWITCH).await?;
    io.flush().await?;
    let host = head.headers.get(header::HOST).map_or(&b""[..], |host| host.as_bytes());
    let pseudo = [
        (":method", head.method.as_str().as_bytes()),
        (":scheme", b"http"),
        (":path", &head.target),
        (":authority", host),
    ];
    let mut headers: Vec<(&[u8], &[u8])> = pseudo.map(|(name, value)| (name.as_bytes(), value)).into();
    let kept = head.headers.iter().filter(|(name, _)| passes(name));
    headers.extend(kept.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())));
    Ok(filter::request(&headers, &body))
}

/// False for what concerns the connection, or is said otherwise in HTTP/2.
fn passes(name: &HeaderName) -> bool {
    const CONNECTION: [HeaderName; 5] =
        [header::CONNECTION, header::UPGRADE, header::HOST, header::TRANSFER_ENCODING, header::TE];
    !CONNECTION.contains(name) && !["http2-settings", "keep-alive", "proxy-connection"].contains(&name.as_str())
}

/// Tells a client what this port is for.
async fn refuse(mut io: Box<dyn Io>) -> String {
    let told = async {
        io.write_all(OTHER).await?;
        io.shutdown().await?;
        tokio::io::copy(&mut io.take(MAX_REFUSED), &mut tokio::io::sink()).await
    };
    let told = told.await;
    told.err().map_or_else(|| NO_HTTP2.into(), |error| format!("{NO_HTTP2}: {error}"))
}
