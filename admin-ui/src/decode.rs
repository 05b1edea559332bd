//! Text in and out of URLs and HTML.
//!
//! What it is for: percent decoding, query strings, the normal form of a request path, HTML escaping. What it is not: a
//! URL library. Called by: `server`, `message`, `pages`, and pages that write HTML.

/// Decodes `a=1&b=x%20y` (a query string or a `x-www-form-urlencoded` body) into pairs, in order. `+` is a space, a
/// broken escape stays as it is, bytes that are not UTF-8 become U+FFFD.
pub fn parse_query(text: &str) -> Vec<(String, String)> {
    let parts = text.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (plus_decode(name), plus_decode(value))
        })
        .collect()
}

/// Escapes `& < > " '` for use in HTML text and quoted attributes.
pub fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// The path that both the security filter and routing see: percent-decoded, then repeated slashes collapsed. `None` for
/// what no page can mean: broken escapes, no UTF-8, control characters, `.` and `..` segments, no leading slash.
pub(crate) fn normal_path(raw: &str) -> Option<String> {
    let (bytes, clean) = percent_decode(raw);
    let text = String::from_utf8(bytes).ok().filter(|_| clean)?;
    if !text.starts_with('/') || text.chars().any(char::is_control) {
        return None;
    }
    let mut path = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '/' || !path.ends_with('/') {
            path.push(c);
        }
    }
    let dots = path.split('/').any(|segment| matches!(segment, "." | ".."));
    (!dots).then_some(path)
}

/// A path for use in a link.
pub(crate) fn encode_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for b in path.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(b)),
            _ => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

fn plus_decode(text: &str) -> String {
    String::from_utf8_lossy(&percent_decode(&text.replace('+', " ")).0).into_owned()
}

/// Decodes `%xx`; the flag is false if there were broken escapes, which stay as they are.
fn percent_decode(text: &str) -> (Vec<u8>, bool) {
    let mut out = Vec::with_capacity(text.len());
    let mut clean = true;
    let mut rest = text.as_bytes();
    while let Some((&b, tail)) = rest.split_first() {
        rest = tail;
        match (b, tail) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(hex(*high) << 4 | hex(*low));
                rest = after;
            }
            (b'%', _) => {
                clean = false;
                out.push(b);
            }
            _ => out.push(b),
        }
    }
    (out, clean)
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(parse_query(""), []);
        assert_eq!(
            parse_query("a=1&&b&c=x%20y+z%3D&d=%zz%4&=e&f=%ff"),
            [
                pair("a", "1"),
                pair("b", ""),
                pair("c", "x y z="),
                pair("d", "%zz%4"),
                pair("", "e"),
                pair("f", "\u{fffd}")
            ]
        );
    }

    #[test]
    fn paths_have_one_normal_form() {
        for (raw, want) in [
            ("/", Some("/")),
            ("//admin///shutdown", Some("/admin/shutdown")),
            ("/admin/%73hutdown", Some("/admin/shutdown")),
            ("/admin%2f%2Fshutdown", Some("/admin/shutdown")),
            ("/a/", Some("/a/")),
            ("/%23/io.l5d.fs", Some("/#/io.l5d.fs")),
            ("/caf%C3%A9", Some("/café")),
            ("/files/../admin/shutdown", None),
            ("/files/%2e%2E/x", None),
            ("/./x", None),
            ("/%00", None),
            ("/%ff", None),
            ("/%", None),
            ("*", None),
            ("", None),
        ] {
            assert_eq!(normal_path(raw).as_deref(), want, "{raw}");
        }
    }

    #[test]
    fn html_and_links() {
        assert_eq!(escape_html("<a href=\"x\">'&"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
        assert_eq!(encode_path("/a b/#/é"), "/a%20b/%23/%C3%A9");
    }
}
