//! CREATE INDEX.

use super::table::unique_name;
use super::view::empty_plan;
use super::{CreateIndexPlan, ParamTypes, Plan, StatementPlanner};
use crate::ast::sql::{Expr, Spanned};
use crate::ast::{CreateIndex, position};
use crate::error::{Notice, PlanError};
use crate::lower::lower_scalar;
use crate::names::{Name, Relation, item_desc, quote};
use crate::parse::fold;
use crate::query::{QueryPlanner, desc_scope};
use plan::ScalarExpr;
use repr::{GlobalId, RelationDesc};
use state::catalog::{Index, IndexKey, Item, ItemKind};
use std::collections::BTreeSet;

impl StatementPlanner<'_> {
    pub(super) fn create_index(&self, create: &CreateIndex) -> Result<Plan, PlanError> {
        if create.unique {
            return Err(PlanError::unsupported("CREATE UNIQUE INDEX")
                .with_hint("Declare a UNIQUE constraint in CREATE TABLE instead."));
        }
        if let Some(method) = &create.method {
            let name = fold(method);
            if !matches!(name.as_str(), "btree" | "hash" | "arrangement") {
                let message = format!("access method \"{name}\" does not exist");
                return Err(PlanError::new("42704", message).at(position(method.span)));
            }
        }
        let on_name = Name::new(&create.on)?;
        let on = match self.session.resolve(&on_name)? {
            Relation::Item(item) => item,
            Relation::Builtin(builtin) => {
                let message = format!(
                    "permission denied: \"{}\" is a system catalog",
                    builtin.name
                );
                return Err(PlanError::new("42501", message).at(on_name.position));
            }
        };
        let Some(desc) = item_desc(on) else {
            let message = format!("cannot create index on relation \"{}\"", on.name);
            return Err(PlanError::new("42809", message)
                .at(on_name.position)
                .with_detail("This operation is not supported for indexes."));
        };
        let (keys, exprs) = self.index_keys(create, on, &desc)?;
        let name = match &create.name {
            None => self.index_name(on, &keys, &desc),
            Some(name) => {
                let name = fold(name);
                if self.taken_names(on.schema).contains(&name) {
                    let message = format!("relation \"{name}\" already exists");
                    if !create.if_not_exists {
                        return Err(PlanError::new("42P07", message));
                    }
                    return Ok(Plan::NoOp {
                        tag: "CREATE INDEX".to_owned(),
                        notices: vec![Notice::info("42P07", format!("{message}, skipping"))],
                    });
                }
                name
            }
        };
        let cluster = create.cluster.as_ref().map(fold);
        let cluster = match (&cluster, &on.kind) {
            // The index of a materialized view lives where the view does, unless told otherwise.
            (None, ItemKind::MaterializedView(view)) => view.plan.cluster,
            (name, _) => self.session.cluster(name.as_deref())?.id,
        };
        let mut item = Item {
            id: GlobalId(self.session.catalog.next_id),
            schema: on.schema,
            name,
            owner: self.session.role()?.id,
            create_sql: String::new(),
            depends_on: BTreeSet::from([on.id]),
            version: 1,
            kind: ItemKind::Index(Index {
                on: on.id,
                keys,
                plan: empty_plan(cluster),
            }),
        };
        item.create_sql = super::create_sql(self.session.catalog, &item);
        if let ItemKind::View(view) = &on.kind {
            let mir = super::plan_stored_query(self.session.catalog, on.id, &view.query_sql)?;
            self.check_materializable(&mir)?;
        }
        Ok(Plan::CreateIndex(CreateIndexPlan {
            item,
            on: on.id,
            keys: exprs,
            notices: vec![],
        }))
    }

    fn index_keys(
        &self,
        create: &CreateIndex,
        on: &Item,
        desc: &RelationDesc,
    ) -> Result<(Vec<IndexKey>, Vec<ScalarExpr>), PlanError> {
        let column_key = |c: usize| IndexKey {
            sql: quote(&desc.names[c]),
            column: Some(c),
        };
        let Some(syntax) = &create.keys else {
            let columns = desc
                .keys
                .first()
                .cloned()
                .unwrap_or_else(|| (0..desc.arity()).collect());
            let exprs = columns.iter().map(|c| ScalarExpr::Column(*c)).collect();
            return Ok((columns.into_iter().map(column_key).collect(), exprs));
        };
        let scope = desc_scope(desc, None, &on.name);
        let planner = QueryPlanner::new(self.session, ParamTypes::forbidden());
        let (mut keys, mut exprs) = (vec![], vec![]);
        for expr in syntax {
            let typed = planner.scalar(expr, &scope, "index expressions")?;
            let typed = planner.coercer().concrete(typed)?;
            let at = position(expr.span());
            if typed.expr.has_subquery() {
                return Err(
                    PlanError::new("0A000", "cannot use subquery in index expression").at(at),
                );
            }
            let lowered = lower_scalar(typed.expr, &desc.types)?;
            let mut volatile = lowered.session_dependent();
            lowered.visit(&mut |e| volatile |= matches!(e, ScalarExpr::Unmaterializable(_)));
            if volatile {
                let message = "functions in index expression must be marked IMMUTABLE";
                return Err(PlanError::new("42P17", message).at(at));
            }
            keys.push(match &lowered {
                ScalarExpr::Column(c) => column_key(*c),
                _ => IndexKey {
                    sql: canonical(expr),
                    column: None,
                },
            });
            exprs.push(lowered);
        }
        Ok((keys, exprs))
    }

    fn index_name(&self, on: &Item, keys: &[IndexKey], desc: &RelationDesc) -> String {
        let parts: Vec<&str> = keys
            .iter()
            .map(|k| k.column.map_or("expr", |c| desc.names[c].as_str()))
            .collect();
        let wanted = format!("{}_{}_idx", on.name, parts.join("_"));
        unique_name(&wanted, &self.taken_names(on.schema))
    }
}

/// An expression in parentheses, unless it is a call.
fn canonical(expr: &Expr) -> String {
    match expr {
        Expr::Function(_) | Expr::Nested(_) => expr.to_string(),
        other => format!("({other})"),
    }
}
