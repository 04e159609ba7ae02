//! Busy time of tasks that sessions share: how long each was on a core, in how many steps, and its longest step.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use prometheus::core::{Collector, Desc};
use prometheus::{CounterVec, GaugeVec, IntCounterVec, Opts, Registry, proto::MetricFamily};

/// Accumulates the busy time of one named task. Cloning shares the account; two clock reads and three atomic
/// operations per step.
#[derive(Clone, Debug)]
pub struct BusyMeter {
    account: Arc<Account>,
}

#[derive(Debug)]
struct Account {
    task: &'static str,
    busy_nanos: AtomicU64,
    steps: AtomicU64,
    longest_nanos: AtomicU64,
}

thread_local! {
    /// How long this thread has waited in [`waiting`].
    static WAITED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Runs `wait`, which blocks this thread for something other than a core, such as a disk. It makes the steps around it longer, but not busier.
pub fn waiting<T>(wait: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = wait();
    WAITED.set(WAITED.get() + start.elapsed());
    result
}

impl BusyMeter {
    /// The meter of the task `task`; the same name gives the same account.
    pub fn named(task: &'static str) -> BusyMeter {
        let mut accounts = accounts().lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = accounts.iter().find(|a| a.task == task) {
            return BusyMeter {
                account: account.clone(),
            };
        }
        let zero = || AtomicU64::new(0);
        let account = Arc::new(Account {
            task,
            busy_nanos: zero(),
            steps: zero(),
            longest_nanos: zero(),
        });
        accounts.push(account.clone());
        BusyMeter { account }
    }

    /// Starts a step, which ends when the guard is dropped.
    pub fn start(&self) -> BusyGuard<'_> {
        BusyGuard {
            meter: self,
            start: Instant::now(),
            waited: WAITED.get(),
        }
    }

    /// Runs `work` as one step.
    pub fn step<T>(&self, work: impl FnOnce() -> T) -> T {
        let _guard = self.start();
        work()
    }

    /// Meters every poll of `future` as one step: waiting does not count.
    pub fn meter<F: Future>(&self, future: F) -> Metered<F> {
        Metered {
            meter: self.clone(),
            future: Box::pin(future),
        }
    }

    /// Adds one step of length `busy`.
    pub fn add(&self, busy: Duration) {
        self.add_step(busy, busy);
    }

    fn add_step(&self, length: Duration, busy: Duration) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.account.busy_nanos.fetch_add(nanos(busy), Relaxed);
        self.account.steps.fetch_add(1, Relaxed);
        self.account.longest_nanos.fetch_max(nanos(length), Relaxed);
    }

    /// Total busy time so far.
    pub fn busy(&self) -> Duration {
        Duration::from_nanos(self.account.busy_nanos.load(Relaxed))
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.account.steps.load(Relaxed)
    }

    /// The longest step so far.
    pub fn longest_step(&self) -> Duration {
        Duration::from_nanos(self.account.longest_nanos.load(Relaxed))
    }
}

/// Ends its step when dropped.
#[must_use]
pub struct BusyGuard<'a> {
    meter: &'a BusyMeter,
    start: Instant,
    /// What the thread had waited before.
    waited: Duration,
}

impl Drop for BusyGuard<'_> {
    fn drop(&mut self) {
        let length = self.start.elapsed();
        let waited = WAITED.get().saturating_sub(self.waited);
        self.meter.add_step(length, length.saturating_sub(waited));
    }
}

/// A future whose polls are metered.
pub struct Metered<F> {
    meter: BusyMeter,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let _guard = this.meter.start();
        this.future.as_mut().poll(cx)
    }
}

fn accounts() -> &'static Mutex<Vec<Arc<Account>>> {
    static ACCOUNTS: OnceLock<Mutex<Vec<Arc<Account>>>> = OnceLock::new();
    ACCOUNTS.get_or_init(Default::default)
}

/// Adds the three families of all meters to `registry`.
pub(super) fn register(registry: &Registry) {
    if let Err(error) = registry.register(Box::new(BusyCollector::new())) {
        panic!("metrics of busy tasks: {error}");
    }
}

struct BusyCollector {
    busy: CounterVec,
    steps: IntCounterVec,
    longest: GaugeVec,
}

impl BusyCollector {
    fn new() -> BusyCollector {
        let busy = Opts::new(
            "clusterd_task_busy_seconds_total",
            "Time a shared task spent on a core",
        );
        let steps = Opts::new("clusterd_task_steps_total", "Steps a shared task has taken");
        let longest = Opts::new(
            "clusterd_task_longest_step_seconds",
            "Longest single step of a shared task",
        );
        let names = "the three names are well-formed";
        BusyCollector {
            busy: CounterVec::new(busy, &["task"]).expect(names),
            steps: IntCounterVec::new(steps, &["task"]).expect(names),
            longest: GaugeVec::new(longest, &["task"]).expect(names),
        }
    }

    fn refresh(&self) {
        for account in accounts()
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            let meter = BusyMeter {
                account: account.clone(),
            };
            let labels = &[account.task];
            let busy = self.busy.with_label_values(labels);
            busy.inc_by((meter.busy().as_secs_f64() - busy.get()).max(0.0));
            let steps = self.steps.with_label_values(labels);
            steps.inc_by(meter.steps().saturating_sub(steps.get()));
            self.longest
                .with_label_values(labels)
                .set(meter.longest_step().as_secs_f64());
        }
    }
}

impl Collector for BusyCollector {
    fn desc(&self) -> Vec<&Desc> {
        [self.busy.desc(), self.steps.desc(), self.longest.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.refresh();
        [
            self.busy.collect(),
            self.steps.collect(),
            self.longest.collect(),
        ]
        .concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_makes_a_step_long_but_not_busy() {
        let meter = BusyMeter::named("test-waiting");
        let (_sender, never) = std::sync::mpsc::channel::<()>();
        let timed_out = meter.step(|| waiting(|| never.recv_timeout(Duration::from_millis(20))));
        assert!(timed_out.is_err());
        assert!(meter.longest_step() >= Duration::from_millis(20));
        assert!(meter.busy() + Duration::from_millis(20) <= meter.longest_step());
    }

    #[test]
    fn steps_add_up_and_are_exported() {
        let meter = BusyMeter::named("test-task");
        meter.add(Duration::from_millis(2));
        BusyMeter::named("test-task").add(Duration::from_millis(3));
        assert_eq!(meter.busy(), Duration::from_millis(5));
        assert_eq!(
            (meter.steps(), meter.longest_step()),
            (2, Duration::from_millis(3))
        );
        for _ in 0..2 {
            let text = crate::metrics::render();
            assert!(
                text.contains("clusterd_task_busy_seconds_total{task=\"test-task\"} 0.005"),
                "{text}"
            );
            assert!(
                text.contains("clusterd_task_steps_total{task=\"test-task\"} 2"),
                "{text}"
            );
            assert!(
                text.contains("clusterd_task_longest_step_seconds{task=\"test-task\"} 0.003"),
                "{text}"
            );
        }
    }
}
