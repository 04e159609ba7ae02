//! `clusterd token`

use super::client::{self, RoleArgs};
use anyhow::{Result, ensure};
use bootstrap::Token;
use clap::Subcommand;
use host::Host;

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Print a new token: for the founders of a new environment, or with --sql-addr for one node that joins a running one.
    New {
        /// SQL address of a node of the environment to join. Without it, nothing has to run.
        #[arg(long)]
        sql_addr: Option<String>,
        /// How long the token lets a node in, as an interval.
        #[arg(long, requires = "sql_addr")]
        valid_for: Option<String>,
        #[command(flatten)]
        role: RoleArgs,
    },
}

pub async fn run(command: TokenCommand) -> Result<()> {
    let TokenCommand::New {
        sql_addr,
        valid_for,
        role,
    } = command;
    let token = match sql_addr {
        None => Token::bootstrap(&Host::real()).to_string(),
        Some(sql_addr) => join_token(&sql_addr, valid_for.as_deref(), &role).await?,
    };
    println!("{token}");
    Ok(())
}

async fn join_token(sql_addr: &str, valid_for: Option<&str>, role: &RoleArgs) -> Result<String> {
    let client = client::connect(sql_addr, role).await?;
    let sql = match valid_for {
        None => "CREATE JOIN TOKEN".to_owned(),
        Some(interval) => format!(
            "CREATE JOIN TOKEN VALID FOR '{}'",
            interval.replace('\'', "''")
        ),
    };
    let token = client::value(&client, &sql).await?;
    ensure!(
        matches!(token.parse(), Ok(Token::Join { .. })),
        "the node answered with something that is no join token"
    );
    Ok(token)
}
