//! Tests of `load`: places, whole files, shape of the report. Tables of values are in `values`, of kinds in `kinds`,
//! mutated and hostile texts in `robust`.

mod bodies;
mod discovery;
mod h2;
mod kinds;
mod overrides;
mod policy;
mod probe;
mod robust;
mod tls;
mod transformers;
mod values;

use super::*;
use std::time::Duration;

/// A file with one good router that ends in the lines given, which are indented by two.
pub(super) fn router(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("  {line}\n")).collect();
    format!("routers:\n- protocol: http\n  servers:\n  - port: 4140\n{lines}")
}

/// The parameters of a good file.
pub(super) fn good(text: &str) -> Config {
    load("linkerd.yaml", text).unwrap_or_else(|problems| panic!("{problems}\nin\n{text}"))
}

/// The only router of a good file.
pub(super) fn good_router(lines: &str) -> RouterParams {
    good(&router(lines)).routers.remove(0)
}

/// The problems of a bad file, in one line each: place, path, message, expected, nearest.
pub(super) fn bad(text: &str) -> Vec<String> {
    let Err(problems) = load("f", text) else { panic!("no problem in\n{text}") };
    problems.list.iter().map(|problem| problem.to_string().lines().next().unwrap_or("").to_owned()).collect()
}

/// Asserts that a file has exactly one problem, and that its line has the part given.
pub(super) fn one(text: &str, part: &str) {
    let found = bad(text);
    assert!(
        found.len() == 1 && found[0].contains(part),
        "wanted one problem with\n{part}\nfound {found:#?}\nin\n{text}"
    );
}

const STARTED: &str = r"
admin:
  port: 9990
  ip: 0.0.0.0

usage:
  orgId: linkerd-examples-getting-started

namers:
- kind: io.l5d.fs
  rootDir: .

routers:
- protocol: http
  label: out
  dtab: |
    /svc => /#/io.l5d.fs;   # a comment
    /svc/web => /#/io.l5d.fs/web ;
  servers:
  - port: 4140
    ip: 0.0.0.0
- protocol: http
  label: in
  interpreter:
    kind: default
  servers:
  - port: 4141
";

#[test]
fn a_getting_started_file_loads() {
    let config = good(STARTED);
    assert_eq!(config.routers.len(), 2);
    let out = &config.routers[0];
    assert_eq!((out.label.as_str(), out.dst_prefix.to_string().as_str()), ("out", "/svc"));
    assert_eq!(out.servers[0].ip.to_string(), "0.0.0.0");
    assert_eq!(config.routers[1].servers[0].ip.to_string(), "127.0.0.1");
    assert!(matches!(&config.namers[0].kind, NamerKind::Fs { prefix, .. } if prefix.to_string() == "/#/io.l5d.fs"));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(config.as_json["routers"][1]["servers"][0]["port"], 4141);
}

#[test]
fn defaults_are_those_of_the_reference() {
    let router = good_router("");
    assert_eq!(router.label, "http");
    assert!(matches!(&router.identifiers[..],
        [IdentifierParams::HeaderToken { header, written }] if header == "host" && written == "Host"));
    assert_eq!(router.binding_timeout, Duration::from_secs(10));
    assert_eq!(router.binding_cache, BindingCacheParams::default());
    assert_eq!((router.max_headers_bytes, router.max_line_bytes), (8192, 4096));
    assert_eq!((router.max_err_response_bytes, router.originator), (5120 * 1024, false));
    let server = &router.servers[0];
    assert_eq!((server.max_call_depth, server.timeout, server.clear_context), (1000, None, false));
    assert_eq!(server.socket, SocketParams::default());
    let name = dtab::Path::parse("/svc/web").unwrap();
    assert_eq!(router.client.for_name(&name), ClientParams::default());
    assert_eq!(router.service.for_name(&name), ServiceParams::default());
    let admin = good(&self::router("")).admin;
    assert_eq!((admin.port, admin.shutdown_grace), (9990, Duration::from_secs(10)));
}

#[test]
fn three_errors_are_reported_at_once_with_their_places() {
    let text = "\
admin:
  port: 99999
routers:
- protocol: http
  dtab: |
    /svc => /#/io.l5d.fs;
    /svc/x = /y;
  servers:
  - prot: 4140
    ip: 127.0.0.1
";
    let problems = load("linkerd.yaml", text).unwrap_err();
    let places: Vec<_> = problems.list.iter().map(|p| (p.line, p.column, p.key_path.as_str())).collect();
    assert_eq!(places, [(2, 9, "admin.port"), (7, 13, "routers[0].dtab"), (9, 5, "routers[0].servers[0].prot")]);
    let last = &problems.list[2];
    assert_eq!(last.nearest.as_deref(), Some("port"));
    let shown = last.to_string();
    assert!(
        shown.starts_with(
            "linkerd.yaml:9:5: routers[0].servers[0].prot: unknown key `prot`; expected one of: ip, port,"
        )
    );
    assert!(shown.ends_with("; did you mean `port`?\n      - prot: 4140\n        ^"), "{shown}");
    assert!(problems.list[1].message.contains("in line 2 of it"), "{}", problems.list[1].message);
    assert!(problems.to_string().ends_with("\n3 problems in linkerd.yaml"));
}

#[test]
fn places_are_exact_in_every_style() {
    for (text, place) in [
        ("routers: [{protocol: http, servers: [{port: 99999}]}]", "f:1:45: routers[0].servers[0].port: 99999 is out"),
        ("routers: [{protocol: http, servers: [{prot: 1}]}]", "f:1:39: routers[0].servers[0].prot: unknown key"),
        ("{\"routers\":[\n {\"protocol\": \"http\",\n\t\"servers\": [{\"port\": \"80\"}]}]}", "f:3:23: routers[0]"),
        ("routers:\n- protocol: http\n  servers:\n  - {}\n  label: {a: b}", "f:5:10: routers[0].label: a map where"),
        ("routers:\n- protocol: http\n  servers:\n  - {}\n  label:\n  - a", "f:6:3: routers[0].label: a list where"),
        ("routers:\n- protocol: http\n  servers:\n  - {}\n  originator: 'yes'", "f:5:15: routers[0].originator: `yes`"),
        ("routers:\n- protocol: http\n  servers: []", "f:3:3: routers[0].servers: a router without servers"),
        ("# é\nrouters: # ü\n- {protocol: http, label: 'ü', servers: x}", "f:3:41: routers[0].servers: a single value"),
        ("routers:\r\n- protocol: http\r\n  servers:\r\n  - port: x\r\n", "f:4:11: routers[0].servers[0].port: `x` is"),
        ("\u{feff}routers: 5\n", "f:1:10: routers: a single value where a list"),
        ("a: &a {port: x}\nrouters:\n- protocol: http\n  servers:\n  - *a\n", "f:1:1: a: unknown key `a`"),
    ] {
        let found = bad(text);
        assert!(found.iter().any(|line| line.starts_with(place)), "wanted {place}, found {found:#?}");
    }
}

#[test]
fn a_dtab_error_has_the_place_within_the_dtab() {
    for (dtab, place) in [
        ("dtab: |\n  /a => /b;\n  # c\n  /c => ^d;\n", "f:8:11: routers[0].dtab: not a dtab, in line 3 of it"),
        ("dtab: |-\n    /a => /b;\n    /c => ^d;", "f:7:13: routers[0].dtab: not a dtab, in line 2 of it"),
        ("dtab: /a => ^b", "f:5:15: routers[0].dtab: not a dtab, in line 1 of it"),
        ("dtab: \"/a => ^b\"", "f:5:16: routers[0].dtab: not a dtab, in line 1 of it"),
        ("dtab: >\n  /a => /b;\n  /c => ^d;\n", "f:5:9: routers[0].dtab: not a dtab, in line 1 of it"),
    ] {
        one(&router(dtab), place);
    }
}

#[test]
fn json_and_flow_style_mean_the_same() {
    let json = r#"{"routers": [{"protocol": "http", "servers": [{"port": 4140, "clearContext": true}],
        "identifier": {"kind": "io.l5d.path", "segments": 2}}]}"#;
    let flow = "routers: [{protocol: http, servers: [{port: 4_140, clearContext: yes}],\n  identifier: [{kind: io.l5d.path, segments: 02}]}]";
    for text in [json, flow] {
        let router = good(text).routers.remove(0);
        assert_eq!((router.servers[0].port, router.servers[0].clear_context), (4140, true));
        assert!(matches!(router.identifiers[..], [IdentifierParams::Path { segments: 2, consume: false }]));
    }
}

#[test]
fn documents_without_a_good_structure() {
    for (text, part) in [
        ("", "f:1:1: the file has no content; expected a map"),
        ("# only a comment\n", "the file has no content"),
        ("---\n---\nrouters: []", "the file has no content"),
        ("routers", "a single value where a map belongs"),
        ("- a", "f:1:1: a list where a map belongs"),
        ("admin: {}", "routers: required key `routers` is missing"),
        ("routers:", "routers: required key `routers` is missing"),
        ("routers: []", "routers: no routers; expected at least one router"),
        ("routers:\n- [", "not valid YAML: did not find expected node content"),
        ("a: b: c", "f:1:5: not valid YAML: mapping values are not allowed"),
        ("a: *b", "not valid YAML: unknown anchor"),
        ("a: \u{7}", "f:1:4: control character U+0007 is not allowed"),
        ("[a]: b", "f:1:1: a key is not a text"),
        ("a: 1\n? [b]\n: c", "f:2:3: a key is not a text"),
        (&router("label: a\nlabel: b"), "f:6:3: routers[0].label: key `label` is already there in line 5"),
        (&router("<<: {label: a}"), "routers[0].<<: unknown key `<<`: YAML merge keys are not supported"),
    ] {
        one(text, part);
    }
}

#[test]
fn only_the_first_document_counts() {
    let config = good(&format!("---\n{}---\nfoo: bar\n", router("")));
    assert_eq!(config.warnings, ["linkerd.yaml:2:1: the file has several YAML documents; only the first one counts"]);
}

#[test]
fn what_may_be_there_only_once() {
    let two = |a: &str, b: &str| {
        format!(
            "routers:\n- protocol: http\n  label: a\n  servers: [{a}]\n- protocol: http\n  label: b\n  servers: [{b}]\n"
        )
    };
    let same = "routers:\n- {protocol: http, servers: [{port: 1}]}\n- {protocol: http, servers: [{port: 2}]}\n";
    one(same, "f:3:3: routers[1]: two routers are called `http`, the other is routers[0]");
    one(&two("{}", "{}"), "f:7:3: routers[1].servers[0]: 127.0.0.1:4140 is taken: routers[0].servers[0] in line 4");
    one(&two("{port: 1}", "{port: 1, ip: 0.0.0.0}"), "routers[1].servers[0].port: 0.0.0.0:1 is taken");
    one(&two("{port: 1, ip: '::'}", "{port: 1}"), "listens on [::]:1");
    one(
        &two("{port: 9990}", "{port: 1}"),
        "f:4:20: routers[0].servers[0].port: 127.0.0.1:9990 is taken: the administrative",
    );
    one(&two("{port: 1}, {port: 1}", "{port: 2}"), "f:4:31: routers[0].servers[1].port: 127.0.0.1:1 is taken");
    good(&two("{port: 0}", "{port: 0}"));
    good(&two("{port: 1}", "{port: 1, ip: 127.0.0.2}"));
    good(&two("{port: 1}", "{port: 1, ip: '::1'}"));
    let reuse = "socketOptions: {reusePort: true}";
    good(&two(&format!("{{port: 1, {reuse}}}"), &format!("{{port: 1, ip: 0.0.0.0, {reuse}}}")));
}

#[test]
fn secrets_are_in_neither_the_report_nor_the_json() {
    let text = "namers:\n- kind: io.l5d.consul\n  token: hunter2\n";
    let Err(problems) = load("f", text) else { panic!("loaded") };
    assert!(!problems.to_string().contains("hunter2"));
    let problems = load("f", &router("token: hunter2")).unwrap_err();
    assert!(!problems.to_string().contains("hunter2"), "{problems}");
    let source = setup::config::source::Source::new("a: {token: x, b: [1, 010, 1.5, yes, '1', ~]}");
    let (node, _) = tree::parse("a: {token: x, b: [1, 010, 1.5, yes, '1', ~]}", &source).ok().unwrap();
    let json = setup::config::json::json(&node).to_string();
    assert_eq!(json, r#"{"a":{"b":[1,10,1.5,true,"1",null],"token":"<redacted>"}}"#);
}
