//! `service` of a router: parameters per logical name (config reference §4.3, §7).
//!
//! For: the reader of routers. Not for: choosing among sections (see `settings`).

use super::classifier::classifier;
use super::h2::Protocol;
use super::moved::Place;
use super::objects::{backoff, budget};
use super::reader::{Bad, Item, Reader};
use super::scalar::{count, loose_int, loose_millis, millis_or_off, size};
use super::sections::sections;
use super::settings::{Sections, ServiceSettings};

/// Most kilobytes of one request body that can be kept.
const MAX_REPLAY_KB: usize = 16 * 1024;

/// What h2 routers keep of a request body, as in Linkerd.
const H2_REPLAY: usize = 16_383;

/// The sections under the key `service` of a router with this protocol.
pub(super) fn service(router: &mut Reader<'_>, protocol: Protocol) -> Sections<ServiceSettings> {
    let mut sections = sections(router, "service", Place::Service, |reader, _| settings(reader, protocol));
    sections.base.replay_bytes = (protocol == Protocol::H2).then_some(H2_REPLAY);
    sections
}

fn settings(reader: &mut Reader<'_>, protocol: Protocol) -> ServiceSettings {
    let mut settings = ServiceSettings {
        total_timeout: reader.get("totalTimeoutMs", millis_or_off),
        classifier: classifier(reader, protocol),
        ..ServiceSettings::default()
    };
    if protocol == Protocol::H2 {
        settings.classification_timeout = reader.get("classificationTimeoutMs", loose_millis(0));
        settings.replay_bytes = retry_buffer(reader);
    }
    if let Some(mut retries) = reader.sub("retries", Place::Other) {
        settings.retry_budget = budget(&mut retries, "budget");
        settings.backoff = backoff(&mut retries);
        settings.max_attempts = retries.get("maxAttempts", count(0));
        let replay = retries.get("replayBufferKB", replay_buffer);
        if replay.is_some() && settings.replay_bytes.is_some() {
            reader.context.warn(&retries.item, "`replayBufferKB` has its way over `retryBufferSize.requestBytes`");
        }
        settings.replay_bytes = replay.or(settings.replay_bytes);
        retries.finish();
    }
    settings
}

/// `retryBufferSize`, as a whole. What is kept of responses is nothing: none is held back to be judged.
fn retry_buffer(parent: &mut Reader<'_>) -> Option<usize> {
    let mut reader = parent.sub("retryBufferSize", Place::Other)?;
    let most = loose_int(0, MAX_REPLAY_KB as i64 * 1024);
    let request = reader.get("requestBytes", most).map_or(H2_REPLAY, |bytes| usize::try_from(bytes).unwrap_or(0));
    reader.get("responseBytes", loose_int(0, i64::from(i32::MAX)));
    reader.finish();
    Some(request)
}

/// Bounded: every request under way may hold so much.
fn replay_buffer(item: &Item<'_>) -> Result<usize, Bad> {
    match size(0)(item)? {
        kb if kb <= MAX_REPLAY_KB => Ok(kb * 1024),
        kb => Err(Bad::new(format!("{kb} is out of range")).expected(format!("from 0 to {MAX_REPLAY_KB}"))),
    }
}
