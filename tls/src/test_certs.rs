//! Certificates for the tests of this crate.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, NameConstraints, SanType,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What a certificate is issued for.
#[derive(Clone)]
pub(crate) struct Leaf {
    cn: Vec<String>,
    sans: Vec<SanType>,
    /// Days from now: first and last.
    days: (i64, i64),
}

impl Leaf {
    pub(crate) fn cn(cn: &str) -> Leaf {
        Leaf { cn: vec![cn.to_owned()], sans: Vec::new(), days: (-1, 365) }
    }

    pub(crate) fn dns(mut self, name: &str) -> Leaf {
        self.sans.push(SanType::DnsName(name.try_into().unwrap()));
        self
    }

    pub(crate) fn uri(mut self, uri: &str) -> Leaf {
        self.sans.push(SanType::URI(uri.try_into().unwrap()));
        self
    }

    pub(crate) fn ip(mut self, ip: &str) -> Leaf {
        self.sans.push(SanType::IpAddress(ip.parse().unwrap()));
        self
    }

    pub(crate) fn days(mut self, first: i64, last: i64) -> Leaf {
        self.days = (first, last);
        self
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for cn in &self.cn {
            params.distinguished_name.push(DnType::OrganizationName, "Example, Inc");
            params.distinguished_name.push(DnType::CommonName, cn.as_str());
        }
        params.subject_alt_names.clone_from(&self.sans);
        params.not_before = days(self.days.0);
        params.not_after = days(self.days.1);
        params.use_authority_key_identifier_extension = true;
        params
    }
}

fn days(from_now: i64) -> time::OffsetDateTime {
    let span = Duration::from_secs(from_now.unsigned_abs() * 86_400);
    let at = if from_now < 0 { SystemTime::now() - span } else { SystemTime::now() + span };
    at.into()
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Issued {
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()
    }

    /// Writes `<name>.pem` and `<name>.key`.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (cert, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        std::fs::write(&cert, &self.cert).unwrap();
        std::fs::write(&key, &self.key).unwrap();
        (cert, key)
    }
}

/// Issues certificates.
pub(crate) struct Authority {
    pub(crate) cert: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(cn: &str) -> Authority {
        Authority::make(cn, None, &[])
    }

    /// One that may issue only these DNS names.
    pub(crate) fn limited(cn: &str, permitted: &[&str]) -> Authority {
        Authority::make(cn, None, permitted)
    }

    pub(crate) fn below(&self, cn: &str, permitted: &[&str]) -> Authority {
        Authority::make(cn, Some(self), permitted)
    }

    fn make(cn: &str, above: Option<&Authority>, permitted: &[&str]) -> Authority {
        let mut params = Leaf::cn(cn).params();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        if !permitted.is_empty() {
            let permitted_subtrees = permitted.iter().map(|name| GeneralSubtree::DnsName((*name).to_owned())).collect();
            params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
        }
        let key = KeyPair::generate().unwrap();
        let cert = match above {
            None => params.self_signed(&key).unwrap(),
            Some(above) => params.signed_by(&key, &above.issuer).unwrap(),
        };
        Authority { cert: cert.pem(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn issue(&self, leaf: &Leaf) -> Issued {
        self.issue_for(leaf, &[])
    }

    pub(crate) fn issue_for(&self, leaf: &Leaf, usages: &[ExtendedKeyUsagePurpose]) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = leaf.params();
        params.extended_key_usages = usages.to_vec();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Issued { cert: cert.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn write(&self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(format!("{name}.pem"));
        std::fs::write(&path, &self.cert).unwrap();
        path
    }
}

/// A certificate that nobody else signed.
pub(crate) fn self_signed(leaf: &Leaf, ca: bool) -> Issued {
    let key = KeyPair::generate().unwrap();
    let mut params = leaf.params();
    if ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let cert = params.self_signed(&key).unwrap();
    Issued { cert: cert.pem(), key: key.serialize_pem() }
}
