//! The keys of access logs and of bodies: values, defaults, what is refused.

use super::{bad, good, good_router, one, router};
use crate::config::Compression;
use std::path::Path;
use telemetry::{AccessLogOptions, LogFormat, RollPolicy};

#[test]
fn access_logs() {
    assert_eq!(good_router("").access_log, None);
    let plain = good_router("httpAccessLog: logs/access.log").access_log.expect("a log");
    assert_eq!((plain.path.as_path(), plain.format), (Path::new("logs/access.log"), LogFormat::Linkerd));
    assert_eq!(
        plain.options,
        AccessLogOptions { policy: RollPolicy::Never, append: true, rotate_count: None, queue_bytes: 8 << 20 }
    );
    let full = good_router(
        "httpAccessLog: /dev/stdout\nhttpAccessLogRollPolicy: 20.Megabytes\nhttpAccessLogAppend: false\n\
         httpAccessLogRotateCount: 3\nhttpAccessLogFormat: json\nhttpAccessLogQueueKB: 20",
    );
    let full = full.access_log.expect("a log");
    assert_eq!(full.format, LogFormat::Json);
    let wanted = AccessLogOptions {
        policy: RollPolicy::Size(20 << 20),
        append: false,
        rotate_count: Some(3),
        queue_bytes: 20 << 10,
    };
    assert_eq!(full.options, wanted);
    for (lines, part) in [
        ("httpAccessLog: ''", "routers[0].httpAccessLog: `` is not the name of a file"),
        ("httpAccessLog: logs/", "is not the name of a file"),
        (
            "httpAccessLog: a\nhttpAccessLogRollPolicy: weekly(8)",
            "`weekly(8)` is not a roll policy; expected one of: never",
        ),
        ("httpAccessLog: a\nhttpAccessLogRollPolicy: 5", "is not a roll policy"),
        ("httpAccessLog: a\nhttpAccessLogRotateCount: -2", "-2 is out of range"),
        ("httpAccessLog: a\nhttpAccessLogQueueKB: 0", "0 is out of range; expected a whole number from 1 to 1048576"),
        ("httpAccessLog: a\nhttpAccessLogAppend: maybe", "`maybe` is not a boolean"),
        ("httpAccessLogFormat: xml", "`xml` is not a format of access logs; expected one of: linkerd, json"),
        ("accessLog: a", "did you mean `httpAccessLog`?"),
    ] {
        one(&router(lines), part);
    }
}

/// Lessons, 1.3.6: several routers, one file.
#[test]
fn routers_may_share_a_file_when_they_keep_it_alike() {
    let two = |first: &str, second: &str| {
        let head = "- protocol: http\n  servers: [{port: 0}]\n";
        format!("routers:\n{head}  label: a\n  httpAccessLog: {first}\n{head}  label: b\n  httpAccessLog: {second}\n")
    };
    assert_eq!(good(&two("logs/a.log", "./logs//a.log")).routers.len(), 2);
    assert_eq!(good(&two("a.log", "b.log\n  httpAccessLogFormat: json")).routers.len(), 2);
    let found = bad(&two("a.log", "./a.log\n  httpAccessLogRollPolicy: daily"));
    let part = "routers[1].httpAccessLog: the same file as routers[0].httpAccessLog, with other settings";
    assert!(found.len() == 1 && found[0].contains(part), "{found:?}");
}

#[test]
fn compression_and_buffering() {
    for (line, wanted) in [
        ("", None),
        ("compressionLevel: 0", None),
        ("compressionLevel: -1", Some(Compression::Textual)),
        ("compressionLevel: 1", Some(Compression::All(1))),
        ("compressionLevel: 9", Some(Compression::All(9))),
    ] {
        assert_eq!(good_router(line).compression, wanted, "{line}");
    }
    for (line, bytes) in [("", 5), ("streamAfterContentLengthKB: 0", 0), ("streamAfterContentLengthKB: 64", 64)] {
        assert_eq!(good_router(line).buffered_bytes, bytes * 1024, "{line}");
    }
}
