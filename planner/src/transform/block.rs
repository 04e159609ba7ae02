//! A chain of Map, Filter and Project as one value.

use crate::transform::expr;
use plan::{Mir, ScalarExpr};

/// Appends `scalars`, keeps rows for which all predicates are true, then takes the `projection` columns.
///
/// Scalar `i` may read the input columns and scalars before it; predicates may read all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub input_arity: usize,
    pub scalars: Vec<ScalarExpr>,
    pub predicates: Vec<ScalarExpr>,
    pub projection: Vec<usize>,
}

impl Block {
    pub fn identity(input_arity: usize) -> Self {
        Block {
            input_arity,
            scalars: vec![],
            predicates: vec![],
            projection: (0..input_arity).collect(),
        }
    }

    pub fn is_identity(&self) -> bool {
        self.scalars.is_empty()
            && self.predicates.is_empty()
            && is_identity(&self.projection, self.input_arity)
    }

    /// Takes all Maps, Filters and Projects off the top of a plan.
    pub fn extract(mir: Mir) -> (Block, Mir) {
        match mir {
            Mir::Map { input, scalars } => {
                let (mut block, inner) = Block::extract(*input);
                block.map(scalars);
                (block, inner)
            }
            Mir::Filter { input, predicates } => {
                let (mut block, inner) = Block::extract(*input);
                block.filter(predicates);
                (block, inner)
            }
            Mir::Project { input, outputs } => {
                let (mut block, inner) = Block::extract(*input);
                block.project(&outputs);
                (block, inner)
            }
            other => (Block::identity(other.arity()), other),
        }
    }

    /// Appends scalars over the output columns (and over each other).
    pub fn map(&mut self, scalars: Vec<ScalarExpr>) {
        for mut scalar in scalars {
            scalar.permute(&|c| self.projection[c]);
            self.projection.push(self.input_arity + self.scalars.len());
            self.scalars.push(scalar);
        }
    }

    /// Keeps rows by predicates over the output columns.
    pub fn filter(&mut self, predicates: Vec<ScalarExpr>) {
        for mut predicate in predicates {
            predicate.permute(&|c| self.projection[c]);
            self.predicates.push(predicate);
        }
    }

    pub fn project(&mut self, outputs: &[usize]) {
        self.projection = outputs.iter().map(|o| self.projection[*o]).collect();
    }

    /// This block, then another over its output.
    pub fn then(mut self, next: Block) -> Block {
        self.map(next.scalars);
        self.filter(next.predicates);
        self.project(&next.projection);
        self
    }

    /// The expression over input and mapped columns, as one over input columns only; `None` if that grows too large.
    pub fn inlined(&self, expr: &ScalarExpr) -> Option<ScalarExpr> {
        let mut expr = expr.clone();
        for (i, scalar) in self.scalars.iter().enumerate().rev() {
            let column = self.input_arity + i;
            if !expr.support().contains(&column) {
                continue;
            }
            expr::substitute(&mut expr, &|c| {
                if c == column {
                    scalar.clone()
                } else {
                    ScalarExpr::Column(c)
                }
            });
            if expr::size(&expr) > expr::INLINE_SIZE_MAX {
                return None;
            }
        }
        Some(expr)
    }

    /// Output column `o` as an expression over the input columns.
    pub fn output(&self, o: usize) -> Option<ScalarExpr> {
        self.inlined(&ScalarExpr::Column(self.projection[o]))
    }

    /// Moves scalars that are cheap or used once into their users, then drops those that nobody uses.
    pub fn normalize(&mut self) {
        for i in (0..self.scalars.len()).rev() {
            let column = self.input_arity + i;
            if self.should_inline(i) {
                let scalar = self.scalars[i].clone();
                let replace = |c: usize| {
                    if c == column {
                        scalar.clone()
                    } else {
                        ScalarExpr::Column(c)
                    }
                };
                self.scalars[i + 1..]
                    .iter_mut()
                    .chain(&mut self.predicates)
                    .for_each(|e| expr::substitute(e, &replace));
            }
            // A mapped column is another name of a column that exists.
            if let ScalarExpr::Column(c) = self.scalars[i] {
                self.projection
                    .iter_mut()
                    .filter(|p| **p == column)
                    .for_each(|p| *p = c);
            }
        }
        self.drop_unused();
    }

    fn should_inline(&self, i: usize) -> bool {
        match &self.scalars[i] {
            ScalarExpr::Column(_) | ScalarExpr::Literal(..) | ScalarExpr::Param(..) => true,
            ScalarExpr::Unmaterializable(_) | ScalarExpr::Call { .. } | ScalarExpr::If { .. } => {
                let column = self.input_arity + i;
                let mut uses = 0;
                for e in self.scalars[i + 1..].iter().chain(&self.predicates) {
                    e.visit(&mut |e| uses += usize::from(*e == ScalarExpr::Column(column)));
                }
                uses == 1 || self.scalars[i].contains_mz_now()
            }
        }
    }

    fn drop_unused(&mut self) {
        let total = self.input_arity + self.scalars.len();
        let mut used = vec![false; total];
        self.projection.iter().for_each(|c| used[*c] = true);
        self.predicates
            .iter()
            .for_each(|p| p.support().into_iter().for_each(|c| used[c] = true));
        for i in (0..self.scalars.len()).rev() {
            if used[self.input_arity + i] {
                self.scalars[i]
                    .support()
                    .into_iter()
                    .for_each(|c| used[c] = true);
            }
        }
        let mut position = vec![0; total];
        let mut next = 0;
        for (c, slot) in position.iter_mut().enumerate() {
            *slot = next;
            next += usize::from(c < self.input_arity || used[c]);
        }
        let mut i = self.input_arity;
        self.scalars.retain(|_| {
            i += 1;
            used[i - 1]
        });
        self.scalars
            .iter_mut()
            .chain(&mut self.predicates)
            .for_each(|e| e.permute(&|c| position[c]));
        self.projection.iter_mut().for_each(|c| *c = position[*c]);
    }

    /// The block as Filter, Map, Filter, Project over `input`, each only if it does something.
    pub fn into_mir(self, input: Mir) -> Mir {
        let Block {
            input_arity,
            scalars,
            predicates,
            projection,
        } = self;
        let arity = input_arity + scalars.len();
        let (early, late): (Vec<_>, Vec<_>) = predicates
            .into_iter()
            .partition(|p| p.support().last().is_none_or(|c| *c < input_arity));
        let mut mir = filter(input, early);
        if !scalars.is_empty() {
            mir = Mir::Map {
                input: Box::new(mir),
                scalars,
            };
        }
        mir = filter(mir, late);
        if !is_identity(&projection, arity) {
            mir = Mir::Project {
                input: Box::new(mir),
                outputs: projection,
            };
        }
        mir
    }
}

fn filter(input: Mir, predicates: Vec<ScalarExpr>) -> Mir {
    if predicates.is_empty() {
        input
    } else {
        Mir::Filter {
            input: Box::new(input),
            predicates,
        }
    }
}

fn is_identity(projection: &[usize], arity: usize) -> bool {
    projection.len() == arity && projection.iter().enumerate().all(|(i, c)| i == *c)
}
