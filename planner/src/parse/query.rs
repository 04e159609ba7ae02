//! SELECT with AS OF, and SUBSCRIBE.

use super::{Front, Parse, is_keyword, new_parser};
use crate::ast::{AsOf, QueryStatement, Statement, Subscribe, SubscribeRelation};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

impl Front<'_> {
    pub(super) fn query_statement(&mut self) -> Parse<Statement> {
        Ok(Statement::Query(self.query()?))
    }

    /// A query and its AS OF. The library would take `AS` for an alias, so the tokens are cut there first.
    pub(super) fn query(&mut self) -> Parse<QueryStatement> {
        let start = self.parser.index();
        let Some(cut) = find_as_of(&self.tokens, start) else {
            let query = self.sql(|p| p.parse_query())?;
            return Ok(QueryStatement { query, as_of: None });
        };
        let mut head = new_parser(&self.tokens[start..cut]);
        let query = head.parse_query().map_err(|e| self.translate(e))?;
        if head.peek_token_ref().token != Token::EOF {
            return Err(self.source.syntax_error(head.peek_token_ref()));
        }
        self.restart_at(cut);
        let as_of = self.as_of()?;
        Ok(QueryStatement { query, as_of })
    }

    /// `AS OF [AT LEAST] expression`, if it comes next.
    pub(super) fn as_of(&mut self) -> Parse<Option<AsOf>> {
        if !self.accept(&["AS", "OF"]) {
            return Ok(None);
        }
        let at_least = self.accept(&["AT", "LEAST"]);
        let expr = self.expr()?;
        Ok(Some(AsOf { at_least, expr }))
    }

    pub(super) fn subscribe(&mut self) -> Parse<Subscribe> {
        self.expect("SUBSCRIBE")?;
        self.accept(&["TO"]);
        let relation = if self.accept_token(&Token::LParen) {
            let query = self.sql(|p| p.parse_query())?;
            self.expect_token(&Token::RParen)?;
            SubscribeRelation::Query(query)
        } else if self.peek_words(&["SELECT"]) || self.peek_words(&["VALUES"]) {
            return Err(self
                .unexpected()
                .with_hint("Put the query in parentheses: SUBSCRIBE (SELECT ...)."));
        } else {
            SubscribeRelation::Name(self.object_name()?)
        };
        let mut options = vec![];
        if self.accept(&["WITH"]) {
            options = self.parenthesized_options()?;
        }
        let as_of = self.as_of()?;
        let up_to = match self.accept(&["UP", "TO"]) {
            true => Some(self.expr()?),
            false => None,
        };
        Ok(Subscribe {
            relation,
            options,
            as_of,
            up_to,
        })
    }
}

/// The index of an `AS` that begins an AS OF at this level of parentheses.
fn find_as_of(tokens: &[TokenWithSpan], start: usize) -> Option<usize> {
    let mut depth = 0usize;
    let significant: Vec<usize> = (start..tokens.len())
        .filter(|i| !matches!(tokens[*i].token, Token::Whitespace(_)))
        .collect();
    for (n, &i) in significant.iter().enumerate() {
        match tokens[i].token {
            Token::LParen => depth += 1,
            Token::RParen if depth == 0 => return None,
            Token::RParen => depth -= 1,
            Token::Word(_) if depth == 0 && n > 0 && is_keyword(&tokens[i], Keyword::AS) => {
                let of = significant.get(n + 1).map(|j| &tokens[*j]);
                let after = significant.get(n + 2).map(|j| &tokens[*j].token);
                // `SELECT 1 AS of` names a column.
                let names_column = match after {
                    None | Some(Token::Comma) | Some(Token::RParen) => true,
                    Some(Token::Word(w)) => w.keyword == Keyword::FROM,
                    Some(_) => false,
                };
                if of.is_some_and(|t| is_keyword(t, Keyword::OF)) && !names_column {
                    return Some(i);
                }
            }
            _ => {}
        }
    }
    None
}
