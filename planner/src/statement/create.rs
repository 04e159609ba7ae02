//! CREATE SCHEMA, DATABASE, SOURCE.

use super::{CreateItemPlan, ParamTypes, Plan, StatementPlanner};
use crate::ast::sql::Ident;
use crate::ast::{CreateSchema, CreateSource, OptionValue, WithOption};
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
        let text = option.value.as_ref().and_then(OptionValue::as_str);
        self.duration_us(&option.name.to_uppercase(), text.unwrap_or_default())
    }

    /// An interval of at least a millisecond, in microseconds. `what` is to be given so.
    pub(super) fn duration_us(&self, what: &str, text: &str) -> Result<u64, PlanError> {
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
            _ => Err(PlanError::new(
                "22023",
                format!("{what} must be an interval of at least 1 millisecond"),
            )),
        }
    }
}

/// The name exists: an error, or nothing to do.
pub(super) fn taken(
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

pub(super) fn count(option: &WithOption) -> Result<u32, PlanError> {
    let value = option.value.as_ref().and_then(OptionValue::as_str);
    value.and_then(|v| v.parse().ok()).ok_or_else(|| {
        PlanError::new(
            "22023",
            format!("{} must be a whole number", option.name.to_uppercase()),
        )
    })
}
