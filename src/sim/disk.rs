//! Disks: the metaserver's durable rows, and what a server's state directory remembers.
//!
//! A crash leaves a prefix of what was on its way to the disk, whole transactions only.

use std::collections::{BTreeMap, VecDeque};

use crate::protocol::meta::durable::{ClusterRow, MetaRecord, Recovery, SetRow};
use crate::protocol::types::{ClusterId, Epoch, KeySet, RecoveryId, ServerId};

/// Which row a record is the value of.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
enum RowKey {
    Cluster,
    Server(ServerId),
    Set(KeySet),
    Recovery(RecoveryId),
}

/// The metaserver's disk.
#[derive(Clone, Debug, Default)]
pub struct MetaDisk {
    rows: BTreeMap<RowKey, MetaRecord>,
    pending: VecDeque<(u64, Vec<MetaRecord>)>,
}

impl MetaDisk {
    /// Begins a transaction.
    pub fn begin(&mut self, number: u64, records: Vec<MetaRecord>) {
        self.pending.push_back((number, records));
    }

    /// Makes the oldest pending transaction durable; answers its number and records.
    pub fn finish(&mut self) -> Option<(u64, Vec<MetaRecord>)> {
        let (number, records) = self.pending.pop_front()?;
        for record in &records {
            self.store(record.clone());
        }
        Some((number, records))
    }

    /// Transactions on their way.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Configurations on their way to the disk.
    pub fn pending_sets(&self) -> impl Iterator<Item = &SetRow> + '_ {
        self.pending.iter().flat_map(|(_, records)| records).filter_map(|record| match record {
            MetaRecord::Set(row) => Some(row),
            _ => None,
        })
    }

    /// Loses what is not durable yet.
    pub fn crash(&mut self) {
        self.pending.clear();
    }

    fn store(&mut self, record: MetaRecord) {
        let key = match &record {
            MetaRecord::Cluster(_) => RowKey::Cluster,
            MetaRecord::Server(row) => RowKey::Server(row.entry.id),
            MetaRecord::Set(row) => RowKey::Set(row.set),
            MetaRecord::Recovery(recovery) => RowKey::Recovery(recovery.id),
            MetaRecord::RecoveryForgotten(id) => {
                self.rows.remove(&RowKey::Recovery(*id));
                return;
            }
        };
        self.rows.insert(key, record);
    }

    /// All rows, as a restart finds them.
    #[must_use]
    pub fn records(&self) -> Vec<MetaRecord> {
        self.rows.values().cloned().collect()
    }

    #[must_use]
    pub fn set(&self, set: KeySet) -> Option<&SetRow> {
        match self.rows.get(&RowKey::Set(set)) {
            Some(MetaRecord::Set(row)) => Some(row),
            _ => None,
        }
    }

    pub fn sets(&self) -> impl Iterator<Item = &SetRow> + '_ {
        self.rows.values().filter_map(|record| match record {
            MetaRecord::Set(row) => Some(row),
            _ => None,
        })
    }

    pub fn recoveries(&self) -> impl Iterator<Item = &Recovery> + '_ {
        self.rows.values().filter_map(|record| match record {
            MetaRecord::Recovery(recovery) => Some(recovery),
            _ => None,
        })
    }

    #[must_use]
    pub fn cluster(&self) -> Option<&ClusterRow> {
        match self.rows.get(&RowKey::Cluster) {
            Some(MetaRecord::Cluster(row)) => Some(row),
            _ => None,
        }
    }
}

/// What a server's state directory remembers over restarts: who it belongs to, not its data.
#[derive(Clone, Copy, Debug, Default)]
pub struct StateDirectory {
    pub cluster: Option<ClusterId>,
    pub highest_epoch: Epoch,
}

#[cfg(test)]
mod tests {
    //! Goal: a crash keeps whole finished transactions and nothing else.
    //! Method: two transactions, one finished, then a crash.

    use super::*;

    #[test]
    fn a_crash_keeps_what_was_finished() {
        let mut disk = MetaDisk::default();
        let row = |sets| MetaRecord::Cluster(ClusterRow { sets, ..ClusterRow::default() });
        disk.begin(1, vec![row(1)]);
        disk.begin(2, vec![row(2)]);
        assert_eq!(disk.cluster(), None);
        assert_eq!(disk.finish().map(|(number, _)| number), Some(1));
        disk.crash();
        assert_eq!(disk.finish(), None);
        assert_eq!(disk.records(), vec![row(1)]);
    }
}
