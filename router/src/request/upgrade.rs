//! Which requests ask for another protocol, and which answers grant it (RFC 9110 §7.8, attacks H1-9 and H1-10).
//!
//! Called by `prepare` for requests and by `attempt` for answers. Not for: the bytes that follow (see `tunnel`).

use crate::headers::{Seen, all_elements, elements, is_token_byte};
use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Version, header};
use http1::BodyLength;

/// Longest `Upgrade` that is passed on, in bytes.
const MAX_VALUE: usize = 256;

/// The protocols that a request asks for and that may be passed on; None for an ordinary request.
///
/// `h2c`, and anything that comes with `HTTP2-Settings`, is between neighbours and never passed on; so are other
/// versions of HTTP, and TLS. HTTP/1.0 knows no upgrades. A request with a body is served without the upgrade, which
/// a server may always do: so nobody has to tell where the body ends and the tunnel begins.
pub(crate) fn wanted(headers: &HeaderMap, seen: &Seen, version: Version, body: BodyLength) -> Option<HeaderValue> {
    if !(seen.connection && seen.hop_by_hop) || version == Version::HTTP_10 || !body.is_empty() {
        return None;
    }
    let mut values = headers.get_all(header::UPGRADE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let nominated = all_elements(headers, header::CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade"));
    let legal = value.len() <= MAX_VALUE && elements(value).all(may_pass) && elements(value).next().is_some();
    (nominated && legal && !headers.contains_key("http2-settings")).then(|| value.clone())
}

/// True when an answer 101 grants what was asked for.
pub(crate) fn granted(asked: &HeaderValue, answer: &HeaderMap) -> bool {
    let mut given = answer.get_all(header::UPGRADE).iter().flat_map(elements).peekable();
    let was_asked = |given: &[u8]| elements(asked).any(|asked| asked.eq_ignore_ascii_case(given));
    given.peek().is_some() && given.all(was_asked)
}

/// Writes the two header lines of a message that is about an upgrade.
pub(crate) fn write(value: &[u8], out: &mut BytesMut) {
    out.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A protocol name, with a version or without, that is not one between neighbours.
fn may_pass(protocol: &[u8]) -> bool {
    let legal = |byte: &u8| *byte == b'/' || is_token_byte(*byte);
    let name = protocol.split(|&byte| byte == b'/').next().unwrap_or_default();
    let between_neighbours = [&b"h2c"[..], b"h2", b"http", b"tls"].iter().any(|known| name.eq_ignore_ascii_case(known));
    protocol.iter().all(legal) && !between_neighbours
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = header::HeaderName::from_bytes(name.as_bytes()).expect("a name");
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    fn asks(lines: &[(&str, &str)]) -> bool {
        let headers = headers(lines);
        wanted(&headers, &Seen::of(&headers), Version::HTTP_11, BodyLength::Empty).is_some()
    }

    #[test]
    fn what_asks_for_an_upgrade() {
        assert!(asks(&[("connection", "Upgrade"), ("upgrade", "websocket")]));
        assert!(asks(&[("connection", "keep-alive"), ("connection", "x, UPGRADE"), ("upgrade", "a/1, b")]));
        for lines in [
            &[("connection", "upgrade")][..],
            &[("upgrade", "websocket")],
            &[("connection", "close"), ("upgrade", "websocket")],
            &[("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "foo")],
            &[("connection", "upgrade"), ("upgrade", "")],
            &[("connection", "upgrade"), ("upgrade", "h2c")],
            &[("connection", "upgrade"), ("upgrade", "websocket, H2C")],
            &[("connection", "upgrade"), ("upgrade", "HTTP/2.0")],
            &[("connection", "upgrade"), ("upgrade", "TLS/1.0")],
            &[("connection", "upgrade"), ("upgrade", "a b")],
            &[("connection", "upgrade"), ("upgrade", "foo"), ("http2-settings", "AAMA")],
        ] {
            assert!(!asks(lines), "{lines:?}");
        }
        let plain = headers(&[("connection", "upgrade"), ("upgrade", "foo")]);
        let seen = Seen::of(&plain);
        let asks = |version, body| wanted(&plain, &seen, version, body).is_some();
        assert!(asks(Version::HTTP_11, BodyLength::Length(0)));
        assert!(!asks(Version::HTTP_10, BodyLength::Empty));
        assert!(!asks(Version::HTTP_11, BodyLength::Length(1)) && !asks(Version::HTTP_11, BodyLength::Chunked));
    }

    #[test]
    fn what_grants_it() {
        let asked = HeaderValue::from_static("foo/2, websocket");
        let grants = |lines: &[(&str, &str)]| granted(&asked, &headers(lines));
        assert!(grants(&[("upgrade", "WebSocket")]) && grants(&[("upgrade", "foo/2")]));
        assert!(!grants(&[]) && !grants(&[("upgrade", "")]) && !grants(&[("upgrade", "foo")]));
        assert!(!grants(&[("upgrade", "websocket, bar")]));
    }
}
