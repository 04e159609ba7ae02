//! The two ports of a node, from before it serves.
//!
//! A start may have to wait for others or read a long log. Meanwhile clients hear at once that the node is starting, as Postgres tells them, and a balancer's probe gets 503:
//! nobody hangs in a backlog.

use crate::adapter::{Adapter, pgwire};
use crate::http;
use host::Host;
use mesh::Faults;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Pause after a connection that could not be accepted: out of file descriptors, most likely.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The adapter, once there is one. Cloning shares it.
pub(crate) type Serving = Arc<OnceLock<Arc<Adapter>>>;

pub(super) struct Front {
    pub sql: SocketAddr,
    pub http: SocketAddr,
    serving: Serving,
}

impl Front {
    /// Accepts on both ports from now on, until the server stops.
    pub fn open(
        host: &Host,
        sql: TcpListener,
        http: TcpListener,
        faults: Option<Arc<Faults>>,
        stopping: watch::Receiver<bool>,
    ) -> std::io::Result<Front> {
        let serving = Serving::default();
        let front = Front {
            sql: sql.local_addr()?,
            http: http.local_addr()?,
            serving: Arc::clone(&serving),
        };
        let mut router = http::router(Arc::clone(&serving));
        if let Some(faults) = faults {
            tracing::warn!(
                "fault injection is on: whoever reaches the HTTP port can cut this node off"
            );
            router = router.merge(http::faults::router(faults));
        }
        let accept = accept(host.clone(), serving, sql, stopping);
        drop(host.spawn.spawn("accept-sql", Box::pin(accept)));
        let answer = async move {
            if let Err(error) = axum::serve(http, router).await {
                tracing::error!(%error, "the HTTP port stopped");
            }
        };
        drop(host.spawn.spawn("http", Box::pin(answer)));
        Ok(front)
    }

    /// Statements are served from now on.
    pub fn serve(&self, adapter: Arc<Adapter>) {
        // There is one server in a process, and it starts once.
        let _ = self.serving.set(adapter);
    }
}

async fn accept(
    host: Host,
    serving: Serving,
    listener: TcpListener,
    mut stopping: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let session = pgwire::serve(serving.get().cloned(), stream);
                drop(host.spawn.spawn("session", Box::pin(session)));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                host.clock.sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}
