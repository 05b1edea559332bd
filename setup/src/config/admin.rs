//! `admin` (config reference §3.1).
//!
//! For: `load`. Not for: serving.

use super::moved::Place;
use super::params::{AdminParams, SecurityParams};
use super::reader::{Bad, Item, Reader};
use super::scalar::{boolean, count, full_regex, ip, millis, port, string};
use super::socket::socket;
use super::tls::admin_tls;
use crate::tokens;
use regex::Regex;
use std::path::PathBuf;

/// The administrative server; all defaults when the key is absent.
pub fn admin(top: &mut Reader<'_>) -> AdminParams {
    let default = AdminParams::default();
    let Some(mut reader) = top.sub("admin", Place::Admin) else { return default };
    let admin = AdminParams {
        ip: reader.get("ip", ip).unwrap_or(default.ip),
        port: reader.get("port", port).unwrap_or(default.port),
        shutdown_grace: reader.get("shutdownGraceMs", millis(0)).unwrap_or(default.shutdown_grace),
        security: security(&mut reader),
        socket: socket(&mut reader).unwrap_or_default(),
        tls: admin_tls(&mut reader),
    };
    if reader.get("workerThreads", count(1)).is_some() {
        reader.context.warn(&reader.item, "`workerThreads` has no effect");
    }
    reader.not_yet("httpIdentifierPort");
    reader.finish();
    admin
}

fn security(admin: &mut Reader<'_>) -> SecurityParams {
    let default = SecurityParams::default();
    let Some(mut reader) = admin.sub("security", Place::Other) else { return default };
    let security = SecurityParams {
        ui: reader.get("uiEnabled", boolean).unwrap_or(default.ui),
        control: reader.get("controlEnabled", boolean).unwrap_or(default.control),
        diagnostics: reader.get("diagnosticsEnabled", boolean).unwrap_or(default.diagnostics),
        whitelist: regexes(&mut reader, "pathWhitelist"),
        blacklist: regexes(&mut reader, "pathBlacklist"),
        token_file: reader.get("tokenFile", token_file),
    };
    reader.finish();
    security
}

fn token_file(item: &Item<'_>) -> Result<PathBuf, Bad> {
    let path = PathBuf::from(string(item)?);
    match tokens::read(&path) {
        Ok(_) => Ok(path),
        Err(text) => Err(Bad::new(text).expected("a file with a token, such as `openssl rand -hex 32` prints")),
    }
}

fn regexes(reader: &mut Reader<'_>, key: &'static str) -> Vec<Regex> {
    let mut regexes = Vec::new();
    for item in reader.list(key) {
        match full_regex(&item) {
            Ok(regex) => regexes.push(regex),
            Err(bad) => reader.context.bad(item.pos, &item.path, bad),
        }
    }
    regexes
}
