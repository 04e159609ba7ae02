//! Chooses how each join is computed.
//!
//! * Delta, where every arrangement that the paths of all inputs need exists already: nothing new is kept in memory.
//! * Linear otherwise: each input and each intermediate result is arranged once, after all filters and projections.
//!
//! An existing arrangement is used in place of a new one where its key is part of the join's; what stood between the join and the
//! arranged relation then moves above the join.

use crate::optimize::extract::{KeyForm, lookup_keys};
use crate::transform::block::Block;
use crate::transform::equivalences::{merge, single_input};
use crate::transform::join_order::JoinGraph;
use crate::transform::{boxed, expr, facts};
use plan::mir::{Id, JoinImplementation};
use plan::{Mir, ScalarExpr};
use repr::{ColumnType, GlobalId};

/// Keys of the arrangements of a relation that exist where the plan will run.
pub type Arrangements<'a> = &'a dyn Fn(GlobalId) -> Vec<Vec<ScalarExpr>>;

/// Inputs of a join beyond this are not supported by the search (a bit each).
const INPUTS_MAX: usize = 60;

pub fn join_implementation(mir: Mir, arrangements: Arrangements<'_>) -> Mir {
    let (block, mut inner) = Block::extract(mir);
    for child in inner.children_mut() {
        *child = join_implementation(child.take(), arrangements);
    }
    match inner {
        Mir::Join {
            inputs,
            equivalences,
            implementation: JoinImplementation::Unimplemented,
        } if (1..=INPUTS_MAX).contains(&inputs.len()) => {
            implement(block, inputs, equivalences, arrangements)
        }
        other => block.into_mir(other),
    }
}

/// An input that can be read through existing arrangements.
struct Indexed {
    id: GlobalId,
    types: Vec<ColumnType>,
    keys: Vec<Vec<usize>>,
    /// From the relation to the input.
    block: Block,
    arrangements: Vec<Vec<ScalarExpr>>,
}

impl Indexed {
    fn of(input: &Mir, arrangements: Arrangements<'_>) -> Option<Indexed> {
        let (id, mut block) = facts::base_relation(input)?;
        let available = arrangements(id);
        if available.is_empty() || !can_move(&block) {
            return None;
        }
        block.normalize();
        let (types, keys) = get_of(input)?;
        Some(Indexed {
            id,
            types,
            keys,
            block,
            arrangements: available,
        })
    }

    fn get(&self) -> Mir {
        Mir::Get {
            id: Id::Global(self.id),
            types: self.types.clone(),
            keys: self.keys.clone(),
        }
    }
}

fn can_move(block: &Block) -> bool {
    let outputs = (0..block.projection.len()).all(|o| block.output(o).is_some());
    outputs
        && block
            .predicates
            .iter()
            .all(|p| block.inlined(p).is_some() && !p.contains_mz_now())
}

fn get_of(mir: &Mir) -> Option<(Vec<ColumnType>, Vec<Vec<usize>>)> {
    match mir {
        Mir::Get { types, keys, .. } => Some((types.clone(), keys.clone())),
        Mir::Map { input, .. } | Mir::Filter { input, .. } | Mir::Project { input, .. } => {
            get_of(input)
        }
        _ => None,
    }
}

/// A join with the ways to read its inputs.
struct Problem {
    graph: JoinGraph,
    indexed: Vec<Option<Indexed>>,
}

/// One step of a path: the input and the existing arrangement it is read through, if one is used.
struct Step {
    input: usize,
    /// Over the columns of the input (or of the indexed relation).
    key: Vec<ScalarExpr>,
    existing: bool,
}

impl Problem {
    /// Members of connecting classes that input `i` offers, over its own columns, in the order of the classes.
    fn join_key(&self, i: usize, set: u64) -> Vec<ScalarExpr> {
        let mut key = vec![];
        for class in self.graph.connecting(i, set) {
            let member = self.graph.classes[class]
                .iter()
                .find(|e| single_input(&self.graph.offsets, e) == Some(i));
            if let Some(member) = member {
                key.push(self.localized(i, member));
            }
        }
        key.sort();
        key.dedup();
        key
    }

    fn localized(&self, i: usize, e: &ScalarExpr) -> ScalarExpr {
        let mut e = e.clone();
        e.permute(&|c| c - self.graph.offsets[i]);
        e
    }

    /// The longest existing arrangement of input `i` whose key the inputs in `set` can provide.
    fn existing_key(&self, i: usize, set: u64) -> Option<Vec<ScalarExpr>> {
        let indexed = self.indexed[i].as_ref()?;
        let mut offered = vec![];
        for class in self.graph.connecting(i, set) {
            for member in &self.graph.classes[class] {
                if single_input(&self.graph.offsets, member) == Some(i) {
                    let mut e = self.localized(i, member);
                    e.permute(&|c| indexed.block.projection[c]);
                    offered.extend(indexed.block.inlined(&e));
                }
            }
        }
        let usable = indexed
            .arrangements
            .iter()
            .filter(|key| !key.is_empty() && key.iter().all(|k| offered.contains(k)));
        usable
            .reduce(|a, b| if b.len() > a.len() { b } else { a })
            .cloned()
    }

    fn step(&self, i: usize, set: u64) -> Step {
        match self.existing_key(i, set) {
            Some(key) => Step {
                input: i,
                key,
                existing: true,
            },
            None => Step {
                input: i,
                key: self.join_key(i, set),
                existing: false,
            },
        }
    }

    /// Inputs of which an index gives a few rows.
    fn looked_up(&self) -> Vec<usize> {
        let is_lookup = |indexed: &Indexed| {
            indexed.arrangements.iter().any(|key| {
                lookup_keys(&indexed.block, key, &indexed.types, KeyForm::Arranged).is_some()
            })
        };
        let inputs = self.indexed.iter().enumerate();
        inputs
            .filter(|(_, i)| i.as_ref().is_some_and(is_lookup))
            .map(|(i, _)| i)
            .collect()
    }

    /// The inputs read through existing arrangements, and the order.
    fn linear(&self) -> (Vec<bool>, JoinImplementation) {
        let all: Vec<usize> = (0..self.graph.len()).collect();
        let looked_up = self.looked_up();
        let starts = if looked_up.is_empty() {
            &all
        } else {
            &looked_up
        };
        let order = self
            .graph
            .order(starts, &|i, set| self.existing_key(i, set).is_some());
        let steps = self.steps(&order);
        let mut lifted = vec![false; self.graph.len()];
        steps
            .iter()
            .filter(|s| s.existing)
            .for_each(|s| lifted[s.input] = true);
        let keys = steps.into_iter().map(|s| (s.input, s.key)).collect();
        (
            lifted,
            JoinImplementation::Linear {
                start: order[0],
                order: keys,
            },
        )
    }

    /// A path per input through existing arrangements only. Not where an index gives the few rows to start with: the paths of the other
    /// inputs would read all of theirs.
    fn delta(&self) -> Option<Vec<Vec<Step>>> {
        if self.graph.len() < 2 || !self.looked_up().is_empty() {
            return None;
        }
        (0..self.graph.len())
            .map(|start| {
                self.indexed[start].as_ref()?;
                let order = self
                    .graph
                    .greedy_from(start, &|i, set| self.existing_key(i, set).is_some())?;
                Some(self.steps(&order))
            })
            .collect()
    }

    /// The steps after the first input of the order.
    fn steps(&self, order: &[usize]) -> Vec<Step> {
        let mut set = 1u64 << order[0];
        order[1..]
            .iter()
            .map(|i| {
                let step = self.step(*i, set);
                set |= 1 << i;
                step
            })
            .collect()
    }
}

fn implement(
    block: Block,
    inputs: Vec<Mir>,
    equivalences: Vec<Vec<ScalarExpr>>,
    arrangements: Arrangements<'_>,
) -> Mir {
    let equivalences = merge(equivalences);
    let graph = JoinGraph::new(&inputs, &equivalences);
    let indexed = inputs
        .iter()
        .map(|input| Indexed::of(input, arrangements))
        .collect();
    let problem = Problem { graph, indexed };
    let (lifted, implementation) = match problem.delta() {
        Some(paths) => {
            let keyed = |path: Vec<Step>| path.into_iter().map(|s| (s.input, s.key)).collect();
            let paths = paths.into_iter().map(keyed).collect();
            (
                vec![true; inputs.len()],
                JoinImplementation::Delta { paths },
            )
        }
        None => problem.linear(),
    };
    rebuild(
        block,
        inputs,
        equivalences,
        &problem,
        &lifted,
        implementation,
    )
}

/// The join over the inputs as they are read: relations with an arrangement bare, others as they were.
fn rebuild(
    block: Block,
    inputs: Vec<Mir>,
    equivalences: Vec<Vec<ScalarExpr>>,
    problem: &Problem,
    lifted: &[bool],
    implementation: JoinImplementation,
) -> Mir {
    let mut columns: Vec<ScalarExpr> = vec![];
    let mut predicates = vec![];
    let mut new_inputs = vec![];
    let mut arity = 0;
    for (i, input) in inputs.into_iter().enumerate() {
        let keys = keys_of(i, &implementation);
        let shift = |e: ScalarExpr| {
            let mut e = e;
            e.permute(&|c| c + arity);
            e
        };
        let source = match &problem.indexed[i] {
            Some(indexed) if lifted[i] => {
                let block = &indexed.block;
                columns.extend(
                    (0..block.projection.len())
                        .filter_map(|o| block.output(o))
                        .map(shift),
                );
                predicates.extend(
                    block
                        .predicates
                        .iter()
                        .filter_map(|p| block.inlined(p))
                        .map(shift),
                );
                indexed.get()
            }
            Some(_) | None => {
                columns.extend((0..input.arity()).map(|c| ScalarExpr::Column(c + arity)));
                input
            }
        };
        arity += source.arity();
        new_inputs.push(if keys.is_empty() {
            source
        } else {
            Mir::ArrangeBy {
                input: boxed(source),
                keys,
            }
        });
    }
    let mut equivalences = equivalences;
    equivalences
        .iter_mut()
        .flatten()
        .for_each(|e| expr::substitute(e, &|c| columns[c].clone()));
    let join = Mir::Join {
        inputs: new_inputs,
        // Two columns may have come from one column of an indexed relation.
        equivalences: merge(equivalences),
        implementation,
    };
    let mut over = Block::identity(arity);
    over.filter(predicates);
    let width = columns.len();
    over.map(columns);
    over.project(&(arity..arity + width).collect::<Vec<_>>());
    let mut all = over.then(block);
    all.normalize();
    all.into_mir(join)
}

/// The keys that the implementation looks input `i` up by; a delta path's source needs an arrangement too.
fn keys_of(i: usize, implementation: &JoinImplementation) -> Vec<Vec<ScalarExpr>> {
    let steps: Vec<&(usize, Vec<ScalarExpr>)> = match implementation {
        JoinImplementation::Unimplemented => vec![],
        JoinImplementation::Linear { order, .. } => order.iter().collect(),
        JoinImplementation::Delta { paths } => paths.iter().flatten().collect(),
    };
    let mut keys: Vec<Vec<ScalarExpr>> = vec![];
    for (input, key) in steps {
        if *input == i && !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    keys
}
