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
    //! Goal: ports are free and never handed out twice, also while the process starts others.
    //! Method: ask again and again while a thread starts processes, compare, and bind them all. A
    //! process that is being started has copies of all sockets until it becomes its program, those
    //! that looked for a port among them: so a port is bound when it can be, within a minute.

    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use crate::wait::until;

    use super::*;

    const ROUNDS: usize = 40;

    /// Binds a port that is free, or will be as soon as a neighbour's process has started.
    fn bind(port: u16) -> UdpSocket {
        until("a free port", Duration::from_secs(60), || {
            UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| error.to_string())
        })
        .expect("a free port")
    }

    /// Tells the other thread that it is over, also where this one panics.
    struct Over<'a>(&'a AtomicBool);

    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    fn start_others(over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            let mut other = Command::new("true").stdin(Stdio::null()).spawn().expect("true starts");
            other.wait().expect("true ends");
        }
    }

    #[test]
    fn ports_are_free_and_different() {
        let over = AtomicBool::new(false);
        let found: Vec<u16> = std::thread::scope(|scope| {
            let _over = Over(&over);
            scope.spawn(|| start_others(&over));
            let round = |_| {
                let ports = free(5).expect("free ports");
                let sockets: Vec<UdpSocket> = ports.iter().map(|&port| bind(port)).collect();
                assert_eq!(sockets.len(), 5);
                ports
            };
            (0..ROUNDS).flat_map(round).collect()
        });
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 5 * ROUNDS);
    }
}
