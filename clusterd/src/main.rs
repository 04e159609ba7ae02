//! The one binary.

use clap::Parser;
use clusterd::config::Cli;

/// Sessions, apply and the workers free what others allocated; glibc's allocator locks for that, and keeps what it is given back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    clusterd::run(Cli::parse())
}
