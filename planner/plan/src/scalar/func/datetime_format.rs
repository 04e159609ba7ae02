//! Templates of dates and times, as `to_char` and `to_date` read them: `YYYY-MM-DD HH24:MI:SS`.

use crate::error::EvalError;

/// How the letters of a name or mark are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    Upper,
    Capital,
    Lower,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// AM or PM; with dots.
    Meridiem(Case, bool),
    /// AD or BC; with dots.
    Era(Case, bool),
    Century,
    DayName(Case),
    DayAbbreviation(Case),
    DayOfYear,
    Day,
    DayOfWeek,
    /// Digits after the second.
    Fraction(u8),
    Hour24,
    Hour12,
    IsoDayOfYear,
    IsoDayOfWeek,
    IsoWeek,
    /// The last digits of the year of the ISO week.
    IsoYear(u8),
    Julian,
    Minute,
    Month,
    MonthName(Case),
    MonthAbbreviation(Case),
    Millisecond,
    Offset,
    Quarter,
    RomanMonth(Case),
    SecondOfDay,
    Second,
    ZoneHour,
    ZoneMinute,
    Zone(Case),
    Microsecond,
    WeekOfYear,
    WeekOfMonth,
    /// The last digits of the year.
    Year(u8),
    /// With a comma before the last three digits.
    YearWithComma,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Field {
        field: Field,
        /// Without padding (`FM`).
        compact: bool,
        /// An ordinal ending (`TH`).
        ordinal: Option<Case>,
    },
    /// A character that stands for itself. `quoted` if it was written in quotes or escaped.
    Char { c: char, quoted: bool },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Template {
    pub items: Vec<Item>,
    /// `FX`: input has to match exactly.
    pub exact: bool,
}

/// The upper-case keywords; where one is a prefix of another, the longer comes first.
static KEYWORDS: &[(&str, Field)] = &[
    ("A.D.", Field::Era(Case::Upper, true)),
    ("A.M.", Field::Meridiem(Case::Upper, true)),
    ("AD", Field::Era(Case::Upper, false)),
    ("AM", Field::Meridiem(Case::Upper, false)),
    ("B.C.", Field::Era(Case::Upper, true)),
    ("BC", Field::Era(Case::Upper, false)),
    ("CC", Field::Century),
    ("DAY", Field::DayName(Case::Upper)),
    ("DDD", Field::DayOfYear),
    ("DD", Field::Day),
    ("DY", Field::DayAbbreviation(Case::Upper)),
    ("D", Field::DayOfWeek),
    ("FF1", Field::Fraction(1)),
    ("FF2", Field::Fraction(2)),
    ("FF3", Field::Fraction(3)),
    ("FF4", Field::Fraction(4)),
    ("FF5", Field::Fraction(5)),
    ("FF6", Field::Fraction(6)),
    ("HH24", Field::Hour24),
    ("HH12", Field::Hour12),
    ("HH", Field::Hour12),
    ("IDDD", Field::IsoDayOfYear),
    ("ID", Field::IsoDayOfWeek),
    ("IW", Field::IsoWeek),
    ("IYYY", Field::IsoYear(4)),
    ("IYY", Field::IsoYear(3)),
    ("IY", Field::IsoYear(2)),
    ("I", Field::IsoYear(1)),
    ("J", Field::Julian),
    ("MI", Field::Minute),
    ("MM", Field::Month),
    ("MONTH", Field::MonthName(Case::Upper)),
    ("MON", Field::MonthAbbreviation(Case::Upper)),
    ("MS", Field::Millisecond),
    ("OF", Field::Offset),
    ("P.M.", Field::Meridiem(Case::Upper, true)),
    ("PM", Field::Meridiem(Case::Upper, false)),
    ("Q", Field::Quarter),
    ("RM", Field::RomanMonth(Case::Upper)),
    ("SSSSS", Field::SecondOfDay),
    ("SSSS", Field::SecondOfDay),
    ("SS", Field::Second),
    ("TZH", Field::ZoneHour),
    ("TZM", Field::ZoneMinute),
    ("TZ", Field::Zone(Case::Upper)),
    ("US", Field::Microsecond),
    ("WW", Field::WeekOfYear),
    ("W", Field::WeekOfMonth),
    ("Y,YYY", Field::YearWithComma),
    ("YYYY", Field::Year(4)),
    ("YYY", Field::Year(3)),
    ("YY", Field::Year(2)),
    ("Y", Field::Year(1)),
];

/// The keywords that differ when only their first letter is a capital.
static CAPITALS: &[(&str, Field)] = &[
    ("Day", Field::DayName(Case::Capital)),
    ("Dy", Field::DayAbbreviation(Case::Capital)),
    ("Month", Field::MonthName(Case::Capital)),
    ("Mon", Field::MonthAbbreviation(Case::Capital)),
];

impl Field {
    fn lowered(self) -> Field {
        match self {
            Field::Era(_, dots) => Field::Era(Case::Lower, dots),
            Field::Meridiem(_, dots) => Field::Meridiem(Case::Lower, dots),
            Field::DayName(_) => Field::DayName(Case::Lower),
            Field::DayAbbreviation(_) => Field::DayAbbreviation(Case::Lower),
            Field::MonthName(_) => Field::MonthName(Case::Lower),
            Field::MonthAbbreviation(_) => Field::MonthAbbreviation(Case::Lower),
            Field::RomanMonth(_) => Field::RomanMonth(Case::Lower),
            Field::Zone(_) => Field::Zone(Case::Lower),
            other => other,
        }
    }
}

/// The keyword at the start of the text, and its length.
fn keyword(text: &str) -> Option<(Field, usize)> {
    for (name, field) in CAPITALS {
        if text.starts_with(name) {
            return Some((*field, name.len()));
        }
    }
    for (name, field) in KEYWORDS {
        let Some(head) = text.get(..name.len()) else {
            continue;
        };
        if head == *name {
            return Some((*field, name.len()));
        }
        if head.eq_ignore_ascii_case(name) && head == name.to_ascii_lowercase() {
            return Some((field.lowered(), name.len()));
        }
    }
    None
}

/// The prefixes `FM`, `FX` and `TM` at the start of the text, in either case.
fn prefix<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let head = text.get(..2)?;
    (head == name || head == name.to_ascii_lowercase()).then(|| &text[2..])
}

pub(super) fn parse(text: &str) -> Result<Template, EvalError> {
    let mut template = Template::default();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let mut compact = false;
        let mut start = rest;
        loop {
            if let Some(after) = prefix(start, "FM") {
                (compact, start) = (true, after);
            } else if let Some(after) = prefix(start, "FX") {
                (template.exact, start) = (true, after);
            } else if let Some(after) = prefix(start, "TM") {
                // Names are English in every locale here.
                (compact, start) = (true, after);
            } else {
                break;
            }
        }
        if let Some((field, length)) = keyword(start) {
            rest = &start[length..];
            let ordinal = match rest.get(..2) {
                Some("TH") => Some(Case::Upper),
                Some("th") => Some(Case::Lower),
                _ => None,
            };
            if ordinal.is_some() {
                rest = &rest[2..];
            }
            template.items.push(Item::Field {
                field,
                compact,
                ordinal,
            });
            continue;
        }
        if start.len() < rest.len() {
            // Prefixes without a field mean nothing by themselves.
            rest = start;
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match c {
            '"' => rest = quoted(rest, &mut template.items),
            '\\' if rest.starts_with('"') => {
                template.items.push(Item::Char {
                    c: '"',
                    quoted: true,
                });
                rest = &rest[1..];
            }
            c => template.items.push(Item::Char { c, quoted: false }),
        }
    }
    Ok(template)
}

/// Takes text up to the closing quote; a backslash escapes the next character.
fn quoted<'t>(text: &'t str, items: &mut Vec<Item>) -> &'t str {
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return &text[at + 1..],
            '\\' => {
                if let Some((_, c)) = chars.next() {
                    items.push(Item::Char { c, quoted: true });
                }
            }
            c => items.push(Item::Char { c, quoted: true }),
        }
    }
    ""
}

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

pub(super) const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

pub(super) const ROMAN_MONTHS: [&str; 12] = [
    "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII",
];
