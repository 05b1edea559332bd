//! [`HandshakeError`]: why there is no connection, as a label for metrics and a text for people.
//!
//! For: both sides. Also for what a server says after the handshake: with TLS 1.3 a client learns only then that its
//! certificate was refused. Not for: timeouts, which the caller has.

use crate::verify::describe;
use rustls::{AlertDescription, Error, InvalidMessage, PeerIncompatible};
use std::io;

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct HandshakeError {
    /// A label for metrics, from a short closed list.
    pub reason: &'static str,
    /// What happened and, where it is known, what to do. Printable ASCII apart from texts of the system.
    pub text: String,
}

impl HandshakeError {
    fn new(reason: &'static str, text: impl Into<String>) -> HandshakeError {
        HandshakeError { reason, text: text.into() }
    }

    pub(crate) fn of(error: &io::Error) -> HandshakeError {
        match tls_error(error) {
            Some(error) => HandshakeError::from_rustls(error),
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                HandshakeError::new("closed", "the peer closed the connection during the TLS handshake")
            }
            None => HandshakeError::new("io", format!("the connection failed during the TLS handshake: {error}")),
        }
    }

    /// True when the peer has refused our certificate, or wants one. It says so during the handshake, in the sense of the
    /// protocol, even when TLS 1.3 lets us learn it later: nothing that was sent on the connection was acted on.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self.reason,
            "alert-certificate-required" | "alert-unknown-ca" | "alert-certificate-expired" | "alert-certificate"
        )
    }

    /// True when it is the peer's certificate that is not accepted.
    pub fn is_about_certificate(&self) -> bool {
        matches!(
            self.reason,
            "name-mismatch"
                | "name-constraints"
                | "unknown-issuer"
                | "expired"
                | "not-yet-valid"
                | "wrong-usage"
                | "ca-as-leaf"
                | "bad-chain"
                | "bad-certificate"
                | "x509-v1"
                | "no-certificate"
        )
    }

    /// What the peer's TLS says in an error of reading or writing after the handshake; none when TLS is not the cause.
    pub fn of_established(error: &io::Error) -> Option<HandshakeError> {
        tls_error(error).map(HandshakeError::from_rustls)
    }

    pub(crate) fn from_rustls(error: &Error) -> HandshakeError {
        match error {
            Error::InvalidCertificate(why) => {
                let (reason, text) = describe(why);
                HandshakeError::new(reason, text)
            }
            Error::NoCertificatesPresented => {
                HandshakeError::new("no-certificate", "the client presented no certificate, and one is required")
            }
            Error::AlertReceived(alert) => alert_text(*alert),
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
                HandshakeError::new("not-tls", "the peer does not speak TLS: plain text on a TLS port?")
            }
            Error::PeerIncompatible(
                PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::SupportedVersionsExtensionRequired,
            ) => HandshakeError::new("protocol-version", "no TLS version in common; see `protocols`"),
            Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon) => {
                HandshakeError::new("cipher", "no cipher suite in common; see `ciphers`")
            }
            Error::PeerIncompatible(why) => {
                HandshakeError::new("incompatible", format!("the peer's TLS does not fit ours: {why:?}"))
            }
            Error::NoApplicationProtocol => {
                HandshakeError::new("alpn", "no application protocol in common (ALPN): HTTP/2 towards an HTTP/1 port?")
            }
            other => HandshakeError::new("protocol", format!("the TLS handshake failed: {other}")),
        }
    }
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

fn alert_text(alert: AlertDescription) -> HandshakeError {
    let (reason, what) = match alert {
        AlertDescription::CertificateRequired => {
            ("alert-certificate-required", "it requires a client certificate; see `clientAuth`")
        }
        AlertDescription::UnknownCA => ("alert-unknown-ca", "it does not know the issuer of our certificate"),
        AlertDescription::CertificateExpired => ("alert-certificate-expired", "it says that our certificate expired"),
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::AccessDenied => ("alert-certificate", "it does not accept our certificate"),
        AlertDescription::ProtocolVersion => ("alert-protocol-version", "no TLS version in common; see `protocols`"),
        AlertDescription::UnrecognisedName => {
            ("alert-unrecognised-name", "it has no certificate for the name we sent; see `commonName`")
        }
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
            ("alert-handshake-failure", "nothing in common: ciphers, or a client certificate is required")
        }
        AlertDescription::NoApplicationProtocol => ("alert-alpn", "no application protocol in common (ALPN)"),
        _ => ("alert-other", "see its log"),
    };
    HandshakeError::new(reason, format!("the peer refused TLS with the alert {alert:?}: {what}"))
}
