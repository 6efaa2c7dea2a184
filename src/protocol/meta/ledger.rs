//! The ledger: the newest rows in memory, and which of them are not yet on their way to disk.
//!
//! Whoever changes a row goes through a `*_mut` method, which notes it as dirty; at the end of
//! each handler the dirty rows leave as one transaction. Decisions are taken on these rows at
//! once; the outbox keeps them from being heard of before they are durable.

use std::collections::{BTreeMap, BTreeSet};

use super::MetaSettings;
use super::durable::{ClusterRow, MetaRecord, Recovery, ServerRow, SetRow, Step};
use crate::protocol::types::{Configuration, KeySet, Member, RecoveryId, ServerId};
use crate::protocol::view::{SetEntry, SetState, View};

/// Finished recoveries that are kept for `status`.
const FINISHED_MAX: usize = 32;

#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
enum RowKey {
    Cluster,
    Server(ServerId),
    Set(KeySet),
    Recovery(RecoveryId),
}

#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Ledger {
    cluster: ClusterRow,
    servers: BTreeMap<ServerId, ServerRow>,
    /// Empty until birth, then one a key set, in order: every pass looks at all of them.
    sets: Vec<SetRow>,
    recoveries: BTreeMap<RecoveryId, Recovery>,
    /// Every recovery below this one is finished.
    open_from: RecoveryId,
    dirty: BTreeSet<RowKey>,
}

impl Ledger {
    /// Rebuilds the rows from everything persisted; empty records make a new cluster.
    pub(super) fn load(settings: &MetaSettings, records: Vec<MetaRecord>) -> Ledger {
        let mut ledger = Ledger::default();
        if records.is_empty() {
            ledger.cluster = ClusterRow {
                cluster: settings.new_cluster,
                sets: settings.key_sets,
                copies: settings.copies,
                ..ClusterRow::default()
            };
            ledger.dirty.insert(RowKey::Cluster);
        }
        for record in records {
            match record {
                MetaRecord::Cluster(row) => ledger.cluster = row,
                MetaRecord::Server(row) => {
                    ledger.servers.insert(row.entry.id, row);
                }
                MetaRecord::Set(row) => ledger.place(row),
                MetaRecord::Recovery(row) => {
                    ledger.recoveries.insert(row.id, row);
                }
                MetaRecord::RecoveryForgotten(id) => {
                    ledger.recoveries.remove(&id);
                }
            }
        }
        ledger
    }

    /// The changed rows, whole, for one transaction.
    pub(super) fn take_dirty(&mut self) -> Vec<MetaRecord> {
        let keys = std::mem::take(&mut self.dirty);
        keys.into_iter().filter_map(|key| self.record(key)).collect()
    }

    fn record(&self, key: RowKey) -> Option<MetaRecord> {
        match key {
            RowKey::Cluster => Some(MetaRecord::Cluster(self.cluster.clone())),
            RowKey::Server(id) => self.servers.get(&id).cloned().map(MetaRecord::Server),
            RowKey::Set(set) => self.set(set).cloned().map(MetaRecord::Set),
            RowKey::Recovery(id) => Some(match self.recoveries.get(&id) {
                Some(row) => MetaRecord::Recovery(row.clone()),
                None => MetaRecord::RecoveryForgotten(id),
            }),
        }
    }

    pub(super) fn cluster(&self) -> &ClusterRow {
        &self.cluster
    }

    pub(super) fn cluster_mut(&mut self) -> &mut ClusterRow {
        self.dirty.insert(RowKey::Cluster);
        &mut self.cluster
    }

    pub(super) fn server(&self, id: ServerId) -> Option<&ServerRow> {
        self.servers.get(&id)
    }

    pub(super) fn servers(&self) -> impl Iterator<Item = &ServerRow> {
        self.servers.values()
    }

    pub(super) fn server_mut(&mut self, id: ServerId) -> Option<&mut ServerRow> {
        self.dirty.insert(RowKey::Server(id));
        self.servers.get_mut(&id)
    }

    pub(super) fn put_server(&mut self, row: ServerRow) {
        self.dirty.insert(RowKey::Server(row.entry.id));
        self.servers.insert(row.entry.id, row);
    }

    pub(super) fn set(&self, set: KeySet) -> Option<&SetRow> {
        self.sets.get(usize::from(set.0)).filter(|row| row.set == set)
    }

    pub(super) fn sets(&self) -> impl Iterator<Item = &SetRow> {
        self.sets.iter()
    }

    pub(super) fn set_mut(&mut self, set: KeySet) -> Option<&mut SetRow> {
        self.dirty.insert(RowKey::Set(set));
        self.sets.get_mut(usize::from(set.0)).filter(|row| row.set == set)
    }

    pub(super) fn put_set(&mut self, row: SetRow) {
        self.dirty.insert(RowKey::Set(row.set));
        self.place(row);
    }

    fn place(&mut self, row: SetRow) {
        match self.sets.binary_search_by_key(&row.set, |it| it.set) {
            Ok(place) => self.sets[place] = row,
            Err(place) => self.sets.insert(place, row),
        }
    }

    /// The configuration of a set that is not lost.
    pub(super) fn configuration(&self, set: KeySet) -> Option<&Configuration> {
        let row = self.set(set).filter(|row| row.state != SetState::Lost)?;
        row.configuration.as_ref()
    }

    pub(super) fn recoveries(&self) -> impl Iterator<Item = &Recovery> {
        self.recoveries.values()
    }

    pub(super) fn open_recoveries(&self) -> impl Iterator<Item = &Recovery> {
        let newer = self.recoveries.range(self.open_from..).map(|(_, row)| row);
        newer.filter(|it| it.step != Step::Done)
    }

    pub(super) fn recovery_mut(&mut self, id: RecoveryId) -> Option<&mut Recovery> {
        self.dirty.insert(RowKey::Recovery(id));
        self.recoveries.get_mut(&id)
    }

    /// Opens a recovery of `failed`, without sets.
    pub(super) fn open_recovery(&mut self, failed: Member) -> RecoveryId {
        let cluster = self.cluster_mut();
        cluster.recovery_last.0 += 1;
        let id = cluster.recovery_last;
        let row = Recovery {
            id,
            failed,
            primary_of: Vec::new(),
            secondary_of: Vec::new(),
            step: Step::Invalidate,
            took_ms: [None; 4],
            dropped: 0,
        };
        self.dirty.insert(RowKey::Recovery(id));
        self.recoveries.insert(id, row);
        id
    }

    /// Drops the oldest finished recoveries beyond those that are kept.
    pub(super) fn forget_recoveries(&mut self) {
        let open = self.open_recoveries().next().map(|it| it.id);
        self.open_from = open.unwrap_or(self.cluster.recovery_last);
        if self.recoveries.len() <= FINISHED_MAX {
            return;
        }
        let finished: Vec<_> =
            self.recoveries.values().filter(|it| it.step == Step::Done).map(|it| it.id).collect();
        for id in finished.iter().take(finished.len().saturating_sub(FINISHED_MAX)) {
            self.recoveries.remove(id);
            self.dirty.insert(RowKey::Recovery(*id));
        }
    }

    /// Whether `member` is proven dead: by a proof of its own, or by a later registration.
    pub(super) fn is_dead(&self, member: Member) -> bool {
        self.servers.get(&member.server).is_some_and(|row| {
            let latest = row.entry.incarnation;
            latest > member.incarnation || (latest == member.incarnation && row.dead)
        })
    }

    /// The latest incarnation of a server that is not proven dead.
    pub(super) fn live_member(&self, server: ServerId) -> Option<Member> {
        self.servers.get(&server).filter(|row| !row.dead).map(|row| row.entry.member())
    }

    pub(super) fn set_entry(&self, set: KeySet) -> SetEntry {
        match self.set(set) {
            Some(row) => {
                SetEntry { set, configuration: row.configuration.clone(), state: row.state }
            }
            None => SetEntry { set, configuration: None, state: SetState::Unborn },
        }
    }

    /// The view that these rows make up.
    pub(super) fn view(&self) -> View {
        let dead = self.servers.values().filter(|row| row.dead);
        View {
            cluster: self.cluster.cluster,
            version: self.cluster.version,
            sets: (0..self.cluster.sets).map(|set| self.set_entry(KeySet(set))).collect(),
            servers: self.servers.values().map(|row| row.entry.clone()).collect(),
            dead: dead.map(|row| row.entry.member()).collect(),
        }
    }
}
