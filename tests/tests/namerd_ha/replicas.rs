//! A router knows both namerds by one DNS name, and loses the one that it uses: killed, replaced, hanging, moved.

use crate::pair::{A, B, KINDS, LATER, Pair, SOON, follows, set};
use crate::servers;
use e2e::{Load, eventually};
use std::time::Duration;

fn etcd(test: &str) -> Option<(servers::Server, Pair)> {
    let server = servers::etcd(test, false)?;
    let pair = Pair::start(&format!("{{ kind: io.l5d.etcd, host: 127.0.0.1, port: {} }}", server.port));
    Some((server, pair))
}

/// All traffic is answered so, soon.
fn settles(load: &Load, wanted: &str) {
    let others = |counts: std::collections::BTreeMap<String, usize>| {
        counts.into_iter().filter(|(text, _)| text != wanted).map(|(_, count)| count).sum::<usize>()
    };
    eventually(&format!("{wanted} has all traffic"), SOON, || (others(load.next(10)) == 0).then_some(()));
}

/// Each is killed in turn, so that at least one of them is the one that the router uses; the edit goes by the other.
fn moves_on(kind: &str) {
    let Some((_server, mut pair)) = etcd("a killed namerd") else { return };
    set(&pair.namerds[0], "v1");
    let router = pair.router(kind);
    follows(&router, "web", "v1", LATER);
    let load = Load::during(router.addr(0), "web", |load| {
        for (victim, version) in [(0, "v2"), (1, "v1"), (0, "v2")] {
            pair.namerds[victim].kill();
            set(&pair.namerds[1 - victim], version);
            settles(load, version);
            pair.namerds[victim].run();
        }
    });
    assert_eq!(load.failures(), [""; 0], "{kind}");
}

#[test]
fn p1_a_router_moves_on_when_its_namerd_is_killed_over_mesh() {
    moves_on(KINDS[0]);
}

#[test]
fn p1_a_router_moves_on_when_its_namerd_is_killed_over_thrift() {
    moves_on(KINDS[1]);
}

#[test]
fn p1_a_router_moves_on_when_its_namerd_is_killed_over_http() {
    moves_on(KINDS[2]);
}

/// Both are replaced, one after the other, as a deployment does it.
#[test]
fn p1_a_rolling_replacement_of_all_namerds_fails_no_request() {
    let Some((_server, mut pair)) = etcd("a rolling replacement") else { return };
    set(&pair.namerds[0], "v1");
    let routers = KINDS.map(|kind| pair.router(kind));
    for router in &routers {
        follows(router, "web", "v1", LATER);
        let load = Load::during(router.addr(0), "web", |load| {
            for (n, version) in [(0, "v2"), (1, "v1")] {
                assert!(pair.namerds[n].terminate(), "it ends well");
                set(&pair.namerds[1 - n], version);
                settles(load, version);
                pair.namerds[n].run();
            }
        });
        assert_eq!(load.failures(), [""; 0]);
    }
}

/// A namerd that hangs is found by keep-alives; names stay meanwhile, and edits made through the other one arrive. How soon
/// is in `docs/namerd.md`, "Several of them".
#[test]
fn p1_a_namerd_that_hangs_is_found_out() {
    // More is for a busy machine.
    let limits = [60, 60, 120].map(Duration::from_secs);
    let Some((_server, mut pair)) = etcd("a namerd that hangs") else { return };
    pair.namerds[1].kill();
    pair.known_as(&[A]);
    set(&pair.namerds[0], "v1");
    let routers = KINDS.map(|kind| pair.router(kind));
    routers.iter().for_each(|router| follows(router, "web", "v1", LATER));
    pair.namerds[1].run();
    pair.known_as(&[A, B]);
    pair.namerds[0].freeze(true);
    set(&pair.namerds[1], "v2");
    let loads: Vec<Load> = std::thread::scope(|scope| {
        let loads = routers.iter().zip(limits).map(|(router, limit)| {
            scope.spawn(move || {
                Load::during(router.addr(0), "web", |load| {
                    assert_eq!(load.next(20).get("v2").unwrap_or(&0), &0, "nobody can know yet");
                    eventually("the edit arrives", limit, || (load.next(10).get("v1") == Some(&0)).then_some(()));
                })
            })
        });
        // All at once, then each is waited for.
        let loads: Vec<_> = loads.collect();
        loads.into_iter().map(|load| load.join().expect("the edit arrives in time")).collect()
    });
    for load in loads {
        assert_eq!(load.failures(), [""; 0]);
    }
    // It is well again, and used again.
    pair.namerds[0].freeze(false);
    pair.namerds[1].kill();
    set(&pair.namerds[0], "v1");
    routers.iter().for_each(|router| follows(router, "web", "v1", LATER));
}

/// The DNS name gets another address, and namerd is there and no longer where it was.
#[test]
fn p1_a_namerd_at_a_new_address_is_found_by_its_name() {
    let Some((_server, mut pair)) = etcd("a namerd that moves") else { return };
    pair.namerds[1].kill();
    pair.known_as(&[A]);
    set(&pair.namerds[0], "v1");
    let routers = KINDS.map(|kind| pair.router(kind));
    routers.iter().for_each(|router| follows(router, "web", "v1", LATER));
    pair.namerds[0].kill();
    let moved = pair.another([127, 0, 0, 3]);
    pair.known_as(&[[127, 0, 0, 3]]);
    set(&moved, "v2");
    routers.iter().for_each(|router| follows(router, "web", "v2", LATER));
}
