//! openraft's requests through [`Peers`], and the other side: answering them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::Either;
use host::{DiskFile, OpenMode};
use openraft::error::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use crate::machine::{Machine, Shared};
use crate::peers::{PeerError, Peers};
use crate::readers;
use crate::rpc::{self, RpcKind, SnapshotPiece};
use crate::snapshot::SnapshotFile;
use crate::types::{SnapshotMeta, Types, Vote};
use crate::{GroupId, Member};

/// Bytes of a snapshot in one request.
const PIECE_BYTES: usize = 1 << 20;
/// How long the last piece may take: the receiver restores its state before it answers.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);

type Snapshot = openraft::type_config::alias::SnapshotOf<Types, SnapshotFile>;

/// Makes the clients of one group.
pub(crate) struct Network {
    pub shared: Arc<Shared>,
    pub peers: Arc<dyn Peers>,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, member: &Member) -> Client {
        let shared = self.shared.clone();
        let group = shared.config.group;
        Client {
            shared,
            peers: self.peers.clone(),
            group,
            target,
            member: member.clone(),
        }
    }
}

/// Calls one member of one group.
pub(crate) struct Client {
    shared: Arc<Shared>,
    peers: Arc<dyn Peers>,
    group: GroupId,
    target: u64,
    member: Member,
}

impl Client {
    async fn call<T>(
        &self,
        kind: RpcKind,
        body: Bytes,
        timeout: Duration,
        decode: impl Fn(&Bytes) -> Option<T>,
    ) -> Result<T, PeerError> {
        let answer = self
            .peers
            .call(self.target, &self.member, self.group, kind, body, timeout)
            .await?;
        decode(&answer).ok_or_else(|| PeerError::Refused("the answer cannot be read".to_owned()))
    }

    /// Whether this node is still heard in return, see [`crate::hearing`].
    fn may_append(&self, term: u64) -> bool {
        let Shared {
            config,
            host,
            hearing,
            ..
        } = &*self.shared;
        let patience = config.election.quorum_patience();
        hearing.may_send(config.node, term, host.clock.now(), patience)
    }

    fn rpc_error(&self, action: RPCTypes, timeout: Duration, error: PeerError) -> RPCError<Types> {
        match error {
            PeerError::Unreachable(_) | PeerError::Refused(_) => {
                RPCError::Unreachable(Unreachable::new(&error))
            }
            PeerError::Timeout => {
                let (id, target) = (self.shared.config.node, self.target);
                RPCError::Timeout(Timeout {
                    action,
                    id,
                    target,
                    timeout,
                })
            }
        }
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: &Snapshot,
        ttl: Duration,
    ) -> Result<Vote, StreamingError<Types>> {
        let SnapshotFile {
            file,
            file_bytes,
            path: _,
            meta: _,
        } = &snapshot.snapshot;
        let transfer = self.shared.host.rng.next_u64();
        let mut offset = 0;
        loop {
            let len = usize::try_from(file_bytes - offset)
                .unwrap_or(usize::MAX)
                .min(PIECE_BYTES);
            let mut bytes = vec![0; len];
            file.read_exact_at(offset, &mut bytes)
                .map_err(|e| StreamingError::Network(NetworkError::new(&e)))?;
            let (meta, bytes) = (snapshot.meta.clone(), Bytes::from(bytes));
            let piece = SnapshotPiece {
                vote,
                transfer,
                meta,
                file_bytes: *file_bytes,
                offset,
                bytes,
            };
            offset += len as u64;
            let last = offset == *file_bytes;
            let timeout = if last { INSTALL_TIMEOUT } else { ttl };
            let body = rpc::encode_piece(&piece);
            let answer = self
                .call(RpcKind::Snapshot, body, timeout, rpc::decode_piece_taken)
                .await;
            let theirs = answer.map_err(|e| StreamingError::Unreachable(Unreachable::new(&e)))?;
            if last || theirs > vote {
                return Ok(theirs);
            }
        }
    }
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let ttl = option.hard_ttl();
        let term = rpc.vote.leader_id.term;
        if !self.may_append(term) {
            return Err(RPCError::Unreachable(Unreachable::from_string(
                "silent: no quorum answers this node",
            )));
        }
        readers::telling(&self.shared, rpc.leader_commit.as_ref());
        let answer = self
            .call(
                RpcKind::AppendEntries,
                rpc::encode_append(rpc),
                ttl,
                rpc::decode_appended,
            )
            .await;
        if answer.is_ok() {
            let now = self.shared.host.clock.now();
            self.shared.hearing.answered(self.target, term, now);
        }
        answer.map_err(|e| self.rpc_error(RPCTypes::AppendEntries, ttl, e))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let ttl = option.hard_ttl();
        let answer = self
            .call(
                RpcKind::Vote,
                rpc::encode_vote(&rpc),
                ttl,
                rpc::decode_voted,
            )
            .await;
        answer.map_err(|e| self.rpc_error(RPCTypes::Vote, ttl, e))
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let ttl = option.hard_ttl();
        let answer = self
            .call(
                RpcKind::PreVote,
                rpc::encode_vote(&rpc),
                ttl,
                rpc::decode_voted,
            )
            .await;
        answer.map_err(|e| self.rpc_error(RPCTypes::Vote, ttl, e))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let sending = std::pin::pin!(self.send_snapshot(vote, &snapshot, option.hard_ttl()));
        match futures::future::select(sending, std::pin::pin!(cancel)).await {
            Either::Left((sent, _)) => sent.map(SnapshotResponse::new),
            Either::Right((closed, _)) => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let ttl = option.hard_ttl();
        let body = rpc::encode_transfer(&req);
        let answer = self
            .call(RpcKind::TransferLeader, body, ttl, rpc::decode_transferred)
            .await;
        answer.map_err(|e| self.rpc_error(RPCTypes::TransferLeader, ttl, e))
    }
}

/// A snapshot on its way in.
pub(crate) struct Incoming {
    transfer: u64,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    next: u64,
}

/// Answers requests of peers.
pub(crate) struct Server {
    pub shared: Arc<Shared>,
    pub raft: openraft::Raft<Types, Machine>,
    /// One transfer at a time; a new one replaces it.
    pub incoming: tokio::sync::Mutex<Option<Incoming>>,
}

impl Server {
    pub async fn respond(&self, kind: RpcKind, body: Bytes) -> Result<Bytes, PeerError> {
        match kind {
            RpcKind::AppendEntries => {
                let request = rpc::decode_append(&body).ok_or_else(unreadable)?;
                let response = self.raft.append_entries(request).await.map_err(refused)?;
                Ok(rpc::encode_appended(&response))
            }
            RpcKind::Vote => {
                let request = rpc::decode_vote(&body).ok_or_else(unreadable)?;
                Ok(rpc::encode_voted(
                    &self.raft.vote(request).await.map_err(refused)?,
                ))
            }
            RpcKind::PreVote => {
                let request = rpc::decode_vote(&body).ok_or_else(unreadable)?;
                Ok(rpc::encode_voted(
                    &self.raft.pre_vote(request).await.map_err(refused)?,
                ))
            }
            RpcKind::TransferLeader => {
                let request = rpc::decode_transfer(&body).ok_or_else(unreadable)?;
                let response = self
                    .raft
                    .handle_transfer_leader(request)
                    .await
                    .map_err(refused)?;
                Ok(rpc::encode_transferred(&response))
            }
            RpcKind::VotedTerm => Ok(rpc::encode_term(self.shared.readers.term())),
            RpcKind::Snapshot => {
                let piece = rpc::decode_piece(&body).ok_or_else(unreadable)?;
                let vote = self.piece(piece).await?;
                Ok(rpc::encode_piece_taken(&vote))
            }
        }
    }

    async fn piece(&self, piece: SnapshotPiece) -> Result<Vote, PeerError> {
        let mut incoming = self.incoming.lock().await;
        if piece.offset == 0 {
            *incoming = Some(self.begin(piece.transfer).map_err(refused)?);
        }
        let current = incoming
            .as_mut()
            .filter(|i| i.transfer == piece.transfer && i.next == piece.offset);
        let Some(current) = current else {
            return Err(PeerError::Refused(
                "a piece of a snapshot does not follow the last one".to_owned(),
            ));
        };
        current
            .file
            .write_at(piece.offset, &piece.bytes)
            .map_err(refused)?;
        current.next += piece.bytes.len() as u64;
        if current.next < piece.file_bytes {
            return Ok(piece.vote);
        }
        current.file.sync_data().map_err(refused)?;
        let done = incoming.take().expect("it was there");
        self.install(piece.vote, piece.meta, done).await
    }

    fn begin(&self, transfer: u64) -> io::Result<Incoming> {
        let path = self.shared.snapshots.incoming(transfer);
        let file = self
            .shared
            .snapshots
            .disk()
            .open(&path, OpenMode::Truncate)?;
        Ok(Incoming {
            transfer,
            path,
            file: file.into(),
            next: 0,
        })
    }

    async fn install(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        incoming: Incoming,
    ) -> Result<Vote, PeerError> {
        let Incoming {
            path,
            file,
            next,
            transfer: _,
        } = incoming;
        let snapshot = SnapshotFile {
            path,
            file,
            file_bytes: next,
            meta: meta.clone(),
        };
        // Damage on the way must be found before openraft takes the snapshot for good.
        let mut sink = io::sink();
        snapshot
            .restore(|reader| io::copy(reader, &mut sink).map(drop))
            .map_err(refused)?;
        let response = self
            .raft
            .install_full_snapshot(vote, Snapshot { meta, snapshot })
            .await
            .map_err(refused)?;
        Ok(response.vote)
    }
}

fn unreadable() -> PeerError {
    PeerError::Refused("the request cannot be read".to_owned())
}

fn refused(error: impl std::fmt::Display) -> PeerError {
    PeerError::Refused(error.to_string())
}
