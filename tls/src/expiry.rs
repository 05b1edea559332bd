//! When certificates end: for warnings at load and for the gauge `tls_certificate_expiry_seconds{file}`.
//!
//! For: everything that loads certificates. Not for: refusing peers (rustls does).

use crate::subject;
use rustls_pki_types::CertificateDer;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::time::ASN1Time;

/// A certificate that ends within this time is warned about.
pub const SOON: Duration = Duration::from_secs(30 * 86_400);

/// A certificate in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Its file.
    pub file: PathBuf,
    /// Its subject as RFC 2253 writes it, cut to a readable length.
    pub subject: String,
    /// Seconds since the epoch until which it is valid.
    pub not_after: i64,
}

impl CertificateInfo {
    /// None when it is not X.509.
    pub(crate) fn new(der: &CertificateDer<'_>, file: &Path) -> Option<CertificateInfo> {
        let certificate = subject::parse(der)?;
        let not_after = certificate.validity().not_after.timestamp();
        let subject = subject::short(certificate.subject());
        Some(CertificateInfo { file: file.to_owned(), subject, not_after })
    }

    /// What to say about its end at the time `now`: nothing when it is further away than [`SOON`].
    pub fn warning(&self, now: SystemTime) -> Option<String> {
        let seconds = unix(now);
        let (file, subject, date) = (self.file.display(), &self.subject, show_time(self.not_after));
        if self.not_after < seconds {
            Some(format!("{file}: the certificate of {subject} expired on {date}"))
        } else if self.not_after < seconds.saturating_add_unsigned(SOON.as_secs()) {
            Some(format!("{file}: the certificate of {subject} expires soon, on {date}"))
        } else {
            None
        }
    }
}

/// Seconds since the epoch.
pub(crate) fn unix(time: SystemTime) -> i64 {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// Seconds since the epoch as `2026-01-31 12:00:00 UTC`.
pub fn show_time(seconds: i64) -> String {
    let Ok(time) = ASN1Time::from_timestamp(seconds) else { return format!("second {seconds} of the epoch") };
    let at = time.to_datetime();
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", at.hour(), at.minute(), at.second())
}

/// Keeps the gauge of every file: the end of the first of its certificates to end.
pub(crate) fn export(infos: &[CertificateInfo]) {
    let mut first: BTreeMap<&Path, i64> = BTreeMap::new();
    for info in infos {
        let end = first.entry(&info.file).or_insert(info.not_after);
        *end = (*end).min(info.not_after);
    }
    for (file, end) in first {
        let file = file.display().to_string();
        metrics::gauge!("tls_certificate_expiry_seconds", "file" => file).set(end as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expired_and_soon_are_warned_about_with_the_date() {
        let end = 1_800_000_000;
        let info = CertificateInfo { file: "/c.pem".into(), subject: "CN=web".into(), not_after: end };
        let at = |seconds: i64| info.warning(UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs()));
        assert_eq!(at(end + 1).unwrap(), "/c.pem: the certificate of CN=web expired on 2027-01-15 08:00:00 UTC");
        assert!(at(end - 29 * 86_400).unwrap().contains("expires soon, on 2027-01-15"));
        assert_eq!(at(end - 31 * 86_400), None);
    }
}
