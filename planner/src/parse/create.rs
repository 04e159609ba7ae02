//! CREATE.

use super::{Front, Parse};
use crate::ast::{
    CreateCluster, CreateIndex, CreateSchema, CreateSource, CreateView, Statement, sql,
};
use crate::error::PlanError;
use sqlparser::ast::{Expr, Ident};
use sqlparser::tokenizer::Token;

impl Front<'_> {
    pub(super) fn create(&mut self) -> Parse<Statement> {
        // What follows CREATE [OR REPLACE] [TEMPORARY] decides.
        let mut n = 1;
        let or_replace = self.word(1).as_deref() == Some("OR");
        if or_replace {
            n = 3;
        }
        let modifier = self.word(n);
        let temporary = matches!(modifier.as_deref(), Some("TEMP" | "TEMPORARY"));
        if temporary || matches!(modifier.as_deref(), Some("UNLOGGED" | "UNIQUE" | "DEFAULT")) {
            n += 1;
        }
        let kind = self.word(n).unwrap_or_default();
        match kind.as_str() {
            "TABLE" => self.create_table(),
            "VIEW" | "MATERIALIZED" => {
                self.expect("CREATE")?;
                self.accept(&["OR", "REPLACE"]);
                self.accept(&["TEMPORARY"]);
                self.accept(&["TEMP"]);
                self.create_view(or_replace, temporary)
            }
            "INDEX" => self.create_index(),
            "CLUSTER" => self.create_cluster(),
            "JOIN" => self.create_join_token(),
            "SOURCE" => self.create_source(),
            "SCHEMA" => self.create_schema(),
            "DATABASE" => {
                self.expect("CREATE")?;
                self.expect("DATABASE")?;
                let if_not_exists = self.accept(&["IF", "NOT", "EXISTS"]);
                let name = self.ident()?;
                Ok(Statement::CreateDatabase {
                    name,
                    if_not_exists,
                })
            }
            "" => {
                self.expect("CREATE")?;
                Err(self.unexpected())
            }
            "FUNCTION" | "PROCEDURE" | "TRIGGER" | "TYPE" | "DOMAIN" | "SEQUENCE" | "EXTENSION"
            | "ROLE" | "USER" | "GROUP" | "AGGREGATE" | "OPERATOR" | "RULE" | "POLICY"
            | "PUBLICATION" | "SUBSCRIPTION" | "STATISTICS" | "COLLATION" | "CAST"
            | "CONVERSION" | "LANGUAGE" | "TABLESPACE" | "SERVER" | "FOREIGN" | "EVENT"
            | "TEXT" | "ACCESS" | "CONNECTION" | "SECRET" | "SINK" | "RECURSIVE" => {
                Ok(self.unsupported(&format!("CREATE {kind}")))
            }
            _ => {
                self.expect("CREATE")?;
                Err(self.unexpected())
            }
        }
    }

    fn create_table(&mut self) -> Parse<Statement> {
        match self.sql(|p| p.parse_statement())? {
            sql::Statement::CreateTable(table) => Ok(Statement::CreateTable(Box::new(table))),
            _ => Err(self.unexpected()),
        }
    }

    fn create_view(&mut self, or_replace: bool, temporary: bool) -> Parse<Statement> {
        let materialized = self.accept(&["MATERIALIZED"]);
        self.expect("VIEW")?;
        let if_not_exists = self.accept(&["IF", "NOT", "EXISTS"]);
        let name = self.object_name()?;
        let mut columns = vec![];
        if self.accept_token(&Token::LParen) {
            columns = self.idents()?;
            self.expect_token(&Token::RParen)?;
        }
        let cluster = match materialized {
            true => self.in_cluster()?,
            false => None,
        };
        if self.accept(&["WITH"]) && self.peek_is(&Token::LParen) {
            return self.unsupported_after("WITH options of a view");
        }
        self.expect("AS")?;
        let first = self.parser.peek_token_ref();
        let (query_start, start) = (
            crate::ast::position(first.span),
            self.source.byte_range(first).start,
        );
        let query = self.query()?;
        let end = self.source.byte_range(self.last_token()).end;
        if query.as_of.is_some() {
            return Err(PlanError::new(
                "0A000",
                "AS OF is not allowed in the definition of a view",
            ));
        }
        self.accept(&["WITH", "DATA"]);
        if self.peek_words(&["WITH", "NO", "DATA"]) || self.peek_words(&["WITH", "CHECK"]) {
            return self.unsupported_after("WITH options of a view");
        }
        Ok(Statement::CreateView(CreateView {
            name,
            columns,
            query: query.query,
            query_text: self.source.text()[start..end.max(start)].to_owned(),
            query_start,
            or_replace,
            if_not_exists,
            temporary,
            materialized,
            cluster,
        }))
    }

    fn create_index(&mut self) -> Parse<Statement> {
        self.expect("CREATE")?;
        let default = self.accept(&["DEFAULT"]);
        let unique = self.accept(&["UNIQUE"]);
        self.expect("INDEX")?;
        self.accept(&["CONCURRENTLY"]);
        let if_not_exists = self.accept(&["IF", "NOT", "EXISTS"]);
        let named = !self.peek_words(&["ON"]) && !self.peek_words(&["IN", "CLUSTER"]);
        let name = match named {
            true => Some(self.ident()?),
            false => None,
        };
        let cluster = self.in_cluster()?;
        self.expect("ON")?;
        self.accept(&["ONLY"]);
        let on = self.object_name()?;
        let method = match self.accept(&["USING"]) {
            true => Some(self.ident()?),
            false => None,
        };
        let keys = match default && !self.peek_is(&Token::LParen) {
            true => None,
            false => Some(self.index_keys()?),
        };
        if self.word(0).is_some() {
            return self.unsupported_after("CREATE INDEX with");
        }
        Ok(Statement::CreateIndex(CreateIndex {
            name,
            if_not_exists,
            unique,
            cluster,
            on,
            method,
            keys,
        }))
    }

    /// `(expr [ASC|DESC] [NULLS FIRST|LAST], ...)`: an arrangement has no order that a user could see.
    fn index_keys(&mut self) -> Parse<Vec<Expr>> {
        self.expect_token(&Token::LParen)?;
        let mut keys = vec![];
        loop {
            keys.push(self.sql(|p| p.parse_order_by_expr())?.expr);
            if !self.accept_token(&Token::Comma) {
                break;
            }
        }
        self.expect_token(&Token::RParen)?;
        Ok(keys)
    }

    fn create_cluster(&mut self) -> Parse<Statement> {
        self.expect("CREATE")?;
        self.expect("CLUSTER")?;
        let if_not_exists = self.accept(&["IF", "NOT", "EXISTS"]);
        let name = self.ident()?;
        let options = if self.peek_is(&Token::LParen) {
            self.parenthesized_options()?
        } else if self.at_end() {
            vec![]
        } else {
            self.options()?
        };
        Ok(Statement::CreateCluster(CreateCluster {
            name,
            if_not_exists,
            options,
        }))
    }

    fn create_source(&mut self) -> Parse<Statement> {
        self.expect("CREATE")?;
        self.expect("SOURCE")?;
        let if_not_exists = self.accept(&["IF", "NOT", "EXISTS"]);
        let name = self.object_name()?;
        let cluster = self.in_cluster()?;
        self.expect("FROM")?;
        if !self.accept(&["LOAD", "GENERATOR"]) {
            return self.unsupported_after("CREATE SOURCE FROM");
        }
        let generator = super::fold(&self.ident()?);
        let options = match self.peek_is(&Token::LParen) {
            true => self.parenthesized_options()?,
            false => vec![],
        };
        Ok(Statement::CreateSource(CreateSource {
            name,
            if_not_exists,
            cluster,
            generator,
            options,
        }))
    }

    fn create_schema(&mut self) -> Parse<Statement> {
        self.expect("CREATE")?;
        self.expect("SCHEMA")?;
        let if_not_exists = self.accept(&["IF", "NOT", "EXISTS"]);
        if self.peek_words(&["AUTHORIZATION"]) {
            return self.unsupported_after("CREATE SCHEMA");
        }
        let name = self.object_name()?;
        if self.word(0).is_some() {
            return self.unsupported_after("CREATE SCHEMA with");
        }
        Ok(Statement::CreateSchema(CreateSchema {
            name,
            if_not_exists,
        }))
    }

    fn in_cluster(&mut self) -> Parse<Option<Ident>> {
        match self.accept(&["IN", "CLUSTER"]) {
            true => Ok(Some(self.ident()?)),
            false => Ok(None),
        }
    }

    pub(super) fn idents(&mut self) -> Parse<Vec<Ident>> {
        let mut idents = vec![self.ident()?];
        while self.accept_token(&Token::Comma) {
            idents.push(self.ident()?);
        }
        Ok(idents)
    }
}
