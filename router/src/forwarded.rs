//! The `Forwarded` header that a server adds (RFC 7239, data-plane reference §6.6).
//!
//! Called by `request::prepare` for servers with `addForwardedHeader`. A line of its own is added after those that the
//! request has. Not for: reading such headers; nothing here depends on what they say.

use crate::config::{ForwardedParams, Labeler};
use crate::headers::is_token_byte;
use bytes::BytesMut;
use std::net::{IpAddr, SocketAddr};

/// Letters and digits of a random label.
const RANDOM: usize = 6;

/// What the labelers say for one connection.
#[derive(Debug)]
pub struct Labels {
    by: Label,
    client: Label,
}

#[derive(Debug)]
enum Label {
    /// The same for every request.
    Text(String),
    /// Another one for every request.
    Random,
}

impl Labels {
    /// The labels of a connection of `client` to `local`, as far as the addresses are known.
    pub fn new(params: &ForwardedParams, local: Option<SocketAddr>, client: SocketAddr) -> Labels {
        Labels { by: Label::new(&params.by, local), client: Label::new(&params.client, Some(client)) }
    }

    /// Writes the header line of a request. `host` is its `Host`, `scheme` says how the connection is made.
    pub fn write(&self, host: Option<&[u8]>, scheme: &str, out: &mut BytesMut) {
        out.extend_from_slice(b"forwarded: by=");
        self.by.write(out);
        out.extend_from_slice(b";for=");
        self.client.write(out);
        if let Some(host) = host.filter(|host| !host.is_empty()) {
            out.extend_from_slice(b";host=");
            let quote: &[u8] = if host.iter().all(|&byte| is_token_byte(byte)) { b"" } else { b"\"" };
            for part in [quote, host, quote] {
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(b";proto=");
        out.extend_from_slice(scheme.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

impl Label {
    fn new(labeler: &Labeler, addr: Option<SocketAddr>) -> Label {
        match labeler {
            Labeler::RequestRandom => Label::Random,
            Labeler::ConnectionRandom => {
                let mut text = BytesMut::new();
                Label::Random.write(&mut text);
                Label::Text(String::from_utf8_lossy(&text).into_owned())
            }
            Labeler::Fixed(label) => Label::Text(format!("_{label}")),
            Labeler::Ip => Label::Text(show(addr, false)),
            Labeler::IpPort => Label::Text(show(addr, true)),
        }
    }

    fn write(&self, out: &mut BytesMut) {
        match self {
            Label::Text(text) => out.extend_from_slice(text.as_bytes()),
            Label::Random => {
                out.extend_from_slice(b"_");
                (0..RANDOM).for_each(|_| out.extend_from_slice(&[fastrand::alphanumeric() as u8]));
            }
        }
    }
}

/// A node (RFC 7239 §6): quoted where it holds a colon.
fn show(addr: Option<SocketAddr>, with_port: bool) -> String {
    let Some(addr) = addr.filter(|addr| !addr.ip().is_unspecified()) else { return "unknown".to_owned() };
    match (addr.ip().to_canonical(), with_port) {
        (IpAddr::V4(ip), false) => ip.to_string(),
        (IpAddr::V4(ip), true) => format!("\"{ip}:{}\"", addr.port()),
        (IpAddr::V6(ip), false) => format!("\"[{ip}]\""),
        (IpAddr::V6(ip), true) => format!("\"[{ip}]:{}\"", addr.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(by: Labeler, client: Labeler, local: &str, peer: &str, host: &str) -> String {
        let params = ForwardedParams { by, client };
        let labels = Labels::new(&params, local.parse().ok(), peer.parse().expect("an address"));
        let mut out = BytesMut::new();
        labels.write(Some(host.as_bytes()), "http", &mut out);
        String::from_utf8(out.to_vec()).expect("text").trim_end().to_owned()
    }

    #[test]
    fn nodes_are_quoted_where_they_must_be() {
        let v4 = line(Labeler::Ip, Labeler::IpPort, "192.0.2.1:80", "192.0.2.7:5555", "web");
        assert_eq!(v4, "forwarded: by=192.0.2.1;for=\"192.0.2.7:5555\";host=web;proto=http");
        let v6 = line(Labeler::IpPort, Labeler::Ip, "[2001:db8::1]:80", "[::ffff:192.0.2.7]:5555", "web:80");
        assert_eq!(v6, "forwarded: by=\"[2001:db8::1]:80\";for=192.0.2.7;host=\"web:80\";proto=http");
        let unknown = line(Labeler::Ip, Labeler::Ip, "0.0.0.0:80", "[2001:db8::7]:1", "");
        assert_eq!(unknown, "forwarded: by=unknown;for=\"[2001:db8::7]\";proto=http");
        assert!(line(Labeler::IpPort, Labeler::Ip, "none", "[::1]:1", "").contains("by=unknown;"));
    }

    #[test]
    fn random_labels_last_as_long_as_they_should() {
        let params = ForwardedParams { by: Labeler::ConnectionRandom, client: Labeler::RequestRandom };
        let labels = Labels::new(&params, None, ([127, 0, 0, 1], 1).into());
        let parts = || {
            let mut out = BytesMut::new();
            labels.write(None, "https", &mut out);
            let text = String::from_utf8(out.to_vec()).expect("text");
            let mut parts = text.trim_end().split([';', '=']).map(str::to_owned);
            (parts.nth(1).expect("by"), parts.nth(1).expect("for"))
        };
        let (one, two) = (parts(), parts());
        assert_eq!(one.0, two.0);
        assert_ne!(one.1, two.1);
        for label in [one.0, one.1] {
            assert!(label.starts_with('_') && label.len() == 1 + RANDOM && label.is_ascii(), "{label}");
        }
        let fixed = line(Labeler::Fixed("a".into()), Labeler::Fixed("b.c".into()), "", "127.0.0.1:1", "");
        assert_eq!(fixed, "forwarded: by=_a;for=_b.c;proto=http");
    }
}
