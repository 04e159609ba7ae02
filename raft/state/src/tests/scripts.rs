//! Scripts, one per property, in `tests/scripts`: entries of a log, their outcomes, and what can be read afterwards.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

use goldenscript::{ArgumentConsumer, Context};
use repr::{ClusterId, GlobalId, NodeId, ReplicaId, Row, ShardId, Timestamp};

use super::build::{admit, batch, cluster, gateway, index, init, key, row, table, txn, write};
use crate::command::{
    CatalogOp, Check, Command, Gateway, NodeOp, Outcome, Session, Token, Txn, Write,
};
use crate::node::{Authority, Node, NodeStatus, Placement};
use crate::state::State;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Applies what it reads. The index of an entry is printed before its outcomes.
struct Runner {
    state: State,
    txns: Vec<Txn>,
}

fn parse<T: std::str::FromStr<Err: Error + 'static>>(text: Option<&str>) -> Result<T> {
    Ok(text.ok_or("an argument is missing")?.parse()?)
}

/// SESSION/SEQ of gateway node 1, incarnation 1, or NODE.INCARNATION.SESSION/SEQ.
fn token(text: &str, base: u64) -> Result<Token> {
    let (session_text, seq) = text.split_once('/').ok_or("SESSION/SEQ")?;
    Ok(Token {
        session: session(session_text)?,
        seq: seq.parse()?,
        base,
    })
}

fn session(text: &str) -> Result<Session> {
    let parts = text
        .split('.')
        .map(str::parse)
        .collect::<std::result::Result<Vec<u64>, _>>()?;
    match parts[..] {
        [number] => Ok(Session {
            gateway: gateway(1, 1),
            number,
        }),
        [node, incarnation, number] => Ok(Session {
            gateway: gateway(node, incarnation),
            number,
        }),
        _ => Err("SESSION or NODE.INCARNATION.SESSION".into()),
    }
}

fn gateway_of(text: Option<&str>) -> Result<Gateway> {
    let (node, incarnation) = text
        .and_then(|text| text.split_once('.'))
        .ok_or("NODE.INCARNATION")?;
    Ok(gateway(node.parse()?, incarnation.parse()?))
}

fn keys(text: &str) -> Result<Vec<Vec<usize>>> {
    let columns = |key: &str| key.split('-').map(|c| Ok(c.parse()?)).collect();
    text.split('/')
        .filter(|key| !key.is_empty())
        .map(columns)
        .collect()
}

fn parse_row(a: Option<&str>, b: Option<&str>) -> Result<Row> {
    let b = if b == Some("null") {
        None
    } else {
        Some(parse(b)?)
    };
    Ok(row(parse(a)?, b))
}

impl Runner {
    fn new() -> Runner {
        Runner {
            state: State::new(),
            txns: vec![],
        }
    }

    fn apply(&mut self, command: &Command) -> String {
        let index = self.state.applied() + 1;
        let applied = self.state.apply(index, command);
        let mut output = format!("#{index}");
        applied
            .outcomes
            .iter()
            .for_each(|outcome| write!(output, " {}", show(outcome)).expect("a string takes all"));
        if applied.changes.nodes_changed {
            output += " nodes-changed";
        }
        output + "\n"
    }

    fn shard(&self, name: Option<&str>) -> Result<ShardId> {
        let name = name.ok_or("a table is missing")?;
        match name.parse() {
            Ok(id) => Ok(ShardId(id)),
            Err(_) => {
                let item = self
                    .state
                    .catalog()
                    .items
                    .values()
                    .find(|item| item.name == name);
                Ok(item
                    .and_then(|item| item.shard())
                    .ok_or("there is no such table")?)
            }
        }
    }

    /// One part of a transaction.
    fn op(&self, txn: &mut Txn, text: &str) -> Result<()> {
        let mut words = text.split(' ');
        let verb = words.next().unwrap_or_default();
        match verb {
            "insert" | "delete" => {
                let shard = self.shard(words.next())?;
                let diff = if verb == "insert" { 1 } else { -1 };
                txn.writes.push(write(
                    shard,
                    vec![(parse_row(words.next(), words.next())?, diff)],
                ));
            }
            "truncate" => txn.writes.push(Write {
                truncate: true,
                ..write(self.shard(words.next())?, vec![])
            }),
            "unchanged" => txn.checks.push(Check::ShardUnchanged {
                shard: self.shard(words.next())?,
                since: parse(words.next())?,
            }),
            "key" => txn.checks.push(Check::KeyUnchanged {
                shard: self.shard(words.next())?,
                space: parse(words.next())?,
                key: key(parse(words.next())?),
                since: parse(words.next())?,
            }),
            "catalog" => txn.checks.push(Check::CatalogUnchanged {
                version: parse(words.next())?,
            }),
            "planned" => txn
                .schema
                .push((GlobalId(parse(words.next())?), parse(words.next())?)),
            "table" => {
                let (id, name) = (
                    parse(words.next())?,
                    words.next().ok_or("a name is missing")?,
                );
                let keys = keys(words.next().unwrap_or_default())?;
                let keys: Vec<&[usize]> = keys.iter().map(|key| &key[..]).collect();
                txn.catalog_ops
                    .push(CatalogOp::CreateItem(table(id, name, &keys)));
            }
            "index" => {
                let (id, name) = (
                    parse(words.next())?,
                    words.next().ok_or("a name is missing")?,
                );
                let (on, cluster) = (parse(words.next())?, ClusterId(parse(words.next())?));
                txn.catalog_ops
                    .push(CatalogOp::CreateItem(index(id, name, on, cluster)));
            }
            "drop" => {
                let ids = words
                    .by_ref()
                    .map(|id| Ok(GlobalId(id.parse()?)))
                    .collect::<Result<Vec<_>>>()?;
                txn.catalog_ops.push(CatalogOp::DropItems(ids));
            }
            "rename" => {
                let id = GlobalId(parse(words.next())?);
                txn.catalog_ops.push(CatalogOp::RenameItem {
                    id,
                    name: words.next().ok_or("a name is missing")?.to_owned(),
                });
            }
            // cluster ID REPLICA... creates, resize ID REPLICA... changes.
            "cluster" | "resize" => {
                let id = parse(words.next())?;
                let replicas = words.by_ref().map(|word| Ok(ReplicaId(word.parse()?)));
                let cluster = cluster(id, replicas.collect::<Result<_>>()?);
                txn.catalog_ops.push(if verb == "cluster" {
                    CatalogOp::CreateCluster(cluster)
                } else {
                    CatalogOp::UpdateCluster(cluster)
                });
            }
            "keep" => {
                let id = ClusterId(parse(words.next())?);
                txn.catalog_ops.push(CatalogOp::KeepReplicas(id));
            }
            "drop-cluster" => {
                let id = ClusterId(parse(words.next())?);
                txn.catalog_ops.push(CatalogOp::DropCluster(id));
            }
            "staged" => txn.staged = parse(words.next())?,
            verb => return Err(format!("unknown part {verb}").into()),
        }
        if words.next().is_some() {
            Err(format!("too many words in {text}").into())
        } else {
            Ok(())
        }
    }

    fn read(&self, args: &mut ArgumentConsumer<'_>) -> Result<String> {
        let shard = self.shard(args.next_pos())?;
        let ts: Timestamp = args
            .next_pos()
            .map_or(Ok(self.state.last_ts()), str::parse)?;
        let found = match self.state.readable(shard, ts) {
            Ok(found) => found,
            Err(error) => return Ok(format!("{error}\n")),
        };
        let mut output = format!("at {ts}:");
        found.for_each(ts, |row, diff| {
            let times = if diff == 1 {
                String::new()
            } else {
                format!(" x{diff}")
            };
            write!(
                output,
                " ({}, {}){times}",
                row.column(0).unwrap_int32(),
                show_int(row.column(1))
            )
            .expect("a string takes all");
        });
        Ok(output + "\n")
    }

    fn show(&self) -> String {
        let mut output = format!(
            "last_ts={} catalog={} floor={}\n",
            self.state.last_ts(),
            self.state.catalog().version,
            self.state.read_floor()
        );
        for shard in self.state.shards() {
            let since = self.state.since(shard.id()).expect("it is there");
            writeln!(output, "{} since={since} rows={}", shard.id(), shard.rows())
                .expect("a string takes all");
        }
        for (cluster, hold) in self.state.holds() {
            writeln!(
                output,
                "hold {cluster} incarnation={} {:?}",
                hold.incarnation, hold.frontiers
            )
            .expect("a string takes all");
        }
        output
    }

    fn nodes(&self) -> String {
        let state = &self.state;
        let mut lines = vec![];
        for node in state.nodes().values() {
            let Node {
                id,
                mesh_addr,
                sql_addr,
                http_addr,
                public_key,
                status,
                incarnation,
                version,
            } = &**node;
            let key = String::from_utf8_lossy(public_key);
            let line = format!(
                "{id} {} incarnation={incarnation} key={key} {mesh_addr} {sql_addr} {http_addr} {version}",
                status.name()
            );
            lines.push(line.trim_end().to_owned());
        }
        for (hash, token) in state.tokens() {
            lines.push(format!("token {}.. {token:?}", hash[0]));
        }
        for (cluster, placement) in state.placements() {
            let sized = state.is_sized_by_user(*cluster);
            let founders = state.founders(*cluster);
            lines.push(format!(
                "{cluster} sized_by_user={sized} {placement:?} founders {founders:?}"
            ));
        }
        if let Some(authority) = state.authority() {
            lines.push(format!("{authority:?}"));
        }
        lines.push(format!("next {}", state.next_node_id()));
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    fn restore(&mut self) -> Result<()> {
        let mut bytes = vec![];
        self.state.write_snapshot(&mut bytes)?;
        self.state = State::read_snapshot(&mut &bytes[..])?;
        Ok(())
    }
}

fn show_int(datum: repr::Datum<'_>) -> String {
    if datum.is_null() {
        "null".into()
    } else {
        datum.unwrap_int32().to_string()
    }
}

fn show(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Committed { ts } => format!("committed@{ts}"),
        Outcome::Conflict { shard } => format!(
            "conflict({})",
            shard.map_or("catalog".into(), |shard| shard.to_string())
        ),
        Outcome::UniqueViolation { shard, space, key } => {
            format!("duplicate({shard} key{space} {})", show_int(key.column(0)))
        }
        Outcome::CatalogMoved => "catalog-moved".into(),
        Outcome::NameTaken { name } => format!("name-taken({name})"),
        Outcome::TokenExpired => "token-expired".into(),
        Outcome::Invalid { reason } => format!("invalid({reason})"),
        Outcome::TooLarge { limit_bytes } => format!("too-large({limit_bytes})"),
        Outcome::NoSpace => "no-space".into(),
    }
}

impl goldenscript::Runner for Runner {
    type Command = goldenscript::Command;

    fn run(&mut self, command: &goldenscript::Command, _: &Context) -> Result<String> {
        let mut args = command.consume_args();
        let output = match command.name.as_str() {
            "init" => self.apply(&init()),
            // txn TOKEN [base=N] PART...: waits for the next batch.
            "txn" => {
                let base = args
                    .take_key("base")
                    .map_or(Ok(self.state.applied()), str::parse)?;
                let mut next = txn(token(args.next_pos().ok_or("a token is missing")?, base)?);
                while let Some(part) = args.next_pos() {
                    self.op(&mut next, part)?;
                }
                self.txns.push(next);
                String::new()
            }
            "batch" => {
                let txns = std::mem::take(&mut self.txns);
                self.apply(&batch(parse(args.next_pos())?, txns))
            }
            "close" => self.apply(&Command::Close {
                wall_us: parse(args.next_pos())?,
            }),
            // stage TOKEN NUMBER PART...
            "stage" => {
                let token = token(
                    args.next_pos().ok_or("a token is missing")?,
                    self.state.applied(),
                )?;
                let number = parse(args.next_pos())?;
                let mut parts = txn(token);
                while let Some(part) = args.next_pos() {
                    self.op(&mut parts, part)?;
                }
                self.apply(&Command::Stage {
                    token,
                    number,
                    writes: parts.writes,
                })
            }
            // end SESSION...
            "end" => {
                let mut sessions = Vec::new();
                while let Some(name) = args.next_pos() {
                    sessions.push(session(name)?);
                }
                self.apply(&match sessions[..] {
                    [session] => Command::EndSession { session },
                    _ => Command::EndSessions { sessions },
                })
            }
            // End a thousand and more sessions, so that the oldest is forgotten.
            "end-many" => {
                for number in 0..2000 {
                    self.apply(&Command::EndSession {
                        session: Session {
                            gateway: gateway(1, 1),
                            number: 100_000 + number,
                        },
                    });
                }
                String::new()
            }
            "started" => self.apply(&Command::GatewayStarted {
                gateway: gateway_of(args.next_pos())?,
            }),
            "lease" => {
                let gateway = gateway_of(args.next_pos())?;
                let oldest = args.next_pos().map(str::parse).transpose()?;
                self.apply(&Command::Lease { gateway, oldest })
            }
            "expire" => self.apply(&Command::ExpireLease {
                gateway: gateway_of(args.next_pos())?,
            }),
            "holds" => {
                let incarnation = parse(args.take_key("incarnation"))?;
                let cluster = ClusterId(parse(args.next_pos())?);
                let mut frontiers = BTreeMap::new();
                while let Some((shard, ts)) = args.next_key() {
                    frontiers.insert(ShardId(shard.parse()?), ts.parse()?);
                }
                self.apply(&Command::Holds {
                    cluster,
                    incarnation,
                    frontiers,
                })
            }
            // admit NODE KEY [token=N] [wall=US]
            "admit" => {
                let token = args.take_key("token").map(str::parse).transpose()?;
                let wall_us = args.take_key("wall").map_or(Ok(0), str::parse)?;
                let node = NodeId(parse(args.next_pos())?);
                let key = args.next_pos().ok_or("a key is missing")?;
                self.apply(&admit(node, key, token, wall_us))
            }
            "node-started" => {
                let node = NodeId(parse(args.next_pos())?);
                let incarnation = parse(args.next_pos())?;
                let host = args.next_pos().unwrap_or("host");
                self.apply(&Command::Node(NodeOp::Started {
                    node,
                    incarnation,
                    mesh_addr: format!("{host}:2100"),
                    sql_addr: format!("{host}:6875"),
                    http_addr: format!("{host}:6876"),
                    version: "1".into(),
                }))
            }
            "status" => {
                let node = NodeId(parse(args.next_pos())?);
                let status = match args.next_pos() {
                    Some("active") => NodeStatus::Active,
                    Some("draining") => NodeStatus::Draining,
                    Some("removed") => NodeStatus::Removed,
                    _ => return Err("a status is missing".into()),
                };
                self.apply(&Command::Node(NodeOp::SetStatus { node, status }))
            }
            "token" => {
                let hash = [parse(args.next_pos())?; 32];
                let expires_us = parse(args.next_pos())?;
                self.apply(&Command::Node(NodeOp::Token { hash, expires_us }))
            }
            "authority" => {
                let key_pem = args.next_pos().ok_or("a key is missing")?.to_owned();
                self.apply(&Command::Authority(Authority {
                    certificate: vec![1],
                    key_pem,
                }))
            }
            // place CLUSTER incarnation=N voters=NODE-NODE [REPLICA=NODE]...
            "place" => {
                let incarnation = parse(args.take_key("incarnation"))?;
                let voters = args.take_key("voters").unwrap_or_default().split('-');
                let voters = voters.filter(|node| !node.is_empty());
                let voters = voters.map(|node| Ok(NodeId(node.parse()?)));
                let voters = voters.collect::<Result<_>>()?;
                let cluster = ClusterId(parse(args.next_pos())?);
                let mut replicas = BTreeMap::new();
                while let Some((replica, node)) = args.next_key() {
                    replicas.insert(ReplicaId(replica.parse()?), NodeId(node.parse()?));
                }
                let placement = Placement {
                    incarnation,
                    replicas,
                    voters,
                };
                self.apply(&Command::Place { cluster, placement })
            }
            "nodes" => self.nodes(),
            "restore" => {
                self.restore()?;
                String::new()
            }
            "read" => self.read(&mut args)?,
            "show" => self.show(),
            name => return Err(format!("unknown command {name}").into()),
        };
        args.reject_next()?;
        Ok(output)
    }
}

/// Where the scripts are.
const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");

#[test]
fn scripts() -> std::io::Result<()> {
    scripts::run_all(DIR, Runner::new)
}

/// One is chosen for the whole process: run this test alone.
#[cfg(feature = "planted")]
#[test]
fn planted_bugs_are_caught() -> std::io::Result<()> {
    let bugs = [
        ("h8", "holds_keep_history_and_never_go_back"),
        ("h12", "ddl_and_writes_exclude_each_other"),
        ("h13", "retries_are_answered_not_executed"),
        ("h22", "phantoms_conflict"),
        ("h32", "batch_of_mixed_outcomes"),
        ("h38", "late_duplicate_of_an_ended_session_is_refused"),
    ];
    scripts::catch(DIR, &bugs, Runner::new)
}
