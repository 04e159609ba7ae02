//! Peers that die, do not answer, or are not there.

use super::*;
use crate::Delivery;
use std::sync::atomic::{AtomicBool, AtomicU8};
use tokio::sync::oneshot;

/// A node on a runtime of its own, which can be killed with it.
struct Process {
    runtime: Option<tokio::runtime::Runtime>,
    address: SocketAddr,
}

impl Process {
    async fn start(config: QuicConfig) -> Process {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (started, address) = oneshot::channel();
        runtime.spawn(async move {
            let transport = start(config);
            let _ = started.send(transport.local_address());
            std::future::pending::<()>().await;
        });
        Process {
            address: address.await.unwrap(),
            runtime: Some(runtime),
        }
    }

    /// Nothing is said to anybody.
    fn kill(&mut self) {
        let runtime = self.runtime.take().expect("killed once");
        // From another thread: a runtime may not wait for another inside itself.
        std::thread::spawn(move || runtime.shutdown_timeout(PATIENCE))
            .join()
            .unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Where no other test listens: while a killed process is away, nobody is given its port.
fn own_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(2);
    SocketAddr::from(([127, 0, 0, NEXT.fetch_add(1, Relaxed)], 0))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_peer_fails_its_calls_and_is_reached_again_when_it_is_back() {
    let world = World::new(1);
    let mut one = world.config(1);
    // It dials a node that is not there.
    one.timing = Timing::dev();
    let one = start(one);
    let mut first = world.config(2);
    first.bind = own_address();
    let mut second = first.clone();
    let mut process = Process::start(first).await;
    one.set_peer(NodeId(2), &process.address.to_string());
    echo_at_last(&one, NodeId(2), Lane::Peek).await;
    let stuck = one.call(NodeId(2), message(Lane::Peek, STUCK, ""), 10 * PATIENCE);
    let stuck = tokio::spawn(stuck);
    until(|| link(&one, NodeId(2), Lane::Peek).in_flight > 0).await;
    process.kill();
    let lost = tokio::time::timeout(PATIENCE, stuck)
        .await
        .expect("no hang");
    let lost = lost.unwrap().unwrap_err();
    assert!(matches!(lost, CallError::Lost { .. }), "{lost:?}");
    assert_eq!(lost.delivery(), Delivery::Unknown);
    // As long as nobody is there, calls end soon, whatever their timeout.
    let gone = async {
        loop {
            match echo(&one, NodeId(2), Lane::Peek).await {
                Err(CallError::Unreachable { .. }) => return,
                Err(CallError::Lost { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("no hang");
    second.bind = process.address;
    second.identity.incarnation = 2;
    second.identity.process = u64::MAX;
    let _process = Process::start(second).await;
    echo_at_last(&one, NodeId(2), Lane::Peek).await;
    assert!(link(&one, NodeId(2), Lane::Peek).connects >= 2);
}

/// A peer that is back before anybody missed it: its first packet to the old connection tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_quick_restart_is_noticed_at_once() {
    let world = World::new(1);
    let mut one = world.config(1);
    // Silence alone would not be noticed in this test.
    one.timing.silence_max = 10 * PATIENCE;
    one.timing.keep_alive = Duration::from_millis(50);
    let one = start(one);
    let mut first = world.config(2);
    first.timing.silence_max = 10 * PATIENCE;
    first.bind = own_address();
    let mut second = first.clone();
    let mut process = Process::start(first).await;
    one.set_peer(NodeId(2), &process.address.to_string());
    assert!(echo(&one, NodeId(2), Lane::Raft).await.is_ok());
    process.kill();
    second.bind = process.address;
    second.identity.incarnation = 2;
    second.identity.process = u64::MAX;
    let _process = Process::start(second).await;
    echo_at_last(&one, NodeId(2), Lane::Raft).await;
    let reason = link(&one, NodeId(2), Lane::Raft).last_error;
    assert!(
        reason
            .as_ref()
            .is_some_and(|r| r.contains("it has restarted")),
        "{reason:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_closes_says_why_and_its_own_calls_end() {
    let world = World::new(1);
    let (one, two) = world.pair();
    let stuck = tokio::spawn(one.call(NodeId(2), message(Lane::Peek, STUCK, ""), PATIENCE));
    let own = tokio::spawn(two.call(NodeId(1), message(Lane::Peek, STUCK, ""), PATIENCE));
    let waits = |node: &QuicTransport, peer| {
        let link = link(node, NodeId(peer), Lane::Peek);
        link.in_flight > 0 && link.requests_received > 0
    };
    until(|| waits(&one, 2) && waits(&two, 1)).await;
    two.close("draining is done").await;
    let lost = stuck.await.unwrap().unwrap_err();
    let text = lost.to_string();
    assert!(
        text.contains("the other side says: draining is done"),
        "{text}"
    );
    assert_eq!(lost.delivery(), Delivery::Unknown);
    let own = own.await.unwrap().unwrap_err();
    assert_eq!(own.delivery(), Delivery::Unknown, "{own}");
    let after = echo(&two, NodeId(1), Lane::Peek).await;
    assert_eq!(after, Err(CallError::Closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_peer_is_unreachable_until_its_address_is_known() {
    let world = World::new(1);
    let (one, two) = (world.start(1), world.start(2));
    let unknown = echo(&one, NodeId(2), Lane::Control).await;
    let Err(CallError::Unreachable { reason, .. }) = unknown else {
        panic!("{unknown:?}");
    };
    assert_eq!(reason, "its address is not known");
    introduce(&one, &two);
    echo_at_last(&one, NodeId(2), Lane::Control).await;
}

/// Tells when it is dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Waits in a handler of node 2, and says when it began and when it was dropped.
fn serve_waiting(two: &QuicTransport) -> (Arc<AtomicBool>, Arc<AtomicBool>) {
    let (begun, dropped) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let flags = (begun.clone(), dropped.clone());
    let wait = move |_: Request| -> BoxFuture<'static, Result<Bytes, Refusal>> {
        begun.store(true, Relaxed);
        let guard = Dropped(dropped.clone());
        Box::pin(async move {
            let _guard = guard;
            std::future::pending().await
        })
    };
    two.serve_calls(Lane::Control, Kind(400), Arc::new(wait));
    flags
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_call_ends_its_handler() {
    let world = World::new(1);
    let (one, two) = world.pair();
    let (begun, dropped) = serve_waiting(&two);
    let sent = message(Lane::Control, Kind(400), "");
    let call = tokio::spawn(one.call(NodeId(2), sent, 10 * PATIENCE));
    until(|| begun.load(Relaxed)).await;
    assert!(!dropped.load(Relaxed));
    call.abort();
    until(|| dropped.load(Relaxed)).await;
    assert_eq!(link(&one, NodeId(2), Lane::Control).in_flight, 0);
    assert!(echo(&one, NodeId(2), Lane::Control).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_ends_at_its_deadline_and_so_does_its_handler() {
    let world = World::new(1);
    let (one, two) = world.pair();
    let (begun, dropped) = serve_waiting(&two);
    assert!(echo(&one, NodeId(2), Lane::Control).await.is_ok());
    let sent = message(Lane::Control, Kind(400), "");
    let late = one.call(NodeId(2), sent, Duration::from_millis(300)).await;
    assert_eq!(late, Err(CallError::Deadline { to: NodeId(2) }));
    until(|| begun.load(Relaxed)).await;
    until(|| dropped.load(Relaxed)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_caller_ends_the_handlers_that_worked_for_it() {
    let world = World::new(1);
    let two = {
        let mut config = world.config(2);
        config.timing.silence_max = Timing::dev().silence_max;
        start(config)
    };
    let (begun, dropped) = serve_waiting(&two);
    let one = world.start(1);
    introduce(&one, &two);
    let sent = message(Lane::Control, Kind(400), "");
    let call = tokio::spawn(one.call(NodeId(2), sent, 10 * PATIENCE));
    until(|| begun.load(Relaxed)).await;
    one.close("gone").await;
    until(|| dropped.load(Relaxed)).await;
    assert!(call.await.unwrap().is_err());
}

#[tokio::test]
async fn what_cannot_be_sent_is_bounded() {
    let world = World::new(1);
    let mut config = world.config(1);
    config.limits.queue_bytes_max = 10_000;
    config.limits.calls_max = 5;
    let one = start(config);
    // Somebody who never answers.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    one.set_peer(NodeId(2), &silent.local_addr().unwrap().to_string());
    let send = |bytes: usize| one.send(NodeId(2), message(Lane::Peek, ECHO, vec![0; bytes]));
    let full = CallError::Full {
        to: NodeId(2),
        lane: Lane::Peek,
    };
    for _ in 0..9 {
        assert_eq!(send(1000), Ok(()));
    }
    assert_eq!(send(1000), Err(full.clone()));
    assert_eq!(full.delivery(), Delivery::Never);
    assert!(link(&one, NodeId(2), Lane::Peek).queued_bytes < 10_000);
    // Another lane has a queue of its own; there, calls are what is bounded.
    let call = || one.call(NodeId(2), message(Lane::Control, ECHO, ""), PATIENCE);
    let mut waiting = Vec::new();
    for _ in 0..5 {
        let mut call = call();
        let polled = futures::poll!(&mut call);
        assert!(polled.is_pending());
        waiting.push(call);
    }
    let sixth = call().await;
    assert!(matches!(sixth, Err(CallError::Full { .. })), "{sixth:?}");
    // A caller that gives up makes room.
    waiting.pop();
    assert!(futures::poll!(&mut call()).is_pending());
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_at_a_time_are_refused_as_busy() {
    let world = World::new(1);
    let mut config = world.config(2);
    config.limits.handlers_max = 3;
    let (one, two) = (world.start(1), start(config));
    introduce(&one, &two);
    let stuck = || one.call(NodeId(2), message(Lane::Control, STUCK, ""), PATIENCE);
    let stuck: Vec<_> = (0..3).map(|_| tokio::spawn(stuck())).collect();
    until(|| link(&two, NodeId(1), Lane::Control).requests_received == 3).await;
    let busy = one
        .call(NodeId(2), message(Lane::Control, STUCK, ""), PATIENCE)
        .await;
    let (to, refusal) = (NodeId(2), Refusal::Busy);
    assert_eq!(busy, Err(CallError::Refused { to, refusal }));
    // Those who wait cost no other lane an answer.
    assert!(echo(&one, NodeId(2), Lane::Peek).await.is_ok());
    stuck.iter().for_each(|task| task.abort());
    echo_at_last(&one, NodeId(2), Lane::Control).await;
}

/// What is refused as busy may be sent again, so it must not have begun.
#[tokio::test(flavor = "multi_thread")]
async fn messages_count_as_requests_and_what_is_one_too_many_never_begins() {
    let world = World::new(1);
    let mut config = world.config(2);
    config.limits.handlers_max = 1;
    let (one, two) = (world.start(1), start(config));
    introduce(&one, &two);
    let (first, dropped) = serve_waiting(&two);
    one.send(NodeId(2), message(Lane::Control, Kind(400), ""))
        .unwrap();
    until(|| first.load(Relaxed)).await;
    first.store(false, Relaxed);
    one.send(NodeId(2), message(Lane::Control, Kind(400), ""))
        .unwrap();
    let sent = message(Lane::Control, Kind(400), "");
    let busy = one.call(NodeId(2), sent, PATIENCE).await;
    let (to, refusal) = (NodeId(2), Refusal::Busy);
    assert_eq!(busy, Err(CallError::Refused { to, refusal }));
    assert!(!first.load(Relaxed) && !dropped.load(Relaxed));
    // Nobody is left to work for.
    one.close("gone").await;
    until(|| dropped.load(Relaxed)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_given_up_while_it_is_opened_costs_the_lane_nothing() {
    let world = World::new(1);
    let (one, _two) = world.pair();
    assert!(echo(&one, NodeId(2), Lane::Bulk).await.is_ok());
    for _ in 0..10 {
        // More than fits on the way at once.
        let opening = message(Lane::Bulk, Kind(500), vec![0; 12 << 20]);
        let mut open = one.open(NodeId(2), opening, PATIENCE);
        assert!(futures::poll!(&mut open).is_pending());
        drop(open);
        let sent = message(Lane::Bulk, SIZED, (1 << 20).to_string());
        assert!(one.call(NodeId(2), sent, PATIENCE).await.is_ok());
    }
    assert_eq!(link(&one, NodeId(2), Lane::Bulk).connects, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_ends_each_connection_is_dialed_less_and_less_often() {
    let world = World::new(1);
    let mut config = world.config(2);
    config.limits.message_bytes_max = 100_000;
    let (one, two) = (world.start(1), start(config));
    introduce(&one, &two);
    let begin = std::time::Instant::now();
    for _ in 0..6 {
        let sent = message(Lane::Control, ECHO, vec![0; 200_000]);
        let lost = one.call(NodeId(2), sent, PATIENCE).await;
        assert!(matches!(lost, Err(CallError::Lost { .. })), "{lost:?}");
    }
    // The last call waited for five pauses, of at least half of 25, 50, 100, 200 and 400 ms.
    assert!(begin.elapsed() >= Duration::from_millis(387));
}
