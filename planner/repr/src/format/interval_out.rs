//! Intervals as text.

use std::fmt;

use super::IntervalStyle;
use crate::time::Interval;
use crate::time::arith::split_micros;

pub(super) fn write(
    interval: Interval,
    style: IntervalStyle,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    match style {
        IntervalStyle::Postgres => write_postgres(interval, out),
        IntervalStyle::PostgresVerbose => write_verbose(interval, out),
        IntervalStyle::SqlStandard => write_sql(interval, out),
        IntervalStyle::Iso8601 => write_iso(interval, out),
    }
}

/// `5`, or `05` with `width` 2; with the fraction, if any.
fn write_seconds(secs: i64, micros: i64, width: usize, out: &mut dyn fmt::Write) -> fmt::Result {
    write!(out, "{:0width$}", secs.unsigned_abs())?;
    if micros != 0 {
        let digits = format!("{:06}", micros.unsigned_abs());
        write!(out, ".{}", digits.trim_end_matches('0'))?;
    }
    Ok(())
}

fn write_postgres(interval: Interval, out: &mut dyn fmt::Write) -> fmt::Result {
    let (years, months) = (interval.months / 12, interval.months % 12);
    let mut first = true;
    let mut after_negative = false;
    for (value, unit) in [(years, "year"), (months, "mon"), (interval.days, "day")] {
        if value == 0 {
            continue;
        }
        let space = if first { "" } else { " " };
        // A sign that changes back is spelled out.
        let plus = if after_negative && value > 0 { "+" } else { "" };
        let plural = if value == 1 { "" } else { "s" };
        write!(out, "{space}{plus}{value} {unit}{plural}")?;
        after_negative = value < 0;
        first = false;
    }
    if !first && interval.micros == 0 {
        return Ok(());
    }
    let space = if first { "" } else { " " };
    let sign = match interval.micros {
        ..0 => "-",
        _ if after_negative => "+",
        _ => "",
    };
    let (hour, minute, second, micros) = split_micros(interval.micros);
    let (hour, minute) = (hour.unsigned_abs(), minute.unsigned_abs());
    write!(out, "{space}{sign}{hour:02}:{minute:02}:")?;
    write_seconds(second, micros, 2, out)
}

fn write_verbose(interval: Interval, out: &mut dyn fmt::Write) -> fmt::Result {
    let (hour, minute, second, micros) = split_micros(interval.micros);
    let parts = [
        (i64::from(interval.months / 12), "year"),
        (i64::from(interval.months % 12), "mon"),
        (i64::from(interval.days), "day"),
        (hour, "hour"),
        (minute, "min"),
    ];
    out.write_str("@")?;
    // The first part decides what "ago" is; later ones are relative to it.
    let mut ago = None;
    for (value, unit) in parts {
        if value == 0 {
            continue;
        }
        let negated = *ago.get_or_insert(value < 0);
        let value = if negated { -value } else { value };
        let plural = if value == 1 { "" } else { "s" };
        write!(out, " {value} {unit}{plural}")?;
    }
    if second != 0 || micros != 0 {
        let negative = second < 0 || micros < 0;
        let negated = *ago.get_or_insert(negative);
        out.write_str(if negative != negated { " -" } else { " " })?;
        write_seconds(second, micros, 1, out)?;
        let one = second.abs() == 1 && micros == 0;
        out.write_str(if one { " sec" } else { " secs" })?;
    }
    match ago {
        None => out.write_str(" 0"),
        Some(true) => out.write_str(" ago"),
        Some(false) => Ok(()),
    }
}

fn write_iso(interval: Interval, out: &mut dyn fmt::Write) -> fmt::Result {
    if interval.months == 0 && interval.days == 0 && interval.micros == 0 {
        return out.write_str("PT0S");
    }
    let (hour, minute, second, micros) = split_micros(interval.micros);
    let part = |value: i64, unit: char, out: &mut dyn fmt::Write| match value {
        0 => Ok(()),
        value => write!(out, "{value}{unit}"),
    };
    out.write_str("P")?;
    part(i64::from(interval.months / 12), 'Y', out)?;
    part(i64::from(interval.months % 12), 'M', out)?;
    part(i64::from(interval.days), 'D', out)?;
    if interval.micros != 0 {
        out.write_str("T")?;
    }
    part(hour, 'H', out)?;
    part(minute, 'M', out)?;
    if second != 0 || micros != 0 {
        if second < 0 || micros < 0 {
            out.write_str("-")?;
        }
        write_seconds(second, micros, 1, out)?;
        out.write_str("S")?;
    }
    Ok(())
}

fn write_sql(interval: Interval, out: &mut dyn fmt::Write) -> fmt::Result {
    let Interval {
        months,
        days,
        micros,
    } = interval;
    let parts = [i64::from(months), i64::from(days), micros];
    let negative = parts.iter().any(|part| *part < 0);
    let positive = parts.iter().any(|part| *part > 0);
    let (hour, minute, second, fraction) = split_micros(micros);
    let time = |out: &mut dyn fmt::Write| {
        let (hour, minute) = (hour.unsigned_abs(), minute.unsigned_abs());
        write!(out, "{hour}:{minute:02}:")?;
        write_seconds(second, fraction, 2, out)
    };
    let year_month = (months.unsigned_abs() / 12, months.unsigned_abs() % 12);
    if !negative && !positive {
        return out.write_str("0");
    }
    if negative && positive || (months != 0 && (days != 0 || micros != 0)) {
        // Mixed: every part carries its sign.
        let sign = |negative: bool| if negative { '-' } else { '+' };
        let (years, months_left) = year_month;
        write!(out, "{}{years}-{months_left} ", sign(months < 0))?;
        write!(out, "{}{} ", sign(days < 0), days.unsigned_abs())?;
        out.write_char(sign(micros < 0))?;
        return time(out);
    }
    if negative {
        out.write_str("-")?;
    }
    if months != 0 {
        return write!(out, "{}-{}", year_month.0, year_month.1);
    }
    if days != 0 {
        write!(out, "{} ", days.unsigned_abs())?;
    }
    time(out)
}

/// The text of an interval in the default style.
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        write_postgres(*self, &mut text)?;
        f.write_str(&text)
    }
}
