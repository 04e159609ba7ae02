//! What a node keeps in `mesh/`: its key, what certifies it, and whom it was introduced to.

use crate::error::OpenError;
use crate::files::{read_pem, read_toml, write_pem, write_toml};
use crate::hex;
use host::Host;
use mesh::NodeName;
use mesh::ca::{self, Authority, Credentials, NodeKey};
use repr::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const MESH: &str = "mesh";
const NODE_KEY: &str = "node.key.pem";
const NODE_CERTIFICATE: &str = "node.cert.pem";
const CA_CERTIFICATE: &str = "ca.cert.pem";
const CA_KEY: &str = "ca.key.pem";
const PEERS: &str = "peers.toml";
const RECORD: &str = "joining.toml";

/// A node as it was when this one was introduced to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Where its mesh listened then.
    pub address: String,
    pub public_key: Vec<u8>,
    /// Of a founder (DER): each founder can give another its certificate again.
    pub certificate: Option<Vec<u8>>,
}

/// Whom this node was introduced to when it was admitted, itself included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// These are the nodes that found the environment, this one among them.
    pub founders: bool,
    pub nodes: BTreeMap<NodeId, Peer>,
}

/// What a node has promised on its way into an environment. It stays, so that the founders can give each other their certificates again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// Hash of the token's secret, as hexadecimal digits.
    pub token: String,
    pub promise: Promise,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum Promise {
    /// To form an environment of exactly these keys.
    Form(Vec<PromisedFounder>),
    /// To join one: it may have let this node in already.
    Join,
}

/// A founder, as hexadecimal digits and `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PromisedFounder {
    pub public_key: String,
    pub address: String,
}

/// The private key of the environment's authority, on its way into the environment's state.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthorityKey {
    /// DER.
    pub certificate: Vec<u8>,
    pub key_pem: String,
}

/// The folder `mesh/` of a data directory.
pub(crate) struct KeyFiles {
    dir: PathBuf,
}

impl KeyFiles {
    /// Makes the folder if it is missing.
    pub(crate) fn of(host: &Host, data_dir: &Path) -> Result<KeyFiles, OpenError> {
        let dir = data_dir.join(MESH);
        let made = host.disk.create_dir_all(&dir);
        made.and_then(|()| host.disk.sync_dir(data_dir))
            .map_err(|source| OpenError::Io {
                path: dir.clone(),
                source,
            })?;
        Ok(KeyFiles { dir })
    }

    /// The node's own key, which is made when it is asked for first.
    pub(crate) fn node_key(&self, host: &Host) -> Result<NodeKey, OpenError> {
        if let Some(pem) = read_pem(host, &self.dir.join(NODE_KEY))? {
            return NodeKey::from_pem(&pem).map_err(|error| self.damaged(NODE_KEY, &error));
        }
        let key = NodeKey::generate()?;
        write_pem(host, &self.dir, NODE_KEY, &key.to_pem())?;
        Ok(key)
    }

    /// Keeps the authority's private key until the environment has it.
    pub(crate) fn keep_authority(
        &self,
        host: &Host,
        authority: &Authority,
    ) -> Result<(), OpenError> {
        write_pem(host, &self.dir, CA_KEY, &authority.key_pem())
    }

    /// Everything that a certified node has, but for the authority's key. The identity is written after this.
    pub(crate) fn certify(
        &self,
        host: &Host,
        authority: &[u8],
        certificate: &[u8],
        peers: &Peers,
    ) -> Result<(), OpenError> {
        let pem = ca::certificate_to_pem;
        write_pem(host, &self.dir, CA_CERTIFICATE, &pem(authority))?;
        write_pem(host, &self.dir, NODE_CERTIFICATE, &pem(certificate))?;
        write_toml(host, &self.dir, PEERS, &PeersFile::from(peers))
    }

    /// What the certified node `name` shows to its peers.
    ///
    /// # Errors
    /// If a file is missing or damaged, or is of another node or environment.
    pub(crate) fn credentials(
        &self,
        host: &Host,
        name: NodeName,
    ) -> Result<Credentials, OpenError> {
        let authority = self.certificate(host, CA_CERTIFICATE)?;
        let certificate = self.certificate(host, NODE_CERTIFICATE)?;
        let pem = self.present(host, NODE_KEY)?;
        let key = NodeKey::from_pem(&pem).map_err(|error| self.damaged(NODE_KEY, &error))?;
        let certified = ca::verify(&certificate, &authority)
            .map_err(|error| self.damaged(NODE_CERTIFICATE, &error))?;
        if certified.name != name {
            return Err(OpenError::OtherNode {
                path: self.dir.clone(),
                certified: certified.name,
                identity: name,
            });
        }
        if certified.public_key != key.public_key() {
            let reason = "the certificate is for another key";
            return Err(self.damaged(NODE_KEY, &reason));
        }
        Ok(Credentials::new(&authority, &certificate, &key))
    }

    pub(crate) fn peers(&self, host: &Host) -> Result<Peers, OpenError> {
        let path = self.dir.join(PEERS);
        let file: PeersFile = read_toml(host, &path)?;
        Peers::try_from(file).map_err(|error| self.damaged(PEERS, &error))
    }

    /// The authority's certificate (DER).
    pub(crate) fn authority_certificate(&self, host: &Host) -> Result<Vec<u8>, OpenError> {
        self.certificate(host, CA_CERTIFICATE)
    }

    /// What this node has promised to others, if it has.
    pub(crate) fn record(&self, host: &Host) -> Result<Option<Record>, OpenError> {
        let path = self.dir.join(RECORD);
        let exists = host.disk.exists(&path);
        let exists = exists.map_err(|source| OpenError::Io {
            path: path.clone(),
            source,
        })?;
        match exists {
            true => Ok(Some(read_toml(host, &path)?)),
            false => Ok(None),
        }
    }

    pub(crate) fn keep_record(&self, host: &Host, record: &Record) -> Result<(), OpenError> {
        write_toml(host, &self.dir, RECORD, record)
    }

    /// Nobody counts on this node.
    pub(crate) fn forget_record(&self, host: &Host) -> Result<(), OpenError> {
        self.remove(host, RECORD)
    }

    /// The authority's private key, if it is still here.
    pub(crate) fn authority(&self, host: &Host) -> Result<Option<AuthorityKey>, OpenError> {
        let Some(key_pem) = read_pem(host, &self.dir.join(CA_KEY))? else {
            return Ok(None);
        };
        let certificate = self.certificate(host, CA_CERTIFICATE)?;
        Ok(Some(AuthorityKey {
            certificate,
            key_pem,
        }))
    }

    pub(crate) fn forget_authority(&self, host: &Host) -> Result<(), OpenError> {
        self.remove(host, CA_KEY)
    }

    fn remove(&self, host: &Host, name: &str) -> Result<(), OpenError> {
        let path = self.dir.join(name);
        let remove = || match host.disk.exists(&path)? {
            true => {
                host.disk.remove(&path)?;
                host.disk.sync_dir(&self.dir)
            }
            false => Ok(()),
        };
        remove().map_err(|source| OpenError::Io {
            path: path.clone(),
            source,
        })
    }

    fn certificate(&self, host: &Host, name: &str) -> Result<Vec<u8>, OpenError> {
        let pem = self.present(host, name)?;
        ca::certificate_from_pem(&pem).map_err(|error| self.damaged(name, &error))
    }

    fn present(&self, host: &Host, name: &str) -> Result<String, OpenError> {
        let text = read_pem(host, &self.dir.join(name))?;
        text.ok_or_else(|| self.damaged(name, &"it is missing"))
    }

    fn damaged(&self, name: &str, reason: &dyn std::fmt::Display) -> OpenError {
        OpenError::Damaged {
            path: self.dir.join(name),
            offset: 0,
            reason: reason.to_string(),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PeersFile {
    founders: bool,
    #[serde(default)]
    nodes: Vec<PeerRow>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PeerRow {
    node: u64,
    address: String,
    public_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
}

impl From<&Peers> for PeersFile {
    fn from(peers: &Peers) -> PeersFile {
        let Peers { founders, nodes } = peers;
        let row = |(id, peer): (&NodeId, &Peer)| PeerRow {
            node: id.0,
            address: peer.address.clone(),
            public_key: hex::encode(&peer.public_key),
            certificate: peer.certificate.as_deref().map(hex::encode),
        };
        PeersFile {
            founders: *founders,
            nodes: nodes.iter().map(row).collect(),
        }
    }
}

impl TryFrom<PeersFile> for Peers {
    type Error = hex::NotHex;

    fn try_from(file: PeersFile) -> Result<Peers, hex::NotHex> {
        let PeersFile { founders, nodes } = file;
        let peer = |row: PeerRow| {
            let peer = Peer {
                address: row.address,
                public_key: hex::decode(&row.public_key)?,
                certificate: row.certificate.as_deref().map(hex::decode).transpose()?,
            };
            Ok((NodeId(row.node), peer))
        };
        Ok(Peers {
            founders,
            nodes: nodes.into_iter().map(peer).collect::<Result<_, _>>()?,
        })
    }
}
