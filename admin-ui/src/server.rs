//! Connections: accept, bound, answer.
//!
//! What it is for: running [`crate::Pages`] on a listener with limits on everything a client can hold: connections, header time,
//! body size and time, life of a connection (attack A8). What it is not: TLS, which the caller may put below, or routing. Called by: the binaries' start-up.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::decode::normal_path;
use crate::pages::{Found, Handler};
use crate::{HostCheck, Lingering, LivePages, Request, Response, Security};

/// Largest request body in bytes; more is answered with 413.
pub const MAX_BODY: usize = 1 << 20;
/// Connections served at once; more wait in the listener's backlog.
pub const MAX_CONNECTIONS: u32 = 256;

/// Largest request head in bytes.
const MAX_HEAD: usize = 64 << 10;
/// For a request head to arrive, and for the next request on an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// For a request body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// After this long a connection takes no further requests ...
const LIFETIME: Duration = Duration::from_secs(60);
/// ... and after this much longer it is cut, so clients that read slowly cannot hold all connections.
const LAST_ANSWER: Duration = Duration::from_secs(60);
/// How long shutdown waits for answers in progress.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// Pause after a failed accept (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Everything a request needs.
struct Site {
    pages: Arc<LivePages>,
    security: Security,
    hosts: HostCheck,
}

/// Serves `pages` on `listener` until `shutdown` completes, then waits up to 5 s for answers in progress. Never fails:
/// errors of single connections are logged at debug level. Must run on a tokio runtime with IO and time.
pub async fn serve(
    listener: TcpListener,
    pages: Arc<LivePages>,
    security: Security,
    allowed_hosts: HostCheck,
    shutdown: impl Future<Output = ()>,
) {
    let plain = |stream| std::future::ready(Some(stream));
    serve_over(plain, listener, pages, security, allowed_hosts, shutdown).await;
}

/// As [`serve`], over what `secure` makes of each connection, for example by a TLS handshake; it must end by itself. None
/// closes the connection.
pub async fn serve_over<S, F>(
    secure: impl Fn(TcpStream) -> F,
    listener: TcpListener,
    pages: Arc<LivePages>,
    security: Security,
    allowed_hosts: HostCheck,
    shutdown: impl Future<Output = ()>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Option<S>> + Send + 'static,
{
    let site = Arc::new(Site { pages, security, hosts: allowed_hosts });
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
    let (close, closing) = watch::channel(false);
    let mut shutdown = pin!(shutdown);
    loop {
        let next = async { (free.clone().acquire_owned().await, accept(&listener).await) };
        let (permit, stream) = tokio::select! {
            () = &mut shutdown => break,
            next = next => next,
        };
        let (securing, site, closing) = (secure(stream), site.clone(), closing.clone());
        tokio::spawn(async move {
            if let Some(stream) = securing.await {
                connection(stream, site, closing).await;
            }
            drop(permit);
        });
    }
    drop(listener);
    close.send_replace(true);
    if timeout(SHUTDOWN_GRACE, free.acquire_many(MAX_CONNECTIONS)).await.is_err() {
        tracing::warn!("admin server stopped while requests were still being answered");
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) => {
                tracing::warn!(%error, "admin server cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection<S>(stream: S, site: Arc<Site>, mut closing: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let site = site.clone();
        async move { Ok::<_, Infallible>(site.answer(request).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(Lingering::new(stream)), service)
    );
    let last_request = async {
        // An error means that the server itself is gone: the same as closing.
        let _ = timeout(LIFETIME, closing.wait_for(|closed| *closed)).await.is_ok();
    };
    tokio::select! {
        result = connection.as_mut() => return log(result),
        () = last_request => connection.as_mut().graceful_shutdown(),
    }
    match timeout(LAST_ANSWER, connection).await {
        Ok(result) => log(result),
        Err(_) => tracing::debug!("admin connection cut: it took too long"),
    }
}

fn log(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "admin connection ended");
    }
}

impl Site {
    async fn answer(&self, request: http::Request<Incoming>) -> http::Response<Full<Bytes>> {
        self.respond(request).await.unwrap_or_else(|refusal| *refusal).into_http()
    }

    /// Checks come first, on the head alone; `Err` is the refusal to send.
    async fn respond(&self, request: http::Request<Incoming>) -> Result<Response, Box<Response>> {
        let (head, body) = request.into_parts();
        self.hosts.check(&head)?;
        let path = normal_path(head.uri.path()).ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "bad path\n"))?;
        if !self.security.allows(&path) {
            return Ok(Response::not_found());
        }
        if !self.security.trusts(&head.method, head.headers.get(AUTHORIZATION)) {
            return Err(unauthorized());
        }
        let handler = match self.pages.current().find(&path, &head.method) {
            Found::Handler(handler) => handler,
            Found::Answer(response) => return Ok(response),
        };
        let body = read(body).await?;
        let query = head.uri.query().unwrap_or("");
        let method = if head.method == Method::HEAD { Method::GET } else { head.method };
        Ok(run(handler, Request::new(method, path, query, head.headers, body)).await)
    }
}

async fn read(body: Incoming) -> Result<Bytes, Box<Response>> {
    let too_large = || refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MiB\n");
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_large());
    }
    match timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(all)) => Ok(all.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(refuse(StatusCode::BAD_REQUEST, "the body is incomplete or malformed\n")),
        Err(_) => Err(refuse(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time\n")),
    }
}

/// Runs a handler in its own task, so that a panic ends only this request; the task ends with the connection.
async fn run(handler: Handler, request: Request) -> Response {
    let path = request.path.clone();
    let mut task = JoinSet::new();
    task.spawn(async move { handler(request).await });
    match task.join_next().await {
        Some(Ok(response)) => response,
        _ => {
            tracing::error!(path, "an admin page panicked");
            Response::error(StatusCode::INTERNAL_SERVER_ERROR, "this page failed; the log says more\n")
        }
    }
}

fn unauthorized() -> Box<Response> {
    let text = "this changes something: send `Authorization: Bearer` with the text of the file that `admin.security.tokenFile` \
                names\n";
    let refusal = refuse(StatusCode::UNAUTHORIZED, text);
    Box::new(refusal.with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
}

/// A refusal that leaves the body unread, and so the connection unusable.
fn refuse(status: StatusCode, text: &'static str) -> Box<Response> {
    let response = Response::error(status, text);
    Box::new(response.with_header(CONNECTION, HeaderValue::from_static("close")))
}
