//! The rooms of the workspace and the only allowed arrows between them: `docs/architecture.md` has the table, this compares it with cargo.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// External crates with one home. A second user is a change of the architecture, not a dependency.
const HEAVY: &[(&str, &str)] = &[
    ("openraft", "raft"),
    ("quinn", "mesh"),
    ("rustls", "mesh"),
    ("rcgen", "mesh"),
    ("pgwire", "clusterd"),
    ("axum", "clusterd"),
    ("timely", "compute"),
    ("differential-dataflow", "compute"),
    ("bincode", "repr"),
    ("sqlparser", "planner"),
];

/// Crates that must not see these at all, because they decide and never act.
const PURE: &[&str] = &["repr", "plan", "state", "planner", "protocol", "controller"];
const IMPURE: &[&str] = &[
    "tokio",
    "rand",
    "tracing",
    "prometheus",
    "tempfile",
    "libc",
    "rustix",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .to_owned()
}

/// Per package: its normal dependencies, and its development dependencies.
struct Package {
    normal: BTreeSet<String>,
    development: BTreeSet<String>,
}

fn packages() -> BTreeMap<String, Package> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--offline",
            "--no-deps",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let package = |package: &Value| {
        let dependencies = package["dependencies"].as_array().expect("dependencies");
        let of = |wanted: bool| {
            dependencies
                .iter()
                .filter(|d| (d["kind"] == "dev") == wanted)
                .map(|d| text(&d["name"]))
                .collect()
        };
        (
            text(&package["name"]),
            Package {
                normal: of(false),
                development: of(true),
            },
        )
    };
    metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(package)
        .collect()
}

/// The table of docs/architecture.md: crate -> crates it may use. A cell of several names is separated by commas; `-` is none.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text =
        std::fs::read_to_string(root().join("docs/architecture.md")).expect("docs/architecture.md");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let parse = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let name = cells[0]
            .split('`')
            .nth(1)
            .expect("a crate in backquotes")
            .to_owned();
        let uses = cells
            .get(2)
            .expect("a column `may use`")
            .split(',')
            .map(|c| c.trim().trim_matches('`').to_owned());
        (name, uses.filter(|c| c != "-").collect())
    };
    rows.map(parse).collect()
}

#[test]
fn every_crate_is_in_the_table_and_every_row_is_a_crate() {
    let in_table: BTreeSet<String> = table().into_keys().collect();
    let in_workspace: BTreeSet<String> = packages().into_keys().collect();
    assert_eq!(
        in_table, in_workspace,
        "docs/architecture.md (left) and the workspace (right) name different crates"
    );
}

#[test]
fn only_the_arrows_of_the_table_exist() {
    let (table, packages) = (table(), packages());
    let ours: BTreeSet<&String> = packages.keys().collect();
    let mut wrong = Vec::new();
    for (name, package) in &packages {
        let allowed = &table[name];
        wrong.extend(
            package
                .normal
                .iter()
                .filter(|d| ours.contains(d) && !allowed.contains(*d))
                .map(|d| format!("{name} -> {d}")),
        );
        // Tests may use the test support on top.
        let support =
            |d: &String| d == "harness" || d == "scripts" || allowed.contains(d) || d == name;
        wrong.extend(
            package
                .development
                .iter()
                .filter(|d| ours.contains(d) && !support(d))
                .map(|d| format!("{name} -> {d} (dev)")),
        );
    }
    assert!(
        wrong.is_empty(),
        "arrows that docs/architecture.md does not allow: {wrong:#?}"
    );
}

#[test]
fn heavy_externals_stay_at_home() {
    let mut wrong = Vec::new();
    for (name, package) in packages() {
        for (external, home) in HEAVY {
            let used =
                package.normal.contains(*external) || package.development.contains(*external);
            if used && name != *home {
                wrong.push(format!("{name} uses {external}, which belongs to {home}"));
            }
        }
        if PURE.contains(&name.as_str()) {
            wrong.extend(
                IMPURE
                    .iter()
                    .filter(|i| package.normal.contains(**i))
                    .map(|i| format!("{name} is pure and uses {i}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A pure crate's `clippy.toml` is what keeps clocks, files and threads out of it; without the file clippy would allow them.
#[test]
fn guarded_crates_have_their_clippy_bans() {
    let folders = [
        "planner/repr",
        "planner/plan",
        "planner",
        "raft/state",
        "raft",
        "mesh/protocol",
        "mesh",
        "clusterd/controller",
        "clusterd/storage",
    ];
    for folder in folders {
        let path = root().join(folder).join("clippy.toml");
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(
            text.contains("disallowed-methods"),
            "{} bans nothing",
            path.display()
        );
    }
}
