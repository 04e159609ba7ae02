//! What the leaders of the CLUSTERs know, for EXPLAIN and system relations.

use super::Clusters;
use super::site::Site;
use bytes::Bytes;
use controller::ExportFrontier;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use host::BoxFuture;
use mesh::Message;
use protocol::cluster::{self, CALL_BYTES_MAX, ClusterInfo, ClusterInfoCall, ClustersLed};
use protocol::{Kind, Lane};
use raft::{GroupStatus, Progress};
use repr::{ClusterId, GlobalId, NodeId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Whoever looks at a relation does not wait longer for a leader than this.
const TELL_WITHIN: Duration = Duration::from_millis(500);

impl Clusters {
    /// What the leader of a CLUSTER knows, if it can be reached.
    pub async fn info(&self, cluster: ClusterId) -> Option<ClusterInfo> {
        let site = self.known_site(cluster)?;
        site.info().await
    }

    /// Asks the leaders of all CLUSTERs, for [`Clusters::frontiers`].
    pub async fn ask_leaders(&self) {
        let sites = self.all_sites();
        let asked = sites.into_iter().map(|site| -> BoxFuture<'static, ()> {
            Box::pin(async move { drop(site.info().await) })
        });
        futures::future::join_all(asked).await;
    }

    /// The exports of all CLUSTERs with their frontiers, as their leaders last said.
    pub fn frontiers(&self) -> Vec<(ClusterId, GlobalId, ExportFrontier)> {
        let mut all = vec![];
        for site in self.all_sites() {
            let said = site.said.lock();
            let exports = said.iter().flat_map(|info| &info.exports);
            all.extend(exports.map(|(id, since, upper)| {
                let (since, upper) = (*since, *upper);
                (site.cluster, *id, ExportFrontier { since, upper })
            }));
        }
        all
    }
}

/// This node's member of a CLUSTER's group.
pub struct GroupInfo {
    pub cluster: ClusterId,
    pub incarnation: u64,
    pub status: GroupStatus,
    pub progress: Progress,
}

impl Clusters {
    /// What the leaders of the CLUSTERs last said.
    pub fn said(&self) -> Vec<(ClusterId, ClusterInfo)> {
        let sites = self.all_sites();
        let said = sites.iter().filter_map(|site| {
            let info = site.said.lock().clone()?;
            Some((site.cluster, info))
        });
        said.collect()
    }

    /// The CLUSTERs that this node leads, each with the incarnation of its group.
    pub fn led(&self) -> BTreeSet<(ClusterId, u64)> {
        let sites = self.all_sites();
        let led = sites.iter().filter_map(|site| {
            let lead = site.leading()?;
            // A leader that nobody follows has no successor only if its group is lost.
            let followed = site.group()?.has_quorum();
            followed.then_some((site.cluster, lead.epoch.incarnation))
        });
        led.collect()
    }

    /// Asks other nodes which CLUSTERs they lead; those that answer.
    pub async fn led_by(&self, nodes: Vec<NodeId>) -> BTreeMap<NodeId, BTreeSet<(ClusterId, u64)>> {
        let asks = nodes.into_iter().map(|node| async move {
            let message = Message::new(Lane::Control, Kind::CLUSTERS_LED, Bytes::new());
            let answer = self.shared.transport.call(node, message, TELL_WITHIN).await;
            let ClustersLed { led } = cluster::decode(CALL_BYTES_MAX, &answer.ok()?).ok()?;
            Some((node, led.into_iter().collect()))
        });
        let answers = futures::future::join_all(asks).await;
        answers.into_iter().flatten().collect()
    }

    /// The groups that this node is a member of.
    pub fn groups(&self) -> Vec<GroupInfo> {
        let sites = self.all_sites();
        let groups = sites.iter().filter_map(|site| {
            let group = site.group()?;
            let status = group.status().borrow().clone();
            Some(GroupInfo {
                cluster: site.cluster,
                incarnation: group.incarnation().number,
                status,
                progress: group.progress(),
            })
        });
        groups.collect()
    }
}

impl Site {
    async fn info(&self) -> Option<ClusterInfo> {
        let info = self.ask_leader().await;
        if info.is_some() {
            self.said.lock().clone_from(&info);
        }
        info
    }

    /// Asks the leader; if nobody knows here who that is, whoever may be.
    async fn ask_leader(&self) -> Option<ClusterInfo> {
        if let Some(lead) = self.leading() {
            return Some(lead.info());
        }
        let known = self.known_leader().filter(|node| *node != self.shared.node);
        if let Some(leader) = known
            && let Some(info) = self.ask_node(leader).await
        {
            return Some(info);
        }
        let voters = {
            let wanted = self.wanted();
            let wanted = wanted.borrow();
            wanted.group.as_ref().map(|group| group.voters.clone())?
        };
        let me = self.shared.node;
        let others = voters
            .into_iter()
            .filter(|node| *node != me && Some(*node) != known);
        let mut asked: FuturesUnordered<_> = others.map(|node| self.ask_node(node)).collect();
        while let Some(answer) = asked.next().await {
            if let Some(info) = answer {
                self.set_hint(Some(info.leader));
                return Some(info);
            }
        }
        None
    }

    async fn ask_node(&self, node: NodeId) -> Option<ClusterInfo> {
        let cluster = self.cluster;
        let body = cluster::encode(&ClusterInfoCall { cluster });
        let message = Message::new(Lane::Control, Kind::CLUSTER_INFO, body);
        let transport = &self.shared.transport;
        let answer = transport.call(node, message, TELL_WITHIN).await.ok()?;
        cluster::decode(CALL_BYTES_MAX, &answer).ok()?
    }
}

/// (since, upper) of an export.
pub fn frontiers_of(
    info: &ClusterInfo,
    export: GlobalId,
) -> (Option<Timestamp>, Option<Timestamp>) {
    let found = info.exports.iter().find(|(id, _, _)| *id == export);
    found.map_or((None, None), |(_, since, upper)| (Some(*since), *upper))
}

/// Who answers for a CLUSTER, for EXPLAIN TIMESTAMP.
pub fn describe(cluster: ClusterId, info: Option<&ClusterInfo>) -> String {
    let Some(info) = info else {
        return format!("cluster {cluster}, whose leader cannot be reached from here");
    };
    let replicas: Vec<_> = info
        .replicas
        .iter()
        .map(|replica| {
            let state = if replica.ready { "" } else { ", not ready" };
            format!("{} on node {}{state}", replica.replica, replica.node.0)
        })
        .collect();
    format!(
        "cluster {cluster}, leader node {}, incarnation {}, term {}, replicas {}",
        info.leader.0,
        info.epoch.incarnation,
        info.epoch.term,
        replicas.join("; ")
    )
}
