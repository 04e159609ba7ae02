//! A start with `--join`: from an empty data directory to a member, with the help of other nodes.

use crate::data_dir::{ClaimedDir, Identity};
use crate::enter;
use crate::error::OpenError;
use crate::form;
use crate::formation::Failure;
use crate::keys::KeyFiles;
use crate::member::Member;
use crate::token::{Token, TokenError};
use crate::wire::Admitted;
use host::Host;
use mesh::ca::{self, NodeKey};
use mesh::{EnvironmentId, NodeName, StartError};
use repr::NodeId;
use std::io;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often the user hears what a node waits for.
pub(crate) const SAY_EVERY: Duration = Duration::from_secs(3);

/// What the user said about other nodes.
#[derive(Clone, Debug, Default)]
pub struct Invitation {
    /// Where nodes may be, as `host:port`; empty for an environment of one's own.
    pub addresses: Vec<String>,
    /// How many nodes found a new environment.
    pub expect: Option<u32>,
    pub token: Option<String>,
    /// Where others reach this node.
    pub advertise: String,
}

/// Tells the user something while there is no log to look at yet.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// Why a node did not come into an environment.
#[derive(Debug, thiserror::Error)]
pub enum JoinFailed {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("--join-token: {0}")]
    Token(#[from] TokenError),
    #[error(
        "{path} holds no environment, and --join needs a --join-token to be let into one: clusterd token new makes one for the founders of a new environment, \
         clusterd token new --sql-addr one for a node that joins a running one"
    )]
    NoToken { path: PathBuf },
    #[error(
        "the token forms a new environment: say with --bootstrap-expect how many nodes found it, on each of them the same"
    )]
    NoExpect,
    #[error(
        "the token lets one node into an environment that exists; --bootstrap-expect is for founders of a new one"
    )]
    Expect,
    #[error(
        "{path} has agreed to form an environment with other founders, with another token or --bootstrap-expect. Start it with those, or choose an empty directory with --data-dir"
    )]
    OtherPromise { path: PathBuf },
    #[error("no environment is formed: {0}")]
    NotFormed(String),
    #[error("the node at {address} does not let this one in: {reason}")]
    Refused { address: String, reason: String },
    #[error("no node lets this one in: {0}")]
    AllRefused(String),
    #[error("the node at {address} sends a certificate that is none for this node: {reason}")]
    Certificate { address: String, reason: String },
    #[error(transparent)]
    Listen(#[from] StartError),
    #[error("cannot use the mesh port: {0}")]
    Socket(#[from] io::Error),
}

impl From<Failure> for JoinFailed {
    fn from(failure: Failure) -> JoinFailed {
        JoinFailed::NotFormed(failure.to_string())
    }
}

impl Member {
    /// Opens the directory. If it is nobody's, the node forms an environment with others, or joins one, or has one of its own, as `invitation` says; this lasts until the
    /// others are there. `socket` is the bound mesh port, which the transport may use afterwards. A directory that is a node's already stays what it is.
    ///
    /// # Errors
    /// If the directory cannot be used, or the others have refused the node for good.
    pub async fn join(
        host: &Host,
        path: &Path,
        socket: &UdpSocket,
        invitation: Invitation,
        say: Say,
    ) -> Result<Member, JoinFailed> {
        let mut dir = ClaimedDir::claim(host, path)?;
        if dir.identity().is_some() || invitation.addresses.is_empty() {
            return Ok(Member::alone(host, dir, &invitation.advertise)?);
        }
        let path = path.to_owned();
        let token = invitation.token.as_ref().filter(|token| !token.is_empty());
        let token: Token = token.ok_or(JoinFailed::NoToken { path })?.parse()?;
        let socket = socket.try_clone()?;
        match (token, invitation.expect) {
            (Token::Bootstrap(_), None) => return Err(JoinFailed::NoExpect),
            (Token::Join { .. }, Some(_)) => return Err(JoinFailed::Expect),
            (Token::Bootstrap(secret), Some(expect)) => {
                form::form(host, &mut dir, socket, &invitation, (secret, expect), say).await?;
            }
            (Token::Join { authority, secret }, None) => {
                enter::enter(
                    host,
                    &mut dir,
                    socket,
                    &invitation,
                    (authority, secret),
                    say,
                )
                .await?;
            }
        }
        Ok(Member::of(host, dir, &invitation.advertise)?)
    }
}

/// Writes down what the node at `address` says this one is, if its certificate is believable.
pub(crate) fn settle(
    host: &Host,
    dir: &mut ClaimedDir,
    key: &NodeKey,
    admitted: &Admitted,
    address: &str,
) -> Result<(), JoinFailed> {
    let wrong = |reason: &str| JoinFailed::Certificate {
        address: address.to_owned(),
        reason: reason.to_owned(),
    };
    let name = NodeName {
        environment: EnvironmentId(admitted.environment),
        node: admitted.node,
    };
    let certified = ca::verify(&admitted.certificate, &admitted.authority);
    let certified = certified.map_err(|error| wrong(&error.to_string()))?;
    if certified.name != name || name.environment.0 == 0 || name.node == NodeId(0) {
        return Err(wrong("it names another node"));
    }
    if certified.public_key != key.public_key() {
        return Err(wrong("it is for another key"));
    }
    let files = KeyFiles::of(host, dir.path())?;
    files.certify(
        host,
        &admitted.authority,
        &admitted.certificate,
        &admitted.peers(),
    )?;
    let identity = Identity::certified(admitted.environment, admitted.node, admitted.generation());
    dir.settle(host, identity)?;
    Ok(())
}
