//! The counters of a transport as metrics. They are kept beside the traffic and copied here when somebody looks.

use host::metrics::{IntCounterVec, counter_vec, gauge_f64_vec, gauge_vec};

use crate::LinkStats;

/// Labels of every metric here.
const LABELS: &[&str] = &["peer", "lane"];

/// Brings the process's metrics up to date. To be called before they are read; the process has one transport.
pub fn publish(links: &[LinkStats]) {
    let connected = gauge_vec(
        "clusterd_mesh_connected",
        "1 while requests to the peer have a connection",
        LABELS,
    );
    let rtt = gauge_f64_vec(
        "clusterd_mesh_rtt_seconds",
        "smoothed round trip of the connection to the peer",
        LABELS,
    );
    let in_flight = gauge_vec(
        "clusterd_mesh_calls_in_flight",
        "calls to the peer that wait for their answer",
        LABELS,
    );
    let queued = gauge_vec(
        "clusterd_mesh_queued_bytes",
        "bytes that wait to be sent to the peer",
        LABELS,
    );
    for link in links {
        let peer = link.peer.0.to_string();
        let labels = &[peer.as_str(), link.lane.name()];
        let gauge = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let round_trip = link.rtt.unwrap_or_default().as_secs_f64();
        connected
            .with_label_values(labels)
            .set(link.connected.into());
        rtt.with_label_values(labels).set(round_trip);
        in_flight
            .with_label_values(labels)
            .set(gauge(link.in_flight));
        queued
            .with_label_values(labels)
            .set(gauge(link.queued_bytes));
        publish_totals(link, labels);
    }
}

fn publish_totals(link: &LinkStats, labels: &[&str]) {
    let LinkStats {
        peer: _,
        lane: _,
        connected: _,
        rtt: _,
        bytes_sent,
        bytes_received,
        requests_sent,
        requests_failed,
        requests_received,
        connects,
        in_flight: _,
        queued_bytes: _,
        last_error: _,
    } = link;
    let totals = [
        (
            "clusterd_mesh_sent_bytes_total",
            "bytes of messages and their framing sent to the peer",
            bytes_sent,
        ),
        (
            "clusterd_mesh_received_bytes_total",
            "bytes of messages and their framing received from the peer",
            bytes_received,
        ),
        (
            "clusterd_mesh_requests_sent_total",
            "calls, messages and streams to the peer",
            requests_sent,
        ),
        (
            "clusterd_mesh_requests_failed_total",
            "of those, how many failed in the transport",
            requests_failed,
        ),
        (
            "clusterd_mesh_requests_received_total",
            "calls, messages and streams of the peer",
            requests_received,
        ),
        (
            "clusterd_mesh_connects_total",
            "connections made to the peer",
            connects,
        ),
    ];
    for (name, help, total) in totals {
        raise(&counter_vec(name, help, LABELS), labels, *total);
    }
}

/// Counters only go up; so do these, as long as one transport writes them.
fn raise(counter: &IntCounterVec, labels: &[&str], total: u64) {
    let counter = counter.with_label_values(labels);
    counter.inc_by(total.saturating_sub(counter.get()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Lane;
    use repr::NodeId;

    #[test]
    fn counters_follow_their_totals() {
        let mut link = LinkStats::new(NodeId(7), Lane::Peek);
        link.connected = true;
        link.rtt = Some(std::time::Duration::from_micros(250));
        for total in [5, 5, 9] {
            link.requests_sent = total;
            publish(&[link.clone()]);
        }
        let text = host::metrics::render();
        for line in [
            "clusterd_mesh_requests_sent_total{lane=\"peek\",peer=\"7\"} 9",
            "clusterd_mesh_connected{lane=\"peek\",peer=\"7\"} 1",
            "clusterd_mesh_rtt_seconds{lane=\"peek\",peer=\"7\"} 0.00025",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
