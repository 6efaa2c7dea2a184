//! The view: all configurations, the server table and what is known of the dead.
//!
//! The metaserver's durable view is the truth. Everyone else merges `Update`s, in any order and
//! any number of times: a higher epoch replaces a lower one, and nothing ever goes back.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::types::{
    ClusterId, Configuration, Epoch, Incarnation, KeySet, Member, ServerId, ViewVersion, WorkerId,
};

/// How a key set fares, as the metaserver sees it.
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize,
)]
pub enum SetState {
    /// Not created yet: too few servers have registered.
    #[default]
    Unborn,
    /// Served by its primary, as far as the metaserver knows.
    Available,
    /// Its members can not be reached, or none serves.
    Unavailable,
    /// All members are proven dead without heir: only `admin revive` reopens it.
    Lost,
}

/// A server as everyone needs to know it.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct ServerEntry {
    pub id: ServerId,
    /// The latest incarnation; all lower ones are superseded.
    pub incarnation: Incarnation,
    /// Where each worker listens, by worker number.
    pub workers: Vec<SocketAddr>,
}

impl ServerEntry {
    #[must_use]
    pub fn member(&self) -> Member {
        Member { server: self.id, incarnation: self.incarnation }
    }

    /// The address of the worker that serves `set`; none if no worker is listed.
    #[must_use]
    pub fn address(&self, set: KeySet) -> Option<(WorkerId, SocketAddr)> {
        let count = u16::try_from(self.workers.len()).ok().filter(|&count| count > 0)?;
        let worker = super::placement::worker(set, count);
        Some((worker, self.workers[usize::from(worker.0)]))
    }
}

/// A key set as everyone needs to know it.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct SetEntry {
    pub set: KeySet,
    /// None until the set is created.
    pub configuration: Option<Configuration>,
    pub state: SetState,
}

/// A primary's own word that it serves nothing more in `epoch`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Resignation {
    pub set: KeySet,
    pub epoch: Epoch,
    pub member: Member,
}

/// News from the metaserver, or a whole view when complete.
#[derive(Clone, Debug, Default, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct Update {
    pub version: ViewVersion,
    pub servers: Vec<ServerEntry>,
    pub sets: Vec<SetEntry>,
    /// Incarnations newly proven dead. An incarnation below its server's latest is dead as well.
    pub dead: Vec<Member>,
    pub resigned: Vec<Resignation>,
}

/// A merged view.
#[derive(Clone, Debug, Default, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct View {
    pub cluster: ClusterId,
    pub version: ViewVersion,
    /// One entry a key set, by number; its length is K.
    pub sets: Vec<SetEntry>,
    /// By server id.
    pub servers: Vec<ServerEntry>,
    /// The proven dead whose server has no later incarnation.
    pub dead: Vec<Member>,
}

impl View {
    /// A view of `count` key sets of which nothing is known.
    #[must_use]
    pub fn unborn(cluster: ClusterId, count: u16) -> View {
        let sets = (0..count)
            .map(|set| SetEntry { set: KeySet(set), configuration: None, state: SetState::Unborn })
            .collect();
        View { cluster, sets, ..View::default() }
    }

    #[must_use]
    pub fn server(&self, id: ServerId) -> Option<&ServerEntry> {
        let index = self.servers.binary_search_by_key(&id, |entry| entry.id).ok()?;
        Some(&self.servers[index])
    }

    #[must_use]
    pub fn set(&self, set: KeySet) -> Option<&SetEntry> {
        self.sets.get(usize::from(set.0))
    }

    #[must_use]
    pub fn configuration(&self, set: KeySet) -> Option<&Configuration> {
        self.set(set)?.configuration.as_ref()
    }

    /// Whether `member` is proven dead: named so, or superseded by a later incarnation.
    #[must_use]
    pub fn is_dead(&self, member: Member) -> bool {
        self.dead.binary_search(&member).is_ok()
            || self.server(member.server).is_some_and(|it| it.incarnation > member.incarnation)
    }

    /// Takes in what is newer in `update`; sets and servers outside the view are ignored.
    pub fn merge(&mut self, update: &Update) {
        for entry in &update.servers {
            self.merge_server(entry);
        }
        for entry in &update.sets {
            let newer_version = update.version >= self.version;
            let Some(known) = self.sets.get_mut(usize::from(entry.set.0)) else { continue };
            let known_epoch = known.configuration.as_ref().map(|it| it.epoch);
            let epoch = entry.configuration.as_ref().map(|it| it.epoch);
            if epoch > known_epoch || (epoch == known_epoch && newer_version) {
                *known = entry.clone();
            }
        }
        for &member in &update.dead {
            if let Err(index) = self.dead.binary_search(&member) {
                self.dead.insert(index, member);
            }
        }
        let servers = std::mem::take(&mut self.servers);
        self.dead.retain(|dead| {
            !servers.iter().any(|it| it.id == dead.server && it.incarnation > dead.incarnation)
        });
        self.servers = servers;
        self.version = self.version.max(update.version);
    }

    /// Whether merging this view into `other` would give this very view.
    #[must_use]
    pub fn covers(&self, other: &View) -> bool {
        let same = self.cluster == other.cluster && self.sets.len() == other.sets.len();
        let newer_sets = || {
            let epoch = |entry: &SetEntry| entry.configuration.as_ref().map(|it| it.epoch);
            self.sets.iter().zip(&other.sets).all(|(mine, its)| epoch(mine) >= epoch(its))
        };
        let newer_servers = || {
            other.servers.iter().all(|its| {
                self.server(its.id).is_some_and(|mine| mine.incarnation >= its.incarnation)
            })
        };
        let superseded = |dead: &Member| {
            self.server(dead.server).is_some_and(|it| it.incarnation > dead.incarnation)
        };
        let all_dead = || {
            !self.dead.iter().any(superseded)
                && other
                    .dead
                    .iter()
                    .all(|its| self.dead.binary_search(its).is_ok() || superseded(its))
        };
        same && self.version >= other.version && newer_sets() && newer_servers() && all_dead()
    }

    fn merge_server(&mut self, entry: &ServerEntry) {
        match self.servers.binary_search_by_key(&entry.id, |it| it.id) {
            Ok(index) => {
                if self.servers[index].incarnation <= entry.incarnation {
                    self.servers[index] = entry.clone();
                }
            }
            Err(index) => self.servers.insert(index, entry.clone()),
        }
    }

    /// Everything this view knows, as an update that any other view can merge.
    #[must_use]
    pub fn as_update(&self) -> Update {
        Update {
            version: self.version,
            servers: self.servers.clone(),
            sets: self.sets.clone(),
            dead: self.dead.clone(),
            resigned: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a view that covers another is what merging it would give.
    //! Method: pairs of small random views, each merged and asked.

    use super::*;
    use crate::protocol::types::LossEpoch;

    /// A random view of few servers, sets, epochs and versions, so that many pairs are ordered.
    fn random_view(mut draw: impl FnMut(u64) -> u64) -> View {
        let mut view = View::unborn(ClusterId::default(), 2);
        view.version = ViewVersion(draw(3));
        for id in 1..=2 {
            if draw(4) > 0 {
                let incarnation = Incarnation(draw(3));
                view.servers.push(ServerEntry { id: ServerId(id), incarnation, workers: vec![] });
            }
            let member = Member { server: ServerId(id), incarnation: Incarnation(draw(3)) };
            if draw(4) == 0 {
                view.dead.push(member);
            }
        }
        for entry in &mut view.sets {
            let primary = Member { server: ServerId(1), incarnation: Incarnation(0) };
            let epoch = Epoch(draw(3));
            entry.configuration = (epoch.0 > 0).then(|| Configuration {
                loss_epoch: LossEpoch(0),
                epoch,
                primary,
                secondaries: Vec::new(),
            });
            entry.state = if draw(2) == 0 { SetState::Available } else { SetState::Unavailable };
        }
        view
    }

    #[test]
    fn a_view_that_covers_another_is_their_merge() {
        let mut state = 42_u64;
        let mut draw = |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let (mut covered, mut not) = (0, 0);
        for _ in 0..100_000 {
            let (old, new) = (random_view(&mut draw), random_view(&mut draw));
            let mut merged = old.clone();
            merged.merge(&new.as_update());
            if new.covers(&old) {
                assert_eq!(merged, new, "{old:?}");
                covered += 1;
            } else {
                not += 1;
            }
        }
        assert!(covered > 1_000 && not > 1_000, "{covered} covered, {not} not");
    }
}
