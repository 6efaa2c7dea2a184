//! The fuzzer: one binary for all targets, the target chosen by `TANDEM_FUZZ_TARGET`.
//!
//! libFuzzer has the `main`. With `TANDEM_FUZZ_SEEDS` the first corpus of every target is written
//! to that folder. `tools/fuzz` builds and runs all of this.

#![no_main]

mod allocation;
#[cfg(feature = "net")]
mod certificates;
#[cfg(feature = "net")]
mod cluster_toml;
mod frames;
mod hello;
mod lines;
#[cfg(feature = "net")]
mod operations;
mod planted;
mod seeds;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

type Target = fn(&[u8]);

/// Every target by its name.
const TARGETS: &[(&str, Target)] = &[
    ("frames", frames::stream),
    ("messages", frames::message),
    ("hello", hello::judge),
    #[cfg(feature = "net")]
    ("cluster_toml", cluster_toml::parse),
    #[cfg(feature = "net")]
    ("certificates", certificates::read),
    #[cfg(feature = "net")]
    ("operations", operations::records),
    #[cfg(feature = "net")]
    ("arguments", operations::arguments),
    ("history", lines::history),
    ("planted", planted::bug),
];

static TARGET: OnceLock<Target> = OnceLock::new();

#[global_allocator]
static ALLOCATOR: allocation::Counting = allocation::Counting;

fn choose() -> Target {
    let name = std::env::var("TANDEM_FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|it| it.0 == name);
    found.unwrap_or_else(|| panic!("TANDEM_FUZZ_TARGET is {name:?}, which is no target")).1
}

fuzz_target!(
    init: {
        if let Some(folder) = std::env::var_os("TANDEM_FUZZ_SEEDS") {
            seeds::write(folder.as_ref()).expect("the folder for the seeds is writable");
        }
    },
    |data: &[u8]| TARGET.get_or_init(choose)(data)
);
