//! One running process of the real binary.

use crate::wait::{eventually, note_log, tail};
use crate::{Client, Disco, Response, free_ports};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Admin on `@ADMIN@`, `io.l5d.fs` on `@DISCO@`, one http router `http` on `@P0@`: every file is a service.
pub const FS_CONFIG: &str = r#"
admin: { port: @ADMIN@ }
namers:
- kind: io.l5d.fs
  rootDir: @DISCO@
routers:
- protocol: http
  label: http
  servers: [{ port: @P0@ }]
  dtab: |
    /svc => /#/io.l5d.fs ;
"#;

/// A machine may be busy with other things.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// What a request has done to metrics is there at once, or soon on a busy machine.
const COUNTED_WITHIN: Duration = Duration::from_secs(30);
/// Memory, and what each worker has for itself, must not depend on the machine.
const WORKERS: &str = "2";
/// Whether this process may have as many descriptors as the system lets it.
static RAISED: Once = Once::new();
/// Ports a config can name: `@P0@` to `@P9@`.
const PORTS: usize = 10;
/// A port that was free can be taken again before the process listens: then others are tried.
const ATTEMPTS: usize = 3;

/// See the module. Dropping it kills the process.
pub struct Switchyard {
    child: Child,
    folder: TempDir,
    disco: Disco,
    log: PathBuf,
    admin: u16,
    ports: Vec<u16>,
}

/// A binary of the workspace.
pub(crate) fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its own path");
    let folder = test.parent().and_then(std::path::Path::parent).expect("tests run from target/<profile>/deps");
    let path = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "{} is missing: build the workspace first", path.display());
    path
}

/// The text of a config with the ports and the folder of one process.
fn filled(yaml: &str, disco: &Disco, admin: u16, ports: &[u16]) -> String {
    let mut text = yaml.replace("@ADMIN@", &admin.to_string());
    text = text.replace("@DISCO@", &disco.path().display().to_string());
    for (i, port) in ports.iter().enumerate() {
        text = text.replace(&format!("@P{i}@"), &port.to_string());
    }
    text
}

impl Switchyard {
    /// Starts the router with this config and waits until it is ready.
    ///
    /// `@ADMIN@` and `@P0@` to `@P9@` stand for free ports, `@DISCO@` for the discovery folder.
    pub fn start(yaml: &str) -> Switchyard {
        Switchyard::start_with(yaml, &[])
    }

    /// As [`Switchyard::start`], with more arguments. Without `--workers` among them it has two.
    pub fn start_with(yaml: &str, args: &[&str]) -> Switchyard {
        Switchyard::start_in(yaml, args, &[])
    }

    /// As [`Switchyard::start_with`], with these variables in the environment.
    pub fn start_in(yaml: &str, args: &[&str], env: &[(&str, &str)]) -> Switchyard {
        let ready = |mut client: Client| client.try_get("localhost", "/admin/ready");
        let plain = |admin| Client::try_connect(admin).and_then(ready).is_ok_and(|response| response.status == 200);
        Switchyard::start_when(yaml, (args, env), plain)
    }

    /// As [`Switchyard::start_in`], ready when `is_ready` says so of its admin server.
    pub fn start_when(
        yaml: &str,
        (args, env): (&[&str], &[(&str, &str)]),
        is_ready: impl Fn(SocketAddr) -> bool,
    ) -> Switchyard {
        for attempt in 1.. {
            let mut started = Switchyard::spawn(yaml, args, env);
            match started.until_ready(&is_ready) {
                Ok(()) => note_log(&started.log),
                Err(what) if attempt < ATTEMPTS && what.contains("cannot listen on") => continue,
                Err(what) => panic!("the router does not start: {what}"),
            }
            return started;
        }
        unreachable!("the loop returns or panics")
    }

    fn spawn(yaml: &str, args: &[&str], env: &[(&str, &str)]) -> Switchyard {
        // Stories have thousands of connections.
        RAISED.call_once(setup::descriptors::raise);
        let folder = tempfile::Builder::new().prefix("switchyard-").tempdir().expect("a temporary folder");
        let disco = Disco::new(folder.path());
        let mut ports = free_ports(PORTS + 1);
        let admin = ports.pop().expect("one more port");
        let text = filled(yaml, &disco, admin, &ports);
        let (config, log) = (folder.path().join("linkerd.yaml"), folder.path().join("log"));
        std::fs::write(&config, text).expect("the config can be written");
        let stderr = File::create(&log).expect("the log can be made");
        let mut command = Command::new(binary("switchyard"));
        command.arg(&config).args(["--log-level", "DEBUG"]).args(args).envs(env.iter().copied());
        if !args.contains(&"--workers") {
            command.args(["--workers", WORKERS]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().expect("it starts");
        Switchyard { child, folder, disco, log, admin, ports }
    }

    fn until_ready(&mut self, is_ready: impl Fn(SocketAddr) -> bool) -> Result<(), String> {
        let started = Instant::now();
        while started.elapsed() < READY_WITHIN {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("{status}\n{}", self.log()));
            }
            if is_ready(self.admin()) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(format!("not ready within {READY_WITHIN:?}\n{}", self.log()))
    }

    /// The port that `@P<n>@` stands for.
    pub fn port(&self, n: usize) -> u16 {
        self.ports[n]
    }

    /// The loopback address with the port that `@P<n>@` stands for.
    pub fn addr(&self, n: usize) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[n]))
    }

    /// The address of the admin server.
    pub fn admin(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.admin))
    }

    /// The discovery folder.
    pub fn disco(&self) -> &Disco {
        &self.disco
    }

    /// The temporary folder of this process; it is removed with it.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// All that the process wrote to stderr.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in KiB; 0 where the system does not tell.
    pub fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Memory in huge pages in KiB; 0 where the system does not tell.
    pub fn huge_pages_kib(&self) -> u64 {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid())).unwrap_or_default();
        let line = rollup.lines().find_map(|line| line.strip_prefix("AnonHugePages:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// `GET` of an admin page.
    pub fn page(&self, path: &str) -> Response {
        Client::connect(self.admin()).get("localhost", path)
    }

    /// A metric of `/admin/metrics.json`.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.page("/admin/metrics.json").json()[name].as_f64()
    }

    /// Waits until a metric has this value.
    pub fn await_metric(&self, name: &str, wanted: f64) {
        let mut last = None;
        let limit = COUNTED_WITHIN;
        let started = Instant::now();
        while last != Some(wanted) {
            assert!(started.elapsed() < limit, "{name} is {last:?} and not {wanted}\n{}", tail(&self.log));
            last = self.metric(name);
        }
    }

    /// Sends SIGTERM.
    pub fn signal_term(&self) {
        self.signal("TERM");
    }

    /// Sends the signal of this name, such as `HUP`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "the process can be signalled");
    }

    /// Writes another config into the file of the process; placeholders as at the start.
    pub fn set_config(&self, yaml: &str) {
        let text = filled(yaml, &self.disco, self.admin, &self.ports);
        let (new, file) = (self.folder.path().join("new.yaml"), self.folder.path().join("linkerd.yaml"));
        std::fs::write(&new, text).expect("the config can be written");
        std::fs::rename(&new, &file).expect("the config can be renamed");
    }

    /// The value of a series without labels, or with exactly these, on the page for Prometheus.
    pub fn series(&self, name: &str) -> Option<f64> {
        let text = self.page("/admin/metrics/prometheus").text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse().ok())
    }

    /// True while the process runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until the process has ended.
    pub fn wait_exit(mut self, limit: Duration) -> ExitStatus {
        eventually("the process ends", limit, || self.child.try_wait().ok().flatten())
    }
}

impl Drop for Switchyard {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the end of the router's log ---\n{}", tail(&self.log));
        }
    }
}
