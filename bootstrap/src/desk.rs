//! What a member answers to nodes without a certificate.

use crate::data_dir::DataDir;
use crate::error::OpenError;
use crate::hex;
use crate::keys::{KeyFiles, Peers, Promise};
use crate::wire::{self, Admitted, Ask, Candidate, MeetReply, Meeting, Reply, Said};
use bytes::Bytes;
use host::{BoxFuture, Host};
use mesh::Generation;
use mesh::join::{Binding, JoinHandler, Question, Role};
use repr::NodeId;
use std::sync::{Arc, PoisonError, RwLock};

/// Whoever lets nodes into the environment: ENV does, by its log.
pub trait Admission: Send + Sync {
    /// Lets the applicant in, if it knows a token that is valid. An applicant whose key was let in before is given the same answer again.
    fn admit(&self, applicant: Applicant) -> BoxFuture<'static, Result<Admitted, Refused>>;
}

/// A node that wants to be let in.
pub struct Applicant {
    pub public_key: Vec<u8>,
    /// Where it says that others reach it.
    pub address: String,
    said: Said,
    binding: Binding,
}

impl Applicant {
    /// Whether the applicant knows the secret of which this is the hash.
    pub fn knows(&self, hash: &[u8; 32]) -> bool {
        self.said.is_proven(self.binding, hash, Role::Asking)
    }
}

/// Why a node was not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// For good: the token is unknown, used or has expired, or the node was removed.
    #[error("{0}")]
    Never(String),
    /// Nobody can say now.
    #[error("{0}")]
    Later(String),
}

/// Answers at the door of a node that belongs to an environment.
pub struct Desk {
    environment: u128,
    generation: Generation,
    authority: Vec<u8>,
    peers: Peers,
    /// Hash of the token that this node founded the environment with.
    founded_with: Option<Vec<u8>>,
    admission: RwLock<Option<Arc<dyn Admission>>>,
}

impl Desk {
    /// Founders are given their certificates at once; others have to wait for [`Desk::open`].
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn new(host: &Host, data_dir: &DataDir) -> Result<Arc<Desk>, OpenError> {
        let files = KeyFiles::of(host, data_dir.path())?;
        let identity = data_dir.identity();
        let founded_with = files.record(host)?.and_then(|record| match record.promise {
            Promise::Form(_) => hex::decode(&record.token).ok(),
            Promise::Join => None,
        });
        Ok(Arc::new(Desk {
            environment: identity.environment_id(),
            generation: identity.generation(),
            authority: files.authority_certificate(host)?,
            peers: files.peers(host)?,
            founded_with,
            admission: RwLock::default(),
        }))
    }

    /// From now on nodes with a token are let in.
    pub fn open(&self, admission: Arc<dyn Admission>) {
        let mut open = self
            .admission
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *open = Some(admission);
    }

    fn meet(&self, said: &Said, binding: Binding) -> Result<Reply, String> {
        let Some(hash) = &self.founded_with else {
            return Err("this node is in an environment, and it has not formed it with a token: ask one of its nodes for a token to join it, with clusterd token new --sql-addr".to_owned());
        };
        if !said.is_proven(binding, hash, Role::Asking) {
            return Err("this node is in an environment, which was formed with another token: ask one of its nodes for a token to join it, with clusterd token new --sql-addr".to_owned());
        }
        let meeting: Meeting = said.decode().map_err(|error| error.to_string())?;
        let reply = match self.founder(&meeting.me.public_key) {
            Some(admitted) => MeetReply::Admitted(admitted),
            None => {
                tracing::warn!(address = %meeting.me.address, "a node with the token of the founders, but none of their keys, was refused");
                MeetReply::Void(format!(
                    "environment {:032x} was formed with this token by {} nodes, and this one is none of them (or its disk was emptied since): the token is void. \
                     Ask a node of the environment for a new one, with clusterd token new --sql-addr, and leave out --bootstrap-expect",
                    self.environment,
                    self.peers.nodes.len()
                ))
            }
        };
        let said = Said::new(&reply, binding, hash, Role::Answering);
        Ok(Reply::Met(said))
    }

    /// What the founder with this key is given, now and ever again.
    fn founder(&self, public_key: &[u8]) -> Option<Admitted> {
        let mut nodes = self.peers.nodes.iter();
        let (node, peer) = nodes.find(|(_, peer)| peer.public_key == public_key)?;
        self.peers.founders.then_some(())?;
        Some(Admitted {
            certificate: peer.certificate.clone()?,
            ..self.admitted(*node)
        })
    }

    fn admitted(&self, node: NodeId) -> Admitted {
        let peers = self.peers.nodes.iter();
        Admitted {
            environment: self.environment,
            generation: self.generation.number,
            recovery: self.generation.nonce,
            node,
            authority: self.authority.clone(),
            certificate: Vec::new(),
            founders: self.peers.founders,
            peers: peers.map(|(node, peer)| (*node, peer.clone())).collect(),
        }
    }

    fn admission(&self) -> Option<Arc<dyn Admission>> {
        let admission = self.admission.read();
        admission.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn join(&self, said: Said, binding: Binding) -> BoxFuture<'static, Result<Bytes, String>> {
        let candidate: Candidate = match said.decode() {
            Ok(candidate) => candidate,
            Err(error) => return Box::pin(std::future::ready(Err(error.to_string()))),
        };
        let Some(admission) = self.admission() else {
            let busy = Reply::Busy("this node has not found its environment yet".to_owned());
            return Box::pin(std::future::ready(Ok(wire::encode(&busy).into())));
        };
        let Candidate {
            public_key,
            address,
        } = candidate;
        let admit = admission.admit(Applicant {
            public_key,
            address: address.clone(),
            said,
            binding,
        });
        Box::pin(async move {
            let reply = match admit.await {
                Ok(admitted) => {
                    tracing::info!(node = %admitted.node, %address, "a node was let into the environment");
                    Reply::Admitted(admitted)
                }
                Err(Refused::Never(reason)) => {
                    tracing::warn!(%address, %reason, "a node was not let into the environment");
                    Reply::Refused(reason)
                }
                Err(Refused::Later(reason)) => Reply::Busy(reason),
            };
            Ok(wire::encode(&reply).into())
        })
    }
}

impl JoinHandler for Desk {
    fn answer(&self, question: Question) -> BoxFuture<'static, Result<Bytes, String>> {
        let Question { binding, body, .. } = question;
        let answer = match wire::decode(&body) {
            Err(error) => Err(error.to_string()),
            Ok(Ask::Meet(said)) => self.meet(&said, binding),
            Ok(Ask::Authority) => Ok(Reply::Authority(self.authority.clone())),
            Ok(Ask::Join(said)) => return self.join(said, binding),
        };
        let answer = answer.map(|reply| Bytes::from(wire::encode(&reply)));
        Box::pin(std::future::ready(answer))
    }
}
