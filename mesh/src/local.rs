//! Messages of a node to itself.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use host::{BoxFuture, Host};

use crate::registry::Registry;
use crate::{CallError, Caller, Message, Refusal, Request, Stream};

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
    let answer = answer(registry, request);
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
    let answer = answer(registry, request(me, message));
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

/// A panic of the handler is its own affair, as it is to a peer.
fn answer(
    registry: &Registry,
    request: Request,
) -> impl Future<Output = Result<Bytes, Refusal>> + Send + 'static + use<> {
    let mut handled = catch_unwind(AssertUnwindSafe(|| registry.call(request)))
        .unwrap_or_else(|_| Box::pin(std::future::ready(Err(Refusal::Abandoned))));
    std::future::poll_fn(move |context| {
        let polled = catch_unwind(AssertUnwindSafe(|| handled.as_mut().poll(context)));
        polled.unwrap_or(Poll::Ready(Err(Refusal::Abandoned)))
    })
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
