//! As an operator, I give a bigger machine a bigger share by a weight in the discovery file.

use e2e::{Backend, Client, FS_CONFIG, Switchyard};

#[test]
fn a_weight_of_three_gets_three_quarters() {
    let switchyard = Switchyard::start(FS_CONFIG);
    let (small, big) = (Backend::text("small"), Backend::text("big"));
    let line = |backend: &Backend, weight: &str| format!("{} {}{weight}\n", backend.addr().ip(), backend.addr().port());
    switchyard.disco().replace("web", &(line(&small, "") + &line(&big, " * 3.0")));
    let mut client = Client::connect(switchyard.addr(0));
    const REQUESTS: usize = 2000;
    for _ in 0..REQUESTS {
        assert_eq!(client.get("web", "/").status, 200);
    }
    let hits = big.count() as f64;
    let (mean, sigma) = (REQUESTS as f64 * 0.75, (REQUESTS as f64 * 0.75 * 0.25).sqrt());
    assert!((hits - mean).abs() <= 7.0 * sigma, "{hits} of {REQUESTS}, expected {mean} ± {}", 7.0 * sigma);
    assert_eq!(small.count() + big.count(), REQUESTS);
}
