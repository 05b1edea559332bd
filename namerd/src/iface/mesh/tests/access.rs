//! Who may read what, by certificate and by token.

use super::*;
use crate::access::{Access, AccessParams, Namespaces, Right, Rule, TokenParams};
use h2::client::Builder;
use setup::tokens::TokenFile;

const TOKEN: &str = "0123456789abcdef";

fn rule(namespace: &str) -> Vec<Rule> {
    vec![Rule { right: Right::Read, namespaces: Namespaces::Named(vec![namespace.into()]), prefixes: None }]
}

/// `router.example` reads `other` by its certificate, and whoever has the token reads `default`.
fn policy(file: &std::path::Path) -> Access {
    std::fs::write(file, TOKEN).expect("it is written");
    let tokens = vec![TokenParams { name: "edge".into(), file: TokenFile::new(file), rules: rule("default") }];
    let identity = crate::access::IdentityParams { identity: "router.example".into(), rules: rule("other") };
    Access::new(Some(AccessParams { tokens, identities: vec![identity], anonymous: Vec::new() }))
}

/// How a call with this token ends: 0 when there is an answer.
async fn status(world: &World, token: Option<&str>, path: &str, body: Bytes) -> (u32, String) {
    let requests = client(world, &Builder::new()).await;
    let mut request = Request::post(format!("http://namerd{path}"));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let mut requests = requests.ready().await.expect("room");
    let (response, mut stream) = requests.send_request(request.body(()).expect("a request"), false).expect("a stream");
    // A call that is refused does not wait for its body.
    let _ = stream.send_data(body, true);
    let mut body = within("a response", response).await.expect("a response").into_body();
    match next(&mut body).await {
        Ok(_) => (0, String::new()),
        Err(status) => (status.code, status.message),
    }
}

#[tokio::test]
async fn reads_take_a_right_to_their_namespace_and_ids_any_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let access = policy(&folder.path().join("token"));
    let (stranger, router) =
        (World::with(access.clone(), None).await, World::with(access, Some("router.example")).await);
    for world in [&stranger, &router] {
        world.store.says(Some("/svc => /#/t"));
        world.namer.says("web", Addr::Neg);
    }
    let delegate = |root: &str| {
        let tree = Some(dtab::parse_tree("/svc/web").expect("a tree"));
        Delegate { root: Some(path(root)), tree, dtab: Dtab::empty() }.write()
    };
    let calls = [
        (paths::GET_BOUND_TREE, bind("/default", "/svc/web")),
        (paths::STREAM_BOUND_TREE, bind("/default", "/svc/web")),
        (paths::GET_DTAB, root("/default")),
        (paths::STREAM_DTAB, root("/default")),
        (paths::GET_DELEGATE_TREE, delegate("/default")),
        (paths::STREAM_DELEGATE_TREE, delegate("/default")),
    ];
    for (path, body) in &calls {
        let (code, text) = status(&stranger, None, path, body.clone()).await;
        assert!(code == 16 && text.contains("callers without credentials may not read"), "{path}: {code} {text}");
        let (code, text) = status(&stranger, Some("another-token-of-length"), path, body.clone()).await;
        assert!(code == 16 && text.contains("not one that this namerd knows"), "{path}: {code} {text}");
        let (code, text) = status(&router, None, path, body.clone()).await;
        assert!(code == 7 && text.contains("router.example may not read namespace default"), "{path}: {code} {text}");
        for world in [&stranger, &router] {
            assert_eq!(status(world, Some(TOKEN), path, body.clone()).await, (0, String::new()), "{path}");
        }
    }
    let ids = [
        (paths::GET_REPLICAS, calls::write_id(&path("/#/t/web"))),
        (paths::STREAM_REPLICAS, calls::write_id(&path("/#/t/web"))),
        (paths::READ_PATH, calls::write_text("/a".into())),
    ];
    for (path, body) in ids {
        assert_eq!(status(&stranger, None, path, body.clone()).await.0, 16, "{path}");
        assert_eq!(status(&stranger, Some(TOKEN), path, body.clone()).await.0, 0, "{path}");
        assert_eq!(status(&router, None, path, body).await.0, 0, "{path}");
    }
}

/// The router's own client shows the token, and a new one once its file has it.
#[tokio::test]
async fn a_client_shows_the_token_of_its_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (served, shown) = (folder.path().join("token"), folder.path().join("shown"));
    let world = World::with(policy(&served), None).await;
    world.store.says(Some("/svc => /#/t"));
    std::fs::write(&shown, "a token of somebody else".replace(' ', "-")).expect("it is written");
    let interpreter = clients::interpreter_with(&[world.address], Some(shown.clone()));
    let mut tree = clients::bind(&interpreter, "/svc/web");
    within("a refusal", async {
        while !matches!(tree.get(), State::Failed(reason) if reason.contains("not one that this namerd knows")) {
            tree.changed().await;
        }
    })
    .await;
    std::fs::write(&shown, TOKEN).expect("it is written");
    within("a tree", async {
        while !matches!(tree.get(), State::Ok(_)) {
            tree.changed().await;
        }
    })
    .await;
}

/// A token that is replaced while streams last: they end with the status that a new call has, and those of a caller who is
/// known by its certificate as well as of one who shows the new token go on.
#[tokio::test]
async fn streams_end_with_the_right_to_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    let access = policy(&file).watching(Duration::from_millis(20), &tokio::runtime::Handle::current());
    let world = World::with(access, Some("router.example")).await;
    world.store.says(Some("/svc => /#/t"));
    world.namer.says("web", Addr::Neg);
    let _told = world.told("web", &Addr::Neg).await;
    let requests = client(&world, &Builder::new()).await;
    let open = async |token: Option<&str>, path: &str, body: Bytes| {
        let shown = token.map_or_else(HeaderMap::new, |token| {
            HeaderMap::from_iter([(http::header::AUTHORIZATION, format!("Bearer {token}").parse().expect("a value"))])
        });
        let mut request = Request::post(format!("http://namerd{path}")).body(()).expect("a request");
        *request.headers_mut() = shown;
        let (response, mut stream) =
            requests.clone().ready().await.expect("room").send_request(request, false).expect("a stream");
        stream.send_data(body, true).expect("room");
        let mut body = within("a response", response).await.expect("a response").into_body();
        next(&mut body).await.map(|_| body)
    };
    let asked = [
        (paths::STREAM_BOUND_TREE, bind("/default", "/svc/web")),
        (paths::STREAM_DTAB, root("/default")),
        (paths::STREAM_REPLICAS, calls::write_id(&path("/#/t/web"))),
    ];
    let mut begun = Vec::new();
    for (path, body) in &asked {
        begun.push((path, open(Some(TOKEN), path, body.clone()).await.expect("a stream")));
    }
    let mut by_certificate = open(None, asked[2].0, asked[2].1.clone()).await.expect("a stream");
    std::fs::write(&file, "another-token-of-length").expect("it is written");
    for (path, body) in &mut begun {
        let ended = next(body).await.expect_err("an end");
        assert!(ended.code == 16 && ended.message.contains("not one that this namerd knows"), "{path}: {ended:?}");
    }
    let mut anew = open(Some("another-token-of-length"), asked[1].0, asked[1].1.clone()).await.expect("a stream");
    world.namer.says("web", Addr::bound([([127, 0, 0, 1], 7).into()]));
    world.store.says(Some("/svc => /#/t/other"));
    assert!(next(&mut by_certificate).await.is_ok() && next(&mut anew).await.is_ok(), "they go on");
}
