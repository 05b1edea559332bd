//! As a service owner, I send one request in ten to the new version by weights in the dtab, and anybody can try other
//! weights for their own requests with a header.

use e2e::{Backend, Client, FS_CONFIG, Switchyard};

fn config() -> String {
    FS_CONFIG.to_owned() + "    /svc/shop => 9 * /#/io.l5d.fs/shop-v1 & 1 * /#/io.l5d.fs/shop-v2 ;\n"
}

/// How many of `n` requests on one connection reached v2.
fn share_of_v2(client: &mut Client, n: usize, headers: &[(&str, &str)]) -> usize {
    let is_v2 = |_| {
        let response = client.request("GET", "shop", "/", headers, b"");
        assert_eq!(response.status, 200, "{}", response.text());
        response.text() == "v2"
    };
    (0..n).map(is_v2).filter(|v2| *v2).count()
}

/// Within seven standard deviations of a binomial distribution: never by chance.
fn assert_share(hits: usize, n: usize, probability: f64) {
    let (mean, sigma) = (n as f64 * probability, (n as f64 * probability * (1.0 - probability)).sqrt());
    let off = (hits as f64 - mean).abs();
    assert!(off <= 7.0 * sigma, "{hits} of {n}, expected {mean} ± {}", 7.0 * sigma);
}

#[test]
fn one_in_ten_goes_to_the_new_version() {
    let switchyard = Switchyard::start(&config());
    let (v1, v2) = (Backend::text("v1"), Backend::text("v2"));
    switchyard.disco().set("shop-v1", &[v1.addr()]);
    switchyard.disco().set("shop-v2", &[v2.addr()]);
    let mut client = Client::connect(switchyard.addr(0));
    let hits = share_of_v2(&mut client, 2000, &[]);
    assert_share(hits, 2000, 0.1);
    assert_eq!((v1.count(), v2.count()), (2000 - hits, hits));

    let swapped = "/svc/shop => 1 * /#/io.l5d.fs/shop-v1 & 3 * /#/io.l5d.fs/shop-v2";
    assert_share(share_of_v2(&mut client, 1000, &[("l5d-dtab", swapped)]), 1000, 0.75);
    let only = "/svc/shop => 0 * /#/io.l5d.fs/shop-v1 & 1 * /#/io.l5d.fs/shop-v2";
    assert_eq!(share_of_v2(&mut client, 200, &[("l5d-dtab", only)]), 200);
    assert_share(share_of_v2(&mut client, 1000, &[]), 1000, 0.1);
}

#[test]
fn a_branch_without_a_file_takes_no_share() {
    let switchyard = Switchyard::start(&config());
    let v1 = Backend::text("v1");
    switchyard.disco().set("shop-v1", &[v1.addr()]);
    let mut client = Client::connect(switchyard.addr(0));
    assert_eq!(share_of_v2(&mut client, 200, &[]), 0, "a negative branch leaves the union");
}

/// One branch is known not to exist a moment before the other is known at all: that moment must not be served.
#[test]
fn the_first_request_of_a_process_waits_for_discovery() {
    let v1 = Backend::text("v1");
    for start in 0..20 {
        let switchyard = Switchyard::start(&config());
        switchyard.disco().set("shop-v1", &[v1.addr()]);
        let response = Client::connect(switchyard.addr(0)).get("shop", "/");
        assert_eq!((response.status, response.text().as_str()), (200, "v1"), "start {start}");
    }
}
