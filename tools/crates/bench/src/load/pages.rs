//! The load's own memory while an open loop runs: small pages only.
//!
//! When operations fall behind, the load and the client library in its process take memory for all
//! that waits. With huge pages the system clears 2 MiB for the first byte that is touched: 5 ms on
//! a host that hands out memory slowly, in which a thousand more operations fall behind, and take
//! memory. That stall is one of the load, not of what it measures; a program that did not ask its
//! allocator for huge pages has none. What was started before keeps its pages as they are.

use rustix::thread::disable_transparent_huge_pages;

/// Small pages only, for this process, until it is dropped.
pub struct SmallPages(());

impl SmallPages {
    /// Nothing changes where the system has no such setting.
    #[must_use]
    pub fn begin() -> SmallPages {
        // A system that can not be told has no huge pages to withhold.
        let _ = disable_transparent_huge_pages(true);
        SmallPages(())
    }
}

impl Drop for SmallPages {
    fn drop(&mut self) {
        // As above.
        let _ = disable_transparent_huge_pages(false);
    }
}

#[cfg(test)]
mod tests {
    //! Goal: huge pages are withheld while it lives, and given again after it.
    //! Method: the system is asked.

    use rustix::thread::transparent_huge_pages_are_disabled;

    use super::*;

    #[test]
    fn huge_pages_are_withheld_for_its_time() {
        let before = transparent_huge_pages_are_disabled().expect("Linux says");
        let pages = SmallPages::begin();
        assert!(transparent_huge_pages_are_disabled().expect("Linux says"));
        drop(pages);
        assert_eq!((before, transparent_huge_pages_are_disabled()), (false, Ok(false)));
    }
}
