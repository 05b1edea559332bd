//! Which protocol a connection speaks, by its first bytes: the preface of HTTP/2, or anything else.
//!
//! Pure: called with what is buffered so far, however it was cut into reads (the original looked at the first read
//! alone). Not for: TLS, where ALPN says it.

/// What an HTTP/2 client sends first (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniffed {
    /// The whole preface is there: HTTP/2 by prior knowledge.
    H2,
    /// It cannot become the preface: HTTP/1, or what HTTP/1 refuses.
    H1,
    /// The beginning of the preface, or nothing: ask again with more. At most 23 bytes need be kept for it; whoever
    /// waits bounds the time, as for a request head.
    More,
}

/// What `buffered`, the first bytes of a connection, tell. They stay in the buffer: they belong to the protocol that
/// is found. No method of HTTP/1 but `PRI` itself comes near: the answer for `POST` or `PUT` is there at the second
/// byte.
pub fn sniff(buffered: &[u8]) -> Sniffed {
    let seen = buffered.len().min(PREFACE.len());
    match buffered[..seen] == PREFACE[..seen] {
        false => Sniffed::H1,
        true if seen == PREFACE.len() => Sniffed::H2,
        true => Sniffed::More,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_is_known_however_it_is_cut() {
        for length in 0..PREFACE.len() {
            assert_eq!(sniff(&PREFACE[..length]), Sniffed::More, "{length} bytes");
        }
        assert_eq!(sniff(PREFACE), Sniffed::H2);
        assert_eq!(sniff(&[&PREFACE[..], b"\0\0\0\x04\0\0\0\0\0"].concat()), Sniffed::H2);
    }

    #[test]
    fn one_other_byte_makes_it_http_1() {
        for at in 0..PREFACE.len() {
            let mut other = *PREFACE;
            other[at] ^= 0x20;
            assert_eq!(sniff(&other[..=at]), Sniffed::H1, "{at}");
            assert_eq!(sniff(&other), Sniffed::H1, "{at}");
        }
        for head in ["GET / HTTP/1.1\r\n\r\n", "POST", "PUT", "PRI / HTTP/1.1\r\n\r\n", "\r\n", "\x16\x03\x01"] {
            assert_eq!(sniff(head.as_bytes()), Sniffed::H1, "{head:?}");
        }
    }
}
