//! From rows to the lines of COPY TO.

use super::{csv, text};
use plan::scalar::catalog_fns::{self, CatalogFns, RegKind};
use planner::statement::{CopyFormat, CopyHeader, CopyOptions};
use repr::format::{FormatCtx, write_text};
use repr::{Datum, RelationDesc, Row};
use std::sync::Arc;

pub struct RowEncoder {
    desc: Arc<RelationDesc>,
    options: CopyOptions,
    context: FormatCtx,
    /// What values of `regclass` and its family are written with.
    pub names: Option<Arc<dyn CatalogFns>>,
    value: String,
}

impl RowEncoder {
    pub fn new(desc: Arc<RelationDesc>, options: CopyOptions, context: FormatCtx) -> Self {
        RowEncoder {
            desc,
            options,
            context,
            names: None,
            value: String::new(),
        }
    }

    /// The header line, if one was asked for.
    pub fn header(&self, out: &mut Vec<u8>) {
        if self.options.header == CopyHeader::Absent {
            return;
        }
        for (i, name) in self.desc.names.iter().enumerate() {
            self.field(i, Some(name), out);
        }
        out.push(b'\n');
    }

    /// One line.
    pub fn row(&mut self, row: &Row, out: &mut Vec<u8>) {
        let mut value = std::mem::take(&mut self.value);
        for (i, (datum, column)) in row.iter().zip(&self.desc.types).enumerate() {
            if datum.is_null() {
                self.field(i, None, out);
                continue;
            }
            value.clear();
            match (&self.names, datum, RegKind::of(&column.ty)) {
                (Some(names), Datum::Oid(oid), Some(kind)) => {
                    value.push_str(&catalog_fns::display(&**names, kind, oid));
                }
                _ => write_text(&column.ty, datum, &self.context, &mut value)
                    .expect("strings take all text"),
            }
            self.field(i, Some(&value), out);
        }
        self.value = value;
        out.push(b'\n');
    }

    fn field(&self, column: usize, value: Option<&str>, out: &mut Vec<u8>) {
        let options = &self.options;
        if column > 0 {
            out.push(options.delimiter);
        }
        match (value, options.format) {
            (None, _) => out.extend_from_slice(options.null.as_bytes()),
            (Some(value), CopyFormat::Csv) => {
                let force = options.force_quote.contains(&column);
                let only = self.desc.arity() == 1;
                csv::write(value, options, force, only, out);
            }
            (Some(value), CopyFormat::Text | CopyFormat::Binary) => {
                text::escape(value, options.delimiter, out)
            }
        }
    }
}
