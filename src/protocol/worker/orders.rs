//! What the metaserver says: identity, news of the view, questions and orders.

use super::Worker;
use crate::protocol::effect::{Note, WorkerEffect};
use crate::protocol::message::{RegistrationRefusal, ToMeta, ToServer};
use crate::protocol::replica::{Context, Replica};
use crate::protocol::time::Time;
use crate::protocol::types::{ClusterId, Epoch, KeySet, Member, Op};
use crate::protocol::view::{Update, View};

impl Worker {
    pub(super) fn on_order(
        &mut self,
        now: Time,
        message: ToServer,
        effects: &mut Vec<WorkerEffect>,
    ) {
        self.meta_heard = now;
        match message {
            ToServer::Registered { member, cluster, view } => {
                self.on_registered(now, member, cluster, view, effects);
            }
            ToServer::RegistrationRefused(reason) => self.on_refused(reason, effects),
            ToServer::Update(update) => self.on_update(now, &update, effects),
            ToServer::HeartbeatEcho { .. } => {}
            ToServer::Probe { nonce, suspect, sets } => {
                let mut reports = Vec::with_capacity(sets.len());
                for (set, _) in sets {
                    reports.extend(self.replica(set).map(|it| it.probe(now, suspect)));
                }
                let message = ToMeta::ProbeAnswer { nonce, reports };
                effects.push(WorkerEffect::SendMeta { message });
            }
            ToServer::ConfirmRemoval { nonce, member, sets } => {
                self.confirm_removal(now, nonce, member, &sets, effects, |it, ctx, epoch| {
                    it.confirms_removal(ctx, member, epoch)
                });
            }
            ToServer::ConfirmLeave { nonce, member, sets } => {
                self.confirm_removal(now, nonce, member, &sets, effects, |it, ctx, epoch| {
                    it.lets_go(ctx, member, epoch)
                });
            }
            ToServer::Copy { recovery, learner, sets } => {
                for (set, epoch) in sets {
                    self.with(set, now, effects, |replica, ctx| {
                        replica.on_copy_order(ctx, epoch, learner, recovery);
                    });
                }
            }
            ToServer::Released => self.on_released(now, effects),
            ToServer::Unplaced { sets } => self.on_unplaced(now, &sets, effects),
            ToServer::Testify { round } => self.testify(now, round, effects),
            ToServer::Quiesce => self.on_quiesce(now, effects),
            ToServer::Halt => self.on_halt(effects),
            ToServer::CancelCopy { learner, sets } => {
                for set in sets {
                    self.with(set, now, effects, |it, ctx| it.on_cancel_copy(ctx, learner));
                }
            }
            ToServer::HandOver { to, sets } => {
                for (set, epoch) in sets {
                    self.with(set, now, effects, |it, ctx| it.on_hand_over(ctx, epoch, to));
                }
            }
            ToServer::Resign { sets } => self.on_resign(now, &sets, effects),
            ToServer::Changed { id, set, outcome } => {
                if let Ok(configuration) = &outcome {
                    self.note_configuration(set, configuration);
                }
                self.with(set, now, effects, |it, ctx| it.on_changed(ctx, id, &outcome));
            }
        }
    }

    fn on_resign(&mut self, now: Time, sets: &[(KeySet, Epoch)], effects: &mut Vec<WorkerEffect>) {
        for &(set, epoch) in sets {
            self.with(set, now, effects, |replica, ctx| {
                if replica.epoch() == epoch {
                    replica.resign(ctx);
                }
            });
        }
    }

    fn on_registered(
        &mut self,
        now: Time,
        member: Member,
        cluster: ClusterId,
        view: View,
        effects: &mut Vec<WorkerEffect>,
    ) {
        if self.me.is_some() {
            return;
        }
        self.begin(now, member, view);
        self.view.cluster = cluster;
        self.heartbeat_at = now;
        let view = self.view.clone();
        effects.push(WorkerEffect::Registered { member, cluster, view: view.clone() });
        effects.push(WorkerEffect::ViewChanged { view });
        self.learn_view(now, effects);
        self.end_inheritance();
        self.report_space(effects);
    }

    /// A metaserver that knows less than this server has nothing to say: what is held here may be
    /// the only copy, and is served on.
    fn on_refused(&mut self, reason: RegistrationRefusal, effects: &mut Vec<WorkerEffect>) {
        let ignorant = match reason {
            RegistrationRefusal::MetaserverEmpty | RegistrationRefusal::MetaserverOutdated => true,
            RegistrationRefusal::UnknownServer
            | RegistrationRefusal::OtherCluster { .. }
            | RegistrationRefusal::Superseded => false,
        };
        if ignorant && self.me.is_some() {
            effects.push(WorkerEffect::Note { note: Note::Unheeded { reason } });
        } else {
            effects.push(WorkerEffect::Deposed { reason });
        }
    }

    fn on_update(&mut self, now: Time, update: &Update, effects: &mut Vec<WorkerEffect>) {
        if self.me.is_none() {
            return;
        }
        self.view.merge(update);
        if !(update.sets.is_empty() && update.servers.is_empty() && update.dead.is_empty()) {
            effects.push(WorkerEffect::ViewChanged { view: self.view.clone() });
        }
        for resigned in &update.resigned {
            let (epoch, member) = (resigned.epoch, resigned.member);
            self.with(resigned.set, now, effects, |replica, ctx| {
                replica.on_resignation(ctx, epoch, member);
            });
        }
        for entry in &update.sets {
            if let Some(configuration) = &entry.configuration {
                self.with(entry.set, now, effects, |it, ctx| it.learn(ctx, configuration));
            }
        }
        self.end_inheritance();
        if !update.dead.is_empty() || !update.servers.is_empty() {
            self.with_all(now, effects, |replica, ctx| replica.on_deaths(ctx));
        }
    }

    /// Heirs have adopted what the metaserver knows: from here on they are as any other.
    fn end_inheritance(&mut self) {
        for replica in &mut self.replicas {
            replica.end_inheritance();
        }
    }

    /// Every replica learns what the view says of its set.
    pub(super) fn learn_view(&mut self, now: Time, effects: &mut Vec<WorkerEffect>) {
        let sets: Vec<_> = self
            .view
            .sets
            .iter()
            .filter_map(|it| Some((it.set, it.configuration.clone()?)))
            .collect();
        for (set, configuration) in sets {
            self.with(set, now, effects, |it, ctx| it.learn(ctx, &configuration));
        }
    }

    fn note_configuration(
        &mut self,
        set: KeySet,
        configuration: &crate::protocol::types::Configuration,
    ) {
        let Some(entry) = self.view.sets.get_mut(usize::from(set.0)) else { return };
        if entry.configuration.as_ref().is_none_or(|known| known.epoch < configuration.epoch) {
            entry.configuration = Some(configuration.clone());
        }
    }

    /// Answers for the sets whose primary confirms that it goes on without `member`.
    fn confirm_removal(
        &mut self,
        now: Time,
        nonce: u64,
        member: Member,
        sets: &[(KeySet, Epoch)],
        effects: &mut Vec<WorkerEffect>,
        confirms: impl Fn(&mut Replica, &Context<'_>, Epoch) -> Option<Op>,
    ) {
        let mut confirmed: Vec<(KeySet, Epoch, Op)> = Vec::new();
        for &(set, epoch) in sets {
            let prepared =
                self.with(set, now, effects, |it, ctx| confirms(it, ctx, epoch)).flatten();
            confirmed.extend(prepared.map(|prepared| (set, epoch, prepared)));
        }
        if !confirmed.is_empty() {
            let message = ToMeta::RemovalConfirmed { nonce, member, sets: confirmed };
            effects.push(WorkerEffect::SendMeta { message });
        }
    }
}
