//! What the simulator's two commands share: trace files, and making a failing run smaller.

pub mod shrink;
pub mod table;
pub mod trace_file;
