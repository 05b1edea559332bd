//! `io.l5d.consul` with a real Consul, where there is one on PATH; and the fake of `fake_consul` beside it.
//!
//! One agent for all of these tests. Not for: what only a fake can do, such as an index that goes backwards.

use crate::fake_consul::FakeConsul;
use crate::gate::Gate;
use crate::help::{self, LIMIT, discovery, dtab, http, unique, until, until_dtab, until_gone};
use crate::servers::{self, Server};
use dtab::State;
use namerd::storage::consul::{Consistency, ConsulParams, open};
use namerd::storage::contract::{self, Subject};
use namerd::storage::{Endpoint, Note, Store, StoreError};
use namers::Discovery;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn params(port: u16, prefix: &str) -> ConsulParams {
    ConsulParams { path_prefix: prefix.to_owned(), ..ConsulParams::new(vec![Endpoint::plain("127.0.0.1", port)]) }
}

fn store_in(discovery: &Discovery, port: u16, prefix: &str) -> Arc<dyn Store> {
    open(params(port, prefix), discovery)
}

fn store(port: u16, prefix: &str) -> Arc<dyn Store> {
    store_in(&discovery(), port, prefix)
}

/// One request for a key by hand.
fn kv(port: u16, method: &str, key: &str, body: &str) -> (u16, String) {
    http(port, method, &format!("/v1/kv/{key}"), "", body).expect("an answer of Consul")
}

/// Everything about one Consul, one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_consul() {
    let Some(consul) = servers::consul("consul_real::a_real_consul") else { return };
    the_contract_holds(&consul).await;
    it_reads_and_writes_as_linkerd_1(consul.port).await;
    let port = consul.port;
    help::changes_are_seen_soon(&store(port, "/soon"), &store(port, "/soon")).await;
    help::garbage_keeps_the_last_good(&store(port, "/garbage"), |text| {
        assert_eq!(kv(port, "PUT", "garbage/ns", text).0, 200);
    })
    .await;
    let keys = || kv(port, "GET", "h-history/ns/?keys", "").1.matches("h-history/ns/").count();
    help::history_is_bounded(&store(port, "/h"), 0, keys).await;
    modes_of_consistency(port).await;
    let gate = Gate::shut_before(port).await;
    help::gaps_are_bridged(&store(gate.port(), "/gaps"), &gate, &store(port, "/gaps")).await;
    help::disk_stands_in(&gate, |discovery| store_in(discovery, gate.port(), "/disk")).await;
    what_is_too_large_is_refused(port).await;
}

async fn the_contract_holds(consul: &Server) {
    let gate = Arc::new(Gate::shut_before(consul.port).await);
    gate.open().await;
    let prefix = Arc::new(Mutex::new(String::new()));
    let (last, shut, opened, port) = (prefix.clone(), gate.clone(), gate.clone(), gate.port());
    let subject = Subject::new(move || {
        *prefix.lock() = unique("/namerd/real");
        let made = store(port, &prefix.lock());
        async move { made }
    })
    .second(move || {
        let made = store(port, &last.lock());
        async move { made }
    })
    .keeps_versions_of_equal_dtabs()
    .agrees_to_deletes_of_what_is_gone();
    let subject = subject.outage(
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

async fn it_reads_and_writes_as_linkerd_1(port: u16) {
    for (key, value) in [("default", "/svc=>/#/io.l5d.fs"), ("", "x"), ("a.b", "/x=>/y"), ("below/it", "/x=>/y")] {
        assert_eq!(kv(port, "PUT", &format!("namerd/dtabs/{key}"), value).0, 200, "{key}");
    }
    let store = store(port, "/namerd/dtabs");
    let read = store.read("default").await.expect("read").expect("a dtab");
    assert_eq!(read.dtab, dtab("/svc=>/#/io.l5d.fs"));
    let only = |state: &State<_>| matches!(state, State::Ok(names) if format!("{names:?}") == r#"{"default"}"#);
    until("the names", &mut store.list(), only).await;
    let mut live = store.observe("default");
    let new = dtab("/svc => 0.5 * /a & 0.001 * /b");
    store.update("default", new, read.version.clone(), Note::default()).await.expect("an update");
    assert_eq!(kv(port, "GET", "namerd/dtabs/default?raw", "").1, "/svc=>0.50*/a & 0.001*/b");
    until_dtab(&mut live, "/svc => 0.5 * /a & 0.001 * /b").await;
    let stale = store.update("default", dtab("/x => /y"), read.version, Note::default()).await;
    assert_eq!(stale, Err(StoreError::Mismatch));
    assert_eq!(kv(port, "DELETE", "namerd/dtabs/default", "").0, 200);
    until_gone(&mut live).await;
}

async fn modes_of_consistency(port: u16) {
    for mode in [Consistency::Default, Consistency::Stale, Consistency::Consistent] {
        let datacenter = Some("dc1".to_owned());
        let with = params(port, &unique("/modes"));
        let with = ConsulParams { read_consistency: mode, write_consistency: mode, datacenter, ..with };
        let store = open(with, &discovery());
        store.create("ns", dtab("/a => /b"), Note::default()).await.expect("create");
        until_dtab(&mut store.observe("ns"), "/a => /b").await;
        store.delete("ns", None, Note::default()).await.expect("delete");
    }
    let nowhere = ConsulParams { datacenter: Some("nowhere".to_owned()), ..params(port, "/x") };
    let refused = open(nowhere, &discovery()).read("ns").await;
    assert!(matches!(&refused, Err(StoreError::Unavailable(_))), "{refused:?}");
}

async fn what_is_too_large_is_refused(port: u16) {
    let large: Vec<String> = (0..40_000).map(|n| format!("/a{n} => /b{n}/c/d")).collect();
    let refused = store(port, "/large").put("ns", dtab(&large.join(";")), Note::default()).await;
    assert!(matches!(&refused, Err(StoreError::Forbidden(why)) if why.contains("too large")), "{refused:?}");
}

/// What an answer of the KV store says: its status, its index as 0 or 1, and its body without what differs by chance.
fn shape(port: u16, method: &str, target: &str, body: &str) -> (u16, String) {
    let (status, body) = http(port, method, target, "", body).expect("an answer");
    let known = serde_json::from_str::<serde_json::Value>(&body).map_or(body, |value| {
        let named = |entry: &serde_json::Value| {
            format!("{} = {} of {} flags {}", entry["Key"], entry["Value"], entry["LockIndex"], entry["Flags"])
        };
        match &value {
            serde_json::Value::Array(entries) if entries.iter().all(serde_json::Value::is_object) => {
                entries.iter().map(named).collect::<Vec<_>>().join("; ")
            }
            other => other.to_string(),
        }
    });
    (status, if status < 400 { known } else { String::new() })
}

/// The fake answers as the real one does, to everything that the store asks for.
#[tokio::test(flavor = "multi_thread")]
async fn the_fake_is_like_a_real_consul() {
    let Some(real) = servers::consul("consul_real::the_fake_is_like_a_real_consul") else { return };
    let fake = FakeConsul::start().await;
    let port = fake.port;
    for (method, target, body) in [
        ("GET", "/v1/kv/p/ns", ""),
        ("GET", "/v1/kv/p/?keys", ""),
        ("PUT", "/v1/kv/p/ns?cas=0", "one"),
        ("PUT", "/v1/kv/p/ns?cas=0", "two"),
        ("PUT", "/v1/kv/p/ns?cas=1", "two"),
        ("GET", "/v1/kv/p/ns", ""),
        ("GET", "/v1/kv/p/ns?raw", ""),
        ("GET", "/v1/kv/p/ns?consistent", ""),
        ("GET", "/v1/kv/p/ns?stale=true", ""),
        ("PUT", "/v1/kv/p/other/below", "x"),
        ("PUT", "/v1/kv/p/empty", ""),
        ("PUT", "/v1/kv/p/empty", ""),
        ("GET", "/v1/kv/p/?keys", ""),
        ("GET", "/v1/kv/p/?keys&separator=/", ""),
        ("GET", "/v1/kv/p/?recurse", ""),
        ("DELETE", "/v1/kv/p/ns?cas=1", ""),
        ("DELETE", "/v1/kv/p/ns", ""),
        ("DELETE", "/v1/kv/p/ns", ""),
        ("GET", "/v1/kv/p/ns", ""),
    ] {
        let ask = move |port| tokio::task::spawn_blocking(move || shape(port, method, target, body));
        let (theirs, ours) = (ask(real.port).await.expect("an answer"), ask(port).await.expect("an answer"));
        assert_eq!(ours, theirs, "{method} {target}");
    }
    // A write of what is there already leaves the index.
    for port in [real.port, port] {
        let twice = tokio::task::spawn_blocking(move || {
            let before = index_of(port);
            (kv(port, "PUT", "p/empty", "").0, before, index_of(port))
        });
        let (status, before, after) = twice.await.expect("an answer");
        assert!(status == 200 && before == after, "{status} {before} {after}");
    }
    // A blocking query that nothing ends comes back by itself, and not before its time.
    let waits = move |port| {
        tokio::task::spawn_blocking(move || {
            let index = index_of(port);
            let begun = Instant::now();
            let (status, _) = kv(port, "GET", &format!("p/empty?index={index}&wait=1s"), "");
            (status, begun.elapsed())
        })
    };
    for port in [real.port, port] {
        let (status, waited) = waits(port).await.expect("an answer");
        assert!(status == 200 && waited >= Duration::from_millis(900) && waited < LIMIT, "{status} {waited:?}");
    }
}

/// The index that a blocking query for `p/empty` waits from.
fn index_of(port: u16) -> u64 {
    let (_, body) = kv(port, "GET", "p/empty", "");
    let value: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    value[0]["ModifyIndex"].as_u64().expect("an index")
}
