//! Tests of the metaserver machine, with servers that are played by hand.
//!
//! `cluster` is the harness: a metaserver, a disk that holds what was persisted, and fake servers
//! that heartbeat, answer probes and obey orders as each test wants them to.

mod cluster;

mod copies;
mod durability;
mod failures;
mod full;
mod halting;
mod moves;
mod registering;
mod space;
mod stopping;
