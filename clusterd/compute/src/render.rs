//! From the plan of a dataflow to timely operators.
//!
//! Every node becomes a [`Bundle`]: its rows as a stream, or arrangements of them, or both, and the errors met on the way. Rendering depends on
//! nothing but the plan, so that all workers build the same operators in the same order.

pub mod accum;
pub mod arrange;
pub mod delay;
pub mod flat_map;
pub mod groups;
pub mod half_join;
pub mod join;
pub mod ok_err;
pub mod reduce;
pub mod row_mfp;
pub mod source;
pub mod subscribe;
pub mod threshold;
pub mod top_k;

use crate::footprint::Footprint;
use crate::traces::{TraceEntry, TraceManager};
use crate::types::*;
use arrange::{Arrangement, arrange, arrange_errors, arrange_keyed, flatten};
use differential_dataflow::operators::arrange::ShutdownButton;
use differential_dataflow::trace::TraceReader;
use ok_err::{Changes, stateless, union};
use plan::lir::{Dataflow, Export, ExportKind, IndexImport, KeyValPermutation, Node, SourceImport};
use plan::mir::Id;
use plan::{EvalError, Mfp, ScalarExpr};
use repr::{Diff, GlobalId, Row, ShardId};
use row_mfp::RowMfp;
use source::{KeyedRowMfp, SourceInput, SourcePort, count_uses, import_below};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use subscribe::SubscribeSink;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::core::input::Input;
use timely::dataflow::operators::vec::Broadcast;
use timely::dataflow::operators::{CapabilitySet, ToStream};
use timely::progress::Antichain;
use timely::worker::Worker;

/// Why a plan cannot be built here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    #[error("the plan reads an arrangement that it does not make")]
    MissingArrangement,
    #[error("the plan reads {0:?}, which is not bound")]
    Unbound(Id),
    #[error("index {0} does not run here")]
    UnknownIndex(GlobalId),
    #[error("index {index} is readable from {since} on, not at {as_of}")]
    IndexNotReadable { index: GlobalId, since: T, as_of: T },
}

/// One node's output.
#[derive(Clone)]
pub struct Bundle<'s> {
    pub rows: Option<Rows<'s>>,
    pub arrangements: Vec<Arrangement<'s>>,
    pub errs: Rows<'s>,
}

impl<'s> Bundle<'s> {
    pub fn from_rows(rows: Rows<'s>, errs: Rows<'s>) -> Self {
        Bundle {
            rows: Some(rows),
            arrangements: vec![],
            errs,
        }
    }

    /// The arrangement by exactly this key.
    pub fn arrangement(&self, key: &[ScalarExpr]) -> Option<&Arrangement<'s>> {
        self.arrangements.iter().find(|a| a.split.key == key)
    }
}

/// What rendering of one dataflow carries along.
pub struct Context<'s> {
    pub scope: ScopeT<'s>,
    pub as_of: T,
    pub footprint: Footprint,
    /// Set when the dataflow is dropped: operators that hold back data may forget it.
    dropped: Rc<Cell<bool>>,
    bindings: BTreeMap<Id, Bundle<'s>>,
    /// Imports that nothing has read yet.
    unread: BTreeMap<GlobalId, SourceImport>,
    uses: BTreeMap<GlobalId, usize>,
    sources: Vec<SourcePort>,
    name: String,
    operators: usize,
}

/// What an export leaves outside of the dataflow.
pub enum BuiltExport {
    Index(Box<TraceEntry>),
    Subscribe(SubscribeSink),
}

/// Keeps a dataflow running; dropping it ends the dataflow.
pub struct DataflowToken {
    buttons: Vec<ShutdownButton<CapabilitySet<T>>>,
    /// Dataflows whose arrangements this one reads: they run on while it does.
    _imported: Vec<Rc<DataflowToken>>,
    dropped: Rc<Cell<bool>>,
}

impl Drop for DataflowToken {
    fn drop(&mut self) {
        self.dropped.set(true);
        for button in &mut self.buttons {
            button.press();
        }
    }
}

/// A dataflow that runs.
pub struct Built {
    pub sources: Vec<SourcePort>,
    pub exports: Vec<(GlobalId, BuiltExport)>,
    pub token: Rc<DataflowToken>,
    pub footprint: Footprint,
}

/// Builds the dataflow's operators on this worker.
///
/// # Errors
/// If the plan reads what is not there. All workers meet the same error.
pub fn build(
    worker: &mut Worker,
    traces: &mut TraceManager,
    dataflow: &Dataflow,
    as_of: T,
) -> Result<Built, RenderError> {
    traces.check_imports(dataflow, as_of)?;
    worker.dataflow_named::<T, _, _>(&format!("Dataflow: {}", dataflow.name), |scope| {
        let dropped = Rc::new(Cell::new(false));
        let mut cx = Context {
            scope,
            as_of,
            footprint: Footprint::default(),
            dropped: Rc::clone(&dropped),
            bindings: BTreeMap::new(),
            unread: dataflow.sources.clone(),
            uses: count_uses(dataflow),
            sources: vec![],
            name: dataflow.name.clone(),
            operators: 0,
        };
        let mut buttons = vec![];
        let mut imported = vec![];
        for (id, import) in &dataflow.indexes {
            let entry = traces.get_mut(*id).ok_or(RenderError::UnknownIndex(*id))?;
            imported.push(Rc::clone(&entry.token));
            cx.import_index(import, &mut entry.trace, &mut buttons);
        }
        for (id, node) in &dataflow.objects {
            let bundle = cx.render(node)?;
            cx.bindings.insert(*id, bundle);
        }
        let mut exports = vec![];
        for export in &dataflow.exports {
            exports.push((export.id, cx.export(export, dataflow.until)?));
        }
        let token = Rc::new(DataflowToken {
            buttons,
            _imported: imported,
            dropped,
        });
        Ok(Built {
            sources: cx.sources,
            exports,
            token,
            footprint: cx.footprint,
        })
    })
}

impl<'s> Context<'s> {
    /// A name for the next operators, unique within the dataflow.
    pub fn operator_name(&mut self, what: &str) -> String {
        self.operators += 1;
        format!("{}: {what} #{}", self.name, self.operators)
    }

    /// An input that starts at the dataflow's `as_of`.
    fn new_input<D: Clone + 'static>(&self) -> (SourceInput<D>, Stream<'s, T, Vec<D>>) {
        let (mut input, stream) = self.scope.new_input::<Vec<D>>();
        input.advance_to(self.as_of);
        (input, stream)
    }

    /// What is bound to the id; a table that is read for the first time enters here.
    fn bound(&mut self, id: Id) -> Result<Bundle<'s>, RenderError> {
        if let Id::Global(global) = id
            && let Some(import) = self.unread.remove(&global)
        {
            let (oks, rows) = self.new_input::<Update>();
            let (errs, err_rows) = self.new_input::<Update>();
            let rows = self.delayed(rows, &import.mfp);
            self.bind_more(id, Bundle::from_rows(rows, err_rows));
            let mfp = RowMfp::new(&import.mfp, &[import.mfp.input_arity]);
            self.sources
                .push(SourcePort::rows(import.shard, mfp, oks, errs));
        }
        self.bindings
            .get(&id)
            .cloned()
            .ok_or(RenderError::Unbound(id))
    }

    /// If the node is a table that only its consumer reads: the table's shard, and one block for import and node.
    pub fn own_import(&mut self, node: &Node) -> Option<(ShardId, Mfp)> {
        let (id, mfp) = import_below(node)?;
        let import = self
            .unread
            .get(&id)
            .filter(|i| self.uses.get(&id) == Some(&1) && i.mfp.temporal.is_empty())?;
        let block = match mfp {
            None => import.mfp.clone(),
            Some(mfp) => after(&import.mfp, mfp),
        };
        let shard = import.shard;
        self.unread.remove(&id);
        Some((shard, block))
    }

    /// A table that enters as key and value.
    pub fn keyed_source(
        &mut self,
        shard: ShardId,
        block: &Mfp,
        split: &KeyValPermutation,
        skip_null_keys: bool,
    ) -> (KeyedRows<'s>, Rows<'s>) {
        let (oks, keyed) = self.new_input::<KeyedUpdate>();
        let (errs, err_rows) = self.new_input::<Update>();
        let columns: Vec<ScalarExpr> = split
            .key
            .iter()
            .cloned()
            .chain(split.value.iter().map(|c| ScalarExpr::Column(*c)))
            .collect();
        let splitter = KeyedRowMfp::new(
            &reduce::compose(block, &columns),
            split.key.len(),
            skip_null_keys,
        );
        self.sources
            .push(SourcePort::keyed(shard, splitter, oks, errs));
        (keyed, err_rows)
    }

    fn import_index(
        &mut self,
        import: &IndexImport,
        entry: &mut TraceEntry,
        buttons: &mut Vec<ShutdownButton<CapabilitySet<T>>>,
    ) {
        let name = self.operator_name(&format!("index on {}", import.on));
        let as_of = Antichain::from_elem(self.as_of);
        let (mut oks, button) = entry.oks.import_core(self.scope, &name);
        oks.trace.set_logical_compaction(as_of.borrow());
        buttons.push(button);
        let (mut errs, button) = entry
            .errs
            .import_core(self.scope, &format!("{name} errors"));
        errs.trace.set_logical_compaction(as_of.borrow());
        buttons.push(button);
        let errs = Arrangement {
            split: Rc::clone(&entry.err_split),
            arranged: errs,
            advance: self.as_of,
        };
        // Every worker has all of them: the first one brings them in.
        let lookup: Option<&[Row]> = if self.scope.index() == 0 {
            None
        } else {
            Some(&[])
        };
        let (errs, _) = flatten(
            &errs,
            &Mfp::identity(4),
            lookup,
            &format!("{name} errors as rows"),
        );
        let arrangement = Arrangement {
            split: Rc::clone(&entry.split),
            arranged: oks,
            advance: self.as_of,
        };
        let bundle = Bundle {
            rows: None,
            arrangements: vec![arrangement],
            errs,
        };
        self.bind_more(Id::Global(import.on), bundle);
    }

    /// Adds another form of the same collection to what is bound.
    fn bind_more(&mut self, id: Id, more: Bundle<'s>) {
        let bundle = match self.bindings.remove(&id) {
            None => more,
            Some(mut bundle) => {
                bundle.rows = bundle.rows.or(more.rows);
                bundle.arrangements.extend(more.arrangements);
                bundle.errs = union(self.scope, vec![bundle.errs, more.errs]);
                bundle
            }
        };
        self.bindings.insert(id, bundle);
    }

    /// Holds back future changes where the block has temporal bounds.
    pub fn delayed(&self, rows: Rows<'s>, mfp: &Mfp) -> Rows<'s> {
        if mfp.temporal.is_empty() {
            rows
        } else {
            delay::delay(rows, Rc::clone(&self.dropped))
        }
    }

    /// The bundle's rows through a block; errors of the block are added to `errs`.
    pub fn rows_through(
        &mut self,
        bundle: &Bundle<'s>,
        mfp: &Mfp,
        what: &str,
        errs: &mut Vec<Rows<'s>>,
    ) -> Result<Rows<'s>, RenderError> {
        let name = self.operator_name(what);
        let (rows, mfp_errs) = match (&bundle.rows, bundle.arrangements.first()) {
            (Some(rows), _) if mfp.is_identity() => return Ok(rows.clone()),
            (Some(rows), _) => map_rows(rows.clone(), mfp, &name),
            (None, Some(arrangement)) => flatten(arrangement, mfp, None, &name),
            (None, None) => return Err(RenderError::MissingArrangement),
        };
        errs.push(mfp_errs);
        Ok(self.delayed(rows, mfp))
    }

    /// The node's rows as a stream, and its errors.
    fn rows(&mut self, node: &Node) -> Result<(Rows<'s>, Vec<Rows<'s>>), RenderError> {
        let (bundle, mfp) = self.render_below_mfp(node)?;
        let mut errs = vec![bundle.errs.clone()];
        let rows = match mfp {
            Some(mfp) => self.rows_through(&bundle, &mfp, "mfp", &mut errs)?,
            None => match (&bundle.rows, bundle.arrangements.first()) {
                (Some(rows), _) => rows.clone(),
                (None, Some(arrangement)) => {
                    let identity = Mfp::identity(arrangement.arity());
                    self.rows_through(&bundle, &identity, "read arrangement", &mut errs)?
                }
                (None, None) => return Err(RenderError::MissingArrangement),
            },
        };
        Ok((rows, errs))
    }

    /// Renders what lies below a block at the top of the node, and the block, for consumers that evaluate it themselves.
    fn render_below_mfp(&mut self, node: &Node) -> Result<(Bundle<'s>, Option<Mfp>), RenderError> {
        match node {
            Node::Mfp { input, mfp } => Ok((self.render(input)?, Some(mfp.clone()))),
            other => Ok((self.render(other)?, None)),
        }
    }

    pub fn render(&mut self, node: &Node) -> Result<Bundle<'s>, RenderError> {
        match node {
            Node::Constant { rows } => Ok(self.constant(rows)),
            Node::Get { id } => self.bound(*id),
            Node::GetArrangement {
                id,
                key,
                lookup,
                mfp,
            } => {
                let bundle = self.bound(*id)?;
                let arrangement = bundle
                    .arrangement(key)
                    .ok_or(RenderError::MissingArrangement)?;
                let name = self.operator_name("read arrangement");
                let (rows, errs) = flatten(arrangement, mfp, lookup.as_deref(), &name);
                let rows = self.delayed(rows, mfp);
                Ok(Bundle::from_rows(
                    rows,
                    union(self.scope, vec![bundle.errs, errs]),
                ))
            }
            Node::Let { id, value, body } => {
                let value = self.render(value)?;
                let shadowed = self.bindings.insert(Id::Local(*id), value);
                let body = self.render(body)?;
                match shadowed {
                    Some(bundle) => self.bindings.insert(Id::Local(*id), bundle),
                    None => self.bindings.remove(&Id::Local(*id)),
                };
                Ok(body)
            }
            Node::Mfp { .. } => {
                let (rows, errs) = self.rows(node)?;
                Ok(Bundle::from_rows(rows, union(self.scope, errs)))
            }
            Node::FlatMap {
                input,
                func,
                args,
                mfp,
            } => {
                let (rows, mut errs) = self.rows(input)?;
                let name = self.operator_name("table function");
                let (rows, func_errs) = flat_map::flat_map(rows, func, args, mfp, &name);
                errs.push(func_errs);
                let rows = self.delayed(rows, mfp);
                Ok(Bundle::from_rows(rows, union(self.scope, errs)))
            }
            Node::Join { inputs, plan } => join::render(self, inputs, plan),
            Node::Reduce { input, plan } => {
                let name = self.operator_name("reduce");
                let own = if reduce::adds_up(plan) {
                    self.own_import(input)
                } else {
                    None
                };
                let (rows, errs) = match own {
                    Some((shard, block)) => {
                        let (oks, summed) = self.new_input();
                        let (errs, err_rows) = self.new_input();
                        let (evaluate, sums) = reduce::local(&block, plan);
                        self.sources
                            .push(SourcePort::sums(shard, evaluate, sums, oks, errs));
                        let (rows, reduce_errs) =
                            reduce::total(summed, plan, &self.footprint, &name);
                        (rows, vec![err_rows, reduce_errs])
                    }
                    None => {
                        let (rows, mfp, mut errs) = self.rows_and_mfp(input, plan.input_arity)?;
                        let (rows, reduce_errs) =
                            reduce::reduce(rows, &mfp, plan, &self.footprint, &name);
                        errs.extend(reduce_errs);
                        (rows, errs)
                    }
                };
                let rows = self.delayed(rows, &plan.mfp);
                Ok(Bundle::from_rows(rows, union(self.scope, errs)))
            }
            Node::TopK { input, plan } => {
                let (rows, mut errs) = self.rows(input)?;
                let name = self.operator_name("top-k");
                let (rows, top_k_errs) = top_k::top_k(rows, plan, &self.footprint, &name);
                errs.extend(top_k_errs);
                Ok(Bundle::from_rows(rows, union(self.scope, errs)))
            }
            Node::Negate { input } => {
                let (rows, errs) = self.rows(input)?;
                Ok(Bundle::from_rows(
                    ok_err::negate(rows),
                    union(self.scope, errs),
                ))
            }
            Node::Threshold { input, arity: _ } => {
                let (rows, mut errs) = self.rows(input)?;
                let name = self.operator_name("threshold");
                let (rows, threshold_errs) = threshold::threshold(rows, &self.footprint, &name);
                errs.push(threshold_errs);
                Ok(Bundle::from_rows(rows, union(self.scope, errs)))
            }
            Node::Union { inputs } => {
                let (mut rows, mut errs) = (vec![], vec![]);
                for input in inputs {
                    let (input_rows, input_errs) = self.rows(input)?;
                    rows.push(input_rows);
                    errs.extend(input_errs);
                }
                Ok(Bundle::from_rows(
                    union(self.scope, rows),
                    union(self.scope, errs),
                ))
            }
            Node::ArrangeBy { input, keys, arity } => self.arrange_by(input, keys, *arity),
        }
    }

    /// The node's rows before a block at its top, and that block, unless it has to run on its own.
    fn rows_and_mfp(
        &mut self,
        node: &Node,
        arity: usize,
    ) -> Result<(Rows<'s>, Mfp, Vec<Rows<'s>>), RenderError> {
        if let Node::Mfp { input, mfp } = node
            && mfp.temporal.is_empty()
        {
            let (rows, errs) = self.rows(input)?;
            return Ok((rows, mfp.clone(), errs));
        }
        let (rows, errs) = self.rows(node)?;
        Ok((rows, Mfp::identity(arity), errs))
    }

    fn arrange_by(
        &mut self,
        input: &Node,
        keys: &[Vec<ScalarExpr>],
        arity: usize,
    ) -> Result<Bundle<'s>, RenderError> {
        if let [key] = keys
            && let Some((shard, block)) = self.own_import(input)
        {
            let name = self.operator_name("arrangement");
            let split = KeyValPermutation::new(key, arity);
            let (keyed, errs) = self.keyed_source(shard, &block, &split, false);
            let arranged = arrange_keyed(keyed, &self.footprint, &name);
            let arrangement = Arrangement {
                split: Rc::new(split),
                arranged,
                advance: 0,
            };
            return Ok(Bundle {
                rows: None,
                arrangements: vec![arrangement],
                errs,
            });
        }
        let mut bundle = self.render(input)?;
        let mut errs = vec![];
        for key in keys {
            if bundle.arrangement(key).is_some() {
                continue;
            }
            let rows =
                self.rows_through(&bundle, &Mfp::identity(arity), "rows to arrange", &mut errs)?;
            let name = self.operator_name("arrangement");
            let (arrangement, key_errs) = arrange(rows, key, arity, &self.footprint, &name);
            errs.push(key_errs);
            bundle.arrangements.push(arrangement);
        }
        if !errs.is_empty() {
            errs.push(bundle.errs);
            bundle.errs = union(self.scope, errs);
        }
        Ok(bundle)
    }

    /// Literal rows, from the first worker only.
    fn constant(&mut self, rows: &Result<Vec<(Row, Diff)>, EvalError>) -> Bundle<'s> {
        let as_of = self.as_of;
        let mut oks: Vec<Update> = vec![];
        let mut errs: Vec<Update> = vec![];
        if self.scope.index() == 0 {
            match rows {
                Ok(rows) => oks.extend(rows.iter().map(|(row, diff)| (row.clone(), as_of, *diff))),
                Err(error) => errs.push((crate::error_row::to_row(error), as_of, 1)),
            }
        }
        Bundle::from_rows(oks.to_stream(self.scope), errs.to_stream(self.scope))
    }

    /// All workers get all errors, so that a lookup of one key on one worker meets them.
    fn everywhere(&self, errs: Rows<'s>) -> Rows<'s> {
        if self.scope.peers() == 1 {
            errs
        } else {
            errs.broadcast()
        }
    }

    fn export(&mut self, export: &Export, until: Option<T>) -> Result<BuiltExport, RenderError> {
        match &export.kind {
            ExportKind::Index { key, types } => {
                let name = self.operator_name(&format!("export {}", export.id));
                let from = Node::Get { id: export.from };
                let bundle = self.arrange_by(&from, std::slice::from_ref(key), types.len())?;
                let arrangement = bundle
                    .arrangement(key)
                    .ok_or(RenderError::MissingArrangement)?
                    .clone();
                let errs = arrange_errors(self.everywhere(bundle.errs), &self.footprint, &name);
                Ok(BuiltExport::Index(Box::new(TraceEntry::new(
                    arrangement.split,
                    arrangement.arranged.trace,
                    errs.trace,
                ))))
            }
            ExportKind::Subscribe {
                types,
                with_snapshot,
            } => {
                let bundle = self.bound(export.from)?;
                let mut errs = vec![bundle.errs.clone()];
                let rows = self.rows_through(
                    &bundle,
                    &Mfp::identity(types.len()),
                    "rows to subscribe to",
                    &mut errs,
                )?;
                let name = self.operator_name(&format!("subscribe {}", export.id));
                let errs = union(self.scope, errs);
                Ok(BuiltExport::Subscribe(subscribe::sink(
                    rows,
                    errs,
                    export.id,
                    self.as_of,
                    until,
                    *with_snapshot,
                    &name,
                )))
            }
        }
    }
}

/// One block for two, the second over the output of the first.
fn after(first: &Mfp, second: &Mfp) -> Mfp {
    let arity = first.input_arity + first.expressions.len();
    let columns = first.projection.len();
    // The second block's input columns are the first one's output; its mapped columns come after the first one's.
    let map = |c: usize| {
        if c < columns {
            first.projection[c]
        } else {
            arity + (c - columns)
        }
    };
    let moved = |expr: &ScalarExpr| {
        let mut expr = expr.clone();
        expr.permute(&map);
        expr
    };
    let mut predicates = first.predicates.clone();
    predicates.extend(
        second
            .predicates
            .iter()
            .map(|(n, p)| (n.saturating_sub(columns) + arity, moved(p))),
    );
    Mfp {
        input_arity: first.input_arity,
        expressions: first
            .expressions
            .iter()
            .cloned()
            .chain(second.expressions.iter().map(&moved))
            .collect(),
        predicates,
        projection: second.projection.iter().map(|c| map(*c)).collect(),
        temporal: vec![],
    }
}

/// Rows through a block.
pub fn map_rows<'s>(rows: Rows<'s>, mfp: &Mfp, name: &str) -> (Rows<'s>, Rows<'s>) {
    let mut mfp = RowMfp::new(mfp, &[mfp.input_arity]);
    stateless(
        rows,
        Pipeline,
        name,
        move |data: &mut Vec<Update>, out: &mut Changes, ship| {
            for (row, time, diff) in data.drain(..) {
                mfp.apply(&[row.as_ref()], time, diff, out);
                if out.is_full() {
                    ship(out);
                }
            }
        },
    )
}
