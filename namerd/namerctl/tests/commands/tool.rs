//! Runs the real binary, or another namerctl, in a folder of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a run left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) struct Tool {
    pub(crate) binary: PathBuf,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) env: Vec<(String, String)>,
}

impl Tool {
    /// Ours, for the namerd at `url`.
    pub(crate) fn new(url: &str) -> Tool {
        Tool::of(Path::new(env!("CARGO_BIN_EXE_namerctl")), url)
    }

    pub(crate) fn of(binary: &Path, url: &str) -> Tool {
        let env = vec![("NAMERCTL_BASE_URL".to_owned(), url.to_owned())];
        Tool { binary: binary.into(), folder: tempfile::tempdir().unwrap(), env }
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(words).env_clear().envs(self.env.iter().cloned()).current_dir(self.folder.path());
        command.env("PWD", self.folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, words: &[&str], stdin: &str) -> Run {
        let mut child = self.command(words).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        // Not every command reads it.
        let _ = pipe.write_all(stdin.as_bytes());
        drop(pipe);
        let output = child.wait_with_output().unwrap();
        Run {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs it; it must succeed. Gives stdout.
    pub(crate) fn ok(&self, words: &[&str], stdin: &str) -> String {
        let run = self.run(words, stdin);
        assert_eq!(run.status, 0, "{words:?}: {run:?}");
        run.stdout
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }
}
