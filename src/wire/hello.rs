//! How a connection is admitted: versions, and the judgement on a `Hello`.
//!
//! Two judges in a row. `check_party` compares the `Hello` with what the dialler's certificate
//! proves; `admit` compares it with who the accepting side is. Only after both does a link
//! count as up. Each refusal is typed and travels.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::identity::{Identity, PartyRole};
use crate::protocol::message::{Hello, HelloAck, Purpose};
use crate::protocol::types::{ClusterId, Member, ServerId, WorkerId};

/// The oldest minor version of the protocol that this build speaks.
pub const VERSION_MIN: u16 = 1;

/// The newest minor version of the protocol that this build speaks.
pub const VERSION_MAX: u16 = 1;

/// What a client says to the server `to`, or to whoever answers. It knows of no cluster yet, and a
/// certificate says who it is.
#[must_use]
pub fn client_hello(to: Option<Member>) -> Hello {
    Hello {
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
        features: 0,
        cluster: ClusterId::default(),
        purpose: Purpose::Client,
        from: None,
        from_worker: WorkerId(0),
        to,
    }
}

/// Why a `Hello` is refused. Append-only: it travels.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub enum HelloRefusal {
    /// No common version; what the accepting side speaks.
    Version { min: u16, max: u16 },
    /// The dialler belongs to another cluster than the accepting side.
    OtherCluster { ours: ClusterId },
    /// The dialler's certificate does not allow this purpose; its role.
    Role { role: String, purpose: Purpose },
    /// The `Hello` claims another server than the certificate.
    WrongSender { certificate: String, claimed: Option<Member> },
    /// The dialler means to reach somebody else; who was reached, if it is a server.
    WrongDestination { ours: Option<Member>, meant: Option<Member> },
    /// A connection of this purpose has no place here.
    WrongPurpose { purpose: Purpose },
    /// The dialler's incarnation has a successor or is proven dead.
    Superseded { member: Member },
    /// No room for one more connection of this kind: try again later.
    Full,
    /// The accepting side is not ready, or about to stop: try again later, or elsewhere.
    NotReady,
}

impl fmt::Display for HelloRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HelloRefusal::Version { min, max } => write!(
                f,
                "no common version: the accepting side speaks {min} to {max}; update the older \
                 side"
            ),
            HelloRefusal::OtherCluster { ours } => write!(
                f,
                "the accepting side belongs to cluster {ours}, the dialler to another; check \
                 its configuration and state directory"
            ),
            HelloRefusal::Role { role, purpose } => write!(
                f,
                "a {role} certificate does not allow {purpose:?} connections; use a \
                 certificate of the right role"
            ),
            HelloRefusal::WrongSender { certificate, claimed } => write!(
                f,
                "the certificate is of {certificate}, but the Hello claims to be {}",
                Named(*claimed)
            ),
            HelloRefusal::WrongDestination { ours, meant } => write!(
                f,
                "the dialler means to reach {}, this is {}; it needs a newer view",
                Named(*meant),
                Named(*ours)
            ),
            HelloRefusal::WrongPurpose { purpose } => {
                write!(f, "{purpose:?} connections are not accepted here; check the address")
            }
            HelloRefusal::Superseded { member } => {
                write!(f, "{member} has a successor or is proven dead; start it again")
            }
            HelloRefusal::Full => f.write_str("too many connections; try again later"),
            HelloRefusal::NotReady => f.write_str("not ready, or about to stop; try again later"),
        }
    }
}

impl std::error::Error for HelloRefusal {}

/// A member in a message to people; the metaserver and clients are none.
struct Named(Option<Member>);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(member) => fmt::Display::fmt(&member, f),
            None => f.write_str("no server"),
        }
    }
}

/// Compares a `Hello` with the party that the dialler's certificate proves.
///
/// # Errors
/// The party may not open connections of this purpose, or is not whom the `Hello` claims.
pub fn check_party(party: &Identity, hello: &Hello) -> Result<(), HelloRefusal> {
    let allowed = match hello.purpose {
        Purpose::Replication | Purpose::Bulk | Purpose::Control => {
            matches!(party.role, PartyRole::Server)
        }
        Purpose::Client => matches!(party.role, PartyRole::Client | PartyRole::Admin),
    };
    if !allowed {
        let role = party.role.name().to_owned();
        return Err(HelloRefusal::Role { role, purpose: hello.purpose });
    }
    let claimed: Option<ServerId> = hello.from.map(|member| member.server);
    if claimed != party.server_id() {
        let certificate = party.to_string();
        return Err(HelloRefusal::WrongSender { certificate, claimed: hello.from });
    }
    Ok(())
}

/// Who accepts a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Local {
    /// Zero if not known yet.
    pub cluster: ClusterId,
    /// None at the metaserver.
    pub member: Option<Member>,
}

impl Local {
    /// Compares a `Hello` with who is here, and makes the answer, without bases.
    ///
    /// # Errors
    /// No common version, another cluster, or meant for somebody else.
    pub fn admit(&self, hello: &Hello) -> Result<HelloAck, HelloRefusal> {
        let version = VERSION_MAX.min(hello.version_max);
        if version < VERSION_MIN || version < hello.version_min {
            return Err(HelloRefusal::Version { min: VERSION_MIN, max: VERSION_MAX });
        }
        let unknown = ClusterId::default();
        let differ = self.cluster != hello.cluster;
        if differ && self.cluster != unknown && hello.cluster != unknown {
            return Err(HelloRefusal::OtherCluster { ours: self.cluster });
        }
        let fits = match hello.purpose {
            Purpose::Replication | Purpose::Bulk => self.member.is_some(),
            Purpose::Control => self.member.is_none(),
            Purpose::Client => true,
        };
        if !fits {
            return Err(HelloRefusal::WrongPurpose { purpose: hello.purpose });
        }
        // A client that has no view yet names nobody; servers always say whom they mean.
        let anyone = hello.purpose == Purpose::Client && hello.to.is_none();
        if !anyone && hello.to != self.member {
            return Err(HelloRefusal::WrongDestination { ours: self.member, meant: hello.to });
        }
        Ok(HelloAck {
            version,
            features: 0,
            cluster: self.cluster,
            from: self.member,
            bases: Vec::new(),
        })
    }
}
