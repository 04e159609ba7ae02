//! Making a block cheaper without changing what it means.

use super::Mfp;
use crate::scalar::eval::EvalCtx;
use crate::scalar::{Func, ScalarExpr};
use std::collections::HashMap;

impl Mfp {
    /// Folds constants, computes common subexpressions once, and drops what is not needed.
    pub fn optimize(&mut self) {
        let fails = self.fold();
        self.share_subexpressions();
        self.inline_single_uses();
        self.drop_unused();
        self.normalize_predicates(fails);
    }

    /// Folds constants in every expression. Returns whether any column of the block can raise an error when it is read.
    fn fold(&mut self) -> bool {
        let ctx = EvalCtx::default();
        let mut fails = vec![false; self.input_arity];
        let fold = |e: &mut ScalarExpr, fails: &[bool]| {
            if !e.session_dependent() {
                e.fold_over(&ctx, &|c| fails[c]);
            }
        };
        for expression in &mut self.expressions {
            fold(expression, &fails);
            fails.push(expression.may_fail(&|c| fails[c]));
        }
        self.predicates
            .iter_mut()
            .for_each(|(_, p)| fold(p, &fails));
        self.temporal
            .iter_mut()
            .for_each(|bound| fold(bound.expression_mut(), &fails));
        fails.contains(&true)
    }

    /// Gives every computed subexpression a column, one for equal ones; [`Mfp::inline_single_uses`] undoes what was not shared.
    fn share_subexpressions(&mut self) {
        let mut shared = Shared {
            input_arity: self.input_arity,
            expressions: vec![],
            columns: HashMap::new(),
        };
        // Where the old mapped columns are now.
        let mut moved: Vec<usize> = (0..self.input_arity).collect();
        for mut expression in std::mem::take(&mut self.expressions) {
            expression.permute(&|c| moved[c]);
            moved.push(shared.column_of(expression));
        }
        for (_, predicate) in &mut self.predicates {
            predicate.permute(&|c| moved[c]);
            shared.share_arguments(predicate);
        }
        for bound in &mut self.temporal {
            bound.expression_mut().permute(&|c| moved[c]);
            shared.share_arguments(bound.expression_mut());
        }
        self.projection.iter_mut().for_each(|c| *c = moved[*c]);
        self.expressions = shared.expressions;
    }

    /// How often each mapped column is read.
    fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.mapped_arity()];
        self.projection.iter().for_each(|c| uses[*c] += 1);
        self.visit_expressions(&mut |root| {
            root.visit(&mut |e| {
                if let ScalarExpr::Column(c) = e {
                    uses[*c] += 1;
                }
            });
        });
        uses
    }

    /// Moves an expression that is read once to where it is read, and constants and columns to every place.
    fn inline_single_uses(&mut self) {
        let uses = self.uses();
        let input_arity = self.input_arity;
        let mut inlined: HashMap<usize, ScalarExpr> = HashMap::new();
        let substitute = |root: &mut ScalarExpr, inlined: &HashMap<usize, ScalarExpr>| {
            root.visit_mut_post(&mut |e| {
                if let ScalarExpr::Column(c) = e
                    && let Some(expression) = inlined.get(c)
                {
                    *e = expression.clone();
                }
            });
        };
        for (i, expression) in self.expressions.iter_mut().enumerate() {
            substitute(expression, &inlined);
            let cheap = matches!(expression, ScalarExpr::Column(_) | ScalarExpr::Literal(..));
            if cheap || uses[input_arity + i] == 1 {
                inlined.insert(input_arity + i, expression.clone());
            }
        }
        self.predicates
            .iter_mut()
            .for_each(|(_, p)| substitute(p, &inlined));
        self.temporal
            .iter_mut()
            .for_each(|bound| substitute(bound.expression_mut(), &inlined));
        for column in &mut self.projection {
            if let Some(ScalarExpr::Column(source)) = inlined.get(column) {
                *column = *source;
            }
        }
    }

    /// Drops the expressions that neither the output nor a predicate needs.
    pub fn drop_unused(&mut self) {
        let mut needed = vec![false; self.mapped_arity()];
        let mark = |e: &ScalarExpr, needed: &mut Vec<bool>| {
            e.support().into_iter().for_each(|c| needed[c] = true)
        };
        self.projection.iter().for_each(|c| needed[*c] = true);
        self.predicates
            .iter()
            .for_each(|(_, p)| mark(p, &mut needed));
        self.temporal
            .iter()
            .for_each(|bound| mark(bound.expression(), &mut needed));
        for (i, expression) in self.expressions.iter().enumerate().rev() {
            if needed[self.input_arity + i] {
                mark(expression, &mut needed);
            }
        }
        let mut moved: Vec<usize> = (0..self.input_arity).collect();
        let mut kept = vec![];
        for (i, mut expression) in std::mem::take(&mut self.expressions)
            .into_iter()
            .enumerate()
        {
            moved.push(self.input_arity + kept.len());
            if needed[self.input_arity + i] {
                expression.permute(&|c| moved[c]);
                kept.push(expression);
            }
        }
        self.expressions = kept;
        self.predicates
            .iter_mut()
            .for_each(|(_, p)| p.permute(&|c| moved[c]));
        self.temporal
            .iter_mut()
            .for_each(|bound| bound.expression_mut().permute(&|c| moved[c]));
        self.projection.iter_mut().for_each(|c| *c = moved[*c]);
    }

    /// Splits conjunctions, drops predicates that are always true or repeated, and orders the rest by what they need.
    ///
    /// A conjunction that folding brought to light is split only if it cannot fail: the error of one conjunct beats the NULL of
    /// another inside AND, but not between predicates.
    fn normalize_predicates(&mut self, columns_fail: bool) {
        for (_, predicate) in std::mem::take(&mut self.predicates) {
            let fails = columns_fail || predicate.contains_error_potential();
            let conjuncts = if fails {
                vec![predicate]
            } else {
                predicate.into_conjuncts()
            };
            for conjunct in conjuncts {
                let known = self.predicates.iter().any(|(_, p)| *p == conjunct);
                if !known && !conjunct.is_literal_true() {
                    self.push_predicate(conjunct);
                }
            }
        }
    }
}

/// The columns of computed subexpressions.
struct Shared {
    input_arity: usize,
    expressions: Vec<ScalarExpr>,
    columns: HashMap<ScalarExpr, usize>,
}

impl Shared {
    /// The column that has the value of this expression, made if there is none.
    fn column_of(&mut self, mut expression: ScalarExpr) -> usize {
        if let ScalarExpr::Column(c) = expression {
            return c;
        }
        self.share_arguments(&mut expression);
        if let Some(column) = self.columns.get(&expression) {
            return *column;
        }
        let column = self.input_arity + self.expressions.len();
        self.columns.insert(expression.clone(), column);
        self.expressions.push(expression);
        column
    }

    /// Replaces what the expression certainly evaluates by columns. What it may skip stays inside, so that it can be skipped.
    fn share_arguments(&mut self, expression: &mut ScalarExpr) {
        match expression {
            ScalarExpr::Call { func, args, .. } if is_lazy(*func) => {
                if let Some(first) = args.first_mut() {
                    self.share(first);
                }
            }
            ScalarExpr::Call { args, .. } => args.iter_mut().for_each(|arg| self.share(arg)),
            ScalarExpr::If { cond, .. } => self.share(cond),
            ScalarExpr::Column(_)
            | ScalarExpr::Literal(..)
            | ScalarExpr::Param(..)
            | ScalarExpr::Unmaterializable(_) => {}
        }
    }

    fn share(&mut self, argument: &mut ScalarExpr) {
        if matches!(argument, ScalarExpr::Call { .. } | ScalarExpr::If { .. }) {
            let taken = std::mem::replace(argument, ScalarExpr::Column(0));
            *argument = ScalarExpr::Column(self.column_of(taken));
        }
    }
}

fn is_lazy(func: Func) -> bool {
    matches!(func.def().kind, crate::scalar::func::Kind::Lazy(_))
}
