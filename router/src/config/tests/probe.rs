//! What the readers know, learnt by running them.

use super::*;

#[test]
fn every_kind_of_every_object_is_read() {
    let known = known();
    let key = |path: &str| known.keys.get(path).cloned().unwrap_or_default();
    assert_eq!(key("routers[](http).servers[].port").expected.as_deref(), Some("a whole number from 0 to 65535"));
    assert!(key("namers[](io.l5d.rewrite).pattern").required);
    let deep =
        "routers[](http).client(io.l5d.static).configs[].failureAccrual(io.l5d.successRate).backoff(jittered).maxMs";
    assert!(key(deep).required, "{:?}", known.keys.keys());
    assert!(key("routers[](http).servers[].announce").refused);
    assert!(known.kinds["namers[]"].1.contains(&"io.l5d.consul"));
}

#[test]
fn what_is_known_is_accepted_by_name() {
    for path in known().keys.keys() {
        assert!(!path.contains("..") && !path.starts_with('.'), "{path}");
    }
}
