//! Certificates, keys and authorities from the bytes of PEM files.
//!
//! For: building server and client configurations. Not for: reading files (`files`) and for verifying peers (`verify`).

use crate::error::{Part, TlsError, V1_ADVICE};
use crate::expiry::CertificateInfo;
use crate::files::Files;
use crate::subject;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Where a certificate and its key are.
pub(crate) struct KeyPaths<'a> {
    pub(crate) cert: &'a Path,
    pub(crate) key: &'a Path,
    pub(crate) intermediates: Option<&'a Path>,
}

/// All certificates of a file, at least one.
pub(crate) fn certificates(files: &Files, path: &Path, part: Part) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |what: String| TlsError::file(part, path, what);
    let bytes = files.bytes(path).map_err(bad)?;
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let list = list.map_err(|error| bad(format!("is not whole or not PEM: {error}")))?;
    if list.is_empty() {
        return Err(bad(no_certificate(bytes).to_owned()));
    }
    Ok(list)
}

fn no_certificate(bytes: &[u8]) -> &'static str {
    if bytes.first() == Some(&0x30) {
        "holds no certificate in PEM; it looks like DER: convert it with `openssl x509 -inform der`"
    } else if contains(bytes, b"PRIVATE KEY-----") {
        "holds a private key and no certificate; are two paths swapped?"
    } else {
        "holds no certificate; expected a PEM file with `-----BEGIN CERTIFICATE-----`"
    }
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

fn private_key(files: &Files, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bad = |what: String| TlsError::file(Part::Key, path, what);
    let bytes = files.bytes(path).map_err(bad)?;
    let encrypted = contains(bytes, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(bytes, b"Proc-Type: 4,ENCRYPTED");
    if encrypted {
        return Err(bad("the key is encrypted; store it unencrypted, readable by this process alone: \
            `openssl pkey -in KEY -out PLAIN`"
            .to_owned()));
    }
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| match error {
        rustls_pki_types::pem::Error::NoItemsFound if contains(bytes, b"BEGIN CERTIFICATE") => {
            bad("holds a certificate and no key; are two paths swapped?".to_owned())
        }
        rustls_pki_types::pem::Error::NoItemsFound => {
            bad("holds no private key; expected PEM, one of PKCS#8, PKCS#1 and SEC1".to_owned())
        }
        error => bad(format!("is not whole or not PEM: {error}")),
    })
}

/// The chain to send and its key, which was checked to belong to the first certificate.
pub(crate) fn certified_key(
    files: &Files,
    paths: &KeyPaths<'_>,
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, Vec<CertificateInfo>), TlsError> {
    let mut chain = certificates(files, paths.cert, Part::Certificate)?;
    let mut infos = infos(&chain, paths.cert, Part::Certificate)?;
    if let Some(path) = paths.intermediates {
        let more = certificates(files, path, Part::Intermediates)?;
        infos.extend(self::infos(&more, path, Part::Intermediates)?);
        chain.extend(more);
    }
    if chain.first().is_some_and(subject::is_v1) {
        return Err(TlsError::file(Part::Certificate, paths.cert, V1_ADVICE));
    }
    let key = private_key(files, paths.key)?;
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            let (cert, key) = (paths.cert.display(), paths.key.display());
            let text = format!("{key}: the key does not belong to the first certificate of {cert}");
            TlsError::new(Part::Key, text)
        }
        rustls::Error::InvalidCertificate(_) => TlsError::file(Part::Certificate, paths.cert, error),
        error => TlsError::file(Part::Key, paths.key, format!("the key cannot be used: {error}")),
    })?;
    Ok((certified, infos))
}

fn infos(list: &[CertificateDer<'_>], path: &Path, part: Part) -> Result<Vec<CertificateInfo>, TlsError> {
    let info = |(i, der): (usize, &CertificateDer<'_>)| {
        let bad = || TlsError::file(part, path, format!("certificate {} of the file is not X.509", i + 1));
        CertificateInfo::new(der, path).ok_or_else(bad)
    };
    list.iter().enumerate().map(info).collect()
}

/// The authorities that peers are checked against.
#[derive(Debug)]
pub(crate) struct Anchors {
    pub(crate) roots: RootCertStore,
    /// The certificates of the files themselves: a peer may show one of them, as Java allows.
    pub(crate) pinned: HashSet<Vec<u8>>,
    /// Where they are from, for messages.
    pub(crate) origin: String,
    pub(crate) infos: Vec<CertificateInfo>,
}

/// The authorities of these files.
pub(crate) fn anchors(files: &Files, paths: &[PathBuf]) -> Result<Anchors, TlsError> {
    let mut anchors =
        Anchors { roots: RootCertStore::empty(), pinned: HashSet::new(), origin: String::new(), infos: Vec::new() };
    for path in paths {
        for der in certificates(files, path, Part::Trust)? {
            anchors.infos.extend(infos(std::slice::from_ref(&der), path, Part::Trust)?);
            let bad = |error| TlsError::file(Part::Trust, path, format!("a certificate cannot be trusted: {error}"));
            anchors.roots.add(der.clone()).map_err(bad)?;
            anchors.pinned.insert(der.to_vec());
        }
    }
    let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    anchors.origin = shown.join(", ");
    if anchors.roots.is_empty() {
        return Err(TlsError::new(Part::Trust, "the list of trusted files is empty"));
    }
    Ok(anchors)
}

/// The authorities of the operating system. They are read once: at start, and when other files of the same
/// configuration change.
pub(crate) fn system_anchors() -> Result<Anchors, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        let text = format!(
            "the system has no trusted authorities ({}); install the package ca-certificates, or name a file",
            if errors.is_empty() { "no file found".to_owned() } else { errors.join("; ") }
        );
        return Err(TlsError::new(Part::Trust, text));
    }
    Ok(Anchors { roots, pinned: HashSet::new(), origin: "the system's list".to_owned(), infos: Vec::new() })
}
