//! The one binary.

use clap::Parser;
use clusterd::config::Cli;

fn main() -> std::process::ExitCode {
    clusterd::run(Cli::parse())
}
