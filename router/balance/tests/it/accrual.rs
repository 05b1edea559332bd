//! Tables for the failure accrual state machine, the policies and the refusal of connections.

use crate::support::{MILLI, SECOND, SplitMix64, endpoint};
use balance::{AccrualConfig, AccrualCounts, Backoff, Endpoint, Lease, REFUSAL_FIRST_NS, REFUSAL_MAX_NS, Status};
use std::collections::VecDeque;
use std::sync::Arc;

const TEN_SECONDS: Backoff = Backoff::Constant { ns: 10 * SECOND };

/// What happens to the endpoint in one row of a table.
#[derive(Clone, Copy, Debug)]
enum Event {
    Begin,
    Success,
    Failure,
    Ignored,
    ConnectFailed,
    Connected,
    Close,
    Look,
}

use Event::{Begin, Close, ConnectFailed, Connected, Failure, Ignored, Look, Success};
use Status::{Busy, Open};

fn consecutive(failures: u32) -> Arc<Endpoint> {
    endpoint(1, 1.0, AccrualConfig::Consecutive { failures, backoff: TEN_SECONDS })
}

/// Rows of (milliseconds, event, status after it). All jitter is 0. A verdict is on the lease that began first, or on
/// one that begins then.
fn run(endpoint: &Arc<Endpoint>, rows: &[(u64, Event, Status)]) {
    let (rng, mut begun) = (&mut || 0, VecDeque::new());
    for (index, &(millis, event, expected)) in rows.iter().enumerate() {
        let now = millis * MILLI;
        let mut verdict = |judge: &mut dyn FnMut(&mut Lease)| {
            let mut lease = begun.pop_front().unwrap_or_else(|| endpoint.lease(now));
            judge(&mut lease);
            lease.end(now);
        };
        match event {
            Begin => begun.push_back(endpoint.lease(now)),
            Success => verdict(&mut |lease| lease.succeed(now)),
            Failure => verdict(&mut |lease| lease.fail(now, rng)),
            Ignored => verdict(&mut |_| {}),
            ConnectFailed => verdict(&mut |lease| lease.connect_failed(now, rng)),
            Connected => endpoint.connected(),
            Close => endpoint.close(),
            Look => {}
        }
        assert_eq!(endpoint.status(now), expected, "row {index}: {event:?} at {millis} ms");
    }
}

fn counts(removals: u64, revivals: u64, probes: u64, removed_for_ms: u64) -> AccrualCounts {
    AccrualCounts { removals, revivals, probes, removed_for_ms }
}

#[test]
fn dies_is_probed_and_revives() {
    let e = consecutive(3);
    run(&e, &[(1, Failure, Open), (2, Failure, Open), (3, Success, Open)]);
    run(&e, &[(4, Failure, Open), (5, Failure, Open), (6, Failure, Busy)]);
    assert_eq!(e.accrual_counts(), counts(1, 0, 0, 10_000));
    run(&e, &[(10_005, Look, Busy), (10_006, Look, Open)]);
    assert!(e.probing(10_006 * MILLI));
    run(&e, &[(10_007, Begin, Busy), (10_008, Begin, Busy), (10_009, Success, Open)]);
    assert!(!e.probing(10_009 * MILLI));
    assert_eq!(e.accrual_counts(), counts(1, 1, 1, 10_000));
    run(&e, &[(10_010, Failure, Open), (10_011, Failure, Open), (10_012, Failure, Busy)]);
}

#[test]
fn a_failed_probe_kills_again_at_once() {
    let e = consecutive(3);
    run(&e, &[(1, Failure, Open), (1, Failure, Open), (1, Failure, Busy)]);
    run(&e, &[(10_001, Begin, Busy), (10_002, Failure, Busy), (20_001, Look, Busy), (20_002, Look, Open)]);
    assert_eq!(e.accrual_counts(), counts(1, 0, 1, 20_000));
}

#[test]
fn a_probe_without_verdict_is_sent_again() {
    let e = consecutive(1);
    run(&e, &[(0, Failure, Busy), (10_000, Begin, Busy), (10_001, Ignored, Open)]);
    run(&e, &[(10_002, Begin, Busy), (10_003, Success, Open)]);
    assert_eq!(e.accrual_counts(), counts(1, 1, 2, 10_000));
    run(&e, &[(10_004, Ignored, Open), (10_005, Failure, Busy), (10_006, Ignored, Busy)]);
}

#[test]
fn outcomes_while_dead_change_no_phase() {
    let e = consecutive(2);
    run(&e, &[(0, Failure, Open), (0, Failure, Busy), (1, Failure, Busy), (2, Begin, Busy), (3, Success, Busy)]);
    assert_eq!(e.accrual_counts(), counts(1, 0, 0, 10_000));
    // The late success reset the counter, so the policy declines after one failed probe and asks for another.
    run(&e, &[(10_000, Begin, Busy), (10_001, Failure, Open), (10_002, Begin, Busy), (10_003, Failure, Busy)]);
    assert_eq!(e.accrual_counts(), counts(1, 0, 2, 20_000));
}

#[test]
fn begin_after_the_period_is_a_probe_even_if_nobody_looked() {
    let e = consecutive(1);
    run(&e, &[(0, Failure, Busy)]);
    let probe = e.lease(11 * SECOND);
    assert!(probe.is_probe());
    assert_eq!(e.accrual_counts().probes, 1);
    assert_eq!(e.status(11 * SECOND), Busy);
}

#[test]
fn back_off_grows_over_failed_probes_and_starts_again_after_a_revival() {
    let e = endpoint(1, 1.0, AccrualConfig::default());
    run(&e, &[(0, Failure, Open), (0, Failure, Open), (0, Failure, Open), (0, Failure, Open), (0, Failure, Busy)]);
    run(&e, &[(4_999, Look, Busy), (5_000, Begin, Busy), (5_000, Failure, Busy)]);
    run(&e, &[(9_999, Look, Busy), (10_000, Begin, Busy), (10_000, Failure, Busy)]);
    run(&e, &[(19_999, Look, Busy), (20_000, Begin, Busy), (20_000, Success, Open)]);
    let first = [(20_001, Failure, Open); 4];
    run(&e, &first);
    run(&e, &[(20_001, Failure, Busy), (25_000, Look, Busy), (25_001, Look, Open)]);
}

#[test]
fn none_never_dies_and_a_limit_of_zero_counts_as_one() {
    let never = endpoint(1, 1.0, AccrualConfig::None);
    run(&never, &[(1, Failure, Open); 100]);
    run(&consecutive(0), &[(1, Success, Open), (1, Failure, Busy)]);
}

#[test]
fn success_rate_needs_enough_requests_and_a_low_average() {
    let config = AccrualConfig::SuccessRate { rate: 0.5, requests: 10, backoff: TEN_SECONDS };
    let e = endpoint(1, 1.0, config);
    run(&e, &[(1, Failure, Open); 9]);
    run(&e, &[(1, Failure, Busy), (10_001, Begin, Busy), (10_002, Success, Open)]);
    // The past is forgotten: the average starts at 1 and falls below 0.5 after 7 failures, but 10 requests are needed.
    run(&e, &[(10_003, Failure, Open); 8]);
    run(&e, &[(10_003, Failure, Busy)]);
}

#[test]
fn success_rate_follows_the_formula() {
    let (rate, requests) = (0.8, 20u32);
    let e = endpoint(1, 1.0, AccrualConfig::SuccessRate { rate, requests, backoff: TEN_SECONDS });
    let mut rng = SplitMix64(7);
    let keep = (-1.0 / f64::from(requests)).exp();
    let (mut average, mut seen) = (None::<f64>, 0);
    loop {
        let good = rng.below(10) != 0 && seen < 300;
        let sample = f64::from(u8::from(good));
        average = Some(average.map_or(sample, |old| sample * (1.0 - keep) + old * keep));
        seen += 1;
        let dead = !good && seen >= requests && average < Some(rate);
        run(&e, &[(1, if good { Success } else { Failure }, if dead { Busy } else { Open })]);
        if dead {
            return;
        }
    }
}

#[test]
fn windowed_success_rate_needs_time_requests_and_a_low_average() {
    let config = AccrualConfig::SuccessRateWindowed { rate: 0.5, window_ns: 10 * SECOND, backoff: TEN_SECONDS };
    let e = endpoint(1, 1.0, config);
    run(&e, &[(1, Failure, Open); 50]);
    run(&e, &[(9_999, Failure, Open), (30_000, Failure, Open), (30_001, Failure, Open), (30_002, Failure, Open)]);
    run(&e, &[(30_003, Failure, Open), (30_004, Failure, Busy)]);
    run(&e, &[(40_004, Begin, Busy), (40_005, Success, Open)]);
    // After the revival the average is below 0.5 from 48 s on, but the window must pass first.
    run(&e, &[(48_006, Failure, Open); 6]);
    run(&e, &[(50_004, Failure, Open), (50_005, Failure, Busy)]);
}

#[test]
fn refusal_avoids_at_once_grows_and_clears() {
    let e = endpoint(1, 1.0, AccrualConfig::None);
    run(&e, &[(1_000, ConnectFailed, Busy), (1_249, Look, Busy), (1_250, Look, Open)]);
    // Jitter 0: 250, 250, 500, 1000, 2000, 4000, then 8000 for ever.
    let mut at = 1_250;
    for length in [250, 500, 1_000, 2_000, 4_000, 8_000, 8_000] {
        run(&e, &[(at, ConnectFailed, Busy), (at + length - 1, Look, Busy), (at + length, Look, Open)]);
        at += length;
    }
    run(&e, &[(at, Connected, Open), (at, ConnectFailed, Busy), (at + 250, Look, Open)]);
    run(&e, &[(at + 250, ConnectFailed, Busy), (at + 251, Connected, Open)]);
}

#[test]
fn failures_inside_a_refusal_do_not_lengthen_it() {
    let e = endpoint(1, 1.0, AccrualConfig::None);
    run(&e, &[(0, ConnectFailed, Busy); 50]);
    run(&e, &[(249, ConnectFailed, Busy), (250, Look, Open)]);
}

#[test]
fn refusals_never_exceed_the_cap() {
    let e = endpoint(1, 1.0, AccrualConfig::None);
    let mut rng = SplitMix64(3);
    let mut now = 0;
    for step in 0..40 {
        e.lease(now).connect_failed(now, &mut || rng.next());
        assert_eq!(e.status(now), Busy);
        let longest = if step == 0 { REFUSAL_FIRST_NS } else { REFUSAL_MAX_NS };
        assert_eq!(e.status(now + longest), Open);
        now += longest;
    }
}

#[test]
fn refused_connections_count_for_accrual() {
    let e = consecutive(2);
    run(&e, &[(0, ConnectFailed, Busy), (250, ConnectFailed, Busy), (600, Connected, Busy), (10_250, Look, Open)]);
    assert_eq!(e.accrual_counts(), counts(1, 0, 0, 10_000));
    run(&e, &[(10_250, Begin, Busy), (10_251, Connected, Busy), (10_252, Success, Open)]);
}

#[test]
fn a_closed_endpoint_is_busy() {
    let e = consecutive(2);
    assert!(!e.is_closed());
    run(&e, &[(0, Close, Busy), (1, Success, Busy)]);
    assert!(e.is_closed());
}

#[test]
fn a_lease_ends_once_and_has_one_verdict() {
    let e = consecutive(1);
    let mut lease = e.lease(0);
    assert_eq!((e.load(), lease.began()), (1, 0));
    lease.succeed(1);
    lease.fail(1, &mut || 0);
    lease.end(1);
    lease.end(2);
    drop(lease);
    assert_eq!((e.load(), e.status(2)), (0, Open));
    drop(e.lease(3));
    assert_eq!(e.load(), 0, "dropped without an end");
}

#[test]
fn only_the_verdict_on_the_probe_counts() {
    let e = consecutive(1);
    let (mut early, mut late) = (e.lease(0), e.lease(0));
    run(&e, &[(1, Failure, Busy)]);
    let probe = e.lease(10 * SECOND + MILLI);
    assert!(probe.is_probe() && !e.lease(10 * SECOND + MILLI).is_probe());
    early.succeed(11 * SECOND);
    late.fail(11 * SECOND, &mut || 0);
    early.end(11 * SECOND);
    late.end(11 * SECOND);
    assert_eq!((e.status(11 * SECOND), e.accrual_counts()), (Busy, counts(1, 0, 1, 10_000)));
    // Cancelled: the next one is the probe.
    drop(probe);
    let mut next = e.lease(12 * SECOND);
    assert!(next.is_probe());
    next.succeed(12 * SECOND);
    assert_eq!((e.status(12 * SECOND), e.accrual_counts()), (Open, counts(1, 1, 2, 10_000)));
}
