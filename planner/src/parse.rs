//! From SQL text to [`Statement`]s.
//!
//! The front parser looks at the first words of a statement. Queries, expressions, DML and CREATE TABLE are handed to sqlparser; all
//! other statements are parsed here with that parser's building blocks.
//!
//! Caveats: where sqlparser accepts more than PostgreSQL does, so do we, until planning refuses it. Its errors name another token than
//! PostgreSQL's in some texts.

mod copy;
mod create;
mod cursor;
mod explain;
mod lex;
mod node;
mod option;
mod query;
mod set;
mod show;
mod transaction;

use crate::ast::{Discard, Drop, NoOp, ObjectKind, Prepare, Rename, Statement, Truncate, sql};
use crate::error::PlanError;
use lex::Source;
use sqlparser::ast::{Ident, ObjectName};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan, Word};
use std::ops::Range;

/// One statement of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    pub statement: Statement,
    /// Bytes of the whole text that are this statement, without the semicolon.
    pub span: Range<usize>,
    /// The statement's own text.
    pub text: String,
}

/// Cuts a text into statements and parses each. Nothing is returned if any of them is wrong.
pub fn parse(sql: &str) -> Result<Vec<Parsed>, PlanError> {
    let (source, tokens) = lex::tokenize(sql)?;
    let mut parsed = vec![];
    for group in tokens.split(|t| t.token == Token::SemiColon) {
        let significant = |t: &&TokenWithSpan| !matches!(t.token, Token::Whitespace(_));
        let (Some(first), Some(last)) = (
            group.iter().find(significant),
            group.iter().rev().find(significant),
        ) else {
            continue;
        };
        let span = source.byte_range(first).start..source.byte_range(last).end;
        lex::check_complexity(group)?;
        let mut front = Front::new(&source, group.to_vec());
        let statement = front.whole_statement()?;
        parsed.push(Parsed {
            statement,
            text: sql[span.clone()].to_owned(),
            span,
        });
    }
    Ok(parsed)
}

/// Parses one expression, as stored for a column default or an index key.
pub fn parse_expr(sql: &str) -> Result<sql::Expr, PlanError> {
    let (source, tokens) = lex::tokenize(sql)?;
    lex::check_complexity(&tokens)?;
    let mut front = Front::new(&source, tokens);
    let expr = front.expr()?;
    front.expect_end()?;
    Ok(expr)
}

/// Parses one query, as stored for a view.
pub fn parse_query(sql: &str) -> Result<Box<sql::Query>, PlanError> {
    let (source, tokens) = lex::tokenize(sql)?;
    lex::check_complexity(&tokens)?;
    let mut front = Front::new(&source, tokens);
    let query = front.sql(|p| p.parse_query())?;
    front.expect_end()?;
    Ok(query)
}

/// An identifier's value: folded to lower case unless it was quoted, cut to 63 bytes.
pub fn fold(ident: &Ident) -> String {
    let mut name = match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    };
    if name.len() > IDENTIFIER_BYTES_MAX {
        let cut = (0..=IDENTIFIER_BYTES_MAX)
            .rev()
            .find(|i| name.is_char_boundary(*i))
            .unwrap_or(0);
        name.truncate(cut);
    }
    name
}

/// PostgreSQL's NAMEDATALEN - 1.
const IDENTIFIER_BYTES_MAX: usize = 63;

/// How deep the library's recursive descent may go; its frames are large in builds without optimization.
const NESTING_MAX: usize = 64;

static DIALECT: PostgreSqlDialect = PostgreSqlDialect {};

/// A parser at some token of one statement.
struct Front<'s> {
    source: &'s Source<'s>,
    /// The tokens of `parser`, whose indexes are those of `Parser::index`.
    tokens: Vec<TokenWithSpan>,
    parser: Parser<'static>,
    /// Statements inside statements: EXPLAIN, PREPARE, COPY.
    depth: usize,
}

type Parse<T> = Result<T, PlanError>;

impl<'s> Front<'s> {
    fn new(source: &'s Source<'s>, tokens: Vec<TokenWithSpan>) -> Front<'s> {
        Front {
            source,
            parser: new_parser(&tokens),
            tokens,
            depth: 0,
        }
    }

    fn whole_statement(&mut self) -> Parse<Statement> {
        let statement = self.statement()?;
        if !matches!(statement, Statement::Unsupported { .. }) {
            self.expect_end()?;
        }
        Ok(statement)
    }

    fn statement(&mut self) -> Parse<Statement> {
        const STATEMENT_DEPTH_MAX: usize = 8;
        if self.depth == STATEMENT_DEPTH_MAX {
            return Err(PlanError::too_complex());
        }
        self.depth += 1;
        let statement = self.statement_inner();
        self.depth -= 1;
        statement
    }

    fn statement_inner(&mut self) -> Parse<Statement> {
        let Some(word) = self.word(0) else {
            return match self.parser.peek_token_ref().token {
                Token::LParen => self.query_statement(),
                _ => Err(self.unexpected()),
            };
        };
        match word.as_str() {
            "SELECT" | "VALUES" | "WITH" | "TABLE" => self.query_statement(),
            "INSERT" | "UPDATE" | "DELETE" => self.dml(),
            "CREATE" => self.create(),
            "DROP" => self.drop(),
            "ALTER" => self.alter(),
            "TRUNCATE" => self.truncate(),
            "COPY" => self.copy(),
            "SUBSCRIBE" => Ok(Statement::Subscribe(self.subscribe()?)),
            "EXPLAIN" => self.explain(),
            "SHOW" => self.show(),
            "DECLARE" => self.declare(),
            "FETCH" | "MOVE" => self.fetch(),
            "CLOSE" => self.close(),
            "PREPARE" => self.prepare(),
            "EXECUTE" => self.execute(),
            "DEALLOCATE" => self.deallocate(),
            "DISCARD" => self.discard(),
            "SET" => self.set(),
            "RESET" => self.reset(),
            "BEGIN" | "START" | "COMMIT" | "END" | "ROLLBACK" | "ABORT" | "SAVEPOINT"
            | "RELEASE" => self.transaction(),
            "ANALYZE" | "ANALYSE" | "VACUUM" => Ok(self.maintenance(&word)),
            "COMMENT" | "GRANT" | "REVOKE" | "LISTEN" | "UNLISTEN" | "NOTIFY" | "LOCK"
            | "CLUSTER" | "REINDEX" | "REFRESH" | "CALL" | "DO" | "MERGE" | "CHECKPOINT"
            | "LOAD" | "REASSIGN" | "SECURITY" | "IMPORT" => Ok(self.unsupported(&word)),
            _ => Err(self.unexpected()),
        }
    }

    fn dml(&mut self) -> Parse<Statement> {
        let statement = self.sql(|p| p.parse_statement())?;
        match statement {
            sql::Statement::Insert(insert) => Ok(Statement::Insert(Box::new(insert))),
            sql::Statement::Update(update) => Ok(Statement::Update(Box::new(update))),
            sql::Statement::Delete(delete) => Ok(Statement::Delete(Box::new(delete))),
            _ => Err(self.unexpected()),
        }
    }

    fn drop(&mut self) -> Parse<Statement> {
        self.expect("DROP")?;
        if self.accept(&["NODE"]) {
            return self.drop_node();
        }
        let Some(kind) = self.object_kind() else {
            return self.unsupported_after("DROP");
        };
        let if_exists = self.accept(&["IF", "EXISTS"]);
        let names = self.object_names()?;
        if kind == ObjectKind::Database && (self.accept(&["WITH"]) || self.peek_is(&Token::LParen))
        {
            self.skip_rest();
            return Ok(Statement::Unsupported {
                what: "DROP DATABASE ... WITH (FORCE)".to_owned(),
                hint: Some("End the sessions that use the database first.".to_owned()),
            });
        }
        let restrict = self.word(0).as_deref() == Some("RESTRICT");
        let cascade = self.cascade() || kind == ObjectKind::Database && !restrict;
        Ok(Statement::Drop(Drop {
            kind,
            if_exists,
            names,
            cascade,
        }))
    }

    fn alter(&mut self) -> Parse<Statement> {
        self.expect("ALTER")?;
        if self.accept(&["NODE"]) {
            return self.alter_node();
        }
        let Some(kind) = self.object_kind() else {
            return self.unsupported_after("ALTER");
        };
        let if_exists = self.accept(&["IF", "EXISTS"]);
        self.accept(&["ONLY"]);
        let name = self.object_name()?;
        if self.accept(&["RENAME", "TO"]) {
            let to = self.ident()?;
            return Ok(Statement::Rename(Rename {
                kind,
                if_exists,
                name,
                to,
            }));
        }
        if kind == ObjectKind::Cluster && self.accept(&["SET"]) {
            let name = self.single(name)?;
            let options = self.parenthesized_options()?;
            return Ok(Statement::AlterCluster { name, options });
        }
        if self.at_end() {
            return Err(self.unexpected());
        }
        Ok(Statement::Unsupported {
            what: format!("ALTER {} of this form", kind.name().to_uppercase()),
            hint: Some("ALTER can only RENAME TO. Create the object again instead.".to_owned()),
        })
    }

    fn truncate(&mut self) -> Parse<Statement> {
        self.expect("TRUNCATE")?;
        self.accept(&["TABLE"]);
        self.accept(&["ONLY"]);
        let names = self.object_names()?;
        self.accept(&["RESTART", "IDENTITY"]);
        self.accept(&["CONTINUE", "IDENTITY"]);
        let cascade = self.cascade();
        Ok(Statement::Truncate(Truncate { names, cascade }))
    }

    fn prepare(&mut self) -> Parse<Statement> {
        self.expect("PREPARE")?;
        if self.accept(&["TRANSACTION"]) {
            return self.unsupported_after("PREPARE TRANSACTION");
        }
        let name = self.ident()?;
        let mut types = vec![];
        if self.peek_is(&Token::LParen) {
            types = self.sql(|p| {
                p.parse_parenthesized(|p| p.parse_comma_separated(|p| p.parse_data_type()))
            })?;
        }
        self.expect("AS")?;
        let start = self.source.byte_range(self.parser.peek_token_ref()).start;
        let statement = Box::new(self.statement()?);
        let end = self.source.byte_range(self.last_token()).end;
        Ok(Statement::Prepare(Prepare {
            name,
            types,
            statement,
            text: self.source.text()[start..end].to_owned(),
        }))
    }

    fn execute(&mut self) -> Parse<Statement> {
        self.expect("EXECUTE")?;
        let name = self.ident()?;
        let args = if self.peek_is(&Token::LParen) {
            self.sql(|p| p.parse_parenthesized(|p| p.parse_comma_separated(|p| p.parse_expr())))?
        } else {
            vec![]
        };
        Ok(Statement::Execute { name, args })
    }

    fn deallocate(&mut self) -> Parse<Statement> {
        self.expect("DEALLOCATE")?;
        self.accept(&["PREPARE"]);
        let name = if self.accept(&["ALL"]) {
            None
        } else {
            Some(self.ident()?)
        };
        Ok(Statement::Deallocate { name })
    }

    fn discard(&mut self) -> Parse<Statement> {
        self.expect("DISCARD")?;
        let Some(word) = self.word(0) else {
            return Err(self.unexpected());
        };
        let what = match word.as_str() {
            "ALL" => Discard::All,
            "PLANS" => Discard::Plans,
            "SEQUENCES" => Discard::Sequences,
            "TEMP" | "TEMPORARY" => Discard::Temp,
            _ => return Err(self.unexpected()),
        };
        self.parser.advance_token();
        Ok(Statement::Discard(what))
    }

    /// Clients run these after a load; there are no statistics and no dead rows here.
    fn maintenance(&mut self, word: &str) -> Statement {
        self.skip_rest();
        let tag = if word == "VACUUM" {
            "VACUUM"
        } else {
            "ANALYZE"
        };
        Statement::NoOp(NoOp {
            tag,
            warning: Some(format!("{tag} has no effect")),
        })
    }

    fn unsupported(&mut self, what: &str) -> Statement {
        self.skip_rest();
        Statement::Unsupported {
            what: what.to_owned(),
            hint: None,
        }
    }

    /// `verb KIND` of a kind of object that is not supported here, or a syntax error if there is no further word.
    fn unsupported_after(&mut self, verb: &str) -> Parse<Statement> {
        match self.word(0) {
            Some(word) => Ok(self.unsupported(&format!("{verb} {word}"))),
            None if self.at_end() => Err(self.unexpected()),
            None => Ok(self.unsupported(verb)),
        }
    }

    fn skip_rest(&mut self) {
        while !self.at_end() {
            self.parser.advance_token();
        }
    }

    fn object_kind(&mut self) -> Option<ObjectKind> {
        let kinds: [(&[&str], ObjectKind); 11] = [
            (&["TABLE"], ObjectKind::Table),
            (&["VIEW"], ObjectKind::View),
            (&["MATERIALIZED", "VIEW"], ObjectKind::MaterializedView),
            (&["INDEX"], ObjectKind::Index),
            (&["SOURCE"], ObjectKind::Source),
            (&["SCHEMA"], ObjectKind::Schema),
            (&["DATABASE"], ObjectKind::Database),
            (&["CLUSTER"], ObjectKind::Cluster),
            (&["ROLE"], ObjectKind::Role),
            (&["USER"], ObjectKind::Role),
            (&["GROUP"], ObjectKind::Role),
        ];
        kinds
            .into_iter()
            .find(|(words, _)| self.accept(words))
            .map(|(_, kind)| kind)
    }

    fn cascade(&mut self) -> bool {
        let cascade = self.accept(&["CASCADE"]);
        if !cascade {
            self.accept(&["RESTRICT"]);
        }
        cascade
    }

    // Building blocks.

    /// Runs a piece of sqlparser and translates its error.
    fn sql<T>(
        &mut self,
        f: impl FnOnce(&mut Parser<'static>) -> Result<T, ParserError>,
    ) -> Parse<T> {
        f(&mut self.parser).map_err(|e| self.translate(e))
    }

    fn expr(&mut self) -> Parse<sql::Expr> {
        self.sql(|p| p.parse_expr())
    }

    fn ident(&mut self) -> Parse<Ident> {
        match self.parser.peek_token_ref().token {
            Token::Word(_) => self.sql(|p| p.parse_identifier()),
            _ => Err(self.unexpected()),
        }
    }

    fn object_name(&mut self) -> Parse<ObjectName> {
        self.sql(|p| p.parse_object_name(false))
    }

    fn object_names(&mut self) -> Parse<Vec<ObjectName>> {
        self.sql(|p| p.parse_comma_separated(|p| p.parse_object_name(false)))
    }

    /// A name that cannot be qualified.
    fn single(&self, name: ObjectName) -> Parse<Ident> {
        match name.0.as_slice() {
            [sql::ObjectNamePart::Identifier(ident)] => Ok(ident.clone()),
            _ => Err(PlanError::new(
                "42602",
                format!("improper qualified name: {name}"),
            )),
        }
    }

    /// The unquoted word that comes after `n` tokens, in upper case.
    fn word(&self, n: usize) -> Option<String> {
        match &self.parser.peek_nth_token_ref(n).token {
            Token::Word(Word {
                value,
                quote_style: None,
                ..
            }) => Some(value.to_uppercase()),
            _ => None,
        }
    }

    fn peek_words(&self, words: &[&str]) -> bool {
        words
            .iter()
            .enumerate()
            .all(|(i, w)| self.word(i).as_deref() == Some(w))
    }

    fn peek_is(&self, token: &Token) -> bool {
        self.parser.peek_token_ref().token == *token
    }

    /// Consumes the words if all of them come next.
    fn accept(&mut self, words: &[&str]) -> bool {
        let found = self.peek_words(words);
        if found {
            words.iter().for_each(|_| self.parser.advance_token());
        }
        found
    }

    fn accept_token(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    fn expect(&mut self, word: &str) -> Parse<()> {
        if self.accept(&[word]) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    fn expect_token(&mut self, token: &Token) -> Parse<()> {
        if self.accept_token(token) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    fn string(&mut self) -> Parse<String> {
        let value = match &self.parser.peek_token_ref().token {
            Token::SingleQuotedString(s)
            | Token::EscapedStringLiteral(s)
            | Token::UnicodeStringLiteral(s) => s.clone(),
            Token::DollarQuotedString(s) => s.value.clone(),
            _ => return Err(self.unexpected()),
        };
        self.parser.advance_token();
        Ok(value)
    }

    fn at_end(&self) -> bool {
        self.parser.peek_token_ref().token == Token::EOF
    }

    fn expect_end(&self) -> Parse<()> {
        if self.at_end() {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    /// The token consumed last.
    fn last_token(&self) -> &TokenWithSpan {
        self.parser.get_current_token()
    }

    /// A syntax error at the next token.
    fn unexpected(&self) -> PlanError {
        self.source.syntax_error(self.parser.peek_token_ref())
    }

    fn translate(&self, error: ParserError) -> PlanError {
        match error {
            ParserError::RecursionLimitExceeded => PlanError::too_complex(),
            ParserError::TokenizerError(message) => PlanError::new("42601", message),
            ParserError::ParserError(message) => {
                if let Some(position) = lex::position_in_message(&message) {
                    let found = self
                        .tokens
                        .iter()
                        .find(|t| crate::ast::position(t.span) == position);
                    if let Some(token) = found {
                        return self.source.syntax_error(token);
                    }
                }
                if message.ends_with("found: EOF") {
                    return self.source.end_of_input();
                }
                self.source.syntax_error(self.parser.peek_token_ref())
            }
        }
    }

    /// Continues with the tokens from `index` on.
    fn restart_at(&mut self, index: usize) {
        self.tokens.drain(..index);
        self.parser = new_parser(&self.tokens);
    }
}

fn new_parser(tokens: &[TokenWithSpan]) -> Parser<'static> {
    Parser::new(&DIALECT)
        .with_recursion_limit(NESTING_MAX)
        .with_tokens_with_locations(tokens.to_vec())
}

/// Whether the token is this keyword, unquoted.
fn is_keyword(token: &TokenWithSpan, keyword: Keyword) -> bool {
    matches!(&token.token, Token::Word(w) if w.keyword == keyword && w.quote_style.is_none())
}
