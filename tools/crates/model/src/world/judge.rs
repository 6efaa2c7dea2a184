//! The judge: the simulator's truth and its properties, and a reader that is everywhere.

use tandem::protocol::message::Answer;
use tandem::protocol::time::Time;
use tandem::protocol::types::{Key, KeySet, LossEpoch, Op, Position, Value};
use tandem::sim::invariants::Invariants;
use tandem::sim::truth::{Fact, Truth};
use tandem::store::Engine;

use super::node::Node;

/// The one key set of every world.
pub const SET: KeySet = KeySet(0);

/// The one key that clients write and read.
pub const KEY: Key = Key::from_static(b"k");

/// A broken property, in words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    pub property: &'static str,
    pub words: String,
}

/// Truth and properties.
#[derive(Clone, Debug, Default, Hash)]
pub struct Judge {
    pub truth: Truth,
    invariants: Invariants,
    /// The last write that a client was told is done.
    acknowledged: Op,
}

impl Judge {
    /// Judges a fact and takes it in.
    pub fn learn(&mut self, fact: &Fact<'_>) -> Result<(), Violation> {
        // Operations have no length here, and their order is that of the facts.
        let judged = self.invariants.judge(Time(0), fact, &self.truth);
        judged.map_err(|it| Violation { property: it.invariant, words: it.words })?;
        if let Fact::Opened { process, epoch, .. } = *fact {
            self.judge_opening(process, epoch)?;
        }
        if let Fact::Answered { answer: Answer::Written { position, .. }, .. } = *fact {
            self.acknowledged = self.acknowledged.max(position.op);
        }
        self.truth.take(fact);
        if let Fact::Ended { .. } = *fact {
            let words = self.invariants.linearizable.finish(&self.truth);
            words.map_err(|words| Violation { property: "linearizable", words })?;
        }
        Ok(())
    }

    /// What was committed may have been read: whoever opens has it.
    fn judge_opening(
        &self,
        process: tandem::sim::Process,
        epoch: tandem::protocol::types::Epoch,
    ) -> Result<(), Violation> {
        // Who wakes up in an epoch that has passed may open; its reads have no lease.
        if self.truth.configurations.get(&SET).map(|it| it.epoch) != Some(epoch) {
            return Ok(());
        }
        let copy = self.truth.copies.get(&(process, SET));
        let places = self.truth.committed.get(&SET).into_iter().flat_map(|it| it.keys());
        for &(_, op) in places {
            if !copy.is_some_and(|copy| copy.holds(op)) {
                let words =
                    format!("{process:?} opened in {epoch} without {op}, a committed write");
                return Err(Violation { property: "committed-kept", words });
            }
        }
        Ok(())
    }

    /// Judges the answer that a reader would get from a server at this moment.
    pub fn judge_read(&self, server: usize, answer: &Answer) -> Result<(), Violation> {
        let (position, found) = match answer {
            Answer::Found { position, value, .. } => (*position, Some(value)),
            Answer::Absent { position } => (*position, None),
            _ => return Ok(()),
        };
        let name = server + 1;
        let fault = |property, words: &str| {
            let words = format!("s{name} answers a read with {found:?} at {position}, {words}");
            Err(Violation { property, words })
        };
        if position.op < self.acknowledged {
            let words = format!("but {} is acknowledged", self.acknowledged);
            return fault("read-everywhere", &words);
        }
        let right = self.value_at(position);
        if found != right.as_ref() {
            return fault("read-everywhere", &format!("where it is {right:?}"));
        }
        let latest = self.truth.configurations.get(&SET).map(|it| it.epoch);
        if latest < Some(position.epoch) {
            return fault("read-everywhere", "an epoch that does not exist");
        }
        Ok(())
    }

    /// Whoever knows that the latest configuration names it can stand for it: it has what a member
    /// has, and follows or leads.
    pub fn judge_role(&self, node: &Node) -> Result<(), Violation> {
        let Some(replica) = node.worker.replica(SET) else { return Ok(()) };
        let Some(latest) = self.truth.configurations.get(&SET) else { return Ok(()) };
        let named = latest.epoch == replica.epoch() && latest.contains(node.member);
        if !named || replica.is_primary() || replica.is_secondary() {
            return Ok(());
        }
        let words = format!("{} is named in {} and is no member", node.member, latest.epoch);
        Err(Violation { property: "members-hold", words })
    }

    /// What a secondary prepared, its primary prepared too, once the one follows the other.
    pub fn judge_log(&self, primary: &Node, secondary: &Node) -> Result<(), Violation> {
        let (Some(leads), Some(follows)) =
            (primary.worker.replica(SET), secondary.worker.replica(SET))
        else {
            return Ok(());
        };
        let one_epoch = leads.is_primary() && leads.epoch() == follows.epoch();
        let (known, held) = (leads.log().prepared(), follows.log().prepared());
        if !one_epoch || !follows.has_joined() || held <= known {
            return Ok(());
        }
        let words = format!(
            "{} holds {held} in {}, and its primary prepared no more than {known}",
            secondary.member,
            follows.epoch()
        );
        Err(Violation { property: "prepared-prefix", words })
    }

    /// A member's store is what the writes up to its committed point make it. (The chunks of a
    /// copy may be ahead of that point for a while.)
    pub fn judge_store(&self, node: &Node) -> Result<(), Violation> {
        let Some(replica) = node.worker.replica(SET) else { return Ok(()) };
        let Some(copy) = self.truth.copies.get(&(node.process, SET)) else { return Ok(()) };
        let position = replica.position();
        let is_member = replica.is_primary() || replica.is_secondary();
        if !is_member || copy.run.is_some() || copy.applied > position.op {
            return Ok(());
        }
        let found = node.engine.get(SET, &KEY).map(|(value, _)| value);
        let right = self.value_at(position);
        if found == right {
            return Ok(());
        }
        let member = node.member;
        let words = format!("{member} stores {found:?} at {position}, where it is {right:?}");
        Err(Violation { property: "stores-agree", words })
    }

    /// What the committed writes up to a position make of the key.
    fn value_at(&self, position: Position) -> Option<Value> {
        let first = (position.loss_epoch, Op(0));
        let last: (LossEpoch, Op) = (position.loss_epoch, position.op);
        let mut writes = self.truth.committed.get(&SET)?.range(first..=last);
        writes.next_back().and_then(|(_, write)| write.value.clone())
    }
}
