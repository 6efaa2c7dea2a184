//! A server that stops: it hands its primaries over, has itself removed as secondary, and exits
//! only when nothing depends on it (rule 9).

use std::collections::BTreeMap;

use super::Worker;
use crate::protocol::effect::WorkerEffect;
use crate::protocol::message::{ChangeId, ChangeKind, ToMeta};
use crate::protocol::time::Time;
use crate::protocol::types::{Epoch, KeySet};

/// A stop under way.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct Leave {
    since: Time,
    asked: Option<Time>,
    reported: bool,
    done: bool,
    /// Requests to be removed as secondary, by set.
    removals: BTreeMap<KeySet, (Epoch, ChangeId, Time)>,
}

impl Worker {
    pub(super) fn on_stop(&mut self, now: Time, effects: &mut Vec<WorkerEffect>) {
        if self.leave.is_none() {
            self.leave = Some(Leave {
                since: now,
                asked: None,
                reported: false,
                done: false,
                removals: BTreeMap::new(),
            });
        }
        self.tend_leave(now, effects);
    }

    /// Asks again for what is still missing, and lets the process exit when nothing is.
    pub(super) fn tend_leave(&mut self, now: Time, effects: &mut Vec<WorkerEffect>) {
        let Some(mut leave) = self.leave.take() else { return };
        let held: Vec<KeySet> = self
            .replicas
            .iter()
            .filter(|it| it.is_primary() || it.is_secondary())
            .map(|it| it.set())
            .collect();
        if held.is_empty() {
            if !leave.done {
                leave.done = true;
                if self.me.is_some() && self.meta_up {
                    effects.push(WorkerEffect::SendMeta { message: ToMeta::Left });
                }
                effects.push(WorkerEffect::MayExit);
            }
            self.leave = Some(leave);
            return;
        }
        let retry = self.timing.retry;
        if self.meta_up && leave.asked.is_none_or(|asked| now.since(asked) >= retry) {
            leave.asked = Some(now);
            effects.push(WorkerEffect::SendMeta { message: ToMeta::Leaving });
        }
        self.ask_removals(now, &mut leave, effects);
        if !leave.reported && now.since(leave.since) >= self.timing.stop {
            leave.reported = true;
            effects.push(WorkerEffect::HeldUp { sets: held });
        }
        self.leave = Some(leave);
    }

    fn ask_removals(&mut self, now: Time, leave: &mut Leave, effects: &mut Vec<WorkerEffect>) {
        let Some(member) = self.me.filter(|_| self.meta_up) else { return };
        for replica in self.replicas.iter().filter(|it| it.is_secondary()) {
            let (set, epoch) = (replica.set(), replica.epoch());
            let known = leave.removals.get(&set).filter(|it| it.0 == epoch);
            let id = match known {
                Some(&(_, _, sent)) if now.since(sent) < self.timing.retry => continue,
                Some(&(_, id, _)) => id,
                None => {
                    self.numbers.change += 1;
                    ChangeId { member, number: self.numbers.change }
                }
            };
            leave.removals.insert(set, (epoch, id, now));
            let kind = ChangeKind::RemoveMe;
            effects
                .push(WorkerEffect::SendMeta { message: ToMeta::Change { id, set, epoch, kind } });
        }
    }

    /// A refusal is final for its id: the next request has another.
    pub(super) fn on_removal_answer(&mut self, set: KeySet, id: ChangeId, refused: bool) {
        if let Some(leave) = &mut self.leave
            && leave.removals.get(&set).is_some_and(|it| it.1 == id)
            && refused
        {
            leave.removals.remove(&set);
        }
    }
}
