//! As an operator, I lose one of two replicas in the middle of the traffic: no request fails, and when the replica is
//! back on its address it gets its share again. When its process is killed, only what was on its wire can fail, and of
//! that nothing that may be sent again.

use e2e::{Backend, Client, FS_CONFIG, Reply, StopOnDrop, Switchyard, eventually};
use std::io::BufRead;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const CLIENTS: usize = 8;
/// Load ends at the latest then.
const LIMIT: Duration = Duration::from_secs(300);

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
        eventually("requests are answered", Duration::from_secs(60), || {
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
        eventually("the replica gets requests again", Duration::from_secs(60), || (back.count() > 20).then_some(()));
        load.more(200);
        drop(stop);
    });
    let failures = load.failures.into_inner().expect("no client panicked");
    assert!(failures.is_empty(), "{} failed, the first: {}", failures.len(), failures[0]);
    let metric = |name: &str| switchyard.metric(&format!("rt/http/client/#/io.l5d.fs/web/{name}")).unwrap_or(0.0);
    assert!(metric("retries/requeues") >= 1.0);
    assert_eq!(switchyard.metric("rt/http/service/svc/web/failures").unwrap_or(0.0), 0.0);
}

/// A service in a process of its own.
struct Process {
    child: Child,
    addr: SocketAddr,
}

impl Process {
    /// None, with a notice, where there is no Python.
    fn start() -> Option<Process> {
        // Each answer takes long enough that any kill hits some.
        const SCRIPT: &str = "
import socket, threading, time
def serve(connection):
    reader = connection.makefile('rb')
    while reader.readline():
        length = 0
        for line in iter(reader.readline, b'\\r\\n'):
            if line.lower().startswith(b'content-length:'):
                length = int(line.split(b':')[1])
        reader.read(length)
        time.sleep(0.2)
        body = b'replica of python'
        connection.sendall(b'HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n' % len(body) + body)
listener = socket.create_server(('127.0.0.1', 0), backlog=128)
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
";
        let spawned = Command::new("python3").args(["-c", SCRIPT]).stdout(Stdio::piped()).spawn();
        let Ok(mut child) = spawned else {
            println!("NOTICE: no python3: no process is killed");
            return None;
        };
        let mut line = String::new();
        let out = child.stdout.take().expect("its output");
        std::io::BufReader::new(out).read_line(&mut line).expect("its port");
        let addr = SocketAddr::from(([127, 0, 0, 1], line.trim().parse().expect("a port")));
        Some(Process { child, addr })
    }

    /// SIGKILL: nothing is closed in order, and the kernel resets what is open.
    fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kill -9 of a process: at most the requests on its wire fail, and none of those that may be sent again.
#[test]
fn of_a_killed_process_only_what_was_on_its_wire_fails() {
    let (Some(a), Some(mut b)) = (Process::start(), Process::start()) else { return };
    let switchyard = Switchyard::start(FS_CONFIG);
    switchyard.disco().set("web", &[a.addr, b.addr]);
    let load = || Load {
        switchyard: &switchyard,
        stop: AtomicBool::new(false),
        answered: AtomicUsize::new(0),
        failures: Mutex::new(Vec::new()),
    };
    let (gets, posts) = (load(), load());
    std::thread::scope(|scope| {
        (0..CLIENTS).for_each(|_| _ = scope.spawn(|| gets.run("GET")));
        (0..CLIENTS).for_each(|_| _ = scope.spawn(|| posts.run("POST")));
        let stops = [StopOnDrop(&gets.stop), StopOnDrop(&posts.stop)];
        gets.more(40);
        posts.more(40);
        b.kill();
        gets.more(80);
        posts.more(80);
        drop(stops);
    });
    let failures = gets.failures.into_inner().expect("no client panicked");
    assert!(failures.is_empty(), "{} GETs failed, the first: {}", failures.len(), failures[0]);
    let failures = posts.failures.into_inner().expect("no client panicked");
    assert!((1..=CLIENTS).contains(&failures.len()), "one POST per client was on a wire: {failures:?}");
    assert!(failures.iter().all(|failure| failure.starts_with("502")), "{failures:?}");
    let requeues = switchyard.metric("rt/http/client/#/io.l5d.fs/web/retries/requeues");
    assert!(requeues >= Some(1.0), "{requeues:?}");
}
