//! How fast two endpoints answer each other over loopback: `cargo run --release -p mesh --example mesh_bench`.
//!
//! Client, server and the measuring share the machine, so the figures are those of a whole round trip's work.

#![allow(clippy::disallowed_methods, reason = "a measurement is not simulated")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use host::{BoxFuture, Host};
use mesh::ca::{Authority, Credentials, NodeKey};
use mesh::{
    EnvironmentId, Generation, Identity, Message, NodeName, QuicConfig, QuicTransport, Refusal,
    Request, Stream, Transport,
};
use protocol::{Kind, Lane};
use repr::NodeId;

const TIMEOUT: Duration = Duration::from_secs(10);
const RUN: Duration = Duration::from_secs(3);
const ECHO: Kind = Kind(1000);
const SINK: Kind = Kind(1001);

fn node(authority: &Authority, node: u64) -> QuicTransport {
    let name = NodeName {
        environment: EnvironmentId(1),
        node: NodeId(node),
    };
    let key = NodeKey::generate().expect("a key");
    let certificate = authority.issue(name, key.public_key());
    let certificate = certificate.expect("a certificate");
    let credentials = Credentials::new(authority.certificate(), &certificate, &key);
    let identity = Identity {
        name,
        generation: Generation::FIRST,
        incarnation: 1,
        process: node,
    };
    let bind = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = QuicConfig::new(bind, identity, credentials);
    QuicTransport::start(config, Host::real()).expect("started")
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

/// `callers` closed loops of echoes of `bytes`.
async fn echoes(from: &Arc<QuicTransport>, lane: Lane, callers: usize, bytes: usize) {
    let body = Bytes::from(vec![1; bytes]);
    let end = Instant::now() + RUN;
    let calls = (0..callers).map(|_| {
        let (from, body) = (from.clone(), body.clone());
        tokio::spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < end {
                let start = Instant::now();
                let message = Message::new(lane, ECHO, body.clone());
                from.call(NodeId(2), message, TIMEOUT).await.expect("echo");
                times.push(start.elapsed());
            }
            times
        })
    });
    let mut times = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        times.extend(call.await.expect("a caller"));
    }
    times.sort_unstable();
    let rate = times.len() as f64 / RUN.as_secs_f64();
    println!(
        "{lane:7} echo {bytes:6} B, {callers:3} outstanding: {rate:8.0} /s, {:6.0} MB/s each way, p50 {:?}, p99 {:?}",
        rate * bytes as f64 / 1e6,
        percentile(&times, 50),
        percentile(&times, 99)
    );
}

async fn stream(from: &Arc<QuicTransport>, bytes: usize) {
    let opening = Message::new(Lane::Bulk, SINK, Bytes::new());
    let stream = from.open(NodeId(2), opening, TIMEOUT).await.expect("open");
    let (frame, start, mut sent) = (Bytes::from(vec![1; bytes]), Instant::now(), 0);
    while start.elapsed() < RUN {
        stream.sender.send(frame.clone()).await.expect("sent");
        sent += bytes;
    }
    let rate = sent as f64 / start.elapsed().as_secs_f64() / 1e6;
    println!("bulk    stream of {bytes} B frames: {rate:.0} MB/s");
}

#[tokio::main]
async fn main() {
    let authority = Authority::create(EnvironmentId(1)).expect("an authority");
    let (one, two) = (Arc::new(node(&authority, 1)), node(&authority, 2));
    one.set_peer(NodeId(2), &two.local_address().to_string());
    type Handled = BoxFuture<'static, Result<Bytes, Refusal>>;
    let echo = |request: Request| -> Handled { Box::pin(async move { Ok(request.body) }) };
    for lane in Lane::ALL {
        two.serve_calls(lane, ECHO, Arc::new(echo));
    }
    let sink = |_: Request, mut stream: Stream| -> BoxFuture<'static, ()> {
        Box::pin(async move { while let Some(Ok(_)) = stream.receiver.next().await {} })
    };
    two.serve_streams(Lane::Bulk, SINK, Arc::new(sink));
    for callers in [1, 64, 256] {
        echoes(&one, Lane::Control, callers, 100).await;
    }
    echoes(&one, Lane::Peek, 64, 4096).await;
    echoes(&one, Lane::Bulk, 16, 64 << 10).await;
    echoes(&one, Lane::Bulk, 8, 1 << 20).await;
    stream(&one, 64 << 10).await;
    // The control lane while the bulk lane is full.
    let flood = tokio::spawn({
        let one = one.clone();
        async move { echoes(&one, Lane::Bulk, 16, 1 << 20).await }
    });
    echoes(&one, Lane::Control, 1, 100).await;
    flood.await.expect("the flood");
}
