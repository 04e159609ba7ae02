//! `clusterd node`

use super::client::{self, ServerArgs};
use anyhow::Result;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// List the nodes of the environment.
    Ls {
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Move replicas and votes away from a node.
    Drain {
        /// The node's number, as `ls` shows it.
        node: u64,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Let a drained node have replicas and votes again.
    Undrain {
        /// The node's number, as `ls` shows it.
        node: u64,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Remove a node for ever; its disk is worth nothing afterwards.
    Remove {
        /// The node's number, as `ls` shows it.
        node: u64,
        #[command(flatten)]
        server: ServerArgs,
    },
}

pub async fn run(command: NodeCommand) -> Result<()> {
    let (sql, server) = match command {
        NodeCommand::Ls { server } => ("SHOW NODES".to_owned(), server),
        NodeCommand::Drain { node, server } => (format!("ALTER NODE {node} DRAIN"), server),
        NodeCommand::Undrain { node, server } => (format!("ALTER NODE {node} UNDRAIN"), server),
        NodeCommand::Remove { node, server } => (format!("DROP NODE {node}"), server),
    };
    let client = client::connect(&server.sql_addr, &server.role).await?;
    print!("{}", table(&client::query(&client, &sql).await?));
    Ok(())
}

/// Columns as wide as their widest cell.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cells = |at: usize| rows.iter().filter_map(move |row| row.get(at));
    let width = |at| cells(at).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let padded = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_aligned() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["id", "status", "x"]), row(["1", "active", ""])];
        assert_eq!(super::table(&rows), "id  status  x\n1   active\n");
        assert_eq!(super::table(&[]), "");
    }
}
