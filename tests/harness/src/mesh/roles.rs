//! Who leads, read from what any user can read: EXPLAIN TIMESTAMP.

use crate::sql::{Sql, error_text};

/// What one node says about itself and the leaders. Ids are those of the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roles {
    /// The node that answered.
    pub gateway: u64,
    pub env_leader: u64,
    pub env_term: u64,
    /// Of the CLUSTER that serves the view that was asked about.
    pub cluster_leader: Option<u64>,
    pub cluster_term: Option<u64>,
}

impl Roles {
    /// Asks the node of this session. `view` is a materialized view, served by the CLUSTER whose leader is wanted.
    ///
    /// # Errors
    /// If the statement fails, or says something else than is known here.
    pub async fn ask(sql: &Sql, view: Option<&str>) -> Result<Roles, String> {
        let query = match view {
            Some(view) => format!("explain timestamp for select * from {view}"),
            None => "explain timestamp for select 1".to_owned(),
        };
        let answer = sql.rows(&query).await.map_err(|error| error_text(&error))?;
        let lines = answer.rows().iter().filter_map(|row| row[0].as_deref());
        let text = lines.collect::<Vec<_>>().join("\n");
        let roles = Roles::read(&text).ok_or_else(|| format!("{query} answered:\n{text}"))?;
        match view.is_some() && roles.cluster_leader.is_none() {
            true => Err(format!("{query} names no leader of a CLUSTER:\n{text}")),
            false => Ok(roles),
        }
    }

    fn read(text: &str) -> Option<Roles> {
        let leader = line(text, "ENV leader");
        let served = line(text, "served by");
        Some(Roles {
            gateway: number(line(text, "gateway")?, "node ")?,
            env_leader: number(leader?, "node ")?,
            env_term: number(leader?, "term ")?,
            cluster_leader: served.and_then(|l| number(l, "leader node ")),
            cluster_term: served.and_then(|l| number(l, "term ")),
        })
    }
}

/// What stands behind `label:`.
fn line<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let lines = text.lines().map(str::trim_start);
    let mut values = lines.filter_map(|line| line.strip_prefix(label)?.strip_prefix(':'));
    values.next()
}

/// The number behind the first `word`.
fn number(text: &str, word: &str) -> Option<u64> {
    let (_, rest) = text.split_once(word)?;
    let digits = rest.find(|c: char| !c.is_ascii_digit());
    rest[..digits.unwrap_or(rest.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaders_are_read_from_the_explanation() {
        let text = "  gateway: node 2, incarnation 7\n ENV leader: node 1, term 12, applied index 15\n served by: peek of u9; cluster cluster1, leader node 3, term 4, replicas replica1";
        let roles = Roles {
            gateway: 2,
            env_leader: 1,
            env_term: 12,
            cluster_leader: Some(3),
            cluster_term: Some(4),
        };
        assert_eq!(Roles::read(text), Some(roles));
        assert_eq!(Roles::read("gateway: node 2\nENV leader: unknown"), None);
    }
}
