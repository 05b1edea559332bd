//! Distinguished names and alternative names as text, from certificates of anybody.
//!
//! For: messages, the name rule and `x-forwarded-client-cert`. Every function is total over any bytes, and what it writes
//! is printable ASCII without a raw quote, so that it can stand in a header and in a log line. Not for: trust.

use rustls_pki_types::CertificateDer;
use std::fmt::Write as _;
use std::net::IpAddr;
use x509_parser::asn1_rs::{Any, Tag};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{AttributeTypeAndValue, X509Name, X509Version};

/// Longest subject in a message.
const SHOWN: usize = 200;

/// The attribute types that RFC 2253 has words for.
const WORDS: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// A certificate, if it is one.
pub(crate) fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate)
}

/// Whether it is an X.509 certificate of version 1.
pub(crate) fn is_v1(der: &CertificateDer<'_>) -> bool {
    parse(der).is_some_and(|certificate| certificate.version() == X509Version::V1)
}

/// An alternative name that identities are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AltName {
    Dns(String),
    Uri(String),
    Ip(IpAddr),
}

/// The alternative names in the order of the certificate. Kinds that nothing here uses are left out.
pub(crate) fn alt_names(certificate: &X509Certificate<'_>) -> Vec<AltName> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    extension.value.general_names.iter().filter_map(alt_name).collect()
}

fn alt_name(name: &GeneralName<'_>) -> Option<AltName> {
    match name {
        GeneralName::DNSName(dns) => Some(AltName::Dns((*dns).to_owned())),
        GeneralName::URI(uri) => Some(AltName::Uri((*uri).to_owned())),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|v4| AltName::Ip(v4.into())),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|v6| AltName::Ip(v6.into())),
        },
        _ => None,
    }
}

/// The most specific common name: the last of the subject.
pub(crate) fn common_name(certificate: &X509Certificate<'_>) -> Option<String> {
    certificate.subject().iter_common_name().last().and_then(|cn| cn.as_str().ok()).map(str::to_owned)
}

/// A distinguished name as RFC 2253 writes it: `CN=web,OU=ops,O=Example`. Quotes, controls and what is not ASCII stand
/// as `\XX`, which RFC 2253 allows for any byte.
pub(crate) fn rfc2253(name: &X509Name<'_>) -> String {
    let mut out = String::new();
    let rdns: Vec<_> = name.iter().collect();
    for (i, rdn) in rdns.iter().rev().enumerate() {
        if i > 0 {
            out.push(',');
        }
        for (j, attribute) in rdn.iter().enumerate() {
            if j > 0 {
                out.push('+');
            }
            write_attribute(&mut out, attribute);
        }
    }
    out
}

/// As [`rfc2253`], cut for messages.
pub(crate) fn short(name: &X509Name<'_>) -> String {
    let mut shown = rfc2253(name);
    if shown.is_empty() {
        return "(no subject)".to_owned();
    }
    if shown.len() > SHOWN {
        // All ASCII.
        shown.truncate(SHOWN);
        shown.push_str("...");
    }
    shown
}

fn write_attribute(out: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let oid = attribute.attr_type().to_id_string();
    let word = WORDS.iter().find(|(known, _)| *known == oid).map(|(_, word)| *word);
    out.push_str(word.unwrap_or(&oid));
    out.push('=');
    match (word, attribute.as_str()) {
        (Some(_), Ok(value)) => write_escaped(out, value),
        _ => write_hex(out, attribute.attr_value()),
    }
}

fn write_escaped(out: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b'"' | 0..=0x1f | 0x7f.. => _ = write!(out, "\\{byte:02X}"),
            b',' | b'+' | b'\\' | b'<' | b'>' | b';' => out.extend(['\\', char::from(byte)]),
            b' ' if at == 0 || at == last => out.push_str("\\ "),
            b'#' if at == 0 => out.push_str("\\#"),
            _ => out.push(char::from(byte)),
        }
    }
}

/// `#` and the value in DER, for what has no word or is no text.
fn write_hex(out: &mut String, value: &Any<'_>) {
    let Tag(tag) = value.tag();
    let (tag, length) = ((tag & 0x1f) as u8, value.data.len());
    let _ = write!(out, "#{tag:02x}");
    let bytes = length.to_be_bytes();
    let significant = bytes.iter().position(|&byte| byte != 0).map_or(&bytes[7..], |at| &bytes[at..]);
    if length > 0x7f {
        let _ = write!(out, "{:02x}", 0x80 | significant.len());
    }
    significant.iter().chain(value.data).for_each(|byte| _ = write!(out, "{byte:02x}"));
}
