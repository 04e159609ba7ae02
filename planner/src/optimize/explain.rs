//! What EXPLAIN prints of optimized queries.

use crate::PlanError;
use crate::optimize::catalog::OptimizerCatalog;
use crate::optimize::dataflow::implemented;
use crate::optimize::lookup::{KeyColumn, LookupKeys};
use crate::optimize::select::{SelectExec, SelectPath, TableAccess};
use crate::transform::inline_views::{Keep, inline_views};
use crate::transform::pipeline::optimize;
use plan::explain::{Names, explain_dataflow, explain_mir, explain_node, explain_scalars};
use plan::lir::Node;
use plan::mir::Id;
use plan::{Finishing, Mfp, Mir, ScalarExpr};
use repr::{ClusterId, GlobalId};

/// The logical plan after all rewrites, with the implementation of its joins.
///
/// # Errors
/// If a view's definition cannot be planned.
pub fn explain_optimized(
    mir: Mir,
    finishing: Option<&Finishing>,
    catalog: &dyn OptimizerCatalog,
    cluster: ClusterId,
    names: &dyn Names,
) -> Result<String, PlanError> {
    let (mir, _) = inline_views(mir, catalog, Keep::Everything { cluster })?;
    let mir = implemented(optimize(mir), catalog, cluster);
    let plan = explain_mir(&mir, names);
    Ok(with_finishing(&plan, finishing, mir.arity()))
}

/// How the query is executed.
pub fn explain_physical(exec: &SelectExec, names: &dyn Names) -> String {
    let object = |id: GlobalId| names.object(id).unwrap_or_else(|| id.to_string());
    let (text, arity) = match &exec.path {
        SelectPath::Constant { rows } => {
            let arity = rows
                .as_ref()
                .ok()
                .and_then(|rows| rows.first())
                .map(|(row, _)| row.arity());
            let node = Node::Constant { rows: rows.clone() };
            (
                explain_node(&node, names),
                arity.unwrap_or(exec.finishing.project.len()),
            )
        }
        SelectPath::Interpret { mir } => {
            (headed("Interpret", &explain_mir(mir, names)), mir.arity())
        }
        SelectPath::Table {
            table, access, mfp, ..
        } => {
            let head = match access {
                TableAccess::Lookup { space, keys } => {
                    format!(
                        "Table lookup {} constraint={space} keys={}",
                        object(*table),
                        keys_text(keys)
                    )
                }
                TableAccess::Scan => format!("Table scan {}", object(*table)),
            };
            (read(&head, *table, mfp, names), mfp.output_arity())
        }
        SelectPath::Peek {
            export,
            on,
            keys,
            mfp,
            ..
        } => {
            let keys = keys.as_ref().map_or("all".to_owned(), keys_text);
            let via = if export == on {
                String::new()
            } else {
                format!(" through {}", object(*export))
            };
            let head = format!("Peek {}{via} keys={keys}", object(*on));
            (read(&head, *on, mfp, names), mfp.output_arity())
        }
        SelectPath::Dataflow {
            dataflow,
            lookups,
            arity,
            ..
        } => {
            let mut body = explain_dataflow(dataflow, names);
            for (n, keys) in lookups.iter().enumerate() {
                body += &format!("Lookup {n} keys={}\n", keys_text(keys));
            }
            (headed("Temporary dataflow", &body), *arity)
        }
    };
    with_finishing(&text, Some(&exec.finishing), arity)
}

fn headed(head: &str, body: &str) -> String {
    format!("{head}\n{}", indented(body))
}

/// A read of a relation through a block.
fn read(head: &str, on: GlobalId, mfp: &Mfp, names: &dyn Names) -> String {
    if mfp.is_identity() {
        return format!("{head}\n");
    }
    let node = Node::Mfp {
        input: Box::new(Node::Get { id: Id::Global(on) }),
        mfp: mfp.clone(),
    };
    headed(head, &explain_node(&node, names))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

fn with_finishing(plan: &str, finishing: Option<&Finishing>, arity: usize) -> String {
    match finishing {
        Some(finishing) if !finishing.is_trivial(arity) => headed(&finishing_text(finishing), plan),
        Some(_) | None => plan.to_owned(),
    }
}

fn finishing_text(finishing: &Finishing) -> String {
    let mut text = "Finish".to_owned();
    if !finishing.order_by.is_empty() {
        let terms: Vec<String> = finishing
            .order_by
            .iter()
            .map(|o| {
                let direction = if o.desc { "desc" } else { "asc" };
                let nulls = if o.nulls_last {
                    "nulls_last"
                } else {
                    "nulls_first"
                };
                format!("#{} {direction} {nulls}", o.column)
            })
            .collect();
        text += &format!(" order_by=[{}]", terms.join(", "));
    }
    if let Some(limit) = finishing.limit {
        text += &format!(" limit={limit}");
    }
    if finishing.offset > 0 {
        text += &format!(" offset={}", finishing.offset);
    }
    let outputs: Vec<String> = finishing.project.iter().map(|c| format!("#{c}")).collect();
    text + &format!(" output=[{}]", outputs.join(", "))
}

/// At most this many keys are printed.
const KEYS_SHOWN_MAX: usize = 10;

fn keys_text(keys: &LookupKeys) -> String {
    match keys {
        LookupKeys::Product { columns, .. } => {
            let columns: Vec<String> = columns.iter().map(column_text).collect();
            format!("({})", columns.join(", "))
        }
        LookupKeys::Tuples { tuples, .. } => {
            let shown = tuples.iter().take(KEYS_SHOWN_MAX).map(|tuple| {
                let exprs: Vec<ScalarExpr> = tuple.iter().map(|key| key.expr.clone()).collect();
                format!("({})", explain_scalars(&exprs))
            });
            let mut texts: Vec<String> = shown.collect();
            if tuples.len() > KEYS_SHOWN_MAX {
                texts.push(format!("... {} more", tuples.len() - KEYS_SHOWN_MAX));
            }
            texts.join(", ")
        }
    }
}

fn column_text(column: &KeyColumn) -> String {
    match column {
        KeyColumn::AnyElement(array) => {
            format!("any {}", explain_scalars(std::slice::from_ref(array)))
        }
        KeyColumn::OneOf(values) => {
            let shown: Vec<ScalarExpr> = values
                .iter()
                .take(KEYS_SHOWN_MAX)
                .map(|key| key.expr.clone())
                .collect();
            let text = explain_scalars(&shown);
            match values.len() {
                1 => text,
                n if n > KEYS_SHOWN_MAX => {
                    format!("one of {text}, ... {} more", n - KEYS_SHOWN_MAX)
                }
                _ => format!("one of {text}"),
            }
        }
    }
}
