//! Raw header lines as fields of a head: what the router adds to a message is written as lines once, for every protocol.
//!
//! Called by `inbound` and `outbound`, and once per leaf by `route`. Not for: which lines there are (`request::prepare`,
//! `request::attempt`).

use super::heads::is_forbidden;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};

/// How the codec is to write the values of a message's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    /// All may go into the table of the connection, where later messages can point at them.
    Open,
    /// Those that no other message has stay out of it: they would push the others out, and be looked at for every later
    /// message. Their names are in the table.
    Spared,
}

/// Whether other messages have the same value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Stays,
    Changes,
}

const CTX_TRACE: HeaderName = HeaderName::from_static("l5d-ctx-trace");
const CTX_DTAB: HeaderName = HeaderName::from_static("l5d-ctx-dtab");
const CTX_DEADLINE: HeaderName = HeaderName::from_static("l5d-ctx-deadline");
const REQUEST_ID: HeaderName = HeaderName::from_static("l5d-reqid");
const SUCCESS_CLASS: HeaderName = HeaderName::from_static("l5d-success-class");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

const VIA_H2: HeaderValue = HeaderValue::from_static("h2 linkerd");
const SUCCESS: HeaderValue = HeaderValue::from_static("1.0");
const FAILURE: HeaderValue = HeaderValue::from_static("0.0");

/// The fields of raw header lines, those about a connection apart.
pub(crate) fn fields(lines: &Bytes) -> Vec<(HeaderName, HeaderValue)> {
    let mut fields = Vec::new();
    each(lines, |name, value, _| fields.push((name, value)));
    fields
}

/// Appends the fields of raw header lines, those about a connection apart.
pub(super) fn append(headers: &mut HeaderMap, lines: &Bytes, table: Table) {
    each(lines, |name, mut value, changes| {
        if table == Table::Spared && changes == Value::Changes {
            value.set_sensitive(true);
        }
        headers.append(name, value);
    });
}

fn each(lines: &Bytes, mut field: impl FnMut(HeaderName, HeaderValue, Value)) {
    let mut at = 0;
    while let Some(length) = lines[at..].iter().position(|&byte| byte == b'\r') {
        let end = at + length;
        let line = &lines[at..end];
        if let Some((name, value)) = whole(line) {
            field(name, value, Value::Stays);
        } else if let Some(colon) = line.iter().position(|&byte| byte == b':') {
            let value = HeaderValue::from_maybe_shared(lines.slice((at + colon + 2).min(end)..end));
            if let (Some((name, changes)), Ok(value)) = (name(&line[..colon]), value) {
                field(name, value, changes);
            }
        }
        at = end + 2;
    }
}

/// Lines that most messages have.
fn whole(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    Some(match line {
        b"via: h2 linkerd" => (header::VIA, VIA_H2),
        b"l5d-success-class: 1.0" => (SUCCESS_CLASS, SUCCESS),
        b"l5d-success-class: 0.0" => (SUCCESS_CLASS, FAILURE),
        _ => return None,
    })
}

/// The name of a field, if it may be in a message of HTTP/2. Those that the router writes most are found without hashing
/// them.
fn name(name: &[u8]) -> Option<(HeaderName, Value)> {
    Some(match name {
        b"l5d-ctx-trace" => (CTX_TRACE, Value::Changes),
        b"l5d-reqid" => (REQUEST_ID, Value::Changes),
        b"l5d-ctx-deadline" => (CTX_DEADLINE, Value::Changes),
        b"grpc-timeout" => (GRPC_TIMEOUT, Value::Changes),
        b"l5d-ctx-dtab" => (CTX_DTAB, Value::Stays),
        b"via" => (header::VIA, Value::Stays),
        b"forwarded" => (header::FORWARDED, Value::Stays),
        b"content-type" => (header::CONTENT_TYPE, Value::Stays),
        other => (HeaderName::from_bytes(other).ok().filter(|name| !is_forbidden(name))?, Value::Stays),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Bytes {
        Bytes::from_static(
            b"via: h2 linkerd\r\nl5d-reqid: 00bb\r\nx-own: a: b\r\nconnection: x-own\r\nempty:\r\nl5d-success-class: 0.0\r\n",
        )
    }

    #[test]
    fn lines_become_fields_but_for_those_about_a_connection() {
        let shown: Vec<String> =
            fields(&lines()).iter().map(|(name, value)| format!("{name}={}", value.to_str().expect("text"))).collect();
        assert_eq!(shown, ["via=h2 linkerd", "l5d-reqid=00bb", "x-own=a: b", "empty=", "l5d-success-class=0.0"]);
        assert!(fields(&Bytes::from_static(b"no end")).is_empty());
    }

    #[test]
    fn what_changes_stays_out_of_a_table_that_knows_its_name() {
        for (table, spared) in [(Table::Open, false), (Table::Spared, true)] {
            let mut headers = HeaderMap::new();
            append(&mut headers, &lines(), table);
            assert_eq!(headers.len(), 5);
            for (name, value) in &headers {
                assert_eq!(value.is_sensitive(), spared && name == "l5d-reqid", "{name}, {table:?}");
            }
        }
    }
}
