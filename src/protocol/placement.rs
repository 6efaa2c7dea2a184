//! Where keys and key sets belong: key to key set, key set to servers, key set to worker.

use xxhash_rust::xxh3::xxh3_64;

use super::types::{KeySet, ServerId, WorkerId};

/// The key set of a key: `xxh3_64(key) mod count`, seed 0. Part of the stored format: it never
/// changes for a cluster, and `count` is fixed at its creation.
///
/// # Panics
/// If `count` is zero: a cluster has at least one key set.
#[must_use]
pub fn key_set(key: &[u8], count: u16) -> KeySet {
    assert!(count > 0, "a cluster has at least one key set");
    KeySet((xxh3_64(key) % u64::from(count)) as u16)
}

/// The worker that serves a key set on a server with `workers` workers.
///
/// # Panics
/// If `workers` is zero.
#[must_use]
pub fn worker(set: KeySet, workers: u16) -> WorkerId {
    assert!(workers > 0, "a server has at least one worker");
    WorkerId(set.0 % workers)
}

/// The target placement of one key set, primary first, over `servers` in their given order.
///
/// Primaries go round the servers; the distance to the secondaries changes with every round, so
/// that the sets of a failed primary spread over all the others. Gives fewer than `copies`
/// servers if there are fewer.
#[must_use]
pub fn target(set: KeySet, servers: &[ServerId], copies: usize) -> Vec<ServerId> {
    let count = servers.len();
    if count == 0 {
        return Vec::new();
    }
    let index = usize::from(set.0);
    let first = index % count;
    let mut chosen = vec![servers[first]];
    if count > 1 {
        let skew = (index / count) % (count - 1);
        for step in 0..copies.saturating_sub(1).min(count - 1) {
            let distance = 1 + (skew + step) % (count - 1);
            chosen.push(servers[(first + distance) % count]);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    //! Goal: placement is fixed, even, and never names a server twice.
    //! Method: golden hash values, and every set of small clusters enumerated.

    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_hash_of_a_key_never_changes() {
        assert_eq!(key_set(b"a", 256), KeySet((xxh3_64(b"a") % 256) as u16));
        assert_eq!(xxh3_64(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(key_set(b"anything", 1), KeySet(0));
    }

    #[test]
    fn copies_are_on_different_servers_and_spread_evenly() {
        for count in 1..=6u16 {
            let servers: Vec<_> = (1..=count).map(ServerId).collect();
            for copies in 1..=4 {
                let mut primaries: BTreeMap<ServerId, usize> = BTreeMap::new();
                for set in 0..240 {
                    let chosen = target(KeySet(set), &servers, copies);
                    assert_eq!(chosen.len(), copies.min(servers.len()));
                    let mut unique = chosen.clone();
                    unique.sort();
                    unique.dedup();
                    assert_eq!(unique.len(), chosen.len());
                    *primaries.entry(chosen[0]).or_default() += 1;
                }
                assert!(primaries.values().all(|&held| held == 240 / usize::from(count)));
            }
        }
    }
}
