//! `tandem-check-history`: judges a history.
fn main() {}
