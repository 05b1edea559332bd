//! What goes wrong behind the interface: a defect, a store that refuses, values that fail, a time that is over.

use super::away::{Away, Fault};
use super::*;
use crate::storage::{StoreError, Version, VersionedDtab};
use dtab::Publisher;
use std::net::Ipv4Addr;

fn stored(text: &str) -> State<Option<VersionedDtab>> {
    State::Ok(Some(VersionedDtab { dtab: Dtab::parse(text).expect("a dtab"), version: Version("7".into()) }))
}

async fn over(store: Away) -> Server {
    Server::with(Arc::new(store), Access::default(), HttpParams::default(), "127.0.0.1:0").await
}

/// A defect in a write.
#[tokio::test]
async fn an_error_inside_a_handler_is_500_and_others_are_served() {
    let server = over(Away(Activity::constant(State::Failed("it rains".into())), Fault::Panic)).await;
    for method in ["POST", "PUT", "DELETE"] {
        let reply = server.send(method, "/api/1/dtabs/a", &[DTAB], "/a => /b").await;
        assert_eq!((reply.status, reply.body.as_str()), (500, "the write failed; the log says more\n"), "{method}");
    }
    assert_eq!(server.get("/api/1/bound-names").await.status, 200);
}

/// A store that has failed says so in the same way on every route, whoever asks by what method.
#[tokio::test]
async fn what_cannot_be_known_is_503_with_the_reason_on_every_route() {
    let away = || Fault::Error(StoreError::Unavailable("it rains".into()));
    let server = over(Away(Activity::constant(State::Failed("it rains".into())), away())).await;
    let json = [("content-type", "application/json")];
    let question = "{\"namespace\":\"a\",\"dtab\":\"\",\"path\":\"/svc/x\"}";
    for (method, target, body) in [
        ("GET", "bind/a?path=/svc/x", ""),
        ("GET", "resolve/a?path=/svc/x", ""),
        ("GET", "delegate/a?path=/svc/x", ""),
        ("GET", "delegate?path=/svc/x&namespace=a", ""),
        ("POST", "delegate", question),
        ("GET", "dtabs/a", ""),
        ("GET", "history/a", ""),
    ] {
        let reply = server.send(method, &format!("/api/1/{target}"), &json, body).await;
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{method} {target}: {reply:?}");
        assert!(reply.body.contains("it rains"), "{method} {target}: {reply:?}");
    }
    assert_eq!(server.get("/api/1/delegate?path=/svc/x").await.status, 200, "without a namespace");
}

/// A defect in a read has no answer: the connection ends, and that one alone.
#[tokio::test]
async fn a_defect_in_a_read_ends_its_connection_alone() {
    let server = over(Away(Activity::constant(State::Pending), Fault::Panic)).await;
    let mut other = server.watch("/api/1/bound-names?watch=1").await;
    assert_eq!(other.next().await.as_deref(), Some("[]\n"));
    let mut socket = tokio::net::TcpStream::connect(server.address).await.expect("a connection");
    let request = client::head("GET", "/api/1/dtabs/a", &[], None);
    tokio::io::AsyncWriteExt::write_all(&mut socket, request.as_bytes()).await.expect("it is sent");
    let mut bytes = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut bytes);
    drop(tokio::time::timeout(SOON, read).await.expect("an end"));
    assert!(bytes.is_empty(), "{}", String::from_utf8_lossy(&bytes));
    assert_eq!(server.get("/api/1/bound-names").await.status, 200);
    server.has_watches(1).await;
}

#[tokio::test]
async fn a_store_that_refuses_is_403() {
    let refusal = || Fault::Error(StoreError::Forbidden("no rights on /dtabs/a".into()));
    let server = over(Away(Activity::constant(State::Pending), refusal())).await;
    let stamp = ("if-match", "MDAwMQ==");
    for (method, headers) in [
        ("POST", vec![DTAB]),
        ("PUT", vec![DTAB]),
        ("PUT", vec![DTAB, stamp]),
        ("DELETE", vec![]),
        ("DELETE", vec![stamp]),
        ("GET", vec![]),
    ] {
        let reply = server.send(method, "/api/1/dtabs/a", &headers, "/a => /b").await;
        assert_eq!(reply.status, 403, "{method} {headers:?}");
        assert!(reply.body.contains("no rights on /dtabs/a"), "{method} {headers:?}: {}", reply.body);
    }
    assert_eq!(server.get("/api/1/history/a").await.status, 403);
}

/// What came while nothing could be known is not told: the first line is a tree.
#[tokio::test]
async fn a_tree_that_cannot_be_known_is_silent_and_then_speaks() {
    let (dtab, live): (Publisher<_>, _) = Activity::channel();
    let server = over(Away(live, Fault::Silence)).await;
    let mut tree = server.watch("/api/1/bind/a?path=/svc&watch=1").await;
    let mut resolved = server.watch("/api/1/resolve/a?path=/svc&watch=1").await;
    assert_eq!((tree.head.status, resolved.head.status), (200, 200), "the head comes at once");
    dtab.publish(State::Failed("it rains".into()));
    let once = server.get("/api/1/bind/a?path=/svc").await;
    assert!(once.status == 503 && once.body.contains("it rains"), "{once:?}");
    dtab.publish(stored("/svc => /$/inet/127.0.0.1/1"));
    assert!(tree.next().await.expect("a document").contains("/inet/127.0.0.1/1"));
    assert!(resolved.next().await.expect("a document").contains("\"port\":1"));
    // Once it is known, it stays so.
    dtab.publish(State::Failed("it hails".into()));
    assert_eq!(server.get("/api/1/bind/a?path=/svc").await.status, 200);
    dtab.publish(stored("/svc => /$/inet/127.0.0.1/2"));
    assert!(tree.next().await.expect("a document").contains("/inet/127.0.0.1/2"));
    assert!(resolved.next().await.expect("a document").contains("\"port\":2"));
}

/// Every id below `/#/told` has the addresses that are told.
struct Told(Path, Activity<Addr>);

impl Namer for Told {
    fn prefix(&self) -> &Path {
        &self.0
    }

    fn lookup(&self, rest: &Path) -> Activity<NameTree<Name>> {
        let name = BoundName { id: self.0.concat(rest), residual: Path::empty() };
        Activity::constant(State::Ok(NameTree::Leaf(Name::Bound(name))))
    }

    fn resolve(&self, _: &Path) -> Activity<Addr> {
        self.1.clone()
    }
}

/// A failure is told while nothing else is known; after that it is silent.
#[tokio::test]
async fn addresses_that_cannot_be_known_are_silent_and_then_speak() {
    let (addr, live): (Publisher<_>, _) = Activity::channel();
    let namer = Arc::new(Told(path("/#/told"), live));
    let server = Server::over(memory(&[]), namer, Access::default(), HttpParams::default(), "127.0.0.1:0").await;
    let mut watch = server.watch("/api/1/addr/a?path=/%23/told/x&watch=1").await;
    assert_eq!(watch.head.status, 200, "the head comes at once");
    let at = |port: u16| Addr::bound([(Ipv4Addr::LOCALHOST, port).into()]);
    addr.publish(State::Ok(Addr::Pending));
    addr.publish(State::Failed("it rains".into()));
    let failed = watch.next().await.expect("a document");
    assert!(failed.starts_with("{\"type\":\"failed\",\"cause\":\"") && failed.contains("it rains"), "{failed}");
    addr.publish(State::Ok(at(1)));
    assert!(watch.next().await.expect("a document").contains("\"port\":1"));
    for gone in [State::Failed("it hails".into()), State::Pending, State::Ok(Addr::failed("it storms"))] {
        addr.publish(gone);
        let once = server.get("/api/1/addr/a?path=/%23/told/x").await;
        assert!(once.status == 200 && once.body.contains("\"port\":1"), "{once:?}");
    }
    addr.publish(State::Ok(at(2)));
    let next = watch.next().await.expect("a document");
    assert!(next.contains("\"port\":2"), "{next}");
}

#[tokio::test(start_paused = true)]
async fn an_explanation_has_two_seconds() {
    let server = over(Away(Activity::constant(State::Pending), Fault::Silence)).await;
    let begun = tokio::time::Instant::now();
    let reply = server.get("/api/1/delegate/a?path=/svc/x").await;
    assert_eq!((reply.status, reply.body.as_str()), (503, "Request timed out."));
    let waited = begun.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(3)).contains(&waited), "{waited:?}");
    assert_eq!(server.get("/api/1/delegate?path=/svc/x").await.status, 200, "nothing to wait for");
}
