//! What the router knows of gRPC: the deadline in `grpc-timeout`, status codes, and how a failure of the
//! router is said to a gRPC client.
//!
//! Pure functions over header values; the sources are the documents of gRPC named below (`PROTOCOL-HTTP2.md`,
//! `http-grpc-status-mapping.md`, `statuscodes.md`). Called by the request path where a request or a response is gRPC.
//! Not for: messages and their framing, which pass as bytes; nor for deciding what is a success (`classify`).

use crate::error::Kind;
use bytes::{BufMut, BytesMut};
use http::{HeaderName, HeaderValue};
use std::time::Duration;

/// `grpc-timeout`, of requests: how long the caller waits.
pub const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// `grpc-status`, of trailers and of responses that are only trailers.
pub const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// `grpc-message`, beside the status: a text, percent-encoded.
pub const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Bytes of a `grpc-message` that the router writes, at most. Clients are advised to take 8 KiB of trailers in all.
pub const MAX_MESSAGE: usize = 1024;

/// The caller does not want it any more.
pub const CANCELLED: u8 = 1;
/// An error that says no more than that.
pub const UNKNOWN: u8 = 2;
/// The time for the call is over.
pub const DEADLINE_EXCEEDED: u8 = 4;
/// The caller may not do this.
pub const PERMISSION_DENIED: u8 = 7;
/// Something is larger than a limit, or used up.
pub const RESOURCE_EXHAUSTED: u8 = 8;
/// There is no such method.
pub const UNIMPLEMENTED: u8 = 12;
/// What was sent breaks the protocol.
pub const INTERNAL: u8 = 13;
/// The service cannot be reached now.
pub const UNAVAILABLE: u8 = 14;
/// The caller is not known.
pub const UNAUTHENTICATED: u8 = 16;

/// The units of `grpc-timeout`, from the finest, with the nanoseconds of each.
const UNITS: [(u8, u128); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];

/// The largest number that `grpc-timeout` can say: eight digits.
const MOST: u128 = 99_999_999;

/// True for the media type of gRPC, with any message format and parameters; false for gRPC-Web, which is not gRPC on
/// the wire.
pub fn is_grpc(content_type: &HeaderValue) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    content_type.as_bytes().split_at_checked(TYPE.len()).is_some_and(|(kind, rest)| {
        kind.eq_ignore_ascii_case(TYPE) && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
    })
}

/// The time that a `grpc-timeout` leaves: one to eight digits and a unit. None for anything else: such a header counts
/// for nothing (attack X5). Zero is a deadline that is over: clients write it when none is left. At most 99,999,999
/// hours, so nothing overflows; as nanoseconds it saturates (`clock::nanos`).
pub fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (&unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    match unit {
        b'n' => Some(Duration::from_nanos(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'S' => Some(Duration::from_secs(number)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'H' => Some(Duration::from_secs(number * 3600)),
        _ => None,
    }
}

/// Writes the time that is left as the value of `grpc-timeout`, two to nine bytes: in the finest unit that fits in eight
/// digits, never more than is left, and zero only when nothing is.
pub fn write_timeout(left: Duration, out: &mut BytesMut) {
    let nanos = left.as_nanos();
    let fits = UNITS.into_iter().find(|(_, unit)| nanos / unit <= MOST);
    let (unit, number) = fits.map_or((b'H', MOST), |(letter, unit)| (letter, nanos / unit));
    let mut place = 10_000_000;
    while place > 1 && number < place {
        place /= 10;
    }
    while place > 0 {
        out.put_u8(b"0123456789"[usize::try_from(number / place % 10).unwrap_or_default()]);
        place /= 10;
    }
    out.put_u8(unit);
}

/// Writes a text as the value of `grpc-message`, at most `limit` bytes of it: UTF-8, percent-encoded but for printable
/// ASCII. It is cut between characters, so what is left decodes.
pub fn write_message(text: &str, limit: usize, out: &mut BytesMut) {
    let mut left = limit;
    for c in text.chars() {
        let plain = matches!(c, ' '..='~') && c != '%';
        let size = if plain { 1 } else { 3 * c.len_utf8() };
        if size > left {
            return;
        }
        left -= size;
        for &byte in c.encode_utf8(&mut [0; 4]).as_bytes() {
            if plain {
                out.put_u8(byte);
                continue;
            }
            out.put_u8(b'%');
            for digit in [byte >> 4, byte & 15] {
                out.put_u8(b"0123456789ABCDEF"[usize::from(digit)]);
            }
        }
    }
}

/// What a gRPC client makes of a response without `grpc-status` (`http-grpc-status-mapping.md`).
pub fn status_of_http(status: u16) -> u8 {
    match status {
        400 | 431 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        429 | 502 | 503 | 504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

/// What a gRPC client makes of a stream that ends with RST_STREAM (`PROTOCOL-HTTP2.md`, «Errors»). Codes without a
/// mapping there: STREAM_CLOSED and HTTP_1_1_REQUIRED are protocol errors as their neighbours are, the rest is
/// `UNKNOWN`.
pub fn status_of_reset(code: u32) -> u8 {
    match code {
        // NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR
        0..=6 => INTERNAL,
        // REFUSED_STREAM
        7 => UNAVAILABLE,
        // CANCEL
        8 => CANCELLED,
        // COMPRESSION_ERROR, CONNECT_ERROR
        9 | 10 => INTERNAL,
        // ENHANCE_YOUR_CALM
        11 => RESOURCE_EXHAUSTED,
        // INADEQUATE_SECURITY
        12 => PERMISSION_DENIED,
        // HTTP_1_1_REQUIRED
        13 => INTERNAL,
        _ => UNKNOWN,
    }
}

/// The code that says a failure of the router. Only codes that gRPC libraries make themselves are used: the others
/// (NOT_FOUND, INVALID_ARGUMENT, ABORTED, …) belong to the application, and a client must not take a missing route for
/// a missing record (`statuscodes.md`). UNAVAILABLE, which clients retry, is for what another try may mend.
pub fn status_of(kind: Kind) -> u8 {
    match kind {
        Kind::AttemptTimeout
        | Kind::TotalTimeout
        | Kind::ServerTimeout
        | Kind::DeadlineExceeded
        | Kind::BodyTimeout => DEADLINE_EXCEEDED,
        Kind::NoHosts
        | Kind::BindingFailed
        | Kind::BindingTimeout
        | Kind::ConnectFailed
        | Kind::ConnectTimeout
        | Kind::TooManyWaiters
        | Kind::UpstreamClosed
        | Kind::Overload => UNAVAILABLE,
        Kind::RequestTooLarge | Kind::TrailersTooLarge | Kind::ResponseTooLarge => RESOURCE_EXHAUSTED,
        Kind::OverrideDenied | Kind::Misdirected => PERMISSION_DENIED,
        // As for HTTP's 404: the call names nothing that is served here.
        Kind::Unidentified | Kind::MethodNotAllowed => UNIMPLEMENTED,
        Kind::IdentifierThrew
        | Kind::BadOverride
        | Kind::BadRequest
        | Kind::ExpectationFailed
        | Kind::CallDepth
        | Kind::SelfLoop
        | Kind::UpstreamFraming
        | Kind::DownstreamBody => INTERNAL,
        Kind::ClientGone => CANCELLED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use telemetry::grpc_status_name;

    fn timeout(left: Duration) -> String {
        let mut out = BytesMut::new();
        write_timeout(left, &mut out);
        String::from_utf8(out.to_vec()).expect("text")
    }

    fn message(text: &str, limit: usize) -> String {
        let mut out = BytesMut::new();
        write_message(text, limit, &mut out);
        String::from_utf8(out.to_vec()).expect("text")
    }

    /// `PROTOCOL-HTTP2.md`, «Requests»: Timeout; attack X5.
    #[test]
    fn timeouts_are_parsed_by_the_grammar() {
        let hours = Duration::from_secs(99_999_999 * 3600);
        for (value, wanted) in [
            ("1S", Some(Duration::from_secs(1))),
            ("100m", Some(Duration::from_millis(100))),
            ("007u", Some(Duration::from_micros(7))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999H", Some(hours)),
            ("0n", Some(Duration::ZERO)),
        ] {
            assert_eq!(parse_timeout(value.as_bytes()), wanted, "{value}");
        }
        for garbage in
            ["", "S", "1", "1s", "1h", "-1S", "+1S", "1.5S", " 1S", "1 S", "1S ", "0x1S", "1SS", "100000000H"]
        {
            assert_eq!(parse_timeout(garbage.as_bytes()), None, "{garbage:?}");
        }
        assert_eq!(parse_timeout("١S".as_bytes()), None);
        assert_eq!(crate::clock::nanos(hours), u64::MAX);
    }

    #[test]
    fn timeouts_are_written_in_the_finest_unit_that_fits() {
        for (left, wanted) in [
            (Duration::ZERO, "0n"),
            (Duration::from_nanos(1), "1n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_nanos(100_000_999), "100000u"),
            (Duration::from_secs(1), "1000000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(99_999), "99999000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::from_secs(100_000_000), "1666666M"),
            (Duration::from_secs(6_000_000_000), "1666666H"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(timeout(left), wanted, "{left:?}");
        }
    }

    proptest! {
        #[test]
        fn a_timeout_never_grows_on_its_way(secs in any::<u64>(), nanos in 0u32..1_000_000_000, small in any::<bool>()) {
            let left = Duration::new(if small { secs % 10_000 } else { secs }, nanos);
            let text = timeout(left);
            let back = parse_timeout(text.as_bytes()).expect("what is written can be read");
            prop_assert!(back <= left, "{} > {:?}", text, left);
            prop_assert!(back > Duration::ZERO || left.is_zero());
            if left < Duration::from_secs(99_999_999 * 3600) {
                // Seven digits at least, so less than a millionth is lost, but where minutes and hours begin.
                prop_assert!((left - back).as_nanos() <= left.as_nanos() / 100_000, "{} of {:?}", text, left);
            }
        }

        #[test]
        fn no_timeout_breaks_the_parser(value in proptest::collection::vec(any::<u8>(), 0..12)) {
            if let Some(left) = parse_timeout(&value) {
                prop_assert!(left <= Duration::from_secs(99_999_999 * 3600));
            }
        }

        #[test]
        fn messages_decode_to_where_they_were_cut(text in any::<String>(), limit in 0usize..100) {
            let encoded = message(&text, limit);
            prop_assert!(encoded.len() <= limit);
            prop_assert!(encoded.bytes().all(|byte| matches!(byte, b' '..=b'~')));
            let mut bytes = Vec::new();
            let mut rest = encoded.as_bytes();
            while let Some((&first, after)) = rest.split_first() {
                if first == b'%' {
                    let digits = std::str::from_utf8(&after[..2]).expect("two digits");
                    bytes.push(u8::from_str_radix(digits, 16).expect("hexadecimal"));
                    rest = &after[2..];
                } else {
                    bytes.push(first);
                    rest = after;
                }
            }
            let decoded = String::from_utf8(bytes).expect("UTF-8");
            prop_assert!(text.starts_with(&decoded));
        }
    }

    /// `PROTOCOL-HTTP2.md`, «Responses»: Percent-Encoded.
    #[test]
    fn messages_are_percent_encoded_and_bounded() {
        assert_eq!(message("100% of it ~\r\n\u{7f}", 100), "100%25 of it ~%0D%0A%7F");
        assert_eq!(message("é€", 100), "%C3%A9%E2%82%AC");
        assert_eq!(message("aé€", 15), "a%C3%A9");
        assert_eq!(message("a%b", 3), "a");
        assert_eq!(message(&"x".repeat(5000), MAX_MESSAGE).len(), MAX_MESSAGE);
    }

    /// `PROTOCOL-HTTP2.md`: Content-Type.
    #[test]
    fn grpc_is_told_from_what_looks_like_it() {
        for (value, wanted) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc+json; charset=utf-8", true),
            ("application/grpc;x=y", true),
            ("application/grpc ; x=y", true),
            ("Application/GRPC+Proto", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grpcx", false),
            ("application/grp", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_grpc(&HeaderValue::from_static(value)), wanted, "{value}");
        }
    }

    #[test]
    fn http_statuses_map_as_grpc_says() {
        for (status, wanted) in [
            (400, "INTERNAL"),
            (401, "UNAUTHENTICATED"),
            (403, "PERMISSION_DENIED"),
            (404, "UNIMPLEMENTED"),
            (429, "UNAVAILABLE"),
            (431, "INTERNAL"),
            (502, "UNAVAILABLE"),
            (503, "UNAVAILABLE"),
            (504, "UNAVAILABLE"),
            (200, "UNKNOWN"),
            (418, "UNKNOWN"),
            (500, "UNKNOWN"),
        ] {
            assert_eq!(grpc_status_name(u32::from(status_of_http(status))), Some(wanted), "{status}");
        }
    }

    /// The table in `PROTOCOL-HTTP2.md`, «Errors».
    #[test]
    fn resets_map_as_grpc_says() {
        for (codes, wanted) in [
            (&[0, 1, 2, 3, 4, 6, 9, 10][..], "INTERNAL"),
            (&[7], "UNAVAILABLE"),
            (&[8], "CANCELLED"),
            (&[11], "RESOURCE_EXHAUSTED"),
            (&[12], "PERMISSION_DENIED"),
            // No mapping there.
            (&[5, 13], "INTERNAL"),
            (&[14, u32::MAX], "UNKNOWN"),
        ] {
            for &code in codes {
                assert_eq!(grpc_status_name(u32::from(status_of_reset(code))), Some(wanted), "{code}");
            }
        }
    }

    /// `statuscodes.md`: what each is generated for.
    #[test]
    fn failures_of_the_router_have_codes_of_the_library() {
        for (kind, wanted) in [
            (Kind::Unidentified, "UNIMPLEMENTED"),
            (Kind::NoHosts, "UNAVAILABLE"),
            (Kind::BindingTimeout, "UNAVAILABLE"),
            (Kind::ConnectTimeout, "UNAVAILABLE"),
            (Kind::UpstreamClosed, "UNAVAILABLE"),
            (Kind::Overload, "UNAVAILABLE"),
            (Kind::TotalTimeout, "DEADLINE_EXCEEDED"),
            (Kind::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            (Kind::RequestTooLarge, "RESOURCE_EXHAUSTED"),
            (Kind::OverrideDenied, "PERMISSION_DENIED"),
            (Kind::BadRequest, "INTERNAL"),
            (Kind::UpstreamFraming, "INTERNAL"),
            (Kind::ClientGone, "CANCELLED"),
        ] {
            assert_eq!(grpc_status_name(u32::from(status_of(kind))), Some(wanted), "{kind:?}");
        }
    }
}
