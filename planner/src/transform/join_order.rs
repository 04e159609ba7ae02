//! In which order the inputs of a join meet.
//!
//! There are no statistics: a plan depends on nothing but the catalog. Sizes are guessed from the keys. An input that is joined to
//! another one's unique key refers to it, so it is taken to be ten times as large; a filter divides. The order with the least guessed
//! total of intermediate results wins: those are what a linear join keeps in memory.

use crate::transform::equivalences::{offsets, single_input};
use crate::transform::expr;
use plan::{Mir, ScalarExpr};
use std::collections::{BTreeMap, BTreeSet};

/// Up to this many inputs all left-deep orders are compared; beyond that the next best input is taken each time.
const EXHAUSTIVE_INPUTS_MAX: usize = 9;
const REFERENCE_FACTOR: f64 = 10.0;
const CROSS_PENALTY: f64 = 1e6;

/// A join as the search for an order sees it.
pub struct JoinGraph {
    pub classes: Vec<Vec<ScalarExpr>>,
    pub offsets: Vec<usize>,
    pub arity: usize,
    /// Guessed rows of each input, unfiltered and filtered.
    base: Vec<f64>,
    filtered: Vec<f64>,
    /// Unique keys of each input, over the join's columns.
    keys: Vec<Vec<Vec<usize>>>,
    /// Guessed number of distinct values of each class.
    distinct: Vec<f64>,
}

impl JoinGraph {
    pub fn new(inputs: &[Mir], classes: &[Vec<ScalarExpr>]) -> Self {
        let offsets = offsets(inputs);
        let keys: Vec<Vec<Vec<usize>>> = inputs
            .iter()
            .zip(&offsets)
            .map(|(input, offset)| {
                input
                    .keys()
                    .into_iter()
                    .map(|key| key.into_iter().map(|c| c + offset).collect())
                    .collect()
            })
            .collect();
        let mut graph = JoinGraph {
            classes: classes.to_vec(),
            arity: inputs.iter().map(Mir::arity).sum(),
            offsets,
            base: vec![],
            filtered: vec![],
            keys,
            distinct: vec![],
        };
        let mut known = BTreeMap::new();
        graph.base = (0..inputs.len())
            .map(|i| graph.guess_base(i, inputs, &mut known))
            .collect();
        graph.filtered = inputs
            .iter()
            .zip(&graph.base)
            .map(|(input, base)| base * selectivity(input, *base))
            .collect();
        graph.distinct = (0..classes.len())
            .map(|c| graph.guess_distinct(c))
            .collect();
        graph
    }

    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// The columns of input `i` that are equated with something the `others` offer.
    fn joined_columns(&self, i: usize, others: &dyn Fn(usize) -> bool) -> BTreeSet<usize> {
        let offered = |class: &[ScalarExpr]| {
            class.iter().any(|e| match single_input(&self.offsets, e) {
                Some(j) => j != i && others(j),
                None => e.support().iter().all(|c| {
                    let j = crate::transform::equivalences::input_of(&self.offsets, *c);
                    j != i && others(j)
                }),
            })
        };
        let mut columns = BTreeSet::new();
        for class in self.classes.iter().filter(|class| offered(class)) {
            columns.extend(class.iter().filter_map(|e| match e {
                ScalarExpr::Column(c) if single_input(&self.offsets, e) == Some(i) => Some(*c),
                _ => None,
            }));
        }
        columns
    }

    /// Whether input `i` has at most one row for each row of the others.
    fn is_keyed(&self, i: usize, others: &dyn Fn(usize) -> bool) -> bool {
        let columns = self.joined_columns(i, others);
        self.keys[i]
            .iter()
            .any(|key| key.iter().all(|c| columns.contains(c)))
    }

    /// `known` holds guesses made before; inputs on the way to `i` count as small, so that circles end.
    fn guess_base(&self, i: usize, inputs: &[Mir], known: &mut BTreeMap<usize, f64>) -> f64 {
        if let Some(base) = known.get(&i) {
            return *base;
        }
        if let Mir::Constant { rows: Ok(rows), .. } = &inputs[i] {
            return rows.len() as f64;
        }
        known.insert(i, 1.0);
        let mut largest: f64 = 1.0;
        for j in 0..inputs.len() {
            if self.is_keyed(j, &|o| o == i) && !self.is_keyed(i, &|o| o == j) {
                largest = largest.max(self.guess_base(j, inputs, known));
            }
        }
        known.insert(i, largest * REFERENCE_FACTOR);
        largest * REFERENCE_FACTOR
    }

    fn guess_distinct(&self, class: usize) -> f64 {
        let members: Vec<(usize, &ScalarExpr)> = self.classes[class]
            .iter()
            .filter_map(|e| single_input(&self.offsets, e).map(|i| (i, e)))
            .collect();
        let keyed = members.iter().filter(|(i, e)| match e {
            ScalarExpr::Column(c) => self.keys[*i].iter().any(|key| key.as_slice() == [*c]),
            _ => false,
        });
        let of_key = keyed.map(|(i, _)| self.base[*i]).fold(0.0, f64::max);
        if of_key > 0.0 {
            return of_key;
        }
        let least = members
            .iter()
            .map(|(i, _)| self.base[*i])
            .fold(f64::INFINITY, f64::min);
        if least.is_finite() {
            least.max(1.0)
        } else {
            1.0
        }
    }

    /// The classes that equate something of input `i` with something available in `set`.
    pub fn connecting(&self, i: usize, set: u64) -> Vec<usize> {
        (0..self.classes.len())
            .filter(|c| {
                let class = &self.classes[*c];
                class
                    .iter()
                    .any(|e| single_input(&self.offsets, e) == Some(i))
                    && class.iter().any(|e| self.is_available(e, set))
            })
            .collect()
    }

    /// Whether the expression reads only inputs in `set`.
    pub fn is_available(&self, e: &ScalarExpr, set: u64) -> bool {
        e.support()
            .iter()
            .all(|c| set & (1 << crate::transform::equivalences::input_of(&self.offsets, *c)) != 0)
    }

    /// Guessed rows of `set` (which has `rows`) joined with input `i`.
    fn joined_size(&self, set: u64, rows: f64, i: usize) -> f64 {
        let connecting = self.connecting(i, set);
        if connecting.is_empty() {
            return rows * self.filtered[i].max(1.0);
        }
        let product: f64 = connecting.iter().map(|c| self.distinct[*c]).product();
        let keyed = self.is_keyed(i, &|o| set & (1 << o) != 0);
        let divisor = if keyed {
            product.max(self.base[i])
        } else {
            product
        };
        // Where neither side is unique in what they are joined by, the result can be larger than both.
        let bounded = keyed || self.is_referred_to(i, set);
        let factor = if bounded { 1.0 } else { REFERENCE_FACTOR };
        (factor * rows * self.filtered[i] / divisor).max(0.01)
    }

    /// Whether at most one row of the joined `set` meets each row of input `i`.
    fn is_referred_to(&self, i: usize, set: u64) -> bool {
        let members = (0..self.len()).filter(|j| set & (1 << j) != 0);
        members
            .filter(|j| self.is_keyed(*j, &|o| o == i))
            .any(|j| self.determined_by(j, set) == set)
    }

    /// The inputs in `set` that have at most one row for each row of input `j`, itself included.
    fn determined_by(&self, j: usize, set: u64) -> u64 {
        let mut known = 1u64 << j;
        loop {
            let next = (0..self.len())
                .filter(|k| set & (1 << k) != 0 && known & (1 << k) == 0)
                .find(|k| self.is_keyed(*k, &|o| known & (1 << o) != 0));
            match next {
                Some(k) => known |= 1 << k,
                None => return known,
            }
        }
    }

    /// The best left-deep order that begins with an input of `starts`. `exists` tells whether an input can be read through an
    /// arrangement that exists, so that it costs nothing, once a set has been joined.
    pub fn order(&self, starts: &[usize], exists: &dyn Fn(usize, u64) -> bool) -> Vec<usize> {
        if self.len() <= EXHAUSTIVE_INPUTS_MAX {
            self.best_order(starts, exists)
        } else {
            self.greedy_order(starts)
        }
    }

    fn step_cost(&self, set: u64, rows: f64, i: usize, last: bool) -> (f64, f64) {
        let joined = self.joined_size(set, rows, i);
        let kept = if last { 0.0 } else { joined };
        let cross = if self.connecting(i, set).is_empty() {
            CROSS_PENALTY * joined.max(1.0)
        } else {
            0.0
        };
        (joined, kept + cross)
    }

    /// Compares all orders, subset by subset.
    fn best_order(&self, starts: &[usize], exists: &dyn Fn(usize, u64) -> bool) -> Vec<usize> {
        let n = self.len();
        let full = (1u64 << n) - 1;
        // (cost, rows, order) of the best way to join a set.
        let mut best: Vec<Option<(f64, f64, Vec<usize>)>> = vec![None; 1 << n];
        for i in starts {
            best[1 << i] = Some((self.filtered[*i], self.filtered[*i], vec![*i]));
        }
        for set in 1..=full {
            let Some((cost, rows, order)) = best[set as usize].clone() else {
                continue;
            };
            for i in (0..n).filter(|i| set & (1 << i) == 0) {
                let next = set | (1 << i);
                let (joined, step) = self.step_cost(set, rows, i, next == full);
                let arranged = if exists(i, set) {
                    0.0
                } else {
                    self.filtered[i]
                };
                let total = cost + step + arranged;
                let mut extended = order.clone();
                extended.push(i);
                let slot = &mut best[next as usize];
                let better = slot.as_ref().is_none_or(|(c, _, o)| {
                    total < *c || (total == *c && self.prefer(&extended, o))
                });
                if better {
                    *slot = Some((total, joined, extended));
                }
            }
        }
        best.pop()
            .flatten()
            .map(|(_, _, order)| order)
            .unwrap_or_default()
    }

    /// Of equally good orders: the larger input last, then the order of the query.
    fn prefer(&self, a: &[usize], b: &[usize]) -> bool {
        let sizes = |order: &[usize]| order.iter().map(|i| self.filtered[*i]).collect::<Vec<_>>();
        let (sa, sb) = (sizes(a), sizes(b));
        match sa.partial_cmp(&sb) {
            Some(std::cmp::Ordering::Less) => true,
            Some(std::cmp::Ordering::Greater) => false,
            Some(std::cmp::Ordering::Equal) | None => a < b,
        }
    }

    fn greedy_order(&self, starts: &[usize]) -> Vec<usize> {
        let smaller = |a: usize, b: usize| {
            if self.filtered[b] < self.filtered[a] {
                b
            } else {
                a
            }
        };
        let start = starts.iter().copied().reduce(smaller);
        start
            .and_then(|start| self.greedy_from(start, &|_, _| true))
            .unwrap_or_default()
    }

    /// Starts at `start` and takes the cheapest allowed input each time; `None` if none is allowed.
    pub fn greedy_from(
        &self,
        start: usize,
        allowed: &dyn Fn(usize, u64) -> bool,
    ) -> Option<Vec<usize>> {
        let n = self.len();
        let mut order = vec![start];
        let mut set = 1u64 << start;
        let mut rows = self.filtered[start];
        while order.len() < n {
            let candidates = (0..n).filter(|i| set & (1 << i) == 0 && allowed(*i, set));
            let (joined, _, next) = candidates
                .map(|i| {
                    let (joined, cost) = self.step_cost(set, rows, i, false);
                    (joined, cost, i)
                })
                .reduce(|a, b| if b.1 < a.1 { b } else { a })?;
            order.push(next);
            set |= 1 << next;
            rows = joined;
        }
        Some(order)
    }
}

/// The share of rows that the filters of an input keep.
fn selectivity(input: &Mir, base: f64) -> f64 {
    match input {
        Mir::Filter { input, predicates } => {
            let own: f64 = predicates.iter().map(predicate_selectivity).product();
            (own * selectivity(input, base)).max(1.0 / base.max(1.0) / 10.0)
        }
        Mir::Map { input, .. } | Mir::Project { input, .. } | Mir::ArrangeBy { input, .. } => {
            selectivity(input, base)
        }
        Mir::Reduce { input, .. } => selectivity(input, base).sqrt(),
        Mir::Join { inputs, .. } => inputs
            .iter()
            .map(|i| selectivity(i, base))
            .fold(1.0, f64::min),
        Mir::Constant { .. }
        | Mir::Get { .. }
        | Mir::Let { .. }
        | Mir::FlatMap { .. }
        | Mir::TopK { .. }
        | Mir::Negate { .. }
        | Mir::Threshold { .. }
        | Mir::Union { .. } => 1.0,
    }
}

fn predicate_selectivity(predicate: &ScalarExpr) -> f64 {
    let ScalarExpr::Call { func, args, .. } = predicate else {
        return 0.5;
    };
    if expr::is_or(*func) {
        return args.iter().map(predicate_selectivity).sum::<f64>().min(0.9);
    }
    if expr::is_and(*func) {
        return args.iter().map(predicate_selectivity).product();
    }
    match func.name() {
        "eq" | "bpchareq" | "is_null" | "is_not_distinct_from" => 0.1,
        "any_eq" | "any_bpchareq" => 0.2,
        "lt" | "le" | "gt" | "ge" | "bpcharlt" | "bpcharle" | "bpchargt" | "bpcharge"
        | "textlike" => 0.3,
        "is_not_null" | "ne" | "bpcharne" => 0.9,
        _ => 0.5,
    }
}
