//! Row descriptions and data rows, encoded straight into the connection's buffer.

use crate::adapter::error::{Result, SqlError};
use crate::adapter::portal::format_of;
use bytes::{BufMut, BytesMut};
use plan::scalar::catalog_fns::{self, CatalogFns, RegKind};
use repr::format::{FormatCtx, write_binary, write_text};
use repr::{Datum, RelationDesc, Row, SqlType};

/// RowDescription of these columns.
pub fn describe(desc: &RelationDesc, formats: &[i16], out: &mut BytesMut) {
    framed(b'T', out, |out| {
        out.put_i16(i16::try_from(desc.arity()).unwrap_or(i16::MAX));
        for (i, (name, column)) in desc.columns().enumerate() {
            out.put_slice(name.as_bytes());
            out.put_u8(0);
            // Neither table nor attribute number are tracked through expressions.
            out.put_u32(0);
            out.put_i16(0);
            out.put_u32(column.ty.oid());
            out.put_i16(column.ty.typlen());
            out.put_i32(column.ty.typmod());
            out.put_i16(format_of(formats, i));
        }
    });
}

/// DataRow of one row. `names` are what values of `regclass` and its family are written with as text; without it they are numbers.
///
/// # Errors
/// If a format code is unknown; nothing is left in the buffer then.
pub fn data_row(
    desc: &RelationDesc,
    row: &Row,
    formats: &[i16],
    context: &FormatCtx,
    names: Option<&dyn CatalogFns>,
    out: &mut BytesMut,
) -> Result<()> {
    let start = out.len();
    out.put_u8(b'D');
    out.put_u32(0);
    out.put_i16(i16::try_from(desc.arity()).unwrap_or(i16::MAX));
    for (i, (datum, column)) in row.iter().zip(&desc.types).enumerate() {
        let format = format_of(formats, i);
        let named = match (names, datum, RegKind::of(&column.ty)) {
            (Some(names), Datum::Oid(oid), Some(kind)) if format == 0 => {
                Some(catalog_fns::display(names, kind, oid))
            }
            _ => None,
        };
        let datum = named.as_deref().map_or(datum, Datum::String);
        if let Err(error) = value(datum, &column.ty, format, context, out) {
            out.truncate(start);
            return Err(error);
        }
    }
    set_length(out, start);
    Ok(())
}

fn value(
    datum: Datum<'_>,
    ty: &SqlType,
    format: i16,
    context: &FormatCtx,
    out: &mut BytesMut,
) -> Result<()> {
    if datum.is_null() {
        out.put_i32(-1);
        return Ok(());
    }
    let at = out.len();
    out.put_i32(0);
    match format {
        0 => write_text(ty, datum, context, out)
            .map_err(|_| SqlError::internal("a buffer refused text"))?,
        1 => write_binary(ty, datum, out),
        code => {
            return Err(SqlError::new(
                "22023",
                format!("unsupported format code: {code}"),
            ));
        }
    }
    let length = i32::try_from(out.len() - at - 4)
        .map_err(|_| SqlError::new("54000", "a value is longer than 2 GiB"))?;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// A message of this kind around what `body` writes.
pub fn framed(kind: u8, out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u8(kind);
    out.put_u32(0);
    body(out);
    set_length(out, start);
}

fn set_length(out: &mut BytesMut, start: usize) {
    let length = u32::try_from(out.len() - start - 1).unwrap_or(u32::MAX);
    out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
}
