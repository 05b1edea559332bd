//! As an operator, I have one line per request in a file, in the form that the tools for Linkerd 1 read or as JSON,
//! whatever clients send, however the request ends, and whatever becomes of the file.

#![allow(clippy::panic, reason = "a story that cannot go on has failed")]

use e2e::{Backend, Client, FS_CONFIG, Reply, Switchyard, eventually, get};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);
/// In the folder of the process, which is the parent of the discovery folder.
const LOG: &str = "httpAccessLog: '@DISCO@/../access.log'";
const JSON: &str = "httpAccessLogFormat: json";

/// The usual config with these keys in the router.
fn with(keys: &[&str]) -> String {
    FS_CONFIG.replace("  dtab: |", &format!("  {}\n  dtab: |", keys.join("\n  ")))
}

fn start(keys: &[&str], web: &Backend) -> Switchyard {
    let switchyard = Switchyard::start(&with(keys));
    switchyard.disco().set("web", &[web.addr()]);
    switchyard
}

fn log(switchyard: &Switchyard) -> PathBuf {
    switchyard.folder().join("access.log")
}

fn read(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).map_or(Vec::new(), |text| text.lines().map(str::to_owned).collect())
}

/// The lines of a file once there are so many.
fn lines(path: &Path, wanted: usize) -> Vec<String> {
    let found = eventually(&format!("{wanted} lines in {}", path.display()), SOON, || {
        let found = read(path);
        (found.len() >= wanted).then_some(found)
    });
    assert_eq!(found.len(), wanted, "{found:#?}");
    found
}

/// The only line of a JSON log.
fn only(switchyard: &Switchyard) -> Value {
    let found = lines(&log(switchyard), 1);
    serde_json::from_str(&found[0]).unwrap_or_else(|error| panic!("{error}: {}", found[0]))
}

/// What `date` says of now, in the form of the log.
fn date(zone: &str, at: &str) -> String {
    let command = Command::new("date").env("TZ", zone).args(["-d", at, "+%d/%m/%Y:%H:%M:%S %Z"]).output();
    String::from_utf8(command.expect("date runs").stdout).expect("text").trim().to_owned()
}

/// Lessons, 1.3.7: the zone is that of the process, and the line says which.
#[test]
fn the_line_is_that_of_linkerd() {
    for zone in ["America/New_York", "Asia/Kolkata", "UTC"] {
        if zone != "UTC" && !Path::new("/usr/share/zoneinfo").join(zone).is_file() {
            println!("NOTICE: {zone} is left out: this system knows no such zone");
            continue;
        }
        let switchyard = Switchyard::start_in(&with(&[LOG]), &[], &[("TZ", zone)]);
        let web = Backend::text("hello");
        switchyard.disco().set("web", &[web.addr()]);
        let headers = [("Referer", "http://there/"), ("User-Agent", "curl/8.0 (x; y)")];
        let before = std::time::SystemTime::now();
        Client::connect(switchyard.addr(0)).request("GET", "web", "/a/b?c=d", &headers, b"");
        let line = lines(&log(&switchyard), 1).remove(0);
        let (head, rest) = line.split_once(" - - [").expect("the columns of Linkerd");
        let (time, rest) = rest.split_once("] ").expect("a time");
        assert_eq!(head, "web 127.0.0.1");
        assert_eq!(rest, r#""GET /a/b?c=d HTTP/1.1" 200 5 "http://there/" "curl/8.0 (x; y)""#);
        let began = before.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        let possible: Vec<String> = (began..began + 60).map(|at| date(zone, &format!("@{at}"))).collect();
        assert!(possible.iter().any(|known| known == time), "{time} is not in {possible:?}");
    }
}

#[test]
fn without_the_key_there_is_no_file() {
    let web = Backend::text("hello");
    let switchyard = start(&["originator: false"], &web);
    assert_eq!(get(switchyard.addr(0), "web").status, 200);
    switchyard.await_metric(
        "rt/http/server/127.0.0.1/@/requests".replace('@', &switchyard.port(0).to_string()).as_str(),
        1.0,
    );
    let names: Vec<_> = std::fs::read_dir(switchyard.folder()).expect("a folder").flatten().collect();
    assert_eq!(names.len(), 4, "{names:?}");
}

#[test]
fn json_says_where_a_request_went_and_how_large_it_was() {
    let asked = AtomicUsize::new(0);
    let web = Backend::with(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::status(503),
        _ => Reply::text("x".repeat(10_000)).chunked(),
    });
    let retry = "service: { responseClassifier: { kind: io.l5d.http.retryableAll5XX } }";
    let switchyard = start(&[LOG, JSON, retry], &web);
    Client::connect(switchyard.addr(0)).request("POST", "web", "/x", &[], b"1234");
    let line = only(&switchyard);
    for (key, wanted) in [
        ("router", Value::from("http")),
        ("server", format!("127.0.0.1/{}", switchyard.port(0)).into()),
        ("method", "POST".into()),
        ("target", "/x".into()),
        ("version", "HTTP/1.1".into()),
        ("host", "web".into()),
        ("referer", Value::Null),
        ("status", 200.into()),
        ("contentLength", Value::Null),
        ("requestBytes", 4.into()),
        ("responseBytes", 10_000.into()),
        ("service", "/svc/web".into()),
        ("client", "/#/io.l5d.fs/web".into()),
        ("endpoint", web.addr().to_string().into()),
        ("retries", 1.into()),
        ("failure", Value::Null),
    ] {
        assert_eq!(line[key], wanted, "{key} in {line}");
    }
    assert!(line["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{line}");
    let (latency, duration) = (line["latencyMs"].as_f64().unwrap_or(-1.0), line["durationMs"].as_f64().unwrap_or(-1.0));
    assert!((0.0..=duration).contains(&latency) && duration < 60_000.0, "{line}");
}

/// Linkerd 1 says nothing of requests that reach no service.
#[test]
fn requests_that_fail_are_logged_with_the_class_of_the_metrics() {
    let dead = Backend::text("never");
    let switchyard = start(&[LOG, JSON], &dead);
    dead.kill();
    let mut client = Client::connect(switchyard.addr(0));
    for (host, status, class, concrete) in [
        ("nobody", 502, "com.twitter.finagle.NoBrokersAvailableException", Value::Null),
        ("web", 502, "com.twitter.finagle.ConnectionFailedException", "/#/io.l5d.fs/web".into()),
        ("a@b", 400, "io.buoyant.router.RoutingFactory$UnknownDst", Value::Null),
    ] {
        let answer = client.get(host, "/");
        assert_eq!(answer.status, status);
        let line = only(&switchyard);
        assert_eq!((&line["status"], &line["failure"], &line["client"]), (&status.into(), &class.into(), &concrete));
        assert_eq!(line["responseBytes"], answer.body.len(), "{line}");
        std::fs::write(log(&switchyard), "").expect("it can be emptied");
    }
}

#[test]
fn a_client_that_goes_away_is_no_success() {
    let web = Backend::with(|_| Reply::text("x".repeat(20 << 20)));
    let switchyard = start(&[LOG, JSON], &web);
    let mut client = Client::connect(switchyard.addr(0));
    client.send_raw(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n");
    let mut byte = [0];
    std::io::Read::read_exact(&mut client.socket(), &mut byte).expect("it has begun");
    drop(client);
    let line = only(&switchyard);
    assert_eq!((&line["status"], &line["contentLength"]), (&200.into(), &(20 << 20).into()), "{line}");
    assert_eq!(line["failure"], "com.twitter.finagle.CancelledRequestException", "{line}");
    assert!(line["responseBytes"].as_u64().is_some_and(|bytes| bytes < 20 << 20), "{line}");
}

/// Lessons, 1.3.6.
#[test]
fn several_routers_may_share_a_file() {
    let second = "- protocol: http\n  label: second\n  servers: [{ port: @P1@ }]\n  httpAccessLog: '@DISCO@/.././access.log'\n  dtab: /svc => /#/io.l5d.fs\n";
    let switchyard = Switchyard::start(&format!("{}{second}", with(&[LOG])));
    let web = Backend::text("hello");
    switchyard.disco().set("web", &[web.addr()]);
    std::thread::scope(|scope| {
        for port in 0..2 {
            let addr = switchyard.addr(port);
            scope.spawn(move || {
                let mut client = Client::connect(addr);
                (0..200).for_each(|_| assert_eq!(client.get("web", "/").status, 200));
            });
        }
    });
    let found = lines(&log(&switchyard), 400);
    assert!(found.iter().all(|line| line.starts_with("web 127.0.0.1 ") && line.ends_with(r#"200 5 "-" "-""#)));
}

/// Attack X8. Control characters but tabs are refused before (400); the rest is escaped.
#[test]
fn nothing_a_client_sends_forges_a_line() {
    let web = Backend::text("hello");
    let hostile = "x\" 200 5 \"-\" \"\\\t\u{202e}evil\u{85}\u{9b}31m";
    for format in ["linkerd", "json"] {
        let switchyard = start(&[LOG, &format!("httpAccessLogFormat: {format}")], &web);
        let mut client = Client::connect(switchyard.addr(0));
        let head = format!("GET /\"\\x HTTP/1.1\r\nHost: web\r\nReferer: {hostile}\r\nUser-Agent: ");
        client.send_raw(&[head.as_bytes(), b"\xff\xfe\r\n\r\n"].concat());
        assert_eq!(client.read_response(false).map(|response| response.status).ok(), Some(200));
        let line = lines(&log(&switchyard), 1).remove(0);
        assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line:?}");
        if format == "linkerd" {
            let end = r#""GET /\x22\x5cx HTTP/1.1" 200 5 "x\x22 200 5 \x22-\x22 \x22\x5c\x09\xe2\x80\xaeevil\xc2\x85\xc2\x9b31m" "\xff\xfe""#;
            assert!(line.ends_with(end), "{line}");
        } else {
            let line: Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!((line["referer"].as_str(), line["target"].as_str()), (Some(hostile), Some("/\"\\x")));
        }
    }
}

#[test]
fn a_size_begins_new_files_of_which_some_are_kept() {
    let web = Backend::text("hello");
    let keys = [LOG, "httpAccessLogRollPolicy: 1.kilobyte", "httpAccessLogRotateCount: 3"];
    let switchyard = start(&keys, &web);
    let mut client = Client::connect(switchyard.addr(0));
    (0..100).for_each(|_| assert_eq!(client.get("web", "/").status, 200));
    let folder = switchyard.folder().to_owned();
    switchyard.signal_term();
    let names = || {
        let entries = std::fs::read_dir(&folder).expect("a folder").flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| name.starts_with("access"));
        names
    };
    let found = eventually("four files", SOON, || Some(names()).filter(|found| found.len() == 4));
    for name in &found {
        let size = std::fs::metadata(folder.join(name)).expect("a file").len();
        assert!(size <= 1024, "{name} has {size} bytes");
        // access-20260302-090807.log, and -1 behind it when two began in one second.
        let rotated = name.strip_prefix("access-").and_then(|rest| rest.strip_suffix(".log"));
        let time = rotated.map(|rest| rest.split('-').map(str::len).take(2).collect::<Vec<_>>());
        assert!(name == "access.log" || time == Some(vec![8, 6]), "{name}");
    }
}

/// Three routers on the ports 0, 1 and 2, whose files end with the hour, the day, and on this day of the week.
fn by_time(weekday: u32) -> String {
    let router = |n: u32, label: &str, policy: &str| {
        format!(
            "- protocol: http\n  label: {label}\n  servers: [{{ port: @P{n}@ }}]\n  dtab: /svc => /#/io.l5d.fs\n  \
             httpAccessLog: '@DISCO@/../{label}.log'\n  httpAccessLogRollPolicy: {policy}\n"
        )
    };
    let (top, _) = FS_CONFIG.split_once("routers:").expect("routers");
    let weekly = format!("weekly({weekday})");
    format!("{top}routers:\n{}{}{}", router(0, "hour", "hourly"), router(1, "day", "daily"), router(2, "week", &weekly))
}

/// What `date` says of a time in seconds since 1970.
fn local(zone: &str, seconds: u64, format: &str) -> String {
    let command = Command::new("date").env("TZ", zone).args(["-d", &format!("@{seconds}"), format]).output();
    String::from_utf8(command.expect("date runs").stdout).expect("text").trim().to_owned()
}

/// Nobody waits for midnight: the time zone of the process is such that it comes in a few seconds. False when it came
/// before the story was ready for it.
fn midnight_begins_new_files(seconds: u64) -> bool {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let (begun, midnight) = (now(), now() + seconds);
    // POSIX counts west of Greenwich, and so do seconds since a midnight there.
    let west = midnight % 86_400;
    let zone = format!("SWY{:02}:{:02}:{:02}", west / 3600, west / 60 % 60, west % 60);
    let weekday = local(&zone, midnight, "+%w").parse::<u32>().expect("a day") + 1;
    let web = Backend::text("hello");
    let switchyard = Switchyard::start_in(&by_time(weekday), &[], &[("TZ", &zone)]);
    switchyard.disco().set("web", &[web.addr()]);
    let ask = |path: &str| {
        (0..3).for_each(|n| assert_eq!(Client::connect(switchyard.addr(n)).get("web", path).status, 200));
    };
    ask("/before");
    let file = |name: &str| switchyard.folder().join(format!("{name}.log"));
    for name in ["hour", "day", "week"] {
        lines(&file(name), 1);
    }
    if now() >= midnight {
        return false;
    }
    eventually("it is midnight", 4 * SOON, || (now() >= midnight).then_some(()));
    ask("/after");
    for (name, format) in [("hour", "+%Y%m%d-%H"), ("day", "+%Y%m%d"), ("week", "+%Y%m%d")] {
        let old = file(&format!("{name}-{}", local(&zone, begun, format)));
        eventually(&format!("{} is there", old.display()), SOON, || old.exists().then_some(()));
        assert!(lines(&old, 1)[0].contains("GET /before "), "{name}");
        assert!(lines(&file(name), 1)[0].contains("GET /after "), "{name}");
    }
    true
}

#[test]
fn an_hour_a_day_and_a_week_begin_new_files() {
    let done = [4, 8, 16, 64].into_iter().any(midnight_begins_new_files);
    assert!(done, "the machine is too busy to be ready within 64 seconds");
}

/// What `logrotate` does.
#[test]
fn a_signal_opens_the_file_anew() {
    let web = Backend::text("hello");
    let mut switchyard = start(&[LOG, "httpAccessLogRollPolicy: sighup", "httpAccessLogAppend: false"], &web);
    let path = log(&switchyard);
    let mut client = Client::connect(switchyard.addr(0));
    for (n, signal) in ["HUP", "USR1", "HUP"].into_iter().enumerate() {
        let moved = switchyard.folder().join(format!("moved.{n}"));
        client.get("web", "/before");
        lines(&path, 1);
        std::fs::rename(&path, &moved).expect("it can be moved");
        client.get("web", "/between");
        assert_eq!(lines(&moved, 2).len(), 2);
        switchyard.signal(signal);
        eventually("the file is there again", SOON, || path.exists().then_some(()));
        client.get("web", "/after");
        assert!(lines(&path, 1)[0].contains("GET /after "));
        std::fs::write(&path, "").expect("it can be emptied");
    }
    assert!(switchyard.is_running());
}

#[test]
fn what_was_answered_before_the_end_is_in_the_file() {
    let web = Backend::text("hello");
    let switchyard = start(&[LOG], &web);
    let mut client = Client::connect(switchyard.addr(0));
    (0..500).for_each(|_| assert_eq!(client.get("web", "/").status, 200));
    drop(client);
    // The folder goes with the process; the file itself stays while it is open.
    let file = std::fs::File::open(log(&switchyard)).expect("the file");
    switchyard.signal_term();
    assert!(switchyard.wait_exit(SOON).success());
    assert_eq!(std::io::read_to_string(file).expect("text").lines().count(), 500);
}

fn counted(switchyard: &Switchyard, name: &str) -> f64 {
    let page = switchyard.page("/admin/metrics/prometheus").text();
    let values = page
        .lines()
        .filter(|line| line.starts_with(name))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum::<f64>()
}

/// Attack M3: without room for logs requests are served as before, and it is told once, not per line.
#[test]
fn a_disk_without_room_costs_lines_only() {
    let web = Backend::text("hello");
    let switchyard = Switchyard::start(&with(&["httpAccessLog: /dev/full", "httpAccessLogRollPolicy: 10.bytes"]));
    switchyard.disco().set("web", &[web.addr()]);
    let mut client = Client::connect(switchyard.addr(0));
    let long = format!("/{}", "x".repeat(4000));
    (0..600).for_each(|_| assert_eq!(client.get("web", &long).status, 200));
    eventually("lines are dropped", SOON, || (counted(&switchyard, "access_log_dropped_total") > 0.0).then_some(()));
    assert!(counted(&switchyard, "access_log_errors_total") > 0.0);
    let told = switchyard.log().matches("cannot write the access log").count();
    assert_eq!(told, 1, "{}", switchyard.log());
    switchyard.signal_term();
    assert!(switchyard.wait_exit(SOON).success());
}

/// The same with a reader that stands still: what waits is bounded, and is written when it goes on.
#[test]
fn what_waits_to_be_written_stays_at_its_bound() {
    let (web, folder) = (Backend::text("hello"), tempfile::tempdir().expect("a folder"));
    let pipe = folder.path().join("access.pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let opening = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::File::open(pipe).expect("the pipe opens")
    });
    let switchyard = start(&[&format!("httpAccessLog: {}", pipe.display()), "httpAccessLogQueueKB: 20"], &web);
    let mut reader = opening.join().expect("no panic");
    let mut client = Client::connect(switchyard.addr(0));
    let long = format!("/{}", "x".repeat(3000));
    let queued = || counted(&switchyard, "access_log_queued_bytes{");
    // Lines may be dropped, and all others written, before the pipe is full.
    eventually("lines are dropped, and others wait", 2 * SOON, || {
        (0..50).for_each(|_| assert_eq!(client.get("web", &long).status, 200));
        (counted(&switchyard, "access_log_dropped_total") > 0.0 && queued() >= 3000.0).then_some(())
    });
    assert_eq!(counted(&switchyard, "access_log_queued_bytes_limit{"), 20_480.0);
    assert!(queued() <= 20_480.0, "{}", queued());
    std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    eventually("all is written", SOON, || (queued() == 0.0).then_some(()));
    let dropped = counted(&switchyard, "access_log_dropped_total");
    assert_eq!(client.get("web", &long).status, 200);
    assert_eq!(counted(&switchyard, "access_log_dropped_total"), dropped, "there is room again");
}

/// A small file system in memory, where the system lets us have one; gone with this.
struct Tiny(tempfile::TempDir);

impl Tiny {
    fn mount() -> Option<Tiny> {
        let folder = tempfile::tempdir().expect("a folder");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=32k", "tmpfs"]).arg(folder.path()).output();
        mount.is_ok_and(|done| done.status.success()).then(|| Tiny(folder))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        // Lazily: the router may still have a file open there.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Attack M3: when there is room again, lines are written again, whole ones.
#[test]
fn a_disk_that_was_full_is_used_again() {
    let Some(tiny) = Tiny::mount() else {
        return eprintln!("left out: this system mounts nothing for us; /dev/full is tried in any case");
    };
    let web = Backend::text("hello");
    let path = tiny.0.path().join("access.log");
    let switchyard = Switchyard::start(&with(&[&format!("httpAccessLog: {}", path.display())]));
    switchyard.disco().set("web", &[web.addr()]);
    let ballast = tiny.0.path().join("ballast");
    std::fs::write(&ballast, vec![0; 24 * 1024]).expect("there is room");
    let mut client = Client::connect(switchyard.addr(0));
    eventually("the disk is full", SOON, || {
        (0..20).for_each(|_| assert_eq!(client.get("web", "/").status, 200));
        (counted(&switchyard, "access_log_errors_total") > 0.0).then_some(())
    });
    let before = web.count();
    std::fs::remove_file(&ballast).expect("it can be removed");
    let found = eventually("all lines are there", SOON, || Some(read(&path)).filter(|found| found.len() == before));
    assert!(found.iter().all(|line| line.starts_with("web 127.0.0.1 ") && line.ends_with(r#"200 5 "-" "-""#)));
    assert!(switchyard.log().contains("the access log is written again"));
}
