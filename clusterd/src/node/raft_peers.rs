//! Raft's messages over the mesh: [`MeshPeers`] calls, [`Groups`] answers.

use bytes::Bytes;
use host::BoxFuture;
use mesh::{CallError, Message, Request, Transport};
use parking_lot::RwLock;
use protocol::raft::RaftFrame;
use protocol::{Kind, Lane};
use raft::{GroupId, Member, PeerError, Peers, Responder, RpcKind};
use repr::NodeId;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Kind of an answer that says why there is none; its payload is the reason.
const REFUSED: u8 = 0;

/// The members of groups that this node runs, by group.
#[derive(Default)]
pub struct Groups {
    members: RwLock<HashMap<u64, Arc<dyn Responder>>>,
}

impl Groups {
    /// From now on requests of `group`'s other members are answered.
    pub fn join(&self, group: GroupId, member: Arc<dyn Responder>) {
        self.members.write().insert(group.0, member);
    }

    pub fn leave(&self, group: GroupId) {
        self.members.write().remove(&group.0);
    }

    /// Lets the other nodes' Raft requests in.
    pub fn serve(self: &Arc<Self>, transport: &dyn Transport) {
        for lane in [Lane::Raft, Lane::Bulk] {
            let groups = Arc::clone(self);
            let handler =
                move |request: Request| -> BoxFuture<'static, Result<Bytes, mesh::Refusal>> {
                    let groups = Arc::clone(&groups);
                    Box::pin(async move { groups.answer(request.body).await })
                };
            transport.serve_calls(lane, Kind::RAFT, Arc::new(handler));
        }
    }

    async fn answer(&self, body: Bytes) -> Result<Bytes, mesh::Refusal> {
        let malformed = |what: &str| mesh::Refusal::Malformed(what.to_owned());
        let RaftFrame {
            group,
            kind,
            payload,
        } = RaftFrame::decode(body).ok_or_else(|| malformed("not a Raft frame"))?;
        let rpc = RpcKind::from_u8(kind).ok_or_else(|| malformed("an unknown Raft request"))?;
        let member = self.members.read().get(&group).cloned();
        let answered = match member {
            Some(member) => member.respond(rpc, payload).await,
            None => Err(PeerError::Refused(format!(
                "group {group} is not running here"
            ))),
        };
        let (kind, payload) = match answered {
            Ok(payload) => (kind, payload),
            Err(error) => (REFUSED, Bytes::from(error.to_string())),
        };
        let frame = RaftFrame {
            group,
            kind,
            payload,
        };
        Ok(frame.encode())
    }
}

/// Calls the members of groups on other nodes.
pub struct MeshPeers(Arc<dyn Transport>);

impl MeshPeers {
    pub fn new(transport: Arc<dyn Transport>) -> Arc<MeshPeers> {
        Arc::new(MeshPeers(transport))
    }
}

impl Peers for MeshPeers {
    fn call(
        &self,
        to: u64,
        _member: &Member,
        group: GroupId,
        kind: RpcKind,
        body: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let lane = match kind {
            RpcKind::Snapshot => Lane::Bulk,
            RpcKind::AppendEntries
            | RpcKind::Vote
            | RpcKind::PreVote
            | RpcKind::TransferLeader
            | RpcKind::VotedTerm => Lane::Raft,
        };
        let frame = RaftFrame {
            group: group.0,
            kind: kind.to_u8(),
            payload: body,
        };
        let message = Message::new(lane, Kind::RAFT, frame.encode());
        let call = self.0.call(NodeId(to), message, timeout);
        Box::pin(async move { answer(kind, call.await) })
    }
}

fn answer(kind: RpcKind, answered: Result<Bytes, CallError>) -> Result<Bytes, PeerError> {
    let bytes = answered.map_err(|error| match error {
        CallError::Deadline { .. } => PeerError::Timeout,
        CallError::Refused { .. } => PeerError::Refused(error.to_string()),
        CallError::Unreachable { .. }
        | CallError::Rejected { .. }
        | CallError::Full { .. }
        | CallError::TooLong { .. }
        | CallError::Lost { .. }
        | CallError::Closed => PeerError::Unreachable(error.to_string()),
    })?;
    let frame = RaftFrame::decode(bytes)
        .ok_or_else(|| PeerError::Refused("the answer is not a Raft frame".to_owned()))?;
    match frame.kind {
        REFUSED => Err(PeerError::Refused(
            String::from_utf8_lossy(&frame.payload).into_owned(),
        )),
        answered if answered == kind.to_u8() => Ok(frame.payload),
        other => Err(PeerError::Refused(format!(
            "an answer of kind {other} to a request of kind {}",
            kind.to_u8()
        ))),
    }
}
