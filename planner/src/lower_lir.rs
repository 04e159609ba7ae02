//! From the relational language to the physical one.
//!
//! Chains of Map, Filter and Project become one block, attached to the operator below: to the import of a source, to the stages of a
//! join, to the output of a reduction. Keys are made canonical where equal values can have different bytes, so that operators compare
//! bytes only. What is imported is collected on the way.

mod join;
#[cfg(test)]
pub(crate) mod reference;
mod share;
mod sources;
#[cfg(test)]
mod tests;

use crate::PlanError;
use crate::optimize::extract::{KeyForm, lookup_keys};
use crate::optimize::lookup::LookupKeys;
use crate::transform::block::Block;
use plan::lir::{IndexImport, Node, ReducePlan, SourceImport, TopKPlan};
use plan::mir::Id;
use plan::scalar::EvalCtx;
use plan::{AggregateExpr, Func, Mfp, Mir, ScalarExpr};
use repr::{ColumnType, Datum, GlobalId, Row, SqlType};
use std::collections::BTreeMap;

pub(crate) use sources::children_mut;

/// What can be read where the dataflow will run.
pub trait Imports {
    /// Exported arrangements of a relation: (export, key over its columns).
    fn arrangements(&self, id: GlobalId) -> Vec<(GlobalId, Vec<ScalarExpr>)>;

    /// The shard of a durable relation and the types of its columns.
    fn source(&self, id: GlobalId) -> Option<(repr::ShardId, Vec<ColumnType>)>;
}

/// A plan's operators with all that they read.
#[derive(Debug)]
pub struct Lowered {
    pub node: Node,
    pub sources: BTreeMap<GlobalId, SourceImport>,
    pub indexes: BTreeMap<GlobalId, IndexImport>,
    /// Lookups whose keys are known when parameters are. In the plan a row with one column more than the key stands for them.
    pub late: Vec<LookupKeys>,
}

/// Lowers a plan whose joins have been implemented.
///
/// # Errors
/// If `mz_now()` is used where it cannot be maintained, or a relation cannot be read here.
pub fn lower(mir: Mir, imports: &dyn Imports, time: Time) -> Result<Lowered, PlanError> {
    let mut lowering = Lowering {
        imports,
        time,
        sources: BTreeMap::new(),
        indexes: BTreeMap::new(),
        late: vec![],
    };
    let mut node = lowering.lower(mir)?;
    let Lowering {
        mut sources,
        indexes,
        late,
        ..
    } = lowering;
    sources::push_into_imports(&mut node, &mut sources, &indexes);
    let node = share::share_arrangements(node);
    Ok(Lowered {
        node,
        sources,
        indexes,
        late,
    })
}

/// Stands for the keys of late lookup `n` in a plan that waits for its parameters: no key has so many columns.
pub(crate) fn late_row(n: usize, key_width: usize) -> Row {
    let nulls = std::iter::repeat_n(Datum::Null, key_width);
    Row::pack(std::iter::once(Datum::Int64(n as i64)).chain(nulls))
}

/// The late lookup that these rows stand for.
pub(crate) fn late_lookup(rows: &[Row], key_width: usize) -> Option<usize> {
    let [row] = rows else { return None };
    match row.iter().next() {
        Some(Datum::Int64(n)) if row.arity() == key_width + 1 => usize::try_from(n).ok(),
        _ => None,
    }
}

/// The key, such that equal values have equal bytes, whatever their type's modifier: what lookups and joins compare.
pub fn canonical_key(key: &[ScalarExpr], types: &[ColumnType]) -> Vec<ScalarExpr> {
    key.iter()
        .map(|e| match canonical_as(&e.typ(types).ty) {
            Some(ty) => canonical(e.clone(), ty),
            None => e.clone(),
        })
        .collect()
}

/// The type to make values canonical with before their bytes are compared with values of the same base type; `None` if equal values
/// are identical. Numerics of different scales are equal to each other, and so are texts padded to different lengths.
pub(crate) fn canonical_as(ty: &SqlType) -> Option<SqlType> {
    let ty = ty.without_typmod();
    ty.needs_key_canonical().then_some(ty)
}

pub(crate) fn canonical(e: ScalarExpr, ty: SqlType) -> ScalarExpr {
    match &e {
        ScalarExpr::Call { func, .. } if func.is("key_canonical") => e,
        _ => ScalarExpr::call(Func::get("key_canonical"), vec![e], ty),
    }
}

/// What `mz_now()` means in the dataflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// The one time of a query, put in when it is known.
    Fixed,
    /// Every time: conditions on it become temporal filters.
    Moving,
}

/// A block ready to run: common subexpressions shared, time conditions set apart.
pub(crate) fn finished(mut mfp: Mfp, time: Time) -> Result<Mfp, PlanError> {
    mfp.optimize();
    match time {
        Time::Fixed => {}
        Time::Moving => mfp.extract_temporal().map_err(PlanError::from_eval)?,
    }
    Ok(mfp)
}

/// The block as the engine runs it.
pub fn to_mfp(block: Block) -> Mfp {
    let Block {
        input_arity,
        scalars,
        predicates,
        projection,
    } = block;
    Mfp::identity(input_arity)
        .map(scalars)
        .filter(predicates)
        .project(projection)
}

pub(crate) struct Lowering<'a> {
    imports: &'a dyn Imports,
    time: Time,
    sources: BTreeMap<GlobalId, SourceImport>,
    indexes: BTreeMap<GlobalId, IndexImport>,
    late: Vec<LookupKeys>,
}

impl Lowering<'_> {
    pub(crate) fn lower(&mut self, mir: Mir) -> Result<Node, PlanError> {
        let (block, inner) = Block::extract(mir);
        self.lower_through(block, inner)
    }

    fn lower_through(&mut self, block: Block, inner: Mir) -> Result<Node, PlanError> {
        match inner {
            Mir::Get {
                id: Id::Global(id),
                types,
                ..
            } => self.lower_get(block, id, types),
            Mir::Let { id, value, body } => {
                let value = Box::new(self.lower(*value)?);
                let (inner_block, body) = Block::extract(*body);
                let body = Box::new(self.lower_through(inner_block.then(block), body)?);
                Ok(Node::Let { id, value, body })
            }
            Mir::FlatMap {
                input,
                func,
                args,
                types: _,
            } => {
                let input = Box::new(self.lower(*input)?);
                Ok(Node::FlatMap {
                    input,
                    func,
                    args,
                    mfp: finished(to_mfp(block), self.time)?,
                })
            }
            Mir::Join {
                inputs,
                equivalences,
                implementation,
            } => self.lower_join(block, inputs, equivalences, implementation),
            Mir::Reduce {
                input,
                group_key,
                aggregates,
            } => self.lower_reduce(block, *input, group_key, aggregates),
            Mir::Constant { rows, .. } => self.through(block, Node::Constant { rows }),
            Mir::Get { id, .. } => self.through(block, Node::Get { id }),
            Mir::TopK {
                input,
                group_key,
                order_key,
                limit,
                offset,
            } => {
                let plan = TopKPlan {
                    arity: input.arity(),
                    group_key,
                    order_key,
                    limit,
                    offset,
                };
                let input = Box::new(self.lower(*input)?);
                self.through(block, Node::TopK { input, plan })
            }
            Mir::Negate { input } => {
                let (inner_block, input) = Block::extract(*input);
                let input = Box::new(self.lower_through(inner_block.then(block), input)?);
                Ok(Node::Negate { input })
            }
            Mir::Threshold { input } => {
                let arity = input.arity();
                let input = Box::new(self.lower(*input)?);
                self.through(block, Node::Threshold { input, arity })
            }
            Mir::Union { inputs } => {
                let inputs = inputs
                    .into_iter()
                    .map(|input| self.lower(input))
                    .collect::<Result<_, _>>()?;
                self.through(block, Node::Union { inputs })
            }
            Mir::ArrangeBy { input, keys } => {
                let node = self.lower_arranged(*input, keys)?;
                self.through(block, node)
            }
            Mir::Map { .. } | Mir::Filter { .. } | Mir::Project { .. } => Err(PlanError::new(
                "XX000",
                "a map, filter or project is left below an extracted block",
            )),
        }
    }

    fn lower_get(
        &mut self,
        mut block: Block,
        id: GlobalId,
        types: Vec<ColumnType>,
    ) -> Result<Node, PlanError> {
        block.normalize();
        let arrangements = self.imports.arrangements(id);
        for (export, key) in &arrangements {
            let Some((keys, rest)) = lookup_keys(&block, key, &types, KeyForm::Arranged) else {
                continue;
            };
            let Some(rows) = self.lookup_rows(keys, key.len()) else {
                continue;
            };
            let key = self.import_index(*export, id, key, &types);
            let mfp = finished(to_mfp(rest), self.time)?;
            return Ok(Node::GetArrangement {
                id: Id::Global(id),
                key,
                lookup: Some(rows),
                mfp,
            });
        }
        if self.import_source(id) {
            return self.through(block, Node::Get { id: Id::Global(id) });
        }
        let Some((export, key)) = arrangements.first() else {
            return Err(PlanError::new(
                "55000",
                format!("relation {id} cannot be read in this cluster"),
            )
            .with_hint("System relations cannot be part of a maintained query."));
        };
        let key = self.import_index(*export, id, key, &types);
        Ok(Node::GetArrangement {
            id: Id::Global(id),
            key,
            lookup: None,
            mfp: finished(to_mfp(block), self.time)?,
        })
    }

    /// The keys of a lookup; where they depend on parameters, a row that stands for them ([`late_row`]).
    fn lookup_rows(&mut self, keys: LookupKeys, width: usize) -> Option<Vec<Row>> {
        if !keys.has_params() {
            // Where evaluation fails, reading all rows will raise the error.
            return keys.bind(&[], &EvalCtx::default()).ok();
        }
        if self.time == Time::Moving {
            return None;
        }
        let n = self
            .late
            .iter()
            .position(|late| *late == keys)
            .unwrap_or(self.late.len());
        if n == self.late.len() {
            self.late.push(keys);
        }
        Some(vec![late_row(n, width)])
    }

    /// The node, through the block if that does anything.
    fn through(&self, block: Block, node: Node) -> Result<Node, PlanError> {
        let mfp = finished(to_mfp(block), self.time)?;
        Ok(if mfp.is_identity() {
            node
        } else {
            Node::Mfp {
                input: Box::new(node),
                mfp,
            }
        })
    }

    /// Imports a table or a source, whole for now; whether there is one.
    fn import_source(&mut self, id: GlobalId) -> bool {
        let Some((shard, types)) = self.imports.source(id) else {
            return false;
        };
        let mfp = Mfp::identity(types.len());
        self.sources
            .entry(id)
            .or_insert(SourceImport { shard, types, mfp });
        true
    }

    /// Imports an arrangement; its key as the engine knows it.
    fn import_index(
        &mut self,
        export: GlobalId,
        on: GlobalId,
        key: &[ScalarExpr],
        types: &[ColumnType],
    ) -> Vec<ScalarExpr> {
        let key = canonical_key(key, types);
        let import = IndexImport {
            on,
            key: key.clone(),
            types: types.to_vec(),
        };
        self.indexes.insert(export, import);
        key
    }

    /// A collection arranged by canonical keys; arrangements that exist are imported.
    pub(crate) fn lower_arranged(
        &mut self,
        input: Mir,
        keys: Vec<Vec<ScalarExpr>>,
    ) -> Result<Node, PlanError> {
        let arity = input.arity();
        let types = input.types();
        if let Mir::Get {
            id: Id::Global(id), ..
        } = input
        {
            let existing = self.imports.arrangements(id);
            let mut missing = false;
            for key in &keys {
                match existing
                    .iter()
                    .find(|(_, k)| canonical_key(k, &types) == *key)
                {
                    Some((export, k)) => {
                        self.import_index(*export, id, k, &types);
                    }
                    None => missing = true,
                }
            }
            if missing && !self.import_source(id) {
                let node = self.lower_get(Block::identity(arity), id, types)?;
                return Ok(Node::ArrangeBy {
                    input: Box::new(node),
                    keys,
                    arity,
                });
            }
            let input = Box::new(Node::Get { id: Id::Global(id) });
            return Ok(Node::ArrangeBy { input, keys, arity });
        }
        let input = Box::new(self.lower(input)?);
        Ok(Node::ArrangeBy { input, keys, arity })
    }

    /// Arguments and keys are computed below, where the row is in hand anyway; the reduction then reads plain columns.
    fn lower_reduce(
        &mut self,
        block: Block,
        input: Mir,
        group_key: Vec<ScalarExpr>,
        aggregates: Vec<AggregateExpr>,
    ) -> Result<Node, PlanError> {
        let types = input.types();
        let mut below = Below {
            arity: input.arity(),
            scalars: vec![],
            outputs: vec![],
        };
        let group_key: Vec<ScalarExpr> = group_key
            .into_iter()
            .map(|key| {
                let ty = key.typ(&types).ty;
                let key = if ty.needs_key_canonical() {
                    canonical(key, ty)
                } else {
                    key
                };
                below.place(key)
            })
            .collect();
        let aggregates: Vec<AggregateExpr> = aggregates
            .into_iter()
            .map(|a| AggregateExpr {
                expr: below.place(a.expr),
                ..a
            })
            .collect();
        let (mut inner_block, inner) = Block::extract(input);
        inner_block.map(below.scalars);
        inner_block.project(&below.outputs);
        let node = self.lower_through(inner_block, inner)?;
        let mfp = finished(to_mfp(block), self.time)?;
        let width = group_key.len() + aggregates.len();
        let (mfp, rest) = if mfp.temporal.is_empty() {
            (mfp, None)
        } else {
            (Mfp::identity(width), Some(mfp))
        };
        let plan = ReducePlan {
            input_arity: below.outputs.len(),
            group_key,
            aggregates,
            mfp,
        };
        let reduce = Node::Reduce {
            input: Box::new(node),
            plan,
        };
        Ok(match rest {
            Some(mfp) => Node::Mfp {
                input: Box::new(reduce),
                mfp,
            },
            None => reduce,
        })
    }
}

/// The columns that a reduction's input must have.
struct Below {
    arity: usize,
    scalars: Vec<ScalarExpr>,
    outputs: Vec<usize>,
}

impl Below {
    /// The expression over the reduction's input.
    fn place(&mut self, e: ScalarExpr) -> ScalarExpr {
        let column = match e {
            ScalarExpr::Literal(..) | ScalarExpr::Param(..) => return e,
            ScalarExpr::Column(c) => c,
            computed => match self.scalars.iter().position(|s| *s == computed) {
                Some(i) => self.arity + i,
                None => {
                    self.scalars.push(computed);
                    self.arity + self.scalars.len() - 1
                }
            },
        };
        let place = self
            .outputs
            .iter()
            .position(|o| *o == column)
            .unwrap_or_else(|| {
                self.outputs.push(column);
                self.outputs.len() - 1
            });
        ScalarExpr::Column(place)
    }
}
