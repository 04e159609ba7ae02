//! Definitions that the catalog keeps as SQL, planned again.

use super::ParamTypes;
use crate::error::PlanError;
use crate::lower::{lower, lower_scalar};
use crate::names::{Relation, item_desc};
use crate::query::{QueryPlanner, desc_scope};
use crate::session::{NoSettings, SessionView};
use plan::scalar::EvalCtx;
use plan::{Mir, ScalarExpr};
use repr::GlobalId;
use state::Catalog;

/// Runs `f` in a session that sees names only with their schema, in the database of the item.
fn stored_session<T>(
    catalog: &Catalog,
    id: GlobalId,
    f: impl FnOnce(&SessionView<'_>) -> Result<T, PlanError>,
) -> Result<T, PlanError> {
    let schema = catalog
        .item(id)
        .and_then(|item| catalog.schemas.get(&item.schema));
    let database = schema.and_then(|s| catalog.databases.get(&s.database));
    let eval = EvalCtx::default();
    let session = SessionView {
        catalog,
        database: database.map_or("", |d| d.name.as_str()),
        search_path: &[],
        current_user: "",
        session_user: "",
        cluster: "",
        backend_pid: 0,
        version: "",
        eval: &eval,
        settings: &NoSettings,
    };
    // Positions would be those of a text that the user does not see.
    f(&session).map_err(|mut e| {
        e.position = None;
        e
    })
}

/// The query of a view or a materialized view. Relations in it are named with their schema.
pub fn plan_stored_query(catalog: &Catalog, id: GlobalId, sql: &str) -> Result<Mir, PlanError> {
    let query = crate::parse::parse_query(sql)?;
    stored_session(catalog, id, |session| {
        let planner = QueryPlanner::new(session, ParamTypes::forbidden());
        let (hir, _) = planner.root_relation(&query)?;
        lower(hir)
    })
}

/// An expression over the columns of a relation: an index key.
pub fn plan_stored_expr(
    catalog: &Catalog,
    on: GlobalId,
    sql: &str,
) -> Result<ScalarExpr, PlanError> {
    let expr = crate::parse::parse_expr(sql)?;
    let Some(item) = catalog.item(on) else {
        return Err(PlanError::relation_not_found(&on.to_string()));
    };
    let desc = item_desc(item).unwrap_or_default();
    let scope = desc_scope(&desc, None, Relation::Item(item).name());
    stored_session(catalog, on, |session| {
        let planner = QueryPlanner::new(session, ParamTypes::forbidden());
        let typed = planner.scalar(&expr, &scope, "index expressions")?;
        let typed = planner.coercer().concrete(typed)?;
        lower_scalar(typed.expr, &desc.types)
    })
}

/// The default of a column, as a value of the column's type.
pub(super) fn plan_default(
    session: &SessionView<'_>,
    sql: &str,
    ty: &repr::SqlType,
) -> Result<crate::hir::HirScalar, PlanError> {
    let expr = crate::parse::parse_expr(sql)?;
    let planner = QueryPlanner::new(session, ParamTypes::forbidden());
    let typed = planner.scalar(
        &expr,
        &crate::scope::Scope::default(),
        "DEFAULT expressions",
    )?;
    planner
        .coercer()
        .coerce(typed, ty, crate::types::CastContext::Assignment)
        .map_err(|mut e| {
            e.position = None;
            e
        })
}
