//! How a try to have something done by a CLUSTER's leader ends without success.

use crate::adapter::error::SqlError;
use protocol::cluster::Failure;
use repr::NodeId;

/// Why a leader did not do it.
#[derive(Clone, Debug)]
pub(crate) enum Miss {
    /// It does not lead (any more), or cannot be reached: the same thing may be asked of the next leader. As far as known that is this node.
    Moved(Option<NodeId>),
    /// The answer to the statement.
    Sql(SqlError),
}

/// Shorthand of everything that is asked of a leader.
pub(crate) type Try<T> = Result<T, Miss>;

impl From<SqlError> for Miss {
    fn from(error: SqlError) -> Miss {
        Miss::Sql(error)
    }
}

/// An error on its way to the gateway of its statement. Position and context are the gateway's to add.
pub(crate) fn to_failure(error: SqlError) -> Failure {
    Failure {
        sqlstate: error.sqlstate,
        message: error.message,
        detail: error.detail,
        hint: error.hint,
        forgotten: error.forgotten,
    }
}

pub(crate) fn from_failure(failure: Failure) -> SqlError {
    let Failure {
        sqlstate,
        message,
        detail,
        hint,
        forgotten,
    } = failure;
    SqlError {
        detail,
        hint,
        forgotten,
        ..SqlError::new(&sqlstate, message)
    }
}
