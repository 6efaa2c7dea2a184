//! The one binary: `tandem --role meta|server|client`.

fn main() {}
