//! The blue-green pipeline of `examples/pipeline` (namerd reference §9), with the real binary.

use crate::fake::Fake;
use crate::tool::Tool;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

const START: &str = "/srv=>/#/io.l5d.fs;/host=>/srv;/tmp=>/srv;/svc=>/host;/host/world=>/srv/world-v1";

fn run(fake: &Fake, env: &[(&str, &str)]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/pipeline/blue-green.sh");
    let mut tool = Tool::of(Path::new("/bin/bash"), &fake.url);
    tool.env.extend([("NAMERCTL", env!("CARGO_BIN_EXE_namerctl")), ("PATH", "/usr/bin:/bin")].map(own));
    tool.env.extend(env.iter().copied().map(own));
    tool.command(&[script.to_str().unwrap(), "internal", "world", "world-v1", "world-v2"]).output().unwrap()
}

fn own((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// What the entry was, over time.
fn states(fake: &Fake) -> Vec<String> {
    let inner = fake.lock();
    let world = |write: &serde_json::Value| {
        let entries = write["dtab"].as_array().unwrap();
        assert_eq!(entries.len(), 5, "the other entries stay");
        entries[4]["dst"].as_str().unwrap().to_owned()
    };
    inner.history["internal"].iter().rev().map(world).collect()
}

#[test]
fn the_pipeline_goes_through_its_stages() {
    let fake = Fake::start();
    fake.put("internal", START);
    let output = run(&fake, &[]);
    assert!(output.status.success(), "{output:?}");
    let expected = [
        "/srv/world-v1",
        "/tmp/world-v1",
        "/tmp/world-v2 & 9.00*/tmp/world-v1",
        "/tmp/world-v2 | /tmp/world-v1",
        "/srv/world-v2",
    ];
    assert_eq!(states(&fake), expected);
}

#[test]
fn a_gate_that_says_no_takes_everything_back() {
    let fake = Fake::start();
    fake.put("internal", START);
    let output = run(&fake, &[("GATE", "false")]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(states(&fake), ["/srv/world-v1", "/tmp/world-v1", "/srv/world-v1"]);
}

#[test]
fn a_step_that_fails_in_the_middle_takes_everything_back() {
    let ten = "/tmp/world-v2 & 9.00*/tmp/world-v1";
    let all = "/tmp/world-v2 | /tmp/world-v1";
    for (stage, is_written, between) in [
        ("10%", false, &[][..]),
        ("10%", true, &[ten]),
        ("100%", false, &[ten]),
        // The write has been made, and only the script does not know.
        ("100%", true, &[ten, all]),
        ("cleanup", false, &[ten, all]),
    ] {
        let fake = Fake::start();
        fake.put("internal", START);
        let folder = tempfile::tempdir().unwrap();
        let broken = folder.path().join("namerctl");
        let first = if is_written { "\"$REAL\" \"$@\"; " } else { "" };
        let script =
            format!("#!/bin/bash\ncase \"$*\" in *': {stage}') {first}exit 1 ;; esac\nexec \"$REAL\" \"$@\"\n");
        std::fs::write(&broken, script).unwrap();
        std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755)).unwrap();
        let removed = folder.path().join("removed");
        let remove = folder.path().join("remove");
        std::fs::write(&remove, format!("#!/bin/bash\necho \"$1\" >> {}\n", removed.display())).unwrap();
        std::fs::set_permissions(&remove, std::fs::Permissions::from_mode(0o755)).unwrap();
        let output = run(
            &fake,
            &[
                ("NAMERCTL", broken.to_str().unwrap()),
                ("REAL", env!("CARGO_BIN_EXE_namerctl")),
                ("REMOVE", remove.to_str().unwrap()),
            ],
        );
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let expected = [&["/srv/world-v1", "/tmp/world-v1"][..], between, &["/srv/world-v1"]].concat();
        assert_eq!(states(&fake), expected, "{stage} {is_written} {output:?}");
        assert_eq!(std::fs::read_to_string(&removed).unwrap(), "world-v2\n");
    }
}

#[test]
fn a_service_that_is_being_deployed_is_left_alone() {
    let fake = Fake::start();
    let locked = START.replace("/srv/world-v1", "/tmp/world-v1");
    fake.put("internal", &locked);
    let output = run(&fake, &[]);
    assert_eq!((output.status.code(), fake.dtab("internal")), (Some(1), locked), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("/host/world is not /srv/world-v1"), "{output:?}");
}
