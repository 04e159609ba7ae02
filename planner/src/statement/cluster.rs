//! CREATE CLUSTER, ALTER CLUSTER.

use super::create::{count, taken};
use super::show::cluster_of;
use super::{AlterClusterPlan, CreateClusterPlan, Plan, StatementPlanner};
use crate::ast::sql::Ident;
use crate::ast::{CreateCluster, OptionValue, WithOption, position};
use crate::error::PlanError;
use crate::names::Name;
use crate::parse::fold;
use state::catalog::{Cluster, Item};
use std::sync::Arc;

/// A CLUSTER may wait for more nodes than there are, but not for any number of them.
const REPLICATION_FACTOR_MAX: u32 = 64;

/// What was said about a CLUSTER.
#[derive(Default)]
struct Options {
    workers: Option<u32>,
    memory_limit_bytes: Option<u64>,
    replication_factor: Option<u32>,
}

impl StatementPlanner<'_> {
    pub(super) fn create_cluster(&self, create: &CreateCluster) -> Result<Plan, PlanError> {
        self.check_superuser("create a cluster")?;
        let name = fold(&create.name);
        if self.session.catalog.cluster_by_name(&name).is_some() {
            let skip = create.if_not_exists;
            return taken("cluster", &name, "42710", skip, "CREATE CLUSTER");
        }
        let Options {
            workers,
            memory_limit_bytes,
            replication_factor,
        } = options(&create.name, &create.options)?;
        Ok(Plan::CreateCluster(CreateClusterPlan {
            name,
            workers,
            memory_limit_bytes,
            replication_factor,
        }))
    }

    /// The number of replicas and what each may hold can change at any time; how each is built is decided when the CLUSTER is created.
    pub(super) fn alter_cluster(
        &self,
        name: &Ident,
        given: &[WithOption],
    ) -> Result<Plan, PlanError> {
        self.check_superuser("alter a cluster")?;
        let cluster = self.session.cluster(Some(&fold(name)))?;
        let Options {
            workers,
            memory_limit_bytes,
            replication_factor,
        } = options(name, given)?;
        if workers.is_some_and(|n| n != cluster.workers) {
            let error = PlanError::unsupported("changing WORKERS of running replicas");
            return Err(error.at(position(name.span)).with_hint(format!(
                "Create a cluster with these options, and the views of \"{}\" there, then DROP it.",
                cluster.name
            )));
        }
        Ok(Plan::AlterCluster(AlterClusterPlan {
            id: cluster.id,
            memory_limit_bytes,
            replication_factor,
        }))
    }

    pub(super) fn rename_cluster(&self, name: &Name, to: String) -> Result<Plan, PlanError> {
        self.check_superuser("rename a cluster")?;
        if name.schema.is_some() {
            let message = "a cluster name cannot be qualified";
            return Err(PlanError::new("42601", message).at(name.position));
        }
        let cluster = self.session.cluster(Some(&name.name))?;
        if self.session.catalog.cluster_by_name(&to).is_some() {
            return Err(PlanError::new(
                "42710",
                format!("cluster \"{to}\" already exists"),
            ));
        }
        let mut catalog = self.session.catalog.clone();
        let renamed = Cluster {
            name: to.clone(),
            ..Cluster::clone(cluster)
        };
        catalog.clusters.insert(cluster.id, Arc::new(renamed));
        let items = catalog.items.values();
        let updates = items
            .filter(|item| cluster_of(item) == Some(cluster.id))
            .map(|item| Item {
                create_sql: super::create_sql(&catalog, item),
                ..Item::clone(item)
            });
        Ok(Plan::RenameCluster {
            id: cluster.id,
            name: to,
            updates: updates.collect(),
        })
    }

    /// 42501 unless the session's role may do what concerns all users: `deed`.
    pub(super) fn check_superuser(&self, deed: &str) -> Result<(), PlanError> {
        if self.session.role()?.superuser {
            return Ok(());
        }
        let message = format!("permission denied to {deed}");
        Err(PlanError::new("42501", message).with_detail("Only superusers may do that."))
    }
}

fn options(name: &Ident, given: &[WithOption]) -> Result<Options, PlanError> {
    let mut options = Options::default();
    for option in given {
        match option.name.as_str() {
            "workers" => options.workers = Some(positive(option)?),
            "replication factor" => options.replication_factor = Some(replicas(option)?),
            "memory limit" => options.memory_limit_bytes = Some(bytes(option)?),
            // Sizes of other systems name machines; here a cluster has workers.
            "size" => options.workers = options.workers.or(positive(option).ok()),
            other => {
                let message = format!("unrecognized CLUSTER option \"{other}\"");
                return Err(PlanError::new("42601", message)
                    .at(position(name.span))
                    .with_hint("The options are WORKERS, MEMORY LIMIT and REPLICATION FACTOR."));
            }
        }
    }
    Ok(options)
}

fn replicas(option: &WithOption) -> Result<u32, PlanError> {
    match count(option)? {
        n @ 1..=REPLICATION_FACTOR_MAX => Ok(n),
        _ => Err(PlanError::new(
            "22023",
            format!("REPLICATION FACTOR must be between 1 and {REPLICATION_FACTOR_MAX}"),
        )),
    }
}

fn positive(option: &WithOption) -> Result<u32, PlanError> {
    match count(option)? {
        0 => Err(PlanError::new(
            "22023",
            format!("{} must be at least 1", option.name.to_uppercase()),
        )),
        n => Ok(n),
    }
}

/// A number of bytes, with a unit: `1GB`.
fn bytes(option: &WithOption) -> Result<u64, PlanError> {
    let wrong = || {
        PlanError::new(
            "22023",
            format!(
                "{} must be a size such as '1GB'",
                option.name.to_uppercase()
            ),
        )
    };
    let text = option
        .value
        .as_ref()
        .and_then(OptionValue::as_str)
        .ok_or_else(wrong)?
        .trim();
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor: u64 = match unit.trim().to_lowercase().as_str() {
        "" | "b" => 1,
        "kb" | "k" | "kib" => 1 << 10,
        "mb" | "m" | "mib" => 1 << 20,
        "gb" | "g" | "gib" => 1 << 30,
        "tb" | "t" | "tib" => 1 << 40,
        _ => return Err(wrong()),
    };
    let n: u64 = digits.parse().map_err(|_| wrong())?;
    n.checked_mul(factor).filter(|n| *n > 0).ok_or_else(wrong)
}
