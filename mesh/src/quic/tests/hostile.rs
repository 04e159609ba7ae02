//! Peers that do not keep to the protocol.

use super::frame::Frame;
use super::hello::{CLOSED_MALFORMED, CLOSED_REJECTED, Hello};
use super::*;
use bytes::BytesMut;
use host::Rng;
use host::sim::SimRng;
use quinn::{Connection, ConnectionError, RecvStream, SendStream};

/// A client with node 1's credentials that says what it likes.
struct Raw {
    _endpoint: Endpoint,
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
}

impl Raw {
    async fn connect(config: &QuicConfig, to: &QuicTransport) -> Raw {
        let tls = tls::client_config(&config.credentials).unwrap();
        let endpoint = Endpoint::client(config.bind).unwrap();
        let client = ClientConfig::new(Arc::new(tls));
        let connecting = endpoint.connect_with(client, to.local_address(), "x");
        let connection = connecting.unwrap().await.unwrap();
        let (send, recv) = connection.open_bi().await.unwrap();
        Raw {
            _endpoint: endpoint,
            connection,
            send,
            recv,
        }
    }

    /// Past the hello.
    async fn greeted(config: &QuicConfig, to: &QuicTransport, lane: Lane) -> Raw {
        let mut raw = Raw::connect(config, to).await;
        let hello = Hello {
            version: config.version,
            identity: config.identity,
            lane,
        };
        raw.send.write_all(&hello.encode()).await.unwrap();
        hello::read(&mut raw.recv, config.version).await.unwrap();
        raw
    }

    async fn close_code(&self) -> (u64, String) {
        let closed = tokio::time::timeout(PATIENCE, self.connection.closed()).await;
        match closed.expect("closed") {
            ConnectionError::ApplicationClosed(close) => {
                let reason = String::from_utf8_lossy(&close.reason).into_owned();
                (close.error_code.into_inner(), reason)
            }
            other => panic!("{other:?}"),
        }
    }
}

fn bytes(frame: Frame) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame.encode(&mut out);
    out.to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn breaches_of_the_protocol_end_the_connection_and_nothing_else() {
    let world = World::new(1);
    let two = world.start(2);
    let three = world.start(3);
    introduce(&three, &two);
    let config = world.config(1);
    let oversized = vec![0xff, 0xff, 0xff, 0x00, 1, 2, 3];
    let unknown = vec![1, 0, 0, 0, 77];
    let misplaced = bytes(Frame::Answer {
        id: 1,
        body: Bytes::new(),
    });
    let short = vec![2, 0, 0, 0, 1, 1];
    for (frame, reason) in [
        (oversized, "longer than"),
        (unknown, "unknown tag 77"),
        (misplaced, "frame answer has no place here"),
        (short, "ends inside its fields"),
    ] {
        let mut raw = Raw::greeted(&config, &two, Lane::Control).await;
        raw.send.write_all(&frame).await.unwrap();
        let (code, text) = raw.close_code().await;
        assert_eq!(code, CLOSED_MALFORMED.into_inner());
        assert!(text.contains(reason), "{text}");
        assert!(echo(&three, NodeId(2), Lane::Control).await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_frames_and_streams_are_checked_too() {
    let world = World::new(1);
    let mut config = world.config(2);
    config.limits.message_bytes_max = 100_000;
    let two = start(config);
    let config = world.config(1);
    let claim = |length: u32| {
        let mut frame = length.to_le_bytes().to_vec();
        frame.extend([1; 100]);
        frame
    };
    // One that claims too much, one that has more than it claims, one that has less, one that never stops.
    let endless = vec![0; 200_000];
    for frame in [claim(1 << 30), claim(50), claim(101), endless] {
        let raw = Raw::greeted(&config, &two, Lane::Bulk).await;
        let mut alone = raw.connection.open_uni().await.unwrap();
        // It may be stopped before all is written.
        let _ = alone.write_all(&frame).await;
        let _ = alone.finish();
        let (code, text) = raw.close_code().await;
        assert_eq!(code, CLOSED_MALFORMED.into_inner(), "{text}");
    }
    let item = bytes(Frame::Item { body: Bytes::new() });
    let mut cut = bytes(Frame::Open {
        kind: Kind(1),
        body: Bytes::from_static(b"body"),
    });
    cut.pop();
    for opening in [item, cut] {
        let raw = Raw::greeted(&config, &two, Lane::Bulk).await;
        let (mut send, _recv) = raw.connection.open_bi().await.unwrap();
        send.write_all(&opening).await.unwrap();
        send.finish().unwrap();
        let (code, text) = raw.close_code().await;
        assert_eq!(code, CLOSED_MALFORMED.into_inner(), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_after_the_hello_never_harms_the_node() {
    let world = World::new(1);
    let two = world.start(2);
    let config = world.config(1);
    let rng = SimRng::new(7);
    for _ in 0..30 {
        let mut raw = Raw::greeted(&config, &two, Lane::Peek).await;
        let mut noise = vec![0; 1 + rng.below(3000) as usize];
        rng.fill(&mut noise);
        noise[3] = 0;
        noise[2] = 0;
        let _ = raw.send.write_all(&noise).await;
        let _ = raw.send.finish();
        // However it was taken: a call, a breach, or half a frame.
        raw.connection.close(0u32.into(), b"");
    }
    let three = world.start(3);
    introduce(&three, &two);
    assert!(echo(&three, NodeId(2), Lane::Peek).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_that_is_none_is_answered_in_words() {
    let world = World::new(1);
    let two = world.start(2);
    let config = world.config(1);
    let hello = Hello {
        version: 7,
        identity: config.identity,
        lane: Lane::Raft,
    };
    let liar = Hello {
        version: config.version,
        identity: world.config(5).identity,
        lane: Lane::Raft,
    };
    let mut lane = Hello { ..liar }.encode().to_vec();
    *lane.last_mut().unwrap() = 9;
    for (said, reason) in [
        (
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            "this is no clusterd node",
        ),
        (hello.encode().to_vec(), "speaks version 7"),
        (liar.encode().to_vec(), "its certificate says"),
        (lane, "cannot be read"),
    ] {
        let mut raw = Raw::connect(&config, &two).await;
        raw.send.write_all(&said).await.unwrap();
        let (code, text) = raw.close_code().await;
        assert_eq!(code, CLOSED_REJECTED.into_inner(), "{text}");
        assert!(text.contains(reason), "{text}");
    }
}

/// A connection without its lane's stream would take requests for ever and answer none.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_ends_the_stream_of_the_lane_ends_the_connection() {
    let world = World::new(1);
    let two = world.start(2);
    let config = world.config(1);
    for stop in [false, true] {
        let mut raw = Raw::greeted(&config, &two, Lane::Control).await;
        match stop {
            false => raw.send.finish().unwrap(),
            true => {
                raw.recv.stop(0u32.into()).unwrap();
                let call = Frame::Call {
                    id: 1,
                    kind: Kind::PING,
                    timeout_ms: 1000,
                    body: Bytes::new(),
                };
                raw.send.write_all(&bytes(call)).await.unwrap();
            }
        }
        let (_, text) = raw.close_code().await;
        assert_eq!(text, "the stream of the lane ended");
    }
}

/// Nobody is let in without a certificate of the authority: not even a hello is read.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_there_is_no_hello() {
    let world = World::new(1);
    let two = world.start(2);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = world.config(1);
    let mut bare = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(tls::any_of(&config.credentials))
        .with_no_client_auth();
    bare.alpn_protocols = vec![b"clusterd-mesh".to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(bare).unwrap();
    let endpoint = Endpoint::client(config.bind).unwrap();
    let client = ClientConfig::new(Arc::new(crypto));
    let connecting = endpoint.connect_with(client, two.local_address(), "x");
    let closed = match connecting.unwrap().await {
        Ok(connection) => connection.closed().await,
        Err(error) => error,
    };
    let ConnectionError::ApplicationClosed(close) = closed else {
        panic!("{closed:?}");
    };
    assert_eq!(close.error_code, CLOSED_REJECTED);
    let reason = String::from_utf8_lossy(&close.reason);
    assert!(
        reason.contains("certificate cannot be used: there is none"),
        "{reason}"
    );
}

/// Nor with a certificate that the authority has signed for something else than a node, such as a client.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_a_client_is_refused_in_words() {
    let world = World::new(1);
    let two = world.start(2);
    let mut config = world.config(1);
    let key = NodeKey::generate().unwrap();
    let certificate = client_certificate(&world.authority, &key);
    config.credentials = Credentials::new(world.authority.certificate(), &certificate, &key);
    let tls = tls::client_config(&config.credentials).unwrap();
    let endpoint = Endpoint::client(config.bind).unwrap();
    let client = ClientConfig::new(Arc::new(tls));
    let connecting = endpoint.connect_with(client, two.local_address(), "x");
    let closed = match connecting.unwrap().await {
        Ok(connection) => connection.closed().await,
        Err(error) => error,
    };
    // In TLS already, or by the node in words: either way its user is told that the certificate will not do.
    let heard = match closed {
        ConnectionError::ApplicationClosed(close) => {
            assert_eq!(close.error_code, CLOSED_REJECTED);
            String::from_utf8_lossy(&close.reason).into_owned()
        }
        ConnectionError::ConnectionClosed(close) => close.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(heard.contains("certificate"), "{heard}");
    // Nobody was met.
    assert!(two.stats().is_empty());
}

fn client_certificate(authority: &Authority, key: &NodeKey) -> Vec<u8> {
    let issuer_key = rcgen::KeyPair::from_pem(&authority.key_pem()).unwrap();
    let own = rcgen::KeyPair::from_pem(&key.to_pem()).unwrap();
    let mut issuer = rcgen::CertificateParams::default();
    issuer.distinguished_name.push(
        rcgen::DnType::CommonName,
        "clusterd 00000000000000000000000000000001",
    );
    issuer.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let issuer = rcgen::Issuer::new(issuer, issuer_key);
    let mut params = rcgen::CertificateParams::default();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    params.signed_by(&own, &issuer).unwrap().der().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_say_nothing_are_bounded() {
    let world = World::new(1);
    let mut config = world.config(2);
    config.limits.strangers_max = 4;
    let two = start(config);
    let config = world.config(1);
    let mut silent = Vec::new();
    for _ in 0..4 {
        // The last of them have to prove their address, and do.
        silent.push(Raw::connect(&config, &two).await);
    }
    let mut three = world.config(3);
    three.timing = Timing::dev();
    let three = start(three);
    introduce(&three, &two);
    let unheard = echo(&three, NodeId(2), Lane::Control).await;
    assert!(
        matches!(unheard, Err(CallError::Unreachable { .. })),
        "{unheard:?}"
    );
    silent.clear();
    echo_at_last(&three, NodeId(2), Lane::Control).await;
}
