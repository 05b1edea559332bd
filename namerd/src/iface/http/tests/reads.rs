//! Reading: statuses, types and bodies.

use super::away::{Away, Fault};
use super::*;
use crate::storage::{StoreError, Version, VersionedDtab};

const EXAMPLE: &str = "/srv=>/#/io.l5d.k8s/default/http;/svc/*=>2.00*/srv/a & /srv/b | ~";

#[tokio::test]
async fn a_dtab_is_read_in_three_types() {
    let server = Server::of(&[("internal", EXAMPLE), ("external", "")]).await;
    let json = "[{\"prefix\":\"/srv\",\"dst\":\"/#/io.l5d.k8s/default/http\"},{\"prefix\":\"/svc/*\",\"dst\":\"2.00*/srv/a & /srv/b | ~\"}]\n";
    for (accept, content_type, body) in [
        (None, "application/json", json.to_owned()),
        (Some("*/*"), "application/json", json.to_owned()),
        (Some("application/dtab"), "application/dtab", format!("{EXAMPLE}\n")),
        (Some("text/html, text/plain;q=0.1, application/json;q=1"), "text/plain", format!("{EXAMPLE}\n")),
    ] {
        let headers: Vec<_> = accept.iter().map(|accept| ("accept", *accept)).collect();
        let reply = client::ask(server.address, "GET", "/api/1/dtabs/internal", &headers, None).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(content_type)), "{accept:?}");
        assert_eq!(reply.body, body, "{accept:?}");
        assert!(!reply.etag().contains('"'), "{reply:?}");
    }
    assert_eq!(server.get("/api/1/dtabs/external").await.body, "[]\n");
    let head = client::ask(server.address, "HEAD", "/api/1/dtabs/internal", &[], None).await;
    assert_eq!((head.status, head.header("content-type"), head.header("content-length")), (200, None, None));
    assert_eq!(head.etag(), server.get("/api/1/dtabs/internal").await.etag());
}

#[tokio::test]
async fn the_list_is_sorted_for_every_method() {
    let server = Server::of(&[("internal", ""), ("external", "")]).await;
    for method in ["GET", "POST", "DELETE", "PATCH"] {
        let reply = client::ask(server.address, method, "/api/1/dtabs", &[], None).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "[\"external\",\"internal\"]\n"), "{method}");
        assert_eq!(reply.header("content-type"), Some("application/json"));
    }
}

#[tokio::test]
async fn what_is_not_there_says_so() {
    let server = Server::of(&[("a", "")]).await;
    for (method, target, status) in [
        ("GET", "/api/1/dtabs/none", 404),
        ("HEAD", "/api/1/dtabs/none", 404),
        ("OPTIONS", "/api/1/dtabs/a", 404),
        ("PATCH", "/api/1/dtabs/a", 404),
        ("GET", "/", 404),
        ("GET", "/api/1/dtabsfoo", 404),
        ("GET", "/api/1/bind?path=/svc/x", 404),
        ("GET", "/api/1/addr", 404),
        ("POST", "/api/1/bound-names", 404),
        ("GET", "/api/1/dtabs/%zz", 400),
        ("POST", "/api/1/history/a", 405),
        ("PUT", "/api/1/delegate?path=/a", 405),
        ("GET", "/api/1/history/a?limit=many", 400),
    ] {
        let reply = client::ask(server.address, method, target, &[], None).await;
        assert_eq!(reply.status, status, "{method} {target}");
        assert_eq!(reply.body.is_empty(), method == "HEAD", "{method} {target}: {}", reply.body);
    }
}

/// Trap 9, and §2.2: what was 500 is 400.
#[tokio::test]
async fn bad_questions_are_the_callers_fault() {
    let server = Server::of(&[("a", "")]).await;
    for route in ["bind", "addr", "resolve", "delegate"] {
        let reply = server.get(&format!("/api/1/{route}/a?path=svc")).await;
        assert_eq!(reply.status, 400);
        assert!(reply.body.starts_with("Invalid path: svc / "), "{}", reply.body);
        let reply = server.get(&format!("/api/1/{route}/a")).await;
        assert!(reply.status == 400 && reply.body.contains("`path` is missing"), "{route}: {}", reply.body);
    }
    for route in ["bind/a", "resolve/a", "delegate/a", "delegate"] {
        let reply = server.get(&format!("/api/1/{route}?path=/a&dtab=/a%3D%3E")).await;
        assert!(reply.status == 400 && reply.body.starts_with("Invalid dtab: "), "{route}: {}", reply.body);
    }
}

/// Trap 6 and §2.3.
#[tokio::test]
async fn parameters_are_separated_by_ampersands_and_semicolons() {
    let server = Server::of(&[("a", "")]).await;
    let bound = |id: &str| {
        let addr = format!(
            "{{\"type\":\"bound\",\"addrs\":[{{\"ip\":\"127.0.0.1\",\"port\":{id},\"meta\":{{}}}}],\"meta\":{{}}}}"
        );
        format!(
            "{{\"type\":\"leaf\",\"bound\":{{\"addr\":{addr},\"id\":\"/$/inet/127.0.0.1/{id}\",\"path\":\"/\"}}}}\n"
        )
    };
    let one = server.get("/api/1/bind/a?path=/s&dtab=/s=>/$/inet/127.0.0.1/1;/s=>/$/inet/127.0.0.1/2").await;
    assert_eq!((one.body.clone(), one.header("content-type")), (bound("1"), None));
    let two = server.get("/api/1/bind/a?path=/s&dtab=/s=>/$/inet/127.0.0.1/1%3B/s=>/$/inet/127.0.0.1/2").await;
    assert_eq!(two.body, bound("2"));
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let body = server
        .send("POST", "/api/1/bind/a?path=/t;dtab=/x=>/y", &form, "path=/s&dtab=/s+%3D>+/$/inet/127.0.0.1/3")
        .await;
    assert_eq!(body.body, bound("3"));
    let first = server.get("/api/1/bind/a?path=/s&path=/t&dtab=/s=>/$/inet/127.0.0.1/4&watch=yes").await;
    assert_eq!(first.body, bound("4"));
}

/// Trap 7, and the shape of a union (§2.9).
#[tokio::test]
async fn names_are_bound_by_the_stored_dtab() {
    let stored = "/svc => 1 * /$/inet/127.0.0.1/1 & 9 * /$/inet/127.0.0.1/2; /fail => !; /empty => $";
    let server = Server::of(&[("a", stored)]).await;
    let branch = |weight: &str, port: u16| {
        format!(
            "{{\"weight\":{weight},\"tree\":{{\"type\":\"leaf\",\"bound\":{{\"addr\":{{\"type\":\"bound\",\"addrs\":[{{\"ip\":\"127.0.0.1\",\
             \"port\":{port},\"meta\":{{}}}}],\"meta\":{{\"namer_nametree_weight\":{weight}}}}},\"id\":\"/$/inet/127.0.0.1/{port}\",\
             \"path\":\"/rest\"}}}}}}"
        )
    };
    let reply = server.get("/api/1/bind/a?path=/svc/rest").await;
    assert_eq!(reply.body, format!("{{\"type\":\"union\",\"union\":[{},{}]}}\n", branch("1.0", 1), branch("9.0", 2)));
    assert_eq!(server.get("/api/1/bind/none?path=/svc/x").await.body, "{\"type\":\"neg\"}\n");
    assert_eq!(server.get("/api/1/bind/a?path=/fail").await.body, "{\"type\":\"fail\"}\n");
    assert_eq!(server.get("/api/1/bind/a?path=/empty").await.body, "{\"type\":\"empty\"}\n");
    let neg = server.get("/api/1/resolve/none?path=/svc/x").await;
    assert_eq!(
        (neg.status, neg.body.as_str(), neg.header("content-type")),
        (200, "{\"type\":\"neg\"}\n", Some("application/json"))
    );
    let found = server.get("/api/1/resolve/a?path=/svc/x").await.body;
    assert!(found.contains("\"port\":1") || found.contains("\"port\":2"), "{found}");
    let addr = server.get("/api/1/addr/a?path=/$/inet/127.0.0.1/7").await;
    let expected = "{\"type\":\"bound\",\"addrs\":[{\"ip\":\"127.0.0.1\",\"port\":7,\"meta\":{}}],\"meta\":{}}\n";
    assert_eq!((addr.body.as_str(), addr.header("content-type")), (expected, None));
    let behind = server.get("/api/1/addr/a?path=/%25/io.l5d.port/9/$/inet/127.0.0.1/7").await;
    assert_eq!(behind.body, expected);
    assert_eq!(server.get("/api/1/names/a").await.body, "[\"/empty\",\"/fail\",\"/svc/rest\",\"/svc/x\"]\n");
    assert_eq!(server.get("/api/1/bound-names").await.body, "[]\n");
}

/// Trap 8.
#[tokio::test(start_paused = true)]
async fn a_leaf_that_never_resolves_does_not_block_its_tree() {
    let server = Server::of(&[("a", "/svc => /#/stuck & /$/inet/127.0.0.1/1")]).await;
    let mut watch = server.watch("/api/1/bind/a?path=/svc&watch=1").await;
    let first = watch.next().await.expect("a document");
    assert!(first.contains("\"type\":\"pending\"") && first.contains("\"port\":1"), "{first}");
    server.put("a", "/svc => /$/inet/127.0.0.1/2").await;
    assert!(watch.next().await.expect("a document").contains("\"port\":2"));
    let addr = server.get("/api/1/addr/a?path=/%23/stuck").await;
    assert!(addr.status == 503 && addr.body.contains("not known yet"), "{addr:?}");
}

#[tokio::test]
async fn every_step_of_a_name_is_shown() {
    let server = Server::of(&[("a", "/a=>/b")]).await;
    let steps = |root: &str| {
        format!(
            "{{\"type\":\"delegate\",\"path\":\"/a/x\",\"delegate\":{{\"type\":\"delegate\",\"path\":\"/b/x\",\"dentry\":{{\"prefix\":\
             \"/a\",\"dst\":\"/b\"}},\"delegate\":{{\"type\":\"neg\",\"path\":\"{root}/x\",\"dentry\":{{\"prefix\":\"/b\",\"dst\":\"{root}\"}}}}}}}}"
        )
    };
    let expected = steps("/#/fs");
    let reply = server.get("/api/1/delegate?dtab=/a%3D>/b%3B/b%3D>/%23/fs&path=/a/x").await;
    assert_eq!(
        (reply.status, reply.body.clone(), reply.header("content-type")),
        (200, expected.clone(), Some("application/json"))
    );
    assert_eq!(server.get("/api/1/delegate/a?dtab=/b%3D>/%23/fs&path=/a/x").await.body, expected);
    assert_eq!(server.get("/api/1/delegate?namespace=a&dtab=/b%3D>/%23/fs&path=/a/x").await.body, expected);
    let json = [("content-type", "application/json")];
    let asked = "{\"namespace\":\"a\",\"dtab\":\"/b=>/#/fs\",\"path\":\"/a/x\"}";
    for target in ["/api/1/delegate", "/api/1/delegate?path=/ignored"] {
        assert_eq!(server.send("POST", target, &json, asked).await.body, expected, "{target}");
    }
    let charset = [("content-type", "application/json;charset=utf-8")];
    assert_eq!(server.send("POST", "/api/1/delegate", &charset, asked).await.status, 415);
    let bad = server.send("POST", "/api/1/delegate", &json, "{\"path\":\"/a\"}").await;
    assert_eq!((bad.status, bad.body.as_str()), (400, "Malformed delegation request: {\"path\":\"/a\"}"));
}

#[tokio::test]
async fn requests_have_limits() {
    let server = Server::of(&[]).await;
    let long = server.get(&format!("/api/1/bind/a?path=/{}", "x".repeat(5000))).await;
    assert_eq!((long.status, long.header("connection")), (414, Some("close")));
    assert!(long.line.starts_with("HTTP/1.0 "), "{}", long.line);
    let wide = client::ask(server.address, "GET", "/api/1/dtabs", &[("x", &"y".repeat(9000))], None).await;
    assert_eq!((wide.status, wide.header("connection")), (431, Some("close")));
    let endless = [b"GET / HTTP/1.1\r\nx: ".as_slice(), &vec![b'y'; 100_000]].concat();
    assert_eq!(client::raw(server.address, &endless).await.status, 431);
    assert_eq!(client::raw(server.address, b"GET /a b HTTP/1.1\r\n\r\n").await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_has_never_answered_is_503_after_a_bounded_wait() {
    for fault in [Fault::Silence, Fault::Error(StoreError::Unavailable("it is restarting".into()))] {
        let store = Away(Activity::constant(State::Pending), fault.clone());
        let server = Server::with(Arc::new(store), Access::default(), HttpParams::default(), "127.0.0.1:0").await;
        for target in ["/api/1/dtabs", "/api/1/dtabs/a", "/api/1/bind/a?path=/x", "/api/1/history/a"] {
            let reply = server.get(target).await;
            assert_eq!(reply.status, 503, "{target}: {fault:?}");
            assert!(!reply.body.is_empty(), "{target}");
        }
        let write = server.put("a", "/a => /b").await;
        assert_eq!(write.status, 503);
        assert!(write.body.starts_with("the store is not available: "), "{}", write.body);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_store_leaves_the_last_dtab() {
    let known = VersionedDtab { dtab: Dtab::parse("/a=>/b").expect("a dtab"), version: Version("7".into()) };
    let store = Away(Activity::constant(State::Ok(Some(known))), Fault::Error(StoreError::Unavailable("gone".into())));
    let server = Server::with(Arc::new(store), Access::default(), HttpParams::default(), "127.0.0.1:0").await;
    let reply = server.get("/api/1/dtabs/a").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "[{\"prefix\":\"/a\",\"dst\":\"/b\"}]\n"));
    assert!(reply.header("warning").is_some_and(|warning| warning.starts_with("111 ")), "{reply:?}");
}
