//! The commands that the first namerctl did not have, by the real binary against a namerd on a socket.

use crate::fake::Fake;
use crate::tool::Tool;
use rustix::process::Signal;
use std::time::{Duration, Instant};

const PIPELINE: &str = "/srv=>/#/io.l5d.fs;/host=>/srv;/tmp=>/srv;/svc=>/host;/host/world=>/srv/world-v1";

fn pair() -> (Fake, Tool) {
    let fake = Fake::start();
    fake.put("internal", PIPELINE);
    for id in ["world-v1", "world-v2", "web"] {
        fake.lock().bound.insert(format!("/#/io.l5d.fs/{id}"));
    }
    fake.lock().names.insert("internal".into(), vec!["/svc/world".into(), "/svc/web".into(), "/svc/world".into()]);
    let tool = Tool::new(&fake.url);
    (fake, tool)
}

#[test]
fn set_and_unset_change_one_entry() {
    let (fake, tool) = pair();
    assert_eq!(tool.ok(&["dtab", "set", "internal", "/host/world", "/srv/world-v2"], ""), "Updated internal\n");
    assert_eq!(fake.dtab("internal"), PIPELINE.replace("world-v1", "world-v2"));
    assert_eq!(tool.ok(&["dtab", "set", "internal", "/host/world", "/srv/world-v2"], ""), "Unchanged internal\n");
    assert_eq!(tool.ok(&["dtab", "unset", "internal", "/host/world"], ""), "Updated internal\n");
    assert_eq!(fake.dtab("internal"), PIPELINE.replace(";/host/world=>/srv/world-v1", ""));
    let json = tool.ok(&["dtab", "set", "internal", "/n", "/a & /b", "--json"], "");
    assert_eq!(json, "{\"changed\":true,\"diff\":[{\"op\":\"+\",\"prefix\":\"/n\",\"dst\":\"/a \\u0026 /b\"}]}\n");
    let run = tool.run(&["dtab", "set", "other", "/a", "/b"], "");
    assert!(run.status == 1 && run.stderr.contains("not found"), "{run:?}");
    tool.ok(&["dtab", "set", "other", "/a", "/b", "--create"], "");
    assert_eq!(fake.dtab("other"), "/a=>/b");
    let run = tool.run(&["dtab", "set", "internal", "/a", "b"], "");
    assert!(run.status == 1 && run.stderr.contains("1 | b\n    | ^"), "{run:?}");
}

#[test]
fn two_writers_of_different_prefixes_both_succeed() {
    let (fake, tool) = pair();
    fake.lock().interfere = vec![("internal".into(), format!("{PIPELINE};/other=>/x"))];
    tool.ok(&["dtab", "set", "internal", "/host/world", "/srv/world-v2"], "");
    assert_eq!(fake.dtab("internal"), format!("{};/other=>/x", PIPELINE.replace("world-v1", "world-v2")));
    // And with writers that really race.
    let words: Vec<[String; 5]> =
        (0..8).map(|i| ["dtab", "set", "internal", &format!("/race/{i}"), "/x"].map(str::to_owned)).collect();
    let children: Vec<_> =
        words.iter().map(|words| tool.command(&words.each_ref().map(String::as_str)).spawn().unwrap()).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let dtab = fake.dtab("internal");
    assert!((0..8).all(|i| dtab.contains(&format!("/race/{i}=>/x"))), "{dtab}");
}

#[test]
fn history_diff_and_rollback() {
    let (fake, tool) = pair();
    tool.ok(
        &["dtab", "set", "internal", "/host/world", "/srv/world-v2", "--author", "ann", "--reason", "release 2"],
        "",
    );
    let history = tool.ok(&["dtab", "history", "internal"], "");
    let lines: Vec<&str> = history.lines().collect();
    assert_eq!(lines[0], "VERSION   TIME                  AUTHOR  CHANGE     REASON");
    assert_eq!(lines[1], "MDAwMg==  2026-11-21T17:05:11Z  ann     +1 -1      release 2");
    assert_eq!(lines[2], "MDAwMQ==  2026-11-21T17:05:10Z  -       5 entries  -");
    assert_eq!(tool.ok(&["dtab", "history", "internal", "--limit", "1"], "").lines().count(), 2);
    let diff = "- /host/world => /srv/world-v1 ;\n+ /host/world => /srv/world-v2 ;\n";
    assert_eq!(tool.ok(&["dtab", "diff", "internal"], ""), diff);
    assert_eq!(tool.ok(&["dtab", "diff", "internal", "MDAwMQ=="], ""), diff);
    assert_eq!(tool.ok(&["dtab", "diff", "internal", "MDAwMg=="], ""), "");
    let back = "Rolled back internal to MDAwMQ==\n- /host/world => /srv/world-v2 ;\n+ /host/world => /srv/world-v1 ;\n";
    assert_eq!(tool.ok(&["dtab", "rollback", "internal"], ""), back);
    assert_eq!(fake.dtab("internal"), PIPELINE);
    let write = fake.lock().seen.iter().rev().find(|seen| seen.line.starts_with("PUT")).cloned().unwrap();
    assert_eq!(write.headers["l5d-reason"], "rollback to MDAwMQ==");
    assert_eq!(write.headers["if-match"], "MDAwMg==", "one compare-and-set write");
    tool.ok(&["dtab", "rollback", "internal", "MDAwMg=="], "");
    assert!(fake.dtab("internal").ends_with("world-v2"));
    fake.lock().interfere = vec![("internal".into(), "/theirs=>/x".into())];
    let run = tool.run(&["dtab", "rollback", "internal"], "");
    assert!(run.status == 1 && run.stderr.contains("412"), "{run:?}");
    assert_eq!(fake.dtab("internal"), "/theirs=>/x");
    tool.ok(&["dtab", "rm", "internal"], "");
    tool.ok(&["dtab", "rollback", "internal", "MDAwMQ=="], "");
    assert_eq!(fake.dtab("internal"), PIPELINE, "a deleted one comes back");
}

#[test]
fn a_plan_shows_names_that_go_elsewhere() {
    let (_fake, tool) = pair();
    tool.write("new.dtab", &format!("{PIPELINE};/host/world => 1*/srv/world-v2 & 9*/srv/world-v1"));
    let run = tool.run(&["dtab", "plan", "internal", "new.dtab"], "");
    let expected = "/svc/world\n  - /#/io.l5d.fs/world-v1\n  + 90% /#/io.l5d.fs/world-v1, 10% /#/io.l5d.fs/world-v2\ninternal: 1 of 2 names change against version MDAwMQ==\n";
    assert_eq!((run.status, run.stdout.as_str(), run.stderr.as_str()), (2, expected, ""));
    assert_eq!(tool.run(&["dtab", "plan", "internal", "new.dtab", "--scope", "/svc/world"], "").status, 2);
    let run = tool.run(&["dtab", "plan", "internal", "new.dtab", "--scope", "/svc/web", "--legacy-errors"], "");
    assert_eq!(run.status, 255);
    let run = tool.run(&["dtab", "plan", "internal", "new.dtab", "--scope", "/svc/web"], "");
    assert_eq!((run.status, run.stderr.as_str()), (1, "Error: 1 names outside of the scope change\n"));
    assert!(run.stdout.contains("/svc/world  (outside of the scope)"));
    assert_eq!(tool.run(&["dtab", "plan", "internal", "-"], PIPELINE).status, 0);
    tool.write("names", "# names\n/svc/web\n");
    assert_eq!(tool.run(&["dtab", "plan", "internal", "new.dtab", "--names", "names"], "").status, 0);
    let run = tool.run(&["dtab", "plan", "internal", "-", "--name", "/svc/world", "--json"], "");
    let value: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((run.status, &value["lost"], &value["changes"][0]["after"]["type"]), (2, &1.into(), &"neg".into()));
    let run = tool.run(&["dtab", "plan", "other", "new.dtab"], "");
    assert!(run.status == 1 && run.stderr.contains("no router has asked"), "{run:?}");
}

#[test]
fn check_shows_places_and_test_runs_offline() {
    let tool = Tool::new("");
    tool.write("bad.dtab", "# routes\n/svc => /host ;\n/svc/x => /#/a | ! | /#/b ;\n/s => /s/x\n");
    let run = tool.run(&["dtab", "check", "bad.dtab"], "");
    assert_eq!((run.status, run.stderr.as_str()), (1, "Error: bad.dtab: 1 errors, 2 warnings\n"));
    let expected = "bad.dtab:2:1: warning: nothing answers /host: no entry matches it, and it names no namer [dangling]\n    /svc => /host\nbad.dtab:3:1: warning: /#/b cannot win: ! before it always answers [alternative]\n    /svc/x => /#/a | ! | /#/b\nbad.dtab:4:1: error: leads back to itself: lookups end at the depth limit of 100 [loop]\n    /s => /s/x\n";
    assert_eq!(run.stdout, expected);
    assert_eq!(tool.run(&["dtab", "check", "-"], "/svc => /host").status, 0);
    assert_eq!(tool.run(&["dtab", "check", "-", "--strict"], "/svc => /host").status, 1);
    assert_eq!(tool.ok(&["dtab", "check", "-"], PIPELINE), "<stdin>: 5 entries, nothing to report\n");
    let json = tool.run(&["dtab", "check", "-", "--json"], "/svc => /host").stdout;
    assert!(
        json.starts_with("[{\"severity\":\"warning\",\"code\":\"dangling\",\"entry\":1,\"line\":1,\"column\":1,"),
        "{json}"
    );
    let run = tool.run(&["dtab", "check", "-"], "/svc = /host");
    assert_eq!(run.stderr, "Error: <stdin>:1:7: '>' expected but ' '\n  1 | /svc = /host\n    |       ^\n");

    std::fs::create_dir(tool.folder.path().join("d")).unwrap();
    tool.write("d/routes.dtab", PIPELINE);
    let suite = "file: routes.dtab\nnamers: {/#/io.l5d.fs/*: bound}\ncases:\n- {name: /svc/world, expect: /#/io.l5d.fs/world-v1}\n";
    tool.write("d/t.yaml", suite);
    assert_eq!(tool.ok(&["dtab", "test", "d/t.yaml"], ""), "ok    /svc/world\n");
    tool.write("d/t.yaml", &suite.replace("world-v1}", "world-v2}"));
    let run = tool.run(&["dtab", "test", "d/t.yaml"], "");
    assert_eq!((run.status, run.stderr.as_str()), (1, "Error: 1 of 1 cases fail\n"));
    assert!(
        run.stdout
            .starts_with("FAIL  /svc/world\n  expected  /#/io.l5d.fs/world-v2\n  got       /#/io.l5d.fs/world-v1\n")
    );
}

#[test]
fn delegate_draws_the_way() {
    let (_fake, tool) = pair();
    let tree = tool.ok(&["delegate", "internal", "/svc/world"], "");
    let expected = "\
/svc/world
└─ /host/world  (/svc => /host)
   ├─ 1. * /srv/world-v1  (/host/world => /srv/world-v1)
   │  └─ /#/io.l5d.fs/world-v1  [bound /#/io.l5d.fs/world-v1, 1 address: 10.0.0.1:80]  (/srv => /#/io.l5d.fs)
   └─ 2. /srv/world  (/host => /srv)
      └─ /#/io.l5d.fs/world  [neg]  (/srv => /#/io.l5d.fs)
";
    assert_eq!(tree, expected);
    let json =
        tool.ok(&["delegate", "internal", "/svc/world", "--dtab", "/svc => /$/nil ; /a => /b & /c", "--json"], "");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["type"], "alt");
}

const SHIFT: [&str; 9] =
    ["shift", "internal", "/host/world", "--from", "/srv/world-v1", "--to", "/srv/world-v2", "--steps", "10,50,100"];

fn world(fake: &Fake) -> String {
    fake.dtab("internal").rsplit(';').next().unwrap().to_owned()
}

#[test]
fn a_shift_goes_by_steps() {
    let (fake, tool) = pair();
    let dry = tool.ok(&[&SHIFT[..], &["--every", "20ms", "--dry-run"]].concat(), "");
    assert_eq!(dry.lines().nth(1).unwrap(), "10%  /host/world => 10 * /srv/world-v2 & 90 * /srv/world-v1");
    assert_eq!(fake.dtab("internal"), PIPELINE);
    let out = tool.ok(&[&SHIFT[..], &["--every", "20ms"]].concat(), "");
    assert_eq!(out.lines().last().unwrap(), "done: /host/world => /srv/world-v2");
    assert_eq!((world(&fake).as_str(), fake.lock().history["internal"].len()), ("/host/world=>/srv/world-v2", 4));
}

#[test]
fn a_shift_to_where_it_is_is_refused() {
    let (fake, tool) = pair();
    let run = tool.run(
        &[
            "shift",
            "internal",
            "/host/world",
            "--from",
            "/srv/w | /a",
            "--to",
            "/srv/w|/a",
            "--steps",
            "1",
            "--every",
            "1s",
        ],
        "",
    );
    assert!(run.status == 1 && run.stderr.contains("--to is the same as --from"), "{run:?}");
    assert_eq!(fake.dtab("internal"), PIPELINE);
}

#[test]
fn a_shift_is_judged_by_routers_metrics() {
    let (fake, tool) = pair();
    let url = fake.url.clone();
    let judged = ["--every", "20ms", "--abort-if", "success<99.5", "--metrics", &url];
    let metrics = |success: u64, failures: u64| {
        serde_json::json!({
            "rt/http/client/#/io.l5d.fs/world-v2/success": success,
            "rt/http/client/#/io.l5d.fs/world-v2/failures": failures,
            "rt/http/client/#/io.l5d.fs/world-v1/failures": 1_000_000,
        })
    };
    fake.lock().metrics = metrics(0, 0);
    let mut child = tool.command(&[&SHIFT[..], &judged].concat()).spawn().unwrap();
    wait(|| fake.dtab("internal").contains("10.00*"), &mut child);
    fake.lock().metrics = metrics(980, 20);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        stderr,
        "Error: rolled back: 1000 requests, 98.00% successful, below 99.5%\n/host/world => /srv/world-v1\n"
    );
    assert_eq!((output.status.code(), fake.dtab("internal").as_str()), (Some(1), PIPELINE));
    let run = tool.run(&[&SHIFT[..7], &["--steps", "100", "--every", "1s", "--abort-if", "success<9"]].concat(), "");
    assert!(run.status == 1 && run.stderr.contains("--metrics"), "{run:?}");
    fake.lock().bound.remove("/#/io.l5d.fs/world-v2");
    let run = tool.run(&[&SHIFT[..], &judged].concat(), "");
    assert!(run.stderr.contains("is not bound to anything: neg"), "{run:?}");
}

#[test]
fn a_destination_that_refuses_connections_or_has_none_is_taken_back() {
    let client = "rt/http/client/#/io.l5d.fs/world-v2";
    let service = "rt/http/service/svc/world";
    for (key, expected) in [
        (
            format!("{client}/service_creation/failures/java.net.ConnectException"),
            "rolled back: 40 requests, 0.00% successful, below 99.5%",
        ),
        (
            format!("{service}/failures"),
            "rolled back: no request reached /srv/world-v2, and 40 requests to services failed meanwhile",
        ),
    ] {
        let (fake, tool) = pair();
        let metrics = |n: u64| {
            let mut metrics = serde_json::json!({
                format!("{service}/requests"): 1000 + n, format!("{service}/failures"): 3,
                format!("{client}/success"): 0, format!("{client}/failures"): 0,
            });
            metrics[&key] = (3 + n).into();
            metrics
        };
        fake.lock().metrics = metrics(0);
        let judged = ["--every", "20ms", "--abort-if", "success<99.5", "--metrics", &fake.url];
        let mut child = tool.command(&[&SHIFT[..], &judged].concat()).spawn().unwrap();
        wait(|| fake.dtab("internal").contains("10.00*"), &mut child);
        fake.lock().metrics = metrics(40);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(expected), "{stderr}");
        assert_eq!((output.status.code(), fake.dtab("internal").as_str()), (Some(1), PIPELINE));
    }
}

fn wait(condition: impl Fn() -> bool, child: &mut std::process::Child) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(120), "it did not happen");
        assert!(child.try_wait().unwrap().is_none(), "it ended before");
        std::thread::yield_now();
    }
}

/// Whoever began the tests wants a hangup to end nothing; children inherit that, and namerctl keeps to it.
fn hangups_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[test]
fn an_interrupted_shift_says_what_is_there_and_can_go_on() {
    for (signal, more, expected) in [
        (Signal::INT, None, "/host/world=>10.00*/srv/world-v2 & 90.00*/srv/world-v1"),
        (Signal::INT, Some("--on-interrupt=rollback"), "/host/world=>/srv/world-v1"),
        (Signal::HUP, Some("--on-interrupt=rollback"), "/host/world=>/srv/world-v1"),
    ] {
        if signal == Signal::HUP && hangups_are_ignored() {
            println!("NOTICE: SIGHUP is ignored here, as below nohup: it is not tried");
            continue;
        }
        let (fake, tool) = pair();
        let words: Vec<&str> = SHIFT.iter().copied().chain(["--every", "1h"]).chain(more).collect();
        let mut child = tool.command(&words).spawn().unwrap();
        wait(|| world(&fake).contains("10.00*"), &mut child);
        // It may still be reading the answer to its write, which is the harder case.
        let id = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), world(&fake).as_str()), (Some(130), expected), "{stderr}");
        if more.is_none() {
            assert!(
                stderr.contains("/host/world => 10 * /srv/world-v2 & 90 * /srv/world-v1\nto go back: "),
                "{stderr}"
            );
            let words = [&SHIFT[..], &["--every", "10ms", "--resume"]].concat();
            assert_eq!(tool.ok(&words, "").lines().count(), 3);
            assert_eq!(world(&fake), "/host/world=>/srv/world-v2");
        }
    }
}

#[test]
fn another_editor_of_the_entry_ends_a_shift() {
    let (fake, tool) = pair();
    let mut child = tool.command(&[&SHIFT[..], &["--every", "100ms"]].concat()).spawn().unwrap();
    wait(|| world(&fake).contains("10.00*"), &mut child);
    fake.put("internal", &PIPELINE.replace("/srv/world-v1", "/srv/mine"));
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("Error: somebody else has changed /host/world: it was 10 * "), "{stderr}");
    assert_eq!((output.status.code(), world(&fake).as_str()), (Some(1), "/host/world=>/srv/mine"));
}
