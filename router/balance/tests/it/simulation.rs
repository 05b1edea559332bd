//! Seeded load in virtual time, for all kinds: spread, slow endpoints, failing ones, dead ones, sets that change, sizes.

use crate::support::{MILLI, SECOND, SplitMix64, endpoint, endpoints, kill};
use crate::world::{Outcome, World};
use balance::{AccrualConfig, Algorithm, Backoff, Balancer, Endpoint};
use std::sync::Arc;

const P2C: Algorithm = Algorithm::P2c { max_effort: 5 };
const EWMA: Algorithm = Algorithm::Ewma { max_effort: 5, decay_ns: 10 * SECOND };
const APERTURE: Algorithm = aperture(1);
const ROUND_ROBIN: Algorithm = Algorithm::RoundRobin { max_effort: 5 };
const ALL: [Algorithm; 5] = [P2C, EWMA, APERTURE, Algorithm::Heap, ROUND_ROBIN];

const fn aperture(min_aperture: u32) -> Algorithm {
    Algorithm::Aperture { max_effort: 5, smooth_window_ns: 5 * SECOND, low_load: 0.5, high_load: 2.0, min_aperture }
}

/// 5 to 15 ms.
fn steady(_: u64, _: u64, bits: u64) -> (u64, Outcome) {
    (5 * MILLI + bits % (10 * MILLI), Outcome::Success)
}

#[test]
fn every_kind_spreads_evenly_and_keeps_loads_close() {
    // 10 in flight on 10 endpoints: a random choice would pile up 7 or more. The share may differ by so much.
    for (kind, spread, peak) in
        [(P2C, 0.02, 5), (EWMA, 0.1, 8), (aperture(10), 0.02, 5), (Algorithm::Heap, 0.02, 4), (ROUND_ROBIN, 0.001, 7)]
    {
        let mut world = World::of(kind, 10, &steady);
        let report = world.run(100 * SECOND, MILLI);
        for (uid, count) in report.requests.iter().enumerate() {
            let mean = report.total() as f64 / 10.0;
            assert!((*count as f64 - mean).abs() < mean * spread, "{} {uid}: {count} of {mean}", kind.name());
        }
        assert!(report.peak() <= peak, "{}: {}", kind.name(), report.peak());
        assert_eq!(report.exhausted, 0);
        world.finish();
        assert!(world.replicas.endpoints().iter().all(|e| e.load() == 0));
    }
}

#[test]
fn a_slow_endpoint_gets_less_where_the_kind_promises_it() {
    // Endpoint 0 takes 50 times as long in the first 60 s.
    let server = |uid, now, bits| {
        let slow = uid == 0 && now < 60 * SECOND;
        (if slow { 100 * MILLI } else { 2 * MILLI } + bits % MILLI, Outcome::Success)
    };
    // The greatest share of the slow one of five; an even one is 0.2.
    let limits = [(P2C, 0.08), (EWMA, 0.01), (aperture(5), 0.08), (Algorithm::Heap, 0.05)];
    for (kind, limit) in limits {
        let mut world = World::of(kind, 5, &server);
        let slow = world.run(60 * SECOND, 2 * MILLI).share(0);
        assert!(slow < limit, "{}: {slow}", kind.name());
        world.run(140 * SECOND, 2 * MILLI);
        let healed = world.run(60 * SECOND, 2 * MILLI).share(0);
        assert!(healed > 0.1, "{}: {healed}", kind.name());
    }
    let even = World::of(ROUND_ROBIN, 5, &server).run(60 * SECOND, 2 * MILLI).share(0);
    assert!((0.19..0.21).contains(&even), "{even}");
}

#[test]
fn a_fast_failing_endpoint_does_not_look_best() {
    // Endpoint 0 fails in 0.2 ms, the others succeed in 20 ms. Nothing takes it out but its cost.
    let server = |uid, _, bits| match uid {
        0 => (MILLI / 5, Outcome::Failure),
        _ => (20 * MILLI + bits % MILLI, Outcome::Success),
    };
    let all = || (0..5).map(|uid| endpoint(uid, 1.0, AccrualConfig::None)).collect::<Vec<_>>();
    let share = World::new(EWMA, all(), &server).run(60 * SECOND, 2 * MILLI).share(0);
    assert!(share < 0.01, "{share}");
    // The same when it begins to fail after a good time, and an endpoint that fails every second request.
    let late =
        move |uid, now, bits| if now < 10 * SECOND { (20 * MILLI, Outcome::Success) } else { server(uid, now, bits) };
    let mut world = World::new(EWMA, all(), &late);
    assert!(world.run(10 * SECOND, 2 * MILLI).share(0) > 0.15);
    let share = world.run(20 * SECOND, 2 * MILLI).share(0);
    assert!(share < 0.02, "{share}");
    let half =
        move |uid, now, bits: u64| if bits & 1 == 0 { (20 * MILLI, Outcome::Success) } else { server(uid, now, bits) };
    let share = World::new(EWMA, all(), &half).run(60 * SECOND, 2 * MILLI).share(0);
    assert!(share < 0.02, "{share}");
    // Least loaded sees an idle endpoint; failure accrual is what keeps requests away.
    for kind in [P2C, aperture(5), Algorithm::Heap] {
        let without = World::new(kind, all(), &server).run(60 * SECOND, 2 * MILLI).share(0);
        let with = World::of(kind, 5, &server).run(60 * SECOND, 2 * MILLI).share(0);
        assert!(without > 0.2 && with < 0.01, "{}: {without} {with}", kind.name());
    }
}

#[test]
fn every_accrual_kind_takes_a_failing_endpoint_out() {
    let server = |uid, _, bits: u64| (MILLI + bits % MILLI, if uid == 0 { Outcome::Failure } else { Outcome::Success });
    let backoff = Backoff::default();
    for accrual in [
        AccrualConfig::default(),
        AccrualConfig::SuccessRate { rate: 0.8, requests: 20, backoff },
        AccrualConfig::SuccessRateWindowed { rate: 0.8, window_ns: 5 * SECOND, backoff },
    ] {
        for kind in ALL {
            let all = (0..4).map(|uid| endpoint(uid, 1.0, accrual)).collect();
            let mut world = World::new(kind, all, &server);
            world.run(8 * SECOND, 2 * MILLI);
            let after = world.run(60 * SECOND, 2 * MILLI);
            // One probe per dead period, and those in flight at the moment of death. The windowed one wants five requests
            // in its window before it lets an endpoint die again.
            let probes = if matches!(accrual, AccrualConfig::SuccessRateWindowed { .. }) { 5 } else { 1 };
            assert!(after.requests[0] <= 5 + 5 * probes, "{} {accrual:?}: {}", kind.name(), after.requests[0]);
        }
    }
}

#[test]
fn a_dead_endpoint_gets_only_probes_and_is_revived() {
    // Endpoint 0 fails from 10 s to 100 s.
    let server = |uid, now, _| {
        let bad = uid == 0 && (10 * SECOND..100 * SECOND).contains(&now);
        (MILLI, if bad { Outcome::Failure } else { Outcome::Success })
    };
    // Not EWMA: a failing endpoint is so expensive there that it gets no five requests to die of.
    for kind in [P2C, aperture(4), Algorithm::Heap, ROUND_ROBIN] {
        let all = endpoints(4);
        let mut world = World::new(kind, all.clone(), &server);
        assert!(world.run(10 * SECOND, 2 * MILLI).requests[0] > 1000, "{}", kind.name());
        let during = world.run(90 * SECOND, 2 * MILLI);
        let counts = all[0].accrual_counts();
        assert_eq!((counts.removals, counts.revivals), (1, 0));
        assert!((3..=5).contains(&counts.probes), "{counts:?}");
        // 5 failures to die, the probes, and at most one more in flight at the moment of death.
        let failed = during.requests[0];
        assert!((5 + counts.probes..=6 + counts.probes).contains(&failed), "{} {failed} {counts:?}", kind.name());
        world.run(100 * SECOND, 2 * MILLI);
        assert_eq!(all[0].accrual_counts().revivals, 1, "{}", kind.name());
        assert!(world.run(10 * SECOND, 2 * MILLI).requests[0] > 1000, "{}", kind.name());
    }
}

#[test]
fn a_refusing_endpoint_is_skipped_at_once_and_recovers() {
    // Accrual is off: the refusal alone keeps traffic away. Down from 1 s to 31 s.
    let server = |uid, now, _| {
        let down = uid == 0 && (SECOND..31 * SECOND).contains(&now);
        if down { (MILLI / 10, Outcome::Refused) } else { (MILLI, Outcome::Success) }
    };
    for kind in [P2C, aperture(3), Algorithm::Heap, ROUND_ROBIN] {
        let all: Vec<_> = (0..3).map(|uid| endpoint(uid, 1.0, AccrualConfig::None)).collect();
        let mut world = World::new(kind, all, &server);
        world.run(SECOND, MILLI);
        let during = world.run(30 * SECOND, MILLI);
        // At least 0.25 + 0.25 + 0.5 + 1 + 2 + 4 s before every further wait is up to 8 s.
        assert!((5..=20).contains(&during.requests[0]), "{} {:?}", kind.name(), during.requests);
        world.run(8 * SECOND, MILLI);
        let after = world.run(10 * SECOND, MILLI);
        assert!(after.requests[0] > 2500, "{} {:?}", kind.name(), after.requests);
    }
}

#[test]
fn when_nothing_is_open_the_load_is_shared_by_all_that_take_connections() {
    for kind in ALL {
        let all = endpoints(10);
        all.iter().for_each(|endpoint| kill(endpoint, 0));
        all[0].lease(0).connect_failed(0, &mut || 0);
        all[0].lease(251 * MILLI).connect_failed(251 * MILLI, &mut || u64::MAX);
        let server = |_, _, _| (5 * MILLI, Outcome::Failure);
        let mut world = World::new(kind, all, &server);
        world.now = 251 * MILLI;
        let report = world.run(240 * MILLI, MILLI / 10);
        assert_eq!(report.exhausted, report.total(), "{}", kind.name());
        if !matches!(kind, Algorithm::Aperture { .. }) {
            assert_eq!(report.requests[0], 0, "{}", kind.name());
            let mean = report.total() / 9;
            assert!(report.requests[1..].iter().all(|n| n.abs_diff(mean) < mean / 4), "{:?}", report.requests);
        }
    }
    // With one endpoint there is no choice.
    for kind in ALL {
        let server = |_, _, _| (MILLI, Outcome::Failure);
        assert!(World::of(kind, 1, &server).run(20 * SECOND, 2 * MILLI).requests[0] > 5000);
    }
}

#[test]
fn a_new_endpoint_starts_slowly_and_gets_its_share_in_the_end() {
    for kind in [P2C, EWMA, aperture(10), Algorithm::Heap, ROUND_ROBIN] {
        let mut all = endpoints(9);
        let mut world = World::new(kind, all.clone(), &steady);
        world.run(20 * SECOND, MILLI);
        all.push(endpoint(9, 1.0, AccrualConfig::default()));
        world.replace(all);
        // Ten parts of the ten seconds; a fair share is 0.1.
        let shares: Vec<f64> = (0..10).map(|_| world.run(SECOND, MILLI).share(9)).collect();
        let name = kind.name();
        assert!(shares[0] < 0.05 && shares[0] > 0.002, "{name} {shares:?}");
        assert!(shares[..3].iter().sum::<f64>() < shares[7..].iter().sum::<f64>(), "{name} {shares:?}");
        assert!(shares.iter().all(|share| *share < 0.2), "{name} {shares:?}");
        let after = world.run(20 * SECOND, MILLI).share(9);
        assert!((0.07..0.13).contains(&after), "{name} {after}");
    }
}

#[test]
fn a_new_endpoint_is_flooded_without_a_slow_start() {
    // 200 in flight on 4: the new one would be given 50 at once. This is what the test above guards against.
    let server = |_, _, _| (100 * MILLI, Outcome::Success);
    let first = |slow_start_ns| {
        let balancer = Balancer::new(Algorithm::Heap, slow_start_ns, 5);
        let mut all = endpoints(4);
        let mut world = World::new(Algorithm::Heap, Vec::new(), &server);
        world.balancer = balancer;
        world.replace(all.clone());
        world.run(SECOND, MILLI / 2);
        all.push(endpoint(4, 1.0, AccrualConfig::default()));
        world.replace(all);
        world.run(20 * MILLI, MILLI / 2).share(4)
    };
    let (without, with) = (first(0), first(10 * SECOND));
    assert!(without > 0.9 && with < 0.2, "{without} {with}");
}

#[test]
fn few_old_endpoints_among_many_new_ones_are_not_flooded() {
    for kind in ALL {
        let old = endpoint(0, 1.0, AccrualConfig::default());
        let mut world = World::new(kind, vec![old.clone()], &steady);
        let all = std::iter::once(old).chain((1..10).map(|uid| endpoint(uid, 1.0, AccrualConfig::default())));
        world.replace(all.collect());
        let share = world.run(2 * SECOND, MILLI / 4).share(0);
        assert!(share < 0.3 || kind == APERTURE, "{}: {share}", kind.name());
    }
}

#[test]
fn sets_change_under_load_and_nothing_removed_is_picked() {
    for kind in ALL {
        let (mut rng, mut next) = (SplitMix64(8), 20);
        let mut all = endpoints(20);
        let mut world = World::new(kind, all.clone(), &steady);
        for _ in 0..100 {
            // Some go, at least as many come; those that are gone still finish what they have.
            let gone = all.split_off(all.len() - 1 - rng.below(5) as usize);
            gone.iter().for_each(|endpoint| endpoint.close());
            for _ in 0..=rng.below(6) {
                all.insert(rng.below(all.len() as u64) as usize, endpoint(next, 1.0, AccrualConfig::default()));
                next += 1;
            }
            world.replace(all.clone());
            let report = world.run(SECOND / 2, MILLI / 2);
            assert_eq!(report.exhausted, 0, "{}", kind.name());
        }
        world.finish();
        assert!(world.replicas.endpoints().iter().all(|e| e.load() == 0));
        // The order of the heap knows of every lease that ended after its snapshot was replaced.
        world.now += 20 * SECOND;
        world.replace(all);
        let report = world.run(10 * SECOND, MILLI);
        let least = world.replicas.endpoints().iter().map(|e| report.requests[e.uid() as usize]).min();
        assert!(kind == APERTURE || least > Some(50), "{} {least:?}", kind.name());
    }
}

#[test]
fn a_lease_that_outlives_its_snapshot_is_taken_off_the_heap() {
    let server = |_, _, _| (MILLI, Outcome::Success);
    for seed in 0..20 {
        let all = endpoints(2);
        let mut world = World::new(Algorithm::Heap, all.clone(), &server);
        let mut rng = SplitMix64(seed);
        let mut leases: Vec<_> = (0..20).map(|_| world.replicas.pick(0, || rng.next()).expect("two").lease).collect();
        (0..3).for_each(|_| world.replace(all.clone()));
        leases.retain(|lease| lease.endpoint().uid() == 1);
        assert_eq!((all[0].load(), all[1].load()), (0, 10));
        // Endpoint 0 is free again, so the next ten go there.
        let next: Vec<_> = (0..10).map(|_| world.replicas.pick(1, || rng.next()).expect("two").lease).collect();
        assert!(next.iter().all(|lease| lease.endpoint().uid() == 0), "seed {seed}");
    }
}

#[test]
fn weights_are_respected_by_every_kind() {
    // Four of weight 1 and two of weight 3: shares 1/10 and 3/10 for one endpoint.
    let weight = |uid| if uid < 4 { 1.0 } else { 3.0 };
    for kind in [P2C, EWMA, aperture(4), Algorithm::Heap, ROUND_ROBIN] {
        let all = (0..6).map(|uid| endpoint(uid, weight(uid), AccrualConfig::default())).collect();
        let report = World::new(kind, all, &steady).run(100 * SECOND, MILLI);
        for uid in 0..6 {
            let (share, expected) = (report.share(uid), weight(uid) / 10.0);
            assert!((share - expected).abs() < expected * 0.1, "{} {uid}: {share}", kind.name());
        }
    }
    // A new endpoint that is alone in its class starts slowly too.
    let mut all: Vec<Arc<Endpoint>> = endpoints(9);
    let mut world = World::new(P2C, all.clone(), &steady);
    all.push(endpoint(9, 1.5, AccrualConfig::default()));
    world.replace(all);
    let share = world.run(SECOND, MILLI).share(9);
    assert!(share < 0.05, "{share}");
}

#[test]
fn an_aperture_is_as_wide_as_the_load_and_survives_updates() {
    let all = endpoints(50);
    let mut world = World::new(APERTURE, all.clone(), &steady);
    // One request in flight at most times: few endpoints, which are the same ones all the time.
    let quiet = world.run(30 * SECOND, 20 * MILLI);
    let used = |report: &crate::world::Report| report.requests.iter().filter(|n| **n > 0).count();
    assert!(used(&quiet) <= 3, "{}", used(&quiet));
    world.run(60 * SECOND, MILLI / 4);
    // 40 in flight: between half a request and two for each.
    let width = world.replicas.aperture();
    assert!((15..=45).contains(&width), "{width}");
    assert!(world.replicas.offered_load() > 30.0);
    world.replace(all.clone());
    assert_eq!(world.replicas.aperture(), width, "an update does not close it");
    let busy = world.run(10 * SECOND, MILLI / 4);
    assert!(busy.peak() <= 8 && used(&busy) <= 50, "{}", busy.peak());
    // Its first endpoint dies: the next one behind takes its place.
    let before = world.run(SECOND, MILLI / 4);
    let dead = all.iter().find(|e| before.requests[e.uid() as usize] > 0).expect("one has traffic");
    kill(dead, world.now);
    let after = world.run(SECOND, MILLI / 4);
    assert_eq!((after.requests[dead.uid() as usize], after.exhausted), (0, 0));
    world.run(100 * SECOND, 200 * MILLI);
    assert_eq!(world.replicas.aperture(), 1);
    let counts = world.balancer.counts();
    assert!(counts.widened > 14 && counts.narrowed > 14 && counts.rebuilds >= 3, "{counts:?}");
}

#[test]
fn from_one_endpoint_to_ten_thousand() {
    for kind in [P2C, EWMA, aperture(10_000), Algorithm::Heap, ROUND_ROBIN] {
        for count in [1, 2, 3, 17, 100, 1000, 10_000] {
            let all = endpoints(count);
            let balancer = Balancer::new(kind, 0, 9);
            let replicas = balancer.replicas(all.clone(), 0);
            let (mut rng, mut draws, mut leases) = (SplitMix64(count), 0u64, Vec::new());
            for _ in 0..count * 3 {
                let mut bits = || {
                    draws += 1;
                    rng.next()
                };
                leases.push(replicas.pick(1, &mut bits).expect("not empty").lease);
            }
            assert!(draws <= count * 3, "{} {count}: {draws} draws", kind.name());
            let most = all.iter().map(|e| e.load()).max().expect("not empty");
            let limit = if matches!(kind, Algorithm::Heap | Algorithm::RoundRobin { .. }) { 3 } else { 8 };
            assert!(most <= limit, "{} {count}: {most}", kind.name());
            // Nine in ten die: the others get all of the next ones.
            drop(leases);
            let dead: Vec<_> = all.iter().filter(|e| e.uid() % 10 != 0).collect();
            dead.iter().for_each(|endpoint| kill(endpoint, 2));
            let next: Vec<_> = (0..100).map(|_| replicas.pick(3, || rng.next()).expect("not empty").lease).collect();
            let open = next.iter().filter(|lease| lease.endpoint().uid() % 10 == 0).count();
            let exact = matches!(kind, Algorithm::Heap);
            assert!(open == 100 || (!exact && open >= 30), "{} {count}: {open}", kind.name());
        }
    }
}
