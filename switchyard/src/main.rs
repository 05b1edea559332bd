//! The `switchyard` binary: the router's command line, and the demo of router and namerd together.
//!
//! A crate of its own because the demo runs both, and router and namerd do not know each other.

mod cli;
mod demo;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main(std::env::args_os())
}
