//! As an operator, I write `/svc/web => primary | backup`: when the primary leaves discovery, requests go to the backup,
//! and they return when it returns.

use e2e::{Backend, FS_CONFIG, Switchyard, eventually, get};
use std::time::Duration;

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn requests_fail_over_and_come_back() {
    let config = FS_CONFIG.to_owned() + "    /svc/web => /#/io.l5d.fs/primary | /#/io.l5d.fs/backup ;\n";
    let switchyard = Switchyard::start(&config);
    let (primary, backup) = (Backend::text("primary"), Backend::text("backup"));
    let disco = switchyard.disco();
    let reaches = |body: &str| {
        eventually(&format!("requests reach {body}"), SOON, || {
            let response = get(switchyard.addr(0), "web");
            assert_eq!(response.status, 200, "no request fails: {}", response.text());
            (response.text() == body).then_some(())
        });
    };
    disco.set("primary", &[primary.addr()]);
    disco.set("backup", &[backup.addr()]);
    eventually("both are found", SOON, || (get(switchyard.addr(0), "web").text() == "primary").then_some(()));
    assert_eq!(backup.count(), 0);
    for _ in 0..3 {
        disco.remove("primary");
        reaches("backup");
        let before = primary.count();
        (0..20).for_each(|_| assert_eq!(get(switchyard.addr(0), "web").text(), "backup"));
        assert_eq!(primary.count(), before);
        disco.set("primary", &[primary.addr()]);
        reaches("primary");
    }
    disco.remove("backup");
    (0..20).for_each(|_| assert_eq!(get(switchyard.addr(0), "web").text(), "primary"));
    disco.remove("primary");
    eventually("nothing is left", SOON, || (get(switchyard.addr(0), "web").status == 502).then_some(()));
}

#[test]
fn a_name_that_was_never_there_fails_over_at_once() {
    let config = FS_CONFIG.to_owned() + "    /svc/web => /#/io.l5d.fs/primary | /#/io.l5d.fs/backup ;\n";
    let switchyard = Switchyard::start(&config);
    let backup = Backend::text("backup");
    switchyard.disco().set("backup", &[backup.addr()]);
    assert_eq!(get(switchyard.addr(0), "web").text(), "backup");
}
