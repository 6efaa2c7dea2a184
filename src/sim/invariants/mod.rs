//! What must never be: one property a file.
//!
//! Each property sees every fact before the truth takes it in, keeps what it needs of the past,
//! and answers with words for a person where the fact breaks it. A few can only be judged when a
//! run is over. Every file shows with a test that its property can fail.

pub mod ack_everywhere;
pub mod acknowledged_kept;
pub mod applied_once;
pub mod bounded_queues;
pub mod calm;
pub mod committed_prefix;
pub mod epochs_grow;
pub mod full_refuses;
pub mod healed;
pub mod incarnations_grow;
pub mod leases_disjoint;
pub mod linearizable;
pub mod one_primary;
pub mod read_exclusion;
pub mod refusals_hold;
pub mod states_agree;
pub mod well_behaved;

use std::fmt;

use super::truth::{Fact, Truth};
use crate::protocol::time::Time;

/// A property of every run.
pub trait Invariant {
    const NAME: &'static str;

    /// Judges a fact.
    ///
    /// # Errors
    /// How the fact breaks the property.
    fn judge(&mut self, at: Time, fact: &Fact<'_>, truth: &Truth) -> Result<(), String>;
}

/// A broken property.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    pub at: Time,
    pub invariant: &'static str,
    pub words: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { at, invariant, words } = self;
        write!(f, "{invariant}: {words} (at {} us)", at.0 / 1_000)
    }
}

/// All properties that are judged fact by fact.
#[derive(Clone, Debug, Default, Hash)]
pub struct Invariants {
    ack_everywhere: ack_everywhere::AckEverywhere,
    acknowledged_kept: acknowledged_kept::AcknowledgedKept,
    applied_once: applied_once::AppliedOnce,
    bounded_queues: bounded_queues::BoundedQueues,
    committed_prefix: committed_prefix::CommittedPrefix,
    epochs_grow: epochs_grow::EpochsGrow,
    full_refuses: full_refuses::FullRefuses,
    incarnations_grow: incarnations_grow::IncarnationsGrow,
    leases_disjoint: leases_disjoint::LeasesDisjoint,
    one_primary: one_primary::OnePrimary,
    read_exclusion: read_exclusion::ReadExclusion,
    refusals_hold: refusals_hold::RefusalsHold,
    states_agree: states_agree::StatesAgree,
    well_behaved: well_behaved::WellBehaved,
    /// Takes notes all along, and is judged at the end.
    pub linearizable: linearizable::Linearizable,
}

impl Invariants {
    /// Judges a fact by every property.
    ///
    /// # Errors
    /// The first broken one.
    pub fn judge(&mut self, at: Time, fact: &Fact<'_>, truth: &Truth) -> Result<(), Violation> {
        judge(&mut self.ack_everywhere, at, fact, truth)?;
        judge(&mut self.acknowledged_kept, at, fact, truth)?;
        judge(&mut self.applied_once, at, fact, truth)?;
        judge(&mut self.bounded_queues, at, fact, truth)?;
        judge(&mut self.committed_prefix, at, fact, truth)?;
        judge(&mut self.epochs_grow, at, fact, truth)?;
        judge(&mut self.full_refuses, at, fact, truth)?;
        judge(&mut self.incarnations_grow, at, fact, truth)?;
        judge(&mut self.leases_disjoint, at, fact, truth)?;
        judge(&mut self.one_primary, at, fact, truth)?;
        judge(&mut self.read_exclusion, at, fact, truth)?;
        judge(&mut self.refusals_hold, at, fact, truth)?;
        judge(&mut self.states_agree, at, fact, truth)?;
        judge(&mut self.well_behaved, at, fact, truth)?;
        judge(&mut self.linearizable, at, fact, truth)
    }
}

fn judge<I: Invariant>(
    invariant: &mut I,
    at: Time,
    fact: &Fact<'_>,
    truth: &Truth,
) -> Result<(), Violation> {
    let judged = invariant.judge(at, fact, truth);
    judged.map_err(|words| Violation { at, invariant: I::NAME, words })
}

#[cfg(test)]
pub(super) mod tests {
    //! Builders of facts for the tests of the properties.

    use std::rc::Rc;

    use super::*;
    use crate::protocol::message::{AckLevel, Answer, Operation, ReadLevel, Request};
    use crate::protocol::types::{
        Change, Configuration, Entry, Epoch, Incarnation, Key, LossEpoch, Member, Op, Origin,
        Position, RequestNumber, Revision, ServerId, SessionId, Value, Written,
    };

    pub fn member(server: u16, incarnation: u64) -> Member {
        Member { server: ServerId(server), incarnation: Incarnation(incarnation) }
    }

    pub fn configuration(epoch: u64, primary: Member, secondaries: &[Member]) -> Configuration {
        let secondaries = secondaries.to_vec();
        Configuration { loss_epoch: LossEpoch(0), epoch: Epoch(epoch), primary, secondaries }
    }

    pub fn origin(session: u128, number: u64) -> Origin {
        Origin {
            session: SessionId(session),
            number: RequestNumber(number),
            answered_below: RequestNumber(0),
            base: Revision::default(),
        }
    }

    pub fn entry(epoch: u64, op: u64, key: &'static str, value: &'static str) -> Rc<Entry> {
        Rc::new(Entry {
            epoch: Epoch(epoch),
            born: Epoch(epoch),
            op: Op(op),
            origin: Some(origin(1, op)),
            key: Key::from_static(key.as_bytes()),
            change: Change::Put(Value::from_static(value.as_bytes())),
            written: Written::Stored,
        })
    }

    pub fn position(epoch: u64, op: u64) -> Position {
        Position { loss_epoch: LossEpoch(0), epoch: Epoch(epoch), op: Op(op) }
    }

    pub fn revision(op: u64) -> Revision {
        Revision { loss_epoch: LossEpoch(0), op: Op(op) }
    }

    pub fn put(key: &'static str, value: &'static str) -> Operation {
        Operation::Put {
            key: Key::from_static(key.as_bytes()),
            value: Value::from_static(value.as_bytes()),
        }
    }

    pub fn get(key: &'static str) -> Operation {
        Operation::Get { key: Key::from_static(key.as_bytes()) }
    }

    pub fn request(operation: Operation, origin: Option<Origin>) -> Request {
        let (read_level, ack_level) = (ReadLevel::default(), AckLevel::default());
        Request { operation, origin, read_level, ack_level, expiry_ms: None }
    }

    pub fn stored(epoch: u64, op: u64) -> Answer {
        Answer::Written { position: position(epoch, op), written: Written::Stored }
    }

    pub fn absent(epoch: u64, op: u64) -> Answer {
        Answer::Absent { position: position(epoch, op) }
    }

    /// Feeds facts to one property, the truth taking each in after it was judged.
    pub fn run<I: Invariant + Default>(facts: &[Fact<'_>]) -> Result<(), String> {
        let (mut invariant, mut truth) = (I::default(), Truth::default());
        for (index, fact) in facts.iter().enumerate() {
            invariant.judge(Time(index as u64), fact, &truth)?;
            truth.take(fact);
        }
        Ok(())
    }
}
