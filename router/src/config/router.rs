//! Entries of `routers` (config reference §4, §5.1).
//!
//! For: `load`. Not for: what a router and its neighbours have to share (see `clash`).

use super::clash::{Claim, Claims};
use super::client::client;
use super::identifier::identifiers;
use super::kinds::{ANNOUNCERS, Found, INTERPRETERS, PROPAGATORS, PROTOCOLS};
use super::moved::Place;
use super::objects::none_of;
use super::params::{BindingCacheParams, RouterParams, ServerParams};
use super::reader::{Bad, Item, Reader};
use super::scalar::{boolean, dtab, int, millis, path, seconds, size, string};
use super::server::server;
use super::service::service;
use super::transformer::{TransformerParams, transformers};
use ::dtab::{Dtab, Path};
use std::time::Duration;

const DEFAULT_BINDING_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_HEADERS_KB: usize = 8;
const DEFAULT_LINE_KB: usize = 4;
const DEFAULT_ERR_KB: usize = 5120;
/// The label of an http router without one.
const DEFAULT_LABEL: &str = "http";

/// The routers in file order.
pub(super) fn routers(top: &mut Reader<'_>, claims: &mut Claims) -> Vec<RouterParams> {
    let Some(list) = top.take("routers") else {
        top.missing("routers");
        return Vec::new();
    };
    let items = list.elements(top.context);
    if items.is_empty() && list.shape() == "a list" {
        top.context.bad(list.pos, &list.path, Bad::new("no routers").expected("at least one router"));
    }
    items.into_iter().filter_map(|item| router(top, item, claims)).collect()
}

fn router<'a>(top: &Reader<'a>, item: Item<'a>, claims: &mut Claims) -> Option<RouterParams> {
    let mut reader = Reader::open(top.context, item, Place::Router)?;
    // Without a known protocol the rest is checked as for http, so that its problems are not hidden.
    if PROTOCOLS.of(&mut reader) == Found::Refused {
        return None;
    }
    reader.get("experimental", string);
    let source = reader.context.source;
    let label = label(&mut reader, claims);
    let transformers = interpreter(&mut reader);
    plug_ins(&mut reader);
    streaming(&mut reader);
    let router = RouterParams {
        label,
        dst_prefix: reader.get("dstPrefix", path).or_else(|| Path::parse("/svc").ok()).unwrap_or_else(Path::empty),
        dtab: reader.get("dtab", |item| dtab(source, item)).or_else(no_dtab)?,
        transformers,
        identifiers: identifiers(&mut reader),
        servers: servers(&mut reader, claims),
        client: client(&mut reader),
        service: service(&mut reader),
        binding_timeout: reader.get("bindingTimeoutMs", millis(1)).unwrap_or(DEFAULT_BINDING_TIMEOUT),
        binding_cache: binding_cache(&mut reader),
        originator: reader.get("originator", boolean).unwrap_or(false),
        max_headers_bytes: kilobytes(&mut reader, "maxHeadersKB", DEFAULT_HEADERS_KB),
        max_line_bytes: kilobytes(&mut reader, "maxInitialLineKB", DEFAULT_LINE_KB),
        max_err_response_bytes: kilobytes(&mut reader, "maxErrResponseKB", DEFAULT_ERR_KB),
    };
    reader.finish();
    Some(router)
}

fn no_dtab() -> Option<Dtab> {
    ::dtab::parse_dtab("").ok()
}

fn kilobytes(reader: &mut Reader<'_>, key: &'static str, default: usize) -> usize {
    reader.get(key, size(1)).unwrap_or(default).saturating_mul(1024)
}

fn label(reader: &mut Reader<'_>, claims: &mut Claims) -> String {
    let at = reader.take("label").unwrap_or_else(|| reader.item.clone());
    let label = reader.get("label", string).unwrap_or_else(|| DEFAULT_LABEL.to_owned());
    claims.label(reader.context, &at, &label);
    label
}

fn servers(reader: &mut Reader<'_>, claims: &mut Claims) -> Vec<ServerParams> {
    let list = reader.take("servers");
    let empty = list.as_ref().is_none_or(|list| list.shape() == "a list" && list.elements(reader.context).is_empty());
    if empty {
        let path = super::reader::key_path(&reader.item.path, "servers");
        let bad = Bad::new("a router without servers").expected("at least one server");
        reader.context.bad(reader.pos("servers"), &path, bad);
    }
    let mut servers = Vec::new();
    for item in reader.list("servers") {
        if let Some((server, at)) = self::server(reader, item) {
            let holder = format!("{} in line {}", at.path, at.pos.line);
            let claim = Claim::new(holder, server.ip, server.port, server.socket.reuse_port);
            claims.socket(reader.context, &at, claim);
            servers.push(server);
        }
    }
    servers
}

/// The transformers of the interpreter: the kind that is built has nothing else.
fn interpreter(router: &mut Reader<'_>) -> Vec<TransformerParams> {
    let Some(mut reader) = router.sub("interpreter", Place::Other) else { return Vec::new() };
    let Found::Built(_) = INTERPRETERS.of(&mut reader) else { return Vec::new() };
    reader.get("experimental", string);
    let transformers = transformers(&mut reader);
    reader.finish();
    transformers
}

/// The keys of plug-ins and of the access log.
fn plug_ins(router: &mut Reader<'_>) {
    none_of(router, "announcers", &ANNOUNCERS);
    for key in ["httpAccessLog", "httpAccessLogRollPolicy", "httpAccessLogAppend", "httpAccessLogRotateCount"] {
        router.not_yet(key);
    }
    if let Some(mut reader) = router.sub("tracePropagator", Place::Other)
        && let Found::Built(_) = PROPAGATORS.of(&mut reader)
    {
        reader.finish();
    }
}

/// The keys about bodies: Switchyard always streams them and never compresses.
fn streaming(router: &mut Reader<'_>) {
    let streams = |item: &Item<'_>| match boolean(item)? {
        true => Ok(()),
        false => Err(Bad::new("Switchyard cannot buffer whole bodies yet; bodies always stream").expected("true")),
    };
    router.get("streamingEnabled", streams);
    if let Some(at) = router.take("streamAfterContentLengthKB")
        && router.get("streamAfterContentLengthKB", size(0)).is_some()
    {
        router.context.warn(&at, "no effect: bodies always stream");
    }
    let level = |item: &Item<'_>| match int(-1, 9)(item)? {
        level @ 1.. => {
            Err(Bad::new(format!("compression (level {level}) is something that Switchyard does not have yet"))
                .expected("0 or -1"))
        }
        level => Ok(level),
    };
    if let Some(at) = router.take("compressionLevel")
        && router.get("compressionLevel", level) == Some(-1)
    {
        router.context.warn(&at, "no effect: Switchyard never compresses");
    }
}

fn binding_cache(router: &mut Reader<'_>) -> BindingCacheParams {
    let default = BindingCacheParams::default();
    let Some(mut reader) = router.sub("bindingCache", Place::Other) else { return default };
    let cache = BindingCacheParams {
        paths: reader.get("paths", size(0)).unwrap_or(default.paths),
        trees: reader.get("trees", size(0)).unwrap_or(default.trees),
        bounds: reader.get("bounds", size(0)).unwrap_or(default.bounds),
        clients: reader.get("clients", size(0)).unwrap_or(default.clients),
        idle_ttl: reader.get("idleTtlSecs", seconds(1)).unwrap_or(default.idle_ttl),
    };
    reader.finish();
    cache
}
