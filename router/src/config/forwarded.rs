//! `addForwardedHeader` of a server (config reference §5.1, data-plane reference §6.6).
//!
//! For: the reader of servers. Not for: writing the header (see `crate::forwarded`).

use super::kinds::{Found, LABELERS};
use super::moved::Place;
use super::problem::quote;
use super::reader::{Bad, Item, Reader};
use super::scalar::string;

/// What stands in the `Forwarded` header that a server adds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ForwardedParams {
    /// The router's side, `by`. Default [`Labeler::RequestRandom`].
    pub by: Labeler,
    /// The client's side, `for`. Default [`Labeler::RequestRandom`].
    pub client: Labeler,
}

/// How one side of a connection is named.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Labeler {
    /// `ip`: the address.
    Ip,
    /// `ip:port`: the address and the port.
    IpPort,
    /// `requestRandom`: `_` and 6 letters or digits, others for every request.
    #[default]
    RequestRandom,
    /// `connectionRandom`: the same for all requests of a connection.
    ConnectionRandom,
    /// `router`: `_` and the label of the router, or `static`: `_` and a label; without the underscore here.
    Fixed(String),
}

/// The parameters under `addForwardedHeader`; `router` is the label of the router.
pub(super) fn forwarded(server: &mut Reader<'_>, router: &str) -> Option<ForwardedParams> {
    let mut reader = server.sub("addForwardedHeader", Place::Other)?;
    let by = labeler(&mut reader, "by", router);
    let client = labeler(&mut reader, "for", router);
    reader.finish();
    Some(ForwardedParams { by, client })
}

fn labeler(parent: &mut Reader<'_>, key: &'static str, router: &str) -> Labeler {
    let Some(mut reader) = parent.sub(key, Place::Other) else { return Labeler::default() };
    let Found::Built(kind) = LABELERS.of(&mut reader) else { return Labeler::default() };
    let labeler = match kind {
        "ip" => Labeler::Ip,
        "ip:port" => Labeler::IpPort,
        "connectionRandom" => Labeler::ConnectionRandom,
        "router" => Labeler::Fixed(legal(router)),
        "static" => reader.need("label", label).map_or(Labeler::default(), Labeler::Fixed),
        _ => Labeler::RequestRandom,
    };
    reader.finish();
    labeler
}

/// True for the characters of an obfuscated node (RFC 7239 §6.3).
fn is_legal(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// A static label, without the underscore that may be written.
fn label(item: &Item<'_>) -> Result<String, Bad> {
    let text = string(item)?;
    let bare = text.strip_prefix('_').unwrap_or(&text);
    match !bare.is_empty() && bare.len() <= 256 && bare.chars().all(is_legal) {
        true => Ok(bare.to_owned()),
        false => Err(Bad::new(format!("{} is not a legal label of a `Forwarded` header", quote(&text)))
            .expected("letters, digits, `.`, `_` and `-`")),
    }
}

/// The label of a router may be any text: what RFC 7239 does not allow becomes `-`.
fn legal(router: &str) -> String {
    router.chars().map(|c| if is_legal(c) { c } else { '-' }).collect()
}
