//! The demo's gRPC service `helloworld.Greeter`, as gRPC's own examples have it, on free loopback ports.
//!
//! One message has one text, so no library writes it: the tag of field 1, the length, the bytes. Not for: other services,
//! compressed messages, names of more than 127 bytes.

use bytes::{BufMut, Bytes, BytesMut};
use h2::server::{self, SendResponse};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The service, for those who have a gRPC client: what it would be generated from.
pub(crate) const PROTO: &str = r#"syntax = "proto3";
package helloworld;

service Greeter {
  rpc SayHello (HelloRequest) returns (HelloReply) {}
  rpc SayHelloStreamReply (HelloRequest) returns (stream HelloReply) {}
}

message HelloRequest {
  string name = 1;
}

message HelloReply {
  string message = 1;
}
"#;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// A field of wire type "length-delimited" with the number 1.
const FIELD_1: u8 = 0x0a;
/// A framed request of the longest name, and nothing more.
const LONGEST: usize = 5 + 2 + 127;
/// Answers of the streaming method.
const STREAMED: usize = 5;

/// A running greeter.
pub(crate) struct Greeter {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Greeter {
    /// One that signs its greetings with `name`.
    pub(crate) async fn start(name: &'static str) -> io::Result<Greeter> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        Ok(Greeter { addr, task: tokio::spawn(accept(listener, name)) })
    }
}

impl Drop for Greeter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, name: &'static str) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((socket, _)) = accepted {
                    connections.spawn(serve(socket, name));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, many calls at a time.
async fn serve(socket: TcpStream, name: &'static str) {
    let Ok(mut connection) = server::handshake(socket).await else { return };
    let mut calls = JoinSet::new();
    loop {
        tokio::select! {
            // Whoever breaks off is not missed.
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => _ = calls.spawn(call(request, respond, name)),
                _ => return,
            },
            Some(_) = calls.join_next() => {}
        }
    }
}

async fn call(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, name: &str) -> Result<(), h2::Error> {
    let (head, body) = request.into_parts();
    let answers = match head.uri.path() {
        "/helloworld.Greeter/SayHello" => 1,
        "/helloworld.Greeter/SayHelloStreamReply" => STREAMED,
        _ => return refuse(&mut respond, 12, "helloworld.Greeter has SayHello and SayHelloStreamReply"),
    };
    let framed = read(body).await?;
    let Some(who) = framed.as_deref().and_then(who) else {
        return refuse(&mut respond, 3, "not a HelloRequest with a name of at most 127 bytes");
    };
    let mut stream = respond.send_response(head_of(HeaderMap::new()), false)?;
    for at in 1..=answers {
        let which = if answers > 1 { format!(" {at} of {answers}") } else { String::new() };
        send(&mut stream, &format!("hello, {who}, from {name}{which}"))?;
    }
    stream.send_trailers(HeaderMap::from_iter([(STATUS, HeaderValue::from(0))]))
}

fn head_of(mut headers: HeaderMap) -> Response<()> {
    headers.insert(header::CONTENT_TYPE, GRPC);
    let mut response = Response::new(());
    *response.headers_mut() = headers;
    response
}

/// The whole answer is a status.
fn refuse(respond: &mut SendResponse<Bytes>, status: u16, why: &'static str) -> Result<(), h2::Error> {
    let fields = [(STATUS, HeaderValue::from(status)), (MESSAGE, HeaderValue::from_static(why))];
    respond.send_response(head_of(HeaderMap::from_iter(fields)), true).map(drop)
}

/// The body; none when it is too long.
async fn read(mut body: RecvStream) -> Result<Option<Bytes>, h2::Error> {
    let mut framed = BytesMut::new();
    while let Some(piece) = body.data().await.transpose()? {
        if framed.len() + piece.len() > LONGEST {
            return Ok(None);
        }
        body.flow_control().release_capacity(piece.len())?;
        framed.extend_from_slice(&piece);
    }
    Ok(Some(framed.freeze()))
}

/// The name in a framed HelloRequest; a text that is empty is not written at all.
fn who(framed: &[u8]) -> Option<String> {
    let (&[0, a, b, c, d], message) = framed.split_first_chunk()? else { return None };
    match message {
        _ if u32::from_be_bytes([a, b, c, d]) as usize != message.len() => None,
        [] => Some(String::new()),
        [FIELD_1, length @ ..128, name @ ..] if usize::from(*length) == name.len() => {
            String::from_utf8(name.to_vec()).ok()
        }
        _ => None,
    }
}

/// A framed HelloReply.
fn send(stream: &mut SendStream<Bytes>, text: &str) -> Result<(), h2::Error> {
    let mut message = BytesMut::from(&[FIELD_1][..]);
    // A varint: seven bits a byte, the lowest first.
    let mut length = text.len();
    while length >= 128 {
        message.put_u8((length % 128) as u8 | 128);
        length /= 128;
    }
    message.put_u8(length as u8);
    message.put_slice(text.as_bytes());
    let mut framed = BytesMut::from(&[0][..]);
    framed.put_u32(message.len() as u32);
    framed.unsplit(message);
    stream.send_data(framed.freeze(), false)
}

#[cfg(test)]
mod tests {
    use super::who;

    #[test]
    fn a_request_is_a_name() {
        assert_eq!(who(b"\0\0\0\0\x07\n\x05world").as_deref(), Some("world"));
        assert_eq!(who(b"\0\0\0\0\0").as_deref(), Some(""));
        let wrong = [
            &b""[..],
            b"\0\0\0\0",
            b"\x01\0\0\0\0",
            b"\0\0\0\0\x07\n\x05worl",
            b"\0\0\0\0\x07\n\x04world",
            b"\0\0\0\0\x02\x12\0",
        ];
        wrong.iter().for_each(|framed| assert_eq!(who(framed), None, "{framed:?}"));
        assert_eq!(who(b"\0\0\0\0\x03\n\x01\xff"), None, "not a text");
    }
}
