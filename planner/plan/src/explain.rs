//! Plans as indented text, one term per line: what EXPLAIN prints.

mod mir;
mod node;
mod scalar;

use crate::lir::{Dataflow, Node};
use crate::mir::{ColumnOrder, Id, Mir};
use crate::scalar::ScalarExpr;
use repr::GlobalId;
use std::fmt::Write;

/// Names for the objects of a plan.
pub trait Names {
    /// The full name of an object.
    fn object(&self, id: GlobalId) -> Option<String>;

    /// The names of its columns.
    fn columns(&self, id: GlobalId) -> Option<Vec<String>>;
}

/// Nothing has a name: ids and column positions are printed.
pub struct NoNames;

impl Names for NoNames {
    fn object(&self, _: GlobalId) -> Option<String> {
        None
    }

    fn columns(&self, _: GlobalId) -> Option<Vec<String>> {
        None
    }
}

/// The text of a logical plan.
pub fn explain_mir(plan: &Mir, names: &dyn Names) -> String {
    let mut printer = Printer::new(names);
    printer.mir(plan);
    printer.out
}

/// The text of a physical plan.
pub fn explain_node(node: &Node, names: &dyn Names) -> String {
    let mut printer = Printer::new(names);
    printer.node(node);
    printer.out
}

/// The text of scalar expressions, separated by commas.
pub fn explain_scalars(exprs: &[ScalarExpr]) -> String {
    scalar::scalars_text(exprs, &vec![])
}

/// The text of a dataflow: its imports, objects and exports.
pub fn explain_dataflow(dataflow: &Dataflow, names: &dyn Names) -> String {
    let mut printer = Printer::new(names);
    printer.dataflow(dataflow);
    printer.out
}

/// The names of a plan's output columns, where they are known.
type Columns = Vec<Option<String>>;

struct Printer<'a> {
    names: &'a dyn Names,
    out: String,
    depth: usize,
}

impl<'a> Printer<'a> {
    fn new(names: &'a dyn Names) -> Printer<'a> {
        Printer {
            names,
            out: String::new(),
            depth: 0,
        }
    }

    fn line(&mut self, text: &str) {
        let indent = self.depth * 2;
        writeln!(self.out, "{:indent$}{text}", "").expect("strings take all text");
    }

    fn indented<T>(&mut self, f: impl FnOnce(&mut Self) -> T) -> T {
        self.depth += 1;
        let result = f(self);
        self.depth -= 1;
        result
    }

    fn object(&self, id: GlobalId) -> String {
        self.names.object(id).unwrap_or_else(|| id.to_string())
    }

    fn id(&self, id: Id) -> String {
        match id {
            Id::Global(id) => self.object(id),
            Id::Local(id) => format!("l{id}"),
        }
    }
}

/// `#3` or `#3{name}`.
fn column(index: usize, columns: &Columns) -> String {
    match columns.get(index) {
        Some(Some(name)) => format!("#{index}{{{name}}}"),
        Some(None) | None => format!("#{index}"),
    }
}

fn columns_text(indices: &[usize], columns: &Columns) -> String {
    let texts: Vec<String> = indices.iter().map(|c| column(*c, columns)).collect();
    texts.join(", ")
}

fn order_text(order: &[ColumnOrder], columns: &Columns) -> String {
    let texts: Vec<String> = order
        .iter()
        .map(|term| {
            let direction = if term.desc { " desc" } else { " asc" };
            let nulls = if term.nulls_last {
                " nulls_last"
            } else {
                " nulls_first"
            };
            column(term.column, columns) + direction + nulls
        })
        .collect();
    texts.join(", ")
}
