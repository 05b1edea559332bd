//! The commands of the first namerctl: outputs and requests to the byte, by a table. With `NAMERCTL_GO=/path/of/it` the
//! original runs the same table against the same namerd, and is the judge.

use crate::fake::{Fake, Seen};
use crate::tool::{Run, Tool};

const START: &str = "/srv=>/#/io.l5d.k8s/default/http;/host/world=>1*/srv/world-v2 & 9*/srv/world-v1 | ~";

/// Words, standard input, expected status with `--legacy-errors`, expected stdout.
type Step = (&'static [&'static str], &'static str, i32, &'static str);

const STEPS: &[Step] = &[
    (&["dtab", "list"], "", 0, "external\ninternal\n"),
    (&["dtab", "ls", "--json"], "", 0, "[\"external\",\"internal\"]\n"),
    (&["dtab", "get", "external"], "", 0, "# version MDAwMg==\n"),
    (
        &["dtab", "get", "internal"],
        "",
        0,
        "# version MDAwMQ==\n/srv         => /#/io.l5d.k8s/default/http ;\n/host/world  => /srv/world-v2 & 9.00*/srv/world-v1 | ~ ;\n",
    ),
    (
        &["dtab", "cat", "internal", "--pretty=false"],
        "",
        0,
        "/srv=>/#/io.l5d.k8s/default/http;/host/world=>/srv/world-v2 & 9.00*/srv/world-v1 | ~;\n",
    ),
    (
        &["dtab", "get", "internal", "--json"],
        "",
        0,
        "{\"version\":\"MDAwMQ==\",\"dtab\":[{\"prefix\":\"/srv\",\"dst\":\"/#/io.l5d.k8s/default/http\"},{\"prefix\":\"/host/world\",\"dst\":\"/srv/world-v2 \\u0026 9.00*/srv/world-v1 | ~\"}]}\n",
    ),
    (&["dtab", "get", "nope"], "", 255, "resource was not found by ID or name\n"),
    (&["dtab", "create", "new", "-"], "# a comment\n/svc => /srv ;\n", 0, "Created new\n"),
    (&["dtab", "create", "new", "-"], "/svc => /srv", 255, "unexpected response: 409 Conflict\n"),
    (&["dtab", "new", "json", "-"], "{\"dtab\":[{\"prefix\":\"/a\",\"dst\":\"/b & /c\"}]}", 0, "Created json\n"),
    (&["dtab", "new", "empty", "-"], "", 0, "Created empty\n"),
    (&["dtab", "create", "bad", "-"], "/svc", 255, "unexpected response: 400 Bad Request\n"),
    (&["dtab", "update", "new", "file.dtab"], "", 0, "Updated new\n"),
    (
        &["dtab", "up", "new", "-", "--version", "MDAwMQ=="],
        "/x=>/y",
        255,
        "unexpected response: 412 Precondition Failed\n",
    ),
    (&["dtab", "up", "--version=MDAwNg==", "new", "-"], "/x=>/y", 0, "Updated new\n"),
    (
        &["dtab", "update", "internal", "-", "--json", "--version", "ignored"],
        "{\"version\":\"MDAwMQ==\",\"dtab\":[{\"prefix\":\"/a\",\"dst\":\"/b <\"}]}",
        255,
        "unexpected response: 400 Bad Request\n",
    ),
    (
        &["dtab", "update", "internal", "-", "--json"],
        "{\"version\":\"MDAwMQ==\",\"dtab\":[{\"prefix\":\"/a\",\"dst\":\"/b\"}]}",
        0,
        "Updated internal\n",
    ),
    (
        &["dtab", "update", "nope", "-", "--version", "MDAwMQ=="],
        "/a=>/b",
        255,
        "resource was not found by ID or name\n",
    ),
    (
        &["dtab", "get", "internal", "--json=true"],
        "",
        0,
        "{\"version\":\"MDAwOA==\",\"dtab\":[{\"prefix\":\"/a\",\"dst\":\"/b\"}]}\n",
    ),
    (&["dtab", "delete", "new"], "", 0, "Deleted new\n"),
    (&["dtab", "rm", "new"], "", 255, "resource was not found by ID or name\n"),
    (&["dtab", "del", "a b?c"], "", 255, "resource was not found by ID or name\n"),
    (&["dtab", "get"], "", 255, "get requires a name argument\n"),
    (&["dtab", "cat", "a", "b"], "", 255, "get requires a name argument\n"),
    (&["dtab", "list", "a"], "", 255, "list does not take arguments\n"),
    (&["dtab", "create", "a"], "", 255, "create requires a name and file path\n"),
    (&["dtab", "update", "a"], "", 255, "update requires a name and file path\n"),
    (&["dtab", "rm"], "", 255, "delete requires one argument\n"),
    (&["dtab", "create", "a", ""], "", 255, "empty dtab path\n"),
    (&["bogus"], "", 255, "unknown command \"bogus\" for \"namerctl\"\n"),
    (&["--base-url", "namerd:4180", "dtab", "ls"], "", 255, "invalid base URL: namerd:4180\n"),
    (&["--base-url", "", "dtab", "ls"], "", 255, "empty base URL\n"),
];

/// What of a request matters to a namerd: line, headers, body.
type Essence = (String, Vec<(String, String)>, String);

fn essence(seen: &Seen) -> Essence {
    let names = ["accept", "content-type", "if-match", "content-length", "transfer-encoding"];
    let headers = names.iter().filter_map(|name| Some(((*name).to_owned(), seen.headers.get(*name)?.clone())));
    (seen.line.clone(), headers.collect(), seen.body.clone())
}

fn play(tool: &Tool, fake: &Fake, legacy: bool) -> Vec<(Run, Vec<Essence>)> {
    fake.put("internal", START);
    fake.put("external", "");
    tool.write("file.dtab", "/svc=>/host;\n/host=>/srv\n");
    let step = |(words, stdin, _, _): &Step| {
        let legacy: &[&str] = if legacy { &["--legacy-errors"] } else { &[] };
        let before = fake.lock().seen.len();
        let run = tool.run(&[legacy, words].concat(), stdin);
        let seen = fake.lock().seen[before..].iter().map(essence).collect();
        (run, seen)
    };
    STEPS.iter().map(step).collect()
}

#[test]
fn outputs_are_those_of_the_first_namerctl() {
    let fake = Fake::start();
    for ((run, _), (words, _, status, stdout)) in play(&Tool::new(&fake.url), &fake, true).iter().zip(STEPS) {
        assert_eq!((run.status, run.stdout.as_str()), (*status, *stdout), "{words:?}: {}", run.stderr);
        assert_eq!(run.stderr.is_empty(), *status == 0, "{words:?}: {}", run.stderr);
    }
}

#[test]
fn the_first_namerctl_agrees() {
    let Some(original) = std::env::var_os("NAMERCTL_GO") else {
        println!("not run: NAMERCTL_GO does not name the first namerctl");
        return;
    };
    let (one, two) = (Fake::start(), Fake::start());
    let ours = play(&Tool::new(&one.url), &one, true);
    let theirs = play(&Tool::of(original.as_ref(), &two.url), &two, false);
    let mut differ = Vec::new();
    for ((ours, theirs), (words, ..)) in ours.iter().zip(&theirs).zip(STEPS) {
        let first = |run: &Run| run.stderr.lines().next().unwrap_or_default().to_owned();
        let view = |(run, seen): &(Run, Vec<Essence>)| (run.status, run.stdout.clone(), first(run), seen.clone());
        if view(ours) != view(theirs) {
            differ.push(format!("{words:?}\n  ours   {:?}\n  theirs {:?}", view(ours), view(theirs)));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

#[test]
fn failures_exit_with_one_and_say_what_helps() {
    let fake = Fake::start();
    let tool = Tool::new(&fake.url);
    fake.put("internal", "/a=>/b");
    let run = tool.run(&["dtab", "create", "x", "-"], "/svc =>\n  /srv ;\n/host /x");
    assert_eq!((run.status, run.stdout.as_str()), (1, ""));
    let expected = "Error: unexpected response: 400 Bad Request\n<stdin>:3:7: '=' expected but '/'\n  3 | /host /x\n    |       ^\n";
    assert_eq!(run.stderr, expected);
    for empty in ["", "\n", "# nothing\n", "[]"] {
        let run = tool.run(&["dtab", "update", "internal", "-"], empty);
        assert_eq!(run.status, 1);
        assert!(run.stderr.contains("nothing was written"), "{run:?}");
        assert_eq!(fake.dtab("internal"), "/a=>/b");
    }
    assert_eq!(tool.ok(&["dtab", "update", "internal", "-", "--allow-empty"], ""), "Updated internal\n");
    assert_eq!(fake.dtab("internal"), "");
    let run = Tool::new("http://127.0.0.1:1").run(&["dtab", "list"], "");
    assert!(run.status == 1 && run.stderr.contains("Connection refused"), "{run:?}");
    assert!(run.stderr.contains("NAMERCTL_BASE_URL"), "what to do: {run:?}");
    let run = tool.run(&["dtab", "update", "internal", "-"], "[{\"prefix\":\"/a\",\"dst\":\"/c\"}]");
    assert_eq!((run.status, fake.dtab("internal").as_str()), (0, "/a=>/c"), "the array alone is read, too");
}

#[test]
fn help_is_everywhere_and_has_examples() {
    let tool = Tool::new("http://127.0.0.1:1");
    for words in [vec![], vec!["dtab"], vec!["help"], vec!["-h"], vec!["help", "dtab", "set"], vec!["dtab", "help"]] {
        assert!(tool.ok(&words, "").contains("Usage: namerctl"), "{words:?}");
    }
    for command in [
        "list", "get", "create", "update", "delete", "set", "unset", "history", "diff", "rollback", "plan", "check",
        "test",
    ] {
        assert!(tool.ok(&["dtab", command, "--help"], "").contains("Examples:"), "{command}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(tool.ok(&["completion", shell], "").contains("rollback"), "{shell}");
    }
    let run = tool.run(&["dtab", "bogus"], "");
    assert_eq!(
        (run.status, run.stderr.as_str()),
        (1, "Error: unknown command \"bogus\" for \"namerctl dtab\"\nRun 'namerctl dtab --help' for usage.\n")
    );
}

#[test]
fn settings_reach_the_requests() {
    let fake = Fake::start();
    fake.put("internal", "/a=>/b");
    let mut tool = Tool::new("http://unused.invalid");
    tool.env.clear();
    tool.write(".namerctl.toml", &format!("base-url = \"{}/pre?tenant=a\"\nauthor = \"ann\"\n", fake.url));
    tool.write("token", "from-file\n");
    tool.run(&["dtab", "set", "n/s", "/a", "/c", "--token-file", "token", "--reason", "größer"], "");
    let seen = fake.lock().seen.pop().unwrap();
    assert_eq!(seen.line, "GET /pre/api/1/dtabs/n/s?tenant=a HTTP/1.1");
    assert_eq!(seen.headers["authorization"], "Bearer from-file");
    tool.write("other.json", &format!("{{\"base-url\": \"{}\"}}", fake.url));
    tool.env.push(("NAMERCTL_TOKEN".into(), "t".into()));
    tool.ok(
        &["--config", "other.json", "dtab", "set", "internal", "/a", "/c", "--author", "bob", "--reason", "größer"],
        "",
    );
    let seen = fake.lock().seen.pop().unwrap();
    assert_eq!(seen.line, "PUT /api/1/dtabs/internal HTTP/1.1");
    let values = ["authorization", "l5d-author", "l5d-reason", "if-match"].map(|name| seen.headers[name].as_str());
    assert_eq!(values, ["Bearer t", "bob", "größer", "MDAwMQ=="]);
    let run = tool.run(&["--config", "none.json", "dtab", "list"], "");
    assert!(run.status == 1 && run.stderr.contains("none.json"), "{run:?}");
}

#[test]
fn redirects_keep_the_write_and_not_the_token() {
    let (one, two) = (Fake::start(), Fake::start());
    two.put("internal", "/a=>/b");
    let tool = Tool::new(&one.url);
    let location =
        |url: &str| ("302 Found".to_owned(), format!("Location: {url}/api/1/dtabs/internal\r\n"), String::new());
    one.lock().scripted.push(location(&two.url));
    tool.ok(&["dtab", "update", "internal", "-", "--token", "secret"], "/a=>/c");
    assert_eq!(two.dtab("internal"), "/a=>/c");
    assert!(one.lock().seen[0].headers.contains_key("authorization"));
    assert!(!two.lock().seen[0].headers.contains_key("authorization"));
    let round = vec![location(&one.url); 11];
    one.lock().scripted = round;
    let run = tool.run(&["dtab", "get", "internal"], "");
    assert!(run.status == 1 && run.stderr.contains("more than 10 redirects"), "{run:?}");
}

#[test]
fn proxies_of_the_environment_are_used() {
    let proxy = Fake::start();
    proxy.put("internal", "/a=>/b");
    let mut tool = Tool::new("http://namerd.invalid:4180");
    tool.env.push(("HTTP_PROXY".into(), proxy.url.replace("http://", "http://u:p@")));
    proxy.lock().scripted.push(("200 OK".into(), "Content-Type: application/json\r\n".into(), "[\"x\"]".into()));
    assert_eq!(tool.ok(&["dtab", "list"], ""), "x\n");
    let seen = proxy.lock().seen.pop().unwrap();
    assert_eq!(seen.line, "GET http://namerd.invalid:4180/api/1/dtabs HTTP/1.1");
    assert_eq!(
        (seen.headers["host"].as_str(), seen.headers["proxy-authorization"].as_str()),
        ("namerd.invalid:4180", "Basic dTpw")
    );
    tool.env.push(("NO_PROXY".into(), "namerd.invalid".into()));
    assert!(tool.run(&["dtab", "list"], "").stderr.contains("not found"));
    assert!(proxy.lock().seen.is_empty());
}

#[test]
fn a_silent_server_ends_at_the_timeout() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tool = Tool::new(&format!("http://{}", listener.local_addr().unwrap()));
    let run = tool.run(&["dtab", "delete", "x", "--timeout", "100ms"], "");
    assert_eq!(run.status, 1);
    assert!(run.stderr.contains("no answer within 0.1 s"), "{run:?}");
    assert!(run.stderr.contains("it is not known whether namerd has acted on it"), "{run:?}");
}
