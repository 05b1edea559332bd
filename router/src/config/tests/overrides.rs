//! Overrides: modes, policies, sets; what each key accepts and gives, and what it refuses.

use super::*;

fn server(entry: &str) -> ServerParams {
    good(&format!("routers: [{{protocol: http, servers: [{{port: 1, {entry}}}]}}]")).routers.remove(0).servers.remove(0)
}

fn bad_server(entry: &str, part: &str) {
    one(&format!("routers: [{{protocol: http, servers: [{{port: 1, {entry}}}]}}]"), part);
}

#[test]
fn modes() {
    for (entry, mode, stated) in [
        ("", OverrideMode::Legacy, false),
        ("clearContext: true", OverrideMode::Off, false),
        ("clearContext: true, overrides: named", OverrideMode::Named, true),
        ("overrides: off", OverrideMode::Off, true),
        ("overrides: 'off'", OverrideMode::Off, true),
        ("overrides: false", OverrideMode::Off, true),
        ("overrides: named", OverrideMode::Named, true),
        ("overrides: legacy", OverrideMode::Legacy, true),
        ("overrides: { mode: off }", OverrideMode::Off, true),
        ("overrides: { mode: policy, rules: [{}] }", OverrideMode::Policy, true),
    ] {
        let params = server(entry).overrides;
        assert_eq!((params.mode, params.stated, params.strict), (mode, stated, false), "{entry}");
    }
    bad_server("overrides: on", "`on` is not a way to treat overrides");
    bad_server("overrides: []", "overrides: ");
    bad_server("overrides: policy", "`policy` without rules");
    bad_server("overrides: { mode: policy, rules: [] }", "`policy` without rules");
    bad_server("overrides: { mode: named, rules: [{}] }", "`rules` are for the mode `policy`");
    bad_server("overrides: { mode: named, dtabLocal: true }", "`named` reads no tables");
    bad_server("overrides: { strict: true }", "required key `mode` is missing");
    bad_server("overrides: { mode: off, stric: true }", "unknown key `stric`");
    let warned = good("routers: [{protocol: http, servers: [{clearContext: true, overrides: legacy}]}]").warnings;
    assert!(warned.len() == 1 && warned[0].contains("only sets in baggage are left"), "{warned:?}");
}

#[test]
fn policies() {
    let entry = "overrides: { mode: policy, strict: true, dtabLocal: true, rules: [{ from: [10.0.0.0/8, '::1'], \
                 prefixes: [/svc/web], destinations: ['/#/io.l5d.fs'], maxDentries: 2, maxBytes: 99, raw: false, \
                 expires: 2001-09-09T01:46:40Z }] }";
    let params = server(entry).overrides;
    assert!(params.strict && params.dtab_local);
    let rule = &params.rules[0];
    assert_eq!((rule.from.len(), rule.max_dentries, rule.max_bytes, rule.raw), (2, 2, 99, false));
    assert_eq!(rule.expires, Some(Duration::from_secs(1_000_000_000)));
    let prefix = |text: &str| dtab::Dtab::parse(&format!("{text} => /x")).expect("a dtab").dentries()[0].prefix.clone();
    for (text, allowed) in [
        ("/svc/web", true),
        ("/svc/web/x", true),
        ("/svc", false),
        ("/", false),
        ("/svc/*", false),
        ("/svc/webx", false),
    ] {
        assert_eq!(rule.allows_prefix(&prefix(text)), allowed, "{text}");
    }
    for (text, allowed) in [("/#/io.l5d.fs/web", true), ("/#/io.l5d.fsx/web", false), ("/$/inet/web/1", false)] {
        assert_eq!(rule.allows_destination(&dtab::Path::parse(text).expect("a path")), allowed, "{text}");
    }
    let open = &server("overrides: { mode: policy, rules: [{}] }").overrides.rules[0];
    assert_eq!((open.max_dentries, open.max_bytes, open.raw, open.expires), (100, 4096, true, None));
    assert!(open.allows_prefix(&prefix("/")) && open.allows_destination(&dtab::Path::empty()));
    let rule = |keys: &str| format!("overrides: {{ mode: policy, rules: [{{ {keys} }}] }}");
    bad_server(&rule("from: []"), "`from` is an empty list");
    bad_server(&rule("from: [10.0.0.1/8]"), "rules[0].from[0]: `10.0.0.1/8` is not the first address of its range");
    bad_server(&rule("prefixes: [svc]"), "rules[0].prefixes[0]: ");
    bad_server(&rule("maxDentries: 0"), "maxDentries: 0 is out of range");
    bad_server(&rule("expires: soon"), "`soon` is not a moment");
    bad_server(&rule("allow: all"), "unknown key `allow`");
}

#[test]
fn sets() {
    let sets = good_router(
        "overrideSets:\n- { name: pr-1, dtab: /svc/web => /x ; , expires: 2001-09-09T01:46:40Z, owner: team, \
         callers: [10.0.0.0/8] }\n- { name: pr-2, dtab: '' }\nbaggageKey: route",
    )
    .override_sets;
    let first = &sets.list[0];
    assert_eq!((first.name.as_str(), first.owner.as_deref()), ("pr-1", Some("team")));
    assert_eq!((first.dtab.dentries().len(), first.callers.len()), (1, 1));
    assert_eq!(first.expires, Some(Duration::from_secs(1_000_000_000)));
    assert_eq!((sets.list.len(), sets.baggage_key.as_str()), (2, "route"));
    let none = good_router("").override_sets;
    assert_eq!((none.list.len(), none.baggage_key.as_str()), (0, "dtab"));
    for (lines, part) in [
        ("overrideSets: [{ name: a, dtab: '' }, { name: a, dtab: '' }]", "two sets are called `a`"),
        ("overrideSets: [{ name: a }]", "required key `dtab` is missing"),
        ("overrideSets: [{ dtab: '' }]", "required key `name` is missing"),
        ("overrideSets: [{ name: 'a b', dtab: '' }]", "`a b` is not a name of a set"),
        ("overrideSets: [{ name: a, dtab: x }]", "not a dtab"),
        ("overrideSets: [{ name: a, dtab: '', callers: [x] }]", "`x` is not an address"),
        ("baggageKey: 'a=b'", "`a=b` is not a key of baggage"),
        ("baggageKey: ''", "is not a key of baggage"),
    ] {
        one(&router(lines), part);
    }
}

#[test]
fn what_belongs_to_it() {
    assert_eq!(server("").trust_forwarded, None);
    assert_eq!(server("trustForwarded: false").trust_forwarded, Some(false));
    assert_eq!(good_router("bindingCache: { overridesPerSource: 7 }").binding_cache.overrides_per_source, Some(7));
    let router = good_router("client: { kind: io.l5d.static, configs: [{ prefix: '/$/inet', egress: true }] }");
    let egress = |id: &str| router.client.for_name(&dtab::Path::parse(id).expect("a path")).egress;
    assert!(egress("/$/inet/example.com/443") && !egress("/#/io.l5d.fs/web"));
}
