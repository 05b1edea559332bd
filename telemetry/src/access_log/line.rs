//! The forms of a line: the two of Linkerd 1 (data-plane reference §6.10) and JSON.
//!
//! What it is for: a record as one line of printable ASCII, whatever a client sent (attack X8): control characters,
//! quotes, backslashes and all that is not ASCII, bidirectional marks among it, are escaped. What it is not: writing.
//! Called by: [`crate::AccessLog::record`] on the thread of the request; what depends on the second is kept per thread.

use super::policy;
use crate::{RequestRecord, grpc_status_name};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::cell::RefCell;
use std::fmt::Arguments;
use std::io::Write as _;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

/// The form of the lines of an access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `<Host> <remote ip> - - [dd/MM/yyyy:HH:mm:ss zone] "<METHOD> <uri> <protocol>" <status> <content-length|->
    /// "<Referer|->" "<User-Agent|->"`, as Linkerd 1 writes it.
    #[default]
    Linkerd,
    /// The same as Linkerd 1 writes it for routers of HTTP/2: the time is that of UTC with the zone `+0000`, and the
    /// length of the response always `-`.
    LinkerdH2,
    /// One JSON object per line.
    Json,
}

/// The second that was written last, and its texts.
struct Second {
    unix: i64,
    /// `02/03/2026:09:08:07 CET`.
    linkerd: String,
    /// `02/03/2026:08:08:07 +0000`.
    linkerd_h2: String,
    /// `2026-03-02T09:08:07`, and `+01:00`.
    rfc3339: (String, String),
}

impl Second {
    const NONE: Second = Second {
        unix: i64::MIN,
        linkerd: String::new(),
        linkerd_h2: String::new(),
        rfc3339: (String::new(), String::new()),
    };
}

thread_local! {
    static SECOND: RefCell<Second> = const { RefCell::new(Second::NONE) };
}

/// Runs `f` with the texts of the second and the milliseconds of `time`.
fn with_second(time: SystemTime, f: impl FnOnce(&Second, u32)) {
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let unix = i64::try_from(since.as_secs()).unwrap_or_default();
    SECOND.with_borrow_mut(|second| {
        if second.unix != unix {
            let time = Timestamp::from_second(unix).unwrap_or_default();
            let zoned = time.to_zoned(ZONE.get_or_init(policy::zone).clone());
            second.unix = unix;
            second.linkerd = zoned.strftime("%d/%m/%Y:%H:%M:%S %Z").to_string();
            second.linkerd_h2 = time.strftime("%d/%m/%Y:%H:%M:%S +0000").to_string();
            second.rfc3339 = (zoned.strftime("%Y-%m-%dT%H:%M:%S").to_string(), zoned.strftime("%:z").to_string());
        }
        f(second, since.subsec_millis());
    });
}

/// Appends the line of `record`, its end included, to `out`.
pub(super) fn write(format: LogFormat, record: &RequestRecord<'_>, out: &mut Vec<u8>) {
    match format {
        LogFormat::Linkerd => linkerd(record, false, out),
        LogFormat::LinkerdH2 => linkerd(record, true, out),
        LogFormat::Json => json(record, out),
    }
    out.push(b'\n');
}

/// Appends formatted text.
fn put(out: &mut Vec<u8>, text: Arguments<'_>) {
    // Writing to a vector does not fail.
    let _ = out.write_fmt(text);
}

fn linkerd(record: &RequestRecord<'_>, h2: bool, out: &mut Vec<u8>) {
    match record.host.filter(|host| !host.is_empty()) {
        // A column of its own without quotes: a space would shift the others.
        Some(host) => escape(host, b' ', out),
        None => out.push(b'-'),
    }
    put(out, format_args!(" {} - - [", record.peer.ip().to_canonical()));
    with_second(record.end, |second, _| {
        let text = if h2 { &second.linkerd_h2 } else { &second.linkerd };
        out.extend_from_slice(text.as_bytes());
    });
    put(out, format_args!("] \"{} ", record.method));
    escape(record.target, b'"', out);
    put(out, format_args!(" {}\" ", record.version));
    number(record.status.map(u64::from), "-", out);
    out.push(b' ');
    number(record.content_length.filter(|_| !h2), "-", out);
    for value in [record.referer, record.user_agent] {
        out.extend_from_slice(b" \"");
        escape(value.unwrap_or(b"-"), b'"', out);
        out.push(b'"');
    }
}

fn number(value: Option<u64>, absent: &str, out: &mut Vec<u8>) {
    match value {
        Some(value) => put(out, format_args!("{value}")),
        None => out.extend_from_slice(absent.as_bytes()),
    }
}

/// Printable ASCII as it is; quotes, backslashes, `more` and all else as `\xHH`.
fn escape(bytes: &[u8], more: u8, out: &mut Vec<u8>) {
    for &byte in bytes {
        match byte {
            b' '..=b'~' if byte != b'"' && byte != b'\\' && byte != more => out.push(byte),
            _ => put(out, format_args!("\\x{byte:02x}")),
        }
    }
}

fn json(record: &RequestRecord<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"time\":\"");
    with_second(record.end, |second, millis| {
        let (time, offset) = &second.rfc3339;
        put(out, format_args!("{time}.{millis:03}{offset}\""));
    });
    let texts = [
        ("router", Some(record.router.as_bytes())),
        ("server", Some(record.server.as_bytes())),
        ("method", Some(record.method.as_bytes())),
        ("target", Some(record.target)),
        ("version", Some(record.version.as_bytes())),
        ("host", record.host),
        ("referer", record.referer),
        ("userAgent", record.user_agent),
        ("service", record.service.map(str::as_bytes)),
        ("client", record.client.map(str::as_bytes)),
        ("failure", record.failure.map(str::as_bytes)),
        ("grpcStatusName", record.grpc_status.and_then(grpc_status_name).map(str::as_bytes)),
    ];
    for (key, value) in texts {
        put(out, format_args!(",\"{key}\":"));
        string(value, out);
    }
    put(out, format_args!(",\"peer\":\"{}\",\"endpoint\":", record.peer));
    match record.endpoint {
        Some(endpoint) => put(out, format_args!("\"{endpoint}\"")),
        None => out.extend_from_slice(b"null"),
    }
    for (key, value) in [
        ("status", record.status.map(u64::from)),
        ("grpcStatus", record.grpc_status.map(u64::from)),
        ("contentLength", record.content_length),
        ("requestBytes", Some(record.request_bytes)),
        ("responseBytes", Some(record.response_bytes)),
        ("retries", Some(record.retries)),
    ] {
        put(out, format_args!(",\"{key}\":"));
        number(value, "null", out);
    }
    let (latency, duration) = (millis(record.latency), millis(record.duration));
    put(out, format_args!(",\"latencyMs\":{latency},\"durationMs\":{duration}}}"));
}

fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

/// A JSON string in ASCII, or null. Bytes that are not UTF-8 become U+FFFD.
fn string(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    let Some(bytes) = bytes else { return out.extend_from_slice(b"null") };
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                ' '..='~' => out.push(char as u8),
                _ => char.encode_utf16(&mut [0; 2]).iter().for_each(|unit| put(out, format_args!("\\u{unit:04x}"))),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record<'a>() -> RequestRecord<'a> {
        RequestRecord {
            end: SystemTime::UNIX_EPOCH + Duration::from_millis(1_772_442_487_042),
            router: "http",
            server: "127.0.0.1/4140",
            peer: ([10, 1, 2, 3], 4567).into(),
            method: "GET",
            target: b"/a?b=c",
            version: "HTTP/1.1",
            host: Some(b"web"),
            referer: None,
            user_agent: Some(b"curl/8"),
            status: Some(200),
            grpc_status: None,
            content_length: Some(5),
            request_bytes: 0,
            response_bytes: 5,
            service: Some("/svc/web"),
            client: Some("/#/io.l5d.fs/web"),
            endpoint: Some(([127, 0, 0, 1], 8001).into()),
            retries: 1,
            latency: Duration::from_micros(1_500),
            duration: Duration::from_millis(2),
            failure: None,
        }
    }

    fn line(format: LogFormat, record: &RequestRecord<'_>) -> String {
        let mut out = Vec::new();
        write(format, record, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    /// The zone of the test process is whatever it is; it is read off the line.
    fn split_time(line: &str) -> (String, String) {
        let (before, rest) = line.split_once('[').expect("a time");
        let (time, after) = rest.split_once(']').expect("its end");
        (format!("{before}[]{after}"), time.to_owned())
    }

    #[test]
    fn the_line_of_linkerd() {
        let (rest, time) = split_time(&line(LogFormat::Linkerd, &record()));
        assert_eq!(rest, "web 10.1.2.3 - - [] \"GET /a?b=c HTTP/1.1\" 200 5 \"-\" \"curl/8\"\n");
        let (clock, zone) = time.split_once(' ').expect("a zone");
        assert_eq!((clock.len(), &clock[5..11], zone.is_empty()), (19, "/2026:", false), "{time}");
    }

    #[test]
    fn the_line_of_linkerd_for_http2() {
        let record = RequestRecord { version: "HTTP/2", target: b"/pkg.Svc/Call", method: "POST", ..record() };
        let line = line(LogFormat::LinkerdH2, &record);
        let wanted =
            "web 10.1.2.3 - - [02/03/2026:09:08:07 +0000] \"POST /pkg.Svc/Call HTTP/2\" 200 - \"-\" \"curl/8\"\n";
        assert_eq!(line, wanted);
    }

    #[test]
    fn json_tells_the_status_of_a_grpc_call() {
        for (status, number, name) in [
            (None, serde_json::Value::Null, serde_json::Value::Null),
            (Some(0), 0.into(), "OK".into()),
            (Some(14), 14.into(), "UNAVAILABLE".into()),
            (Some(99), 99.into(), serde_json::Value::Null),
        ] {
            let record = RequestRecord { version: "HTTP/2", grpc_status: status, ..record() };
            let value: serde_json::Value = serde_json::from_str(&line(LogFormat::Json, &record)).expect("JSON");
            assert_eq!((&value["grpcStatus"], &value["grpcStatusName"]), (&number, &name));
            assert_eq!(value["version"], "HTTP/2");
        }
    }

    #[test]
    fn what_is_not_there_is_a_dash() {
        let bare = RequestRecord { host: None, user_agent: None, status: None, content_length: None, ..record() };
        let (rest, _) = split_time(&line(LogFormat::Linkerd, &bare));
        assert_eq!(rest, "- 10.1.2.3 - - [] \"GET /a?b=c HTTP/1.1\" - - \"-\" \"-\"\n");
    }

    #[test]
    fn json_has_every_field_every_time() {
        let value: serde_json::Value = serde_json::from_str(&line(LogFormat::Json, &record())).expect("JSON");
        let time = value["time"].as_str().expect("a time");
        assert_eq!(time.parse::<Timestamp>().map(|time| time.as_millisecond()).ok(), Some(1_772_442_487_042), "{time}");
        for (key, wanted) in [
            ("router", serde_json::json!("http")),
            ("server", "127.0.0.1/4140".into()),
            ("peer", "10.1.2.3:4567".into()),
            ("target", "/a?b=c".into()),
            ("referer", serde_json::Value::Null),
            ("userAgent", "curl/8".into()),
            ("status", 200.into()),
            ("contentLength", 5.into()),
            ("responseBytes", 5.into()),
            ("client", "/#/io.l5d.fs/web".into()),
            ("endpoint", "127.0.0.1:8001".into()),
            ("retries", 1.into()),
            ("latencyMs", 1.5.into()),
            ("durationMs", 2.into()),
            ("failure", serde_json::Value::Null),
        ] {
            assert_eq!(value[key], wanted, "{key}");
        }
        let bare = RequestRecord { host: None, status: None, service: None, endpoint: None, ..record() };
        let other: serde_json::Value = serde_json::from_str(&line(LogFormat::Json, &bare)).expect("JSON");
        assert_eq!(value.as_object().map(|map| map.len()), other.as_object().map(|map| map.len()));
    }

    /// Attack X8: nothing that a client sends ends a line, leaves its quotes or moves what a terminal shows.
    #[test]
    fn hostile_values_are_escaped() {
        let hostile = "a\r\nb\t\u{1b}[31m\"c\\d\u{202e}e\u{85}\u{7f}\0";
        let bytes = [hostile.as_bytes(), b"\xff\xfe"].concat();
        let bad = RequestRecord { host: Some(b"a b\n\"c"), user_agent: Some(&bytes), target: &bytes, ..record() };
        for format in [LogFormat::Linkerd, LogFormat::LinkerdH2, LogFormat::Json] {
            let line = line(format, &bad);
            let body = line.strip_suffix('\n').expect("one line");
            assert!(body.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line:?}");
        }
        let text = line(LogFormat::Linkerd, &bad);
        assert!(text.starts_with("a\\x20b\\x0a\\x22c 10.1.2.3 "), "{text}");
        let escaped = "a\\x0d\\x0ab\\x09\\x1b[31m\\x22c\\x5cd\\xe2\\x80\\xaee\\xc2\\x85\\x7f\\x00\\xff\\xfe\"\n";
        assert!(text.ends_with(escaped), "{text}");
        let value: serde_json::Value = serde_json::from_str(&line(LogFormat::Json, &bad)).expect("JSON");
        assert_eq!(value["userAgent"], format!("{hostile}\u{fffd}\u{fffd}"), "a reader of JSON gets it back");
        assert_eq!(value["host"], "a b\n\"c");
    }
}
