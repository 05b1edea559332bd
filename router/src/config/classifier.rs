//! `responseClassifier` of a section of `service` (config reference §7.1, §7.2).
//!
//! For: the reader of services. Not for: classifying anything (crate module `classify`).

use super::h2::Protocol;
use super::kinds::{CLASSIFIERS, Found, H2_CLASSIFIERS};
use super::moved::Place;
use super::reader::Reader;
use super::scalar::int;
use super::settings::{Classifier, GrpcClassifier, GrpcRetry};

/// Statuses of gRPC that have a bit; it knows 0 to 16.
const MAX_STATUS: i64 = 31;
/// The status OK as a bit.
const OK: u32 = 1;
/// The status UNAVAILABLE as a bit.
const UNAVAILABLE: u32 = 1 << 14;

/// The classifier; its family is that of the router's protocol.
pub(super) fn classifier(parent: &mut Reader<'_>, protocol: Protocol) -> Option<Classifier> {
    let mut reader = parent.sub("responseClassifier", Place::Other)?;
    let kinds = match protocol {
        Protocol::Http => CLASSIFIERS,
        Protocol::H2 => H2_CLASSIFIERS,
    };
    let Found::Built(kind) = kinds.of(&mut reader) else { return None };
    let classifier = match kind.strip_prefix("io.l5d.h2.grpc.") {
        Some(kind) => grpc(&mut reader, kind).map(Classifier::Grpc),
        None => Some(by_status(kind)),
    };
    reader.finish();
    classifier
}

fn by_status(kind: &str) -> Classifier {
    match kind.rsplit('.').next() {
        Some("retryableRead5XX") => Classifier::RetryableRead5xx,
        Some("retryableIdempotent5XX") => Classifier::RetryableIdempotent5xx,
        Some("retryableAll5XX") => Classifier::RetryableAll5xx,
        Some("allSuccessful") => Classifier::AllSuccessful,
        _ => Classifier::NonRetryable5xx,
    }
}

fn grpc(reader: &mut Reader<'_>, kind: &str) -> Option<GrpcClassifier> {
    let success = statuses(reader, "successStatusCodes");
    if success.is_some_and(|codes| codes & OK == 0) {
        let text = "0 is not among the `successStatusCodes`, so every call that went well is a failure";
        reader.context.warn(&reader.item, text);
    }
    let retry = match kind {
        "compliant" => GrpcRetry::Compliant,
        "alwaysRetryable" => GrpcRetry::All,
        "neverRetryable" => GrpcRetry::None,
        "retryableStatusCodes" => {
            let codes = statuses(reader, "retryableStatusCodes");
            reader.context.probe.inspect(|probe| probe.required(&format!("{}.retryableStatusCodes", reader.item.path)));
            if codes.is_none() {
                reader.missing("retryableStatusCodes");
            }
            GrpcRetry::Codes(codes?)
        }
        _ => GrpcRetry::Codes(UNAVAILABLE),
    };
    Some(GrpcClassifier { success: success.unwrap_or(OK), retry })
}

/// A list of statuses as bits.
fn statuses(reader: &mut Reader<'_>, key: &'static str) -> Option<u32> {
    let list = reader.take(key)?;
    let mut bits = 0;
    for item in list.elements(reader.context) {
        match int(0, MAX_STATUS)(&item) {
            Ok(code) => bits |= 1 << code,
            Err(bad) => reader.context.bad(item.pos, &item.path, bad),
        }
    }
    Some(bits)
}
