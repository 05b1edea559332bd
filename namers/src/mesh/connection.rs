//! HTTP/2 connections to a namerd: one for all streams, another when the peer allows no more on it.
//!
//! A connection is proved by a ping before it is used, which also tells how many streams the peer allows, and by pings from
//! then on. One that fails is forgotten, and its address comes last for a while. Called by `client`.

use super::client::MeshOptions;
use crate::remote::authorization;
use crate::remote::peers::{Io, Peers};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Ping, PingPong, RecvStream};
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Request, Response};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

/// Connections at most; beyond that, streams wait for others to end.
const MAX_CONNECTIONS: usize = 16;
/// The flow-control window of a connection; each stream has its own besides.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// A request may wait so long to be sent, and then so long for the head of its response: a namerd begins each stream at
/// once, whether a value is known or not.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Header lists of responses may have so many bytes.
const MAX_HEADERS: u32 = 64 * 1024;

/// See the module.
pub(super) struct Connections {
    peers: Peers,
    options: MeshOptions,
    live: Mutex<Vec<Arc<Connection>>>,
    /// The last attempt to connect: one at a time, and those who waited for it share its failure.
    attempt: tokio::sync::Mutex<Option<(Instant, String)>>,
}

/// One connection; its task ends when nobody holds it.
pub(super) struct Connection {
    requests: SendRequest<Bytes>,
    address: SocketAddr,
    streams: AtomicUsize,
    /// Why it is over, once it is.
    over: Arc<Mutex<Option<String>>>,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A call under way; dropping it resets its stream.
pub(super) struct Call {
    response: Option<ResponseFuture>,
    place: Place,
}

/// A place on a connection, counted.
struct Place(Arc<Connection>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connections {
    pub(super) fn new(peers: Peers, options: MeshOptions) -> Connections {
        Connections { peers, options, live: Mutex::default(), attempt: tokio::sync::Mutex::default() }
    }

    /// Sends one request of one message. A connection that turns out to be closing is left for another.
    pub(super) async fn call(&self, path: &str, message: &Bytes) -> Result<Call, String> {
        let mut problem = String::new();
        let shown = self.options.token.as_ref().map(authorization).transpose()?;
        for _ in 0..MAX_CONNECTIONS {
            let place = self.place().await?;
            match timeout(HEAD_TIMEOUT, place.0.send(path, shown.clone(), message.clone())).await {
                Ok(Ok(response)) => return Ok(Call { response: Some(response), place }),
                Ok(Err(error)) => problem = place.0.problem(&error),
                Err(_) => return Err(self.slow(&place.0)),
            }
            self.forget(&place.0);
        }
        Err(problem)
    }

    /// A place on a connection that has one.
    async fn place(&self) -> Result<Place, String> {
        let begun = Instant::now();
        if let Some(place) = self.free() {
            return Ok(place);
        }
        let mut attempt = self.attempt.lock().await;
        if let Some(place) = self.free() {
            return Ok(place);
        }
        if let Some((at, reason)) = &*attempt
            && *at >= begun
        {
            return Err(reason.clone());
        }
        match self.connect().await {
            Ok(connection) => {
                connection.streams.fetch_add(1, Ordering::Relaxed);
                self.live.lock().push(connection.clone());
                Ok(Place(connection))
            }
            Err(reason) => {
                *attempt = Some((Instant::now(), reason.clone()));
                Err(reason)
            }
        }
    }

    /// A place on a connection that is there; on the emptiest when there may be no further one.
    fn free(&self) -> Option<Place> {
        let mut live = self.live.lock();
        live.retain(|connection| connection.over.lock().is_none());
        let mut found = live.iter().find(|connection| connection.has_place());
        if found.is_none() && live.len() >= MAX_CONNECTIONS {
            found = live.iter().min_by_key(|connection| connection.streams.load(Ordering::Relaxed));
        }
        let found = found?.clone();
        found.streams.fetch_add(1, Ordering::Relaxed);
        Some(Place(found))
    }

    /// The head of the response to `call`, once.
    pub(super) async fn response(&self, call: &mut Call) -> Result<Response<RecvStream>, String> {
        let Some(response) = call.response.take() else { return Err("the response was taken already".into()) };
        match timeout(HEAD_TIMEOUT, response).await {
            Ok(answered) => answered.map_err(|error| call.problem(&error)),
            Err(_) => Err(self.slow(&call.place.0)),
        }
    }

    /// Leaves a peer that answers pings and no requests to those who are with it; what to say of it. One that allows no
    /// more streams is not slow.
    fn slow(&self, connection: &Arc<Connection>) -> String {
        if !connection.is_over_full() {
            self.forget(connection);
        }
        connection.problem(&format!("no response begins within {HEAD_TIMEOUT:?}"))
    }

    fn forget(&self, connection: &Arc<Connection>) {
        self.peers.avoid(connection.address);
        self.live.lock().retain(|known| !Arc::ptr_eq(known, connection));
    }

    async fn connect(&self) -> Result<Arc<Connection>, String> {
        let (address, io) = self.peers.connect().await?;
        let bound = self.options.close_timeout;
        let begun = timeout(bound, begin(io, address, &self.options, self.peers.clone())).await;
        let begun = begun.unwrap_or_else(|_| {
            Err(format!(
                "{address} does not answer a ping within {bound:?}; is this the interface io.l5d.mesh of a namerd?"
            ))
        });
        begun.inspect_err(|_| self.peers.avoid(address))
    }
}

/// Shakes hands, and waits for the answer to a ping: by then the peer's settings are known.
async fn begin(
    io: Box<dyn Io>,
    address: SocketAddr,
    options: &MeshOptions,
    peers: Peers,
) -> Result<Arc<Connection>, String> {
    let failed = |error: h2::Error| format!("{address} does not speak HTTP/2: {error}");
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(options.window)
        .initial_connection_window_size(CONNECTION_WINDOW.max(options.window))
        .max_header_list_size(MAX_HEADERS)
        .initial_max_send_streams(usize::MAX >> 1);
    let (requests, mut connection) = builder.handshake::<_, Bytes>(io).await.map_err(failed)?;
    let mut pings = connection.ping_pong().ok_or_else(|| "pings are not available".to_owned())?;
    let over: Arc<Mutex<Option<String>>> = Arc::default();
    let (ended, options) = (over.clone(), options.clone());
    let (proved, proof) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let begun = Instant::now();
        let watch = async {
            if pings.ping(Ping::opaque()).await.is_ok() && proved.send(()).is_ok() {
                return silent(&mut pings, &options).await;
            }
            std::future::pending().await
        };
        let reason = tokio::select! {
            end = &mut connection => end.err().map_or_else(|| "closed by the peer".to_owned(), |error| error.to_string()),
            reason = watch => reason,
        };
        tracing::debug!(%address, "the connection to namerd is over: {reason}");
        peers.ended(address, begun.elapsed());
        // Before the streams hear of it, so that they find the reason and do not come back here.
        *ended.lock() = Some(reason);
        drop(connection);
    });
    let task = task.abort_handle();
    let connection = Arc::new(Connection { requests, address, streams: AtomicUsize::new(0), over, task });
    match proof.await {
        Ok(()) => Ok(connection),
        Err(_) => {
            let problem = connection.problem(&"it ended at once");
            Err(format!("{problem}, before it answered a ping; is this the interface io.l5d.mesh of a namerd?"))
        }
    }
}

/// Ends when the peer does not answer a ping in time.
async fn silent(pings: &mut PingPong, options: &MeshOptions) -> String {
    loop {
        sleep(options.ping_every).await;
        match timeout(options.close_timeout, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return format!("no answer to a ping within {:?}", options.close_timeout),
        }
    }
}

impl Connection {
    /// True when the peer takes another stream.
    fn has_place(&self) -> bool {
        self.streams.load(Ordering::Relaxed) < self.requests.current_max_send_streams()
    }

    /// True when streams wait for others to end.
    fn is_over_full(&self) -> bool {
        self.streams.load(Ordering::Relaxed) > self.requests.current_max_send_streams()
    }

    /// The reason for which the connection is over, else `error`.
    fn problem(&self, error: &dyn std::fmt::Display) -> String {
        let over = self.over.lock().clone();
        format!("{}: {}", self.address, over.unwrap_or_else(|| error.to_string()))
    }

    /// Sends a request; `shown` is its `Authorization`.
    async fn send(&self, path: &str, shown: Option<HeaderValue>, message: Bytes) -> Result<ResponseFuture, h2::Error> {
        let mut request = Request::post(format!("http://{}{path}", self.address))
            .version(http::Version::HTTP_2)
            .header("content-type", super::CONTENT_TYPE)
            .header("te", "trailers")
            .header("user-agent", concat!("switchyard/", env!("CARGO_PKG_VERSION")))
            .body(())
            .map_err(|_| h2::Error::from(h2::Reason::INTERNAL_ERROR))?;
        request.headers_mut().extend(shown.map(|shown| (AUTHORIZATION, shown)));
        let mut requests = self.requests.clone().ready().await?;
        let (response, mut body) = requests.send_request(request, false)?;
        body.send_data(message, true)?;
        Ok(response)
    }
}

impl Call {
    /// What went wrong with this call, and with whom.
    pub(super) fn problem(&self, error: &dyn std::fmt::Display) -> String {
        self.place.0.problem(error)
    }
}
