//! The order in which the rewrites run.

use crate::transform::column_demand::column_demand;
use crate::transform::cse::common_subplans;
use crate::transform::equivalences::equivalences;
use crate::transform::fold_constants::fold_constants;
use crate::transform::fuse::fuse;
use crate::transform::inline_lets::{inline_lets, unique_locals};
use crate::transform::join_fusion::join_fusion;
use crate::transform::predicate_pushdown::predicate_pushdown;
use crate::transform::reduce_elision::reduce_elision;
use crate::transform::share_aggregates::share_aggregates;
use crate::transform::sum_scale::sum_scale;
use crate::transform::topk_elision::topk_elision;
use crate::transform::union_cancel::union_cancel;
use plan::Mir;

/// A plan that still changes after so many rounds is taken as it is.
pub const ROUNDS_MAX: usize = 12;

/// One rewrite of the whole plan.
pub type Rewrite = fn(Mir) -> Mir;

macro_rules! in_place {
    ($f:path) => {
        |mut mir| {
            $f(&mut mir);
            mir
        }
    };
}

/// The rewrites that are repeated until nothing changes, by name.
pub const LOGICAL: &[(&str, Rewrite)] = &[
    ("inline_lets", in_place!(inline_lets)),
    ("fuse", fuse),
    ("fold_constants", fold_constants),
    ("union_cancel", in_place!(union_cancel)),
    ("join_fusion", in_place!(join_fusion)),
    ("predicate_pushdown", predicate_pushdown),
    ("equivalences", in_place!(equivalences)),
    ("reduce_elision", in_place!(reduce_elision)),
    ("topk_elision", in_place!(topk_elision)),
    ("share_aggregates", in_place!(share_aggregates)),
    ("column_demand", column_demand),
];

/// The rewrites that end the logical phase.
pub const FINAL: &[(&str, Rewrite)] = &[
    ("common_subplans", common_subplans),
    ("column_demand", column_demand),
    ("inline_lets", in_place!(inline_lets)),
    ("fuse", fuse),
    ("sum_scale", in_place!(sum_scale)),
];

/// Applies all logical rewrites.
pub fn optimize(mut mir: Mir) -> Mir {
    if mir.depends_on().is_empty() {
        return optimize_constant(mir);
    }
    unique_locals(&mut mir, &mut 0);
    for _ in 0..ROUNDS_MAX {
        let before = mir.clone();
        for (_, rewrite) in LOGICAL {
            mir = rewrite(mir);
        }
        if mir == before {
            break;
        }
    }
    FINAL.iter().fold(mir, |mir, (_, rewrite)| rewrite(mir))
}

/// A plan that reads nothing is only evaluated: an INSERT of many rows should not be rewritten over and over.
fn optimize_constant(mut mir: Mir) -> Mir {
    inline_lets(&mut mir);
    fold_constants(fuse(mir))
}
