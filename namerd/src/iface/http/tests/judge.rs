//! Clients that are not ours: curl, Python's own HTTP client, and the namerctl of Linkerd 1, whose binary
//! `SWITCHYARD_GO_NAMERCTL` names. Without them a notice is printed.

use super::*;
use std::process::Stdio;
use tokio::process::Command;

async fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let command = Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    match tokio::time::timeout(Duration::from_secs(60), command).await.expect("it ends") {
        Ok(output) => {
            let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{program}: {text} {errors}");
            Some(text.into_owned())
        }
        Err(error) => {
            println!("not judged by {program}, which cannot be started: {error}");
            None
        }
    }
}

#[tokio::test]
async fn curl_agrees() {
    let server = Server::of(&[]).await;
    let url = format!("http://{}/api/1/dtabs/default", server.address);
    let dtab = ["-H", "Content-Type: application/dtab"];
    let curl = async |arguments: &[&str]| {
        run("curl", &[&["-sS", "--noproxy", "*", "-w", "%{http_code}"], arguments].concat()).await
    };
    let Some(made) = curl(&[&["-X", "POST", "--data-binary", "/svc => /a", &url], &dtab[..]].concat()).await else {
        return;
    };
    assert_eq!(made, "204");
    let chunked = ["-X", "PUT", "-H", "Transfer-Encoding: chunked", "--data-binary", "/svc => /b", &url];
    assert_eq!(curl(&[&chunked[..], &dtab[..]].concat()).await.as_deref(), Some("204"));
    assert_eq!(curl(&[&url]).await.as_deref(), Some("[{\"prefix\":\"/svc\",\"dst\":\"/b\"}]\n200"));
    let form = curl(&["-X", "PUT", "--data", "/svc => /c", &url]).await.expect("an answer");
    assert!(form.ends_with("403"), "{form}");
    let expect =
        ["-X", "PUT", "-H", "Expect: 100-continue", "--expect100-timeout", "30", "--data-binary", "/svc => /d", &url];
    assert_eq!(curl(&[&expect[..], &dtab[..]].concat()).await.as_deref(), Some("204"));
    assert_eq!(curl(&["-I", &url]).await.expect("a head").lines().next(), Some("HTTP/1.1 200 OK"));
    assert_eq!(curl(&["-X", "DELETE", &url]).await.as_deref(), Some("204"));
}

const PYTHON: &str = r#"
import http.client, json, sys, threading
host = sys.argv[1]

def ask(method, path, body=None, headers={}):
    connection = http.client.HTTPConnection(host, timeout=20)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer, answer.read().decode()

watching = http.client.HTTPConnection(host, timeout=20)
watching.request("GET", "/api/1/dtabs/default?watch=true")
stream = watching.getresponse()
assert stream.status == 200 and stream.getheader("Transfer-Encoding") == "chunked", stream.getheaders()
text = {"Content-Type": "application/dtab"}
answer, body = ask("POST", "/api/1/dtabs/default", "/svc => 1 * /a & 9 * /b", text)
assert (answer.status, body) == (204, ""), (answer.status, body)
assert json.loads(stream.readline()) == [{"prefix": "/svc", "dst": "/a & 9.00*/b"}]
answer, body = ask("GET", "/api/1/dtabs/default")
stamp = answer.getheader("ETag")
assert answer.getheader("Content-Type") == "application/json" and body.endswith("]\n"), body
edited = json.loads(body)
edited[0]["dst"] = "/b"
as_json = {"Content-Type": "application/json;charset=UTF-8", "If-Match": stamp}
assert ask("PUT", "/api/1/dtabs/default", iter([json.dumps(edited).encode()]), as_json)[0].status == 204
assert json.loads(stream.readline()) == [{"prefix": "/svc", "dst": "/b"}]
answer, body = ask("PUT", "/api/1/dtabs/default", json.dumps(edited), as_json)
assert answer.status == 412 and "read it again" in body, body
assert ask("DELETE", "/api/1/dtabs/default")[0].status == 204
assert ask("GET", "/api/1/dtabs/default")[0].status == 404
assert ask("GET", "/api/1/bind/default?path=/svc/x")[1] == '{"type":"neg"}\n'
keep = http.client.HTTPConnection(host, timeout=20)
for _ in range(3):
    keep.request("GET", "/api/1/dtabs")
    assert keep.getresponse().read() == b"[]\n"
    keep.request("GET", "/api/1/bind/x?path=/s&dtab=/s=>/$/inet/127.0.0.1/7")
    assert b'"port":7' in keep.getresponse().read()
    keep.request("PUT", "/api/1/dtabs/raw", "/s => /b # <\"> and more\n; /t => /c", text)
    assert keep.getresponse().read() == b""
    keep.request("GET", "/api/1/dtabs/raw", headers={"Accept": "text/plain"})
    assert keep.getresponse().read() == b"/s=>/b;/t=>/c\n"
    keep.request("DELETE", "/api/1/dtabs/raw")
    assert keep.getresponse().read() == b""
print("agreed")
"#;

#[tokio::test]
async fn python_agrees() {
    let server = Server::of(&[]).await;
    let Some(said) = run("python3", &["-c", PYTHON, &server.address.to_string()]).await else { return };
    assert_eq!(said, "agreed\n");
}

/// The session of namerd reference §9: every edit is a read, a change of the JSON, and a write by the version in it.
#[tokio::test]
async fn the_namerctl_of_linkerd_agrees() {
    let Ok(program) = std::env::var("SWITCHYARD_GO_NAMERCTL") else {
        println!("not judged by namerctl of Linkerd 1: SWITCHYARD_GO_NAMERCTL names no binary");
        return;
    };
    let server = Server::of(&[]).await;
    let dir = tempfile::tempdir().expect("a folder");
    let (url, file) = (format!("http://{}", server.address), dir.path().join("dtab"));
    let file_name = file.to_str().expect("a name").to_owned();
    let namerctl = async |arguments: &[&str]| {
        let all = [&["--base-url", &url, "dtab"], arguments].concat();
        let output = Command::new(&program).args(all).stdin(Stdio::null()).env("NO_PROXY", "*").output().await;
        let output = output.expect("it starts");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    std::fs::write(&file, "/svc => /host ; /host/world => /srv/v1").expect("it is written");
    assert_eq!(namerctl(&["create", "internal", &file_name]).await, (Some(0), "Created internal\n".into()));
    let again = namerctl(&["create", "internal", &file_name]).await;
    assert_eq!(again, (Some(255), "unexpected response: 409 Conflict\n".into()));
    let (_, json) = namerctl(&["get", "internal", "--json"]).await;
    std::fs::write(&file, json.replace("\"/srv/v1\"", "\"1 * /tmp/v2 & 9 * /srv/v1\"")).expect("it is written");
    assert_eq!(namerctl(&["update", "internal", &file_name, "--json"]).await.0, Some(0));
    let stale = namerctl(&["update", "internal", &file_name, "--json"]).await;
    assert_eq!(stale, (Some(255), "unexpected response: 412 Precondition Failed\n".into()));
    let (_, pretty) = namerctl(&["get", "internal"]).await;
    let shown = "/svc         => /host ;\n/host/world  => /tmp/v2 & 9.00*/srv/v1 ;\n";
    assert!(pretty.starts_with("# version ") && pretty.ends_with(shown), "{pretty}");
    assert_eq!(namerctl(&["list"]).await, (Some(0), "internal\n".into()));
    assert_eq!(namerctl(&["delete", "internal"]).await, (Some(0), "Deleted internal\n".into()));
    let gone = namerctl(&["get", "internal"]).await;
    assert_eq!(gone, (Some(255), "resource was not found by ID or name\n".into()));
}
