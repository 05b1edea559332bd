//! Certificates for stories: authorities and what they issue, as PEM files.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType, string::Ia5String,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Issues certificates.
pub struct Authority {
    cert: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// The key, PKCS#8.
    pub key: String,
}

/// The files of a [`Pair`].
#[derive(Debug, Clone)]
pub struct PairFiles {
    /// Of the certificate.
    pub cert: PathBuf,
    /// Of the key.
    pub key: PathBuf,
}

fn params(cn: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, cn);
    params.not_before = (SystemTime::now() - Duration::from_secs(20 * 86_400)).into();
    params.not_after = (SystemTime::now() + Duration::from_secs(90 * 86_400)).into();
    params
}

fn text(name: &str) -> Ia5String {
    name.try_into().unwrap_or_else(|error| panic!("{name}: {error}"))
}

impl Authority {
    /// One of this name that nobody knows yet.
    pub fn new(cn: &str) -> Authority {
        Authority::signed(cn, None)
    }

    /// One of this name between this one and what it issues.
    pub fn intermediate(&self, cn: &str) -> Authority {
        Authority::signed(cn, Some(&self.issuer))
    }

    fn signed(cn: &str, by: Option<&Issuer<'_, KeyPair>>) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = params(cn);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert = match by {
            None => params.self_signed(&key),
            Some(issuer) => params.signed_by(&key, issuer),
        };
        Authority { cert: cert.expect("a certificate").pem(), issuer: Issuer::new(params, key) }
    }

    /// A certificate for these names: DNS names, addresses, URIs; the first one is the common name too.
    pub fn issue(&self, names: &[&str]) -> Pair {
        self.issue_until(names, None)
    }

    /// As [`Authority::issue`], one that is over since this time.
    pub fn issue_expired(&self, names: &[&str], since: Duration) -> Pair {
        self.issue_until(names, Some(SystemTime::now() - since))
    }

    fn issue_until(&self, names: &[&str], end: Option<SystemTime>) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let mut params = params(names.first().copied().unwrap_or("nobody"));
        let san = |name: &&str| match name.parse() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) if name.contains("://") => SanType::URI(text(name)),
            Err(_) => SanType::DnsName(text(name)),
        };
        params.subject_alt_names = names.iter().map(san).collect();
        if let Some(end) = end {
            params.not_after = end.into();
        }
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }

    /// Puts its certificate at `<folder>/<name>.pem` in one step.
    pub fn write(&self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(format!("{name}.pem"));
        put(&path, &self.cert);
        path
    }
}

impl Pair {
    /// Puts it at `<folder>/<name>.pem` and `<name>.key`, each in one step.
    pub fn write(&self, folder: &Path, name: &str) -> PairFiles {
        let files = PairFiles { cert: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) };
        put(&files.cert, &self.cert);
        put(&files.key, &self.key);
        files
    }
}

/// The files of an authority, and of what it has issued to one name; gone with this.
pub struct Issued {
    /// The certificate of the authority.
    pub ca: PathBuf,
    /// What it has issued.
    pub files: PairFiles,
    _folder: tempfile::TempDir,
}

impl Issued {
    /// By a new authority.
    pub fn to(name: &str) -> Issued {
        let (authority, folder) = (Authority::new("ca"), tempfile::tempdir().expect("a folder"));
        let ca = authority.write(folder.path(), "ca");
        let files = authority.issue(&[name]).write(folder.path(), "web");
        Issued { ca, files, _folder: folder }
    }
}

fn put(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).expect("a file can be written");
    std::fs::rename(&beside, path).expect("and moved");
}
