//! ALTER NODE, DROP NODE, CREATE JOIN TOKEN: changes of who belongs to the environment. They are commands of ENV's log of their own,
//! not parts of a transaction. Each may be repeated, so an outcome that was not heard is asked for again by sending it again.

use crate::adapter::error::{Result, SqlError};
use crate::adapter::pgwire::writer::Notice;
use crate::adapter::read_point::ReadPoint;
use crate::adapter::session::{Output, RowSet, Session};
use bootstrap::Token;
use planner::Plan;
use planner::ast::{ChangeNode, NodeChange};
use repr::{Datum, NodeId, Row};
use state::command::NodeOp;
use state::{Command, Node, NodeStatus, Outcome, State};
use std::sync::Arc;

/// The environment is not in a state in which that could be done.
const NOT_IN_PREREQUISITE_STATE: &str = "55000";

impl Session {
    pub(crate) async fn change_node(
        &mut self,
        change: &ChangeNode,
        point: &ReadPoint,
    ) -> Result<Output> {
        let ChangeNode { node, change } = change;
        let (tag, status) = match change {
            NodeChange::Drain => ("ALTER NODE", NodeStatus::Draining),
            NodeChange::Undrain => ("ALTER NODE", NodeStatus::Active),
            NodeChange::Drop { .. } => ("DROP NODE", NodeStatus::Removed),
        };
        self.check_writable(tag)?;
        self.check_alone(tag)?;
        let id = NodeId(*node);
        let done = Ok(Output::Complete(tag.to_owned()));
        let Some(known) = present(&point.state, id) else {
            let text = missing(&point.state, id);
            return match change {
                NodeChange::Drop { if_exists: true } => {
                    self.notice(Notice::plain(format!("{text}, skipping")));
                    done
                }
                NodeChange::Drop { .. } | NodeChange::Drain | NodeChange::Undrain => {
                    Err(SqlError::new("42704", text).hint("SHOW NODES lists the nodes."))
                }
            };
        };
        if status == NodeStatus::Removed {
            self.check_removable(known)?;
        }
        self.change(NodeOp::SetStatus { node: id, status }).await?;
        done
    }

    /// This session would hang on a node that is not part of the environment any more.
    fn check_removable(&mut self, node: &Node) -> Result<()> {
        let id = node.id.0;
        if node.id == self.adapter.gateway.node {
            let message = format!("node {id} is the one that this session is connected to");
            return Err(SqlError::new(NOT_IN_PREREQUISITE_STATE, message)
                .hint("Connect to another node and drop it from there."));
        }
        if node.status == NodeStatus::Active && node.incarnation > 0 {
            self.notice(Notice::plain(format!(
                "node {id} was not drained: what its replicas have built is built again elsewhere"
            )));
        }
        Ok(())
    }

    pub(crate) async fn create_join_token(
        &mut self,
        valid_for_us: u64,
        plan: &Plan,
        point: &ReadPoint,
    ) -> Result<Output> {
        const STATEMENT: &str = "CREATE JOIN TOKEN";
        self.check_writable(STATEMENT)?;
        self.check_alone(STATEMENT)?;
        let Some(authority) = point.state.authority() else {
            let message = "the environment has no certificate authority yet";
            return Err(SqlError::new(NOT_IN_PREREQUISITE_STATE, message)
                .hint("Start its first node anew; it makes one."));
        };
        let (token, hash) = Token::join(&self.adapter.host, &authority.certificate);
        let now = point.state.time_by(self.adapter.env.wall_us());
        let expires_us = now.saturating_add(valid_for_us);
        self.change(NodeOp::Token { hash, expires_us }).await?;
        let desc = plan
            .desc()
            .ok_or_else(|| SqlError::internal("a token without a column"))?;
        let row = Row::pack_slice(&[Datum::String(&token.to_string())]);
        Ok(Output::Rows(
            RowSet::new(Arc::new(desc), vec![row], STATEMENT).without_count(),
        ))
    }

    async fn change(&mut self, op: NodeOp) -> Result<()> {
        // From here on a cancel comes too late: the outcome belongs to the log.
        let _committing = self.cancel.commit();
        let outcomes = self.adapter.env.propose(&Command::Node(op)).await?;
        match outcomes.into_iter().next() {
            Some(Outcome::Committed { .. }) => Ok(()),
            Some(Outcome::Invalid { reason }) => {
                Err(SqlError::new(NOT_IN_PREREQUISITE_STATE, reason))
            }
            other => Err(SqlError::internal(format!(
                "a change of nodes was answered by {other:?}"
            ))),
        }
    }
}

/// The node, unless it was removed.
fn present(state: &State, id: NodeId) -> Option<&Arc<Node>> {
    let node = state.nodes().get(&id);
    node.filter(|node| node.status != NodeStatus::Removed)
}

fn missing(state: &State, id: NodeId) -> String {
    match state.nodes().contains_key(&id) {
        true => format!("node {} was removed from the environment", id.0),
        false => format!("node {} does not exist", id.0),
    }
}
