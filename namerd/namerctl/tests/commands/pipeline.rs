//! The blue-green pipeline of `examples/pipeline` (namerd reference §9), with the real binary.

use crate::fake::Fake;
use crate::tool::Tool;
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
fn a_service_that_is_being_deployed_is_left_alone() {
    let fake = Fake::start();
    let locked = START.replace("/srv/world-v1", "/tmp/world-v1");
    fake.put("internal", &locked);
    let output = run(&fake, &[]);
    assert_eq!((output.status.code(), fake.dtab("internal")), (Some(1), locked), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("/host/world is not /srv/world-v1"), "{output:?}");
}
