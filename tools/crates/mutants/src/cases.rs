//! Cases written for mutants that random runs meet too rarely, or never.
//!
//! Each drives the production machines through one history by hand, holds for the sound protocol,
//! and fails under its mutant.

use tandem::mutants::Mutant;

/// A case: what it is called, whom it is written against, and which property it judges.
pub struct Case {
    pub name: &'static str,
    pub against: Mutant,
    pub check: &'static str,
    /// Runs it; the error says how the property was broken.
    pub run: fn() -> Result<(), String>,
}

pub const ALL: &[Case] = &[];
