//! Messages of a node to itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use host::{BoxFuture, Host};

use crate::registry::Registry;
use crate::{CallError, Caller, Message, Request, Stream};

/// Handled here, under the same rules as by a peer.
pub(crate) fn call(
    registry: &Registry,
    host: &Host,
    me: Caller,
    message: Message,
    timeout: Duration,
) -> BoxFuture<'static, Result<Bytes, CallError>> {
    let to = me.node;
    let mut request = request(me, message);
    request.deadline = Some(host.clock.now() + timeout);
    let answer = registry.call(request);
    let clock = host.clock.clone();
    Box::pin(async move {
        tokio::select! {
            biased;
            answer = answer => answer.map_err(|refusal| CallError::Refused { to, refusal }),
            () = clock.sleep(timeout) => Err(CallError::Deadline { to }),
        }
    })
}

pub(crate) fn send(registry: &Registry, host: &Host, me: Caller, message: Message) {
    let answer = registry.call(request(me, message));
    let work = async move {
        // Nobody waits for it.
        let _ = answer.await;
    };
    host.spawn.spawn("mesh-local-message", Box::pin(work));
}

pub(crate) fn open(registry: &Registry, host: &Host, me: Caller, message: Message) -> Stream {
    let (ours, theirs) = Stream::pair();
    if let Some(work) = registry.open(request(me, message), theirs) {
        host.spawn.spawn("mesh-local-stream", work);
    }
    ours
}

fn request(from: Caller, message: Message) -> Request {
    let Message { lane, kind, body } = message;
    Request {
        from,
        lane,
        kind,
        body,
        deadline: None,
    }
}

/// The registry is shared with whoever delivers from outside.
pub(crate) type SharedRegistry = Arc<Registry>;
