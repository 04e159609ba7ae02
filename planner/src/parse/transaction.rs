//! BEGIN, COMMIT, ROLLBACK and savepoints.

use super::{Front, Parse};
use crate::ast::{IsolationLevel, Statement, TransactionMode};
use sqlparser::tokenizer::Token;

impl Front<'_> {
    pub(super) fn transaction(&mut self) -> Parse<Statement> {
        if self.accept(&["START", "TRANSACTION"]) {
            let modes = self.transaction_modes()?;
            return Ok(Statement::Begin { modes });
        }
        if self.accept(&["BEGIN"]) {
            self.work();
            let modes = self.transaction_modes()?;
            return Ok(Statement::Begin { modes });
        }
        if self.accept(&["SAVEPOINT"]) {
            return Ok(Statement::Savepoint {
                name: self.ident()?,
            });
        }
        if self.accept(&["RELEASE"]) {
            self.accept(&["SAVEPOINT"]);
            return Ok(Statement::ReleaseSavepoint {
                name: self.ident()?,
            });
        }
        if self.accept(&["COMMIT"]) || self.accept(&["END"]) {
            if self.accept(&["PREPARED"]) {
                return self.unsupported_after("COMMIT PREPARED");
            }
            self.work();
            return Ok(Statement::Commit {
                chain: self.chain()?,
            });
        }
        if self.accept(&["ROLLBACK"]) || self.accept(&["ABORT"]) {
            if self.accept(&["PREPARED"]) {
                return self.unsupported_after("ROLLBACK PREPARED");
            }
            self.work();
            if self.accept(&["TO"]) {
                self.accept(&["SAVEPOINT"]);
                return Ok(Statement::RollbackTo {
                    name: self.ident()?,
                });
            }
            return Ok(Statement::Rollback {
                chain: self.chain()?,
            });
        }
        self.parser.advance_token();
        Err(self.unexpected())
    }

    fn work(&mut self) {
        if !self.accept(&["WORK"]) {
            self.accept(&["TRANSACTION"]);
        }
    }

    fn chain(&mut self) -> Parse<bool> {
        if !self.accept(&["AND"]) {
            return Ok(false);
        }
        let no = self.accept(&["NO"]);
        self.expect("CHAIN")?;
        Ok(!no)
    }

    pub(super) fn transaction_modes(&mut self) -> Parse<Vec<TransactionMode>> {
        let mut modes = vec![];
        while !self.at_end() {
            modes.push(self.transaction_mode()?);
            self.accept_token(&Token::Comma);
        }
        Ok(modes)
    }

    fn transaction_mode(&mut self) -> Parse<TransactionMode> {
        let modes: [(&[&str], TransactionMode); 4] = [
            (&["READ", "ONLY"], TransactionMode::ReadOnly),
            (&["READ", "WRITE"], TransactionMode::ReadWrite),
            (&["DEFERRABLE"], TransactionMode::Deferrable(true)),
            (&["NOT", "DEFERRABLE"], TransactionMode::Deferrable(false)),
        ];
        for (words, mode) in modes {
            if self.accept(words) {
                return Ok(mode);
            }
        }
        let levels: [(&[&str], IsolationLevel); 5] = [
            (&["READ", "UNCOMMITTED"], IsolationLevel::ReadUncommitted),
            (&["READ", "COMMITTED"], IsolationLevel::ReadCommitted),
            (&["REPEATABLE", "READ"], IsolationLevel::RepeatableRead),
            (
                &["STRICT", "SERIALIZABLE"],
                IsolationLevel::StrictSerializable,
            ),
            (&["SERIALIZABLE"], IsolationLevel::Serializable),
        ];
        if self.accept(&["ISOLATION", "LEVEL"]) {
            for (words, level) in levels {
                if self.accept(words) {
                    return Ok(TransactionMode::Isolation(level));
                }
            }
        }
        Err(self.unexpected())
    }
}
