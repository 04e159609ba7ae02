//! The first words on a connection: who is there, and do we belong together.
//!
//! The side that connects says hello on the connection's first stream, the other answers with the same words about itself. Whoever does not like
//! what it hears closes the connection with its reason in words, so that both sides can log it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use protocol::Lane;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use repr::NodeId;
use rustls::pki_types::CertificateDer;

use super::tls;
use crate::{EnvironmentId, Generation, Identity, NodeName};

/// Codes of closed connections. They are part of the protocol.
pub(crate) const CLOSED_STOPPING: VarInt = VarInt::from_u32(1);
pub(crate) const CLOSED_REJECTED: VarInt = VarInt::from_u32(2);
pub(crate) const CLOSED_MALFORMED: VarInt = VarInt::from_u32(3);
pub(super) const CLOSED_REPLACED: VarInt = VarInt::from_u32(4);
/// As [`CLOSED_REJECTED`], to a node that was removed from the environment, or that the environment was recovered without: it has to stop.
pub(super) const CLOSED_REMOVED: VarInt = VarInt::from_u32(5);

const MAGIC: [u8; 8] = *b"CLUSTERD";
/// The magic and the version: all that nodes of every version can read.
const PREFIX_BYTES: usize = 10;
const BODY_BYTES: usize = 16 + 8 + 8 + 8 + 8 + 8 + 1;

/// Why two nodes do not talk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Rejection {
    #[error("this is no clusterd node")]
    Magic,
    #[error(
        "a peer of another version: it speaks version {theirs} of the mesh protocol, this node version {ours}"
    )]
    Version { ours: u16, theirs: u16 },
    #[error("its hello cannot be read")]
    Malformed,
    #[error("its certificate cannot be used: {0}")]
    Certificate(String),
    #[error("it calls itself {said}, its certificate says {proven}")]
    NotWhoItSays { said: NodeName, proven: NodeName },
    #[error("it belongs to environment {theirs}, this node to {ours}")]
    Environment {
        ours: EnvironmentId,
        theirs: EnvironmentId,
    },
    #[error("node {found} answered where node {expected} should be")]
    OtherNode { expected: NodeId, found: NodeId },
    #[error(
        "it is of generation {theirs} of the environment, this node of generation {ours}: the environment was recovered without the one whose generation is lower, whose data \
         directory has no say any more; empty it and let it join anew"
    )]
    Generation {
        ours: Generation,
        theirs: Generation,
    },
    #[error(
        "it is of generation {theirs} of the environment, this node of generation {ours}: clusterd recover apply was run on more than one node, and made environments that have \
         nothing to do with each other; keep one of them, empty the data directories of the others and let those nodes join anew"
    )]
    Recovered {
        ours: Generation,
        theirs: Generation,
    },
    #[error("two nodes claim to be {0}")]
    Twice(NodeId),
    #[error(
        "this is start {said} of node {node}, but start {known} has been seen: an older process or a copy of its data directory"
    )]
    OlderStart { node: NodeId, said: u64, known: u64 },
    #[error(
        "node {0} was removed from the environment; a removed node does not come back, join it as a new one"
    )]
    Removed(NodeId),
}

impl Rejection {
    /// What the connection is closed with.
    pub(super) fn code(&self) -> VarInt {
        match self {
            Rejection::Removed(_) => CLOSED_REMOVED,
            // Several of the older generation may be a majority of it, and would go on acknowledging what nobody keeps.
            Rejection::Generation { ours, theirs } if theirs.number < ours.number => CLOSED_REMOVED,
            Rejection::Magic
            | Rejection::Version { .. }
            | Rejection::Malformed
            | Rejection::Certificate(_)
            | Rejection::NotWhoItSays { .. }
            | Rejection::Environment { .. }
            | Rejection::OtherNode { .. }
            | Rejection::Generation { .. }
            | Rejection::Recovered { .. }
            | Rejection::Twice(_)
            | Rejection::OlderStart { .. } => CLOSED_REJECTED,
        }
    }
}

/// What a node says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub version: u16,
    pub identity: Identity,
    pub lane: Lane,
}

impl Hello {
    pub(super) fn encode(&self) -> Bytes {
        let Identity {
            name: NodeName { environment, node },
            generation,
            incarnation,
            process,
        } = self.identity;
        let mut out = BytesMut::with_capacity(PREFIX_BYTES + BODY_BYTES);
        out.put_slice(&MAGIC);
        out.put_u16_le(self.version);
        out.put_u128_le(environment.0);
        out.put_u64_le(node.0);
        out.put_u64_le(generation.number);
        out.put_u64_le(generation.nonce);
        out.put_u64_le(incarnation);
        out.put_u64_le(process);
        out.put_u8(self.lane.code());
        out.freeze()
    }

    fn decode(version: u16, mut body: &[u8]) -> Option<Hello> {
        let b = &mut body;
        let environment = EnvironmentId(b.try_get_u128_le().ok()?);
        let node = NodeId(b.try_get_u64_le().ok()?);
        let identity = Identity {
            name: NodeName { environment, node },
            generation: Generation {
                number: b.try_get_u64_le().ok()?,
                nonce: b.try_get_u64_le().ok()?,
            },
            incarnation: b.try_get_u64_le().ok()?,
            process: b.try_get_u64_le().ok()?,
        };
        let lane = Lane::from_code(b.try_get_u8().ok()?)?;
        Some(Hello {
            version,
            identity,
            lane,
        })
    }

    /// Whether `theirs` may talk to the node of this hello, given whom their certificate names.
    pub(super) fn check(&self, theirs: &Hello, proven: NodeName) -> Result<(), Rejection> {
        let (mine, other) = (&self.identity, &theirs.identity);
        if other.name != proven {
            let said = other.name;
            return Err(Rejection::NotWhoItSays { said, proven });
        }
        if other.name.environment != mine.name.environment {
            return Err(Rejection::Environment {
                ours: mine.name.environment,
                theirs: other.name.environment,
            });
        }
        if other.name.node == mine.name.node {
            return Err(Rejection::Twice(mine.name.node));
        }
        let (ours, theirs) = (mine.generation, other.generation);
        if ours.number != theirs.number {
            return Err(Rejection::Generation { ours, theirs });
        }
        if ours.nonce != theirs.nonce {
            return Err(Rejection::Recovered { ours, theirs });
        }
        Ok(())
    }
}

/// Why a hello did not come.
#[derive(Debug)]
pub(super) enum ReadHelloError {
    Rejected(Rejection),
    /// The connection ended.
    Ended,
}

/// Reads the other side's hello. The version is looked at first: the rest of a hello of another version may look different.
pub(super) async fn read(stream: &mut RecvStream, version: u16) -> Result<Hello, ReadHelloError> {
    let mut prefix = [0; PREFIX_BYTES];
    let ended = |_| ReadHelloError::Ended;
    stream.read_exact(&mut prefix).await.map_err(ended)?;
    if !prefix.starts_with(&MAGIC) {
        return Err(ReadHelloError::Rejected(Rejection::Magic));
    }
    let theirs = u16::from_le_bytes([prefix[8], prefix[9]]);
    if theirs != version {
        let ours = version;
        return Err(ReadHelloError::Rejected(Rejection::Version {
            ours,
            theirs,
        }));
    }
    let mut body = [0; BODY_BYTES];
    stream.read_exact(&mut body).await.map_err(ended)?;
    Hello::decode(theirs, &body).ok_or(ReadHelloError::Rejected(Rejection::Malformed))
}

/// Says hello.
pub(super) async fn write(stream: &mut SendStream, hello: &Hello) -> Result<(), ReadHelloError> {
    let bytes = hello.encode();
    let written = stream.write_chunk(bytes).await;
    written.map_err(|_| ReadHelloError::Ended)
}

/// Whom the certificate of the other side names. TLS has verified it.
pub(super) fn proven_name(connection: &Connection) -> Result<NodeName, Rejection> {
    let none = || Rejection::Certificate("there is none".to_owned());
    let identity = connection.peer_identity().ok_or_else(none)?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>();
    let chain = chain.map_err(|_| none())?;
    let certificate = chain.first().ok_or_else(none)?;
    tls::name_of(certificate).map_err(|error| Rejection::Certificate(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(environment: u128, node: u64, generation: u64) -> Hello {
        recovered(environment, node, generation, 0)
    }

    fn recovered(environment: u128, node: u64, number: u64, nonce: u64) -> Hello {
        Hello {
            version: 1,
            identity: Identity {
                name: NodeName {
                    environment: EnvironmentId(environment),
                    node: NodeId(node),
                },
                generation: Generation { number, nonce },
                incarnation: 4,
                process: 99,
            },
            lane: Lane::Peek,
        }
    }

    #[test]
    fn a_hello_comes_back_and_its_bytes_stay() {
        let hello = recovered(1, 2, 3, 5);
        let bytes = hello.encode();
        assert_eq!(bytes.len(), PREFIX_BYTES + BODY_BYTES);
        let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let expected = "434c555354455244".to_owned()
            + "0100"
            + "01000000000000000000000000000000"
            + "0200000000000000"
            + "0300000000000000"
            + "0500000000000000"
            + "0400000000000000"
            + "6300000000000000"
            + "02";
        assert_eq!(text, expected);
        assert_eq!(Hello::decode(1, &bytes[PREFIX_BYTES..]), Some(hello));
        for end in PREFIX_BYTES..bytes.len() {
            assert_eq!(Hello::decode(1, &bytes[PREFIX_BYTES..end]), None);
        }
    }

    #[test]
    fn nodes_that_do_not_belong_together_say_why() {
        let mine = hello(1, 1, 1);
        let check = |theirs: Hello| mine.check(&theirs, theirs.identity.name);
        assert_eq!(check(hello(1, 2, 1)), Ok(()));
        assert!(matches!(
            check(hello(2, 2, 1)),
            Err(Rejection::Environment { .. })
        ));
        assert!(matches!(
            check(hello(1, 2, 2)),
            Err(Rejection::Generation { .. })
        ));
        assert!(matches!(
            recovered(1, 1, 2, 7).check(&recovered(1, 2, 2, 8), hello(1, 2, 2).identity.name),
            Err(Rejection::Recovered { .. })
        ));
        assert_eq!(check(hello(1, 1, 1)), Err(Rejection::Twice(NodeId(1))));
        let other = hello(1, 3, 1).identity.name;
        assert!(matches!(
            mine.check(&hello(1, 2, 1), other),
            Err(Rejection::NotWhoItSays { .. })
        ));
    }
}
