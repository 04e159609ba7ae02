//! Reads on their way to another node and back.

use super::miss::{Miss, Try, from_failure};
use super::wire::MessageReceiver;
use super::{PeekRequest, Rows, Shared};
use crate::adapter::error::SqlError;
use bytes::Bytes;
use mesh::{CallError, Message, Refusal as Refused};
use parking_lot::Mutex;
use plan::Mfp;
use protocol::cluster::{self, CALL_BYTES_MAX, PeekAnswer, PeekCall, Read, RowsCall};
use protocol::{Kind, Lane, PeekRows, Refusal};
use repr::NodeId;
use repr::codec::CodecError;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// A read may take long: a view may have to be built first, a query to be computed. Its statement's own time-out ends it, and so does the silence of the node that is asked.
const CALL_WITHIN: Duration = Duration::from_secs(24 * 3600);
/// How often a node that has not answered yet is asked whether it is there, and how long it may take to say so.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// How long the stream of a large answer may take to open, and be silent afterwards.
const FETCH_WITHIN: Duration = Duration::from_secs(5);
/// Blocks known by their bytes. Prepared statements send the same one again and again.
const BLOCKS_MAX: usize = 1024;

pub(crate) fn read_of(request: &PeekRequest) -> Read {
    Read {
        export: request.export,
        keys: request.keys.clone(),
        ts: request.ts,
        mfp: cluster::encode(&*request.mfp),
        limit: request.limit,
        bytes_max: request.bytes_max,
    }
}

/// Blocks that other nodes have sent. The workers keep a block ready to run for as long as it is the same one.
#[derive(Default)]
pub(crate) struct Blocks {
    known: Mutex<HashMap<Vec<u8>, Arc<Mfp>>>,
}

impl Blocks {
    fn get(&self, bytes: Vec<u8>) -> Result<Arc<Mfp>, CodecError> {
        let mut known = self.known.lock();
        if let Some(mfp) = known.get(&bytes) {
            return Ok(Arc::clone(mfp));
        }
        let mfp: Arc<Mfp> = Arc::new(cluster::decode(CALL_BYTES_MAX, &bytes)?);
        if known.len() >= BLOCKS_MAX {
            known.clear();
        }
        known.insert(bytes, Arc::clone(&mfp));
        Ok(mfp)
    }

    /// A read as it was before it travelled. What it was planned with stays behind.
    pub fn request(&self, read: Read) -> Result<PeekRequest, CodecError> {
        let Read {
            export,
            keys,
            ts,
            mfp,
            limit,
            bytes_max,
        } = read;
        Ok(PeekRequest {
            export,
            plan_hash: 0,
            keys,
            ts,
            mfp: self.get(mfp)?,
            limit,
            bytes_max,
            catalog_version: 0,
            relaxed: false,
        })
    }
}

/// What another node said.
pub(crate) enum Answered {
    Rows(Rows),
    Failed(SqlError),
    Refused(Refusal),
    NotLeader(Option<NodeId>),
    /// It cannot be reached, or does not say anything that makes sense.
    Nothing,
}

/// Has another node carry out a read.
pub(crate) async fn ask(shared: &Shared, node: NodeId, call: &PeekCall) -> Answered {
    let message = Message::new(Lane::Peek, Kind::PEEK, cluster::encode(call));
    let call = shared.transport.call(node, message, CALL_WITHIN);
    let answer = tokio::select! {
        biased;
        answer = call => answer,
        () = silence(shared, node) => Err(CallError::Deadline { to: node }),
    };
    match answer {
        Ok(bytes) => answered(shared, node, &bytes).await,
        Err(CallError::TooLong { bytes, limit, .. }) => Answered::Failed(SqlError::new(
            "54000",
            format!("a query of {bytes} bytes is longer than the {limit} that another node takes"),
        )),
        Err(CallError::Refused {
            refusal: Refused::Malformed(reason),
            ..
        }) => Answered::Failed(
            SqlError::new("54001", "the query is too complex for another node").detail(reason),
        ),
        Err(error) => {
            tracing::debug!(%error, %node, "a read was not answered");
            Answered::Nothing
        }
    }
}

/// Resolves when the node does not answer at all. The mesh notices a connection that is lost; a network may also lose only what is asked.
async fn silence(shared: &Shared, node: NodeId) {
    let (transport, clock) = (&*shared.transport, &*shared.host.clock);
    loop {
        clock.sleep(PROBE_EVERY).await;
        let there = mesh::ping(transport, clock, node, Lane::Peek, PROBE_EVERY);
        if there.await.is_err() {
            return;
        }
    }
}

async fn answered(shared: &Shared, node: NodeId, bytes: &Bytes) -> Answered {
    match cluster::decode(CALL_BYTES_MAX, bytes) {
        Ok(PeekAnswer::Rows(rows)) => Answered::Rows(rows.rows),
        Ok(PeekAnswer::Kept { ticket }) => fetch(shared, node, ticket)
            .await
            .map_or(Answered::Nothing, Answered::Rows),
        Ok(PeekAnswer::Failed(failure)) => Answered::Failed(from_failure(failure)),
        Ok(PeekAnswer::Refused(refusal)) => Answered::Refused(refusal),
        Ok(PeekAnswer::NotLeader { leader }) => Answered::NotLeader(leader),
        Err(error) => {
            tracing::warn!(%error, %node, "the answer of a read cannot be read");
            Answered::Nothing
        }
    }
}

/// The rows of a large answer. If they are gone, the read is made again.
async fn fetch(shared: &Shared, node: NodeId, ticket: u64) -> Option<Rows> {
    let body = cluster::encode(&RowsCall { ticket });
    let message = Message::new(Lane::Bulk, Kind::PEEK, body);
    let stream = shared
        .transport
        .open(node, message, FETCH_WITHIN)
        .await
        .ok()?;
    let mut messages = MessageReceiver::new(stream.receiver);
    let clock = &*shared.host.clock;
    let rows = messages.next_unless_silent::<PeekRows>(clock, FETCH_WITHIN);
    Some(rows.await?.ok()?.rows)
}

impl Answered {
    /// As the answer of a leader.
    pub fn of_leader(self) -> Try<Rows> {
        match self {
            Answered::Rows(rows) => Ok(rows),
            Answered::Failed(error) => Err(Miss::Sql(error)),
            Answered::NotLeader(leader) => Err(Miss::Moved(leader)),
            Answered::Refused(_) | Answered::Nothing => Err(Miss::Moved(None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use repr::GlobalId;

    #[test]
    fn equal_blocks_become_one() {
        let blocks = Blocks::default();
        let request = PeekRequest {
            export: GlobalId(1),
            plan_hash: 0,
            keys: None,
            ts: 2,
            mfp: Arc::new(Mfp::identity(3)),
            limit: None,
            bytes_max: 4,
            catalog_version: 0,
            relaxed: false,
        };
        let first = blocks.request(read_of(&request)).unwrap();
        let second = blocks.request(read_of(&request)).unwrap();
        assert_eq!(*first.mfp, *request.mfp);
        assert!(Arc::ptr_eq(&first.mfp, &second.mfp));
        let broken = Read {
            mfp: vec![1, 250],
            ..read_of(&request)
        };
        assert!(blocks.request(broken).is_err());
    }
}
