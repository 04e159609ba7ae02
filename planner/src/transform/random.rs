//! Random plans over random relations, for tests: what the optimizer does must not change what the interpreter answers.

use plan::agg::AggregateFunc;
use plan::eval::{Collections, Env, Limits};
use plan::mir::{ColumnOrder, Id, JoinImplementation};
use plan::scalar::EvalCtx;
use plan::{AggregateExpr, EvalError, Func, Mir, ScalarExpr, TableFunc};
use repr::{ColumnType, Datum, Diff, GlobalId, Numeric, Row, SqlType};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A small generator of numbers; the same seed gives the same plan everywhere.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .wrapping_add(0x1234_5678),
        )
    }

    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % sides.max(1)
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.roll(100) < percent
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())].clone()
    }
}

/// One stored relation.
pub struct Relation {
    pub types: Vec<ColumnType>,
    pub keys: Vec<Vec<usize>>,
    pub rows: Arc<Vec<(Row, Diff)>>,
}

pub struct Relations(pub BTreeMap<GlobalId, Relation>);

impl Collections for Relations {
    fn rows(&self, id: GlobalId) -> Result<Arc<Vec<(Row, Diff)>>, EvalError> {
        match self.0.get(&id) {
            Some(relation) => Ok(Arc::clone(&relation.rows)),
            None => Err(EvalError::new("XX000", format!("no relation {id}"))),
        }
    }
}

impl Relations {
    /// Three relations: `(id int4 key, ref int4, n numeric)`, `(a int4 key, n numeric(10,2) key, c char(2))`, `(x int4, t text)`.
    pub fn random(dice: &mut Dice) -> Relations {
        let int = |nullable| ColumnType::new(SqlType::Int32, nullable);
        let numeric = ColumnType::new(SqlType::Numeric(None), true);
        let typmod = repr::NumericTypmod {
            precision: 10,
            scale: 2,
        };
        let fixed = ColumnType::new(SqlType::Numeric(Some(typmod)), false);
        let padded = ColumnType::new(SqlType::Char(Some(2)), true);
        let text = ColumnType::new(SqlType::Text, true);
        let shapes = [
            (vec![int(false), int(true), numeric], vec![vec![0]]),
            (vec![int(false), fixed, padded], vec![vec![0, 1]]),
            (vec![int(true), text], vec![]),
        ];
        let relations = shapes.into_iter().enumerate().map(|(i, (types, keys))| {
            let rows = random_rows(dice, &types, &keys);
            (
                GlobalId(20_000 + i as u64),
                Relation {
                    types,
                    keys,
                    rows: Arc::new(rows),
                },
            )
        });
        Relations(relations.collect())
    }

    pub fn get(&self, id: GlobalId) -> Mir {
        let relation = &self.0[&id];
        Mir::Get {
            id: Id::Global(id),
            types: relation.types.clone(),
            keys: relation.keys.clone(),
        }
    }

    pub fn eval(&self, mir: &Mir) -> Result<Vec<(Row, Diff)>, EvalError> {
        let ctx = EvalCtx::default();
        let env = Env {
            collections: self,
            ctx: &ctx,
            limits: Limits {
                rows_max: 50_000,
                ..Limits::NONE
            },
            time: None,
        };
        plan::eval::eval(mir, &env)
    }
}

fn random_rows(dice: &mut Dice, types: &[ColumnType], keys: &[Vec<usize>]) -> Vec<(Row, Diff)> {
    let mut rows: BTreeMap<Row, Diff> = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..dice.roll(9) {
        let row = Row::pack(types.iter().map(|ty| random_datum(dice, ty)));
        let unique = keys.iter().all(|key| {
            let datums = row.unpack();
            seen.insert((key.clone(), Row::pack(key.iter().map(|c| datums[*c]))))
        });
        if unique {
            let copies = if keys.is_empty() {
                1 + dice.roll(2) as Diff
            } else {
                1
            };
            *rows.entry(row).or_default() += copies;
        }
    }
    rows.into_iter().collect()
}

fn random_datum(dice: &mut Dice, ty: &ColumnType) -> Datum<'static> {
    if ty.nullable && dice.chance(20) {
        return Datum::Null;
    }
    let n = dice.roll(4);
    match &ty.ty {
        SqlType::Int32 => Datum::Int32(n as i32),
        SqlType::Int64 => Datum::Int64(n as i64),
        SqlType::Bool => Datum::Bool(n > 1),
        SqlType::Numeric(None) => {
            let scale = dice.roll(3) as u16;
            Datum::Numeric(
                Numeric::from_parts(n as i128 * 10i128.pow(scale.into()), scale).unwrap(),
            )
        }
        SqlType::Numeric(Some(_)) => {
            Datum::Numeric(Numeric::from_parts(n as i128 * 100, 2).unwrap())
        }
        SqlType::Char(_) => Datum::String(["  ", "a ", "b ", "ab"][n]),
        _ => Datum::String(["", "a", "b", "ab"][n]),
    }
}

/// A plan of about this depth.
pub fn random_plan(dice: &mut Dice, relations: &Relations, depth: usize) -> Mir {
    let mut next_local = 0;
    let mut plans = Plans {
        dice,
        relations,
        next_local: &mut next_local,
        locals: vec![],
    };
    plans.plan(depth)
}

struct Plans<'a> {
    dice: &'a mut Dice,
    relations: &'a Relations,
    next_local: &'a mut u64,
    locals: Vec<Mir>,
}

impl Plans<'_> {
    fn leaf(&mut self) -> Mir {
        if !self.locals.is_empty() && self.dice.chance(40) {
            return self.dice.pick(&self.locals);
        }
        if self.dice.chance(10) {
            let types = vec![ColumnType::new(SqlType::Int32, true)];
            let rows = random_rows(self.dice, &types, &[]);
            return Mir::Constant {
                rows: Ok(rows),
                types,
            };
        }
        let ids: Vec<GlobalId> = self.relations.0.keys().copied().collect();
        let id = self.dice.pick(&ids);
        self.relations.get(id)
    }

    fn boxed(&mut self, depth: usize) -> Box<Mir> {
        Box::new(self.plan(depth - 1))
    }

    fn plan(&mut self, depth: usize) -> Mir {
        if depth == 0 {
            return self.leaf();
        }
        match self.dice.roll(15) {
            0..=2 => {
                let input = self.boxed(depth);
                let types = input.types();
                let predicates = (0..1 + self.dice.roll(2))
                    .map(|_| self.predicate(&types, 2))
                    .collect();
                Mir::Filter { input, predicates }
            }
            3 => {
                let input = self.boxed(depth);
                let types = input.types();
                let scalars = (0..1 + self.dice.roll(2))
                    .map(|_| self.scalar(&types))
                    .collect();
                Mir::Map { input, scalars }
            }
            4 => {
                let input = self.boxed(depth);
                let arity = input.arity();
                let outputs = (0..1 + self.dice.roll(arity))
                    .map(|_| self.dice.roll(arity))
                    .collect();
                Mir::Project { input, outputs }
            }
            5..=8 => self.join(depth),
            9 | 10 => self.reduce(depth),
            11 => self.top_k(depth),
            12 => self.union(depth),
            13 => self.bound(depth),
            _ => {
                let input = self.boxed(depth);
                let types = input.types();
                let Some(c) = self.column_of(&types, &SqlType::Int32) else {
                    return *input;
                };
                let arg =
                    |e| ScalarExpr::call(Func::get("cast_int4_to_int8"), vec![e], SqlType::Int64);
                let one = ScalarExpr::literal(Datum::Int64(1), SqlType::Int64);
                Mir::FlatMap {
                    input,
                    func: TableFunc::GenerateSeriesInt64,
                    args: vec![one.clone(), arg(ScalarExpr::Column(c)), one],
                    types: vec![ColumnType::new(SqlType::Int64, false)],
                }
            }
        }
    }

    fn column_of(&mut self, types: &[ColumnType], ty: &SqlType) -> Option<usize> {
        let columns: Vec<usize> = (0..types.len())
            .filter(|c| types[*c].ty.same_base(ty))
            .collect();
        if columns.is_empty() {
            None
        } else {
            Some(self.dice.pick(&columns))
        }
    }

    fn literal(&mut self, ty: &SqlType) -> ScalarExpr {
        let datum = random_datum(self.dice, &ColumnType::new(ty.clone(), false));
        ScalarExpr::literal(datum, ty.clone())
    }

    fn predicate(&mut self, types: &[ColumnType], depth: usize) -> ScalarExpr {
        if depth > 0 && self.dice.chance(30) {
            let args = (0..2).map(|_| self.predicate(types, depth - 1)).collect();
            let name = self.dice.pick(&["and", "or", "or"]);
            return ScalarExpr::call(Func::get(name), args, SqlType::Bool);
        }
        let c = self.dice.roll(types.len());
        let ty = types[c].ty.clone();
        let column = ScalarExpr::Column(c);
        if self.dice.chance(15) {
            let name = self.dice.pick(&["is_null", "is_not_null"]);
            return ScalarExpr::call(Func::get(name), vec![column], SqlType::Bool);
        }
        let other = match self.column_of(types, &ty) {
            Some(other) if self.dice.chance(40) => ScalarExpr::Column(other),
            _ => self.literal(&ty),
        };
        let name = self.dice.pick(&["eq", "eq", "eq", "ne", "lt", "ge"]);
        let name = match ty {
            SqlType::Char(_) => format!("bpchar{name}"),
            _ => name.to_owned(),
        };
        let compared = ScalarExpr::call(Func::get(&name), vec![column, other], SqlType::Bool);
        if self.dice.chance(10) {
            return ScalarExpr::call(Func::get("not"), vec![compared], SqlType::Bool);
        }
        compared
    }

    fn scalar(&mut self, types: &[ColumnType]) -> ScalarExpr {
        match self.dice.roll(4) {
            0 => {
                let cond = Box::new(self.predicate(types, 1));
                let c = self.dice.roll(types.len());
                let els = Box::new(self.literal(&types[c].ty));
                ScalarExpr::If {
                    cond,
                    then: Box::new(ScalarExpr::Column(c)),
                    els,
                }
            }
            1 => match self.column_of(types, &SqlType::Int32) {
                Some(c) => {
                    let one = self.literal(&SqlType::Int32);
                    ScalarExpr::call(
                        Func::get("int4pl"),
                        vec![ScalarExpr::Column(c), one],
                        SqlType::Int32,
                    )
                }
                None => self.predicate(types, 1),
            },
            2 => self.literal(&SqlType::Int32),
            _ => self.predicate(types, 1),
        }
    }

    fn join(&mut self, depth: usize) -> Mir {
        let n = 2 + self.dice.roll(2);
        let inputs: Vec<Mir> = (0..n).map(|_| self.plan(depth.min(2) - 1)).collect();
        let types: Vec<ColumnType> = inputs.iter().flat_map(Mir::types).collect();
        let mut equivalences = vec![];
        for _ in 0..n {
            let c = self.dice.roll(types.len());
            let mut class = vec![ScalarExpr::Column(c)];
            for _ in 0..1 + self.dice.roll(2) {
                if let Some(other) = self.column_of(&types, &types[c].ty.clone()) {
                    class.push(ScalarExpr::Column(other));
                }
            }
            if self.dice.chance(10) {
                class.push(self.literal(&types[c].ty));
            }
            equivalences.push(class);
        }
        Mir::Join {
            inputs,
            equivalences,
            implementation: JoinImplementation::Unimplemented,
        }
    }

    fn reduce(&mut self, depth: usize) -> Mir {
        let input = self.boxed(depth);
        let types = input.types();
        let group_key = (0..self.dice.roll(3))
            .map(|_| ScalarExpr::Column(self.dice.roll(types.len())))
            .collect();
        let mut aggregates = vec![];
        for _ in 0..1 + self.dice.roll(2) {
            let c = self.dice.roll(types.len());
            let func = match (self.dice.roll(3), &types[c].ty) {
                (0, SqlType::Int32) => AggregateFunc::SumInt,
                (0, SqlType::Numeric(_)) => AggregateFunc::SumNumeric { scale: None },
                (1, ty) if !matches!(ty, SqlType::Bool) => AggregateFunc::Max(ty.clone()),
                _ => AggregateFunc::Count,
            };
            let distinct = self.dice.chance(20);
            aggregates.push(AggregateExpr {
                func,
                expr: ScalarExpr::Column(c),
                distinct,
            });
        }
        Mir::Reduce {
            input,
            group_key,
            aggregates,
        }
    }

    fn top_k(&mut self, depth: usize) -> Mir {
        let input = self.boxed(depth);
        let arity = input.arity();
        let group_key = (0..self.dice.roll(2))
            .map(|_| self.dice.roll(arity))
            .collect();
        let order_key = (0..self.dice.roll(3))
            .map(|_| ColumnOrder {
                column: self.dice.roll(arity),
                desc: self.dice.chance(50),
                nulls_last: self.dice.chance(50),
            })
            .collect();
        let limit = self
            .dice
            .chance(80)
            .then(|| ScalarExpr::literal(Datum::Int64(self.dice.roll(4) as i64), SqlType::Int64));
        Mir::TopK {
            input,
            group_key,
            order_key,
            limit,
            offset: self.dice.roll(2) as u64,
        }
    }

    /// Branches of the same types: filters of one plan.
    fn union(&mut self, depth: usize) -> Mir {
        let base = self.plan(depth - 1);
        let types = base.types();
        let mut branch = || Mir::Filter {
            input: Box::new(base.clone()),
            predicates: vec![self.predicate(&types, 1)],
        };
        let (a, b) = (branch(), branch());
        if self.dice.chance(50) {
            return Mir::Union { inputs: vec![a, b] };
        }
        let negated = Mir::Negate { input: Box::new(b) };
        Mir::Threshold {
            input: Box::new(Mir::Union {
                inputs: vec![a, negated],
            }),
        }
    }

    fn bound(&mut self, depth: usize) -> Mir {
        let value = self.boxed(depth);
        let id = *self.next_local;
        *self.next_local += 1;
        self.locals.push(Mir::Get {
            id: Id::Local(id),
            types: value.types(),
            keys: vec![],
        });
        let body = self.join(depth);
        self.locals.pop();
        Mir::Let {
            id,
            value,
            body: Box::new(body),
        }
    }
}
