//! The program: words in, exit status out.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(namerctl::run(std::env::args_os()))
}
