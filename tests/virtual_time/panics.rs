//! Panics of tasks: the runtime keeps them to itself, and here none may pass unseen.

use std::cell::Cell;
use std::panic;
use std::sync::Once;

thread_local! {
    static SEEN: Cell<u32> = const { Cell::new(0) };
}

/// Counts the panics of this thread while it lives, and tells how to run a failed seed again.
pub struct Witness {
    seed: u64,
    before: u32,
}

impl Witness {
    pub fn new(seed: u64) -> Witness {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let printed = panic::take_hook();
            panic::set_hook(Box::new(move |panicked| {
                SEEN.set(SEEN.get() + 1);
                printed(panicked);
            }));
        });
        Witness { seed, before: SEEN.get() }
    }

    /// # Panics
    /// If a task did.
    pub fn assert_none(&self) {
        assert_eq!(SEEN.get(), self.before, "a task panicked; its words are above");
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "failed with seed {}; once more: TANDEM_VIRTUAL_SEED={} tools/test virtual_time",
                self.seed, self.seed
            );
        }
    }
}
