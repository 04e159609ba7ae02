//! CREATE SCHEMA, DATABASE, CLUSTER, SOURCE.

use super::{CreateClusterPlan, CreateItemPlan, ParamTypes, Plan, StatementPlanner};
use crate::ast::sql::Ident;
use crate::ast::{CreateCluster, CreateSchema, CreateSource, OptionValue, WithOption, position};
use crate::error::{Notice, PlanError};
use crate::hir::HirScalar;
use crate::names::{Name, is_system_schema};
use crate::parse::fold;
use crate::query::QueryPlanner;
use crate::types::cast::CastContext;
use crate::types::coerce::Typed;
use repr::{Datum, GlobalId, ShardId, SqlType};
use state::catalog::{Column, Item, ItemKind, LoadGenerator, Source};
use std::collections::BTreeSet;

impl StatementPlanner<'_> {
    pub(super) fn create_schema(&self, create: &CreateSchema) -> Result<Plan, PlanError> {
        let name = Name::new(&create.name)?;
        if let Some(database) = &name.schema
            && database != self.session.database
        {
            return Err(PlanError::unsupported("a schema in another database").at(name.position));
        }
        if is_system_schema(&name.name) || name.name.starts_with("pg_") {
            let message = format!("unacceptable schema name \"{}\"", name.name);
            return Err(PlanError::new("42939", message)
                .at(name.position)
                .with_detail("The prefix \"pg_\" is reserved for system schemas."));
        }
        let database = self.session.database()?;
        if self
            .session
            .catalog
            .schema_by_name(database.id, &name.name)
            .is_some()
        {
            return taken(
                "schema",
                &name.name,
                "42P06",
                create.if_not_exists,
                "CREATE SCHEMA",
            );
        }
        Ok(Plan::CreateSchema {
            name: name.name,
            notices: vec![],
        })
    }

    pub(super) fn create_database(
        &self,
        name: &Ident,
        if_not_exists: bool,
    ) -> Result<Plan, PlanError> {
        let name = fold(name);
        if self.session.catalog.database_by_name(&name).is_some() {
            return taken("database", &name, "42P04", if_not_exists, "CREATE DATABASE");
        }
        Ok(Plan::CreateDatabase { name })
    }

    pub(super) fn create_cluster(&self, create: &CreateCluster) -> Result<Plan, PlanError> {
        let name = fold(&create.name);
        if self.session.catalog.cluster_by_name(&name).is_some() {
            return taken(
                "cluster",
                &name,
                "42710",
                create.if_not_exists,
                "CREATE CLUSTER",
            );
        }
        let mut plan = CreateClusterPlan {
            name,
            workers: None,
            memory_limit_bytes: None,
            replication_factor: None,
        };
        for option in &create.options {
            match option.name.as_str() {
                "workers" => plan.workers = Some(positive(option)?),
                "replication factor" => plan.replication_factor = Some(count(option)?),
                "memory limit" => plan.memory_limit_bytes = Some(bytes(option)?),
                // Sizes of other systems name machines; here a cluster has workers.
                "size" => plan.workers = plan.workers.or(positive(option).ok()),
                other => {
                    let message = format!("unrecognized CLUSTER option \"{other}\"");
                    return Err(PlanError::new("42601", message)
                        .at(position(create.name.span))
                        .with_hint(
                            "The options are WORKERS, MEMORY LIMIT and REPLICATION FACTOR.",
                        ));
                }
            }
        }
        Ok(Plan::CreateCluster(plan))
    }

    pub(super) fn create_source(&self, create: &CreateSource) -> Result<Plan, PlanError> {
        let name = Name::new(&create.name)?;
        let schema = self.session.schema_for(&name)?;
        if let Some(plan) =
            self.check_free(schema.id, &name, create.if_not_exists, "CREATE SOURCE")?
        {
            return Ok(plan);
        }
        if create.generator != "counter" {
            return Err(PlanError::unsupported(format!(
                "LOAD GENERATOR {}",
                create.generator.to_uppercase()
            ))
            .with_hint("The load generator is COUNTER."));
        }
        let mut tick_interval_us = 1_000_000;
        let mut max_cardinality = None;
        for option in &create.options {
            match option.name.as_str() {
                "tick interval" => tick_interval_us = self.interval_us(option)?,
                "max cardinality" => max_cardinality = Some(u64::from(count(option)?)),
                other => {
                    return Err(PlanError::new(
                        "42601",
                        format!("unrecognized COUNTER option \"{other}\""),
                    ));
                }
            }
        }
        let cluster = create.cluster.as_ref().map(fold);
        let id = self.session.catalog.next_id;
        let mut item = Item {
            id: GlobalId(id),
            schema: schema.id,
            name: name.name,
            owner: self.session.role()?.id,
            create_sql: String::new(),
            depends_on: BTreeSet::new(),
            version: 1,
            kind: ItemKind::Source(Source {
                shard: ShardId(id),
                columns: vec![Column {
                    name: "counter".to_owned(),
                    ty: SqlType::Int64,
                    nullable: false,
                }],
                cluster: self.session.cluster(cluster.as_deref())?.id,
                generator: LoadGenerator::Counter {
                    tick_interval_us,
                    max_cardinality,
                },
            }),
        };
        item.create_sql = super::create_sql(self.session.catalog, &item);
        Ok(Plan::CreateSource(CreateItemPlan {
            item,
            replaces: None,
            notices: vec![],
        }))
    }

    /// An interval of at least a millisecond, in microseconds.
    fn interval_us(&self, option: &WithOption) -> Result<u64, PlanError> {
        let wrong = || {
            let name = option.name.to_uppercase();
            PlanError::new(
                "22023",
                format!("{name} must be an interval of at least 1 millisecond"),
            )
        };
        let text = option
            .value
            .as_ref()
            .and_then(OptionValue::as_str)
            .ok_or_else(wrong)?;
        let planner = QueryPlanner::new(self.session, ParamTypes::forbidden());
        let literal = HirScalar::literal(Datum::String(text), SqlType::Unknown);
        let interval = planner.coercer().coerce(
            Typed::new(literal, SqlType::Unknown),
            &SqlType::Interval,
            CastContext::Explicit,
        )?;
        let us = match interval.as_literal() {
            Some(Datum::Interval(interval)) => interval.justified_usecs(),
            _ => 0,
        };
        match u64::try_from(us) {
            Ok(us) if us >= 1000 => Ok(us),
            _ => Err(wrong()),
        }
    }
}

/// The name exists: an error, or nothing to do.
fn taken(
    kind: &str,
    name: &str,
    sqlstate: &'static str,
    if_not_exists: bool,
    tag: &str,
) -> Result<Plan, PlanError> {
    let message = format!("{kind} \"{name}\" already exists");
    match if_not_exists {
        false => Err(PlanError::new(sqlstate, message)),
        true => Ok(Plan::NoOp {
            tag: tag.to_owned(),
            notices: vec![Notice::info(sqlstate, format!("{message}, skipping"))],
        }),
    }
}

fn count(option: &WithOption) -> Result<u32, PlanError> {
    let value = option.value.as_ref().and_then(OptionValue::as_str);
    value.and_then(|v| v.parse().ok()).ok_or_else(|| {
        PlanError::new(
            "22023",
            format!("{} must be a whole number", option.name.to_uppercase()),
        )
    })
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
