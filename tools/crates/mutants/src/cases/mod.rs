//! Cases written for mutants that random runs meet too rarely, or never.
//!
//! Each drives the production machines through one history by hand, holds for the sound protocol,
//! and fails under its mutant.

mod member;
mod metaserver;

use tandem::mutants::Mutant;

/// A case: what it is called, whom it is written against, and which property it judges.
pub struct Case {
    pub name: &'static str,
    pub against: Mutant,
    pub check: &'static str,
    /// Runs it; the error says how the property was broken.
    pub run: fn() -> Result<(), String>,
}

pub const ALL: &[Case] = &[
    Case {
        name: "fast-clock",
        against: Mutant::NoDriftMargin,
        check: "promise",
        run: member::fast_clock,
    },
    Case {
        name: "two-earlier-primaries",
        against: Mutant::OpensAfterLatest,
        check: "promise",
        run: member::two_earlier_primaries,
    },
    Case {
        name: "longer-than-its-primary",
        against: Mutant::NeverCuts,
        check: "log",
        run: member::longer_than_its_primary,
    },
    Case {
        name: "first-message-again",
        against: Mutant::FirstMessageTwice,
        check: "log",
        run: member::first_message_again,
    },
    Case {
        name: "writes-of-an-older-epoch",
        against: Mutant::OldEpochAccepted,
        check: "log",
        run: member::writes_of_an_older_epoch,
    },
    Case {
        name: "late-acknowledgement",
        against: Mutant::AcksOfAnyEpoch,
        check: "ack-everywhere",
        run: member::acknowledgement_of_an_older_epoch,
    },
    Case {
        name: "run-of-before",
        against: Mutant::MissedEpochGoesOn,
        check: "copy",
        run: member::run_of_before_the_other_primary,
    },
    Case {
        name: "chunk-of-another-run",
        against: Mutant::StaleChunk,
        check: "copy",
        run: member::chunk_of_another_run,
    },
    Case {
        name: "copy-run-to-a-member",
        against: Mutant::HeirWiped,
        check: "copy",
        run: member::copy_run_to_a_member,
    },
    Case {
        name: "quiet-restart",
        against: Mutant::SuspectsAtOnce,
        check: "calm",
        run: metaserver::quiet_restart,
    },
    Case {
        name: "condition-on-the-window",
        against: Mutant::ConditionOnUncommitted,
        check: "read",
        run: member::condition_on_the_window,
    },
    Case {
        name: "late-confirmation",
        against: Mutant::DelayedRemoval,
        check: "configuration",
        run: metaserver::late_confirmation,
    },
    Case {
        name: "refused-and-asked-again",
        against: Mutant::RefusalForgotten,
        check: "configuration",
        run: metaserver::refused_and_asked_again,
    },
    Case {
        name: "learner-with-a-successor",
        against: Mutant::DeadLearnerAdded,
        check: "configuration",
        run: metaserver::learner_with_a_successor,
    },
    Case {
        name: "learner-of-another-recovery",
        against: Mutant::StaleRecoveryCounts,
        check: "configuration",
        run: metaserver::learner_of_another_recovery,
    },
    Case {
        name: "only-a-learner-is-left",
        against: Mutant::LearnerPromoted,
        check: "acknowledged-kept",
        run: metaserver::only_a_learner_is_left,
    },
    Case {
        name: "full-secondary",
        against: Mutant::FullIgnored,
        check: "full-refuses",
        run: member::full_secondary,
    },
];

/// The words, unless it holds.
fn demand(holds: bool, words: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(words.to_owned()) }
}
