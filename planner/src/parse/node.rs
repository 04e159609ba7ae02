//! ALTER NODE, DROP NODE, CREATE JOIN TOKEN.

use super::{Front, Parse};
use crate::ast::{ChangeNode, CreateJoinToken, NodeChange, Statement, position};
use sqlparser::tokenizer::Token;

impl Front<'_> {
    pub(super) fn alter_node(&mut self) -> Parse<Statement> {
        let node = self.node()?;
        let change = if self.accept(&["DRAIN"]) {
            NodeChange::Drain
        } else if self.accept(&["UNDRAIN"]) {
            NodeChange::Undrain
        } else {
            return Err(self.unexpected());
        };
        Ok(Statement::ChangeNode(ChangeNode { node, change }))
    }

    pub(super) fn drop_node(&mut self) -> Parse<Statement> {
        let if_exists = self.accept(&["IF", "EXISTS"]);
        let node = self.node()?;
        let change = NodeChange::Drop { if_exists };
        Ok(Statement::ChangeNode(ChangeNode { node, change }))
    }

    /// A node's number, as SHOW NODES has it; `n2`, as messages have it, will do.
    fn node(&mut self) -> Parse<u64> {
        let number = match &self.parser.peek_token_ref().token {
            Token::Number(number, _) => number.parse().ok(),
            Token::Word(word) if word.quote_style.is_none() => {
                let digits = word.value.strip_prefix(['n', 'N']);
                digits.and_then(|digits| digits.parse().ok())
            }
            _ => None,
        };
        let Some(number) = number else {
            return Err(self.unexpected());
        };
        self.parser.advance_token();
        Ok(number)
    }

    pub(super) fn create_join_token(&mut self) -> Parse<Statement> {
        self.expect("CREATE")?;
        self.expect("JOIN")?;
        self.expect("TOKEN")?;
        let mut valid_for = None;
        if self.accept(&["VALID"]) {
            self.expect("FOR")?;
            self.accept(&["INTERVAL"]);
            let at = position(self.parser.peek_token_ref().span);
            valid_for = Some((self.string()?, at));
        }
        Ok(Statement::CreateJoinToken(CreateJoinToken { valid_for }))
    }
}
