//! Callers and their rights.

use super::*;

fn peer(identity: Option<&str>) -> Peer {
    Peer { address: ([127, 0, 0, 1], 5).into(), identity: identity.map(ToOwned::to_owned) }
}

/// No prefixes stand for all.
fn rule(right: Right, namespace: &str, prefixes: &[&str]) -> Rule {
    let namespaces = match namespace {
        "*" => Namespaces::All,
        name => Namespaces::Named(vec![name.into()]),
    };
    let list = prefixes.iter().map(|text| dtab::parse_prefix(text).expect("a prefix")).collect();
    Rule { right, namespaces, prefixes: (!prefixes.is_empty()).then_some(list) }
}

const TOKEN: &[u8] = b"0123456789abcdef";

fn access(anonymous: Vec<Rule>) -> (tempfile::TempDir, Access) {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("token");
    std::fs::write(&file, TOKEN).expect("it is written");
    let token = TokenParams {
        name: "ci".into(),
        file: TokenFile::new(file),
        rules: vec![rule(Right::Write, "prod", &["/svc/web", "/host"])],
    };
    let admin = IdentityParams { identity: "admin.example".into(), rules: vec![rule(Right::Write, "*", &[])] };
    (dir, Access::new(Some(AccessParams { anonymous, tokens: vec![token], identities: vec![admin] })))
}

#[test]
fn without_a_policy_everybody_may_do_everything() {
    let caller = Access::new(None).caller(&peer(None), Some(b"whatever")).expect("a caller");
    assert_eq!(caller.may_read("x"), Ok(()));
    assert_eq!(caller.may_write("x"), Ok(WriteRight::All));
    assert_eq!(WriteRight::All.judge("x", None, Some(&Dtab::empty())), Ok(()));
}

#[test]
fn missing_and_wrong_credentials_differ_from_missing_rights() {
    let (_dir, access) = access(Vec::new());
    let caller = |identity, token: Option<&[u8]>| access.caller(&peer(identity), token);
    assert!(matches!(caller(None, Some(b"wrong")), Err(Denied::Unauthenticated(_))));
    let nobody = caller(None, None).expect("a caller");
    assert!(matches!(nobody.may_read("prod"), Err(Denied::Unauthenticated(_))));
    assert!(matches!(nobody.may_write("prod"), Err(Denied::Unauthenticated(_))));
    assert!(matches!(nobody.may_read_something(), Err(Denied::Unauthenticated(_))));
    let ci = caller(None, Some(TOKEN)).expect("a caller");
    assert_eq!((ci.name.as_deref(), ci.may_read("prod")), (Some("ci"), Ok(())));
    assert!(matches!(ci.may_read("other"), Err(Denied::Forbidden(_))));
    assert!(matches!(ci.may_write("other"), Err(Denied::Forbidden(_))));
    assert!(matches!(ci.may_write("prod"), Ok(WriteRight::Within(prefixes)) if prefixes.len() == 2));
    let admin = caller(Some("admin.example"), Some(TOKEN)).expect("a caller");
    assert_eq!(admin.may_write("prod"), Ok(WriteRight::All));
    assert!(matches!(caller(Some("other.example"), None).expect("a caller").may_read("x"), Err(Denied::Forbidden(_))));
}

#[test]
fn anonymous_rights_are_everybodys() {
    let (_dir, access) = access(vec![rule(Right::Read, "*", &[])]);
    assert_eq!(access.may_read(&peer(None), None, "any"), Ok(()));
    let nobody = access.caller(&peer(None), None).expect("a caller");
    assert!(matches!(nobody.may_write("any"), Err(Denied::Unauthenticated(_))));
    assert_eq!(access.may_read(&peer(None), Some(TOKEN), "any"), Ok(()));
    assert!(matches!(access.may_read(&peer(None), Some(b"wrong"), "any"), Err(Denied::Unauthenticated(_))));
}

#[test]
fn a_limited_right_neither_makes_nor_removes_a_namespace() {
    let right = WriteRight::Within(vec![dtab::parse_prefix("/svc/web").expect("a prefix")]);
    let dtab = |text: &str| Dtab::parse(text).expect("a dtab");
    let (old, good, bad) = (dtab("/svc=>/a"), dtab("/svc=>/a;/svc/web=>/b"), dtab("/svc=>/b"));
    assert_eq!(right.judge("prod", Some(&old), Some(&good)), Ok(()));
    for (before, after, named) in
        [(None, Some(&good), "make"), (Some(&old), None, "remove"), (Some(&old), Some(&bad), "dentries of /svc in")]
    {
        let denied = right.judge("prod", before, after).expect_err("it is refused").to_string();
        assert!(denied.contains(named), "{denied}");
    }
}
