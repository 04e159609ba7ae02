//! Dataflows in an order in which they can be created.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plan::lir::Dataflow;
use repr::GlobalId;

/// The ids such that each dataflow comes after those whose arrangements it imports; by id otherwise.
pub(crate) fn creation_order<'a>(
    dataflows: impl Iterator<Item = (GlobalId, &'a Arc<Dataflow>)>,
) -> Vec<GlobalId> {
    let dataflows: BTreeMap<GlobalId, &Arc<Dataflow>> = dataflows.collect();
    let exports = dataflows
        .iter()
        .flat_map(|(id, dataflow)| dataflow.exports.iter().map(|export| (export.id, *id)));
    let exporters: BTreeMap<GlobalId, GlobalId> = exports.collect();
    let mut order = Order {
        dataflows: &dataflows,
        exporters: &exporters,
        seen: BTreeSet::new(),
        done: vec![],
    };
    dataflows.keys().for_each(|id| order.visit(*id));
    order.done
}

struct Order<'a> {
    dataflows: &'a BTreeMap<GlobalId, &'a Arc<Dataflow>>,
    exporters: &'a BTreeMap<GlobalId, GlobalId>,
    seen: BTreeSet<GlobalId>,
    done: Vec<GlobalId>,
}

impl Order<'_> {
    fn visit(&mut self, id: GlobalId) {
        if !self.seen.insert(id) {
            return;
        }
        let exporters = self.exporters;
        let imports = self.dataflows[&id].indexes.keys();
        imports
            .filter_map(|import| exporters.get(import))
            .for_each(|exporter| self.visit(*exporter));
        self.done.push(id);
    }
}
