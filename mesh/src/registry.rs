//! Who handles what arrives.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use host::BoxFuture;
use protocol::{Kind, Lane};

use crate::{CallHandler, Refusal, Request, Stream, StreamHandler};

/// The handlers of one node. Pings are answered here.
#[derive(Default)]
pub(crate) struct Registry {
    calls: RwLock<HashMap<(Lane, Kind), Arc<dyn CallHandler>>>,
    streams: RwLock<HashMap<(Lane, Kind), Arc<dyn StreamHandler>>>,
}

impl Registry {
    pub(crate) fn serve_calls(&self, lane: Lane, kind: Kind, handler: Arc<dyn CallHandler>) {
        let mut calls = self.calls.write().unwrap_or_else(PoisonError::into_inner);
        calls.insert((lane, kind), handler);
    }

    pub(crate) fn serve_streams(&self, lane: Lane, kind: Kind, handler: Arc<dyn StreamHandler>) {
        let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
        streams.insert((lane, kind), handler);
    }

    pub(crate) fn call(&self, request: Request) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        let (lane, kind) = (request.lane, request.kind);
        if kind == Kind::PING {
            return Box::pin(std::future::ready(Ok(request.body)));
        }
        let calls = self.calls.read().unwrap_or_else(PoisonError::into_inner);
        let handler = calls.get(&(lane, kind)).cloned();
        drop(calls);
        match handler {
            Some(handler) => handler.call(request),
            None => Box::pin(std::future::ready(Err(Refusal::NoHandler { lane, kind }))),
        }
    }

    /// `None` if nobody serves such streams; the stream is refused then.
    pub(crate) fn open(&self, request: Request, stream: Stream) -> Option<BoxFuture<'static, ()>> {
        let (lane, kind) = (request.lane, request.kind);
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        let handler = streams.get(&(lane, kind)).cloned();
        drop(streams);
        match handler {
            Some(handler) => Some(handler.open(request, stream)),
            None => {
                stream.refuse(Refusal::NoHandler { lane, kind });
                None
            }
        }
    }
}
