//! Peeks that wait for their command, their arrangement or their time.

use super::ComputeWorker;
use crate::mailbox::Mailbox;
use crate::peek::{MfpCache, PeekTask, answer};
use crate::types::T;
use protocol::compute::{Epoch, PeekId, Refusal};
use repr::GlobalId;
use std::collections::BTreeMap;

pub struct Peeks {
    arrived: Vec<PeekTask>,
    /// Waiting for a command that they follow.
    early: Vec<PeekTask>,
    /// By export: waiting until it is complete at their time.
    waiting: BTreeMap<GlobalId, Vec<PeekTask>>,
    waiting_max: usize,
    cache: MfpCache,
    /// A command was processed or a trace may have moved since waiting peeks were last looked at.
    count: usize,
}

impl Peeks {
    pub fn new(waiting_max: usize) -> Self {
        Peeks {
            arrived: vec![],
            early: vec![],
            waiting: BTreeMap::new(),
            waiting_max,
            cache: MfpCache::default(),
            count: 0,
        }
    }

    pub fn collect(&mut self, mailbox: &Mailbox) {
        mailbox.take_peeks(&mut self.arrived);
    }

    pub fn nothing_new(&self) -> bool {
        self.arrived.is_empty()
    }

    /// The earliest time that an accepted peek of the export still needs.
    pub fn owed(&self, id: GlobalId) -> Option<T> {
        self.waiting
            .get(&id)
            .and_then(|tasks| tasks.iter().map(|task| task.peek.ts).min())
    }

    pub fn refuse_all(&mut self, refusal: Refusal) {
        let waiting = std::mem::take(&mut self.waiting).into_values().flatten();
        for task in self
            .arrived
            .drain(..)
            .chain(self.early.drain(..))
            .chain(waiting)
        {
            task.refuse(refusal);
        }
    }

    pub fn refuse_older(&mut self, epoch: Epoch) {
        self.refuse_where(Refusal::StaleEpoch, |task| task.peek.epoch < epoch);
    }

    /// What was sent before the command `seq` and has not come was lost with a connection.
    pub fn refuse_unfollowed(&mut self, seq: u64) {
        for task in self.early.extract_if(.., |task| task.peek.after < seq) {
            task.refuse(Refusal::StaleEpoch);
        }
    }

    pub fn refuse_before(&mut self, id: GlobalId, frontier: T) {
        self.refuse_where(Refusal::HoldLost, |task| {
            task.peek.target.id == id && task.peek.ts < frontier
        });
    }

    pub fn cancel(&mut self, id: PeekId, mailbox: &Mailbox) {
        self.collect(mailbox);
        self.refuse_where(Refusal::Cancelled, |task| task.peek.id == id);
    }

    /// The export is gone.
    pub fn forget(&mut self, id: GlobalId) {
        for task in self.waiting.remove(&id).unwrap_or_default() {
            task.refuse(Refusal::UnknownId);
        }
        self.cache.forget(id);
    }

    fn refuse_where(&mut self, refusal: Refusal, condition: impl Fn(&PeekTask) -> bool) {
        let lists = [&mut self.arrived, &mut self.early]
            .into_iter()
            .chain(self.waiting.values_mut());
        for list in lists {
            for task in list.extract_if(.., |task| condition(task)) {
                task.refuse(refusal);
            }
        }
        self.waiting.retain(|_, tasks| !tasks.is_empty());
    }
}

impl ComputeWorker {
    /// Sorts out what arrived and answers what can be answered.
    pub(super) fn answer_peeks(&mut self) {
        let mut early = std::mem::take(&mut self.peeks.early);
        let arrived = std::mem::take(&mut self.peeks.arrived);
        for task in early.drain(..).chain(arrived) {
            self.accept(task);
        }
        let ids: Vec<GlobalId> = self.peeks.waiting.keys().copied().collect();
        for id in ids {
            self.answer_ready(id);
        }
        self.peeks.count =
            self.peeks.early.len() + self.peeks.waiting.values().map(Vec::len).sum::<usize>();
    }

    fn accept(&mut self, task: PeekTask) {
        let peek = &task.peek;
        if peek.epoch < self.epoch {
            return task.refuse(Refusal::StaleEpoch);
        }
        let early = peek.epoch > self.epoch || peek.after > self.processed;
        if early && !planted::is("h34") {
            if self.peeks.early.len() >= self.peeks.waiting_max {
                return task.refuse(Refusal::Busy);
            }
            self.peeks.early.push(task);
            return;
        }
        let id = peek.target.id;
        match self.traces.get_mut(id) {
            None => task.refuse(Refusal::UnknownId),
            Some(managed) if peek.ts < managed.since => task.refuse(Refusal::HoldLost),
            Some(_) if self.peeks.count >= self.peeks.waiting_max => task.refuse(Refusal::Busy),
            Some(_) => self.peeks.waiting.entry(id).or_default().push(task),
        }
    }

    /// Answers the peeks of one export whose time it is complete at.
    fn answer_ready(&mut self, id: GlobalId) {
        let Some(tasks) = self.peeks.waiting.get_mut(&id) else {
            return;
        };
        let Some(managed) = self.traces.get_mut(id) else {
            return self.peeks.forget(id);
        };
        let upper = managed.trace.upper();
        let since = managed.since;
        let ready: Vec<PeekTask> = tasks
            .extract_if(.., |task| {
                upper.is_none_or(|upper| task.peek.ts < upper) || planted::is("h6")
            })
            .collect();
        if tasks.is_empty() {
            self.peeks.waiting.remove(&id);
        }
        if ready.is_empty() {
            return;
        }
        // What an accepted peek needs is held since it was accepted.
        assert!(
            ready.iter().all(|task| since <= task.peek.ts),
            "an accepted peek's time is held"
        );
        answer(id, &mut managed.trace, ready, &mut self.peeks.cache);
    }
}
