//! Free ports of this machine.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::Mutex;

use anyhow::{Result, bail};

/// Ports that this process handed out: two clusters of one test run must not share any, although
/// a port that was found is free again until its owner binds it.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Ports from which cluster members' are chosen, all below those that Linux gives to sockets that
/// ask for none in particular (32768 and above, unless somebody changed it): a client's socket can
/// never take a port between its choice here and the start of the process it is meant for.
const CHOICE: Range<u16> = 12_000..32_000;

/// `count` different ports of 127.0.0.1 that nobody is bound to, neither UDP nor TCP.
///
/// # Errors
/// The system has no free ports.
pub fn free(count: usize) -> Result<Vec<u16>> {
    let mut given = GIVEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // Each process begins elsewhere, so that two that search at once do not meet.
    let skipped = usize::try_from(std::process::id()).unwrap_or(0) * 97 % CHOICE.len();
    let ports: Vec<u16> = CHOICE
        .cycle()
        .skip(skipped)
        .take(CHOICE.len())
        .filter(|port| !given.contains(port))
        .filter(|&port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .filter(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .take(count)
        .collect();
    if ports.len() < count {
        bail!("found only {} of {count} free ports on 127.0.0.1", ports.len())
    }
    given.extend(&ports);
    Ok(ports)
}

#[cfg(test)]
mod tests {
    //! Goal: ports are free and never handed out twice.
    //! Method: ask twice, compare, and bind them all.

    use super::*;

    #[test]
    fn ports_are_free_and_different() {
        let mut ports = free(5).expect("free ports");
        ports.extend(free(5).expect("free ports"));
        let sockets: Vec<UdpSocket> = ports
            .iter()
            .map(|&port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).expect("a free port"))
            .collect();
        assert_eq!(sockets.len(), 10);
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 10);
    }
}
