//! Checking the certificates of peers: the chain by webpki, names by our own rule, and messages that say what is wrong.
//!
//! For: the configurations that `server` and `client` build. Not for: revocation.
//!
//! A peer may also show exactly a certificate that is in the trusted files, as Java and Linkerd 1 accept it: then only
//! its time counts. webpki alone refuses those that are authorities themselves, which `openssl req -x509` makes.

use crate::error::V1_ADVICE;
use crate::expiry::show_time;
use crate::name::{NameError, PeerName};
use crate::pem::Anchors;
use crate::subject;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;

/// What is wrong with the certificate of a peer, where rustls has no word for it or too few.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Untrusted {
    /// A label for metrics.
    pub(crate) reason: &'static str,
    pub(crate) text: String,
}

fn untrusted(reason: &'static str, text: String) -> Error {
    let why = Arc::new(Untrusted { reason, text });
    Error::InvalidCertificate(CertificateError::Other(OtherError(why)))
}

/// Checks servers.
#[derive(Debug)]
pub(crate) struct ServerCheck {
    /// None: any certificate will do.
    pub(crate) anchors: Option<Arc<Anchors>>,
    /// None: the name that rustls was told, when certificates are checked at all.
    pub(crate) name: Option<PeerName>,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCheck {
    fn chain(
        &self,
        anchors: &Anchors,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if is_pinned(anchors, leaf, now)? {
            return Ok(());
        }
        let verify = || {
            let parsed = ParsedCertificate::try_from(leaf)?;
            verify_server_cert_signed_by_trust_anchor(&parsed, &anchors.roots, chain, now, self.algorithms.all)
        };
        verify().map_err(|error| explain(error, leaf, chain, anchors))
    }
}

impl ServerCertVerifier for ServerCheck {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(anchors) = &self.anchors {
            self.chain(anchors, end_entity, intermediates, now)?;
        }
        let from_rustls = || PeerName::new(&server_name.to_str());
        let name = match (&self.name, &self.anchors) {
            (Some(name), _) => name.clone(),
            (None, Some(_)) => from_rustls(),
            (None, None) => return Ok(ServerCertVerified::assertion()),
        };
        let certificate = subject::parse(end_entity).ok_or(CertificateError::BadEncoding)?;
        let constrained =
            self.anchors.as_ref().is_some_and(|anchors| is_constrained(anchors, end_entity, intermediates));
        match name.check(&certificate, constrained) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(NameError::Mismatch(presented)) => {
                let text = format!("expected a certificate for the name {name}; the server presented {presented}");
                Err(untrusted("name-mismatch", text))
            }
            Err(NameError::Constrained) => {
                let text = format!(
                    "the certificate has the name {name} only as its common name, and an authority of its chain is \
                     limited to some names; issue it with a subjectAltName"
                );
                Err(untrusted("name-constraints", text))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.anchors {
            Some(_) => verify_tls12_signature(message, cert, dss, &self.algorithms),
            // Without validation a signature by an unknown key proves nothing.
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.anchors {
            Some(_) => verify_tls13_signature(message, cert, dss, &self.algorithms),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Checks clients: a chain and nothing else. Who they are is for the caller.
#[derive(Debug)]
pub(crate) struct ClientCheck {
    pub(crate) inner: Arc<dyn ClientCertVerifier>,
    pub(crate) anchors: Arc<Anchors>,
}

impl ClientCertVerifier for ClientCheck {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if is_pinned(&self.anchors, end_entity, now)? {
            return Ok(ClientCertVerified::assertion());
        }
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now);
        verified.map_err(|error| explain(error, end_entity, intermediates, &self.anchors))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// True when the certificate itself is trusted; an error when it is and its time is over or has not come.
fn is_pinned(anchors: &Anchors, leaf: &CertificateDer<'_>, now: UnixTime) -> Result<bool, Error> {
    if !anchors.pinned.contains(leaf.as_ref()) {
        return Ok(false);
    }
    check_time(leaf, now)?;
    // One of version 1 cannot be used for the signatures of a handshake.
    if subject::is_v1(leaf) {
        return Err(untrusted("x509-v1", V1_ADVICE.to_owned()));
    }
    Ok(true)
}

/// Whether `now` lies within the validity of a certificate.
pub(crate) fn check_time(leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let certificate = subject::parse(leaf).ok_or(CertificateError::BadEncoding)?;
    let (validity, time) = (certificate.validity(), now);
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let unix = |at: i64| UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(at).unwrap_or(0)));
    let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    if seconds > until {
        return Err(CertificateError::ExpiredContext { time, not_after: unix(until) }.into());
    }
    if seconds < from {
        return Err(CertificateError::NotValidYetContext { time, not_before: unix(from) }.into());
    }
    Ok(())
}

/// Whether an authority that may be in the chain is limited to some names. All that were presented count, and all
/// trusted ones that a presented certificate names as its issuer.
fn is_constrained(anchors: &Anchors, leaf: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> bool {
    let parsed: Vec<_> = std::iter::once(leaf).chain(chain).filter_map(subject::parse).collect();
    let limited = |certificate: &x509_parser::certificate::X509Certificate<'_>| {
        !matches!(certificate.name_constraints(), Ok(None))
    };
    if parsed.iter().skip(1).any(limited) || parsed.len() != chain.len() + 1 {
        return true;
    }
    // An anchor keeps its subject without the outer tag and length, which end what x509-parser gives.
    anchors
        .roots
        .roots
        .iter()
        .filter(|anchor| anchor.name_constraints.is_some())
        .any(|anchor| parsed.iter().any(|certificate| certificate.issuer().as_raw().ends_with(anchor.subject.as_ref())))
}

/// A message that names the certificates, where that helps. The alert that the peer gets stays that of rustls where the
/// words of rustls suffice.
fn explain(error: Error, leaf: &CertificateDer<'_>, chain: &[CertificateDer<'_>], anchors: &Anchors) -> Error {
    if subject::is_v1(leaf) {
        return untrusted("x509-v1", V1_ADVICE.to_owned());
    }
    let Error::InvalidCertificate(why) = &error else { return error };
    let Some(certificate) = subject::parse(leaf) else { return error };
    let (name, issuer) = (subject::short(certificate.subject()), subject::short(certificate.issuer()));
    let origin = &anchors.origin;
    // webpki calls a self-signed authority by the second word before it looks for an issuer.
    let unknown = match why {
        CertificateError::UnknownIssuer => true,
        CertificateError::Other(OtherError(inner)) => inner.to_string() == "CaUsedAsEndEntity",
        _ => false,
    };
    match why {
        _ if unknown && certificate.subject() == certificate.issuer() => {
            let text = format!("the certificate of {name} is self-signed and not among the trusted ones ({origin})");
            untrusted("unknown-issuer", text)
        }
        CertificateError::UnknownIssuer => {
            let above = chain.last().and_then(subject::parse).map(|top| subject::short(top.issuer()));
            let last = above.map_or_else(String::new, |top| format!("; its chain ends at {top}"));
            let text = format!(
                "unknown issuer: the certificate of {name} is from {issuer}{last}; trusted are those of {origin}"
            );
            untrusted("unknown-issuer", text)
        }
        CertificateError::Other(OtherError(inner)) if inner.downcast_ref::<Untrusted>().is_none() => {
            let (reason, what) = webpki(&inner.to_string());
            untrusted(reason, format!("the certificate of {name} from {issuer} is not accepted: {what}"))
        }
        _ => error,
    }
}

/// Words for what webpki calls by the name of its variant only.
fn webpki(variant: &str) -> (&'static str, String) {
    let said = match variant {
        "NameConstraintViolation" => {
            ("name-constraints", "one of its names is outside of what an authority of its chain may issue")
        }
        "CaUsedAsEndEntity" => {
            ("ca-as-leaf", "it is an authority's certificate; issue one with basicConstraints CA:FALSE")
        }
        "EndEntityUsedAsCa" => ("bad-chain", "its issuer is not an authority (basicConstraints CA:TRUE is missing)"),
        "PathLenConstraintViolated" => ("bad-chain", "its chain is longer than an authority of it allows"),
        _ => return ("bad-certificate", variant.chars().filter(char::is_ascii_graphic).take(120).collect()),
    };
    (said.0, said.1.to_owned())
}

/// A label for metrics and a text for people for what rustls says of a certificate.
pub(crate) fn describe(error: &CertificateError) -> (&'static str, String) {
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            ("expired", format!("the certificate expired on {}", show_time(seconds(*not_after))))
        }
        CertificateError::Expired => ("expired", "the certificate expired".to_owned()),
        CertificateError::NotValidYetContext { not_before, .. } => {
            ("not-yet-valid", format!("the certificate is valid only from {}", show_time(seconds(*not_before))))
        }
        CertificateError::NotValidYet => ("not-yet-valid", "the certificate is not valid yet".to_owned()),
        CertificateError::UnknownIssuer => ("unknown-issuer", "unknown issuer".to_owned()),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            ("wrong-usage", "the extendedKeyUsage of the certificate does not allow this use".to_owned())
        }
        CertificateError::Other(OtherError(inner)) => match inner.downcast_ref::<Untrusted>() {
            Some(untrusted) => (untrusted.reason, untrusted.text.clone()),
            None => ("bad-certificate", format!("the certificate is not accepted: {inner}")),
        },
        other => ("bad-certificate", format!("the certificate is not accepted: {other:?}")),
    }
}

fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}
