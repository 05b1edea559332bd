//! [`Peer`]: who is at the other end, from the certificate it proved to have.
//!
//! For: policies that depend on the caller, and `x-forwarded-client-cert` (data-plane reference §5.5). Total over any
//! certificate, and nothing that a certificate holds can end the header or one of its elements. Not for: trust.

use crate::subject::{self, AltName};
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls_pki_types::CertificateDer;
use std::fmt::Write as _;
use std::sync::Arc;

/// Longest value of the header in bytes. Of a certificate with more names only the hash is told: a shortened list could
/// be read as the whole one.
const MAX_HEADER: usize = 8 * 1024;

/// The names of a peer, as they are in its certificate: any characters, so escape them where they are written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// URIs, SPIFFE identities among them, in the order of the certificate.
    pub uris: Vec<String>,
    /// DNS names in the order of the certificate.
    pub dns: Vec<String>,
    /// The most specific common name.
    pub common_name: Option<String>,
}

/// A peer with a certificate. Cloning is a reference count.
#[derive(Debug, Clone)]
pub struct Peer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    identity: Identity,
    forwarded: String,
}

impl Peer {
    pub(crate) fn of(leaf: &CertificateDer<'_>) -> Peer {
        let mut forwarded = format!("Hash={}", sha256(leaf));
        let Some(certificate) = subject::parse(leaf) else {
            return Peer { inner: Arc::new(Inner { identity: Identity::default(), forwarded }) };
        };
        let mut identity = Identity { common_name: subject::common_name(&certificate), ..Identity::default() };
        let hash_only = forwarded.len();
        for name in subject::alt_names(&certificate) {
            match name {
                AltName::Uri(uri) => {
                    element(&mut forwarded, "SAN", &uri);
                    identity.uris.push(uri);
                }
                AltName::Dns(dns) => {
                    element(&mut forwarded, "DNS", &dns);
                    identity.dns.push(dns);
                }
                AltName::Ip(_) => {}
            }
        }
        let _ = write!(forwarded, ";Subject=\"{}\"", subject::rfc2253(certificate.subject()));
        if forwarded.len() > MAX_HEADER {
            forwarded.truncate(hash_only);
        }
        Peer { inner: Arc::new(Inner { identity, forwarded }) }
    }

    /// The names of the peer.
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// One name for the peer: its first URI, else its first DNS name, else its common name. None when that holds anything
    /// but visible ASCII and spaces.
    pub fn name(&self) -> Option<&str> {
        let Identity { uris, dns, common_name } = &self.inner.identity;
        let name = uris.first().or(dns.first()).or(common_name.as_ref())?;
        name.bytes().all(|byte| (b' '..=b'~').contains(&byte)).then_some(name)
    }

    /// The value of `x-forwarded-client-cert`: `Hash=..;SAN=..;DNS=..;Subject=".."`, visible ASCII and spaces.
    pub fn forwarded(&self) -> &str {
        &self.inner.forwarded
    }
}

/// Upper-case hexadecimal.
fn sha256(der: &[u8]) -> String {
    let mut hex = String::new();
    if let Some(suite) = TLS13_AES_128_GCM_SHA256.tls13() {
        let digest = suite.common.hash_provider.hash(der);
        digest.as_ref().iter().for_each(|byte| _ = write!(hex, "{byte:02X}"));
    }
    hex
}

/// `;KEY=value`. What separates elements is quoted; quotes, backslashes, controls and what is not ASCII stand as `%XX`.
fn element(out: &mut String, key: &str, value: &str) {
    let quote = if value.contains([';', ',']) { "\"" } else { "" };
    let _ = write!(out, ";{key}={quote}");
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' | 0..=0x20 | 0x7f.. => _ = write!(out, "%{byte:02X}"),
            _ => out.push(char::from(byte)),
        }
    }
    out.push_str(quote);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_certs::{Authority, Leaf};
    use proptest::prelude::*;

    fn peer(leaf: &Leaf) -> Peer {
        Peer::of(&Authority::new("ca").issue(leaf).der())
    }

    /// The hash was checked with `openssl x509 -fingerprint -sha256`: it is that of the whole certificate.
    #[test]
    fn the_header_is_that_of_linkerd() {
        let leaf = Leaf::cn("web").uri("spiffe://example.org/web").dns("web.example").ip("10.0.0.1").dns("w.example");
        let peer = peer(&leaf);
        let (hash, rest) = peer.forwarded().split_once(';').unwrap();
        let hash = hash.strip_prefix("Hash=").unwrap();
        assert!(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b)), "{hash}");
        let expected = r#"SAN=spiffe://example.org/web;DNS=web.example;DNS=w.example;Subject="CN=web,O=Example\, Inc""#;
        assert_eq!(rest, expected);
        let identity = peer.identity();
        assert_eq!(identity.uris, ["spiffe://example.org/web"]);
        assert_eq!(identity.dns, ["web.example", "w.example"]);
        assert_eq!(identity.common_name.as_deref(), Some("web"));
        assert_eq!(peer.name(), Some("spiffe://example.org/web"));
    }

    #[test]
    fn nothing_in_a_certificate_ends_the_header_or_an_element() {
        let cn = "a\";DNS=admin\r\nx: y\\\u{e9}";
        let header =
            peer(&Leaf::cn(cn).uri("spiffe://a;DNS=admin,b\"c\r\n").dns("x\";DNS=admin")).forwarded().to_owned();
        let (_, rest) = header.split_once(';').unwrap();
        let expected = concat!(
            r#"SAN="spiffe://a;DNS=admin,b%22c%0D%0A";DNS="x%22;DNS=admin";"#,
            r#"Subject="CN=a\22\;DNS=admin\0D\0Ax: y\\\C3\A9,O=Example\, Inc""#
        );
        assert_eq!(rest, expected);
    }

    #[test]
    fn too_many_names_leave_the_hash() {
        let mut leaf = Leaf::cn("x");
        for i in 0..600 {
            leaf = leaf.dns(&format!("name-{i}.example"));
        }
        let peer = peer(&leaf);
        assert_eq!(peer.forwarded().len(), 5 + 64);
        assert_eq!(peer.identity().dns.len(), 600);
    }

    proptest! {
        /// Any bytes, and a certificate with any bytes changed.
        #[test]
        fn it_is_total(noise in proptest::collection::vec(any::<u8>(), 0..200), at in any::<u16>(), to in any::<u8>()) {
            static DER: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
                let leaf = Leaf::cn("web").uri("spiffe://x/y").dns("web.example");
                Authority::new("ca").issue(&leaf).der().to_vec()
            });
            let mut der = DER.clone();
            let at = usize::from(at) % der.len();
            der[at] = to;
            for bytes in [der, noise] {
                let peer = Peer::of(&CertificateDer::from(bytes));
                prop_assert!(peer.forwarded().bytes().all(|b| (0x20..0x7f).contains(&b)), "{}", peer.forwarded());
                prop_assert!(peer.forwarded().starts_with("Hash="));
            }
        }
    }
}
