//! Test builds only: the metaserver dies, as by SIGKILL, when a recovery enters a named step.
//!
//! `TANDEM_EXIT_AT` names the step: `invalidate`, `copy-primary`, `copy-secondary` or `resume`.
//! What the note speaks of is durable by then, and nothing after it was said. `TANDEM_EXIT_IF`
//! names a file: while it is missing nothing happens, so that a recovery before the one that a
//! test means, of a server that was late on a busy machine say, does no harm.

use std::path::Path;

use rustix::process::{Signal, getpid, kill_process};

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
    let doomed = std::env::var_os("TANDEM_EXIT_IF").is_none_or(|file| Path::new(&file).exists());
    if entered == step && doomed {
        tracing::error!(step, "the metaserver dies here, as the test asked");
        kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
        // Not reached, unless the kernel takes its time.
        std::process::abort();
    }
}
