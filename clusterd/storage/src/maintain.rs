//! Merging batches outside of apply.

use state::State;
use state::shard::MergeDone;

/// What one round of merging did.
#[derive(Debug, Default)]
pub struct MergeRun {
    /// To be handed to [`State::install_merge`] on the thread that applies, then published without changes.
    pub done: Vec<MergeDone>,
    pub updates: usize,
}

/// Runs the merges that a view calls for, at most one per shard, until about `updates_max` updates have been rewritten. Call it on a
/// thread that may be busy for a while; again at once if anything was done, and after the next commits otherwise.
pub fn merge_once(view: &State, updates_max: usize) -> MergeRun {
    let mut run = MergeRun::default();
    for job in view.merge_jobs() {
        if run.updates >= updates_max {
            break;
        }
        run.updates += job.updates();
        run.done.push(job.run());
    }
    run
}
