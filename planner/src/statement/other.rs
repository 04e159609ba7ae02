//! Statements around queries: SELECT itself, SUBSCRIBE, EXPLAIN, cursors, prepared statements.

use super::{
    AsOfPlan, DeclarePlan, DeclareSource, ExplainPlan, FetchPlan, ParamTypes, Plan, PreparePlan,
    SelectPlan, StatementPlanner, SubscribePlan,
};
use crate::ast::sql::Expr;
use crate::ast::sql::Ident;
use crate::ast::{
    AsOf, CursorSource, Declare, Explain, ExplainStage, ExplainTarget, Fetch, ObjectKind, Prepare,
    QueryStatement, Subscribe, SubscribeRelation,
};
use crate::error::PlanError;
use crate::hir::HirScalar;
use crate::lower::{lower, lower_scalar};
use crate::names::{Name, Relation};
use crate::parse::fold;
use crate::query::{QueryPlanner, relation_hir};
use crate::scope::Scope;
use crate::types::cast::CastContext;
use crate::types::coerce::Typed;
use crate::types::resolve_type;
use plan::ScalarExpr;
use repr::SqlType;
use state::catalog::ItemKind;

impl<'a> StatementPlanner<'a> {
    pub(super) fn select(
        &self,
        statement: &QueryStatement,
        params: &mut ParamTypes,
    ) -> Result<SelectPlan, PlanError> {
        self.with_queries(params, |planner| {
            let parts = planner.root(&statement.query)?.into_parts()?;
            let as_of = self.as_of(planner, statement.as_of.as_ref())?;
            Ok(SelectPlan {
                mir: lower(parts.hir)?,
                finishing: parts.finishing,
                limit: parts.limit,
                offset: parts.offset,
                desc: parts.desc,
                as_of,
                effects: planner.take_effects(),
            })
        })
    }

    fn as_of(
        &self,
        planner: &QueryPlanner<'_>,
        as_of: Option<&AsOf>,
    ) -> Result<Option<AsOfPlan>, PlanError> {
        let Some(as_of) = as_of else { return Ok(None) };
        Ok(Some(AsOfPlan {
            at_least: as_of.at_least,
            time: self.time(planner, &as_of.expr, "AS OF")?,
        }))
    }

    /// An expression without columns as an mz_timestamp.
    fn time(
        &self,
        planner: &QueryPlanner<'_>,
        expr: &Expr,
        clause: &'static str,
    ) -> Result<ScalarExpr, PlanError> {
        let typed = planner.scalar(expr, &Scope::default(), clause)?;
        let time = planner
            .coercer()
            .coerce(typed, &SqlType::MzTimestamp, CastContext::Explicit)?;
        lower_scalar(time, &[])
    }

    pub(super) fn subscribe(
        &self,
        subscribe: &Subscribe,
        params: &mut ParamTypes,
    ) -> Result<SubscribePlan, PlanError> {
        let (mut snapshot, mut progress) = (true, false);
        for option in &subscribe.options {
            let value = option.as_bool().ok_or_else(|| {
                PlanError::new(
                    "22023",
                    format!("the option {} needs a boolean value", option.name),
                )
            })?;
            match option.name.as_str() {
                "snapshot" => snapshot = value,
                "progress" => progress = value,
                other => {
                    return Err(PlanError::new(
                        "42601",
                        format!("unrecognized SUBSCRIBE option \"{other}\""),
                    ));
                }
            }
        }
        self.with_queries(params, |planner| {
            let (mir, desc) = match &subscribe.relation {
                SubscribeRelation::Name(name) => {
                    let name = Name::new(name)?;
                    let relation = self.session.resolve(&name)?;
                    let desc = relation.desc().map_err(|e| e.at(name.position))?;
                    let (hir, _) = relation_hir(&relation, "")?;
                    (lower(hir)?, desc)
                }
                SubscribeRelation::Query(query) => {
                    let (hir, desc) = planner.root_relation(query)?;
                    (lower(hir)?, desc)
                }
            };
            let as_of = self.as_of(planner, subscribe.as_of.as_ref())?;
            let up_to = subscribe
                .up_to
                .as_ref()
                .map(|e| self.time(planner, e, "UP TO"))
                .transpose()?;
            Ok(SubscribePlan {
                mir,
                desc,
                snapshot,
                progress,
                as_of,
                up_to,
            })
        })
    }

    pub(super) fn explain(
        &self,
        explain: &Explain,
        params: &mut ParamTypes,
    ) -> Result<Plan, PlanError> {
        if explain.analyze {
            return Err(PlanError::unsupported("EXPLAIN ANALYZE"));
        }
        let mut raw = None;
        let target = match &explain.target {
            ExplainTarget::Statement(statement) => {
                if let (ExplainStage::Raw, crate::ast::Statement::Query(query)) =
                    (explain.stage, statement.as_ref())
                {
                    let hir = self.with_queries(params, |p| Ok(p.root(&query.query)?.hir))?;
                    raw = Some(format!("{hir:#?}"));
                }
                self.plan(statement, params)?
            }
            ExplainTarget::View(name) => self.explain_item(name, ObjectKind::View)?,
            ExplainTarget::MaterializedView(name) => {
                self.explain_item(name, ObjectKind::MaterializedView)?
            }
            ExplainTarget::Index(name) => self.explain_item(name, ObjectKind::Index)?,
        };
        Ok(Plan::Explain(ExplainPlan {
            stage: explain.stage,
            format: explain.format,
            target: Box::new(target),
            raw,
        }))
    }

    /// The plan that made an existing object.
    fn explain_item(
        &self,
        name: &crate::ast::sql::ObjectName,
        kind: ObjectKind,
    ) -> Result<Plan, PlanError> {
        let name = Name::new(name)?;
        let item = self.item_of_kind(&name, kind)?;
        match &item.kind {
            ItemKind::View(view) => {
                let mir = super::plan_stored_query(self.session.catalog, item.id, &view.query_sql)?;
                let desc = crate::names::item_desc(item).unwrap_or_default();
                Ok(Plan::Select(SelectPlan {
                    finishing: plan::Finishing::trivial(mir.arity()),
                    mir,
                    limit: None,
                    offset: None,
                    desc,
                    as_of: None,
                    effects: vec![],
                }))
            }
            ItemKind::MaterializedView(view) => {
                let mir = super::plan_stored_query(self.session.catalog, item.id, &view.query_sql)?;
                Ok(Plan::CreateMaterializedView(super::CreateDataflowPlan {
                    desc: crate::names::item_desc(item).unwrap_or_default(),
                    item: item.as_ref().clone(),
                    mir,
                }))
            }
            ItemKind::Index(index) => {
                let mut keys = vec![];
                for key in &index.keys {
                    keys.push(match key.column {
                        Some(column) => ScalarExpr::Column(column),
                        None => super::plan_stored_expr(self.session.catalog, index.on, &key.sql)?,
                    });
                }
                Ok(Plan::CreateIndex(super::CreateIndexPlan {
                    item: item.as_ref().clone(),
                    on: index.on,
                    keys,
                    notices: vec![],
                }))
            }
            ItemKind::Table(_) | ItemKind::Source(_) => {
                Err(PlanError::unsupported("EXPLAIN of this object"))
            }
        }
    }

    pub(super) fn declare(
        &self,
        declare: &Declare,
        params: &mut ParamTypes,
    ) -> Result<Plan, PlanError> {
        if declare.scroll == Some(true) {
            return Err(PlanError::unsupported("a SCROLL cursor"));
        }
        let source = match &declare.source {
            CursorSource::Query(query) => {
                DeclareSource::Select(Box::new(self.select(query, params)?))
            }
            CursorSource::Subscribe(subscribe) => {
                DeclareSource::Subscribe(Box::new(self.subscribe(subscribe, params)?))
            }
        };
        Ok(Plan::Declare(DeclarePlan {
            name: fold(&declare.name),
            hold: declare.hold,
            binary: declare.binary,
            source,
        }))
    }

    pub(super) fn fetch(&self, fetch: &Fetch) -> Result<Plan, PlanError> {
        let timeout_us = match &fetch.timeout {
            None => None,
            Some(text) => {
                let planner = QueryPlanner::new(self.session, ParamTypes::forbidden());
                let literal = HirScalar::literal(repr::Datum::String(text), SqlType::Unknown);
                let typed = Typed::new(literal, SqlType::Unknown);
                let interval =
                    planner
                        .coercer()
                        .coerce(typed, &SqlType::Interval, CastContext::Explicit)?;
                match interval.as_literal() {
                    Some(repr::Datum::Interval(interval)) => {
                        u64::try_from(interval.justified_usecs()).ok()
                    }
                    _ => None,
                }
            }
        };
        Ok(Plan::Fetch(FetchPlan {
            name: fold(&fetch.name),
            direction: fetch.direction,
            is_move: fetch.is_move,
            timeout_us,
        }))
    }

    pub(super) fn prepare(&self, prepare: &Prepare) -> Result<Plan, PlanError> {
        let mut declared = vec![];
        for ty in &prepare.types {
            declared.push(Some(resolve_type(ty)?.without_typmod()));
        }
        Ok(Plan::Prepare(PreparePlan {
            name: fold(&prepare.name),
            statement: prepare.statement.as_ref().clone(),
            text: prepare.text.clone(),
            declared,
        }))
    }

    pub(super) fn execute(
        &self,
        name: &Ident,
        args: &[Expr],
        params: &mut ParamTypes,
    ) -> Result<Plan, PlanError> {
        self.with_queries(params, |planner| {
            let mut lowered = vec![];
            for arg in args {
                let typed = planner.scalar(arg, &Scope::default(), "EXECUTE")?;
                // Constants without a type cross over as text.
                let typed = planner.coercer().concrete(typed)?;
                lowered.push(lower_scalar(typed.expr, &[])?);
            }
            Ok(Plan::Execute {
                name: fold(name),
                args: lowered,
            })
        })
    }

    /// The item of this name and kind; 42809 if it is of another kind.
    pub(super) fn item_of_kind(
        &self,
        name: &Name,
        kind: ObjectKind,
    ) -> Result<&'a std::sync::Arc<state::catalog::Item>, PlanError> {
        let missing = || {
            let message = match kind {
                ObjectKind::Table => format!("table \"{name}\" does not exist"),
                _ => format!("{} \"{name}\" does not exist", kind.name()),
            };
            let sqlstate = if kind == ObjectKind::Index {
                "42704"
            } else {
                "42P01"
            };
            PlanError::new(sqlstate, message).at(name.position)
        };
        let found = match self.session.find(name) {
            Ok(found) => found,
            Err(error) if error.sqlstate == "3F000" => None,
            Err(error) => return Err(error),
        };
        match found {
            None => Err(missing()),
            Some(Relation::Builtin(_)) => Err(PlanError::new(
                "42501",
                format!("permission denied: \"{}\" is a system catalog", name.name),
            )
            .at(name.position)),
            Some(Relation::Item(item)) if item_kind(item) == kind => Ok(item),
            Some(Relation::Item(item)) => {
                let found = item_kind(item);
                let article = |kind: ObjectKind| match kind {
                    ObjectKind::Index => "an index",
                    ObjectKind::Table => "a table",
                    ObjectKind::View => "a view",
                    ObjectKind::MaterializedView => "a materialized view",
                    ObjectKind::Source => "a source",
                    ObjectKind::Schema
                    | ObjectKind::Database
                    | ObjectKind::Cluster
                    | ObjectKind::Role => "an object of this kind",
                };
                let message = format!("\"{}\" is not {}", item.name, article(kind));
                Err(PlanError::new("42809", message)
                    .at(name.position)
                    .with_hint(format!(
                        "Use DROP {} to remove {}.",
                        found.name().to_uppercase(),
                        article(found)
                    )))
            }
        }
    }
}

/// The kind of an item.
pub(super) fn item_kind(item: &state::catalog::Item) -> ObjectKind {
    match &item.kind {
        ItemKind::Table(_) => ObjectKind::Table,
        ItemKind::View(_) => ObjectKind::View,
        ItemKind::MaterializedView(_) => ObjectKind::MaterializedView,
        ItemKind::Index(_) => ObjectKind::Index,
        ItemKind::Source(_) => ObjectKind::Source,
    }
}
