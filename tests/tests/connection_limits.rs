//! H1-16, M1: connections are bounded, of all and of one source; those within the bounds are served.

use e2e::{Backend, Client, FS_CONFIG, Switchyard, eventually};
use std::time::Duration;

fn limited(keys: &str) -> String {
    FS_CONFIG.replace("{ port: @P0@ }", &format!("{{ port: @P0@, {keys} }}"))
}

fn check(keys: &str, reason: &str) {
    let backend = Backend::text("here");
    let router = Switchyard::start(&limited(keys));
    router.disco().set("web", &[backend.addr()]);
    let mut open: Vec<Client> = (0..3).map(|_| Client::connect(router.addr(0))).collect();
    for client in &mut open {
        assert_eq!(client.get("web", "/").status, 200);
    }
    let mut fourth = Client::connect(router.addr(0));
    assert!(fourth.try_get("web", "/").is_err(), "one too many is closed");
    let limit = Duration::from_secs(30);
    let rejected = || router.series(&format!("rejected_total{{reason=\"{reason}\"}}"));
    eventually("it is counted", limit, || (rejected() == Some(1.0)).then_some(()));
    assert_eq!(open[0].get("web", "/").status, 200, "the others go on");
    drop(open.pop());
    eventually("room for another one", limit, || {
        (Client::connect(router.addr(0)).try_get("web", "/").ok()?.status == 200).then_some(())
    });
    assert_eq!(backend.count(), 5);
}

#[test]
fn h1_16_connections_of_a_server_are_bounded() {
    check("maxConnections: 3", "too-many-connections");
}

#[test]
fn h1_16_connections_of_one_source_are_bounded() {
    check("maxConnectionsPerSource: 3", "too-many-connections-of-source");
}
