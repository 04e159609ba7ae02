//! Folders of goldenscripts: each file is run by a runner of its own, and must print what it holds. `UPDATE_GOLDENFILES=1` accepts what they print.

use std::io;
#[cfg(feature = "planted")]
use std::path::Path;

use goldenscript::Runner;

/// Runs every script of a folder.
///
/// # Errors
/// If one prints something else or cannot be read.
///
/// # Panics
/// If the folder is empty.
pub fn run_all<R: Runner>(dir: &str, new: impl Fn() -> R) -> io::Result<()> {
    let files = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path()));
    let mut paths = files.collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    assert!(!paths.is_empty(), "{dir} holds no scripts");
    paths
        .iter()
        .try_for_each(|path| goldenscript::run(&mut new(), path))
}

/// Demands that each planted bug changes what the script of its hazard prints, and that the script passes without it. A bug is chosen for the whole process: run
/// such a test alone.
///
/// # Errors
/// If a script cannot be read.
///
/// # Panics
/// If a script does not notice its bug.
#[cfg(feature = "planted")]
pub fn catch<R: Runner>(
    dir: &str,
    bugs: &[(&'static str, &str)],
    new: impl Fn() -> R,
) -> io::Result<()> {
    for (bug, script) in bugs {
        let expected = std::fs::read_to_string(Path::new(dir).join(script))?;
        let passes = || {
            let output = goldenscript::generate(&mut new(), &expected);
            output.is_ok_and(|output| output == expected)
        };
        planted::choose(Some(bug));
        let missed = passes();
        planted::choose(None);
        assert!(!missed, "{script} does not notice the bug {bug}");
        assert!(passes(), "{script} without a bug");
    }
    Ok(())
}
