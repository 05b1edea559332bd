//! Tests of the writer with real files: sharing, rotation, reopening, what cannot be written.

use super::*;
use jiff::civil::{DateTime, date};
use std::cell::Cell;
use std::sync::Barrier;
use std::time::SystemTime;

const SOON: Duration = Duration::from_secs(60);

fn record(target: &str) -> RequestRecord<'_> {
    RequestRecord {
        end: SystemTime::now(),
        router: "http",
        server: "127.0.0.1/4140",
        peer: ([127, 0, 0, 1], 1).into(),
        method: "GET",
        target: target.as_bytes(),
        version: "HTTP/1.1",
        host: Some(b"web"),
        referer: None,
        user_agent: None,
        status: Some(200),
        grpc_status: None,
        content_length: None,
        request_bytes: 0,
        response_bytes: 0,
        service: None,
        client: None,
        endpoint: None,
        retries: 0,
        latency: Duration::ZERO,
        duration: Duration::ZERO,
        failure: None,
    }
}

fn open(path: &Path, options: AccessLogOptions) -> AccessLog {
    AccessLog::open(path, LogFormat::Linkerd, options).expect("the log opens")
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Lessons, 1.3.6: several routers, one file.
#[test]
fn one_file_has_one_writer_and_whole_lines() {
    let folder = folder();
    let path = folder.path().join("a.log");
    let one = open(&path, AccessLogOptions::default());
    let alias = folder.path().join(".").join("a.log");
    std::os::unix::fs::symlink(&path, folder.path().join("link.log")).expect("a link");
    let (two, three) =
        (open(&alias, AccessLogOptions::default()), open(&folder.path().join("link.log"), AccessLogOptions::default()));
    assert!(Arc::ptr_eq(&one.file, &two.file) && Arc::ptr_eq(&one.file, &three.file));
    let start = Barrier::new(2);
    std::thread::scope(|scope| {
        for log in [&one, &two] {
            scope.spawn(|| {
                start.wait();
                (0..2000).for_each(|_| log.record(&record("/x")));
            });
        }
    });
    one.file.flush(Instant::now() + SOON);
    let text = std::fs::read_to_string(&path).expect("the file");
    assert_eq!(text.lines().count(), 4000);
    assert!(text.lines().all(|line| line.starts_with("web 127.0.0.1 ") && line.ends_with(r#"200 - "-" "-""#)));
    let other = open(&folder.path().join("b.log"), AccessLogOptions::default());
    assert!(!Arc::ptr_eq(&one.file, &other.file));
}

#[test]
fn the_last_handle_writes_what_is_left() {
    let folder = folder();
    let path = folder.path().join("a.log");
    let log = open(&path, AccessLogOptions::default());
    (0..1000).for_each(|_| log.record(&record("/x")));
    drop(log);
    let started = Instant::now();
    while lines(&path) < 1000 {
        assert!(started.elapsed() < SOON, "{} lines", lines(&path));
        std::thread::yield_now();
    }
}

#[test]
fn a_size_begins_new_files_and_the_count_removes_old_ones() {
    let folder = folder();
    let path = folder.path().join("a.log");
    std::fs::write(folder.path().join("a-other.log"), "not ours").expect("a file");
    let options =
        AccessLogOptions { policy: RollPolicy::Size(200), rotate_count: Some(2), ..AccessLogOptions::default() };
    let log = open(&path, options);
    for _ in 0..40 {
        log.record(&record("/x"));
        log.file.flush(Instant::now() + SOON);
        assert!(std::fs::metadata(&path).expect("the file").len() <= 200);
    }
    let names = names(folder.path());
    let old: Vec<_> = names.iter().filter(|name| policy::is_rotated("a.log", name)).collect();
    assert_eq!(old.len(), 2, "{names:?}");
    assert!(names.iter().any(|name| name == "a-other.log"), "{names:?}");
    assert!(old.iter().all(|name| lines(&folder.path().join(name)) == 2), "{names:?}");
}

thread_local! {
    /// What the clock of a writer of this thread says.
    static NOW: Cell<Timestamp> = const { Cell::new(Timestamp::UNIX_EPOCH) };
}

fn uncounted() -> Counters {
    let (none, gauge) = (metrics::Counter::noop, metrics::Gauge::noop);
    Counters { dropped: none(), errors: none(), queued: gauge(), limit: gauge() }
}

/// A writer whose clock is [`NOW`], to be driven without its thread.
fn writer(path: &Path, options: AccessLogOptions) -> Writer {
    Writer::open(path, options, Arc::default(), uncounted(), || NOW.get()).expect("the log opens")
}

/// Sets the clock to a local time.
fn set_clock(time: DateTime) {
    NOW.set(time.to_zoned(policy::zone()).expect("a time").timestamp());
}

/// Writes a line that says when it was written, at each of these times; then all files with what is in them.
fn logged(options: AccessLogOptions, times: &[DateTime]) -> Vec<(String, String)> {
    let folder = folder();
    let path = folder.path().join("a.log");
    let (_queue, messages) = mpsc::channel();
    set_clock(times[0]);
    let mut writer = writer(&path, options);
    for time in times {
        set_clock(*time);
        writer.take_all(Message::Line(format!("{} ", time.strftime("%d-%H:%M")).into_bytes()), &messages);
    }
    let read = |name: String| {
        let text = std::fs::read_to_string(folder.path().join(&name)).expect("the file");
        (name, text)
    };
    names(folder.path()).into_iter().map(read).collect()
}

/// Config reference §5.1: the time decides, and nothing is lost or written twice.
#[test]
fn an_hour_a_day_or_a_week_begins_a_new_file() {
    // A Monday. The file is opened at the first of these times.
    let at = |day: i8, hour: i8, minute: i8| date(2026, 3, day).at(hour, minute, 0, 0);
    for (policy, times, wanted) in [
        (
            RollPolicy::Hourly,
            vec![at(2, 9, 30), at(2, 9, 59), at(2, 10, 0), at(2, 10, 1), at(2, 13, 5), at(3, 13, 6)],
            vec![
                ("a-20260302-09.log", "02-09:30 02-09:59 "),
                ("a-20260302-10.log", "02-10:00 02-10:01 "),
                ("a-20260302-13.log", "02-13:05 "),
                ("a.log", "03-13:06 "),
            ],
        ),
        (
            RollPolicy::Daily,
            vec![at(2, 9, 30), at(2, 23, 59), at(3, 0, 0), at(3, 23, 59), at(6, 12, 0)],
            vec![
                ("a-20260302.log", "02-09:30 02-23:59 "),
                ("a-20260303.log", "03-00:00 03-23:59 "),
                ("a.log", "06-12:00 "),
            ],
        ),
        (
            // Sundays.
            RollPolicy::Weekly(1),
            vec![at(2, 9, 30), at(7, 23, 59), at(8, 0, 0), at(14, 23, 59), at(15, 0, 1)],
            vec![
                ("a-20260302.log", "02-09:30 07-23:59 "),
                ("a-20260308.log", "08-00:00 14-23:59 "),
                ("a.log", "15-00:01 "),
            ],
        ),
        (RollPolicy::Never, vec![at(2, 9, 30), at(30, 9, 30)], vec![("a.log", "02-09:30 30-09:30 ")]),
    ] {
        let found = logged(AccessLogOptions { policy, ..AccessLogOptions::default() }, &times);
        let found: Vec<(&str, &str)> = found.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert_eq!(found, wanted, "{policy:?}");
    }
}

#[test]
fn of_the_files_of_past_days_as_many_stay_as_the_count_says() {
    let days: Vec<DateTime> = (1..=9).map(|day| date(2026, 3, day).at(12, 0, 0, 0)).collect();
    let options = AccessLogOptions { policy: RollPolicy::Daily, rotate_count: Some(2), ..AccessLogOptions::default() };
    let found = logged(options, &days);
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a-20260307.log", "a-20260308.log", "a.log"]);
}

/// A folder that takes no new name costs no line: the old file goes on, and the next try comes a minute later.
#[test]
fn a_file_that_cannot_give_way_goes_on() {
    let folder = folder();
    let path = folder.path().join("a.log");
    let (_queue, messages) = mpsc::channel();
    let line = |writer: &mut Writer, hour: i8, minute: i8| {
        set_clock(date(2026, 3, 2).at(hour, minute, 0, 0));
        writer.take_all(Message::Line(format!("{hour}:{minute:02} ").into_bytes()), &messages);
    };
    set_clock(date(2026, 3, 2).at(9, 0, 0, 0));
    let mut writer = writer(&path, AccessLogOptions { policy: RollPolicy::Hourly, ..AccessLogOptions::default() });
    line(&mut writer, 9, 1);
    let moved = folder.path().with_extension("moved");
    std::fs::rename(folder.path(), &moved).expect("the folder can be moved");
    line(&mut writer, 10, 0);
    std::fs::rename(&moved, folder.path()).expect("and back");
    line(&mut writer, 10, 0);
    assert_eq!(names(folder.path()), ["a.log"], "not tried again at once");
    line(&mut writer, 10, 1);
    assert_eq!(names(folder.path()), ["a-20260302-09.log", "a.log"]);
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("the file");
    assert_eq!((read("a-20260302-09.log"), read("a.log")), ("9:01 10:00 10:00 ".into(), "10:01 ".into()));
}

#[test]
fn all_old_files_stay_by_default_and_no_name_is_used_twice() {
    let folder = folder();
    let path = folder.path().join("a.log");
    let log = open(&path, AccessLogOptions { policy: RollPolicy::Size(1), ..AccessLogOptions::default() });
    (0..25).for_each(|_| log.record(&record("/x")));
    log.file.flush(Instant::now() + SOON);
    let names = names(folder.path());
    assert_eq!(names.len(), 25, "{names:?}");
    assert!(names.iter().all(|name| lines(&folder.path().join(name)) == 1));
}

#[test]
fn reopening_follows_a_file_that_was_moved() {
    let folder = folder();
    let (path, moved) = (folder.path().join("a.log"), folder.path().join("a.log.1"));
    let log = open(&path, AccessLogOptions { append: false, ..AccessLogOptions::default() });
    log.record(&record("/1"));
    log.file.flush(Instant::now() + SOON);
    std::fs::rename(&path, &moved).expect("it can be moved");
    log.record(&record("/2"));
    log.file.flush(Instant::now() + SOON);
    assert_eq!((lines(&moved), path.exists()), (2, false), "until the signal, the old file is written");
    reopen_all();
    log.record(&record("/3"));
    log.file.flush(Instant::now() + SOON);
    reopen_all();
    log.record(&record("/4"));
    log.file.flush(Instant::now() + SOON);
    assert_eq!((lines(&moved), lines(&path)), (2, 2), "`append: false` truncates at start only");
}

#[test]
fn append_decides_what_stays_at_the_start() {
    let folder = folder();
    let path = folder.path().join("a.log");
    for (append, kept) in [(true, 2), (false, 1)] {
        std::fs::write(&path, "old\n").expect("a file");
        let log = open(&path, AccessLogOptions { append, ..AccessLogOptions::default() });
        log.record(&record("/x"));
        log.file.flush(Instant::now() + SOON);
        assert_eq!(lines(&path), kept, "append: {append}");
    }
}

#[test]
fn opening_says_why_it_fails() {
    let folder = folder();
    let error = |path: &Path| {
        let opened = AccessLog::open(path, LogFormat::Json, AccessLogOptions::default());
        opened.err().expect("it fails").kind()
    };
    assert_eq!(error(&folder.path().join("missing").join("a.log")), io::ErrorKind::NotFound);
    assert_eq!(error(folder.path()), io::ErrorKind::IsADirectory);
}

/// Attack M3: a disk that is full costs lines, and neither memory nor time of those who record.
#[test]
fn a_full_disk_loses_lines_and_nothing_else() {
    let log =
        open(Path::new("/dev/full"), AccessLogOptions { policy: RollPolicy::Size(10), ..AccessLogOptions::default() });
    let long = "/x".repeat(5_000);
    let started = Instant::now();
    (0..20_000).for_each(|_| log.record(&record(&long)));
    assert!(started.elapsed() < Duration::from_secs(120), "{:?}", started.elapsed());
    log.file.flush(Instant::now() + SOON);
    assert!(log.file.shared.queued.load(Ordering::Relaxed) <= AccessLogOptions::default().queue_bytes);
}

#[test]
fn lines_beyond_the_queue_are_dropped() {
    let (queue, messages) = mpsc::channel();
    let (shared, path) = (Arc::new(Shared::default()), PathBuf::from("none"));
    let handle = Handle { path, queue, shared: shared.clone(), counters: uncounted() };
    let queued = || shared.queued.load(Ordering::Relaxed);
    handle.limit(1000);
    handle.push(vec![0; 1000]);
    assert_eq!((queued(), messages.try_recv().is_err()), (0, true), "too many bytes");
    (0..50).for_each(|_| handle.push(vec![0; 10]));
    assert_eq!((queued(), messages.try_iter().count()), (13 * 74, 13), "many small lines take memory too");
    handle.limit(13 * 74 + 100);
    (0..50).for_each(|_| handle.push(vec![0; 10]));
    assert_eq!(messages.try_iter().count(), 1, "another limit holds from then on");
}

/// A writer that stands still is not sent more and more of the same.
#[test]
fn a_writer_is_woken_once() {
    let (queue, messages) = mpsc::channel();
    let handle =
        Handle { path: PathBuf::from("none"), queue, shared: Arc::new(Shared::default()), counters: uncounted() };
    (0..5).for_each(|_| handle.wake());
    assert_eq!(messages.try_iter().count(), 1);
}
