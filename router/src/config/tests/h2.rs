//! HTTP/2 and gRPC: protocols, settings, limits, classifiers, identifiers, and whole files of Linkerd 1.

use super::*;
use crate::config::{ClientProtocol, H2Limits, H2Params, Protocol, ServerProtocol};

/// A file with one good h2 router that ends in the lines given.
fn h2(lines: &str) -> String {
    router(lines).replacen("protocol: http", "protocol: h2", 1)
}

fn good_h2(lines: &str) -> RouterParams {
    good(&h2(lines)).routers.remove(0)
}

fn server(protocol: &str, entry: &str) -> ServerParams {
    good(&format!("routers: [{{protocol: {protocol}, servers: [{entry}]}}]")).routers.remove(0).servers.remove(0)
}

fn any() -> dtab::Path {
    dtab::Path::parse("/any/name").unwrap()
}

fn client(protocol: &str, lines: &str) -> ClientParams {
    let text = format!("routers: [{{protocol: {protocol}, servers: [{{}}], client: {lines}}}]");
    good(&text).routers[0].client.for_name(&any())
}

fn service(lines: &str) -> ServiceParams {
    good_h2(&format!("service: {lines}")).service.for_name(&any())
}

#[test]
fn defaults_of_h2_routers() {
    for flag in ["", "\n  experimental: true"] {
        let text = format!("routers:\n- protocol: h2{flag}\n  servers:\n  - ip: 127.0.0.1\n");
        let config = good(&text);
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        let router = &config.routers[0];
        assert_eq!((router.label.as_str(), router.protocol), ("h2", Protocol::H2));
        assert!(matches!(&router.identifiers[..],
            [IdentifierParams::HeaderToken { header, written }] if header == ":authority" && written == ":authority"));
        let server = &router.servers[0];
        assert_eq!((server.port, server.protocol), (4142, ServerProtocol::H2));
        assert_eq!((server.h2, server.h2_limits), (H2Params::SERVER, H2Limits::default()));
        assert_eq!(
            router.client.for_name(&any()),
            ClientParams { protocol: ClientProtocol::H2, ..ClientParams::default() }
        );
        let service = ServiceParams { replay_bytes: Some(16_383), ..ServiceParams::default() };
        assert_eq!(router.service.for_name(&any()), service);
    }
    // Routers of both protocols have different labels and ports.
    let both = good("routers: [{protocol: http, servers: [{}]}, {protocol: h2, servers: [{}]}]");
    assert_eq!(both.routers[0].protocol, Protocol::Http);
    assert_eq!(both.routers[0].servers[0].protocol, ServerProtocol::Http);
    assert_eq!(both.routers[0].client.for_name(&any()).protocol, ClientProtocol::Http);
}

#[test]
fn servers_and_clients_may_speak_another_protocol() {
    for (text, protocol) in
        [("http", ServerProtocol::Http), ("h2", ServerProtocol::H2), ("detect", ServerProtocol::Detect)]
    {
        for router in ["http", "h2"] {
            assert_eq!(server(router, &format!("{{protocol: {text}}}")).protocol, protocol, "{router} {text}");
        }
    }
    for (text, protocol) in [("http", ClientProtocol::Http), ("h2", ClientProtocol::H2), ("same", ClientProtocol::Same)]
    {
        for router in ["http", "h2"] {
            assert_eq!(client(router, &format!("{{protocol: {text}}}")).protocol, protocol, "{router} {text}");
        }
    }
    // The port goes with the router, so that a router that learns another protocol stays where it is.
    assert_eq!(server("http", "{protocol: h2}").port, 4140);
    let by_name = good_h2(
        "client:\n  kind: io.l5d.static\n  configs:\n  - {prefix: /, maxFrameBytes: 20000}\n  - {prefix: /any, protocol: http}",
    );
    assert_eq!(by_name.client.for_name(&any()).protocol, ClientProtocol::Http);
    assert_eq!(by_name.client.for_name(&any()).h2.max_frame, 20_000);
    assert_eq!(by_name.client.for_name(&dtab::Path::parse("/other").unwrap()).protocol, ClientProtocol::H2);
    for (text, part) in [
        (
            h2("client: {protocol: detect}"),
            "client.protocol: `detect` is not a protocol here; expected one of: http, h2, same",
        ),
        (h2("client: {protocol: [h2]}"), "a list where a text belongs; expected one of: http, h2, same"),
        (
            "routers: [{protocol: h2, servers: [{protocol: same}]}]".to_owned(),
            "servers[0].protocol: `same` is not a protocol here; expected one of: http, h2, detect",
        ),
        ("routers: [{protocol: http2, servers: [{}]}]".to_owned(), "unknown protocol `http2`"),
        ("routers: [{protocol: H2, servers: [{}]}]".to_owned(), "did you mean `h2`?"),
    ] {
        one(&text, part);
    }
}

#[test]
fn settings_of_servers() {
    let set = server(
        "h2",
        "{initialStreamWindowBytes: 100, initialConnectionWindowBytes: 65_535, headerTableBytes: 0, maxFrameBytes: 16777215,
          maxHeaderListBytes: 9, windowUpdateRatio: 0.5, maxConcurrentStreamsPerConnection: 7, pingIntervalMs: 0, pingTimeoutMs: 3}",
    );
    let want = H2Params {
        stream_window: 100,
        connection_window: 65_535,
        header_table: 0,
        max_frame: 16_777_215,
        max_header_list: 9,
        max_streams: 7,
        ping_every: None,
        ping_timeout: Duration::from_millis(3),
    };
    assert_eq!(set.h2, want);
    let large = server("h2", "{initialStreamWindowBytes: 2_147_483_647, pingIntervalMs: 1}").h2;
    assert_eq!((large.stream_window, large.connection_window), (2_147_483_647, 2_147_483_647));
    assert_eq!(large.ping_every, Some(Duration::from_millis(1)));
    for (entry, part) in [
        (
            "{initialStreamWindowBytes: 0}",
            "initialStreamWindowBytes: 0 is out of range; expected a whole number of at least 1",
        ),
        ("{initialStreamWindowBytes: 2147483648}", "initialStreamWindowBytes: 2147483648 is out of range"),
        ("{initialConnectionWindowBytes: 65534}", "65534 is out of range; expected a whole number of at least 65535"),
        ("{headerTableBytes: -1}", "servers[0].headerTableBytes: -1 is out of range"),
        ("{maxFrameBytes: 16383}", "16383 is out of range; expected a whole number from 16384 to 16777215"),
        ("{maxFrameBytes: 16777216}", "servers[0].maxFrameBytes: 16777216 is out of range"),
        ("{maxHeaderListBytes: 0}", "servers[0].maxHeaderListBytes: 0 is out of range"),
        ("{maxHeaderListBytes: '5'}", "`5` is quoted"),
        (
            "{maxHeaderListByts: 5}",
            "unknown key `maxHeaderListByts`: write `maxHeaderListBytes`: only the documents of Linkerd spell it so",
        ),
        (
            "{windowUpdateRatio: 0}",
            "windowUpdateRatio: 0 is out of range; expected a number between 0 and 1, both excluded",
        ),
        ("{windowUpdateRatio: 1.0}", "windowUpdateRatio: 1 is out of range"),
        ("{windowUpdateRatio: x}", "`x` is not a number; expected a number between 0 and 1"),
        ("{maxConcurrentStreamsPerConnection: 0}", "maxConcurrentStreamsPerConnection: 0 is out of range"),
        ("{pingTimeoutMs: 0}", "servers[0].pingTimeoutMs: 0 is out of range"),
        ("{pingIntervalMs: x}", "`x` is not a whole number"),
        ("{timestampHeader: x-time}", "unknown key `timestampHeader`: it belongs to http routers"),
    ] {
        one(&format!("routers: [{{protocol: h2, servers: [{entry}]}}]"), part);
    }
}

#[test]
fn limits_of_servers() {
    let read = |text: &str| server("h2", &format!("{{h2Limits: {text}}}")).h2_limits;
    assert_eq!(read("{}"), H2Limits::default());
    let want = H2Limits { resets: 1, local_resets: 2, control_frames: 3, empty_frames: 4, continuation_frames: 5 };
    let text = "{resetsPerSecond: 1, localResetsPerSecond: 2, controlFramesPerSecond: 3, emptyFramesPerSecond: 4, continuationFrames: 5}";
    assert_eq!(read(text), want);
    for key in [
        "resetsPerSecond",
        "localResetsPerSecond",
        "controlFramesPerSecond",
        "emptyFramesPerSecond",
        "continuationFrames",
    ] {
        let text = format!("routers: [{{protocol: h2, servers: [{{h2Limits: {{{key}: 0}}}}]}}]");
        one(&text, &format!("servers[0].h2Limits.{key}: 0 is out of range; expected a whole number of at least 1"));
    }
    one(
        "routers: [{protocol: h2, servers: [{h2Limits: {resets: 1}}]}]",
        "unknown key `resets`; expected one of: resetsPerSecond,",
    );
    one(
        "routers: [{protocol: h2, servers: [{h2Limits: 5}]}]",
        "servers[0].h2Limits: a single value where a map belongs",
    );
}

#[test]
fn settings_of_clients() {
    let set = client(
        "h2",
        "{initialStreamWindowBytes: 70000, headerTableBytes: 1, maxFrameBytes: 16384, maxHeaderListBytes: 2, windowUpdateRatio: 0.99,
          pingIntervalMs: -1, forwardClientCert: true}",
    );
    assert_eq!(
        (set.h2.stream_window, set.h2.connection_window, set.h2.header_table),
        (70_000, H2Params::CLIENT.connection_window, 1)
    );
    assert_eq!((set.h2.max_header_list, set.h2.ping_every, set.forward_client_cert), (2, None, true));
    assert_eq!(client("http", "{protocol: h2}").h2, H2Params::CLIENT);
    for (lines, part) in [
        ("{maxFrameBytes: 1}", "client.maxFrameBytes: 1 is out of range"),
        (
            "{maxHeaderListByts: 5}",
            "client.maxHeaderListByts: unknown key `maxHeaderListByts`: write `maxHeaderListBytes`",
        ),
        ("{maxConcurrentStreamsPerConnection: 5}", "it belongs to an entry of `servers`"),
        ("{h2Limits: {}}", "client.h2Limits: unknown key `h2Limits`: it belongs to an entry of `servers`"),
    ] {
        one(&h2(&format!("client: {lines}")), part);
    }
    one(&h2("initialStreamWindowBytes: 1"), "write it in an entry of `servers`, or under `client`");
    one(&h2("maxConcurrentStreamsPerConnection: 1"), "it belongs to an entry of `servers`");
}

#[test]
fn what_cannot_work_is_warned_about() {
    let no_h2 = "no effect: this server speaks HTTP/1 alone; `protocol: h2` or `protocol: detect` would change that";
    let no_client =
        "no effect: nothing here speaks HTTP/2 to services; `protocol: h2` or `protocol: same` would change that";
    for (text, part) in [
        ("{protocol: http, servers: [{maxFrameBytes: 20000}]}", format!("servers[0].maxFrameBytes: {no_h2}")),
        ("{protocol: http, servers: [{h2Limits: {}}]}", format!("servers[0].h2Limits: {no_h2}")),
        (
            "{protocol: h2, servers: [{protocol: http, pingIntervalMs: 1}]}",
            format!("servers[0].pingIntervalMs: {no_h2}"),
        ),
        (
            "{protocol: http, servers: [{}], client: {maxFrameBytes: 20000}}",
            format!("client.maxFrameBytes: {no_client}"),
        ),
        (
            "{protocol: h2, servers: [{upgrades: true}]}",
            "servers[0].upgrades: no effect: there are no upgrades in HTTP/2".to_owned(),
        ),
        (
            "{protocol: h2, servers: [{initialStreamWindowBytes: 100000, initialConnectionWindowBytes: 65535}]}",
            "`initialStreamWindowBytes` of 100000 is never used up: that of the connection is 65535".to_owned(),
        ),
        (
            "{protocol: h2, servers: [{maxHeaderListBytes: 1_000_000}]}",
            "headers of 1000000 bytes, which `maxHeaderListBytes` allows, may take more frames than \
             `h2Limits.continuationFrames` does"
                .to_owned(),
        ),
        (
            "{protocol: h2, servers: [{}], client: {protocol: http}, service: {responseClassifier: {kind: io.l5d.h2.grpc.default}}}",
            "a gRPC classifier, and `client.protocol: http`: services that speak HTTP/1 have no gRPC status".to_owned(),
        ),
        (
            "{protocol: h2, servers: [{}], service: {responseClassifier: {kind: io.l5d.h2.grpc.default, successStatusCodes: [5]}}}",
            "0 is not among the `successStatusCodes`, so every call that went well is a failure".to_owned(),
        ),
        (
            "{protocol: h2, servers: [{}], service: {retries: {replayBufferKB: 1}, retryBufferSize: {requestBytes: 1}}}",
            "service.retries: `replayBufferKB` has its way over `retryBufferSize.requestBytes`".to_owned(),
        ),
        (
            "{protocol: h2, servers: [{}], h2AccessLogAppend: true}",
            "h2AccessLogAppend: no effect without `h2AccessLog`".to_owned(),
        ),
    ] {
        let warnings = good(&format!("routers: [{text}]")).warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(&part), "{text}: {warnings:?}");
    }
    for text in [
        "{protocol: http, servers: [{protocol: detect, maxFrameBytes: 20000}], client: {protocol: same, maxFrameBytes: 20000}}",
        "{protocol: h2, servers: [{protocol: detect, upgrades: true}]}",
        "{protocol: http, servers: [{}], client: {kind: io.l5d.static, configs: [{prefix: /, maxFrameBytes: 20000}, {prefix: /a, protocol: h2}]}}",
        "{protocol: h2, servers: [{maxHeaderListBytes: 1_000_000, h2Limits: {continuationFrames: 64}}]}",
    ] {
        let warnings = good(&format!("routers: [{text}]")).warnings;
        assert!(warnings.is_empty(), "{text}: {warnings:?}");
    }
}

#[test]
fn classifiers() {
    for (kind, classifier) in [
        ("nonRetryable5XX", Classifier::NonRetryable5xx),
        ("retryableRead5XX", Classifier::RetryableRead5xx),
        ("retryableIdempotent5XX", Classifier::RetryableIdempotent5xx),
        ("retryableAll5XX", Classifier::RetryableAll5xx),
        ("allSuccessful", Classifier::AllSuccessful),
    ] {
        assert_eq!(service(&format!("{{responseClassifier: {{kind: io.l5d.h2.{kind}}}}}")).classifier, classifier);
        let wrong = format!("service: {{responseClassifier: {{kind: io.l5d.http.{kind}}}}}");
        let part =
            "is not a response classifier here: it is for http routers; h2 routers have the same under `io.l5d.h2.`";
        one(&h2(&wrong), &format!("f:5:40: routers[0].service.responseClassifier.kind: `io.l5d.http.{kind}` {part}"));
        let wrong = format!("service: {{responseClassifier: {{kind: io.l5d.h2.{kind}}}}}");
        one(&router(&wrong), "it is for h2 routers; http routers have the same under `io.l5d.http.`");
    }
    for (kind, success, retry) in [
        ("default", 1, GrpcRetry::Codes(1 << 14)),
        ("compliant", 1, GrpcRetry::Compliant),
        ("alwaysRetryable", 1, GrpcRetry::All),
        ("neverRetryable", 1, GrpcRetry::None),
        ("default, successStatusCodes: [0, 5, 31]", 1 | 1 << 5 | 1 << 31, GrpcRetry::Codes(1 << 14)),
        ("retryableStatusCodes, retryableStatusCodes: [4, 14]", 1, GrpcRetry::Codes(1 << 4 | 1 << 14)),
        ("retryableStatusCodes, retryableStatusCodes: []", 1, GrpcRetry::Codes(0)),
    ] {
        let got = service(&format!("{{responseClassifier: {{kind: io.l5d.h2.grpc.{kind}}}}}")).classifier;
        assert_eq!(got, Classifier::Grpc(GrpcClassifier { success, retry }), "{kind}");
        let wrong = format!("service: {{responseClassifier: {{kind: io.l5d.h2.grpc.{kind}}}}}");
        one(&router(&wrong), "is not a response classifier here: it is for h2 routers");
    }
    for (options, part) in [
        ("grpc.Default", "write `io.l5d.h2.grpc.default`"),
        (
            "grpc.retryableStatusCodes",
            "responseClassifier.retryableStatusCodes: required key `retryableStatusCodes` is missing",
        ),
        (
            "grpc.default, retryableStatusCodes: [1]",
            "unknown key `retryableStatusCodes`; expected one of: kind, successStatusCodes",
        ),
        ("grpc.default, successStatusCodes: 0", "successStatusCodes: a single value where a list belongs"),
        (
            "grpc.default, successStatusCodes: [0, 32]",
            "successStatusCodes[1]: 32 is out of range; expected a whole number from 0 to 31",
        ),
        ("grpc.default, successStatusCodes: [0, OK]", "successStatusCodes[1]: `OK` is not a whole number"),
        ("grpc.compliant, x: 1", "responseClassifier.x: unknown key `x`"),
        ("retryableRead5xx", "did you mean `io.l5d.h2.retryableRead5XX`?"),
        ("allSuccessful, successStatusCodes: [0]", "unknown key `successStatusCodes`; expected one of: kind"),
    ] {
        one(&h2(&format!("service: {{responseClassifier: {{kind: io.l5d.h2.{options}}}}}")), part);
    }
    one(&h2("service: {responseClassifier: {kind: io.l5d.retryableRead5XX}}"), "write `io.l5d.h2.retryableRead5XX`");
}

#[test]
fn keys_of_services() {
    let set = service("{classificationTimeoutMs: '50', retryBufferSize: {requestBytes: 20000.5, responseBytes: '1'}}");
    assert_eq!((set.classification_timeout, set.replay_bytes), (Some(Duration::from_millis(50)), Some(20_000)));
    assert_eq!(service("{retryBufferSize: {requestBytes: 0}}").replay_bytes, Some(0));
    assert_eq!(service("{retries: {replayBufferKB: 2}}").replay_bytes, Some(2048));
    // `retryBufferSize` counts as one: a later entry without a size of requests has that of Linkerd.
    let merged = good_h2(
        "service:\n  kind: io.l5d.static\n  configs:\n  - {prefix: /, classificationTimeoutMs: 9, retryBufferSize: {requestBytes: 5}}\n\
         \x20 - {prefix: /any, retryBufferSize: {responseBytes: 7}}",
    );
    let (any, other) =
        (merged.service.for_name(&any()), merged.service.for_name(&dtab::Path::parse("/other").unwrap()));
    assert_eq!((any.replay_bytes, other.replay_bytes), (Some(16_383), Some(5)));
    assert_eq!(any.classification_timeout, Some(Duration::from_millis(9)));
    for (lines, part) in [
        ("{classificationTimeoutMs: -1}", "service.classificationTimeoutMs: -1 is out of range"),
        ("{classificationTimeoutMs: x}", "`x` is not a number"),
        ("{retryBufferSize: 5}", "service.retryBufferSize: a single value where a map belongs"),
        ("{retryBufferSize: {requestBytes: 16777217}}", "retryBufferSize.requestBytes: 16777217 is out of range"),
        ("{retryBufferSize: {responseBytes: -1}}", "retryBufferSize.responseBytes: -1 is out of range"),
        ("{retryBufferSize: {bytes: 1}}", "unknown key `bytes`; expected one of: requestBytes, responseBytes"),
    ] {
        one(&h2(&format!("service: {lines}")), part);
    }
    one(&router("service: {retryBufferSize: {}}"), "it belongs to h2 routers");
}

#[test]
fn access_logs() {
    let log = good_h2(
        "h2AccessLog: a.log\nh2AccessLogRollPolicy: daily\nh2AccessLogAppend: false\nh2AccessLogRotateCount: 3\nh2AccessLogFormat: json\nh2AccessLogQueueKB: 9",
    )
    .access_log
    .unwrap();
    assert_eq!((log.path.to_str(), log.format), (Some("a.log"), ::telemetry::LogFormat::Json));
    assert_eq!((log.options.append, log.options.rotate_count, log.options.queue_bytes), (false, Some(3), 9 << 10));
    for rest in ["", "RollPolicy", "Append", "RotateCount", "Format", "QueueKB"] {
        let to_h2 = "it belongs to h2 routers; http routers have the same as `httpAccessLog...`";
        one(&router(&format!("h2AccessLog{rest}: x")), &format!("unknown key `h2AccessLog{rest}`: {to_h2}"));
        let to_http = "it belongs to http routers; h2 routers have the same as `h2AccessLog...`";
        one(&h2(&format!("httpAccessLog{rest}: x")), &format!("unknown key `httpAccessLog{rest}`: {to_http}"));
    }
    one(&h2("h2AccessLog: a/"), "h2AccessLog: `a/` is not the name of a file");
    one(&h2("h2AccessLog: a\nh2AccessLogRollPolicy: x"), "`x` is not a roll policy");
    let two = "routers:\n- {protocol: http, servers: [{}], httpAccessLog: a}\n- {protocol: h2, servers: [{}], h2AccessLog: ./a, h2AccessLogFormat: json}\n";
    one(two, "routers[1].h2AccessLog: the same file as routers[0].httpAccessLog, with other settings");
}

#[test]
fn identifiers() {
    let text = "identifier:\n- {kind: io.l5d.header.token, header: My-Header}\n- {kind: io.l5d.header.path, header: ':Path', segments: 2}\n\
        - kind: io.l5d.header.path\n- kind: io.l5d.header\n- kind: io.l5d.path\n- {kind: io.l5d.static, path: /a}\n- kind: io.l5d.methodAndHost";
    for file in [h2(text), router(text)] {
        let ids = good(&file).routers.remove(0).identifiers;
        assert!(matches!(&ids[0], IdentifierParams::HeaderToken { header, .. } if header == "my-header"));
        assert!(matches!(&ids[1], IdentifierParams::HeaderPath { header, segments: Some(2) } if header == ":path"));
        assert!(matches!(&ids[2], IdentifierParams::HeaderPath { header, segments: None } if header == ":path"));
        assert_eq!(ids.len(), 7);
    }
    let token = |file: String| match good(&file).routers.remove(0).identifiers.remove(0) {
        IdentifierParams::HeaderToken { header, .. } => header,
        other => panic!("{other:?}"),
    };
    assert_eq!(token(h2("identifier: {kind: io.l5d.header.token}")), ":authority");
    assert_eq!(token(router("identifier: {kind: io.l5d.header.token}")), "host");
    assert_eq!(token(h2("identifier: {kind: io.l5d.header.token, header: ':scheme'}")), ":scheme");
    for (lines, part) in [
        (
            "{kind: io.l5d.header.path, segments: 0}",
            "identifier.segments: 0 is out of range; expected a whole number of at least 1",
        ),
        ("{kind: io.l5d.header.path, consume: true}", "unknown key `consume`; expected one of: kind, header, segments"),
        ("{kind: io.l5d.header.token, header: ':status'}", "`:status` is not a legal header name"),
        (
            "{kind: io.l5d.header.path, header: []}",
            "identifier.header: a list where the name of an HTTP header belongs",
        ),
        ("{kind: io.l5d.ingress}", "`io.l5d.ingress` is an identifier of Linkerd 1 that Switchyard does not have yet"),
        ("{kind: io.l5d.h2.ingress}", "write `io.l5d.ingress`"),
    ] {
        one(&h2(&format!("identifier: {lines}")), part);
    }
}

/// The files of a certificate in a folder of their own.
fn certificates() -> (tempfile::TempDir, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["linkerd".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    (dir, cert, key)
}

/// The shape of linkerd-examples' k8s-daemonset/k8s/linkerd-grpc.yml and servicemesh.yml, with `io.l5d.fs` in place of
/// Kubernetes and TLS between the routers.
const FOR_GRPC: &str = "\
admin:
  ip: 0.0.0.0
  port: 9990
namers:
- kind: io.l5d.fs
  rootDir: .
telemetry:
- kind: io.l5d.prometheus
usage:
  orgId: linkerd-examples-daemonset-grpc
routers:
- protocol: h2
  label: outgoing
  experimental: true
  dtab: |
    /srv        => /#/io.l5d.fs;
    /svc        => /$/io.buoyant.http.domainToPathPfx/srv;
  identifier:
    kind: io.l5d.header.path
    segments: 1
  interpreter:
    kind: default
    transformers:
    - kind: io.l5d.port
      port: 4341
  client:
    tls:
      commonName: linkerd
      trustCerts:
      - CERT
    windowUpdateRatio: 0.9
  service:
    totalTimeoutMs: 10000
    responseClassifier:
      kind: io.l5d.h2.grpc.default
      successStatusCodes: [0, 5]
    classificationTimeoutMs: 200
    retryBufferSize:
      requestBytes: 32768
      responseBytes: 32768
  servers:
  - port: 4340
    ip: 0.0.0.0
    maxConcurrentStreamsPerConnection: 500
- protocol: h2
  label: incoming
  experimental: true
  dtab: |
    /srv        => /#/io.l5d.fs;
    /svc        => /$/io.buoyant.http.domainToPathPfx/srv;
  identifier:
    kind: io.l5d.header.path
    segments: 1
  interpreter:
    kind: default
    transformers:
    - kind: io.l5d.localhost
  h2AccessLog: logs/access.log
  h2AccessLogRollPolicy: daily
  servers:
  - port: 4341
    ip: 0.0.0.0
    initialStreamWindowBytes: 1048576
    maxFrameBytes: 32768
    tls:
      certPath: CERT
      keyPath: KEY
";

#[test]
fn a_file_of_linkerd_for_grpc_loads_unchanged() {
    let (_dir, cert, key) = certificates();
    let config = good(&FOR_GRPC.replace("CERT", &cert).replace("KEY", &key));
    let others = config.warnings.iter().filter(|text| !text.contains("`trustCerts` is deprecated"));
    assert_eq!(others.count(), 0, "{:?}", config.warnings);
    let [outgoing, incoming] = &config.routers[..] else { panic!("two routers") };
    assert!(outgoing.servers[0].tls.is_none());
    assert!(matches!(&outgoing.identifiers[..],
        [IdentifierParams::HeaderPath { header, segments: Some(1) }] if header == ":path"));
    let client = outgoing.client.for_name(&any());
    assert_eq!(client.protocol, ClientProtocol::H2);
    assert_eq!(client.tls.unwrap().common_name.as_deref(), Some("linkerd"));
    let service = outgoing.service.for_name(&any());
    assert_eq!((service.replay_bytes, service.total_timeout), (Some(32_768), Some(Duration::from_secs(10))));
    assert!(matches!(service.classifier, Classifier::Grpc(grpc) if grpc.success == 0b10_0001));
    assert_eq!(incoming.servers[0].tls.as_ref().unwrap().alpn, [b"h2".to_vec()]);
    assert_eq!(incoming.servers[0].h2.max_frame, 32_768);
    assert!(incoming.access_log.is_some());
}

/// ALPN offers what the listener accepts.
#[test]
fn alpn_of_listeners() {
    let (_dir, cert, key) = certificates();
    let names = |protocol: &str| {
        let tls = format!("tls: {{certPath: '{cert}', keyPath: '{key}'}}");
        let offered = server("http", &format!("{{protocol: {protocol}, {tls}}}")).tls.unwrap().alpn;
        offered.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("http"), ["http/1.1", "http/1.0"]);
    assert_eq!(names("h2"), ["h2"]);
    assert_eq!(names("detect"), ["h2", "http/1.1", "http/1.0"]);
}
