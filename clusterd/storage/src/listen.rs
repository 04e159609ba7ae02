//! Following the state.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use state::{Changes, State};
use tokio::sync::Notify;

use crate::jump::Jump;

/// Events in one queue; beyond that they become one [`Jump`].
pub const LISTENER_EVENTS_MAX: usize = 16384;

/// What happened to the state, in log order.
#[derive(Clone)]
pub enum Event {
    /// One entry.
    Changes(Arc<Changes>),
    /// Many at once.
    Jump(Jump),
}

type Waker = Box<dyn Fn() + Send + Sync>;

/// Everything after the state it was made with. Dropping it ends it.
pub struct Listener {
    queue: Arc<Queue>,
}

/// Which entries a listener wants to hear of.
pub type Interest = fn(&Changes) -> bool;

struct Queue {
    interest: Interest,
    inner: Mutex<Inner>,
    notify: Notify,
}

struct Inner {
    events: VecDeque<Event>,
    /// The state before the first event.
    base: Arc<State>,
    /// The state after the last event.
    newest: Arc<State>,
    waker: Option<Waker>,
}

/// A mutex whose data stays valid if a holder panics: every change to it is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listener {
    /// Takes all events that wait.
    pub fn drain(&mut self) -> Vec<Event> {
        let mut inner = lock(&self.queue.inner);
        inner.base = inner.newest.clone();
        inner.events.drain(..).collect()
    }

    /// Calls `waker` whenever an event arrives, on the publisher's thread: it must not block.
    pub fn set_waker(&mut self, waker: impl Fn() + Send + Sync + 'static) {
        lock(&self.queue.inner).waker = Some(Box::new(waker));
    }

    /// Waits until an event waits. Cancelling it loses nothing.
    pub async fn wait(&mut self) {
        loop {
            let arrived = self.queue.notify.notified();
            if !lock(&self.queue.inner).events.is_empty() {
                return;
            }
            arrived.await;
        }
    }
}

impl Queue {
    fn push(&self, changes: &[Arc<Changes>], newest: &Arc<State>) {
        let mut inner = lock(&self.inner);
        let wanted = changes.iter().filter(|changes| (self.interest)(changes));
        inner.events.extend(wanted.cloned().map(Event::Changes));
        inner.newest = newest.clone();
        if inner.events.len() > LISTENER_EVENTS_MAX {
            inner.collapse();
        }
        if inner.events.is_empty() {
            // Only batches were merged, or nothing of interest happened.
            inner.base = newest.clone();
            return;
        }
        if let Some(waker) = &inner.waker {
            waker();
        }
        drop(inner);
        self.notify.notify_one();
    }

    fn jump(&self, newest: &Arc<State>) {
        let mut inner = lock(&self.inner);
        inner.newest = newest.clone();
        inner.collapse();
        if let Some(waker) = &inner.waker {
            waker();
        }
        drop(inner);
        self.notify.notify_one();
    }
}

impl Inner {
    fn collapse(&mut self) {
        self.events.clear();
        self.events.push_back(Event::Jump(Jump {
            from: self.base.clone(),
            to: self.newest.clone(),
        }));
    }
}

/// All live listeners.
#[derive(Default)]
pub(crate) struct Listeners {
    queues: Mutex<Vec<Weak<Queue>>>,
}

impl Listeners {
    /// Makes a state visible by `store` and tells everybody, as one step.
    pub(crate) fn publish(
        &self,
        changes: &[Arc<Changes>],
        store: impl FnOnce(),
        newest: &Arc<State>,
    ) {
        self.each(store, |queue| queue.push(changes, newest));
    }

    pub(crate) fn jump(&self, store: impl FnOnce(), newest: &Arc<State>) {
        self.each(store, |queue| queue.jump(newest));
    }

    fn each(&self, store: impl FnOnce(), tell: impl Fn(&Queue)) {
        let mut queues = lock(&self.queues);
        store();
        queues.retain(|queue| queue.upgrade().map(|queue| tell(&queue)).is_some());
    }

    pub(crate) fn listen(
        &self,
        interest: Interest,
        load: impl FnOnce() -> Arc<State>,
    ) -> (Arc<State>, Listener) {
        let mut queues = lock(&self.queues);
        let view = load();
        let inner = Inner {
            events: VecDeque::new(),
            base: view.clone(),
            newest: view.clone(),
            waker: None,
        };
        let queue = Arc::new(Queue {
            interest,
            inner: Mutex::new(inner),
            notify: Notify::new(),
        });
        queues.push(Arc::downgrade(&queue));
        (view, Listener { queue })
    }
}
