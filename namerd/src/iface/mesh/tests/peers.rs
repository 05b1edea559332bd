//! Clients that others have written, when they are installed: grpcurl, and Python's grpcio.
//!
//! `GRPCURL` and `GRPC_PYTHON` name the programs; without them `grpcurl` and `python3` are tried. A program that is not
//! there, or has no gRPC, is said to be missing, and the test passes.

use super::world::World;
use dtab::{Activity, Addr};
use std::process::Stdio;
use tokio::process::Command;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");

async fn ready() -> (World, Activity<Addr>) {
    let world = World::new().await;
    world.store.says(Some("/svc => 0 * /#/t/a & 1 * /#/t/b"));
    let addr = Addr::bound(["10.1.2.3:80".parse().expect("an address")]);
    world.namer.says("a", addr.clone());
    world.namer.says("b", Addr::Neg);
    let held = world.told("a", &addr).await;
    (world, held)
}

/// The output of a program that ends with success.
async fn output(mut command: Command) -> String {
    let output = command.kill_on_drop(true).stdin(Stdio::null()).output();
    let output = super::within("a program's end", output).await.expect("a program");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{}: {said:?}", output.status);
    said.concat()
}

/// True when the program can be run like this with success.
async fn works(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    let works = status.is_ok_and(|status| status.success());
    if !works {
        eprintln!("NOTICE: {program} is not installed, or cannot do this: its test is left out");
    }
    works
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_reads_what_is_served() {
    let program = std::env::var("GRPCURL").unwrap_or_else(|_| "grpcurl".into());
    if !works(&program, &["-version"]).await {
        return;
    }
    let (world, _held) = ready().await;
    let ask = async |call: &str, request: &str| {
        let mut command = Command::new(&program);
        command.args(["-plaintext", "-max-time", "5", "-import-path", DOCS, "-proto", "mesh.proto", "-emit-defaults"]);
        command.args(["-d", request, &world.address.to_string(), &format!("io.linkerd.mesh.{call}")]);
        let text = output(command).await;
        serde_json::from_str::<serde_json::Value>(&text).expect("one message")
    };
    let bind = r#"{"root": {"elems": ["ZGVmYXVsdA=="]}, "name": {"elems": ["c3Zj", "eA=="]}}"#;
    let tree = ask("Interpreter/GetBoundTree", bind).await;
    let union = &tree["tree"]["union"]["trees"];
    assert_eq!((&union[0]["weight"], &union[1]["weight"]), (&0.into(), &1.into()), "{tree}");
    assert_eq!(union[0]["tree"]["leaf"]["residual"]["elems"][0], "eA==");
    let replicas = ask("Resolver/GetReplicas", r#"{"id": {"elems": ["Iw==", "dA==", "YQ=="]}}"#).await;
    let endpoint = &replicas["bound"]["endpoints"][0];
    assert_eq!((&endpoint["inetAf"], &endpoint["port"]), (&"INET4".into(), &80.into()), "{replicas}");
    let text = ask("Codec/ReadDtab", r#"{"text": "/a => /b"}"#).await;
    assert_eq!(text["dtab"]["dentries"][0]["prefix"]["elems"][0]["label"], "YQ==");
    let tree = r#"{"root": {"elems": ["ZGVmYXVsdA=="]}, "tree": {"leaf": {"id": {"elems": ["c3Zj"]}}}}"#;
    let tree = ask("Delegator/GetDelegateTree", tree).await;
    assert_eq!(tree["tree"]["dentry"]["prefix"]["elems"][0]["label"], "Lw==", "{tree}");
    assert_eq!(tree["tree"]["union"]["trees"][0]["weight"], 0, "{tree}");
}

/// Follows a tree over an update, 300 ids on one channel, and looks at a status; prints `well` at the end.
const PYTHON: &str = include_str!("follow.py");

#[tokio::test(flavor = "multi_thread")]
async fn grpcio_follows_what_is_served() {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let program = std::env::var("GRPC_PYTHON").unwrap_or_else(|_| "python3".into());
    if !works(&program, &["-c", "import grpc, grpc_tools"]).await {
        return;
    }
    let (world, held) = ready().await;
    let mut command = Command::new(&program);
    command.args(["-c", PYTHON, &world.address.to_string(), DOCS]).kill_on_drop(true);
    let mut running = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a program");
    let mut lines = BufReader::new(running.stdout.take().expect("output")).lines();
    let said = super::within("an update's turn", lines.next_line()).await.expect("text");
    assert_eq!(said.as_deref(), Some("followed"));
    drop(held);
    world.watched(0).await;
    world.store.says(Some("/svc => ~"));
    running.stdin.take().expect("input").write_all(b"\n").await.expect("room");
    let said = super::within("the end", lines.next_line()).await.expect("text");
    assert_eq!(said.as_deref(), Some("well"));
}

/// `Upgrade: h2c`, of which curl makes use for HTTP/2 in plaintext.
#[tokio::test(flavor = "multi_thread")]
async fn curl_upgrades_a_plain_connection() {
    if !works("curl", &["--http2", "--version"]).await {
        return;
    }
    let (world, _held) = ready().await;
    let mut command = Command::new("curl");
    let folder = tempfile::tempdir().expect("a folder");
    let body = folder.path().join("body");
    std::fs::write(&body, namers::mesh::calls::write_text("/a/b".into())).expect("a file");
    let format =
        ["-sS", "--http2", "--max-time", "10", "-w", "%{http_version} %{http_code} %{content_type}", "-o", "-"];
    command.args(format).args(["-H", "content-type: application/grpc+proto", "--data-binary"]);
    command.arg(format!("@{}", body.display()));
    command.arg(format!("http://{}{}", world.address, namers::mesh::paths::READ_PATH));
    let answer = namers::mesh::calls::write_path(&super::path("/a/b"));
    let wanted = format!("{}2 200 application/grpc+proto", String::from_utf8_lossy(&answer));
    assert_eq!(output(command).await, wanted);
}
