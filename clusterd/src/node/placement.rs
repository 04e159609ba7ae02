//! Where CLUSTERs run: what ENV's leader does about it. The decisions are [`controller::placement`]'s.

use super::Neighbours;
use crate::env::Env;
use host::Host;
use std::sync::Arc;
use std::time::Duration;

/// How often the leader looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Proposes what is decided while this node leads ENV.
pub async fn run(env: Arc<Env>, host: Host, neighbours: Arc<Neighbours>) {
    loop {
        host.clock.sleep(LOOK_EVERY).await;
        if !env.group().is_leader() {
            continue;
        }
        let _ = &neighbours;
    }
}
