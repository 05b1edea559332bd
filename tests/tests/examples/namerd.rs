//! The examples of namerd, and the routers that follow it.

use crate::{Lab, keep_promises};
use e2e::{Client, Namerd, eventually};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);
const FOLDER: &str = "examples/namerd";
/// The ports of namerd in the examples, in the order of [`e2e::Place`], and what stands for them.
const PORTS: [(&str, &str); 4] = [("4180", "@HTTP@"), ("4321", "@MESH@"), ("4100", "@THRIFT@"), ("9991", "@ADMIN@")];

/// Whether a router needs a namerd.
pub(crate) fn asked_by(config: &str) -> bool {
    PORTS.iter().any(|(port, _)| config.contains(&format!("dst: /$/inet/127.0.0.1/{port}\n")))
}

/// A text of the examples with the ports of this namerd.
pub(crate) fn at(text: &str, namerd: &Namerd) -> String {
    let ports = PORTS.into_iter().zip(namerd.place().ports);
    ports.fold(text.to_owned(), |text, ((port, _), own)| text.replace(port, &own.to_string()))
}

fn binaries() -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its own path");
    test.ancestors().nth(2).expect("tests run from target/<profile>/deps").to_owned()
}

/// Runs a line of a header, which must succeed.
pub(crate) fn run(line: &str, namerd: &Namerd) {
    let path = format!("{}:{}", binaries().display(), std::env::var("PATH").unwrap_or_default());
    let url = format!("http://{}", namerd.http());
    let ran = Command::new("bash").args(["-c", line]).env("PATH", path).env("NAMERCTL_BASE_URL", url).output();
    let ran = ran.expect("a shell");
    assert!(ran.status.success(), "{line}: {ran:?}");
}

impl Lab {
    /// Starts a namerd of the examples, with the files of `examples/disco`.
    pub(crate) fn namerd(&self, example: &str) -> (Namerd, String) {
        let text = std::fs::read_to_string(Path::new(FOLDER).join(example)).expect("an example");
        let disco = self.file("namerd-disco");
        std::fs::create_dir_all(&disco).expect("a folder");
        for file in std::fs::read_dir("examples/disco").expect("the folder").flatten() {
            let addresses = std::fs::read_to_string(file.path()).expect("addresses");
            std::fs::write(disco.join(file.file_name()), self.template(&addresses)).expect("written");
        }
        let mut config = text.replace("/tmp/namerd-data", "@DATA@").replace("examples/disco", "@DISCO@");
        for (port, placeholder) in PORTS {
            config = config.replace(&format!("port: {port}"), &format!("port: {placeholder}"));
        }
        let namerd = Namerd::start(&config, &disco);
        let lines = text.lines().take_while(|line| line.starts_with('#')).map(|line| &line[1..]);
        let header = at(&lines.collect::<Vec<_>>().join("\n"), &namerd);
        (namerd, header)
    }

    /// `examples/namerd/local.yaml` with the first dtab of its header.
    pub(crate) fn namerd_with_dtab(&self) -> Namerd {
        let (namerd, _) = self.namerd("local.yaml");
        run(&format!("namerctl dtab create default {FOLDER}/default.dtab"), &namerd);
        namerd
    }
}

#[test]
fn p9_every_namerd_of_the_examples_is_good() {
    let _lab = Lab::new();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(FOLDER).expect("them").flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    assert!(files.len() >= 5, "only {files:?}");
    for file in files {
        let checked = Command::new(binaries().join("namerd")).arg("check").arg(&file).output().expect("namerd runs");
        assert!(checked.status.success() && checked.stderr.is_empty(), "{}: {checked:?}", file.display());
    }
}

#[test]
fn p9_a_namerd_of_the_examples_does_what_its_header_says() {
    let lab = Lab::new();
    for (example, promises) in [("local.yaml", 8), ("access.yaml", 6)] {
        let (mut namerd, header) = lab.namerd(example);
        assert_eq!(keep_promises(example, &header, Some(&namerd)), promises);
        assert!(namerd.terminate(), "{example} ends when it is told to");
    }
}

/// The token of the example opens a namerd with access rules to a router.
#[test]
fn p9_a_router_of_the_examples_shows_its_token() {
    let lab = Lab::new();
    let (namerd, _) = lab.namerd("access.yaml");
    let text = std::fs::read_to_string("examples/interpreter-http.yaml").expect("an example");
    let router = e2e::Switchyard::start(&lab.config(&at(&text, &namerd)));
    eventually("v1 answers", SOON, || {
        let answer = Client::try_connect(router.addr(0)).and_then(|mut client| client.try_get("web", "/")).ok()?;
        (answer.text() == "web v1\n").then_some(())
    });
}

#[test]
fn p9_the_dtab_file_of_the_examples_is_followed() {
    let lab = Lab::new();
    let started = lab.start(Path::new("examples/interpreter-fs.yaml"));
    let mut client = Client::connect(started.switchyard.addr(0));
    let mut answers = |wanted: &str| {
        eventually(wanted, SOON, || (client.get("web", "/").text() == format!("{wanted}\n")).then_some(()));
    };
    answers("web v1");
    let file = lab.file("default.dtab");
    let text = std::fs::read_to_string(&file).expect("a dtab");
    std::fs::write(&file, text.replace("/svc/web-v1", "/svc/web-v2")).expect("written");
    answers("web v2");
    std::fs::write(&file, "/svc => ").expect("written");
    eventually("the problem is shown", SOON, || started.switchyard.log().contains("default.dtab").then_some(()));
    answers("web v2");
}
