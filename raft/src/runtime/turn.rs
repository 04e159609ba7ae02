//! Wakes among the tasks of a group that wake no other thread.
//!
//! The runtime takes a task that wakes itself, and the second task that another wakes, for work to be shared, and wakes a thread for it. On the way of a
//! lone write nobody waits for either, and waking a thread takes longer than what it is woken for. So a task that is woken from within its own poll is
//! polled once more by who polls it; what tells the core that the log has written runs as a part of the core's task; and the core, told by the apply task of what it has applied, comes to it when its thread has nothing else to do.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use host::{BoxFuture, wake_when_idle};

/// How often a task may wake itself within one poll. More would keep others from this thread.
const POLLS_MAX: u32 = 4;

thread_local! {
    /// The task that this thread polls.
    static POLLING: Cell<Polling> = const { Cell::new(Polling { task: ptr::null(), role: Role::Other }) };
}

#[derive(Clone, Copy)]
struct Polling {
    task: *const TurnWaker,
    role: Role,
}

/// What a task does for its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Core,
    Apply,
    /// Tells the core what the log has written.
    Forwarder,
    Other,
}

/// Polls `beside` first, whenever `main` is polled: what it tells `main` needs no wake.
pub(super) fn beside<M: Future + Unpin>(
    beside: Option<BoxFuture<'static, ()>>,
    main: M,
) -> impl Future<Output = M::Output> {
    let (mut beside, mut main) = (beside, main);
    poll_fn(move |cx| {
        if beside
            .as_mut()
            .is_some_and(|beside| beside.as_mut().poll(cx).is_ready())
        {
            beside = None;
        }
        Pin::new(&mut main).poll(cx)
    })
}

/// A task whose wakes go the way that the module describes.
pub(super) struct Turn<F> {
    future: F,
    role: Role,
    waker: Option<(Arc<TurnWaker>, Waker)>,
}

impl<F> Turn<F> {
    pub fn new(role: Role, future: F) -> Turn<F> {
        Turn {
            future,
            role,
            waker: None,
        }
    }
}

/// What a task's own waker is wrapped in.
struct TurnWaker {
    task: Waker,
    role: Role,
    /// Woken from within its own poll.
    again: AtomicBool,
}

impl Wake for TurnWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let polling = POLLING.get();
        if ptr::eq(polling.task, Arc::as_ptr(self)) {
            self.again.store(true, Ordering::Relaxed);
        } else if polling.role == Role::Apply && self.role == Role::Core {
            wake_when_idle(&self.task);
        } else {
            self.task.wake_by_ref();
        }
    }
}

/// Puts back what this thread polled before, even if the poll panics.
struct Restore(Polling);

impl Drop for Restore {
    fn drop(&mut self) {
        POLLING.set(self.0);
    }
}

impl<F: Future + Unpin> Future for Turn<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let known = this.waker.take();
        let known = known.filter(|(turn, _)| turn.task.will_wake(cx.waker()));
        let (turn, waker) = this.waker.insert(known.unwrap_or_else(|| {
            let turn = Arc::new(TurnWaker {
                task: cx.waker().clone(),
                role: this.role,
                again: AtomicBool::new(false),
            });
            let waker = Waker::from(turn.clone());
            (turn, waker)
        }));
        let _restore = Restore(POLLING.replace(Polling {
            task: Arc::as_ptr(turn),
            role: this.role,
        }));
        for _ in 0..POLLS_MAX {
            let polled = Pin::new(&mut this.future).poll(&mut Context::from_waker(waker));
            if polled.is_ready() || !turn.again.swap(false, Ordering::Relaxed) {
                return polled;
            }
        }
        turn.task.wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests have no host that spawns")]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn count() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (count.clone(), Waker::from(count))
    }

    /// Polled, wakes itself so often, one wake a poll.
    struct Restless {
        wakes: u32,
        polls: u32,
    }

    impl Future for Restless {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            self.polls += 1;
            if self.polls <= self.wakes {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        }
    }

    #[test]
    fn a_task_that_wakes_itself_is_polled_again_at_once_but_not_for_ever() {
        for (wakes, polls, woken) in [(0, 1, 0), (1, 2, 0), (3, 4, 0), (4, 4, 1), (100, 4, 1)] {
            let (count, waker) = count();
            let mut turn = Turn::new(Role::Core, Restless { wakes, polls: 0 });
            let polled = Pin::new(&mut turn).poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            assert_eq!(turn.future.polls, polls, "{wakes} wakes");
            assert_eq!(count.0.load(Ordering::Relaxed), woken, "{wakes} wakes");
        }
    }

    /// Keeps its waker for others.
    struct Waits(Arc<std::sync::Mutex<Option<Waker>>>);

    impl Future for Waits {
        type Output = ();

        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            *self.0.lock().unwrap() = Some(cx.waker().clone());
            Poll::Pending
        }
    }

    #[test]
    fn others_wake_a_task_through_the_runtime() {
        let (count, waker) = count();
        let kept = Arc::default();
        let mut turn = Turn::new(Role::Core, Waits(Arc::clone(&kept)));
        assert!(
            Pin::new(&mut turn)
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        let core = kept.lock().unwrap().take().unwrap();
        std::thread::spawn(move || core.wake()).join().unwrap();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn the_core_hears_of_what_is_applied_after_all_others() {
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (told, mut hear) = tokio::sync::mpsc::unbounded_channel();
        let (answered, answer) = tokio::sync::oneshot::channel();
        let (start, started) = tokio::sync::oneshot::channel();
        let core = {
            let order = order.clone();
            async move {
                hear.recv().await.unwrap();
                order.lock().unwrap().push("core");
            }
        };
        let apply = async move {
            started.await.unwrap();
            told.send(()).unwrap();
            answered.send(()).unwrap();
        };
        let session = {
            let order = order.clone();
            async move {
                answer.await.unwrap();
                order.lock().unwrap().push("session");
            }
        };
        let core = tokio::spawn(Turn::new(Role::Core, Box::pin(core)));
        let session = tokio::spawn(session);
        let apply = tokio::spawn(Turn::new(Role::Apply, Box::pin(apply)));
        tokio::task::yield_now().await;
        start.send(()).unwrap();
        for task in [core, session, apply] {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), ["session", "core"]);
    }
}
