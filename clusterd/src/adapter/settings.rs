//! Session settings: names, defaults, checks, and their effect on text formats.

use crate::adapter::error::{Result, SqlError};
use std::collections::BTreeMap;
use std::time::Duration;

/// What is known about one setting.
pub struct SettingDef {
    pub name: &'static str,
    pub default: &'static str,
    pub help: &'static str,
    kind: Kind,
    /// Reported to the client when it changes (ParameterStatus).
    pub reported: bool,
}

enum Kind {
    Text,
    ReadOnly,
    Bool,
    /// Milliseconds, with PostgreSQL's units; 0 turns the limit off.
    Millis,
    Integer {
        min: i64,
        max: i64,
    },
    /// One of these words; the first column is what the user may say, the second what it means.
    Words(&'static [(&'static str, &'static str)]),
    TimeZone,
    DateStyle,
    Utf8,
}

const ISOLATION: &[(&str, &str)] = &[
    ("strict serializable", "strict serializable"),
    ("serializable", "serializable"),
    ("repeatable read", "strict serializable"),
    ("read committed", "strict serializable"),
    ("read uncommitted", "strict serializable"),
];

macro_rules! setting {
    ($name:literal, $default:literal, $kind:expr, $reported:literal, $help:literal) => {
        SettingDef {
            name: $name,
            default: $default,
            help: $help,
            kind: $kind,
            reported: $reported,
        }
    };
}

/// All settings, sorted by lower-case name.
static SETTINGS: &[SettingDef] = &[
    setting!(
        "application_name",
        "",
        Kind::Text,
        true,
        "Sets the application name to be reported in statistics and logs."
    ),
    setting!(
        "backslash_quote",
        "safe_encoding",
        Kind::Text,
        false,
        "Accepted for compatibility."
    ),
    setting!(
        "bytea_output",
        "hex",
        Kind::Words(&[("hex", "hex"), ("escape", "escape")]),
        false,
        "Sets the output format for bytea."
    ),
    setting!(
        "check_function_bodies",
        "on",
        Kind::Bool,
        false,
        "Accepted for compatibility."
    ),
    setting!(
        "client_encoding",
        "UTF8",
        Kind::Utf8,
        true,
        "Sets the client's character set encoding; only UTF8."
    ),
    setting!(
        "client_min_messages",
        "notice",
        Kind::Words(&[
            ("debug5", "debug5"),
            ("debug4", "debug4"),
            ("debug3", "debug3"),
            ("debug2", "debug2"),
            ("debug1", "debug1"),
            ("debug", "debug2"),
            ("log", "log"),
            ("notice", "notice"),
            ("info", "info"),
            ("warning", "warning"),
            ("error", "error")
        ]),
        false,
        "Sets the message levels that are sent to the client."
    ),
    setting!(
        "cluster",
        "quickstart",
        Kind::Text,
        false,
        "CLUSTER that runs new dataflows and queries of the session."
    ),
    setting!(
        "clusterd.execution",
        "auto",
        Kind::Words(&[("auto", "auto"), ("interpreter", "interpreter")]),
        false,
        "How one-shot queries are computed; interpreter forces the reference evaluator."
    ),
    setting!(
        "datestyle",
        "ISO, MDY",
        Kind::DateStyle,
        true,
        "Sets the display format for date and time values."
    ),
    setting!(
        "default_table_access_method",
        "heap",
        Kind::Text,
        false,
        "Accepted for compatibility."
    ),
    setting!(
        "default_transaction_isolation",
        "strict serializable",
        Kind::Words(ISOLATION),
        false,
        "Isolation level of new transactions."
    ),
    setting!(
        "default_transaction_read_only",
        "off",
        Kind::Bool,
        true,
        "Sets the default read-only status of new transactions."
    ),
    setting!(
        "extra_float_digits",
        "1",
        Kind::Integer { min: -15, max: 3 },
        false,
        "Sets the number of digits displayed for floating-point values."
    ),
    setting!(
        "idle_in_transaction_session_timeout",
        "0",
        Kind::Millis,
        false,
        "Ends a session that idles in a transaction for this long."
    ),
    setting!("in_hot_standby", "off", Kind::ReadOnly, true, "Always off."),
    setting!(
        "integer_datetimes",
        "on",
        Kind::ReadOnly,
        true,
        "Always on."
    ),
    setting!(
        "intervalstyle",
        "postgres",
        Kind::Words(&[("postgres", "postgres")]),
        true,
        "Sets the display format for interval values."
    ),
    setting!(
        "is_superuser",
        "on",
        Kind::ReadOnly,
        true,
        "Whether the session's role is a superuser."
    ),
    setting!(
        "lc_collate",
        "C",
        Kind::ReadOnly,
        false,
        "Text sorts by bytes."
    ),
    setting!(
        "lc_ctype",
        "C",
        Kind::ReadOnly,
        false,
        "Character classes of the C locale."
    ),
    setting!(
        "lock_timeout",
        "0",
        Kind::Millis,
        false,
        "Accepted for compatibility: there are no locks."
    ),
    setting!(
        "max_identifier_length",
        "63",
        Kind::ReadOnly,
        false,
        "Longest identifier, in bytes."
    ),
    setting!(
        "row_security",
        "on",
        Kind::Bool,
        false,
        "Accepted for compatibility."
    ),
    setting!(
        "search_path",
        "\"$user\", public",
        Kind::Text,
        false,
        "Sets the schema search order for names that are not schema-qualified."
    ),
    setting!(
        "server_encoding",
        "UTF8",
        Kind::ReadOnly,
        true,
        "Always UTF8."
    ),
    setting!(
        "server_version",
        "15.0",
        Kind::ReadOnly,
        true,
        "The PostgreSQL version whose behaviour clients may expect."
    ),
    setting!(
        "server_version_num",
        "150000",
        Kind::ReadOnly,
        false,
        "The same as an integer."
    ),
    setting!(
        "session_authorization",
        "",
        Kind::ReadOnly,
        true,
        "The session's role."
    ),
    setting!(
        "ssl",
        "off",
        Kind::ReadOnly,
        false,
        "Whether SQL connections may use TLS."
    ),
    setting!(
        "standard_conforming_strings",
        "on",
        Kind::Words(&[("on", "on")]),
        true,
        "Backslashes in ordinary strings are literal."
    ),
    setting!(
        "statement_timeout",
        "0",
        Kind::Millis,
        false,
        "Ends a statement that runs for this long."
    ),
    setting!(
        "synchronize_seqscans",
        "on",
        Kind::Bool,
        false,
        "Accepted for compatibility."
    ),
    setting!(
        "timezone",
        "UTC",
        Kind::TimeZone,
        true,
        "Sets the time zone for displaying and interpreting time stamps."
    ),
    setting!(
        "transaction_deferrable",
        "off",
        Kind::Bool,
        false,
        "Accepted for compatibility."
    ),
    setting!(
        "transaction_isolation",
        "strict serializable",
        Kind::Words(ISOLATION),
        false,
        "Isolation level of the current transaction."
    ),
    setting!(
        "transaction_read_only",
        "off",
        Kind::Bool,
        false,
        "Read-only status of the current transaction."
    ),
];

/// The settings' spelling in SHOW ALL, ParameterStatus and error messages.
fn display_name(name: &str) -> &str {
    match name {
        "datestyle" => "DateStyle",
        "intervalstyle" => "IntervalStyle",
        "timezone" => "TimeZone",
        other => other,
    }
}

/// What RESET and ROLLBACK go back to is kept beside the current values.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Values that differ from the built-in default, set at connect (RESET goes back to these).
    base: BTreeMap<&'static str, String>,
    current: BTreeMap<&'static str, String>,
    /// `SET LOCAL` values, until the end of the transaction.
    local: BTreeMap<&'static str, String>,
    /// `current` as it was when the transaction began.
    saved: Option<BTreeMap<&'static str, String>>,
    /// Raised by each change; caches compare it.
    generation: u64,
    /// Values that every statement asks for, read out of the maps by each change.
    hot: Hot,
}

#[derive(Clone, Copy, Debug, Default)]
struct Hot {
    statement_timeout: Option<Duration>,
    idle_in_transaction_timeout: Option<Duration>,
    read_only_by_default: bool,
    relaxed_reads: bool,
}

impl Settings {
    /// The defaults, with the client's start-up values (unknown names are refused as by SET).
    pub fn new(role: &str) -> Self {
        let mut base = BTreeMap::new();
        base.insert("session_authorization", role.to_owned());
        let mut settings = Settings {
            current: base.clone(),
            base,
            local: BTreeMap::new(),
            saved: None,
            generation: 0,
            hot: Hot::default(),
        };
        settings.changed();
        settings
    }

    fn changed(&mut self) {
        self.generation += 1;
        self.hot = Hot {
            statement_timeout: self.millis("statement_timeout"),
            idle_in_transaction_timeout: self.millis("idle_in_transaction_session_timeout"),
            read_only_by_default: self.known("default_transaction_read_only") == "on",
            relaxed_reads: self.known("transaction_isolation") == "serializable",
        };
    }

    /// A value of the connection's start packet or its `options`: becomes the session's default.
    pub fn set_base(&mut self, name: &str, value: &str) -> Result<()> {
        let def = find(name)?;
        let value = def.check(value)?;
        self.base.insert(def.name, value.clone());
        self.current.insert(def.name, value);
        self.changed();
        Ok(())
    }

    pub fn set(&mut self, name: &str, value: &str, local: bool) -> Result<&'static SettingDef> {
        let def = find(name)?;
        let value = def.check(value)?;
        if local {
            self.local.insert(def.name, value);
        } else {
            self.local.remove(def.name);
            self.current.insert(def.name, value);
        }
        self.changed();
        Ok(def)
    }

    pub fn reset(&mut self, name: &str) -> Result<&'static SettingDef> {
        let def = find(name)?;
        if matches!(def.kind, Kind::ReadOnly) {
            return Err(def.read_only());
        }
        self.local.remove(def.name);
        match self.base.get(def.name) {
            Some(value) => self.current.insert(def.name, value.clone()),
            None => self.current.remove(def.name),
        };
        self.changed();
        Ok(def)
    }

    /// What the next transaction takes the mode from, if the setting is a mode.
    pub fn default_of_mode(&self, name: &str) -> Option<String> {
        let def = find(name).ok()?;
        default_of_mode(def.name).map(|default| self.known(default).to_owned())
    }

    pub fn reset_all(&mut self) {
        // A transaction keeps its modes, as in PostgreSQL.
        self.local.retain(|name, _| is_transaction_mode(name));
        self.current = self.base.clone();
        self.changed();
    }

    /// The value of a known setting; `None` if the name is unknown.
    pub fn get(&self, name: &str) -> Option<&str> {
        let def = find(name).ok()?;
        Some(self.value(def))
    }

    /// The value of a setting that is named in code.
    pub fn known(&self, name: &'static str) -> &str {
        self.get(name).unwrap_or_default()
    }

    fn value(&self, def: &'static SettingDef) -> &str {
        if let Some(value) = self.local.get(def.name) {
            return value;
        }
        // The modes of a transaction end with it; the next one has the defaults.
        match default_of_mode(def.name) {
            Some(default) => self.known(default),
            None => self
                .current
                .get(def.name)
                .map_or(def.default, String::as_str),
        }
    }

    /// Whether a value would be accepted.
    pub fn check(&self, name: &str, value: &str) -> Result<String> {
        find(name)?.check(value)
    }

    /// (display name, value, help) of all settings, for SHOW ALL and pg_settings.
    pub fn all(&self) -> Vec<(&'static str, String, &'static str)> {
        SETTINGS
            .iter()
            .map(|def| (display_name(def.name), self.value(def).to_owned(), def.help))
            .collect()
    }

    /// (name, value) of the settings that clients are told about.
    pub fn reported(&self) -> Vec<(&'static str, String)> {
        SETTINGS
            .iter()
            .filter(|d| d.reported)
            .map(|d| (display_name(d.name), self.value(d).to_owned()))
            .collect()
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub fn begin_transaction(&mut self) {
        self.saved = Some(self.current.clone());
    }

    /// Ends SET LOCAL values; a rollback also takes SET back.
    pub fn end_transaction(&mut self, committed: bool) {
        let had_local = !self.local.is_empty();
        self.local.clear();
        let saved = self.saved.take().filter(|_| !committed);
        let changed = had_local || saved.is_some();
        if let Some(saved) = saved {
            self.current = saved;
        }
        if changed {
            self.changed();
        }
    }

    pub fn statement_timeout(&self) -> Option<Duration> {
        self.hot.statement_timeout
    }

    pub fn idle_in_transaction_timeout(&self) -> Option<Duration> {
        self.hot.idle_in_transaction_timeout
    }

    /// Whether a new transaction may not write unless it says otherwise.
    pub fn read_only_by_default(&self) -> bool {
        self.hot.read_only_by_default
    }

    fn millis(&self, name: &'static str) -> Option<Duration> {
        match parse_millis(self.known(name)) {
            Some(0) | None => None,
            Some(ms) => Some(Duration::from_millis(ms)),
        }
    }

    /// Whether reads may skip the read point (`serializable` mode).
    pub fn relaxed_reads(&self) -> bool {
        self.hot.relaxed_reads
    }
}

impl planner::Settings for Settings {
    fn get(&self, name: &str) -> Option<String> {
        Settings::get(self, name).map(str::to_owned)
    }
}

/// Settings that are modes of the current transaction.
pub fn is_transaction_mode(name: &str) -> bool {
    [
        "transaction_isolation",
        "transaction_read_only",
        "transaction_deferrable",
    ]
    .iter()
    .any(|mode| name.eq_ignore_ascii_case(mode))
}

/// The setting that a new transaction takes the mode from.
fn default_of_mode(name: &str) -> Option<&'static str> {
    match name {
        "transaction_isolation" => Some("default_transaction_isolation"),
        "transaction_read_only" => Some("default_transaction_read_only"),
        _ => None,
    }
}

fn find(name: &str) -> Result<&'static SettingDef> {
    let lower = name.to_ascii_lowercase();
    let lower = match lower.as_str() {
        "time zone" => "timezone",
        "transaction isolation level" => "transaction_isolation",
        other => other,
    };
    match SETTINGS.binary_search_by(|def| def.name.cmp(lower)) {
        Ok(i) => Ok(&SETTINGS[i]),
        Err(_) => Err(SqlError::new(
            "42704",
            format!("unrecognized configuration parameter \"{name}\""),
        )),
    }
}

impl SettingDef {
    pub fn display_name(&self) -> &'static str {
        display_name(self.name)
    }

    fn read_only(&self) -> SqlError {
        SqlError::new(
            "55P02",
            format!("parameter \"{}\" cannot be changed", self.display_name()),
        )
    }

    fn invalid(&self, value: &str) -> SqlError {
        SqlError::new(
            "22023",
            format!(
                "invalid value for parameter \"{}\": \"{value}\"",
                self.display_name()
            ),
        )
    }

    /// The canonical form of a new value.
    fn check(&self, value: &str) -> Result<String> {
        match &self.kind {
            Kind::Text => Ok(value.to_owned()),
            Kind::ReadOnly if value == self.default => Ok(value.to_owned()),
            Kind::ReadOnly => Err(self.read_only()),
            Kind::Bool => parse_bool(value).map(|b| if b { "on" } else { "off" }.to_owned()).ok_or_else(|| {
                SqlError::new("22023", format!("parameter \"{}\" requires a Boolean value", self.display_name()))
            }),
            Kind::Millis => parse_millis(value).map(show_millis).ok_or_else(|| {
                self.invalid(value).hint("Valid units for this parameter are \"us\", \"ms\", \"s\", \"min\", \"h\", and \"d\".")
            }),
            Kind::Integer { min, max } => match value.trim().parse::<i64>() {
                Ok(n) if (*min..=*max).contains(&n) => Ok(n.to_string()),
                Ok(n) => Err(SqlError::new(
                    "22023",
                    format!("{n} is outside the valid range for parameter \"{}\" ({min} .. {max})", self.display_name()),
                )),
                Err(_) => Err(self.invalid(value)),
            },
            Kind::Words(words) => {
                let lower = value.trim().to_ascii_lowercase();
                words.iter().find(|(word, _)| *word == lower).map(|(_, canonical)| (*canonical).to_owned()).ok_or_else(|| {
                    let names: Vec<_> = words.iter().map(|(w, _)| *w).collect();
                    self.invalid(value).hint(format!("Available values: {}.", names.join(", ")))
                })
            }
            Kind::TimeZone => check_time_zone(value).ok_or_else(|| self.invalid(value)),
            Kind::DateStyle => check_date_style(value).ok_or_else(|| self.invalid(value)),
            Kind::Utf8 => {
                let plain: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
                if ["utf8", "unicode", "sqlascii"].contains(&plain.to_ascii_lowercase().as_str()) {
                    Ok("UTF8".to_owned())
                } else {
                    Err(self.invalid(value).hint("clusterd speaks UTF8 only."))
                }
            }
        }
    }
}

fn parse_bool(value: &str) -> Option<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" | "t" | "y" => Some(true),
        "off" | "false" | "no" | "0" | "f" | "n" => Some(false),
        _ => None,
    }
}

/// Milliseconds of a duration with PostgreSQL's units (section 20.1.1).
fn parse_millis(value: &str) -> Option<u64> {
    let value = value.trim();
    let digits = value
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(value.len());
    let number: f64 = value[..digits].parse().ok()?;
    let factor = match value[digits..].trim() {
        "us" => 0.001,
        "" | "ms" => 1.0,
        "s" => 1_000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    let ms = (number * factor).round();
    (ms <= f64::from(i32::MAX)).then_some(ms as u64)
}

/// The largest unit that shows the value exactly, as SHOW does.
fn show_millis(ms: u64) -> String {
    for (factor, unit) in [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "min"),
        (1_000, "s"),
    ] {
        if ms > 0 && ms.is_multiple_of(factor) {
            return format!("{}{unit}", ms / factor);
        }
    }
    if ms == 0 {
        "0".to_owned()
    } else {
        format!("{ms}ms")
    }
}

fn check_time_zone(value: &str) -> Option<String> {
    let value = value.trim();
    if value.eq_ignore_ascii_case("default") || value.eq_ignore_ascii_case("local") {
        return Some("UTC".to_owned());
    }
    repr::TimeZone::parse_setting(value)
        .ok()
        .map(|zone| zone.to_string())
}

/// `ISO, MDY` and its variants: the style must be ISO, the order is kept.
fn check_date_style(value: &str) -> Option<String> {
    let mut order = "MDY";
    for word in value.split([',', ' ']).filter(|w| !w.is_empty()) {
        match word.to_ascii_lowercase().as_str() {
            "iso" => {}
            "mdy" | "us" | "noneuropean" => order = "MDY",
            "dmy" | "euro" | "european" => order = "DMY",
            "ymd" => order = "YMD",
            _ => return None,
        }
    }
    Some(format!("ISO, {order}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_sorted_for_the_search() {
        assert!(SETTINGS.windows(2).all(|w| w[0].name < w[1].name));
    }

    #[test]
    fn values_read_by_every_statement_follow_each_change() {
        let hot = |s: &Settings| {
            (
                s.statement_timeout(),
                s.idle_in_transaction_timeout(),
                s.read_only_by_default(),
                s.relaxed_reads(),
            )
        };
        let ms = |n| Some(Duration::from_millis(n));
        let mut s = Settings::new("me");
        s.set_base("statement_timeout", "7").unwrap();
        assert_eq!(hot(&s), (ms(7), None, false, false));
        s.begin_transaction();
        s.set("default_transaction_read_only", "on", false).unwrap();
        s.set("transaction_isolation", "serializable", true)
            .unwrap();
        s.set("idle_in_transaction_session_timeout", "9", true)
            .unwrap();
        assert_eq!(hot(&s), (ms(7), ms(9), true, true));
        s.end_transaction(false);
        assert_eq!(hot(&s), (ms(7), None, false, false));
        s.set("statement_timeout", "8", false).unwrap();
        s.reset("statement_timeout").unwrap();
        assert_eq!(s.statement_timeout(), ms(7));
        s.set("statement_timeout", "0", false).unwrap();
        s.reset_all();
        assert_eq!(s.statement_timeout(), ms(7));
    }

    #[test]
    fn rollback_takes_set_back_and_commit_keeps_it() {
        let mut s = Settings::new("me");
        s.begin_transaction();
        s.set("statement_timeout", "5000", false).unwrap();
        s.set("application_name", "x", true).unwrap();
        assert_eq!(
            (s.known("statement_timeout"), s.known("application_name")),
            ("5s", "x")
        );
        s.end_transaction(false);
        assert_eq!(
            (s.known("statement_timeout"), s.known("application_name")),
            ("0", "")
        );
        s.begin_transaction();
        s.set("statement_timeout", "2min", false).unwrap();
        s.end_transaction(true);
        assert_eq!(s.statement_timeout(), Some(Duration::from_secs(120)));
    }

    #[test]
    fn bad_values_are_named() {
        let mut s = Settings::new("me");
        assert_eq!(s.set("nosuch", "1", false).err().unwrap().sqlstate, "42704");
        assert_eq!(
            s.set("statement_timeout", "5 parsecs", false)
                .err()
                .unwrap()
                .sqlstate,
            "22023"
        );
        assert_eq!(
            s.set("server_version", "9", false).err().unwrap().sqlstate,
            "55P02"
        );
        assert_eq!(
            s.set("datestyle", "klingon", false).err().unwrap().sqlstate,
            "22023"
        );
    }
}
