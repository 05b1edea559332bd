//! The store behind the namerds is away: names stay, writes are refused and say why, and all is well without a restart.

use crate::pair::{KINDS, LATER, Pair, SOON, api, follows, set};
use crate::servers;
use e2e::{Load, eventually};
use std::time::Duration;

const DTAB: [(&str, &str); 1] = [("content-type", "application/dtab")];
/// A write must not wait for ever for a store.
const PATIENCE: Duration = Duration::from_secs(60);

fn storage(server: &servers::Server) -> String {
    format!("{{ kind: io.l5d.etcd, host: 127.0.0.1, port: {} }}", server.port)
}

/// The store ends while traffic runs, stays away, and comes back with its data.
#[test]
fn p1_etcd_is_killed_and_restarted_under_load() {
    let Some(mut server) = servers::etcd("etcd killed under load", false) else { return };
    let pair = Pair::start(&storage(&server));
    let [a, b] = &pair.namerds;
    set(a, "v1");
    let routers = KINDS.map(|kind| pair.router(kind));
    routers.iter().for_each(|router| follows(router, "web", "v1", LATER));
    // A namerd knows what it was asked for: all routers may have chosen the same one.
    for namerd in [a, b] {
        let bound = api(namerd, "GET", "/api/1/bind/default?path=/svc/web", &[], "");
        assert!(bound.text().contains("web-v1"), "{bound:?}");
    }
    let load = Load::during(routers[0].addr(0), "web", |load| {
        server.kill();
        for namerd in [a, b] {
            let begun = std::time::Instant::now();
            let refused = api(namerd, "PUT", "/api/1/dtabs/default", &DTAB, "/svc/web => /#/io.l5d.fs/web-v2");
            assert_eq!(refused.status, 503, "{refused:?}");
            let text = refused.text();
            assert!(text.contains(&server.port.to_string()) && text.contains("not available"), "{text}");
            assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
            let told = namerd.namerctl(&["dtab", "set", "default", "/svc/web", "/#/io.l5d.fs/web-v2"], "");
            let stderr = String::from_utf8_lossy(&told.stderr).into_owned();
            assert_eq!(told.status.code(), Some(1), "{stderr}");
            assert!(stderr.contains(&server.port.to_string()), "namerctl must say what is away: {stderr}");
            // What is known is read all the same, and marked.
            let known = api(namerd, "GET", "/api/1/dtabs/default", &[], "");
            assert_eq!((known.status, known.header("warning").is_some()), (200, true), "{known:?}");
            assert!(known.text().contains("web-v1"), "{known:?}");
        }
        load.more(100);
        // A router that starts now is told what is known.
        let late = pair.router(KINDS[0]);
        follows(&late, "web", "v1", LATER);
        server.start();
        eventually("writes work again", LATER, || {
            let put = api(b, "PUT", "/api/1/dtabs/default", &DTAB, "/svc/web => /#/io.l5d.fs/web-v2");
            (put.status == 204).then_some(())
        });
        routers.iter().for_each(|router| follows(router, "web", "v2", LATER));
        follows(&late, "web", "v2", LATER);
        // And as fast as ever.
        set(a, "v1");
        follows(&late, "web", "v1", SOON);
        load.more(50);
    });
    assert_eq!(load.failures(), [""; 0]);
}

/// A store that hangs is as good as none.
#[test]
fn p1_etcd_hangs_under_load() {
    let Some(server) = servers::etcd("etcd that hangs", false) else { return };
    let pair = Pair::start(&storage(&server));
    set(&pair.namerds[0], "v1");
    let router = pair.router(KINDS[0]);
    follows(&router, "web", "v1", LATER);
    let load = Load::during(router.addr(0), "web", |load| {
        server.freeze(true);
        let begun = std::time::Instant::now();
        let refused = api(&pair.namerds[1], "PUT", "/api/1/dtabs/default", &DTAB, "/svc/web => /#/io.l5d.fs/web-v2");
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(refused.text().contains(&server.port.to_string()), "{}", refused.text());
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
        assert!(refused.text().contains("etcd"), "{}", refused.text());
        load.more(100);
        server.freeze(false);
        // Nothing is known of the write that was refused: it may have waited in etcd and have been done since.
        eventually("writes work again", LATER, || {
            let put = api(&pair.namerds[1], "PUT", "/api/1/dtabs/default", &DTAB, "/svc/web => /#/io.l5d.fs/web-v2");
            (put.status == 204).then_some(())
        });
        follows(&router, "web", "v2", LATER);
    });
    assert_eq!(load.failures(), [""; 0]);
}

/// namerd starts before its store: it says so, and serves once there is one.
#[test]
fn p6_a_namerd_that_starts_before_its_store_says_so() {
    let Some(mut server) = servers::etcd("a cold start without etcd", false) else { return };
    let mut pair = Pair::prepare(&storage(&server));
    server.kill();
    let namerd = &mut pair.namerds[0];
    namerd.spawn();
    eventually("it listens", LATER, || e2e::Client::try_connect(namerd.http()).ok());
    eventually("the admin server listens", LATER, || e2e::Client::try_connect(namerd.admin()).ok());
    for (method, path) in [
        ("GET", "/api/1/dtabs/default"),
        ("GET", "/api/1/dtabs"),
        ("PUT", "/api/1/dtabs/default"),
        ("GET", "/api/1/bind/default?path=/svc/web"),
    ] {
        let body = if method == "PUT" { "/svc => /x" } else { "" };
        let answer = api(namerd, method, path, &DTAB, body);
        assert_eq!(answer.status, 503, "{method} {path}: {answer:?}");
        assert!(answer.text().contains(&server.port.to_string()), "{method} {path}: {}", answer.text());
    }
    let ready = namerd.page("/admin/ready");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains(&server.port.to_string()), "{}", ready.text());
    pair.known_as(&[crate::pair::A]);
    let router = pair.router(KINDS[1]);
    assert!(e2e::get(router.addr(0), "web").status >= 500);
    server.start();
    let namerd = &pair.namerds[0];
    eventually("it is ready without a restart", LATER, || namerd.is_ready().then_some(()));
    set(namerd, "v1");
    follows(&router, "web", "v1", LATER);
}
