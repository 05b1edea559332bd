//! One running namerd, which can be killed and started again on its ports and its data.

use crate::process::{binary, free_ports};
use crate::wait::{eventually, note_log, tail};
use crate::{Client, Response};
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

const READY_WITHIN: Duration = Duration::from_secs(10);

/// See the module. Dropping it kills the process.
pub struct Namerd {
    child: Option<Child>,
    args: Vec<String>,
    folder: TempDir,
    log: PathBuf,
    config: PathBuf,
    http: u16,
    mesh: u16,
    thrift: u16,
    admin: u16,
}

impl Namerd {
    /// Starts a namerd with this config and waits until it is ready. `@ADMIN@`, `@HTTP@`, `@MESH@` and `@THRIFT@` stand for
    /// free ports, `@DATA@` for a folder of its own, `@DISCO@` for `disco`, which may be that of a router.
    pub fn start(yaml: &str, disco: &Path) -> Namerd {
        Namerd::start_with(yaml, disco, &["--log-level", "DEBUG"])
    }

    /// The same with these arguments after the config.
    pub fn start_with(yaml: &str, disco: &Path, args: &[&str]) -> Namerd {
        let folder = tempfile::Builder::new().prefix("namerd-").tempdir().expect("a temporary folder");
        let ports = free_ports(4);
        let (http, mesh, thrift, admin) = (ports[0], ports[1], ports[2], ports[3]);
        let mut text = yaml.replace("@DISCO@", &disco.display().to_string());
        text = text.replace("@DATA@", &folder.path().join("data").display().to_string());
        for (name, port) in [("@HTTP@", http), ("@MESH@", mesh), ("@THRIFT@", thrift), ("@ADMIN@", admin)] {
            text = text.replace(name, &port.to_string());
        }
        let (config, log) = (folder.path().join("namerd.yaml"), folder.path().join("log"));
        std::fs::write(&config, text).expect("the config can be written");
        note_log(&log);
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        let mut namerd = Namerd { child: None, args, folder, log, config, http, mesh, thrift, admin };
        namerd.run();
        namerd
    }

    /// Starts it again, on the same ports and data.
    pub fn run(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = File::options().create(true).append(true).open(&self.log).expect("the log can be made");
        let mut command = Command::new(binary("namerd"));
        command.arg(&self.config).args(&self.args);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("it starts");
        let admin = self.admin();
        eventually("namerd is ready", READY_WITHIN, || {
            let ended = child.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "namerd has ended: {ended:?}\n{}", tail(&self.log));
            let page = Client::try_connect(admin).and_then(|mut c| c.try_get("localhost", "/admin/ready")).ok()?;
            (page.status == 200).then_some(())
        });
        self.child = Some(child);
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
        let Some(child) = &self.child else { return false };
        let told = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        assert!(told.is_ok_and(|status| status.success()), "the process can be signalled");
        self.ends()
    }

    /// Waits until it has ended by itself; true when it ended well.
    pub fn ends(&mut self) -> bool {
        let Some(mut child) = self.child.take() else { return false };
        eventually("namerd ends", READY_WITHIN, || child.try_wait().ok().flatten()).success()
    }

    /// The address of the HTTP interface.
    pub fn http(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.http))
    }

    /// The address of the admin server.
    pub fn admin(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.admin))
    }

    /// An interpreter of this namerd for the config of a router; `kind` as configs have it.
    pub fn interpreter(&self, kind: &str) -> String {
        let port = match kind {
            "io.l5d.mesh" => self.mesh,
            "io.l5d.namerd" => self.thrift,
            _ => self.http,
        };
        format!("{{ kind: {kind}, dst: /$/inet/127.0.0.1/{port} }}")
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
