//! What remains to be done with the rows of a peek before they are a query's answer.

use crate::mir::ColumnOrder;
use serde::{Deserialize, Serialize};

/// Sort, cut and project, in that order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Finishing {
    pub order_by: Vec<ColumnOrder>,
    pub limit: Option<u64>,
    pub offset: u64,
    pub project: Vec<usize>,
}

impl Finishing {
    /// Rows of this arity, in any order, all of them.
    pub fn trivial(arity: usize) -> Self {
        Finishing { order_by: vec![], limit: None, offset: 0, project: (0..arity).collect() }
    }

    pub fn is_trivial(&self, arity: usize) -> bool {
        self.order_by.is_empty()
            && self.limit.is_none()
            && self.offset == 0
            && self.project.len() == arity
            && self.project.iter().enumerate().all(|(i, c)| i == *c)
    }
}
