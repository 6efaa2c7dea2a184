//! Who a party of the cluster is, as its certificate says: `tandem://<cluster>/<role>/<id>`.
//!
//! The identity is the one URI among a certificate's subject alternative names. Beside it stands
//! the constant DNS name `NODE_NAME`, because TLS libraries compare only DNS names and addresses;
//! that one says nothing about the party. Every identity has exactly one spelling, so that two
//! identities are the same exactly where their texts are the same.

use std::fmt;
use std::str::FromStr;

use crate::protocol::types::ServerId;

/// The DNS name in every certificate of a cluster, and the name that every dialler asks for.
pub const NODE_NAME: &str = "tandem-node";

/// The id of the metaserver; a cluster has one.
pub const META_ID: &str = "1";

/// Longest name of a cluster, a client or an admin, in bytes.
pub const NAME_BYTES_MAX: usize = 48;

/// What an identity's text begins with.
const SCHEME: &str = "tandem://";

/// What a party may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum PartyRole {
    /// The metaserver.
    Meta,
    /// Holds replicas of key sets.
    Server,
    /// Reads and writes keys.
    Client,
    /// A client that may also change the cluster.
    Admin,
}

impl PartyRole {
    /// All roles, in the order in which people read of them.
    pub const ALL: [PartyRole; 4] =
        [PartyRole::Meta, PartyRole::Server, PartyRole::Client, PartyRole::Admin];

    /// The role as identities and file names spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PartyRole::Meta => "meta",
            PartyRole::Server => "server",
            PartyRole::Client => "client",
            PartyRole::Admin => "admin",
        }
    }
}

impl fmt::Display for PartyRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PartyRole {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<PartyRole, IdentityError> {
        PartyRole::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| IdentityError::Role { found: text.to_owned() })
    }
}

/// A party of a cluster. `new` and parsing accept only what has the one right spelling.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Identity {
    /// The cluster's name in `cluster.toml`.
    pub cluster: String,
    pub role: PartyRole,
    /// `META_ID`, a server's number, or the name of a client or an admin.
    pub id: String,
}

impl Identity {
    /// The party with this role and id.
    ///
    /// # Errors
    /// A name with characters that an identity may not have, or an id that does not fit the role.
    pub fn new(cluster: &str, role: PartyRole, id: &str) -> Result<Identity, IdentityError> {
        check_name(cluster)?;
        match role {
            PartyRole::Meta if id != META_ID => {
                return Err(IdentityError::MetaId { found: id.to_owned() });
            }
            PartyRole::Server if server_number(id).is_none() => {
                return Err(IdentityError::ServerId { found: id.to_owned() });
            }
            PartyRole::Client | PartyRole::Admin => check_name(id)?,
            PartyRole::Meta | PartyRole::Server => {}
        }
        Ok(Identity { cluster: cluster.to_owned(), role, id: id.to_owned() })
    }

    /// The server's number, if this is a server.
    #[must_use]
    pub fn server_id(&self) -> Option<ServerId> {
        match self.role {
            PartyRole::Server => server_number(&self.id),
            PartyRole::Meta | PartyRole::Client | PartyRole::Admin => None,
        }
    }

    /// The name of this party's certificate and key files, without their endings: `meta`,
    /// `server-1`, `client-app`, `admin-ops`.
    #[must_use]
    pub fn file_stem(&self) -> String {
        match self.role {
            PartyRole::Meta => self.role.name().to_owned(),
            PartyRole::Server | PartyRole::Client | PartyRole::Admin => {
                format!("{}-{}", self.role, self.id)
            }
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/{}", self.cluster, self.role, self.id)
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Identity, IdentityError> {
        let shape = || IdentityError::Shape { found: text.to_owned() };
        let mut parts = text.strip_prefix(SCHEME).ok_or_else(shape)?.split('/');
        let (Some(cluster), Some(role), Some(id), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(shape());
        };
        Identity::new(cluster, role.parse()?, id)
    }
}

/// Whether `name` may name a cluster, a client or an admin.
///
/// # Errors
/// The name is empty, too long, or has a character other than those that URIs and file names
/// both take as they are.
pub fn check_name(name: &str) -> Result<(), IdentityError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts_well && name.chars().all(plain) && name.len() <= NAME_BYTES_MAX {
        Ok(())
    } else {
        Err(IdentityError::Name { found: name.to_owned() })
    }
}

/// The number that `id` spells without sign or leading zeros, if it is 1 to 65535.
fn server_number(id: &str) -> Option<ServerId> {
    let number = id.parse::<u16>().ok()?;
    (number >= 1 && number.to_string() == id).then_some(ServerId(number))
}

/// Why a text is no identity.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum IdentityError {
    /// Not of the form `tandem://<cluster>/<role>/<id>`.
    Shape { found: String },
    /// Not one of the four roles.
    Role { found: String },
    /// Not the name of a cluster, a client or an admin.
    Name { found: String },
    /// Not the id of the metaserver.
    MetaId { found: String },
    /// Not the number of a server.
    ServerId { found: String },
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdentityError::Shape { found } => {
                write!(f, "{found:?} is no identity; expected {SCHEME}<cluster>/<role>/<id>")
            }
            IdentityError::Role { found } => {
                write!(f, "{found:?} is no role; expected meta, server, client or admin")
            }
            IdentityError::Name { found } => write!(
                f,
                "{found:?} is no name; use 1 to {NAME_BYTES_MAX} letters, digits, '-', '_' or \
                 '.', a letter or digit first"
            ),
            IdentityError::MetaId { found } => {
                write!(f, "{found:?} is no metaserver's id; it is always {META_ID:?}")
            }
            IdentityError::ServerId { found } => {
                write!(f, "{found:?} is no server's id; use a number from 1 to 65535")
            }
        }
    }
}

impl std::error::Error for IdentityError {}

#[cfg(test)]
mod tests {
    //! Goal: an identity has one spelling, and nothing else parses.
    //! Method: round trips of each role, and texts that are each wrong in one way.

    use super::*;

    #[test]
    fn each_role_survives_a_round_trip() {
        for (role, id) in [
            (PartyRole::Meta, "1"),
            (PartyRole::Server, "65535"),
            (PartyRole::Client, "app-1.eu_x"),
            (PartyRole::Admin, "ops"),
        ] {
            let identity = Identity::new("demo", role, id).expect("a good identity");
            assert_eq!(identity.to_string().parse(), Ok(identity));
        }
    }

    #[test]
    fn a_server_knows_its_number_and_its_files() {
        let identity: Identity = "tandem://demo/server/7".parse().expect("a good identity");
        assert_eq!(identity.server_id(), Some(ServerId(7)));
        assert_eq!(identity.file_stem(), "server-7");
        let meta = Identity::new("demo", PartyRole::Meta, META_ID).expect("a good identity");
        assert_eq!((meta.server_id(), meta.file_stem().as_str()), (None, "meta"));
    }

    #[test]
    fn every_other_spelling_is_refused() {
        let long = format!("tandem://{}/client/a", "c".repeat(NAME_BYTES_MAX + 1));
        for text in [
            "",
            "demo/server/1",
            "http://demo/server/1",
            "TANDEM://demo/server/1",
            "tandem://demo/server",
            "tandem://demo/server/1/",
            "tandem:///server/1",
            "tandem://demo/Server/1",
            "tandem://demo/boss/1",
            "tandem://demo/server/0",
            "tandem://demo/server/01",
            "tandem://demo/server/+1",
            "tandem://demo/server/65536",
            "tandem://demo/meta/2",
            "tandem://demo/client/",
            "tandem://demo/client/..",
            "tandem://demo/client/a b",
            "tandem://demo/client/ä",
            "tandem://de%6do/client/a",
            "tandem://demo@x/client/a",
            &long,
        ] {
            assert!(text.parse::<Identity>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_refusal_says_what_to_write_instead() {
        let error = Identity::new("demo", PartyRole::Server, "x").expect_err("no number");
        assert_eq!(error.to_string(), "\"x\" is no server's id; use a number from 1 to 65535");
    }
}
