//! Doors and those who come to them, over loopback.

#![allow(
    clippy::disallowed_methods,
    reason = "these run on the real network and the real clock"
)]

use super::frame::{Status, encode};
use super::*;
use crate::ca::{Authority, Credentials, NodeKey};
use crate::quic::{CLOSED_MALFORMED, CLOSED_REJECTED};
use crate::{EnvironmentId, Identity, NodeName, QuicConfig, QuicTransport, Transport};
use host::Host;
use quinn::{ConnectionError, Endpoint};
use repr::NodeId;
use std::net::UdpSocket;
use std::sync::{Arc, Mutex};

const PATIENCE: Duration = Duration::from_secs(20);

fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

fn listener(handler: Arc<dyn JoinHandler>) -> (JoinListener, String) {
    let socket = socket();
    let address = socket.local_addr().unwrap().to_string();
    let key = NodeKey::generate().unwrap();
    let listener = JoinListener::start(socket, &key, &Host::real(), handler);
    (listener.unwrap(), address)
}

/// Answers with what was asked, if a proof of the secret stands before it, with a proof of its own.
fn proving(secret: &'static [u8]) -> Arc<dyn JoinHandler> {
    Arc::new(
        move |question: Question| -> BoxFuture<'static, Result<Bytes, String>> {
            let Question { binding, body, .. } = question;
            Box::pin(async move {
                let (proof, said) = body.split_first_chunk::<32>().ok_or("too short")?;
                if !binding.verify(secret, Role::Asking, said, proof) {
                    return Err("another secret".to_owned());
                }
                let proof = binding.prove(secret, Role::Answering, said);
                Ok(Bytes::from([&proof[..], said].concat()))
            })
        },
    )
}

fn proven(binding: Binding, secret: &[u8], said: &[u8]) -> Vec<u8> {
    let proof = binding.prove(secret, Role::Asking, said);
    [&proof[..], said].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_prove_the_secret() {
    let (_server, address) = listener(proving(b"one"));
    let (client, _) = listener(proving(b""));
    let connection = client.dial(&address).await.unwrap();
    let binding = connection.binding();
    let answer = connection.ask(&proven(binding, b"one", b"hi")).await;
    let answer = answer.unwrap();
    let (proof, said) = answer.split_first_chunk::<32>().unwrap();
    assert!(binding.verify(b"one", Role::Answering, said, proof));
    // Neither role nor words nor secret may differ.
    assert!(!binding.verify(b"one", Role::Asking, said, proof));
    assert!(!binding.verify(b"one", Role::Answering, b"ho", proof));
    assert!(!binding.verify(b"two", Role::Answering, said, proof));
    let refused = connection.ask(&proven(binding, b"two", b"hi")).await;
    assert_eq!(
        refused,
        Err(JoinError::Refused("another secret".to_owned()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_in_the_middle_cannot_pass_a_proof_on() {
    let (_server, address) = listener(proving(b"one"));
    let (out, _) = listener(proving(b""));
    let out = Arc::new(out);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (to, record) = (address.clone(), heard.clone());
    let relay = move |question: Question| -> BoxFuture<'static, Result<Bytes, String>> {
        let (out, to, record) = (out.clone(), to.clone(), record.clone());
        Box::pin(async move {
            record.lock().unwrap().push(question.body.clone());
            let connection = out.dial(&to).await.map_err(|error| error.to_string())?;
            let passed = connection.ask(&question.body).await;
            passed.map_err(|error| format!("passed on: {error}"))
        })
    };
    let (_middle, middle) = listener(Arc::new(relay));
    let (client, _) = listener(proving(b""));
    let connection = client.dial(&middle).await.unwrap();
    let question = proven(connection.binding(), b"one", b"hi");
    let refused = connection.ask(&question).await.unwrap_err();
    assert!(refused.to_string().contains("another secret"), "{refused}");
    // Nor can a recorded one be used again.
    let recorded = heard.lock().unwrap()[0].clone();
    let connection = client.dial(&address).await.unwrap();
    let refused = connection.ask(&recorded).await;
    assert_eq!(
        refused,
        Err(JoinError::Refused("another secret".to_owned()))
    );
}

/// A member of an environment.
fn member() -> (QuicTransport, Authority, NodeName) {
    let name = NodeName {
        environment: EnvironmentId(1),
        node: NodeId(1),
    };
    let authority = Authority::create(name.environment).unwrap();
    let key = NodeKey::generate().unwrap();
    let certificate = authority.issue(name, key.public_key()).unwrap();
    let identity = Identity {
        name,
        generation: crate::Generation::FIRST,
        incarnation: 1,
        process: 1,
    };
    let credentials = Credentials::new(authority.certificate(), &certificate, &key);
    let bind = "127.0.0.1:0".parse().unwrap();
    let config = QuicConfig::new(bind, identity, credentials);
    let transport = QuicTransport::start_on(socket(), config, Host::real());
    (transport.unwrap(), authority, name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_has_a_door_and_shows_its_certificate_there() {
    let (member, authority, name) = member();
    let address = member.local_address().to_string();
    let (client, _) = listener(proving(b""));
    let connection = client.dial(&address).await.unwrap();
    let closed = connection.ask(b"hi").await.unwrap_err();
    assert!(closed.to_string().contains("try again"), "{closed}");
    member.serve_joins(proving(b"one"));
    let connection = client.dial(&address).await.unwrap();
    let certificate = connection.certificate().unwrap();
    let certified = crate::ca::verify(&certificate, authority.certificate());
    assert_eq!(certified.unwrap().name, name);
    let binding = connection.binding();
    assert!(
        connection
            .ask(&proven(binding, b"one", b"hi"))
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_certificate_shows_its_key() {
    let key = NodeKey::generate().unwrap();
    let socket = socket();
    let address = socket.local_addr().unwrap().to_string();
    let host = Host::real();
    let _server = JoinListener::start(socket, &key, &host, proving(b"")).unwrap();
    let (client, _) = listener(proving(b""));
    let certificate = client.dial(&address).await.unwrap().certificate().unwrap();
    let shown = webpki::EndEntityCert::try_from(&certificate.as_slice().into())
        .unwrap()
        .subject_public_key_info();
    assert!(shown.ends_with(key.public_key()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_is_free_for_the_transport_when_the_listener_has_closed() {
    let (client, _) = listener(proving(b""));
    let socket = socket();
    let address = socket.local_addr().unwrap().to_string();
    let key = NodeKey::generate().unwrap();
    let host = Host::real();
    let early = socket.try_clone().unwrap();
    let early = JoinListener::start(early, &key, &host, proving(b"one")).unwrap();
    let before = client.dial(&address).await.unwrap();
    early.close().await;
    drop(early);
    assert!(matches!(
        before.ask(b"x").await,
        Err(JoinError::Unreachable(_))
    ));
    let late = JoinListener::start(socket, &key, &host, proving(b"two")).unwrap();
    let connection = client.dial(&address).await.unwrap();
    let binding = connection.binding();
    assert!(
        connection
            .ask(&proven(binding, b"two", b"hi"))
            .await
            .is_ok()
    );
    late.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_is_refused_in_words_on_both_sides() {
    let (_server, address) = listener(proving(b"one"));
    let key = NodeKey::generate().unwrap();
    let old = JoinListener::start_version(socket(), &key, &Host::real(), proving(b""), 0);
    let old = old.unwrap();
    let connection = old.dial(&address).await.unwrap();
    let refused = connection.ask(b"hi").await;
    let Err(JoinError::Refused(reason)) = refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("speaks version 0"), "{reason}");
}

/// Somebody who writes what it likes.
async fn raw(address: &str) -> (Endpoint, quinn::Connection) {
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let client = super::dial::client_config().unwrap();
    let connecting = endpoint.connect_with(client, address.parse().unwrap(), "x");
    let connection = connecting.unwrap().await.unwrap();
    (endpoint, connection)
}

async fn close_of(connection: &quinn::Connection) -> (u64, String) {
    let closed = tokio::time::timeout(PATIENCE, connection.closed()).await;
    match closed.expect("closed") {
        ConnectionError::ApplicationClosed(close) => {
            let reason = String::from_utf8_lossy(&close.reason).into_owned();
            (close.error_code.into_inner(), reason)
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_oversized_and_foreign_frames_end_the_connection_only() {
    let (_server, address) = listener(proving(b"one"));
    let version = crate::PROTOCOL_VERSION;
    let good = encode(version, Status::Question, b"0123456789");
    let mut large = good.clone();
    large[11..15].copy_from_slice(&u32::MAX.to_le_bytes());
    let answer = encode(version, Status::Answer, b"");
    let mut status = good.clone();
    status[10] = 9;
    let cases = [
        (good[..good.len() - 1].to_vec(), "ends before it should"),
        (good[..4].to_vec(), "ends before it should"),
        (large, "longer than"),
        (answer, "unknown kind"),
        (status, "unknown kind"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "no clusterd node"),
        (
            encode(version + 1, Status::Question, b""),
            "another version",
        ),
    ];
    for (bytes, words) in cases {
        let (_endpoint, connection) = raw(&address).await;
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        let _ = send.finish();
        let (code, reason) = close_of(&connection).await;
        let codes = [CLOSED_REJECTED, CLOSED_MALFORMED].map(|code| code.into_inner());
        assert!(codes.contains(&code), "{code}");
        assert!(reason.contains(words), "{reason}");
    }
    let (client, _) = listener(proving(b""));
    let connection = client.dial(&address).await.unwrap();
    let question = proven(connection.binding(), b"one", b"hi");
    assert!(connection.ask(&question).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_at_the_door_are_bounded() {
    let (_server, address) = listener(proving(b"one"));
    let (client, _) = listener(proving(b""));
    let mut silent = Vec::new();
    let refused = loop {
        assert!(silent.len() <= STRANGERS_MAX, "nobody was refused");
        let connection = client.dial(&address).await.unwrap();
        let question = proven(connection.binding(), b"one", b"hi");
        match connection.ask(&question).await {
            Ok(_) => silent.push(connection),
            Err(error) => break error,
        }
    };
    assert_eq!(silent.len(), STRANGERS_MAX);
    assert!(refused.to_string().contains("too many"), "{refused}");
    // Whoever leaves makes room.
    drop(silent.pop());
    let entered = async {
        loop {
            let connection = client.dial(&address).await.unwrap();
            let question = proven(connection.binding(), b"one", b"hi");
            if connection.ask(&question).await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, entered).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_has_few_questions() {
    let (_server, address) = listener(proving(b"one"));
    let (client, _) = listener(proving(b""));
    let connection = client.dial(&address).await.unwrap();
    let question = proven(connection.binding(), b"one", b"hi");
    for _ in 0..QUESTIONS_MAX {
        assert!(connection.ask(&question).await.is_ok());
    }
    let refused = connection.ask(&question).await.unwrap_err();
    assert!(
        refused.to_string().contains("too many questions"),
        "{refused}"
    );
}

/// The mesh itself is closed to all of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_certificate_does_not_speak_the_mesh() {
    let (_server, address) = listener(proving(b"one"));
    let (one, ..) = member();
    one.set_peer(NodeId(2), &address);
    let message = crate::Message::new(protocol::Lane::Control, protocol::Kind::PING, Bytes::new());
    let called = one.call(NodeId(2), message, PATIENCE).await;
    assert!(
        matches!(called, Err(crate::CallError::Rejected { .. })),
        "{called:?}"
    );
}
