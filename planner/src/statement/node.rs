//! ALTER NODE, DROP NODE, CREATE JOIN TOKEN. Nodes are not in the catalog: whether there is such a node is known when the change is made.

use super::{Plan, StatementPlanner};
use crate::ast::{ChangeNode, CreateJoinToken, NodeChange};
use crate::error::PlanError;

const DAY_US: u64 = 24 * 3600 * 1_000_000;
/// How long a join token is valid if nothing is said.
const VALID_FOR_US: u64 = DAY_US;
const VALID_FOR_US_MAX: u64 = 365 * DAY_US;

impl StatementPlanner<'_> {
    pub(super) fn change_node(&self, change: &ChangeNode) -> Result<Plan, PlanError> {
        self.check_superuser(match change.change {
            NodeChange::Drain | NodeChange::Undrain => "alter a node",
            NodeChange::Drop { .. } => "drop a node",
        })?;
        Ok(Plan::ChangeNode(change.clone()))
    }

    pub(super) fn create_join_token(&self, create: &CreateJoinToken) -> Result<Plan, PlanError> {
        self.check_superuser("create a join token")?;
        let valid_for_us = match &create.valid_for {
            None => VALID_FOR_US,
            Some((text, position)) => {
                let us = self.duration_us("VALID FOR", text);
                let us = us.map_err(|error| error.at(*position))?;
                if us > VALID_FOR_US_MAX {
                    let message = "a join token is valid for at most 365 days";
                    return Err(PlanError::new("22023", message).at(*position));
                }
                us
            }
        };
        Ok(Plan::CreateJoinToken { valid_for_us })
    }
}

#[cfg(test)]
mod tests {
    use crate::session::NoSettings;
    use crate::{ParamTypes, SessionView, parse, plan_statement};
    use plan::scalar::EvalCtx;
    use state::catalog::Role;
    use state::{Command, State};
    use std::sync::Arc;

    #[test]
    fn only_superusers_change_what_concerns_everybody() {
        let mut state = State::new();
        let superusers = vec!["root".to_owned()];
        state.apply(
            1,
            &Command::Init {
                environment: 1,
                generation: 0,
                wall_us: 1,
                superusers,
            },
        );
        let mut catalog = state.catalog().as_ref().clone();
        let id = repr::RoleId(20_000);
        let role = Role {
            id,
            name: "guest".into(),
            superuser: false,
        };
        catalog.roles.insert(id, Arc::new(role));
        let eval = EvalCtx::default();
        let plan = |user: &str, sql: &str| {
            let view = SessionView {
                catalog: &catalog,
                database: "clusterd",
                search_path: &[],
                current_user: user,
                session_user: user,
                cluster: "quickstart",
                backend_pid: 1,
                version: "",
                eval: &eval,
                settings: &NoSettings,
            };
            let statement = parse(sql).unwrap().remove(0).statement;
            plan_statement(&view, &statement, &mut ParamTypes::forbidden())
        };
        for sql in [
            "create cluster c",
            "alter cluster quickstart set (replication factor 2)",
            "alter cluster quickstart rename to c",
            "drop cluster quickstart",
            "alter node 1 drain",
            "drop node 1",
            "create join token",
        ] {
            assert!(plan("root", sql).is_ok(), "{sql}");
            assert_eq!(plan("guest", sql).unwrap_err().sqlstate, "42501", "{sql}");
        }
    }
}
