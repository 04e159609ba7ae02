//! What only the node that is asked knows: whom it reaches, which groups it is a member of, how its links fare.

use crate::adapter::Adapter;
use crate::lead::GroupInfo;
use crate::node::Neighbour;
use planner::builtin::Table;
use raft::{GroupStatus, Progress};
use repr::{Datum, NodeId, RowArena};
use state::{Catalog, NodeStatus, State};
use std::time::Duration;

/// An id, an index or a count; all stay far below 2^63.
fn number(n: u64) -> Datum<'static> {
    Datum::Int64(i64::try_from(n).unwrap_or(i64::MAX))
}

fn maybe(n: Option<u64>) -> Datum<'static> {
    n.map_or(Datum::Null, number)
}

fn seconds(duration: Option<Duration>) -> Datum<'static> {
    duration.map_or(Datum::Null, |d| Datum::from(d.as_secs_f64()))
}

/// The nodes of the environment as this one sees them.
pub(super) fn liveness(adapter: &Adapter, state: &State, table: &mut Table) {
    let status = adapter.env.group().status().borrow().clone();
    let known = adapter.neighbours.known();
    let nodes = state.nodes().values();
    for node in nodes.filter(|node| node.status != NodeStatus::Removed) {
        let role = ("role", Datum::String(role(&status, node.id)));
        let id = ("node_id", number(node.id.0));
        if node.id == adapter.env.node() {
            let applied = number(adapter.env.storage().view().applied());
            table.add(&[
                id,
                role,
                ("reachable", Datum::TRUE),
                ("applied_index", applied),
            ]);
            continue;
        }
        let neighbour = known.get(&node.id);
        let now = adapter.host.clock.now();
        let silent_since = neighbour.and_then(|neighbour| neighbour.silent_since);
        let applied = neighbour.and_then(|neighbour| Some(neighbour.info.as_ref()?.applied));
        table.add(&[
            id,
            role,
            ("reachable", Datum::Bool(neighbour.is_some_and(answers))),
            (
                "silent_seconds",
                seconds(silent_since.map(|since| now.since(since))),
            ),
            (
                "round_trip_seconds",
                seconds(neighbour.and_then(|neighbour| neighbour.round_trip)),
            ),
            ("applied_index", maybe(applied)),
        ]);
    }
}

fn answers(neighbour: &Neighbour) -> bool {
    neighbour.silent_since.is_none() && neighbour.info.is_some()
}

/// What a node is in ENV's group.
fn role(status: &GroupStatus, node: NodeId) -> &'static str {
    if status.leader == Some(node.0) {
        "leader"
    } else if status.voters.contains(&node.0) {
        "voter"
    } else if status.members.contains_key(&node.0) {
        "learner"
    } else {
        "none"
    }
}

/// The Raft groups that this node is a member of.
pub(super) fn groups(adapter: &Adapter, catalog: &Catalog, table: &mut Table) {
    let group = adapter.env.group();
    let status = group.status().borrow().clone();
    group_row("env", &status, group.progress(), &[], table);
    for group in adapter.clusters.groups() {
        let GroupInfo {
            cluster,
            incarnation,
            status,
            progress,
        } = group;
        let Some(named) = catalog.clusters.get(&cluster) else {
            continue;
        };
        let others = [
            ("cluster_id", number(cluster.0)),
            ("incarnation", number(incarnation)),
        ];
        group_row(&named.name, &status, progress, &others, table);
    }
}

/// Who leads each CLUSTER, as the leaders say. One that cannot be reached is shown as it was known last.
pub(super) fn cluster_leaders(adapter: &Adapter, table: &mut Table) {
    for (cluster, info) in adapter.clusters.said() {
        table.add(&[
            ("cluster_id", number(cluster.0)),
            ("node_id", number(info.leader.0)),
            ("incarnation", number(info.epoch.incarnation)),
            ("term", number(info.epoch.term)),
        ]);
    }
}

/// The replicas that each CLUSTER's leader has.
pub(super) fn replica_statuses(adapter: &Adapter, table: &mut Table) {
    for (cluster, info) in adapter.clusters.said() {
        for replica in info.replicas {
            table.add(&[
                ("replica_id", number(replica.replica.0)),
                ("cluster_id", number(cluster.0)),
                ("node_id", number(replica.node.0)),
                ("ready", Datum::Bool(replica.ready)),
            ]);
        }
    }
}

fn group_row(
    name: &str,
    status: &GroupStatus,
    progress: Progress,
    others: &[(&str, Datum<'_>)],
    table: &mut Table,
) {
    let arena = RowArena::new();
    let list = |nodes: &mut dyn Iterator<Item = u64>| {
        let nodes: Vec<Datum<'_>> = nodes.map(number).collect();
        arena.make_datum(|packer| packer.push_list(&nodes))
    };
    let Progress {
        last,
        committed,
        applied,
    } = progress;
    let mut row = vec![
        ("name", Datum::String(name)),
        ("leader", maybe(status.leader)),
        ("term", number(status.term)),
        ("voters", list(&mut status.voters.iter().copied())),
        ("members", list(&mut status.members.keys().copied())),
        ("last_index", maybe(last)),
        ("committed_index", maybe(committed)),
        ("applied_index", maybe(applied)),
    ];
    row.extend_from_slice(others);
    table.add(&row);
}

/// This node's connections to the others.
pub(super) fn mesh_links(adapter: &Adapter, table: &mut Table) {
    for link in adapter.env.transport().stats() {
        let mesh::LinkStats {
            peer,
            lane,
            connected,
            rtt,
            bytes_sent,
            bytes_received,
            requests_sent,
            requests_failed,
            requests_received,
            connects,
            in_flight,
            queued_bytes,
            last_error,
        } = link;
        let rtt = adapter.neighbours.round_trip(peer, lane).or(rtt);
        let error = last_error.as_deref().map_or(Datum::Null, Datum::String);
        table.add(&[
            ("node_id", number(peer.0)),
            ("lane", Datum::String(lane.name())),
            ("connected", Datum::Bool(connected)),
            ("round_trip_seconds", seconds(rtt)),
            ("bytes_sent", number(bytes_sent)),
            ("bytes_received", number(bytes_received)),
            ("requests_sent", number(requests_sent)),
            ("requests_failed", number(requests_failed)),
            ("requests_received", number(requests_received)),
            ("connects", number(connects)),
            ("in_flight", number(in_flight)),
            ("queued_bytes", number(queued_bytes)),
            ("last_error", error),
        ]);
    }
}
