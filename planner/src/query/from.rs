//! FROM: relations, derived tables, joins.

use super::{Ctx, Env, NameUse, QueryPlanner};
use crate::ast::position;
use crate::ast::sql::{
    Expr, Join, JoinConstraint, JoinOperator, ObjectName, TableAlias, TableFactor, TableWithJoins,
};
use crate::error::PlanError;
use crate::hir::{Hir, HirScalar, JoinKind};
use crate::names::{Name, Relation, quote};
use crate::parse::fold;
use crate::scope::{RelationName, Resolved, Scope, ScopeColumn};
use crate::types::coerce::Typed;
use crate::types::scale;
use repr::{RelationDesc, SqlType};
use state::catalog::ItemKind;
use std::rc::Rc;

/// A FROM item: with `lateral`, its level 1 are the columns of the items before it.
struct Item {
    hir: Hir,
    scope: Scope,
    lateral: bool,
}

impl QueryPlanner<'_> {
    pub(super) fn from(
        &self,
        from: &[TableWithJoins],
        env: Env<'_>,
    ) -> Result<(Hir, Scope), PlanError> {
        let mut result: Option<(Hir, Scope)> = None;
        for tree in from {
            result = Some(match result {
                None => self.join_tree(tree, env)?,
                Some((hir, scope)) => {
                    let item = self.tree_item(tree, &scope, env)?;
                    check_duplicates(&scope, &item.scope)?;
                    let joined = Hir::Join {
                        left: Box::new(hir),
                        right: Box::new(item.hir),
                        on: vec![],
                        kind: JoinKind::Inner,
                        lateral: item.lateral,
                    };
                    (joined, scope.concat(item.scope))
                }
            });
        }
        Ok(result.unwrap_or_else(|| (Hir::unit(), Scope::default())))
    }

    /// A later item of a comma list: alone, it may refer to the items before it.
    fn tree_item(
        &self,
        tree: &TableWithJoins,
        left: &Scope,
        env: Env<'_>,
    ) -> Result<Item, PlanError> {
        if tree.joins.is_empty() {
            return self.factor(&tree.relation, Some(left), env);
        }
        let (hir, scope) = self.join_tree(tree, env)?;
        Ok(Item {
            hir,
            scope,
            lateral: false,
        })
    }

    pub(super) fn join_tree(
        &self,
        tree: &TableWithJoins,
        env: Env<'_>,
    ) -> Result<(Hir, Scope), PlanError> {
        self.nested(|| {
            let first = self.factor(&tree.relation, None, env)?;
            let (mut hir, mut scope) = (first.hir, first.scope);
            for join in &tree.joins {
                (hir, scope) = self.join(hir, scope, join, env)?;
            }
            Ok((hir, scope))
        })
    }

    fn join(
        &self,
        left: Hir,
        left_scope: Scope,
        join: &Join,
        env: Env<'_>,
    ) -> Result<(Hir, Scope), PlanError> {
        let (kind, constraint) = match &join.join_operator {
            JoinOperator::Join(c) | JoinOperator::Inner(c) => (JoinKind::Inner, c),
            JoinOperator::CrossJoin(JoinConstraint::None) => {
                (JoinKind::Inner, &JoinConstraint::None)
            }
            JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => (JoinKind::Left, c),
            JoinOperator::Right(c) | JoinOperator::RightOuter(c) => (JoinKind::Right, c),
            JoinOperator::FullOuter(c) => (JoinKind::Full, c),
            _ => return Err(PlanError::unsupported("this kind of JOIN")),
        };
        let is_cross = matches!(join.join_operator, JoinOperator::CrossJoin(_));
        if matches!(constraint, JoinConstraint::None) && !is_cross {
            return Err(PlanError::new("42601", "JOIN needs ON, USING or NATURAL"));
        }
        let right = self.factor(&join.relation, Some(&left_scope), env)?;
        check_duplicates(&left_scope, &right.scope)?;
        let shared = match constraint {
            JoinConstraint::Using(names) => {
                let mut columns = vec![];
                for name in names {
                    columns.push(using_name(name)?);
                }
                Some(columns)
            }
            JoinConstraint::Natural => Some(common_names(&left_scope, &right.scope)),
            JoinConstraint::On(_) | JoinConstraint::None => None,
        };
        let both = left_scope.clone().concat(right.scope.clone());
        let on = match (constraint, &shared) {
            (JoinConstraint::On(expr), _) => self.on_condition(expr, &both, env)?,
            (_, Some(names)) => self.using_condition(names, &left_scope, &right.scope)?,
            (_, None) => vec![],
        };
        let hir = Hir::Join {
            left: Box::new(left),
            right: Box::new(right.hir),
            on,
            kind,
            lateral: right.lateral,
        };
        let left_arity = left_scope.columns.len();
        let mut scope = both;
        let (left_null, right_null) = match kind {
            JoinKind::Inner => (false, false),
            JoinKind::Left => (false, true),
            JoinKind::Right => (true, false),
            JoinKind::Full => (true, true),
        };
        for (i, column) in scope.columns.iter_mut().enumerate() {
            column.ty.nullable |= if i < left_arity {
                left_null
            } else {
                right_null
            };
        }
        match shared {
            None => Ok((hir, scope)),
            Some(names) => self.merge_columns(hir, scope, left_arity, &names, kind),
        }
    }

    fn on_condition(
        &self,
        expr: &Expr,
        both: &Scope,
        env: Env<'_>,
    ) -> Result<Vec<HirScalar>, PlanError> {
        let ctx = Ctx::new(both, env, "JOIN/ON");
        let typed = self.expr(&ctx, expr)?;
        Ok(self.coercer().boolean(typed, "JOIN/ON")?.into_conjuncts())
    }

    fn using_condition(
        &self,
        names: &[(String, usize)],
        left: &Scope,
        right: &Scope,
    ) -> Result<Vec<HirScalar>, PlanError> {
        let mut on = vec![];
        for (name, at) in names {
            let (l, r) = (
                using_column(left, name, "left", *at)?,
                using_column(right, name, "right", *at)?,
            );
            let typed = |i: usize, offset: usize, scope: &Scope| {
                Typed::new(
                    HirScalar::column(i + offset),
                    scope.columns[i].ty.ty.clone(),
                )
            };
            let offset = left.columns.len();
            let equal = crate::func::binary(
                &self.coercer(),
                "=",
                typed(l, 0, left),
                typed(r, offset, right),
                *at,
            )?;
            on.push(equal.expr);
        }
        Ok(on)
    }

    /// The columns of USING first, once each; the second of each pair stays reachable by its qualified name.
    fn merge_columns(
        &self,
        hir: Hir,
        mut scope: Scope,
        left_arity: usize,
        names: &[(String, usize)],
        kind: JoinKind,
    ) -> Result<(Hir, Scope), PlanError> {
        let arity = scope.columns.len();
        let mut merged = vec![];
        let mut scalars = vec![];
        for (name, at) in names {
            let find = |range: std::ops::Range<usize>| {
                range
                    .into_iter()
                    .find(|i| scope.columns[*i].name == *name && !scope.columns[*i].hidden)
            };
            let (Some(l), Some(r)) = (find(0..left_arity), find(left_arity..arity)) else {
                continue;
            };
            match kind {
                JoinKind::Inner | JoinKind::Left => {
                    scope.columns[r].hidden = true;
                    merged.push(l);
                }
                JoinKind::Right => {
                    scope.columns[l].hidden = true;
                    merged.push(r);
                }
                JoinKind::Full => {
                    let typed =
                        |i: usize| Typed::new(HirScalar::column(i), scope.columns[i].ty.ty.clone());
                    let (args, ty) = self
                        .coercer()
                        .unify(vec![typed(l), typed(r)], "JOIN/USING")
                        .map_err(|e| e.at(*at))?;
                    merged.push(arity + scalars.len());
                    scalars.push((
                        HirScalar::call("coalesce", args, ty.clone()),
                        name.clone(),
                        ty,
                    ));
                    scope.columns[l].hidden = true;
                    scope.columns[r].hidden = true;
                }
            }
        }
        let mut exprs = vec![];
        for (expr, name, ty) in scalars {
            exprs.push(expr);
            scope.columns.push(ScopeColumn {
                relation: None,
                name,
                ty: ty.nullable(true),
                scale: None,
                hidden: false,
                is_function_result: false,
            });
        }
        let total = arity + exprs.len();
        let rest = (0..total).filter(|i| !merged.contains(i));
        let outputs: Vec<usize> = merged.iter().copied().chain(rest).collect();
        Ok((
            hir.map(exprs).project(outputs.clone()),
            scope.project(&outputs),
        ))
    }

    /// One FROM item. `left` are the items before it in the same join.
    fn factor(
        &self,
        factor: &TableFactor,
        left: Option<&Scope>,
        env: Env<'_>,
    ) -> Result<Item, PlanError> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                with_ordinality: false,
                version: None,
                sample: None,
                ..
            } => {
                let name = Name::new(name)?;
                let (hir, scope) = self.named_relation(&name, env)?;
                let scope = match alias {
                    Some(alias) => alias_scope(scope, alias)?,
                    None => scope,
                };
                Ok(Item {
                    hir,
                    scope,
                    lateral: false,
                })
            }
            TableFactor::Table {
                name,
                alias,
                args: Some(args),
                with_ordinality,
                ..
            } => self.function_item(
                name,
                &args.args,
                *with_ordinality,
                alias.as_ref(),
                left,
                env,
            ),
            TableFactor::Function {
                name,
                args,
                with_ordinality,
                alias,
                ..
            } => self.function_item(name, args, *with_ordinality, alias.as_ref(), left, env),
            TableFactor::UNNEST {
                alias,
                array_exprs,
                with_ordinality,
                ..
            } => {
                let [array] = array_exprs.as_slice() else {
                    return Err(PlanError::unsupported("unnest of several arrays"));
                };
                self.in_lateral(left, env, |env, lateral| {
                    let scope = Scope::default();
                    let ctx = Ctx::new(&scope, env, "FROM");
                    let arg = self.expr(&ctx, array)?;
                    let relation =
                        self.function_relation("unnest", vec![arg], position(array_span(array)))?;
                    self.named_function(
                        relation,
                        "unnest",
                        *with_ordinality,
                        alias.as_ref(),
                        lateral,
                    )
                })
            }
            TableFactor::Derived {
                lateral,
                subquery,
                alias,
                sample: None,
            } => {
                let left = left.filter(|_| *lateral);
                self.in_lateral(left, env, |env, lateral| {
                    let planned = self.query(subquery, env, false)?;
                    let planned = self.concrete_outputs(planned)?;
                    let (hir, scope) = self.as_relation(planned)?;
                    let Some(alias) = alias else {
                        return Err(
                            PlanError::new("42601", "subquery in FROM must have an alias")
                                .with_hint("For example, FROM (SELECT ...) [AS] foo."),
                        );
                    };
                    let scope = alias_scope(scope, alias)?;
                    Ok(Item {
                        hir,
                        scope,
                        lateral,
                    })
                })
            }
            TableFactor::NestedJoin {
                table_with_joins,
                alias,
            } => {
                let (hir, scope) = self.join_tree(table_with_joins, env)?;
                let scope = match alias {
                    Some(alias) => alias_scope(scope, alias)?,
                    None => scope,
                };
                Ok(Item {
                    hir,
                    scope,
                    lateral: false,
                })
            }
            _ => Err(PlanError::unsupported("this kind of FROM item")),
        }
    }

    /// Plans something that may refer to the items on its left, which are then level 1.
    fn in_lateral(
        &self,
        left: Option<&Scope>,
        env: Env<'_>,
        f: impl FnOnce(Env<'_>, bool) -> Result<Item, PlanError>,
    ) -> Result<Item, PlanError> {
        match left {
            None => f(env, false),
            Some(left) => {
                let ctx = Ctx::new(left, env, "FROM");
                let inner = Env {
                    outer: Some(&ctx),
                    ctes: env.ctes,
                };
                f(inner, true)
            }
        }
    }

    fn function_item(
        &self,
        name: &ObjectName,
        args: &[crate::ast::sql::FunctionArg],
        with_ordinality: bool,
        alias: Option<&TableAlias>,
        left: Option<&Scope>,
        env: Env<'_>,
    ) -> Result<Item, PlanError> {
        let (function, at) = super::function::function_name(name)?;
        self.in_lateral(left, env, |env, lateral| {
            let scope = Scope::default();
            let ctx = Ctx::new(&scope, env, "FROM");
            let typed = self.function_args(&ctx, args)?;
            let relation = self.function_relation(&function, typed, at)?;
            self.named_function(relation, &function, with_ordinality, alias, lateral)
        })
    }

    fn named_function(
        &self,
        (hir, types): (Hir, Vec<(Option<&'static str>, SqlType)>),
        function: &str,
        with_ordinality: bool,
        alias: Option<&TableAlias>,
        lateral: bool,
    ) -> Result<Item, PlanError> {
        if with_ordinality {
            return Err(PlanError::unsupported("WITH ORDINALITY"));
        }
        let relation = alias.map_or_else(|| function.to_owned(), |a| fold(&a.name));
        let single = types.len() == 1;
        let shared = Rc::new(RelationName {
            schema: None,
            name: relation.clone(),
        });
        let columns = types
            .into_iter()
            .map(|(name, ty)| ScopeColumn {
                relation: Some(shared.clone()),
                name: name.map_or_else(|| relation.clone(), str::to_owned),
                ty: ty.nullable(true),
                scale: None,
                hidden: false,
                is_function_result: single,
            })
            .collect();
        let scope = Scope {
            columns,
            determined: vec![],
        };
        let scope = match alias {
            Some(alias) => alias_scope(scope, alias)?,
            None => scope,
        };
        Ok(Item {
            hir,
            scope,
            lateral,
        })
    }

    /// A WITH query, a relation of the catalog or a built-in one.
    pub(super) fn named_relation(
        &self,
        name: &Name,
        env: Env<'_>,
    ) -> Result<(Hir, Scope), PlanError> {
        if name.schema.is_none() {
            let mut cte = env.ctes;
            while let Some(found) = cte {
                if found.name == name.name {
                    let hir = Hir::LocalGet {
                        id: found.id,
                        types: found.scope.types(),
                    };
                    return Ok((hir, found.scope.clone()));
                }
                cte = found.next;
            }
        }
        let relation = self.session.resolve(name)?;
        let schema = name
            .schema
            .clone()
            .unwrap_or_else(|| self.schema_of(&relation));
        if name.position > 0 {
            self.uses.borrow_mut().push(NameUse {
                start: name.position,
                end: name.end,
                full_name: format!("{}.{}", quote(&schema), quote(relation.name())),
            });
        }
        relation_hir(&relation, &schema).map_err(|e| e.at(name.position))
    }

    fn schema_of(&self, relation: &Relation<'_>) -> String {
        match relation {
            Relation::Builtin(builtin) => builtin.schema.to_owned(),
            Relation::Item(item) => {
                let schema = self.session.catalog.schemas.get(&item.schema);
                schema.map_or_else(String::new, |s| s.name.clone())
            }
        }
    }
}

/// Reads a relation of the catalog.
pub fn relation_hir(relation: &Relation<'_>, schema: &str) -> Result<(Hir, Scope), PlanError> {
    let desc = relation.desc().map_err(|_| {
        PlanError::new(
            "42809",
            format!("cannot open relation \"{}\"", relation.name()),
        )
        .with_detail("This operation is not supported for indexes.")
    })?;
    let mut scope = desc_scope(&desc, Some(schema), relation.name());
    if let Relation::Item(item) = relation
        && let ItemKind::Table(table) = &item.kind
    {
        let all: Vec<usize> = (0..desc.arity()).collect();
        for key in &table.keys {
            if key.kind == state::catalog::KeyConstraintKind::Primary {
                scope.determined.push((key.columns.clone(), all.clone()));
            }
        }
    }
    let hir = Hir::Get {
        id: relation.id(),
        types: desc.types,
        keys: desc.keys,
    };
    Ok((hir, scope))
}

/// The scope of one relation's columns.
pub fn desc_scope(desc: &RelationDesc, schema: Option<&str>, name: &str) -> Scope {
    let relation = Rc::new(RelationName {
        schema: schema.map(str::to_owned),
        name: name.to_owned(),
    });
    let columns = desc
        .columns()
        .map(|(name, ty)| ScopeColumn {
            relation: Some(relation.clone()),
            name: name.to_owned(),
            ty: ty.clone(),
            scale: scale::of_type(&ty.ty),
            hidden: false,
            is_function_result: false,
        })
        .collect();
    Scope {
        columns,
        determined: vec![],
    }
}

/// Renames a FROM item and its first columns.
pub(super) fn alias_scope(mut scope: Scope, alias: &TableAlias) -> Result<Scope, PlanError> {
    let name = fold(&alias.name);
    let visible = scope.columns.iter().filter(|c| !c.hidden).count();
    if alias.columns.len() > visible {
        let message = format!(
            "table \"{name}\" has {visible} columns available but {} columns specified",
            alias.columns.len()
        );
        return Err(PlanError::new("42P10", message).at(position(alias.name.span)));
    }
    let relation = Rc::new(RelationName { schema: None, name });
    let mut names = alias.columns.iter();
    for column in &mut scope.columns {
        column.relation = Some(relation.clone());
        if column.hidden {
            continue;
        }
        if let Some(renamed) = names.next() {
            column.name = fold(&renamed.name);
        }
    }
    Ok(scope)
}

/// Two FROM items cannot have the same name.
fn check_duplicates(left: &Scope, right: &Scope) -> Result<(), PlanError> {
    let Some(relation) = right.columns.iter().find_map(|c| c.relation.as_ref()) else {
        return Ok(());
    };
    let taken = left
        .columns
        .iter()
        .any(|c| c.relation.as_ref().is_some_and(|r| **r == **relation));
    match taken {
        true => Err(PlanError::new(
            "42712",
            format!("table name \"{}\" specified more than once", relation.name),
        )),
        false => Ok(()),
    }
}

fn using_name(name: &ObjectName) -> Result<(String, usize), PlanError> {
    let name = Name::new(name)?;
    Ok((name.name, name.position))
}

fn using_column(scope: &Scope, name: &str, side: &str, at: usize) -> Result<usize, PlanError> {
    let error = match scope.resolve(name) {
        Ok(Resolved::Column(column)) => return Ok(column),
        Ok(Resolved::WholeRow(_) | Resolved::None) => PlanError::new(
            "42703",
            format!("column \"{name}\" specified in USING clause does not exist in {side} table"),
        ),
        Err(_) => PlanError::new(
            "42702",
            format!("common column name \"{name}\" appears more than once in {side} table"),
        ),
    };
    Err(error.at(at))
}

fn common_names(left: &Scope, right: &Scope) -> Vec<(String, usize)> {
    let has = |scope: &Scope, name: &str| scope.columns.iter().any(|c| c.name == name && !c.hidden);
    left.columns
        .iter()
        .filter(|c| !c.hidden && has(right, &c.name))
        .map(|c| (c.name.clone(), 0))
        .collect()
}

fn array_span(expr: &Expr) -> sqlparser::tokenizer::Span {
    use crate::ast::sql::Spanned;
    expr.span()
}
