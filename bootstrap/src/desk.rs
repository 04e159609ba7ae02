//! What a member answers to nodes without a certificate.

use crate::data_dir::DataDir;
use crate::error::OpenError;
use crate::hex;
use crate::keys::{KeyFiles, Peers, Promise};
use crate::pace::Pace;
use crate::wire::{self, Admitted, Ask, Candidate, MeetReply, Meeting, Reply, Said};
use bytes::Bytes;
use host::{BoxFuture, Clock, Host};
use mesh::Generation;
use mesh::ca;
use mesh::join::{Binding, JoinHandler, Question, Role};
use repr::NodeId;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Admissions at a time: each asks ENV.
const ADMISSIONS_MAX: usize = 8;
/// Requests for admission of one address at once; a node that has to wait asks twice a second.
const ADMISSION_BURST: u32 = 16;
const ADMISSION_EVERY: Duration = Duration::from_millis(250);
/// Meetings with one address at once; each founder asks four times a second.
const MEETING_BURST: u32 = 128;
const MEETING_EVERY: Duration = Duration::from_millis(16);

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
    clock: Arc<dyn Clock>,
    admissions: Arc<Semaphore>,
    admission_pace: Pace,
    meeting_pace: Pace,
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
            clock: host.clock.clone(),
            admissions: Arc::new(Semaphore::new(ADMISSIONS_MAX)),
            admission_pace: Pace::new(ADMISSION_BURST, ADMISSION_EVERY),
            meeting_pace: Pace::new(MEETING_BURST, MEETING_EVERY),
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

    fn meet(&self, from: IpAddr, said: &Said, binding: Binding) -> Result<Reply, String> {
        if !self.meeting_pace.admits(from, self.clock.now()) {
            return Ok(hurried());
        }
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

    fn join(
        &self,
        from: IpAddr,
        said: Said,
        binding: Binding,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        let at_once = |reply: Reply| -> BoxFuture<'static, Result<Bytes, String>> {
            Box::pin(std::future::ready(Ok(wire::encode(&reply).into())))
        };
        let Candidate {
            public_key,
            address,
        } = match said.decode() {
            Ok(candidate) => candidate,
            Err(error) => return Box::pin(std::future::ready(Err(error.to_string()))),
        };
        // Before the token is looked at: it is for a node that can use it.
        if let Err(error) = ca::check_public_key(&public_key) {
            tracing::warn!(%from, %error, "a node that wants to join was refused");
            return at_once(Reply::Refused(error.to_string()));
        }
        let Some(admission) = self.admission() else {
            let reason = "this node has not found its environment yet";
            return at_once(Reply::Busy(reason.to_owned()));
        };
        if !self.admission_pace.admits(from, self.clock.now()) {
            return at_once(hurried());
        }
        let Ok(place) = self.admissions.clone().try_acquire_owned() else {
            return at_once(hurried());
        };
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
            drop(place);
            Ok(wire::encode(&reply).into())
        })
    }
}

/// The answer to somebody who asks too often, or while too many others do.
fn hurried() -> Reply {
    Reply::Busy("too many questions are asked at once; try again".to_owned())
}

impl JoinHandler for Desk {
    fn answer(&self, question: Question) -> BoxFuture<'static, Result<Bytes, String>> {
        let Question {
            from,
            binding,
            body,
        } = question;
        let from = from.ip();
        let answer = match wire::decode(&body) {
            Err(error) => Err(error.to_string()),
            Ok(Ask::Meet(said)) => self.meet(from, &said, binding),
            Ok(Ask::Authority) => Ok(Reply::Authority(self.authority.clone())),
            Ok(Ask::Join(said)) => return self.join(from, said, binding),
        };
        let answer = answer.map(|reply| Bytes::from(wire::encode(&reply)));
        Box::pin(std::future::ready(answer))
    }
}
