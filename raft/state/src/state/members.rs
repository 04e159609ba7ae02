//! Nodes, join tokens and placements: who belongs to the environment and what runs where.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use repr::{ClusterId, NodeId};
use serde::{Deserialize, Serialize};

use super::State;
use crate::catalog::Cluster;
use crate::command::{Gateway, NodeOp, Outcome};
use crate::node::{Authority, JoinToken, Node, NodeStatus, Placement, TokenHash};

/// Most nodes that an environment has at a time.
pub const NODES_MAX: usize = 256;
/// Most join tokens that are remembered, used and expired ones included.
pub const TOKENS_MAX: usize = 4096;
/// How long a token is remembered after it expired, so that a late joiner hears why it is refused.
const TOKEN_MEMORY_US: u64 = 24 * 3600 * 1_000_000;
/// How far a clock is believed to be ahead of the last timestamp: while nothing is written, time is moved on about once a second.
const CLOCK_LEAD_MAX_US: u64 = 2_000_000;
/// Longest address, version and public key.
const TEXT_BYTES_MAX: usize = 1024;

/// The node that makes an environment.
pub const FIRST_NODE: NodeId = NodeId(1);
/// Sessions of this node belong to nobody: ENV's leader changes the catalog with them on its own account. Real ids start at 1.
pub const SYSTEM_NODE: NodeId = NodeId(0);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Members {
    pub(super) nodes: BTreeMap<NodeId, Arc<Node>>,
    pub(super) tokens: BTreeMap<TokenHash, JoinToken>,
    pub(super) placements: BTreeMap<ClusterId, Arc<Placement>>,
    /// The first voters of each placed CLUSTER's group, in its incarnation.
    pub(super) founders: BTreeMap<ClusterId, BTreeSet<NodeId>>,
    pub(super) authority: Option<Authority>,
    /// CLUSTERs whose number of replicas somebody chose; the others are sized by the placement loop.
    pub(super) sized_by_user: BTreeSet<ClusterId>,
}

/// Why a command about nodes changes nothing.
type Refusal = String;

/// How a node wants to come in.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    node: NodeId,
    public_key: &'a [u8],
    mesh_addr: &'a str,
    token_hash: Option<&'a TokenHash>,
    wall_us: u64,
}

impl State {
    /// All nodes that were ever admitted. An environment of an older version has none until its node has started anew.
    pub fn nodes(&self) -> &BTreeMap<NodeId, Arc<Node>> {
        &self.members.nodes
    }

    /// The id of the next node to be admitted.
    pub fn next_node_id(&self) -> NodeId {
        let last = self.members.nodes.last_key_value();
        NodeId(last.map_or(1, |(id, _)| id.0 + 1))
    }

    /// The node with this key, a removed one too.
    pub fn node_by_key(&self, public_key: &[u8]) -> Option<&Arc<Node>> {
        let mut nodes = self.members.nodes.values();
        nodes.find(|node| node.public_key == public_key)
    }

    /// Where CLUSTERs run; one that is not here has not been placed yet.
    pub fn placements(&self) -> &BTreeMap<ClusterId, Arc<Placement>> {
        &self.members.placements
    }

    /// Who founds the group of a CLUSTER that has been placed: its first voters. They stay the same for as long as its incarnation does, so that nodes which learn of the
    /// placement at different times cannot found two groups of one name.
    pub fn founders(&self, cluster: ClusterId) -> Option<&BTreeSet<NodeId>> {
        self.members.founders.get(&cluster)
    }

    /// The certificate authority, once ENV has it.
    pub fn authority(&self) -> Option<&Authority> {
        self.members.authority.as_ref()
    }

    /// Join tokens by the hash of their secret, used and lately expired ones too.
    pub fn tokens(&self) -> &BTreeMap<TokenHash, JoinToken> {
        &self.members.tokens
    }

    /// Whether somebody chose how many replicas the CLUSTER has, so that no other number may be put in its place.
    pub fn is_sized_by_user(&self, cluster: ClusterId) -> bool {
        self.members.sized_by_user.contains(&cluster)
    }

    /// The incarnation of the CLUSTER's Raft group: that of its placement, or the one it was created with.
    pub fn cluster_incarnation(&self, cluster: ClusterId) -> Option<u64> {
        let created = self.catalog.clusters.get(&cluster)?.incarnation;
        let placement = self.members.placements.get(&cluster);
        Some(placement.map_or(created, |placement| placement.incarnation.max(created)))
    }

    /// What time it is, for a node whose clock says `wall_us`: by the environment's own time, whatever the clock says. A token's life is measured by it, from end to end.
    pub fn time_by(&self, wall_us: u64) -> u64 {
        wall_us.clamp(self.last_ts, self.last_ts.saturating_add(CLOCK_LEAD_MAX_US))
    }

    /// The first one is for ever.
    pub(super) fn set_authority(&mut self, authority: &Authority) {
        if self.members.authority.is_none() {
            self.members_mut().authority = Some(authority.clone());
        }
    }

    pub(super) fn node_op(&mut self, op: &NodeOp) -> Outcome {
        let done = match op {
            NodeOp::Admit {
                node,
                public_key,
                mesh_addr,
                token_hash,
                wall_us,
            } => self.admit(Candidate {
                node: *node,
                public_key,
                mesh_addr,
                token_hash: token_hash.as_ref(),
                wall_us: *wall_us,
            }),
            NodeOp::Started {
                node,
                incarnation,
                mesh_addr,
                sql_addr,
                http_addr,
                version,
            } => self.node_started(*node, |node| {
                node.incarnation = *incarnation;
                node.mesh_addr.clone_from(mesh_addr);
                node.sql_addr.clone_from(sql_addr);
                node.http_addr.clone_from(http_addr);
                node.version.clone_from(version);
            }),
            NodeOp::SetStatus { node, status } => self.set_status(*node, *status),
            NodeOp::Token { hash, expires_us } => self.add_token(*hash, *expires_us),
        };
        match done {
            Ok(()) => Outcome::Committed { ts: self.last_ts },
            Err(reason) => Outcome::Invalid { reason },
        }
    }

    /// Call it only to change something: whoever compares sees that these are others now.
    fn members_mut(&mut self) -> &mut Members {
        Arc::make_mut(&mut self.members)
    }

    fn admit(&mut self, candidate: Candidate<'_>) -> Result<(), Refusal> {
        let Candidate {
            node: id,
            public_key,
            mesh_addr,
            token_hash,
            wall_us,
        } = candidate;
        if let Some(known) = self.node_by_key(public_key) {
            return self.admitted_before(known, candidate);
        }
        if id != self.next_node_id() {
            let next = self.next_node_id();
            return Err(format!("{id} is not the next node: that is {next}"));
        }
        match token_hash {
            Some(hash) => self.usable(hash, wall_us)?,
            None if self.forming() => {}
            None => return Err("a join token is needed: the environment is formed".into()),
        }
        let node = Node {
            id,
            mesh_addr: mesh_addr.to_owned(),
            sql_addr: String::new(),
            http_addr: String::new(),
            public_key: public_key.to_vec(),
            status: NodeStatus::Active,
            incarnation: 0,
            version: String::new(),
        };
        check_texts(&node)?;
        if self.present().count() >= NODES_MAX {
            return Err(format!("an environment has at most {NODES_MAX} nodes"));
        }
        let members = self.members_mut();
        members.nodes.insert(id, Arc::new(node));
        if let Some(token) = token_hash.and_then(|hash| members.tokens.get_mut(hash)) {
            token.used_by = Some(id);
        }
        Ok(())
    }

    /// A repetition, because the outcome of the first attempt was not heard, is answered like the first; anybody else with that key is not.
    fn admitted_before(&self, known: &Node, candidate: Candidate<'_>) -> Result<(), Refusal> {
        let repeated = match candidate.token_hash {
            Some(hash) => {
                let token = self.members.tokens.get(hash);
                token.is_some_and(|token| token.used_by == Some(known.id))
            }
            None => known.id == candidate.node && self.forming(),
        };
        match known.status {
            NodeStatus::Removed => Err(format!("{} was removed from the environment", known.id)),
            NodeStatus::Active | NodeStatus::Draining if repeated => Ok(()),
            NodeStatus::Active | NodeStatus::Draining => {
                Err(format!("{} has been admitted with this key", known.id))
            }
        }
    }

    fn usable(&self, hash: &TokenHash, wall_us: u64) -> Result<(), Refusal> {
        match self.members.tokens.get(hash) {
            None => Err("the join token is not known".into()),
            Some(JoinToken {
                used_by: Some(node),
                ..
            }) => Err(format!("the join token was used by {node}")),
            Some(token) if token.expires_us <= self.time_by(wall_us) => {
                Err("the join token has expired".into())
            }
            Some(_) => Ok(()),
        }
    }

    /// Whether nodes come in because the founder says so: before any other node has started, and before there was a token.
    fn forming(&self) -> bool {
        let started = |node: &Arc<Node>| node.id != NodeId(1) && node.incarnation > 0;
        self.members.tokens.is_empty() && !self.members.nodes.values().any(started)
    }

    /// Nodes that have not been removed.
    fn present(&self) -> impl Iterator<Item = &Arc<Node>> {
        let nodes = self.members.nodes.values();
        nodes.filter(|node| node.status != NodeStatus::Removed)
    }

    fn node_started(&mut self, id: NodeId, update: impl FnOnce(&mut Node)) -> Result<(), Refusal> {
        let known = self.present_node(id)?;
        let mut node = Node::clone(known);
        update(&mut node);
        check_texts(&node)?;
        if node.incarnation < known.incarnation {
            return Err(format!("{id} has been started again since"));
        }
        if node != **known {
            self.members_mut().nodes.insert(id, Arc::new(node));
        }
        Ok(())
    }

    fn present_node(&self, id: NodeId) -> Result<&Arc<Node>, Refusal> {
        match self.members.nodes.get(&id) {
            None => Err(format!("there is no node {id}")),
            Some(node) if node.status == NodeStatus::Removed => {
                Err(format!("{id} was removed from the environment"))
            }
            Some(node) => Ok(node),
        }
    }

    fn set_status(&mut self, id: NodeId, status: NodeStatus) -> Result<(), Refusal> {
        let repeated = self
            .members
            .nodes
            .get(&id)
            .is_some_and(|node| node.status == status);
        if repeated {
            return Ok(());
        }
        let mut node = Node::clone(self.present_node(id)?);
        let active = |node: &&Arc<Node>| node.status == NodeStatus::Active && node.id != id;
        if status != NodeStatus::Active && self.present().find(active).is_none() {
            return Err(format!("no other node than {id} is active"));
        }
        node.status = status;
        self.members_mut().nodes.insert(id, Arc::new(node));
        if status == NodeStatus::Removed {
            self.end_gateways_before(Gateway {
                node: id,
                incarnation: u64::MAX,
            });
        }
        Ok(())
    }

    fn add_token(&mut self, hash: TokenHash, expires_us: u64) -> Result<(), Refusal> {
        if self.members.tokens.contains_key(&hash) {
            return Ok(());
        }
        let now = self.last_ts;
        let members = self.members_mut();
        members
            .tokens
            .retain(|_, token| token.expires_us.saturating_add(TOKEN_MEMORY_US) > now);
        if members.tokens.len() >= TOKENS_MAX {
            return Err(format!("there are {TOKENS_MAX} join tokens already"));
        }
        let token = JoinToken {
            expires_us,
            used_by: None,
        };
        members.tokens.insert(hash, token);
        Ok(())
    }

    /// Puts a placement in force, unless it belongs to another catalog, an older incarnation, or to nodes that are not there.
    pub(super) fn place(&mut self, id: ClusterId, placement: &Placement) {
        let Some(cluster) = self.catalog.clusters.get(&id) else {
            return;
        };
        let old = self.members.placements.get(&id).map(|old| &**old);
        let newest = self.cluster_incarnation(id);
        if newest.is_some_and(|newest| placement.incarnation < newest)
            || old == Some(placement)
            || placement.voters.is_empty()
            || !self.fits(cluster, old, placement)
        {
            return;
        }
        let mut placement = placement.clone();
        let alone = BTreeSet::from([FIRST_NODE]);
        // The first node leads what has not been placed, alone. Others must not join in by founding the group that it may have founded.
        let unplaced = old.is_none() && placement.incarnation == cluster.incarnation;
        if unplaced && placement.voters != alone {
            placement.incarnation += 1;
        }
        let is_new = old.is_none_or(|old| old.incarnation != placement.incarnation);
        let incarnation = placement.incarnation;
        let members = self.members_mut();
        if is_new {
            members.founders.insert(id, placement.voters.clone());
        }
        members.placements.insert(id, Arc::new(placement));
        if let Some(hold) = Arc::make_mut(&mut self.holds).get_mut(&id) {
            hold.incarnation = incarnation;
        }
    }

    /// Whether replicas are those of the catalog, and nothing new is given to a node that is not there.
    fn fits(&self, cluster: &Cluster, old: Option<&Placement>, new: &Placement) -> bool {
        let known = |node: &NodeId| self.members.nodes.contains_key(node);
        let there = |node: &NodeId| self.present_node(*node).is_ok();
        new.replicas.iter().all(|(replica, node)| {
            let stays = old.is_some_and(|old| old.replicas.get(replica) == Some(node));
            cluster.replicas.contains(replica) && (there(node) || stays && known(node))
        }) && new.voters.iter().all(|node| {
            let stays = old.is_some_and(|old| old.voters.contains(node));
            there(node) || stays && known(node)
        })
    }

    /// The CLUSTER is gone.
    pub(super) fn forget_cluster(&mut self, id: ClusterId) {
        let members = &self.members;
        if members.placements.contains_key(&id) || members.sized_by_user.contains(&id) {
            let members = self.members_mut();
            members.placements.remove(&id);
            members.founders.remove(&id);
            members.sized_by_user.remove(&id);
        }
    }

    /// The catalog's replicas of a CLUSTER are others now.
    pub(super) fn forget_replicas(&mut self, id: ClusterId) {
        let Some(placement) = self.members.placements.get(&id) else {
            return;
        };
        let Some(cluster) = self.catalog.clusters.get(&id) else {
            return;
        };
        let replicas = cluster.replicas.clone();
        if placement.replicas.keys().all(|r| replicas.contains(r)) {
            return;
        }
        if let Some(placement) = self.members_mut().placements.get_mut(&id) {
            Arc::make_mut(placement)
                .replicas
                .retain(|replica, _| replicas.contains(replica));
        }
    }

    pub(super) fn keep_replicas(&mut self, id: ClusterId) -> Result<(), Outcome> {
        if !self.catalog.clusters.contains_key(&id) {
            return Err(Outcome::CatalogMoved);
        }
        if !self.members.sized_by_user.contains(&id) {
            self.members_mut().sized_by_user.insert(id);
        }
        Ok(())
    }
}

fn check_texts(node: &Node) -> Result<(), Refusal> {
    let Node {
        id,
        mesh_addr,
        sql_addr,
        http_addr,
        public_key,
        status: _,
        incarnation: _,
        version,
    } = node;
    let longest = [
        mesh_addr.len(),
        sql_addr.len(),
        http_addr.len(),
        public_key.len(),
        version.len(),
    ];
    if longest.into_iter().any(|length| length > TEXT_BYTES_MAX) {
        return Err(format!(
            "an address, key or version of {id} is longer than {TEXT_BYTES_MAX} bytes"
        ));
    }
    Ok(())
}
