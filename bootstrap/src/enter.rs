//! Joining an environment that exists, with a one-time token.

use crate::data_dir::ClaimedDir;
use crate::hex;
use crate::join::{Invitation, JoinFailed, SAY_EVERY, Say, settle};
use crate::keys::{KeyFiles, Promise, Record};
use crate::token::Secret;
use crate::wire::{self, Admitted, Ask, Candidate, Reply, Said};
use bytes::Bytes;
use host::{BoxFuture, Host, Instant};
use mesh::ca::{self, NodeKey};
use mesh::join::{JoinConnection, JoinHandler, JoinListener, Question, Role, sha256};
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

/// Pause between two rounds through the addresses.
const ROUND_PAUSE: Duration = Duration::from_millis(500);

/// Stays until a node of the environment has let this one in. `authority`: the hash of the certificate that the environment's nodes are certified by.
pub(crate) async fn enter(
    host: &Host,
    dir: &mut ClaimedDir,
    socket: UdpSocket,
    invitation: &Invitation,
    (authority, secret): ([u8; 32], Secret),
    say: Say,
) -> Result<(), JoinFailed> {
    let files = KeyFiles::of(host, dir.path())?;
    let key = files.node_key(host)?;
    if let Some(Record { promise, .. }) = files.record(host)? {
        match promise {
            Promise::Join => {}
            Promise::Form(_) => {
                let path = dir.path().to_owned();
                return Err(JoinFailed::OtherPromise { path });
            }
        }
    }
    // Once one of them has been asked, this node may have been let in, whether its answer arrives or not.
    let record = Record {
        token: hex::encode(&secret.hash()),
        promise: Promise::Join,
    };
    files.keep_record(host, &record)?;
    let listener = JoinListener::start(socket, &key, host, Arc::new(NotYet))?;
    let newcomer = Newcomer {
        host,
        listener: &listener,
        authority,
        secret,
        candidate: Candidate {
            public_key: key.public_key().to_vec(),
            address: invitation.advertise.clone(),
        },
    };
    let entered = newcomer.knock(dir, &key, invitation, say).await;
    if matches!(
        entered,
        Err(JoinFailed::Refused { .. } | JoinFailed::AllRefused(_))
    ) {
        files.forget_record(host)?;
    }
    listener.close().await;
    entered
}

/// Nobody is answered by a node that is nobody.
struct NotYet;

impl JoinHandler for NotYet {
    fn answer(&self, _question: Question) -> BoxFuture<'static, Result<Bytes, String>> {
        let reason = "this node is in no environment yet, it waits to be let into one";
        Box::pin(std::future::ready(Err(reason.to_owned())))
    }
}

struct Newcomer<'a> {
    host: &'a Host,
    listener: &'a JoinListener,
    authority: [u8; 32],
    secret: Secret,
    candidate: Candidate,
}

/// Why one address did not let this node in.
enum No {
    /// It may be another matter later.
    Later(String),
    /// Not this node, but another one may.
    Stranger(String),
    /// A node of the environment says so: no other will say anything else.
    Never(String),
}

impl Newcomer<'_> {
    async fn knock(
        &self,
        dir: &mut ClaimedDir,
        key: &NodeKey,
        invitation: &Invitation,
        say: Say,
    ) -> Result<(), JoinFailed> {
        let mut said: Option<Instant> = None;
        loop {
            let (mut later, mut strangers) = (Vec::new(), Vec::new());
            for address in &invitation.addresses {
                let address = address.clone();
                match self.ask(&address).await {
                    Ok(admitted) => return settle(self.host, dir, key, &admitted, &address),
                    Err(No::Never(reason)) => return Err(JoinFailed::Refused { address, reason }),
                    Err(No::Later(reason)) => later.push(format!("{address}: {reason}")),
                    Err(No::Stranger(reason)) => strangers.push(format!("{address}: {reason}")),
                }
            }
            if later.is_empty() {
                return Err(JoinFailed::AllRefused(strangers.join("; ")));
            }
            let now = self.host.clock.now();
            if said.is_none_or(|said| now.since(said) >= SAY_EVERY) {
                said = Some(now);
                later.extend(strangers);
                let reasons = later.join("\n  ");
                say(&format!(
                    "waiting to be let into the environment\n  {reasons}"
                ));
            }
            self.host.clock.sleep(ROUND_PAUSE).await;
        }
    }

    async fn ask(&self, address: &str) -> Result<Admitted, No> {
        let connection = self.listener.dial(address).await;
        let connection = connection.map_err(|error| No::Later(error.to_string()))?;
        let authority = self.believe(&connection).await?;
        let binding = connection.binding();
        let said = Said::new(&self.candidate, binding, &self.secret.hash(), Role::Asking);
        match exchange(&connection, &Ask::Join(said)).await? {
            Reply::Admitted(admitted) if admitted.authority == authority => Ok(admitted),
            Reply::Refused(reason) => Err(No::Never(reason)),
            Reply::Busy(reason) => Err(No::Later(reason)),
            Reply::Admitted(_) | Reply::Authority(_) | Reply::Met(_) => Err(misplaced()),
        }
    }

    /// The authority's certificate, if the other side is a node of the token's environment.
    async fn believe(&self, connection: &JoinConnection) -> Result<Vec<u8>, No> {
        let authority = match exchange(connection, &Ask::Authority).await? {
            Reply::Authority(authority) => authority,
            Reply::Busy(reason) => return Err(No::Later(reason)),
            Reply::Refused(reason) => return Err(No::Stranger(reason)),
            Reply::Admitted(_) | Reply::Met(_) => return Err(misplaced()),
        };
        if sha256(&authority) != self.authority {
            let reason = "the token is for another environment than that of the node";
            connection.reject(reason);
            return Err(No::Stranger(format!("{reason} there")));
        }
        let shown = connection.certificate().unwrap_or_default();
        if let Err(error) = ca::verify(&shown, &authority) {
            connection.reject("the node is not certified by the authority that it names");
            return Err(No::Stranger(format!(
                "it is no node of the token's environment: {error}"
            )));
        }
        Ok(authority)
    }
}

async fn exchange(connection: &JoinConnection, ask: &Ask) -> Result<Reply, No> {
    let answer = connection.ask(&wire::encode(ask)).await;
    let answer = answer.map_err(|error| No::Later(error.to_string()))?;
    wire::decode(&answer).map_err(|error| No::Later(format!("its answer cannot be read: {error}")))
}

fn misplaced() -> No {
    No::Stranger("its answer has no place here".to_owned())
}
