//! COPY, in the syntax of options in parentheses and in the older one of bare keywords.

use super::{Front, Parse};
use crate::ast::{Copy, CopyDirection, CopySource, OptionValue, Statement, WithOption};
use sqlparser::tokenizer::Token;

impl Front<'_> {
    pub(super) fn copy(&mut self) -> Parse<Statement> {
        self.expect("COPY")?;
        let mut options = vec![];
        if self.accept(&["BINARY"]) {
            options.push(format_option("binary"));
        }
        let source = self.copy_source()?;
        let direction = self.copy_direction()?;
        self.accept(&["WITH"]);
        match self.peek_is(&Token::LParen) {
            true => options.extend(self.parenthesized_options()?),
            false => self.old_copy_options(&mut options)?,
        }
        let selection = match self.accept(&["WHERE"]) {
            true => Some(self.expr()?),
            false => None,
        };
        Ok(Statement::Copy(Copy {
            source,
            direction,
            options,
            selection,
        }))
    }

    fn copy_source(&mut self) -> Parse<CopySource> {
        if !self.accept_token(&Token::LParen) {
            let name = self.object_name()?;
            let mut columns = vec![];
            if self.accept_token(&Token::LParen) {
                columns = self.idents()?;
                self.expect_token(&Token::RParen)?;
            }
            return Ok(CopySource::Table { name, columns });
        }
        let source = match self.word(0).as_deref() {
            Some("SUBSCRIBE") => CopySource::Subscribe(self.subscribe()?),
            Some("INSERT" | "UPDATE" | "DELETE") => {
                CopySource::Statement(Box::new(self.statement()?))
            }
            Some(_) | None => CopySource::Query(self.query()?),
        };
        self.expect_token(&Token::RParen)?;
        Ok(source)
    }

    fn copy_direction(&mut self) -> Parse<CopyDirection> {
        let from = self.accept(&["FROM"]);
        if !from {
            self.expect("TO")?;
        }
        if from && self.accept(&["STDIN"]) {
            return Ok(CopyDirection::FromStdin);
        }
        if !from && self.accept(&["STDOUT"]) {
            return Ok(CopyDirection::ToStdout);
        }
        self.accept(&["PROGRAM"]);
        self.string()?;
        Ok(CopyDirection::Server)
    }

    fn old_copy_options(&mut self, options: &mut Vec<WithOption>) -> Parse<()> {
        loop {
            let option = match self.word(0).as_deref() {
                Some("BINARY") => format_option("binary"),
                Some("CSV") => format_option("csv"),
                Some("HEADER") => named("header", None),
                Some("FREEZE") => named("freeze", None),
                Some(
                    word @ ("DELIMITER" | "DELIMITERS" | "NULL" | "QUOTE" | "ESCAPE" | "ENCODING"),
                ) => {
                    let name = word.trim_end_matches("RS").to_lowercase();
                    let name = if name.starts_with("delimite") {
                        "delimiter"
                    } else {
                        name.as_str()
                    };
                    self.parser.advance_token();
                    self.accept(&["AS"]);
                    let value = OptionValue::String(self.string()?);
                    options.push(named(name, Some(value)));
                    continue;
                }
                Some("FORCE") => {
                    let option = self.old_force_option()?;
                    options.push(option);
                    continue;
                }
                Some(_) | None => return Ok(()),
            };
            self.parser.advance_token();
            options.push(option);
        }
    }

    fn old_force_option(&mut self) -> Parse<WithOption> {
        self.expect("FORCE")?;
        let name = if self.accept(&["QUOTE"]) {
            "force_quote"
        } else if self.accept(&["NOT", "NULL"]) {
            "force_not_null"
        } else if self.accept(&["NULL"]) {
            "force_null"
        } else {
            return Err(self.unexpected());
        };
        if self.accept_token(&Token::Mul) {
            return Ok(named(name, Some(OptionValue::Word("*".to_owned()))));
        }
        let columns = self.idents()?;
        let words = columns
            .iter()
            .map(|c| OptionValue::Word(super::fold(c)))
            .collect();
        Ok(named(name, Some(OptionValue::List(words))))
    }
}

fn named(name: &str, value: Option<OptionValue>) -> WithOption {
    WithOption {
        name: name.to_owned(),
        value,
    }
}

fn format_option(format: &str) -> WithOption {
    named("format", Some(OptionValue::Word(format.to_owned())))
}
