//! Answering the other nodes while this one leads ENV.

use super::leader::Applied;
use super::{Env, grows};
use crate::adapter::commit::Committer;
use bytes::Bytes;
use host::BoxFuture;
use mesh::{Refusal, Request};
use protocol::{Kind, Lane, ProposeAnswer, ReadPointAnswer, ReadPointCall};
use raft::{ProposeError, ReadError, Witness};
use repr::NodeId;
use state::{Command, Txn};
use std::sync::Arc;

type Answer = BoxFuture<'static, Result<Bytes, Refusal>>;

impl Env {
    /// From now on the transactions of other gateways share entries with those of this node's sessions.
    pub fn share_commits(&self, committer: Committer) {
        // There is one committer in a process.
        let _ = self.committer.set(committer);
    }

    /// Lets the other nodes' proposals and readers in.
    pub fn serve(self: &Arc<Self>) {
        let env = Arc::clone(self);
        let propose = move |request: Request| -> Answer {
            let env = Arc::clone(&env);
            Box::pin(async move {
                let answer = env.answer_proposal(request.body).await?;
                Ok(Bytes::from(answer.encode()))
            })
        };
        let env = Arc::clone(self);
        let read = move |request: Request| -> Answer {
            let env = Arc::clone(&env);
            Box::pin(async move {
                let witness = witness_of(&request)?;
                Ok(Bytes::from(env.answer_reader(witness).await.encode()))
            })
        };
        let transport = &self.transport;
        transport.serve_calls(Lane::Control, Kind::PROPOSE, Arc::new(propose));
        transport.serve_calls(Lane::Control, Kind::READ_POINT, Arc::new(read));
    }

    async fn answer_proposal(&self, body: Bytes) -> Result<ProposeAnswer, Refusal> {
        if !self.group.is_leader() {
            let leader = self.leader();
            return Ok(ProposeAnswer::NotLeader { leader });
        }
        // What the log holds every node must be able to read: nothing gets in that does not decode.
        let command =
            Command::decode(&body).map_err(|error| Refusal::Malformed(error.to_string()))?;
        Ok(match (command, self.committer.get()) {
            // Transactions that grow the data are told apart from the others there.
            (Command::Batch(batch), Some(committer)) => {
                answer_batch(committer, batch.txns, body.len()).await
            }
            (command, _) if self.group.disk_low() && grows(&command) => ProposeAnswer::DiskFull,
            (_, _) => self.answer_command(body).await,
        })
    }

    async fn answer_command(&self, body: Bytes) -> ProposeAnswer {
        let Some(done) = self.while_confirmed(self.group.propose(body)).await else {
            let reason = "no quorum confirms the entry".to_owned();
            return ProposeAnswer::Unknown { reason };
        };
        match done {
            Ok(done) => ProposeAnswer::Applied {
                index: done.pos.index,
                outcomes: done.response,
            },
            Err(ProposeError::NotLeader { leader }) => ProposeAnswer::NotLeader {
                leader: leader.map(NodeId),
            },
            Err(ProposeError::TooLarge { bytes, limit }) => ProposeAnswer::TooLarge {
                bytes: bytes as u64,
                limit: limit as u64,
            },
            Err(ProposeError::Unknown { reason }) => ProposeAnswer::Unknown { reason },
            Err(ProposeError::Closed) => ProposeAnswer::Stopping,
        }
    }

    async fn answer_reader(&self, witness: Option<Witness>) -> ReadPointAnswer {
        let position = self.group.read_position(witness);
        let confirmed = self.while_confirmed(position).await;
        match confirmed.unwrap_or(Err(ReadError::NoQuorum)) {
            Ok(pos) => ReadPointAnswer::At { index: pos.index },
            Err(ReadError::NotLeader { leader }) => ReadPointAnswer::NotLeader {
                leader: leader.map(NodeId),
            },
            Err(ReadError::NoQuorum) => ReadPointAnswer::NoQuorum,
            Err(ReadError::Closed { .. }) => ReadPointAnswer::Stopping,
        }
    }
}

/// What a gateway says of its own vote; nothing, if it is of a version that sends an empty body.
fn witness_of(request: &Request) -> Result<Option<Witness>, Refusal> {
    if request.body.is_empty() {
        return Ok(None);
    }
    let ReadPointCall { voted_term } = ReadPointCall::decode(&request.body)
        .map_err(|error| Refusal::Malformed(error.to_string()))?;
    Ok(Some(Witness {
        node: request.from.node.0,
        term: voted_term,
    }))
}

/// Another gateway's transactions. If this node loses the lead meanwhile they go on to the next leader from here; the gateway may ask there too, with the same tokens.
async fn answer_batch(committer: &Committer, txns: Vec<Txn>, bytes: usize) -> ProposeAnswer {
    match committer.commit_many(txns, bytes).await {
        Ok(Applied { index, outcomes }) => ProposeAnswer::Applied { index, outcomes },
        // Both are definite: nothing was proposed.
        Err(error) if error.sqlstate == "53100" => ProposeAnswer::DiskFull,
        Err(error) if error.sqlstate == "57P03" => ProposeAnswer::NotLeader { leader: None },
        Err(error) => ProposeAnswer::Unknown {
            reason: error.to_string(),
        },
    }
}
