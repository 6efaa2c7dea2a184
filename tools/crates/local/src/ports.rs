//! Free UDP ports of this machine.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

/// Ports that this process handed out: two clusters of one test run must not share any, although
/// a port that was found is free again until its owner binds it.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Attempts to find a port that was not handed out before, for each one wanted.
const ATTEMPTS_MAX: usize = 100;

/// `count` different ports of 127.0.0.1 that nobody is bound to.
///
/// # Errors
/// The system has no free ports.
pub fn free(count: usize) -> Result<Vec<u16>> {
    // All stay bound until all are found, so that the system names each one only once.
    let mut held = Vec::new();
    let mut ports = Vec::new();
    let mut given = GIVEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    for _ in 0..count * ATTEMPTS_MAX {
        if ports.len() == count {
            return Ok(ports);
        }
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("no free UDP port")?;
        let port = socket.local_addr().context("a bound socket has an address")?.port();
        held.push(socket);
        if given.insert(port) {
            ports.push(port);
        }
    }
    bail!("found only {} of {count} free UDP ports on 127.0.0.1", ports.len())
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
