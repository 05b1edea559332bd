//! Bearer tokens in files: read anew for each request, and compared with what it shows (attacks A1, O3).
//!
//! For: the administrative server, the access rules of namerd, and interpreters that show a token to a namerd. Not for: what
//! whoever has a token may do.

use admin::TokenCheck;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// A shorter token could be guessed.
const MIN_LENGTH: usize = 16;
/// A longer file is none.
const MAX_BYTES: u64 = 4096;

/// A file with a token of 16 to 4096 printable ASCII characters; white space around it does not count. It may be replaced
/// at any time: from then on the new token counts, and the old one no more.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenFile(PathBuf);

impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenFile({})", self.0.display())
    }
}

impl TokenFile {
    /// The token is in the file at `path`.
    pub fn new(path: impl Into<PathBuf>) -> TokenFile {
        TokenFile(path.into())
    }

    /// What is wrong with the file, for a check of the config.
    pub fn check(&self) -> Result<(), String> {
        read(&self.0).map(drop)
    }

    /// Whether `shown` is the token in the file at this moment. Takes a time that does not tell where the two differ. A
    /// file that cannot be used lets nobody in.
    pub fn is(&self, shown: &[u8]) -> bool {
        match read(&self.0) {
            Ok(token) => token.as_bytes().ct_eq(shown).into(),
            Err(text) => {
                tracing::warn!("a token cannot be read, so nobody has it: {text}");
                false
            }
        }
    }

    /// The token in the file at this moment; None when the file cannot be used.
    pub fn token(&self) -> Option<String> {
        read(&self.0).ok()
    }
}

/// The token in a file, without white space around it. Errors say what is wrong with the file, and show nothing of it.
pub fn read(path: &Path) -> Result<String, String> {
    let wrong = |what: &str| format!("{}: {what}", path.display());
    let length = std::fs::metadata(path).map_err(|error| wrong(&error.to_string()))?.len();
    if length > MAX_BYTES {
        return Err(wrong(&format!("it has {length} bytes, and a token has at most {MAX_BYTES}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error.to_string()))?;
    let token = text.trim();
    match () {
        () if token.len() < MIN_LENGTH => Err(wrong(&format!("a token has at least {MIN_LENGTH} characters"))),
        () if !token.bytes().all(|byte| byte.is_ascii_graphic()) => Err(wrong("a token has printable ASCII only")),
        () => Ok(token.to_owned()),
    }
}

/// The token of an `Authorization` value; None for other schemes.
pub fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = authorization.split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// Whether the value of `Authorization` shows the token of this file.
pub fn check(path: PathBuf) -> TokenCheck {
    let file = TokenFile(path);
    Arc::new(move |authorization| bearer(authorization).is_some_and(|token| file.is(token)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_compared_whole_and_read_anew() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("token");
        let (file, check) = (TokenFile::new(&path), check(path.clone()));
        assert!(!check(b"Bearer ") && !file.is(b"") && file.check().is_err(), "no file lets nobody in");
        for (text, fits) in [("0123456789abcdef\n", true), ("fedcba9876543210", false), ("", false), ("short", false)] {
            std::fs::write(&path, text).expect("it is written");
            assert_eq!((check(b"Bearer 0123456789abcdef"), file.is(b"0123456789abcdef")), (fits, fits), "{text}");
            for wrong in
                [&b""[..], b"0123456789abcdef", b"Bearer 0123456789abcde", b"Bearer 0123456789abcdef ", b"Basic x"]
            {
                assert!(!check(wrong), "{text}: {wrong:?}");
            }
        }
        std::fs::write(&path, "x".repeat(5000)).expect("it is written");
        assert!(read(&path).is_err_and(|text| text.contains("at most 4096")));
        std::fs::write(&path, "a token with spaces").expect("it is written");
        assert!(read(&path).is_err_and(|text| text.contains("printable")));
    }

    #[test]
    fn the_scheme_is_read_in_any_case() {
        for (shown, token) in [
            ("Bearer abc", Some("abc")),
            ("bEARER abc", Some("abc")),
            ("Bearer ", Some("")),
            ("Bearer", None),
            ("Basic abc", None),
            ("Bearerabc", None),
            ("", None),
        ] {
            assert_eq!(bearer(shown.as_bytes()), token.map(str::as_bytes), "{shown}");
        }
    }
}
