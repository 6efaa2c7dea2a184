//! Which world finds which planted bug.
//!
//! Bugs of the metaserver are planted in `world::authority` too, where its rule is kept: a
//! metaserver without a will has no other rules.

use tandem::protocol::mutants::Mutant;

/// What the explorer can do about a mutant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    /// This world finds it.
    Found(&'static str),
    /// No world can, and why. A case or a seed of the simulator does (see `tools/mutants`).
    Out(&'static str),
}

/// Where to look for a mutant.
#[must_use]
pub fn reach(mutant: Mutant) -> Reach {
    use Reach::{Found, Out};
    match mutant {
        Mutant::AckBeforeSecondary
        | Mutant::LeaseRelation
        | Mutant::NoDriftMargin
        | Mutant::LeaseFromReceipt
        | Mutant::OpensAtOnce
        | Mutant::ReadsUnreconciled
        | Mutant::NeverCuts => Found("pair-epoch"),
        Mutant::LeaseCheckedFirst => Found("pair-slow-read"),
        Mutant::CutsToCommitPoint => Found("pair-epochs-still"),
        Mutant::OpensAfterLatest => Found("trio-deaf"),
        Mutant::ReadsAfterResignation | Mutant::AnyResignation => Found("pair-resign"),
        Mutant::RemovesByItself => Found("pair-removal"),
        Mutant::RetryTwice => Found("pair-retry"),
        Mutant::ConditionOnUncommitted => Found("pair-condition"),
        Mutant::HeirCut => Found("pair-heir"),
        Mutant::BondsLost => Found("pair-heir-still"),
        Mutant::EmptyHeir => Found("pair-return"),
        Mutant::FeedFromPrepared => Found("pair-add"),
        Mutant::MissedEpochGoesOn => Found("pair-add-skip"),
        Mutant::HeirWiped => Found("pair-copy-late"),
        Mutant::HorizonForgotten => Found("lone-horizon"),
        Mutant::NoUnionOfLeases
        | Mutant::SoleNeedsNoLease
        | Mutant::LearnerPromisesNothing
        | Mutant::ForgetsOnPause
        | Mutant::LearnerPromoted => Found("lone-add"),
        Mutant::NoUnionOfAcks
        | Mutant::ProposedTooEarly
        | Mutant::CopyOverwrites
        | Mutant::CopyResurrects => Found("lone-add-writes"),
        Mutant::OldEpochIsOutcome | Mutant::ForgetsOnWithdrawal => Found("lone-withdraw"),
        Mutant::RefusalForgotten => Found("lone-refused"),
        Mutant::DedupNotCopied => Found("lone-retry"),
        Mutant::OpensUnreconciled | Mutant::OldEpochAccepted => Found("trio-still"),
        Mutant::AcksOfAnyEpoch => Found("trio-skip"),
        Mutant::SaidBeforeDurable => Found("meta-restart"),
        Mutant::FirstMessageTwice => Out(
            "a stream keeps its order and a message on a replaced link is not heard, so that none \
             here is late enough to cut: the rule stands behind that one",
        ),
        Mutant::StaleChunk => Out(
            "one key is one chunk: that of an earlier run completes no other run, and the run's \
             own chunk follows it on the same lane",
        ),
        Mutant::DeadLearnerAdded => Out(
            "names a member that never answers: nothing is served wrongly, nor is anything written",
        ),
        Mutant::SuspectsAtOnce => Out("moves roles for no reason, and that is all it breaks"),
        Mutant::BaseFromPrepared | Mutant::ChangesWithoutDeletes => {
            Out("needs a member that is removed and added again: too many steps")
        }
        Mutant::AckBeforeSynced => Out("what a member writes here is on its disk at once"),
        Mutant::FullIgnored => Out("nobody is full here: space is measured in no world"),
        Mutant::DelayedRemoval => Out(
            "needs the production metaserver, a link cut and mended, and a question in between: \
             too many steps",
        ),
        Mutant::StaleRecoveryCounts => {
            Out("needs the production metaserver and two recoveries of one server: too many steps")
        }
    }
}
