//! A planned stop of the whole cluster: every server ends as it is, and the metaserver after them.
//!
//! ```text
//!   Quiescing: servers admit nothing, and finish      --- all quiet, or QUIESCE_MAX -->
//!   Ending:    servers sync what they have, and end   --- all ended, or END_MAX -->
//!   Over:      told to whoever asks for a while; then the metaserver ends
//! ```
//!
//! From the request on the metaserver takes no step: no question is asked, no change installed, no
//! process started, so that every server is named by the configurations that it was named by when
//! it comes back, and stands for itself as an heir. In the end it notes who is dead, which is what
//! keeps their roles for them. The stop itself is not durable: a metaserver that dies in the midst
//! and starts again knows nothing of it, and has its servers run.

use std::collections::BTreeSet;

use super::MetaServer;
use crate::protocol::effect::{MetaEffect, MetaInput, MetaNote};
use crate::protocol::message::{
    MetaAnswer, MetaRefusal, StopPhase, StopReport, StopState, ToMeta, ToServer,
};
use crate::protocol::time::{Span, Time};
use crate::protocol::types::{LinkId, ServerId, WorkerId};

/// What is under way may take this long to finish.
const QUIESCE_MAX: Span = Span::from_millis(5_000);

/// Servers that were told to end are waited for this long.
const END_MAX: Span = Span::from_millis(30_000);

/// How long the outcome is told before the metaserver ends, and how much longer it waits for its
/// last word to be durable.
const LINGER: Span = Span::from_millis(1_000);
const DISK_MAX: Span = Span::from_millis(5_000);

/// A stop of the whole cluster under way.
#[derive(Clone, Debug, Hash)]
pub(super) struct Stop {
    /// When it began, or a link went down last.
    link_lost: Time,
    phase: StopPhase,
    /// When this phase began.
    since: Time,
    /// Links of workers where nothing is under way.
    quiet: BTreeSet<LinkId>,
    /// Workers that said that they end.
    halted: BTreeSet<(ServerId, WorkerId)>,
    over: bool,
}

impl MetaServer {
    /// An administrator wants the whole cluster stopped, or to know how far that is.
    pub(super) fn stop_cluster(&mut self, now: Time, accept_loss: bool) -> MetaAnswer {
        if !self.settings.durable && !accept_loss {
            return MetaAnswer::Refused(MetaRefusal::WouldLoseAll);
        }
        if self.stop.is_none() {
            self.stop = Some(Stop {
                link_lost: now,
                phase: StopPhase::Quiescing,
                since: now,
                quiet: BTreeSet::new(),
                halted: BTreeSet::new(),
                over: false,
            });
            let note = MetaNote::StopEntered { phase: StopPhase::Quiescing };
            self.outbox.push_urgent(MetaEffect::Note { note });
            self.tell_all_to_stop();
        }
        MetaAnswer::Stopping(self.stop_report())
    }

    /// Takes in one input while the cluster stops: nothing becomes durable any more.
    pub(super) fn take_in_stopping(&mut self, now: Time, input: MetaInput) -> bool {
        match input {
            MetaInput::Tick => {}
            MetaInput::ServerUp { link, member, worker } => {
                self.links.insert(link, super::registration::Link { member, worker });
                self.tell_to_stop(link);
            }
            MetaInput::ServerDown { link } => {
                self.on_server_down(link);
                if let Some(stop) = &mut self.stop {
                    stop.link_lost = now;
                }
            }
            MetaInput::FromServer { link, message } => self.on_word_of_stop(link, &message),
            MetaInput::Request { ticket, request, admin } => {
                self.on_request(now, ticket, request, admin);
            }
            MetaInput::Persisted { number } => self.outbox.on_persisted(number),
            MetaInput::DiskFull { durable } => self.on_disk_full(durable),
            MetaInput::DiskRoomy => self.on_disk_roomy(),
            MetaInput::ProcessExited { server, process } => {
                self.note_exit(now, server, process);
            }
            MetaInput::ProcessStarted { server, process } => self.on_started(now, server, process),
        }
        true
    }

    fn on_word_of_stop(&mut self, link: LinkId, message: &ToMeta) {
        let Some((member, worker)) = self.links.get(&link).map(|it| (it.member, it.worker)) else {
            return;
        };
        let Some(stop) = &mut self.stop else { return };
        match message {
            ToMeta::Quiet => {
                stop.quiet.insert(link);
            }
            ToMeta::Halted => {
                stop.halted.insert((member.server, worker));
            }
            // What it would lead to is not done any more.
            _ => {}
        }
    }

    /// The next step of the stop, if it is due.
    pub(super) fn tend_stop(&mut self, now: Time) {
        let Some(Stop { phase, since, over, .. }) = &self.stop else { return };
        let (phase, waited, over) = (*phase, now.since(*since), *over);
        match phase {
            StopPhase::Quiescing if self.all_quiet() || waited >= QUIESCE_MAX => {
                self.enter_stop(now, StopPhase::Ending);
                self.tell_all_to_stop();
            }
            StopPhase::Ending if self.all_ended(now) || waited >= END_MAX => {
                self.note_deaths();
                self.enter_stop(now, StopPhase::Over);
            }
            StopPhase::Over if !over && self.may_end(waited) => {
                let servers = self.stop_report().servers.into_iter();
                let left = servers.filter(|it| it.2 != StopState::Ended).map(|it| it.0).collect();
                self.outbox.push_urgent(MetaEffect::MayExit { left });
                if let Some(stop) = &mut self.stop {
                    stop.over = true;
                }
            }
            StopPhase::Quiescing | StopPhase::Ending | StopPhase::Over => {}
        }
    }

    /// The outcome was told for long enough, and is durable if the disk takes it.
    fn may_end(&self, waited: Span) -> bool {
        waited >= LINGER && (self.outbox.is_durable() || waited >= LINGER + DISK_MAX)
    }

    /// Who said that it ends, or is gone by the kernel's word, is dead: when this metaserver starts
    /// again, the roles of those are kept for their heirs.
    fn note_deaths(&mut self) {
        let servers = self.stop_report().servers.into_iter();
        let ended = servers.filter(|(_, _, state)| *state == StopState::Ended);
        let members: Vec<_> = ended.filter_map(|(id, ..)| self.ledger.live_member(id)).collect();
        members.into_iter().for_each(|member| self.mark_dead(member, false));
    }

    fn enter_stop(&mut self, now: Time, phase: StopPhase) {
        if let Some(stop) = &mut self.stop {
            (stop.phase, stop.since) = (phase, now);
        }
        self.outbox.push_urgent(MetaEffect::Note { note: MetaNote::StopEntered { phase } });
    }

    fn tell_all_to_stop(&mut self) {
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        links.into_iter().for_each(|link| self.tell_to_stop(link));
    }

    /// Tells nothing of the durable state, and so waits for no disk.
    fn tell_to_stop(&mut self, link: LinkId) {
        let message = match self.stop.as_ref().map(|stop| stop.phase) {
            None => return,
            Some(StopPhase::Quiescing) => ToServer::Quiesce,
            Some(StopPhase::Ending | StopPhase::Over) => ToServer::Halt,
        };
        self.outbox.push_urgent(MetaEffect::Send { link, message });
    }

    /// Nothing is under way at anyone, as far as anyone is known to run.
    fn all_quiet(&self) -> bool {
        let quiet = |it: &(ServerId, u32, StopState)| it.2 != StopState::Busy;
        self.stop_report().servers.iter().all(quiet)
    }

    /// Nobody runs any more. Whoever has no link yet gets the time to come back to a metaserver
    /// that has just started, or to dial anew.
    fn all_ended(&self, now: Time) -> bool {
        let lost = self.stop.as_ref().map_or(now, |stop| stop.link_lost);
        let timing = self.settings.timing;
        let patience = lost.max(self.settled_at()) + timing.suspect + timing.reconnect;
        self.stop_report().servers.iter().all(|(_, _, state)| match state {
            StopState::Ended => true,
            StopState::Unreached => now >= patience,
            StopState::Busy | StopState::Quiet => false,
        })
    }

    fn stop_report(&self) -> StopReport {
        let phase = self.stop.as_ref().map_or(StopPhase::Quiescing, |stop| stop.phase);
        let server = |&(id, _): &(ServerId, bool)| {
            let process = self.ledger.server(id).map_or(0, |row| row.process);
            (id, self.running_process(id).unwrap_or(process), self.stop_state(id))
        };
        StopReport { phase, servers: self.settings.servers.iter().map(server).collect() }
    }

    fn stop_state(&self, server: ServerId) -> StopState {
        let Some(stop) = &self.stop else { return StopState::Busy };
        let mut links = self.links.iter().filter(|(_, it)| it.member.server == server).peekable();
        if links.peek().is_some() {
            let quiet = links.all(|(link, _)| stop.quiet.contains(link));
            return if quiet { StopState::Quiet } else { StopState::Busy };
        }
        if self.spawning.contains_key(&server) {
            let runs = self.is_spawned(server);
            return if runs { StopState::Busy } else { StopState::Ended };
        }
        let live = self.ledger.server(server).filter(|row| !row.dead);
        let halted = live.is_none_or(|row| {
            let workers = 0..u16::try_from(row.entry.workers.len()).unwrap_or(u16::MAX);
            workers.map(WorkerId).all(|worker| stop.halted.contains(&(server, worker)))
        });
        if halted { StopState::Ended } else { StopState::Unreached }
    }
}
