//! P9: as a newcomer, I start any file of `examples/` and try what its header says: the router starts, answers on each of
//! its listeners as the header promises, and ends when it is told to.
//!
//! The files are taken as they are, but for ports, which are free ones here, and for folders that something writes to.

mod curl;
mod namerd;

use curl::{Curl, Promise, https};
use e2e::{Authority, Backend, Client, Namerd, Pair, PairFiles, Response, Switchyard, eventually};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);
/// Ports of listeners; in a template, `@P0@` and so on.
const LISTENERS: [&str; 6] = ["4140", "4141", "4142", "4143", "4144", "4145"];
/// Who has a certificate: the file, and the names in it.
const CERTIFIED: [(&str, &[&str]); 3] = [
    ("localhost", &["localhost", "127.0.0.1", "::1"]),
    ("host-a", &["host-a.mesh.example"]),
    ("host-b", &["host-b.mesh.example"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

/// What the examples need beside themselves: the two services of `examples/README.md`, certificates, a folder to write to.
struct Lab {
    v1: Backend,
    v2: Backend,
    folder: TempDir,
}

impl Lab {
    fn new() -> Lab {
        std::env::set_current_dir(root()).expect("the root of the workspace");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::copy("examples/namerd/default.dtab", folder.path().join("default.dtab")).expect("a copy to edit");
        let authority = Authority::new("Example authority");
        authority.write(folder.path(), "ca");
        for (name, names) in CERTIFIED {
            let pair: Pair = authority.issue(names);
            pair.write(folder.path(), name);
        }
        Lab { v1: Backend::text("web v1\n"), v2: Backend::text("web v2\n"), folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A text of the examples, with the placeholders of [`Switchyard`] for ports.
    fn template(&self, text: &str) -> String {
        let folder = self.folder.path().display().to_string();
        let mut text = text.replace("examples/disco", "@DISCO@").replace("examples/tls/", &format!("{folder}/"));
        text = text.replace("/tmp/switchyard-state", &format!("{folder}/state"));
        text = text.replace("dtabFile: examples/namerd/", &format!("dtabFile: {folder}/"));
        text = text.replace("httpAccessLog: access.log", &format!("httpAccessLog: {folder}/access.log"));
        for (n, port) in LISTENERS.iter().enumerate() {
            text = text.replace(port, &format!("@P{n}@"));
        }
        text = text.replace("9990", "@ADMIN@").replace("9991", "@ADMIN@");
        for (port, backend) in [("8001", &self.v1), ("8002", &self.v2)] {
            text = text.replace(port, &backend.addr().port().to_string());
        }
        text
    }

    /// The template of an example, which has an admin server on a port of its own.
    fn config(&self, text: &str) -> String {
        let text = self.template(text);
        let text = if text.contains("\nadmin:") { text } else { format!("admin: {{ port: @ADMIN@ }}\n{text}") };
        let literal = text.lines().find(|line| {
            let port = line.split_once("port: ").map(|(_, port)| port.trim_start());
            !line.starts_with('#') && port.is_some_and(|port| port.starts_with(|c: char| c.is_ascii_digit()))
        });
        assert_eq!(literal, None, "examples use the ports {LISTENERS:?} and 9990");
        text
    }

    /// Starts an example, with the files of `examples/disco`.
    fn start(&self, example: &Path) -> Started {
        let text = std::fs::read_to_string(example).expect("an example");
        let namerd = namerd::asked_by(&text).then(|| self.namerd_with_dtab());
        let text = namerd.as_ref().map_or_else(|| text.clone(), |namerd| namerd::at(&text, namerd));
        let config = self.config(&text);
        let switchyard = Switchyard::start_in(&config, &[], &[("POD_IP", "127.0.0.1")]);
        for file in std::fs::read_dir("examples/disco").expect("the folder").flatten() {
            let addresses = std::fs::read_to_string(file.path()).expect("addresses");
            let addresses = filled(&self.template(&addresses), &switchyard);
            switchyard.disco().replace(&file.file_name().to_string_lossy(), &addresses);
        }
        let header = text.lines().take_while(|line| line.starts_with('#')).map(|line| &line[1..]).collect::<Vec<_>>();
        let commands = filled(&self.template(&header.join("\n")), &switchyard);
        Started { switchyard, namerd, commands, listeners: listeners(&config) }
    }
}

/// A running example.
struct Started {
    switchyard: Switchyard,
    /// The one that binds its names, if it needs one.
    namerd: Option<Namerd>,
    /// Its header.
    commands: String,
    listeners: Vec<Listener>,
}

/// One listener: the number of its port, and whether it speaks TLS.
#[derive(Debug, PartialEq)]
struct Listener(usize, bool);

/// A template with the ports of a process.
fn filled(template: &str, switchyard: &Switchyard) -> String {
    let mut text = template.replace("@ADMIN@", &switchyard.admin().port().to_string());
    text = text.replace("@DISCO@", &switchyard.disco().path().display().to_string());
    for n in 0..LISTENERS.len() {
        text = text.replace(&format!("@P{n}@"), &switchyard.port(n).to_string());
    }
    text
}

/// The listeners of a config: each begins with `- port: @P<n>@`.
fn listeners(config: &str) -> Vec<Listener> {
    let mut found: Vec<Listener> = Vec::new();
    for line in config.lines() {
        let line = line.trim_start();
        match line.strip_prefix("- port: @P").and_then(|rest| rest.split_once('@')) {
            Some((n, _)) => found.push(Listener(n.parse().expect("a number"), false)),
            // The clients of a router come after its servers.
            None if line.starts_with("client:") => break,
            None if line == "tls:" => {
                if let Some(last) = found.last_mut() {
                    last.1 = true;
                }
            }
            None => {}
        }
    }
    found
}

/// A response is one of a service or one that the router explains.
fn assert_well_formed(response: &Response, what: &str) {
    let explained = response.header("proxy-status").is_some_and(|status| status.contains("error="));
    assert!((200..300).contains(&response.status) || explained, "{what}: {response:?}");
}

impl Started {
    fn keeps_its_promises(&self, name: &str) -> usize {
        keep_promises(name, &self.commands, self.namerd.as_ref())
    }

    /// Sends a request through each listener.
    fn answers_everywhere(&self, lab: &Lab, name: &str) {
        assert!(!self.listeners.is_empty(), "{name} has no listener");
        for Listener(n, tls) in &self.listeners {
            let (addr, what) = (self.switchyard.addr(*n), format!("{name}, {}", LISTENERS[*n]));
            let response = if *tls {
                let own = PairFiles { cert: lab.file("host-a.pem"), key: lab.file("host-a.key") };
                let by = |name| https(addr, name, &lab.file("ca.pem"), Some(&own), ("web", "/web-v1/"));
                by("localhost").or_else(|_| by("host-b.mesh.example")).expect(&what)
            } else {
                Client::connect(addr).get("web", "/web-v1/")
            };
            assert_well_formed(&response, &what);
        }
    }

    /// Ends it, as a service manager does.
    fn ends(self, name: &str) {
        self.switchyard.signal_term();
        let status = self.switchyard.wait_exit(Duration::from_secs(15));
        assert_eq!(status.code(), Some(0), "{name}: {status}");
    }
}

/// Tries what a header says, up to a line that is no such command: what follows may need it. The number of promises kept.
fn keep_promises(name: &str, header: &str, namerd: Option<&Namerd>) -> usize {
    let commands = header.split_once("\n Try").map_or("", |(_, commands)| commands).replace("\\\n", " ");
    let lines = commands.lines().skip(1).filter(|line| line.starts_with("   ")).map(str::trim);
    let is_command = |line: &&str| ["curl ", "http_proxy=", "namerctl "].iter().any(|first| line.starts_with(first));
    let mut kept = 0;
    for line in lines.take_while(is_command) {
        if line.starts_with("namerctl ") {
            namerd::run(line, namerd.expect("a namerd"));
            kept += 1;
            continue;
        }
        let Some((curl, promise)) = Curl::read(line) else { continue };
        let begun = Instant::now();
        let (is_kept, answer) = eventually(line, SOON * 2, || {
            let answer = curl.run();
            let is_kept = promise.is_kept(&answer);
            (is_kept || begun.elapsed() > SOON).then_some((is_kept, answer))
        });
        assert!(is_kept, "{name}: `{line}` has another answer: {answer:?}");
        kept += usize::from(promise != Promise::Nothing);
    }
    kept
}

#[test]
fn p9_every_example_runs_and_keeps_what_it_promises() {
    let lab = Lab::new();
    let mut examples: Vec<PathBuf> =
        std::fs::read_dir("examples").expect("the examples").flatten().map(|entry| entry.path()).collect();
    examples.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    examples.sort();
    assert!(examples.len() >= 39, "only {} examples", examples.len());
    let mut kept = 0;
    for example in examples {
        let name = example.display().to_string();
        let started = lab.start(&example);
        kept += started.keeps_its_promises(&name);
        started.answers_everywhere(&lab, &name);
        started.ends(&name);
    }
    assert!(kept >= 49, "only {kept} promises were found in the headers");
}

/// The two files of the mesh belong together: one sends to the other.
#[test]
fn p9_the_examples_of_two_hosts_reach_each_other() {
    let lab = Lab::new();
    let incoming = lab.start(Path::new("examples/tls-mesh-incoming.yaml"));
    let outgoing = lab.start(Path::new("examples/tls-mesh-outgoing.yaml"));
    outgoing.switchyard.disco().set("host-b", &[incoming.switchyard.addr(5)]);
    let mut client = Client::connect(outgoing.switchyard.addr(0));
    eventually("the other host answers", SOON, || (client.get("web", "/").text() == "web v1\n").then_some(()));
    let seen = lab.v1.last();
    assert!(
        seen.header("x-forwarded-client-cert").is_some_and(|cert| cert.contains("host-a.mesh.example")),
        "{seen:?}"
    );
    drop(client);
    outgoing.ends("outgoing");
    incoming.ends("incoming");
}

#[test]
fn listeners_are_found() {
    let text = "  - port: @P0@\n    tls:\n  - port: @P3@\n  client:\n    tls:\n";
    assert_eq!(listeners(text), [Listener(0, true), Listener(3, false)]);
}
