//! Queries: from syntax to the HIR.

mod catalog_fn;
mod expr;
mod from;
mod function;
mod group;
mod literal;
mod order;
mod select;
mod set_operation;
mod special;
mod subquery;
mod table_function;

use crate::ast::sql::{Expr, Query, SetExpr, Values};
use crate::error::PlanError;
use crate::hir::{ColumnRef, Hir, HirScalar};
use crate::scope::{Scope, ScopeColumn};
use crate::session::SessionView;
use crate::statement::{Effect, ParamTypes};
use crate::types::cast::CastContext;
use crate::types::coerce::{Coercer, Typed};
use plan::Finishing;
use plan::mir::ColumnOrder;
use repr::{ColumnType, RelationDesc, SqlType};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// Plans the queries of one statement.
pub struct QueryPlanner<'a> {
    pub session: &'a SessionView<'a>,
    params: RefCell<ParamTypes>,
    next_cte: Cell<u64>,
    depth: Cell<usize>,
    /// Side effects asked for by functions such as `pg_sleep`.
    effects: RefCell<Vec<Effect>>,
    /// Where relations are named, for writing the text with full names.
    uses: RefCell<Vec<NameUse>>,
}

/// A relation's name in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameUse {
    /// Characters, from 1; `end` is the one after the last.
    pub start: usize,
    pub end: usize,
    /// The name with its schema, quoted where needed.
    pub full_name: String,
}

/// How deep queries and expressions may nest.
const DEPTH_MAX: usize = 200;

/// A query's rows, its hidden sort columns included, and what is to be done with them.
pub struct PlannedQuery {
    pub hir: Hir,
    /// All columns of `hir`; the first ones are the answer's.
    pub scope: Scope,
    /// Number of columns of the answer.
    pub arity: usize,
    pub order_by: Vec<ColumnOrder>,
    pub limit: Option<HirScalar>,
    pub offset: Option<HirScalar>,
}

/// The environment of an expression or a query: what names mean.
#[derive(Clone, Copy)]
pub(crate) struct Env<'e> {
    /// Scopes of enclosing queries, the innermost first.
    outer: Option<&'e Ctx<'e>>,
    ctes: Option<&'e Cte<'e>>,
}

/// A WITH query in scope, and those before it.
pub(crate) struct Cte<'e> {
    name: String,
    id: u64,
    scope: Scope,
    next: Option<&'e Cte<'e>>,
}

/// Where an expression stands.
pub(crate) struct Ctx<'e> {
    scope: &'e Scope,
    env: Env<'e>,
    /// The clause, for messages: `WHERE`.
    clause: &'static str,
    aggregates: bool,
    table_functions: bool,
    /// Where each column of `scope` was named first.
    seen: RefCell<BTreeMap<usize, usize>>,
}

impl<'e> Ctx<'e> {
    fn new(scope: &'e Scope, env: Env<'e>, clause: &'static str) -> Ctx<'e> {
        Ctx {
            scope,
            env,
            clause,
            aggregates: false,
            table_functions: false,
            seen: RefCell::default(),
        }
    }
}

impl<'a> QueryPlanner<'a> {
    pub fn new(session: &'a SessionView<'a>, params: ParamTypes) -> QueryPlanner<'a> {
        QueryPlanner {
            session,
            params: RefCell::new(params),
            next_cte: Cell::new(0),
            depth: Cell::new(0),
            effects: RefCell::default(),
            uses: RefCell::default(),
        }
    }

    /// What is known about the parameters by now.
    pub fn into_params(self) -> ParamTypes {
        self.params.into_inner()
    }

    pub fn take_effects(&self) -> Vec<Effect> {
        self.effects.take()
    }

    pub fn take_uses(&self) -> Vec<NameUse> {
        self.uses.take()
    }

    pub fn coercer(&self) -> Coercer<'_> {
        Coercer {
            params: &self.params,
            eval: self.session.eval,
        }
    }

    /// Guards recursion.
    fn nested<T>(&self, f: impl FnOnce() -> Result<T, PlanError>) -> Result<T, PlanError> {
        if self.depth.get() >= DEPTH_MAX {
            return Err(PlanError::too_complex());
        }
        self.depth.set(self.depth.get() + 1);
        let result = f();
        self.depth.set(self.depth.get() - 1);
        result
    }

    /// Plans a query that stands alone.
    pub fn root(&self, query: &Query) -> Result<PlannedQuery, PlanError> {
        let env = Env {
            outer: None,
            ctes: None,
        };
        let planned = self.query(query, env, true)?;
        self.concrete_outputs(planned)
    }

    /// Plans an expression over the columns of one relation.
    pub fn scalar(
        &self,
        expr: &Expr,
        scope: &Scope,
        clause: &'static str,
    ) -> Result<Typed, PlanError> {
        let env = Env {
            outer: None,
            ctes: None,
        };
        self.expr(&Ctx::new(scope, env, clause), expr)
    }

    fn query(&self, query: &Query, env: Env<'_>, root: bool) -> Result<PlannedQuery, PlanError> {
        self.nested(|| {
            refuse_extensions(query)?;
            match &query.with {
                None => self.query_body(query, env, root),
                Some(with) if with.recursive && mentions_itself(with) => {
                    Err(PlanError::unsupported("WITH RECURSIVE"))
                }
                Some(with) => self.with_ctes(&with.cte_tables, query, env, root),
            }
        })
    }

    /// Plans the first of the WITH queries, then the rest with it in scope.
    fn with_ctes(
        &self,
        ctes: &[crate::ast::sql::Cte],
        query: &Query,
        env: Env<'_>,
        root: bool,
    ) -> Result<PlannedQuery, PlanError> {
        let Some((first, rest)) = ctes.split_first() else {
            return self.query_body(query, env, root);
        };
        let name = crate::parse::fold(&first.alias.name);
        let mut later = rest.iter().map(|c| &c.alias.name);
        if let Some(twice) = later.find(|n| crate::parse::fold(n) == name) {
            let message = format!("WITH query name \"{name}\" specified more than once");
            return Err(PlanError::new("42712", message).at(crate::ast::position(twice.span)));
        }
        let planned = self.query(&first.query, env, false)?;
        let planned = self.concrete_outputs(planned)?;
        let (value, scope) = self.as_relation(planned)?;
        if value.is_correlated() {
            return Err(PlanError::unsupported(
                "a WITH query that refers to an enclosing query",
            ));
        }
        let scope = from::alias_scope(scope, &first.alias)?;
        let id = self.next_cte.get();
        self.next_cte.set(id + 1);
        let cte = Cte {
            name,
            id,
            scope,
            next: env.ctes,
        };
        let inner = Env {
            outer: env.outer,
            ctes: Some(&cte),
        };
        let mut planned = self.with_ctes(rest, query, inner, root)?;
        planned.hir = Hir::Let {
            id,
            value: Box::new(value),
            body: Box::new(planned.hir),
        };
        Ok(planned)
    }

    fn query_body(
        &self,
        query: &Query,
        env: Env<'_>,
        root: bool,
    ) -> Result<PlannedQuery, PlanError> {
        let order_by = order::order_exprs(query)?;
        let mut planned = match query.body.as_ref() {
            SetExpr::Select(select) => self.select(select, order_by, env, root)?,
            body => {
                let (hir, scope) = self.set_expr(body, env)?;
                let order_by = self.order_outputs(order_by, &scope)?;
                PlannedQuery {
                    arity: scope.columns.len(),
                    hir,
                    scope,
                    order_by,
                    limit: None,
                    offset: None,
                }
            }
        };
        let (limit, offset) = self.limit(query, env)?;
        planned.limit = limit;
        planned.offset = offset;
        Ok(planned)
    }

    /// A part of a set operation, or a query in parentheses.
    fn set_expr(&self, body: &SetExpr, env: Env<'_>) -> Result<(Hir, Scope), PlanError> {
        self.nested(|| match body {
            SetExpr::Select(select) => {
                let planned = self.select(select, &[], env, false)?;
                self.as_relation(planned)
            }
            SetExpr::Query(query) => {
                let planned = self.query(query, env, false)?;
                self.as_relation(planned)
            }
            SetExpr::Values(values) => self.values(values, env),
            SetExpr::SetOperation { .. } => self.set_operations(body, env),
            SetExpr::Table(_) => Err(PlanError::unsupported("TABLE in this place")),
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                Err(PlanError::unsupported(
                    "WITH before INSERT, UPDATE or DELETE",
                ))
            }
        })
    }

    fn values(&self, values: &Values, env: Env<'_>) -> Result<(Hir, Scope), PlanError> {
        let scope = Scope::default();
        let ctx = Ctx::new(&scope, env, "VALUES");
        let width = values.rows.first().map_or(0, |r| r.content.len());
        let mut columns: Vec<Vec<Typed>> = vec![vec![]; width];
        for row in &values.rows {
            if row.content.len() != width {
                return Err(PlanError::new(
                    "42601",
                    "VALUES lists must all be the same length",
                ));
            }
            for (column, expr) in columns.iter_mut().zip(&row.content) {
                column.push(self.expr(&ctx, expr)?);
            }
        }
        let mut types = vec![];
        let mut coerced = vec![];
        for column in columns {
            // Only literals without a type stay so: an INSERT gives them its column's type.
            if column.iter().all(Typed::is_unknown) {
                types.push(SqlType::Unknown);
                coerced.push(column.into_iter().map(|t| t.expr).collect::<Vec<_>>());
                continue;
            }
            let (exprs, ty) = self.coercer().unify(column, "VALUES")?;
            types.push(ty);
            coerced.push(exprs);
        }
        self.rows_of(coerced, types, values.rows.len())
    }

    /// A constant if all values are literals, else a union of single rows.
    pub(crate) fn rows_of(
        &self,
        columns: Vec<Vec<HirScalar>>,
        types: Vec<SqlType>,
        height: usize,
    ) -> Result<(Hir, Scope), PlanError> {
        let no_columns = |_: ColumnRef| SqlType::Unknown.nullable(true);
        let column_types: Vec<ColumnType> = columns
            .iter()
            .zip(&types)
            .map(|(column, ty)| {
                let nullable = column.iter().any(|e| e.typ(&no_columns).nullable);
                ty.clone().nullable(nullable)
            })
            .collect();
        let literals = columns
            .iter()
            .flatten()
            .all(|e| matches!(e, HirScalar::Literal(Ok(_), _)));
        let hir = if literals {
            let rows = (0..height)
                .map(|i| repr::Row::pack(columns.iter().filter_map(|c| c[i].as_literal())))
                .collect();
            Hir::Constant {
                rows,
                types: column_types.clone(),
            }
        } else {
            let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
            let mut inputs = vec![];
            for _ in 0..height {
                let row = columns.iter_mut().filter_map(Iterator::next).collect();
                inputs.push(Hir::unit().map(row));
            }
            match inputs.len() {
                1 => inputs.remove(0),
                _ => Hir::Union { inputs },
            }
        };
        let columns = column_types
            .into_iter()
            .enumerate()
            .map(|(i, ty)| ScopeColumn {
                relation: None,
                name: format!("column{}", i + 1),
                ty,
                scale: None,
                hidden: false,
                is_function_result: false,
            })
            .collect();
        Ok((
            hir,
            Scope {
                columns,
                determined: vec![],
            },
        ))
    }

    /// Applies order, limit and projection, so that the query is a relation like any other.
    fn as_relation(&self, planned: PlannedQuery) -> Result<(Hir, Scope), PlanError> {
        let PlannedQuery {
            mut hir,
            scope,
            arity,
            order_by,
            limit,
            offset,
        } = planned;
        if limit.is_some() || offset.is_some() {
            let offset = match offset {
                None => 0,
                Some(expr) => constant_count(&expr).ok_or_else(|| {
                    PlanError::unsupported("OFFSET of a subquery that is not a constant")
                })?,
            };
            hir = Hir::TopK {
                input: Box::new(hir),
                group_key: vec![],
                order_key: order_by,
                limit,
                offset,
            };
        }
        let outputs: Vec<usize> = (0..arity).collect();
        if scope.columns.len() > arity {
            hir = hir.project(outputs.clone());
        }
        Ok((hir, scope.project(&outputs)))
    }

    /// Gives columns that still are of unknown type the type text.
    fn concrete_outputs(&self, mut planned: PlannedQuery) -> Result<PlannedQuery, PlanError> {
        let unknown: Vec<usize> = (0..planned.arity)
            .filter(|i| planned.scope.columns[*i].ty.ty == SqlType::Unknown)
            .collect();
        if unknown.is_empty() {
            return Ok(planned);
        }
        planned.hir = self.retype(planned.hir, &unknown, &SqlType::Text)?;
        for column in unknown {
            planned.scope.columns[column].ty.ty = SqlType::Text;
        }
        Ok(planned)
    }

    /// Replaces columns of unknown type by columns of type `to`, in the expressions that make them where those can be found (so that
    /// parameters get their type), else by a cast on top.
    pub(crate) fn retype(
        &self,
        hir: Hir,
        columns: &[usize],
        to: &SqlType,
    ) -> Result<Hir, PlanError> {
        let cast = |expr: HirScalar| {
            let typed = Typed::new(expr, SqlType::Unknown);
            self.coercer().coerce(typed, to, CastContext::Assignment)
        };
        match hir {
            Hir::Project { input, outputs } => {
                let inner: Vec<usize> = columns.iter().map(|c| outputs[*c]).collect();
                let input = Box::new(self.retype(*input, &inner, to)?);
                Ok(Hir::Project { input, outputs })
            }
            Hir::Map { input, mut scalars } => {
                let arity = input.arity();
                let below: Vec<usize> = columns.iter().copied().filter(|c| *c < arity).collect();
                for column in columns.iter().filter(|c| **c >= arity) {
                    let slot = &mut scalars[column - arity];
                    *slot = cast(std::mem::replace(slot, HirScalar::bool(true)))?;
                }
                let input = match below.is_empty() {
                    true => input,
                    false => Box::new(self.retype(*input, &below, to)?),
                };
                Ok(Hir::Map { input, scalars })
            }
            Hir::Filter { input, predicates } => Ok(Hir::Filter {
                input: Box::new(self.retype(*input, columns, to)?),
                predicates,
            }),
            Hir::Let { id, value, body } => Ok(Hir::Let {
                id,
                value,
                body: Box::new(self.retype(*body, columns, to)?),
            }),
            Hir::Union { inputs } => Ok(Hir::Union {
                inputs: inputs
                    .into_iter()
                    .map(|i| self.retype(i, columns, to))
                    .collect::<Result<_, _>>()?,
            }),
            Hir::Constant { rows, mut types } => {
                let mut converted = vec![];
                for row in &rows {
                    let mut datums = vec![];
                    for (i, datum) in row.iter().enumerate() {
                        let ty = types[i].ty.clone();
                        let literal = HirScalar::literal(datum, ty);
                        datums.push(match columns.contains(&i) {
                            true => cast(literal)?,
                            false => literal,
                        });
                    }
                    let constants = datums.iter().all(|d| d.as_literal().is_some());
                    if !constants {
                        return Err(PlanError::unsupported("a constant of this type in VALUES"));
                    }
                    converted.push(repr::Row::pack(
                        datums.iter().filter_map(HirScalar::as_literal),
                    ));
                }
                for column in columns {
                    types[*column].ty = to.clone();
                }
                Ok(Hir::Constant {
                    rows: converted,
                    types,
                })
            }
            other => {
                // The values are strings already; only the label changes.
                let arity = other.arity();
                let mut scalars = vec![];
                let mut outputs: Vec<usize> = (0..arity).collect();
                for column in columns {
                    outputs[*column] = arity + scalars.len();
                    scalars.push(cast(HirScalar::column(*column))?);
                }
                Ok(other.map(scalars).project(outputs))
            }
        }
    }
}

impl PlannedQuery {
    /// The plan and the finishing of a query that answers a client, with limit and offset where they are not constants.
    pub fn into_parts(self) -> Result<QueryParts, PlanError> {
        let desc = RelationDesc::from_columns(
            self.scope.columns[..self.arity]
                .iter()
                .map(|c| (c.name.clone(), c.ty.clone())),
        );
        let constant = |e: &Option<HirScalar>| e.as_ref().map(constant_count);
        let (limit, offset) = (constant(&self.limit), constant(&self.offset));
        let lower =
            |e: Option<HirScalar>| e.map(|e| crate::lower::lower_scalar(e, &[])).transpose();
        let finishing = Finishing {
            order_by: self.order_by,
            limit: limit.flatten(),
            offset: offset.flatten().unwrap_or(0),
            project: (0..self.arity).collect(),
        };
        // LIMIT NULL is no limit.
        let is_null = |e: &HirScalar| matches!(e.as_literal(), Some(repr::Datum::Null));
        let dynamic =
            |e: Option<HirScalar>| e.filter(|e| constant_count(e).is_none() && !is_null(e));
        Ok(QueryParts {
            hir: self.hir,
            finishing,
            limit: lower(dynamic(self.limit))?,
            offset: lower(dynamic(self.offset))?,
            desc,
        })
    }
}

/// A planned query, ready to be lowered.
pub struct QueryParts {
    pub hir: Hir,
    pub finishing: Finishing,
    pub limit: Option<plan::ScalarExpr>,
    pub offset: Option<plan::ScalarExpr>,
    pub desc: RelationDesc,
}

/// The value of a literal LIMIT or OFFSET.
fn constant_count(expr: &HirScalar) -> Option<u64> {
    match expr.as_literal()? {
        repr::Datum::Int64(n) => u64::try_from(n).ok(),
        _ => None,
    }
}

fn mentions_itself(with: &crate::ast::sql::With) -> bool {
    // WITH RECURSIVE is often written where nothing is recursive; the text tells.
    with.cte_tables.iter().any(|cte| {
        let name = cte.alias.name.value.to_lowercase();
        let text = cte.query.to_string().to_lowercase();
        text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .any(|word| word == name)
    })
}

fn refuse_extensions(query: &Query) -> Result<(), PlanError> {
    if !query.locks.is_empty() {
        return Err(PlanError::unsupported("SELECT FOR UPDATE/SHARE"));
    }
    let extended = query.for_clause.is_some()
        || query.settings.is_some()
        || query.format_clause.is_some()
        || !query.pipe_operators.is_empty();
    if extended {
        return Err(PlanError::unsupported("this clause of a query"));
    }
    Ok(())
}

pub use from::{desc_scope, relation_hir};

// What statements around queries ask for.
impl QueryPlanner<'_> {
    fn root_env<'e>() -> Env<'e> {
        Env {
            outer: None,
            ctes: None,
        }
    }

    /// A query as a relation: its order matters only where it limits the rows.
    pub fn root_relation(&self, query: &Query) -> Result<(Hir, RelationDesc), PlanError> {
        let planned = self.root(query)?;
        let (hir, scope) = self.as_relation(planned)?;
        let desc = RelationDesc::from_columns(scope.columns.into_iter().map(|c| (c.name, c.ty)));
        Ok((hir, desc))
    }

    /// The source of an INSERT: columns of literals may still be of unknown type.
    pub fn source_relation(&self, query: &Query) -> Result<(Hir, Scope), PlanError> {
        let planned = self.query(query, Self::root_env(), false)?;
        self.as_relation(planned)
    }

    /// The relations of a FROM clause.
    pub fn from_clause(
        &self,
        from: &[crate::ast::sql::TableWithJoins],
    ) -> Result<(Hir, Scope), PlanError> {
        self.from(from, Self::root_env())
    }

    /// A condition over the columns of one scope.
    pub fn condition(
        &self,
        expr: &Expr,
        scope: &Scope,
        clause: &'static str,
    ) -> Result<HirScalar, PlanError> {
        self.boolean(&Ctx::new(scope, Self::root_env(), clause), expr, clause)
    }

    /// Whether a row of the scope has a partner in a FROM clause: DELETE ... USING.
    pub fn exists_from(
        &self,
        from: &[crate::ast::sql::TableWithJoins],
        selection: Option<&Expr>,
        scope: &Scope,
    ) -> Result<HirScalar, PlanError> {
        let outer = Ctx::new(scope, Self::root_env(), "WHERE");
        let env = Env {
            outer: Some(&outer),
            ctes: None,
        };
        let (mut hir, inner) = self.from(from, env)?;
        if let Some(selection) = selection {
            let ctx = Ctx::new(&inner, env, "WHERE");
            let predicate = self.boolean(&ctx, selection, "WHERE")?;
            hir = hir.filter(predicate.into_conjuncts());
        }
        Ok(HirScalar::Exists(Box::new(hir)))
    }

    /// The items of RETURNING: names and expressions over the scope.
    pub fn returning_list(
        &self,
        scope: &Scope,
        items: &[crate::ast::sql::SelectItem],
    ) -> Result<Vec<(String, Typed)>, PlanError> {
        let ctx = Ctx::new(scope, Self::root_env(), "RETURNING");
        let (names, typed) = self.select_list(&ctx, items)?;
        let mut list = vec![];
        for ((_, name), typed) in names.into_iter().zip(typed) {
            list.push((name, self.coercer().concrete(typed)?));
        }
        Ok(list)
    }
}
