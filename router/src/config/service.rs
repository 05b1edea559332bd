//! `service` of a router: parameters per logical name (config reference §4.3, §7).
//!
//! For: the reader of routers. Not for: choosing among sections (see `settings`).

use super::kinds::{CLASSIFIERS, Found};
use super::moved::Place;
use super::objects::{backoff, budget};
use super::reader::Reader;
use super::scalar::millis_or_off;
use super::sections::sections;
use super::settings::{Classifier, Sections, ServiceSettings};

/// The sections under the key `service`.
pub(super) fn service(router: &mut Reader<'_>) -> Sections<ServiceSettings> {
    sections(router, "service", Place::Service, |reader, _| settings(reader))
}

fn settings(reader: &mut Reader<'_>) -> ServiceSettings {
    let mut settings = ServiceSettings {
        total_timeout: reader.get("totalTimeoutMs", millis_or_off),
        classifier: classifier(reader),
        ..ServiceSettings::default()
    };
    if let Some(mut retries) = reader.sub("retries", Place::Other) {
        settings.retry_budget = budget(&mut retries, "budget");
        settings.backoff = backoff(&mut retries);
        retries.finish();
    }
    settings
}

fn classifier(parent: &mut Reader<'_>) -> Option<Classifier> {
    let mut reader = parent.sub("responseClassifier", Place::Other)?;
    let Found::Built(kind) = CLASSIFIERS.of(&mut reader) else { return None };
    reader.finish();
    Some(match kind {
        "io.l5d.http.retryableRead5XX" => Classifier::RetryableRead5xx,
        "io.l5d.http.retryableIdempotent5XX" => Classifier::RetryableIdempotent5xx,
        "io.l5d.http.retryableAll5XX" => Classifier::RetryableAll5xx,
        "io.l5d.http.allSuccessful" => Classifier::AllSuccessful,
        _ => Classifier::NonRetryable5xx,
    })
}
