//! What is said at the door (`mesh::join`) of another node.
//!
//! `Ask::Meet` is between nodes that form an environment: whom each has met, and whether it has agreed already. `Ask::Authority` and then `Ask::Join` are what a node says that
//! has a one-time token. What a [`Said`] holds is proven: whoever said it knows the token. Enums grow at their end only.

use crate::keys::{Peer, Peers};
use mesh::Generation;
use mesh::join::{Binding, JOIN_BYTES_MAX, Role};
use repr::NodeId;
use repr::codec::{self, CodecError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const VERSION: u8 = 2;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// A [`Meeting`], by somebody who has the bootstrap token. The answer is [`Reply::Met`].
    Meet(Said),
    /// Who certifies nodes here? The answer is [`Reply::Authority`].
    Authority,
    /// A [`Candidate`], by somebody who has a join token. The answer is [`Reply::Admitted`] or [`Reply::Refused`].
    Join(Said),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// A [`MeetReply`].
    Met(Said),
    /// The authority's certificate (DER).
    Authority(Vec<u8>),
    Admitted(Admitted),
    /// The token or the candidate will not do, and trying again does not help.
    Refused(String),
    /// It may help.
    Busy(String),
}

/// Something encoded, and the proof that whoever said it knows the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    body: Vec<u8>,
    proof: [u8; 32],
}

/// What a founder tells another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meeting {
    pub me: Founder,
    /// Random, of this process: two processes with one key are copies of one disk.
    pub process: u64,
    /// `--bootstrap-expect`.
    pub expect: u32,
    /// Whom it has met, itself included, by key.
    pub met: Vec<Founder>,
    /// `met` is what it has agreed to, for ever.
    pub agreed: bool,
}

/// A node that wants to form an environment. Ordered by key: the first makes the environment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Founder {
    pub public_key: Vec<u8>,
    pub address: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MeetReply {
    Meeting(Meeting),
    /// The environment is formed, and the asking node is one of its founders.
    Admitted(Admitted),
    /// The environment is formed without the asking node.
    Void(String),
}

/// A node that wants to join an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Candidate {
    pub public_key: Vec<u8>,
    pub address: String,
}

/// What a node is told that was let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    pub environment: u128,
    pub generation: u64,
    /// Of the environment's last disaster recovery; see [`Generation`].
    pub recovery: u64,
    pub node: NodeId,
    /// The authority's certificate (DER).
    pub authority: Vec<u8>,
    /// The node's own (DER).
    pub certificate: Vec<u8>,
    pub founders: bool,
    pub peers: Vec<(NodeId, Peer)>,
}

impl Admitted {
    pub(crate) fn generation(&self) -> Generation {
        Generation {
            number: self.generation,
            nonce: self.recovery,
        }
    }

    pub(crate) fn peers(&self) -> Peers {
        Peers {
            founders: self.founders,
            nodes: self.peers.iter().cloned().collect(),
        }
    }
}

impl Said {
    pub(crate) fn new<T: Serialize>(value: &T, binding: Binding, hash: &[u8], role: Role) -> Said {
        let body = codec::encode(VERSION, value);
        let proof = binding.prove(hash, role, &body);
        Said { body, proof }
    }

    /// Whether whoever said this knows the token.
    pub(crate) fn is_proven(&self, binding: Binding, hash: &[u8], role: Role) -> bool {
        binding.verify(hash, role, &self.body, &self.proof)
    }

    pub(crate) fn decode<T: DeserializeOwned>(&self) -> Result<T, CodecError> {
        decode(&self.body)
    }
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    codec::encode(VERSION, value)
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    codec::decode(VERSION..=VERSION, JOIN_BYTES_MAX, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    fn founder() -> Founder {
        Founder {
            public_key: vec![4, 5],
            address: "a:1".to_owned(),
        }
    }

    fn admitted() -> Admitted {
        let peer = Peer {
            address: "a:1".to_owned(),
            public_key: vec![4, 5],
            certificate: Some(vec![6]),
        };
        Admitted {
            environment: 1,
            generation: 2,
            recovery: 9,
            node: NodeId(3),
            authority: vec![7],
            certificate: vec![8],
            founders: true,
            peers: vec![(NodeId(3), peer)],
        }
    }

    fn golden<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
        value: &T,
        bytes: &str,
    ) {
        assert_eq!(hex::encode(&encode(value)), bytes, "{value:?}");
        assert_eq!(&decode::<T>(&hex::decode(bytes).unwrap()).unwrap(), value);
    }

    #[test]
    fn the_bytes_of_messages_stay() {
        let said = Said {
            body: vec![1, 2],
            proof: [3; 32],
        };
        let proof = "03".repeat(32);
        golden(&Ask::Meet(said.clone()), &format!("0200020102{proof}"));
        golden(&Ask::Authority, "0201");
        golden(&Ask::Join(said.clone()), &format!("0202020102{proof}"));
        golden(&Reply::Met(said), &format!("0200020102{proof}"));
        golden(&Reply::Authority(vec![7]), "02010107");
        golden(&Reply::Refused("no".to_owned()), "0203026e6f");
        golden(&Reply::Busy("no".to_owned()), "0204026e6f");
        let inside = "01020903010701080101030361\
                      3a310204050101 06"
            .replace(' ', "");
        golden(&Reply::Admitted(admitted()), &format!("0202{inside}"));
        golden(&MeetReply::Admitted(admitted()), &format!("0201{inside}"));
        golden(&MeetReply::Void("no".to_owned()), "0202026e6f");
        let meeting = Meeting {
            me: founder(),
            process: 9,
            expect: 3,
            met: vec![founder()],
            agreed: true,
        };
        let founder_bytes = "02040503613a31";
        let meeting_bytes = format!("{founder_bytes}090301{founder_bytes}01");
        golden(
            &MeetReply::Meeting(meeting),
            &format!("0200{meeting_bytes}"),
        );
        let candidate = Candidate {
            public_key: vec![4, 5],
            address: "a:1".to_owned(),
        };
        golden(&candidate, &format!("02{founder_bytes}"));
    }

    #[test]
    fn cut_and_stray_bytes_are_refused() {
        let bytes = encode(&Reply::Admitted(admitted()));
        for end in 0..bytes.len() {
            assert!(decode::<Reply>(&bytes[..end]).is_err(), "{end}");
        }
        let stray = [&bytes[..], &[0]].concat();
        assert!(decode::<Reply>(&stray).is_err());
    }
}
