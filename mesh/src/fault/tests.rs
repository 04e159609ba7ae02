//! Over the simulated network, with a clock that jumps.

use super::*;
use crate::{SimNet, StreamError};
use host::sim::{JumpClock, SimDisk, SimRng};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const SECOND: Duration = Duration::from_secs(1);

struct World {
    host: Host,
    one: Arc<FaultTransport>,
    two: Arc<FaultTransport>,
    /// Requests that reached a handler.
    handled: Arc<AtomicUsize>,
}

/// Two nodes; each counts and answers the kind 1, and mirrors streams of kind 2.
fn world() -> World {
    let host = Host {
        clock: Arc::new(JumpClock::start(&host::TokioSpawn::current(), 0)),
        disk: Arc::new(SimDisk::new(5)),
        rng: Arc::new(SimRng::new(5)),
        spawn: Arc::new(host::TokioSpawn::current()),
    };
    let net = SimNet::new(host.clone());
    let handled = Arc::new(AtomicUsize::new(0));
    let node = |id| {
        let inner = Arc::new(net.start(NodeId(id), 1));
        let faulty = FaultTransport::new(inner, Arc::new(Faults::new()), host.clone());
        for lane in Lane::ALL {
            let handled = handled.clone();
            let count = move |request: Request| -> BoxFuture<'static, Result<Bytes, Refusal>> {
                handled.fetch_add(1, Relaxed);
                Box::pin(async { Ok(request.body) })
            };
            faulty.serve_calls(lane, Kind(1), Arc::new(count));
        }
        let mirror = |_: Request, mut stream: Stream| -> BoxFuture<'static, ()> {
            Box::pin(async move {
                while let Some(Ok(frame)) = stream.receiver.next().await {
                    if stream.sender.send(frame).await.is_err() {
                        return;
                    }
                }
            })
        };
        faulty.serve_streams(Lane::Bulk, Kind(2), Arc::new(mirror));
        Arc::new(faulty)
    };
    let (one, two) = (node(1), node(2));
    World {
        host,
        one,
        two,
        handled,
    }
}

async fn echo(from: &FaultTransport, lane: Lane) -> Result<Bytes, CallError> {
    let to = NodeId(3 - from.node().0);
    let message = Message::new(lane, Kind(1), Bytes::from_static(b"x"));
    from.call(to, message, SECOND).await
}

#[tokio::test]
async fn a_one_way_cut_loses_requests_one_way_and_answers_the_other() {
    let World {
        one, two, handled, ..
    } = world();
    let late = |to| Err(CallError::Deadline { to: NodeId(to) });
    let lost = |to| Err(super::lost(NodeId(to)));
    let ok = Ok(Bytes::from_static(b"x"));
    // Nothing leaves node 1: its requests do not arrive, and its answers neither.
    one.faults().cut(NodeId(2), Some(Direction::Out));
    assert_eq!(echo(&one, Lane::Peek).await, lost(2));
    assert_eq!(handled.load(Relaxed), 0);
    assert_eq!(echo(&two, Lane::Peek).await, late(1));
    assert_eq!(handled.load(Relaxed), 1);
    // The same cut, seen from the other end.
    one.faults().clear(None);
    assert_eq!(echo(&one, Lane::Peek).await, ok);
    two.faults().cut(NodeId(1), Some(Direction::In));
    assert_eq!(echo(&one, Lane::Peek).await, late(2));
    assert_eq!(handled.load(Relaxed), 2);
    assert_eq!(echo(&two, Lane::Peek).await, lost(1));
    assert_eq!(handled.load(Relaxed), 3);
    // A node always reaches itself.
    let to_itself = Message::new(Lane::Peek, Kind(1), Bytes::from_static(b"x"));
    assert_eq!(two.call(NodeId(2), to_itself, SECOND).await, ok);
}

#[tokio::test]
async fn a_fault_of_one_lane_leaves_the_others_alone() {
    let World { host, one, .. } = world();
    let faults = one.faults();
    faults.execute("set lane=raft delay_ms=200..300").unwrap();
    faults.execute("cut lane=bulk").unwrap();
    let took = async |lane| {
        let start = host.clock.now();
        let answer = echo(&one, lane).await;
        (answer.is_ok(), host.clock.now().since(start))
    };
    let (ok, slow) = took(Lane::Raft).await;
    // Late on its way there and on its way back.
    assert!(ok && slow >= Duration::from_millis(400), "{slow:?}");
    let (ok, fast) = took(Lane::Peek).await;
    assert!(ok && fast < Duration::from_millis(20), "{fast:?}");
    assert_eq!(took(Lane::Bulk).await, (false, SILENCE));
}

#[tokio::test]
async fn messages_come_twice_or_not_at_all_as_often_as_asked() {
    let World {
        host, one, handled, ..
    } = world();
    let flood = async || {
        handled.store(0, Relaxed);
        for _ in 0..1000 {
            let message = Message::new(Lane::Control, Kind(1), Bytes::new());
            one.send(NodeId(2), message).unwrap();
        }
        host.clock.sleep(SECOND).await;
        handled.load(Relaxed)
    };
    assert_eq!(flood().await, 1000);
    one.faults().execute("set twice=1").unwrap();
    assert_eq!(flood().await, 2000);
    assert!(echo(&one, Lane::Raft).await.is_ok());
    host.clock.sleep(SECOND).await;
    assert_eq!(handled.load(Relaxed), 2002);
    one.faults().clear(None);
    one.faults().execute("set lost=0.5").unwrap();
    let arrived = flood().await;
    assert!((400..600).contains(&arrived), "{arrived}");
}

#[tokio::test]
async fn what_is_lost_of_a_call_is_late_and_a_healed_cut_ends_no_call() {
    let World {
        host, one, handled, ..
    } = world();
    one.faults().execute("set lost=0.3").unwrap();
    for _ in 0..50 {
        assert!(echo(&one, Lane::Control).await.is_ok());
    }
    assert_eq!(handled.load(Relaxed), 50);
    one.faults().execute("clear").unwrap();
    one.faults().cut(NodeId(2), None);
    let start = host.clock.now();
    let heal = async {
        host.clock.sleep(SILENCE / 2).await;
        one.faults().clear(None);
    };
    let (answer, ()) = tokio::join!(echo(&one, Lane::Control), heal);
    assert!(answer.is_ok());
    assert!(host.clock.now().since(start) >= SILENCE / 2);
}

#[tokio::test]
async fn a_stream_survives_loss_and_breaks_when_cut_for_long() {
    let World { host, one, .. } = world();
    let opening = Message::new(Lane::Bulk, Kind(2), Bytes::new());
    let mut stream = one.open(NodeId(2), opening, SECOND).await.unwrap();
    one.faults().execute("set lost=0.3 delay_ms=0..30").unwrap();
    for n in 0..50u8 {
        stream.sender.send(Bytes::from(vec![n])).await.unwrap();
    }
    for n in 0..50u8 {
        assert_eq!(stream.receiver.next().await, Some(Ok(vec![n].into())));
    }
    one.faults().clear(None);
    // Healed before anybody gave up.
    one.faults().cut(NodeId(2), Some(Direction::Out));
    stream
        .sender
        .send(Bytes::from_static(b"late"))
        .await
        .unwrap();
    host.clock.sleep(Duration::from_millis(500)).await;
    one.faults().clear(None);
    assert_eq!(stream.receiver.next().await, Some(Ok("late".into())));
    one.faults().cut(NodeId(2), Some(Direction::Out));
    let start = host.clock.now();
    let broken = stream.receiver.next().await;
    assert!(
        matches!(broken, Some(Err(StreamError::Lost(_)))),
        "{broken:?}"
    );
    let after = host.clock.now().since(start);
    assert!(
        after >= Duration::from_millis(750) && after < SECOND,
        "{after:?}"
    );
    stream.sender.gone().await;
}
