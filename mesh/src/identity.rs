//! Who a node is to its peers, as its certificate says it.

use std::fmt;

use repr::NodeId;

const SCHEME: &str = "clusterd://";

/// Names an environment: 128 random bits, made when it is formed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvironmentId(pub u128);

impl fmt::Display for EnvironmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for EnvironmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A node of an environment: what a certificate is issued to. As text it is the URI `clusterd://<environment>/<node>`, the subject alternative
/// name of the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName {
    pub environment: EnvironmentId,
    pub node: NodeId,
}

impl NodeName {
    /// Reads the URI; `None` if it is none of ours. There is one way to write a name, and nothing else is accepted.
    pub fn from_uri(uri: &str) -> Option<NodeName> {
        let (environment, node) = uri.strip_prefix(SCHEME)?.split_once('/')?;
        let name = NodeName {
            environment: EnvironmentId(u128::from_str_radix(environment, 16).ok()?),
            node: NodeId(node.parse().ok()?),
        };
        (name.to_string() == uri).then_some(name)
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.environment, self.node.0)
    }
}

/// How often an environment was recovered after the loss of a majority, and by which recovery. Two that went on from the same environment have the same number, but are two environments:
/// the nonce keeps them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    pub number: u64,
    /// Random, of the last recovery; 0 before the first.
    pub nonce: u64,
}

impl Generation {
    /// Of an environment that was never recovered.
    pub const FIRST: Generation = Generation {
        number: 1,
        nonce: 0,
    };
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nonce {
            0 => write!(f, "{}", self.number),
            nonce => write!(f, "{} (recovery {nonce:016x})", self.number),
        }
    }
}

/// One life of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub name: NodeName,
    /// Nodes of different generations refuse each other.
    pub generation: Generation,
    /// Counts the starts of the node. A higher one ends connections of a lower one.
    pub incarnation: u64,
    /// Random, of this process: tells two processes apart that claim the same node and incarnation, as those of a copied data directory do.
    pub process: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_in_one_way() {
        let name = NodeName {
            environment: EnvironmentId(0xabc),
            node: NodeId(7),
        };
        let uri = "clusterd://00000000000000000000000000000abc/7";
        assert_eq!(name.to_string(), uri);
        assert_eq!(NodeName::from_uri(uri), Some(name));
        for wrong in [
            "",
            "clusterd://abc/7",
            "clusterd://00000000000000000000000000000ABC/7",
            "clusterd://00000000000000000000000000000abc/07",
            "clusterd://00000000000000000000000000000abc/7/",
            "clusterd://00000000000000000000000000000abc/-7",
            "https://00000000000000000000000000000abc/7",
        ] {
            assert_eq!(NodeName::from_uri(wrong), None, "{wrong}");
        }
    }
}
