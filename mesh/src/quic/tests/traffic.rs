//! Calls, messages and streams when all is well.

use super::*;
use crate::{STREAM_FRAME_BYTES_MAX, StreamError};
use tokio::sync::mpsc;

#[tokio::test(flavor = "multi_thread")]
async fn every_lane_carries_messages_of_every_size_both_ways() {
    let world = World::new(1);
    let (one, two) = world.pair();
    for lane in Lane::ALL {
        for size in [0, 1, 1500, 16 << 10, (16 << 10) + 1, 3 << 20] {
            let body = Bytes::from((0..size).map(|i| i as u8).collect::<Vec<_>>());
            for (from, to) in [(&one, &two), (&two, &one), (&one, &one)] {
                let sent = message(lane, ECHO, body.clone());
                let answer = from.call(to.node(), sent, PATIENCE).await;
                assert_eq!(answer.as_ref(), Ok(&body), "{lane} {size}");
            }
        }
        let clock = host::RealClock::new();
        let round_trip = crate::ping(&one, &clock, NodeId(2), lane, PATIENCE);
        assert!(round_trip.await.unwrap() < PATIENCE);
        let stats = link(&one, NodeId(2), lane);
        assert_eq!(
            (stats.connected, stats.connects, stats.requests_sent),
            (true, 1, 7)
        );
        assert_eq!((stats.requests_received, stats.requests_failed), (6, 0));
        assert!(stats.bytes_sent > 3 << 20 && stats.rtt.is_some());
        assert_eq!((stats.in_flight, stats.queued_bytes), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_at_a_time_get_each_their_own_answer() {
    let world = World::new(1);
    let (one, _two) = world.pair();
    let one = Arc::new(one);
    let callers = (0..200).map(|n: usize| {
        let one = one.clone();
        tokio::spawn(async move {
            for round in 0..20 {
                let size = (n * 97 + round * 1031) % 40_000;
                let sent = message(Lane::Peek, SIZED, size.to_string());
                let answer = one.call(NodeId(2), sent, PATIENCE).await.unwrap();
                assert_eq!(answer.len(), size);
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_way_messages_arrive_with_their_sender() {
    let world = World::new(1);
    let (one, two) = world.pair();
    let (seen, mut arrived) = mpsc::unbounded_channel();
    let handler = move |request: Request| -> BoxFuture<'static, Result<Bytes, Refusal>> {
        let _ = seen.send((request.from.node, request.body, request.deadline));
        Box::pin(async { Ok(Bytes::new()) })
    };
    two.serve_calls(Lane::Control, Kind(200), Arc::new(handler));
    for (size, from) in [(5, &one), (100_000, &one), (5, &two)] {
        let body = Bytes::from(vec![size as u8; size]);
        let sent = message(Lane::Control, Kind(200), body.clone());
        from.send(NodeId(2), sent).unwrap();
        let got = tokio::time::timeout(PATIENCE, arrived.recv())
            .await
            .unwrap();
        assert_eq!(got, Some((from.node(), body, None)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_the_receiver_reach_the_caller() {
    let world = World::new(1);
    let (one, _two) = world.pair();
    let refused_by = async |node, kind, body: &'static str| {
        let sent = message(Lane::Control, kind, body);
        match one.call(NodeId(node), sent, PATIENCE).await {
            Err(CallError::Refused { refusal, .. }) => refusal,
            other => panic!("{other:?}"),
        }
    };
    let refused = async |kind, body: &'static str| refused_by(2, kind, body).await;
    let lane = Lane::Control;
    let kind = Kind(999);
    assert_eq!(refused(kind, "").await, Refusal::NoHandler { lane, kind });
    let malformed = Refusal::Malformed("not a number".to_owned());
    assert_eq!(refused(SIZED, "x").await, malformed);
    let too_long = Refusal::AnswerTooLong(17 << 20);
    assert_eq!(refused(SIZED, "17825792").await, too_long);
    // A handler that panics harms nobody else.
    assert_eq!(refused(PANIC, "now").await, Refusal::Abandoned);
    assert_eq!(refused(PANIC, "").await, Refusal::Abandoned);
    // Not even this node itself.
    assert_eq!(refused_by(1, PANIC, "now").await, Refusal::Abandoned);
    assert_eq!(refused_by(1, PANIC, "").await, Refusal::Abandoned);
    assert!(echo(&one, NodeId(2), lane).await.is_ok());
    let body = vec![0; (16 << 20) + 1];
    let sent = one.call(NodeId(2), message(lane, ECHO, body), PATIENCE);
    assert!(matches!(sent.await, Err(CallError::TooLong { .. })));
}

/// Serves streams that send back each frame, until the peer finishes.
fn serve_mirror(transport: &QuicTransport, lane: Lane) {
    let mirror = |request: Request, mut stream: Stream| -> BoxFuture<'static, ()> {
        Box::pin(async move {
            stream.sender.send(request.body).await.unwrap();
            while let Some(Ok(frame)) = stream.receiver.next().await {
                if stream.sender.send(frame).await.is_err() {
                    return;
                }
            }
            stream.sender.finish();
        })
    };
    transport.serve_streams(lane, Kind(300), Arc::new(mirror));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_keep_order_and_end_in_good_order() {
    let world = World::new(1);
    let (one, two) = world.pair();
    for lane in Lane::ALL {
        serve_mirror(&two, lane);
        let opening = message(lane, Kind(300), Bytes::from_static(b"opening"));
        let stream = one.open(NodeId(2), opening, PATIENCE).await.unwrap();
        let Stream {
            sender,
            mut receiver,
        } = stream;
        assert_eq!(receiver.next().await, Some(Ok("opening".into())));
        let sizes = [0, 1, 2000, 100_000, STREAM_FRAME_BYTES_MAX];
        let frame = move |n: usize| Bytes::from(vec![n as u8; sizes[n % sizes.len()]]);
        let sending = tokio::spawn(async move {
            for n in 0..10 {
                sender.send(frame(n)).await.unwrap();
            }
            sender.finish();
        });
        for n in 0..10 {
            assert_eq!(receiver.next().await, Some(Ok(frame(n))), "{lane} {n}");
        }
        assert_eq!(receiver.next().await, None);
        sending.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_badly_says_so() {
    let world = World::new(1);
    let (one, two) = world.pair();
    let open = |kind| one.open(NodeId(2), message(Lane::Bulk, kind, Bytes::new()), PATIENCE);
    // Nobody serves it.
    let mut stream = open(Kind(301)).await.unwrap();
    let refused = stream.receiver.next().await;
    assert!(
        matches!(
            refused,
            Some(Err(StreamError::Refused(Refusal::NoHandler { .. })))
        ),
        "{refused:?}"
    );
    stream.sender.gone().await;
    // The handler goes away.
    let vanish = |_: Request, _: Stream| -> BoxFuture<'static, ()> { Box::pin(async {}) };
    two.serve_streams(Lane::Bulk, Kind(302), Arc::new(vanish));
    let mut stream = open(Kind(302)).await.unwrap();
    let lost = stream.receiver.next().await;
    assert!(matches!(lost, Some(Err(StreamError::Lost(_)))), "{lost:?}");
    // The opener goes away: both halves of the handler notice.
    let (noticed, mut notices) = mpsc::unbounded_channel();
    let watch = move |_: Request, mut stream: Stream| -> BoxFuture<'static, ()> {
        let noticed = noticed.clone();
        Box::pin(async move {
            stream.sender.send(Bytes::new()).await.unwrap();
            let read = stream.receiver.next().await;
            stream.sender.gone().await;
            let _ = noticed.send(read);
        })
    };
    two.serve_streams(Lane::Bulk, Kind(303), Arc::new(watch));
    let mut stream = open(Kind(303)).await.unwrap();
    assert_eq!(stream.receiver.next().await, Some(Ok(Bytes::new())));
    drop(stream);
    let notice = tokio::time::timeout(PATIENCE, notices.recv())
        .await
        .unwrap();
    assert!(
        matches!(notice, Some(Some(Err(StreamError::Lost(_))))),
        "{notice:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_stops_its_stream_and_nothing_else() {
    let world = World::new(1);
    let (one, two) = world.pair();
    let (parked, mut taken) = mpsc::unbounded_channel();
    let park = move |_: Request, stream: Stream| -> BoxFuture<'static, ()> {
        let _ = parked.send(stream);
        Box::pin(async {})
    };
    two.serve_streams(Lane::Bulk, Kind(304), Arc::new(park));
    let opening = message(Lane::Bulk, Kind(304), Bytes::new());
    let stream = one.open(NodeId(2), opening, PATIENCE).await.unwrap();
    let frame = Bytes::from(vec![1; 64 << 10]);
    let mut sent = 0;
    let mut fill = async || {
        loop {
            let waiting = stream.sender.send(frame.clone());
            if tokio::time::timeout(Duration::from_millis(500), waiting)
                .await
                .is_err()
            {
                return;
            }
            sent += frame.len();
        }
    };
    fill().await;
    // A window in memory on each side and one in QUIC, not the whole flood.
    assert!(sent < 8 << 20, "{sent}");
    assert!(echo(&one, NodeId(2), Lane::Bulk).await.is_ok());
    // Once the reader reads, all of it comes.
    let mut reader = taken.recv().await.unwrap();
    stream.sender.finish();
    let mut read = 0;
    while let Some(frame) = reader.receiver.next().await {
        read += frame.unwrap().len();
    }
    assert_eq!(read, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_bulk_does_not_hold_up_the_control_lane() {
    let world = World::new(1);
    let (one, _two) = world.pair();
    let one = Arc::new(one);
    let flood = (0..32).map(|_| {
        let one = one.clone();
        tokio::spawn(async move {
            let body = Bytes::from(vec![1; 1 << 20]);
            loop {
                let sent = message(Lane::Bulk, ECHO, body.clone());
                one.call(NodeId(2), sent, PATIENCE).await.unwrap();
            }
        })
    });
    let flood: Vec<_> = flood.collect();
    // The flood flows.
    until(|| link(&one, NodeId(2), Lane::Bulk).bytes_sent > 32 << 20).await;
    let clock = host::RealClock::new();
    let mut pings = Vec::new();
    for _ in 0..100 {
        let ping = crate::ping(&*one, &clock, NodeId(2), Lane::Control, PATIENCE);
        pings.push(ping.await.unwrap());
    }
    flood.iter().for_each(|task| task.abort());
    pings.sort();
    // What waits in front of it would be 32 MiB in each direction; what it may wait for is the processor.
    assert!(pings[50] < Duration::from_millis(300), "{pings:?}");
}
