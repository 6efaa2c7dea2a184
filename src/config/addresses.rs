//! No two processes may want the same address or the same folder.
//!
//! Addresses that others dial must differ everywhere. Addresses to listen at, and state folders,
//! collide only on one machine; known to share a machine are the metaserver and the servers
//! that it spawns. There `0.0.0.0` takes the port of every address.

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::Spanned;

use super::error::{ConfigError, Source};

/// What one process claims.
pub(super) struct Party {
    /// As messages name it.
    pub name: String,
    /// The section it stands in.
    pub section: &'static str,
    /// Whether it runs on the metaserver's machine for certain.
    pub beside_meta: bool,
    /// With the key of each.
    pub listen: Vec<(&'static str, Spanned<SocketAddr>)>,
    /// With the key of each.
    pub advertise: Vec<(&'static str, Spanned<SocketAddr>)>,
    pub state: Spanned<PathBuf>,
}

/// Whether all parties can run at once.
///
/// # Errors
/// The first claim, in the order of the file, that an earlier one excludes.
pub(super) fn check_parties(source: Source<'_>, parties: &[Party]) -> Result<(), ConfigError> {
    for (index, party) in parties.iter().enumerate() {
        check_within(source, party)?;
        for earlier in &parties[..index] {
            let shared = party.beside_meta && earlier.beside_meta;
            let listen = pairs(&earlier.listen, &party.listen)
                .find(|(a, b)| collide(a.1.get_ref(), b.1.get_ref(), shared));
            let dialled = pairs(&earlier.advertise, &party.advertise)
                .find(|(a, b)| a.1.get_ref() == b.1.get_ref());
            if let Some((taken, claim)) = listen.or(dialled) {
                return Err(taken_error(source, party, claim, earlier, taken));
            }
            if shared && earlier.state.get_ref() == party.state.get_ref() {
                return Err(source.error(
                    &party.state.span(),
                    &format!("{}.state", party.section),
                    format!(
                        "{} is the folder of {} in line {}",
                        party.state.get_ref().display(),
                        earlier.name,
                        source.line(&earlier.state.span())
                    ),
                    "give each process its own folder",
                ));
            }
        }
    }
    Ok(())
}

type Claim = (&'static str, Spanned<SocketAddr>);

/// Whether the addresses that one process claims differ.
fn check_within(source: Source<'_>, party: &Party) -> Result<(), ConfigError> {
    for claims in [&party.listen, &party.advertise] {
        for (index, claim) in claims.iter().enumerate() {
            let taken =
                claims[..index].iter().find(|a| collide(a.1.get_ref(), claim.1.get_ref(), true));
            if let Some(taken) = taken {
                return Err(taken_error(source, party, claim, party, taken));
            }
        }
    }
    Ok(())
}

fn pairs<'a>(a: &'a [Claim], b: &'a [Claim]) -> impl Iterator<Item = (&'a Claim, &'a Claim)> {
    a.iter().flat_map(move |a| b.iter().map(move |b| (a, b)))
}

/// Whether two processes, on one machine if `shared`, can not both listen.
fn collide(a: &SocketAddr, b: &SocketAddr, shared: bool) -> bool {
    let any = a.ip().is_unspecified() || b.ip().is_unspecified();
    if any { shared && a.port() == b.port() } else { a == b }
}

fn taken_error(
    source: Source<'_>,
    party: &Party,
    claim: &Claim,
    earlier: &Party,
    taken: &Claim,
) -> ConfigError {
    source.error(
        &claim.1.span(),
        &format!("{}.{}", party.section, claim.0),
        format!(
            "{} is taken by {} in line {}",
            claim.1.get_ref(),
            earlier.name,
            source.line(&taken.1.span())
        ),
        "give each listener its own address or port",
    )
}
