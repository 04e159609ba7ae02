//! The language of the scripts.
//!
//! Output must not depend on the seed: nodes are named by what they are (`name old leader`), and only what is promised is printed. Whatever the history of all operations does not
//! explain is printed where it is found, so a script that shows none has passed for every seed.

use crate::client;
use crate::load;
use crate::nodes::{Result, Sim};
use goldenscript::{ArgumentConsumer, Context};
use host::sim::CrashStyle;
use host::{Clock, Instant};
use mesh::Direction;
use repr::NodeId;
use state::command::{Command, NodeOp, Session};
use state::{NodeStatus, TokenHash, Txn};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An operation that goes on beside the script.
struct Pending {
    answer: Arc<Mutex<Option<String>>>,
    txn: Option<Txn>,
}

pub struct Runner {
    runtime: tokio::runtime::Runtime,
    script: Script,
}

struct Script {
    sim: Sim,
    names: BTreeMap<String, u64>,
    pending: BTreeMap<String, Pending>,
    /// When `mark` was said, and the last timestamp then.
    mark: (Instant, u64),
}

impl Runner {
    pub fn new(seed: u64) -> Runner {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.expect("a runtime");
        let sim = {
            let _inside = runtime.enter();
            Sim::new(seed)
        };
        let script = Script {
            sim,
            names: BTreeMap::new(),
            pending: BTreeMap::new(),
            mark: (Instant::default(), 0),
        };
        Runner { runtime, script }
    }

    /// The hash of all that happened.
    pub fn trace(&self) -> u64 {
        self.script.sim.shared.trace.hash()
    }
}

impl goldenscript::Runner for Runner {
    type Command = goldenscript::Command;

    fn run(&mut self, command: &goldenscript::Command, _: &Context) -> Result<String> {
        let Runner { runtime, script } = self;
        let mut args = command.consume_args();
        let mut output = runtime.block_on(script.run(&command.name, &mut args))?;
        args.reject_next()?;
        if !output.is_empty() {
            output.push('\n');
        }
        for violation in script.sim.shared.history().take_violations() {
            writeln!(output, "VIOLATION: {violation}")?;
        }
        Ok(output)
    }
}

fn number<T: std::str::FromStr<Err: Error + 'static>>(text: Option<&str>) -> Result<T> {
    Ok(text.ok_or("an argument is missing")?.parse()?)
}

/// `5s`, `20ms`.
fn duration(text: Option<&str>) -> Result<Duration> {
    let text = text.ok_or("a duration is missing")?;
    match text.strip_suffix("ms") {
        Some(millis) => Ok(Duration::from_millis(millis.parse()?)),
        None => Ok(Duration::from_secs(
            text.strip_suffix('s').ok_or("ms or s")?.parse()?,
        )),
    }
}

impl Script {
    /// A node by number, by a name given to it, or `leader`.
    fn id(&self, text: Option<&str>) -> Result<u64> {
        let text = text.ok_or("a node is missing")?;
        if text == "leader" {
            return self.sim.leader().ok_or_else(|| "nobody leads".into());
        }
        match self.names.get(text) {
            Some(id) => Ok(*id),
            None => Ok(text.parse()?),
        }
    }

    async fn run(&mut self, verb: &str, args: &mut ArgumentConsumer<'_>) -> Result<String> {
        match verb {
            // nodes N: founds an environment with N voters, with its tables.
            "nodes" => self.found(number(args.next_pos())?).await?,
            // join N: a new node, admitted and started.
            "join" => self.join(number(args.next_pos())?).await?,
            "remove" => {
                let node = NodeId(self.id(args.next_pos())?);
                let status = NodeStatus::Removed;
                return self
                    .propose(Command::Node(NodeOp::SetStatus { node, status }))
                    .await;
            }
            // name NAME leader | NODE | another: from now on that node has this name.
            "name" => self.name(args)?,
            // write NODE VALUE [as=NAME]; read NODE [as=NAME]; bump NODE [as=NAME]; local NODE
            "write" => {
                let (life, value) = (
                    self.sim.life(self.id(args.next_pos())?)?,
                    number(args.next_pos())?,
                );
                let txn = client::insert(&life, value);
                let work = client::commit(self.sim.shared.clone(), life, value, txn.clone());
                return self.operation(args, Some(txn), work).await;
            }
            "read" => {
                let life = self.sim.life(self.id(args.next_pos())?)?;
                let work = client::read(self.sim.shared.clone(), life);
                return self.operation(args, None, work).await;
            }
            "bump" => {
                let life = self.sim.life(self.id(args.next_pos())?)?;
                let work = client::bump(self.sim.shared.clone(), life);
                return self.operation(args, None, work).await;
            }
            "local" => {
                let life = self.sim.life(self.id(args.next_pos())?)?;
                return Ok(client::read_local(&self.sim.shared, &life));
            }
            // repeat NAME NODE: the transaction of an operation is proposed once more.
            "repeat" => {
                let name = args.next_pos().ok_or("a name is missing")?;
                let txn = self
                    .pending
                    .get(name)
                    .and_then(|pending| pending.txn.clone());
                let life = self.sim.life(self.id(args.next_pos())?)?;
                let work = client::repeat(life, txn.ok_or("no such write")?);
                return self.sim.within(work).await;
            }
            // end NAME: the session of an operation ends.
            "end" => {
                let name = args.next_pos().ok_or("a name is missing")?;
                let txn = self
                    .pending
                    .get(name)
                    .and_then(|pending| pending.txn.clone());
                let session: Session = txn.ok_or("no such write")?.token.session;
                return self.propose(Command::EndSession { session }).await;
            }
            // wait NAME: until it has ended. peek NAME: whether it has.
            "wait" => return self.wait(args.next_pos().unwrap_or_default()).await,
            "peek" => {
                let name = args.next_pos().unwrap_or_default();
                let pending = self.pending.get(name).ok_or("no such operation")?;
                let answer = pending.answer.lock().expect("nobody panics in here");
                return Ok(answer.clone().unwrap_or_else(|| "pending".to_owned()));
            }
            // cut NODE [peer=NODE] [in | out]: nothing passes. heal: everything does.
            "cut" => self.cut(args)?,
            "heal" => {
                for node in self.sim.nodes.values() {
                    node.faults.clear(None);
                }
            }
            // fault NODE ORDER: see mesh::Faults::execute; a name in peer= is that of a node.
            "fault" => {
                let id = self.id(args.next_pos())?;
                let order = args.next_pos().ok_or("an order is missing")?;
                let word = |word: &str| -> Result<String> {
                    match word.strip_prefix("peer=") {
                        Some(name) => Ok(format!("peer={}", self.id(Some(name))?)),
                        None => Ok(word.to_owned()),
                    }
                };
                let order: Result<Vec<String>> = order.split(' ').map(word).collect();
                self.sim.node(id)?.faults.execute(&order?.join(" "))?;
            }
            // crash NODE [kill | power | reordered]; start NODE
            "crash" => {
                let id = self.id(args.next_pos())?;
                let style = match args.next_pos() {
                    Some("kill") => CrashStyle::Kill,
                    Some("power") => CrashStyle::PowerInOrder,
                    None | Some("reordered") => CrashStyle::PowerReordered,
                    Some(other) => return Err(format!("unknown crash {other}").into()),
                };
                self.sim.crash(id, style).await?;
            }
            "start" => {
                let id = self.id(args.next_pos())?;
                self.sim.start(id, None).await?;
            }
            // clock NODE ahead | behind SECONDS: how wrong its wall clock is.
            "clock" => {
                let id = self.id(args.next_pos())?;
                let sign = match args.next_pos() {
                    Some("ahead") => 1,
                    Some("behind") => -1,
                    other => return Err(format!("ahead or behind, not {other:?}").into()),
                };
                let seconds: i64 = number(args.next_pos())?;
                self.sim
                    .node(id)?
                    .clock
                    .set_ahead(sign * seconds * 1_000_000);
            }
            // snapshot NODE: cuts one, and waits until it is durable and the log below is gone.
            "snapshot" => {
                let life = self.sim.life(self.id(args.next_pos())?)?;
                let applied = life.env.storage().view().applied();
                life.env.group().trigger_snapshot().await?;
                let durable = || {
                    let last = life.env.group().snapshot_last();
                    last.is_some_and(|pos| pos.index >= applied)
                };
                self.sim.until("the snapshot is durable", durable).await?;
                self.sim.shared.clock.sleep(Duration::from_millis(50)).await;
            }
            // lead NODE: it is made the leader.
            "lead" => {
                let id = self.id(args.next_pos())?;
                let leader = self.sim.life(self.id(Some("leader"))?)?;
                leader.env.group().transfer_leader(id).await?;
                let sim = &self.sim;
                sim.until("it leads", || sim.leader() == Some(id)).await?;
            }
            "run" => {
                let duration = duration(args.next_pos())?;
                self.sim.shared.clock.sleep(duration).await;
            }
            // until leader [not=NODE] | same | members A,B,.. voters=N
            "until" => self.until(args).await?,
            // lease NODE open | close; leases: how many gateways have one.
            "lease" => {
                let life = self.sim.life(self.id(args.next_pos())?)?;
                let now = life.env.storage().view().last_ts();
                match args.next_pos() {
                    Some("open") => life.leases.open(1, now),
                    _ => life.leases.close(1),
                }
            }
            "leases" => {
                let life = self.sim.life(self.id(Some("leader"))?)?;
                let count = life.env.storage().view().leases().len();
                return Ok(count.to_string());
            }
            // mark, then moved: by how many seconds timestamps have moved, beyond the time that has passed since.
            "mark" => self.mark = (self.sim.shared.clock.now(), self.last_ts()?),
            "moved" => {
                let passed = self.sim.shared.clock.now().since(self.mark.0);
                let moved = Duration::from_micros(self.last_ts()? - self.mark.1);
                let ahead = moved.saturating_sub(passed).as_secs();
                return Ok(format!("{ahead} s beyond the time that has passed"));
            }
            // load clients=N for=DURATION [chaos=yes]
            "load" => {
                let clients = number(args.take_key("clients"))?;
                let duration = duration(args.take_key("for"))?;
                let chaos = args.take_key("chaos") == Some("yes");
                load::load(&mut self.sim, clients, duration, chaos).await?;
                self.check_counter()?;
                let (acknowledged, all) = self.sim.shared.history().counts();
                let enough = acknowledged as u64 >= clients;
                self.sim
                    .shared
                    .trace
                    .note(&format!("{acknowledged} of {all}"));
                return Ok(if enough {
                    "writes were acknowledged"
                } else {
                    "hardly any write succeeded"
                }
                .to_owned());
            }
            "counter" => self.check_counter()?,
            verb => return Err(format!("unknown command {verb}").into()),
        }
        Ok(String::new())
    }

    async fn found(&mut self, count: u64) -> Result<()> {
        let ids: Vec<u64> = (1..=count).collect();
        for id in &ids {
            self.sim.add(*id);
            self.sim.start(*id, Some(&ids)).await?;
        }
        let sim = &self.sim;
        sim.until("somebody leads", || sim.leader().is_some())
            .await?;
        let init = Command::Init {
            environment: 1,
            generation: 0,
            wall_us: sim.life(1)?.env.wall_us(),
            superusers: vec!["clusterd".to_owned()],
        };
        self.propose(init).await?;
        for id in ids {
            self.admit(id, None).await?;
        }
        let life = self.sim.life(1)?;
        for txn in [client::create_tables(&life), client::create_counter(&life)] {
            let done = self.sim.within(life.committer.commit(txn)).await?;
            let done = client::outcome(&done.map_err(|error| error.to_string())?);
            (done == "committed").then_some(()).ok_or(done)?;
        }
        self.sim
            .until("all are introduced", || self.introduced())
            .await?;
        self.sim.converge().await
    }

    fn introduced(&self) -> bool {
        let running = self.sim.running();
        running.iter().all(|(id, life)| {
            let view = life.env.storage().view();
            let node = view.nodes().get(&NodeId(*id));
            node.is_some_and(|node| node.incarnation == life.gateway.incarnation)
        })
    }

    async fn admit(&mut self, id: u64, token_hash: Option<TokenHash>) -> Result<()> {
        let wall_us = self.sim.shared.clock.wall_us();
        let admit = NodeOp::Admit {
            node: NodeId(id),
            public_key: format!("key {id}").into_bytes(),
            mesh_addr: format!("node {id}"),
            token_hash,
            wall_us,
        };
        let answer = self.propose(Command::Node(admit)).await?;
        (answer == "committed").then_some(()).ok_or(answer)?;
        Ok(())
    }

    async fn join(&mut self, id: u64) -> Result<()> {
        let hash = [id as u8; 32];
        let token = NodeOp::Token {
            hash,
            expires_us: u64::MAX,
        };
        self.propose(Command::Node(token)).await?;
        self.admit(id, Some(hash)).await?;
        self.sim.add(id);
        self.sim.start(id, None).await?;
        self.sim
            .until("it is introduced", || self.introduced())
            .await
    }

    /// Proposes at any node that can.
    async fn propose(&mut self, command: Command) -> Result<String> {
        let running = self.sim.running();
        let (_, life) = running.first().ok_or("nobody runs")?;
        let outcomes = self.sim.within(life.env.propose(&command)).await?;
        let outcomes = outcomes.map_err(|error| format!("{error}: {:?}", error.detail))?;
        Ok(outcomes.iter().map(client::outcome).collect())
    }

    fn name(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<()> {
        let name = args.next_pos().ok_or("a name is missing")?.to_owned();
        let what = args.next_pos();
        let id = match what {
            Some("another") => {
                let named: BTreeSet<u64> = self.names.values().copied().collect();
                let mut ids = self.sim.nodes.keys();
                *ids.find(|id| !named.contains(id))
                    .ok_or("all nodes have names")?
            }
            other => self.id(other)?,
        };
        self.names.insert(name, id);
        Ok(())
    }

    /// Runs an operation to its end, or beside the script if it has a name.
    async fn operation(
        &mut self,
        args: &mut ArgumentConsumer<'_>,
        txn: Option<Txn>,
        work: impl Future<Output = String> + Send + 'static,
    ) -> Result<String> {
        let answer: Arc<Mutex<Option<String>>> = Arc::default();
        let name = args.take_key("as").unwrap_or("it").to_owned();
        let told = answer.clone();
        drop(tokio::task::spawn(async move {
            let text = work.await;
            *told.lock().expect("nobody panics in here") = Some(text);
        }));
        self.pending.insert(name.clone(), Pending { answer, txn });
        match name.as_str() {
            "it" => self.wait("it").await,
            _ => {
                // It is on its way before the next command.
                self.sim.shared.clock.sleep(Duration::from_micros(1)).await;
                Ok(String::new())
            }
        }
    }

    async fn wait(&self, name: &str) -> Result<String> {
        let pending = self.pending.get(name).ok_or("no such operation")?;
        let ended = || {
            pending
                .answer
                .lock()
                .expect("nobody panics in here")
                .is_some()
        };
        self.sim.until(&format!("{name} ends"), ended).await?;
        let answer = pending.answer.lock().expect("nobody panics in here");
        Ok(answer.clone().unwrap_or_default())
    }

    fn cut(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<()> {
        let id = self.id(args.next_pos())?;
        let peer = args
            .take_key("peer")
            .map(|peer| self.id(Some(peer)))
            .transpose()?;
        let direction = match args.next_pos() {
            None => None,
            Some("in") => Some(Direction::In),
            Some("out") => Some(Direction::Out),
            Some(other) => return Err(format!("{other} is no direction").into()),
        };
        let others: Vec<u64> = self
            .sim
            .nodes
            .keys()
            .copied()
            .filter(|other| *other != id)
            .collect();
        let faults = &self.sim.node(id)?.faults;
        for other in others {
            if peer.is_none_or(|peer| peer == other) {
                faults.cut(NodeId(other), direction);
            }
        }
        Ok(())
    }

    async fn until(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<()> {
        let not = args
            .take_key("not")
            .map(|not| self.id(Some(not)))
            .transpose()?;
        let voters: Option<usize> = args.take_key("voters").map(str::parse).transpose()?;
        let members: Option<usize> = args.take_key("members").map(str::parse).transpose()?;
        let sim = &self.sim;
        match args.next_pos() {
            Some("leader") => {
                sim.until("somebody leads", || {
                    sim.leader().is_some_and(|id| Some(id) != not)
                })
                .await
            }
            Some("same") => sim.converge().await,
            Some("group") => {
                let fits = || {
                    let life = sim.leader().and_then(|id| sim.life(id).ok());
                    let Some(life) = life else { return false };
                    let status = life.env.group().status().borrow().clone();
                    voters.is_none_or(|count| status.voters.len() == count)
                        && members.is_none_or(|count| status.members.len() == count)
                };
                sim.until("the group is like that", fits).await
            }
            other => Err(format!("until what: {other:?}").into()),
        }
    }

    fn last_ts(&self) -> Result<u64> {
        let running = self.sim.running();
        let last = running
            .iter()
            .map(|(_, life)| life.env.storage().view().last_ts());
        last.max().ok_or_else(|| "nobody runs".into())
    }

    fn check_counter(&mut self) -> Result<()> {
        let life = self.sim.life(self.id(Some("leader"))?)?;
        let state = life.env.storage().view();
        let rows = client::rows(&state, client::COUNTER, state.last_ts())?;
        let mut history = self.sim.shared.history();
        match rows.iter().collect::<Vec<_>>()[..] {
            [(value, 1)] => history.check_counter(*value as u64),
            _ => history.violate(format!("the counter has the rows {rows:?}")),
        }
        Ok(())
    }
}
