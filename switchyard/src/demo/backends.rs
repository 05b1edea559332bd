//! The demo's services: small HTTP/1 servers on free loopback ports.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use http1::{BodyDecoder, BodyFrame, BodyLength, Conn, Limits, encode_request_head, encode_response_head};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A running service.
pub(crate) struct Backend {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    task: JoinHandle<()>,
}

/// What a service answers with.
#[derive(Clone)]
enum Role {
    /// Its own name.
    World(&'static str),
    /// A greeting with what `world` says, called through the router at this address.
    Hello(SocketAddr),
}

impl Backend {
    /// A `world` that answers with `name`; `POST /quit` ends it.
    pub(crate) async fn world(name: &'static str) -> io::Result<Backend> {
        Backend::start(Role::World(name)).await
    }

    /// A `hello` that calls `world` through the router at `proxy`.
    pub(crate) async fn hello(proxy: SocketAddr) -> io::Result<Backend> {
        Backend::start(Role::Hello(proxy)).await
    }

    async fn start(role: Role) -> io::Result<Backend> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        Ok(Backend { addr, task: tokio::spawn(accept(listener, role)) })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, role: Role) {
    let quit = Arc::new(Notify::new());
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((socket, _)) = accepted {
                    connections.spawn(serve(socket, role.clone(), quit.clone()));
                }
            }
            // Ends the listener and, with the set, every connection: as dead as a killed process.
            () = quit.notified() => return,
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(socket: TcpStream, role: Role, quit: Arc<Notify>) {
    let mut conn = Conn::new(socket);
    while let Ok(head) = conn.read_request(&Limits::default(), HeaderMap::new()).await {
        if read_body(&mut conn, head.body).await.is_err() {
            return;
        }
        let quits = head.method == Method::POST && head.target == "/quit";
        let text = match &role {
            _ if quits => "bye\n".to_owned(),
            Role::World(name) => format!("{name}\n"),
            Role::Hello(proxy) => match call_world(*proxy, &head.headers).await {
                Ok(world) => format!("hello, {world}"),
                Err(error) => format!("hello, nobody: {error}\n"),
            },
        };
        let length = BodyLength::Length(text.len() as u64);
        let out = conn.out();
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"))]);
        encode_response_head(out, StatusCode::OK, None, head.version, &headers, length, head.keep_alive, None);
        out.extend_from_slice(text.as_bytes());
        let written = conn.flush().await;
        if quits {
            quit.notify_one();
        }
        if written.is_err() || !head.keep_alive {
            return;
        }
    }
}

async fn read_body(conn: &mut Conn<TcpStream>, length: BodyLength) -> Result<Bytes, http1::BodyError> {
    let mut decoder = BodyDecoder::new(length);
    let mut body = BytesMut::new();
    while let Some(frame) = conn.next_body(&mut decoder).await? {
        if let BodyFrame::Data(data) = frame {
            body.extend_from_slice(&data);
        }
    }
    Ok(body.freeze())
}

/// Calls `http://world/` through the proxy. A good citizen of a mesh: it forwards the `l5d-ctx-*` headers.
async fn call_world(proxy: SocketAddr, incoming: &HeaderMap) -> Result<String, String> {
    let mut conn = Conn::new(TcpStream::connect(proxy).await.map_err(|error| error.to_string())?);
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_static("world"));
    let is_context = |name: &HeaderName| name.as_str().starts_with("l5d-ctx-");
    for (name, value) in incoming.iter().filter(|(name, _)| is_context(name)) {
        headers.append(name.clone(), value.clone());
    }
    let target = b"http://world/";
    encode_request_head(conn.out(), &Method::GET, target, Version::HTTP_11, &headers, BodyLength::Empty);
    conn.flush().await.map_err(|error| error.to_string())?;
    let head = conn.read_response(&Limits::default(), &Method::GET, HeaderMap::new()).await;
    let head = head.map_err(|error| error.to_string())?;
    let body = read_body(&mut conn, head.body).await.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&body).into_owned();
    if head.status == StatusCode::OK { Ok(text) } else { Err(format!("{} {}", head.status, text.trim())) }
}
