//! Records as text: `(1,"a b",)`.

use std::fmt;

use super::{FormatCtx, to_text};
use crate::array::RecordRef;
use crate::types::SqlType;

pub(super) fn write(
    ty: &SqlType,
    record: RecordRef<'_>,
    ctx: &FormatCtx,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    let types = match ty {
        SqlType::Record(types) => types.as_slice(),
        _ => &[],
    };
    out.write_str("(")?;
    for (index, field) in record.iter().enumerate() {
        if index > 0 {
            out.write_str(",")?;
        }
        if field.is_null() {
            continue;
        }
        let ty = types.get(index).unwrap_or(&SqlType::Unknown);
        write_field(&to_text(ty, field, ctx), out)?;
    }
    out.write_str(")")
}

fn write_field(text: &str, out: &mut dyn fmt::Write) -> fmt::Result {
    let special = |c: char| c.is_ascii_whitespace() || matches!(c, '"' | '\\' | '(' | ')' | ',');
    if !text.is_empty() && !text.contains(special) {
        return out.write_str(text);
    }
    out.write_str("\"")?;
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.write_char(c)?;
        }
        out.write_char(c)?;
    }
    out.write_str("\"")
}
