//! A server that stops: it has the metaserver take it out of every key set, and exits only when
//! nothing depends on it (rule 9). And one that is to leave some key sets only.

use super::Worker;
use crate::protocol::effect::WorkerEffect;
use crate::protocol::message::ToMeta;
use crate::protocol::time::Time;
use crate::protocol::types::{Epoch, KeySet};

/// A stop under way.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct Leave {
    since: Time,
    asked: Option<Time>,
    reported: bool,
    done: bool,
    /// The metaserver's word that no configuration names this server, nor will.
    released: bool,
}

impl Worker {
    pub(super) fn on_stop(&mut self, now: Time, effects: &mut Vec<WorkerEffect>) {
        if self.leave.is_none() {
            self.leave = Some(Leave {
                since: now,
                asked: None,
                reported: false,
                done: false,
                released: false,
            });
        }
        self.tend_leave(now, effects);
    }

    /// Asks again for what is still missing, and lets the process exit when nothing is.
    pub(super) fn tend_leave(&mut self, now: Time, effects: &mut Vec<WorkerEffect>) {
        let Some(mut leave) = self.leave.take() else { return };
        // A learner may have been added and not know it yet: only the metaserver can tell.
        let held: Vec<KeySet> = self
            .replicas
            .iter()
            .filter(|it| {
                it.is_primary() || it.is_secondary() || (it.is_learner() && !leave.released)
            })
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
        if !leave.reported && now.since(leave.since) >= self.timing.stop {
            leave.reported = true;
            effects.push(WorkerEffect::HeldUp { sets: held });
        }
        self.leave = Some(leave);
    }

    /// Others hold these sets: secondaries ask to be let go, the rest is dropped.
    pub(super) fn on_unplaced(
        &mut self,
        now: Time,
        sets: &[(KeySet, Epoch)],
        effects: &mut Vec<WorkerEffect>,
    ) {
        let mut departs = Vec::new();
        for &(set, epoch) in sets {
            let asks = self.with(set, now, effects, |it, ctx| it.on_unplaced(ctx, epoch));
            departs.extend(asks.unwrap_or(false).then_some((set, epoch)));
        }
        if !departs.is_empty() {
            let message = ToMeta::Depart { sets: departs };
            effects.push(WorkerEffect::SendMeta { message });
        }
    }

    /// The metaserver lets this server go.
    pub(super) fn on_released(&mut self, now: Time, effects: &mut Vec<WorkerEffect>) {
        if let Some(leave) = &mut self.leave {
            leave.released = true;
        }
        self.tend_leave(now, effects);
    }
}
