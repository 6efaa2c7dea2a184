//! The outbox: durable before announced (rule 4).
//!
//! Everything that a handler wants sent is pushed here. At the end of the handler its dirty rows
//! leave as one `Persist`; what was pushed leaves at once if nothing is being persisted, and
//! otherwise waits, in order, for the newest `Persist` issued before it. So nobody ever hears of
//! a state that a restart could take back. Heartbeat echoes tell no state and never wait.

use std::collections::VecDeque;

use super::ledger::Ledger;
use crate::protocol::effect::MetaEffect;
use crate::protocol::mutants::{Mutant, planted};

/// Held effects beyond which no new steps are taken and clients are turned away: the disk is
/// stalled, and asking more does not help.
const HELD_MAX: usize = 16_384;

#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Outbox {
    /// Number of the newest `Persist`.
    issued: u64,
    /// All `Persist`s up to this number are durable.
    durable: u64,
    /// Effects with the `Persist` that they wait for.
    held: VecDeque<(u64, MetaEffect)>,
    /// Pushed in this handler.
    pushed: Vec<MetaEffect>,
    /// Leave without waiting.
    urgent: Vec<MetaEffect>,
}

impl Outbox {
    pub(super) fn push(&mut self, effect: MetaEffect) {
        self.pushed.push(effect);
    }

    /// Puts `effects` ahead of what this handler has pushed so far.
    pub(super) fn push_ahead(&mut self, effects: Vec<MetaEffect>) {
        self.pushed.splice(0..0, effects);
    }

    /// For effects that tell nothing of the durable state.
    pub(super) fn push_urgent(&mut self, effect: MetaEffect) {
        self.urgent.push(effect);
    }

    pub(super) fn is_full(&self) -> bool {
        self.held.len() >= HELD_MAX
    }

    /// Whether everything that was decided is durable.
    pub(super) fn is_durable(&self) -> bool {
        self.durable == self.issued
    }

    pub(super) fn on_persisted(&mut self, number: u64) {
        assert!(number <= self.issued, "a batch is durable that was never issued");
        self.durable = self.durable.max(number);
    }

    /// Ends a handler: persists what is dirty, and releases what no longer waits.
    pub(super) fn flush(&mut self, ledger: &mut Ledger, effects: &mut Vec<MetaEffect>) {
        effects.append(&mut self.urgent);
        let records = ledger.take_dirty();
        if !records.is_empty() {
            self.issued += 1;
            effects.push(MetaEffect::Persist { number: self.issued, records });
        }
        self.held.extend(self.pushed.drain(..).map(|effect| (self.issued, effect)));
        let hasty = planted(Mutant::SaidBeforeDurable);
        let may_leave = |held: &mut (u64, MetaEffect)| held.0 <= self.durable || hasty;
        while let Some((_, effect)) = self.held.pop_front_if(may_leave) {
            effects.push(effect);
        }
    }
}
