//! Tests of the DNS resolver against a DNS server of a few lines.

use super::*;
use crate::host::Host;
use crate::snapshot::{Snapshot, SnapshotOptions};
use crate::system::SystemNamer;
use crate::update::test_support::{eventually, until};
use dtab::{Addr, Path, State};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::UdpSocket;

/// What the server says of a name.
#[derive(Clone)]
enum Zone {
    A(Vec<[u8; 4]>, u32),
    Aaaa([u8; 16]),
    Empty,
    Absent,
    Broken,
    Silent,
}

struct Server {
    address: SocketAddr,
    zones: Arc<Mutex<BTreeMap<String, Zone>>>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    async fn start() -> Server {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let server = Server { address, zones: Arc::default(), asked: Arc::default() };
        let (zones, asked) = (server.zones.clone(), server.asked.clone());
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                asked.fetch_add(1, Ordering::SeqCst);
                let reply = answer(&buffer[..length], &zones.lock());
                if let Some(reply) = reply {
                    socket.send_to(&reply, peer).await.unwrap();
                }
            }
        });
        server
    }

    fn set(&self, name: &str, zone: Zone) {
        self.zones.lock().insert(name.to_owned(), zone);
    }

    fn resolver(&self) -> Arc<DnsResolver> {
        DnsResolver::within(&Discovery::new(Handle::current()), &[self.address], self.options())
    }

    fn options(&self) -> DnsOptions {
        let linger = Duration::from_millis(20);
        let empty_grace = Duration::from_millis(100);
        let watch = WatchOptions { linger, empty_grace, max_keys: 8, ..WatchOptions::default() };
        // A busy machine may take its time for an answer that comes.
        let timeout = Some(Duration::from_millis(1500));
        DnsOptions { timeout, attempts: Some(1), watch, ..DnsOptions::default() }
    }

    async fn asked_more(&self) {
        let before = self.asked.load(Ordering::SeqCst);
        eventually("the server is asked", || self.asked.load(Ordering::SeqCst) > before).await;
    }
}

fn answer(query: &[u8], zones: &BTreeMap<String, Zone>) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..at + 1 + length]).into_owned());
        at += 1 + length;
    }
    let is_a = query[at + 1..at + 3] == [0, 1];
    let question = &query[12..at + 5];
    let zone = zones.get(&labels.join(".")).cloned().unwrap_or(Zone::Absent);
    let (code, ips, ttl) = match zone {
        Zone::A(ips, ttl) if is_a => (0, ips.iter().map(|ip| ip.to_vec()).collect(), ttl),
        Zone::Aaaa(ip) if !is_a => (0, vec![ip.to_vec()], 60),
        Zone::A(..) | Zone::Aaaa(_) | Zone::Empty => (0, Vec::new(), 0),
        Zone::Absent => (3, Vec::new(), 0),
        Zone::Broken => (2, Vec::new(), 0),
        Zone::Silent => return None,
    };
    let mut reply = vec![query[0], query[1], 0x81, 0x80 | code, 0, 1, 0, ips.len() as u8, 0, 0, 0, 0];
    reply.extend_from_slice(question);
    for ip in ips {
        reply.extend_from_slice(&[0xc0, 12, 0, if is_a { 1 } else { 28 }, 0, 1]);
        reply.extend_from_slice(&ttl.to_be_bytes());
        reply.extend_from_slice(&[0, ip.len() as u8]);
        reply.extend_from_slice(&ip);
    }
    Some(reply)
}

fn ips(text: &[&str]) -> State<HostIps> {
    State::Ok(HostIps::Ips(text.iter().map(|ip| ip.parse().unwrap()).collect()))
}

fn name(text: &str) -> Arc<str> {
    text.into()
}

#[tokio::test]
async fn first_value_update_and_unsubscribe() {
    let server = Server::start().await;
    server.set("web.test", Zone::A(vec![[10, 0, 0, 2], [10, 0, 0, 1]], 1));
    let dns = server.resolver();
    let mut web = dns.lookup(&name("web.test"));
    assert_eq!(web.get(), State::Pending);
    until(&mut web, |s| *s == ips(&["10.0.0.1", "10.0.0.2"])).await;
    server.set("web.test", Zone::A(vec![[10, 0, 0, 3]], 1));
    until(&mut web, |s| *s == ips(&["10.0.0.3"])).await;
    drop(web);
    eventually("the watch is gone", || dns.report().is_empty()).await;
}

#[tokio::test]
async fn a_long_ttl_is_believed() {
    let server = Server::start().await;
    server.set("slow.test", Zone::A(vec![[10, 0, 0, 1]], 3600));
    server.set("quick.test", Zone::A(vec![[10, 0, 0, 1]], 0));
    let dns = server.resolver();
    let (mut slow, mut quick) = (dns.lookup(&name("slow.test")), dns.lookup(&name("quick.test")));
    until(&mut slow, |s| matches!(s, State::Ok(_))).await;
    until(&mut quick, |s| matches!(s, State::Ok(_))).await;
    server.set("slow.test", Zone::A(vec![[10, 0, 0, 2]], 3600));
    server.set("quick.test", Zone::A(vec![[10, 0, 0, 2]], 0));
    until(&mut quick, |s| *s == ips(&["10.0.0.2"])).await;
    assert_eq!(slow.get(), ips(&["10.0.0.1"]));
}

#[tokio::test]
async fn outage_and_recovery_keep_the_last_addresses() {
    let server = Server::start().await;
    server.set("web.test", Zone::A(vec![[10, 0, 0, 1]], 1));
    let dns = server.resolver();
    let mut web = dns.lookup(&name("web.test"));
    until(&mut web, |s| *s == ips(&["10.0.0.1"])).await;
    for outage in [Zone::Broken, Zone::Silent] {
        server.set("web.test", outage);
        eventually("the failure is reported", || dns.report()[0].last_error.is_some()).await;
        assert_eq!((web.get(), dns.report()[0].state.as_str()), (ips(&["10.0.0.1"]), "ok"));
        server.set("web.test", Zone::A(vec![[10, 0, 0, 1]], 1));
        eventually("the recovery is reported", || dns.report()[0].last_error.is_none()).await;
    }
}

#[tokio::test]
async fn a_failure_at_first_is_failed_until_it_recovers() {
    let server = Server::start().await;
    server.set("web.test", Zone::Broken);
    let mut web = server.resolver().lookup(&name("web.test"));
    let failed = until(&mut web, |s| matches!(s, State::Failed(_))).await;
    assert!(matches!(failed, State::Failed(text) if text.starts_with("cannot resolve web.test: ")));
    server.set("web.test", Zone::A(vec![[10, 0, 0, 1]], 60));
    until(&mut web, |s| *s == ips(&["10.0.0.1"])).await;
}

#[tokio::test]
async fn absent_names_and_names_without_addresses_are_told_apart() {
    let server = Server::start().await;
    server.set("empty.test", Zone::Empty);
    server.set("six.test", Zone::Aaaa([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]));
    let dns = server.resolver();
    let (mut absent, mut empty) = (dns.lookup(&name("absent.test")), dns.lookup(&name("empty.test")));
    until(&mut absent, |s| *s == State::Ok(HostIps::NoSuchHost)).await;
    until(&mut empty, |s| *s == ips(&[])).await;
    until(&mut dns.lookup(&name("six.test")), |s| *s == ips(&["fd00::1"])).await;
    let mut illegal = dns.lookup(&name(&"x".repeat(64)));
    until(&mut illegal, |s| *s == State::Ok(HostIps::NoSuchHost)).await;
}

#[tokio::test]
async fn a_name_that_is_fixed_is_asked_once() {
    let server = Server::start().await;
    server.set("web.test", Zone::A(vec![[10, 0, 0, 1]], 0));
    let dns = server.resolver();
    let mut fixed = dns.lookup_once(&name("web.test"));
    until(&mut fixed, |s| *s == ips(&["10.0.0.1"])).await;
    server.set("web.test", Zone::A(vec![[10, 0, 0, 2]], 0));
    drop(fixed);
    eventually("the watch is gone", || dns.report().is_empty()).await;
    let mut live = dns.lookup(&name("web.test"));
    until(&mut live, |s| *s == ips(&["10.0.0.2"])).await;
    until(&mut dns.lookup_once(&name("web.test")), |s| *s == ips(&["10.0.0.1"])).await;
}

#[tokio::test]
async fn readers_of_one_name_share_its_queries() {
    let server = Server::start().await;
    server.set("web.test", Zone::A(vec![[10, 0, 0, 1]], 60));
    let dns = server.resolver();
    let mut readers: Vec<_> = (0..20).map(|_| dns.lookup(&name("web.test"))).collect();
    for reader in &mut readers {
        until(reader, |s| matches!(s, State::Ok(_))).await;
    }
    assert!(server.asked.load(Ordering::SeqCst) <= 2);
}

#[tokio::test]
async fn the_number_of_names_is_bounded() {
    let server = Server::start().await;
    let dns = server.resolver();
    let mut kept: Vec<_> = (0..9).map(|i| dns.lookup(&name(&format!("n{i}.test")))).collect();
    assert!(matches!(kept[8].get(), State::Failed(text) if text.contains("limit of 8")));
    server.asked_more().await;
    kept.remove(0);
    until(&mut kept[7], |s| *s == State::Ok(HostIps::NoSuchHost)).await;
}

/// Attacks N4 and N5: a scanner; each name is asked for, waited for shortly, and forgotten.
#[tokio::test]
async fn a_flood_of_unknown_names_costs_few_queries_and_little_memory() {
    let server = Server::start().await;
    server.set("web.test", Zone::A(vec![[10, 0, 0, 1]], 1));
    let watch = WatchOptions { max_keys: 2000, ..WatchOptions::default() };
    let options = DnsOptions { new_names_per_sec: 50, watch, ..server.options() };
    let dns = DnsResolver::within(&Discovery::new(Handle::current()), &[server.address], options);
    let mut web = dns.lookup(&name("web.test"));
    until(&mut web, |s| *s == ips(&["10.0.0.1"])).await;
    let (mut most, mut told) = (0, false);
    let started = std::time::Instant::now();
    for round in 0..1000 {
        let _readers: Vec<_> = (0..100).map(|i| dns.lookup(&name(&format!("n{round}-{i}.test")))).collect();
        tokio::time::sleep(Duration::from_millis(2)).await;
        most = most.max(dns.table.len());
        told = told || dns.report().iter().any(|watch| watch.state.contains("too many unknown names"));
    }
    let seconds = started.elapsed().as_secs() as usize + 2;
    assert!(most <= 4100, "{most} names are watched");
    assert!(told, "nobody is told that there are too many");
    let asked = server.asked.load(Ordering::SeqCst);
    assert!(asked <= 2 * 50 * seconds + 10 * seconds, "{asked} queries in {seconds} s");
    server.set("web.test", Zone::A(vec![[10, 0, 0, 2]], 1));
    until(&mut web, |s| *s == ips(&["10.0.0.2"])).await;
    eventually("nothing of it stays", || dns.report().len() == 1).await;
}

/// Attack N4: the rate of new names, and that a refused name has its turn.
#[tokio::test]
async fn new_names_beyond_the_rate_are_refused_and_have_their_turn_later() {
    let server = Server::start().await;
    let watch = WatchOptions { max_keys: 1000, ..WatchOptions::default() };
    let options = DnsOptions { new_names_per_sec: 10, watch, ..server.options() };
    let dns = DnsResolver::within(&Discovery::new(Handle::current()), &[server.address], options);
    let names: Vec<_> = (0..70).map(|i| format!("n{i}.test")).collect();
    names.iter().for_each(|name| server.set(name, Zone::A(vec![[10, 0, 0, 1]], 60)));
    let mut readers: Vec<_> = names.iter().map(|text| dns.lookup(&name(text))).collect();
    let refused = || dns.report().iter().filter(|watch| watch.state.contains("too many unknown names")).count();
    eventually("most are refused", || refused() >= 20).await;
    // What a registry lists is not limited.
    until(&mut dns.lookup_listed(&name("n69.test")), |s| *s == ips(&["10.0.0.1"])).await;
    assert!(refused() > 0, "the others still wait");
    for reader in &mut readers {
        until(reader, |s| *s == ips(&["10.0.0.1"])).await;
    }
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_not_asked_for_twice_within_its_time() {
    let server = Server::start().await;
    let dns = server.resolver();
    for _ in 0..5 {
        until(&mut dns.lookup(&name("absent.test")), |s| *s == State::Ok(HostIps::NoSuchHost)).await;
        eventually("the watch is gone", || dns.report().is_empty()).await;
    }
    assert_eq!(server.asked.load(Ordering::SeqCst), 1);
    let mut reader = dns.lookup(&name("absent.test"));
    server.set("absent.test", Zone::A(vec![[10, 0, 0, 1]], 60));
    until(&mut reader, |s| *s == ips(&["10.0.0.1"])).await;
}

#[tokio::test]
async fn names_that_wait_for_the_first_time_do_not_hold_up_what_is_known() {
    let server = Server::start().await;
    server.set("web.test", Zone::A(vec![[10, 0, 0, 1]], 0));
    let watch = WatchOptions { max_keys: 1000, ..WatchOptions::default() };
    let options = DnsOptions { max_first_queries: 2, max_waiting: 10, watch, ..server.options() };
    let dns = DnsResolver::within(&Discovery::new(Handle::current()), &[server.address], options);
    let mut web = dns.lookup(&name("web.test"));
    until(&mut web, |s| *s == ips(&["10.0.0.1"])).await;
    let names: Vec<_> = (0..100).map(|i| format!("n{i}.test")).collect();
    names.iter().for_each(|name| server.set(name, Zone::Silent));
    let mut readers: Vec<_> = names.iter().map(|text| dns.lookup(&name(text))).collect();
    server.set("web.test", Zone::A(vec![[10, 0, 0, 2]], 0));
    until(&mut web, |s| *s == ips(&["10.0.0.2"])).await;
    let waiting = readers.iter_mut().filter_map(|reader| (reader.get() == State::Pending).then_some(())).count();
    assert!(waiting <= 12, "{waiting} wait");
    assert!(dns.report().iter().any(|watch| watch.last_error.as_deref().is_some_and(|e| e.contains("try again"))));
}

/// Attack N6.
#[tokio::test]
async fn addresses_of_this_host_and_of_metadata_services_are_left_out() {
    let server = Server::start().await;
    server.set("mixed.test", Zone::A(vec![[169, 254, 169, 254], [10, 0, 0, 1], [127, 0, 0, 1]], 60));
    server.set("evil.test", Zone::A(vec![[127, 0, 0, 1]], 60));
    let dns = server.resolver();
    let mut mixed = dns.lookup(&name("mixed.test"));
    until(&mut mixed, |s| *s == ips(&["10.0.0.1"])).await;
    let problem = dns.report()[0].last_error.clone().unwrap();
    assert!(problem.contains("is left out"), "{problem}");
    until(&mut dns.lookup(&name("evil.test")), |s| *s == ips(&[])).await;
    let options = DnsOptions { deny: DenyList(Vec::new()), ..server.options() };
    let open = DnsResolver::within(&Discovery::new(Handle::current()), &[server.address], options);
    until(&mut open.lookup(&name("evil.test")), |s| *s == ips(&["127.0.0.1"])).await;
}

/// Requirement P2.2.
#[tokio::test]
async fn a_restart_while_the_server_is_dead_serves_what_is_on_disk() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let mut discovery = Discovery::new(Handle::current());
        let open = Snapshot::open(folder.path().to_owned(), SnapshotOptions::default(), &discovery.handle);
        discovery.snapshot = Some(open.clone());
        (open, DnsResolver::within(&discovery, &[server.address], server.options()))
    };
    server.set("web.test", Zone::A(vec![[10, 0, 0, 1]], 1));
    {
        let (snapshot, dns) = start();
        until(&mut dns.lookup(&name("web.test")), |s| *s == ips(&["10.0.0.1"])).await;
        snapshot.flush();
    }
    for outage in [Zone::Broken, Zone::Silent] {
        server.set("web.test", outage);
        let (_snapshot, dns) = start();
        let mut web = dns.lookup(&name("web.test"));
        until(&mut web, |s| *s == ips(&["10.0.0.1"])).await;
        assert!(dns.report()[0].stale.is_some());
        server.set("web.test", Zone::A(vec![[10, 0, 0, 1]], 1));
        eventually("the value is fresh", || dns.report()[0].stale.is_none()).await;
    }
}

/// Requirement P2.3.
#[tokio::test]
async fn an_empty_answer_after_an_outage_is_held_back() {
    let server = Server::start().await;
    server.set("web.test", Zone::A(vec![[10, 0, 0, 1]], 1));
    let mut options = server.options();
    options.watch.empty_grace = Duration::from_secs(2);
    let dns = DnsResolver::within(&Discovery::new(Handle::current()), &[server.address], options);
    let mut web = dns.lookup(&name("web.test"));
    until(&mut web, |s| *s == ips(&["10.0.0.1"])).await;
    for (empty, believed) in [(Zone::Empty, ips(&[])), (Zone::Absent, State::Ok(HostIps::NoSuchHost))] {
        server.set("web.test", Zone::Broken);
        eventually("the outage is seen", || dns.report()[0].last_error.is_some()).await;
        server.set("web.test", empty);
        eventually("it is held back", || dns.report()[0].held).await;
        assert_eq!(web.get(), ips(&["10.0.0.1"]));
        until(&mut web, |s| *s == believed).await;
        server.set("web.test", Zone::A(vec![[10, 0, 0, 1]], 1));
        until(&mut web, |s| *s == ips(&["10.0.0.1"])).await;
    }
}

#[tokio::test]
async fn system_ids_have_addresses() {
    let server = Server::start().await;
    server.set("web.test", Zone::A(vec![[10, 0, 0, 1]], 1));
    let system = SystemNamer::new(server.resolver(), Handle::current());
    let resolve = |id: &str| system.resolve(&Path::parse(id).unwrap());
    let at = |address: &str| State::Ok(Addr::bound([address.parse().unwrap()]));
    for (id, address) in [
        ("/$/inet/80", "127.0.0.1:80"),
        ("/$/inet/localhost/80", "127.0.0.1:80"),
        ("/$/inet/127.1/80", "127.0.0.1:80"),
        ("/$/inet/::1/80", "[::1]:80"),
        ("/$/fixedinet/10.0.0.7/81", "10.0.0.7:81"),
        ("/$/io.buoyant.rinet/80/10.0.0.9", "10.0.0.9:80"),
    ] {
        assert_eq!(resolve(id).get(), at(address), "{id}");
    }
    assert_eq!(resolve("/#/other/web").get(), State::Ok(Addr::Neg));
    assert!(matches!(resolve("/$/inet/10.0.0.1:81/80").get(), State::Ok(Addr::Failed(_))));

    let mut web = resolve("/$/inet/web.test/80");
    until(&mut web, |s| *s == at("10.0.0.1:80")).await;
    server.set("web.test", Zone::Broken);
    server.asked_more().await;
    server.asked_more().await;
    assert_eq!(web.get(), at("10.0.0.1:80"));
    server.set("web.test", Zone::Absent);
    until(&mut web, |s| *s == State::Ok(Addr::Neg)).await;

    server.set("down.test", Zone::Broken);
    let mut down = resolve("/$/inet/down.test/80");
    until(&mut down, |s| matches!(s, State::Ok(Addr::Failed(_)))).await;
}

#[tokio::test]
async fn the_system_configuration_cannot_fail_the_start() {
    let dns = DnsResolver::system(DnsOptions::default(), Handle::current());
    assert!(dns.report().is_empty());
    assert!(matches!(Host::parse("localhost"), Some(Host::Ip(_))));
}
