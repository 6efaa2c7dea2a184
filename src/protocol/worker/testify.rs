//! What a worker knows, told to a metaserver whose state is lost (`meta/rebuild`).

use super::Worker;
use crate::protocol::effect::WorkerEffect;
use crate::protocol::message::{Testimony, ToMeta};
use crate::protocol::time::Time;
use crate::protocol::types::Configuration;
use crate::protocol::view::{SetEntry, SetState};

impl Worker {
    /// Only a registered server has a standing: any other says nothing.
    pub(super) fn testify(&self, now: Time, round: u64, effects: &mut Vec<WorkerEffect>) {
        if self.me.is_none() {
            return;
        }
        let replicas = self.replicas.iter().map(|it| it.testimony(now, &self.timing));
        let testimony = Testimony {
            round,
            cluster: self.view.cluster,
            version: self.view.version,
            process: self.process,
            servers: self.view.servers.clone(),
            dead: self.view.dead.clone(),
            sets: self.view.sets.iter().map(|entry| self.newest(entry)).collect(),
            replicas: replicas.collect(),
        };
        let message = ToMeta::Testimony(Box::new(testimony));
        effects.push(WorkerEffect::SendMeta { message });
    }

    /// A replica may have heard of an epoch before the view has: from its primary, say.
    fn newest(&self, entry: &SetEntry) -> SetEntry {
        let known = self.replica(entry.set).and_then(|it| it.configuration());
        let epoch = |it: &Configuration| it.epoch;
        if known.map(epoch) > entry.configuration.as_ref().map(epoch) {
            let (set, state) = (entry.set, SetState::Available);
            return SetEntry { set, configuration: known.cloned(), state };
        }
        entry.clone()
    }
}
