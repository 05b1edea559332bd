//! As an operator of a host with many applications, I let a thousand of their connections sit idle, and each still works
//! when it is needed.

use e2e::{Backend, Client, FS_CONFIG, Switchyard};

const CONNECTIONS: usize = 1000;

#[test]
fn a_thousand_idle_connections_all_work() {
    let switchyard = Switchyard::start(FS_CONFIG);
    let web = Backend::text("hello");
    switchyard.disco().set("web", &[web.addr()]);
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| Client::connect(switchyard.addr(0))).collect();
    let gauge = format!("rt/http/server/127.0.0.1/{}/connections", switchyard.port(0));
    switchyard.await_metric(&gauge, CONNECTIONS as f64);
    let idle = switchyard.rss_kib();
    for round in 0..2 {
        for (i, client) in clients.iter_mut().enumerate() {
            let response = client.get("web", "/");
            assert_eq!((response.status, response.text().as_str()), (200, "hello"), "round {round}, connection {i}");
        }
    }
    assert_eq!(web.count(), 2 * CONNECTIONS);
    assert!(idle < 200 * 1024, "{idle} KiB with {CONNECTIONS} idle connections");
    drop(clients);
    switchyard.await_metric(&gauge, 0.0);
}
