//! Replaces views by their definitions.

use crate::PlanError;
use crate::optimize::OptimizerCatalog;
use crate::transform::inline_lets::unique_locals;
use plan::Mir;
use plan::mir::Id;
use repr::{ClusterId, GlobalId};
use std::collections::BTreeSet;

/// Which maintained relations are read as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All materialized views, wherever they are maintained, and the views with an index in this CLUSTER.
    Everything { cluster: ClusterId },
    /// Materialized views and indexed views of this CLUSTER; others are computed from their definition.
    In { cluster: ClusterId },
    /// None.
    Nothing,
}

/// The plan over tables, sources, system relations and kept materialized views, and the views that were inlined.
///
/// # Errors
/// If a view's definition cannot be planned.
pub fn inline_views(
    mir: Mir,
    catalog: &dyn OptimizerCatalog,
    keep: Keep,
) -> Result<(Mir, BTreeSet<GlobalId>), PlanError> {
    let mut inliner = Inliner {
        catalog,
        keep,
        next_local: 0,
        inlined: BTreeSet::new(),
    };
    let mut mir = mir;
    unique_locals(&mut mir, &mut inliner.next_local);
    inliner.inline(&mut mir)?;
    Ok((mir, inliner.inlined))
}

struct Inliner<'a> {
    catalog: &'a dyn OptimizerCatalog,
    keep: Keep,
    next_local: u64,
    inlined: BTreeSet<GlobalId>,
}

impl Inliner<'_> {
    fn inline(&mut self, mir: &mut Mir) -> Result<(), PlanError> {
        if let Mir::Get {
            id: Id::Global(id), ..
        } = mir
        {
            if let Some(definition) = self.definition(*id)? {
                *mir = definition;
                return self.inline(mir);
            }
            return Ok(());
        }
        mir.children_mut()
            .into_iter()
            .try_for_each(|child| self.inline(child))
    }

    fn definition(&mut self, id: GlobalId) -> Result<Option<Mir>, PlanError> {
        let indexed_in = |cluster| {
            self.catalog
                .arrangements(id)
                .iter()
                .any(|a| a.cluster == cluster)
        };
        let kept = match (self.keep, self.catalog.maintained_by(id)) {
            (Keep::Nothing, _) => false,
            (Keep::Everything { .. }, Some(_)) => true,
            (Keep::Everything { cluster } | Keep::In { cluster }, _) => indexed_in(cluster),
        };
        if kept {
            return Ok(None);
        }
        let Some(definition) = self.catalog.definition(id) else {
            return Ok(None);
        };
        let mut mir = Mir::clone(&*definition?);
        self.inlined.insert(id);
        unique_locals(&mut mir, &mut self.next_local);
        Ok(Some(mir))
    }
}
