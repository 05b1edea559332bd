//! [`Client`]: one request on one connection to a namerd, and its answer's status looked at.
//!
//! Called by `control` and its probes. Not for: what is in the answers.

use crate::remote::peers::{Io, Peers};
use crate::remote::{TokenSource, authorization};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, HOST, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The head of an answer may take so long: a stream begins at once, whether a value is known or not.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A probe asks for so little that it is answered sooner.
const PROBE_TIMEOUT: Duration = Duration::from_secs(4);
/// A target may have so many bytes: what reads it allows 65,534.
const MAX_TARGET: usize = 60_000;
/// What an answer in one piece may have.
const MAX_BODY: usize = 16 << 20;
/// So much of the text of an error is shown.
const SHOWN: usize = 300;

/// How requests are made.
pub(super) struct Client {
    pub(super) peers: Peers,
    pub(super) host: Option<String>,
    pub(super) token: Option<TokenSource>,
}

/// An answer under way; its connection ends when it is dropped.
pub(super) struct Answer {
    pub(super) address: SocketAddr,
    pub(super) body: Incoming,
    _connection: JoinSet<()>,
}

impl Client {
    /// The answer of any replica. An address that does not answer well is avoided for a while.
    pub(super) async fn get(&self, target: &str) -> Result<Answer, String> {
        if target.len() > MAX_TARGET {
            let (is, what) = (target.len(), shown(target));
            return Err(format!(
                "a request for {what} would have {is} bytes, at most {MAX_TARGET} are possible: \
                 the router's dtab is too large for io.l5d.namerd.http; use io.l5d.mesh"
            ));
        }
        let (address, io) = self.peers.connect().await?;
        let found = async {
            let (answer, connection) = self.request(address, io, target).await?;
            let (head, body) = answer.into_parts();
            match head.status {
                StatusCode::OK => Ok(Answer { address, body, _connection: connection }),
                status => Err(refused(status, body).await),
            }
        };
        found.await.map_err(|reason: String| {
            self.peers.avoid(address);
            format!("namerd at {address}: {reason}")
        })
    }

    /// Whether the process at this address answers anything at all.
    pub(super) async fn ping(&self, address: SocketAddr) -> Result<(), String> {
        let io = self.peers.connect_to(address).await?;
        let answered = timeout(PROBE_TIMEOUT, self.request(address, io, "/api/1/bound-names")).await;
        answered.map_err(|_| format!("it gives no answer within {PROBE_TIMEOUT:?}"))?.map(drop)
    }

    async fn request(
        &self,
        address: SocketAddr,
        io: Box<dyn Io>,
        target: &str,
    ) -> Result<(Response<Incoming>, JoinSet<()>), String> {
        let request = self.head(address, target)?;
        let answered = async {
            let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
            let mut task = JoinSet::new();
            task.spawn(async {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection to namerd ended");
                }
            });
            Ok::<_, hyper::Error>((sender.send_request(request).await?, task))
        };
        match timeout(HEAD_TIMEOUT, answered).await {
            Ok(answered) => answered.map_err(|error| format!("it gives no HTTP answer: {error}")),
            Err(_) => Err(format!("it gives no answer within {HEAD_TIMEOUT:?}")),
        }
    }

    fn head(&self, address: SocketAddr, target: &str) -> Result<Request<Empty<Bytes>>, String> {
        // By another name than its own, a server of loopback is not reached: to it that looks like a browser's rebinding.
        let named = self.host.clone().filter(|_| !address.ip().is_loopback());
        let host = named.unwrap_or_else(|| address.to_string());
        let mut request = Request::get(target).header(HOST, host).header(ACCEPT, "application/json");
        request = request.header(USER_AGENT, concat!("switchyard/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, authorization(token)?);
        }
        request.body(Empty::new()).map_err(|error| format!("a request for {} cannot be made: {error}", shown(target)))
    }
}

/// A target without its query, which may hold a whole dtab; for messages.
fn shown(target: &str) -> &str {
    target.split_once('?').map_or(target, |(path, _)| path)
}

/// All of an answer.
pub(super) async fn whole(body: Incoming) -> Result<Bytes, String> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(all) => Ok(all.to_bytes()),
        Err(error) => Err(format!("its answer cannot be read: {error}")),
    }
}

/// What a status says, with the beginning of its text.
async fn refused(status: StatusCode, body: Incoming) -> String {
    let text = match timeout(HEAD_TIMEOUT, whole(body)).await {
        Ok(Ok(body)) => String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).trim().replace(char::is_control, " "),
        _ => String::new(),
    };
    if text.is_empty() { format!("it answers {status}") } else { format!("it answers {status}: {text}") }
}
