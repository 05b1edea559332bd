//! `io.l5d.zk`, with a real ZooKeeper; a plain client of the same library does what Linkerd 1 would.

use crate::gate::Gate;
use crate::help::{self, discovery, dtab, unique, until, until_dtab, until_gone};
use crate::servers::{Server, zookeeper};
use dtab::{Dtab, State};
use namerd::storage::contract::{self, Subject};
use namerd::storage::zk::{ZkAcl, ZkAuth, ZkParams, open};
use namerd::storage::{Note, Store, StoreError, Version};
use namers::Discovery;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions};

fn params(port: u16, prefix: &str) -> ZkParams {
    ZkParams {
        path_prefix: prefix.to_owned(),
        session_timeout: Duration::from_secs(4),
        ..ZkParams::new(vec![("127.0.0.1".to_owned(), port)])
    }
}

fn store_in(discovery: &Discovery, port: u16, prefix: &str) -> Arc<dyn Store> {
    open(&params(port, prefix), discovery).expect("params")
}

fn store(port: u16, prefix: &str) -> Arc<dyn Store> {
    store_in(&discovery(), port, prefix)
}

async fn client(port: u16) -> Client {
    Client::connect(&format!("127.0.0.1:{port}")).await.expect("a session")
}

const PLAIN: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());

fn subject(server: Server) -> Subject {
    let port = server.port;
    let prefix = Arc::new(Mutex::new(String::new()));
    let (last, server) = (prefix.clone(), Arc::new(Mutex::new(server)));
    let (kill, start) = (server.clone(), server);
    Subject::new(move || {
        *prefix.lock() = unique("/dtabs");
        let made = store(port, &prefix.lock());
        async move { made }
    })
    .second(move || {
        let made = store(port, &last.lock());
        async move { made }
    })
    .outage(
        move || {
            kill.lock().kill();
            async {}
        },
        move || {
            start.lock().start();
            async {}
        },
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds() {
    let Some(server) = zookeeper("zk::the_contract_holds") else { return };
    contract::all(&subject(server)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_reads_and_writes_as_linkerd_1() {
    let Some(server) = zookeeper("zk::it_reads_and_writes_as_linkerd_1") else { return };
    let (store, zk) = (store(server.port, "/l5d/dtabs"), client(server.port).await);
    // The prefix is made when it is missing.
    until("no names", &mut store.list(), |state| matches!(state, State::Ok(names) if names.is_empty())).await;
    zk.create("/l5d/dtabs/default", b"/svc=>/#/io.l5d.fs", &PLAIN).await.expect("create");
    let mut live = store.observe("default");
    until_dtab(&mut live, "/svc=>/#/io.l5d.fs").await;
    // The stamp of Linkerd 1, 4 bytes, is accepted; ours ends with the same bytes.
    let stamp = |number: i32| Version(number.to_be_bytes().to_vec().into());
    let update = |version| store.update("default", dtab("/svc => 0.5 * /a & /b"), version, Note::default());
    assert_eq!(update(stamp(7)).await, Err(StoreError::Mismatch));
    let made = update(stamp(0)).await.expect("update");
    assert_eq!((made.0.len(), &made.0[8..]), (12, &1i32.to_be_bytes()[..]));
    let (data, stat) = zk.get_data("/l5d/dtabs/default").await.expect("data");
    assert_eq!((data.as_slice(), stat.version), (&b"/svc=>0.50*/a & /b"[..], 1));
    // Made anew, a znode counts from zero again; our version of the first one matches no more.
    zk.delete("/l5d/dtabs/default", None).await.expect("delete");
    until_gone(&mut live).await;
    zk.create("/l5d/dtabs/default", b"/x=>/y", &PLAIN).await.expect("create");
    zk.set_data("/l5d/dtabs/default", b"/x=>/z", None).await.expect("set");
    until_dtab(&mut live, "/x=>/z").await;
    assert_eq!(update(made).await, Err(StoreError::Mismatch));
    assert_eq!(store.delete("default", Some(stamp(5)), Note::default()).await, Err(StoreError::Mismatch));
    store.delete("default", Some(stamp(1)), Note::default()).await.expect("delete");
    // To Linkerd 1 a znode without data is an error, so an empty dtab has some.
    store.create("empty", Dtab::empty(), Note::default()).await.expect("create");
    assert_eq!(zk.get_data("/l5d/dtabs/empty").await.expect("data").0, b"\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_empty_znodes_keep_the_last_good() {
    let Some(server) = zookeeper("zk::garbage_and_empty_znodes_keep_the_last_good") else { return };
    let (store, zk) = (store(server.port, "/dtabs"), client(server.port).await);
    let write = |text: &str| {
        let (zk, text) = (zk.clone(), text.to_owned());
        let set = async move { zk.set_data("/dtabs/ns", text.as_bytes(), None).await.expect("set") };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(set));
    };
    help::garbage_keeps_the_last_good(&store, write).await;
    let mut live = store.observe("ns");
    write("");
    help::eventually("the report shows it", || {
        store.report()["namespaces"]["ns"]["lastError"].to_string().contains("/dtabs/ns is empty")
    })
    .await;
    until_dtab(&mut live, "/a => /d").await;
    write("/a => /e");
    until_dtab(&mut live, "/a => /e").await;
}

/// The gate is shut for longer than the session lives: it expires, and another is begun.
#[tokio::test(flavor = "multi_thread")]
async fn gaps_and_expired_sessions_are_bridged() {
    let Some(server) = zookeeper("zk::gaps_and_expired_sessions_are_bridged") else { return };
    let gate = Gate::shut_before(server.port).await;
    let (behind, elsewhere) = (store(gate.port(), "/gaps"), store(server.port, "/gaps"));
    help::gaps_are_bridged(&behind, &gate, &elsewhere).await;

    let mut live = behind.observe("changed");
    until_dtab(&mut live, "/a => /c").await;
    gate.shut().await;
    let zk = client(server.port).await;
    // Sessions end on the server's side when their time is over: those of `elsewhere` and of `zk` stay.
    help::eventually("the session has expired", || server.sessions() <= 2).await;
    zk.set_data("/gaps/changed", b"/a=>/expired", None).await.expect("set");
    until_dtab(&mut live, "/a => /c").await;
    gate.open().await;
    until_dtab(&mut live, "/a => /expired").await;
    behind.put("changed", dtab("/a => /new"), Note::default()).await.expect("put");
    until_dtab(&mut live, "/a => /new").await;
    assert_eq!(behind.report()["details"]["session"], "connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_seen_soon() {
    let Some(server) = zookeeper("zk::changes_are_seen_soon") else { return };
    help::changes_are_seen_soon(&store(server.port, "/soon"), &store(server.port, "/soon")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_stands_in() {
    let Some(server) = zookeeper("zk::disk_stands_in") else { return };
    let gate = Gate::shut_before(server.port).await;
    help::disk_stands_in(&gate, |discovery| store_in(discovery, gate.port(), "/disk")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_is_bounded() {
    let Some(server) = zookeeper("zk::the_history_is_bounded") else { return };
    let zk = client(server.port).await;
    let count = || {
        let list = zk.list_children("/h-history/ns");
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(list)).expect("children").len()
    };
    help::history_is_bounded(&store(server.port, "/h"), 0, count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_are_set_and_needed() {
    let Some(server) = zookeeper("zk::rights_are_set_and_needed") else { return };
    let acl = |perms: &str| ZkAcl { scheme: "auth".to_owned(), id: String::new(), perms: perms.to_owned() };
    let auth = Some(ZkAuth { scheme: "digest".to_owned(), auth: "namerd:secret".to_owned() });
    let with = ZkParams { auth, acls: vec![acl("crwda")], ..params(server.port, "/guarded") };
    assert!(!format!("{with:?}").contains("secret"));
    let store = open(&with, &discovery()).expect("params");
    store.create("ns", dtab("/a => /b"), Note::default()).await.expect("create");
    let known = client(server.port).await;
    known.auth("digest", b"namerd:secret").await.expect("auth");
    let (acls, _) = known.get_acl("/guarded/ns").await.expect("acl");
    assert_eq!(acls.iter().map(|acl| acl.scheme()).collect::<Vec<_>>(), ["digest"]);

    let stranger = self::store(server.port, "/guarded");
    for refused in [
        stranger.read("ns").await.map(|_| ()),
        stranger.put("ns", dtab("/x => /y"), Note::default()).await.map(|_| ()),
        stranger.create("new", dtab("/x => /y"), Note::default()).await.map(|_| ()),
        stranger.delete("ns", None, Note::default()).await,
    ] {
        assert!(matches!(refused, Err(StoreError::Forbidden(_))), "{refused:?}");
    }
    for perms in ["rr", "x", "crwdaz"] {
        let wrong = ZkParams { acls: vec![acl(perms)], ..params(server.port, "/guarded") };
        assert!(open(&wrong, &discovery()).is_err(), "{perms}");
    }
    assert!(open(&params(server.port, "/"), &discovery()).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_before_it_is_sent() {
    let Some(server) = zookeeper("zk::what_is_too_large_is_refused_before_it_is_sent") else { return };
    let store = store(server.port, "/dtabs");
    let large: Vec<String> = (0..60_000).map(|n| format!("/a{n} => /b{n}/c/d")).collect();
    let refused = store.put("ns", dtab(&large.join(";")), Note::default()).await;
    assert!(matches!(&refused, Err(StoreError::Forbidden(why)) if why.contains("bytes")), "{refused:?}");
    store.put("ns", dtab("/a => /b"), Note::default()).await.expect("the session is whole");
}
