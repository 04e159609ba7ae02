//! The dataflows that the catalog wants.

use std::collections::BTreeMap;
use std::sync::Arc;

use plan::lir::{Dataflow, FORMAT_VERSION};
use repr::codec::CodecError;
use repr::{ClusterId, GlobalId, ShardId, Timestamp};
use state::Catalog;

/// Most bytes of one encoded plan.
pub const PLAN_BYTES_MAX: usize = 4 << 20;

/// One dataflow that should run.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Two dataflows are the same exactly when their hashes are; `as_of` plays no part.
    pub hash: u64,
    pub dataflow: Arc<Dataflow>,
    /// When it was created: it is not readable before.
    pub as_of: Timestamp,
}

impl Desired {
    pub(crate) fn exports(&self) -> impl Iterator<Item = GlobalId> + '_ {
        self.dataflow.exports.iter().map(|export| export.id)
    }
}

/// The shards a dataflow reads.
pub(crate) fn shards(dataflow: &Dataflow) -> impl Iterator<Item = ShardId> + '_ {
    dataflow.sources.values().map(|source| source.shard)
}

/// All dataflows of a CLUSTER, as the catalog has them, and those whose plans this binary cannot read. What `before` holds already is not
/// decoded again.
pub fn from_catalog(
    catalog: &Catalog,
    cluster: ClusterId,
    before: &BTreeMap<GlobalId, Desired>,
) -> (BTreeMap<GlobalId, Desired>, Vec<(GlobalId, CodecError)>) {
    let (mut found, mut unreadable) = (BTreeMap::new(), vec![]);
    let plans = catalog
        .items
        .values()
        .filter_map(|item| Some((item.id, item.plan()?)));
    for (id, plan) in plans.filter(|(_, plan)| plan.cluster == cluster) {
        let known = before
            .get(&id)
            .filter(|known| known.hash == plan.hash)
            .map(|known| Ok(known.dataflow.clone()));
        let decode =
            || repr::codec::decode(1..=FORMAT_VERSION, PLAN_BYTES_MAX, &plan.bytes).map(Arc::new);
        match known.unwrap_or_else(decode) {
            Ok(dataflow) => drop(found.insert(
                id,
                Desired {
                    hash: plan.hash,
                    dataflow,
                    as_of: plan.as_of,
                },
            )),
            Err(error) => unreadable.push((id, error)),
        }
    }
    (found, unreadable)
}
