//! Tokens and their places in the text.

use crate::error::PlanError;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};
use std::ops::Range;

/// The text, with a way from characters to bytes.
pub(super) struct Source<'s> {
    text: &'s str,
    /// Byte offset of each character and of the end; empty if the text is ASCII.
    bytes: Vec<usize>,
}

/// The tokens of a text, spans rewritten so that the column counts characters from the start of the text.
pub(super) fn tokenize(sql: &str) -> Result<(Source<'_>, Vec<TokenWithSpan>), PlanError> {
    let bytes = if sql.is_ascii() {
        vec![]
    } else {
        let mut bytes: Vec<usize> = sql.char_indices().map(|(i, _)| i).collect();
        bytes.push(sql.len());
        bytes
    };
    let source = Source { text: sql, bytes };
    let mut line_starts = vec![0u64];
    for (i, c) in sql.chars().enumerate() {
        if c == '\n' {
            line_starts.push(i as u64 + 1);
        }
    }
    let absolute = |location: Location| -> Location {
        match location.line {
            0 => location,
            line => {
                let start = line_starts[(line as usize - 1).min(line_starts.len() - 1)];
                Location::new(1, start + location.column)
            }
        }
    };
    let mut tokens = vec![];
    Tokenizer::new(&super::DIALECT, sql)
        .tokenize_with_location_into_buf_with_mapper(&mut tokens, |t| TokenWithSpan {
            span: Span::new(absolute(t.span.start), absolute(t.span.end)),
            token: t.token,
        })
        .map_err(|e| source.lexical_error(&e.message, absolute(e.location)))?;
    Ok((source, plain_tables(plain_operators(signs_apart(tokens)))))
}

/// Takes a sign off the end of an operator, which it belongs to only after one of some characters (PostgreSQL 15, 4.1.3): `x>-1` compares with -1.
fn signs_apart(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let with_sign = |t: &TokenWithSpan| match &t.token {
        Token::CustomBinaryOperator(name) => {
            name.ends_with(['+', '-'])
                && !name.contains(['~', '!', '@', '#', '%', '^', '&', '|', '`', '?'])
        }
        _ => false,
    };
    if !tokens.iter().any(with_sign) {
        return tokens;
    }
    let mut apart = Vec::with_capacity(tokens.len() + 1);
    for token in tokens {
        let Token::CustomBinaryOperator(name) = &token.token else {
            apart.push(token);
            continue;
        };
        let operator = name.trim_end_matches(['+', '-']);
        let Some(plain) = Some(&token)
            .filter(|t| with_sign(t))
            .and_then(|_| comparison(operator))
        else {
            apart.push(token);
            continue;
        };
        let Span { start, end } = token.span;
        let mut at = Location::new(start.line, start.column + operator.len() as u64);
        let signs = &name[operator.len()..];
        apart.push(TokenWithSpan {
            token: plain,
            span: Span::new(start, at),
        });
        for sign in signs.chars() {
            let after = Location::new(at.line, at.column + 1);
            let token = if sign == '-' {
                Token::Minus
            } else {
                Token::Plus
            };
            apart.push(TokenWithSpan {
                token,
                span: Span::new(at, after.min(end)),
            });
            at = after;
        }
    }
    apart
}

fn comparison(operator: &str) -> Option<Token> {
    Some(match operator {
        "<" => Token::Lt,
        "<=" => Token::LtEq,
        ">" => Token::Gt,
        ">=" => Token::GtEq,
        "<>" => Token::Neq,
        "=" => Token::Eq,
        "*" => Token::Mul,
        "/" => Token::Div,
        _ => return None,
    })
}

/// Replaces `OPERATOR(pg_catalog.=)` by `=`, which is parsed in more places. All operators are of that schema.
fn plain_operators(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let is_word = |t: &TokenWithSpan, word: &str| matches!(&t.token, Token::Word(w) if w.value.eq_ignore_ascii_case(word));
    if !tokens.iter().any(|t| is_word(t, "operator")) {
        return tokens;
    }
    let mut plain = Vec::with_capacity(tokens.len());
    let mut rest = tokens.as_slice();
    while let Some((first, tail)) = rest.split_first() {
        if let [open, schema, dot, operator, close, ..] = tail
            && is_word(first, "operator")
            && open.token == Token::LParen
            && is_word(schema, "pg_catalog")
            && dot.token == Token::Period
            && close.token == Token::RParen
        {
            plain.push(TokenWithSpan {
                token: operator.token.clone(),
                span: Span::new(first.span.start, close.span.end),
            });
            rest = &tail[5..];
            continue;
        }
        plain.push(first.clone());
        rest = tail;
    }
    plain
}

/// Replaces the command `TABLE name` by `SELECT * FROM name`: the library's own parser of it swallows the words that follow.
fn plain_tables(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let is_table = |t: &TokenWithSpan| matches!(&t.token, Token::Word(w) if w.keyword == Keyword::TABLE && w.quote_style.is_none());
    if !tokens.iter().any(is_table) {
        return tokens;
    }
    let mut plain: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len() + 2);
    for token in tokens {
        let mut before = plain
            .iter()
            .rev()
            .filter(|t| !matches!(t.token, Token::Whitespace(_)));
        let begins_query = match before.next().map(|t| &t.token) {
            None | Some(Token::LParen | Token::SemiColon) => true,
            Some(Token::Word(w)) => matches!(
                w.keyword,
                Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::ALL
            ),
            Some(_) => false,
        };
        if !begins_query || !is_table(&token) {
            plain.push(token);
            continue;
        }
        let span = token.span;
        let words = [
            Token::make_keyword("SELECT"),
            Token::Mul,
            Token::make_keyword("FROM"),
        ];
        plain.extend(words.map(|token| TokenWithSpan { token, span }));
    }
    plain
}

impl<'s> Source<'s> {
    pub(super) fn text(&self) -> &'s str {
        self.text
    }

    /// Bytes of the characters `start..end` (from 1).
    fn bytes_of(&self, start: u64, end: u64) -> Range<usize> {
        let byte = |position: u64| {
            let index = position.saturating_sub(1) as usize;
            if self.bytes.is_empty() {
                index.min(self.text.len())
            } else {
                self.bytes[index.min(self.bytes.len() - 1)]
            }
        };
        let (start, end) = (byte(start), byte(end));
        start..end.max(start)
    }

    pub(super) fn byte_range(&self, token: &TokenWithSpan) -> Range<usize> {
        if token.span.start.line == 0 {
            return self.text.len()..self.text.len();
        }
        self.bytes_of(token.span.start.column, token.span.end.column)
    }

    pub(super) fn syntax_error(&self, token: &TokenWithSpan) -> PlanError {
        if token.token == Token::EOF || token.span.start.line == 0 {
            return self.end_of_input();
        }
        let text = &self.text[self.byte_range(token)];
        PlanError::syntax(Some(text)).at(token.span.start.column as usize)
    }

    pub(super) fn end_of_input(&self) -> PlanError {
        PlanError::syntax(None).at(self.text.chars().count() + 1)
    }

    fn lexical_error(&self, message: &str, location: Location) -> PlanError {
        let position = location.column as usize;
        let rest = &self.text[self.bytes_of(location.column, u64::MAX)];
        let error = if message.contains("nterminated") && message.contains("comment") {
            PlanError::new(
                "42601",
                format!("unterminated /* comment at or near \"{rest}\""),
            )
        } else if message.contains("identifier") || rest.starts_with('"') {
            PlanError::new(
                "42601",
                format!("unterminated quoted identifier at or near \"{rest}\""),
            )
        } else if message.contains("nterminated") {
            PlanError::new(
                "42601",
                format!("unterminated quoted string at or near \"{rest}\""),
            )
        } else {
            let near: String = rest.chars().take(1).collect();
            match near.as_str() {
                "" => PlanError::syntax(None),
                near => PlanError::syntax(Some(near)),
            }
        };
        error.at(position)
    }
}

/// The column in a message of sqlparser that ends in `at Line: 1, Column: 7`.
pub(super) fn position_in_message(message: &str) -> Option<usize> {
    let (_, tail) = message.rsplit_once(" at Line: ")?;
    let (_, column) = tail.split_once("Column: ")?;
    column.trim().parse().ok()
}

/// Operators in a row, at one level of brackets and within one item of a list, make trees as deep as the row is long: cloning and
/// dropping them recurses.
const CHAIN_MAX: usize = 1000;

/// Refuses statements whose trees would be too deep to walk.
pub(super) fn check_complexity(tokens: &[TokenWithSpan]) -> Result<(), PlanError> {
    let mut chains = vec![0usize];
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket => chains.push(0),
            Token::RParen | Token::RBracket => {
                if chains.len() > 1 {
                    chains.pop();
                }
            }
            Token::Comma => *chains.last_mut().expect("never empty") = 0,
            Token::Whitespace(_)
            | Token::Period
            | Token::SingleQuotedString(_)
            | Token::Number(..) => {}
            Token::Word(word) => match word.keyword {
                Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::LIKE
                | Keyword::IS
                | Keyword::UNION
                | Keyword::EXCEPT
                | Keyword::INTERSECT
                | Keyword::JOIN
                | Keyword::COLLATE
                | Keyword::AT => *chains.last_mut().expect("never empty") += 1,
                _ => {}
            },
            _ => *chains.last_mut().expect("never empty") += 1,
        }
        if chains.last().is_some_and(|n| *n > CHAIN_MAX) {
            return Err(PlanError::too_complex());
        }
    }
    Ok(())
}
