//! What this machine's disks were asked to do.

use std::fs;

/// Place of the count of flushes in a disk's line of figures (the kernel's documentation of
/// `/sys/block/DISK/stat`).
const FLUSHES: usize = 15;

/// How often all disks were told to put what they hold where it stays, since the machine's start;
/// 0 where the kernel does not count it. Calls that meet share one.
#[must_use]
pub fn syncs() -> u64 {
    let Ok(disks) = fs::read_dir("/sys/block") else { return 0 };
    let of = |disk: fs::DirEntry| {
        let figures = fs::read_to_string(disk.path().join("stat")).ok()?;
        figures.split_whitespace().nth(FLUSHES)?.parse::<u64>().ok()
    };
    disks.flatten().filter_map(of).sum()
}
