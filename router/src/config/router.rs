//! Entries of `routers` (config reference §4, §5.1).
//!
//! For: `load`. Not for: what a router and its neighbours have to share (see `clash`).

use super::access_log::access_log;
use super::bodies::{buffered, compression};
use super::clash::Claims;
use super::client::client;
use super::h2::Protocol;
use super::identifier::identifiers;
use super::interpreter::interpreter;
use super::kinds::{ANNOUNCERS, Found, PROPAGATORS, PROTOCOLS, none_of};
use super::limits::limits;
use super::moved::Place;
use super::overrides::sets;
use super::params::{BindingCacheParams, DtabSource, RouterParams, ServerParams};
use super::policy;
use super::reader::{Bad, Item, Reader};
use super::scalar::{boolean, dtab, dtab_lines, int, millis, path, seconds, size, string};
use super::server::server;
use super::service::service;
use ::dtab::{Dtab, Path};
use setup::config::clash::Claim;
use std::time::Duration;

const DEFAULT_BINDING_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_HEADERS_KB: usize = 8;
const DEFAULT_LINE_KB: usize = 4;
const DEFAULT_ERR_KB: usize = 5120;
const DEFAULT_MAX_IDLE: usize = 2048;

/// The routers in file order.
pub(super) fn routers(
    top: &mut Reader<'_>,
    claims: &mut Claims,
    state_dir: Option<&std::path::Path>,
) -> Vec<RouterParams> {
    let Some(list) = top.take("routers") else {
        top.missing("routers");
        return Vec::new();
    };
    let items = list.elements(top.context);
    if items.is_empty() && list.shape() == "a list" {
        top.context.bad(list.pos, &list.path, Bad::new("no routers").expected("at least one router"));
    }
    items.into_iter().filter_map(|item| router(top, item, claims, state_dir)).collect()
}

fn router<'a>(
    top: &Reader<'a>,
    item: Item<'a>,
    claims: &mut Claims,
    state_dir: Option<&std::path::Path>,
) -> Option<RouterParams> {
    let mut reader = Reader::open(top.context, item, Place::Router)?;
    // Without a known protocol the rest is checked as for http, so that its problems are not hidden.
    let protocol = match PROTOCOLS.of(&mut reader) {
        Found::Built(protocol) => Protocol::of(protocol),
        Found::Unknown => Protocol::Http,
        Found::Refused => return None,
    };
    reader.get("experimental", string);
    let source = reader.context.source;
    let label = label(&mut reader, claims, protocol);
    let interpreter = interpreter(&mut reader, state_dir);
    plug_ins(&mut reader);
    let max_headers_bytes = kilobytes(&mut reader, "maxHeadersKB", DEFAULT_HEADERS_KB);
    let max_line_bytes = kilobytes(&mut reader, "maxInitialLineKB", DEFAULT_LINE_KB);
    let lines = reader.take("dtab").map_or_else(Vec::new, |item| dtab_lines(source, &item));
    let router = RouterParams {
        dtab_source: DtabSource { file: reader.context.file.to_owned(), lines },
        servers: servers(&mut reader, claims, (&label, protocol)),
        limits: limits(&mut reader, max_headers_bytes, max_line_bytes),
        label,
        protocol,
        dst_prefix: reader.get("dstPrefix", path).or_else(|| Path::parse("/svc").ok()).unwrap_or_else(Path::empty),
        dtab: reader.get("dtab", |item| dtab(source, item)).or_else(no_dtab)?,
        interpreter,
        identifiers: identifiers(&mut reader, protocol),
        client: client(&mut reader, protocol),
        service: service(&mut reader, protocol),
        binding_timeout: reader.get("bindingTimeoutMs", millis(1)).unwrap_or(DEFAULT_BINDING_TIMEOUT),
        binding_cache: binding_cache(&mut reader),
        timeouts_are_504: reader.get("timeoutStatus", timeout_status).unwrap_or(false),
        max_idle_per_worker: reader.get("maxIdleConnectionsPerWorker", size(0)).unwrap_or(DEFAULT_MAX_IDLE),
        override_sets: sets(&mut reader),
        originator: reader.get("originator", boolean).unwrap_or(false),
        max_headers_bytes,
        max_line_bytes,
        max_err_response_bytes: kilobytes(&mut reader, "maxErrResponseKB", DEFAULT_ERR_KB),
        buffered_bytes: buffered(&mut reader),
        compression: compression(&mut reader),
        access_log: access_log(&mut reader, claims, protocol),
    };
    policy::check(&reader, &router);
    reader.finish();
    Some(router)
}

fn no_dtab() -> Option<Dtab> {
    ::dtab::parse_dtab("").ok()
}

/// 503 is Linkerd's answer, with 502 where it gives that; 504 is for all limits alike.
fn timeout_status(item: &Item<'_>) -> Result<bool, Bad> {
    match int(0, 999)(item)? {
        503 => Ok(false),
        504 => Ok(true),
        other => Err(Bad::new(format!("{other} is no status for timeouts")).expected("503 or 504")),
    }
}

fn kilobytes(reader: &mut Reader<'_>, key: &'static str, default: usize) -> usize {
    reader.get(key, size(1)).unwrap_or(default).saturating_mul(1024)
}

fn label(reader: &mut Reader<'_>, claims: &mut Claims, protocol: Protocol) -> String {
    let at = reader.take("label").unwrap_or_else(|| reader.item.clone());
    let label = reader.get("label", string).unwrap_or_else(|| protocol.name().to_owned());
    claims.label(reader.context, &at, &label);
    label
}

fn servers(reader: &mut Reader<'_>, claims: &mut Claims, router: (&str, Protocol)) -> Vec<ServerParams> {
    let list = reader.take("servers");
    let empty = list.as_ref().is_none_or(|list| list.shape() == "a list" && list.elements(reader.context).is_empty());
    if empty {
        let path = super::reader::key_path(&reader.item.path, "servers");
        let bad = Bad::new("a router without servers").expected("at least one server");
        reader.context.bad(reader.pos("servers"), &path, bad);
    }
    let mut servers = Vec::new();
    for item in reader.list("servers") {
        if let Some((server, at)) = self::server(reader, item, router) {
            let holder = format!("{} in line {}", at.path, at.pos.line);
            let claim = Claim::new(holder, server.ip, server.port, server.socket.reuse_port);
            claims.socket(reader.context, &at, claim);
            servers.push(server);
        }
    }
    servers
}

/// The keys of plug-ins.
fn plug_ins(router: &mut Reader<'_>) {
    none_of(router, "announcers", &ANNOUNCERS);
    if let Some(mut reader) = router.sub("tracePropagator", Place::Other)
        && let Found::Built(_) = PROPAGATORS.of(&mut reader)
    {
        reader.finish();
    }
}

fn binding_cache(router: &mut Reader<'_>) -> BindingCacheParams {
    let default = BindingCacheParams::default();
    let Some(mut reader) = router.sub("bindingCache", Place::Other) else { return default };
    let cache = BindingCacheParams {
        paths: reader.get("paths", size(0)).unwrap_or(default.paths),
        overrides_per_source: reader.get("overridesPerSource", size(1)),
        trees: reader.get("trees", size(0)).unwrap_or(default.trees),
        bounds: reader.get("bounds", size(0)).unwrap_or(default.bounds),
        clients: reader.get("clients", size(0)).unwrap_or(default.clients),
        idle_ttl: reader.get("idleTtlSecs", seconds(1)).unwrap_or(default.idle_ttl),
    };
    reader.finish();
    cache
}
