//! `protocols` and `ciphers`: from the names people know to what rustls has.
//!
//! For: the builders of configurations. A name that cannot be honoured is refused at load. Not for: choosing defaults:
//! those are rustls' own, all of them safe.

use crate::error::{Part, TlsError};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};
use rustls::{ALL_VERSIONS, SupportedProtocolVersion};
use std::sync::Arc;

type Versions = Vec<&'static SupportedProtocolVersion>;

/// rustls' suite, the name of IANA and JSSE is its name without `TLS13_` for `TLS_`; OpenSSL has names of its own.
const OPENSSL: [(&str, &str); 6] = [
    ("ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    ("ECDHE-RSA-AES256-GCM-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    ("ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    ("ECDHE-RSA-CHACHA20-POLY1305", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
];

/// What to build a configuration with: the suites of `ciphers` and the versions of `protocols`.
pub(crate) fn choose(protocols: &[String], ciphers: &[String]) -> Result<(Arc<CryptoProvider>, Versions), TlsError> {
    let mut versions = versions(protocols)?;
    let mut provider = aws_lc_rs::default_provider();
    if !ciphers.is_empty() {
        let wanted = ciphers.iter().map(|name| iana(name, &provider)).collect::<Result<Vec<_>, _>>()?;
        // In the order of the file: it is the server's preference.
        let suite = |name: &String| provider.cipher_suites.iter().find(|suite| known_as(suite) == *name).copied();
        provider.cipher_suites = wanted.iter().filter_map(suite).collect();
        let has = |version: &&'static SupportedProtocolVersion| {
            provider.cipher_suites.iter().any(|suite| suite.version().version == version.version)
        };
        if let Some(lost) = versions.iter().find(|version| !protocols.is_empty() && !has(version)) {
            let text = format!("none of the ciphers belongs to {}", shown(lost));
            return Err(TlsError::new(Part::Ciphers, text));
        }
        versions.retain(has);
    }
    Ok((Arc::new(provider), versions))
}

fn versions(protocols: &[String]) -> Result<Versions, TlsError> {
    if protocols.is_empty() {
        return Ok(ALL_VERSIONS.to_vec());
    }
    let mut versions = Versions::new();
    for name in protocols {
        let version = version(name)?;
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    Ok(versions)
}

fn version(name: &str) -> Result<&'static SupportedProtocolVersion, TlsError> {
    let refuse = |why: &str| Err(TlsError::new(Part::Protocols, format!("`{}` {why}", short(name))));
    match name.to_ascii_lowercase().as_str() {
        "tlsv1.2" => Ok(&TLS12),
        "tlsv1.3" => Ok(&TLS13),
        "tlsv1" | "tlsv1.0" | "tlsv1.1" => {
            refuse("is obsolete (RFC 8996) and not supported; write `TLSv1.2`, `TLSv1.3` or both")
        }
        "sslv2" | "sslv2hello" | "sslv3" => {
            refuse("is broken (RFC 7568) and not supported; write `TLSv1.2`, `TLSv1.3` or both")
        }
        _ => refuse("is no protocol; expected `TLSv1.2` or `TLSv1.3`"),
    }
}

fn shown(version: &SupportedProtocolVersion) -> &'static str {
    if version.version == TLS12.version { "TLSv1.2" } else { "TLSv1.3" }
}

/// The name of IANA, from any of the known spellings.
fn iana(name: &str, provider: &CryptoProvider) -> Result<String, TlsError> {
    let upper = name.to_ascii_uppercase();
    let openssl = OPENSSL.iter().find(|(openssl, _)| *openssl == upper).map(|(_, iana)| (*iana).to_owned());
    let wanted = openssl.unwrap_or_else(|| upper.replacen("TLS13_", "TLS_", 1));
    let all: Vec<String> = provider.cipher_suites.iter().map(known_as).collect();
    if all.contains(&wanted) {
        return Ok(wanted);
    }
    let text = format!(
        "`{}` is not a supported cipher suite: without forward secrecy, without AEAD, or unknown; supported are {}",
        short(name),
        all.join(", ")
    );
    Err(TlsError::new(Part::Ciphers, text))
}

fn known_as(suite: &rustls::SupportedCipherSuite) -> String {
    let name = suite.suite().as_str().unwrap_or_default();
    name.replacen("TLS13_", "TLS_", 1)
}

fn short(name: &str) -> String {
    name.chars().take(80).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    fn chosen(protocols: &[&str], ciphers: &[&str]) -> Result<(Vec<String>, Vec<&'static str>), TlsError> {
        let (provider, versions) = choose(&names(protocols), &names(ciphers))?;
        let suites = provider.cipher_suites.iter().map(known_as).collect();
        Ok((suites, versions.into_iter().map(shown).collect()))
    }

    #[test]
    fn the_default_is_all_that_is_safe() {
        let (suites, versions) = chosen(&[], &[]).unwrap();
        assert_eq!(suites.len(), 9, "{suites:?}");
        assert_eq!(versions, ["TLSv1.3", "TLSv1.2"]);
    }

    #[test]
    fn every_spelling_of_every_suite_is_known() {
        let (all, _) = chosen(&[], &[]).unwrap();
        for name in all.iter().map(String::as_str).chain(OPENSSL.map(|(openssl, _)| openssl)) {
            assert_eq!(chosen(&[], &[name]).unwrap().0.len(), 1, "{name}");
        }
        assert_eq!(chosen(&[], &["TLS13_AES_128_GCM_SHA256"]).unwrap().0, ["TLS_AES_128_GCM_SHA256"]);
    }

    #[test]
    fn the_list_is_the_whole_list() {
        let (suites, versions) = chosen(&[], &["ECDHE-RSA-AES128-GCM-SHA256"]).unwrap();
        assert_eq!((suites.len(), versions), (1, vec!["TLSv1.2"]), "no suite of 1.3, so no 1.3");
        let error = chosen(&["TLSv1.3"], &["ECDHE-RSA-AES128-GCM-SHA256"]).unwrap_err();
        assert_eq!((error.part, error.text.as_str()), (Part::Ciphers, "none of the ciphers belongs to TLSv1.3"));
    }

    #[test]
    fn what_is_weak_or_unknown_is_refused_with_the_list() {
        for name in ["TLS_RSA_WITH_AES_128_CBC_SHA", "RC4-MD5", "", "nonsense"] {
            let error = chosen(&[], &[name]).unwrap_err();
            assert!(error.part == Part::Ciphers && error.text.contains("TLS_AES_256_GCM_SHA384"), "{error}");
        }
        assert!(chosen(&["TLSv1.1"], &[]).unwrap_err().text.contains("RFC 8996"));
        assert!(chosen(&["SSLv3"], &[]).unwrap_err().text.contains("RFC 7568"));
        assert!(chosen(&["1.3"], &[]).unwrap_err().text.contains("expected `TLSv1.2`"));
        assert_eq!(chosen(&["tlsv1.2", "TLSv1.2"], &[]).unwrap().1, ["TLSv1.2"]);
    }
}
