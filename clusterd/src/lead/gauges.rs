//! What a CLUSTER shows in the metrics, under its name.

use super::Lead;
use compute::ReplicaHandle;
use host::metrics::{IntGaugeVec, gauge_vec};

/// The series of one CLUSTER; they go with it.
pub(super) struct Gauges {
    name: String,
    pending_peeks: IntGaugeVec,
    read_holds: IntGaugeVec,
    arrangement_bytes: IntGaugeVec,
}

impl Gauges {
    pub fn new(name: &str) -> Self {
        let labels = &["cluster"];
        Gauges {
            name: name.to_owned(),
            pending_peeks: gauge_vec(
                "clusterd_pending_peeks",
                "Reads of arrangements that replicas have not answered.",
                labels,
            ),
            read_holds: gauge_vec(
                "clusterd_read_holds",
                "Statements that keep an arrangement's history readable.",
                labels,
            ),
            arrangement_bytes: gauge_vec(
                "clusterd_arrangement_bytes",
                "Bytes of arrangements, all replicas together.",
                labels,
            ),
        }
    }

    pub fn set(&self, lead: &Lead) {
        let Gauges {
            name,
            pending_peeks,
            read_holds,
            arrangement_bytes,
        } = self;
        let replicas = || lead.replicas.values();
        let peeks: usize = replicas().map(ReplicaHandle::pending_peeks).sum();
        let bytes: u64 = replicas().map(ReplicaHandle::arrangement_bytes).sum();
        let set = |gauges: &IntGaugeVec, value: i64| gauges.with_label_values(&[name]).set(value);
        set(pending_peeks, peeks as i64);
        set(read_holds, lead.holds.outstanding() as i64);
        set(arrangement_bytes, bytes as i64);
    }
}

impl Drop for Gauges {
    fn drop(&mut self) {
        for gauges in [
            &self.pending_peeks,
            &self.read_holds,
            &self.arrangement_bytes,
        ] {
            // A series that was never set is not there.
            let _ = gauges.remove_label_values(&[&self.name]);
        }
    }
}
