//! Deterministic simulations of an environment: one script per hazard of docs/consistency.md in `scripts`, each run under several seeds.
//!
//! All nodes live on one thread. Time, chance, disks and the network are simulated, for openraft, too (`raft::simulate_this_thread`), so a run is a function of its seed: `same_seed_same_run`
//! compares two traces of all messages. Each run is a process of its own (`run_alone`), because tokio draws, too, and says from what only once in a process: see `chance`. What it does not cover: replicas are threads of timely and are not here (the controller and the replicas have scripts and
//! tests of their own); a simulated disk syncs in one step, torn batches are the business of the log's tests; a node that is cut off goes on computing, one that
//! stands still (SIGSTOP) is only tested with real processes.
//!
//! A failure says how to replay it: `SIM_SEED=7 cargo test -p clusterd --test sim -- h01`. `SIM_TRACE=1` prints every message, `SIM_SEEDS=100` looks at more seeds, and
//! `UPDATE_GOLDENFILES=1` accepts what a script prints.

mod chance;
mod client;
mod history;
mod load;
mod nodes;
mod script;
mod world;

use script::Runner;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Seeds of a run that names none.
const SEEDS: u64 = 2;

fn path(name: &str) -> PathBuf {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/sim/scripts"));
    folder.join(name)
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn seeds() -> std::ops::RangeInclusive<u64> {
    match variable("SIM_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=variable("SIM_SEEDS").unwrap_or(SEEDS),
    }
}

/// What a script prints under a seed, and the hash of what happened. `bug`: one of the planted ones.
fn run(name: &str, seed: u64, bug: Option<&str>) -> Result<(String, String), String> {
    let told = |error: std::io::Error| error.to_string();
    let answer = tempfile::NamedTempFile::new().map_err(told)?;
    let mut process = Command::new(std::env::current_exe().map_err(told)?);
    process.args(["--exact", "run_alone", "--nocapture", "--test-threads=1"]);
    process.env(
        "SIM_RUN",
        format!("{name} {seed} {}", bug.unwrap_or("none")),
    );
    process
        .env("SIM_ANSWER", answer.path())
        .stdout(Stdio::null());
    let ended = process.status().map_err(told)?;
    let text = std::fs::read_to_string(answer.path()).map_err(told)?;
    match text.split_once('\n') {
        Some(("failed", why)) => Err(why.to_owned()),
        Some((trace, output)) if ended.success() => Ok((output.to_owned(), trace.to_owned())),
        _ => Err(format!("the simulation ended with {ended}")),
    }
}

/// Not a test by itself: one simulation, on behalf of the others.
#[test]
fn run_alone() {
    let Ok(order) = std::env::var("SIM_RUN") else {
        return;
    };
    let words: Vec<&str> = order.split(' ').collect();
    let (name, seed) = (words[0], words[1].parse().expect("a seed"));
    plant(words[2]);
    let input = std::fs::read_to_string(path(name)).expect("the script");
    let mut runner = Runner::new(seed);
    let answer = match goldenscript::generate(&mut runner, &input) {
        Ok(output) => format!("{:016x}\n{output}", runner.trace()),
        Err(error) => format!("failed\n{error}"),
    };
    let to = std::env::var_os("SIM_ANSWER").expect("where the answer goes");
    std::fs::write(to, answer).expect("the answer");
}

#[cfg(feature = "planted")]
fn plant(bug: &str) {
    let chosen = ["h1", "h2", "h5", "h17", "h21"]
        .into_iter()
        .find(|known| *known == bug);
    planted::choose(chosen);
}

#[cfg(not(feature = "planted"))]
fn plant(_: &str) {}

fn difference(expected: &str, got: &str) -> String {
    let lines = expected.lines().zip(got.lines());
    let first = lines.enumerate().find(|(_, (old, new))| old != new);
    match first {
        Some((line, (old, new))) => format!("line {}: {old:?} is now {new:?}", line + 1),
        None => "one is longer than the other".to_owned(),
    }
}

/// Runs one script; errors say what is different, and how to see it again.
fn check(name: &str, bug: Option<&str>) -> Result<(), String> {
    let input = std::fs::read_to_string(path(name)).map_err(|error| format!("{name}: {error}"))?;
    for seed in seeds() {
        let again = format!("replay: SIM_SEED={seed} cargo test -p clusterd --test sim -- {name}");
        let (output, _) = run(name, seed, bug).map_err(|error| format!("{error}\n{again}"))?;
        if output == input {
            continue;
        }
        if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
            return std::fs::write(path(name), output).map_err(|error| error.to_string());
        }
        return Err(format!(
            "{}\n{output}\n{again}",
            difference(&input, &output)
        ));
    }
    Ok(())
}

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {
        const SCRIPTS: &[&str] = &[$(stringify!($name)),*];
        mod scripts {
            $(#[test]
            fn $name() {
                if let Err(error) = super::check(stringify!($name), None) {
                    panic!("{error}");
                }
            })*
        }
    };
}

scripts! {
    h01_a_deposed_leader_answers_no_reader,
    h02_a_reader_who_comes_late_waits_for_the_next_round,
    h04_time_does_not_go_back_with_another_leader,
    h05_an_acknowledged_write_is_read_at_once_elsewhere,
    h13_a_repeated_proposal_is_executed_once,
    h17_a_follower_left_behind_gets_a_snapshot_with_everything,
    h18_nodes_come_and_go_one_at_a_time,
    h20_all_states_are_equal_at_equal_index,
    h21_a_clock_an_hour_ahead_hurries_nobody,
    h22_increments_at_all_nodes_are_all_counted,
    h26_power_loss_of_all_nodes_loses_nothing,
    h28_the_lease_of_a_dead_gateway_ends,
    h30_answers_find_their_requests,
    h38_a_late_duplicate_of_an_ended_session_is_refused,
    a_leader_that_hears_nobody_gives_way,
    minority_fails_fast_and_reads_what_it_has,
    chaos,
}

#[test]
fn every_script_is_run() {
    let mut files: Vec<String> = std::fs::read_dir(path(""))
        .expect("the scripts")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    files.sort();
    let mut named: Vec<&str> = SCRIPTS.to_vec();
    named.sort_unstable();
    assert_eq!(files, named);
}

#[test]
fn same_seed_same_run() {
    let seed = variable("SIM_SEED").unwrap_or(11);
    let trace = |seed| run("chaos", seed, None).expect("it runs").1;
    let one = trace(seed);
    assert_eq!(one, trace(seed), "two runs of seed {seed} differ");
    assert_ne!(one, trace(seed + 1), "the seed decides nothing");
}

/// Each planted bug makes the script of its row fail.
#[cfg(feature = "planted")]
#[test]
fn planted_bugs_are_caught() {
    let bugs = [
        ("h1", "h01_a_deposed_leader_answers_no_reader"),
        ("h2", "h02_a_reader_who_comes_late_waits_for_the_next_round"),
        ("h5", "h05_an_acknowledged_write_is_read_at_once_elsewhere"),
        (
            "h17",
            "h17_a_follower_left_behind_gets_a_snapshot_with_everything",
        ),
        ("h21", "h21_a_clock_an_hour_ahead_hurries_nobody"),
    ];
    for (bug, script) in bugs {
        let caught = check(script, Some(bug)).expect_err(bug);
        println!("{bug} is noticed: {caught}");
        assert_eq!(check(script, None), Ok(()), "without a bug");
    }
}
