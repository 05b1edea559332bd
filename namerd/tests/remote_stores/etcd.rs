//! `io.l5d.etcd`, by both APIs of a real etcd.

use crate::gate::Gate;
use crate::help::{self, dtab, http, unique, until, until_dtab, until_gone};
use crate::servers::{Server, etcd};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dtab::State;
use namerd::storage::contract::{self, Subject};
use namerd::storage::etcd::{EtcdApi, EtcdParams, open};
use namerd::storage::{Endpoint, Note, Store, StoreError, Version};
use namers::Discovery;
use parking_lot::Mutex;
use std::sync::Arc;

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

fn store_in(discovery: &Discovery, port: u16, prefix: &str, api: EtcdApi) -> Arc<dyn Store> {
    let endpoints = vec![Endpoint::plain("127.0.0.1", port)];
    open(EtcdParams { path_prefix: prefix.to_owned(), api, ..EtcdParams::new(endpoints) }, discovery)
}

fn store(port: u16, prefix: &str, api: EtcdApi) -> Arc<dyn Store> {
    store_in(&help::discovery(), port, prefix, api)
}

fn subject(server: Server, api: EtcdApi) -> Subject {
    let port = server.port;
    let prefix = Arc::new(Mutex::new(String::new()));
    let (last, server) = (prefix.clone(), Arc::new(Mutex::new(server)));
    let (kill, start) = (server.clone(), server);
    Subject::new(move || {
        *prefix.lock() = unique("/namerd/dtabs");
        let made = store(port, &prefix.lock(), api);
        async move { made }
    })
    .second(move || {
        let made = store(port, &last.lock(), api);
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
async fn v2_keeps_the_contract() {
    let Some(server) = etcd("v2_keeps_the_contract", true) else { return };
    contract::all(&subject(server, EtcdApi::V2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn v3_keeps_the_contract() {
    let Some(server) = etcd("v3_keeps_the_contract", false) else { return };
    contract::all(&subject(server, EtcdApi::V3)).await;
}

fn v2_put(port: u16, key: &str, form: &str) -> String {
    let (status, body) = http(port, "PUT", &format!("/v2/keys{key}"), FORM, form).expect("etcd");
    assert!(matches!(status, 200 | 201), "{status} {body}");
    body
}

fn v3_call(port: u16, path: &str, body: &serde_json::Value) -> serde_json::Value {
    let (status, answer) = http(port, "POST", path, "", &body.to_string()).expect("etcd");
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).expect("JSON")
}

fn v3_put(port: u16, key: &str, value: &str) {
    let put = serde_json::json!({"key": STANDARD.encode(key), "value": STANDARD.encode(value)});
    v3_call(port, "/v3/kv/put", &put);
}

#[tokio::test(flavor = "multi_thread")]
async fn v2_reads_and_writes_as_linkerd_1() {
    let Some(server) = etcd("v2_reads_and_writes_as_linkerd_1", true) else { return };
    let port = server.port;
    let made = v2_put(port, "/namerd/dtabs/default", "value=%2Fsvc%3D%3E%2F%23%2Fio.l5d.fs");
    v2_put(port, "/namerd/dtabs/folder/below", "value=x");
    let store = store(port, "/namerd/dtabs", EtcdApi::V2);
    let read = store.read("default").await.expect("read").expect("a dtab");
    assert_eq!(read.dtab, dtab("/svc=>/#/io.l5d.fs"));
    let index = serde_json::from_str::<serde_json::Value>(&made).expect("JSON")["node"]["modifiedIndex"].to_string();
    assert_eq!(read.version, Version(index.into()), "the version is modifiedIndex as text");
    until("the names", &mut store.list(), |state| matches!(state, State::Ok(names) if names.iter().eq(["default"])))
        .await;
    let mut live = store.observe("default");
    store
        .update("default", dtab("/svc => 0.5 * /a & 0.001 * /b ; /x => /y"), read.version, Note::default())
        .await
        .expect("update");
    let (_, body) = http(port, "GET", "/v2/keys/namerd/dtabs/default", "", "").expect("etcd");
    let value = serde_json::from_str::<serde_json::Value>(&body).expect("JSON")["node"]["value"].clone();
    assert_eq!(value, "/svc=>0.50*/a & 0.001*/b;/x=>/y");
    until_dtab(&mut live, "/svc => 0.5 * /a & 0.001 * /b ; /x => /y").await;
    let (status, _) = http(port, "DELETE", "/v2/keys/namerd/dtabs?recursive=true", "", "").expect("etcd");
    assert_eq!(status, 200);
    until_gone(&mut live).await;
    let refused = store.create("_hidden", dtab("/a => /b"), Note::default()).await;
    assert!(refused.expect_err("a hidden name").to_string().contains("hides"));
}

#[tokio::test(flavor = "multi_thread")]
async fn v2_goes_on_when_etcd_has_forgotten_its_index() {
    let Some(server) = etcd("v2_goes_on_when_etcd_has_forgotten_its_index", true) else { return };
    let port = server.port;
    let store = store(port, "/namerd/dtabs", EtcdApi::V2);
    store.create("ns", dtab("/a => /b"), Note::default()).await.expect("create");
    let mut live = store.observe("ns");
    until_dtab(&mut live, "/a => /b").await;
    // etcd remembers a thousand events; a wait that begins before them is answered with error 401.
    for n in 0..1_100 {
        v2_put(port, "/elsewhere", &format!("value={n}"));
    }
    v2_put(port, "/namerd/dtabs/ns", "value=%2Fa%3D%3E%2Fc");
    until_dtab(&mut live, "/a => /c").await;
    v2_put(port, "/namerd/dtabs/ns", "value=%2Fa%3D%3E%2Fd");
    until_dtab(&mut live, "/a => /d").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_keeps_the_last_good() {
    let Some(server) = etcd("garbage_keeps_the_last_good", true) else { return };
    let port = server.port;
    let write = |text: &str| {
        let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        v2_put(port, "/namerd/dtabs/ns", &format!("value={encoded}"));
    };
    help::garbage_keeps_the_last_good(&store(port, "/namerd/dtabs", EtcdApi::V2), write).await;
    let write = |text: &str| v3_put(port, "/three/ns", text);
    help::garbage_keeps_the_last_good(&store(port, "/three", EtcdApi::V3), write).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_are_bridged() {
    let Some(server) = etcd("gaps_are_bridged", true) else { return };
    for api in [EtcdApi::V2, EtcdApi::V3, EtcdApi::Auto] {
        let gate = Gate::shut_before(server.port).await;
        let prefix = unique("/gaps");
        let (behind, elsewhere) = (store(gate.port(), &prefix, api), store(server.port, &prefix, api));
        help::gaps_are_bridged(&behind, &gate, &elsewhere).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_seen_soon() {
    let Some(server) = etcd("changes_are_seen_soon", true) else { return };
    for api in [EtcdApi::V2, EtcdApi::V3] {
        help::changes_are_seen_soon(&store(server.port, "/soon", api), &store(server.port, "/soon", api)).await;
    }
}

/// A server that takes connections and answers nothing, as a machine that hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_is_an_outage() {
    let Some(server) = etcd("a_frozen_server_is_an_outage", true) else { return };
    let stores = [EtcdApi::V2, EtcdApi::V3].map(|api| store(server.port, "/frozen", api));
    for store in &stores {
        store.create("ns", dtab("/a => /b"), Note::default()).await.expect("create");
    }
    let mut live = stores.each_ref().map(|store| store.observe("ns"));
    for live in &mut live {
        until_dtab(live, "/a => /b").await;
    }
    server.freeze(true);
    // Not to `ns`: the server may do it when it goes on, after what is written then.
    let [two, three] = stores.each_ref().map(|store| store.put("late", dtab("/a => /c"), Note::default()));
    let (two, three) = tokio::join!(two, three);
    for refused in [two, three] {
        assert!(matches!(&refused, Err(StoreError::Unavailable(why)) if why.contains("within 5s")), "{refused:?}");
    }
    for live in &mut live {
        assert!(matches!(live.get(), State::Ok(Some(_))));
    }
    server.freeze(false);
    for (store, live) in stores.iter().zip(&mut live) {
        store.put("ns", dtab("/a => /d"), Note::default()).await.expect("put");
        until_dtab(live, "/a => /d").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_stands_in() {
    let Some(server) = etcd("disk_stands_in", false) else { return };
    let gate = Gate::shut_before(server.port).await;
    help::disk_stands_in(&gate, |discovery| store_in(discovery, gate.port(), "/disk", EtcdApi::Auto)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn v2_history_is_bounded() {
    let Some(server) = etcd("v2_history_is_bounded", true) else { return };
    let count = || {
        let (_, body) = http(server.port, "GET", "/v2/keys/h-history/ns", "", "").expect("etcd");
        let found: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        found["node"]["nodes"].as_array().map_or(0, Vec::len)
    };
    help::history_is_bounded(&store(server.port, "/h", EtcdApi::V2), 16, count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn v3_history_is_bounded_and_one_with_the_write() {
    let Some(server) = etcd("v3_history_is_bounded_and_one_with_the_write", false) else { return };
    let port = server.port;
    let range = || {
        let span = serde_json::json!({"key": STANDARD.encode("/h-history/ns/"), "range_end": STANDARD.encode("/h-history/ns0")});
        v3_call(port, "/v3/kv/range", &span)
    };
    let store = store(port, "/h", EtcdApi::V3);
    help::history_is_bounded(&store, 0, || range()["kvs"].as_array().map_or(0, Vec::len)).await;
    let version = store.put("ns", dtab("/a => /b"), Note::default()).await.expect("put");
    let records = range();
    let newest = records["kvs"].as_array().and_then(|kvs| kvs.last()).expect("a record");
    assert_eq!(newest["create_revision"].as_str().map(|text| text.as_bytes().to_vec()), Some(version.0.to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_takes_the_api_that_has_dtabs() {
    let Some(server) = etcd("auto_takes_the_api_that_has_dtabs", true) else { return };
    let port = server.port;
    let chosen = async |prefix: &str| {
        let store = store(port, prefix, EtcdApi::Auto);
        store.read("ns").await.expect("read");
        store.report()["details"]["apiVersion"].clone()
    };
    assert_eq!(chosen("/none").await, 3);
    v2_put(port, "/two/ns", "value=");
    assert_eq!(chosen("/two").await, 2);
    v3_put(port, "/three/ns", "");
    assert_eq!(chosen("/three").await, 3);
    v2_put(port, "/both/ns", "value=");
    v3_put(port, "/both/ns", "");
    assert_eq!(chosen("/both").await, 3);
    let Some(without) = etcd("auto_takes_the_api_that_has_dtabs", false) else { return };
    let store = store(without.port, "/none", EtcdApi::Auto);
    store.create("ns", dtab("/a => /b"), Note::default()).await.expect("create");
    assert_eq!(store.report()["details"]["apiVersion"], 3);
    let v2 = self::store(without.port, "/none", EtcdApi::V2).read("ns").await;
    assert!(v2.expect_err("no API 2").to_string().contains("404"));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_member_answers_when_one_is_away() {
    let Some(server) = etcd("another_member_answers_when_one_is_away", false) else { return };
    let endpoints =
        vec![Endpoint::plain("127.0.0.1", crate::servers::free_port()), Endpoint::plain("localhost", server.port)];
    let store = open(EtcdParams::new(endpoints), &help::discovery());
    store.create("ns", dtab("/a => /b"), Note::default()).await.expect("create");
    until_dtab(&mut store.observe("ns"), "/a => /b").await;
}
