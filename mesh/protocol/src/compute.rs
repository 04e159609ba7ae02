//! Orders of a CLUSTER's leader to its replicas, and what the replicas answer.

use plan::lir::Dataflow;
use plan::{EvalError, Mfp};
use repr::{Diff, GlobalId, Row, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Who gives an order: the incarnation of the CLUSTER's Raft group (from ENV) and the leader's term in it.
///
/// A replica remembers the highest epoch it has seen, refuses lower ones on every command and echoes its own in every response.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Epoch {
    pub incarnation: u64,
    pub term: u64,
}

/// A command with its place in the order of its epoch.
///
/// `seq` counts from 1 per epoch and replica, and goes on when the replica is connected to anew; a gap is followed by [`Command::Hello`]. A replica processes
/// commands in that order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numbered {
    pub epoch: Epoch,
    pub seq: u64,
    pub command: Command,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// First command of an epoch and of each connection. Peeks that follow a command before it which never came are refused. The replica answers [`Response::Inventory`] and refuses older epochs from then on.
    Hello,
    /// Builds a dataflow, valid from `dataflow.as_of` on. Every input must be readable at that time, else the replica answers
    /// [`Response::DataflowFailed`]. A dataflow of the same id and hash that is running already is kept untouched.
    CreateDataflow {
        id: GlobalId,
        hash: u64,
        dataflow: Arc<Dataflow>,
    },
    /// Allows the exports of dataflow `id` to forget history before `frontier`; `None` (the empty frontier) drops the dataflow. Must not be sent
    /// before the matching grant is committed in the CLUSTER's log. It waits until no replica owes an answer to a peek before the frontier.
    AllowCompaction {
        id: GlobalId,
        frontier: Option<Timestamp>,
    },
    /// Ends a peek early; the replica may still answer it.
    CancelPeek { id: PeekId },
    /// All commands that rebuild the leader's wishes have been sent: dataflows not named since [`Command::Hello`] are dropped.
    InitializationComplete,
}

/// Unique per environment and time: 64 random bits of the gateway's start and a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeekId(pub u128);

/// One read of one arrangement at one timestamp. Answered exactly once.
///
/// It names the command it follows (`after`); a replica that has not processed that yet parks the peek until it has or the deadline
/// passes. It is answered with rows only while `since <= ts < upper`, checked while the trace is held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peek {
    pub id: PeekId,
    pub epoch: Epoch,
    pub after: u64,
    /// The export read: an index or a materialized view.
    pub target: PeekTarget,
    pub ts: Timestamp,
    /// Over the row of the arranged collection (original column order).
    pub mfp: Arc<Mfp>,
    /// Without ORDER BY: stop after this many rows.
    pub limit: Option<u64>,
    /// The answer's size limit; beyond it the answer is an error (53400).
    pub bytes_max: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeekTarget {
    pub id: GlobalId,
    /// Exactly these keys (packed in the order of the arrangement's key); `None`: all rows.
    pub keys: Option<Vec<Row>>,
}

/// Rows of an answer with their multiplicities (never negative).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PeekRows {
    pub rows: Vec<(Row, Diff)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PeekResponse {
    Rows(PeekRows),
    /// A definite SQL error: the collection holds an error at this time, or evaluation raised one.
    Error(EvalError),
    /// Not answered here; another replica or a later time may.
    Refused(Refusal),
}

/// Retryable refusals. They are final for a peek only when every replica has given one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    StaleEpoch,
    NotLeader,
    /// The export is not known here.
    UnknownId,
    /// `ts` lies before the export's since.
    HoldLost,
    Stopping,
    Cancelled,
    /// Too many peeks wait already.
    Busy,
}

/// What replicas tell the leader. Frontier reports are hints: coalesced, and losing one is harmless.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Response {
    /// Answer to [`Command::Hello`]: what runs here. (dataflow, plan hash, since, upper)
    Inventory {
        epoch: Epoch,
        dataflows: Vec<InventoryEntry>,
    },
    /// (export, since, upper); upper `None` = complete for ever.
    Frontiers {
        epoch: Epoch,
        frontiers: Vec<(GlobalId, Timestamp, Option<Timestamp>)>,
        arrangement_bytes: u64,
    },
    /// The dataflow could not be built, or was stopped because of the memory limit (53200).
    DataflowFailed {
        epoch: Epoch,
        id: GlobalId,
        error: EvalError,
    },
    Subscribe {
        epoch: Epoch,
        id: GlobalId,
        batch: SubscribeBatch,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryEntry {
    pub id: GlobalId,
    pub hash: u64,
    pub since: Timestamp,
    pub upper: Option<Timestamp>,
}

/// All changes of a subscribed collection with `lower <= time < upper`, sorted by time then row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubscribeBatch {
    pub lower: Timestamp,
    /// `None`: the collection will not change any more.
    pub upper: Option<Timestamp>,
    pub updates: Result<Vec<(Timestamp, Row, Diff)>, EvalError>,
}

impl SubscribeBatch {
    /// What it takes while it waits, about.
    pub fn byte_len(&self) -> usize {
        let rows = self.updates.as_ref().map_or(&[][..], |rows| &rows[..]);
        64 + rows
            .iter()
            .map(|(_, row, _)| row.byte_len() + 32)
            .sum::<usize>()
    }
}
