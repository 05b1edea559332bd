//! Tables of values: what each key accepts and gives, and what it refuses.

use super::*;
use balance::{AccrualConfig, Algorithm, Backoff};

const MS: u64 = 1_000_000;

fn name(text: &str) -> dtab::Path {
    dtab::Path::parse(text).unwrap()
}

fn client(lines: &str) -> ClientParams {
    good_router(&format!("client: {lines}")).client.for_name(&name("/#/io.l5d.fs/web"))
}

fn service(lines: &str) -> ServiceParams {
    good_router(&format!("service: {lines}")).service.for_name(&name("/svc/web"))
}

fn server(entry: &str) -> ServerParams {
    good(&format!("routers: [{{protocol: http, servers: [{entry}]}}]")).routers.remove(0).servers.remove(0)
}

#[test]
fn booleans_are_those_of_yaml_1_1() {
    for (text, value) in [
        ("true", true),
        ("True", true),
        ("TRUE", true),
        ("yes", true),
        ("Yes", true),
        ("YES", true),
        ("on", true),
        ("On", true),
        ("ON", true),
        ("false", false),
        ("False", false),
        ("FALSE", false),
        ("no", false),
        ("No", false),
        ("NO", false),
        ("off", false),
        ("Off", false),
        ("OFF", false),
        ("~", false),
        ("null", false),
    ] {
        assert_eq!(good_router(&format!("originator: {text}")).originator, value, "{text}");
    }
    for text in ["y", "n", "1", "tRUE", "'true'", "\"yes\"", "[]", "{}"] {
        one(&router(&format!("originator: {text}")), "routers[0].originator: ");
    }
}

#[test]
fn integers_are_decimal_and_unquoted() {
    for (text, value) in [("4140", 4140), ("4_140", 4140), ("04140", 4140), ("0", 0), ("+80", 80), ("!!int 80", 80)] {
        assert_eq!(server(&format!("{{port: {text}}}")).port, value, "{text}");
    }
    for text in
        ["65536", "-1", "'80'", "\"4_140\"", "0x10", "0o10", "1:20", "80.0", "8e1", "http", "[80]", "yes", "|\n     80"]
    {
        let text = format!("routers:\n- protocol: http\n  servers:\n  - port: {text}\n");
        one(&text, "f:4:11: routers[0].servers[0].port: ");
    }
    one(&router("bindingTimeoutMs: 9999999999"), "out of range; expected a whole number of at least 1");
    one(&router("bindingTimeoutMs: 99999999999999999999999"), "is not a whole number");
}

#[test]
fn texts_keep_their_source() {
    for (text, value) in [
        ("0123", "0123"),
        ("1.10", "1.10"),
        ("0x1F", "0x1F"),
        ("Yes", "Yes"),
        ("'a b'", "a b"),
        ("1_000", "1_000"),
        ("/http-consul", "/http-consul"),
        ("!!str 5", "5"),
        ("\"\\u00e9\"", "é"),
        ("-0", "-0"),
        ("True", "True"),
    ] {
        assert_eq!(good_router(&format!("label: {text}")).label, value);
    }
}

#[test]
fn servers() {
    let full = server(
        "{port: 0, ip: '::1', clearContext: on, maxConcurrentRequests: 7, serverSession: {lifeTimeMs: '5', idleTimeMs: 6.9},
          timeoutMs: 9, label: x, timestampHeader: X-Time, maxCallDepth: 3, announce: [], tls: ~,
          socketOptions: {noDelay: false, reuseAddr: false, reusePort: true, keepAlive: true, backlog: 9}}",
    );
    assert_eq!((full.port, full.ip.to_string().as_str(), full.clear_context), (0, "::1", true));
    assert_eq!((full.max_concurrent_requests, full.max_call_depth), (Some(7), 3));
    assert_eq!(full.life_time, Some(Duration::from_millis(5)));
    assert_eq!(full.idle_time, Duration::from_millis(6));
    assert_eq!((full.timeout, full.timestamp_header.as_deref()), (Some(Duration::from_millis(9)), Some("X-Time")));
    let socket = SocketParams {
        no_delay: false,
        reuse_addr: false,
        reuse_port: true,
        keep_alive: Some(true),
        backlog: Some(9),
        ..SocketParams::default()
    };
    assert_eq!(full.socket, socket);
    assert_eq!(server("{timeoutMs: 0}").timeout, None);
    for (entry, part) in [
        ("{ip: localhost}", "servers[0].ip: `localhost` is not a literal IP address"),
        ("{maxConcurrentRequests: 0}", "0 is out of range; expected a whole number of at least 1"),
        ("{timestampHeader: {}}", "a map where the name of an HTTP header belongs"),
        ("{timestampHeader: 'a b'}", "`a b` is not a legal header name"),
        ("{serverSession: {idleTimeMs: 0}}", "serverSession.idleTimeMs: 0 is out of range"),
        ("{socketOptions: {noDelay: 1}}", "socketOptions.noDelay: `1` is not a boolean"),
        ("{socketOptions: {readTimeoutMs: x}}", "socketOptions.readTimeoutMs: `x` is not a whole number"),
        ("{headerTimeoutMs: 0}", "servers[0].headerTimeoutMs: 0 is out of range"),
        ("{stallTimeoutMs: -1}", "servers[0].stallTimeoutMs: -1 is out of range"),
        ("{enforceDeadlines: 1}", "servers[0].enforceDeadlines: `1` is not a boolean"),
        ("{announce: [/a]}", "`announce` is a key of Linkerd 1"),
        ("{addForwardedHeader: {by: {kind: ipPort}}}", "unknown kind `ipPort`: not a labeler of Linkerd 1"),
        ("{addForwardedHeader: {for: {kind: static}}}", "required key `label` is missing"),
        ("{addForwardedHeader: {for: {kind: static, label: 'a b'}}}", "`a b` is not a legal label of a `Forwarded`"),
        ("{addForwardedHeader: {to: {kind: ip}}}", "unknown key `to`; expected one of: by, for"),
        ("{upgrades: 1}", "`1` is not a boolean"),
        ("{engine: {kind: netty4}}", "unknown key `engine`: remove it"),
    ] {
        one(&format!("routers: [{{protocol: http, servers: [{entry}]}}]"), part);
    }
}

#[test]
fn forwarded() {
    let read = |text: &str| {
        let yaml = format!("routers: [{{protocol: http, label: /out, servers: [{{addForwardedHeader: {text}}}]}}]");
        good(&yaml).routers.remove(0).servers.remove(0).forwarded
    };
    assert_eq!(read("null"), None);
    assert_eq!(read("{}"), Some(ForwardedParams::default()));
    let fixed = |label: &str| Labeler::Fixed(label.to_owned());
    let params = |by, client| Some(ForwardedParams { by, client });
    assert_eq!(read("{by: {kind: ip}, for: {kind: 'ip:port'}}"), params(Labeler::Ip, Labeler::IpPort));
    assert_eq!(
        read("{by: {kind: router}, for: {kind: connectionRandom}}"),
        params(fixed("-out"), Labeler::ConnectionRandom)
    );
    assert_eq!(read("{by: {kind: static, label: a}, for: {kind: static, label: _b}}"), params(fixed("a"), fixed("b")));
}

#[test]
fn limits_of_switchyard() {
    let plain = good_router("maxHeadersKB: 3").limits;
    assert_eq!((plain.request_body, plain.response_body), (None, None));
    assert_eq!((plain.request_trailers, plain.response_trailers, plain.response_headers), (3072, 3072, 3072));
    assert_eq!((plain.response_line, good_router("maxInitialLineKB: 7").limits.response_line), (4096, 7168));
    let set =
        good_router("maxRequestBodyKB: 1\nmaxResponseBodyKB: 2\nmaxTrailersKB: 4\nmaxResponseHeadersKB: 5").limits;
    assert_eq!((set.request_body, set.response_body), (Some(1024), Some(2048)));
    assert_eq!((set.request_trailers, set.response_trailers, set.response_headers), (4096, 4096, 5120));
}

#[test]
fn lines_of_dtab_entries() {
    let lines = |text: &str| good(text).routers.remove(0).dtab_source.lines;
    let block = "routers:\n- protocol: http\n  servers: [{}]\n  dtab: |\n    # why\n    /a => /b ; /c => /d ;\n\n    /e => /f |\n      /g ;\n    /h=>/i\n";
    assert_eq!(lines(block), [6, 6, 8, 10]);
    assert_eq!(lines("routers:\n- protocol: http\n  servers: [{}]\n  dtab: /a => /b; /c => /d\n"), [4, 4]);
    assert_eq!(lines("routers:\n- protocol: http\n  servers: [{}]\n  dtab: >\n    /a => /b;\n    /c => /d\n"), [4, 4]);
    assert_eq!(lines("routers: [{protocol: http, servers: [{}]}]"), [0; 0]);
}

#[test]
fn identifiers() {
    let ids = good_router(
        "identifier:\n- {kind: io.l5d.header.token, header: My-Header}\n- kind: io.l5d.header\n- {kind: io.l5d.methodAndHost, httpUriInDst: true}\n\
         - {kind: io.l5d.path, segments: 3, consume: true}\n- {kind: io.l5d.static, path: /a/b}",
    )
    .identifiers;
    let shown = format!("{ids:?}");
    assert!(
        matches!(&ids[0], IdentifierParams::HeaderToken { header, written } if header == "my-header" && written == "My-Header")
    );
    assert!(matches!(&ids[1], IdentifierParams::Header { header, .. } if header == "l5d-name"), "{shown}");
    assert!(matches!(ids[2], IdentifierParams::MethodAndHost { http_uri_in_dst: true }));
    assert!(matches!(ids[3], IdentifierParams::Path { segments: 3, consume: true }));
    assert!(matches!(&ids[4], IdentifierParams::Static { path } if path.to_string() == "/a/b"));
    for (lines, part) in [
        ("identifier: []", "routers[0].identifier: empty identifier list"),
        ("identifier: io.l5d.path", "a single value where a map belongs"),
        (
            "identifier: {header: x}",
            "identifier.kind: required key `kind` is missing; expected one of: io.l5d.header.token",
        ),
        ("identifier: {kind: io.l5d.static}", "identifier.path: required key `path` is missing"),
        ("identifier: {kind: io.l5d.static, path: a}", "`a` is not a path: '/' expected"),
        ("identifier: {kind: io.l5d.path, segments: 0}", "0 is out of range"),
        ("identifier: {kind: io.l5d.header.token, header: ':status'}", "not a legal header name"),
        ("identifier: [{kind: io.l5d.path, experimental: true}]", "identifier[0].experimental: unknown key"),
        ("identifier: {kind: io.l5d.path, segment: 1}", "did you mean `segments`?"),
    ] {
        one(&router(lines), part);
    }
}

#[test]
fn namers() {
    let text = "namers:\n- {kind: io.l5d.fs, rootDir: ., prefix: /a/b, experimental: true, transformers: []}\n\
                - {kind: io.l5d.rewrite, prefix: /host, pattern: '/{a}/api', name: '/srv/{a}'}\n";
    let config = good(&format!("{text}{}", router("")));
    assert!(matches!(&config.namers[0].kind, NamerKind::Fs { prefix, .. } if prefix.to_string() == "/#/a/b"));
    assert!(matches!(&config.namers[1].kind, NamerKind::Rewrite { prefix, name, .. }
        if prefix.to_string() == "/#/host" && name == "/srv/{a}"));
    for (entry, part) in [
        ("{kind: io.l5d.fs}", "f:6:3: namers[0].rootDir: required key `rootDir` is missing"),
        ("{kind: io.l5d.fs, rootDir: /no/such/dir}", "cannot be read"),
        ("{kind: io.l5d.fs, rootDir: Cargo.toml}", "is not a directory"),
        ("{kind: io.l5d.fs, rootDir: ., prefix: io.l5d.fs}", "did you mean `/io.l5d.fs`?"),
        (
            "{kind: io.l5d.fs, rootDir: ., prefix: '/#/io.l5d.fs'}",
            "without the leading `/#`; did you mean `/io.l5d.fs`?",
        ),
        ("{kind: io.l5d.rewrite, pattern: /a, name: /b}", "required key `prefix` is missing"),
        ("{kind: io.l5d.rewrite, prefix: /h, name: /b}", "required key `pattern` is missing"),
        ("{kind: io.l5d.rewrite, prefix: /h, pattern: /a}", "required key `name` is missing"),
        ("{kind: io.l5d.rewrite, prefix: /h, pattern: '/{a}', name: '/{b}'}", "`pattern` has no variable `{b}`"),
        ("{kind: io.l5d.rewrite, prefix: /h, pattern: /a, name: b}", "does not give a path"),
        ("{kind: io.l5d.rewrite, prefix: /h, pattern: '/{a}(', name: /b}", "pattern segment `{a}(` is not legal"),
    ] {
        one(&format!("{}namers:\n- {entry}\n", router("")), part);
    }
}

fn aperture(window_ms: u64, low_load: f64, high_load: f64, min_aperture: u32) -> Algorithm {
    Algorithm::Aperture { max_effort: 5, smooth_window_ns: window_ms * MS, low_load, high_load, min_aperture }
}

#[test]
fn clients() {
    for (lines, algorithm) in [
        ("{loadBalancer: {kind: p2c}}", Algorithm::P2c { max_effort: 5 }),
        ("{loadBalancer: {kind: p2c, maxEffort: 9, enableProbation: false}}", Algorithm::P2c { max_effort: 9 }),
        ("{loadBalancer: {kind: ewma}}", Algorithm::Ewma { max_effort: 5, decay_ns: 10_000 * MS }),
        ("{loadBalancer: {kind: ewma, decayTimeMs: 50}}", Algorithm::Ewma { max_effort: 5, decay_ns: 50 * MS }),
        ("{loadBalancer: {kind: heap}}", Algorithm::Heap),
        ("{loadBalancer: {kind: roundRobin, maxEffort: 3}}", Algorithm::RoundRobin { max_effort: 3 }),
        ("{loadBalancer: {kind: aperture}}", aperture(5_000, 0.5, 2.0, 1)),
        (
            "{loadBalancer: {kind: aperture, smoothWindowMs: 100, lowLoad: 1, highLoad: 1.5, minAperture: 3}}",
            aperture(100, 1.0, 1.5, 3),
        ),
    ] {
        let expected = BalancerParams { algorithm, probation: false, slow_start: Duration::from_secs(10) };
        assert_eq!(client(lines).balancer, expected);
    }
    let own = client("{loadBalancer: {kind: heap, enableProbation: true, slowStartMs: 0}}").balancer;
    assert_eq!((own.probation, own.slow_start), (true, Duration::ZERO));
    let backoff = Backoff::default();
    let constant = Backoff::Constant { ns: 20 * MS };
    let jittered = Backoff::Jittered { min_ns: 5 * MS, max_ns: 6 * MS };
    for (lines, accrual) in [
        ("{kind: none, backoff: {kind: constant}}", AccrualConfig::None),
        ("{kind: io.l5d.consecutiveFailures, failures: 3}", AccrualConfig::Consecutive { failures: 3, backoff }),
        ("{kind: io.l5d.consecutiveFailures}", AccrualConfig::Consecutive { failures: 0, backoff }),
        (
            "{kind: io.l5d.consecutiveFailures, failures: 0, backoff: {kind: constant, ms: 20}}",
            AccrualConfig::Consecutive { failures: 0, backoff: constant },
        ),
        (
            "{kind: io.l5d.successRate, successRate: 1, requests: 20, backoff: {kind: jittered, minMs: 5, maxMs: 6}}",
            AccrualConfig::SuccessRate { rate: 1.0, requests: 20, backoff: jittered },
        ),
        (
            "{kind: io.l5d.successRateWindowed, successRate: '0.9', window: 30}",
            AccrualConfig::SuccessRateWindowed { rate: 0.9, window_ns: 30_000 * MS, backoff },
        ),
    ] {
        assert_eq!(client(&format!("{{failureAccrual: {lines}}}")).accrual, accrual);
    }
    let rest = client(
        "{kind: io.l5d.global, failFast: true, requestAttemptTimeoutMs: 40, forwardClientCert: false, requestAuthorizers: [],
           requeueBudget: {ttlSecs: 60, minRetriesPerSec: 0, percentCanRetry: 2}, hostConnectionPool: {idleTimeMs: '7'},
           clientSession: {lifeTimeMs: 8, idleTimeMs: 9}, socketOptions: {noDelay: no}}",
    );
    assert_eq!((rest.fail_fast, rest.attempt_timeout), (true, Some(Duration::from_millis(40))));
    assert_eq!(rest.requeue_budget, BudgetParams { ttl: Duration::from_secs(60), min_per_sec: 0, percent: 2.0 });
    assert_eq!((rest.pool_idle, rest.pool_max), (Duration::from_millis(7), None));
    assert_eq!(rest.session_life, Some(Duration::from_millis(8)));
    assert!(!rest.socket.no_delay);
}

#[test]
fn bad_clients() {
    for (lines, part) in [
        ("{loadBalancer: {maxEffort: 1}}", "client.loadBalancer.kind: required key `kind` is missing"),
        ("{loadBalancer: {kind: p2c, maxEffort: 0}}", "0 is out of range"),
        ("{loadBalancer: {kind: p2c, decayTimeMs: 1}}", "unknown key `decayTimeMs`"),
        ("{loadBalancer: {kind: ewma, enableProbation: 1}}", "`1` is not a boolean"),
        ("{loadBalancer: {kind: ewma, decayTimeMs: 0}}", "0 is out of range"),
        ("{loadBalancer: {kind: heap, maxEffort: 5}}", "unknown key `maxEffort`"),
        ("{loadBalancer: {kind: p2c, slowStartMs: -1}}", "a whole number of at least 0"),
        ("{loadBalancer: {kind: aperture, minAperture: 0}}", "0 is out of range"),
        ("{loadBalancer: {kind: aperture, smoothWindowMs: 0}}", "0 is out of range"),
        ("{loadBalancer: {kind: aperture, lowLoad: -1}}", "a number from 0 to"),
        (
            "{loadBalancer: {kind: aperture, lowLoad: 2, highLoad: 2}}",
            "f:5:55: routers[0].client.loadBalancer.highLoad: `lowLoad` is 2 and `highLoad` is 2; the first must be the smaller one",
        ),
        (
            "{loadBalancer: {kind: aperture, lowLoad: 2.5}}",
            "client.loadBalancer.lowLoad: `lowLoad` is 2.5 and `highLoad` is 2;",
        ),
        ("{failureAccrual: {kind: io.l5d.successRate, successRate: 1.1, requests: 1}}", "from 0 to 1"),
        ("{failureAccrual: {kind: io.l5d.successRate, successRate: .nan, requests: 1}}", "`.nan` is not a number"),
        ("{failureAccrual: {kind: io.l5d.successRate, successRate: nan, requests: 1}}", "`nan` is out of range"),
        (
            "{failureAccrual: {kind: io.l5d.successRate, successRate: 1, requests: 0}}",
            "failureAccrual.requests: 0 is out",
        ),
        ("{failureAccrual: {kind: io.l5d.successRate, successRate: 1}}", "required key `requests` is missing"),
        (
            "{failureAccrual: {kind: io.l5d.successRateWindowed, successRate: 1, window: 0}}",
            "window: 0 is out of range",
        ),
        ("{failureAccrual: {kind: io.l5d.consecutiveFailures, failures: -1}}", "-1 is out of range"),
        (
            "{failureAccrual: {kind: none, backoff: {kind: jittered, minMs: 2, maxMs: 1}}}",
            "`minMs` is 2 and `maxMs` is 1",
        ),
        ("{failureAccrual: {kind: none, backoff: {kind: jittered, minMs: 0, maxMs: 1}}}", "minMs: 0 is out of range"),
        ("{failureAccrual: {kind: none, backoff: {kind: jittered, minMs: 1}}}", "required key `maxMs` is missing"),
        ("{failureAccrual: {kind: none, backoff: {kind: constant, ms: -1}}}", "ms: -1 is out of range"),
        ("{failureAccrual: {kind: none, backoff: {ms: 1}}}", "backoff.kind: required key `kind` is missing"),
        ("{requeueBudget: {ttlSecs: 0}}", "0 is out of range; expected a whole number from 1 to 60"),
        ("{requeueBudget: {ttlSecs: 61}}", "61 is out of range"),
        ("{requeueBudget: {percentCanRetry: 1000.1}}", "expected a number from 0 to 1000"),
        ("{requeueBudget: {minRetriesPerSec: -1}}", "-1 is out of range"),
        ("{hostConnectionPool: {maxSize: 0}}", "client.hostConnectionPool.maxSize: 0 is out of range"),
        (
            "{hostConnectionPool: {minSize: 2, maxSize: 1}}",
            "hostConnectionPool.minSize: `minSize` is 2 and `maxSize` is 1",
        ),
        ("{hostConnectionPool: {maxWaiters: -1}}", "client.hostConnectionPool.maxWaiters: -1 is out of range"),
        ("{maxSize: 1}", "client.maxSize: unknown key `maxSize`: use `hostConnectionPool.maxSize`"),
        ("{hostConnectionPool: {idleTimeMs: x}}", "`x` is not a number"),
        ("{connectTimeoutMs: 0}", "client.connectTimeoutMs: 0 is out of range"),
        ("{kind: io.l5d.globl}", "client.kind: unknown kind `io.l5d.globl`"),
        ("{configs: []}", "client.configs: unknown key `configs`: it needs `kind: io.l5d.static`"),
        ("{kind: io.l5d.static}", "client.configs: required key `configs` is missing"),
        ("{kind: io.l5d.static, configs: [{failFast: true}]}", "client.configs[0].prefix: required key `prefix`"),
        ("{kind: io.l5d.static, configs: [], failFast: true}", "client.failFast: unknown key"),
        (
            "{kind: io.l5d.static, configs: [{prefix: /, retries: {}}]}",
            "configs[0].retries: unknown key `retries`: use",
        ),
    ] {
        one(&router(&format!("client: {lines}")), part);
    }
}

#[test]
fn static_sections_merge_by_parameter_and_the_later_wins() {
    let router = good_router(
        "client:\n  kind: io.l5d.static\n  configs:\n  - {prefix: /, failFast: true, requestAttemptTimeoutMs: 10, hostConnectionPool: {idleTimeMs: 1}}\n\
         \x20 - {prefix: '/#/io.l5d.fs/{svc}', requestAttemptTimeoutMs: 0, hostConnectionPool: {}}\n\
         \x20 - {prefix: /#/*/web/*, failFast: false}\n\
         service:\n  kind: io.l5d.static\n  configs:\n  - {prefix: /svc, totalTimeoutMs: 5, retries: {budget: {ttlSecs: 20}, backoff: {kind: constant, ms: 3}}}\n\
         \x20 - {prefix: /svc/web, totalTimeoutMs: -1, retries: {budget: {minRetriesPerSec: 1}}}",
    );
    let params = |text: &str| router.client.for_name(&name(text));
    let web = params("/#/io.l5d.fs/web");
    assert_eq!((web.fail_fast, web.attempt_timeout, web.pool_idle), (true, None, Duration::from_secs(30)));
    let other = params("/$/inet/a/1");
    assert_eq!((other.fail_fast, other.attempt_timeout), (true, Some(Duration::from_millis(10))));
    assert_eq!(other.pool_idle, Duration::from_millis(1));
    assert!(!params("/#/x/web/y").fail_fast);
    let web = router.service.for_name(&name("/svc/web"));
    assert_eq!((web.total_timeout, web.backoff), (None, Backoff::Constant { ns: 3 * MS }));
    assert_eq!(web.retry_budget, BudgetParams { min_per_sec: 1, ..BudgetParams::default() });
    assert_eq!(router.service.for_name(&name("/svc/api")).retry_budget.ttl, Duration::from_secs(20));
    assert_eq!(router.service.for_name(&name("/other")), ServiceParams::default());
}

#[test]
fn services() {
    for (kind, classifier) in [
        ("nonRetryable5XX", Classifier::NonRetryable5xx),
        ("retryableRead5XX", Classifier::RetryableRead5xx),
        ("retryableIdempotent5XX", Classifier::RetryableIdempotent5xx),
        ("retryableAll5XX", Classifier::RetryableAll5xx),
        ("allSuccessful", Classifier::AllSuccessful),
    ] {
        assert_eq!(service(&format!("{{responseClassifier: {{kind: io.l5d.http.{kind}}}}}")).classifier, classifier);
    }
    let full = service(
        "{totalTimeoutMs: 900, retries: {budget: {percentCanRetry: 0.5}, backoff: {kind: jittered, minMs: 1, maxMs: 1}}}",
    );
    assert_eq!((full.total_timeout, full.retry_budget.percent), (Some(Duration::from_millis(900)), 0.5));
    assert_eq!(full.backoff, Backoff::Jittered { min_ns: MS, max_ns: MS });
    for (lines, part) in [
        (
            "{responseClassifier: {kind: io.l5d.http.allSuccessful, x: 1}}",
            "service.responseClassifier.x: unknown key `x`",
        ),
        ("{responseClassifier: {kind: io.l5d.retryableRead5XX}}", "write `io.l5d.http.retryableRead5XX`"),
        ("{responseClassifier: {kind: io.l5d.http.retryableRead5xx}}", "did you mean `io.l5d.http.retryableRead5XX`?"),
        ("{responseClassifier: {kind: io.l5d.h2.retryableRead5XX}}", "it is for h2 routers"),
        (
            "{retries: {budgets: {}}}",
            "service.retries.budgets: unknown key `budgets`; expected one of: budget, backoff, maxAttempts, replayBufferKB",
        ),
        ("{retries: {maxAttempts: -1}}", "service.retries.maxAttempts: -1 is out of range"),
        (
            "{retries: {replayBufferKB: 16385}}",
            "retries.replayBufferKB: 16385 is out of range; expected from 0 to 16384",
        ),
        ("{maxAttempts: 3}", "service.maxAttempts: unknown key `maxAttempts`: use `retries.maxAttempts`"),
        ("{totalTimeoutMs: '5'}", "service.totalTimeoutMs: `5` is quoted"),
        ("{classificationTimeoutMs: 1}", "it belongs to h2 routers"),
        ("{kind: x}", "service.kind: unknown kind `x`"),
        ("[]", "service: a list where a map belongs"),
    ] {
        one(&router(&format!("service: {lines}")), part);
    }
}

#[test]
fn routers() {
    let full = good_router(
        "label: 5\ndstPrefix: /\nbindingTimeoutMs: 7\noriginator: true\nexperimental: true\nmaxHeadersKB: 1\nmaxInitialLineKB: 2\n\
         maxErrResponseKB: 3\nstreamingEnabled: true\ncompressionLevel: 0\ntracePropagator: {kind: io.l5d.default}\nannouncers: []\n\
         bindingCache: {paths: 1, trees: 2, bounds: 3, clients: 0, idleTtlSecs: 5}\ninterpreter: {kind: default, experimental: no}",
    );
    assert_eq!((full.label.as_str(), full.dst_prefix.to_string().as_str()), ("5", "/"));
    assert_eq!((full.max_headers_bytes, full.max_line_bytes, full.max_err_response_bytes), (1024, 2048, 3072));
    assert_eq!((full.binding_timeout, full.originator), (Duration::from_millis(7), true));
    let cache = BindingCacheParams {
        paths: 1,
        overrides_per_source: None,
        trees: 2,
        bounds: 3,
        clients: 0,
        idle_ttl: Duration::from_secs(5),
    };
    assert_eq!(full.binding_cache, cache);
    for (lines, part) in [
        ("dstPrefix: svc", "routers[0].dstPrefix: `svc` is not a path"),
        ("dstPrefix: svc", "did you mean `/svc`?"),
        ("dstPrefix: /svc/", "is not a path"),
        ("dtab: [a]", "a list where a dtab belongs"),
        ("streamingEnabled: false", "Switchyard does not collect whole bodies"),
        ("compressionLevel: -2", "-2 is out of range"),
        ("compressionLevel: 10", "10 is out of range"),
        ("maxHeadersKB: 0", "0 is out of range"),
        ("bindingCache: {idleTtlSecs: 0}", "0 is out of range"),
        ("bindingCache: {paths: -1}", "-1 is out of range"),
        (
            "interpreter: {transformers: []}",
            "interpreter.kind: required key `kind` is missing; expected one of: default",
        ),
        ("timeoutStatus: 500", "routers[0].timeoutStatus: 500 is no status for timeouts; expected 503 or 504"),
        ("maxIdleConnectionsPerWorker: -1", "-1 is out of range"),
        ("dtabs: ''", "did you mean `dtab`?"),
        ("Label: a", "did you mean `label`?"),
        ("somethingElse: a", "unknown key `somethingElse`; expected one of: protocol, experimental, label,"),
    ] {
        one(&router(lines), part);
    }
    one(
        "routers:\n- servers:\n  - port: 1",
        "f:2:3: routers[0].protocol: required key `protocol` is missing; expected one of: http",
    );
    one("routers:\n- protocol: htp\n  servers: [{}]", "did you mean `http`?");
    one("routers:\n- protocol: http", "f:2:3: routers[0].servers: a router without servers");
}

#[test]
fn what_has_no_effect_is_warned_about() {
    let text = format!(
        "{}admin: {{workerThreads: 4}}\n",
        router("streamAfterContentLengthKB: 65\nhttpAccessLogAppend: false")
    );
    let text = format!("{text}  # c\n");
    assert_eq!(
        good(&text).warnings,
        [
            "linkerd.yaml:7:8: admin: `workerThreads` has no effect",
            "linkerd.yaml:5:31: routers[0].streamAfterContentLengthKB: request bodies above 64 KiB are never sent again; all \
             bodies stream",
            "linkerd.yaml:6:24: routers[0].httpAccessLogAppend: no effect without `httpAccessLog`",
        ]
    );
}

#[test]
fn admin_and_usage() {
    let text = |lines: &str| format!("{lines}\n{}", router(""));
    let admin = good(&text(
        "admin: {ip: 0.0.0.0, port: 0, shutdownGraceMs: 5, socketOptions: {backlog: 3},
           security: {uiEnabled: false, controlEnabled: off, diagnosticsEnabled: no, pathWhitelist: ['/a/.*|/b'], pathBlacklist: [/c]}}",
    ))
    .admin;
    assert_eq!((admin.ip.to_string().as_str(), admin.port, admin.socket.backlog), ("0.0.0.0", 0, Some(3)));
    assert_eq!(admin.shutdown_grace, Duration::from_millis(5));
    let security = &admin.security;
    assert_eq!((security.ui, security.control, security.diagnostics), (false, false, false));
    let open = &security.whitelist[0];
    assert!(open.is_match("/a/x") && open.is_match("/b") && !open.is_match("/bc") && !open.is_match("x/a/"));
    good(&text("usage: {enabled: false, orgId: 5}"));
    good(&text("usage:\ntelemetry:\nnamers: []\nadmin: {}"));
    for (lines, part) in [
        (
            "admin: {security: {pathWhitelist: ['(']}}",
            "f:1:36: admin.security.pathWhitelist[0]: `(` is not a regular expression",
        ),
        ("admin: {security: {pathWhitelist: /a}}", "a single value where a list belongs"),
        ("admin: {httpIdentifierPort: 1}", "`httpIdentifierPort` is a key of Linkerd 1"),
        ("admin: {shutdownGraceMs: -1}", "-1 is out of range"),
        ("usage: {enabled: 1}", "usage.enabled: `1` is not a boolean"),
        ("usage: {org: 1}", "usage.org: unknown key `org`"),
        ("telemetry: [{kind: io.l5d.prometheus, path: x}]", "`x` is not the path of a page"),
        ("telemetry: [{kind: io.l5d.prometheus, host: x}]", "telemetry[0].host: unknown key"),
        ("telemetry: {kind: io.l5d.prometheus}", "telemetry: a map where a list belongs"),
    ] {
        one(&text(lines), part);
    }
    let telemetry =
        good(&text("telemetry: [{kind: io.l5d.prometheus}, {kind: io.l5d.prometheus, path: /m, prefix: l5d_}]"))
            .telemetry;
    let prometheus =
        |path: &str, prefix: &str| TelemeterParams::Prometheus { path: path.to_owned(), prefix: prefix.to_owned() };
    assert_eq!(telemetry, [prometheus("/admin/metrics/prometheus", ""), prometheus("/m", "l5d_")]);
}
