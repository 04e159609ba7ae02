//! Random clients, and faults at random: the search for what no script thought of.

use crate::client;
use crate::nodes::{Life, Result, Shared, Sim};
use host::sim::{CrashStyle, SimRng};
use host::{Clock, Rng};
use mesh::{Direction, Fault, Scope};
use repr::NodeId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Lives = Arc<Mutex<BTreeMap<u64, Arc<Life>>>>;

/// One client: each operation at another gateway.
async fn client(
    shared: Shared,
    lives: Lives,
    rng: Arc<SimRng>,
    next: Arc<Mutex<i32>>,
    until: host::Instant,
) {
    while shared.clock.now() < until {
        shared
            .clock
            .sleep(Duration::from_micros(rng.below(40_000)))
            .await;
        let life = {
            let lives = lives.lock().expect("nobody panics in here");
            let at = rng.below(lives.len() as u64) as usize;
            lives.values().nth(at).cloned()
        };
        let Some(life) = life else { continue };
        match rng.below(10) {
            0..5 => {
                let value = {
                    let mut next = next.lock().expect("nobody panics in here");
                    *next += 1;
                    *next
                };
                let txn = client::insert(&life, value);
                client::commit(shared.clone(), life, value, txn).await;
            }
            5..8 => drop(client::read(shared.clone(), life).await),
            8 => drop(client::read_local(&shared, &life)),
            _ => drop(client::bump(shared.clone(), life).await),
        }
    }
}

/// Runs clients for a while; with `chaos`, things break meanwhile.
pub async fn load(sim: &mut Sim, clients: u64, duration: Duration, chaos: bool) -> Result<()> {
    let lives: Lives = Arc::new(Mutex::new(sim.running().into_iter().collect()));
    let next = Arc::new(Mutex::new(sim.shared.history().unused()));
    let until = sim.shared.clock.now() + duration;
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let rng = Arc::new(SimRng::new(sim.rng.next_u64()));
            let work = client(sim.shared.clone(), lives.clone(), rng, next.clone(), until);
            tokio::task::spawn(work)
        })
        .collect();
    let ids: Vec<u64> = sim.nodes.keys().copied().collect();
    while sim.shared.clock.now() < until {
        let pause = Duration::from_millis(50 + sim.rng.below(400));
        sim.shared.clock.sleep(pause).await;
        if chaos {
            break_something(sim, &ids).await?;
            *lives.lock().expect("nobody panics in here") = sim.running().into_iter().collect();
        }
    }
    if chaos {
        heal(sim, &ids).await?;
    }
    for task in tasks {
        sim.within(task).await??;
    }
    sim.until("a leader is there", || sim.leader().is_some())
        .await?;
    sim.converge().await?;
    for (_, life) in sim.running() {
        client::read(sim.shared.clone(), life).await;
    }
    Ok(())
}

/// Everything is well again.
async fn heal(sim: &mut Sim, ids: &[u64]) -> Result<()> {
    for id in ids {
        sim.node(*id)?.faults.clear(None);
        sim.node(*id)?.clock.set_ahead(0);
        if sim.nodes[id].life.is_none() {
            sim.start(*id, None).await?;
        }
    }
    Ok(())
}

async fn break_something(sim: &mut Sim, ids: &[u64]) -> Result<()> {
    let rng = sim.rng.clone();
    let id = ids[rng.below(ids.len() as u64) as usize];
    let peer = ids[rng.below(ids.len() as u64) as usize];
    let down = ids.iter().find(|id| sim.nodes[*id].life.is_none()).copied();
    let what = rng.below(12);
    sim.shared.trace.note(&format!("chaos {what} {id} {peer}"));
    let faults = sim.node(id)?.faults.clone();
    let scope = Scope {
        peer: Some(NodeId(peer)),
        ..Scope::default()
    };
    match what {
        0 => ids.iter().for_each(|peer| faults.cut(NodeId(*peer), None)),
        1 => faults.cut(NodeId(peer), Some(Direction::In)),
        2 => faults.cut(NodeId(peer), Some(Direction::Out)),
        3 => faults.set(
            Scope::default(),
            Fault {
                twice_ppm: 200_000,
                lost_ppm: 50_000,
                ..Fault::default()
            },
        ),
        4 => faults.set(
            scope,
            Fault::delay(
                Duration::from_millis(1),
                Duration::from_millis(rng.below(600)),
            ),
        ),
        5 => sim
            .node(id)?
            .clock
            .set_ahead(rng.below(7_200_000_000) as i64 - 3_600_000_000),
        6 => {
            if let Ok(life) = sim.life(id) {
                life.env.group().trigger_snapshot().await?;
            }
        }
        7 if down.is_none() => sim.crash(id, CrashStyle::PowerReordered).await?,
        8 if down.is_none() => sim.crash(id, CrashStyle::Kill).await?,
        7..10 => {
            if let Some(down) = down {
                sim.start(down, None).await?;
            }
        }
        _ => {
            for id in ids {
                sim.node(*id)?.faults.clear(None);
            }
        }
    }
    Ok(())
}
