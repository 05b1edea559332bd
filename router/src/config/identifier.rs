//! `identifier` of a router: one object or a list (config reference §6).
//!
//! For: the reader of routers. Not for: identifying requests.

use super::h2::Protocol;
use super::kinds::{Found, IDENTIFIERS};
use super::moved::Place;
use super::params::IdentifierParams;
use super::reader::{Bad, Item, Reader};
use super::scalar::{boolean, header, path, size, string};
use super::tree::Value;

/// The pseudo headers of HTTP/2 requests; over HTTP/1 what means the same is read.
const PSEUDO: [&str; 4] = [":authority", ":path", ":method", ":scheme"];

/// The identifiers of a router in order; the default when the key is absent.
pub(super) fn identifiers(router: &mut Reader<'_>, protocol: Protocol) -> Vec<IdentifierParams> {
    let Some(item) = router.take("identifier") else { return vec![default(protocol)] };
    let items = match &item.node.value {
        Value::List(list) if list.is_empty() => {
            let bad =
                Bad::new("empty identifier list: no request would get a name").expected("at least one identifier");
            router.context.bad(item.pos, &item.path, bad);
            return Vec::new();
        }
        Value::List(_) => item.elements(router.context),
        _ => vec![item],
    };
    items.into_iter().filter_map(|item| identifier(router, item, protocol)).collect()
}

/// The header by which a router without `identifier` names requests.
fn default(protocol: Protocol) -> IdentifierParams {
    token(match protocol {
        Protocol::Http => "Host".to_owned(),
        Protocol::H2 => ":authority".to_owned(),
    })
}

fn token(written: String) -> IdentifierParams {
    IdentifierParams::HeaderToken { header: written.to_ascii_lowercase(), written }
}

fn identifier<'a>(router: &Reader<'a>, item: Item<'a>, protocol: Protocol) -> Option<IdentifierParams> {
    let mut reader = Reader::open(router.context, item, Place::Other)?;
    let Found::Built(kind) = IDENTIFIERS.of(&mut reader) else { return None };
    let identifier = match kind {
        "io.l5d.header" => {
            let written = reader.get("header", field).unwrap_or_else(|| "l5d-name".to_owned());
            Some(IdentifierParams::Header { header: written.to_ascii_lowercase(), written })
        }
        "io.l5d.methodAndHost" => Some(IdentifierParams::MethodAndHost {
            http_uri_in_dst: reader.get("httpUriInDst", boolean).unwrap_or(false),
        }),
        "io.l5d.path" => Some(IdentifierParams::Path {
            segments: reader.get("segments", size(1)).unwrap_or(1),
            consume: reader.get("consume", boolean).unwrap_or(false),
        }),
        "io.l5d.header.path" => Some(IdentifierParams::HeaderPath {
            header: reader.get("header", field).unwrap_or_else(|| ":path".to_owned()).to_ascii_lowercase(),
            segments: reader.get("segments", size(1)),
        }),
        "io.l5d.static" => reader.need("path", path).map(|path| IdentifierParams::Static { path }),
        _ => Some(reader.get("header", field).map_or_else(|| default(protocol), token)),
    };
    reader.finish();
    identifier
}

/// The name of a header, or of one of the pseudo headers of HTTP/2 requests.
fn field(item: &Item<'_>) -> Result<String, Bad> {
    match string(item) {
        Ok(text) if PSEUDO.contains(&text.to_ascii_lowercase().as_str()) => Ok(text),
        _ => header(item),
    }
}
