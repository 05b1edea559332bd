//! Real etcd, ZooKeeper and Consul, started on free ports of loopback with their data in a folder of their own.

use crate::help::{LIMIT, http};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A port that nobody has, below those that the system gives to outgoing connections, and those of the stories of routers:
/// it stays free while a server is away.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    loop {
        let port = 10_000 + first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        let port = u16::try_from(port).expect("a port");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// A server process; killed on drop.
pub(crate) struct Server {
    pub(crate) port: u16,
    command: Box<dyn Fn() -> Command + Send + Sync>,
    ready: fn(u16) -> bool,
    child: Option<Child>,
    _folder: TempDir,
}

impl Server {
    /// Starts it, again with the same data after [`Server::kill`].
    pub(crate) fn start(&mut self) {
        let mut command = (self.command)();
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start a server");
        let child = self.child.insert(child);
        let end = Instant::now() + LIMIT;
        while !(self.ready)(self.port) {
            assert_eq!(child.try_wait().expect("a server"), None, "the server has ended: {command:?}");
            assert!(Instant::now() < end, "the server is not ready within {LIMIT:?}: {command:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sessions that a ZooKeeper has.
    pub(crate) fn sessions(&self) -> usize {
        let dump = four_letters(self.port, "dump").unwrap_or_default();
        let sessions = dump.split_once("Sessions with Ephemerals").map_or("", |(sessions, _)| sessions);
        sessions.matches("\t0x").count()
    }

    /// Stops the process where it is, or lets it go on.
    pub(crate) fn freeze(&self, frozen: bool) {
        let child = self.child.as_ref().expect("a running server");
        let signal = if frozen { "-STOP" } else { "-CONT" };
        let sent = Command::new("kill").arg(signal).arg(child.id().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()));
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill a server");
            child.wait().expect("the end of a server");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn notice(test: &str, what: &str) {
    println!("NOTICE: {test} is not run: {what} is not installed");
}

fn in_path(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// etcd, with its API 2 or without; None, with a notice, when it is not installed.
pub(crate) fn etcd(test: &str, v2: bool) -> Option<Server> {
    let Some(binary) = in_path("etcd") else {
        notice(test, "etcd");
        return None;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (port, peers) = (free_port(), free_port());
    let data = folder.path().join("data");
    let command = move || {
        let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peers}"));
        let mut command = Command::new(&binary);
        command.arg("--data-dir").arg(&data).args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.arg("--initial-cluster").arg(format!("default={peer}")).arg(format!("--enable-v2={v2}"));
        command
    };
    let ready = |port| matches!(http(port, "GET", "/health", "", ""), Ok((200, body)) if body.contains("true"));
    let mut server = Server { port, command: Box::new(command), ready, child: None, _folder: folder };
    server.start();
    Some(server)
}

/// ZooKeeper; None, with a notice, when it is not installed.
pub(crate) fn zookeeper(test: &str) -> Option<Server> {
    let jar = Path::new("/usr/share/java/zookeeper.jar");
    let Some(java) = in_path("java").filter(|_| jar.is_file()) else {
        notice(test, "ZooKeeper");
        return None;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let port = free_port();
    let config = folder.path().join("zoo.cfg");
    let text = format!(
        "dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n4lw.commands.whitelist=*\n\
         tickTime=500\nmaxClientCnxns=0\n",
        folder.path().join("data").display()
    );
    std::fs::write(&config, text).expect("write zoo.cfg");
    let command = move || {
        let mut command = Command::new(&java);
        command.args(["-Xmx128m", "-cp", "/etc/zookeeper/conf:/usr/share/java/zookeeper.jar:/usr/share/java/*"]);
        command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(&config);
        command
    };
    let ready = |port| four_letters(port, "srvr").is_ok_and(|answer| answer.contains("Mode:"));
    let mut server = Server { port, command: Box::new(command), ready, child: None, _folder: folder };
    server.start();
    Some(server)
}

/// Consul, one agent that is a server too; None, with a notice, when it is not installed. Its data is in memory.
pub(crate) fn consul(test: &str) -> Option<Server> {
    let Some(binary) = in_path("consul") else {
        notice(test, "Consul");
        return None;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (port, server, lan) = (free_port(), free_port(), free_port());
    let command = move || {
        let mut command = Command::new(&binary);
        command.args(["agent", "-dev", "-node=test", "-bind=127.0.0.1", "-client=127.0.0.1", "-disable-host-node-id"]);
        command.args(["-dns-port=-1", "-grpc-port=-1", "-grpc-tls-port=-1", "-serf-wan-port=-1"]);
        command.arg(format!("-http-port={port}")).arg(format!("-server-port={server}"));
        command.arg(format!("-serf-lan-port={lan}")).args(["-hcl", "disable_update_check = true"]);
        command
    };
    let ready = |port| matches!(http(port, "GET", "/v1/status/leader", "", ""), Ok((200, body)) if body.contains(':'));
    let mut server = Server { port, command: Box::new(command), ready, child: None, _folder: folder };
    server.start();
    Some(server)
}

fn four_letters(port: u16, word: &str) -> std::io::Result<String> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    // A server that is just starting may take the connection and never answer.
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.write_all(word.as_bytes())?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}
