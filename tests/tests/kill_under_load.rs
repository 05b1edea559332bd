//! As an operator, I lose one of two replicas in the middle of the traffic: no request fails, and when the replica is
//! back on its address it gets its share again.

use e2e::{Backend, Client, FS_CONFIG, Reply, Switchyard, eventually};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const CLIENTS: usize = 8;
/// Load ends at the latest then.
const LIMIT: Duration = Duration::from_secs(20);

/// Clients that ask on kept connections until told to stop.
struct Load<'a> {
    switchyard: &'a Switchyard,
    stop: AtomicBool,
    answered: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Load<'_> {
    fn run(&self, method: &str) {
        let started = Instant::now();
        let mut client = Client::connect(self.switchyard.addr(0));
        while !self.stop.load(Ordering::Relaxed) && started.elapsed() < LIMIT {
            match client.try_request(method, "web", "/", &[], b"") {
                Ok(response) if response.status == 200 && response.text().starts_with("replica ") => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                }
                Ok(response) => self.failed(format!("{}: {}", response.status, response.text())),
                Err(error) => {
                    self.failed(format!("broken: {error}"));
                    client = Client::connect(self.switchyard.addr(0));
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn failed(&self, what: String) {
        self.failures.lock().expect("no client panicked").push(what);
    }

    /// Waits until so many more requests were answered.
    fn more(&self, n: usize) {
        let target = self.answered.load(Ordering::Relaxed) + n;
        eventually("requests are answered", Duration::from_secs(10), || {
            (self.answered.load(Ordering::Relaxed) >= target).then_some(())
        });
    }
}

/// Answers after a moment, so that a kill hits requests in flight.
fn replica(name: &'static str) -> impl Fn(&e2e::Received) -> Reply + Send + Sync + 'static {
    move |_| Reply::text(format!("replica {name}")).after(Duration::from_millis(2))
}

#[test]
fn no_request_fails_and_the_replica_comes_back() {
    let switchyard = Switchyard::start(FS_CONFIG);
    let (a, b) = (Backend::with(replica("a")), Backend::with(replica("b")));
    switchyard.disco().set("web", &[a.addr(), b.addr()]);
    let load = Load {
        switchyard: &switchyard,
        stop: AtomicBool::new(false),
        answered: AtomicUsize::new(0),
        failures: Mutex::new(Vec::new()),
    };
    std::thread::scope(|scope| {
        (0..CLIENTS).for_each(|_| _ = scope.spawn(|| load.run("GET")));
        let stop = StopOnDrop(&load.stop);
        load.more(500);
        assert!(a.count() > 0 && b.count() > 0, "both get requests");
        b.kill();
        load.more(500);
        let back = Backend::at(b.addr(), replica("b again"));
        eventually("the replica gets requests again", Duration::from_secs(10), || (back.count() > 20).then_some(()));
        load.more(200);
        drop(stop);
    });
    let failures = load.failures.into_inner().expect("no client panicked");
    assert!(failures.is_empty(), "{} failed, the first: {}", failures.len(), failures[0]);
    let metric = |name: &str| switchyard.metric(&format!("rt/http/client/#/io.l5d.fs/web/{name}")).unwrap_or(0.0);
    assert!(metric("retries/requeues") >= 1.0);
    assert_eq!(switchyard.metric("rt/http/service/svc/web/failures").unwrap_or(0.0), 0.0);
}

/// Ends the load also when an assertion fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
