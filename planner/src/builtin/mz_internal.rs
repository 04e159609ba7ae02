//! mz_internal: how the environment is run. What only one node knows is filled by that node.

use super::BuiltinCtx;
use super::mz_catalog::number;
use super::table::Table;
use repr::{Datum, PgTimestamp};
use state::State;

/// False if the relation shows what is not in S.
pub(super) fn fill(name: &str, ctx: &BuiltinCtx<'_>, table: &mut Table) -> bool {
    let fill = match name {
        "mz_cluster_voters" => voters,
        "mz_input_holds" => input_holds,
        "mz_leases" => leases,
        "mz_join_tokens" => join_tokens,
        _ => return false,
    };
    if let Some(state) = ctx.state {
        fill(state, table);
    }
    true
}

fn voters(state: &State, table: &mut Table) {
    for (cluster, placement) in state.placements() {
        for node in &placement.voters {
            table.add(&[
                ("cluster_id", number(cluster.0)),
                ("incarnation", number(placement.incarnation)),
                ("node_id", number(node.0)),
            ]);
        }
    }
}

/// How far back each CLUSTER keeps the tables that it reads.
fn input_holds(state: &State, table: &mut Table) {
    for (cluster, hold) in state.holds() {
        for (shard, frontier) in &hold.frontiers {
            let mut items = state.catalog().items.values();
            let Some(item) = items.find(|item| item.shard() == Some(*shard)) else {
                continue;
            };
            table.add(&[
                ("cluster_id", number(cluster.0)),
                ("incarnation", number(hold.incarnation)),
                ("object_id", Datum::String(&item.id.to_string())),
                ("frontier", Datum::MzTimestamp(*frontier)),
            ]);
        }
    }
}

/// How far back the gateways' open transactions may still read.
fn leases(state: &State, table: &mut Table) {
    for (gateway, oldest) in state.leases() {
        table.add(&[
            ("node_id", number(gateway.node.0)),
            ("incarnation", number(gateway.incarnation)),
            ("frontier", Datum::MzTimestamp(*oldest)),
        ]);
    }
}

/// Tokens are named by the start of their hash: neither they nor anything to make one from is known.
fn join_tokens(state: &State, table: &mut Table) {
    for (hash, token) in state.tokens() {
        let id: String = hash[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        let expires = i64::try_from(token.expires_us).ok();
        let expires = expires.and_then(|us| PgTimestamp::from_unix_micros(us).ok());
        let used_by = token.used_by.map_or(Datum::Null, |node| number(node.0));
        table.add(&[
            ("id", Datum::String(&id)),
            (
                "expires_at",
                expires.map_or(Datum::Null, Datum::TimestampTz),
            ),
            ("used_by", used_by),
        ]);
    }
}
