//! As an operator, I restart the backends of a service one by one under load, or lose one, and no client sees it
//! (requirement P15.3).

use e2e::{Backend, Client, FS_CONFIG, Received, Reply, StopOnDrop, Switchyard, eventually};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const BACKENDS: usize = 20;
const CLIENTS: usize = 8;
/// Each client asks so often.
const EVERY: Duration = Duration::from_millis(8);
/// Load ends at the latest then.
const LIMIT: Duration = Duration::from_secs(300);

/// Clients that ask at a constant rate on kept connections until told to stop.
struct Load<'a> {
    switchyard: &'a Switchyard,
    method: &'static str,
    stop: AtomicBool,
    answered: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl<'a> Load<'a> {
    fn new(switchyard: &'a Switchyard, method: &'static str) -> Load<'a> {
        let (stop, answered, failures) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(Vec::new()));
        Load { switchyard, method, stop, answered, failures }
    }

    fn run(&self) {
        let started = Instant::now();
        let mut client = Client::connect(self.switchyard.addr(0));
        let mut due = Instant::now();
        while !self.stop.load(Ordering::Relaxed) && started.elapsed() < LIMIT {
            let body: &[u8] = if self.method == "POST" { b"a body" } else { b"" };
            match client.try_request(self.method, "web", "/", &[], body) {
                Ok(response) if response.status == 200 => _ = self.answered.fetch_add(1, Ordering::Relaxed),
                Ok(response) => self.failed(format!("{}: {}", response.status, response.text())),
                Err(error) => {
                    self.failed(format!("broken: {error}"));
                    client = Client::connect(self.switchyard.addr(0));
                }
            }
            due += EVERY;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }

    fn failed(&self, what: String) {
        self.failures.lock().expect("no client panicked").push(what);
    }

    /// Waits until so many more requests were answered.
    fn more(&self, n: usize) {
        let target = self.answered.load(Ordering::Relaxed) + n;
        eventually("requests are answered", Duration::from_secs(60), || {
            (self.answered.load(Ordering::Relaxed) >= target).then_some(())
        });
    }

    /// Runs the load beside `work`; what failed.
    fn beside(self, work: impl FnOnce(&Load)) -> Vec<String> {
        std::thread::scope(|scope| {
            (0..CLIENTS).for_each(|_| _ = scope.spawn(|| self.run()));
            let stop = StopOnDrop(&self.stop);
            work(&self);
            drop(stop);
        });
        self.failures.into_inner().expect("no client panicked")
    }
}

fn reply() -> Reply {
    Reply::text("done").after(Duration::from_millis(2))
}

fn backends() -> Vec<Backend> {
    (0..BACKENDS).map(|_| Backend::with(|_| reply())).collect()
}

fn addresses(backends: &[Backend]) -> Vec<SocketAddr> {
    backends.iter().map(Backend::addr).collect()
}

/// True when the router knows exactly these addresses.
fn knows(switchyard: &Switchyard, wanted: &[SocketAddr]) -> bool {
    let text = switchyard.page("/client_state.json").text();
    wanted.iter().all(|addr| text.contains(&addr.to_string())) && text.matches("127.0.0.1:").count() == wanted.len()
}

fn none_failed(failures: &[String]) {
    assert!(failures.is_empty(), "{} failed, the first: {}", failures.len(), failures[0]);
}

/// Discovery is told first, then the backend finishes: not even a POST is lost.
#[test]
fn p15_3_a_rolling_restart_by_discovery() {
    let switchyard = Switchyard::start(FS_CONFIG);
    let mut backends = backends();
    switchyard.disco().set("web", &addresses(&backends));
    let failures = Load::new(&switchyard, "POST").beside(|load| {
        load.more(200);
        for _ in 0..BACKENDS {
            let old = backends.remove(0);
            switchyard.disco().set("web", &addresses(&backends));
            eventually("it has left", Duration::from_secs(60), || {
                knows(&switchyard, &addresses(&backends)).then_some(())
            });
            old.retire();
            backends.push(Backend::with(|_| reply()));
            switchyard.disco().set("web", &addresses(&backends));
            load.more(10);
        }
        eventually("the new ones serve", Duration::from_secs(60), || {
            backends.iter().all(|backend| backend.count() > 0).then_some(())
        });
    });
    none_failed(&failures);
}

/// Nobody tells discovery: each backend closes its connections and comes back on its address.
#[test]
fn p15_3_a_rolling_restart_by_graceful_close() {
    let switchyard = Switchyard::start(FS_CONFIG);
    let mut backends = backends();
    switchyard.disco().set("web", &addresses(&backends));
    let failures = Load::new(&switchyard, "GET").beside(|load| {
        load.more(200);
        for _ in 0..BACKENDS {
            let old = backends.remove(0);
            old.retire();
            load.more(10);
            backends.push(Backend::at(old.addr(), |_| reply()));
        }
        eventually("the new ones serve", Duration::from_secs(60), || {
            backends.iter().all(|backend| backend.count() > 0).then_some(())
        });
    });
    none_failed(&failures);
}

/// A killed backend takes the requests on its wire with it, and only those that must not be sent twice.
#[test]
fn p15_3_a_killed_backend_loses_at_most_what_was_on_its_wire() {
    for (method, keys, may_fail) in [
        ("GET", "originator: false", 0),
        ("POST", "originator: false", CLIENTS),
        ("POST", "service: { responseClassifier: { kind: io.l5d.http.retryableAll5XX } }", 0),
    ] {
        let switchyard = Switchyard::start(&FS_CONFIG.replace("  dtab: |", &format!("  {keys}\n  dtab: |")));
        // Slow enough that a request which has just come is on the wire still.
        let slow = |_: &Received| Reply::text("done").after(Duration::from_millis(200));
        let backends: Vec<Backend> = (0..3).map(|_| Backend::with(slow)).collect();
        switchyard.disco().set("web", &addresses(&backends));
        let failures = Load::new(&switchyard, method).beside(|load| {
            load.more(50);
            let before = backends[0].count();
            eventually("it has a request", Duration::from_secs(60), || (backends[0].count() > before).then_some(()));
            backends[0].kill();
            load.more(100);
        });
        assert!(failures.len() <= may_fail, "{method}, {keys}: {} failed, the first: {}", failures.len(), failures[0]);
        // The story is about requests that were lost: at least one was.
        assert!(may_fail == 0 || !failures.is_empty(), "nothing was on the wire");
        assert!(failures.iter().all(|failure| failure.starts_with("502")), "{failures:?}");
    }
}
