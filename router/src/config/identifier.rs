//! `identifier` of an http router: one object or a list (config reference §6.1).
//!
//! For: the reader of routers. Not for: identifying requests.

use super::kinds::{Found, IDENTIFIERS};
use super::moved::Place;
use super::params::IdentifierParams;
use super::reader::{Bad, Item, Reader};
use super::scalar::{boolean, header, path, size};
use super::tree::Value;

/// The identifiers of a router in order; the default when the key is absent.
pub(super) fn identifiers(router: &mut Reader<'_>) -> Vec<IdentifierParams> {
    let Some(item) = router.take("identifier") else { return vec![IdentifierParams::default()] };
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
    items.into_iter().filter_map(|item| identifier(router, item)).collect()
}

fn identifier<'a>(router: &Reader<'a>, item: Item<'a>) -> Option<IdentifierParams> {
    let mut reader = Reader::open(router.context, item, Place::Other)?;
    let Found::Built(kind) = IDENTIFIERS.of(&mut reader) else { return None };
    let identifier = match kind {
        "io.l5d.header" => {
            let written = reader.get("header", header).unwrap_or_else(|| "l5d-name".to_owned());
            Some(IdentifierParams::Header { header: written.to_ascii_lowercase(), written })
        }
        "io.l5d.methodAndHost" => Some(IdentifierParams::MethodAndHost {
            http_uri_in_dst: reader.get("httpUriInDst", boolean).unwrap_or(false),
        }),
        "io.l5d.path" => Some(IdentifierParams::Path {
            segments: reader.get("segments", size(1)).unwrap_or(1),
            consume: reader.get("consume", boolean).unwrap_or(false),
        }),
        "io.l5d.static" => reader.need("path", path).map(|path| IdentifierParams::Static { path }),
        _ => {
            let written = reader.get("header", header).unwrap_or_else(|| "Host".to_owned());
            Some(IdentifierParams::HeaderToken { header: written.to_ascii_lowercase(), written })
        }
    };
    reader.finish();
    identifier
}
