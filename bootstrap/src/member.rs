//! A node that knows who it is: what a start hands to the rest of the process.

use crate::data_dir::{ClaimedDir, DataDir, Identity};
use crate::error::OpenError;
use crate::keys::{AuthorityKey, KeyFiles, Peer, Peers};
use crate::wire::Founder;
use host::Host;
use mesh::ca::{Authority, Credentials, NodeKey};
use mesh::{EnvironmentId, Generation, NodeName};
use repr::NodeId;
use std::collections::BTreeMap;
use std::path::Path;

/// A node of an environment, with its data directory open.
pub struct Member {
    pub data_dir: DataDir,
    /// What it shows to its peers.
    pub credentials: Credentials,
    /// Whom it was introduced to when it was admitted, itself included. Where they are now is for the environment's state to say.
    pub peers: Peers,
    /// The voters to found ENV with, if this node is one of them and has not noted yet that the environment is formed. Each of them may found it: they all
    /// write the same first entry.
    pub found_with: Option<BTreeMap<NodeId, String>>,
    /// The key of the environment's authority, if this node still has to give it to ENV; [`Member::forget_authority`] then.
    pub authority: Option<AuthorityKey>,
}

impl Member {
    /// Opens the directory. One that is empty or missing becomes node 1 of a new environment of its own; `address` is where its mesh will be reached.
    ///
    /// # Errors
    /// If it cannot be used, is in use, holds something else, or is damaged.
    pub fn open(host: &Host, path: &Path, address: &str) -> Result<Member, OpenError> {
        Member::alone(host, ClaimedDir::claim(host, path)?, address)
    }

    /// The member whose directory this is; an environment of its own if it is nobody's.
    pub(crate) fn alone(
        host: &Host,
        mut dir: ClaimedDir,
        address: &str,
    ) -> Result<Member, OpenError> {
        if dir.identity().is_none() {
            if KeyFiles::of(host, dir.path())?.record(host)?.is_some() {
                let path = dir.path().to_owned();
                return Err(OpenError::Joining { path });
            }
            let environment = new_environment(host);
            make_alone(host, &mut dir, environment, NodeId(1), address)?;
        }
        Member::of(host, dir, address)
    }

    /// The member whose directory this is.
    pub(crate) fn of(host: &Host, mut dir: ClaimedDir, address: &str) -> Result<Member, OpenError> {
        let path = dir.path().to_owned();
        let identity = dir.identity().cloned();
        let identity = identity.ok_or_else(|| OpenError::Joining { path: path.clone() })?;
        if !identity.certified {
            certify_old(host, &mut dir, &identity, address)?;
        }
        let files = KeyFiles::of(host, &path)?;
        let name = NodeName {
            environment: EnvironmentId(identity.environment_id()),
            node: identity.node_id(),
        };
        let credentials = files.credentials(host, name)?;
        let peers = files.peers(host)?;
        let authority = files.authority(host)?;
        let data_dir = dir.open(host)?;
        let data_dir = data_dir.ok_or(OpenError::Joining { path })?;
        Ok(Member {
            found_with: found_with(&peers, data_dir.identity()),
            data_dir,
            credentials,
            peers,
            authority,
        })
    }

    /// Removes the authority's key from this disk: ENV has it.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub fn forget_authority(&mut self, host: &Host) -> Result<(), OpenError> {
        forget_authority(host, &self.data_dir)?;
        self.authority = None;
        Ok(())
    }
}

/// As [`Member::forget_authority`], for whoever has taken the member apart.
///
/// # Errors
/// If the file cannot be removed.
pub fn forget_authority(host: &Host, data_dir: &DataDir) -> Result<(), OpenError> {
    KeyFiles::of(host, data_dir.path())?.forget_authority(host)
}

/// How many of so many nodes vote in ENV: an odd number, so that none is carried along for nothing, and five at most.
pub fn env_voters(nodes: usize) -> usize {
    match nodes {
        0..=2 => 1,
        3..=4 => 3,
        _ => 5,
    }
}

/// Writes the data directories of the founders of a new environment in one go, as if they had formed it by themselves: directory and mesh address of node 1,
/// of node 2, and so on. For nodes on one machine.
///
/// # Errors
/// If a directory is not empty or cannot be written.
pub fn form_locally(host: &Host, founders: &[(&Path, &str)]) -> Result<EnvironmentId, OpenError> {
    let mut dirs = Vec::new();
    let mut peers = Peers {
        founders: true,
        ..Peers::default()
    };
    for ((path, address), node) in founders.iter().zip(1..) {
        let dir = ClaimedDir::claim(host, path)?;
        if dir.identity().is_some() {
            let path = dir.path().to_owned();
            return Err(OpenError::Occupied { path });
        }
        let key = KeyFiles::of(host, path)?.node_key(host)?;
        let peer = Peer {
            address: (*address).to_owned(),
            public_key: key.public_key().to_vec(),
            certificate: None,
        };
        peers.nodes.insert(NodeId(node), peer);
        dirs.push((NodeId(node), dir, key));
    }
    let environment = new_environment(host);
    let authority = Authority::create(environment)?;
    certify_all(&authority, environment, &mut peers)?;
    for (node, mut dir, key) in dirs {
        let name = (environment, node);
        admit(host, &mut dir, &authority, name, &key, &peers)?;
    }
    Ok(environment)
}

/// Founds an environment with these members, of which this node is the first.
pub(crate) fn found(
    host: &Host,
    dir: &mut ClaimedDir,
    key: &NodeKey,
    members: &[Founder],
) -> Result<(), OpenError> {
    let environment = new_environment(host);
    let authority = Authority::create(environment)?;
    let peer = |founder: &Founder| Peer {
        address: founder.address.clone(),
        public_key: founder.public_key.clone(),
        certificate: None,
    };
    let mut peers = Peers {
        founders: true,
        nodes: (1..).map(NodeId).zip(members.iter().map(peer)).collect(),
    };
    certify_all(&authority, environment, &mut peers)?;
    let name = (environment, NodeId(1));
    admit(host, dir, &authority, name, key, &peers)
}

fn certify_all(
    authority: &Authority,
    environment: EnvironmentId,
    peers: &mut Peers,
) -> Result<(), OpenError> {
    for (node, peer) in &mut peers.nodes {
        let name = NodeName {
            environment,
            node: *node,
        };
        peer.certificate = Some(authority.issue(name, &peer.public_key)?);
    }
    Ok(())
}

/// A random name.
pub(crate) fn new_environment(host: &Host) -> EnvironmentId {
    let (high, low) = (host.rng.next_u64(), host.rng.next_u64());
    EnvironmentId((u128::from(high) << 64) | u128::from(low))
}

/// A new environment with one node, or one that has had only this node and no certificates yet.
fn make_alone(
    host: &Host,
    dir: &mut ClaimedDir,
    environment: EnvironmentId,
    node: NodeId,
    address: &str,
) -> Result<(), OpenError> {
    let key = KeyFiles::of(host, dir.path())?.node_key(host)?;
    let peer = Peer {
        address: address.to_owned(),
        public_key: key.public_key().to_vec(),
        certificate: None,
    };
    let peers = Peers {
        founders: true,
        nodes: BTreeMap::from([(node, peer)]),
    };
    let authority = Authority::create(environment)?;
    admit(host, dir, &authority, (environment, node), &key, &peers)
}

/// A directory of a program that knew no other nodes: it has been alone.
fn certify_old(
    host: &Host,
    dir: &mut ClaimedDir,
    identity: &Identity,
    address: &str,
) -> Result<(), OpenError> {
    let environment = EnvironmentId(identity.environment_id());
    make_alone(host, dir, environment, identity.node_id(), address)
}

/// Certifies a founder whose disk this is; node 1 keeps the authority's key.
fn admit(
    host: &Host,
    dir: &mut ClaimedDir,
    authority: &Authority,
    (environment, node): (EnvironmentId, NodeId),
    key: &NodeKey,
    peers: &Peers,
) -> Result<(), OpenError> {
    let files = KeyFiles::of(host, dir.path())?;
    let certified = peers.nodes.get(&node).and_then(|p| p.certificate.clone());
    let certificate = match certified {
        Some(certificate) => certificate,
        None => authority.issue(NodeName { environment, node }, key.public_key())?,
    };
    if peers.nodes.keys().next() == Some(&node) {
        files.keep_authority(host, authority)?;
    }
    files.certify(host, authority.certificate(), &certificate, peers)?;
    let before = dir.identity().cloned();
    let identity = match before {
        Some(before) => Identity {
            certified: true,
            ..before
        },
        None => Identity::certified(environment.0, node, Generation::FIRST),
    };
    dir.settle(host, identity)
}

fn found_with(peers: &Peers, identity: &Identity) -> Option<BTreeMap<NodeId, String>> {
    if !peers.founders || identity.formed {
        return None;
    }
    let voters = peers.nodes.iter().take(env_voters(peers.nodes.len()));
    let voters: BTreeMap<_, _> = voters
        .map(|(node, peer)| (*node, peer.address.clone()))
        .collect();
    voters.contains_key(&identity.node_id()).then_some(voters)
}

#[cfg(test)]
mod tests;
