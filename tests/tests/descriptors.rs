//! M3: a process without descriptors sheds new connections and keeps what it has; when there are some again, it goes on as
//! if nothing had been.

use e2e::{Backend, Client, FS_CONFIG, Switchyard, eventually};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);

/// Lets the router have so many descriptors more than it has now, and no more.
fn leave(router: &Switchyard, more: u64) {
    let open = std::fs::read_dir(format!("/proc/{}/fd", router.pid())).expect("its descriptors").count() as u64;
    let limit = Some(open + more);
    let pid = i32::try_from(router.pid()).ok().and_then(Pid::from_raw);
    prlimit(pid, Resource::Nofile, Rlimit { current: limit, maximum: limit }).expect("a lower limit");
}

#[test]
fn m3_without_descriptors_what_is_there_is_served_and_the_rest_comes_later() {
    let router = Switchyard::start(FS_CONFIG);
    let web = Backend::text("hello");
    router.disco().set("web", &[web.addr()]);
    let mut kept: Vec<Client> = (0..5).map(|_| Client::connect(router.addr(0))).collect();
    kept.iter_mut().for_each(|client| assert_eq!(client.get("web", "/").status, 200));
    leave(&router, 8);
    // Far more than there is room for; the system accepts them for the router.
    let flood: Vec<TcpStream> = (0..60).filter_map(|_| TcpStream::connect(router.addr(0)).ok()).collect();
    assert!(flood.len() > 30, "{} are in line", flood.len());
    for round in 0..20 {
        for client in &mut kept {
            assert_eq!(client.get("web", "/").status, 200, "round {round}: who was there before is served");
        }
    }
    // Addresses are not judged by what this host lacks.
    drop(flood);
    eventually("new connections are served again", SOON, || {
        let mut client = Client::try_connect(router.addr(0)).ok()?;
        client.set_read_timeout(Duration::from_secs(3));
        (client.try_get("web", "/").ok()?.status == 200).then_some(())
    });
    let mut closed = TcpStream::connect(router.addr(0)).expect("a connection");
    closed.set_read_timeout(Some(Duration::from_millis(200))).expect("a limit");
    assert!(closed.read(&mut [0]).is_err(), "it is open, and waits for a request");
    kept.iter_mut().for_each(|client| assert_eq!(client.get("web", "/").status, 200));
    assert_eq!(router.metric("rt/http/client/#/io.l5d.fs/web/failure_accrual/removals").unwrap_or(0.0), 0.0);
}
