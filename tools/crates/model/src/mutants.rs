//! Which world finds which planted bug.
//!
//! Bugs of the metaserver are planted in `world::authority` too, where its rule is kept: a
//! metaserver without a will has no other rules.

use tandem::protocol::mutants::Mutant;

/// Each mutant that a world finds, with that world.
pub const FOUND: &[(Mutant, &str)] = &[
    (Mutant::AckBeforeSecondary, "pair-epoch"),
    (Mutant::LeaseRelation, "pair-epoch"),
    (Mutant::NoDriftMargin, "pair-epoch"),
    (Mutant::LeaseFromReceipt, "pair-epoch"),
    (Mutant::LeaseCheckedFirst, "pair-slow-read"),
    (Mutant::OpensAtOnce, "pair-epoch"),
    (Mutant::OpensAfterLatest, "pair-epochs"),
];

/// Why no world here can find a mutant.
#[must_use]
pub fn out_of_reach(_mutant: Mutant) -> &'static str {
    "not looked for yet"
}
