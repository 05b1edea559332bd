//! Rules of one pick: status before load, ties, effort, weight classes, odd weights.

use crate::support::{SECOND, SplitMix64, by_uid, endpoint, endpoints, kill, replicas};
use balance::{AccrualConfig, Algorithm, Pick, Replicas, Status, StatusCounts};

const P2C: Algorithm = Algorithm::P2c { max_effort: 5 };
const EWMA: Algorithm = Algorithm::Ewma { max_effort: 5, decay_ns: 10 * SECOND };

fn pick(replicas: &Replicas, rng: &mut SplitMix64) -> Pick {
    replicas.pick(1, || rng.next()).expect("not empty")
}

/// The number of the endpoint of a pick whose lease is over at once.
fn uid(replicas: &Replicas, rng: &mut SplitMix64) -> u64 {
    pick(replicas, rng).lease.endpoint().uid()
}

#[test]
fn names_and_defaults() {
    assert_eq!(Algorithm::default(), P2C);
    assert_eq!((P2C.name(), P2C.decay_ns()), ("p2c_least_loaded", 0));
    assert_eq!((EWMA.name(), EWMA.decay_ns()), ("p2c_peak_ewma", 10 * SECOND));
}

#[test]
fn none_only_when_empty() {
    assert!(replicas(P2C, Vec::new()).pick(1, || 1).is_none());
    let set = replicas(P2C, endpoints(1));
    kill(by_uid(&set, 0), 1);
    let got = pick(&set, &mut SplitMix64(1));
    assert_eq!((got.lease.endpoint().uid(), got.max_effort_exhausted, got.busy_class_skipped), (0, true, false));
}

#[test]
fn of_two_endpoints_both_are_drawn() {
    let set = replicas(P2C, endpoints(2));
    let mut rng = SplitMix64(2);
    let _lease = by_uid(&set, 0).lease(0);
    assert!((0..1000).all(|_| uid(&set, &mut rng) == 1));
    kill(by_uid(&set, 1), 1);
    assert!((0..1000).all(|_| uid(&set, &mut rng) == 0), "status goes before load");
}

#[test]
fn ties_are_spread_evenly() {
    for algorithm in [P2C, EWMA] {
        let set = replicas(algorithm, endpoints(2));
        let mut rng = SplitMix64(3);
        let first =
            (0..20_000).filter(|_| set.pick(1, || rng.next()).expect("not empty").lease.endpoint().uid() == 0).count();
        assert!((9_700..10_300).contains(&first), "{first}");
    }
}

#[test]
fn the_first_drawn_wins_a_tie() {
    let set = replicas(P2C, endpoints(2));
    for (bits, expected) in [(0, 0), (u64::MAX, 1)] {
        let expected = set.endpoints()[expected].uid();
        assert_eq!(set.pick(1, || bits).expect("not empty").lease.endpoint().uid(), expected);
    }
}

#[test]
fn fails_open_with_the_less_loaded_when_all_are_busy() {
    let set = replicas(P2C, endpoints(2));
    set.endpoints().iter().for_each(|e| kill(e, 1));
    let _lease = by_uid(&set, 0).lease(0);
    let got = pick(&set, &mut SplitMix64(4));
    assert_eq!((got.lease.endpoint().uid(), got.max_effort_exhausted), (1, true));
    assert_eq!(set.counts(1), StatusCounts { open: 0, busy: 2 });
    assert_eq!(set.counts(5 * SECOND + 1), StatusCounts { open: 2, busy: 0 });
}

#[test]
fn when_all_are_busy_those_that_take_connections_share_what_comes() {
    let aperture =
        Algorithm::Aperture { max_effort: 5, smooth_window_ns: SECOND, low_load: 0.5, high_load: 2.0, min_aperture: 3 };
    for algorithm in [P2C, EWMA, aperture, Algorithm::Heap, Algorithm::RoundRobin { max_effort: 5 }] {
        let set = replicas(algorithm, endpoints(3));
        [0, 1].iter().for_each(|uid| kill(by_uid(&set, *uid), 1));
        by_uid(&set, 2).lease(1).connect_failed(1, &mut || 0);
        let mut rng = SplitMix64(7);
        let mut counts = [0; 3];
        (0..300).for_each(|_| counts[uid(&set, &mut rng) as usize] += 1);
        assert_eq!((counts[0] > 50, counts[1] > 50, counts[2]), (true, true, 0), "{algorithm:?}: {counts:?}");
    }
}

#[test]
fn effort_is_bounded() {
    let all = endpoints(10);
    all.iter().for_each(|e| kill(e, 1));
    for (effort, expected) in [(0, 1), (1, 1), (3, 3), (5, 5)] {
        let (mut draws, mut rng) = (0, SplitMix64(5));
        let set = replicas(Algorithm::P2c { max_effort: effort }, all.clone());
        set.pick(1, || {
            draws += 1;
            rng.next()
        });
        assert_eq!(draws, expected);
    }
}

#[test]
fn a_busy_class_is_skipped() {
    let none = AccrualConfig::default();
    let set = replicas(P2C, vec![endpoint(0, 9.0, none), endpoint(1, 9.0, none), endpoint(2, 1.0, none)]);
    assert_eq!(set.weight_classes(), 2);
    assert!((set.mean_weight() - 19.0 / 3.0).abs() < 1e-9);
    set.endpoints()[..2].iter().for_each(|e| kill(e, 1));
    let mut rng = SplitMix64(6);
    let picks: Vec<Pick> = (0..1000).map(|_| pick(&set, &mut rng)).collect();
    assert!(picks.iter().all(|p| p.lease.endpoint().uid() == 2 && !p.max_effort_exhausted));
    let skipped = picks.iter().filter(|p| p.busy_class_skipped).count();
    assert!((900..1000).contains(&skipped), "{skipped}");
    kill(by_uid(&set, 2), 1);
    let all_busy = pick(&set, &mut rng);
    assert!(all_busy.max_effort_exhausted && !all_busy.busy_class_skipped);
}

#[test]
fn weight_zero_is_used_only_if_all_are_zero() {
    let accrual = AccrualConfig::default();
    let mut rng = SplitMix64(7);
    let mixed = replicas(P2C, vec![endpoint(0, 0.0, accrual), endpoint(1, 0.1, accrual)]);
    assert!((0..1000).all(|_| uid(&mixed, &mut rng) == 1));
    mixed.endpoints().iter().filter(|e| e.uid() == 1).for_each(|e| kill(e, 1));
    assert!((0..1000).all(|_| uid(&mixed, &mut rng) == 1), "not even when the others are busy");
    let zero = replicas(P2C, vec![endpoint(0, 0.0, accrual), endpoint(1, -0.0, accrual)]);
    assert_eq!((zero.weight_classes(), zero.mean_weight()), (1, 0.0));
    let first = (0..1000).filter(|_| uid(&zero, &mut rng) == 0).count();
    assert!((400..600).contains(&first));
}

#[test]
fn odd_weights_are_safe() {
    let table = [
        (-1.0, 0.0),
        (f64::NEG_INFINITY, 0.0),
        (f64::NAN, 1.0),
        (f64::INFINITY, 1.0),
        (1e300, 1e9),
        (f64::MIN_POSITIVE, f64::MIN_POSITIVE),
        (2.5, 2.5),
    ];
    let all = table.map(|(given, expected)| {
        let e = endpoint(0, given, AccrualConfig::None);
        assert_eq!(e.weight(), expected, "{given}");
        e.set_weight(given);
        assert_eq!(e.weight(), expected, "{given}");
        e
    });
    let set = replicas(P2C, all.to_vec());
    let mut rng = SplitMix64(8);
    assert!((0..1000).all(|_| pick(&set, &mut rng).lease.endpoint().status(1) == Status::Open));
}

#[test]
fn weights_give_their_shares() {
    // Two classes: 4 endpoints of weight 1 and 2 of weight 3. Shares 4/10 and 6/10; 1/10 and 3/10 for one endpoint.
    let accrual = AccrualConfig::default();
    let weight = |uid| if uid < 4 { 1.0 } else { 3.0 };
    let set = replicas(P2C, (0..6).map(|uid| endpoint(uid, weight(uid), accrual)).collect());
    let mut rng = SplitMix64(9);
    let mut shares = [0.0f64; 6];
    let rounds = 100_000;
    for _ in 0..rounds {
        shares[uid(&set, &mut rng) as usize] += 1.0 / f64::from(rounds);
    }
    for (uid, share) in shares.iter().enumerate() {
        let expected = weight(uid as u64) / 10.0;
        assert!((share - expected).abs() < expected * 0.03, "{uid}: {share}");
    }
}

#[test]
fn the_same_seed_gives_the_same_picks() {
    let run = || {
        let set = replicas(P2C, endpoints(7));
        let mut rng = SplitMix64(10);
        let one = |_| {
            let lease = pick(&set, &mut rng).lease;
            (lease.endpoint().uid(), lease)
        };
        (0..1000).map(one).unzip::<u64, balance::Lease, Vec<_>, Vec<_>>().0
    };
    assert_eq!(run(), run());
}
