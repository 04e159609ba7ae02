//! When founders may form an environment: the decision, without time, network or disk.
//!
//! Each founder collects whom it meets, all of whom have proven to know the token. Once it has met exactly as many as are expected, and hears of each of them that it has met the
//! same ones, it *agrees* to this set: durably, once and for ever. The founder with the smallest key makes the environment when it has heard that all have agreed to its set.
//! Two sets of which environments are made share no node, since each node has agreed to one; so the halves of a split start cannot both go on.

use crate::wire::{Founder, Meeting};
use host::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

/// A founder that was not heard of for longer counts as gone, as long as nothing is agreed.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Founders that are remembered. Beyond, the oldest are forgotten: there are too many anyway.
const MET_MAX: usize = 64;

type Key = Vec<u8>;

/// What this node knows of the others.
pub(crate) struct Formation {
    me: Founder,
    process: u64,
    expect: u32,
    others: BTreeMap<Key, Other>,
    agreed: Option<Vec<Founder>>,
}

struct Other {
    heard: Instant,
    said: Meeting,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Wait,
    /// Write this set down, then call [`Formation::agree`].
    Agree(Vec<Founder>),
    /// All have agreed, and this node makes the environment.
    Found(Vec<Founder>),
    Fail(Failure),
}

/// Why no environment will come of this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error(
        "{found} nodes have this token, but --bootstrap-expect is {expect}: {addresses}. Stop those that do not belong, or make a new token for them with clusterd token new"
    )]
    TooMany {
        expect: u32,
        found: usize,
        addresses: String,
    },
    #[error(
        "the node at {address} was started with --bootstrap-expect {theirs}, this one with {ours}: it must be the same on every founder"
    )]
    Expect {
        address: String,
        ours: u32,
        theirs: u32,
    },
    #[error(
        "the node at {address} has agreed to form an environment of {members}, without this node. The token is void for others: once the environment is formed, \
         ask one of its nodes for a token to join it, with clusterd token new --sql-addr"
    )]
    Without { address: String, members: String },
    #[error(
        "this node has agreed to form an environment of {ours}, but the node at {address} of one of {theirs}: nothing can come of either. \
         Nothing was stored yet: empty the data directories of all of them and start them again"
    )]
    Split {
        address: String,
        ours: String,
        theirs: String,
    },
    #[error(
        "the node at {address} has the same key as this one: one data directory is a copy of the other. Empty one of them"
    )]
    Copy { address: String },
}

impl Formation {
    /// `agreed`: what was written down by an earlier start.
    pub(crate) fn new(
        me: Founder,
        process: u64,
        expect: u32,
        agreed: Option<Vec<Founder>>,
    ) -> Formation {
        Formation {
            me,
            process,
            expect,
            others: BTreeMap::new(),
            agreed,
        }
    }

    /// Somebody who knows the token said this.
    pub(crate) fn heard(&mut self, now: Instant, said: Meeting) {
        let address = &said.me.address;
        // A disk that was emptied comes back with another key.
        self.others
            .retain(|key, other| *key == said.me.public_key || other.said.me.address != *address);
        if said.me.public_key == self.me.public_key && said.process == self.process {
            return;
        }
        if self.others.len() >= MET_MAX
            && let Some((oldest, _)) = self.others.iter().min_by_key(|(_, other)| other.heard)
        {
            let oldest = oldest.clone();
            self.others.remove(&oldest);
        }
        let key = said.me.public_key.clone();
        self.others.insert(key, Other { heard: now, said });
    }

    /// This set is written down.
    pub(crate) fn agree(&mut self, members: Vec<Founder>) {
        assert!(self.agreed.is_none(), "a node agrees once");
        self.agreed = Some(members);
    }

    /// What to tell others.
    pub(crate) fn meeting(&self, now: Instant) -> Meeting {
        Meeting {
            me: self.me.clone(),
            process: self.process,
            expect: self.expect,
            met: self.members(now),
            agreed: self.agreed.is_some(),
        }
    }

    /// Where to look for others, beyond what the user said.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let of_others = self.others.values().flat_map(|other| &other.said.met);
        let agreed = self.agreed.iter().flatten();
        let all = of_others.chain(agreed).map(|f| f.address.clone());
        all.filter(|address| *address != self.me.address).collect()
    }

    pub(crate) fn step(&self, now: Instant) -> Step {
        if let Some(failure) = self.failure(now) {
            return Step::Fail(failure);
        }
        let members = self.members(now);
        let same = |other: &Other| keys(&other.said.met).eq(keys(&members));
        match &self.agreed {
            None => {
                if let Some(agreed) = self.agreed_with_me(now) {
                    return Step::Agree(agreed);
                }
                if let Some(failure) = self.too_many(now) {
                    return Step::Fail(failure);
                }
                let complete = members.len() == self.expect as usize;
                match complete && self.live(now).all(|(_, other)| same(other)) {
                    true => Step::Agree(members),
                    false => Step::Wait,
                }
            }
            Some(agreed) => {
                let has_agreed = |member: &Founder| {
                    let other = self.others.get(&member.public_key);
                    *member.public_key == *self.me.public_key
                        || other.is_some_and(|other| other.said.agreed && same(other))
                };
                let first = agreed.first().map(|first| &first.public_key);
                match first == Some(&self.me.public_key) && agreed.iter().all(has_agreed) {
                    true => Step::Found(members),
                    false => Step::Wait,
                }
            }
        }
    }

    /// Why nothing will come of it, if that is so.
    fn failure(&self, now: Instant) -> Option<Failure> {
        for (key, other) in self.live(now) {
            let (said, address) = (&other.said, other.said.me.address.clone());
            if *key == self.me.public_key {
                return Some(Failure::Copy { address });
            }
            if said.expect != self.expect {
                let (ours, theirs) = (self.expect, said.expect);
                return Some(Failure::Expect {
                    address,
                    ours,
                    theirs,
                });
            }
            if !said.agreed {
                continue;
            }
            let (theirs, has) = (addresses(&said.met), |members: &[Founder], k: &Key| {
                keys(members).any(|key| key == k)
            });
            match &self.agreed {
                // What others agree to without any of those who have agreed with this node does not concern it.
                Some(agreed) if has(agreed, key) && !keys(agreed).eq(keys(&said.met)) => {
                    let ours = addresses(agreed);
                    return Some(Failure::Split {
                        address,
                        ours,
                        theirs,
                    });
                }
                None if !has(&said.met, &self.me.public_key) => {
                    let members = theirs;
                    return Some(Failure::Without { address, members });
                }
                Some(_) | None => {}
            }
        }
        None
    }

    /// What others have agreed to, who had heard of this node that it had met just them.
    fn agreed_with_me(&self, now: Instant) -> Option<Vec<Founder>> {
        let has_me = |met: &[Founder]| keys(met).any(|key| *key == self.me.public_key);
        let mut said = self.live(now).map(|(_, other)| &other.said);
        let said = said.find(|said| {
            said.agreed && said.met.len() == self.expect as usize && has_me(&said.met)
        })?;
        Some(said.met.clone())
    }

    /// Whether this node has met too many, or somebody has whom it has met.
    fn too_many(&self, now: Instant) -> Option<Failure> {
        let mine = self.members(now);
        let met = self.live(now).map(|(_, other)| &other.said.met);
        let most = met.chain([&mine]).max_by_key(|met| met.len())?;
        (most.len() > self.expect as usize).then(|| Failure::TooMany {
            expect: self.expect,
            found: most.len(),
            addresses: addresses(most),
        })
    }

    /// Those that have agreed with this node, or who are here now, itself included; by key.
    fn members(&self, now: Instant) -> Vec<Founder> {
        if let Some(agreed) = &self.agreed {
            // One that was restarted may be somewhere else.
            let now_at = |member: &Founder| match self.others.get(&member.public_key) {
                Some(other) => other.said.me.clone(),
                None => member.clone(),
            };
            return agreed.iter().map(now_at).collect();
        }
        let others = self.live(now).map(|(_, other)| other.said.me.clone());
        let mut members: Vec<Founder> = others.chain([self.me.clone()]).collect();
        members.sort();
        members
    }

    fn live(&self, now: Instant) -> impl Iterator<Item = (&Key, &Other)> {
        let live = move |other: &Other| now.since(other.heard) <= SILENCE_MAX;
        self.others.iter().filter(move |(_, other)| live(other))
    }

    /// For the user: what this node waits for.
    pub(crate) fn waits_for(&self, now: Instant) -> String {
        let members = self.members(now);
        let Some(agreed) = &self.agreed else {
            let missing = (self.expect as usize).saturating_sub(members.len());
            let here = addresses(&members);
            return match missing {
                0 => format!("{here} are here; waiting until all of them have met each other"),
                _ => format!(
                    "waiting for {missing} of {} founders; here are {here}",
                    self.expect
                ),
            };
        };
        let missing = agreed.iter().filter(|member| {
            let other = self.others.get(&member.public_key);
            let here = other.is_some_and(|o| now.since(o.heard) <= SILENCE_MAX && o.said.agreed);
            member.public_key != self.me.public_key && !here
        });
        let missing: Vec<_> = missing.cloned().collect();
        let replaced = missing.iter().find(|member| {
            let mut others = self.others.values();
            others.any(|other| other.said.me.address == member.address)
        });
        if let Some(Founder { address, .. }) = replaced {
            return format!(
                "the node at {address} has another key than the one that this node has agreed with: its data directory was emptied or exchanged. \
                 Bring the old one back; or empty the data directories of all founders and start them again"
            );
        }
        match missing.is_empty() {
            true => format!(
                "all founders have agreed; waiting for the certificate from {}",
                agreed.first().map_or("", |first| &first.address)
            ),
            false => format!(
                "agreed to form an environment of {}; waiting for {}",
                addresses(agreed),
                addresses(&missing)
            ),
        }
    }
}

fn keys(founders: &[Founder]) -> impl Iterator<Item = &Key> {
    founders.iter().map(|founder| &founder.public_key)
}

fn addresses(founders: &[Founder]) -> String {
    let addresses: Vec<&str> = founders.iter().map(|f| f.address.as_str()).collect();
    addresses.join(", ")
}

#[cfg(test)]
mod tests;
