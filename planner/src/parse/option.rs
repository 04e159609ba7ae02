//! Lists of options: `(FORMAT csv, HEADER)`, `(REPLICATION FACTOR = 2)`.

use super::{Front, Parse};
use crate::ast::{OptionValue, WithOption};
use sqlparser::tokenizer::Token;

/// Option names of two words.
const PAIRS: &[(&str, &str)] = &[
    ("REPLICATION", "FACTOR"),
    ("MEMORY", "LIMIT"),
    ("TICK", "INTERVAL"),
    ("MAX", "CARDINALITY"),
    ("INTROSPECTION", "INTERVAL"),
    ("INTROSPECTION", "DEBUGGING"),
    ("AVAILABILITY", "ZONE"),
    ("SCALE", "FACTOR"),
];

impl Front<'_> {
    /// `(option, ...)`.
    pub(super) fn parenthesized_options(&mut self) -> Parse<Vec<WithOption>> {
        self.expect_token(&Token::LParen)?;
        if self.accept_token(&Token::RParen) {
            return Ok(vec![]);
        }
        let options = self.options()?;
        self.expect_token(&Token::RParen)?;
        Ok(options)
    }

    pub(super) fn options(&mut self) -> Parse<Vec<WithOption>> {
        let mut options = vec![self.option()?];
        while self.accept_token(&Token::Comma) {
            options.push(self.option()?);
        }
        Ok(options)
    }

    fn option(&mut self) -> Parse<WithOption> {
        let pair = PAIRS.iter().find(|(a, b)| self.peek_words(&[a, b]));
        let name = match pair {
            Some((a, b)) => {
                self.accept(&[a, b]);
                format!("{a} {b}").to_lowercase()
            }
            None => super::fold(&self.ident()?).to_lowercase(),
        };
        let equals = self.accept_token(&Token::Eq);
        let ends = matches!(
            self.parser.peek_token_ref().token,
            Token::Comma | Token::RParen | Token::EOF
        );
        let value = match ends && !equals {
            true => None,
            false => Some(self.option_value()?),
        };
        Ok(WithOption { name, value })
    }

    pub(super) fn option_value(&mut self) -> Parse<OptionValue> {
        if self.accept(&["INTERVAL"]) {
            return Ok(OptionValue::Interval(self.string()?));
        }
        if self.accept_token(&Token::LParen) {
            let mut values = vec![self.option_value()?];
            while self.accept_token(&Token::Comma) {
                values.push(self.option_value()?);
            }
            self.expect_token(&Token::RParen)?;
            return Ok(OptionValue::List(values));
        }
        let negative = self.accept_token(&Token::Minus);
        let value = match &self.parser.peek_token_ref().token {
            Token::Number(n, _) if negative => OptionValue::Number(format!("-{n}")),
            Token::Number(n, _) => OptionValue::Number(n.clone()),
            Token::Mul => OptionValue::Word("*".to_owned()),
            Token::Word(w) => OptionValue::Word(super::fold(
                &w.to_ident(sqlparser::tokenizer::Span::empty()),
            )),
            _ => return Ok(OptionValue::String(self.string()?)),
        };
        self.parser.advance_token();
        Ok(value)
    }
}

impl OptionValue {
    /// The value as one string, however it was written; `None` for a list.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            OptionValue::Word(s)
            | OptionValue::String(s)
            | OptionValue::Number(s)
            | OptionValue::Interval(s) => Some(s),
            OptionValue::List(_) => None,
        }
    }
}

impl WithOption {
    /// The value of a boolean option; without a value it is true. `None` if it is not a boolean.
    pub fn as_bool(&self) -> Option<bool> {
        let Some(value) = &self.value else {
            return Some(true);
        };
        match value.as_str()?.to_lowercase().as_str() {
            "true" | "on" | "1" | "yes" | "t" => Some(true),
            "false" | "off" | "0" | "no" | "f" => Some(false),
            _ => None,
        }
    }
}
