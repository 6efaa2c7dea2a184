//! The certificates of a cluster: one CA, and a leaf for each party of `cluster.toml`.
//!
//! A leaf carries its party's identity (`tandem://<cluster>/<role>/<id>`) as its only URI, next
//! to the constant DNS name that diallers ask for. The metaserver and the servers may accept and
//! dial; clients and admins may only dial. Keys are Ed25519: small, fast, and of fixed size.
//!
//! Tests and tools make certificates with `make_ca` and `issue_leaf`, or fill a whole folder
//! with `init`.

mod authority;
mod check;
mod facts;
mod folder;
mod init;

pub use authority::{Authority, Pem, Validity, issue_leaf, make_ca};
pub use check::{Finding, Level, check};
pub use facts::Facts;
pub use folder::{Folder, Kept};
pub use init::{Issue, Made, init, issue};
