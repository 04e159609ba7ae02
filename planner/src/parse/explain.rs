//! EXPLAIN.

use super::{Front, Parse};
use crate::ast::{Explain, ExplainFormat, ExplainStage, ExplainTarget, Statement};
use sqlparser::tokenizer::Token;

impl Front<'_> {
    pub(super) fn explain(&mut self) -> Parse<Statement> {
        self.expect("EXPLAIN")?;
        let mut explain = Explain {
            stage: ExplainStage::Optimized,
            format: ExplainFormat::Text,
            analyze: false,
            target: ExplainTarget::Statement(Box::new(Statement::Discard(
                crate::ast::Discard::All,
            ))),
        };
        if self.peek_is(&Token::LParen) && !self.peek_query_in_parentheses() {
            self.explain_options(&mut explain)?;
        }
        self.explain_stage(&mut explain)?;
        if self.accept(&["AS"]) {
            let word = self.word(0);
            self.parser.advance_token();
            explain.format = self.explain_format(word.as_deref())?;
        }
        self.accept(&["FOR"]);
        explain.target = self.explain_target()?;
        Ok(Statement::Explain(explain))
    }

    fn peek_query_in_parentheses(&self) -> bool {
        matches!(self.word(1).as_deref(), Some("SELECT" | "VALUES" | "WITH"))
            || self.parser.peek_nth_token_ref(1).token == Token::LParen
    }

    /// PostgreSQL's `EXPLAIN (FORMAT JSON, VERBOSE, ...)`; options that only change what is printed are accepted.
    fn explain_options(&mut self, explain: &mut Explain) -> Parse<()> {
        for option in self.parenthesized_options()? {
            let value = option.value.as_ref().and_then(|v| v.as_str());
            match option.name.as_str() {
                "format" => {
                    let word = value.map(str::to_uppercase);
                    explain.format = self.explain_format(word.as_deref())?;
                }
                "analyze" | "analyse" => explain.analyze = option.as_bool().unwrap_or(true),
                _ => {}
            }
        }
        Ok(())
    }

    fn explain_format(&mut self, word: Option<&str>) -> Parse<ExplainFormat> {
        match word {
            Some("TEXT") => Ok(ExplainFormat::Text),
            Some("JSON") => Ok(ExplainFormat::Json),
            _ => Err(crate::PlanError::new(
                "22023",
                format!(
                    "unrecognized value for EXPLAIN option \"format\": \"{}\"",
                    word.unwrap_or_default().to_lowercase()
                ),
            )),
        }
    }

    fn explain_stage(&mut self, explain: &mut Explain) -> Parse<()> {
        if self.accept(&["ANALYZE"]) || self.accept(&["ANALYSE"]) {
            explain.analyze = true;
        }
        self.accept(&["VERBOSE"]);
        let stages: [(&[&str], ExplainStage); 5] = [
            (&["RAW"], ExplainStage::Raw),
            (&["DECORRELATED"], ExplainStage::Decorrelated),
            (&["OPTIMIZED"], ExplainStage::Optimized),
            (&["PHYSICAL"], ExplainStage::Physical),
            (&["TIMESTAMP"], ExplainStage::Timestamp),
        ];
        for (words, stage) in stages {
            if self.accept(words) {
                explain.stage = stage;
                break;
            }
        }
        self.accept(&["PLAN"]);
        Ok(())
    }

    fn explain_target(&mut self) -> Parse<ExplainTarget> {
        if self.accept(&["MATERIALIZED", "VIEW"]) {
            return Ok(ExplainTarget::MaterializedView(self.object_name()?));
        }
        if self.accept(&["VIEW"]) {
            return Ok(ExplainTarget::View(self.object_name()?));
        }
        if self.accept(&["INDEX"]) {
            return Ok(ExplainTarget::Index(self.object_name()?));
        }
        Ok(ExplainTarget::Statement(Box::new(self.statement()?)))
    }
}
