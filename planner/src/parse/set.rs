//! SET and RESET.

use super::{Front, Parse};
use crate::ast::{SetValue, SetVariable, Statement, TransactionScope};
use sqlparser::tokenizer::{Span, Token};

impl Front<'_> {
    pub(super) fn set(&mut self) -> Parse<Statement> {
        self.expect("SET")?;
        if self.accept(&["SESSION", "CHARACTERISTICS", "AS", "TRANSACTION"]) {
            return Ok(Statement::SetTransaction {
                modes: self.transaction_modes()?,
                scope: TransactionScope::Session,
            });
        }
        if self.accept(&["TRANSACTION"]) {
            return Ok(Statement::SetTransaction {
                modes: self.transaction_modes()?,
                scope: TransactionScope::Current,
            });
        }
        let local = self.accept(&["LOCAL"]);
        if !local && !self.peek_words(&["SESSION", "AUTHORIZATION"]) {
            self.accept(&["SESSION"]);
        }
        let (name, value) = self.set_assignment()?;
        Ok(Statement::Set(SetVariable { name, local, value }))
    }

    fn set_assignment(&mut self) -> Parse<(String, SetValue)> {
        let special: [(&[&str], &str); 4] = [
            (&["TIME", "ZONE"], "timezone"),
            (&["NAMES"], "client_encoding"),
            (&["ROLE"], "role"),
            (&["SESSION", "AUTHORIZATION"], "session_authorization"),
        ];
        for (words, name) in special {
            let equals = &self.parser.peek_nth_token_ref(words.len()).token;
            if self.peek_words(words) && *equals != Token::Eq {
                self.accept(words);
                let value = match self.accept(&["LOCAL"]) {
                    true => SetValue::Default,
                    false => self.set_value()?,
                };
                return Ok((name.to_owned(), value));
            }
        }
        let name = self.variable_name()?;
        if !self.accept_token(&Token::Eq) {
            self.expect("TO")?;
        }
        Ok((name, self.set_value()?))
    }

    /// A setting's name, `class.name` included, lower case.
    pub(super) fn variable_name(&mut self) -> Parse<String> {
        let mut name = super::fold(&self.ident()?).to_lowercase();
        while self.accept_token(&Token::Period) {
            name.push('.');
            name.push_str(&super::fold(&self.ident()?).to_lowercase());
        }
        Ok(name)
    }

    fn set_value(&mut self) -> Parse<SetValue> {
        if self.accept(&["DEFAULT"]) {
            return Ok(SetValue::Default);
        }
        let mut values = vec![self.set_item()?];
        while self.accept_token(&Token::Comma) {
            values.push(self.set_item()?);
        }
        Ok(SetValue::Values(values))
    }

    fn set_item(&mut self) -> Parse<String> {
        let negative = self.accept_token(&Token::Minus);
        if !negative {
            self.accept_token(&Token::Plus);
        }
        // SET TIME ZONE INTERVAL '+05:30' HOUR TO MINUTE.
        if self.peek_words(&["INTERVAL"]) {
            self.accept(&["INTERVAL"]);
            let value = self.string()?;
            self.accept(&["HOUR", "TO", "MINUTE"]);
            return Ok(value);
        }
        let value = match &self.parser.peek_token_ref().token {
            Token::Number(digits, _) if negative => format!("-{digits}"),
            Token::Number(digits, _) => digits.clone(),
            Token::Word(word) => super::fold(&word.to_ident(Span::empty())),
            _ => return self.string(),
        };
        self.parser.advance_token();
        Ok(value)
    }

    pub(super) fn reset(&mut self) -> Parse<Statement> {
        self.expect("RESET")?;
        let name = if self.accept(&["ALL"]) {
            None
        } else if self.accept(&["TIME", "ZONE"]) {
            Some("timezone".to_owned())
        } else if self.accept(&["TRANSACTION", "ISOLATION", "LEVEL"]) {
            Some("transaction_isolation".to_owned())
        } else if self.accept(&["SESSION", "AUTHORIZATION"]) {
            Some("session_authorization".to_owned())
        } else {
            Some(self.variable_name()?)
        };
        Ok(Statement::Reset { name })
    }
}
