//! What functions return: one expression per line, its value or error below. Values agree with PostgreSQL 15 unless a comment in
//! the script says otherwise.

use crate::term;
use plan::EvalError;
use plan::scalar::EvalCtx;
use repr::{Datum, RowArena};
use std::error::Error;
use std::path::Path;

struct Runner {
    ctx: EvalCtx,
}

impl goldenscript::Runner for Runner {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &Self::Command,
        _: &goldenscript::Context,
    ) -> Result<String, Box<dyn Error>> {
        if let Some(zone) = command.name.strip_prefix("set timezone ") {
            self.ctx.format.timezone = repr::TimeZone::parse(zone)?;
            return Ok(String::new());
        }
        let expression = term::scalar(&term::parse(&command.name));
        let arena = RowArena::new();
        let result = expression.eval(&self.ctx, &[], &arena);
        // Folding is another way to the same result.
        let mut folded = expression.clone();
        folded.fold(&self.ctx);
        let folded_arena = RowArena::new();
        assert_eq!(
            show(&self.ctx, &folded.eval(&self.ctx, &[], &folded_arena)),
            show(&self.ctx, &result)
        );
        Ok(show(&self.ctx, &result))
    }
}

/// The value in its text form, or the error.
pub fn show(ctx: &EvalCtx, result: &Result<Datum<'_>, EvalError>) -> String {
    match result {
        Ok(Datum::Null) => "NULL".to_owned(),
        Ok(datum) => {
            let mut text = String::new();
            ctx.write_text(*datum, &mut text);
            if text.is_empty() {
                "''".to_owned()
            } else {
                text
            }
        }
        Err(error) => {
            let mut text = format!("ERROR {}: {}", error.sqlstate, error.message);
            if let Some(detail) = &error.detail {
                text += &format!("\nDETAIL: {detail}");
            }
            if let Some(hint) = &error.hint {
                text += &format!("\nHINT: {hint}");
            }
            text
        }
    }
}

/// The scripts of a directory, in order.
pub fn scripts(directory: &str) -> Vec<std::path::PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/scripts")
        .join(directory);
    let mut paths: Vec<_> = std::fs::read_dir(directory)
        .expect("scripts exist")
        .map(|entry| entry.expect("a script").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "scripts exist");
    paths
}

#[test]
fn functions_return_what_postgres_returns() {
    for path in scripts("functions") {
        goldenscript::run(
            &mut Runner {
                ctx: EvalCtx::default(),
            },
            &path,
        )
        .expect("the script can be read");
    }
}
