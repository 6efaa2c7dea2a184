//! Spawning: processes for the servers that the metaserver starts itself.
//!
//! A process is started only where none is known to run and no registered incarnation could be
//! alive: silence starts nothing. One that dies young is started again after a growing wait.

use super::MetaServer;
use crate::protocol::effect::MetaEffect;
use crate::protocol::message::Registration;
use crate::protocol::time::{Span, Time};
use crate::protocol::types::ServerId;

/// A process that dies within this time of its start died young.
const YOUNG: Span = Span::from_millis(5_000);

/// A process that died young is started again at once; the wait after the second time, and the
/// longest.
const WAIT_FIRST: Span = Span::from_millis(1_000);
const WAIT_MAX: Span = Span::from_millis(30_000);

/// What is known of a spawned server's process.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Spawning {
    phase: Phase,
    /// The last process that is gone: what it still said is not heard.
    gone: Option<u32>,
    /// Processes that died young, in a row.
    died_young: u32,
}

#[derive(Clone, Copy, Debug, Hash)]
enum Phase {
    /// No process is known; none is started before this time.
    Idle {
        after: Time,
    },
    /// Told to start one, at this time.
    Asked {
        at: Time,
    },
    Running {
        process: u32,
        since: Time,
    },
}

impl Default for Phase {
    fn default() -> Phase {
        Phase::Idle { after: Time(0) }
    }
}

impl Spawning {
    /// Whether the registering process is already known to be gone.
    pub(super) fn is_gone(&self, registration: &Registration) -> bool {
        let running = match self.phase {
            Phase::Running { process, since: _ } => Some(process),
            Phase::Idle { .. } | Phase::Asked { .. } => None,
        };
        self.gone == Some(registration.process) && running != Some(registration.process)
    }

    fn fail(&mut self, now: Time, started: Time) {
        let young = now.since(started) < YOUNG;
        self.died_young = if young { (self.died_young + 1).min(16) } else { 0 };
        let wait = match self.died_young {
            0 | 1 => Span::ZERO,
            count => WAIT_FIRST.scaled(1 << (count - 2), 1).min(WAIT_MAX),
        };
        self.phase = Phase::Idle { after: now + wait };
    }
}

impl MetaServer {
    pub(super) fn spawn_servers(&mut self, now: Time) {
        if !self.fresh && now < self.settled_at() {
            return;
        }
        for (&server, spawning) in &mut self.spawning {
            let Phase::Idle { after } = spawning.phase else { continue };
            if now >= after && self.ledger.live_member(server).is_none() {
                spawning.phase = Phase::Asked { at: now };
                self.outbox.push(MetaEffect::Spawn { server });
            }
        }
    }

    /// A process runs: started just now, or found running at the start.
    pub(super) fn on_started(&mut self, now: Time, server: ServerId, process: u32) {
        if let Some(spawning) = self.spawning.get_mut(&server) {
            spawning.phase = Phase::Running { process, since: now };
        }
    }

    /// Whether a process was started for `server`, or is being started, and is not gone.
    pub(super) fn is_spawned(&self, server: ServerId) -> bool {
        let phase = self.spawning.get(&server).map(|it| it.phase);
        matches!(phase, Some(Phase::Asked { .. } | Phase::Running { .. }))
    }

    /// The process that runs for `server`, where this metaserver starts it.
    pub(super) fn running_process(&self, server: ServerId) -> Option<u32> {
        match self.spawning.get(&server)?.phase {
            Phase::Running { process, since: _ } => Some(process),
            Phase::Idle { .. } | Phase::Asked { .. } => None,
        }
    }

    /// Notes that a process is gone.
    pub(super) fn note_exit(&mut self, now: Time, server: ServerId, process: u32) {
        let Some(spawning) = self.spawning.get_mut(&server) else { return };
        spawning.gone = Some(process);
        match spawning.phase {
            Phase::Running { process: running, since } if running == process => {
                spawning.fail(now, since);
            }
            Phase::Asked { at } => spawning.fail(now, at),
            Phase::Idle { .. } | Phase::Running { .. } => {}
        }
    }

    /// The kernel's word that a process is gone: a proof of death of what it registered.
    pub(super) fn on_exited(&mut self, now: Time, server: ServerId, process: u32) {
        if !self.spawning.contains_key(&server) {
            return;
        }
        self.note_exit(now, server, process);
        let registered = self.ledger.server(server).filter(|row| !row.dead);
        if let Some(row) = registered.filter(|row| row.process == process) {
            let member = row.entry.member();
            self.mark_dead(member, false);
        }
    }
}
