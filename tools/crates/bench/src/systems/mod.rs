//! What is measured: Tandem, its peer, and the bare network.

mod certificates;
pub mod children;
pub mod echo;
pub mod redis;
mod resp;
pub mod session;
