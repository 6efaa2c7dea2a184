//! Every message of the protocol, by the kind of link that it travels on.
//!
//! ```text
//!   server  <-- PeerMessage -->  server       lanes (a stream a key set), bulk, datagrams
//!   server  --- ToMeta ------->  metaserver   control lane, heartbeat datagrams
//!   server  <-- ToServer ------  metaserver
//!   client  --- Request ------>  server       one stream, answers in any order
//!   client  <-- Answer --------  server
//!   client  --- MetaRequest -->  metaserver or any server (views, status, administration)
//! ```
//!
//! Enums are append-only: postcard encodes a variant by its place. A new field is a new variant.

mod client;
mod control;
mod hello;
mod meta;
mod peer;
mod testimony;

pub use client::{AckLevel, Answer, Expect, Operation, ReadLevel, Refusal, Rejection, Request};
pub use control::{
    Activity, ChangeId, ChangeKind, ChangeRefusal, ProbeReport, Registration, RegistrationRefusal,
    SetReport, ToMeta, ToServer,
};
pub use hello::{Hello, HelloAck, Purpose};
pub use meta::{MetaAnswer, MetaRefusal, MetaRequest, OwnSpace, StopPhase, StopReport, StopState};
pub use peer::{DedupRecord, DedupSnapshot, LeaseAsk, PeerMessage};
pub use testimony::{ReplicaTestimony, Testimony};
