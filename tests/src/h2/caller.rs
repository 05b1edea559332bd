//! A client: one connection, as many streams as wanted, each read and written as slowly or as wrongly as a story needs.

use super::script::{End, send_all};
use super::{Io, Knobs};
use bytes::Bytes;
use h2::client::{self, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, Method, Request, Response};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// A request.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The method.
    pub method: Method,
    /// `:authority`.
    pub authority: String,
    /// `:path`.
    pub path: String,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Fields after it.
    pub trailers: HeaderMap,
}

/// Fields of one name stay beside each other.
fn append(fields: &mut HeaderMap, name: &str, value: &str) {
    let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
    fields.append(name, value.parse().expect("a header value"));
}

impl Ask {
    /// `GET` of this path from this authority.
    pub fn get(authority: &str, path: &str) -> Ask {
        Ask {
            method: Method::GET,
            authority: authority.to_owned(),
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            trailers: HeaderMap::new(),
        }
    }

    /// `POST` of a body.
    pub fn post(authority: &str, path: &str, body: impl Into<Bytes>) -> Ask {
        Ask { method: Method::POST, body: body.into(), ..Ask::get(authority, path) }
    }

    /// Adds a header field.
    pub fn header(mut self, name: &str, value: &str) -> Ask {
        append(&mut self.headers, name, value);
        self
    }

    /// Adds a trailer field.
    pub fn trailer(mut self, name: &str, value: &str) -> Ask {
        append(&mut self.trailers, name, value);
        self
    }

    fn head(&self) -> Request<()> {
        let uri = format!("http://{}{}", self.authority, self.path);
        let mut request = Request::builder().method(self.method.clone()).uri(uri).body(()).expect("a request");
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Fields after it.
    pub trailers: HeaderMap,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A field of the trailers, or else of the headers; empty when it is in neither.
    pub fn field(&self, name: &str) -> &str {
        match super::text(&self.trailers, name) {
            "" => super::text(&self.headers, name),
            value => value,
        }
    }
}

/// See the module. Dropping it, and all its calls, closes the connection.
pub struct Caller {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// An open stream. Dropping it before its end cancels it.
pub struct Call {
    response: Option<ResponseFuture>,
    receiving: Option<RecvStream>,
    sending: SendStream<Bytes>,
}

fn builder(knobs: &Knobs) -> client::Builder {
    let mut builder = client::Builder::new();
    builder.max_header_list_size(knobs.header_list.unwrap_or(4 << 20)).enable_push(false);
    // Small messages that the story has not read yet are no flood.
    builder.data_frame_budget(1 << 26);
    builder.max_concurrent_reset_streams(100_000).max_local_error_reset_streams(None);
    builder.reset_stream_duration(Duration::from_secs(5)).initial_max_send_streams(10_000);
    knobs.window.map(|bytes| builder.initial_window_size(bytes));
    knobs.connection_window.map(|bytes| builder.initial_connection_window_size(bytes));
    knobs.frame.map(|bytes| builder.max_frame_size(bytes));
    builder
}

async fn open_on(requests: SendRequest<Bytes>, ask: &Ask, end: bool) -> Result<Call, h2::Error> {
    let (response, sending) = requests.ready().await?.send_request(ask.head(), end)?;
    Ok(Call { response: Some(response), receiving: None, sending })
}

async fn ask_on(requests: SendRequest<Bytes>, ask: &Ask) -> Result<Answer, h2::Error> {
    let end = ask.body.is_empty() && ask.trailers.is_empty();
    let Call { response, receiving, mut sending } = open_on(requests, ask, end).await?;
    if end {
        return read_answer(response, receiving).await;
    }
    let answer = read_answer(response, receiving);
    tokio::pin!(answer);
    tokio::select! {
        // Whoever answers without reading all of the body is right, too.
        answer = &mut answer => return answer,
        _ = send_whole(&mut sending, ask) => {}
    }
    answer.await
}

async fn send_whole(sending: &mut SendStream<Bytes>, ask: &Ask) -> Result<(), String> {
    let end = ask.trailers.is_empty();
    send_all(sending, &mut ask.body.clone(), end).await.map_err(|_| "the stream is over".to_owned())?;
    if end { Ok(()) } else { sending.send_trailers(ask.trailers.clone()).map_err(|error| error.to_string()) }
}

async fn read_answer(response: Option<ResponseFuture>, receiving: Option<RecvStream>) -> Result<Answer, h2::Error> {
    let (mut head, mut receiving) = (Response::new(()), receiving);
    if let Some(response) = response {
        let (parts, stream) = response.await?.into_parts();
        (head, receiving) = (Response::from_parts(parts, ()), Some(stream));
    }
    let mut receiving = receiving.unwrap_or_else(|| panic!("an answer without a stream"));
    let mut body = Vec::new();
    while let Some(piece) = receiving.data().await {
        let piece = piece?;
        body.extend_from_slice(&piece);
        // A stream that is over needs no window.
        let _ = receiving.flow_control().release_capacity(piece.len());
    }
    let trailers = receiving.trailers().await?.unwrap_or_default();
    let (status, headers) = (head.status().as_u16(), head.headers().clone());
    Ok(Answer { status, headers, body: body.into(), trailers })
}

impl Caller {
    /// Plain HTTP/2 by prior knowledge; panics when there is no connection.
    pub async fn connect(addr: SocketAddr) -> Caller {
        Caller::tuned(addr, Knobs::default()).await
    }

    /// As [`Caller::connect`], with settings.
    pub async fn tuned(addr: SocketAddr, knobs: Knobs) -> Caller {
        let connected = Caller::try_connect(addr, knobs).await;
        connected.unwrap_or_else(|error| panic!("no HTTP/2 with {addr}: {error}\n{}", crate::wait::logs()))
    }

    /// As [`Caller::tuned`], without a panic. The peer has not answered yet.
    pub async fn try_connect(addr: SocketAddr, knobs: Knobs) -> Result<Caller, String> {
        let socket = TcpStream::connect(addr).await.map_err(|error| error.to_string())?;
        let _ = socket.set_nodelay(true);
        Caller::on(Box::new(socket), knobs).await
    }

    /// With TLS and ALPN `h2`, trusting `ca`; the error when there is no handshake or another protocol.
    pub async fn tls(addr: SocketAddr, name: &str, ca: &Path, alpn: &[&str]) -> Result<Caller, String> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).expect("an authority")).expect("it can be trusted");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let socket = TcpStream::connect(addr).await.map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await;
        let stream = stream.map_err(|error| error.to_string())?;
        match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Caller::on(Box::new(stream), Knobs::default()).await,
            other => Err(format!("ALPN chose {:?}", other.map(String::from_utf8_lossy))),
        }
    }

    async fn on(socket: Box<dyn Io>, knobs: Knobs) -> Result<Caller, String> {
        let (requests, connection) =
            builder(&knobs).handshake(socket).await.map_err(|error: h2::Error| error.to_string())?;
        Ok(Caller { requests, connection: tokio::spawn(connection) })
    }

    /// Opens a stream, sending the head alone; `end`: nothing follows.
    pub async fn open(&self, ask: &Ask, end: bool) -> Result<Call, h2::Error> {
        open_on(self.requests.clone(), ask, end).await
    }

    /// One whole request and its answer.
    pub async fn try_ask(&self, ask: &Ask) -> Result<Answer, h2::Error> {
        ask_on(self.requests.clone(), ask).await
    }

    /// As [`Caller::try_ask`]; panics when there is no complete answer.
    pub async fn ask(&self, ask: &Ask) -> Answer {
        let answer = self.try_ask(ask).await;
        let (method, path) = (&ask.method, &ask.path);
        answer.unwrap_or_else(|error| panic!("no answer to {method} {path}: {error}\n{}", crate::wait::logs()))
    }

    /// As [`Caller::try_ask`], in a task of its own.
    pub fn ask_later(&self, ask: &Ask) -> JoinHandle<Result<Answer, h2::Error>> {
        let (caller, ask) = (self.requests.clone(), ask.clone());
        tokio::spawn(async move { ask_on(caller, &ask).await })
    }

    /// True when the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.connection.is_finished()
    }

    /// Waits until the connection has ended: how.
    pub async fn closed(self) -> Result<(), h2::Error> {
        drop(self.requests);
        self.connection.await.expect("the connection did not panic")
    }
}

impl Call {
    /// Sends bytes as the windows allow.
    pub async fn try_send(&mut self, bytes: impl Into<Bytes>, end: bool) -> Result<(), String> {
        send_all(&mut self.sending, &mut bytes.into(), end).await.map_err(|end| match end {
            End::Cancelled(code) => format!("reset with {code}"),
            End::Broken(what) => what,
            End::Done | End::GoAway(_) => unreachable!("nobody says so of sending"),
        })
    }

    /// As [`Call::try_send`]; panics when it cannot be sent.
    pub async fn send(&mut self, bytes: impl Into<Bytes>, end: bool) {
        self.try_send(bytes, end).await.unwrap_or_else(|error| panic!("cannot send: {error}\n{}", crate::wait::logs()));
    }

    /// Sends trailers, and the end.
    pub fn send_trailers(&mut self, trailers: HeaderMap) {
        self.sending.send_trailers(trailers).expect("the stream is open");
    }

    /// Cancels with this code.
    pub fn reset(&mut self, code: u32) {
        self.sending.send_reset(Reason::from(code));
    }

    /// The next interim response.
    pub async fn interim(&mut self) -> Option<Result<Response<()>, h2::Error>> {
        let response = self.response.as_mut()?;
        poll_fn(|cx| response.poll_informational(cx)).await
    }

    /// The head of the answer; once.
    pub async fn head(&mut self) -> Result<Response<()>, h2::Error> {
        let response = self.response.take().unwrap_or_else(|| panic!("the head was taken before"));
        let (head, body) = response.await?.into_parts();
        self.receiving = Some(body);
        Ok(Response::from_parts(head, ()))
    }

    /// The next piece of the answer, after its head; its window is not given back.
    pub async fn hold(&mut self) -> Option<Result<Bytes, h2::Error>> {
        self.receiving.as_mut()?.data().await
    }

    /// Gives back so much of the window.
    pub fn release(&mut self, bytes: usize) {
        if let Some(receiving) = &mut self.receiving {
            // A stream that is over needs no window.
            let _ = receiving.flow_control().release_capacity(bytes);
        }
    }

    /// The next piece of the answer, after its head.
    pub async fn next(&mut self) -> Option<Result<Bytes, h2::Error>> {
        let piece = self.hold().await;
        if let Some(Ok(piece)) = &piece {
            self.release(piece.len());
        }
        piece
    }

    /// The trailers, after the last piece.
    pub async fn trailers(&mut self) -> Result<HeaderMap, h2::Error> {
        match &mut self.receiving {
            Some(receiving) => Ok(receiving.trailers().await?.unwrap_or_default()),
            None => Ok(HeaderMap::new()),
        }
    }

    /// The whole answer; what was taken of it before is missing.
    pub async fn answer(self) -> Result<Answer, h2::Error> {
        // The sending half lives until then: without it the stream would be cancelled.
        let answer = read_answer(self.response, self.receiving).await;
        drop(self.sending);
        answer
    }
}
