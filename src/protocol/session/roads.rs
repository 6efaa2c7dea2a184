//! The way to every primary: the view that names it, and the dials that reach it.
//!
//! The way of a key set is looked up once and remembered until the view or a dial changes:
//! whatever changes them passes through here and forgets it.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::rc::Rc;

use crate::protocol::time::Time;
use crate::protocol::types::{Configuration, KeySet, LinkId, Member, WorkerId};
use crate::protocol::view::{SetEntry, SetState, Update, View};

/// A worker that the session dialled.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub(super) enum Dial {
    /// `failures` dials in a row failed before this one.
    Dialling {
        failures: u32,
    },
    Up {
        link: LinkId,
    },
    /// Not before `until` again.
    Failed {
        until: Time,
        failures: u32,
    },
}

/// The worker that serves a key set, as far as the view knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Target {
    pub(super) peer: Member,
    pub(super) worker: WorkerId,
    pub(super) address: SocketAddr,
}

/// The view and the dials of a session.
#[derive(Clone, Debug, Default)]
pub(super) struct Roads {
    /// Shared by the sessions of a client while they know the same.
    view: Rc<View>,
    dials: BTreeMap<(Member, WorkerId), Dial>,
    /// What was looked up since view or dials last changed.
    found: Found,
}

/// The primaries of key sets and the links to them. Many sets share a way: a set's own part is
/// small, so that those of many sessions stay in the processor's cache.
#[derive(Clone, Debug, Default)]
struct Found {
    /// By key set: one more than the place of its way; 0 where it was not looked up.
    by_set: Vec<u16>,
    ways: Vec<(Member, LinkId)>,
}

impl Found {
    #[inline]
    fn get(&self, set: KeySet) -> Option<(Member, LinkId)> {
        let place = usize::from(*self.by_set.get(usize::from(set.0))?).checked_sub(1)?;
        Some(self.ways[place])
    }

    fn note(&mut self, set: KeySet, way: (Member, LinkId)) {
        let index = usize::from(set.0);
        if self.by_set.len() <= index {
            self.by_set.resize(index + 1, 0);
        }
        let known = self.ways.iter().position(|it| *it == way);
        let place = known.unwrap_or_else(|| {
            self.ways.push(way);
            self.ways.len() - 1
        });
        // There are no more ways than key sets.
        self.by_set[index] = u16::try_from(place + 1).unwrap_or_default();
    }

    fn clear(&mut self) {
        self.by_set.clear();
        self.ways.clear();
    }
}

impl Roads {
    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// The number of key sets; 0 while no view is known. Once known it never changes.
    #[inline]
    pub(super) fn sets(&self) -> u16 {
        u16::try_from(self.view.sets.len()).unwrap_or(u16::MAX)
    }

    /// The primary of a key set and the link to it, where the link is up.
    #[inline]
    pub(super) fn way(&mut self, set: KeySet) -> Option<(Member, LinkId)> {
        self.found.get(set).or_else(|| self.look_up(set))
    }

    fn look_up(&mut self, set: KeySet) -> Option<(Member, LinkId)> {
        let Target { peer, worker, .. } = self.target(set)?;
        let Some(Dial::Up { link }) = self.dial(peer, worker) else { return None };
        self.found.note(set, (peer, link));
        Some((peer, link))
    }

    /// The worker that serves a key set; none without a primary whose address is known.
    pub(super) fn target(&self, set: KeySet) -> Option<Target> {
        let peer = self.view.configuration(set)?.primary;
        let server = self.view.server(peer.server)?;
        if server.incarnation != peer.incarnation || self.view.is_dead(peer) {
            return None;
        }
        let (worker, address) = server.address(set)?;
        Some(Target { peer, worker, address })
    }

    pub(super) fn dial(&self, peer: Member, worker: WorkerId) -> Option<Dial> {
        self.dials.get(&(peer, worker)).copied()
    }

    pub(super) fn set_dial(&mut self, peer: Member, worker: WorkerId, dial: Dial) {
        self.found.clear();
        self.dials.insert((peer, worker), dial);
    }

    /// The worker to which `link` leads.
    pub(super) fn dialled_by(&self, link: LinkId) -> Option<(Member, WorkerId)> {
        let up = self.dials.iter().find(|(_, dial)| **dial == Dial::Up { link });
        up.map(|(&worker, _)| worker)
    }

    /// Whether `view` is what is known already.
    pub(super) fn knows(&self, view: &Rc<View>) -> bool {
        self.view == *view
    }

    /// Takes in a view; whether it was news.
    pub(super) fn learn(&mut self, view: Rc<View>) -> bool {
        self.found.clear();
        let changed = if self.view.sets.is_empty() {
            self.view = view;
            !self.view.sets.is_empty()
        } else {
            let version = self.view.version;
            if view.covers(&self.view) {
                self.view = view;
            } else {
                Rc::make_mut(&mut self.view).merge(&view.as_update());
            }
            self.view.version > version
        };
        if changed {
            let view = &self.view;
            self.dials.retain(|(peer, _), dial| match dial {
                Dial::Up { .. } | Dial::Dialling { .. } => true,
                Dial::Failed { .. } => !view.is_dead(*peer),
            });
        }
        changed
    }

    /// Adopts a configuration that came with a refusal; whether it was news.
    pub(super) fn learn_configuration(
        &mut self,
        set: KeySet,
        configuration: &Configuration,
    ) -> bool {
        let known = self.view.configuration(set).map(|it| it.epoch);
        if Some(configuration.epoch) <= known {
            return false;
        }
        self.found.clear();
        let configuration = Some(configuration.clone());
        let entry = SetEntry { set, configuration, state: SetState::Available };
        // The version stays: the rest of the view is as old as it was.
        let version = self.view.version;
        let update = Update { version, sets: vec![entry], ..Update::default() };
        Rc::make_mut(&mut self.view).merge(&update);
        true
    }
}

/// What was looked up is no knowledge of its own.
impl PartialEq for Roads {
    fn eq(&self, other: &Roads) -> bool {
        self.view == other.view && self.dials == other.dials
    }
}

impl Eq for Roads {}

impl Hash for Roads {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.view.hash(state);
        self.dials.hash(state);
    }
}
