//! Dates, times and timestamps as text.

use std::fmt;

use super::{DateOrder, DateStyle, FormatCtx};
use crate::time::zone::{abbreviation, write_offset};
use crate::time::{CivilDate, CivilTime, Date, PgTimestamp, Time, TimeZone};

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// Digits collected on the stack, so that the common forms are one `write_str`.
struct Text {
    bytes: [u8; 40],
    len: usize,
}

impl Text {
    fn new() -> Text {
        Text {
            bytes: [0; 40],
            len: 0,
        }
    }

    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn two(&mut self, value: u8) {
        self.byte(b'0' + value / 10);
        self.byte(b'0' + value % 10);
    }

    /// At least four digits.
    fn year(&mut self, value: u32) {
        let mut power = 1000;
        while value / power >= 10 {
            power *= 10;
        }
        while power > 0 {
            self.byte(b'0' + (value / power % 10) as u8);
            power /= 10;
        }
    }

    fn time(&mut self, time: CivilTime) {
        self.two(time.hour);
        self.byte(b':');
        self.two(time.minute);
        self.byte(b':');
        self.two(time.second);
        self.fraction(time.micros);
    }

    fn fraction(&mut self, micros: u32) {
        if micros == 0 {
            return;
        }
        self.byte(b'.');
        let mut rest = micros;
        let mut power = 100_000;
        while rest > 0 {
            self.byte(b'0' + (rest / power) as u8);
            rest %= power;
            power /= 10;
        }
    }

    /// The numbers of a date in the order and with the separators of the style.
    fn date(&mut self, date: CivilDate, ctx: &FormatCtx) {
        let year = shown_year(date);
        match (ctx.date_style, ctx.date_order) {
            (DateStyle::Iso, _) => {
                self.year(year);
                self.byte(b'-');
                self.two(date.month);
                self.byte(b'-');
                self.two(date.day);
            }
            (DateStyle::German, _) => self.day_first(date, b'.'),
            (DateStyle::Sql, DateOrder::Dmy) => self.day_first(date, b'/'),
            (DateStyle::Sql, _) => self.month_first(date, b'/'),
            (DateStyle::Postgres, DateOrder::Dmy) => self.day_first(date, b'-'),
            (DateStyle::Postgres, _) => self.month_first(date, b'-'),
        }
    }

    fn day_first(&mut self, date: CivilDate, separator: u8) {
        self.two(date.day);
        self.byte(separator);
        self.two(date.month);
        self.byte(separator);
        self.year(shown_year(date));
    }

    fn month_first(&mut self, date: CivilDate, separator: u8) {
        self.two(date.month);
        self.byte(separator);
        self.two(date.day);
        self.byte(separator);
        self.year(shown_year(date));
    }

    fn write_to(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str(std::str::from_utf8(&self.bytes[..self.len]).expect("ASCII"))
    }
}

/// The year without its era.
fn shown_year(date: CivilDate) -> u32 {
    match date.year {
        1.. => date.year.unsigned_abs(),
        year => year.unsigned_abs() + 1,
    }
}

fn write_era(date: CivilDate, out: &mut dyn fmt::Write) -> fmt::Result {
    match date.year {
        1.. => Ok(()),
        _ => out.write_str(" BC"),
    }
}

pub(super) fn write_date(date: Date, ctx: &FormatCtx, out: &mut dyn fmt::Write) -> fmt::Result {
    match date {
        Date::INFINITY => return out.write_str("infinity"),
        Date::NEG_INFINITY => return out.write_str("-infinity"),
        _ => {}
    }
    let civil = date.civil();
    let mut text = Text::new();
    text.date(civil, ctx);
    text.write_to(out)?;
    write_era(civil, out)
}

pub(super) fn write_time(time: Time, out: &mut dyn fmt::Write) -> fmt::Result {
    let mut text = Text::new();
    text.time(time.civil());
    text.write_to(out)
}

pub(super) fn write_timestamp(
    ts: PgTimestamp,
    ctx: &FormatCtx,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    write_moment(ts, ctx, out, |_| Ok(()))
}

pub(super) fn write_timestamptz(
    ts: PgTimestamp,
    ctx: &FormatCtx,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    if !ts.is_finite() {
        return write_timestamp(ts, ctx, out);
    }
    let offset = ctx.timezone.offset_at_utc(ts);
    let local = PgTimestamp(ts.0.saturating_add(i64::from(offset) * 1_000_000));
    write_moment(local, ctx, out, |out| match ctx.date_style {
        DateStyle::Iso => write_offset(out, offset),
        DateStyle::Sql | DateStyle::Postgres | DateStyle::German => {
            out.write_str(" ")?;
            write_zone_name(ts, &ctx.timezone, offset, out)
        }
    })
}

fn write_moment(
    local: PgTimestamp,
    ctx: &FormatCtx,
    out: &mut dyn fmt::Write,
    write_zone: impl Fn(&mut dyn fmt::Write) -> fmt::Result,
) -> fmt::Result {
    match local {
        PgTimestamp::INFINITY => return out.write_str("infinity"),
        PgTimestamp::NEG_INFINITY => return out.write_str("-infinity"),
        _ => {}
    }
    let (date, time) = local.civil();
    let mut text = Text::new();
    if ctx.date_style == DateStyle::Postgres {
        write_verbose_start(local, date, ctx.date_order, out)?;
        text.time(time);
        text.byte(b' ');
        text.year(shown_year(date));
    } else {
        text.date(date, ctx);
        text.byte(b' ');
        text.time(time);
    }
    text.write_to(out)?;
    write_zone(out)?;
    write_era(date, out)
}

fn write_verbose_start(
    local: PgTimestamp,
    date: CivilDate,
    order: DateOrder,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    let weekday = WEEKDAYS[usize::from(local.date().day_of_week())];
    let month = MONTHS[usize::from(date.month - 1)];
    match order {
        DateOrder::Dmy => write!(out, "{weekday} {:02} {month} ", date.day),
        DateOrder::Mdy | DateOrder::Ymd => write!(out, "{weekday} {month} {:02} ", date.day),
    }
}

fn write_zone_name(
    utc: PgTimestamp,
    zone: &TimeZone,
    offset: i32,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    if let TimeZone::Region(tz) = zone
        && let Some(name) = abbreviation(*tz, utc)
    {
        return out.write_str(&name);
    }
    write_offset(out, offset)
}
