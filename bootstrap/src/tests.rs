//! Several nodes in one process, which meet over loopback.

use crate::wire::{self, Ask, Candidate, Reply, Said};
use crate::*;
use bytes::Bytes;
use host::{BoxFuture, Host, Rng};
use mesh::ca::{Authority, NodeKey};
use mesh::join::{JoinConnection, JoinHandler, JoinListener, Question, Role};
use mesh::{EnvironmentId, NodeName, QuicConfig, QuicTransport, Transport};
use protocol::Lane;
use repr::NodeId;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Long enough for a loaded machine; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

/// A place for a node: a port, a disk, and what it said to its user.
struct Place {
    socket: UdpSocket,
    disk: PathBuf,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Place {
    fn new(dir: &Path, name: &str) -> Place {
        Place {
            socket: UdpSocket::bind("127.0.0.1:0").unwrap(),
            disk: dir.join(name),
            heard: Arc::default(),
        }
    }

    fn address(&self) -> String {
        self.socket.local_addr().unwrap().to_string()
    }

    fn invitation(&self, others: &[&Place], token: &str, expect: Option<u32>) -> Invitation {
        Invitation {
            addresses: others.iter().map(|place| place.address()).collect(),
            expect,
            token: Some(token.to_owned()),
            advertise: self.address(),
        }
    }

    async fn start(&self, invitation: Invitation) -> Result<Running, JoinFailed> {
        let host = Host::real();
        let heard = self.heard.clone();
        let say: Say = Arc::new(move |text| heard.lock().unwrap().push(text.to_owned()));
        let member = Member::join(&host, &self.disk, &self.socket, invitation, say).await?;
        Ok(self.run(member))
    }

    /// What a server does with a member, as far as other nodes see it.
    fn run(&self, member: Member) -> Running {
        let host = Host::real();
        let identity = member.data_dir.identity();
        let identity = mesh::Identity {
            name: NodeName {
                environment: EnvironmentId(identity.environment_id()),
                node: identity.node_id(),
            },
            generation: identity.generation(),
            incarnation: member.data_dir.starts(),
            process: host.rng.next_u64(),
        };
        let bind = self.socket.local_addr().unwrap();
        let mut config = QuicConfig::new(bind, identity, member.credentials.clone());
        config.timing = mesh::Timing::dev();
        let desk = Desk::new(&host, &member.data_dir).unwrap();
        let socket = self.socket.try_clone().unwrap();
        let transport = QuicTransport::start_on(socket, config, host).unwrap();
        transport.serve_joins(desk.clone());
        for (node, peer) in &member.peers.nodes {
            transport.set_peer(*node, &peer.address);
        }
        Running {
            member,
            transport,
            desk,
        }
    }

    /// Waits until the node has told its user something like this.
    async fn says(&self, words: &str) -> String {
        let wait = async {
            loop {
                let found = self
                    .heard
                    .lock()
                    .unwrap()
                    .iter()
                    .rev()
                    .find(|t| t.contains(words))
                    .cloned();
                match found {
                    Some(text) => return text,
                    None => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        waited.unwrap_or_else(|_| panic!("{words:?} is not among {:?}", self.heard.lock().unwrap()))
    }
}

struct Running {
    member: Member,
    transport: QuicTransport,
    desk: Arc<Desk>,
}

impl Running {
    fn node(&self) -> NodeId {
        self.member.data_dir.identity().node_id()
    }

    fn environment(&self) -> u128 {
        self.member.data_dir.identity().environment_id()
    }

    async fn reaches(&self, other: NodeId) {
        let reached = async {
            let clock = host::RealClock::new();
            let ping = || mesh::ping(&self.transport, &clock, other, Lane::Control, PATIENCE);
            while let Err(error) = ping().await {
                tracing::debug!(%error, "once more");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within(reached).await;
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("in time")
}

fn token() -> String {
    Token::bootstrap(&Host::real()).to_string()
}

async fn three(dir: &Path, token: &str) -> ([Place; 3], [Running; 3]) {
    let places = ["a", "b", "c"].map(|name| Place::new(dir, name));
    let [a, b, c] = &places;
    let line = |place: &Place| place.invitation(&[a, b, c], token, Some(3));
    let started = async { tokio::try_join!(a.start(line(a)), b.start(line(b)), c.start(line(c))) };
    let (x, y, z) = within(started).await.unwrap();
    (places, [x, y, z])
}

#[tokio::test(flavor = "multi_thread")]
async fn founders_with_the_same_line_become_one_environment() {
    let dir = tempfile::tempdir().unwrap();
    let ([a, ..], running) = three(dir.path(), &token()).await;
    let mut nodes: Vec<NodeId> = running.iter().map(Running::node).collect();
    nodes.sort();
    assert_eq!(nodes, [NodeId(1), NodeId(2), NodeId(3)]);
    for one in &running {
        assert_eq!(one.environment(), running[0].environment());
        assert_eq!(one.member.peers, running[0].member.peers);
        assert_eq!(one.member.authority.is_some(), one.node() == NodeId(1));
        let voters = one.member.found_with.as_ref().unwrap();
        assert_eq!(voters.len(), 3);
        assert_eq!(
            voters[&one.node()],
            one.member.peers.nodes[&one.node()].address
        );
        for other in running.iter().filter(|other| other.node() != one.node()) {
            one.reaches(other.node()).await;
        }
    }
    // A directory that holds an environment ignores what is said about others.
    let environment = running[0].environment();
    drop(running);
    let nonsense = a.invitation(&[&a], "nonsense", Some(9));
    let again = a.start(nonsense).await.unwrap();
    assert_eq!(again.environment(), environment);
}

/// Any of them may be started again at any moment, until all have become members.
#[tokio::test(flavor = "multi_thread")]
async fn crashes_on_the_way_do_not_make_a_second_environment() {
    for seed in 0..2 {
        let rng = host::sim::SimRng::new(seed);
        let dir = tempfile::tempdir().unwrap();
        let token = token();
        let places = ["a", "b", "c"].map(|name| Place::new(dir.path(), name));
        let [a, b, c] = &places;
        let life = async |place: &Place, lives: Vec<u64>| {
            for life in lives {
                let line = place.invitation(&[a, b, c], &token, Some(3));
                let started = place.start(line);
                match tokio::time::timeout(Duration::from_millis(life), started).await {
                    Ok(Err(error)) => panic!("seed {seed}: {error}"),
                    // It crashes as a member too.
                    Ok(Ok(running)) => drop(running),
                    Err(_) => {}
                }
            }
            let line = place.invitation(&[a, b, c], &token, Some(3));
            place.start(line).await.unwrap()
        };
        let lives = || (0..3).map(|_| rng.below(700)).collect::<Vec<u64>>();
        let lived = [lives(), lives(), lives()];
        let [x, y, z] = lived;
        let (x, y, z) = within(async { tokio::join!(life(a, x), life(b, y), life(c, z)) }).await;
        let environments = [&x, &y, &z].map(Running::environment);
        assert!(
            environments.iter().all(|e| *e == environments[0]),
            "seed {seed}"
        );
        x.reaches(y.node()).await;
        z.reaches(x.node()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founder_whose_disk_was_emptied_is_refused_with_the_old_token() {
    let dir = tempfile::tempdir().unwrap();
    let token = token();
    let (places, running) = three(dir.path(), &token).await;
    let [a, b, c] = &places;
    let [x, y, z] = running;
    drop(z);
    let wiped = Place {
        socket: c.socket.try_clone().unwrap(),
        disk: dir.path().join("empty"),
        heard: Arc::default(),
    };
    let line = wiped.invitation(&[a, b, c], &token, Some(3));
    let refused = within(wiped.start(line)).await.err().unwrap();
    let text = refused.to_string();
    assert!(text.contains("the token is void"), "{text}");
    assert!(text.contains("its disk was emptied"), "{text}");
    x.reaches(y.node()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_founder_too_many_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let token = token();
    let places = ["a", "b", "c", "d"].map(|name| Place::new(dir.path(), name));
    let [a, b, c, d] = &places;
    let line = |place: &Place| place.invitation(&[a, b, c, d], &token, Some(3));
    // Those who are refused end; three who had agreed before the fourth came become members, or wait for one that was refused too early.
    let refused = async |place: &Place| match place.start(line(place)).await {
        Err(error) => error,
        Ok(_running) => std::future::pending().await,
    };
    let refusal = within(async {
        tokio::select! {
            refusal = refused(a) => refusal,
            refusal = refused(b) => refusal,
            refusal = refused(c) => refusal,
            refusal = refused(d) => refusal,
        }
    });
    let text = refusal.await.to_string();
    let words = [
        "but --bootstrap-expect is 3",
        "without this node",
        "is void",
    ];
    assert!(words.iter().any(|words| text.contains(words)), "{text}");
    let formed = places
        .iter()
        .filter(|place| place.disk.join("identity.toml").exists());
    let environment = |place: &Place| {
        let member = Member::open(&Host::real(), &place.disk, "x:1").unwrap();
        member.data_dir.identity().environment_id()
    };
    let formed: Vec<u128> = formed.map(environment).collect();
    assert!(
        formed.len() <= 3 && formed.iter().all(|e| *e == formed[0]),
        "{formed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_named_on_both_sides_and_the_right_one_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (right, wrong) = (token(), token());
    let places = ["a", "b"].map(|name| Place::new(dir.path(), name));
    let [a, b] = &places;
    let line = |place: &Place, token: &str| place.invitation(&[a, b], token, Some(2));
    let mut first = Box::pin(a.start(line(a, &right)));
    let mut second = Box::pin(b.start(line(b, &wrong)));
    let words = "its token is not the one of this node";
    let both = async { tokio::join!(a.says(words), b.says(words)) };
    tokio::select! {
        _ = &mut first => panic!("it cannot be a member"),
        _ = &mut second => panic!("it cannot be a member"),
        (said, _) = both => assert!(said.contains(&b.address()), "{said}"),
    }
    drop(second);
    let started = async { tokio::try_join!(first, b.start(line(b, &right))) };
    let (x, y) = within(started).await.unwrap();
    assert_eq!(x.environment(), y.environment());
    // A latecomer with another token hears of it as well.
    let late = Place::new(dir.path(), "late");
    let line = late.invitation(&[a, b], &wrong, Some(2));
    tokio::select! {
        _ = late.start(line) => panic!("it cannot be a member"),
        said = late.says("formed with another token") => assert!(said.contains("clusterd token new")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_agreed_does_not_start_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let token = token();
    let places = ["a", "b"].map(|name| Place::new(dir.path(), name));
    let [a, b] = &places;
    let line = |place: &Place| place.invitation(&[a, b], &token, Some(2));
    // Whichever has the larger key stops when it has agreed: the other one is gone before it makes the environment.
    let agreed = |place: &Place| place.disk.join("mesh/joining.toml").exists();
    let mut first = Box::pin(a.start(line(a)));
    let mut second = Box::pin(b.start(line(b)));
    let both = async {
        while !agreed(a) && !agreed(b) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = both => {}
        _ = &mut first => {}
        _ = &mut second => {}
    }
    drop((first, second));
    let place = if agreed(a) { a } else { b };
    let host = Host::real();
    if place.disk.join("identity.toml").exists() {
        // It was faster than this test looked.
        return;
    }
    let alone = Member::open(&host, &place.disk, "x:1");
    assert!(matches!(alone, Err(OpenError::Joining { .. })));
    let other = place.invitation(&[a, b], &self::token(), Some(2));
    let other = place.start(other).await;
    assert!(matches!(other, Err(JoinFailed::OtherPromise { .. })));
    let more = place.invitation(&[a, b], &token, Some(3));
    let more = place.start(more).await;
    assert!(matches!(more, Err(JoinFailed::OtherPromise { .. })));
    let started = async { tokio::try_join!(a.start(line(a)), b.start(line(b))) };
    within(started).await.unwrap();
}

#[tokio::test]
async fn lines_that_make_no_sense_are_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path(), "a");
    let host = Host::real();
    let bootstrap = token();
    let (join, _) = Token::join(&host, b"x");
    let mut none = place.invitation(&[&place], "", Some(3));
    let refused = place.start(none.clone()).await.err().unwrap();
    assert!(
        refused.to_string().contains("clusterd token new"),
        "{refused}"
    );
    none.token = None;
    let cases = [
        (none, "clusterd token new"),
        (
            place.invitation(&[&place], "bootstrap_12", Some(3)),
            "copy it again",
        ),
        (
            place.invitation(&[&place], "12", Some(3)),
            "no token of clusterd",
        ),
        (
            place.invitation(&[&place], &bootstrap, None),
            "--bootstrap-expect",
        ),
        (
            place.invitation(&[&place], &join.to_string(), Some(3)),
            "for founders",
        ),
    ];
    for (line, words) in cases {
        let refused = place.start(line).await.err().unwrap().to_string();
        assert!(refused.contains(words), "{refused}");
    }
    assert!(!place.disk.join("mesh").exists());
}

/// ENV of a test: tokens that let one node in.
struct Tokens {
    environment: EnvironmentId,
    authority: Authority,
    state: Mutex<TokenState>,
}

#[derive(Default)]
struct TokenState {
    /// Whom each has let in.
    used: BTreeMap<[u8; 32], Option<Vec<u8>>>,
    expired: Vec<[u8; 32]>,
    /// How often it had to decide.
    asked: usize,
    nodes: Vec<Vec<u8>>,
    peers: Vec<(NodeId, Peer)>,
}

impl Admission for Tokens {
    fn admit(&self, applicant: Applicant) -> BoxFuture<'static, Result<Admitted, Refused>> {
        Box::pin(std::future::ready(self.admit_now(&applicant)))
    }
}

impl Tokens {
    /// ENV of a node that founded it.
    fn of(running: &Running) -> Arc<Tokens> {
        let environment = EnvironmentId(running.environment());
        let key = running.member.authority.clone().unwrap();
        let authority = Authority::restore(environment, &key.key_pem, &key.certificate);
        let peers = running.member.peers.nodes.clone().into_iter().collect();
        Arc::new(Tokens {
            environment,
            authority: authority.unwrap(),
            state: Mutex::new(TokenState {
                peers,
                ..TokenState::default()
            }),
        })
    }

    fn new_token(&self) -> String {
        let (token, hash) = Token::join(&Host::real(), self.authority.certificate());
        self.state.lock().unwrap().used.insert(hash, None);
        token.to_string()
    }

    fn admit_now(&self, applicant: &Applicant) -> Result<Admitted, Refused> {
        let never = |reason: &str| Err(Refused::Never(reason.to_owned()));
        let mut state = self.state.lock().unwrap();
        state.asked += 1;
        let known = state
            .used
            .keys()
            .copied()
            .find(|hash| applicant.knows(hash));
        let Some(hash) = known else {
            return never("the token is not known");
        };
        if state.expired.contains(&hash) {
            return never("the token has expired");
        }
        match state
            .used
            .insert(hash, Some(applicant.public_key.clone()))
            .flatten()
        {
            Some(key) if key != applicant.public_key => {
                state.used.insert(hash, Some(key));
                return never("the token was used by another node");
            }
            Some(_) => {}
            None => state.nodes.push(applicant.public_key.clone()),
        }
        let at = state
            .nodes
            .iter()
            .position(|key| *key == applicant.public_key);
        let node = NodeId(2 + at.unwrap() as u64);
        let name = NodeName {
            environment: self.environment,
            node,
        };
        let certificate = self.authority.issue(name, &applicant.public_key);
        let me = Peer {
            address: applicant.address.clone(),
            public_key: applicant.public_key.clone(),
            certificate: None,
        };
        let peers = state.peers.iter().cloned().chain([(node, me)]).collect();
        Ok(Admitted {
            environment: self.environment.0,
            generation: 1,
            recovery: 0,
            node,
            authority: self.authority.certificate().to_vec(),
            certificate: certificate.map_err(|error| Refused::Later(error.to_string()))?,
            founders: false,
            peers,
        })
    }
}

fn alone(dir: &Path, name: &str) -> (Place, Running) {
    let place = Place::new(dir, name);
    let member = Member::open(&Host::real(), &place.disk, &place.address()).unwrap();
    let running = place.run(member);
    (place, running)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lets_one_node_into_an_environment_that_exists() {
    let dir = tempfile::tempdir().unwrap();
    let (a, x) = alone(dir.path(), "a");
    let tokens = Tokens::of(&x);
    let token = tokens.new_token();
    let b = Place::new(dir.path(), "b");
    // It waits until the node has found its environment.
    let line = b.invitation(&[&a], &token, None);
    let open = async {
        b.says("not found its environment yet").await;
        x.desk.open(tokens.clone());
    };
    let entered = async { tokio::join!(b.start(line), open).0 };
    let y = within(entered).await.unwrap();
    assert_eq!((y.environment(), y.node()), (x.environment(), NodeId(2)));
    assert!(y.member.found_with.is_none() && y.member.authority.is_none());
    x.transport.set_peer(NodeId(2), &b.address());
    x.reaches(NodeId(2)).await;
    y.reaches(NodeId(1)).await;
    // The same token again: for the same disk, whose answer was lost, but for no other.
    drop(y);
    std::fs::remove_file(b.disk.join("identity.toml")).unwrap();
    std::fs::remove_file(b.disk.join("starts.toml")).unwrap();
    let stranded = Member::open(&Host::real(), &b.disk, "x:1");
    assert!(matches!(stranded, Err(OpenError::Joining { .. })));
    let again = within(b.start(b.invitation(&[&a], &token, None)))
        .await
        .unwrap();
    assert_eq!(again.node(), NodeId(2));
    let c = Place::new(dir.path(), "c");
    let line = c.invitation(&[&a], &token, None);
    let refused = within(c.start(line)).await.err().unwrap().to_string();
    assert!(refused.contains("used by another node"), "{refused}");
    // A refused node is nobody's, and may do something else.
    assert!(Member::open(&Host::real(), &c.disk, "x:1").is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_unknown_and_foreign_tokens_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ((a, x), (b, y)) = (alone(dir.path(), "a"), alone(dir.path(), "b"));
    let (of_a, of_b) = (Tokens::of(&x), Tokens::of(&y));
    x.desk.open(of_a.clone());
    y.desk.open(of_b.clone());
    let expired = of_a.new_token();
    {
        let mut state = of_a.state.lock().unwrap();
        let hashes: Vec<_> = state.used.keys().copied().collect();
        state.expired = hashes;
    }
    let (unknown, _) = Token::join(&Host::real(), of_a.authority.certificate());
    let c = Place::new(dir.path(), "c");
    for (token, words) in [
        (expired, "the token has expired"),
        (unknown.to_string(), "the token is not known"),
        (of_b.new_token(), "for another environment"),
    ] {
        let line = c.invitation(&[&a], &token, None);
        let refused = within(c.start(line)).await.err().unwrap().to_string();
        assert!(refused.contains(words), "{refused}");
    }
    // Of several addresses one that is right is enough.
    let line = c.invitation(&[&a, &b], &of_b.new_token(), None);
    let z = within(c.start(line)).await.unwrap();
    assert_eq!(z.environment(), y.environment());
}

/// A connection to the door of `place`, from a place of its own.
async fn knocks(place: &Place) -> (JoinListener, JoinConnection) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let closed = |_: Question| -> BoxFuture<'static, Result<Bytes, String>> {
        Box::pin(std::future::ready(Err("nobody".to_owned())))
    };
    let key = NodeKey::generate().unwrap();
    let listener = JoinListener::start(socket, &key, &Host::real(), Arc::new(closed)).unwrap();
    let connection = listener.dial(&place.address()).await.unwrap();
    (listener, connection)
}

/// What is answered to somebody who knows the secret of this hash, and wants in with this key.
async fn asks_for(connection: &JoinConnection, hash: &[u8], public_key: &[u8]) -> Reply {
    let candidate = Candidate {
        public_key: public_key.to_vec(),
        address: "127.0.0.1:1".to_owned(),
    };
    let said = Said::new(&candidate, connection.binding(), hash, Role::Asking);
    let answer = connection.ask(&wire::encode(&Ask::Join(said))).await;
    wire::decode(&answer.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_cannot_be_used_does_not_use_up_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let (a, x) = alone(dir.path(), "a");
    let tokens = Tokens::of(&x);
    x.desk.open(tokens.clone());
    let token = tokens.new_token();
    let hash = *tokens.state.lock().unwrap().used.keys().next().unwrap();
    let (_listener, connection) = knocks(&a).await;
    // It looks like a point, and lies on no curve.
    let reply = asks_for(&connection, &hash, &[4; 65]).await;
    let Reply::Refused(reason) = reply else {
        panic!("{reply:?}");
    };
    assert!(reason.contains("public key"), "{reason}");
    let b = Place::new(dir.path(), "b");
    let line = b.invitation(&[&a], &token, None);
    let y = within(b.start(line)).await.unwrap();
    assert_eq!(y.node(), NodeId(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_cannot_make_the_environment_decide_without_limit() {
    let dir = tempfile::tempdir().unwrap();
    let (a, x) = alone(dir.path(), "a");
    let tokens = Tokens::of(&x);
    x.desk.open(tokens.clone());
    let key = NodeKey::generate().unwrap();
    let began = std::time::Instant::now();
    let (mut refused, mut told_to_wait) = (0, 0);
    while refused + told_to_wait < 100 {
        let (_listener, connection) = knocks(&a).await;
        for _ in 0..4 {
            match asks_for(&connection, b"a guess", key.public_key()).await {
                Reply::Refused(_) => refused += 1,
                Reply::Busy(reason) if reason.contains("try again") => told_to_wait += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    let fair = 16 + began.elapsed().as_millis() / 250 + 1;
    let asked = tokens.state.lock().unwrap().asked;
    assert_eq!(asked, refused);
    assert!((16..=fair).contains(&(asked as u128)), "{asked}");
    assert!(told_to_wait > 0);
}

/// Says that it is certified by an authority, and is not.
struct Liar {
    authority: Vec<u8>,
}

impl JoinHandler for Liar {
    fn answer(&self, question: Question) -> BoxFuture<'static, Result<Bytes, String>> {
        let reply = match wire::decode(&question.body) {
            Ok(Ask::Authority) => Reply::Authority(self.authority.clone()),
            _ => panic!("the secret's proof must not be sent to a stranger"),
        };
        Box::pin(std::future::ready(Ok(wire::encode(&reply).into())))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_believes_only_whom_the_authority_of_its_token_certifies() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create(EnvironmentId(7)).unwrap();
    let (token, _) = Token::join(&Host::real(), authority.certificate());
    let place = Place::new(dir.path(), "liar");
    let key = NodeKey::generate().unwrap();
    let authority = authority.certificate().to_vec();
    let socket = place.socket.try_clone().unwrap();
    let liar = Arc::new(Liar { authority });
    let _listener = JoinListener::start(socket, &key, &Host::real(), liar).unwrap();
    let b = Place::new(dir.path(), "b");
    let line = b.invitation(&[&place], &token.to_string(), None);
    let refused = within(b.start(line)).await.err().unwrap().to_string();
    assert!(
        refused.contains("no node of the token's environment"),
        "{refused}"
    );
}
