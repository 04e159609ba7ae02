//! DECLARE, FETCH, MOVE, CLOSE.

use super::{Front, Parse};
use crate::ast::{CursorSource, Declare, Fetch, FetchDirection, Statement};
use sqlparser::tokenizer::Token;

impl Front<'_> {
    pub(super) fn declare(&mut self) -> Parse<Statement> {
        self.expect("DECLARE")?;
        let name = self.ident()?;
        let (mut binary, mut scroll) = (false, None);
        loop {
            if self.accept(&["BINARY"]) {
                binary = true;
            } else if self.accept(&["NO", "SCROLL"]) {
                scroll = Some(false);
            } else if self.accept(&["SCROLL"]) {
                scroll = Some(true);
            } else if !self.accept(&["INSENSITIVE"]) && !self.accept(&["ASENSITIVE"]) {
                break;
            }
        }
        self.expect("CURSOR")?;
        let hold = self.accept(&["WITH", "HOLD"]);
        self.accept(&["WITHOUT", "HOLD"]);
        self.expect("FOR")?;
        let source = match self.peek_words(&["SUBSCRIBE"]) {
            true => CursorSource::Subscribe(self.subscribe()?),
            false => CursorSource::Query(self.query()?),
        };
        Ok(Statement::Declare(Declare {
            name,
            hold,
            binary,
            scroll,
            source,
        }))
    }

    pub(super) fn fetch(&mut self) -> Parse<Statement> {
        let is_move = self.accept(&["MOVE"]);
        if !is_move {
            self.expect("FETCH")?;
        }
        let direction = self.fetch_direction()?;
        if !self.accept(&["FROM"]) {
            self.accept(&["IN"]);
        }
        let name = self.ident()?;
        let mut timeout = None;
        if self.accept(&["WITH"]) {
            for option in self.parenthesized_options()? {
                match (option.name.as_str(), option.value) {
                    ("timeout", Some(value)) => timeout = value.as_str().map(str::to_owned),
                    (_, _) => return Err(self.unexpected()),
                }
            }
        }
        Ok(Statement::Fetch(Fetch {
            name,
            direction,
            is_move,
            timeout,
        }))
    }

    fn fetch_direction(&mut self) -> Parse<FetchDirection> {
        if let Some(direction) = self.count()? {
            return Ok(direction);
        }
        // A cursor may be named like a direction: `FETCH next` without a name after it.
        let followed = !matches!(self.parser.peek_nth_token_ref(1).token, Token::EOF);
        match self.word(0).as_deref() {
            Some("ALL") if followed => {
                self.parser.advance_token();
                Ok(FetchDirection::All)
            }
            Some("NEXT") if followed => {
                self.parser.advance_token();
                Ok(FetchDirection::Forward(1))
            }
            Some("FORWARD") if followed => {
                self.parser.advance_token();
                match self.accept(&["ALL"]) {
                    true => Ok(FetchDirection::All),
                    false => Ok(self.count()?.unwrap_or(FetchDirection::Forward(1))),
                }
            }
            Some("PRIOR" | "FIRST" | "LAST" | "BACKWARD" | "ABSOLUTE" | "RELATIVE") if followed => {
                self.parser.advance_token();
                if !self.accept(&["ALL"]) {
                    self.count()?;
                }
                Ok(FetchDirection::Backward)
            }
            Some(_) | None => Ok(FetchDirection::Forward(1)),
        }
    }

    /// A number of rows, if one comes next.
    fn count(&mut self) -> Parse<Option<FetchDirection>> {
        let negative = self.accept_token(&Token::Minus);
        let Token::Number(digits, _) = &self.parser.peek_token_ref().token else {
            return match negative {
                true => Err(self.unexpected()),
                false => Ok(None),
            };
        };
        let Ok(n) = digits.parse::<u64>() else {
            return Err(self.unexpected());
        };
        self.parser.advance_token();
        Ok(Some(match negative {
            true => FetchDirection::Backward,
            false => FetchDirection::Forward(n),
        }))
    }

    pub(super) fn close(&mut self) -> Parse<Statement> {
        self.expect("CLOSE")?;
        let name = match self.accept(&["ALL"]) {
            true => None,
            false => Some(self.ident()?),
        };
        Ok(Statement::Close { name })
    }
}
