//! The limits of [`FrameWatch`], at the limit and beyond (attacks H2-2 to H2-5 and H2-7), and that cutting bytes
//! differently changes nothing.

use super::*;
use proptest::prelude::*;
use std::hint::black_box;
use std::time::Instant;

const SECOND: u64 = 1_000_000_000;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const SETTINGS: u8 = 4;
const PRIORITY: u8 = 2;
const PING: u8 = 6;

/// A frame of stream 1 with a payload of zeros.
fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
    let size = u32::try_from(length).expect("a length").to_be_bytes();
    let mut bytes = vec![size[1], size[2], size[3], kind, flags, 0, 0, 0, 1];
    bytes.resize(9 + length, 0);
    bytes
}

/// RST_STREAM for so many streams, the first of which is `first`.
fn resets(first: u32, streams: u32) -> Vec<u8> {
    let one = |n: u32| {
        let mut bytes = frame(RST_STREAM, 0, 4);
        bytes[5..9].copy_from_slice(&(first + 2 * n).to_be_bytes());
        bytes
    };
    (0..streams).flat_map(one).collect()
}

fn watch(limits: WatchLimits) -> FrameWatch {
    let mut watch = FrameWatch::new(Side::Server, limits);
    watch.received(PREFACE, 0);
    watch
}

/// So many repetitions of `bytes`, received at `now`.
fn repeat(watch: &mut FrameWatch, bytes: &[u8], times: usize, now: u64) {
    for _ in 0..times {
        watch.received(bytes, now);
    }
}

fn what(watch: &FrameWatch) -> Option<&'static str> {
    watch.verdict().map(|flood| flood.what)
}

/// Every rate: a second's worth at once is fine, one more is a flood; at the rate it goes on for ever.
#[test]
fn rates_hold_at_the_limit_and_not_beyond() {
    let limits = WatchLimits::downstream();
    for (bytes, limit, label) in [
        (frame(PING, 0, 8), limits.control_frames_per_sec, "h2-control-flood"),
        (frame(PING, 1, 8), limits.control_frames_per_sec, "h2-control-flood"),
        (frame(SETTINGS, 0, 0), limits.control_frames_per_sec, "h2-control-flood"),
        (frame(SETTINGS, 1, 0), limits.control_frames_per_sec, "h2-control-flood"),
        (frame(PRIORITY, 0, 5), limits.control_frames_per_sec, "h2-control-flood"),
        (frame(0xbe, 0, 100), limits.control_frames_per_sec, "h2-control-flood"),
        (frame(DATA, 0, 0), limits.empty_frames_per_sec, "h2-empty-frames"),
        (frame(HEADERS, END_HEADERS, 0), limits.empty_frames_per_sec, "h2-empty-frames"),
        (frame(DATA, 0, 1), limits.small_frames_per_sec, "h2-small-frames"),
        (frame(DATA, 0, 15), limits.small_frames_per_sec, "h2-small-frames"),
        (frame(WINDOW_UPDATE, 0, 4), limits.window_updates_per_sec, "h2-window-updates"),
    ] {
        let limit = usize::try_from(limit).expect("small");
        let mut steady = watch(limits);
        for tenth in 0..50 {
            repeat(&mut steady, &bytes, limit / 10, tenth * SECOND / 10);
        }
        assert_eq!(steady.verdict(), None, "{label}");
        let mut burst = watch(limits);
        repeat(&mut burst, &bytes, limit, 7);
        assert_eq!(burst.verdict(), None, "{label}");
        repeat(&mut burst, &bytes, 1, 7);
        assert_eq!(what(&burst), Some(label));
        let text = &burst.verdict().expect("a flood").text;
        assert!(text.starts_with(&format!("more than {limit} ")), "{text}");
        // It is final, and nothing counts any more.
        let totals = burst.received;
        repeat(&mut burst, &bytes, 10, 100 * SECOND);
        assert_eq!((what(&burst), burst.received), (Some(label), totals));
    }
}

#[test]
fn resets_hold_at_the_limit_and_not_beyond() {
    let mut steady = watch(WatchLimits::downstream());
    for tenth in 0..50 {
        steady.received(&resets(1 + 800 * tenth, 400), u64::from(tenth) * SECOND / 10);
    }
    assert_eq!(steady.verdict(), None);
    let mut burst = watch(WatchLimits::downstream());
    burst.received(&resets(1, 4000), 0);
    assert_eq!(burst.verdict(), None);
    burst.received(&resets(8001, 1), 0);
    let wanted = "more than 4000 streams reset per second, after 4001 frames from the peer".to_owned();
    assert_eq!(burst.verdict(), Some(&Flood { what: "h2-rapid-reset", text: wanted }));
}

/// H2-2: of 100,000 requests that are reset at once, the codec sees no more than the limit.
#[test]
fn a_rapid_reset_ends_within_the_limit() {
    let mut watch = watch(WatchLimits::downstream());
    // A second and a half of it, at 66,667 pairs per second.
    for n in 0..100_000 {
        let pair = [frame(HEADERS, END_HEADERS | END_STREAM, 20), resets(2 * n + 1, 1)].concat();
        watch.received(&pair, u64::from(n) * 15_000);
    }
    assert_eq!(what(&watch), Some("h2-rapid-reset"));
    assert!(watch.received.resets < 4300, "{:?}", watch.received);
}

/// A codec that forgets streams it has reset answers every late frame of ours by another reset, as the client of tonic
/// does: these cost nothing, as long as we sent such frames.
#[test]
fn repeated_resets_are_not_cancelled_calls() {
    let mut honest = watch(WatchLimits::downstream());
    for n in 0..20_000 {
        for _ in 0..16 {
            honest.sent(&frame(DATA, 0, 1000), u64::from(n) * 500_000);
        }
        honest.received(&resets(2 * n + 1, 1).repeat(17), u64::from(n) * 500_000);
    }
    assert_eq!(honest.verdict(), None);
    let mut flood = watch(WatchLimits::downstream());
    repeat(&mut flood, &resets(1, 1), 501, 0);
    assert_eq!(flood.verdict(), None);
    repeat(&mut flood, &resets(1, 1), 1, 0);
    assert_eq!(what(&flood), Some("h2-control-flood"));
}

/// H2-3: what the peer makes us reset counts like what it resets.
#[test]
fn made_resets_count_like_sent_ones() {
    let reset = frame(RST_STREAM, 0, 4);
    let mut watch = watch(WatchLimits::downstream());
    for _ in 0..4000 {
        watch.sent(&reset, 0);
    }
    assert_eq!(watch.verdict(), None);
    watch.sent(&reset, 0);
    assert_eq!(what(&watch), Some("h2-local-resets"));
    assert_eq!(watch.sent_totals().resets, 4001);
    // A service is not to blame for what clients cancel.
    let mut behind = FrameWatch::new(Side::Client, WatchLimits::upstream());
    behind.sent(PREFACE, 0);
    for _ in 0..100_000 {
        behind.sent(&reset, 0);
    }
    assert_eq!((what(&behind), behind.sent_totals().resets), (None, 100_000));
}

/// H2-4: a busy client of gRPC cancels 2,000 calls per second, also when it does so ten times a second and all at once;
/// and one that resets each of 20,000 streams per second that we have answered.
#[test]
fn a_busy_client_that_cancels_passes() {
    let call = [frame(HEADERS, END_HEADERS, 60), frame(DATA, END_STREAM, 12)].concat();
    for per_tenth in [200, 1000] {
        let (mut watch, mut stream) = (watch(WatchLimits::downstream()), 1);
        for tenth in 0..600 {
            if per_tenth == 200 || tenth % 5 == 0 {
                repeat(&mut watch, &call, 1, tenth * SECOND / 10);
                watch.received(&resets(stream, per_tenth), tenth * SECOND / 10);
                stream += 2 * per_tenth;
            }
        }
        assert_eq!(watch.verdict(), None);
        assert_eq!(watch.received.resets, 120_000);
    }
    let mut answered = watch(WatchLimits::downstream());
    let answer = frame(HEADERS, END_HEADERS | END_STREAM, 30);
    for n in 0..100_000 {
        let now = u64::from(n) * 50_000;
        answered.received(&call, now);
        answered.sent(&answer, now);
        answered.received(&resets(2 * n + 1, 1), now);
    }
    assert_eq!(answered.verdict(), None);
}

/// A client on a fast network that takes 100,000 messages per second, and says so with two WINDOW_UPDATE and a PING for
/// each, and a message of its own.
#[test]
fn a_busy_client_that_receives_passes() {
    let mut watch = watch(WatchLimits::downstream());
    let answer =
        [frame(WINDOW_UPDATE, 0, 4), frame(WINDOW_UPDATE, 0, 4), frame(PING, 0, 8), frame(DATA, 0, 5)].concat();
    let message = frame(DATA, 0, 100);
    for n in 0..300_000 {
        watch.sent(&message, n * 10_000);
        watch.received(&answer, n * 10_000);
    }
    assert_eq!(watch.verdict(), None);
    let totals = watch.sent_totals();
    assert_eq!((totals.data_frames, totals.data_bytes), (300_000, 30_000_000));
}

/// A client that uploads in pieces of odd sizes, as body readers make them, with a request per piece for priority's sake.
#[test]
fn a_busy_client_that_sends_passes() {
    let mut watch = watch(WatchLimits::downstream());
    let piece = [
        frame(HEADERS, END_HEADERS, 40),
        frame(PRIORITY, 0, 5),
        frame(DATA, 0, 1000),
        frame(DATA, 0, 3),
        frame(DATA, END_STREAM, 0),
    ]
    .concat();
    for n in 0..200_000 {
        watch.received(&piece, n * 20_000);
    }
    assert_eq!(watch.verdict(), None);
}

#[test]
fn header_blocks_are_sized_for_what_the_codec_takes() {
    let sized = |bytes| WatchLimits::upstream().sized_for(bytes);
    let of = |limits: WatchLimits| (limits.continuation_frames, limits.header_block_bytes);
    assert_eq!([0, 8192, 16_384].map(|bytes| of(sized(bytes))), [(5, 32_768), (5, 32_768), (5, 65_536)]);
    assert_eq!(of(sized(1 << 20)), (80, 4 << 20));
    assert_eq!(of(sized(u32::MAX)).1, u32::MAX);
    assert_eq!(sized(8192).local_resets_per_sec, u32::MAX);
}

/// What is earned is bounded, so it cannot be saved up for a flood.
#[test]
fn earnings_are_bounded() {
    let limits = WatchLimits::downstream();
    let mut watch = watch(limits);
    for _ in 0..1_000_000 {
        watch.sent(&frame(DATA, END_STREAM, 100), 0);
    }
    repeat(&mut watch, &frame(PING, 0, 8), 500 + 1024, 0);
    watch.received(&resets(1, 8000), 0);
    repeat(&mut watch, &frame(DATA, 0, 1), 40_000, 0);
    repeat(&mut watch, &frame(WINDOW_UPDATE, 0, 4), 20_000 + 65_536, 0);
    assert_eq!(watch.verdict(), None);
    repeat(&mut watch, &frame(PING, 0, 8), 1, 0);
    assert_eq!(what(&watch), Some("h2-control-flood"));
}

/// H2-5: never END_HEADERS, with and without bytes; and a block that is announced too long.
#[test]
fn header_blocks_end_in_time() {
    let limits = WatchLimits::downstream();
    let mut many = watch(limits);
    repeat(&mut many, &frame(HEADERS, 0, 10), 1, 0);
    repeat(&mut many, &frame(CONTINUATION, 0, 0), 64, 0);
    repeat(&mut many, &frame(CONTINUATION, END_HEADERS, 1), 1, 0);
    assert_eq!(many.verdict(), None);
    repeat(&mut many, &frame(HEADERS, 0, 10), 1, 0);
    repeat(&mut many, &frame(CONTINUATION, 0, 1), 65, 0);
    assert_eq!(what(&many), Some("h2-continuation-flood"));

    let mut long = watch(limits);
    repeat(&mut long, &frame(HEADERS, 0, 16_384), 1, 0);
    repeat(&mut long, &frame(CONTINUATION, 0, 16_384), 63, 0);
    assert_eq!(long.verdict(), None, "1 MiB to the byte");
    repeat(&mut long, &frame(CONTINUATION, END_HEADERS, 1), 1, 0);
    assert_eq!(what(&long), Some("h2-header-block"));

    let mut announced = watch(limits);
    announced.received(b"\xff\xff\xff\x01\x04\0\0\0\x01", 0);
    assert_eq!(what(&announced), Some("h2-header-block"));

    // Trailers of 64 kB and more, call after call.
    let mut trailers = watch(limits);
    let call = [frame(HEADERS, 0, 16_384), frame(CONTINUATION, 0, 16_384).repeat(5), frame(CONTINUATION, 4, 9)];
    repeat(&mut trailers, &call.concat(), 1000, 0);
    assert_eq!(trailers.verdict(), None);
}

#[test]
fn totals_count_both_directions_since_they_were_read() {
    let mut watch = FrameWatch::new(Side::Client, WatchLimits::upstream());
    watch.sent(PREFACE, 0);
    watch.sent(&[frame(SETTINGS, 0, 6), frame(HEADERS, 4, 9), frame(DATA, 0, 70), frame(DATA, 1, 7)].concat(), 0);
    watch.received(&[frame(SETTINGS, 0, 0), frame(DATA, 1, 5)].concat(), 0);
    let before = watch.received;
    watch.received(&[frame(RST_STREAM, 0, 4), frame(GOAWAY, 0, 8)].concat(), 0);
    assert_eq!(watch.sent_totals(), Totals { frames: 4, data_frames: 2, data_bytes: 77, ..Totals::default() });
    let after = Totals { frames: before.frames + 2, resets: before.resets + 1, goaways: before.goaways + 1, ..before };
    assert_eq!(watch.received, after);
}

/// Frames of all types, short and long, and what is no frame at all.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let some = (0u8..12, any::<u8>(), 0usize..40, 0u8..9).prop_map(|(kind, flags, length, stream)| {
        let mut bytes = frame(kind, flags, length);
        bytes[8] = stream;
        bytes
    });
    let noise = proptest::collection::vec(any::<u8>(), 0..30);
    let piece = prop_oneof![8 => some, 1 => noise];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_count_the_same(
        bytes in any_bytes(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..40),
        narrow in any::<bool>(),
    ) {
        let mut limits = WatchLimits::downstream();
        if narrow {
            limits = WatchLimits {
                resets_per_sec: 3,
                local_resets_per_sec: 2,
                control_frames_per_sec: 4,
                empty_frames_per_sec: 2,
                small_frames_per_sec: 5,
                window_updates_per_sec: 3,
                continuation_frames: 2,
                header_block_bytes: 60,
            };
        }
        let (mut whole, mut cut) = (FrameWatch::new(Side::Client, limits), FrameWatch::new(Side::Client, limits));
        whole.received(&bytes, 9);
        whole.sent(&bytes, 9);
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        for place in places.windows(2) {
            cut.received(&bytes[place[0]..place[1]], 9);
        }
        for place in places.windows(2) {
            cut.sent(&bytes[place[0]..place[1]], 9);
        }
        prop_assert_eq!(whole.verdict(), cut.verdict());
        prop_assert_eq!(whole.received, cut.received);
        prop_assert_eq!(whole.sent_totals(), cut.sent_totals());
    }
}

/// What a frame costs; meaningful with optimisation only.
#[test]
#[ignore = "a measurement, not a check"]
fn the_cost_of_a_frame() {
    for (name, bytes) in [
        ("DATA of 1 kB", frame(DATA, 0, 1000)),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 4)),
        ("HEADERS of 60 B and DATA of 12 B", [frame(HEADERS, 4, 60), frame(DATA, 1, 12)].concat()),
    ] {
        let mut watch = FrameWatch::new(Side::Client, WatchLimits::downstream());
        let read = bytes.repeat(16_384 / bytes.len());
        let start = Instant::now();
        // Slow enough for every rate.
        for now in 0..100_000 {
            watch.received(black_box(&read), now * 100 * SECOND);
        }
        let took = start.elapsed();
        assert_eq!(watch.verdict(), None);
        let frames = u128::from(watch.received.frames);
        println!("{name}: {} ps per frame, {frames} frames", took.as_nanos() * 1000 / frames);
    }
}
