//! What waits for one worker: orders and table changes in one order, peeks beside them.

use crate::feed::{TableChanges, TableSnapshot};
use crate::peek::PeekTask;
use plan::EvalError;
use protocol::compute::{Numbered, PeekId};
use repr::{GlobalId, ShardId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

/// What all workers receive in the same order.
#[derive(Clone)]
pub enum Order {
    Command(Arc<RoutedCommand>),
    Tables(Arc<TableChanges>),
    /// The replica needs more memory than it may use.
    OutOfMemory {
        id: GlobalId,
        error: EvalError,
    },
    /// Nobody waits for the peek any more.
    Forget(PeekId),
    Shutdown,
}

/// A command, with the snapshots of the tables that it reads: taken once, so that all workers see the same.
pub struct RoutedCommand {
    pub numbered: Numbered,
    pub snapshots: Result<Snapshots, EvalError>,
}

pub type Snapshots = BTreeMap<ShardId, Arc<dyn TableSnapshot>>;

#[derive(Default)]
struct Peeks {
    waiting: Vec<PeekTask>,
    /// The worker has ended: a peek that is dropped is refused, and nobody waits for ever.
    closed: bool,
}

#[derive(Default)]
pub struct Mailbox {
    orders: Mutex<VecDeque<Order>>,
    peeks: Mutex<Peeks>,
    /// The worker sleeps or is about to.
    parked: AtomicBool,
    thread: OnceLock<Thread>,
}

/// A mutex whose data stays valid if a holder panics.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mailbox {
    /// Names the thread to wake.
    pub fn attach(&self, thread: Thread) {
        self.thread.get_or_init(|| thread);
    }

    pub fn push_order(&self, order: Order) {
        lock(&self.orders).push_back(order);
        self.wake();
    }

    /// Leaves an order for when the worker wakes up by itself; it takes the place of the changes before it, which must have had no writes.
    pub fn replace_tables(&self, order: Order) {
        let mut orders = lock(&self.orders);
        if let Some(Order::Tables(_)) = orders.back() {
            orders.pop_back();
        }
        orders.push_back(order);
    }

    pub fn push_peek(&self, peek: PeekTask) {
        let mut peeks = lock(&self.peeks);
        if peeks.closed {
            // Its reply runs when it is dropped: not under the lock.
            drop(peeks);
            return drop(peek);
        }
        peeks.waiting.push(peek);
        drop(peeks);
        self.wake();
    }

    fn wake(&self) {
        if self.parked.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    pub fn next_order(&self) -> Option<Order> {
        lock(&self.orders).pop_front()
    }

    /// Moves all waiting peeks to `into`.
    pub fn take_peeks(&self, into: &mut Vec<PeekTask>) {
        into.append(&mut lock(&self.peeks).waiting);
    }

    /// The worker ends: peeks that wait, and those that come later, are refused.
    pub fn close(&self) {
        let mut peeks = lock(&self.peeks);
        peeks.closed = true;
        let waiting = std::mem::take(&mut peeks.waiting);
        drop(peeks);
        drop(waiting);
    }

    /// Announces that the worker is about to sleep. False: there is mail.
    pub fn prepare_to_park(&self) -> bool {
        self.parked.store(true, Ordering::SeqCst);
        let empty = lock(&self.orders).is_empty() && lock(&self.peeks).waiting.is_empty();
        if !empty {
            self.parked.store(false, Ordering::SeqCst);
        }
        empty
    }

    pub fn unparked(&self) {
        self.parked.store(false, Ordering::SeqCst);
    }
}
