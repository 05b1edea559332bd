//! The command line of the real binary: `check`, Linkerd 1's spellings, and what goes wrong before anything is served.
//!
//! Not for: serving (see the stories of the `e2e` crate, which need the binary that these tests make cargo build).

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

const GOOD: &str = "routers:\n- protocol: http\n  servers:\n  - port: 4140\n";

/// Three mistakes: a value, a key, a dtab.
const THREE_MISTAKES: &str = r"admin:
  port: 99999
routers:
- protocol: http
  servers:
  - prot: 4140
  dtab: |
    /svc => /#/io.l5d.fs ;
    /web = /x ;
";

fn switchyard(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchyard"));
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Ran {
    Ran::from(switchyard(args).output().expect("the binary runs"))
}

#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
        }
    }
}

impl Ran {
    /// Exit code 1 and this text on stderr, nothing on stdout.
    fn assert_fails(&self, text: &str) {
        assert_eq!((self.code, self.out.as_str()), (Some(1), ""), "{self:?}");
        assert!(self.err.contains(text), "{text:?} is not in {}", self.err);
    }
}

/// A folder with a file `linkerd.yaml` of this text.
fn file(text: impl AsRef<[u8]>) -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("linkerd.yaml");
    fs::write(&path, text).expect("the file can be written");
    (folder, path.display().to_string())
}

/// Two configs that want `port`: for a server, for the administrative server.
fn wanting(port: u16) -> [(String, String); 2] {
    [
        (format!("admin: {{ port: 0 }}\n{GOOD}").replace("4140", &port.to_string()), "router `http`".to_owned()),
        (format!("admin: {{ port: {port} }}\n{GOOD}").replace("4140", "0"), "the admin server".to_owned()),
    ]
}

#[test]
fn check_lists_all_mistakes_with_their_places() {
    let (_folder, path) = file(THREE_MISTAKES);
    let ran = run(&["check", &path]);
    ran.assert_fails("");
    let places: Vec<&str> =
        ran.err.lines().filter_map(|line| line.strip_prefix(&path)?.split_once(": ")).map(|it| it.0).collect();
    assert_eq!(places, [":2:9", ":6:5", ":9:11"], "{}", ran.err);
    for part in [
        ":2:9: admin.port: 99999 is out of range; expected a whole number from 0 to 65535",
        ":6:5: routers[0].servers[0].prot: unknown key `prot`; expected one of: ip, port,",
        "; did you mean `port`?\n      - prot: 4140\n        ^\n",
        ":9:11: routers[0].dtab: not a dtab, in line 2 of it, `/web = /x ;`: '>' expected but ' '",
    ] {
        assert!(ran.err.contains(part), "{part:?} is not in {}", ran.err);
    }
    assert_eq!(ran.err.lines().last(), Some(format!("3 problems in {path}").as_str()));
}

#[test]
fn a_report_ends_in_a_line_end() {
    let (_folder, path) = file(THREE_MISTAKES);
    let ran = run(&["check", &path]);
    assert!(ran.err.ends_with('\n'), "the shell's prompt would follow on the same line: {:?}", ran.err.lines().last());
}

#[test]
fn a_start_refuses_what_check_refuses() {
    let (_folder, path) = file(THREE_MISTAKES);
    let (checked, started) = (run(&["check", &path]), run(&[&path]));
    assert_eq!((started.code, started.err), (Some(1), checked.err));
}

#[test]
fn a_good_file_is_said_to_be_good() {
    let (_folder, path) = file(GOOD);
    let spellings: [&[&str]; 7] = [
        &["check", &path],
        &["--validate", &path],
        &["-validate", &path],
        &["-validate=true", &path],
        &[&path, "-validate"],
        &[&path, "--validate"],
        &["-log.level=DEBUG", "-validate", &path],
    ];
    for args in spellings {
        let ran = run(args);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{args:?}");
        assert_eq!(ran.out, format!("{path}: ok: 1 router(s), 0 namer(s)\n"), "{args:?}");
    }
    let (_folder, bad) = file(THREE_MISTAKES);
    for flag in ["--validate", "-validate"] {
        run(&[flag, &bad]).assert_fails("3 problems in ");
    }
}

fn check_stdin(text: &[u8]) -> Ran {
    let mut command = switchyard(&["check", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    child.stdin.take().expect("a pipe").write_all(text).expect("it reads");
    Ran::from(child.wait_with_output().expect("it ends"))
}

#[test]
fn a_dash_means_stdin() {
    let good = check_stdin(GOOD.as_bytes());
    assert_eq!((good.code, good.out.as_str()), (Some(0), "-: ok: 1 router(s), 0 namer(s)\n"), "{good:?}");
    check_stdin(THREE_MISTAKES.as_bytes()).assert_fails("<stdin>:6:5: routers[0].servers[0].prot: unknown key `prot`");
    check_stdin(b"\xff\xfe").assert_fails("not UTF-8");
}

#[test]
fn what_is_no_config_file_is_said_plainly() {
    let (folder, path) = file(b"admin: \xff");
    run(&["check", &path]).assert_fails(&format!("switchyard: {path}: the config is not UTF-8"));
    let missing = folder.path().join("missing.yaml").display().to_string();
    run(&["check", &missing]).assert_fails(&format!("switchyard: {missing}: cannot read the config: "));
    run(&[&missing]).assert_fails(&format!("switchyard: {missing}: cannot read the config: "));
    let folder = folder.path().display().to_string();
    run(&["check", &folder]).assert_fails(&format!("switchyard: {folder}: config is not a file but a folder\n"));
    let (_folder, empty) = file("");
    run(&["check", &empty]).assert_fails(":1:1: the file has no content; expected a map with the key `routers`");
}

#[test]
fn a_kind_of_linkerd_that_is_not_there_yet_says_so() {
    let text =
        "namers:\n- kind: io.l5d.consul\n  host: 127.0.0.1\nrouters:\n- protocol: mux\n  servers:\n  - port: 4141\n";
    let (_folder, path) = file(text);
    let ran = run(&["check", &path]);
    let not_yet = "of Linkerd 1 that Switchyard does not have yet";
    ran.assert_fails(&format!("{path}:2:9: namers[0].kind: `io.l5d.consul` is a namer {not_yet}"));
    ran.assert_fails(&format!("{path}:5:13: routers[0].protocol: `mux` is a protocol {not_yet}"));
    let (_folder, path) = file(format!("namers:\n- kind: io.l5d.consull\n{GOOD}"));
    let unknown = run(&["check", &path]);
    unknown.assert_fails(&format!("{path}:2:9: namers[0].kind: "));
    assert!(!unknown.err.contains(not_yet), "a kind that never was is another matter: {}", unknown.err);
}

#[test]
fn check_needs_no_free_port() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    for (text, _) in wanting(taken.local_addr().expect("an address").port()) {
        let (_folder, path) = file(text);
        let ran = run(&["check", &path]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
}

#[test]
fn check_opens_no_socket() {
    let config = "namers:\n- { kind: io.l5d.fs, rootDir: . }\nrouters:\n- protocol: http\n  servers:\n  - port: 4140\n  \
                  dtab: /svc => /$/inet/example.com/80 ;\n  interpreter: {kind: default, \
                  transformers: [{kind: io.l5d.specificHost, host: example.com}, {kind: io.l5d.localhost}]}\n";
    let (folder, path) = file(config);
    let trace: PathBuf = folder.path().join("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "trace=%network", "-o"]).arg(&trace);
    strace.arg(env!("CARGO_BIN_EXE_switchyard")).args(["check", &path]).current_dir(folder.path());
    let Ok(output) = strace.output() else {
        eprintln!("not run: strace is not installed");
        return;
    };
    let calls = fs::read_to_string(&trace).unwrap_or_default();
    if !calls.contains("exited with") {
        eprintln!("not run: strace may not trace here");
        return;
    }
    assert!(output.status.success(), "{output:?}");
    assert!(!calls.contains("socket("), "{calls}");
}

#[test]
fn a_taken_port_ends_the_start_with_a_clear_error() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    for (text, what) in wanting(address.port()) {
        let (_folder, path) = file(text);
        let ran = run(&[&path, "--log-level", "OFF"]);
        ran.assert_fails(&format!("switchyard: cannot listen on {address} for {what}: "));
        ran.assert_fails("Is another process using the port? Choose another one in the config\n");
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    }
}

/// A config whose interpreter has one transformer.
fn transforming(transformer: &str) -> (TempDir, String) {
    file(format!("admin: {{ port: 0 }}\n{GOOD}  interpreter: {{kind: default, transformers: [{transformer}]}}\n"))
}

#[test]
fn a_local_node_needs_its_variables() {
    for (option, variable, good, wrong) in [
        (
            "",
            "POD_IP",
            "10.1.2.3",
            &[("", "which is not set"), ("fd00::1", "IPv4 addresses only"), ("pod", "not a literal")][..],
        ),
        (", hostNetwork: true", "NODE_NAME", "node-1", &[("", "which is not set")]),
    ] {
        let (_folder, path) = transforming(&format!("{{kind: io.l5d.k8s.localnode{option}}}"));
        let with = |value: &str| {
            Ran::from(switchyard(&["check", &path]).env(variable, value).output().expect("the binary runs"))
        };
        assert_eq!(with(good).code, Some(0), "{:?}", with(good));
        for (value, text) in wrong {
            with(value).assert_fails(text);
            with(value).assert_fails(&format!("`{variable}`"));
        }
    }
}

/// The name is too long for DNS, so no server is asked.
#[test]
fn a_host_that_cannot_be_resolved_ends_the_start_and_not_the_check() {
    let name = "a".repeat(64);
    let (_folder, path) = transforming(&format!("{{kind: io.l5d.specificHost, host: {name}}}"));
    assert_eq!(run(&["check", &path]).code, Some(0));
    let ran = run(&[&path, "--log-level", "OFF"]);
    ran.assert_fails(&format!(
        "switchyard: transformer /%/io.l5d.specificHost: cannot resolve the host `{name}`: there is no such"
    ));
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
}

#[test]
fn the_demo_says_when_its_ports_do_not_exist() {
    let ran = run(&["demo", "--port-offset", "60000"]);
    ran.assert_fails("switchyard: --port-offset 60000 leads beyond port 65535; at most 55544\n");
}

/// The demo that found free ports, and what it printed; it is killed at the end.
struct Demo(std::process::Child, String);

impl Demo {
    fn start() -> Demo {
        (0..20).find_map(|_| Demo::at_some_offset()).expect("twenty offsets will not all be taken")
    }

    fn at_some_offset() -> Option<Demo> {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let offset = (taken / 2 + 2000).to_string();
        let mut command = switchyard(&["demo", "--port-offset", &offset]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary runs");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut demo = Demo(child, String::new());
        for line in out.lines() {
            let line = line.expect("text");
            demo.1.push_str(&format!("{line}\n"));
            if line.starts_with("Ctrl-C") {
                return Some(demo);
            }
        }
        None
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `.ci/demo.py` runs the commands; here, that a newcomer is told the whole of them.
#[test]
fn the_demo_says_how_to_call_by_grpc() {
    let demo = Demo::start();
    for part in [
        "grpcurl -plaintext -import-path ",
        " helloworld.Greeter/SayHello\n",
        r"printf '\0\0\0\0\7\n\5world' | curl -s --http2-prior-knowledge --data-binary @- \",
        "/helloworld.Greeter/SayHello'; done | grep -ao 'hello[[:print:]]*'\n",
        "/helloworld.Greeter/SayHelloStreamReply' | grep",
    ] {
        assert!(demo.1.contains(part), "{part:?} is not in {}", demo.1);
    }
}

#[test]
fn bad_arguments_are_explained() {
    let (_folder, path) = file(GOOD);
    run(&[&path, "--log-level", "LOUD"]).assert_fails("switchyard: unknown log level `LOUD`; known: OFF, FATAL,");
    let ran = run(&[&path, "--grace", "soon"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.err.contains("not a duration; write 10s, 500ms or 30.seconds"), "{}", ran.err);
    assert_ne!(run(&[]).code, Some(0));
}

#[test]
fn an_access_log_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fifo = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&fifo).status().is_ok_and(|status| status.success()));
    let missing = folder.path().join("missing/access.log");
    for (log, reason) in [
        (missing.display().to_string(), "No such file or directory"),
        (folder.path().display().to_string(), "Is a directory"),
        (fifo.display().to_string(), "is it a pipe that nobody reads?"),
    ] {
        let text = format!("admin: {{ port: 0 }}\n{GOOD}  httpAccessLog: {log}\n").replace("4140", "0");
        let (_folder, path) = file(text);
        let ran = run(&[&path]);
        ran.assert_fails(&format!("cannot open the access log {log} of router `http`: "));
        assert!(ran.err.contains(reason), "{}", ran.err);
        assert_eq!(run(&["check", &path]).code, Some(0), "`check` looks at no file");
    }
}

#[test]
fn a_token_that_is_none_is_a_problem() {
    let (dir, config) =
        file("admin: { security: { tokenFile: TOKEN } }\nrouters: [{ protocol: http, servers: [{}] }]\n");
    let token = dir.path().join("token");
    let text = fs::read_to_string(&config).expect("the config").replace("TOKEN", &token.display().to_string());
    fs::write(&config, text).expect("the config");
    run(&["check", &config]).assert_fails("No such file or directory");
    fs::write(&token, "short\n").expect("the token");
    run(&["check", &config]).assert_fails("a token has at least 16 characters");
    fs::write(&token, "0123456789abcdef\n").expect("the token");
    assert_eq!(run(&["check", &config]).code, Some(0));
}

/// What `/proc` says of the open files of a process: soft and hard limit.
fn limits(pid: u32) -> Option<(String, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Max open files"))?;
    let mut numbers = line.split_whitespace().skip(3).map(str::to_owned);
    Some((numbers.next()?, numbers.next()?))
}

/// The usual soft limit is far below the connections that a listener takes.
#[test]
fn the_limit_of_open_files_is_raised() {
    let (_dir, config) = file("admin: { port: 0 }\nrouters: [{ protocol: http, servers: [{ port: 0 }] }]\n");
    let script = "ulimit -Sn 128 && ulimit -Hn 1000 && exec \"$0\" \"$1\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_switchyard"), &config]).stderr(Stdio::null());
    let mut child = command.spawn().expect("the binary runs");
    let raised = (0..3000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        limits(child.id()) == Some(("1000".to_owned(), "1000".to_owned()))
    });
    let _ = child.kill();
    let _ = child.wait();
    assert!(raised, "the soft limit stays below the hard one");
}
