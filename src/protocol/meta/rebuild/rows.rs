//! The rows of a state that was judged safe.

use super::{JUMP, Rebuild, Rebuilt};
use crate::protocol::meta::durable::{ClusterRow, MetaRecord, ServerRow, SetRow};
use crate::protocol::types::{Epoch, Incarnation, RecoveryId, ServerId, ViewVersion, WorkerId};
use crate::protocol::view::{SetEntry, SetState};

impl Rebuild {
    /// Everything under numbers far above those that were heard of.
    pub(super) fn rows(&self) -> Rebuilt {
        let sets = self.set_rows();
        let cluster = self.words().map(|it| it.cluster).max().unwrap_or_default();
        let version = self.words().map(|it| it.version).max().unwrap_or_default();
        let count = u16::try_from(sets.len()).unwrap_or(u16::MAX);
        let (copies, floor) = (self.settings.copies, self.settings.min_write_copies);
        let few = |row: &&SetRow| {
            let copies = row.configuration.as_ref().map_or(0, |it| it.copies());
            row.state != SetState::Lost && copies < usize::from(floor)
        };
        let below_floor = sets.iter().filter(few).map(|row| row.set).collect();
        let lost = sets.iter().filter(|it| it.state == SetState::Lost).map(|it| it.set).collect();
        let mut records = vec![MetaRecord::Cluster(ClusterRow {
            cluster,
            sets: count,
            copies,
            incarnation_last: Incarnation(self.incarnation_last().0 + JUMP),
            recovery_last: RecoveryId(JUMP),
            born: true,
            version: ViewVersion(version.0 + JUMP),
        })];
        records.extend(self.server_rows().map(MetaRecord::Server));
        records.extend(sets.into_iter().map(MetaRecord::Set));
        let servers = self.witnesses.values().map(|it| it.member).collect();
        Rebuilt { cluster, records, servers, sets: count, copies, below_floor, lost }
    }

    /// Who is there. Whom such a process is heir of does not matter any more: it has remembered
    /// its own incarnation.
    fn server_rows(&self) -> impl Iterator<Item = ServerRow> {
        self.witnesses.values().filter_map(|witness| {
            let word = witness.words.get(&WorkerId(0))?;
            let entry = word.servers.iter().find(|it| it.member() == witness.member)?.clone();
            Some(ServerRow {
                entry,
                dead: false,
                fenced: false,
                leaving: false,
                process: word.process,
                inherits: Vec::new(),
            })
        })
    }

    fn set_rows(&self) -> Vec<SetRow> {
        let row = |entry: &SetEntry| {
            let mut configuration = entry.configuration.clone();
            let members = configuration.iter().flat_map(|it| it.members());
            let target: Vec<ServerId> = members.map(|it| it.server).collect();
            if let Some(configuration) = &mut configuration {
                configuration.epoch = Epoch(configuration.epoch.0 + JUMP);
            }
            let lost = entry.state == SetState::Lost;
            SetRow {
                set: entry.set,
                configuration,
                state: if lost { SetState::Lost } else { SetState::Available },
                target,
                refused: Vec::new(),
                ex_member: None,
            }
        };
        self.newest().into_iter().flatten().map(row).collect()
    }
}
