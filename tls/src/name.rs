//! [`PeerName`]: the name a server must prove, the rule by which its certificate does, and what is sent as SNI.
//!
//! The rule is that of Java's HTTPS check, as Linkerd 1 had it: if the certificate has alternative names of the kind, one
//! of them must match; only without any DNS name the common name counts. Wildcards as RFC 6125: the left-most label,
//! whole, over at least two more labels. Beyond Linkerd 1, a name with `://` is compared with the URIs of the
//! certificate, which is how SPIFFE identities are written. Not for: chains (see `verify`).

use crate::subject::{AltName, alt_names, common_name};
use rustls_pki_types::{DnsName, ServerName};
use std::fmt;
use std::net::IpAddr;
use x509_parser::certificate::X509Certificate;

/// Names of a certificate that a message shows.
const SHOWN: usize = 8;
/// Characters of a name that a message shows.
const SHOWN_CHARS: usize = 80;

/// The name that a server must prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PeerName {
    /// A host name, in lower case, without a dot at its end.
    Host(String),
    /// An address.
    Ip(IpAddr),
    /// A URI such as `spiffe://example.org/web`, compared as it is.
    Uri(String),
}

/// Why a certificate does not prove a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NameError {
    /// Its names, as text for people.
    Mismatch(String),
    /// The common name would match, and counts for nothing because an authority of the chain is limited to some names:
    /// such limits are only checked for alternative names.
    Constrained,
}

impl PeerName {
    /// Any text is a name; what matches nothing fails the handshake.
    pub(crate) fn new(text: &str) -> PeerName {
        if text.contains("://") {
            return PeerName::Uri(text.to_owned());
        }
        match text.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(ip) => PeerName::Ip(ip),
            Err(_) => PeerName::Host(normal(text)),
        }
    }

    /// What rustls is told: a host name becomes the SNI, an address does not. None for a name that cannot be an SNI.
    pub(crate) fn server_name(&self) -> Option<ServerName<'static>> {
        match self {
            PeerName::Host(host) => DnsName::try_from(host.clone()).ok().map(ServerName::DnsName),
            PeerName::Ip(ip) => Some(ServerName::IpAddress((*ip).into())),
            PeerName::Uri(_) => None,
        }
    }

    /// Whether the certificate is for this name. `constrained`: an authority of its chain is limited to some names.
    pub(crate) fn check(&self, certificate: &X509Certificate<'_>, constrained: bool) -> Result<(), NameError> {
        let names = alt_names(certificate);
        let host = match self {
            PeerName::Ip(ip) => return proven(names.contains(&AltName::Ip(*ip)), certificate),
            PeerName::Uri(uri) => return proven(names.contains(&AltName::Uri(uri.clone())), certificate),
            PeerName::Host(host) => host,
        };
        let mut dns = names.iter().filter_map(|name| match name {
            AltName::Dns(dns) => Some(dns),
            _ => None,
        });
        if let Some(first) = dns.next() {
            return proven(std::iter::once(first).chain(dns).any(|dns| matches(dns, host)), certificate);
        }
        match common_name(certificate).is_some_and(|cn| matches(&cn, host)) {
            true if constrained => Err(NameError::Constrained),
            matched => proven(matched, certificate),
        }
    }
}

fn proven(is: bool, certificate: &X509Certificate<'_>) -> Result<(), NameError> {
    if is { Ok(()) } else { Err(NameError::Mismatch(presented(certificate))) }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerName::Host(text) | PeerName::Uri(text) => f.write_str(&plain(text)),
            PeerName::Ip(ip) => ip.fmt(f),
        }
    }
}

fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Whether a name of a certificate, perhaps with a wildcard, is for `host`, which is in lower case.
fn matches(presented: &str, host: &str) -> bool {
    let presented = normal(presented);
    if presented.is_empty() || host.is_empty() {
        return false;
    }
    match presented.strip_prefix("*.") {
        None => !presented.contains('*') && presented == host,
        Some(rest) => {
            let Some((label, of_host)) = host.split_once('.') else { return false };
            let labels = rest.split('.').filter(|label| !label.is_empty()).count();
            !label.is_empty() && labels >= 2 && !rest.contains('*') && rest == of_host
        }
    }
}

/// The names of a certificate for people.
pub(crate) fn presented(certificate: &X509Certificate<'_>) -> String {
    let names = alt_names(certificate);
    if names.is_empty() {
        return match common_name(certificate) {
            Some(cn) => format!("no alternative names, and the common name {}", plain(&cn)),
            None => "no names at all".to_owned(),
        };
    }
    let show = |name: &AltName| match name {
        AltName::Dns(text) | AltName::Uri(text) => plain(text),
        AltName::Ip(ip) => ip.to_string(),
    };
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    let shown: Vec<String> = names.iter().take(SHOWN).map(show).collect();
    format!("the names {}{more}", shown.join(", "))
}

/// A text of a peer, fit for a message: printable ASCII, not long.
fn plain(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::parse;
    use crate::test_certs::{Authority, Leaf};

    fn check(leaf: Leaf, name: &str) -> Result<(), NameError> {
        let issued = Authority::new("ca").issue(&leaf);
        PeerName::new(name).check(&parse(&issued.der()).unwrap(), false)
    }

    #[test]
    fn wildcards_stand_for_one_whole_leftmost_label() {
        let yes = [
            ("a.example.com", "a.example.com"),
            ("*.example.com", "a.example.com"),
            ("A.Example.com.", "a.example.com"),
        ];
        for (presented, host) in yes {
            assert!(matches(presented, host), "{presented} is for {host}");
        }
        let no = [
            ("*.example.com", "example.com"),
            ("*.example.com", "a.b.example.com"),
            ("*.example.com", ".example.com"),
            ("*.com", "example.com"),
            ("*", "example"),
            ("a*.example.com", "ab.example.com"),
            ("*.*.example.com", "a.b.example.com"),
            ("a.*.com", "a.example.com"),
            ("*.example..com", "a.example..com."),
            ("", ""),
            ("a.example.com\0.evil", "a.example.com"),
        ];
        for (presented, host) in no {
            assert!(!matches(presented, host), "{presented} is not for {host}");
        }
    }

    #[test]
    fn the_common_name_counts_only_without_dns_names() {
        assert_eq!(check(Leaf::cn("web.example"), "WEB.example."), Ok(()));
        assert_eq!(check(Leaf::cn("web.example").ip("10.0.0.1"), "web.example"), Ok(()));
        let other = check(Leaf::cn("web.example").dns("api.example"), "web.example").unwrap_err();
        assert_eq!(other, NameError::Mismatch("the names api.example".to_owned()));
        let none = check(Leaf::cn("api.example"), "web.example").unwrap_err();
        assert_eq!(none, NameError::Mismatch("no alternative names, and the common name api.example".to_owned()));
    }

    #[test]
    fn addresses_and_uris_match_their_own_kind_only() {
        assert_eq!(check(Leaf::cn("x").ip("10.0.0.1"), "10.0.0.1"), Ok(()));
        assert!(check(Leaf::cn("10.0.0.1"), "10.0.0.1").is_err(), "a common name is no address");
        assert!(check(Leaf::cn("x").dns("10.0.0.1"), "10.0.0.1").is_err(), "a DNS name is no address");
        assert_eq!(check(Leaf::cn("x").ip("::1"), "[::1]"), Ok(()));
        let web = "spiffe://example.org/web";
        assert_eq!(check(Leaf::cn("x").uri(web), web), Ok(()));
        assert!(check(Leaf::cn("x").uri("spiffe://example.org/web2"), web).is_err());
        assert!(check(Leaf::cn(web).dns(web), web).is_err());
    }

    #[test]
    fn an_address_or_a_uri_is_never_sent_as_sni() {
        assert!(matches!(PeerName::new("10.0.0.1").server_name(), Some(ServerName::IpAddress(_))));
        assert!(matches!(PeerName::new("web.example").server_name(), Some(ServerName::DnsName(_))));
        assert_eq!(PeerName::new("spiffe://example.org/web").server_name(), None);
        assert_eq!(PeerName::new("my web").server_name(), None);
    }

    #[test]
    fn what_a_peer_shows_is_cut_and_cleaned() {
        let mut leaf = Leaf::cn("x");
        for i in 0..20 {
            leaf = leaf.dns(&format!("n{i}.example"));
        }
        let issued = Authority::new("ca").issue(&leaf.uri("spiffe://a"));
        let shown = presented(&parse(&issued.der()).unwrap());
        assert!(shown.ends_with("n7.example and 13 more"), "{shown}");
        assert_eq!(plain("a\r\nb\u{1b}[1m\u{e9}"), "a??b?[1m?");
    }
}
