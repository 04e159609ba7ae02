//! What misbehaves, for whom.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use host::Rng;
use protocol::Lane;
use repr::NodeId;
use tokio::sync::watch;

/// Which way things travel, as the node with the fault sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the peer: its requests, and its answers to requests of this node.
    In,
    /// To the peer: requests, and answers to its requests.
    Out,
}

/// What a fault is for. `None` is all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    pub direction: Option<Direction>,
    pub peer: Option<NodeId>,
    pub lane: Option<Lane>,
}

impl Scope {
    fn covers(&self, direction: Direction, peer: NodeId, lane: Lane) -> bool {
        self.direction.is_none_or(|d| d == direction)
            && self.peer.is_none_or(|p| p == peer)
            && self.lane.is_none_or(|l| l == lane)
    }
}

/// How something misbehaves. Shares are of a million; a share of a million is always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// This share is lost.
    pub lost_ppm: u32,
    /// This share is delivered twice (not in streams).
    pub twice_ppm: u32,
    /// Everything else is late by something between these.
    pub delay_min: Duration,
    pub delay_max: Duration,
}

const ALWAYS_PPM: u32 = 1_000_000;

impl Fault {
    /// Nothing gets through.
    pub fn cut() -> Fault {
        Fault {
            lost_ppm: ALWAYS_PPM,
            ..Fault::default()
        }
    }

    /// Everything is late.
    pub fn delay(min: Duration, max: Duration) -> Fault {
        Fault {
            delay_min: min,
            delay_max: max.max(min),
            ..Fault::default()
        }
    }
}

/// What happens to one thing that travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fate {
    pub lost: bool,
    pub twice: bool,
    pub delay: Duration,
}

/// The rules of one node. They may be changed while it runs.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Mutex<BTreeMap<Scope, Fault>>,
    changed: watch::Sender<()>,
}

/// Why a line is no order to the fault injector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}: expected `cut`, `set`, `clear` or `show`, and words out of direction=in|out, peer=<node>, lane=raft|control|peek|bulk, lost=<share>, twice=<share>, delay_ms=<min>..<max>"
)]
pub struct FaultCommandError(String);

impl Faults {
    pub fn new() -> Faults {
        Faults::default()
    }

    /// From now on `fault` holds for `scope`, instead of an earlier one for the same. Where scopes overlap, all of their faults happen.
    pub fn set(&self, scope: Scope, fault: Fault) {
        self.lock().insert(scope, fault);
        self.changed.send_replace(());
    }

    /// Nothing passes between this node and `peer`, in one direction or both.
    pub fn cut(&self, peer: NodeId, direction: Option<Direction>) {
        let scope = Scope {
            direction,
            peer: Some(peer),
            lane: None,
        };
        self.set(scope, Fault::cut());
    }

    /// Forgets the rules whose scope names `peer`; all rules if `None`.
    pub fn clear(&self, peer: Option<NodeId>) {
        self.lock()
            .retain(|scope, _| peer.is_some() && scope.peer != peer);
        self.changed.send_replace(());
    }

    /// The rules that hold.
    pub fn rules(&self) -> Vec<(Scope, Fault)> {
        let rules = self.lock();
        rules
            .iter()
            .map(|(scope, fault)| (*scope, *fault))
            .collect()
    }

    /// Carries out an order and answers with the rules that hold then, one in a line:
    ///
    /// - `cut peer=2`, `cut peer=2 direction=in`: nothing passes.
    /// - `set peer=2 lane=raft lost=0.1 twice=0.01 delay_ms=5..20`
    /// - `clear`, `clear peer=2`
    /// - `show`
    ///
    /// # Errors
    /// If it is none of these. Nothing is changed then.
    pub fn execute(&self, line: &str) -> Result<String, FaultCommandError> {
        let (verb, words) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let order: Order = words.parse()?;
        let unwanted = |wanted: bool| match wanted {
            true => Ok(()),
            false => Err(FaultCommandError(line.to_owned())),
        };
        match verb {
            "cut" => {
                unwanted(order.fault == Fault::default())?;
                self.set(order.scope, Fault::cut());
            }
            "set" => {
                unwanted(order.fault != Fault::default())?;
                self.set(order.scope, order.fault);
            }
            "clear" => {
                let Scope {
                    direction,
                    peer,
                    lane,
                } = order.scope;
                let only_peer = direction.is_none() && lane.is_none();
                unwanted(only_peer && order.fault == Fault::default())?;
                self.clear(peer);
            }
            "show" => unwanted(words.is_empty())?,
            other => return Err(FaultCommandError(other.to_owned())),
        }
        let rules = self.rules();
        let lines = rules
            .iter()
            .map(|(scope, fault)| format!("{scope}{fault}\n"));
        Ok(lines.collect())
    }

    pub(super) fn fate(
        &self,
        direction: Direction,
        peer: NodeId,
        lane: Lane,
        rng: &dyn Rng,
    ) -> Fate {
        let happens = |ppm: u32| ppm > 0 && rng.below(ALWAYS_PPM.into()) < ppm.into();
        let mut fate = Fate::default();
        for (scope, fault) in self.lock().iter() {
            if !scope.covers(direction, peer, lane) {
                continue;
            }
            let span = fault.delay_max.saturating_sub(fault.delay_min).as_nanos();
            let span = u64::try_from(span).unwrap_or(u64::MAX);
            fate.lost |= happens(fault.lost_ppm);
            fate.twice |= happens(fault.twice_ppm);
            fate.delay += fault.delay_min;
            if span > 0 {
                fate.delay += Duration::from_nanos(rng.below(span));
            }
        }
        fate
    }

    /// Whether nothing at all passes between this node and `peer` on `lane` in one of the directions: no connection survives that.
    pub(super) fn is_cut(&self, peer: NodeId, lane: Lane) -> bool {
        let rules = self.lock();
        [Direction::In, Direction::Out]
            .into_iter()
            .any(|direction| {
                let covered = |(scope, fault): (&Scope, &Fault)| {
                    scope.covers(direction, peer, lane) && fault.lost_ppm >= ALWAYS_PPM
                };
                rules.iter().any(covered)
            })
    }

    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Scope, Fault>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The words of an order.
#[derive(Default)]
struct Order {
    scope: Scope,
    fault: Fault,
}

impl FromStr for Order {
    type Err = FaultCommandError;

    fn from_str(words: &str) -> Result<Order, FaultCommandError> {
        let mut order = Order::default();
        for word in words.split_whitespace() {
            let read = word
                .split_once('=')
                .and_then(|(key, value)| order.read(key, value));
            read.ok_or_else(|| FaultCommandError(word.to_owned()))?;
        }
        Ok(order)
    }
}

impl Order {
    fn read(&mut self, key: &str, value: &str) -> Option<()> {
        let Order { scope, fault } = self;
        match key {
            "direction" => {
                scope.direction = Some(match value {
                    "in" => Direction::In,
                    "out" => Direction::Out,
                    _ => return None,
                });
            }
            "peer" => scope.peer = Some(NodeId(value.parse().ok()?)),
            "lane" => scope.lane = Some(Lane::from_name(value)?),
            "lost" => fault.lost_ppm = share(value)?,
            "twice" => fault.twice_ppm = share(value)?,
            "delay_ms" => {
                let (min, max) = value.split_once("..").unwrap_or((value, value));
                fault.delay_min = Duration::from_millis(min.parse().ok()?);
                fault.delay_max = Duration::from_millis(max.parse().ok()?);
                (fault.delay_min <= fault.delay_max).then_some(())?;
            }
            _ => return None,
        }
        Some(())
    }
}

fn share(text: &str) -> Option<u32> {
    let share: f64 = text.parse().ok()?;
    let valid = (0.0..=1.0).contains(&share);
    valid.then_some((share * f64::from(ALWAYS_PPM)).round() as u32)
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scope {
            direction,
            peer,
            lane,
        } = self;
        match direction {
            Some(Direction::In) => f.write_str("direction=in ")?,
            Some(Direction::Out) => f.write_str("direction=out ")?,
            None => {}
        }
        if let Some(peer) = peer {
            write!(f, "peer={} ", peer.0)?;
        }
        if let Some(lane) = lane {
            write!(f, "lane={lane} ")?;
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault {
            lost_ppm,
            twice_ppm,
            delay_min,
            delay_max,
        } = self;
        let share = |ppm: &u32| f64::from(*ppm) / f64::from(ALWAYS_PPM);
        let (min, max) = (delay_min.as_millis(), delay_max.as_millis());
        let (lost, twice) = (share(lost_ppm), share(twice_ppm));
        write!(f, "lost={lost} twice={twice} delay_ms={min}..{max}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::sim::SimRng;

    #[test]
    fn orders_become_rules_and_rules_are_orders() {
        let faults = Faults::new();
        let shown = faults.execute("cut peer=2 direction=in").unwrap();
        assert_eq!(shown, "direction=in peer=2 lost=1 twice=0 delay_ms=0..0\n");
        let shown = faults.execute("set lane=raft lost=0.25 delay_ms=5..20");
        let raft = "lane=raft lost=0.25 twice=0 delay_ms=5..20\n";
        assert!(shown.unwrap().contains(raft));
        let shown = faults.execute("clear peer=2").unwrap();
        assert_eq!(shown, raft);
        assert_eq!(faults.execute(&format!("set {shown}")).unwrap(), raft);
        assert_eq!(faults.execute("clear"), Ok(String::new()));
        for wrong in [
            "",
            "cat",
            "set",
            "set peer=2",
            "cut lost=0.5",
            "cut peer=two",
            "set lost=2",
            "set lost=-1",
            "set delay_ms=9..3",
            "set lost",
            "clear lane=raft",
            "show peer=2",
            "cut direction=up",
        ] {
            assert!(faults.execute(wrong).is_err(), "{wrong}");
        }
        assert!(faults.rules().is_empty());
    }

    #[test]
    fn faults_hit_what_their_scope_covers_as_often_as_they_say() {
        let (faults, rng) = (Faults::new(), SimRng::new(3));
        faults
            .execute("set peer=2 direction=out lost=0.3 delay_ms=10..20")
            .unwrap();
        let (two, three) = (NodeId(2), NodeId(3));
        let lost = |direction, peer| {
            let fates = (0..1000).map(|_| faults.fate(direction, peer, Lane::Peek, &rng));
            let fates: Vec<Fate> = fates.collect();
            let between = Duration::from_millis(10)..=Duration::from_millis(20);
            let late = fates.iter().filter(|f| between.contains(&f.delay)).count();
            (fates.iter().filter(|f| f.lost).count(), late)
        };
        let (lost_out, late_out) = lost(Direction::Out, two);
        assert!((250..350).contains(&lost_out) && late_out == 1000);
        assert_eq!(lost(Direction::In, two), (0, 0));
        assert_eq!(lost(Direction::Out, three), (0, 0));
        assert!(!faults.is_cut(two, Lane::Bulk));
        faults.cut(two, Some(Direction::In));
        assert!(faults.is_cut(two, Lane::Bulk) && !faults.is_cut(three, Lane::Bulk));
        assert_eq!(lost(Direction::In, two).0, 1000);
    }
}
