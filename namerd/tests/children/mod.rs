//! Tests that need a process of their own: the test binary runs itself again for one of its tests, which does its part only
//! then. Called by `crash` and `disk`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a child finds the folder that it works on; tests that are parts of children return at once without it.
const FOLDER: &str = "SWITCHYARD_TEST_FOLDER";

/// The folder of this process, if it is a child.
pub(crate) fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// A command that runs the test `part` as a child over `folder`; `through` is a command that runs it, if any.
pub(crate) fn command(part: &str, folder: &Path, through: &[&str]) -> Command {
    let binary = std::env::current_exe().expect("the path of this binary");
    let mut command = match through {
        [] => Command::new(&binary),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(&binary);
            command
        }
    };
    command.args(["--exact", part, "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, folder).env("RUST_BACKTRACE", "0");
    command
}
