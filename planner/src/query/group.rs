//! GROUP BY, HAVING and aggregates.

use super::order::ordinal;
use super::{Ctx, QueryPlanner};
use crate::ast::position;
use crate::ast::sql::{Expr, GroupByExpr, Spanned};
use crate::error::PlanError;
use crate::hir::{ColumnRef, HirAggregate, HirScalar};
use crate::parse::fold;
use crate::scope::{Resolved, Scope};
use crate::types::coerce::Typed;
use std::collections::BTreeMap;

/// The keys and aggregates of a query's Reduce, and the rewriting of expressions over its input to ones over its output.
pub(super) struct Grouping<'s> {
    scope: &'s Scope,
    pub keys: Vec<HirScalar>,
    pub aggregates: Vec<HirAggregate>,
    /// Where columns were named, for messages.
    seen: BTreeMap<usize, usize>,
}

impl QueryPlanner<'_> {
    /// The grouping expressions, each over the query's FROM.
    pub(super) fn group_exprs(
        &self,
        ctx: &Ctx<'_>,
        group_by: &GroupByExpr,
        select_list: &[(Option<&Expr>, String)],
        typed: &[Typed],
    ) -> Result<Vec<HirScalar>, PlanError> {
        let exprs = match group_by {
            GroupByExpr::Expressions(exprs, modifiers) if modifiers.is_empty() => exprs,
            GroupByExpr::Expressions(..) | GroupByExpr::All(_) => {
                return Err(PlanError::unsupported("this form of GROUP BY"));
            }
        };
        let mut keys = vec![];
        for expr in exprs {
            if matches!(
                expr,
                Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_)
            ) {
                return Err(PlanError::unsupported("GROUPING SETS, CUBE and ROLLUP"));
            }
            // GROUP BY () is one group of all rows.
            if matches!(expr, Expr::Tuple(fields) if fields.is_empty()) {
                continue;
            }
            let key = match ordinal(expr, typed.len(), "GROUP BY")? {
                Some(i) => typed[i].clone(),
                None => match self.group_alias(ctx, expr, select_list) {
                    Some(i) => typed[i].clone(),
                    None => self.expr(ctx, expr)?,
                },
            };
            let key = self.coercer().concrete(key)?;
            if key.expr.has_aggregate() {
                let message = "aggregate functions are not allowed in GROUP BY";
                return Err(PlanError::new("42803", message).at(position(expr.span())));
            }
            keys.push(key.expr);
        }
        Ok(keys)
    }

    /// A name that is no input column may be an output column's.
    fn group_alias(
        &self,
        ctx: &Ctx<'_>,
        expr: &Expr,
        select_list: &[(Option<&Expr>, String)],
    ) -> Option<usize> {
        let Expr::Identifier(ident) = expr else {
            return None;
        };
        let name = fold(ident);
        match ctx.scope.resolve(&name) {
            Ok(Resolved::None) => select_list.iter().position(|(_, n)| *n == name),
            Ok(_) | Err(_) => None,
        }
    }
}

impl<'s> Grouping<'s> {
    /// `exprs` are all expressions that will be rewritten: the columns that they need and the key determines become part of the key.
    pub fn new(
        scope: &'s Scope,
        mut keys: Vec<HirScalar>,
        exprs: &[&HirScalar],
        seen: BTreeMap<usize, usize>,
    ) -> Grouping<'s> {
        let mut unique: Vec<HirScalar> = vec![];
        for key in keys.drain(..) {
            if !unique.contains(&key) {
                unique.push(key);
            }
        }
        let mut keys = unique;
        let grouped = |keys: &[HirScalar], c: usize| keys.contains(&HirScalar::column(c));
        for (key, determined) in &scope.determined {
            if !key.iter().all(|c| grouped(&keys, *c)) {
                continue;
            }
            let mut wanted = vec![];
            for expr in exprs {
                expr.visit_columns(&mut |c| {
                    if c.level == 0 && determined.contains(&c.index) && !wanted.contains(&c.index) {
                        wanted.push(c.index);
                    }
                });
            }
            for column in wanted {
                if !grouped(&keys, column) {
                    keys.push(HirScalar::column(column));
                }
            }
        }
        Grouping {
            scope,
            keys,
            aggregates: vec![],
            seen,
        }
    }

    /// The expression over the Reduce's output.
    pub fn rewrite(&mut self, expr: HirScalar) -> Result<HirScalar, PlanError> {
        if let Some(i) = self.keys.iter().position(|k| *k == expr) {
            return Ok(HirScalar::column(i));
        }
        match expr {
            HirScalar::Column(ColumnRef { level: 0, index }) => Err(self.ungrouped(index, false)),
            HirScalar::Aggregate(aggregate) => {
                let known = self.aggregates.iter().position(|a| *a == *aggregate);
                let i = known.unwrap_or_else(|| {
                    self.aggregates.push(*aggregate);
                    self.aggregates.len() - 1
                });
                Ok(HirScalar::column(self.keys.len() + i))
            }
            HirScalar::Exists(_) | HirScalar::Subquery(..) => self.rewrite_nested(expr),
            mut other => {
                for child in other.children_mut() {
                    let taken = std::mem::replace(child, HirScalar::bool(true));
                    *child = self.rewrite(taken)?;
                }
                Ok(other)
            }
        }
    }

    /// A subquery may name grouped columns of this query.
    fn rewrite_nested(&self, mut expr: HirScalar) -> Result<HirScalar, PlanError> {
        let mut failed = None;
        expr.map_columns(&mut |c| {
            if c.level > 0 {
                return c;
            }
            match self.keys.iter().position(|k| *k == HirScalar::Column(c)) {
                Some(index) => ColumnRef { level: 0, index },
                None => {
                    failed.get_or_insert(c.index);
                    c
                }
            }
        });
        match failed {
            None => Ok(expr),
            Some(column) => Err(self.ungrouped(column, true)),
        }
    }

    fn ungrouped(&self, index: usize, nested: bool) -> PlanError {
        let column = &self.scope.columns[index];
        let name = match &column.relation {
            Some(relation) => format!("{}.{}", relation.name, column.name),
            None => column.name.clone(),
        };
        let message = match nested {
            true => format!("subquery uses ungrouped column \"{name}\" from outer query"),
            false => format!(
                "column \"{name}\" must appear in the GROUP BY clause or be used in an aggregate function"
            ),
        };
        let at = self.seen.get(&index).copied().unwrap_or(0);
        PlanError::new("42803", message).at(at)
    }
}
