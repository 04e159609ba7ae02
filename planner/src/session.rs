//! What planning knows about the session a statement runs in.

use crate::error::PlanError;
use plan::scalar::EvalCtx;
use state::Catalog;
use state::catalog::{Cluster, Database, Role};
use std::sync::Arc;

/// The schema of the functions, types and relations that every database has.
pub const PG_CATALOG: &str = "pg_catalog";
pub const INFORMATION_SCHEMA: &str = "information_schema";
/// The schema of this system's own relations.
pub const MZ_CATALOG: &str = "mz_catalog";
pub const MZ_INTERNAL: &str = "mz_internal";

/// The catalog and the session's names and settings at one read point.
///
/// Planning reads nothing else: the same view and the same text give the same plan.
#[derive(Clone, Copy)]
pub struct SessionView<'a> {
    pub catalog: &'a Catalog,
    pub database: &'a str,
    /// As set, `$user` included; `pg_catalog` is searched first unless it is listed.
    pub search_path: &'a [String],
    pub current_user: &'a str,
    pub session_user: &'a str,
    /// The CLUSTER of dataflows that do not name one.
    pub cluster: &'a str,
    pub backend_pid: i32,
    /// The server's version text, as `version()` returns it.
    pub version: &'a str,
    /// Context for evaluating constants: time zone, styles, the transaction's time.
    pub eval: &'a EvalCtx,
    pub settings: &'a dyn Settings,
}

/// Session settings by name.
pub trait Settings {
    /// The value as SHOW prints it; `None` if there is no such setting.
    fn get(&self, name: &str) -> Option<String>;
}

/// No settings at all: planning a stored definition.
pub struct NoSettings;

impl Settings for NoSettings {
    fn get(&self, _name: &str) -> Option<String> {
        None
    }
}

impl<'a> SessionView<'a> {
    pub fn database(&self) -> Result<&'a Arc<Database>, PlanError> {
        self.catalog.database_by_name(self.database).ok_or_else(|| {
            PlanError::new(
                "3D000",
                format!("database \"{}\" does not exist", self.database),
            )
        })
    }

    pub fn role(&self) -> Result<&'a Arc<Role>, PlanError> {
        self.catalog.role_by_name(self.current_user).ok_or_else(|| {
            PlanError::new(
                "42704",
                format!("role \"{}\" does not exist", self.current_user),
            )
        })
    }

    /// The CLUSTER named, or the session's.
    pub fn cluster(&self, name: Option<&str>) -> Result<&'a Arc<Cluster>, PlanError> {
        let name = name.unwrap_or(self.cluster);
        self.catalog.cluster_by_name(name).ok_or_else(|| {
            PlanError::cluster_not_found(name)
                .with_hint("SHOW CLUSTERS lists the clusters; SET cluster = name chooses one.")
        })
    }
}
