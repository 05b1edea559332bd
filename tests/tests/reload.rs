//! P9.3: a changed config is in force without a dropped connection; an invalid one changes nothing and says so.

use e2e::{Authority, Backend, Client, FS_CONFIG, Https, Switchyard, eventually, get, holds_for};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);

fn with_dtab(dtab: &str) -> String {
    FS_CONFIG.replace("/svc => /#/io.l5d.fs ;", dtab)
}

#[test]
fn p9_3_a_changed_file_is_in_force_on_open_connections() {
    let (one, two) = (Backend::text("one"), Backend::text("two"));
    let router = Switchyard::start(FS_CONFIG);
    router.disco().set("web", &[one.addr()]);
    router.disco().set("other", &[two.addr()]);
    let mut open = Client::connect(router.addr(0));
    assert_eq!(open.get("web", "/").text(), "one");
    router.set_config(&with_dtab("/svc => /#/io.l5d.fs ; /svc/web => /#/io.l5d.fs/other ;"));
    eventually("the new dtab is in force on a connection that was open", SOON, || {
        (open.get("web", "/").text() == "two").then_some(())
    });
    assert_eq!(router.series("config_last_reload_successful"), Some(1.0));
    let scope = format!("rt/http/server/127.0.0.1/{}", router.port(0));
    assert_eq!(router.metric(&format!("{scope}/connects")), Some(1.0), "one connection all the time");
    assert_eq!(router.metric(&format!("{scope}/connections")), Some(1.0));
}

#[test]
fn p9_3_nothing_fails_while_configs_change_under_load() {
    let backends = [Backend::text("one"), Backend::text("two")];
    let router = Switchyard::start(FS_CONFIG);
    router.disco().set("one", &[backends[0].addr()]);
    router.disco().set("two", &[backends[1].addr()]);
    router.set_config(&with_dtab("/svc/web => /#/io.l5d.fs/one ;"));
    eventually("the first dtab is in force", SOON, || {
        (Client::connect(router.addr(0)).get("web", "/").status == 200).then_some(())
    });
    let (stop, failed, served) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let loads: Vec<_> = (0..4)
        .map(|_| {
            let (addr, stop, failed, served) = (router.addr(0), stop.clone(), failed.clone(), served.clone());
            std::thread::spawn(move || {
                let mut client = Client::connect(addr);
                let begun = std::time::Instant::now();
                while !stop.load(Ordering::SeqCst) && begun.elapsed() < Duration::from_secs(300) {
                    match client.try_get("web", "/") {
                        Ok(response) if response.status == 200 => _ = served.fetch_add(1, Ordering::SeqCst),
                        other => {
                            eprintln!("failed: {other:?}");
                            failed.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            })
        })
        .collect();
    for round in 1..=6 {
        let target = if round % 2 == 0 { "one" } else { "two" };
        router.set_config(&with_dtab(&format!("/svc/web => /#/io.l5d.fs/{target} ;")));
        router.signal("HUP");
        eventually("the next dtab is in force", SOON, || {
            (Client::connect(router.addr(0)).get("web", "/").text() == target).then_some(())
        });
        let before = served.load(Ordering::SeqCst);
        eventually("requests are served", SOON, || (served.load(Ordering::SeqCst) > before + 20).then_some(()));
    }
    stop.store(true, Ordering::SeqCst);
    loads.into_iter().for_each(|load| load.join().expect("the load ends"));
    assert_eq!(failed.load(Ordering::SeqCst), 0);
}

#[test]
fn p9_3_an_invalid_file_leaves_the_old_one_serving_and_says_so() {
    let one = Backend::text("one");
    let router = Switchyard::start(FS_CONFIG);
    router.disco().set("web", &[one.addr()]);
    router.set_config("routers: [{ protocol: http, servres: [] }]");
    eventually("the failure is in the metrics", SOON, || {
        (router.series("config_last_reload_successful") == Some(0.0)).then_some(())
    });
    assert_eq!(router.series("config_reloads_total{result=\"invalid\"}"), Some(1.0));
    assert_eq!(Client::connect(router.addr(0)).get("web", "/").text(), "one");
    for part in ["the one in force stays", "did you mean `servers`"] {
        eventually("the log says why", SOON, || router.log().contains(part).then_some(()));
    }
    router.set_config(FS_CONFIG);
    eventually("the file is good again", SOON, || {
        (router.series("config_last_reload_successful") == Some(1.0)).then_some(())
    });
}

#[test]
fn p9_3_listeners_come_and_go() {
    let one = Backend::text("one");
    let router = Switchyard::start(FS_CONFIG);
    router.disco().set("web", &[one.addr()]);
    let mut open = Client::connect(router.addr(0));
    assert_eq!(open.get("web", "/").status, 200);
    router.set_config(&FS_CONFIG.replace("port: @P0@", "port: @P1@"));
    eventually("the new port serves", SOON, || {
        let mut client = Client::try_connect(router.addr(1)).ok()?;
        (client.try_get("web", "/").ok()?.status == 200).then_some(())
    });
    eventually("the old port refuses", SOON, || Client::try_connect(router.addr(0)).err());
    assert!(open.closed_by_peer(), "a connection of the old port has ended");
    let counted = format!("rt/http/server/127.0.0.1/{}/requests", router.port(0));
    eventually("its metrics are gone", SOON, || router.metric(&counted).is_none().then_some(()));
    // A port that somebody else has: nothing changes.
    let taken = std::net::TcpListener::bind(("127.0.0.1", router.port(2))).expect("it is free");
    router.set_config(&FS_CONFIG.replace("port: @P0@", "port: @P2@"));
    eventually("the failure is in the metrics", SOON, || {
        (router.series("config_reloads_total{result=\"failed\"}") == Some(1.0)).then_some(())
    });
    assert_eq!(Client::connect(router.addr(1)).get("web", "/").status, 200);
    drop(taken);
}

fn serves(router: &Switchyard, body: &str) {
    eventually(&format!("{body} answers"), SOON, || {
        (Client::connect(router.addr(0)).get("web", "/").text() == body).then_some(())
    });
}

#[test]
fn p9_3_what_needs_a_restart_is_reported_and_everything_else_applied() {
    let (one, two) = (Backend::text("one"), Backend::text("two"));
    let state = tempfile::tempdir().expect("a folder");
    let router = Switchyard::start(FS_CONFIG);
    router.disco().set("one", &[one.addr()]);
    router.disco().set("two", &[two.addr()]);
    let to = |name: &str| with_dtab(&format!("/svc => /#/io.l5d.fs/{name} ;"));
    let state_dir = format!("stateDir: {}\n", state.path().join("made").display());
    let discovery = "discovery: { maxWatches: 1 }\n";
    let admin = |text: &str| text.replace("admin: { port: @ADMIN@ }", "admin: { port: @P5@ }");
    for (text, keys) in [
        (format!("{state_dir}{}", to("one")), "stateDir"),
        (format!("{discovery}{}", to("two")), "discovery"),
        (admin(&to("one")), "admin"),
        (format!("{state_dir}{discovery}{}", admin(&to("two"))), "stateDir, discovery, admin"),
        // The file before is not what is in force: what waits for a restart still does.
        (format!("{state_dir}{discovery}{}", admin(&to("one"))), "stateDir, discovery, admin"),
    ] {
        let before = router.log().len();
        router.set_config(&text);
        serves(&router, if text.contains("fs/one") { "one" } else { "two" });
        eventually("the log names the keys", SOON, || {
            router.log()[before..].contains(&format!("these changes need a restart: {keys}\n")).then_some(())
        });
        eventually("it is in the metrics", SOON, || (router.series("config_needs_restart") == Some(1.0)).then_some(()));
        assert_eq!(router.series("config_last_reload_successful"), Some(1.0));
    }
    assert!(!state.path().join("made").exists(), "no state is kept before a restart");
    assert!(Client::try_connect(router.addr(5)).is_err(), "the admin server stays where it is");
    router.set_config(FS_CONFIG);
    eventually("nothing waits for a restart", SOON, || {
        (router.series("config_needs_restart") == Some(0.0)).then_some(())
    });
}

/// A file that changes names and brings bad certificates: nothing of it is in force.
#[test]
fn p9_3_bad_certificates_leave_the_old_config_serving() {
    let (one, two) = (Backend::text("one"), Backend::text("two"));
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("test");
    let ca = authority.write(folder.path(), "ca");
    let good = authority.issue(&["router.test"]).write(folder.path(), "good");
    let other = authority.issue(&["other.test"]).write(folder.path(), "other");
    let garbage = folder.path().join("garbage.pem");
    std::fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").expect("a file");
    let text = |name: &str, cert: &Path, key: &Path| {
        let tls = format!("tls: {{ certPath: {}, keyPath: {} }}", cert.display(), key.display());
        let servers = format!("servers: [{{ port: @P0@ }}, {{ port: @P1@, {tls} }}]");
        with_dtab(&format!("/svc => /#/io.l5d.fs/{name} ;")).replace("servers: [{ port: @P0@ }]", &servers)
    };
    let router = Switchyard::start(&text("one", &good.cert, &good.key));
    router.disco().set("one", &[one.addr()]);
    router.disco().set("two", &[two.addr()]);
    serves(&router, "one");
    let over_tls = |name: &str| {
        let connection = Https::connect(router.addr(1), name, &ca, None).expect("a handshake");
        connection.get("web", "/").expect("an answer")
    };
    let missing = folder.path().join("missing.pem");
    let bad = [(&missing, &good.key), (&garbage, &good.key), (&good.cert, &other.key), (&good.cert, &good.cert)];
    for (n, (cert, key)) in bad.into_iter().enumerate() {
        router.set_config(&text("two", cert, key));
        let refused = |router: &Switchyard| {
            let count = |result| router.series(&format!("config_reloads_total{{result=\"{result}\"}}")).unwrap_or(0.0);
            count("invalid") + count("failed")
        };
        eventually("it is refused", SOON, || (refused(&router) == n as f64 + 1.0).then_some(()));
        assert_eq!(router.series("config_last_reload_successful"), Some(0.0));
        assert_eq!(Client::connect(router.addr(0)).get("web", "/").text(), "one", "case {n}");
        assert!(over_tls("router.test").ends_with("one"), "case {n}");
    }
    router.set_config(&text("two", &other.cert, &other.key));
    serves(&router, "two");
    assert!(over_tls("other.test").ends_with("two"));
    assert_eq!(router.series("config_last_reload_successful"), Some(1.0));
}

#[test]
fn p9_3_a_router_that_did_not_change_keeps_its_caches() {
    let one = Backend::text("one");
    let more = "\n- protocol: http\n  label: more\n  servers: [{ port: @P1@ }]\n";
    // Every worker has connections of its own.
    let router = Switchyard::start_with(FS_CONFIG, &["--workers", "1"]);
    router.disco().set("web", &[one.addr()]);
    assert_eq!(Client::connect(router.addr(0)).get("web", "/").status, 200);
    assert_eq!(router.metric("rt/http/bindcache/path/misses"), Some(1.0));
    router.set_config(&format!("{FS_CONFIG}{more}"));
    eventually("the second router serves", SOON, || Client::try_connect(router.addr(1)).ok());
    assert_eq!(Client::connect(router.addr(0)).get("web", "/").status, 200);
    assert_eq!(router.metric("rt/http/bindcache/path/misses"), Some(1.0), "no new path service");
    assert_eq!(one.connections(), 1, "the connection to the service is still there");
    router.set_config(FS_CONFIG);
    eventually("the second router is gone", SOON, || Client::try_connect(router.addr(1)).err());
    eventually("and its metrics", SOON, || {
        (!router.page("/admin/metrics.json").text().contains("rt/more")).then_some(())
    });
}

fn reloaded(router: &Switchyard, before: f64) {
    eventually("the reload is done", SOON, || {
        (router.series("config_reloads_total{result=\"ok\"}").unwrap_or(0.0) > before).then_some(())
    });
}

/// Where things stand in the file is no reason to let go of connections.
#[test]
fn p9_3_an_edit_of_comments_keeps_connections_and_health() {
    let web = Backend::text("web");
    let router = Switchyard::start(FS_CONFIG);
    router.disco().set("web", &[web.addr()]);
    assert_eq!(get(router.addr(0), "web").status, 200);
    router.set_config(&format!("# One line more.\n\n{FS_CONFIG}"));
    reloaded(&router, 0.0);
    for _ in 0..10 {
        assert_eq!(get(router.addr(0), "web").status, 200);
    }
    assert!(web.connections() <= 2, "{} connections, one per worker at most", web.connections());
    let lost = get(router.addr(0), "nobody");
    let line = 2 + FS_CONFIG.lines().position(|line| line.contains("/svc")).expect("an entry") + 1;
    assert!(lost.text().contains(&format!("linkerd.yaml:{line})")), "the new line is told: {}", lost.text());
}

/// What is known of names outlives a reload, whatever discovery says at that moment.
#[test]
fn p1_a_reload_while_discovery_is_away_keeps_what_was_known() {
    let web = Backend::text("web");
    let router = Switchyard::start(FS_CONFIG);
    router.disco().set("web", &[web.addr()]);
    assert_eq!(get(router.addr(0), "web").status, 200);
    router.disco().edit("web", "this is no address\n");
    assert_eq!(get(router.addr(0), "web").status, 200, "last known good");
    let more =
        FS_CONFIG.replacen("namers:", "namers:\n- { kind: io.l5d.rewrite, prefix: /r, pattern: /a, name: /b }", 1);
    assert_ne!(more, FS_CONFIG);
    router.set_config(&more.replacen("dtab: |", "dtab: |\n    /other => /svc ;", 1));
    reloaded(&router, 0.0);
    // Longer than a watch lingers that nobody reads.
    holds_for("the name is served", Duration::from_millis(6500), || true);
    assert_eq!(get(router.addr(0), "web").text(), "web");
}

#[test]
fn p9_3_a_listener_opens_up_on_its_port() {
    let web = Backend::text("web");
    let router = Switchyard::start(FS_CONFIG);
    router.disco().set("web", &[web.addr()]);
    router.set_config(&FS_CONFIG.replacen("{ port: @P0@ }", "{ port: @P0@, ip: 0.0.0.0 }", 1));
    reloaded(&router, 0.0);
    assert_eq!(router.series("config_last_reload_successful"), Some(1.0), "{}", router.log());
    eventually("it serves", SOON, || (e2e::try_get(router.addr(0), "web").ok()?.status == 200).then_some(()));
    let label = format!("rt/http/server/0.0.0.0/{}/requests", router.port(0));
    eventually("by the new listener", SOON, || {
        let _ = e2e::try_get(router.addr(0), "web");
        router.metric(&label).filter(|requests| *requests >= 1.0)
    });
}
