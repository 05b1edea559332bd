//! P3.2 in short: thousands of streams, half of them cancelled anywhere, leave nothing; and whatever frames come in
//! whatever order, the router lives and serves the next client.

#![allow(clippy::panic, reason = "a story that cannot go on has failed")]

use e2e::h2::{
    Ask, Caller, Frame, H2_CONFIG, Origin, Step, Wire, flag, kind, literals, long_story, pattern, story, within,
};
use e2e::{Switchyard, eventually};
use fastrand::Rng;
use http::HeaderMap;
use std::time::Duration;

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);
const CALLERS: usize = 20;
/// From so many streams on memory is held to the tenth alone: the first quarter of them has seen what there is to see.
const LONG: usize = 200_000;
/// What the allocator may take meanwhile in a shorter run, beyond a fifth, in KiB.
const ALLOCATOR_STEPS: u64 = 8192;

/// `SWITCHYARD_SEED`, or any; it is printed, to tell a failure again.
fn seed() -> u64 {
    let seed = std::env::var("SWITCHYARD_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("SWITCHYARD_SEED={seed}");
    seed
}

/// `SWITCHYARD_STREAMS`, for `bench/soak.sh`, or as many as take seconds.
fn streams() -> usize {
    std::env::var("SWITCHYARD_STREAMS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

fn origin() -> Origin {
    Origin::with(|asked| match asked.number % 4 {
        0 => Step::echo(),
        1 => Step::bytes(asked.number % 100_000),
        2 => vec![Step::Wait(Duration::from_micros(asked.number as u64 % 3000)), Step::Read],
        _ => vec![Step::Head(200, HeaderMap::new()), Step::Pattern(5000), Step::Read],
    })
}

/// One stream that is answered whole, or cancelled at a random point.
async fn stream(caller: &Caller, random: &mut Rng) -> Result<(), h2::Error> {
    let body = pattern(0, random.usize(0..20_000));
    let ask = Ask::post("web", "/", body.clone());
    if random.bool() {
        return caller.try_ask(&ask).await.map(|answer| assert_eq!(answer.status, 200));
    }
    let mut call = caller.open(&ask, false).await?;
    let sent = random.usize(0..=body.len());
    let cancelled = async {
        match random.u8(0..5) {
            0 => {}
            1 => _ = call.try_send(body.slice(..sent), false).await,
            2 => {
                _ = call.try_send(body.slice(..sent), false).await;
                _ = tokio::time::timeout(Duration::from_millis(2), call.head()).await;
            }
            3 => {
                _ = call.try_send(body.slice(..sent), true).await;
                if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_millis(20), call.head()).await {
                    _ = tokio::time::timeout(Duration::from_millis(2), call.next()).await;
                }
            }
            _ => tokio::time::sleep(Duration::from_micros(random.u64(0..3000))).await,
        }
    };
    // A service that does not read yet holds the body back.
    _ = tokio::time::timeout(Duration::from_millis(50), cancelled).await;
    call.reset(8);
    Ok(())
}

/// So many streams over several connections.
async fn run(switchyard: &Switchyard, seed: u64, streams: usize) {
    let addr = switchyard.addr(0);
    let running: Vec<_> = (0..CALLERS)
        .map(|i| {
            tokio::spawn(async move {
                let mut random = Rng::with_seed(seed + i as u64);
                let caller = Caller::connect(addr).await;
                for at in 0..streams / CALLERS {
                    let done = within("a stream", Duration::from_secs(60), stream(&caller, &mut random)).await;
                    done.unwrap_or_else(|error| panic!("seed {seed}, caller {i}, stream {at}: {error}"));
                }
            })
        })
        .collect();
    for caller in running {
        caller.await.expect("no caller failed");
    }
}

/// Resident memory in KiB when no stream is open anywhere: the same state before and after.
fn settled(switchyard: &Switchyard, origin: &Origin) -> u64 {
    let server = format!("rt/h2/server/127.0.0.1/{}/open_streams", switchyard.port(0));
    for gauge in [&server[..], "rt/h2/client/#/io.l5d.fs/web/open_streams"] {
        switchyard.await_metric(gauge, 0.0);
    }
    eventually("the service has none open", SOON, || (origin.open() == 0).then_some(()));
    switchyard.rss_kib()
}

#[test]
fn p3_2_thousands_of_streams_half_of_them_cancelled_leave_nothing() {
    let streams = streams();
    long_story(Duration::from_secs(300 + streams as u64 / 50), async {
        let seed = seed();
        let origin = origin();
        let switchyard = Switchyard::start(H2_CONFIG);
        switchyard.disco().set("web", &[origin.addr()]);
        run(&switchyard, seed, streams / 4).await;
        let before = settled(&switchyard, &origin);
        run(&switchyard, seed + 1000, streams).await;
        let after = settled(&switchyard, &origin);
        eprintln!("{streams} streams: {before} KiB became {after} KiB");
        let room = if streams < LONG { before / 5 + ALLOCATOR_STEPS } else { before / 10 };
        assert!(after <= before + room, "seed {seed}: {before} KiB became {after} KiB");
        let caller = Caller::connect(switchyard.addr(0)).await;
        assert_eq!(caller.ask(&Ask::post("web", "/", "alive")).await.status, 200);
    });
}

const GET: &[(&str, &str)] = &[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "web")];

/// Mostly good requests, and everything else in between.
fn any_frame(random: &mut Rng, next: &mut u32) -> Frame {
    let stream = if random.u8(..) < 200 { random.u32(0..=*next) } else { random.u32(0..1 << 31) };
    let bytes = |random: &mut Rng, most| (0..random.usize(0..most)).map(|_| random.u8(..)).collect::<Vec<u8>>();
    match random.u8(0..14) {
        0..5 => {
            let used = *next;
            *next += 2;
            Frame::headers(used, GET, random.bool())
        }
        5 => Frame::data(stream | 1, &bytes(random, 200), random.bool()),
        6 => Frame::reset(stream, random.u32(0..20)),
        7 => Frame::window(stream, random.u32(0..1 << 16)),
        8 => Frame::settings(&[(random.u16(0..8), random.u32(0..1 << 17))]),
        9 => Frame::new(kind::PING, random.u8(..) & flag::ACK, 0, bytes(random, 16)),
        10 => Frame::new(kind::CONTINUATION, flag::END_HEADERS, stream, literals(GET)),
        11 => Frame::new(kind::PRIORITY, 0, stream, bytes(random, 10)),
        12 => Frame::headers(stream, &[("x-trailer", "a")], true),
        _ => Frame::new(random.u8(..), random.u8(..), stream, bytes(random, 100)),
    }
}

#[test]
fn no_order_of_frames_ends_the_router() {
    story(async {
        let seed = seed();
        let mut random = Rng::with_seed(seed);
        let origin = origin();
        let mut switchyard = Switchyard::start(H2_CONFIG);
        switchyard.disco().set("web", &[origin.addr()]);
        for connection in 0..300 {
            let mut wire = Wire::client(switchyard.addr(0), &[]).await;
            wire.polite = random.bool();
            let mut next = 1;
            let frames: Vec<Frame> = (0..random.usize(1..60)).map(|_| any_frame(&mut random, &mut next)).collect();
            for piece in frames.chunks(random.usize(1..20)) {
                if wire.send_all(piece).await.is_err() {
                    break;
                }
            }
            // What comes back is no matter; that something moves is.
            _ = tokio::time::timeout(Duration::from_millis(random.u64(0..10)), wire.until(SOON, |_| false)).await;
            if connection % 50 == 0 {
                let caller = Caller::connect(switchyard.addr(0)).await;
                let answer = within("an answer", SOON, caller.ask(&Ask::post("web", "/", "alive"))).await;
                assert_eq!(answer.status, 200, "seed {seed}, connection {connection}");
            }
        }
        assert!(switchyard.is_running(), "seed {seed}");
        assert!(!switchyard.log().contains("panicked"), "seed {seed}");
        let server = format!("rt/h2/server/127.0.0.1/{}/open_streams", switchyard.port(0));
        switchyard.await_metric(&server, 0.0);
        eventually("the service has none open", SOON, || (origin.open() == 0).then_some(()));
    });
}
