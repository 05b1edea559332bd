//! The keys of a router about bodies: streaming and compression (config reference §5.1).
//!
//! For: the reader of routers. Not for: what is done to bodies (`request::relay`, `request::compress`).

use super::params::Compression;
use super::reader::{Bad, Item, Reader};
use super::scalar::{boolean, int, size};

/// `streamAfterContentLengthKB` unless it is set.
const DEFAULT_BUFFERED_KB: usize = 5;
/// What of a body is kept for a retry, at most.
const REPLAY_KB: usize = 64;

/// Bytes up to which a request body of known length may be tried again by a classifier. Bodies themselves always stream.
pub(super) fn buffered(router: &mut Reader<'_>) -> u64 {
    let at = router.take("streamAfterContentLengthKB");
    let kilobytes = router.get("streamAfterContentLengthKB", size(0));
    if let Some(at) = at
        && kilobytes.is_some_and(|kilobytes| kilobytes > REPLAY_KB)
    {
        let text = format!("request bodies above {REPLAY_KB} KiB are never sent again; all bodies stream");
        router.context.warn(&at, text);
    }
    let streams = |item: &Item<'_>| match boolean(item)? {
        true => Ok(()),
        false => Err(Bad::new(
            "Switchyard does not collect whole bodies: that takes memory without bound and delays every answer; bodies \
             stream, with back-pressure",
        )
        .expected("true, or nothing")),
    };
    router.get("streamingEnabled", streams);
    kilobytes.unwrap_or(DEFAULT_BUFFERED_KB) as u64 * 1024
}

/// What is compressed: nothing unless the key says so (Linkerd: textual types).
pub(super) fn compression(router: &mut Reader<'_>) -> Option<Compression> {
    match router.get("compressionLevel", int(-1, 9))? {
        -1 => Some(Compression::Textual),
        level => u32::try_from(level).ok().filter(|level| *level > 0).map(Compression::All),
    }
}
