//! A worker in a planned stop of the whole cluster: it admits nothing more, finishes what is under
//! way, and ends as it is, named by every configuration that names it.

use super::Worker;
use crate::protocol::effect::WorkerEffect;
use crate::protocol::message::ToMeta;
use crate::protocol::time::Time;

/// What the metaserver told this worker to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum Halt {
    /// Admit nothing, and say once that nothing is under way.
    Quiescing { said: bool },
    /// End once all is durable.
    Ending,
    /// It is, and was said: nothing is heard any more.
    Ended,
}

impl Worker {
    pub(super) fn on_quiesce(&mut self, now: Time, effects: &mut Vec<WorkerEffect>) {
        if matches!(self.halt, Some(Halt::Ending | Halt::Ended)) {
            return;
        }
        self.halt = Some(Halt::Quiescing { said: false });
        self.with_all(now, effects, |replica, ctx| replica.turn_queue_away(ctx));
        self.tend_halt(effects);
    }

    /// Says that nothing is under way any more, when that is so.
    pub(super) fn tend_halt(&mut self, effects: &mut Vec<WorkerEffect>) {
        let waits = self.halt == Some(Halt::Quiescing { said: false });
        if waits && self.meta_up && self.replicas.iter().all(|it| it.owes_nothing()) {
            self.halt = Some(Halt::Quiescing { said: true });
            effects.push(WorkerEffect::SendMeta { message: ToMeta::Quiet });
        }
    }

    pub(super) fn on_halt(&mut self, effects: &mut Vec<WorkerEffect>) {
        if self.halt != Some(Halt::Ending) {
            self.halt = Some(Halt::Ending);
            effects.push(WorkerEffect::Settle);
        }
    }

    /// Everything that was acknowledged, and all else that the engine had, is on the disk.
    pub(super) fn on_settled(&mut self, effects: &mut Vec<WorkerEffect>) {
        if self.halt != Some(Halt::Ending) {
            return;
        }
        self.halt = Some(Halt::Ended);
        if self.meta_up {
            effects.push(WorkerEffect::SendMeta { message: ToMeta::Halted });
        }
        effects.push(WorkerEffect::MayExit);
    }
}
