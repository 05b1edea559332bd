//! `service` of a router: parameters per logical name (config reference §4.3, §7).
//!
//! For: the reader of routers. Not for: choosing among sections (see `settings`).

use super::h2::Protocol;
use super::kinds::{CLASSIFIERS, Found};
use super::moved::Place;
use super::objects::{backoff, budget};
use super::reader::{Bad, Item, Reader};
use super::scalar::{count, millis_or_off, size};
use super::sections::sections;
use super::settings::{Classifier, Sections, ServiceSettings};

/// Most kilobytes of one request body that can be kept.
const MAX_REPLAY_KB: usize = 16 * 1024;

/// What h2 routers keep of a request body, as in Linkerd.
const H2_REPLAY: usize = 16_383;

/// The sections under the key `service` of a router with this protocol.
pub(super) fn service(router: &mut Reader<'_>, protocol: Protocol) -> Sections<ServiceSettings> {
    let mut sections = sections(router, "service", Place::Service, |reader, _| settings(reader));
    sections.base.replay_bytes = (protocol == Protocol::H2).then_some(H2_REPLAY);
    sections
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
        settings.max_attempts = retries.get("maxAttempts", count(0));
        settings.replay_bytes = retries.get("replayBufferKB", replay_buffer);
        retries.finish();
    }
    settings
}

/// Bounded: every request under way may hold so much.
fn replay_buffer(item: &Item<'_>) -> Result<usize, Bad> {
    match size(0)(item)? {
        kb if kb <= MAX_REPLAY_KB => Ok(kb * 1024),
        kb => Err(Bad::new(format!("{kb} is out of range")).expected(format!("from 0 to {MAX_REPLAY_KB}"))),
    }
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
