//! Scripts, one per property, in `tests/scripts`: what happens, and what the controller wants done.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::sync::Arc;

use goldenscript::Context;
use plan::lir::{Dataflow, Export, ExportKind, IndexImport, SourceImport};
use plan::mir::Id;
use plan::{EvalError, Mfp};
use protocol::compute::{
    Command, Epoch, InventoryEntry, PeekId, PeekResponse, PeekRows, Refusal, Response,
    SubscribeBatch,
};
use repr::{Datum, GlobalId, ReplicaId, Row, ShardId, Timestamp};

use crate::{Action, Asking, Config, Controller, Desired, Event, Hold, Next};

/// Times in scripts are small; grants trail by this much.
const READ_WINDOW_US: u64 = 10;

struct Runner {
    controller: Controller,
    wanted: BTreeMap<GlobalId, Desired>,
    holds: BTreeMap<String, Hold>,
    asking: Asking,
}

impl Runner {
    fn new() -> Runner {
        let controller = Controller::new(Config {
            read_window_us: READ_WINDOW_US,
            retry_ticks_min: 2,
            retry_ticks_max: 5,
        });
        Runner {
            controller,
            wanted: BTreeMap::new(),
            holds: BTreeMap::new(),
            asking: Asking::new(vec![]),
        }
    }

    fn step(&mut self, event: Event) -> String {
        let mut actions = vec![];
        self.controller.step(event, &mut actions);
        actions.iter().map(|action| show(action) + "\n").collect()
    }

    fn epoch(
        &self,
        args: &mut goldenscript::ArgumentConsumer<'_>,
    ) -> Result<Epoch, Box<dyn Error>> {
        let term = args.take_key("term").map(str::parse).transpose()?;
        Ok(Epoch {
            incarnation: 1,
            term: term
                .or(self.controller.epoch().map(|epoch| epoch.term))
                .unwrap_or(0),
        })
    }
}

fn dataflow(
    id: u64,
    shards: &[u64],
    imports: &[u64],
    kind: ExportKind,
    as_of: Option<Timestamp>,
) -> Arc<Dataflow> {
    let source = |shard: &u64| {
        (
            GlobalId(*shard),
            SourceImport {
                shard: ShardId(*shard),
                types: vec![],
                mfp: Mfp::identity(0),
            },
        )
    };
    let index = |import: &u64| {
        (
            GlobalId(*import),
            IndexImport {
                on: GlobalId(0),
                key: vec![],
                types: vec![],
            },
        )
    };
    Arc::new(Dataflow {
        name: format!("d{id}"),
        sources: shards.iter().map(source).collect(),
        indexes: imports.iter().map(index).collect(),
        objects: vec![],
        exports: vec![Export {
            id: GlobalId(id),
            from: Id::Local(0),
            kind,
        }],
        as_of,
        until: None,
    })
}

fn list(text: Option<&str>) -> Result<Vec<u64>, Box<dyn Error>> {
    text.into_iter()
        .flat_map(|text| text.split('-'))
        .filter(|n| !n.is_empty())
        .map(|n| Ok(n.parse()?))
        .collect()
}

fn upper(text: &str) -> Result<Option<Timestamp>, Box<dyn Error>> {
    if text == "done" {
        Ok(None)
    } else {
        Ok(Some(text.parse()?))
    }
}

fn show_upper(upper: Option<Timestamp>) -> String {
    upper.map_or("done".into(), |upper| upper.to_string())
}

fn show(action: &Action) -> String {
    let pairs = |pairs: Vec<(u64, u64)>| {
        pairs
            .iter()
            .map(|(k, v)| format!(" {k}={v}"))
            .collect::<String>()
    };
    match action {
        Action::Send { replica, command } => {
            let order = match &command.command {
                Command::Hello => "Hello".to_owned(),
                Command::CreateDataflow { id, hash, dataflow } => {
                    let snapshot = dataflow.exports.iter().any(|e| {
                        matches!(
                            e.kind,
                            ExportKind::Subscribe {
                                with_snapshot: true,
                                ..
                            }
                        )
                    });
                    let as_of = dataflow.as_of.expect("is set");
                    format!(
                        "CreateDataflow {} hash={hash} as_of={as_of}{}",
                        id.0,
                        if snapshot { " snapshot" } else { "" }
                    )
                }
                Command::AllowCompaction {
                    id,
                    frontier: Some(frontier),
                } => format!("AllowCompaction {} {frontier}", id.0),
                Command::AllowCompaction { id, frontier: None } => format!("Drop {}", id.0),
                Command::CancelPeek { id } => format!("CancelPeek {}", id.0),
                Command::InitializationComplete => "InitializationComplete".to_owned(),
            };
            format!(
                "{replica} term={} #{}: {order}",
                command.epoch.term, command.seq
            )
        }
        Action::ProposeGrants(grants) => format!(
            "propose grants{}",
            pairs(grants.iter().map(|(k, v)| (k.0, *v)).collect())
        ),
        Action::ForgetGrants(ids) => format!("forget grants {ids:?}"),
        Action::ProposeHolds {
            incarnation,
            frontiers,
        } => {
            format!(
                "propose holds incarnation={incarnation}{}",
                pairs(frontiers.iter().map(|(k, v)| (k.0, *v)).collect())
            )
        }
        Action::Frontiers(frontiers) => {
            let one = |(id, f): (&GlobalId, &crate::ExportFrontier)| {
                format!(" {}:{}..{}", id.0, f.since, show_upper(f.upper))
            };
            format!("frontiers{}", frontiers.iter().map(one).collect::<String>())
        }
        Action::Subscribe { id, batch } => {
            let times: Vec<_> = batch
                .updates
                .iter()
                .flatten()
                .map(|(time, _, _)| *time)
                .collect();
            format!(
                "deliver {} {}..{} updates at {times:?}",
                id.0,
                batch.lower,
                show_upper(batch.upper)
            )
        }
        Action::Failed {
            id, replica, last, ..
        } => format!("failed {} on {replica} last={last}", id.0),
    }
}

fn answer(text: (&str, Option<&str>)) -> Result<PeekResponse, Box<dyn Error>> {
    Ok(match text {
        ("rows", None) => PeekResponse::Rows(PeekRows::default()),
        ("error", None) => PeekResponse::Error(EvalError::division_by_zero()),
        ("refused", Some(why)) => {
            let known = [Refusal::UnknownId, Refusal::HoldLost, Refusal::Stopping];
            let found = known.into_iter().find(|r| format!("{r:?}") == why);
            PeekResponse::Refused(found.ok_or("no such refusal")?)
        }
        other => return Err(format!("no answer: {other:?}").into()),
    })
}

fn show_next(next: &Next) -> String {
    match next {
        Next::Ask(routes) => {
            let names = routes.iter().map(|route| format!(" {}", route.replica));
            format!("ask{}\n", names.collect::<String>())
        }
        Next::Wait => "wait\n".to_owned(),
        Next::Answer(PeekResponse::Rows(_)) => "answer: rows\n".to_owned(),
        Next::Answer(PeekResponse::Error(error)) => format!("answer: error {}\n", error.sqlstate),
        Next::Answer(PeekResponse::Refused(refusal)) => format!("answer: refused {refusal:?}\n"),
    }
}

impl goldenscript::Runner for Runner {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &goldenscript::Command,
        _: &Context,
    ) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let number =
            |args: &mut goldenscript::ArgumentConsumer<'_>| -> Result<u64, Box<dyn Error>> {
                Ok(args.next_pos().ok_or("a number is missing")?.parse()?)
            };
        let output = match command.name.as_str() {
            // want ID hash=N as_of=N [shards=N-N] [imports=N-N]: the catalog has this dataflow.
            "want" => {
                let id = number(&mut args)?;
                let hash = args.take_key("hash").unwrap_or("1").parse()?;
                let as_of = args.take_key("as_of").unwrap_or("0").parse()?;
                let (shards, imports) = (
                    list(args.take_key("shards"))?,
                    list(args.take_key("imports"))?,
                );
                let kind = ExportKind::Index {
                    key: vec![],
                    types: vec![],
                };
                let dataflow = dataflow(id, &shards, &imports, kind, None);
                self.wanted.insert(
                    GlobalId(id),
                    Desired {
                        hash,
                        dataflow,
                        as_of,
                    },
                );
                self.step(Event::CatalogChanged {
                    dataflows: self.wanted.clone(),
                })
            }
            // unwant ID: the catalog has it no more.
            "unwant" => {
                self.wanted.remove(&GlobalId(number(&mut args)?));
                self.step(Event::CatalogChanged {
                    dataflows: self.wanted.clone(),
                })
            }
            "lead" => {
                let term = args.take_key("term").ok_or("term is missing")?.parse()?;
                self.step(Event::BecameLeader {
                    epoch: Epoch {
                        incarnation: 1,
                        term,
                    },
                })
            }
            "lose" => self.step(Event::LostLeadership),
            "connect" => self.step(Event::ReplicaConnected {
                replica: ReplicaId(number(&mut args)?),
            }),
            "disconnect" => self.step(Event::ReplicaDisconnected {
                replica: ReplicaId(number(&mut args)?),
            }),
            // inventory REPLICA [term=N] [ID/HASH/SINCE]...
            "inventory" => {
                let (replica, epoch) = (ReplicaId(number(&mut args)?), self.epoch(&mut args)?);
                let mut dataflows = vec![];
                while let Some(entry) = args.next_pos() {
                    let parts = entry
                        .split('/')
                        .map(str::parse)
                        .collect::<Result<Vec<u64>, _>>()?;
                    dataflows.push(InventoryEntry {
                        id: GlobalId(parts[0]),
                        hash: parts[1],
                        since: parts[2],
                        upper: Some(parts[2] + 1),
                    });
                }
                self.step(Event::Response {
                    replica,
                    response: Response::Inventory { epoch, dataflows },
                })
            }
            // frontiers REPLICA [term=N] ID/UPPER...: readable just below.
            "frontiers" => {
                let (replica, epoch) = (ReplicaId(number(&mut args)?), self.epoch(&mut args)?);
                let mut frontiers = vec![];
                while let Some(entry) = args.next_pos() {
                    let (id, to) = entry.split_once('/').ok_or("ID/UPPER")?;
                    let to = upper(to)?;
                    frontiers.push((GlobalId(id.parse()?), to.unwrap_or(Timestamp::MAX) - 1, to));
                }
                self.step(Event::Response {
                    replica,
                    response: Response::Frontiers {
                        epoch,
                        frontiers,
                        arrangement_bytes: 0,
                    },
                })
            }
            "fail" => {
                let (replica, epoch) = (ReplicaId(number(&mut args)?), self.epoch(&mut args)?);
                let id = GlobalId(number(&mut args)?);
                self.step(Event::Response {
                    replica,
                    response: Response::DataflowFailed {
                        epoch,
                        id,
                        error: EvalError::division_by_zero(),
                    },
                })
            }
            // batch REPLICA ID LOWER UPPER TIME...
            "batch" => {
                let (replica, epoch) = (ReplicaId(number(&mut args)?), self.epoch(&mut args)?);
                let (id, lower) = (GlobalId(number(&mut args)?), number(&mut args)?);
                let upper = upper(args.next_pos().ok_or("an upper is missing")?)?;
                let mut updates = vec![];
                while let Some(time) = args.next_pos() {
                    updates.push((time.parse()?, Row::pack_slice(&[Datum::Int32(1)]), 1));
                }
                let batch = SubscribeBatch {
                    lower,
                    upper,
                    updates: Ok(updates),
                };
                self.step(Event::Response {
                    replica,
                    response: Response::Subscribe { epoch, id, batch },
                })
            }
            "grant" => {
                let pairs = args
                    .next_key()
                    .into_iter()
                    .chain(std::iter::from_fn(|| args.next_key()));
                let pairs: Vec<_> = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
                let mut grants = BTreeMap::new();
                for (id, ts) in pairs {
                    grants.insert(GlobalId(id.parse()?), ts.parse()?);
                }
                self.step(Event::GrantCommitted { grants })
            }
            "holds" => {
                let mut holds = BTreeMap::new();
                while let Some((shard, ts)) = args.next_key() {
                    holds.insert(ShardId(shard.parse()?), ts.parse()?);
                }
                self.step(Event::HoldsApplied { holds })
            }
            "tick" => {
                let oldest_lease = args.take_key("lease").map(str::parse).transpose()?;
                let last_ts = number(&mut args)?;
                self.step(Event::Tick {
                    last_ts,
                    oldest_lease,
                })
            }
            // subscribe ID as_of=N [shards=N] [imports=N]
            "subscribe" => {
                let as_of = args.take_key("as_of").ok_or("as_of is missing")?.parse()?;
                let (shards, imports) = (
                    list(args.take_key("shards"))?,
                    list(args.take_key("imports"))?,
                );
                let id = number(&mut args)?;
                let kind = ExportKind::Subscribe {
                    types: vec![],
                    with_snapshot: true,
                };
                let dataflow = dataflow(id, &shards, &imports, kind, Some(as_of));
                self.step(Event::CreateTransient {
                    id: GlobalId(id),
                    hash: 0,
                    dataflow,
                })
            }
            "unsubscribe" => self.step(Event::DropTransient {
                id: GlobalId(number(&mut args)?),
            }),
            // hold NAME ID TS: what a peek does.
            "hold" => {
                let name = args.next_pos().ok_or("a name is missing")?.to_owned();
                let (id, ts) = (GlobalId(number(&mut args)?), number(&mut args)?);
                match self.controller.holds().acquire(id, ts) {
                    Ok(hold) => drop(self.holds.insert(name, hold)),
                    Err(error) => return Ok(format!("{error}\n")),
                }
                String::new()
            }
            "release" => {
                let name = args.next_pos().ok_or("a name is missing")?;
                self.holds.remove(name).ok_or("there is no such hold")?;
                String::new()
            }
            // cancel ID: whoever sent this peek does not wait any more.
            "cancel" => self.step(Event::CancelPeek {
                id: PeekId(number(&mut args)?.into()),
            }),
            // ask: a read comes in.
            "ask" => {
                self.asking = Asking::new(self.controller.routes().all());
                show_next(&self.asking.begin())
            }
            // slow: its answer takes long.
            "slow" => show_next(&self.asking.slow()),
            // answer rows | error | refused=WHY: of one that was asked.
            "answer" => {
                let answer = match args.next_pos() {
                    Some(word) => answer((word, None))?,
                    None => answer(("refused", args.take_key("refused")))?,
                };
                show_next(&self.asking.answered(answer))
            }
            // What the peek path sees.
            "show" => {
                let mut output = String::new();
                for route in self.controller.routes().all() {
                    writeln!(
                        output,
                        "route {} term={} after={}",
                        route.replica, route.epoch.term, route.after
                    )?;
                }
                let created = self.controller.dataflows_created();
                writeln!(
                    output,
                    "created={created} outstanding={}",
                    self.controller.holds().outstanding()
                )?;
                output
            }
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
        ("h7", "compaction_waits_for_grant"),
        ("h16", "compaction_waits_for_grant"),
        ("h28", "cancelled_peek_is_taken_back_everywhere"),
        ("h35", "rows_beat_refusals"),
        ("h37", "other_hash_is_replaced"),
    ];
    scripts::catch(DIR, &bugs, Runner::new)
}
