//! Limits of time, retries and connections: their values, their defaults, how sections fold, and what contradicts what
//! (config reference §4.2, §4.3, §7, §8.1).

use super::{good, good_router, router};
use crate::config::{ClientParams, RouterParams, ServiceParams};
use std::time::Duration;

fn name(text: &str) -> dtab::Path {
    dtab::Path::parse(text).unwrap()
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn every_limit_of_time_is_finite_unless_linkerd_has_none_to_be_told() {
    let router = good_router("");
    let server = &router.servers[0];
    assert_eq!((server.header_timeout, server.stall_timeout), (ms(10_000), ms(60_000)));
    assert_eq!((server.idle_time, server.life_time, server.timeout), (ms(600_000), None, None));
    assert!(!server.enforce_deadlines && !router.timeouts_are_504);
    let client = router.client.for_name(&name("/#/io.l5d.fs/web"));
    assert_eq!((client.connect_timeout, client.pool_idle), (ms(1000), ms(30_000)));
    assert_eq!((client.pool_min, client.pool_max, client.pool_max_waiters), (0, None, None));
    let service = router.service.for_name(&name("/svc/web"));
    assert_eq!((service.max_attempts, service.replay_bytes, service.total_timeout), (Some(10), None, None));
}

#[test]
fn keys_of_time_retries_and_pools() {
    let text = "routers: [{protocol: http, timeoutStatus: 504, maxIdleConnectionsPerWorker: 7,
        servers: [{port: 1, headerTimeoutMs: 2, stallTimeoutMs: 3, enforceDeadlines: true, serverSession: {},
          socketOptions: {readTimeoutMs: 4, writeTimeoutMs: 5}}],
        client: {connectTimeoutMs: 6, hostConnectionPool: {minSize: 1, maxSize: 2, maxWaiters: 0, idleTimeMs: 9},
          socketOptions: {readTimeoutMs: 0}},
        service: {retries: {maxAttempts: 0, replayBufferKB: 2}}}]";
    let router: RouterParams = good(text).routers.remove(0);
    assert!(router.timeouts_are_504);
    assert_eq!(router.max_idle_per_worker, 7);
    let server = &router.servers[0];
    assert_eq!((server.header_timeout, server.stall_timeout, server.idle_time), (ms(2), ms(3), ms(600_000)));
    assert!(server.enforce_deadlines);
    assert_eq!((server.socket.read_timeout, server.socket.write_timeout), (Some(ms(4)), Some(ms(5))));
    let client = router.client.for_name(&name("/x"));
    assert_eq!((client.connect_timeout, client.pool_idle, client.socket.read_timeout), (ms(6), ms(9), None));
    assert_eq!((client.pool_min, client.pool_max, client.pool_max_waiters), (1, Some(2), Some(0)));
    let service = router.service.for_name(&name("/svc/x"));
    assert_eq!((service.max_attempts, service.replay_bytes), (None, Some(2048)));
}

/// Config reference §4.3 and §8.1: objects count as a whole, single keys by themselves, and the later section wins.
#[test]
fn sections_fold_in_order_with_the_grain_of_linkerd() {
    let router = good_router(
        "client:\n  kind: io.l5d.static\n  configs:\n\
         \x20 - {prefix: /, connectTimeoutMs: 10, hostConnectionPool: {maxSize: 9, maxWaiters: 3}, requeueBudget: {ttlSecs: 20},\n\
         \x20     clientSession: {idleTimeMs: 1, lifeTimeMs: 2}, socketOptions: {noDelay: false, readTimeoutMs: 8}}\n\
         \x20 - {prefix: '/#/io.l5d.fs/{svc}', hostConnectionPool: {minSize: 1}, clientSession: {lifeTimeMs: 3}}\n\
         \x20 - {prefix: /#/*/web, socketOptions: {keepAlive: true}, requeueBudget: {percentCanRetry: 0.5}}\n\
         service:\n  kind: io.l5d.static\n  configs:\n\
         \x20 - {prefix: '/svc/{tier}-{name}', retries: {maxAttempts: 3, backoff: {kind: constant, ms: 3}}}\n\
         \x20 - {prefix: /svc/api-web, totalTimeoutMs: 9, retries: {replayBufferKB: 1}}\n\
         \x20 - {prefix: /svc/*, responseClassifier: {kind: io.l5d.http.retryableRead5XX}}",
    );
    let default = ClientParams::default();
    let other = router.client.for_name(&name("/$/inet/a/1"));
    assert_eq!((other.connect_timeout, other.pool_max, other.pool_max_waiters), (ms(10), Some(9), Some(3)));
    let fs = router.client.for_name(&name("/#/io.l5d.fs/api"));
    assert_eq!(
        (fs.connect_timeout, fs.pool_min, fs.pool_max),
        (ms(10), 1, None),
        "the later pool replaces the earlier"
    );
    assert_eq!((fs.session_idle, fs.session_life), (None, Some(ms(3))));
    assert_eq!((fs.socket.no_delay, fs.socket.read_timeout), (false, Some(ms(8))));
    let web = router.client.for_name(&name("/#/io.l5d.fs/web"));
    assert_eq!((web.socket.no_delay, web.socket.read_timeout, web.socket.keep_alive), (true, None, Some(true)));
    assert_eq!((web.requeue_budget.ttl, web.requeue_budget.percent), (default.requeue_budget.ttl, 0.5));
    assert_eq!((web.connect_timeout, web.pool_min), (ms(10), 1), "and the rest is as before");
    let api = router.service.for_name(&name("/svc/api-web"));
    assert_eq!((api.max_attempts, api.replay_bytes, api.total_timeout), (Some(3), Some(1024), Some(ms(9))));
    assert_ne!(api.classifier, ServiceParams::default().classifier);
    let plain = router.service.for_name(&name("/svc/web"));
    assert_eq!((plain.max_attempts, plain.replay_bytes), (Some(10), None));
    assert_eq!(router.service.for_name(&name("/svc")), ServiceParams::default(), "a name shorter than the pattern");
}

#[test]
fn limits_that_never_take_effect_are_warned_about() {
    for (lines, part) in [
        (
            "client: {requestAttemptTimeoutMs: 500}\nservice: {totalTimeoutMs: 300}",
            "routers[0]: `requestAttemptTimeoutMs` of 500 never takes effect: `totalTimeoutMs` of 300 is over before",
        ),
        (
            "client: {kind: io.l5d.static, configs: [{prefix: /a, connectTimeoutMs: 301}]}\nservice: {totalTimeoutMs: 300}",
            "`connectTimeoutMs` of 301 never takes effect: `totalTimeoutMs` of 300",
        ),
        (
            "client: {hostConnectionPool: {maxWaiters: 3}}",
            "hostConnectionPool: `maxWaiters` has no effect without `maxSize`",
        ),
        (
            "client: {clientSession: {idleTimeMs: 9, lifeTimeMs: 8}}",
            "clientSession: `idleTimeMs` never takes effect: `lifeTimeMs` is over before",
        ),
    ] {
        let warnings = good(&router(lines)).warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(part), "{lines}: {warnings:?}");
    }
    let server = "routers: [{protocol: http, servers: [{port: 1, timeoutMs: 5}], service: {totalTimeoutMs: 6}}]";
    let warnings = good(server).warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("`totalTimeoutMs` of 6 never takes effect"), "{warnings:?}");
    for fine in [
        "client: {requestAttemptTimeoutMs: 300, connectTimeoutMs: 300}\nservice: {totalTimeoutMs: 300}",
        "client: {requestAttemptTimeoutMs: 500}\nservice: {totalTimeoutMs: 0}",
        "client: {requestAttemptTimeoutMs: 500}\n\
         service: {kind: io.l5d.static, configs: [{prefix: /svc/a, totalTimeoutMs: 300}]}",
    ] {
        assert!(good(&router(fine)).warnings.is_empty(), "{fine}");
    }
}
