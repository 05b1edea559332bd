//! Story: a router that has served tens of thousands of requests holds what it held after the first ten thousand, in
//! pages of the usual size.

use e2e::{Backend, Client, FS_CONFIG, Switchyard};

/// Requests on one connection, a batch at a time.
fn serve(switchyard: &Switchyard, batches: usize) {
    const BATCH: usize = 100;
    let request = "GET /some/path?with=query HTTP/1.1\r\nHost: web\r\nAccept: */*\r\nX-Request: 1\r\n\r\n";
    let mut client = Client::connect(switchyard.addr(0));
    for _ in 0..batches {
        client.send_raw(request.repeat(BATCH).as_bytes());
        for _ in 0..BATCH {
            assert_eq!(client.read_response(false).expect("an answer").status, 200);
        }
    }
}

#[test]
fn nothing_is_kept_of_a_request() {
    let switchyard = Switchyard::start(FS_CONFIG);
    let web = Backend::text("hello");
    switchyard.disco().set("web", &[web.addr()]);
    serve(&switchyard, 100);
    let before = switchyard.rss_kib();
    serve(&switchyard, 600);
    let grown = switchyard.rss_kib().saturating_sub(before);
    // The allocator takes memory in steps of megabytes; what leaks 140 bytes per request shows.
    assert!(grown < 8192, "60,000 requests left {grown} KiB: {} bytes each", grown * 1024 / 60_000);
}

#[test]
fn memory_is_not_taken_by_the_huge_page() {
    let huge = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    if huge.contains("[always]") {
        return eprintln!("this system gives huge pages to whoever has room for one: nothing to see");
    }
    let switchyard = Switchyard::start(FS_CONFIG);
    let web = Backend::text("hello");
    switchyard.disco().set("web", &[web.addr()]);
    serve(&switchyard, 10);
    assert_eq!(switchyard.huge_pages_kib(), 0);
}
