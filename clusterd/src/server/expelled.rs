//! The end of a node that was removed, or that its environment was recovered without: it must not go on answering from what it had.

use crate::env::Env;
use anyhow::anyhow;
use host::Host;
use state::NodeStatus;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often the node looks at what it knows itself.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How a node learns that it was removed: a peer refuses it for that reason, or its own state says so.
#[derive(Clone)]
pub(super) struct Expelled {
    env: Arc<Env>,
    host: Host,
    said: watch::Receiver<Option<String>>,
}

impl Expelled {
    pub fn new(env: &Arc<Env>, host: &Host, said: watch::Receiver<Option<String>>) -> Expelled {
        Expelled {
            env: Arc::clone(env),
            host: host.clone(),
            said,
        }
    }

    /// Waits until it is known; what to tell the user.
    pub async fn wait(&mut self) -> anyhow::Error {
        let (env, host) = (Arc::clone(&self.env), self.host.clone());
        let own = async move {
            while !is_gone(&env) {
                host.clock.sleep(LOOK_EVERY).await;
            }
        };
        let said = async {
            match self.said.wait_for(Option::is_some).await {
                Ok(said) => said.clone().unwrap_or_default(),
                // The transport is gone: the process is ending.
                Err(_) => std::future::pending().await,
            }
        };
        let why = tokio::select! {
            biased;
            why = said => why,
            () = own => "the environment's log says so".to_owned(),
        };
        advice(self.env.node(), &why)
    }
}

/// What to do with a node that was removed.
pub(super) fn advice(node: repr::NodeId, why: &str) -> anyhow::Error {
    anyhow!(
        "node {node} is no part of its environment any more, and serves nothing ({why}). \
         What its data directory holds is of no use: empty it, and let it join as a new node with a new token (clusterd token new --sql-addr, of another node)"
    )
}

/// Whether this node's own state says that it was removed. As long as it is a member of ENV's group it may be needed for the entry that ends its membership.
fn is_gone(env: &Env) -> bool {
    let state = env.storage().view();
    let own = state.nodes().get(&env.node());
    let removed = own.is_some_and(|node| node.status == NodeStatus::Removed);
    let members = env.group().status();
    removed && !members.borrow().members.contains_key(&env.node().0)
}
