//! Identification and overrides: `identify.json`, `override.json`.

use crate::Verdict;
use crate::language::text;
use bytes::Bytes;
use dtab::Path;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use router::config::IdentifierParams;
use router::context::Context;
use router::headers::Seen;
use router::identify::{self, Message, NoName};
use serde_json::{Value as Json, json};

fn headers(case: &Json) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for pair in case.as_array().expect("a list of headers") {
        let name = HeaderName::from_bytes(pair[0].as_str().expect("a name").as_bytes()).expect("a header name");
        headers.append(name, HeaderValue::from_str(pair[1].as_str().expect("a value")).expect("a header value"));
    }
    headers
}

/// The identifiers of a case, or the kind that does not exist yet.
fn identifiers(case: &Json) -> Result<Vec<IdentifierParams>, String> {
    let list = case["identifiers"].as_array().expect("identifiers");
    list.iter()
        .map(|config| {
            let header = |default: &str| {
                let written = config["header"].as_str().unwrap_or(default).to_owned();
                (written.to_lowercase(), written)
            };
            Ok(match text(config, "kind") {
                "io.l5d.header.token" => {
                    let (header, written) = header("Host");
                    IdentifierParams::HeaderToken { header, written }
                }
                "io.l5d.header" => {
                    let (header, written) = header("l5d-name");
                    IdentifierParams::Header { header, written }
                }
                "io.l5d.methodAndHost" => IdentifierParams::MethodAndHost {
                    http_uri_in_dst: config["httpUriInDst"].as_bool().unwrap_or(false),
                },
                "io.l5d.path" => IdentifierParams::Path {
                    segments: config["segments"].as_u64().unwrap_or(1) as usize,
                    consume: config["consume"].as_bool().unwrap_or(false),
                },
                "io.l5d.static" => {
                    IdentifierParams::Static { path: Path::parse(text(config, "path")).expect("a path") }
                }
                other => return Err(format!("{other} comes with a later release; `check` refuses it")),
            })
        })
        .collect()
}

pub(crate) fn identify(case: &Json) -> Verdict {
    if text(case, "protocol") != "http" {
        return Verdict::Skip("HTTP/2 routers come with a later release; `check` refuses them".into());
    }
    let identifiers = match identifiers(case) {
        Ok(identifiers) => identifiers,
        Err(why) => return Verdict::Skip(why),
    };
    let request = &case["request"];
    let mut headers = headers(&request["headers"]);
    let mut target = Bytes::from(text(request, "uri").to_owned());
    if let Ok(Some((authority, rest))) = identify::absolute_form(&target) {
        headers.insert(http::header::HOST, HeaderValue::from_maybe_shared(authority).expect("a header value"));
        target = rest;
    }
    let version = if text(request, "version") == "HTTP/1.0" { Version::HTTP_10 } else { Version::HTTP_11 };
    let method = Method::from_bytes(text(request, "method").as_bytes()).expect("a method");
    let message = Message { method: &method, target: &target, version, headers: &headers, scheme: "http" };
    let prefix = Path::parse(text(case, "dst_prefix")).expect("a path");
    let got = match identify::identify(&identifiers, &prefix, &message) {
        Ok(found) => {
            let target = if found.consume > 0 { identify::consume(&target, found.consume) } else { target.clone() };
            let segments: Vec<_> = found.dst.labels().map(|l| String::from_utf8_lossy(l).into_owned()).collect();
            json!({ "dst": found.dst.to_string(), "segments": segments, "request_target": String::from_utf8_lossy(&target) })
        }
        Err(NoName::Unidentified(reason)) => json!({ "kind": "unidentified", "reason": reason, "result": 400 }),
        Err(NoName::Failure(reason)) => json!({ "kind": "identification-failure", "reason": reason, "result": 400 }),
        Err(NoName::Threw(reason, first)) => {
            json!({ "kind": "exception", "reason": reason, "result": if first { 502 } else { 400 } })
        }
    };
    Verdict::equal(&got, case.get("ok").or(case.get("error")).expect("an outcome"))
}

pub(crate) fn overrides(case: &Json) -> Verdict {
    let mut headers = headers(&case["headers"]);
    let seen = Seen::of(&headers);
    let context = Context::take(&mut headers, &seen, case["clear_context"].as_bool().unwrap_or(false));
    let got = match context.override_dtab() {
        Err(body) => json!({ "error": { "status": 400, "body": body } }),
        Ok(dtab) => {
            let is_dtab = |name: &str| matches!(name, "l5d-dtab" | "l5d-ctx-dtab" | "dtab-local");
            let mut forwarded: Vec<_> = headers
                .iter()
                .filter(|(name, _)| is_dtab(name.as_str()))
                .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
                .collect();
            if !dtab.is_empty() {
                forwarded.push(json!(["l5d-ctx-dtab", dtab.to_string()]));
            }
            json!({ "ok": { "override_dtab": dtab.to_string(), "forwarded_dtab_headers": forwarded } })
        }
    };
    let key = if case.get("ok").is_some() { "ok" } else { "error" };
    Verdict::equal(&got[key], &case[key])
}
