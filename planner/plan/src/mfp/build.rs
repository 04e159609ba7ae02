//! Building blocks out of plans, and joining them.

use super::Mfp;
use crate::mir::Mir;
use crate::scalar::ScalarExpr;
use repr::{Row, SqlType};
use std::collections::BTreeSet;

impl Mfp {
    /// Input columns and mapped expressions together: the columns that expressions may read.
    pub fn mapped_arity(&self) -> usize {
        self.input_arity + self.expressions.len()
    }

    /// Appends scalars to the output. Scalar `i` may read the output columns and the scalars before it.
    pub fn map(mut self, scalars: impl IntoIterator<Item = ScalarExpr>) -> Mfp {
        for mut scalar in scalars {
            scalar.permute(&|c| self.projection[c]);
            // A plain column needs no expression of its own.
            if let ScalarExpr::Column(c) = scalar {
                self.projection.push(c);
                continue;
            }
            self.projection.push(self.mapped_arity());
            self.expressions.push(scalar);
        }
        self
    }

    /// Keeps the rows for which all of these predicates over the output columns are true.
    pub fn filter(mut self, predicates: impl IntoIterator<Item = ScalarExpr>) -> Mfp {
        for predicate in predicates {
            for mut conjunct in predicate.into_conjuncts() {
                conjunct.permute(&|c| self.projection[c]);
                self.push_predicate(conjunct);
            }
        }
        self
    }

    /// Adds a predicate over input and mapped columns, behind those that need as few of them.
    pub(super) fn push_predicate(&mut self, predicate: ScalarExpr) {
        let known = predicate
            .support()
            .last()
            .map_or(0, |c| c + 1)
            .max(self.input_arity);
        let at = self.predicates.partition_point(|(n, _)| *n <= known);
        self.predicates.insert(at, (known, predicate));
    }

    /// Makes these columns of the output, in this order, the output.
    pub fn project(mut self, outputs: impl IntoIterator<Item = usize>) -> Mfp {
        self.projection = outputs.into_iter().map(|c| self.projection[c]).collect();
        self
    }

    /// One block that does what this one and then `next` do.
    ///
    /// # Panics
    /// If `next` does not take what this block gives.
    pub fn compose(mut self, next: Mfp) -> Mfp {
        assert_eq!(self.output_arity(), next.input_arity, "blocks fit together");
        let Mfp {
            input_arity,
            expressions,
            predicates,
            projection,
            temporal,
        } = next;
        let offset = self.mapped_arity();
        let outputs = std::mem::take(&mut self.projection);
        let renumber = |c: usize| {
            if c < input_arity {
                outputs[c]
            } else {
                offset + c - input_arity
            }
        };
        for mut expression in expressions {
            expression.permute(&renumber);
            self.expressions.push(expression);
        }
        for (_, mut predicate) in predicates {
            predicate.permute(&renumber);
            self.push_predicate(predicate);
        }
        for mut bound in temporal {
            bound.expression_mut().permute(&renumber);
            self.temporal.push(bound);
        }
        self.projection = projection.into_iter().map(renumber).collect();
        self
    }

    /// Peels Map, Filter and Project off the top of a plan: the block that they are, and the plan below.
    pub fn extract_from(mir: &Mir) -> (Mfp, &Mir) {
        match mir {
            Mir::Map { input, scalars } => {
                let (mfp, base) = Mfp::extract_from(input);
                (mfp.map(scalars.iter().cloned()), base)
            }
            Mir::Filter { input, predicates } => {
                let (mfp, base) = Mfp::extract_from(input);
                (mfp.filter(predicates.iter().cloned()), base)
            }
            Mir::Project { input, outputs } => {
                let (mfp, base) = Mfp::extract_from(input);
                (mfp.project(outputs.iter().copied()), base)
            }
            Mir::Constant { .. }
            | Mir::Get { .. }
            | Mir::Let { .. }
            | Mir::FlatMap { .. }
            | Mir::Join { .. }
            | Mir::Reduce { .. }
            | Mir::TopK { .. }
            | Mir::Negate { .. }
            | Mir::Threshold { .. }
            | Mir::Union { .. }
            | Mir::ArrangeBy { .. } => (Mfp::identity(mir.arity()), mir),
        }
    }

    /// As [`Mfp::extract_from`], taking the plan apart.
    pub fn extract_owned(mir: Mir) -> (Mfp, Mir) {
        match mir {
            Mir::Map { input, scalars } => {
                let (mfp, base) = Mfp::extract_owned(*input);
                (mfp.map(scalars), base)
            }
            Mir::Filter { input, predicates } => {
                let (mfp, base) = Mfp::extract_owned(*input);
                (mfp.filter(predicates), base)
            }
            Mir::Project { input, outputs } => {
                let (mfp, base) = Mfp::extract_owned(*input);
                (mfp.project(outputs), base)
            }
            base => (Mfp::identity(base.arity()), base),
        }
    }

    /// The same as a plan: Map, then Filter, then Project, each only if it does something.
    ///
    /// # Panics
    /// If there are temporal bounds, which a plan writes as predicates.
    pub fn into_mir(self, input: Mir) -> Mir {
        let Mfp {
            input_arity,
            expressions,
            predicates,
            projection,
            temporal,
        } = self;
        assert!(
            temporal.is_empty(),
            "temporal bounds were split off for the engine"
        );
        let mapped_arity = input_arity + expressions.len();
        let mut plan = input;
        if !expressions.is_empty() {
            plan = Mir::Map {
                input: Box::new(plan),
                scalars: expressions,
            };
        }
        if !predicates.is_empty() {
            let predicates = predicates.into_iter().map(|(_, p)| p).collect();
            plan = Mir::Filter {
                input: Box::new(plan),
                predicates,
            };
        }
        if projection.iter().copied().ne(0..mapped_arity) {
            plan = Mir::Project {
                input: Box::new(plan),
                outputs: projection,
            };
        }
        plan
    }

    /// Visits every expression of the block: mapped ones, predicates, temporal bounds.
    pub fn visit_expressions<'a>(&'a self, f: &mut dyn FnMut(&'a ScalarExpr)) {
        self.expressions.iter().for_each(&mut *f);
        self.predicates.iter().for_each(|(_, p)| f(p));
        self.temporal.iter().for_each(|bound| f(bound.expression()));
    }

    pub fn visit_expressions_mut(&mut self, f: &mut dyn FnMut(&mut ScalarExpr)) {
        self.expressions.iter_mut().for_each(&mut *f);
        self.predicates.iter_mut().for_each(|(_, p)| f(p));
        self.temporal
            .iter_mut()
            .for_each(|bound| f(bound.expression_mut()));
    }

    /// The input columns that matter to the output.
    pub fn demand(&self) -> BTreeSet<usize> {
        let mut needed: BTreeSet<usize> = self.projection.iter().copied().collect();
        self.predicates
            .iter()
            .for_each(|(_, p)| p.support_into(&mut needed));
        self.temporal
            .iter()
            .for_each(|bound| bound.expression().support_into(&mut needed));
        for (i, expression) in self.expressions.iter().enumerate().rev() {
            if needed.remove(&(self.input_arity + i)) {
                expression.support_into(&mut needed);
            }
        }
        needed
    }

    /// Adapts the block to another layout of its input: input column `c` is found at `map(c)` of `input_arity` columns. `map` is
    /// only asked for the columns in [`Mfp::demand`]; expressions that nothing needs are dropped.
    pub fn permute_input(&mut self, map: &dyn Fn(usize) -> usize, input_arity: usize) {
        self.drop_unused();
        let old = self.input_arity;
        let renumber = |c: usize| {
            if c < old {
                map(c)
            } else {
                input_arity + c - old
            }
        };
        self.visit_expressions_mut(&mut |e| e.permute(&renumber));
        self.projection.iter_mut().for_each(|c| *c = renumber(*c));
        self.predicates
            .iter_mut()
            .for_each(|(known, _)| *known = *known - old + input_arity);
        self.input_arity = input_arity;
    }

    /// Replaces parameters by literals.
    pub fn bind(&mut self, params: &[(Row, SqlType)]) {
        self.visit_expressions_mut(&mut |e| e.bind(params));
    }
}
