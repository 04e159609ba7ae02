//! From the bytes of COPY FROM to rows of a table.

use super::{csv, text};
use crate::adapter::error::{Result, SqlError};
use crate::adapter::transaction::{TRANSACTION_BYTES_MAX, transaction_too_large};
use plan::ScalarExpr;
use plan::scalar::EvalCtx;
use plan::scalar::catalog_fns::{self, RegKind};
use planner::statement::{CopyFormat, CopyFromPlan, CopyHeader, CopyOptions};
use repr::format::parse_datum;
use repr::{Datum, RelationDesc, Row, RowArena, RowPacker, SqlType};
use std::borrow::Cow;

/// A line longer than this is refused.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A row and where it came from.
pub struct DecodedRow {
    pub row: Row,
    line: u64,
}

impl DecodedRow {
    /// Adds the line to an error about this row.
    pub fn locate(&self, mut error: SqlError, table: &str) -> SqlError {
        error.context = Some(format!("COPY {table}, line {}", self.line));
        error
    }
}

/// Cuts the data into lines and parses each as it arrives. The first error ends it.
pub struct LineDecoder {
    table: String,
    desc: RelationDesc,
    options: CopyOptions,
    /// The table's row from the data's columns; `None` if it is just those.
    row: Option<Vec<ScalarExpr>>,
    selection: Option<ScalarExpr>,
    ctx: EvalCtx,
    buffer: Vec<u8>,
    /// How far the search for the end of `buffer`'s first line has come: in csv, and else as a number of bytes.
    record: csv::RecordScan,
    searched: usize,
    line: u64,
    header_done: bool,
    /// `\.` was seen: the rest is ignored.
    ended: bool,
    rows: Vec<DecodedRow>,
    /// Bytes of `rows`: the transaction's limit holds while the data arrives, not only at its end.
    bytes: usize,
    packer: RowPacker,
    arena: RowArena,
}

impl LineDecoder {
    pub fn new(plan: &CopyFromPlan, table: &str, ctx: EvalCtx) -> Self {
        let identity = plan.row.len() == plan.desc.types.len()
            && plan
                .row
                .iter()
                .enumerate()
                .all(|(i, e)| *e == ScalarExpr::Column(i));
        LineDecoder {
            table: table.to_owned(),
            desc: plan.desc.clone(),
            options: plan.options.clone(),
            row: (!identity).then(|| plan.row.clone()),
            selection: plan.selection.clone(),
            ctx,
            buffer: vec![],
            record: csv::RecordScan::default(),
            searched: 0,
            line: 0,
            header_done: plan.options.header == CopyHeader::Absent,
            ended: false,
            rows: vec![],
            bytes: 0,
            packer: RowPacker::new(),
            arena: RowArena::new(),
        }
    }

    /// Takes the next piece of data.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        self.drain(false)
    }

    /// All rows, once the data has ended.
    pub fn finish(mut self) -> Result<Vec<DecodedRow>> {
        self.drain(true)?;
        Ok(self.rows)
    }

    fn drain(&mut self, complete: bool) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        let mut start = 0;
        while !self.ended && start < buffer.len() {
            let Some((length, end)) = self.line_end(&buffer[start..], complete) else {
                break;
            };
            self.line += 1;
            let line = &buffer[start..start + length];
            let line = std::str::from_utf8(line).map_err(|_| {
                self.locate(
                    SqlError::new("22021", "invalid byte sequence for encoding \"UTF8\""),
                    None,
                )
            })?;
            self.accept(line)?;
            start += length + end;
        }
        if self.ended {
            return Ok(());
        }
        self.buffer = buffer;
        self.buffer.drain(..start);
        if self.buffer.len() > LINE_BYTES_MAX {
            return Err(self.locate(
                SqlError::new(
                    "54000",
                    format!("a line is longer than {LINE_BYTES_MAX} bytes"),
                ),
                None,
            ));
        }
        Ok(())
    }

    fn line_end(&mut self, bytes: &[u8], complete: bool) -> Option<(usize, usize)> {
        if self.options.format == CopyFormat::Csv {
            let CopyOptions { quote, escape, .. } = self.options;
            return self.record.end(bytes, quote, escape, complete);
        }
        let mut at = std::mem::take(&mut self.searched);
        loop {
            let rest = &bytes[at..];
            let Some(found) = rest.iter().position(|b| *b == b'\n' || *b == b'\\') else {
                at = bytes.len();
                break;
            };
            let position = at + found;
            if bytes[position] == b'\n' {
                let carriage = usize::from(position > 0 && bytes[position - 1] == b'\r');
                return Some((position - carriage, 1 + carriage));
            }
            if position + 1 == bytes.len() {
                // What is escaped has not arrived yet.
                at = position;
                break;
            }
            // `\.` alone on a line is not an escaped line end.
            at = position + 2;
        }
        if complete && !bytes.is_empty() {
            return Some((bytes.len(), 0));
        }
        self.searched = at;
        None
    }

    fn accept(&mut self, line: &str) -> Result<()> {
        if line == "\\." {
            self.ended = true;
            return Ok(());
        }
        if !std::mem::replace(&mut self.header_done, true) {
            return self.check_header(line);
        }
        match self.options.format {
            CopyFormat::Csv => {
                let record = csv::split(
                    line,
                    self.options.delimiter,
                    self.options.quote,
                    self.options.escape,
                )
                .map_err(|e| self.locate(e, None))?;
                let fields: Vec<_> = record
                    .iter()
                    .enumerate()
                    .map(|(i, field)| {
                        self.is_value(i, field)
                            .then_some(Cow::Borrowed(field.value.as_str()))
                    })
                    .collect();
                self.decode(&fields)
            }
            CopyFormat::Text | CopyFormat::Binary => {
                let mut fields = Vec::with_capacity(self.desc.types.len());
                text::split(
                    line,
                    self.options.delimiter,
                    &self.options.null,
                    &mut fields,
                )
                .map_err(|e| self.locate(e, None))?;
                self.decode(&fields)
            }
        }
    }

    /// Whether a csv field is a value rather than NULL.
    fn is_value(&self, column: usize, field: &csv::Field) -> bool {
        let options = &self.options;
        if field.value != options.null {
            return true;
        }
        if field.quoted {
            !options.force_null.contains(&column)
        } else {
            options.force_not_null.contains(&column)
        }
    }

    fn check_header(&self, line: &str) -> Result<()> {
        if self.options.header != CopyHeader::Match {
            return Ok(());
        }
        let names: Vec<String> = match self.options.format {
            CopyFormat::Csv => csv::split(
                line,
                self.options.delimiter,
                self.options.quote,
                self.options.escape,
            )?
            .into_iter()
            .map(|f| f.value)
            .collect(),
            CopyFormat::Text | CopyFormat::Binary => line
                .split(char::from(self.options.delimiter))
                .map(str::to_owned)
                .collect(),
        };
        for (i, (found, expected)) in names.iter().zip(&self.desc.names).enumerate() {
            if found != expected {
                return Err(self.locate(
                    SqlError::new(
                        "22P04",
                        format!("column name mismatch in header line field {}: got \"{found}\", expected \"{expected}\"", i + 1),
                    ),
                    None,
                ));
            }
        }
        if names.len() != self.desc.names.len() {
            let message = format!(
                "wrong number of fields in header line: got {}, expected {}",
                names.len(),
                self.desc.names.len()
            );
            return Err(self.locate(SqlError::new("22P04", message), None));
        }
        Ok(())
    }

    fn decode(&mut self, fields: &[Option<Cow<'_, str>>]) -> Result<()> {
        if fields.len() < self.desc.types.len() {
            let name = &self.desc.names[fields.len()];
            return Err(self.locate(
                SqlError::new("22P04", format!("missing data for column \"{name}\"")),
                None,
            ));
        }
        if fields.len() > self.desc.types.len() {
            return Err(self.locate(
                SqlError::new("22P04", "extra data after last expected column"),
                None,
            ));
        }
        let row = self.parse_row(fields);
        self.packer.clear();
        self.arena.clear();
        match row {
            Ok(Some(row)) => {
                self.bytes += row.byte_len() + 16;
                if self.bytes > TRANSACTION_BYTES_MAX {
                    return Err(self.locate(transaction_too_large(), None));
                }
                self.rows.push(DecodedRow {
                    row,
                    line: self.line,
                });
                Ok(())
            }
            Ok(None) => Ok(()),
            Err((column, error)) => {
                let field = fields
                    .get(column)
                    .and_then(|f| f.as_deref())
                    .map(|value| (column, value));
                Err(self.locate(error, field))
            }
        }
    }

    /// The table's row; an error names the column of the data.
    fn parse_row(
        &mut self,
        fields: &[Option<Cow<'_, str>>],
    ) -> Result<Option<Row>, (usize, SqlError)> {
        let (arena, packer) = (&self.arena, &mut self.packer);
        if self.row.is_none() && self.selection.is_none() {
            for (i, field) in fields.iter().enumerate() {
                packer.push(
                    parse_field(&self.desc.types[i].ty, field.as_deref(), &self.ctx, arena)
                        .map_err(|e| (i, e))?,
                );
            }
            return Ok(Some(packer.finish_row()));
        }
        let mut datums = Vec::with_capacity(fields.len());
        for (i, field) in fields.iter().enumerate() {
            datums.push(
                parse_field(&self.desc.types[i].ty, field.as_deref(), &self.ctx, arena)
                    .map_err(|e| (i, e))?,
            );
        }
        project(
            self.row.as_deref(),
            self.selection.as_ref(),
            &datums,
            &self.ctx,
            arena,
        )
        .map_err(|e| (usize::MAX, e))
    }

    /// `COPY t, line 3, column v: "x"`.
    fn locate(&self, mut error: SqlError, field: Option<(usize, &str)>) -> SqlError {
        let mut context = format!("COPY {}, line {}", self.table, self.line);
        if let Some((column, value)) = field {
            let shown: String = value.chars().take(100).collect();
            context.push_str(&format!(
                ", column {}: \"{shown}\"",
                self.desc.names[column]
            ));
        }
        error.context = Some(context);
        error
    }
}

fn parse_field<'a>(
    ty: &SqlType,
    field: Option<&'a str>,
    ctx: &EvalCtx,
    arena: &'a RowArena,
) -> Result<Datum<'a>> {
    match field {
        None => Ok(Datum::Null),
        Some(text) => match (RegKind::of(ty), &ctx.catalog) {
            (Some(kind), Some(names)) => Ok(Datum::Oid(catalog_fns::parse(&**names, kind, text)?)),
            _ => Ok(parse_datum(ty, text, &ctx.format, arena)?),
        },
    }
}

/// The table's row, unless WHERE drops it.
fn project(
    row: Option<&[ScalarExpr]>,
    selection: Option<&ScalarExpr>,
    datums: &[Datum<'_>],
    ctx: &EvalCtx,
    arena: &RowArena,
) -> Result<Option<Row>> {
    let packed = match row {
        None => Row::pack_slice(datums),
        Some(exprs) => {
            let values = exprs
                .iter()
                .map(|e| e.eval(ctx, datums, arena))
                .collect::<Result<Vec<_>, _>>()?;
            Row::pack_slice(&values)
        }
    };
    let keep = match selection {
        None => true,
        Some(predicate) => {
            predicate.eval(ctx, &packed.unpack(), &RowArena::new())? == Datum::Bool(true)
        }
    };
    Ok(keep.then_some(packed))
}
