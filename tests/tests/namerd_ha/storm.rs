//! Fifty routers lose their namerd in the same moment, cannot reach it for a while, and get it back: no hot loop, and they do
//! not come back as one.

use crate::pair::{KINDS, LATER};
use e2e::{Backend, NAMERD_CONFIG, Namerd, Switchyard, eventually, free_ports, try_get};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const ROUTERS: usize = 50;
/// How long namerd is away.
const AWAY: u32 = 6;
/// They are one when most of them come within this time.
const TOGETHER: Duration = Duration::from_millis(50);

/// What lies between the routers and namerd. While it is shut it takes each connection and closes it at once.
struct Gate {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    namerd: SocketAddr,
    shut: AtomicBool,
    arrivals: Mutex<Vec<Instant>>,
    open: Mutex<Vec<TcpStream>>,
}

impl Gate {
    fn before(namerd: SocketAddr) -> Gate {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (shut, arrivals, open) = (AtomicBool::new(false), Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { namerd, shut, arrivals, open });
        let gate = shared.clone();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|socket| gate.take(socket)));
        Gate { address, shared }
    }

    /// Closes what is open, and shuts.
    fn shut(&self) {
        self.shared.shut.store(true, Ordering::SeqCst);
        for socket in self.shared.open.lock().expect("the lock").drain(..) {
            // It may be closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn open(&self) {
        self.shared.shut.store(false, Ordering::SeqCst);
    }

    /// When connections came, from this moment on.
    fn since(&self, moment: Instant) -> Vec<Duration> {
        let arrivals = self.shared.arrivals.lock().expect("the lock");
        arrivals.iter().filter_map(|at| at.checked_duration_since(moment)).collect()
    }
}

impl Shared {
    fn take(&self, client: TcpStream) {
        self.arrivals.lock().expect("the lock").push(Instant::now());
        if self.shut.load(Ordering::SeqCst) {
            return;
        }
        let Ok(server) = TcpStream::connect(self.namerd) else { return };
        let clone = |socket: &TcpStream| socket.try_clone().expect("a handle");
        for (mut from, mut to) in [(clone(&client), clone(&server)), (clone(&server), clone(&client))] {
            std::thread::spawn(move || {
                // An error ends it as the end does.
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
        self.open.lock().expect("the lock").extend([client, server]);
    }
}

/// A namerd with a namespace for each router: those that ask for the same one would share their connections.
fn namerd(disco: &std::path::Path) -> Namerd {
    let mut storage = "storage:\n  kind: io.l5d.inMemory\n  namespaces:\n".to_owned();
    (0..ROUTERS).for_each(|n| writeln!(storage, "    ns{n}: /svc => /#/io.l5d.fs").expect("written"));
    let config = NAMERD_CONFIG.replace("storage: { kind: io.switchyard.local, path: @DATA@ }\n", &storage);
    Namerd::start(&config, disco)
}

/// Fifty routers in one process, and their ports.
fn routers(kind: &str, gate: &Gate) -> (Switchyard, Vec<SocketAddr>) {
    let ports = free_ports(ROUTERS);
    let mut config = "admin: { port: @ADMIN@ }\nrouters:\n".to_owned();
    for (n, port) in ports.iter().enumerate() {
        let root = if kind == "io.l5d.mesh" { format!("root: /ns{n}") } else { format!("namespace: ns{n}") };
        let dst = format!("/$/inet/127.0.0.1/{}", gate.address.port());
        writeln!(
            config,
            "- protocol: http
  label: r{n}
  servers: [{{ port: {port} }}]
  interpreter: {{ kind: {kind}, dst: {dst}, {root} }}"
        )
        .expect("written");
    }
    let addresses = ports.into_iter().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    (Switchyard::start(&config), addresses.collect())
}

/// The most that come within [`TOGETHER`].
fn together(arrivals: &[Duration]) -> usize {
    let within = |first: &Duration| arrivals.iter().filter(|at| *at >= first && **at < *first + TOGETHER).count();
    arrivals.iter().map(within).max().unwrap_or(0)
}

fn storm(kind: &str) {
    let (web, moved) = (Backend::text("web"), Backend::text("moved"));
    let disco = tempfile::tempdir().expect("a folder");
    let address = |backend: &Backend| format!("127.0.0.1 {}\n", backend.addr().port());
    std::fs::write(disco.path().join("web"), address(&web)).expect("written");
    let namerd = namerd(disco.path());
    let port = namerd.place().port(kind);
    let gate = Gate::before(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let (_process, addresses) = routers(kind, &gate);
    let all_answer = |wanted: &str| {
        for address in &addresses {
            eventually(&format!("{address} answers {wanted}"), LATER, || {
                (try_get(*address, "web").ok()?.text() == wanted).then_some(())
            });
        }
    };
    all_answer("web");

    // A busy machine bunches what came one by one: one time out of some counts.
    let mut told = Vec::new();
    for (now, next) in [("web", "moved"), ("moved", "web"), ("web", "moved")] {
        let address = address(if next == "web" { &web } else { &moved });
        let arrivals = away(&gate, &addresses, now);
        // While they are away the addresses change, so that each has to come back to be right.
        std::fs::write(disco.path().join("web"), address).expect("written");
        let back = Instant::now();
        gate.open();
        all_answer(next);
        match slow_down(&arrivals).and_then(|()| one_by_one(&gate.since(back))) {
            Ok(said) => return println!("{kind}: {said}"),
            Err(why) => told.push(why),
        }
    }
    panic!("{kind}: {told:#?}");
}

/// Shuts the gate; when connections came meanwhile. Names stay.
fn away(gate: &Gate, addresses: &[SocketAddr], text: &str) -> Vec<Duration> {
    let lost = Instant::now();
    gate.shut();
    e2e::holds_for("names stay", Duration::from_secs(AWAY.into()), || {
        let address = addresses[fastrand::usize(..ROUTERS)];
        try_get(address, "web").is_ok_and(|answer| answer.text() == text)
    });
    gate.since(lost)
}

/// All try, none in a hot loop, and each less and less often.
fn slow_down(arrivals: &[Duration]) -> Result<(), String> {
    let per_second: Vec<usize> =
        (0..AWAY).map(|second| arrivals.iter().filter(|at| at.as_secs() == u64::from(second)).count()).collect();
    println!("while namerd was away, connections per second: {per_second:?}");
    assert!(arrivals.len() >= ROUTERS, "all of them try: {per_second:?}");
    assert!(per_second.iter().all(|count| *count <= ROUTERS * 8), "{per_second:?}");
    let (first, last) = per_second.split_at(per_second.len() / 2);
    let sum = |counts: &[usize]| counts.iter().sum::<usize>();
    if sum(last) * 3 <= sum(first) * 2 { Ok(()) } else { Err(format!("they do not slow down: {per_second:?}")) }
}

/// All come back, but not as one.
fn one_by_one(arrivals: &[Duration]) -> Result<String, String> {
    assert!(arrivals.len() >= ROUTERS, "{arrivals:?}");
    let said = format!("{} connections, at most {} together", arrivals.len(), together(arrivals));
    if together(arrivals) <= arrivals.len() * 2 / 5 { Ok(said) } else { Err(format!("{said}: {arrivals:?}")) }
}

#[test]
fn p12_fifty_routers_come_back_one_by_one_over_mesh() {
    storm(KINDS[0]);
}

#[test]
fn p12_fifty_routers_come_back_one_by_one_over_thrift() {
    storm(KINDS[1]);
}

#[test]
fn p12_fifty_routers_come_back_one_by_one_over_http() {
    storm(KINDS[2]);
}
