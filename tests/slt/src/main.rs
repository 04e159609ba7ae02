//! Runs sqllogictest files against a server, as the dialect `postgresql`.
//!
//! What this is: a client that sends each statement, formats each answer as the files expect it, and compares. With `--maintained` every query also
//! becomes a materialized view whose rows must be those of the one-shot answer; views of the first queries are made before the file's first INSERT,
//! so that they are maintained through all of it.
//! What this is not: an editor of the files. Where an answer rightly differs, `exceptions.txt` names file, line and reason.
//!
//! A statement that the server refuses with 0A000 (not supported yet) is counted, not failed.

mod parse;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use harness::Target;

#[derive(Parser)]
struct Arguments {
    /// The server, as user@host:port/dbname. Tables and views of its public schema with names from the files are dropped.
    #[arg(long)]
    subject: String,
    /// Compare maintained views with one-shot answers as well.
    #[arg(long)]
    maintained: bool,
    /// Queries per file at most, 0 for all.
    #[arg(long, default_value_t = 0)]
    queries: usize,
    /// Lines of `file:line<TAB>reason`.
    #[arg(long)]
    exceptions: Option<PathBuf>,
    files: Vec<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match all(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn all(arguments: &Arguments) -> Result<()> {
    let target =
        Target::parse(&arguments.subject).context("--subject is not user@host:port/dbname")?;
    let exceptions = match &arguments.exceptions {
        Some(path) => run::exceptions(
            &std::fs::read_to_string(path).with_context(|| path.display().to_string())?,
        )?,
        None => run::Exceptions::new(),
    };
    let mut failed = 0;
    for file in &arguments.files {
        let name = file
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let records = parse::records(&text).with_context(|| name.clone())?;
        let count = run::file(
            &target,
            &name,
            &records,
            &exceptions,
            arguments.queries,
            arguments.maintained,
        )
        .await?;
        println!("{}: {count}", file.display());
        ensure!(
            count.passed > 0,
            "{name}: nothing passed, so nothing was checked"
        );
        failed += count.failed;
    }
    ensure!(failed == 0, "{failed} record(s) failed");
    Ok(())
}
