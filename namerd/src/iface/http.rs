//! `io.l5d.httpController`: the HTTP API on 4180 (namerd reference §2), and what is ours beside it.
//!
//! One HTTP/1 server over connections that are accepted already. Routes are in `route`, what they answer in `dtabs`, `write`
//! and `bind`, bodies in `body`, streams in `feed`. Called by whoever serves interfaces. Not for: rights, see
//! [`crate::access`].
//!
//! | Route | Methods | Answer |
//! |---|---|---|
//! | `/api/1/dtabs` | all | names of namespaces |
//! | `/api/1/dtabs/{ns}` | GET HEAD POST PUT DELETE | the dtab, with its version as `ETag` |
//! | `/api/1/bind/{ns}?path=` | all | tree of bound names |
//! | `/api/1/addr/{ns}?path=` | all | addresses of a bound id |
//! | `/api/1/resolve/{ns}?path=` | all | addresses of a name |
//! | `/api/1/delegate[/{ns}]?path=` | all; GET and POST without namespace | how a name resolves |
//! | `/api/1/bound-names` | GET | names that namers can enumerate |
//! | `/api/1/history/{ns}` | GET | *ours*: writes, newest first |
//! | `/api/1/names/{ns}` | GET | *ours*: names that routers have bound within the last hour |

mod answer;
mod bind;
mod body;
mod call;
mod dtabs;
mod encoding;
mod feed;
mod lenient;
mod route;
mod stall;
mod watches;
mod write;

use crate::access::Access;
use crate::access::audit::Outcomes;
use crate::guard::Guard;
use crate::iface::stats::InterfaceStats;
use crate::iface::{Closing, Interface, Peer};
use crate::names::Names;
use crate::storage::Store;
use admin::HostCheck;
use answer::{Answer, Refusal};
use call::{Call, From};
use dtab::BoxFuture;
use http::request::Parts;
use http::{Request, StatusCode, Version};
use hyper::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use lenient::{AtStart, Lenient};
use namers::remote::peers::Io;
use route::Route;
use stall::Stall;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use telemetry::Scope;
use watches::Watches;

/// What is said of a store that has not answered in time: which, and where its words are.
fn silent(store: &dyn Store, wait: Duration) -> String {
    let told = store.report();
    let last = told["lastError"].as_str().map_or_else(String::new, |error| format!(" (its last error: {error})"));
    format!("{} gives no answer within {wait:?}{last}; `/storage/` on the admin server says more", store.kind())
}

/// Method, target and version of a request, in bytes.
const MAX_REQUEST_LINE: usize = 4 << 10;
/// All header lines of a request, in bytes.
const MAX_HEADERS: usize = 8 << 10;
/// A head that does not fit in this is not read to its end.
const MAX_HEAD: usize = 64 << 10;
/// For a request head to arrive, and for the next request on an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// A client that takes nothing of what is sent to it for so long is cut off.
const STALLED: Duration = Duration::from_secs(60);

/// Numbers and names of an interface.
#[derive(Debug, Clone)]
pub struct HttpParams {
    /// Host names that requests may be for, beside IP literals and `localhost`. On a listener that other hosts reach,
    /// `HostCheck::new(["*"])`, the default; on loopback, names of the config, as protection against DNS rebinding.
    pub hosts: HostCheck,
    /// Streams of one client address at once; a further one is answered with 429. Default 20,000: a router has one for
    /// each name and each bound id that it uses.
    pub watches_per_client: usize,
    /// A value that has never been known is waited for so long before the answer is 503. Default 5 s.
    pub first_answer: Duration,
    /// What an edit may take away from the names in use.
    pub guard: Guard,
}

impl Default for HttpParams {
    fn default() -> HttpParams {
        HttpParams {
            hosts: HostCheck::new(["*"]),
            watches_per_client: 20_000,
            first_answer: Duration::from_secs(5),
            guard: Guard::default(),
        }
    }
}

/// The interface.
pub struct HttpInterface {
    names: Names,
    access: Access,
    params: HttpParams,
    watches: Arc<Watches>,
    stats: InterfaceStats,
    outcomes: Outcomes,
}

impl HttpInterface {
    /// An interface that answers from `names` to whom `access` lets in.
    pub fn new(names: Names, access: Access, params: HttpParams) -> HttpInterface {
        let stats = InterfaceStats::default();
        let watches = Arc::new(Watches::new(params.watches_per_client, stats.clone()));
        let outcomes = Outcomes::new(stats.scope());
        HttpInterface { names, access, params, watches, stats, outcomes }
    }

    /// The same, counting below `scope`.
    pub fn counting(self, scope: &Scope) -> HttpInterface {
        let stats = InterfaceStats::new(scope);
        let watches = Arc::new(Watches::new(self.params.watches_per_client, stats.clone()));
        HttpInterface { watches, outcomes: Outcomes::new(scope), stats, ..self }
    }

    /// Number of streams that are open now.
    pub fn open_watches(&self) -> usize {
        self.watches.open()
    }

    async fn answer(&self, request: Request<Incoming>, from: From) -> Answer {
        let (head, body) = request.into_parts();
        if body.is_end_stream() {
            from.at_start.set(0);
        }
        let refused = |refusal: Refusal| refusal.into_answer();
        if let Err(refusal) = within_limits(&head) {
            let mut answer = refused(refusal);
            *answer.version_mut() = Version::HTTP_10;
            return answer;
        }
        let call = Call { api: self, head, from };
        if let Err(refusal) = self.params.hosts.check(&call.head) {
            let text = String::from_utf8_lossy(&refusal.body);
            call.note_refusal(refusal.status, &text);
            return answer::text(refusal.status, &text);
        }
        call.answer(body).await.unwrap_or_else(refused)
    }
}

/// The limits of a request line and of headers (namerd reference §2.1).
fn within_limits(head: &Parts) -> Result<(), Refusal> {
    let target = head.uri.path_and_query().map_or(1, |target| target.as_str().len());
    let line = head.method.as_str().len() + target + " HTTP/1.1\r\n ".len();
    if line > MAX_REQUEST_LINE {
        let text = format!("the request line has {line} bytes, and at most {MAX_REQUEST_LINE} are read");
        return Err(Refusal::new(StatusCode::URI_TOO_LONG, text).closing());
    }
    let headers: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if headers > MAX_HEADERS {
        let text = format!("the headers have {headers} bytes, and at most {MAX_HEADERS} are read");
        return Err(Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text).closing());
    }
    Ok(())
}

impl Interface for HttpInterface {
    fn kind(&self) -> &'static str {
        "io.l5d.httpController"
    }

    fn stats(&self) -> &InterfaceStats {
        &self.stats
    }

    fn alpn(&self) -> Vec<Vec<u8>> {
        vec![b"http/1.1".to_vec()]
    }

    fn serve(self: Arc<Self>, io: Box<dyn Io>, peer: Peer, mut closing: Closing) -> BoxFuture<'static, ()> {
        let from = From { peer, closing: closing.clone(), at_start: AtStart::default() };
        let at_start = from.at_start.clone();
        let asked = Arc::new(AtomicBool::new(false));
        let asks = asked.clone();
        let service = service_fn(move |request| {
            asks.store(true, Ordering::Relaxed);
            let (api, from) = (self.clone(), from.clone());
            async move {
                let counted = api.stats.request();
                let answer = api.answer(request, from).await;
                counted.end_http(answer.status().as_u16());
                Ok::<_, Infallible>(answer)
            }
        });
        Box::pin(async move {
            let io = TokioIo::new(Lenient::new(Stall::new(io, STALLED), at_start));
            let mut connection = pin!(
                http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIMEOUT)
                    .title_case_headers(true)
                    .max_buf_size(MAX_HEAD)
                    .serve_connection(io, service)
            );
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = async { drop(closing.wait_for(|closing| *closing).await) } => {
                    // The library waits for a first request; nothing is owed to whoever has not sent one.
                    if !asked.load(Ordering::Relaxed) {
                        return;
                    }
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection of the HTTP interface ended");
            }
        })
    }
}

impl Call<'_> {
    /// What each route answers.
    async fn answer(&self, body: Incoming) -> Result<Answer, Refusal> {
        match Route::of(self.head.uri.path())? {
            Route::List => self.list().await,
            Route::Dtab(namespace) => self.dtab(&namespace, body).await,
            Route::Bind(namespace) => self.bind(namespace, body).await,
            Route::Addr(namespace) => self.addr(namespace, body).await,
            Route::Resolve(namespace) => self.resolve(namespace, body).await,
            Route::Delegate(namespace) => self.delegate(namespace, body).await,
            Route::BoundNames => self.bound_names().await,
            Route::History(namespace) => self.history(&namespace).await,
            Route::Names(namespace) => self.known_names(&namespace),
        }
    }
}

#[cfg(test)]
mod tests;
