//! Real processes: the product's own binary, real QUIC, real certificates, real kills.
//!
//! Everything here goes through what a user has: `cluster.toml`, the client, signals. A
//! `TestCluster` runs on loopback; `network` gives each node a network of its own, so that a link
//! between two named nodes can be cut, one way or both. Whatever a test waits for is a condition
//! with a deadline (`wait`), never a length of time.

mod backup;
mod changed_file;
mod cut;
mod expiry;
mod flipped;
mod full;

mod lifetimes;
mod loopback;
mod moves;
mod network;
mod power;
mod rebuild;
mod rejoin;
mod rolling;
mod space;
mod steps;
mod stopping;
mod wait;
mod watch;
mod workers;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tandem_local::{Cluster, Plan};

/// The binary under test, built by cargo for this very run.
const BINARY: &str = env!("CARGO_BIN_EXE_tandem");

/// A cluster in a folder of its own, which goes away with it unless the test failed.
struct TestCluster {
    cluster: Cluster,
    folder: PathBuf,
}

impl TestCluster {
    /// Makes a cluster and starts nothing.
    fn create(plan: &Plan) -> TestCluster {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("cluster-{}-{number}", std::process::id()));
        let cluster = Cluster::create(Path::new(BINARY), &folder, plan)
            .unwrap_or_else(|error| panic!("the cluster was not made: {error:#}"));
        TestCluster { cluster, folder }
    }

    /// Makes a cluster and starts all its processes.
    fn start(plan: &Plan) -> TestCluster {
        let mut made = TestCluster::create(plan);
        made.cluster
            .start_all()
            .unwrap_or_else(|error| panic!("the cluster was not started: {error:#}"));
        made
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        let stopped = self.cluster.stop();
        if std::thread::panicking() {
            eprintln!("the failed cluster's files and logs are in {}", self.folder.display());
            return;
        }
        // A leftover process is a failure of the product or of this harness: not to be missed.
        stopped.unwrap_or_else(|error| panic!("the cluster was not stopped: {error:#}"));
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            eprintln!("{} was not removed: {error}", self.folder.display());
        }
    }
}
