//! Flattens joins of joins into one, so that all inputs can be ordered together.
//!
//! Maps, filters and projections between the two joins move above the outer one. Joins of one input disappear.

use crate::transform::block::Block;
use crate::transform::{boxed, expr};
use plan::mir::JoinImplementation;
use plan::{Mir, ScalarExpr};

pub fn join_fusion(mir: &mut Mir) {
    mir.visit_mut_post(&mut |node| {
        if let Mir::Join { inputs, .. } = node
            && (inputs.len() <= 1
                || inputs.iter().any(is_join_below_block)
                || inputs.iter().any(is_unit))
        {
            *node = flatten(node.take());
        }
    });
}

fn is_join_below_block(mir: &Mir) -> bool {
    match mir {
        Mir::Join { .. } => true,
        Mir::Map { input, .. } | Mir::Filter { input, .. } | Mir::Project { input, .. } => {
            is_join_below_block(input)
        }
        _ => false,
    }
}

/// One row without columns: neutral in a join.
fn is_unit(mir: &Mir) -> bool {
    matches!(mir, Mir::Constant { rows: Ok(rows), types } if types.is_empty() && rows.len() == 1 && rows[0].1 == 1)
}

/// The new inputs, and what each old column is in terms of the new ones.
#[derive(Default)]
struct Flat {
    inputs: Vec<Mir>,
    arity: usize,
    columns: Vec<ScalarExpr>,
    equivalences: Vec<Vec<ScalarExpr>>,
    predicates: Vec<ScalarExpr>,
}

fn flatten(join: Mir) -> Mir {
    let Mir::Join {
        inputs,
        equivalences,
        ..
    } = join
    else {
        return join;
    };
    let old_types: Vec<_> = inputs.iter().flat_map(Mir::types).collect();
    let mut flat = Flat::default();
    for input in inputs {
        flat.add(input);
    }
    let columns = std::mem::take(&mut flat.columns);
    for mut class in equivalences {
        class
            .iter_mut()
            .for_each(|e| expr::substitute(e, &|c| columns[c].clone()));
        flat.equivalences.push(class);
    }
    let joined = match flat.inputs.len() {
        0 => Mir::Constant {
            rows: Ok(vec![(repr::Row::empty(), 1)]),
            types: vec![],
        },
        1 => {
            let only = flat.inputs.remove(0);
            flat.predicates.extend(class_predicates(
                std::mem::take(&mut flat.equivalences),
                &old_types,
                &only,
            ));
            only
        }
        _ => Mir::Join {
            inputs: flat.inputs,
            equivalences: flat.equivalences,
            implementation: JoinImplementation::Unimplemented,
        },
    };
    let mut block = Block::identity(flat.arity);
    block.filter(flat.predicates);
    let width = columns.len();
    block.map(columns);
    block.project(&(flat.arity..flat.arity + width).collect::<Vec<_>>());
    block.normalize();
    block.into_mir(joined)
}

/// Equivalences over a single input, as predicates.
fn class_predicates(
    classes: Vec<Vec<ScalarExpr>>,
    _: &[repr::ColumnType],
    input: &Mir,
) -> Vec<ScalarExpr> {
    let types = input.types();
    let mut predicates = vec![];
    for class in classes {
        let ty = expr::type_of(&class[0], &types).ty;
        match class.as_slice() {
            [only] => predicates.push(expr::is_not_null(only.clone())),
            [first, rest @ ..] => {
                predicates.extend(rest.iter().map(|e| expr::eq(first.clone(), e.clone(), &ty)))
            }
            [] => {}
        }
    }
    predicates
}

impl Flat {
    fn add(&mut self, input: Mir) {
        if is_unit(&input) {
            return;
        }
        if !is_join_below_block(&input) {
            let arity = input.arity();
            self.columns
                .extend((self.arity..self.arity + arity).map(ScalarExpr::Column));
            self.arity += arity;
            self.inputs.push(input);
            return;
        }
        let (block, inner) = Block::extract(input);
        let outputs: Option<Vec<_>> = (0..block.projection.len())
            .map(|o| block.output(o))
            .collect();
        let predicates: Option<Vec<_>> =
            block.predicates.iter().map(|p| block.inlined(p)).collect();
        let (Some(outputs), Some(predicates)) = (outputs, predicates) else {
            // Too large to write into every user: this join stays an input.
            let arity = block.projection.len();
            self.columns
                .extend((self.arity..self.arity + arity).map(ScalarExpr::Column));
            self.arity += arity;
            self.inputs.push(block.into_mir(inner));
            return;
        };
        let Mir::Join {
            inputs,
            equivalences,
            ..
        } = inner
        else {
            return;
        };
        let outer = std::mem::take(&mut self.columns);
        for input in inputs {
            self.add(input);
        }
        let columns = std::mem::replace(&mut self.columns, outer);
        let moved = |mut e: ScalarExpr| {
            expr::substitute(&mut e, &|c| columns[c].clone());
            e
        };
        self.equivalences.extend(
            equivalences
                .into_iter()
                .map(|class| class.into_iter().map(moved).collect()),
        );
        self.predicates.extend(predicates.into_iter().map(moved));
        self.columns.extend(outputs.into_iter().map(moved));
    }
}

/// A join of these inputs.
pub fn join(inputs: Vec<Mir>, equivalences: Vec<Vec<ScalarExpr>>) -> Mir {
    Mir::Join {
        inputs,
        equivalences,
        implementation: JoinImplementation::Unimplemented,
    }
}

/// Keeps rows by these predicates, if there are any.
pub fn filtered(input: Mir, predicates: Vec<ScalarExpr>) -> Mir {
    if predicates.is_empty() {
        input
    } else {
        Mir::Filter {
            input: boxed(input),
            predicates,
        }
    }
}
