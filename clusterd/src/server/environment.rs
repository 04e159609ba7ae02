//! From the data directory to a node that is part of its environment.

use super::{election, fatal_hook};
use crate::config::Config;
use crate::env::{Env, Machine, merge};
use crate::node::{Groups, MeshPeers};
use anyhow::{Context, Result, anyhow, bail};
use bootstrap::{AuthorityKey, Member, REPAIR};
use host::Host;
use mesh::{CallError, Transport};
use protocol::Lane;
use raft::{ENV_GROUP, GroupClass, GroupConfig, RaftGroup, Wal, WalConfig};
use repr::NodeId;
use state::command::{Command, Gateway};
use state::state::FIRST_NODE;
use state::{Authority, Node, NodeOp, NodeStatus, Outcome, State};
use std::sync::Arc;
use std::time::Duration;

/// Pause before ENV is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How often the user is told that nothing has been found yet.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Another node has this long to say that it is there.
const LOST_WITHIN: Duration = Duration::from_secs(1);

/// What the others are told of this node.
pub(super) struct Place {
    pub gateway: Gateway,
    pub mesh_addr: String,
    pub sql_addr: String,
    pub http_addr: String,
}

/// Opens the log, and this node's membership in ENV.
pub(super) async fn open(
    config: &Config,
    host: &Host,
    member: &Member,
    transport: &Arc<dyn Transport>,
    groups: &Groups,
) -> Result<(Arc<Wal>, Arc<Env>)> {
    let data_dir = &member.data_dir;
    let wal = open_wal(host, member).await?;
    let mut group = GroupConfig::new(
        ENV_GROUP,
        data_dir.identity().node,
        GroupClass::Env,
        data_dir.snapshots().join("env"),
    );
    group.election = election(config);
    for (node, peer) in &member.peers.nodes {
        if *node != transport.node() {
            transport.set_peer(*node, &peer.address);
        }
    }
    let (machine, state, storage) = Machine::new();
    let marks = machine.marks();
    let merge = merge(state, storage.clone(), host.clone());
    drop(host.spawn.spawn("merge", Box::pin(merge)));
    let peers = MeshPeers::new(Arc::clone(transport));
    let group =
        RaftGroup::start(group, host, Arc::clone(&wal), machine, peers, fatal_hook()).await?;
    groups.join(ENV_GROUP, group.responder());
    if let Some(voters) = &member.found_with {
        let voters = voters.iter().map(|(node, address)| {
            let addr = address.clone();
            (node.0, raft::Member { addr })
        });
        group.found(voters.collect()).await?;
    }
    let env = Env::new(
        group,
        storage,
        marks,
        host.clone(),
        Arc::clone(transport),
        election(config),
    );
    Ok((wal, env))
}

async fn open_wal(host: &Host, member: &Member) -> Result<Arc<Wal>> {
    let config = WalConfig {
        expected: member.data_dir.identity().formed,
        ..WalConfig::new(member.data_dir.wal())
    };
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let opener = host.clone();
    // Reading the log may take a while: not on a thread of the runtime.
    let open = move || {
        let _ = sender.send(Wal::open(&opener, config, fatal_hook()));
    };
    host.spawn.spawn_blocking("wal-open", Box::new(open));
    Ok(receiver.await.context("opening the log")??)
}

/// Waits for ENV, makes the environment if this is its first start, and announces this life of the node.
pub(super) async fn introduce(
    env: &Arc<Env>,
    host: &Host,
    member: &mut Member,
    place: Place,
) -> Result<()> {
    await_leader(env, host).await;
    if !env.storage().view().initialized() {
        initialize(env, host, member).await?;
    }
    check_environment(&env.storage().view(), member)?;
    if let Some(authority) = member.authority.clone() {
        admit_founders(env, host, member, authority).await?;
        member.forget_authority(host)?;
    }
    let Place {
        gateway,
        mesh_addr,
        sql_addr,
        http_addr,
    } = place;
    await_admission(env, gateway.node).await?;
    propose(env, host, &Command::GatewayStarted { gateway }).await?;
    let started = NodeOp::Started {
        node: gateway.node,
        incarnation: gateway.incarnation,
        mesh_addr,
        sql_addr,
        http_addr,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    accepted(propose(env, host, &Command::Node(started)).await?)?;
    if member.data_dir.identity().recovered {
        remove_the_lost(env, host, gateway.node).await?;
        member.data_dir.forget_recovery(host)?;
    }
    // From here on writes are acknowledged: a directory that loses its log is not formed anew.
    member.data_dir.mark_formed(host)?;
    Ok(())
}

/// Waits until a quorum can be reached, however long that takes: this node cannot do anything useful before.
async fn await_leader(env: &Env, host: &Host) {
    let began = host.clock.now();
    let mut asked: Option<Duration> = None;
    while let Err(error) = env.read_index().await {
        let waited = host.clock.now().since(began);
        // The first time too: a node that was removed has nobody who would tell it by himself.
        if asked.is_none_or(|asked| waited > asked + SAY_EVERY) {
            asked = Some(waited);
            let others = look_for_members(env, host).await;
            let reason = error.detail.as_deref().unwrap_or_default();
            tracing::warn!(
                waited_s = waited.as_secs(),
                reason,
                others,
                "waiting for a majority of the environment's voters"
            );
        }
        host.clock.sleep(LOOK_AGAIN).await;
    }
}

/// Why the other members that this node knows cannot be reached.
async fn look_for_members(env: &Env, host: &Host) -> String {
    let members = env.group().status().borrow().members.clone();
    let others = members.into_keys().map(NodeId);
    let asks = others.filter(|id| *id != env.node()).map(|id| async move {
        let (transport, clock) = (env.transport(), &*host.clock);
        let asked = mesh::ping(&**transport, clock, id, Lane::Control, LOST_WITHIN).await;
        match asked {
            // Whoever answers something is there.
            Ok(_) | Err(CallError::Refused { .. }) => None,
            Err(error) => Some(error.to_string()),
        }
    });
    let failures = futures::future::join_all(asks).await;
    failures
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("; ")
}

/// The first entry. Each founder proposes it; the first counts.
async fn initialize(env: &Env, host: &Host, member: &Member) -> Result<()> {
    let identity = member.data_dir.identity();
    if identity.formed {
        bail!(
            "{} belongs to environment {}, which has been in use, but its log and snapshots hold nothing of it: acknowledged writes would be lost. {REPAIR}",
            member.data_dir.path().display(),
            identity.environment
        );
    }
    let mut superusers = vec!["clusterd".to_owned()];
    superusers.extend(os_user().filter(|user| user != "clusterd"));
    let init = Command::Init {
        environment: identity.environment_id(),
        generation: identity.generation,
        wall_us: env.wall_us(),
        superusers,
    };
    propose(env, host, &init).await.map(drop)
}

fn check_environment(state: &State, member: &Member) -> Result<()> {
    let identity = member.data_dir.identity();
    if state.environment() == identity.environment_id() {
        return Ok(());
    }
    bail!(
        "{} holds the log of environment {:032x} but says it belongs to {}: files of two environments are mixed. {REPAIR}",
        member.data_dir.path().display(),
        state.environment(),
        identity.environment
    )
}

/// Hands ENV what the node that made the environment knows: the authority's key, and whom it has certified.
async fn admit_founders(
    env: &Env,
    host: &Host,
    member: &Member,
    authority: AuthorityKey,
) -> Result<()> {
    let AuthorityKey {
        certificate,
        key_pem,
    } = authority;
    let authority = Authority {
        certificate,
        key_pem,
    };
    propose(env, host, &Command::Authority(authority)).await?;
    for (node, peer) in &member.peers.nodes {
        if env.storage().view().nodes().contains_key(node) {
            continue;
        }
        let admit = NodeOp::Admit {
            node: *node,
            public_key: peer.public_key.clone(),
            mesh_addr: peer.address.clone(),
            token_hash: None,
            wall_us: env.wall_us(),
        };
        accepted(propose(env, host, &Command::Node(admit)).await?)?;
    }
    Ok(())
}

/// After a recovery: the other nodes are gone for ever. Their old generation, or another recovery's, is refused by the mesh already.
async fn remove_the_lost(env: &Env, host: &Host, own: NodeId) -> Result<()> {
    // It may have been draining, and one active node has to remain.
    let stay = NodeOp::SetStatus {
        node: own,
        status: NodeStatus::Active,
    };
    accepted(propose(env, host, &Command::Node(stay)).await?)?;
    let state = env.storage().view();
    let others = state.nodes().values().filter(|node| node.id != own);
    let lost: Vec<_> = others
        .filter(|node| node.status != NodeStatus::Removed)
        .collect();
    look_for(env, host, &lost).await;
    for lost in lost {
        tracing::warn!(node = %lost.id, "a node that was lost is removed from the environment");
        let remove = NodeOp::SetStatus {
            node: lost.id,
            status: NodeStatus::Removed,
        };
        accepted(propose(env, host, &Command::Node(remove)).await?)?;
    }
    Ok(())
}

/// Tells whoever should be lost and is not that it is not part of this environment any more, and the user why.
async fn look_for(env: &Env, host: &Host, lost: &[&Arc<Node>]) {
    let asks = lost.iter().map(|node| async move {
        let (transport, clock) = (env.transport(), &*host.clock);
        let asked = mesh::ping(&**transport, clock, node.id, Lane::Control, LOST_WITHIN).await;
        if let Err(CallError::Rejected { reason, .. }) = asked {
            tracing::warn!(node = %node.id, reason, "a node that should be lost is still there");
        }
    });
    futures::future::join_all(asks).await;
}

/// Proposes until it is known to be done. What a start proposes may be proposed twice.
async fn propose(env: &Env, host: &Host, command: &Command) -> Result<Vec<Outcome>> {
    loop {
        let error = match env.propose(command).await {
            Ok(outcomes) => return Ok(outcomes),
            Err(error) => error,
        };
        let passing = ["57P03", "08007"].contains(&error.sqlstate.as_str());
        if !passing {
            let detail = error.detail.clone().unwrap_or_default();
            return Err(anyhow!("{error}: {detail}"));
        }
        await_leader(env, host).await;
    }
}

/// The node that made the environment tells ENV whom it has certified, before it starts itself; the other founders may be here before that. None of them starts until all of
/// them are nodes: afterwards ENV lets nobody in without a token.
async fn await_admission(env: &Env, node: NodeId) -> Result<()> {
    let admitted = |state: &State| {
        let founder = state.nodes().get(&FIRST_NODE);
        let formed = node == FIRST_NODE || founder.is_some_and(|node| node.incarnation > 0);
        formed && state.nodes().contains_key(&node)
    };
    let mut applied = env.storage().watch_applied();
    while !admitted(&env.storage().view()) {
        applied.changed().await.context("waiting to be admitted")?;
    }
    Ok(())
}

/// Whether the environment takes this node as it is.
fn accepted(outcomes: Vec<Outcome>) -> Result<()> {
    for outcome in outcomes {
        if let Outcome::Invalid { reason } = outcome {
            bail!("the environment refuses this node: {reason}");
        }
    }
    Ok(())
}

/// The name of the user who runs the process.
fn os_user() -> Option<String> {
    ["USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .filter(|name| !name.is_empty())
}
