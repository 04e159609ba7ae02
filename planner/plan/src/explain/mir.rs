//! The logical plan as text.

use super::scalar::{aggregates_text, datum_text, scalar_text, scalars_text};
use super::{Columns, Printer, column, columns_text, order_text};
use crate::error::EvalError;
use crate::mir::{Id, JoinImplementation, Mir};
use crate::scalar::ScalarExpr;
use crate::table_func::TableFunc;
use repr::{ColumnType, Diff, Row};

/// More rows of a constant are not printed.
const CONSTANT_ROWS_MAX: usize = 20;

impl Printer<'_> {
    pub(super) fn mir(&mut self, plan: &Mir) {
        match plan {
            Mir::Constant { rows, types } => self.constant(rows, Some(types)),
            Mir::Get { id, .. } => self.line(&format!("Get {}", self.id(*id))),
            Mir::Let { .. } => self.lets(plan),
            Mir::Project { input, outputs } => {
                self.line(&format!(
                    "Project ({})",
                    columns_text(outputs, &self.columns(input))
                ));
                self.indented(|p| p.mir(input));
            }
            Mir::Map { input, scalars } => {
                let columns = self.columns(input);
                self.line(&format!("Map ({})", scalars_text(scalars, &columns)));
                self.indented(|p| p.mir(input));
            }
            Mir::FlatMap {
                input, func, args, ..
            } => {
                let columns = self.columns(input);
                self.line(&format!(
                    "FlatMap {}({})",
                    table_func_name(func),
                    scalars_text(args, &columns)
                ));
                self.indented(|p| p.mir(input));
            }
            Mir::Filter { input, predicates } => {
                let columns = self.columns(input);
                self.line(&format!("Filter {}", conjunction(predicates, &columns)));
                self.indented(|p| p.mir(input));
            }
            Mir::Join {
                inputs,
                equivalences,
                implementation,
            } => {
                self.join(plan, inputs, equivalences, implementation);
            }
            Mir::Reduce {
                input,
                group_key,
                aggregates,
            } => {
                let columns = self.columns(input);
                self.line(&reduce_text(group_key, aggregates, &columns));
                self.indented(|p| p.mir(input));
            }
            Mir::TopK {
                input,
                group_key,
                order_key,
                limit,
                offset,
            } => {
                let columns = self.columns(input);
                let limit = limit.as_ref().map(|e| scalar_text(e, &vec![]));
                self.line(&top_k_text(group_key, order_key, limit, *offset, &columns));
                self.indented(|p| p.mir(input));
            }
            Mir::Negate { input } => {
                self.line("Negate");
                self.indented(|p| p.mir(input));
            }
            Mir::Threshold { input } => {
                self.line("Threshold");
                self.indented(|p| p.mir(input));
            }
            Mir::Union { inputs } => {
                self.line("Union");
                self.indented(|p| inputs.iter().for_each(|input| p.mir(input)));
            }
            Mir::ArrangeBy { input, keys } => {
                let columns = self.columns(input);
                self.line(&format!("ArrangeBy keys=[{}]", keys_text(keys, &columns)));
                self.indented(|p| p.mir(input));
            }
        }
    }

    /// A chain of bindings, the innermost body last.
    fn lets(&mut self, plan: &Mir) {
        self.line("With");
        let mut body = plan;
        self.indented(|p| {
            while let Mir::Let {
                id,
                value,
                body: inner,
            } = body
            {
                p.line(&format!("cte l{id} ="));
                p.indented(|p| p.mir(value));
                body = inner;
            }
        });
        self.line("Return");
        self.indented(|p| p.mir(body));
    }

    fn join(
        &mut self,
        plan: &Mir,
        inputs: &[Mir],
        equivalences: &[Vec<ScalarExpr>],
        implementation: &JoinImplementation,
    ) {
        let columns = self.columns(plan);
        let kind = match implementation {
            JoinImplementation::Unimplemented => String::new(),
            JoinImplementation::Linear { start, order } => {
                let order: Vec<String> =
                    order.iter().map(|(input, _)| format!("%{input}")).collect();
                format!(" type=linear order=[%{start} » {}]", order.join(" » "))
            }
            JoinImplementation::Delta { paths } => {
                let path = |(start, path): (usize, &Vec<(usize, Vec<ScalarExpr>)>)| {
                    let steps: Vec<String> =
                        path.iter().map(|(input, _)| format!("%{input}")).collect();
                    format!("%{start} » {}", steps.join(" » "))
                };
                let paths: Vec<String> = paths.iter().enumerate().map(path).collect();
                format!(" type=delta paths=[{}]", paths.join("; "))
            }
        };
        if equivalences.is_empty() {
            self.line(&format!("CrossJoin{kind}"));
        } else {
            let classes: Vec<String> = equivalences
                .iter()
                .map(|class| {
                    class
                        .iter()
                        .map(|e| scalar_text(e, &columns))
                        .collect::<Vec<_>>()
                        .join(" = ")
                })
                .collect();
            self.line(&format!("Join on=({}){kind}", classes.join(" and ")));
        }
        self.indented(|p| inputs.iter().for_each(|input| p.mir(input)));
    }

    pub(super) fn constant(
        &mut self,
        rows: &Result<Vec<(Row, Diff)>, EvalError>,
        types: Option<&[ColumnType]>,
    ) {
        let rows = match rows {
            Ok(rows) if rows.is_empty() => return self.line("Constant <empty>"),
            Ok(rows) => rows,
            Err(error) => return self.line(&format!("Error {:?}", error.message)),
        };
        self.line("Constant");
        self.indented(|p| {
            for (row, diff) in rows.iter().take(CONSTANT_ROWS_MAX) {
                let datums: Vec<String> = row
                    .iter()
                    .enumerate()
                    .map(|(i, d)| match types.and_then(|types| types.get(i)) {
                        Some(ty) => datum_text(d, &ty.ty),
                        None => datum_text(d, &repr::SqlType::Text),
                    })
                    .collect();
                let times = if *diff == 1 {
                    String::new()
                } else {
                    format!(" x {diff}")
                };
                p.line(&format!("- ({}){times}", datums.join(", ")));
            }
            if let Some(more) = rows.len().checked_sub(CONSTANT_ROWS_MAX).filter(|n| *n > 0) {
                p.line(&format!("- ... {more} more"));
            }
        });
    }

    /// The names of a plan's columns: those of the objects that they come from.
    pub(super) fn columns(&self, plan: &Mir) -> Columns {
        match plan {
            Mir::Get {
                id: Id::Global(id),
                types,
                ..
            } => match self.names.columns(*id) {
                Some(names) => names.into_iter().map(Some).collect(),
                None => vec![None; types.len()],
            },
            Mir::Constant { types, .. } | Mir::Get { types, .. } => vec![None; types.len()],
            Mir::Let { body, .. } => self.columns(body),
            Mir::Project { input, outputs } => {
                let columns = self.columns(input);
                outputs.iter().map(|c| columns[*c].clone()).collect()
            }
            Mir::Map { input, scalars } => {
                let mut columns = self.columns(input);
                columns.extend(scalars.iter().map(|_| None));
                columns
            }
            Mir::FlatMap { input, types, .. } => {
                let mut columns = self.columns(input);
                columns.extend(types.iter().map(|_| None));
                columns
            }
            Mir::Join { inputs, .. } => inputs
                .iter()
                .flat_map(|input| self.columns(input))
                .collect(),
            Mir::Reduce {
                input,
                group_key,
                aggregates,
            } => {
                let columns = self.columns(input);
                let key = group_key.iter().map(|e| match e {
                    ScalarExpr::Column(c) => columns[*c].clone(),
                    _ => None,
                });
                key.chain(aggregates.iter().map(|_| None)).collect()
            }
            Mir::Union { inputs } => self.columns(&inputs[0]),
            Mir::Filter { input, .. }
            | Mir::TopK { input, .. }
            | Mir::Negate { input }
            | Mir::Threshold { input }
            | Mir::ArrangeBy { input, .. } => self.columns(input),
        }
    }
}

pub(super) fn conjunction(predicates: &[ScalarExpr], columns: &Columns) -> String {
    let texts: Vec<String> = predicates.iter().map(|p| scalar_text(p, columns)).collect();
    texts.join(" and ")
}

pub(super) fn keys_text(keys: &[Vec<ScalarExpr>], columns: &Columns) -> String {
    let keys: Vec<String> = keys
        .iter()
        .map(|key| format!("[{}]", scalars_text(key, columns)))
        .collect();
    keys.join(", ")
}

pub(super) fn reduce_text(
    group_key: &[ScalarExpr],
    aggregates: &[crate::agg::AggregateExpr],
    columns: &Columns,
) -> String {
    let key = scalars_text(group_key, columns);
    if aggregates.is_empty() {
        return format!("Distinct project=[{key}]");
    }
    let group = if group_key.is_empty() {
        String::new()
    } else {
        format!(" group_by=[{key}]")
    };
    format!(
        "Reduce{group} aggregates=[{}]",
        aggregates_text(aggregates, columns)
    )
}

pub(super) fn top_k_text(
    group_key: &[usize],
    order_key: &[crate::mir::ColumnOrder],
    limit: Option<String>,
    offset: u64,
    columns: &Columns,
) -> String {
    let mut text = "TopK".to_owned();
    if !group_key.is_empty() {
        let key: Vec<String> = group_key.iter().map(|c| column(*c, columns)).collect();
        text += &format!(" group_by=[{}]", key.join(", "));
    }
    if !order_key.is_empty() {
        text += &format!(" order_by=[{}]", order_text(order_key, columns));
    }
    if let Some(limit) = limit {
        text += &format!(" limit={limit}");
    }
    if offset > 0 {
        text += &format!(" offset={offset}");
    }
    text
}

pub(super) fn table_func_name(func: &TableFunc) -> &'static str {
    match func {
        TableFunc::GenerateSeriesInt32
        | TableFunc::GenerateSeriesInt64
        | TableFunc::GenerateSeriesTimestamp
        | TableFunc::GenerateSeriesTimestampTz => "generate_series",
        TableFunc::Unnest { .. } => "unnest",
        TableFunc::GenerateSubscripts => "generate_subscripts",
        TableFunc::Repeat => "repeat_row",
    }
}
