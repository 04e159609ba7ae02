//! Letting nodes in: ENV's log decides, this node answers.

use crate::env::Env;
use bootstrap::{Admission, Admitted, Applicant, Peer, Refused};
use host::BoxFuture;
use mesh::ca::Authority;
use mesh::{EnvironmentId, Generation, NodeName};
use repr::NodeId;
use state::command::Command;
use state::{NodeOp, NodeStatus, Outcome, State};
use std::sync::Arc;

/// Other nodes may come in at the same moment and take the id that was meant for this one.
const TRIES: usize = 64;

/// Lets nodes in that have a token of this environment.
pub(super) struct EnvAdmission {
    pub env: Arc<Env>,
    pub generation: Generation,
}

impl Admission for EnvAdmission {
    fn admit(&self, applicant: Applicant) -> BoxFuture<'static, Result<Admitted, Refused>> {
        let (env, generation) = (Arc::clone(&self.env), self.generation);
        Box::pin(async move {
            // A token that was made on another node is known here afterwards.
            env.read_index().await.map_err(later)?;
            let node = admit(&env, &applicant).await?;
            answer(&env.storage().view(), node, generation, &applicant)
        })
    }
}

fn later(error: impl std::fmt::Display) -> Refused {
    Refused::Later(format!("the environment cannot decide now: {error}"))
}

/// The id of the applicant, who is a node afterwards.
async fn admit(env: &Env, applicant: &Applicant) -> Result<NodeId, Refused> {
    let hash = {
        let state = env.storage().view();
        let mut hashes = state.tokens().keys();
        hashes.find(|hash| applicant.knows(hash)).copied()
    };
    let unknown = || Refused::Never("the environment does not know the token".to_owned());
    let hash = hash.ok_or_else(unknown)?;
    let mut reason = String::new();
    for _ in 0..TRIES {
        let state = env.storage().view();
        let known = state.node_by_key(&applicant.public_key).map(|n| n.id);
        let node = known.unwrap_or_else(|| state.next_node_id());
        drop(state);
        let admit = Command::Node(NodeOp::Admit {
            node,
            public_key: applicant.public_key.clone(),
            mesh_addr: applicant.address.clone(),
            token_hash: Some(hash),
            wall_us: env.wall_us(),
        });
        let outcomes = env.propose(&admit).await.map_err(later)?;
        let refused = outcomes.into_iter().find_map(|outcome| match outcome {
            Outcome::Invalid { reason } => Some(reason),
            _ => None,
        });
        match refused {
            None => return Ok(node),
            Some(why) => reason = why,
        }
        let next = env.storage().view().next_node_id();
        if known.is_some() || next == node {
            return Err(Refused::Never(reason));
        }
    }
    Err(Refused::Later(reason))
}

/// What the node is told, which is a node now.
fn answer(
    state: &State,
    node: NodeId,
    generation: Generation,
    applicant: &Applicant,
) -> Result<Admitted, Refused> {
    let authority = state.authority();
    let authority =
        authority.ok_or_else(|| later("its founder has not handed over the key yet"))?;
    let environment = EnvironmentId(state.environment());
    let signer = Authority::restore(environment, &authority.key_pem, &authority.certificate);
    let name = NodeName { environment, node };
    let certificate = signer.and_then(|signer| signer.issue(name, &applicant.public_key));
    let certificate = certificate.map_err(|error| Refused::Never(error.to_string()))?;
    let present = state.nodes().values().filter(|node| match node.status {
        NodeStatus::Active | NodeStatus::Draining => true,
        NodeStatus::Removed => false,
    });
    let peers = present.map(|node| {
        let peer = Peer {
            address: node.mesh_addr.clone(),
            public_key: node.public_key.clone(),
            certificate: None,
        };
        (node.id, peer)
    });
    Ok(Admitted {
        environment: environment.0,
        generation: generation.number,
        recovery: generation.nonce,
        node,
        authority: authority.certificate.clone(),
        certificate,
        founders: false,
        peers: peers.collect(),
    })
}
