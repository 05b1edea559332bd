//! [`Failure`]: why a command does not succeed, and with which exit status the process ends.
//!
//! For: every command. Not for: errors that a caller inside handles, such as a conflict ([`crate::api::ApiError`]).

use std::fmt;

/// Exit status of a success.
pub const OK: u8 = 0;
/// Exit status of every failure, usage included.
pub const FAILED: u8 = 1;
/// Exit status of `dtab plan` when destinations change.
pub const CHANGES: u8 = 2;
/// Exit status of a command that was interrupted, as shells write it for SIGINT.
pub const INTERRUPTED: u8 = 130;

/// A command's end without success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// One line, as the first `namerctl` wrote it where it had one.
    pub message: String,
    /// What else helps: the server's words, what to do. Lines of their own.
    pub detail: Option<String>,
    /// True when the words of the command were wrong, so that usage is shown.
    pub usage: bool,
    /// The exit status.
    pub status: u8,
}

impl Failure {
    /// A failure with this message.
    pub fn new(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), detail: None, usage: false, status: FAILED }
    }

    /// A failure of the words of the command.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure { usage: true, ..Failure::new(message) }
    }

    /// With a detail below the message.
    #[must_use]
    pub fn with(self, detail: impl Into<String>) -> Failure {
        let detail = detail.into();
        Failure { detail: (!detail.is_empty()).then_some(detail), ..self }
    }

    /// With another exit status.
    #[must_use]
    pub fn status(self, status: u8) -> Failure {
        Failure { status, ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.detail {
            Some(detail) => write!(f, "\n{detail}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure::new(message)
    }
}
