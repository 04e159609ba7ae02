//! CREATE VIEW and CREATE MATERIALIZED VIEW.

use super::{CreateDataflowPlan, CreateItemPlan, ParamTypes, Plan, StatementPlanner};
use crate::ast::{CreateView, position};
use crate::error::PlanError;
use crate::lower::lower;
use crate::names::Name;
use crate::parse::fold;
use crate::query::{NameUse, QueryPlanner};
use plan::Mir;
use plan::ScalarExpr;
use plan::scalar::Unmaterializable;
use repr::{GlobalId, RelationDesc, SqlType};
use state::catalog::{Column, Item, ItemKind, MaterializedView, Plan as StoredPlan, View};
use std::collections::BTreeSet;

impl StatementPlanner<'_> {
    pub(super) fn create_view(&self, create: &CreateView) -> Result<Plan, PlanError> {
        if create.temporary {
            return Err(PlanError::unsupported("a temporary view"));
        }
        let name = Name::new(&create.name)?;
        let schema = self.session.schema_for(&name)?;
        let tag = match create.materialized {
            true => "CREATE MATERIALIZED VIEW",
            false => "CREATE VIEW",
        };
        let existing = self.session.catalog.item_by_name(schema.id, &name.name);
        let replaced = match (existing, create.or_replace) {
            (Some(old), true) => {
                if create.materialized || !matches!(old.kind, ItemKind::View(_)) {
                    return Err(PlanError::unsupported(
                        "OR REPLACE of anything but a plain view",
                    ));
                }
                Some(old)
            }
            (_, _) => {
                if let Some(plan) = self.check_free(schema.id, &name, create.if_not_exists, tag)? {
                    return Ok(plan);
                }
                None
            }
        };
        let planner = QueryPlanner::new(self.session, ParamTypes::forbidden());
        let (hir, mut desc) = planner.root_relation(&create.query)?;
        let query_sql =
            with_full_names(&create.query_text, create.query_start, planner.take_uses());
        let mir = lower(hir)?;
        name_columns(&mut desc, create)?;
        let depends_on: BTreeSet<GlobalId> = mir
            .depends_on()
            .into_iter()
            .filter(|id| id.is_user())
            .collect();
        let id = replaced.map_or(GlobalId(self.session.catalog.next_id), |old| old.id);
        if depends_on.contains(&id) || self.reaches(&depends_on, id) {
            return Err(PlanError::new(
                "42P17",
                format!(
                    "infinite recursion detected in rules for relation \"{}\"",
                    name.name
                ),
            ));
        }
        let columns: Vec<Column> = desc
            .columns()
            .map(|(name, ty)| Column {
                name: name.to_owned(),
                ty: ty.ty.clone(),
                nullable: ty.nullable,
            })
            .collect();
        if let Some(old) = replaced {
            check_replacement(old, &columns)?;
        }
        let kind = match create.materialized {
            false => ItemKind::View(View { columns, query_sql }),
            true => {
                self.check_materializable(&mir)?;
                let cluster = create.cluster.as_ref().map(fold);
                ItemKind::MaterializedView(MaterializedView {
                    columns,
                    query_sql,
                    plan: empty_plan(self.session.cluster(cluster.as_deref())?.id),
                    arranged_by: vec![],
                    unique_keys: vec![],
                })
            }
        };
        let mut item = Item {
            id,
            schema: schema.id,
            name: name.name,
            owner: self.session.role()?.id,
            create_sql: String::new(),
            depends_on,
            version: 1,
            kind,
        };
        item.create_sql = super::create_sql(self.session.catalog, &item);
        Ok(match create.materialized {
            true => Plan::CreateMaterializedView(CreateDataflowPlan { item, mir, desc }),
            false => Plan::CreateView(CreateItemPlan {
                item,
                replaces: replaced.map(|old| old.id),
                notices: vec![],
            }),
        })
    }

    /// Whether one of the items depends on `id`, transitively.
    fn reaches(&self, from: &BTreeSet<GlobalId>, id: GlobalId) -> bool {
        let mut seen: BTreeSet<GlobalId> = from.clone();
        let mut queue: Vec<GlobalId> = from.iter().copied().collect();
        while let Some(next) = queue.pop() {
            if next == id {
                return true;
            }
            for dependency in self
                .session
                .catalog
                .item(next)
                .iter()
                .flat_map(|i| &i.depends_on)
            {
                if seen.insert(*dependency) {
                    queue.push(*dependency);
                }
            }
        }
        false
    }

    /// A maintained dataflow reads durable collections, and nothing of the session that made it.
    pub(super) fn check_materializable(&self, mir: &Mir) -> Result<(), PlanError> {
        check_scalars(mir)?;
        for id in mir.depends_on() {
            if let Some(builtin) = crate::builtin::by_id(id) {
                let message = format!(
                    "cannot materialize a query over the system relation \"{}.{}\"",
                    builtin.schema, builtin.name
                );
                return Err(PlanError::new("0A000", message));
            }
            let Some(item) = self.session.catalog.item(id) else {
                continue;
            };
            if let ItemKind::View(view) = &item.kind {
                let inner = super::plan_stored_query(self.session.catalog, id, &view.query_sql)?;
                self.check_materializable(&inner)?;
            }
        }
        Ok(())
    }
}

/// Refuses values that change from statement to statement; `mz_now()` may become a temporal filter.
fn check_scalars(mir: &Mir) -> Result<(), PlanError> {
    let mut found = None;
    mir.visit(&mut |node| {
        for scalar in scalars_of(node) {
            scalar.visit(&mut |e| {
                if let ScalarExpr::Unmaterializable(value) = e
                    && *value != Unmaterializable::MzNow
                {
                    found = Some(function_name(value));
                }
                if let ScalarExpr::Call { func, .. } = e
                    && func.def().reads_catalog
                {
                    found = Some(func.name());
                }
            });
        }
    });
    match found {
        None => Ok(()),
        Some(name) => Err(PlanError::new("0A000", format!("cannot materialize call to {name}")).with_hint(
            "Its value depends on the session or the statement. For the current time use mz_now() in a WHERE clause.",
        )),
    }
}

fn function_name(value: &Unmaterializable) -> &'static str {
    match value {
        Unmaterializable::MzNow => "mz_now",
        Unmaterializable::Now => "now",
        Unmaterializable::CurrentDatabase => "current_database",
        Unmaterializable::CurrentUser => "current_user",
        Unmaterializable::SessionUser => "session_user",
        Unmaterializable::CurrentSchema => "current_schema",
        Unmaterializable::CurrentSchemas { .. } => "current_schemas",
        Unmaterializable::Version => "version",
        Unmaterializable::BackendPid => "pg_backend_pid",
        Unmaterializable::Setting(_) => "current_setting",
    }
}

fn scalars_of(mir: &Mir) -> Vec<&ScalarExpr> {
    match mir {
        Mir::Map { scalars, .. } => scalars.iter().collect(),
        Mir::FlatMap { args, .. } => args.iter().collect(),
        Mir::Filter { predicates, .. } => predicates.iter().collect(),
        Mir::Join { equivalences, .. } => equivalences.iter().flatten().collect(),
        Mir::Reduce {
            group_key,
            aggregates,
            ..
        } => group_key
            .iter()
            .chain(aggregates.iter().map(|a| &a.expr))
            .collect(),
        Mir::TopK { limit, .. } => limit.iter().collect(),
        Mir::ArrangeBy { keys, .. } => keys.iter().flatten().collect(),
        Mir::Constant { .. }
        | Mir::Get { .. }
        | Mir::Let { .. }
        | Mir::Project { .. }
        | Mir::Negate { .. }
        | Mir::Threshold { .. }
        | Mir::Union { .. } => vec![],
    }
}

/// A plan that is still to be made.
pub(super) fn empty_plan(cluster: repr::ClusterId) -> StoredPlan {
    StoredPlan {
        cluster,
        bytes: vec![],
        hash: 0,
        shards: BTreeSet::new(),
        as_of: 0,
    }
}

/// The text with relations named with their schema. `start` is the position of the text's first character.
fn with_full_names(text: &str, start: usize, mut uses: Vec<NameUse>) -> String {
    uses.sort_by_key(|u| u.start);
    uses.dedup();
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for name in uses {
        let (Some(from), Some(to)) = (name.start.checked_sub(start), name.end.checked_sub(start))
        else {
            continue;
        };
        if from < done || to > chars.len() {
            continue;
        }
        out.extend(&chars[done..from]);
        out.push_str(&name.full_name);
        done = to;
    }
    out.extend(&chars[done..]);
    out
}

/// Applies the view's own column names.
fn name_columns(desc: &mut RelationDesc, create: &CreateView) -> Result<(), PlanError> {
    if create.columns.len() > desc.arity() {
        let what = if create.materialized {
            "CREATE MATERIALIZED VIEW"
        } else {
            "CREATE VIEW"
        };
        return Err(PlanError::new(
            "42601",
            format!("{what} specifies more column names than columns"),
        ));
    }
    for (name, ident) in desc.names.iter_mut().zip(&create.columns) {
        *name = fold(ident);
    }
    for (i, name) in desc.names.iter().enumerate() {
        if desc.names[..i].contains(name) {
            let at = create.columns.get(i).map_or(0, |c| position(c.span));
            return Err(PlanError::new(
                "42701",
                format!("column \"{name}\" specified more than once"),
            )
            .at(at));
        }
    }
    if let Some((name, _)) = desc.columns().find(|(_, ty)| ty.ty == SqlType::Void) {
        return Err(PlanError::new(
            "42P16",
            format!("column \"{name}\" has pseudo-type void"),
        ));
    }
    Ok(())
}

/// OR REPLACE may only add columns at the end.
fn check_replacement(old: &Item, columns: &[Column]) -> Result<(), PlanError> {
    let Some(before) = old.columns() else {
        return Ok(());
    };
    if before.len() > columns.len() {
        return Err(PlanError::new("42P16", "cannot drop columns from view"));
    }
    for (old, new) in before.iter().zip(columns) {
        if old.name != new.name {
            let message = format!(
                "cannot change name of view column \"{}\" to \"{}\"",
                old.name, new.name
            );
            return Err(PlanError::new("42P16", message));
        }
        if old.ty != new.ty {
            let message = format!(
                "cannot change data type of view column \"{}\" from {} to {}",
                old.name,
                old.ty.pg_name(),
                new.ty.pg_name()
            );
            return Err(PlanError::new("42P16", message));
        }
    }
    Ok(())
}
