//! `transformers` of namers and interpreters.

use super::*;
use namers::{Host, Replaces};

fn with(list: &str) -> String {
    router(&format!("interpreter: {{kind: default, transformers: [{list}]}}"))
}

fn on_namer(list: &str) -> String {
    format!("{}namers:\n- {{kind: io.l5d.fs, rootDir: ., transformers: [{list}]}}\n", router(""))
}

#[test]
fn all_options_are_read() {
    let path = |text: &str| dtab::Path::parse(text).unwrap();
    let name = |name: &str| TransformerKind::SpecificHost(Host::Name(name.into()));
    for (written, prefix, kind) in [
        ("{kind: io.l5d.port, port: 4141}", "/%/io.l5d.port/4141", TransformerKind::Port(4141)),
        ("{kind: io.l5d.port, port: 4141, prefix: /in/x}", "/%/in/x", TransformerKind::Port(4141)),
        ("{kind: io.l5d.localhost}", "/%/io.l5d.localhost", TransformerKind::Localhost),
        (
            "{kind: io.l5d.specificHost, host: 10.0.0.1}",
            "/%/io.l5d.specificHost",
            TransformerKind::SpecificHost(Host::Ip("10.0.0.1".parse().unwrap())),
        ),
        (
            "{kind: io.l5d.specificHost, host: '[fd00::1]', prefix: /h}",
            "/%/h",
            TransformerKind::SpecificHost(Host::Ip("fd00::1".parse().unwrap())),
        ),
        ("{kind: io.l5d.specificHost, host: Node-1.Example}", "/%/io.l5d.specificHost", name("node-1.example")),
        (
            "{kind: io.l5d.replace, path: /$/inet/127.1/80}",
            "/%/io.l5d.replace",
            TransformerKind::Replace(path("/$/inet/127.1/80"), Replaces::Leaves),
        ),
        (
            "{kind: io.l5d.const, path: /#/io.l5d.fs/web}",
            "/%/io.l5d.const",
            TransformerKind::Replace(path("/#/io.l5d.fs/web"), Replaces::Tree),
        ),
    ] {
        let wanted = TransformerParams { prefix: path(prefix), kind };
        let of_interpreter = good(&with(written)).routers.remove(0).interpreter.transformers;
        let of_namer = good(&on_namer(written)).namers.remove(0).transformers;
        assert_eq!((&of_interpreter[..], &of_namer[..]), (&[wanted.clone()][..], &[wanted][..]), "{written}");
    }
    let several = good(&with("{kind: io.l5d.localhost}, {kind: io.l5d.port, port: 1}"))
        .routers
        .remove(0)
        .interpreter
        .transformers;
    assert_eq!(
        several.iter().map(|one| one.prefix.to_string()).collect::<Vec<_>>(),
        ["/%/io.l5d.localhost", "/%/io.l5d.port/1"]
    );
    assert!(good_router("").interpreter.transformers.is_empty());
}

#[test]
fn problems_name_key_and_reason() {
    for (written, part) in [
        ("{kind: io.l5d.port}", "transformers[0].port: required key `port` is missing"),
        (
            "{kind: io.l5d.port, port: 0}",
            "transformers[0].port: 0 is out of range; expected a whole number from 1 to 65535",
        ),
        ("{kind: io.l5d.port, port: '80'}", "quoted"),
        ("{kind: io.l5d.port, port: 80, prefix: in}", "transformers[0].prefix: `in` is not a path"),
        ("{kind: io.l5d.port, port: 80, prefix: /%/in}", "is written without the leading `/%`; did you mean `/in`?"),
        ("{kind: io.l5d.port, port: 80, prefix: /in/#/x}", "the prefix of a transformer has none"),
        ("{kind: io.l5d.port, port: 80, host: x}", "unknown key `host`; expected one of: kind, prefix, port"),
        ("{kind: io.l5d.localhost, port: 80}", "transformers[0].port: unknown key `port`"),
        ("{kind: io.l5d.specificHost}", "required key `host` is missing"),
        ("{kind: io.l5d.specificHost, host: ''}", "transformers[0].host: `` is empty"),
        ("{kind: io.l5d.specificHost, host: '10.0.0.1:80'}", "`10.0.0.1:80` is not a host; expected a host name or"),
        ("{kind: io.l5d.specificHost, host: a b}", "`a b` is not a host"),
        ("{kind: io.l5d.replace}", "required key `path` is missing"),
        ("{kind: io.l5d.const, path: web}", "transformers[0].path: `web` is not a path"),
        (
            "{kind: io.l5d.k8s.localnode}",
            "needs the IP address of this pod in the environment variable `POD_IP`, which is not set",
        ),
        (
            "{kind: io.l5d.k8s.localnode, hostNetwork: true}",
            "variable `NODE_NAME`, which is not set. Set it in the manifest of the pod, from the field `spec.nodeName`",
        ),
        ("{kind: io.l5d.k8s.localnode, hostNetwork: 1}", "transformers[0].hostNetwork: `1` is not a boolean"),
        ("{kind: io.l5d.localhst}", "did you mean `io.l5d.localhost`?"),
    ] {
        for file in [with(written), on_namer(written)] {
            let found = bad(&file);
            assert!(found.iter().any(|line| line.contains(part)), "wanted {part}\nfound {found:#?}");
        }
    }
}

#[test]
fn a_list_is_bounded() {
    let list = |count: usize| with(&vec!["{kind: io.l5d.port, port: 1}"; count].join(", "));
    assert_eq!(good(&list(64)).routers[0].interpreter.transformers.len(), 64);
    one(&list(65), "routers[0].interpreter.transformers: 65 transformers; at most 64 are allowed");
}

#[test]
fn a_replacement_that_no_dtab_helps_is_warned_about() {
    let file = |path: &str| with(&format!("{{kind: io.l5d.const, path: {path}}}"));
    assert!(good(&file("/$/nil")).warnings.is_empty() && good(&file("/#/io.l5d.fs/web")).warnings.is_empty());
    let warnings = good(&file("/svc/web")).warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("no dtab applies to `/svc/web`"), "{warnings:?}");
}

/// Patterns of clients see the whole id, the mark of the transformer included (config reference §10).
#[test]
fn client_patterns_match_the_transformed_name() {
    let router = good_router(
        "client:\n  kind: io.l5d.static\n  configs:\n  - {prefix: '/%/io.l5d.port/4141/#/io.l5d.fs/{name}', requestAttemptTimeoutMs: 7}\n  - {prefix: '/#/io.l5d.fs/web', requestAttemptTimeoutMs: 8}",
    );
    let timeout = |id: &str| router.client.for_name(&dtab::Path::parse(id).unwrap()).attempt_timeout;
    assert_eq!(timeout("/%/io.l5d.port/4141/#/io.l5d.fs/web"), Some(Duration::from_millis(7)));
    assert_eq!(timeout("/#/io.l5d.fs/web"), Some(Duration::from_millis(8)));
    assert_eq!(timeout("/%/io.l5d.port/4142/#/io.l5d.fs/web"), None);
}
