//! COPY.

use super::{
    CopyFormat, CopyFromPlan, CopyHeader, CopyOptions, CopyToPlan, CopyToSource, ParamTypes, Plan,
    SelectPlan, StatementPlanner,
};
use crate::ast::sql::Ident;
use crate::ast::{Copy, CopyDirection, CopySource, OptionValue, WithOption, position};
use crate::error::PlanError;
use crate::lower::{lower, lower_scalar};
use crate::names::{Name, Relation};
use crate::parse::fold;
use crate::query::{desc_scope, relation_hir};
use plan::{Finishing, ScalarExpr};
use repr::RelationDesc;
use state::catalog::ItemKind;

impl StatementPlanner<'_> {
    pub(super) fn copy(&self, copy: &Copy, params: &mut ParamTypes) -> Result<Plan, PlanError> {
        match copy.direction {
            CopyDirection::Server => Err(PlanError::unsupported(
                "COPY with a file or program of the server",
            )
            .with_hint("Use COPY FROM STDIN or TO STDOUT, or psql's \\copy.")),
            CopyDirection::FromStdin => self.copy_from(copy, params),
            CopyDirection::ToStdout => self.copy_to(copy, params),
        }
    }

    fn copy_from(&self, copy: &Copy, params: &mut ParamTypes) -> Result<Plan, PlanError> {
        let CopySource::Table { name, columns } = &copy.source else {
            return Err(PlanError::syntax(Some("FROM")));
        };
        let target = self.target(name, "copy to")?;
        let positions = target.columns(columns)?;
        let mut desc = RelationDesc::empty();
        for c in &positions {
            desc.push(target.desc.names[*c].clone(), target.desc.types[*c].clone());
        }
        let mut row = vec![];
        for column in 0..target.desc.arity() {
            row.push(match positions.iter().position(|c| *c == column) {
                Some(i) => ScalarExpr::Column(i),
                None => lower_scalar(self.default(&target, column)?, &[])?,
            });
        }
        let selection = match &copy.selection {
            None => None,
            Some(expr) => {
                let scope = desc_scope(&target.desc, None, &target.item.name);
                let predicate =
                    self.with_queries(params, |p| p.condition(expr, &scope, "WHERE"))?;
                Some(lower_scalar(predicate, &target.desc.types)?)
            }
        };
        Ok(Plan::CopyFrom(CopyFromPlan {
            table: target.item.id,
            options: copy_options(&copy.options, &desc, true)?,
            desc,
            row,
            not_null: target.not_null(),
            selection,
        }))
    }

    fn copy_to(&self, copy: &Copy, params: &mut ParamTypes) -> Result<Plan, PlanError> {
        if copy.selection.is_some() {
            return Err(PlanError::new(
                "42601",
                "WHERE clause not allowed with COPY TO",
            ));
        }
        let (source, desc) = match &copy.source {
            CopySource::Table { name, columns } => {
                let select = self.copy_relation(name, columns)?;
                let desc = select.desc.clone();
                (CopyToSource::Select(Box::new(select)), desc)
            }
            CopySource::Query(query) => {
                let select = self.select(query, params)?;
                let desc = select.desc.clone();
                (CopyToSource::Select(Box::new(select)), desc)
            }
            CopySource::Subscribe(subscribe) => {
                let plan = self.subscribe(subscribe, params)?;
                let desc = plan.output_desc();
                (CopyToSource::Subscribe(Box::new(plan)), desc)
            }
            CopySource::Statement(statement) => {
                let plan = self.plan(statement, params)?;
                let desc = plan.desc().ok_or_else(|| {
                    PlanError::new("0A000", "COPY query must have a RETURNING clause")
                })?;
                (CopyToSource::Statement(Box::new(plan)), desc)
            }
        };
        Ok(Plan::CopyTo(CopyToPlan {
            source,
            options: copy_options(&copy.options, &desc, false)?,
        }))
    }

    /// `COPY table (columns) TO`.
    fn copy_relation(
        &self,
        name: &crate::ast::sql::ObjectName,
        columns: &[Ident],
    ) -> Result<SelectPlan, PlanError> {
        let name = Name::new(name)?;
        let relation = self.session.resolve(&name)?;
        if let Relation::Item(item) = &relation
            && matches!(item.kind, ItemKind::View(_))
        {
            let message = format!("cannot copy from view \"{}\"", item.name);
            return Err(
                PlanError::new("42809", message).with_hint("Try the COPY (SELECT ...) TO variant.")
            );
        }
        let all = relation.desc().map_err(|e| e.at(name.position))?;
        let mut outputs = vec![];
        for ident in columns {
            let column = fold(ident);
            let found = all.position(&column).ok_or_else(|| {
                let message = format!(
                    "column \"{column}\" of relation \"{}\" does not exist",
                    relation.name()
                );
                PlanError::new("42703", message).at(position(ident.span))
            })?;
            outputs.push(found);
        }
        if columns.is_empty() {
            outputs = (0..all.arity()).collect();
        }
        let desc = RelationDesc::from_columns(
            outputs
                .iter()
                .map(|c| (all.names[*c].clone(), all.types[*c].clone())),
        );
        let (hir, _) = relation_hir(&relation, "")?;
        Ok(SelectPlan {
            mir: lower(hir.project(outputs))?,
            finishing: Finishing::trivial(desc.arity()),
            limit: None,
            offset: None,
            desc,
            as_of: None,
            effects: vec![],
        })
    }
}

/// Checks the options as PostgreSQL does.
fn copy_options(
    options: &[WithOption],
    desc: &RelationDesc,
    from: bool,
) -> Result<CopyOptions, PlanError> {
    let mut seen: Vec<&str> = vec![];
    for option in options {
        if seen.contains(&option.name.as_str()) {
            return Err(PlanError::new("42601", "conflicting or redundant options"));
        }
        seen.push(&option.name);
    }
    let find = |name: &str| options.iter().find(|o| o.name == name);
    let text = |name: &str| {
        find(name)
            .and_then(|o| o.value.as_ref())
            .and_then(OptionValue::as_str)
    };
    let format = match text("format").map(str::to_lowercase).as_deref() {
        None | Some("text") => CopyFormat::Text,
        Some("csv") => CopyFormat::Csv,
        Some("binary") => CopyFormat::Binary,
        Some(other) => {
            return Err(PlanError::new(
                "22023",
                format!("COPY format \"{other}\" not recognized"),
            ));
        }
    };
    for option in options {
        check_option(option, format, from)?;
    }
    let csv = format == CopyFormat::Csv;
    let delimiter = byte(
        text("delimiter"),
        if csv { b',' } else { b'\t' },
        "delimiter",
    )?;
    let quote = byte(text("quote"), b'"', "quote")?;
    let escape = byte(text("escape"), quote, "escape")?;
    let null = text("null").map_or_else(
        || if csv { String::new() } else { "\\N".to_owned() },
        str::to_owned,
    );
    check_bytes(format, delimiter, quote, &null)?;
    let header = match find("header") {
        None => CopyHeader::Absent,
        Some(option) => match (
            option.as_bool(),
            text("header").map(str::to_lowercase).as_deref(),
        ) {
            (Some(true), _) => CopyHeader::Present,
            (Some(false), _) => CopyHeader::Absent,
            (None, Some("match")) if from => CopyHeader::Match,
            (None, _) => {
                return Err(PlanError::new(
                    "42601",
                    "header requires a Boolean value or \"match\"",
                ));
            }
        },
    };
    Ok(CopyOptions {
        format,
        header,
        delimiter,
        null,
        quote,
        escape,
        force_quote: columns(find("force_quote"), desc)?,
        force_not_null: columns(find("force_not_null"), desc)?,
        force_null: columns(find("force_null"), desc)?,
    })
}

fn check_option(option: &WithOption, format: CopyFormat, from: bool) -> Result<(), PlanError> {
    let name = option.name.as_str();
    let csv_only = |ok: bool| match format == CopyFormat::Csv && ok {
        true => Ok(()),
        false => {
            let upper = name.to_uppercase();
            Err(PlanError::new(
                "0A000",
                format!("COPY {} available only in CSV mode", upper.to_lowercase()),
            ))
        }
    };
    match name {
        "format" => Ok(()),
        "freeze" => Ok(()),
        "delimiter" | "null" if format == CopyFormat::Binary => Err(PlanError::new(
            "42601",
            format!("cannot specify {} in BINARY mode", name.to_uppercase()),
        )),
        "header" if format == CopyFormat::Binary => Err(PlanError::new(
            "0A000",
            "cannot specify HEADER in BINARY mode",
        )),
        "delimiter" | "null" | "header" => Ok(()),
        "quote" | "escape" => csv_only(true),
        "force_quote" => match from {
            true => Err(PlanError::new(
                "0A000",
                "COPY force quote only available using COPY TO",
            )),
            false => csv_only(true),
        },
        "force_not_null" | "force_null" => match from {
            false => Err(PlanError::new(
                "0A000",
                format!(
                    "COPY {} only available using COPY FROM",
                    name.replace('_', " ")
                ),
            )),
            true => csv_only(true),
        },
        "encoding" => match option.value.as_ref().and_then(OptionValue::as_str) {
            Some(e)
                if matches!(
                    e.to_lowercase().replace('-', "").as_str(),
                    "utf8" | "unicode" | "sql_ascii"
                ) =>
            {
                Ok(())
            }
            _ => Err(PlanError::unsupported("an encoding other than UTF8")),
        },
        other => Err(PlanError::new(
            "42601",
            format!("option \"{other}\" not recognized"),
        )),
    }
}

/// An option that is one character of one byte.
fn byte(value: Option<&str>, default: u8, name: &str) -> Result<u8, PlanError> {
    match value.map(str::as_bytes) {
        None => Ok(default),
        Some([b]) => Ok(*b),
        Some(_) => Err(PlanError::new(
            "0A000",
            format!("COPY {name} must be a single one-byte character"),
        )),
    }
}

fn check_bytes(format: CopyFormat, delimiter: u8, quote: u8, null: &str) -> Result<(), PlanError> {
    if matches!(delimiter, b'\r' | b'\n') {
        return Err(PlanError::new(
            "22023",
            "COPY delimiter cannot be newline or carriage return",
        ));
    }
    if null.contains(['\r', '\n']) {
        return Err(PlanError::new(
            "22023",
            "COPY null representation cannot use newline or carriage return",
        ));
    }
    if format == CopyFormat::Text && b"\\.abcdefghijklmnopqrstuvwxyz0123456789".contains(&delimiter)
    {
        let message = format!("COPY delimiter cannot be \"{}\"", delimiter as char);
        return Err(PlanError::new("22023", message));
    }
    if format == CopyFormat::Csv && delimiter == quote {
        return Err(PlanError::new(
            "22023",
            "COPY delimiter and quote must be different",
        ));
    }
    if format != CopyFormat::Binary && null.as_bytes().contains(&delimiter) {
        return Err(PlanError::new(
            "22023",
            "COPY delimiter character must not appear in the NULL specification",
        ));
    }
    Ok(())
}

/// Positions of the columns that an option lists; `*` means all.
fn columns(option: Option<&WithOption>, desc: &RelationDesc) -> Result<Vec<usize>, PlanError> {
    let Some(value) = option.and_then(|o| o.value.as_ref()) else {
        return Ok(vec![]);
    };
    let names = match value {
        OptionValue::Word(word) if word == "*" => return Ok((0..desc.arity()).collect()),
        OptionValue::List(names) => names.iter().collect(),
        single => vec![single],
    };
    let mut positions = vec![];
    for name in names {
        let name = name.as_str().unwrap_or_default();
        let position = desc
            .position(name)
            .ok_or_else(|| PlanError::new("42703", format!("column \"{name}\" does not exist")))?;
        positions.push(position);
    }
    Ok(positions)
}
