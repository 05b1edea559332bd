//! `io.l5d.consul`, with the fake Consul beside this file, and the fake judged by another client.

use crate::fake_consul::{Asked, FakeConsul};
use crate::gate::Gate;
use crate::help::{self, discovery, dtab, unique, until, until_dtab, until_gone};
use dtab::State;
use http::Method;
use namerd::storage::consul::{Consistency, ConsulParams, open};
use namerd::storage::contract::{self, Subject};
use namerd::storage::{Endpoint, Note, Store, StoreError, Version};
use namers::Discovery;
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Command;

fn params(port: u16, prefix: &str) -> ConsulParams {
    ConsulParams { path_prefix: prefix.to_owned(), ..ConsulParams::new(vec![Endpoint::plain("127.0.0.1", port)]) }
}

fn store_in(discovery: &Discovery, port: u16, prefix: &str) -> Arc<dyn Store> {
    open(params(port, prefix), discovery)
}

fn store(port: u16, prefix: &str) -> Arc<dyn Store> {
    store_in(&discovery(), port, prefix)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds() {
    let fake = FakeConsul::start().await;
    let gate = Arc::new(Gate::shut_before(fake.port).await);
    gate.open().await;
    let prefix = Arc::new(Mutex::new(String::new()));
    let (last, shut, opened) = (prefix.clone(), gate.clone(), gate.clone());
    let port = gate.port();
    let subject = Subject::new(move || {
        *prefix.lock() = unique("/namerd/dtabs");
        let made = store(port, &prefix.lock());
        async move { made }
    })
    .second(move || {
        let made = store(port, &last.lock());
        async move { made }
    })
    .keeps_versions_of_equal_dtabs()
    .outage(
        move || {
            let gate = shut.clone();
            async move { gate.shut().await }
        },
        move || {
            let gate = opened.clone();
            async move { gate.open().await }
        },
    );
    contract::all(&subject).await;
}

/// Runs when there is py-consul: `pip install py-consul`. The older python-consul writes its token into URLs.
#[tokio::test(flavor = "multi_thread")]
async fn another_client_judges_the_fake() {
    let python = |arguments: &[&str]| {
        let mut command = Command::new("python3");
        command.args(arguments);
        command
    };
    let there = python(&["-c", "import importlib.metadata as m; m.version('py-consul')"]).output().await;
    if !there.is_ok_and(|output| output.status.success()) {
        println!("NOTICE: consul::another_client_judges_the_fake is not run: python3 has no py-consul");
        return;
    }
    let fake = FakeConsul::start().await;
    fake.require("a token");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/remote_stores/judge_consul.py");
    let (script, port) = (script.display().to_string(), fake.port.to_string());
    let output = python(&[&script, &port, "a token"]).output().await.expect("python3");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success() && said.contains("checks passed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_reads_and_writes_as_linkerd_1() {
    let fake = FakeConsul::start().await;
    fake.set("namerd/dtabs/default", "/svc=>/#/io.l5d.fs");
    fake.set("namerd/dtabs/", "");
    fake.set("namerd/dtabs/a.b", "/x=>/y");
    fake.set("namerd/dtabs/below/it", "/x=>/y");
    let store = store(fake.port, "/namerd/dtabs");
    let read = store.read("default").await.expect("read").expect("a dtab");
    assert_eq!((read.dtab, &read.version), (dtab("/svc=>/#/io.l5d.fs"), &Version("11".into())));
    let only = |state: &State<_>| matches!(state, State::Ok(names) if format!("{names:?}") == r#"{"default"}"#);
    until("the names", &mut store.list(), only).await;
    let mut live = store.observe("default");
    let made = store.update("default", dtab("/svc => 0.5 * /a & 0.001 * /b"), read.version, Note::default()).await;
    assert_eq!(made, Ok(Version("15".into())));
    assert_eq!(fake.value("namerd/dtabs/default").as_deref(), Some("/svc=>0.50*/a & 0.001*/b"));
    until_dtab(&mut live, "/svc => 0.5 * /a & 0.001 * /b").await;
    for name in ["a.b", "a b", "x?dc=other", "ü", "a/b"] {
        let refused = store.put(name, dtab("/a => /b"), Note::default()).await;
        assert!(matches!(refused, Err(StoreError::BadName(_))), "{name}: {refused:?}");
        assert!(matches!(store.observe(name).get(), State::Failed(_)), "{name}");
    }
    fake.remove("namerd/dtabs/default");
    until_gone(&mut live).await;
    let asked = fake.asked();
    let blocks = |asked: &&Asked| asked.query.contains("index=") && asked.query.contains("wait=");
    assert!(asked.iter().any(|asked| blocks(&asked)));
    assert!(asked.iter().all(|asked| !asked.query.contains("index=0")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_the_config_are_sent() {
    let fake = FakeConsul::start().await;
    fake.require("planted-secret");
    let with = ConsulParams {
        token: Some("planted-secret".to_owned()),
        datacenter: Some("dc1".to_owned()),
        read_consistency: Consistency::Stale,
        write_consistency: Consistency::Consistent,
        backoff: Some((Duration::from_millis(1), Duration::from_secs(600))),
        ..params(fake.port, "/namerd/dtabs")
    };
    assert!(!format!("{with:?}").contains("planted-secret"));
    let store = open(with, &discovery());
    store.create("ns", dtab("/a => /b"), Note::default()).await.expect("create");
    until_dtab(&mut store.observe("ns"), "/a => /b").await;
    store.put("ns", dtab("/a => /c"), Note::default()).await.expect("put");
    assert_eq!(store.read("ns").await.expect("read").map(|read| read.dtab), Some(dtab("/a => /c")));
    assert!(!store.report().to_string().contains("planted-secret"));
    for Asked { method, path, query, token } in fake.asked() {
        assert_eq!(token.as_deref(), Some("planted-secret"), "{method} {path}");
        assert!(query.contains("dc=dc1"), "{method} {path} {query}");
        match method {
            Method::GET if !query.contains("index=") => {}
            Method::GET => assert!(query.contains("stale=true"), "a watch is stale: {query}"),
            _ => assert!(query.contains("consistent=true"), "{method} {path} {query}"),
        }
    }
    let wrong = ConsulParams { token: Some("other".to_owned()), ..params(fake.port, "/namerd/dtabs") };
    let stranger = open(wrong, &discovery());
    let refused = stranger.put("ns", dtab("/x => /y"), Note::default()).await;
    assert!(matches!(&refused, Err(StoreError::Forbidden(why)) if !why.contains("other")), "{refused:?}");
    let nowhere = ConsulParams {
        datacenter: Some("dc2".to_owned()),
        token: Some("planted-secret".to_owned()),
        ..params(fake.port, "/x")
    };
    let refused = open(nowhere, &discovery()).read("ns").await;
    assert!(matches!(&refused, Err(StoreError::Unavailable(why)) if why.contains("datacenter")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_keeps_the_last_good() {
    let fake = FakeConsul::start().await;
    help::garbage_keeps_the_last_good(&store(fake.port, "/p"), |text| fake.set("p/ns", text)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_seen_soon() {
    let fake = FakeConsul::start().await;
    help::changes_are_seen_soon(&store(fake.port, "/soon"), &store(fake.port, "/soon")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_are_bridged() {
    let fake = FakeConsul::start().await;
    let gate = Gate::shut_before(fake.port).await;
    help::gaps_are_bridged(&store(gate.port(), "/gaps"), &gate, &store(fake.port, "/gaps")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_stands_in() {
    let fake = FakeConsul::start().await;
    let gate = Gate::shut_before(fake.port).await;
    help::disk_stands_in(&gate, |discovery| store_in(discovery, gate.port(), "/disk")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_is_bounded() {
    let fake = FakeConsul::start().await;
    help::history_is_bounded(&store(fake.port, "/h"), 0, || fake.keys("h-history/ns/").len()).await;
    help::a_history_that_is_read_is_bounded_in_bytes(&store(fake.port, "/h")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_server_keep_what_is_known() {
    let fake = FakeConsul::start().await;
    let store = store(fake.port, "/p");
    store.create("ns", dtab("/a => /b"), Note::default()).await.expect("create");
    let (mut live, mut list) = (store.observe("ns"), store.list());
    until_dtab(&mut live, "/a => /b").await;
    until("the list", &mut list, |state| matches!(state, State::Ok(_))).await;
    for status in [500, 503, 403, 429] {
        fake.fail(Some(status));
        let shown = || store.report()["namespaces"]["ns"]["lastError"].to_string();
        let name = if status == 403 { "refuses" } else { "not available" };
        help::eventually("the report shows the fault", || shown().contains(name)).await;
        assert!(matches!(live.get(), State::Ok(Some(_))), "{status}: {:?}", live.peek());
        assert!(matches!(list.get(), State::Ok(names) if names.contains("ns")), "{status}");
        let refused = store.put("ns", dtab("/x => /y"), Note::default()).await;
        match status {
            403 => assert!(matches!(refused, Err(StoreError::Forbidden(_))), "{refused:?}"),
            _ => assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}"),
        }
        fake.fail(None);
        let text = format!("/a => /after/{status}");
        fake.set("p/ns", &text);
        until_dtab(&mut live, &text).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_goes_backwards_begins_anew() {
    let fake = FakeConsul::start().await;
    for n in 0..50 {
        fake.set("elsewhere", &n.to_string());
    }
    fake.set("p/ns", "/a=>/b");
    let store = store(fake.port, "/p");
    let mut live = store.observe("ns");
    until_dtab(&mut live, "/a => /b").await;
    let large = fake.index();
    let waits = |asked: &Asked| asked.path.ends_with("/ns") && asked.query.contains(&format!("index={large}"));
    help::eventually("the watch waits", || fake.asked().iter().any(waits)).await;
    fake.restore_snapshot("/a=>/old", "p/ns");
    until_dtab(&mut live, "/a => /old").await;
    assert!(fake.index() < large);
    // From here on the watch must wait from the small index: a change is seen although its index is small too.
    fake.set("p/ns", "/a=>/new");
    until_dtab(&mut live, "/a => /new").await;
    let last = fake.asked().into_iter().rev().find(|asked| asked.path.ends_with("/ns")).expect("a query");
    assert!(!last.query.contains(&format!("index={large}")), "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused() {
    let fake = FakeConsul::start().await;
    let store = store(fake.port, "/p");
    let large: Vec<String> = (0..40_000).map(|n| format!("/a{n} => /b{n}/c/d")).collect();
    let refused = store.put("ns", dtab(&large.join(";")), Note::default()).await;
    assert!(matches!(&refused, Err(StoreError::Forbidden(why)) if why.contains("too large")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fail_fast_does_not_try_again_at_once() {
    let fake = FakeConsul::start().await;
    let gate = Gate::shut_before(fake.port).await;
    let store = open(ConsulParams { fail_fast: true, ..params(gate.port(), "/p") }, &discovery());
    let begun = tokio::time::Instant::now();
    assert!(store.read("ns").await.is_err());
    gate.open().await;
    let asked = fake.asked().len();
    let again = store.read("ns").await;
    // On a busy machine the second may be over.
    if begun.elapsed() < Duration::from_millis(900) {
        assert!(again.is_err(), "within a second the answer is the same");
        assert_eq!(fake.asked().len(), asked);
    }
    let end = tokio::time::Instant::now() + help::LIMIT;
    while store.read("ns").await.is_err() {
        assert!(tokio::time::Instant::now() < end, "never tried again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
