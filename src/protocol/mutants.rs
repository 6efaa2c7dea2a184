//! Bugs planted on purpose: each breaks one rule of the protocol, to prove that a check finds it.
//!
//! They exist only in builds with the feature `mutants`, which no release has; there one build
//! serves all, because the mutant is chosen at run time, for the thread that runs the machines.
//! Without the feature `planted` is false at compile time and leaves nothing behind.

/// Declares every mutant with its name and with the rule that it breaks.
macro_rules! mutants {
    ($($mutant:ident $name:literal $breaks:literal;)*) => {
        /// A planted bug.
        #[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
        pub enum Mutant {
            $(#[doc = $breaks] $mutant,)*
        }

        impl Mutant {
            /// Every mutant, in the order in which they are declared.
            pub const ALL: &[Mutant] = &[$(Mutant::$mutant,)*];

            /// Its name on a command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Mutant::$mutant => $name,)* }
            }

            /// What it does wrong.
            #[must_use]
            pub fn breaks(self) -> &'static str {
                match self { $(Mutant::$mutant => $breaks,)* }
            }
        }
    };
}

mutants! {
    AckBeforeSecondary "ack-before-secondary"
        "a primary acknowledges what its secondaries do not have";
    LeaseRelation "lease-relation"
        "a promise ends long before the lease that it covers";
    NoDriftMargin "no-drift-margin"
        "a promise is as long as the lease, without a margin for clock rates";
    LeaseFromReceipt "lease-from-receipt"
        "a lease counts from the receipt of an acknowledgement instead of the sending";
    LeaseCheckedFirst "lease-checked-first"
        "the lease is judged when a read is asked for, not after the value was read";
    OpensAtOnce "opens-at-once"
        "a new primary waits for no earlier one";
    OpensAfterLatest "opens-after-latest"
        "a new primary waits for the latest earlier one only";
    OpensUnreconciled "opens-unreconciled"
        "a new primary opens before its secondaries follow its log";
    ReadsUnreconciled "reads-unreconciled"
        "a new primary answers reads before it is reconciled";
    ReadsAfterResignation "reads-after-resignation"
        "a primary gives its word that it serves nothing more, and goes on";
    NoUnionOfAcks "no-union-of-acks"
        "a proposed learner's acknowledgements are not needed";
    NoUnionOfLeases "no-union-of-leases"
        "a proposed learner's lease is not needed";
    SoleNeedsNoLease "sole-needs-no-lease"
        "a sole member needs no lease while its proposal is open";
    LearnerPromisesNothing "learner-promises-nothing"
        "a learner acknowledges without the promise that a lease rests on";
    OldEpochIsOutcome "old-epoch-is-outcome"
        "the old epoch, read again, is taken for the refusal of a proposal";
    ForgetsOnWithdrawal "forgets-on-withdrawal"
        "a proposal is forgotten when its withdrawal is asked for";
    ForgetsOnPause "forgets-on-pause"
        "a proposal is forgotten when the primary pauses and resumes";
    FeedFromPrepared "feed-from-prepared"
        "a learner's live feed starts at the prepared point, not with the window";
    ProposedTooEarly "proposed-too-early"
        "a learner is proposed before it has everything";
    LearnerPromoted "learner-promoted"
        "a learner is promoted where no member is left";
    CutsToCommitPoint "cuts-to-commit-point"
        "a secondary drops what is above its own commit point in a new epoch";
    NeverCuts "never-cuts"
        "a secondary keeps what its new primary never had";
    FirstMessageTwice "first-message-twice"
        "the first message of an epoch cuts again when it is repeated";
    OldEpochAccepted "old-epoch-accepted"
        "a member takes the writes of a primary from an older epoch";
    AcksOfAnyEpoch "acks-of-any-epoch"
        "a primary counts acknowledgements and leases of an older epoch of its own";
    MissedEpochGoesOn "missed-epoch-goes-on"
        "a primary that missed an epoch of another goes on as if there had been none";
    RemovesByItself "removes-by-itself"
        "a primary goes on without a silent secondary, unasked";
    DelayedRemoval "delayed-removal"
        "a confirmation of a removal counts however late it comes";
    RefusalForgotten "refusal-forgotten"
        "a refused request is accepted when it comes again";
    DeadLearnerAdded "dead-learner-added"
        "a learner with a registered successor is added";
    StaleRecoveryCounts "stale-recovery-counts"
        "a learner of an older recovery counts for the one that is under way";
    SaidBeforeDurable "said-before-durable"
        "the metaserver announces what its disk does not hold yet";
    SuspectsAtOnce "suspects-at-once"
        "a restarted metaserver suspects whoever has not found it yet";
    RetryTwice "retry-twice"
        "a write that is sent again is done again";
    HorizonForgotten "horizon-forgotten"
        "a duplicate record goes without a trace when the table is full";
    DedupNotCopied "dedup-not-copied"
        "a copy leaves the duplicate records behind";
    CopyOverwrites "copy-overwrites"
        "a copy chunk replaces what the learner holds newer";
    CopyResurrects "copy-resurrects"
        "a learner keeps no tombstones while its copy runs";
    StaleChunk "stale-chunk"
        "a chunk of an earlier copy run counts";
    BaseFromPrepared "base-from-prepared"
        "a learner takes what was never committed for a part of its base";
    ChangesWithoutDeletes "changes-without-deletes"
        "what changed since a learner's base is sent without the deletes";
    ConditionOnUncommitted "condition-on-uncommitted"
        "a failed condition is answered before what it saw has committed";
    AnyResignation "any-resignation"
        "the resignation of an older epoch frees members of the newer one";
    HeirCut "heir-cut"
        "an heir keeps its committed prefix only";
    BondsLost "bonds-lost"
        "an heir does not know which primaries its predecessor acknowledged";
    HeirWiped "heir-wiped"
        "an heir takes a copy run where its predecessor is a member";
    EmptyHeir "empty-heir"
        "an incarnation without its predecessor's log stands for it";
    AckBeforeSynced "ack-before-synced"
        "a write is acknowledged before the log has it on the disk";
    FullIgnored "full-ignored"
        "a primary goes on although a server that has to hold the write is full";
}

#[cfg(feature = "mutants")]
mod chosen {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static CHOSEN: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Plants one mutant in the machines that this thread runs, or none.
    pub fn plant(mutant: Option<Mutant>) {
        CHOSEN.set(mutant);
    }

    /// Whether this thread's machines run with `mutant`.
    #[inline]
    pub(crate) fn planted(mutant: Mutant) -> bool {
        CHOSEN.get() == Some(mutant)
    }
}

#[cfg(feature = "mutants")]
pub use chosen::plant;
#[cfg(feature = "mutants")]
pub(crate) use chosen::planted;

/// Never: no mutant is in this build.
#[cfg(not(feature = "mutants"))]
#[inline]
pub(crate) const fn planted(_: Mutant) -> bool {
    false
}
