//! What a CLUSTER shows in the metrics, under its name.

use super::site::Site;
use host::metrics::{IntGaugeVec, gauge_vec};
use parking_lot::Mutex;

/// The series of one CLUSTER; they go with it.
pub(super) struct Gauges {
    /// Under which they were set last.
    name: Mutex<String>,
    pending_peeks: IntGaugeVec,
    read_holds: IntGaugeVec,
    arrangement_bytes: IntGaugeVec,
    leads: IntGaugeVec,
    term: IntGaugeVec,
}

impl Default for Gauges {
    fn default() -> Self {
        let labels = &["cluster"];
        Gauges {
            name: Mutex::default(),
            pending_peeks: gauge_vec(
                "clusterd_pending_peeks",
                "Reads of arrangements that replicas of this node have not answered.",
                labels,
            ),
            read_holds: gauge_vec(
                "clusterd_read_holds",
                "Statements that keep an arrangement's history readable, where this node leads.",
                labels,
            ),
            arrangement_bytes: gauge_vec(
                "clusterd_arrangement_bytes",
                "Bytes of arrangements, all replicas of this node together.",
                labels,
            ),
            leads: gauge_vec(
                "clusterd_cluster_leads",
                "1 while this node leads the CLUSTER.",
                labels,
            ),
            term: gauge_vec(
                "clusterd_cluster_term",
                "Term of the CLUSTER's group, where this node is a member.",
                labels,
            ),
        }
    }
}

impl Gauges {
    pub fn set(&self, site: &Site) {
        let Gauges {
            name,
            pending_peeks,
            read_holds,
            arrangement_bytes,
            leads,
            term,
        } = self;
        let current = site.name.to_string();
        let before = std::mem::replace(&mut *name.lock(), current.clone());
        if before != current {
            self.remove(&before);
        }
        let (mut peeks, mut bytes) = (0, 0);
        for hosted in site.all_hosted() {
            peeks += hosted.handle.pending_peeks();
            bytes += hosted.handle.arrangement_bytes();
        }
        let lead = site.leading();
        let holds = lead.as_ref().map_or(0, |lead| lead.holds.outstanding());
        let set =
            |gauges: &IntGaugeVec, value: i64| gauges.with_label_values(&[&current]).set(value);
        set(pending_peeks, peeks as i64);
        set(read_holds, holds as i64);
        set(arrangement_bytes, bytes as i64);
        set(leads, i64::from(lead.is_some()));
        set(term, site.group_term() as i64);
    }

    fn remove(&self, name: &str) {
        for gauges in [
            &self.pending_peeks,
            &self.read_holds,
            &self.arrangement_bytes,
            &self.leads,
            &self.term,
        ] {
            // A series that was never set is not there.
            let _ = gauges.remove_label_values(&[name]);
        }
    }
}

impl Drop for Gauges {
    fn drop(&mut self) {
        self.remove(&self.name.lock());
    }
}
