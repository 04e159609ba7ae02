//! Time zones: IANA names, Postgres's abbreviations and fixed offsets.

use std::fmt;

use chrono::{NaiveDateTime, Offset, TimeZone as _};
use chrono_tz::{OffsetName, TZ_VARIANTS, Tz};

use super::calendar::{days_from_civil, is_leap_year};
use super::error::TimeError;
use super::{PgTimestamp, UNIX_TO_PG_EPOCH_USECS, USECS_PER_DAY, USECS_PER_SEC};

/// The largest offset from UTC, in seconds (exclusive), as in Postgres.
const OFFSET_SECS_END: i32 = 16 * 3600;

/// Where local time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeZone {
    /// A region of the IANA database.
    Region(Tz),
    /// A constant number of seconds east of UTC.
    Fixed(i32),
}

impl TimeZone {
    /// Coordinated universal time.
    pub const UTC: TimeZone = TimeZone::Region(Tz::UTC);

    /// A constant offset, in seconds east of UTC.
    pub fn from_offset_secs(east: i32) -> Option<TimeZone> {
        (-OFFSET_SECS_END < east && east < OFFSET_SECS_END).then_some(TimeZone::Fixed(east))
    }

    /// What `AT TIME ZONE` and the `TimeZone` setting accept: an abbreviation, a region's name (both
    /// in any case), or a POSIX specification such as `UTC-3` or `+05:30`, whose positive offsets are
    /// *west* of Greenwich.
    ///
    /// # Errors
    /// No such zone.
    pub fn parse(name: &str) -> Result<TimeZone, TimeError> {
        let trimmed = name.trim();
        region(trimmed)
            .map(TimeZone::Region)
            .or_else(|| abbreviation_offset_secs(trimmed).map(TimeZone::Fixed))
            .or_else(|| posix(trimmed))
            .ok_or_else(|| TimeError::UnknownZone(name.to_owned()))
    }

    /// What `SET TIME ZONE` accepts: a number of hours east, or what [`TimeZone::parse`] accepts.
    ///
    /// # Errors
    /// No such zone.
    pub fn parse_setting(name: &str) -> Result<TimeZone, TimeError> {
        if let Ok(hours) = name.trim().parse::<f64>()
            && hours.is_finite()
        {
            return TimeZone::from_offset_secs((hours * 3600.0) as i32)
                .ok_or_else(|| TimeError::UnknownZone(name.to_owned()));
        }
        TimeZone::parse(name)
    }

    /// Seconds east of UTC at a moment given in UTC.
    pub fn offset_at_utc(&self, utc: PgTimestamp) -> i32 {
        match self {
            TimeZone::Fixed(east) => *east,
            TimeZone::Region(Tz::UTC) => 0,
            TimeZone::Region(tz) => tz
                .offset_from_utc_datetime(&naive(utc))
                .fix()
                .local_minus_utc(),
        }
    }

    /// Seconds east of UTC at a local time. In the hour that is skipped the offset before it is taken,
    /// in the hour that comes twice the second one.
    pub fn offset_at_local(&self, local: PgTimestamp) -> i32 {
        if let TimeZone::Fixed(east) = self {
            return *east;
        }
        let shifted = |micros: i64| PgTimestamp(local.0.saturating_add(micros));
        let before = self.offset_at_utc(shifted(-USECS_PER_DAY));
        let after = self.offset_at_utc(shifted(USECS_PER_DAY));
        if before == after {
            return before;
        }
        let holds =
            |offset: i32| self.offset_at_utc(shifted(-i64::from(offset) * USECS_PER_SEC)) == offset;
        if holds(after) { after } else { before }
    }

    /// The abbreviation in use at a moment, such as `PST`; a fixed offset has none.
    pub fn abbreviation_at_utc(&self, utc: PgTimestamp) -> Option<String> {
        match self {
            TimeZone::Region(tz) => abbreviation(*tz, utc),
            TimeZone::Fixed(_) => None,
        }
    }

    /// A moment (in UTC) as local time; keeps infinities.
    pub fn to_local(&self, utc: PgTimestamp) -> PgTimestamp {
        if !utc.is_finite() {
            return utc;
        }
        let offset = i64::from(self.offset_at_utc(utc)) * USECS_PER_SEC;
        PgTimestamp(utc.0.saturating_add(offset))
    }

    /// A local time as a moment (in UTC); keeps infinities.
    ///
    /// # Errors
    /// Out of range.
    pub fn to_utc(&self, local: PgTimestamp) -> Result<PgTimestamp, TimeError> {
        if !local.is_finite() {
            return Ok(local);
        }
        let offset = i128::from(self.offset_at_local(local)) * i128::from(USECS_PER_SEC);
        PgTimestamp::from_wide_micros(i128::from(local.0) - offset)
    }
}

impl Default for TimeZone {
    fn default() -> TimeZone {
        TimeZone::UTC
    }
}

impl fmt::Display for TimeZone {
    /// As `SHOW TimeZone` prints it: fixed offsets in POSIX form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TimeZone::Region(tz) => f.write_str(tz.name()),
            TimeZone::Fixed(east) => {
                f.write_str("<")?;
                write_offset(f, *east)?;
                f.write_str(">")?;
                write_offset(f, -*east)
            }
        }
    }
}

/// Writes an offset as `+05`, `-05:30` or `-04:56:02`.
pub(crate) fn write_offset(out: &mut dyn fmt::Write, secs: i32) -> fmt::Result {
    let sign = if secs < 0 { '-' } else { '+' };
    let secs = secs.unsigned_abs();
    write!(out, "{sign}{:02}", secs / 3600)?;
    let (minute, second) = (secs / 60 % 60, secs % 60);
    if minute != 0 || second != 0 {
        write!(out, ":{minute:02}")?;
    }
    if second != 0 {
        write!(out, ":{second:02}")?;
    }
    Ok(())
}

/// The database lists changes of offsets up to (and without) this year.
const TABLE_YEAR_END: i32 = 2100;
/// 2100-01-01 00:00:00 UTC.
const TABLE_END: PgTimestamp = PgTimestamp(36_525 * USECS_PER_DAY);

/// The moment as the database can look it up. After its end, the rules of its last years go on: the
/// moment moves to a listed year that has the same calendar.
fn naive(utc: PgTimestamp) -> NaiveDateTime {
    let listed = if utc < TABLE_END {
        utc.0
    } else {
        let year = utc.date().civil().year;
        utc.0 - i64::from(first_day(year) - first_day(year_like(year))) * USECS_PER_DAY
    };
    let micros = listed.saturating_add(UNIX_TO_PG_EPOCH_USECS);
    chrono::DateTime::from_timestamp_micros(micros)
        .map_or(NaiveDateTime::MIN, |moment| moment.naive_utc())
}

fn first_day(year: i32) -> i32 {
    days_from_civil(year.into(), 1, 1) as i32
}

/// One of the last 28 listed years, with the same first weekday and length.
fn year_like(year: i32) -> i32 {
    let calendar = |year: i32| (first_day(year).rem_euclid(7), is_leap_year(year));
    (TABLE_YEAR_END - 28..TABLE_YEAR_END)
        .find(|listed| calendar(*listed) == calendar(year))
        .expect("28 years in a row have every calendar")
}

/// The abbreviation of a region's time at a moment, such as `PST`.
pub(crate) fn abbreviation(tz: Tz, utc: PgTimestamp) -> Option<String> {
    let offset = tz.offset_from_utc_datetime(&naive(utc));
    offset.abbreviation().map(str::to_owned)
}

fn region(name: &str) -> Option<Tz> {
    if let Ok(tz) = name.parse::<Tz>() {
        return Some(tz);
    }
    TZ_VARIANTS
        .iter()
        .copied()
        .find(|tz| tz.name().eq_ignore_ascii_case(name))
}

/// `[name]offset` with a positive offset to the west: `UTC-3`, `<-03>+03`, `+05:30`.
fn posix(text: &str) -> Option<TimeZone> {
    let offset = match text.strip_prefix('<') {
        Some(quoted) => quoted.split_once('>')?.1,
        None => text.trim_start_matches(|c: char| c.is_ascii_alphabetic()),
    };
    let (west, digits) = match offset.as_bytes().first()? {
        b'-' => (-1, &offset[1..]),
        b'+' => (1, &offset[1..]),
        _ => (1, offset),
    };
    let mut secs = 0;
    let mut unit = 3600;
    for part in digits.split(':') {
        let plain = (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        if !plain || unit == 0 {
            return None;
        }
        secs += part.parse::<i32>().ok()? * unit;
        unit /= 60;
    }
    TimeZone::from_offset_secs(-west * secs)
}

/// Seconds east of UTC of a zone abbreviation (in any case).
pub(crate) fn abbreviation_offset_secs(name: &str) -> Option<i32> {
    let upper = name.to_ascii_uppercase();
    let found = ABBREVIATIONS.binary_search_by(|(abbreviation, _)| (*abbreviation).cmp(&upper));
    found
        .ok()
        .map(|index| i32::from(ABBREVIATIONS[index].1) * 60)
}

/// Abbreviation and minutes east of UTC, sorted.
static ABBREVIATIONS: &[(&str, i16)] = &[
    ("ACDT", 630),
    ("ACSST", 630),
    ("ACST", 570),
    ("ACT", -300),
    ("ACWST", 525),
    ("ADT", -180),
    ("AEDT", 660),
    ("AESST", 660),
    ("AEST", 600),
    ("AFT", 270),
    ("AKDT", -480),
    ("AKST", -540),
    ("ALMST", 420),
    ("ALMT", 360),
    ("AMST", 240),
    ("AMT", -240),
    ("ANAST", 720),
    ("ANAT", 720),
    ("ARST", -180),
    ("ART", -180),
    ("AST", -240),
    ("AWSST", 540),
    ("AWST", 480),
    ("AZOST", 0),
    ("AZOT", -60),
    ("AZST", 240),
    ("AZT", 240),
    ("BDST", 120),
    ("BDT", 360),
    ("BNT", 480),
    ("BORT", 480),
    ("BOT", -240),
    ("BRA", -180),
    ("BRST", -120),
    ("BRT", -180),
    ("BST", 60),
    ("BTT", 360),
    ("CADT", 630),
    ("CAST", 570),
    ("CCT", 480),
    ("CDT", -300),
    ("CEST", 120),
    ("CET", 60),
    ("CETDST", 120),
    ("CHADT", 825),
    ("CHAST", 765),
    ("CHUT", 600),
    ("CKT", -600),
    ("CLST", -180),
    ("CLT", -180),
    ("COT", -300),
    ("CST", -360),
    ("CXT", 420),
    ("DAVT", 420),
    ("DDUT", 600),
    ("EASST", -300),
    ("EAST", -300),
    ("EAT", 180),
    ("EDT", -240),
    ("EEST", 180),
    ("EET", 120),
    ("EETDST", 180),
    ("EGST", 0),
    ("EGT", -60),
    ("EST", -300),
    ("FET", 180),
    ("FJST", 780),
    ("FJT", 720),
    ("FKST", -180),
    ("FKT", -180),
    ("FNST", -60),
    ("FNT", -120),
    ("GALT", -360),
    ("GAMT", -540),
    ("GEST", 240),
    ("GET", 240),
    ("GFT", -180),
    ("GILT", 720),
    ("GMT", 0),
    ("GYT", -240),
    ("HKT", 480),
    ("HST", -600),
    ("ICT", 420),
    ("IDT", 180),
    ("IOT", 360),
    ("IRKST", 480),
    ("IRKT", 480),
    ("IRT", 210),
    ("IST", 120),
    ("JAYT", 540),
    ("JST", 540),
    ("KDT", 600),
    ("KGST", 360),
    ("KGT", 360),
    ("KOST", 660),
    ("KRAST", 420),
    ("KRAT", 420),
    ("KST", 540),
    ("LHDT", 660),
    ("LHST", 630),
    ("LIGT", 600),
    ("LINT", 840),
    ("LKT", 330),
    ("MAGST", 660),
    ("MAGT", 660),
    ("MART", -570),
    ("MAWT", 300),
    ("MDT", -360),
    ("MEST", 120),
    ("MESZ", 120),
    ("MET", 60),
    ("METDST", 120),
    ("MEZ", 60),
    ("MHT", 720),
    ("MMT", 390),
    ("MPT", 600),
    ("MSD", 240),
    ("MSK", 180),
    ("MST", -420),
    ("MUST", 300),
    ("MUT", 240),
    ("MVT", 300),
    ("MYT", 480),
    ("NDT", -150),
    ("NFT", -210),
    ("NOVST", 420),
    ("NOVT", 420),
    ("NPT", 345),
    ("NST", -210),
    ("NUT", -660),
    ("NZDT", 780),
    ("NZST", 720),
    ("NZT", 720),
    ("OMSST", 360),
    ("OMST", 360),
    ("PDT", -420),
    ("PET", -300),
    ("PETST", 720),
    ("PETT", 720),
    ("PGT", 600),
    ("PHT", 480),
    ("PKST", 360),
    ("PKT", 300),
    ("PMDT", -120),
    ("PMST", -180),
    ("PONT", 660),
    ("PST", -480),
    ("PWT", 540),
    ("PYST", -180),
    ("PYT", -180),
    ("RET", 240),
    ("SADT", 630),
    ("SAST", 120),
    ("SCT", 240),
    ("SGT", 480),
    ("TAHT", -600),
    ("TFT", 300),
    ("TJT", 300),
    ("TKT", 780),
    ("TMT", 300),
    ("TOT", 780),
    ("TRUT", 600),
    ("TVT", 720),
    ("UCT", 0),
    ("ULAST", 540),
    ("ULAT", 480),
    ("UT", 0),
    ("UTC", 0),
    ("UYST", -120),
    ("UYT", -180),
    ("UZST", 360),
    ("UZT", 300),
    ("VET", -240),
    ("VLAST", 600),
    ("VLAT", 600),
    ("VOLT", 180),
    ("VUT", 660),
    ("WADT", 480),
    ("WAKT", 720),
    ("WAST", 420),
    ("WAT", 60),
    ("WDT", 540),
    ("WET", 0),
    ("WETDST", 60),
    ("WFT", 720),
    ("WGST", -120),
    ("WGT", -180),
    ("XJT", 360),
    ("YAKST", 540),
    ("YAKT", 540),
    ("YAPT", 600),
    ("YEKST", 360),
    ("YEKT", 300),
    ("Z", 0),
    ("ZULU", 0),
];
