//! The token of the administrative server: read from its file, and compared with what a request shows (attack O3).
//!
//! For: `linker`, which hands the comparison to the server, and the reader of `admin.security`. Not for: who asks; whoever
//! has the token may change everything that pages can change.

use admin::TokenCheck;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A shorter token could be guessed.
const MIN_LENGTH: usize = 16;
/// A longer file is none.
const MAX_BYTES: u64 = 4096;

/// The token in a file, without white space around it. Errors say what is wrong with the file.
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

/// Compares with the file as it is at that moment, so that a token changes without a restart. A file that cannot be used
/// lets nobody in.
pub fn check(path: PathBuf) -> TokenCheck {
    Arc::new(move |authorization| match read(&path) {
        Ok(token) => authorization.strip_prefix(b"Bearer ").is_some_and(|shown| same(shown, token.as_bytes())),
        Err(text) => {
            tracing::warn!("the token of the admin server cannot be read, so nobody has it: {text}");
            false
        }
    })
}

/// Compares in a time that does not depend on where the two differ.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |differs, (left, right)| differs | (left ^ right)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_compared_whole_and_read_anew() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("token");
        let check = check(path.clone());
        assert!(!check(b"Bearer "), "no file lets nobody in");
        for (text, fits) in [("0123456789abcdef\n", true), ("fedcba9876543210", false), ("", false), ("short", false)] {
            std::fs::write(&path, text).expect("it is written");
            assert_eq!(check(b"Bearer 0123456789abcdef"), fits, "{text}");
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
}
