//! Tables of kinds and keys that are refused with a message of their own.

use super::*;

fn later(file: &str, kind: &str, noun: &str) {
    let part = format!("`{kind}` is {noun} of Linkerd 1 that Switchyard does not have yet");
    one(file, &part);
}

#[test]
fn kinds_that_are_not_built_yet_say_so() {
    let top = |lines: String| format!("{}{lines}\n", router(""));
    for kind in
        "k8s k8s.ns k8s.external k8s.istio consul marathon serversets zkLeader curator dnssrv rancher".split(' ')
    {
        let kind = format!("io.l5d.{kind}");
        later(&top(format!("namers:\n- {{kind: {kind}, whatever: 1}}")), &kind, "a namer");
    }
    for kind in "recentRequests zipkin tracelog influxdb statsd".split(' ') {
        let kind = format!("io.l5d.{kind}");
        later(&top(format!("telemetry:\n- kind: {kind}")), &kind, "a telemeter");
    }
    for kind in "k8s.configMap consul.interpreter k8s.istio".split(' ') {
        let kind = format!("io.l5d.{kind}");
        later(&router(&format!("interpreter: {{dst: /x, kind: {kind}}}")), &kind, "an interpreter");
    }
    let daemonset = "transformers: [{kind: io.l5d.k8s.daemonset, namespace: l5d, service: l5d, port: incoming}]";
    for file in [
        router(&format!("interpreter: {{kind: default, {daemonset}}}")),
        top(format!("namers:\n- {{kind: io.l5d.fs, rootDir: ., {daemonset}}}")),
    ] {
        later(&file, "io.l5d.k8s.daemonset", "a transformer");
    }
    for kind in ["io.l5d.ingress", "io.l5d.k8s.istio", "io.l5d.k8s.istio-ingress"] {
        later(&router(&format!("identifier: {{kind: {kind}}}")), kind, "an identifier");
    }
    later(&router("tracePropagator: {kind: io.l5d.zipkin}"), "io.l5d.zipkin", "a trace propagator");
    later(&router("announcers: [{kind: io.l5d.serversets}]"), "io.l5d.serversets", "an announcer");
    later(
        &router("client: {requestAuthorizers: [{kind: io.l5d.k8s.istio}]}"),
        "io.l5d.k8s.istio",
        "a request authorizer",
    );
    for protocol in ["thrift", "thriftmux", "mux"] {
        later(&format!("routers:\n- {{protocol: {protocol}, x: y, servers: [{{}}]}}"), protocol, "a protocol");
    }
}

#[test]
fn experimental_kinds_want_the_flag() {
    let namer = |flag: &str| format!("{}namers:\n- {{kind: io.l5d.rancher{flag}}}\n", router(""));
    let wants = "it is experimental, and Linkerd demands `experimental: true` beside it";
    for flag in ["", ", experimental: false", ", experimental: 'true'", ", experimental: []"] {
        one(&namer(flag), wants);
    }
    assert!(!bad(&namer(", experimental: true"))[0].contains("demands"));
    for file in [
        "routers: [{protocol: thriftmux}]",
        &router("interpreter: {kind: io.l5d.k8s.configMap}"),
        &format!("{}telemetry: [{{kind: io.l5d.statsd}}]\n", router("")),
    ] {
        one(file, wants);
    }
    assert!(!bad("routers: [{protocol: thrift}]")[0].contains("demands"));
}

#[test]
fn unknown_kinds_name_the_nearest() {
    for (file, part) in [
        (
            router("identifier: {kind: io.l5d.headr}"),
            "unknown kind `io.l5d.headr`: not an identifier of Linkerd 1; expected one of: \
            io.l5d.header.token, io.l5d.header, io.l5d.header.path, io.l5d.methodAndHost, io.l5d.path, io.l5d.static; did you mean `io.l5d.header`?",
        ),
        (router("client: {loadBalancer: {kind: P2C}}"), "did you mean `p2c`?"),
        (format!("{}namers: [{{kind: io.l5d.consl}}]\n", router("")), "did you mean `io.l5d.consul`?"),
        (format!("{}namers: [{{kind: 5}}]\n", router("")), "unknown kind `5`: not a namer of Linkerd 1"),
        (
            format!("{}namers: [{{rootDir: .}}]\n", router("")),
            "namers[0].kind: required key `kind` is missing; expected one of: io.l5d.fs",
        ),
        (format!("{}namers: [{{kind: []}}]\n", router("")), "namers[0].kind: a list where a text belongs"),
        (router("interpreter: {kind: default, transformers: [{kind: io.l5d.prt}]}"), "did you mean `io.l5d.port`?"),
        ("routers: [{protocol: xyzzyx, servers: [{}]}]".to_owned(), "routers[0].protocol: unknown protocol `xyzzyx`"),
    ] {
        one(&file, part);
    }
}

#[test]
fn old_names_say_what_to_write() {
    let top = |line: &str| format!("{}{line}\n", router(""));
    for (file, part) in [
        (router("baseDtab: ''"), "routers[0].baseDtab: unknown key `baseDtab`: use `dtab`"),
        (router("timeoutMs: 1"), "write `client.requestAttemptTimeoutMs` (each attempt) or `service.totalTimeoutMs`"),
        (router("responseClassifier: {}"), "use `service.responseClassifier`"),
        (router("failFast: true"), "use `client.failFast`"),
        (router("httpUriInDst: true"), "it is an option of the identifier `io.l5d.methodAndHost`"),
        (router("loggers: []"), "use `client.requestAuthorizers`"),
        (router("maxChunkKB: 1"), "`streamAfterContentLengthKB`"),
        (router("maxRequestKB: 1"), "`streamAfterContentLengthKB`"),
        (router("client: {retries: {}}"), "use `service.retries`"),
        (router("thriftProtocol: binary"), "it belongs to thrift routers"),
        (top("tracers: []"), "write a telemeter of kind `io.l5d.zipkin` in the list `telemetry`"),
        (top("interpreter: {}"), "it belongs to a router"),
        (top("storage: {}"), "it belongs to `namerd.yaml`"),
        (top("telemetry: [{kind: io.l5d.commonMetrics}]"), "remove it, `/admin/metrics.json` is always there"),
        (top("telemetry: [{kind: io.zipkin.http}]"), "plug-in"),
        (router("identifier: {kind: io.l5d.headerToken}"), "write `io.l5d.header.token`"),
        (router("identifier: {kind: io.l5d.http.ingress}"), "write `io.l5d.ingress`"),
        (router("identifier: {kind: io.l5d.headerPath}"), "write `io.l5d.header.path`"),
    ] {
        one(&file, part);
    }
}

#[test]
fn problems_of_independent_objects_do_not_hide_each_other() {
    let text = "\
admin: {port: x}
namers:
- kind: io.l5d.consul
- kind: io.l5d.fs
routers:
- protocol: mux
  nothing: here
- protocl: http
  dstPrefix: x
  client: {loadBalancer: {kind: choir}, failFast: 1}
  servers:
  - {port: 1, ip: x}
  - {port: x}
oops: 1
";
    let places: Vec<String> = bad(text).iter().map(|line| line.split(": ").nth(1).unwrap().to_owned()).collect();
    assert_eq!(
        places,
        [
            "admin.port",
            "namers[0].kind",
            "namers[1].rootDir",
            "routers[0].protocol",
            "routers[1].protocl",
            "routers[1].protocol",
            "routers[1].dstPrefix",
            "routers[1].client.loadBalancer.kind",
            "routers[1].client.failFast",
            "routers[1].servers[0].ip",
            "routers[1].servers[1].port",
            "oops",
        ]
    );
}
