//! A node whose disk is lost: nobody takes what is left of it for the node that it was, and its place is taken by a new one.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::Server;
use rand::RngExt;

use super::{Field, READY_WITHIN, shown};

/// A node that may not come back must say so within this.
const SAID_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What a node is told whose token has been used: by a founder, by another node when it is that of a later one, and when no founder is left.
const VOID: [&str; 3] = [
    "the token is void",
    "the join token was used by",
    "it refuses: this node is in an environment",
];
/// What a node is told that was removed.
const REMOVED: [&str; 1] = ["was removed from the environment"];

impl Field<'_> {
    /// SIGKILL for one node. It must be refused with an empty disk, and after `node remove` with its own disk, too. With a token of its own it comes in as another node, which must
    /// soon be all that the old one was.
    pub(super) async fn wipe(&mut self, place: usize) -> Result<String> {
        let old = self.names(&[place]);
        let others = self.others(&[place]);
        let through = others[self.rng.random_range(0..others.len())];
        tokio::task::block_in_place(|| self.mesh.node_mut(place).kill9());
        let killed = Instant::now();
        let went_on = self.go_on(&others, killed).await?;

        let disk = self.mesh.node(place).data_dir().to_owned();
        let aside = aside(&disk);
        std::fs::rename(&disk, &aside).context("putting the disk aside")?;
        self.comes_back_in_vain(place, "with an empty disk", &VOID)?;
        self.remove(place, through)?;
        remove_dir(&disk)?;
        std::fs::rename(&aside, &disk).context("putting the disk back")?;
        self.comes_back_in_vain(place, "after it was removed", &REMOVED)?;
        remove_dir(&disk)?;

        let joins = Instant::now();
        self.mesh.join_anew(place, through).await?;
        self.mesh.wait_whole(READY_WITHIN).await?;
        let whole = shown(joins.elapsed());
        let new = self.names(&[place]);
        ensure!(old != new, "a new node is called {old} like the one before");
        let all = self.go_on(&self.all(), Instant::now()).await?;
        Ok(format!(
            "wiped {old}, the others went on after {went_on}; {new} took its place in {whole}, all went on after {all}"
        ))
    }

    fn remove(&self, place: usize, through: usize) -> Result<()> {
        let removed = tokio::task::block_in_place(|| self.mesh.remove(place, through));
        removed.context("removing the node whose disk is lost")
    }

    /// Starts a node again as it was started before: it must say one of these reasons, and serve nothing. Whether it ends then is its own affair.
    fn comes_back_in_vain(&mut self, place: usize, how: &str, reasons: &[&str]) -> Result<()> {
        self.mesh.spawn(place)?;
        let node = self.mesh.node_mut(place);
        let told = tokio::task::block_in_place(|| says_one_of(node, reasons));
        let serves = node.http("/readyz").is_ok_and(|(status, _)| status == 200);
        let ended_well = node
            .wait_exit(Duration::ZERO)
            .is_some_and(|status| status.success());
        tokio::task::block_in_place(|| node.kill9());
        if !told || serves || ended_well {
            self.shared.finding(format!(
                "the node at place {place}, back {how}, is ready: {serves}, ended with 0: {ended_well}, and says\n{}",
                node.output_end()
            ));
        }
        Ok(())
    }
}

/// Waits until a node has printed one of these.
fn says_one_of(node: &Server, reasons: &[&str]) -> bool {
    let started = Instant::now();
    loop {
        let output = node.output();
        if reasons.iter().any(|reason| output.contains(reason)) {
            return true;
        }
        if started.elapsed() > SAID_WITHIN {
            return false;
        }
        // It returns at once when that is there, and looks at the others a moment later otherwise.
        node.wait_output(reasons[0], LOOK_EVERY);
    }
}

/// Where a directory is kept while it is said to be lost.
fn aside(disk: &std::path::Path) -> PathBuf {
    disk.with_extension("aside")
}

/// Deletes what a refused start may have made.
fn remove_dir(disk: &std::path::Path) -> Result<()> {
    match std::fs::remove_dir_all(disk) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", disk.display()))
        }
        _ => Ok(()),
    }
}
