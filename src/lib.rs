//! Tandem: a strongly consistent key-value store that survives server failures without Raft.
//!
//! The crate has two halves. The pure half (`protocol`, `wire`, `sim`) decides everything and does
//! nothing: no IO, no clock, no randomness. The impure half (feature `net`) moves bytes, keeps
//! time and stores data on its behalf. Imports point one way:
//! `cli -> roles -> {client, driver} -> {net, store, clock} -> wire -> protocol <- sim`.

#[cfg(feature = "net")]
pub mod cli;
#[cfg(feature = "net")]
pub mod client;
#[cfg(feature = "net")]
pub mod clock;
#[cfg(feature = "net")]
pub mod config;
#[cfg(feature = "net")]
pub mod driver;
pub mod identity;
#[cfg(feature = "net")]
pub mod net;
#[cfg(feature = "net")]
pub mod process;
pub mod protocol;
#[cfg(feature = "net")]
pub mod roles;
pub mod sim;
pub mod store;
pub mod wire;

pub use protocol::mutants;
