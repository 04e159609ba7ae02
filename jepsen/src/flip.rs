//! Single flipped bits in durable files.
//!
//! A server writes through every path and is killed. Then, over copies of its directory, one bit below the end of what was written is flipped in one
//! file, and the server is started: it must refuse and name file and offset, or serve exactly the data that was there. Every file gets its share, the
//! newest bytes of each file (the last batch) get more.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use harness::files::{self, Written};
use harness::sql::error_text;
use harness::{Answer, Launch, Sql, StartError};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const SETUP: &str = "
    create table small (k int primary key, v text, n numeric(12,2));
    create table loose (a int, b text);
    create table churn (k int primary key, v text);
    create schema s; create table s.other (d date, t timestamp);
    create view plain as select a, count(*) as n from loose group by a;
    create materialized view v_sum as select count(*) as n, sum(n) as s, max(v) as m from small;
    create materialized view v_join as select l.a, s.v from loose l join small s on s.k = l.a;
    create index v_join_a on v_join (a)";

/// What a start over a damaged copy must still answer.
const QUESTIONS: [&str; 7] = [
    "select * from small",
    "select * from loose",
    "select * from s.other",
    "select * from plain",
    "select * from v_sum",
    "select * from v_join",
    "select * from churn",
];

/// The newest bytes of a file that get flips of their own.
const TAIL_BYTES: u64 = 2048;
/// Longest start over a damaged copy.
const READY_WITHIN: Duration = Duration::from_secs(60);

#[derive(Args)]
pub struct Options {
    #[arg(long)]
    binary: PathBuf,
    #[arg(long, default_value_t = 1000)]
    flips: usize,
    /// Statements that write before the damage.
    #[arg(long, default_value_t = 400)]
    writes: usize,
    /// Megabytes written and deleted first, so that the log is cut and a snapshot lies on disk.
    #[arg(long, default_value_t = 80)]
    churn_mib: usize,
    /// Where the copies go; a memory file system is fastest.
    #[arg(long)]
    scratch: Option<PathBuf>,
    /// One more argument for the server, such as a low snapshot threshold. Repeatable.
    #[arg(long = "arg", allow_hyphen_values = true)]
    arguments: Vec<String>,
    #[arg(long)]
    seed: Option<u64>,
}

/// How the flips of one file ended.
#[derive(Default)]
struct Count {
    refused: usize,
    harmless: usize,
}

pub async fn run(options: &Options) -> Result<()> {
    let seed = options.seed.unwrap_or_else(rand::random);
    println!(
        "jepsen flip: {} flips, seed {seed} (replay with --seed {seed})",
        options.flips
    );
    let mut rng = StdRng::seed_from_u64(seed);
    let temporary = match &options.scratch {
        Some(path) => tempfile::tempdir_in(path)?,
        None => tempfile::tempdir()?,
    };
    let original = temporary.path().join("original");
    let launch = options.arguments.iter().fold(
        Launch::new(&options.binary, &original).ready_within(READY_WITHIN),
        |l, a| l.arg(a),
    );
    let right = write(&launch, options, &mut rng).await?;
    // The log and the snapshots are what must never be trusted blindly; they lie in directories of their own.
    let all = files::written_files(&original)?;
    let written: Vec<Written> = all
        .iter()
        .filter(|f| f.path.components().count() > 1)
        .cloned()
        .collect();
    ensure!(
        written
            .iter()
            .any(|f| f.path.to_string_lossy().contains("snapshot")),
        "no snapshot was written; raise --churn-mib"
    );
    println!(
        "written: {}",
        written
            .iter()
            .map(|f| format!("{} ({} bytes)", f.path.display(), f.bytes))
            .collect::<Vec<_>>()
            .join(", ")
    );

    let copy = temporary.path().join("copy");
    copy_written(&original, &all, &copy)?;
    ensure!(
        matches!(
            start_over(&launch, &copy, &right, None).await?,
            Verdict::Harmless
        ),
        "the undamaged copy was refused"
    );

    copy_written(&original, &all, &copy)?;
    let mut counts: BTreeMap<PathBuf, Count> = BTreeMap::new();
    let started = Instant::now();
    for n in 1..=options.flips {
        let (file, offset, bit) = choose(&written, n, &mut rng);
        files::flip(&copy.join(&file.path), offset, bit)?;
        let what = format!(
            "flip {n}: bit {bit} of byte {offset} of {} ({} written), seed {seed}",
            file.path.display(),
            file.bytes
        );
        let count = counts.entry(file.path.clone()).or_default();
        match start_over(&launch, &copy, &right, Some(file))
            .await
            .context(what)?
        {
            Verdict::Refused => {
                // A refusal has changed nothing: with the bit put back, the copy is as good as new.
                count.refused += 1;
                files::flip(&copy.join(&file.path), offset, bit)?;
            }
            Verdict::Harmless => {
                count.harmless += 1;
                copy_written(&original, &all, &copy)?;
            }
        }
        if n % 100 == 0 {
            println!("{n} flips in {:.0} s", started.elapsed().as_secs_f64());
        }
    }
    for (path, count) in &counts {
        println!(
            "{}: {} refused with file and offset, {} harmless",
            path.display(),
            count.refused,
            count.harmless
        );
    }
    ensure!(
        matches!(
            start_over(&launch, &copy, &right, None).await?,
            Verdict::Harmless
        ),
        "a refusal changed the directory: the repaired copy does not start"
    );
    let refused: usize = counts.values().map(|c| c.refused).sum();
    ensure!(
        refused * 2 > options.flips,
        "only {refused} of {} flips were noticed",
        options.flips
    );
    println!(
        "OK: {} flips, {refused} refused with file and offset, the rest served exactly the right data; seed {seed}",
        options.flips
    );
    Ok(())
}

/// Writes through every path, asks everything, kills the server.
async fn write(launch: &Launch, options: &Options, rng: &mut StdRng) -> Result<Vec<Answer>> {
    let mut server = launch.start()?;
    let sql = server.target().connect().await?;
    let run = async |text: String| {
        sql.run(&text)
            .await
            .map_err(|e| anyhow::anyhow!("{text:.200}: {}", error_text(&e)))
    };
    for statement in SETUP.split(';') {
        run(statement.to_owned()).await?;
    }
    let megabyte = "m".repeat(900_000);
    for n in 0..options.churn_mib {
        run(format!("insert into churn values ({n}, '{megabyte}')")).await?;
        run(format!("delete from churn where k = {n}")).await?;
    }
    for n in 0..options.writes {
        let text = match rng.random_range(0..8) {
            0..4 => format!(
                "insert into small values ({n}, 'value {n} {}', {n}.25)",
                "x".repeat(rng.random_range(0..300))
            ),
            4 => format!(
                "insert into loose select x, 'row ' || x::text from generate_series(1, {}) x",
                rng.random_range(1..60)
            ),
            5 => format!(
                "update small set n = n + 1 where k = {}",
                rng.random_range(0..n + 1)
            ),
            6 => format!(
                "begin; delete from small where k = {}; insert into s.other values ('2024-01-01', '2024-01-01 10:00:00'); commit",
                rng.random_range(0..n + 1)
            ),
            _ => format!("create table t{n} (a int); drop table t{n}"),
        };
        run(text).await?;
    }
    let right = answers(&sql).await?;
    // The last acknowledged bytes belong to this one.
    run("insert into loose values (-1, 'the last batch')".to_owned()).await?;
    let right_after = answers(&sql).await?;
    ensure!(right != right_after, "the last write shows nowhere");
    server.kill9();
    Ok(right_after)
}

async fn answers(sql: &Sql) -> Result<Vec<Answer>> {
    let mut all = Vec::new();
    for question in QUESTIONS {
        all.push(
            sql.rows(question)
                .await
                .map_err(|e| anyhow::anyhow!("{question}: {}", error_text(&e)))?,
        );
    }
    Ok(all)
}

/// Copies the written part of every file; what was preallocated behind it becomes a hole of zeros.
fn copy_written(from: &Path, written: &[Written], to: &Path) -> io::Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to)?;
    }
    for file in written {
        let (source, target) = (from.join(&file.path), to.join(&file.path));
        std::fs::create_dir_all(target.parent().unwrap_or(to))?;
        let length = std::fs::metadata(&source)?.len();
        let mut content = io::Read::take(std::fs::File::open(source)?, file.bytes);
        let mut copy = std::fs::File::create(target)?;
        io::copy(&mut content, &mut copy)?;
        copy.set_len(length)?;
    }
    empty_files(from, from, to)
}

/// Files that hold only zeros, such as spare log segments, exist in the copy too.
fn empty_files(root: &Path, dir: &Path, to: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let target = to.join(entry.path().strip_prefix(root).map_err(io::Error::other)?);
        if entry.file_type()?.is_dir() {
            std::fs::create_dir_all(&target)?;
            empty_files(root, &entry.path(), to)?;
        } else if entry.file_type()?.is_file() && !target.exists() {
            std::fs::File::create(&target)?.set_len(entry.metadata()?.len())?;
        }
    }
    Ok(())
}

/// A file, a byte below its written end, a bit. Files take turns with choices by size; a third of the flips go to the newest bytes.
fn choose<'a>(written: &'a [Written], n: usize, rng: &mut StdRng) -> (&'a Written, u64, u8) {
    let total: u64 = written.iter().map(|f| f.bytes).sum();
    let mut at = rng.random_range(0..total);
    let by_size = written.iter().find(|f| {
        let inside = at < f.bytes;
        at = at.saturating_sub(f.bytes);
        inside
    });
    let file = if n.is_multiple_of(4) {
        &written[(n / 4) % written.len()]
    } else {
        by_size.unwrap_or(&written[0])
    };
    let from = if n.is_multiple_of(3) {
        file.bytes.saturating_sub(TAIL_BYTES)
    } else {
        0
    };
    (
        file,
        rng.random_range(from..file.bytes),
        rng.random_range(0..8),
    )
}

enum Verdict {
    Refused,
    Harmless,
}

/// Starts the server over the copy; anything but a good refusal or the right data is an error.
async fn start_over(
    launch: &Launch,
    copy: &Path,
    right: &[Answer],
    damaged: Option<&Written>,
) -> Result<Verdict> {
    match launch.clone().over(copy).start() {
        Ok(server) => {
            let sql = server
                .target()
                .connect()
                .await
                .context("connecting to a server that says it is ready")?;
            for ((question, found), right) in QUESTIONS.iter().zip(answers(&sql).await?).zip(right)
            {
                if let Some(difference) = found.difference(right) {
                    bail!("WRONG DATA: {question} (left: now, right: before): {difference}");
                }
            }
            Ok(Verdict::Harmless)
        }
        Err(StartError::Exited { status, output }) => {
            ensure!(
                !status.success() && !output.contains("panicked at"),
                "it did not refuse, it fell over ({status}):\n{output}"
            );
            let Some(file) = damaged else {
                bail!("refused:\n{output}")
            };
            let name = file
                .path
                .file_name()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default();
            ensure!(
                output.contains(&name) && (output.contains("offset") || output.contains("at byte")),
                "the refusal does not name {name} and an offset:\n{output}"
            );
            Ok(Verdict::Refused)
        }
        Err(error @ (StartError::Spawn { .. } | StartError::NotReady { .. })) => Err(error.into()),
    }
}
