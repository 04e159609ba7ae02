//! Lowers joins: the order is given, here it is decided what each stage checks, computes and keeps.

use crate::PlanError;
use crate::lower_lir::{Lowering, Time, canonical, canonical_as, finished, to_mfp};
use crate::transform::block::Block;
use crate::transform::equivalences::{input_of, offsets};
use crate::transform::expr;
use plan::lir::{DeltaPath, JoinPlan, JoinStage, Node};
use plan::mir::JoinImplementation;
use plan::{Mfp, Mir, ScalarExpr};
use repr::{ColumnType, SqlType};
use std::collections::{BTreeMap, BTreeSet};

/// Inputs and the key that each is looked up by, over the input's columns.
type Order = [(usize, Vec<ScalarExpr>)];

impl Lowering<'_> {
    pub(crate) fn lower_join(
        &mut self,
        block: Block,
        inputs: Vec<Mir>,
        equivalences: Vec<Vec<ScalarExpr>>,
        implementation: JoinImplementation,
    ) -> Result<Node, PlanError> {
        let shape = Shape::new(&inputs, equivalences);
        let plan = match implementation {
            JoinImplementation::Unimplemented => {
                return Err(PlanError::new(
                    "54000",
                    "a query can join at most 60 relations at once",
                ));
            }
            JoinImplementation::Linear { start, order } => {
                let arranged = matches!(inputs[start], Mir::ArrangeBy { .. });
                let (initial, stages) = shape.path(start, &order, &block, arranged, self.time)?;
                JoinPlan::Linear {
                    start,
                    initial,
                    stages,
                }
            }
            JoinImplementation::Delta { paths } => {
                let mut lowered = vec![];
                for (source, order) in paths.iter().enumerate() {
                    let (initial, stages) = shape.path(source, order, &block, false, self.time)?;
                    let source_key = shape.any_key(source, &paths)?;
                    lowered.push(DeltaPath {
                        source,
                        source_key,
                        initial,
                        stages,
                    });
                }
                JoinPlan::Delta { paths: lowered }
            }
        };
        let mut nodes = vec![];
        for (i, input) in inputs.into_iter().enumerate() {
            nodes.push(match input {
                Mir::ArrangeBy { input, keys } => {
                    let keys = keys.iter().map(|key| shape.lookup_key(i, key)).collect();
                    self.lower_arranged(*input, keys)?
                }
                other => self.lower(other)?,
            });
        }
        Ok(Node::Join {
            inputs: nodes,
            plan,
        })
    }
}

/// The columns and equalities of a join.
struct Shape {
    offsets: Vec<usize>,
    arities: Vec<usize>,
    types: Vec<ColumnType>,
    classes: Vec<Vec<ScalarExpr>>,
    /// The type of each class's members, if equal values of them can have different bytes.
    canonical: Vec<Option<SqlType>>,
}

/// What happens when one more input has come in.
struct Arrival {
    /// Conditions that can be checked now, over the join's columns.
    predicates: Vec<ScalarExpr>,
    /// Over the join's columns, what the stream is looked up by.
    stream_key: Vec<ScalarExpr>,
}

/// Progress along a path.
struct Progress {
    set: u64,
    /// The first member of each class that became available.
    representatives: Vec<Option<ScalarExpr>>,
    /// Columns that arrived equal, byte for byte, to one that the stream has.
    alias: BTreeMap<usize, usize>,
    pending: Vec<ScalarExpr>,
}

impl Shape {
    fn new(inputs: &[Mir], classes: Vec<Vec<ScalarExpr>>) -> Self {
        let types: Vec<ColumnType> = inputs.iter().flat_map(Mir::types).collect();
        let canonical = classes
            .iter()
            .map(|class| canonical_type(class, &types))
            .collect();
        Shape {
            offsets: offsets(inputs),
            arities: inputs.iter().map(Mir::arity).collect(),
            types,
            classes,
            canonical,
        }
    }

    fn is_available(&self, e: &ScalarExpr, set: u64) -> bool {
        e.support()
            .iter()
            .all(|c| set & (1 << input_of(&self.offsets, *c)) != 0)
    }

    fn globalized(&self, i: usize, e: &ScalarExpr) -> ScalarExpr {
        let mut e = e.clone();
        e.permute(&|c| c + self.offsets[i]);
        e
    }

    fn class_of(&self, e: &ScalarExpr) -> Option<usize> {
        self.classes.iter().position(|class| class.contains(e))
    }

    /// The key of input `i` as it is arranged.
    fn lookup_key(&self, i: usize, key: &[ScalarExpr]) -> Vec<ScalarExpr> {
        key.iter()
            .map(|e| {
                match self
                    .class_of(&self.globalized(i, e))
                    .and_then(|class| self.canonical[class].clone())
                {
                    Some(ty) => canonical(e.clone(), ty),
                    None => e.clone(),
                }
            })
            .collect()
    }

    fn any_key(
        &self,
        source: usize,
        paths: &[Vec<(usize, Vec<ScalarExpr>)>],
    ) -> Result<Vec<ScalarExpr>, PlanError> {
        let step = paths.iter().flatten().find(|(input, _)| *input == source);
        let (_, key) = step.ok_or_else(|| {
            PlanError::new("XX000", "an input of a delta join has no arrangement")
        })?;
        Ok(self.lookup_key(source, key))
    }

    /// The block for the first input and the stages after it.
    fn path(
        &self,
        start: usize,
        order: &Order,
        block: &Block,
        arranged: bool,
        time: Time,
    ) -> Result<(Mfp, Vec<JoinStage>), PlanError> {
        let (block, pending) = split_block(block);
        let mut progress = Progress {
            set: 0,
            representatives: vec![None; self.classes.len()],
            alias: BTreeMap::new(),
            pending,
        };
        let mut arrivals = vec![self.arrive(&mut progress, start, &[])?];
        for (input, key) in order {
            arrivals.push(self.arrive(&mut progress, *input, key)?);
        }
        if arranged && arrivals.len() > 1 {
            // The arrangement is read as it is; the first stage checks what the start could have checked.
            let early = std::mem::take(&mut arrivals[0].predicates);
            arrivals[1].predicates.splice(0..0, early);
        }
        let lookup_keys = order
            .iter()
            .map(|(input, key)| self.lookup_key(*input, key))
            .collect();
        let order: Vec<usize> = std::iter::once(start)
            .chain(order.iter().map(|(i, _)| *i))
            .collect();
        let kept = self.kept_columns(&order, &arrivals, &block, &progress.alias, arranged);
        let path = Path {
            order,
            lookup_keys,
            kept,
            alias: progress.alias,
            block,
            time,
        };
        self.stages(&path, arrivals)
    }

    fn arrive(
        &self,
        progress: &mut Progress,
        input: usize,
        key: &[ScalarExpr],
    ) -> Result<Arrival, PlanError> {
        let before = progress.set;
        let after = before | (1 << input);
        let mut arrival = Arrival {
            predicates: vec![],
            stream_key: vec![],
        };
        let mut by_key = BTreeSet::new();
        for e in key {
            let member = self.globalized(input, e);
            let class = self.class_of(&member);
            let found =
                class.and_then(|class| Some((class, progress.representatives[class].clone()?)));
            let Some((class, stream)) = found else {
                return Err(PlanError::new(
                    "XX000",
                    "a join key is not equated with anything joined before",
                ));
            };
            if let (ScalarExpr::Column(new), ScalarExpr::Column(old), None) =
                (&member, &stream, &self.canonical[class])
            {
                progress.alias.insert(*new, *old);
            }
            by_key.insert(member);
            arrival.stream_key.push(match &self.canonical[class] {
                Some(ty) => canonical(stream, ty.clone()),
                None => stream,
            });
        }
        for (c, class) in self.classes.iter().enumerate() {
            for member in class {
                let fresh = self.is_available(member, after)
                    && (before == 0 || !self.is_available(member, before));
                if !fresh || by_key.contains(member) {
                    continue;
                }
                match &progress.representatives[c] {
                    Some(known) => arrival.predicates.push(expr::eq(
                        known.clone(),
                        member.clone(),
                        &member.typ(&self.types).ty,
                    )),
                    None => {
                        progress.representatives[c] = Some(member.clone());
                        if class.len() == 1 {
                            arrival.predicates.push(expr::is_not_null(member.clone()));
                        }
                    }
                }
            }
        }
        progress.set = after;
        let (ready, pending) = std::mem::take(&mut progress.pending)
            .into_iter()
            .partition(|p| self.is_available(p, after));
        progress.pending = pending;
        arrival.predicates.extend::<Vec<_>>(ready);
        Ok(arrival)
    }

    /// The columns that the stream has after each arrival, ascending; after the last one nothing is said here.
    fn kept_columns(
        &self,
        order: &[usize],
        arrivals: &[Arrival],
        block: &Block,
        alias: &BTreeMap<usize, usize>,
        arranged: bool,
    ) -> Vec<Vec<usize>> {
        let mut needed: BTreeSet<usize> = to_mfp(block.clone()).demand();
        let mut kept = vec![vec![]; order.len()];
        for n in (1..order.len()).rev() {
            let arriving = self.columns_of(order[n]);
            let uses = arrivals[n].predicates.iter().chain(&arrivals[n].stream_key);
            uses.for_each(|e| e.support_into(&mut needed));
            // What arrives equal to a column of the stream is read from there.
            let before: BTreeSet<usize> = needed
                .iter()
                .map(|c| alias.get(c).copied().unwrap_or(*c))
                .filter(|c| !arriving.contains(c))
                .collect();
            needed = before;
            let set = order[..n].iter().fold(0u64, |set, i| set | (1 << i));
            kept[n - 1] = needed
                .iter()
                .copied()
                .filter(|c| set & (1 << input_of(&self.offsets, *c)) != 0)
                .collect();
        }
        if arranged {
            kept[0] = self.columns_of(order[0]).collect();
        }
        kept
    }

    fn columns_of(&self, input: usize) -> std::ops::Range<usize> {
        self.offsets[input]..self.offsets[input] + self.arities[input]
    }

    fn stages(
        &self,
        path: &Path,
        arrivals: Vec<Arrival>,
    ) -> Result<(Mfp, Vec<JoinStage>), PlanError> {
        let last = path.order.len() - 1;
        let none = BTreeSet::new();
        let mut initial = Mfp::identity(self.arities[path.order[0]]);
        let mut layout: Vec<usize> = self.columns_of(path.order[0]).collect();
        let mut stages = vec![];
        for (n, arrival) in arrivals.into_iter().enumerate() {
            let keep = (n < last).then_some(&path.kept[n]);
            if n == 0 {
                initial = path.closure(&layout, arrival.predicates, keep, &none)?;
            } else {
                let lookup = path.order[n];
                let stream_arity = layout.len();
                let stream_key = arrival
                    .stream_key
                    .iter()
                    .map(|e| path.placed(e, &layout, &none))
                    .collect::<Result<_, _>>()?;
                layout.extend(self.columns_of(lookup));
                let arriving: BTreeSet<usize> = self.columns_of(lookup).collect();
                let closure = path.closure(&layout, arrival.predicates, keep, &arriving)?;
                let lookup_key = path.lookup_keys[n - 1].clone();
                let lookup_arity = self.arities[lookup];
                stages.push(JoinStage {
                    lookup,
                    lookup_arity,
                    lookup_key,
                    stream_key,
                    stream_arity,
                    closure,
                });
            }
            layout.clone_from(&path.kept[n]);
        }
        Ok((initial, stages))
    }
}

/// One path through the inputs, with what the stream carries.
struct Path {
    order: Vec<usize>,
    /// One per input after the first.
    lookup_keys: Vec<Vec<ScalarExpr>>,
    /// The join's columns that the stream has after each input but the last.
    kept: Vec<Vec<usize>>,
    alias: BTreeMap<usize, usize>,
    /// What is computed from the joined row.
    block: Block,
    time: Time,
}

impl Path {
    /// Checks the predicates, then keeps some columns, or computes the join's output.
    fn closure(
        &self,
        layout: &[usize],
        predicates: Vec<ScalarExpr>,
        keep: Option<&Vec<usize>>,
        arriving: &BTreeSet<usize>,
    ) -> Result<Mfp, PlanError> {
        let none = BTreeSet::new();
        let predicates = predicates
            .iter()
            .map(|p| self.placed(p, layout, arriving))
            .collect::<Result<Vec<_>, _>>()?;
        let mfp = Mfp::identity(layout.len()).filter(predicates);
        let mfp = match keep {
            Some(columns) => mfp.project(
                columns
                    .iter()
                    .map(|c| self.place(*c, layout, &none))
                    .collect::<Result<Vec<_>, _>>()?,
            ),
            None => {
                let mut output = to_mfp(self.block.clone());
                let places = self.places(output.demand(), layout, &none)?;
                output.permute_input(&|c| places.get(&c).copied().unwrap_or(0), layout.len());
                mfp.compose(output)
            }
        };
        finished(mfp, self.time)
    }

    /// Where the stream has a column of the join; columns in `direct` are read where they arrive.
    fn place(
        &self,
        c: usize,
        layout: &[usize],
        direct: &BTreeSet<usize>,
    ) -> Result<usize, PlanError> {
        let resolved = if direct.contains(&c) {
            c
        } else {
            self.alias.get(&c).copied().unwrap_or(c)
        };
        let found = layout.iter().position(|l| *l == resolved);
        found.ok_or_else(|| PlanError::new("XX000", format!("column {c} of a join is not kept")))
    }

    fn places(
        &self,
        columns: BTreeSet<usize>,
        layout: &[usize],
        direct: &BTreeSet<usize>,
    ) -> Result<BTreeMap<usize, usize>, PlanError> {
        columns
            .into_iter()
            .map(|c| Ok((c, self.place(c, layout, direct)?)))
            .collect()
    }

    /// The expression over the stream's columns.
    fn placed(
        &self,
        e: &ScalarExpr,
        layout: &[usize],
        direct: &BTreeSet<usize>,
    ) -> Result<ScalarExpr, PlanError> {
        let places = self.places(e.support(), layout, direct)?;
        let mut e = e.clone();
        e.permute(&|c| places[&c]);
        Ok(e)
    }
}

/// The type to make keys of the class canonical with, if that is needed.
fn canonical_type(class: &[ScalarExpr], types: &[ColumnType]) -> Option<SqlType> {
    class.iter().find_map(|e| canonical_as(&e.typ(types).ty))
}

/// Takes the predicates out of the block where they can be written over the join's columns.
fn split_block(block: &Block) -> (Block, Vec<ScalarExpr>) {
    let mut block = block.clone();
    block.normalize();
    let (mut early, mut late) = (vec![], vec![]);
    for predicate in std::mem::take(&mut block.predicates) {
        match block.inlined(&predicate) {
            // Conditions on the time are checked where the join ends.
            Some(inlined) if !inlined.contains_mz_now() => early.push(inlined),
            Some(_) | None => late.push(predicate),
        }
    }
    block.predicates = late;
    block.normalize();
    (block, early)
}
