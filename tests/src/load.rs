//! Requests at a steady pace on kept connections, while a story changes things behind them.

use crate::{Client, StopOnDrop, eventually};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const CLIENTS: usize = 4;
/// Between two requests of one client.
const PACE: Duration = Duration::from_millis(2);
/// Load ends at the latest then.
const LIMIT: Duration = Duration::from_secs(300);

/// See the module.
#[derive(Default)]
pub struct Load {
    stop: AtomicBool,
    answered: AtomicUsize,
    /// Answers of status 200 by their text.
    texts: Mutex<BTreeMap<String, usize>>,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Runs `story` while clients ask for `host` at `addr`; what they saw.
    pub fn during(addr: SocketAddr, host: &str, story: impl FnOnce(&Load)) -> Load {
        let load = Load::default();
        std::thread::scope(|scope| {
            (0..CLIENTS).for_each(|_| _ = scope.spawn(|| load.ask(addr, host)));
            let _stop = StopOnDrop(&load.stop);
            load.more(50);
            story(&load);
        });
        load
    }

    fn ask(&self, addr: SocketAddr, host: &str) {
        let started = Instant::now();
        let mut client = Client::connect(addr);
        while !self.stop.load(Ordering::Relaxed) && started.elapsed() < LIMIT {
            match client.try_get(host, "/") {
                Ok(response) if response.status == 200 => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    *self.texts.lock().expect("no client panicked").entry(response.text()).or_default() += 1;
                }
                Ok(response) => self.failed(format!("{}: {}", response.status, response.text())),
                Err(error) => {
                    self.failed(format!("broken: {error}"));
                    client = Client::connect(addr);
                }
            }
            std::thread::sleep(PACE);
        }
    }

    fn failed(&self, what: String) {
        self.failures.lock().expect("no client panicked").push(what);
    }

    /// Waits until so many more requests were answered.
    pub fn more(&self, n: usize) {
        let target = self.answered.load(Ordering::Relaxed) + n;
        eventually("requests are answered", Duration::from_secs(60), || {
            (self.answered.load(Ordering::Relaxed) >= target).then_some(())
        });
    }

    /// Answers with each text while so many more requests are answered.
    pub fn next(&self, n: usize) -> BTreeMap<String, usize> {
        let before = self.texts.lock().expect("no client panicked").clone();
        self.more(n);
        let after = self.texts.lock().expect("no client panicked").clone();
        after.into_iter().map(|(text, count)| (text.clone(), count - before.get(&text).unwrap_or(&0))).collect()
    }

    /// What went wrong; a story asserts that it is nothing.
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().expect("no client panicked").clone()
    }
}
