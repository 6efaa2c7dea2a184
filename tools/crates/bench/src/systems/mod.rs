//! What is measured: Tandem, its peers, and the bare network.

mod certificates;
pub mod children;
pub mod echo;
pub mod etcd;
mod etcd_wire;
pub mod redis;
mod resp;
pub mod session;
