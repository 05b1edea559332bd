//! Two namerds over one store are one: writes, versions and history.

use crate::pair::{KINDS, Pair, SOON, api, follows, set};
use crate::servers;
use e2e::{Namerd, Switchyard};
use serde_json::Value;

const DTAB: (&str, &str) = ("content-type", "application/dtab");
/// Races between two writers.
const RACES: usize = 20;

fn stamp(namerd: &Namerd) -> String {
    let got = api(namerd, "GET", "/api/1/dtabs/default", &[], "");
    assert_eq!(got.status, 200, "{got:?}");
    got.header("etag").expect("a version").to_owned()
}

fn put(namerd: &Namerd, stamp: &str, dtab: &str) -> u16 {
    api(namerd, "PUT", "/api/1/dtabs/default", &[DTAB, ("if-match", stamp)], dtab).status
}

/// What is written through one is followed by the routers of the other.
fn writes_reach_all(pair: &Pair) {
    let [a, b] = &pair.namerds;
    let on = |namerd: &Namerd, kind| {
        let interpreter = namerd.interpreter(kind);
        Switchyard::start(&format!(
            "admin: {{ port: @ADMIN@ }}
routers:
- protocol: http
  servers: [{{ port: @P0@ }}]
  interpreter: {interpreter}
"
        ))
    };
    set(a, "v1");
    let routers: Vec<Switchyard> =
        [on(a, KINDS[0]), on(b, KINDS[0]), on(b, KINDS[1]), on(b, KINDS[2])].into_iter().collect();
    for (writer, version) in [(a, "v1"), (a, "v2"), (b, "v1")] {
        set(writer, version);
        routers.iter().for_each(|router| follows(router, "web", version, SOON));
    }
}

/// A version holds at each; of two writers with the same one exactly one wins. Versions only grow, also past a delete.
fn versions_are_those_of_the_store(pair: &Pair, number: fn(&str) -> u128) {
    let [a, b] = &pair.namerds;
    let mut last = 0;
    for race in 0..RACES {
        let stamp = stamp(if race % 2 == 0 { a } else { b });
        assert!(number(&stamp) > last, "{stamp} after {last}");
        last = number(&stamp);
        let both = std::thread::scope(|scope| {
            let one = scope.spawn(|| put(a, &stamp, &format!("/race => /a/{race}")));
            let two = scope.spawn(|| put(b, &stamp, &format!("/race => /b/{race}")));
            [one.join().expect("an answer"), two.join().expect("an answer")]
        });
        assert!(both == [204, 412] || both == [412, 204], "race {race}: {both:?}");
        assert_eq!([put(a, &stamp, "/late => /x"), put(b, &stamp, "/late => /x")], [412, 412]);
    }
    let old = stamp(a);
    assert_eq!(put(b, &old, "/svc => /b"), 204, "a version of one holds at the other");
    b.ctl(&["dtab", "delete", "default"], "");
    assert_eq!(api(a, "GET", "/api/1/dtabs/default", &[], "").status, 404);
    a.ctl(&["dtab", "create", "default", "-"], "/svc => /b");
    let new = stamp(b);
    assert!(number(&new) > number(&old), "{new} after {old}");
    assert_eq!(put(b, &old, "/late => /x"), 412, "a version from before the delete holds no more");
}

/// Both tell the same history, and each takes back what the other wrote.
fn history_is_shared(pair: &Pair) {
    let [a, b] = &pair.namerds;
    let history = |namerd: &Namerd| -> Value {
        serde_json::from_str(&namerd.ctl(&["dtab", "history", "default", "--json"], "")).expect("JSON")
    };
    a.ctl(&["dtab", "set", "default", "/x", "/1", "--author", "ann", "--reason", "a first try"], "");
    b.ctl(&["dtab", "set", "default", "/x", "/2", "--author", "bob", "--reason", "better"], "");
    let (at_a, at_b) = (history(a), history(b));
    assert_eq!(at_a, at_b);
    let said: Vec<_> = (0..2).map(|n| (at_a[n]["author"].clone(), at_a[n]["reason"].clone())).collect();
    assert_eq!(said, [("bob".into(), "better".into()), ("ann".into(), "a first try".into())]);
    a.ctl(&["dtab", "rollback", "default"], "");
    let text = b.ctl(&["dtab", "get", "default", "--pretty=false"], "");
    assert!(text.contains("/x=>/1;"), "{text}");
}

/// What a header says in base64.
fn bytes(stamp: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let value = |byte| DIGITS.iter().position(|digit| *digit == byte);
    let bits = stamp.bytes().filter_map(value).flat_map(|six| (0..6).rev().map(move |bit| six >> bit & 1));
    let bits: Vec<usize> = bits.collect();
    bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit == 1))).collect()
}

#[test]
fn p12_namerds_over_one_etcd_are_one() {
    for v2 in [false, true] {
        let Some(server) = servers::etcd("namerds over one etcd", v2) else { return };
        let api = if v2 { 2 } else { 3 };
        let pair = Pair::start(&format!(
            "{{ kind: io.l5d.etcd, experimental: true, host: 127.0.0.1, port: {}, apiVersion: {api} }}",
            server.port
        ));
        writes_reach_all(&pair);
        versions_are_those_of_the_store(&pair, |stamp| {
            String::from_utf8(bytes(stamp)).ok().and_then(|text| text.parse().ok()).expect("an index as text")
        });
        history_is_shared(&pair);
    }
}

#[test]
fn p12_namerds_over_one_zookeeper_are_one() {
    let Some(server) = servers::zookeeper("namerds over one ZooKeeper") else { return };
    let pair = Pair::start(&format!("{{ kind: io.l5d.zk, zkAddrs: [{{ host: 127.0.0.1, port: {} }}] }}", server.port));
    writes_reach_all(&pair);
    versions_are_those_of_the_store(&pair, |stamp| {
        bytes(stamp).into_iter().fold(0, |number, byte| number << 8 | u128::from(byte))
    });
    history_is_shared(&pair);
    assert_eq!(server.sessions(), 2, "each namerd has one session");
}
