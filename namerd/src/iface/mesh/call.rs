//! One call: its request, what it asks for, its statuses (namerd reference §3.3).
//!
//! Called by the interface, once for each stream. Not for: frames of HTTP/2, bytes of messages.

use super::MeshInterface;
use super::reply::{Gone, MAX_UNDER_WAY, Reply};
use crate::access::{Access, Caller, Denied, Needs, Standing};
use crate::iface::stats::{InterfaceStats, Outcome};
use crate::iface::{Closing, Peer};
use crate::names::{self, MAX_EXTRA, Names};
use crate::storage::VersionedDtab;
use bytes::Bytes;
use dtab::{Activity, Addr, BoundName, Dtab, Exact, NameTree, Path, State};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Method, Request, StatusCode, header};
use namers::mesh::calls::{self, Bind, Delegate};
use namers::mesh::frame::{Budget, Frames};
use namers::mesh::status::{Status, code};
use namers::mesh::{WireError, paths};
use setup::tokens::bearer;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// A request may have so many bytes.
const MAX_REQUEST: usize = 1024 * 1024;
/// Unfinished requests of one connection together.
const MAX_GATHERED: usize = 8 * 1024 * 1024;
/// A request may take so long to arrive.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A call of one answer waits so long for it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// GetReplicas waits so long for addresses, and then says that they are pending.
const REPLICAS_TIMEOUT: Duration = Duration::from_secs(2);
/// A delegation tree may have so many bytes.
const MAX_DELEGATION: usize = 4 * 1024 * 1024;

/// What the calls of one connection share.
#[derive(Clone)]
pub(super) struct Calls {
    names: Names,
    access: Access,
    stats: InterfaceStats,
    peer: Arc<Peer>,
    closing: Closing,
    requests: Budget,
    replies: Budget,
}

/// What is done about the present state of what a client follows.
enum Turn {
    /// Nothing.
    Wait,
    /// It is told.
    Send,
    /// The stream ends.
    End(Status),
}

/// How the states of something are told.
struct Telling<T> {
    turn: fn(&State<T>) -> Turn,
    write: fn(&State<T>) -> Bytes,
}

const TREES: Telling<NameTree<BoundName>> = Telling {
    turn: |state| match state {
        State::Pending => Turn::Wait,
        State::Ok(_) => Turn::Send,
        State::Failed(reason) => Turn::End(internal(reason)),
    },
    write: |state| match state {
        State::Ok(tree) => calls::write_tree(tree),
        State::Pending | State::Failed(_) => Bytes::new(),
    },
};

const ADDRS: Telling<Addr> = Telling { turn: |_| Turn::Send, write: |state| calls::write_addr(&addr(state)) };

const DTABS: Telling<Option<VersionedDtab>> = Telling {
    turn: |state| match state {
        State::Pending => Turn::Wait,
        State::Ok(Some(_)) => Turn::Send,
        State::Ok(None) => Turn::End(no_root()),
        State::Failed(reason) => Turn::End(internal(reason)),
    },
    write: |state| match state {
        State::Ok(Some(stored)) => calls::write_versioned(&stored.version.0, &stored.dtab),
        State::Ok(None) | State::Pending | State::Failed(_) => Bytes::new(),
    },
};

/// The state of addresses as one of theirs: failures are no failures of the stream.
pub(super) fn addr(state: &State<Addr>) -> Addr {
    match state {
        State::Pending => Addr::Pending,
        State::Ok(addr) => addr.clone(),
        State::Failed(reason) => Addr::failed(reason.clone()),
    }
}

fn internal(reason: impl AsRef<str>) -> Status {
    Status::new(code::INTERNAL, reason.as_ref())
}

fn invalid(error: impl std::fmt::Display) -> Status {
    Status::new(code::INVALID_ARGUMENT, error.to_string())
}

fn no_root() -> Status {
    Status::new(code::NOT_FOUND, "Root not found")
}

fn no_name() -> Status {
    Status::new(code::NOT_FOUND, "No name given")
}

fn namespace(root: Option<Path>) -> Result<String, Status> {
    let root = root.ok_or_else(|| invalid("No namespace specified"))?;
    match root.text(0) {
        Some(name) if root.len() == 1 => Ok(name.to_owned()),
        _ => Err(invalid(format!("Invalid root: `{root}` must have exactly one segment"))),
    }
}

/// The namespace, if the caller may read it.
fn readable(caller: &Caller, root: Option<Path>) -> Result<String, Status> {
    let namespace = namespace(root)?;
    caller.may_read(&namespace)?;
    Ok(namespace)
}

/// The dtab of a question, if it is short enough to be kept.
fn kept(extra: Dtab) -> Result<Dtab, Status> {
    match names::is_too_long(&extra) {
        true => {
            Err(invalid(format!("the text of the dtab has more than {MAX_EXTRA} bytes, and at most those are taken")))
        }
        false => Ok(extra),
    }
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Status {
        match denied {
            Denied::Unauthenticated(text) => Status::new(code::UNAUTHENTICATED, text),
            Denied::Forbidden(text) => Status::new(code::PERMISSION_DENIED, text),
        }
    }
}

/// Whose fault a status is.
fn outcome(status: &Status) -> Outcome {
    match status.code {
        code::UNAUTHENTICATED | code::PERMISSION_DENIED => Outcome::Refused,
        code::INTERNAL | code::UNAVAILABLE => Outcome::Failure,
        _ => Outcome::Success,
    }
}

/// What a client asks for: an answer, or something to follow.
enum Asked {
    Once(Answer),
    Trees(Activity<NameTree<BoundName>>, Needs),
    Addrs(Activity<Addr>, Needs),
    Dtabs(Activity<Option<VersionedDtab>>, Needs),
}

/// What ends a stream, beside its client and what it tells.
struct Ends {
    closing: Closing,
    standing: Standing,
}

impl Ends {
    /// Waits until there is a reason to end.
    async fn come(&mut self) -> Status {
        tokio::select! {
            _ = self.closing.wait_for(|closing| *closing) => Status::new(code::UNAVAILABLE, "namerd is closing"),
            denied = self.standing.lost() => denied.into(),
        }
    }
}

type Answer = std::pin::Pin<Box<dyn Future<Output = Result<Bytes, Status>> + Send>>;

impl Calls {
    /// The calls of a connection with `peer`.
    pub(super) fn new(interface: &MeshInterface, peer: Peer, closing: Closing) -> Calls {
        let (names, access, stats) = (interface.names.clone(), interface.access.clone(), interface.stats.clone());
        Calls {
            names,
            access,
            stats,
            peer: Arc::new(peer),
            closing,
            requests: Budget::new(MAX_GATHERED),
            replies: Budget::new(MAX_UNDER_WAY),
        }
    }

    /// Serves one stream to its end.
    pub(super) async fn serve(self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        // Whoever has left is owed nothing more.
        let _: Result<(), Gone> = self.answer(request, &mut respond).await;
    }

    async fn answer(self, request: Request<RecvStream>, respond: &mut SendResponse<Bytes>) -> Result<(), Gone> {
        let path: Arc<str> = request.uri().path().into();
        let counted = self.stats.request();
        if let Some(status) = refusal(request.method(), &path) {
            return Reply::begin(respond, StatusCode::BAD_REQUEST, self.replies)?.end(&status);
        }
        let caller = match self.caller(request.headers()) {
            Ok(caller) => caller,
            Err(denied) => {
                counted.end(Outcome::Refused);
                return Reply::begin(respond, StatusCode::OK, self.replies)?.end(&denied.into());
            }
        };
        let plain = reads_all(request.headers());
        let token = shown(request.headers()).map(<[u8]>::to_vec);
        let message = self.read(request.into_body()).await?;
        let asked = message.and_then(|message| self.ask(&caller, &path, message, plain));
        let mut reply = Reply::begin(respond, StatusCode::OK, self.replies.clone())?;
        let answer = match asked {
            Err(status) => Err(status),
            Ok(Asked::Once(answer)) => reply.unless_gone(answer).await?,
            Ok(followed) => {
                counted.end(Outcome::Success);
                return self.stream(reply, followed, token.as_deref()).await;
            }
        };
        counted.end(answer.as_ref().map_or_else(outcome, |_| Outcome::Success));
        match answer {
            Err(status) => reply.end(&status),
            Ok(frame) => {
                reply.message(|| frame.clone()).await?;
                reply.end(&Status::new(code::OK, ""))
            }
        }
    }

    /// Answers with what is followed, until that ends.
    async fn stream(self, reply: Reply, followed: Asked, token: Option<&[u8]>) -> Result<(), Gone> {
        let _counted = self.stats.watch();
        let ends =
            |needs| Ends { closing: self.closing.clone(), standing: self.access.standing(&self.peer, token, needs) };
        match followed {
            Asked::Trees(live, needs) => follow(reply, live, TREES, ends(needs), &self.stats).await,
            Asked::Addrs(live, needs) => follow(reply, live, ADDRS, ends(needs), &self.stats).await,
            Asked::Dtabs(live, needs) => follow(reply, live, DTABS, ends(needs), &self.stats).await,
            Asked::Once(_) => Ok(()),
        }
    }

    /// Who is calling, if it may read anything at all. By that it may ask for ids, and for conversions.
    fn caller(&self, headers: &HeaderMap) -> Result<Caller, Denied> {
        let caller = self.access.caller(&self.peer, shown(headers))?;
        caller.may_read_something()?;
        Ok(caller)
    }

    /// The one message of a request, once the client has sent all.
    async fn read(&self, mut body: RecvStream) -> Result<Result<Bytes, Status>, Gone> {
        let mut frames = Frames::new(MAX_REQUEST, self.requests.clone());
        let gather = async {
            let mut message = None;
            while let Some(data) = poll_fn(|cx| body.poll_data(cx)).await {
                let data = data?;
                body.flow_control().release_capacity(data.len())?;
                if let Err(status) = take(&mut frames, &data, &mut message) {
                    return Ok(Err(status));
                }
            }
            match message {
                Some(message) if frames.is_empty() => Ok(Ok(message)),
                _ => Ok(Err(invalid("the request is not exactly one message"))),
            }
        };
        let late = || Status::new(code::DEADLINE_EXCEEDED, format!("no complete request within {REQUEST_TIMEOUT:?}"));
        timeout(REQUEST_TIMEOUT, gather).await.unwrap_or_else(|_| Ok(Err(late())))
    }

    fn ask(&self, caller: &Caller, path: &str, message: Bytes, transformations: bool) -> Result<Asked, Status> {
        Ok(match path {
            paths::GET_BOUND_TREE => once(tree(self.bind(caller, message)?.0)),
            paths::STREAM_BOUND_TREE => {
                let (live, needs) = self.bind(caller, message)?;
                Asked::Trees(live, needs)
            }
            paths::GET_REPLICAS => once(replicas(self.resolve(message)?)),
            paths::STREAM_REPLICAS => Asked::Addrs(self.resolve(message)?, Needs::Something),
            paths::GET_DTAB => {
                let namespace = readable(caller, calls::read_root(message).map_err(invalid)?)?;
                once(stored(self.names.clone(), namespace))
            }
            paths::STREAM_DTAB => {
                let namespace = readable(caller, calls::read_root(message).map_err(invalid)?)?;
                Asked::Dtabs(self.names.store().observe(&namespace), Needs::Namespace(namespace))
            }
            paths::GET_DELEGATE_TREE | paths::STREAM_DELEGATE_TREE => {
                let Delegate { root, tree, dtab } = Delegate::read(message).map_err(invalid)?;
                let (namespace, path) = (readable(caller, root)?, explained(tree)?);
                once(delegation(self.names.clone(), namespace, kept(dtab)?, path, transformations))
            }
            codec => {
                let shown = convert(codec, message).map_err(invalid);
                once(async { shown })
            }
        })
    }

    fn bind(&self, caller: &Caller, message: Bytes) -> Result<(Activity<NameTree<BoundName>>, Needs), Status> {
        let Bind { root, name, dtab } = Bind::read(message).map_err(invalid)?;
        let namespace = readable(caller, root)?;
        let dtab = kept(dtab)?;
        let name = name.filter(|name| !name.is_empty()).ok_or_else(no_name)?;
        Ok((self.names.bind(&namespace, &dtab, &name), Needs::Namespace(namespace)))
    }

    fn resolve(&self, message: Bytes) -> Result<Activity<Addr>, Status> {
        Ok(match calls::read_id(message).map_err(invalid)? {
            Some(id) => self.names.resolve(&id),
            None => Activity::constant(State::Ok(Addr::failed("No ID provided"))),
        })
    }
}

/// The token that a request shows.
fn shown(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(header::AUTHORIZATION).and_then(|shown| bearer(shown.as_bytes()))
}

fn take(frames: &mut Frames, data: &[u8], message: &mut Option<Bytes>) -> Result<(), Status> {
    frames.push(data).map_err(|error| Status::new(code::RESOURCE_EXHAUSTED, error.0))?;
    while let Some(next) = frames.message().map_err(|error| Status::new(code::UNIMPLEMENTED, error.0))? {
        if message.replace(next).is_some() {
            return Err(invalid("the request is not exactly one message"));
        }
    }
    Ok(())
}

/// Why there is no such call, if there is none.
fn refusal(method: &Method, path: &str) -> Option<Status> {
    if method != Method::POST {
        return Some(Status::new(code::UNKNOWN, format!("unsupported method: {method}")));
    }
    (!paths::ALL.contains(&path)).then(|| Status::new(code::UNIMPLEMENTED, path))
}

/// False for the client of Linkerd 1, which fails on transformations; it alone does not say who it is.
fn reads_all(headers: &HeaderMap) -> bool {
    headers.contains_key(header::USER_AGENT)
}

fn once(answer: impl Future<Output = Result<Bytes, Status>> + Send + 'static) -> Asked {
    Asked::Once(Box::pin(answer))
}

async fn tree(mut live: Activity<NameTree<BoundName>>) -> Result<Bytes, Status> {
    match timeout(ANSWER_TIMEOUT, live.settled()).await {
        Ok(State::Ok(tree)) => Ok(calls::write_tree(&tree)),
        Ok(State::Failed(reason)) => Err(internal(reason)),
        Ok(State::Pending) | Err(_) => Err(Status::new(code::UNAVAILABLE, "the name is not bound yet")),
    }
}

async fn replicas(mut live: Activity<Addr>) -> Result<Bytes, Status> {
    let known = async {
        while matches!(live.get(), State::Pending | State::Ok(Addr::Pending)) {
            live.changed().await;
        }
    };
    // What is pending after that is told as such.
    let _ = timeout(REPLICAS_TIMEOUT, known).await;
    Ok(live.with(|state| calls::write_addr(&addr(state))))
}

async fn stored(names: Names, namespace: String) -> Result<Bytes, Status> {
    match timeout(ANSWER_TIMEOUT, names.store().read(&namespace)).await {
        Ok(Ok(Some(stored))) => Ok(calls::write_versioned(&stored.version.0, &stored.dtab)),
        Ok(Ok(None)) => Err(no_root()),
        Ok(Err(error)) => Err(internal(error.to_string())),
        Err(_) => Err(Status::new(code::UNAVAILABLE, "the store does not answer")),
    }
}

/// The one path of a tree that is to be explained.
fn explained(tree: Option<NameTree<Path>>) -> Result<Path, Status> {
    match tree {
        None => Err(no_name()),
        Some(NameTree::Leaf(path)) if path.is_empty() => Err(no_name()),
        Some(NameTree::Leaf(path)) => Ok(path),
        Some(_) => Err(Status::new(code::UNIMPLEMENTED, "Delegation too complex: ask for one path")),
    }
}

async fn delegation(
    names: Names,
    namespace: String,
    dtab: Dtab,
    path: Path,
    transformations: bool,
) -> Result<Bytes, Status> {
    let tree = names.explain(Some(&namespace), &dtab, &path).await.map_err(internal)?;
    let frame = calls::write_delegation(&tree, transformations, MAX_DELEGATION);
    let large =
        || Status::new(code::RESOURCE_EXHAUSTED, format!("the delegation has more than {MAX_DELEGATION} bytes"));
    frame.ok_or_else(large)
}

/// The answer of Codec.
fn convert(path: &str, message: Bytes) -> Result<Bytes, WireError> {
    let parsed = |error: dtab::ParseError| WireError(error.to_string());
    Ok(match path {
        paths::READ_DTAB => calls::write_dtab(&Dtab::parse(&calls::read_text(message)?).map_err(parsed)?),
        paths::SHOW_DTAB => calls::write_text(Exact(&calls::read_dtab(message)?).to_string()),
        paths::READ_PATH => calls::write_path(&Path::parse(&calls::read_text(message)?).map_err(parsed)?),
        _ => calls::write_text(calls::read_path(message)?.to_string()),
    })
}

/// Tells `live` until the client leaves, the value fails, or there is a reason to end. The newest state counts: what came while
/// the client was slow is not told.
async fn follow<T: Clone>(
    mut reply: Reply,
    mut live: Activity<T>,
    telling: Telling<T>,
    mut ends: Ends,
    stats: &InterfaceStats,
) -> Result<(), Gone> {
    loop {
        match (telling.turn)(&live.get()) {
            Turn::End(status) => {
                if outcome(&status) == Outcome::Failure {
                    stats.stream_failed();
                }
                return reply.end(&status);
            }
            Turn::Wait => {}
            Turn::Send => {
                let room = tokio::select! {
                    biased;
                    status = ends.come() => return reply.end(&status),
                    room = reply.room() => room,
                };
                room?;
                let mut told = true;
                let newest = || {
                    let state = live.get();
                    told = matches!((telling.turn)(&state), Turn::Send);
                    if told { (telling.write)(&state) } else { Bytes::new() }
                };
                reply.message(newest).await?;
                if !told {
                    continue;
                }
            }
        }
        let changed = async {
            tokio::select! {
                () = live.changed() => None,
                status = ends.come() => Some(status),
            }
        };
        if let Some(status) = reply.unless_gone(changed).await? {
            return reply.end(&status);
        }
    }
}
