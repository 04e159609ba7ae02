//! What is done to the nodes while clients work. Each fault is ended again, and judged while it holds: the nodes that can go on must, soon; those that
//! cannot must say so.

mod wipe;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use harness::mesh::Mesh;
use harness::mesh::roles::Roles;
use harness::{Target, sqlstate};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::client::Shared;

/// The CLUSTER that serves this view is the one whose leader is hit.
const VIEW: &str = "account_view";
/// How long a node may take to start and catch up.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// A node without a majority must refuse a strict statement within this.
const REFUSED_WITHIN: Duration = Duration::from_secs(10);
/// How long the question who leads may remain open before a fault.
const LEADERS_WITHIN: Duration = Duration::from_secs(20);
/// One try of a statement that may have to be made again.
const TRY_WITHIN: Duration = Duration::from_secs(5);

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Nemesis {
    /// SIGKILL for the node that leads ENV.
    KillEnv,
    /// SIGKILL for the node that leads the CLUSTER of the views.
    KillCluster,
    /// SIGKILL for any node.
    KillAny,
    /// SIGKILL for all nodes at once.
    KillAll,
    /// SIGSTOP for ENV's leader, 0.5 to 5 s.
    PauseEnv,
    /// SIGSTOP for the CLUSTER's leader.
    PauseCluster,
    /// SIGSTOP for any gateway.
    PauseAny,
    /// A minority is cut off, ENV's leader in it every other time.
    Minority,
    /// Nothing passes from one node to all others, or from all others to it.
    OneWay,
    /// Two sides that both see one node, and not each other.
    Bridge,
    /// The CLUSTER's leader and ENV's leader do not see each other.
    ClusterFromEnv,
    /// Messages between all nodes are late, overtake each other, come twice, and some are lost.
    Noise,
    /// SIGTERM for one node after the other; each must end with status 0.
    Rolling,
    /// SIGKILL for any node, whose disk is lost: it is refused as it was, removed, and replaced by a new one.
    Wipe,
}

/// What a fault needs to know.
pub struct Field<'a> {
    pub mesh: &'a mut Mesh,
    pub shared: Arc<Shared>,
    pub rng: StdRng,
    /// Within this time nodes with a majority must answer again.
    pub recover_max: Duration,
    pub pulses: u64,
}

impl Field<'_> {
    /// One fault from its beginning to its end; in words what was done.
    ///
    /// # Errors
    /// If a node does not start again or does not end as it should, or no leader is found: the run cannot go on.
    pub async fn strike(&mut self, nemesis: Nemesis) -> Result<String> {
        self.mesh.wait_whole(READY_WITHIN).await?;
        let (env, cluster) = self.leaders().await?;
        let any = self.rng.random_range(0..self.mesh.count());
        match nemesis {
            Nemesis::KillEnv => self.kill(&[env]).await,
            Nemesis::KillCluster => self.kill(&[cluster]).await,
            Nemesis::KillAny => self.kill(&[any]).await,
            Nemesis::KillAll => self.kill(&self.all()).await,
            Nemesis::PauseEnv => self.pause(env).await,
            Nemesis::PauseCluster => self.pause(cluster).await,
            Nemesis::PauseAny => self.pause(any).await,
            Nemesis::Minority => self.minority(env).await,
            Nemesis::OneWay => {
                let place = [env, cluster, any][self.rng.random_range(0..3)];
                self.one_way(place).await
            }
            Nemesis::Bridge => self.bridge().await,
            Nemesis::ClusterFromEnv => self.cluster_from_env(env, cluster).await,
            Nemesis::Noise => self.noise().await,
            Nemesis::Rolling => self.rolling().await,
            Nemesis::Wipe => self.wipe(any).await,
        }
    }

    fn all(&self) -> Vec<usize> {
        (0..self.mesh.count()).collect()
    }

    fn others(&self, without: &[usize]) -> Vec<usize> {
        let others = self.all().into_iter();
        others.filter(|place| !without.contains(place)).collect()
    }

    /// Places of ENV's leader and of the CLUSTER's.
    pub async fn leaders(&self) -> Result<(usize, usize)> {
        let started = Instant::now();
        let mut last = String::new();
        while started.elapsed() < LEADERS_WITHIN {
            for place in self.all() {
                let asked = self.mesh.roles(place, Some(VIEW));
                match tokio::time::timeout(TRY_WITHIN, asked).await {
                    Ok(Ok(roles)) => return self.places(&roles),
                    Ok(Err(error)) => last = error.to_string(),
                    Err(_) => last = format!("place {place} did not answer"),
                }
            }
        }
        bail!("nobody knows who leads: {last}")
    }

    fn places(&self, roles: &Roles) -> Result<(usize, usize)> {
        let place = |id: u64| {
            self.mesh
                .place(id)
                .with_context(|| format!("node {id} is not one of these"))
        };
        let cluster = roles.cluster_leader.context("no leader of the CLUSTER")?;
        Ok((place(roles.env_leader)?, place(cluster)?))
    }

    async fn kill(&mut self, places: &[usize]) -> Result<String> {
        for place in places {
            tokio::task::block_in_place(|| self.mesh.node_mut(*place).kill9());
        }
        let killed = Instant::now();
        let others = self.others(places);
        let went_on = self.go_on(&others, killed).await?;
        for place in places {
            self.mesh.spawn(*place)?;
        }
        let spawned = Instant::now();
        self.wait_ready()?;
        Ok(format!(
            "killed {}, the others went on after {went_on}, it was ready {} after its start",
            self.names(places),
            shown(spawned.elapsed())
        ))
    }

    async fn pause(&mut self, place: usize) -> Result<String> {
        let time = Duration::from_millis(self.rng.random_range(500..5000));
        self.mesh.pause(place);
        let paused = Instant::now();
        let others = self.others(&[place]);
        let went_on = self.go_on(&others, paused).await;
        tokio::time::sleep(time.saturating_sub(paused.elapsed())).await;
        self.mesh.resume(place);
        let resumed = Instant::now();
        let whole = self.go_on(&self.all(), resumed).await?;
        Ok(format!(
            "paused {} for {}, the others went on after {}, all after another {whole}",
            self.names(&[place]),
            shown(time),
            went_on?
        ))
    }

    async fn minority(&mut self, env: usize) -> Result<String> {
        let size = (self.mesh.count() - 1) / 2;
        let with_leader = self.rng.random_bool(0.5);
        let mut side = self.others(&[env]);
        side.shuffle(&mut self.rng);
        side.truncate(size);
        if with_leader {
            side[0] = env;
        }
        let majority = self.others(&side);
        for one in &side {
            for other in &majority {
                self.mesh.cut(*one, *other)?;
            }
        }
        let cut = Instant::now();
        let went_on = self.go_on(&majority, cut).await?;
        for place in &side {
            self.minority_says_so(*place, cut).await;
        }
        self.hold(cut).await;
        let healed = self.heal().await?;
        let leader = if with_leader {
            ", ENV's leader among them"
        } else {
            ""
        };
        Ok(format!(
            "cut off {}{leader}; the majority went on after {went_on}; healed, all after {healed}",
            self.names(&side)
        ))
    }

    /// A node without a majority refuses strict statements with a reason, lets clients in, and still answers `serializable` reads.
    async fn minority_says_so(&self, place: usize, cut: Instant) {
        let target = &self.shared.targets[place];
        let refused = tokio::time::timeout(REFUSED_WITHIN, strict_refusal(target)).await;
        match refused {
            Err(_) => self.shared.finding(format!(
                "the cut-off place {place} has not refused a strict statement {} after the cut",
                shown(cut.elapsed())
            )),
            Ok(Err(reason)) => self
                .shared
                .finding(format!("the cut-off place {place}: {reason}")),
            Ok(Ok(state)) => self.shared.count("strict statement in a minority", &state),
        }
        let read = tokio::time::timeout(REFUSED_WITHIN, serializable_read(target)).await;
        match read {
            Ok(Ok(())) => self.shared.count("serializable read in a minority", "ok"),
            // Only nodes that have a replica can read its views; with three nodes each has one.
            Ok(Err(state)) if state == "57P03" && self.mesh.count() > 3 => {
                self.shared.count("serializable read in a minority", &state);
            }
            Ok(Err(state)) => self.shared.finding(format!(
                "the cut-off place {place} refuses a serializable read: {state}"
            )),
            Err(_) => self.shared.finding(format!(
                "the cut-off place {place} lets a serializable read wait"
            )),
        }
    }

    async fn one_way(&mut self, place: usize) -> Result<String> {
        let deaf = self.rng.random_bool(0.5);
        for other in self.others(&[place]) {
            match deaf {
                true => self.mesh.cut_one_way(other, place)?,
                false => self.mesh.cut_one_way(place, other)?,
            }
        }
        let cut = Instant::now();
        let went_on = self.go_on(&self.others(&[place]), cut).await?;
        self.hold(cut).await;
        let healed = self.heal().await?;
        let how = if deaf {
            "hears nobody"
        } else {
            "is heard by nobody"
        };
        Ok(format!(
            "{} {how}; the others went on after {went_on}; healed, all after {healed}",
            self.names(&[place])
        ))
    }

    async fn bridge(&mut self) -> Result<String> {
        let mut places = self.all();
        places.shuffle(&mut self.rng);
        let (between, sides) = (places[0], &places[1..]);
        let (left, right) = sides.split_at(sides.len() / 2);
        for one in left {
            for other in right {
                self.mesh.cut(*one, *other)?;
            }
        }
        let cut = Instant::now();
        // Some majority exists around the node between the sides; who is in it, the nodes decide.
        let went_on = self.go_on(&[between], cut).await?;
        self.hold(cut).await;
        let healed = self.heal().await?;
        Ok(format!(
            "{} and {} see only {}; it went on after {went_on}; healed, all after {healed}",
            self.names(left),
            self.names(right),
            self.names(&[between])
        ))
    }

    async fn cluster_from_env(&mut self, env: usize, cluster: usize) -> Result<String> {
        if env == cluster {
            // One node has both parts: take the CLUSTER's away from it first.
            return self.kill(&[cluster]).await;
        }
        self.mesh.cut(env, cluster)?;
        let cut = Instant::now();
        let rest = self.others(&[env, cluster]);
        let went_on = self.go_on(&rest, cut).await?;
        self.hold(cut).await;
        let healed = self.heal().await?;
        Ok(format!(
            "the CLUSTER's leader {} and ENV's {} do not see each other; the rest went on after {went_on}; healed, all after {healed}",
            self.names(&[cluster]),
            self.names(&[env])
        ))
    }

    async fn noise(&mut self) -> Result<String> {
        let begun = Instant::now();
        for place in self.all() {
            self.mesh
                .order(place, "set lost=0.005 twice=0.05 delay_ms=0..8")?;
        }
        self.hold(begun).await;
        let healed = self.heal().await?;
        Ok(format!(
            "noise on every link for {}; healed, all after {healed}",
            shown(begun.elapsed())
        ))
    }

    async fn rolling(&mut self) -> Result<String> {
        let begun = Instant::now();
        for place in self.all() {
            let node = self.mesh.node_mut(place);
            let status = tokio::task::block_in_place(|| node.terminate());
            let status = status.context("SIGTERM did not end the node within its time")?;
            ensure!(
                status.success(),
                "after SIGTERM the node at place {place} ended with {status}:\n{}",
                self.mesh.node(place).output_end()
            );
            self.mesh.spawn(place)?;
            self.wait_ready()?;
        }
        Ok(format!(
            "restarted every node in {}",
            shown(begun.elapsed())
        ))
    }

    fn wait_ready(&mut self) -> Result<()> {
        tokio::task::block_in_place(|| self.mesh.wait_ready(READY_WITHIN))?;
        Ok(())
    }

    /// Lets a fault that began then hold for some seconds.
    async fn hold(&mut self, since: Instant) {
        let time = Duration::from_millis(self.rng.random_range(2000..6000));
        tokio::time::sleep(time.saturating_sub(since.elapsed())).await;
    }

    async fn heal(&mut self) -> Result<String> {
        // What cuts nothing shows nothing.
        if let Some(namespaces) = self.mesh.namespaces() {
            let dropped = namespaces.dropped()?;
            ensure!(dropped > 0, "the kernel has dropped nothing");
            self.shared.add("packets dropped by the kernel", dropped);
        }
        tokio::task::block_in_place(|| self.mesh.heal())?;
        let healed = Instant::now();
        self.go_on(&self.all(), healed).await
    }

    /// Waits until each of these nodes has done a write and two strict reads begun after `since`; a finding if that took too long.
    async fn go_on(&mut self, places: &[usize], since: Instant) -> Result<String> {
        let limit = self.recover_max.max(READY_WITHIN);
        let mut longest = Duration::ZERO;
        let pulses = places.iter().map(|place| {
            self.pulses += 1;
            let (target, number) = (self.shared.targets[*place].clone(), self.pulses);
            tokio::spawn(tokio::time::timeout(
                limit,
                pulse_until_done(target, number, since),
            ))
        });
        for (place, pulse) in places.iter().zip(pulses.collect::<Vec<_>>()) {
            let Ok((took, last)) = pulse.await.context("a pulse")? else {
                bail!("place {place} does not go on at all");
            };
            longest = longest.max(took);
            if took > self.recover_max {
                let ended = last.unwrap_or_default();
                self.shared.finding(format!(
                    "place {place} went on only after {}; its last failure: {ended}",
                    shown(took)
                ));
            }
        }
        Ok(shown(longest))
    }

    fn names(&self, places: &[usize]) -> String {
        let names = places
            .iter()
            .map(|place| format!("n{}", self.mesh.id(*place)));
        names.collect::<Vec<_>>().join("+")
    }
}

fn shown(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// Tries until a new session has written and read; the time since `since`, and the failure before that.
async fn pulse_until_done(
    target: Target,
    number: u64,
    since: Instant,
) -> (Duration, Option<String>) {
    let mut last = None;
    loop {
        match tokio::time::timeout(TRY_WITHIN, pulse(&target, number)).await {
            Ok(Ok(())) => return (since.elapsed(), last),
            Ok(Err(state)) => last = Some(state),
            Err(_) => last = Some(format!("no answer within {}", shown(TRY_WITHIN))),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn pulse(target: &Target, number: u64) -> Result<(), String> {
    let text = |error: tokio_postgres::Error| harness::sql::error_text(&error);
    let sql = target.connect().await.map_err(text)?;
    sql.run(&format!("insert into pulse values ({number})"))
        .await
        .map_err(text)?;
    sql.rows("select count(*) from pulse").await.map_err(text)?;
    sql.rows("select total from account_total")
        .await
        .map_err(text)?;
    Ok(())
}

/// The SQLSTATE with which a new session is refused a strict statement. While the cut holds, success is impossible.
async fn strict_refusal(target: &Target) -> Result<String, String> {
    let text = |error: tokio_postgres::Error| harness::sql::error_text(&error);
    let sql = target.connect().await;
    let sql = sql.map_err(|error| format!("lets nobody in: {}", text(error)))?;
    match sql.run("select count(*) from account").await {
        Ok(()) => Err("answers a strict SELECT".to_owned()),
        Err(error) => match sqlstate(&error).as_str() {
            "57P03" => Ok("57P03".to_owned()),
            _ => Err(format!("refuses a strict SELECT with {}", text(error))),
        },
    }
}

async fn serializable_read(target: &Target) -> Result<(), String> {
    let state = |error: tokio_postgres::Error| sqlstate(&error);
    let sql = target.connect().await.map_err(state)?;
    sql.run("begin isolation level serializable")
        .await
        .map_err(state)?;
    // What a gateway has itself, and what its replica has. A query that is neither needs the CLUSTER's leader.
    sql.rows("select balance from account where id = 3")
        .await
        .map_err(state)?;
    sql.rows("select total from account_total")
        .await
        .map_err(state)?;
    sql.run("commit").await.map_err(state)
}
