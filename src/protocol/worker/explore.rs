//! For explorers of states: a worker forgets what can not decide anything any more.

use super::Worker;
use crate::protocol::replica::explore::{Explored, NO_TIME};
use crate::protocol::time::Time;

impl Worker {
    /// Starts the numbers of beacons and heartbeats again, which name messages and decide
    /// nothing, and so those of reads if there is none under way; forgets times that nothing will
    /// be compared with. Housekeeping is due at every tick, and heartbeats never, unless there is
    /// a metaserver that listens to them.
    pub fn forget_needless(&mut self, now: Time, explored: Explored) {
        self.beacon_number = 0;
        self.heartbeat_sequence = 0;
        if !explored.questions {
            self.housekeeping_at = Time(1);
            self.heartbeat_at = NO_TIME;
        }
        if self.timing.resign >= explored.never {
            self.meta_heard = NO_TIME;
        }
        if !explored.reading && self.replicas.iter().all(|it| it.reads_nothing()) {
            self.numbers.token = 0;
        }
        for replica in &mut self.replicas {
            replica.forget_needless(now, &self.timing, explored);
        }
    }
}
