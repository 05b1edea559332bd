//! As a team with a pipeline, I deploy the next version of a service beside the present one, test it with a header, give it
//! 10 % of the traffic, then all of it, and clean up, or abort at any step: while traffic runs, and no request fails
//! (namerd reference §9, requirements P13).

use e2e::{Backend, Client, Load, NAMERD_CONFIG, Namerd, Switchyard, eventually, try_get};
use serde_json::Value;
use std::time::Duration;
use tempfile::TempDir;

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);

/// The dtab that the pipeline of Linkerd 1 starts with, over files.
const START: &str = "/srv=>/#/io.l5d.fs; /host=>/srv; /tmp=>/srv; /svc=>/host; /host/world=>/srv/world-v1";

struct Stage {
    namerd: Namerd,
    router: Switchyard,
    disco: TempDir,
    _v1: Backend,
    _v2: Backend,
}

impl Stage {
    fn set_up() -> Stage {
        let (v1, v2) = (Backend::text("v1"), Backend::text("v2"));
        let disco = tempfile::tempdir().expect("a folder");
        for (name, backend) in [("world-v1", &v1), ("world-v2", &v2)] {
            std::fs::write(disco.path().join(name), format!("127.0.0.1 {}\n", backend.addr().port())).expect("written");
        }
        let namerd = Namerd::start(NAMERD_CONFIG, disco.path());
        namerd.ctl(&["dtab", "create", "internal", "-"], START);
        let interpreter = namerd.interpreter("io.l5d.mesh").replace(" }", ", root: /internal }");
        let config = format!(
            "admin: {{ port: @ADMIN@ }}
routers:
- protocol: http
  servers: [{{ port: @P0@ }}]
  interpreter: {interpreter}
"
        );
        let router = Switchyard::start(&config);
        eventually("v1 serves", SOON, || (try_get(router.addr(0), "world").ok()?.text() == "v1").then_some(()));
        Stage { namerd, router, disco, _v1: v1, _v2: v2 }
    }

    /// Reads the dtab with its stamp, changes one entry, and stores it in that version: as the pipeline does it.
    fn edit(&self, dst: &str) {
        let mut stamped: Value =
            serde_json::from_str(&self.namerd.ctl(&["dtab", "get", "internal", "--json"], "")).expect("JSON");
        let entries = stamped["dtab"].as_array_mut().expect("entries");
        let world = entries.iter_mut().find(|entry| entry["prefix"] == "/host/world").expect("its entry");
        world["dst"] = dst.into();
        self.namerd.ctl(&["dtab", "update", "internal", "-", "--json"], &stamped.to_string());
    }

    /// Waits until all traffic is answered so.
    fn settles(&self, load: &Load, wanted: &str) {
        eventually(&format!("{wanted} has all traffic"), SOON, || {
            let next = load.next(40);
            next.iter().all(|(text, count)| *count == 0 || text == wanted).then_some(())
        });
    }
}

#[test]
fn p13_the_pipeline_of_linkerd_1() {
    let stage = Stage::set_up();
    let load = Load::during(stage.router.addr(0), "world", |load| {
        // Deploy: the lock.
        stage.edit("/tmp/world-v1");
        stage.settles(load, "v1");
        // Test: one request of a tester.
        let header = [("l5d-dtab", "/host/world => /tmp/world-v2")];
        let tested = Client::connect(stage.router.addr(0)).request("GET", "world", "/", &header, b"");
        assert_eq!((tested.status, tested.text().as_str()), (200, "v2"));
        // Shift 10 %.
        stage.edit("1 * /tmp/world-v2 & 9 * /tmp/world-v1");
        eventually("some traffic goes to v2", SOON, || (load.next(50).get("v2") > Some(&0)).then_some(()));
        let share = load.next(3000);
        let (v1, v2) = (share["v1"], share["v2"]);
        // Seven standard deviations and more to both sides.
        assert!((60..160).contains(&(v2 * 1000 / (v1 + v2))), "{share:?}");
        // Shift 100 %, with the old one as a fallback; clean up.
        stage.edit("/tmp/world-v2 | /tmp/world-v1");
        stage.settles(load, "v2");
        stage.edit("/srv/world-v2");
        stage.settles(load, "v2");
        std::fs::remove_file(stage.disco.path().join("world-v1")).expect("removed");
        load.more(100);
    });
    assert_eq!(load.failures(), [""; 0]);
    let dtab = stage.namerd.ctl(&["dtab", "get", "internal"], "");
    assert!(dtab.contains("/host/world  => /srv/world-v2 ;"), "{dtab}");
}

#[test]
fn p13_the_pipeline_aborted_at_ten_percent() {
    let stage = Stage::set_up();
    let load = Load::during(stage.router.addr(0), "world", |load| {
        stage.edit("1 * /tmp/world-v2 & 9 * /tmp/world-v1");
        eventually("some traffic goes to v2", SOON, || (load.next(50).get("v2") > Some(&0)).then_some(()));
        stage.edit("/srv/world-v1");
        stage.settles(load, "v1");
    });
    assert_eq!(load.failures(), [""; 0]);
}

/// The same with what `namerctl` has for it.
#[test]
fn p13_shift_goes_up_in_steps_and_history_leads_back() {
    let stage = Stage::set_up();
    let metrics = format!("http://{}", stage.router.admin());
    let load = Load::during(stage.router.addr(0), "world", |load| {
        let shifted = stage.namerd.ctl(
            &[
                "shift",
                "internal",
                "/host/world",
                "--from",
                "/srv/world-v1",
                "--to",
                "/srv/world-v2",
                "--steps",
                "10,50,100",
                "--every",
                "1s",
                "--abort-if",
                "success<99.5",
                "--metrics",
                &metrics,
            ],
            "",
        );
        assert!(shifted.contains("100"), "{shifted}");
        stage.settles(load, "v2");
        let history: Value =
            serde_json::from_str(&stage.namerd.ctl(&["dtab", "history", "internal", "--json"], "")).expect("JSON");
        let first = history.as_array().and_then(|list| list.last()).expect("the first write")["version"].clone();
        stage.namerd.ctl(&["dtab", "rollback", "internal", first.as_str().expect("a version")], "");
        stage.settles(load, "v1");
    });
    assert_eq!(load.failures(), [""; 0]);
}

/// A new version that fails is taken out again by itself.
#[test]
fn p13_shift_takes_back_what_fails() {
    let stage = Stage::set_up();
    let broken = Backend::with(|_| e2e::Reply::status(500));
    std::fs::write(stage.disco.path().join("world-v3"), format!("127.0.0.1 {}\n", broken.addr().port()))
        .expect("written");
    let metrics = format!("http://{}", stage.router.admin());
    let load = Load::during(stage.router.addr(0), "world", |load| {
        let output = stage.namerd.namerctl(
            &[
                "shift",
                "internal",
                "/host/world",
                "--from",
                "/srv/world-v1",
                "--to",
                "/srv/world-v3",
                "--steps",
                "20,100",
                "--every",
                "2s",
                "--abort-if",
                "success<99.5",
                "--metrics",
                &metrics,
            ],
            "",
        );
        assert!(!output.status.success(), "{output:?}");
        stage.settles(load, "v1");
    });
    assert!(load.failures().iter().all(|failure| failure.starts_with("500")), "{:?}", load.failures());
    assert!(stage.namerd.ctl(&["dtab", "get", "internal"], "").contains("/host/world  => /srv/world-v1 ;"));
}
