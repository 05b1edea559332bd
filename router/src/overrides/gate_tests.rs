//! The gate under any bytes that a head can hold: it never panics, and what must not come in does not.

use super::*;
use crate::config;
use http::HeaderValue;
use proptest::prelude::*;

const MODES: [&str; 6] = [
    "overrides: off",
    "overrides: named",
    "overrides: legacy",
    "clearContext: true",
    "overrides: { mode: legacy, strict: true, dtabLocal: true }",
    "overrides: { mode: policy, rules: [{ from: [10.0.0.0/8] }] }",
];

const NAMES: [&str; 10] = [
    "l5d-dtab",
    "l5d-ctx-dtab",
    "l5d-override",
    "l5d-ctx-override",
    "dtab-local",
    "baggage",
    "via",
    "x-forwarded-for",
    "l5d-ctx-deadline",
    "x-own",
];

fn gate(mode: &str) -> Gate {
    let text = format!(
        "routers: [{{ protocol: http, servers: [{{ {mode} }}], overrideSets: [{{ name: a, dtab: '/a => /b' }}] }}]"
    );
    let router = config::load("linkerd.yaml", &text).expect("a good config").routers.remove(0);
    Gate::new(&router.servers[0], &router, "listener")
}

fn caller(ip: &str) -> CallerIdentity {
    CallerIdentity { ip: ip.parse().expect("an address"), certificate: None }
}

proptest! {
    #[test]
    fn strangers_bring_nothing_in(
        mode in 0..MODES.len(),
        lines in prop::collection::vec((0..NAMES.len(), "(dtab=|a|,|;|/a=>/b| |[!-~]|[\u{80}-\u{ff}]){0,12}"), 0..12),
    ) {
        let gate = gate(MODES[mode]);
        let mut headers = HeaderMap::new();
        for (name, value) in &lines {
            let name = HeaderName::from_static(NAMES[*name]);
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a header value"));
        }
        let own: Vec<HeaderValue> = headers.get_all("x-own").iter().cloned().collect();
        for ip in ["10.1.2.3", "192.0.2.1"] {
            let mut headers = headers.clone();
            let (seen, caller) = (Seen::of(&headers), caller(ip));
            let Ok(admitted) = gate.admit(&mut headers, &seen, &caller) else { continue };
            prop_assert!(!headers.contains_key("l5d-dtab") && !headers.contains_key("l5d-ctx-dtab"));
            prop_assert_eq!(headers.get_all("x-own").iter().cloned().collect::<Vec<_>>(), own.clone());
            if !gate.trusts(&caller) {
                prop_assert!(admitted.context.raw_override.is_empty() && admitted.carried.is_empty());
                prop_assert!(admitted.sets.is_empty());
                prop_assert!(headers.keys().all(|name| !name.as_str().starts_with("l5d-")));
                prop_assert!(baggage::find(&headers, "dtab").values.is_empty());
            }
        }
    }
}

#[test]
fn keys_of_the_memo_tell_names_from_tables() {
    let gate = gate("overrides: legacy");
    let key = |name: &'static str, value: &'static str| {
        let mut headers = HeaderMap::new();
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        let seen = Seen::of(&headers);
        let admitted = gate.admit(&mut headers, &seen, &caller("10.0.0.1")).expect("admitted");
        let mut key = Vec::new();
        admitted.memo_key(&mut key);
        key
    };
    let keys = [key("l5d-override", "a"), key("l5d-dtab", "a"), key("l5d-ctx-dtab", "b"), key("baggage", "dtab=b")];
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[3].is_empty(), "{keys:?}");
    assert_eq!(key("baggage", "dtab=a"), keys[0], "a name is a name");
}
