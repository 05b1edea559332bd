//! One running namerd, which can be killed and started again on its ports and its data.

use crate::process::binary;
use crate::wait::{eventually, note_log, tail};
use crate::{Client, Response, free_ports};
use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// A durable store in `@DATA@`, all three interfaces, names from files in `@DISCO@`.
pub const NAMERD_CONFIG: &str = "\
admin: { port: @ADMIN@ }
storage: { kind: io.switchyard.local, path: @DATA@ }
namers:
- { kind: io.l5d.fs, rootDir: @DISCO@ }
interfaces:
- { kind: io.l5d.httpController, port: @HTTP@ }
- { kind: io.l5d.mesh, port: @MESH@ }
- { kind: io.l5d.thriftNameInterpreter, port: @THRIFT@ }
";

/// To start, and to end; a machine may be busy with other things.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Where a namerd listens.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The address of all its listeners.
    pub ip: Ipv4Addr,
    /// The ports: of HTTP, mesh, thrift and the admin server.
    pub ports: [u16; 4],
}

impl Place {
    /// Free ports of 127.0.0.1.
    pub fn free() -> Place {
        Place { ip: Ipv4Addr::LOCALHOST, ports: free_ports(4).try_into().expect("four ports") }
    }

    /// The same ports of another address.
    pub fn at(self, ip: [u8; 4]) -> Place {
        Place { ip: ip.into(), ..self }
    }

    /// The port that an interpreter of this kind asks.
    pub fn port(&self, interpreter: &str) -> u16 {
        let [http, mesh, thrift, _] = self.ports;
        match interpreter {
            "io.l5d.mesh" => mesh,
            "io.l5d.namerd" => thrift,
            _ => http,
        }
    }
}

/// A command that starts the binary, for what needs no running namerd.
pub fn namerd_command() -> Command {
    Command::new(binary("namerd"))
}

/// See the module. Dropping it kills the process.
pub struct Namerd {
    child: Option<Child>,
    args: Vec<String>,
    folder: TempDir,
    log: PathBuf,
    config: PathBuf,
    place: Place,
}

impl Namerd {
    /// Starts a namerd with this config and waits until it is ready. `@ADMIN@`, `@HTTP@`, `@MESH@` and `@THRIFT@` stand for
    /// free ports, `@DATA@` for a folder of its own, `@DISCO@` for `disco`, which may be that of a router.
    pub fn start(yaml: &str, disco: &Path) -> Namerd {
        Namerd::start_with(yaml, disco, &["--log-level", "DEBUG"])
    }

    /// The same with these arguments after the config.
    pub fn start_with(yaml: &str, disco: &Path, args: &[&str]) -> Namerd {
        let mut namerd = Namerd::prepare(Place::free(), yaml, disco);
        namerd.args = args.iter().map(|&arg| arg.to_owned()).collect();
        namerd.run();
        namerd
    }

    /// As [`Namerd::start`], with the ports of `place`; `@IP@` stands for its address.
    pub fn start_at(place: Place, yaml: &str, disco: &Path) -> Namerd {
        let mut namerd = Namerd::prepare(place, yaml, disco);
        namerd.run();
        namerd
    }

    /// As [`Namerd::start_at`], but nothing runs yet.
    pub fn prepare(place: Place, yaml: &str, disco: &Path) -> Namerd {
        let folder = tempfile::Builder::new().prefix("namerd-").tempdir().expect("a temporary folder");
        let mut text = yaml.replace("@DISCO@", &disco.display().to_string()).replace("@IP@", &place.ip.to_string());
        text = text.replace("@DATA@", &folder.path().join("data").display().to_string());
        for (name, port) in ["@HTTP@", "@MESH@", "@THRIFT@", "@ADMIN@"].into_iter().zip(place.ports) {
            text = text.replace(name, &port.to_string());
        }
        let (config, log) = (folder.path().join("namerd.yaml"), folder.path().join("log"));
        std::fs::write(&config, text).expect("the config can be written");
        note_log(&log);
        let args = ["--log-level", "DEBUG"].map(str::to_owned).to_vec();
        Namerd { child: None, args, folder, log, config, place }
    }

    /// Starts it, again on the same ports and data, and waits until it is ready.
    pub fn run(&mut self) {
        self.spawn();
        eventually("namerd is ready", READY_WITHIN, || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "namerd has ended: {ended:?}\n{}", tail(&self.log));
            self.is_ready().then_some(())
        });
    }

    /// Starts it, ready or not.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = File::options().create(true).append(true).open(&self.log).expect("the log can be made");
        let mut command = Command::new(binary("namerd"));
        command.arg(&self.config).args(&self.args);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("it starts");
        self.child = Some(child);
    }

    /// Whether it says that it is ready.
    pub fn is_ready(&self) -> bool {
        let page = Client::try_connect(self.admin()).and_then(|mut client| client.try_get("localhost", "/admin/ready"));
        page.is_ok_and(|page| page.status == 200)
    }

    /// Stops the process where it is, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        self.signal(if frozen { "STOP" } else { "CONT" });
    }

    fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("a running process").id();
        let told = Command::new("kill").args([&format!("-{name}"), &id.to_string()]).status();
        assert!(told.is_ok_and(|status| status.success()), "the process can be signalled");
    }

    /// Ends it as `kill -9` does, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to end, and waits until it has; true when it ended well.
    pub fn terminate(&mut self) -> bool {
        if self.child.is_none() {
            return false;
        }
        self.signal("TERM");
        self.ends()
    }

    /// Waits until it has ended by itself; true when it ended well.
    pub fn ends(&mut self) -> bool {
        let Some(mut child) = self.child.take() else { return false };
        eventually("namerd ends", READY_WITHIN, || child.try_wait().ok().flatten()).success()
    }

    /// The address of the HTTP interface.
    pub fn http(&self) -> SocketAddr {
        SocketAddr::from((self.place.ip, self.place.ports[0]))
    }

    /// The address of the admin server.
    pub fn admin(&self) -> SocketAddr {
        SocketAddr::from((self.place.ip, self.place.ports[3]))
    }

    /// Where it listens.
    pub fn place(&self) -> Place {
        self.place
    }

    /// An interpreter of this namerd for the config of a router; `kind` as configs have it.
    pub fn interpreter(&self, kind: &str) -> String {
        format!("{{ kind: {kind}, dst: /$/inet/{}/{} }}", self.place.ip, self.place.port(kind))
    }

    /// A folder that lives as long as this.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `GET` of an admin page.
    pub fn page(&self, path: &str) -> Response {
        Client::connect(self.admin()).get("localhost", path)
    }

    /// A metric of `/admin/metrics.json`.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.page("/admin/metrics.json").json()[name].as_f64()
    }

    /// All that it wrote to stderr.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Resident memory in KiB; 0 where the system does not tell.
    pub fn rss_kib(&self) -> u64 {
        let id = self.child.as_ref().map_or(0, Child::id);
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Runs `namerctl` on it, with this on stdin.
    pub fn namerctl(&self, args: &[&str], stdin: &str) -> Output {
        let mut command = Command::new(binary("namerctl"));
        command.args(args).env("NAMERCTL_BASE_URL", format!("http://{}", self.http())).env_remove("http_proxy");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("namerctl starts");
        // Who reads no stdin closes it.
        let _ = child.stdin.take().expect("a pipe").write_all(stdin.as_bytes());
        child.wait_with_output().expect("namerctl ends")
    }

    /// Runs `namerctl`, which must succeed; what it printed.
    pub fn ctl(&self, args: &[&str], stdin: &str) -> String {
        let output = self.namerctl(args, stdin);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "namerctl {args:?}: {}\n{}{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }
}

impl Drop for Namerd {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the end of namerd's log ---\n{}", tail(&self.log));
        }
    }
}
