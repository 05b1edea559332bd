//! The header `baggage` (W3C Baggage): finding and removing the members of one key, without touching the others.
//!
//! Pure. A member is `key=value;properties`; members are separated by commas. Keys are compared as they are: they are
//! case-sensitive and have no escapes. Values are percent-encoded. Not for: what the names mean (`gate`).

use http::{HeaderMap, HeaderName, HeaderValue};

const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
/// Members that count, over all lines; W3C Baggage §3.3.2 asks for as many.
pub const MAX_MEMBERS: usize = 64;
/// Bytes of all lines that count.
pub const MAX_BYTES: usize = 8192;

/// What `baggage` says under one key.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The decoded values in the order of the message; what cannot be decoded is as it was written.
    pub values: Vec<Vec<u8>>,
    /// More members or bytes than count: the values are there all the same, to be removed.
    pub too_large: bool,
}

/// Finds the members of `key`.
pub fn find(headers: &HeaderMap, key: &str) -> Found {
    let mut found = Found::default();
    let (mut count, mut bytes) = (0, 0);
    for line in headers.get_all(BAGGAGE) {
        bytes += line.len();
        for member in line.as_bytes().split(|&byte| byte == b',') {
            count += 1;
            if key_of(member) == key.as_bytes() {
                found.values.push(decode(value_of(member)));
            }
        }
    }
    found.too_large = count > MAX_MEMBERS || bytes > MAX_BYTES;
    found
}

/// Removes those members of `key` whose number, counted from 0 over all lines, `goes`. All other members stay as they
/// are, byte by byte; a line without members is left out.
pub fn remove(headers: &mut HeaderMap, key: &str, goes: impl Fn(usize) -> bool) {
    let mut number = 0;
    let mut removed = false;
    let mut lines: Vec<HeaderValue> = Vec::new();
    for line in headers.get_all(BAGGAGE) {
        let (kept, whole) = without(line.as_bytes(), key, &mut number, &goes);
        removed |= !whole;
        match HeaderValue::from_bytes(&kept) {
            Ok(_) if whole => lines.push(line.clone()),
            Ok(rest) if !rest.is_empty() => lines.push(rest),
            Ok(_) | Err(_) => {}
        }
    }
    if removed {
        headers.remove(BAGGAGE);
        lines.into_iter().for_each(|line| _ = headers.append(BAGGAGE, line));
    }
}

/// What is left of a line, and whether that is all of it.
fn without(line: &[u8], key: &str, number: &mut usize, goes: &impl Fn(usize) -> bool) -> (Vec<u8>, bool) {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut whole = true;
    for member in line.split(|&byte| byte == b',') {
        let ours = key_of(member) == key.as_bytes();
        if ours && goes(*number) {
            whole = false;
        } else {
            kept.push(member);
        }
        *number += usize::from(ours);
    }
    (kept.join(&b","[..]).trim_ascii_start().to_vec(), whole)
}

/// The part before the first `=`; of a member without one, that before the properties.
fn key_of(member: &[u8]) -> &[u8] {
    let end = member.iter().position(|&byte| matches!(byte, b'=' | b';')).unwrap_or(member.len());
    member[..end].trim_ascii()
}

/// The part after the first `=`, before the properties.
fn value_of(member: &[u8]) -> &[u8] {
    let member = member.split(|&byte| byte == b';').next().unwrap_or_default();
    let at = member.iter().position(|&byte| byte == b'=').map_or(member.len(), |at| at + 1);
    member[at..].trim_ascii()
}

fn decode(value: &[u8]) -> Vec<u8> {
    let digit = |at: usize| value.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    let mut decoded = Vec::with_capacity(value.len());
    let mut at = 0;
    while let Some(&byte) = value.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high << 4 | low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(lines: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(BAGGAGE, HeaderValue::from_bytes(line).expect("a header value"));
        }
        headers
    }

    fn lines(headers: &HeaderMap) -> Vec<&[u8]> {
        headers.get_all(BAGGAGE).iter().map(HeaderValue::as_bytes).collect()
    }

    fn values(line: &str) -> Vec<String> {
        let found = find(&headers(&[line.as_bytes()]), "dtab");
        found.values.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
    }

    #[test]
    fn members_are_found() {
        for (line, wanted) in [
            ("dtab=pr-1", &["pr-1"][..]),
            ("a=1, dtab = pr-1 ; ttl=5, b=2", &["pr-1"]),
            ("dtab=x,dtab=y", &["x", "y"]),
            ("dtab=pr%2D1", &["pr-1"]),
            ("dtab=%", &["%"]),
            ("dtab=%0d%0aX", &["\r\nX"]),
            ("dtab", &[""]),
            ("dtab;p=1", &[""]),
            ("dtab==", &["="]),
            ("a=dtab=x", &[]),
            ("DTAB=x", &[]),
            ("%64tab=x", &[]),
            ("dtab2=x", &[]),
            ("a;dtab=x", &[]),
            ("", &[]),
            (",,,", &[]),
        ] {
            assert_eq!(values(line), wanted, "{line}");
        }
    }

    #[test]
    fn too_much_is_told() {
        let many = ["a=1"; 64].join(",");
        assert!(!find(&headers(&[many.as_bytes()]), "dtab").too_large);
        assert!(find(&headers(&[many.as_bytes(), b"dtab=x"]), "dtab").too_large);
        let long = format!("a={}", "x".repeat(MAX_BYTES));
        let found = find(&headers(&[long.as_bytes(), b"dtab=x"]), "dtab");
        assert_eq!(found, Found { values: vec![b"x".to_vec()], too_large: true });
    }

    #[test]
    fn what_is_removed_leaves_the_rest_as_it_is() {
        for (line, wanted) in [
            ("a=1,dtab=x,b=2", &["a=1,b=2"][..]),
            ("a=1 ;p=%20 , dtab=x;q,  b=\"2\"", &["a=1 ;p=%20 ,  b=\"2\""]),
            ("dtab=x, b=2", &["b=2"]),
            ("a=1, dtab=x", &["a=1"]),
            ("dtab=x", &[]),
            (" a = 1 ,,", &[" a = 1 ,,"]),
        ] {
            let mut given = headers(&[line.as_bytes()]);
            remove(&mut given, "dtab", |_| true);
            assert_eq!(lines(&given), wanted.iter().map(|line| line.as_bytes()).collect::<Vec<_>>(), "{line}");
        }
        let mut given = headers(&[b"dtab=a,x=1", b"dtab=b", b"y=2,dtab=c"]);
        remove(&mut given, "dtab", |number| number == 1);
        assert_eq!(lines(&given), [&b"dtab=a,x=1"[..], b"y=2,dtab=c"]);
    }

    proptest! {
        /// Any bytes that a header can hold: no panic, nothing of ours is left, the others are as they were.
        #[test]
        fn others_survive(parts in prop::collection::vec((any::<bool>(), "[ -+--~\t\u{80}-\u{ff}]{0,12}"), 0..90)) {
            let member = |(ours, text): &(bool, String)| if *ours { format!("dtab={text}") } else { text.clone() };
            let members: Vec<String> = parts.iter().map(member).collect();
            let text = members.join(",");
            let mut given = headers(&[text.as_bytes()]);
            let ours = |member: &str| key_of(member.as_bytes()) == b"dtab";
            let found = find(&given, "dtab");
            prop_assert_eq!(found.values.len(), members.iter().filter(|member| ours(member)).count());
            remove(&mut given, "dtab", |_| true);
            prop_assert!(find(&given, "dtab").values.is_empty());
            let rest: Vec<&str> = members.iter().map(String::as_str).filter(|member| !ours(member)).collect();
            let left: Vec<u8> = lines(&given).concat();
            if rest.len() == members.len() {
                prop_assert_eq!(left, text.into_bytes());
            } else {
                let rest = rest.join(",");
                prop_assert_eq!(left, rest.trim_ascii_start().as_bytes());
            }
        }
    }
}
