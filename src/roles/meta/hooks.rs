//! Test builds only: the metaserver dies, as by SIGKILL, when a recovery enters a named step.
//!
//! `TANDEM_EXIT_AT` names the step: `invalidate`, `copy-primary`, `copy-secondary` or `resume`.
//! What the note speaks of is durable by then, and nothing after it was said.

use crate::protocol::effect::MetaNote;
use crate::protocol::meta::durable::Step;

/// Ends the process if `note` says that a recovery entered the step that the environment names.
pub fn exit_at(note: &MetaNote) {
    let Ok(step) = std::env::var("TANDEM_EXIT_AT") else { return };
    let entered = match note {
        MetaNote::RecoveryStarted { .. } => "invalidate",
        MetaNote::RecoveryStep { step: Step::CopyPrimary, .. } => "copy-primary",
        MetaNote::RecoveryStep { step: Step::CopySecondary, .. } => "copy-secondary",
        MetaNote::RecoveryStep { step: Step::Resume, .. } => "resume",
        _ => return,
    };
    if entered == step {
        tracing::error!(step, "the metaserver dies here, as the test asked");
        std::process::abort();
    }
}
