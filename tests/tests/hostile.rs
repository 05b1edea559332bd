//! Hostile peers and hostile input of every kind, and the router afterwards: ready, small, fast, without a panic.
//!
//! Garbage, slowloris, half-closed and reset connections, dtabs that explode (attacks D1 to D5), floods of overrides
//! (O13), broken discovery files, garbage at the admin port. Not for: framing in detail (see `framing`).

#![allow(clippy::panic, reason = "a story that cannot go on has failed")]

use e2e::{Backend, Client, FS_CONFIG, Reply, Response, Switchyard, eventually, get, try_get};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);
/// An attack must be answered within this time: what it is after would take years.
const QUICK: Duration = Duration::from_secs(10);
/// A connection that said its last word is closed within this time, and not after the ten seconds that a head may take.
const CLOSED: Duration = Duration::from_secs(8);
/// Resident memory afterwards, in KiB.
const SMALL: u64 = 240 * 1024;

fn site() -> (Switchyard, Backend) {
    let (router, web) = (Switchyard::start(FS_CONFIG), Backend::text("web"));
    router.disco().set("web", &[web.addr()]);
    eventually("web is served", SOON, || try_get(router.addr(0), "web").ok().filter(|r| r.status == 200));
    (router, web)
}

/// Whatever happened: the router is as it was.
fn unharmed(router: &Switchyard) {
    assert_eq!(router.page("/admin/ready").status, 200);
    assert_eq!(get(router.addr(0), "web").text(), "web");
    let scope = format!("rt/http/server/127.0.0.1/{}", router.port(0));
    eventually("all connections are over", SOON, || {
        router.metric(&format!("{scope}/connections")).filter(|open| *open == 0.0)
    });
    router.await_metric(&format!("{scope}/pending"), 0.0);
    is_idle(router, "the router is busy with nothing to do");
    assert!(router.rss_kib() < SMALL, "the router holds {} KiB", router.rss_kib());
    let log = router.log();
    assert!(!log.contains("panicked"), "{}", &log[log.len().saturating_sub(4000)..]);
}

/// Clock ticks (10 ms) that the process has used.
fn cpu_ticks(router: &Switchyard) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", router.pid())).unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    after_name.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// The share of one core that the process uses now.
fn cpu_share(router: &Switchyard) -> f64 {
    let (before, started) = (cpu_ticks(router), Instant::now());
    std::thread::sleep(Duration::from_millis(500));
    (cpu_ticks(router) - before) as f64 * 0.01 / started.elapsed().as_secs_f64()
}

/// What is left of an attack may take a moment; what spins does so for ever.
fn is_idle(router: &Switchyard, what: &str) {
    eventually(what, SOON, || (cpu_share(router) < 0.5).then_some(()));
}

fn open(addr: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(addr).expect("the router listens");
    socket.set_read_timeout(Some(SOON)).expect("a time-out");
    socket
}

/// Closes with a reset.
fn reset(socket: TcpStream) {
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).expect("an option");
}

/// A small seeded generator (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).expect("fits")
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

/// Pure noise, noise after a plausible beginning, or a good request with some bytes changed.
fn garbage(random: &mut Random) -> Vec<u8> {
    const BEGINNINGS: [&str; 6] = [
        "GET / HTTP/1.1\r\nHost: web\r\n",
        "POST /x HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET ",
        "PRI * HTTP/2.0\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01",
        "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100000\r\n\r\n",
    ];
    let n = 1 + random.below(2000);
    match random.below(3) {
        0 => random.bytes(n),
        1 => {
            let mut bytes = BEGINNINGS[random.below(BEGINNINGS.len())].as_bytes().to_vec();
            bytes.extend(random.bytes(n));
            bytes
        }
        _ => {
            let mut bytes = b"POST /x?y HTTP/1.1\r\nHost: web\r\nX-A: b\r\nl5d-dtab: /a => /b & /c | ~\r\n\
                              Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: u\r\n\r\n"
                .to_vec();
            for _ in 0..1 + random.below(3) {
                let at = random.below(bytes.len());
                bytes[at] = random.next() as u8;
            }
            bytes
        }
    }
}

#[test]
fn two_thousand_connections_of_garbage() {
    let (router, _web) = site();
    let mut random = Random(0x5eed_1234_5678_9abc);
    for i in 0..2000 {
        let bytes = garbage(&mut random);
        let mut socket = open(router.addr(0));
        // It may be refused before all of it is sent.
        let _ = socket.write_all(&bytes);
        let _ = socket.shutdown(Shutdown::Write);
        let started = Instant::now();
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        assert!(started.elapsed() < CLOSED, "connection {i} is kept: {:?}", String::from_utf8_lossy(&bytes));
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{:?}", String::from_utf8_lossy(&answer));
    }
    unharmed(&router);
}

/// Attack H1-16: a head must be there within ten seconds, however busy its sender.
#[test]
fn slowloris() {
    let (router, web) = site();
    let count = web.count();
    let started = Instant::now();
    let mut slow = open(router.addr(0));
    let mut silent = open(router.addr(0));
    silent.write_all(b"GET / HTTP/1.1\r\n").expect("it is taken");
    slow.write_all(b"GET / HTTP/1.1\r\nHost: web\r\n").expect("it is taken");
    slow.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
    let mut answer = [0; 12];
    let ended = loop {
        assert!(started.elapsed() < Duration::from_secs(60), "a slow head is waited for");
        let sent = slow.write_all(b"X-A: b\r\n");
        match slow.read(&mut answer) {
            Ok(_) => break started.elapsed(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && sent.is_ok() => {}
            Err(_) => break started.elapsed(),
        }
    };
    assert!(ended > Duration::from_secs(8), "ended after {ended:?}");
    assert!(answer.starts_with(b"HTTP/1.1 4") || answer == [0; 12], "{answer:?}");
    let end = silent.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
    assert_ne!(end, Err(std::io::ErrorKind::WouldBlock), "a silent head is waited for");
    assert_eq!(web.count(), count);
    drop((slow, silent));
    unharmed(&router);
}

/// Opened and left alone, closed on one side, or cut: nothing is left of any of them, and none costs time.
#[test]
fn half_open_and_reset_connections() {
    let (router, web) = site();
    let count = web.count();
    let idle: Vec<TcpStream> = (0..200).map(|_| open(router.addr(0))).collect();
    let halves = [
        "",
        "GET / HT",
        "GET / HTTP/1.1\r\nHost: web\r\n",
        "POST /evil HTTP/1.1\r\nHost: web\r\nContent-Length: 10\r\n\r\nhello",
        "POST /evil HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "POST /evil HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ];
    let mut half_closed = Vec::new();
    for text in halves.iter().cycle().take(120) {
        let mut socket = open(router.addr(0));
        socket.write_all(text.as_bytes()).expect("it is taken");
        socket.shutdown(Shutdown::Write).expect("it can be closed");
        half_closed.push(socket);
        let mut socket = open(router.addr(0));
        socket.write_all(text.as_bytes()).expect("it is taken");
        reset(socket);
    }
    is_idle(&router, "half-closed connections keep the router busy");
    for mut socket in half_closed {
        let started = Instant::now();
        let _ = socket.read_to_end(&mut Vec::new());
        assert!(started.elapsed() < CLOSED, "a half-closed connection is kept");
    }
    drop(idle);
    assert_eq!(web.count(), count, "half a request reached the upstream as a whole one");
    unharmed(&router);
}

/// Cut while the upstream is slow, or while the answer is under way.
#[test]
fn resets_in_the_middle() {
    let router = Switchyard::start(FS_CONFIG);
    let web = Backend::with(|received| match received.target.as_str() {
        "/slow" => Reply::text("slow").after(Duration::from_millis(200)),
        "/large" => Reply::text("x".repeat(3_000_000)),
        _ => Reply::text("web"),
    });
    router.disco().set("web", &[web.addr()]);
    for i in 0..60 {
        let mut socket = open(router.addr(0));
        let target = if i % 2 == 0 { "/slow" } else { "/large" };
        let _ = write!(socket, "GET {target} HTTP/1.1\r\nHost: web\r\n\r\n");
        if i % 4 == 1 {
            let _ = socket.read(&mut [0; 1000]);
        }
        reset(socket);
    }
    unharmed(&router);
}

#[test]
fn a_megabyte_of_method() {
    let (router, web) = site();
    let count = web.count();
    let before = router.rss_kib();
    for byte in ["G", "\0", " ", "\r"] {
        let mut client = Client::connect(router.addr(0));
        let _ = client.try_send_raw(byte.repeat(1024 * 1024).as_bytes());
        let response = client.read_response(false).unwrap_or_else(|error| panic!("{byte:?}: {error}"));
        assert!(matches!(response.status, 400 | 414), "{byte:?}: {}", response.status);
        assert!(client.closed_by_peer());
    }
    assert_eq!(web.count(), count);
    assert!(router.rss_kib() < before + 16 * 1024, "it is not kept");
    unharmed(&router);
}

fn with_dtab(router: &Switchyard, dtab: &str) -> Response {
    assert!(dtab.len() < 8000, "{} bytes do not fit a header", dtab.len());
    let mut client = Client::connect(router.addr(0));
    let started = Instant::now();
    let response = client.request("GET", "web", "/", &[("l5d-dtab", dtab)], b"");
    assert!(started.elapsed() < QUICK, "{:?} for {}", started.elapsed(), &dtab[..dtab.len().min(80)]);
    response
}

/// Levels that lead to one another: `/svc/web => /a0`, then `/a<i> => <tree of i + 1>`.
fn levels(n: usize, tree: impl Fn(usize) -> String, end: &str) -> String {
    let levels: String = (0..n).map(|i| format!("/a{i}=>{};", tree(i + 1))).collect();
    format!("/svc/web=>/a0;{levels}/a{n}=>{end}")
}

/// Attacks D1, D2 and D4: small tables that are large computations.
#[test]
fn dtabs_that_explode() {
    let (router, web) = site();
    let count = web.count();
    let base = get(router.addr(0), "web").status;
    let twice = |op: &'static str| move |i: usize| format!("/a{i}{op}/a{i}");
    let eight = |op: &str, i: usize| vec![format!("/a{i}"); 8].join(op);
    let bombs = [
        ("D1 unions", levels(40, twice("&"), "/$/inet/127.1/1"), "complex"),
        ("D1 neg unions", levels(40, twice("&"), "~"), "complex"),
        ("D1 wide", levels(40, |i| eight("&", i), "!"), "complex"),
        ("D1 parentheses", levels(40, |i| format!("((/a{i}&/a{i})|(/a{i}&/a{i}))"), "~"), "complex"),
        ("D4 alternatives", levels(40, twice("|"), "~"), "complex"),
        ("D4 wide", levels(40, |i| eight("|", i), "~"), "complex"),
        ("D4 and unions", levels(40, |i| format!("/a{i}&/a{i}|/a{i}"), "~"), "complex"),
        ("D4 many entries", format!("/svc/web=>/a;{}", "/a=>/a;".repeat(900)), ""),
        ("D2 itself thrice", "/svc/web=>/x;/x=>/x/x/x".to_owned(), ""),
        ("D2 long tails", format!("/svc/web=>/x;/x=>/x/{}", "y".repeat(7000)), "long"),
        ("D2 doubling", "/svc/web=>/x/1;/x/*=>/x/1/2/3 & /x/1/2/3".to_owned(), ""),
    ];
    for (id, dtab, limit) in &bombs {
        for _ in 0..3 {
            let response = with_dtab(&router, dtab);
            assert!(matches!(response.status, 400 | 502), "{id}: {}", response.status);
            assert!(response.text().contains(limit), "{id}: {}", &response.text()[..response.text().len().min(300)]);
        }
    }
    assert_eq!((get(router.addr(0), "web").status, base), (200, 200));
    assert_eq!(web.count(), count + 2);
    unharmed(&router);
}

/// Attack D3: cycles, through tables and through namers.
#[test]
fn dtabs_that_go_round() {
    let (router, _web) = site();
    let cycles = [
        "/svc/web=>/a;/a=>/b;/b=>/a",
        "/svc/web=>/svc/web",
        "/svc=>/svc",
        "/svc/web=>/a;/a=>/b|/a;/b=>~",
        "/svc/web=>/a;/a=>1*/a&1*/b",
        "/svc/web=>/$/io.buoyant.http.anyMethodPfx/svc/GET/web",
        "/svc/web=>/$/io.buoyant.hostportPfx/p/web:80;/p=>/svc;/svc/web/80=>/svc/web",
        "/svc/web=>/$/com.twitter.finagle.namer.global/$/io.buoyant.http.domainToPath/svc/web",
    ];
    for dtab in cycles {
        let response = with_dtab(&router, dtab);
        assert!(matches!(response.status, 200 | 400 | 502), "{dtab}: {}", response.status);
    }
    for dtab in &cycles[..3] {
        let text = with_dtab(&router, dtab).text();
        assert!(text.contains("Max recursion level: 100 reached in Namer lookup"), "{dtab}: {text}");
    }
    unharmed(&router);
}

/// Just below the limits it works, and it works quickly.
#[test]
fn large_honest_overrides_work() {
    let (router, _web) = site();
    let union = levels(10, |i| format!("/a{i}&/a{i}"), "/#/io.l5d.fs/web");
    let long: String = (0..250).map(|i| format!("/svc/some-{i}=>/other/{i};")).collect();
    let chain = levels(40, |i| format!("/a{i}"), "/#/io.l5d.fs/web");
    for dtab in [union, long, chain] {
        for _ in 0..5 {
            let response = with_dtab(&router, &dtab);
            assert_eq!((response.status, response.text().as_str()), (200, "web"), "{}", &dtab[..60]);
        }
    }
    unharmed(&router);
}

/// Attack D5: what the parser is fed.
#[test]
fn dtabs_that_do_not_parse() {
    let (router, web) = site();
    let count = web.count();
    let texts = [
        format!("/svc/web=>{}/a{}", "(".repeat(3900), ")".repeat(3900)),
        format!("/svc/web=>{}", "(".repeat(7900)),
        format!("/svc/web=>{}", "/a|".repeat(2600)),
        format!("/svc/web=>{}", "1*".repeat(3900)),
        "/svc/web=>1e999*/a".to_owned(),
        "/svc/web=>-1*/a".to_owned(),
        "/svc/web=>NaN*/a".to_owned(),
        "/svc/web=>inf*/a & /b".to_owned(),
        format!("/svc/web=>{}*/a", "9".repeat(5000)),
        "/svc/web=>/a\\x0".to_owned(),
        "/svc/web=>/a\\xzz".to_owned(),
        "/svc/web=>/a /b".to_owned(),
        "/svc/web /a".to_owned(),
        "/svc/web=>/a;;;=>".to_owned(),
        "/svc/web=>".to_owned(),
        "# comment".to_owned(),
        "/svc/\u{e9}=>/a".to_owned(),
        "a".repeat(7900),
        ";".repeat(7900),
        "/".repeat(7900),
        " ".repeat(10) + &"\t".repeat(7000) + "x",
    ];
    for text in &texts {
        let response = with_dtab(&router, text);
        let shown = &text[..text.len().min(40)];
        assert!(matches!(response.status, 200 | 400 | 502), "{shown}: {}", response.status);
        if response.status == 400 {
            assert!(response.text().contains("found at '"), "{shown}: no position in {:.200}", response.text());
        }
    }
    for text in &texts[..2] {
        assert_eq!(with_dtab(&router, text).status, 400);
    }
    for escaped in ["\\x00", "\\x2f", "\\x2e\\x2e", "\\xff\\xfe", "\\x0d\\x0a"] {
        let response = with_dtab(&router, &format!("/svc/web=>/#/io.l5d.fs/a{escaped}b | !"));
        assert_eq!(response.status, 502, "{escaped}");
        assert!(!response.headers.iter().any(|(name, _)| name == "a" || name.is_empty()), "{response:?}");
    }
    assert!(web.count() <= count + texts.len());
    unharmed(&router);
}

fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * share) as usize]
}

/// Attack O13: a flood of different overrides neither throws out base routes nor makes them slow.
#[test]
fn a_flood_of_overrides_does_not_hurt_base_routes() {
    const FLOOD: usize = 4000;
    let (router, web) = site();
    router.disco().set("cold", &[web.addr()]);
    eventually("cold is served", SOON, || try_get(router.addr(0), "cold").ok().filter(|r| r.status == 200));
    let cold = router.metric("rt/http/service/svc/cold/requests").expect("it is known");
    let mut client = Client::connect(router.addr(0));
    let mut timed = |n: usize| -> Vec<Duration> {
        let once = |client: &mut Client| {
            let started = Instant::now();
            assert_eq!(client.get("web", "/").status, 200);
            started.elapsed()
        };
        (0..n).map(|_| once(&mut client)).collect()
    };
    let quiet = quantile(&mut timed(300), 0.5);
    let mut during = Vec::new();
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut client = Client::connect(router.addr(0));
            for i in 0..FLOOD {
                let dtab = format!("/x{i} => /y{i} ; /svc/web => /#/io.l5d.fs/web");
                let response = client.request("GET", "web", "/", &[("l5d-dtab", &dtab)], b"");
                assert_eq!(response.status, 200);
            }
        });
        while !flood.is_finished() {
            during.extend(timed(20));
        }
        flood.join().expect("the flood is served");
    });
    let (median, slow) = (quantile(&mut during, 0.5), quantile(&mut during, 0.99));
    // Of the slowest, a busy machine says more than the router.
    let limit = quiet * 20 + Duration::from_millis(50);
    assert!(median < limit, "the median went from {quiet:?} to {median:?} (p99 {slow:?})");
    assert_eq!(router.metric("rt/http/service/svc/cold/requests"), Some(cold), "a base route was thrown out");
    assert_eq!(get(router.addr(0), "cold").status, 200);
    assert_eq!(router.metric("rt/http/service/svc/cold/requests"), Some(cold + 1.0), "and is still the same");
    drop(client);
    unharmed(&router);
}

/// Attack N5: the same with names that nobody serves.
#[test]
fn a_flood_of_unknown_names_does_not_hurt_base_routes() {
    let (router, web) = site();
    router.disco().set("cold", &[web.addr()]);
    eventually("cold is served", SOON, || try_get(router.addr(0), "cold").ok().filter(|r| r.status == 200));
    let cold = router.metric("rt/http/service/svc/cold/requests").expect("it is known");
    let mut client = Client::connect(router.addr(0));
    for i in 0..3000 {
        assert_eq!(client.get(&format!("no-{i}"), "/").status, 502);
    }
    assert_eq!(router.metric("rt/http/service/svc/cold/requests"), Some(cold), "a base route was thrown out");
    drop(client);
    unharmed(&router);
}

#[test]
fn broken_discovery_files() {
    let (router, web) = site();
    let disco = router.disco();
    let folder = disco.path();
    std::fs::write(folder.join("noise"), Random(7).bytes(100_000)).expect("a file");
    std::fs::write(folder.join("huge"), "127.0.0.1 1\n".repeat(60_000)).expect("a file");
    disco.replace("empty", "");
    disco.replace(
        "ports",
        "127.0.0.1 0\n127.0.0.1 65536\n127.0.0.1 -1\n127.0.0.1\n127.0.0.1 80 * -1\n127.0.0.1 80 * NaN\n",
    );
    disco.replace("mixed", &format!("what is this\n\n# comment\n127.0.0.1 {} # fine\n\0\0\n", web.addr().port()));
    std::os::unix::fs::symlink("round", folder.join("round")).expect("a link");
    std::os::unix::fs::symlink(folder, folder.join("inside")).expect("a link");
    std::os::unix::fs::symlink("/nowhere", folder.join("dangling")).expect("a link");
    std::fs::create_dir(folder.join("folder")).expect("a folder");
    let pipe = std::process::Command::new("mkfifo").arg(folder.join("pipe")).status();
    assert!(pipe.is_ok_and(|status| status.success()), "a pipe");
    eventually("mixed is served", SOON, || try_get(router.addr(0), "mixed").ok().filter(|r| r.status == 200));
    for name in ["noise", "huge", "empty", "ports", "round", "inside", "dangling", "folder", "pipe"] {
        let started = Instant::now();
        let response = get(router.addr(0), name);
        assert_eq!(response.status, 502, "{name}: {}", response.text());
        assert!(started.elapsed() < QUICK, "{name}: {:?}", started.elapsed());
        assert_eq!(get(router.addr(0), "web").status, 200, "after {name}");
    }
    // A good file that turns bad keeps what was known.
    std::fs::write(folder.join("web"), Random(8).bytes(1000)).expect("a file");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(get(router.addr(0), "web").text(), "web", "the last good addresses stay");
    disco.set("web", &[web.addr()]);
    unharmed(&router);
}

#[test]
fn garbage_at_the_admin_port() {
    let (router, _web) = site();
    let mut random = Random(99);
    for _ in 0..300 {
        let mut socket = open(router.admin());
        let _ = socket.write_all(&garbage(&mut random));
        let _ = socket.shutdown(Shutdown::Write);
        let _ = socket.read_to_end(&mut Vec::new());
    }
    let head = |line: &str, fields: &str| {
        let mut client = Client::connect(router.admin());
        let _ = client.try_send_raw(format!("{line} HTTP/1.1\r\n{fields}\r\n").as_bytes());
        client.read_response(false).map_or(0, |response| response.status)
    };
    let long = format!("Host: localhost\r\nX: {}\r\n", "x".repeat(200_000));
    assert!(matches!(head("GET /admin/ping", &long), 0 | 400 | 431), "too long a head");
    assert!(matches!(head("GET /admin/../../etc/passwd", "Host: localhost\r\n"), 400 | 404));
    assert!(matches!(head("GET /%2e%2e/%2e%2e/etc/passwd", "Host: localhost\r\n"), 400 | 404));
    assert_eq!(head("GET /admin/shutdown", "Host: localhost\r\n"), 405, "reading ends nothing");
    for fields in [
        "Host: evil.example\r\nContent-Length: 0\r\n",
        "Host: localhost\r\nOrigin: http://evil.example\r\nContent-Length: 0\r\n",
    ] {
        assert_eq!(head("POST /admin/shutdown", fields), 403, "{fields}");
    }
    let dtab = levels(40, |i| format!("/a{i}%26/a{i}"), "~").replace("=>", "%3D%3E").replace(';', "%3B");
    let started = Instant::now();
    let page = router.page(&format!("/delegator.json?namespace=http&path=/svc/web&dtab={dtab}"));
    assert!(started.elapsed() < QUICK, "{} after {:?}", page.status, started.elapsed());
    unharmed(&router);
}
