//! Identifiers. Each kind has its own type, so that one cannot stand in for another.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(
    /// A durable collection.
    ShardId, "shard"
);
id!(
    /// A pool of compute named by users.
    ClusterId, "cluster"
);
id!(
    /// One copy of a cluster's dataflows.
    ReplicaId, "replica"
);
id!(
    /// One process of the environment. Never reused.
    NodeId, "n"
);
id!(
    /// A role, i.e. a user or a group of users.
    RoleId, "role"
);
id!(
    /// A schema inside a database.
    SchemaId, "schema"
);
id!(
    /// A database.
    DatabaseId, "db"
);

/// A catalog item (table, view, index, ...). It equals the item's Postgres OID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GlobalId(pub u64);

impl GlobalId {
    /// The first id that is given to an object made by a user; those below are built in.
    pub const FIRST_USER: GlobalId = GlobalId(16384);

    /// Whether this is a built-in object.
    pub fn is_system(self) -> bool {
        self < GlobalId::FIRST_USER
    }

    /// Whether this object was made by a user.
    pub fn is_user(self) -> bool {
        !self.is_system()
    }

    /// The Postgres OID of the object.
    ///
    /// # Panics
    /// If the id was not allocated from the 32-bit space of OIDs.
    pub fn oid(self) -> u32 {
        u32::try_from(self.0).expect("object ids are allocated below 2^32")
    }
}

impl fmt::Display for GlobalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.is_system() { 's' } else { 'u' }, self.0)
    }
}

impl fmt::Debug for GlobalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
