//! Installing configurations, and telling everyone at the end of the handler.
//!
//! Every change of a key set goes through `install`: it is the one compare-and-set, from the
//! current epoch to the next, and it ends all questions that belonged to the old epoch.

use std::collections::{BTreeMap, BTreeSet};

use super::MetaServer;
use super::watch::Round;
use crate::protocol::effect::{MetaEffect, MetaNote};
use crate::protocol::message::ToServer;
use crate::protocol::types::{Configuration, KeySet, LinkId, Member};
use crate::protocol::view::{Resignation, ServerEntry, SetState, Update};

/// What one handler changed in the view.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct News {
    pub(super) servers: Vec<ServerEntry>,
    pub(super) sets: BTreeSet<KeySet>,
    pub(super) dead: Vec<Member>,
    pub(super) resigned: Vec<Resignation>,
    /// Links that joined: they get everything instead of the news.
    pub(super) joined: BTreeMap<LinkId, Greeting>,
}

/// How a link that joined is told everything.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) enum Greeting {
    Registered(Member),
    Update,
}

impl MetaServer {
    /// Installs the next epoch of `set` with these members, and gives it back.
    ///
    /// # Panics
    /// If the set was never created, or a server is named twice: both are bugs of ours.
    pub(super) fn install(
        &mut self,
        set: KeySet,
        primary: Member,
        secondaries: Vec<Member>,
    ) -> Configuration {
        let floor = usize::from(self.settings.min_write_copies);
        let row = self.ledger.set_mut(set).expect("only created sets change");
        let old = row.configuration.as_ref().expect("a created set has a configuration");
        let new = Configuration {
            loss_epoch: old.loss_epoch,
            epoch: old.epoch.next(),
            primary,
            secondaries,
        };
        let servers: BTreeSet<_> = new.members().map(|it| it.server).collect();
        assert!(servers.len() == new.copies(), "a server is a member of a key set once");
        row.configuration = Some(new.clone());
        row.state = SetState::Available;
        row.refused.clear();
        if new.copies() >= floor {
            row.ex_member = None;
        }
        self.watches[usize::from(set.0)].round = Round::default();
        self.news.sets.insert(set);
        new
    }

    /// Writes down that no copy of `set` is left.
    pub(super) fn lose(&mut self, set: KeySet) {
        if let Some(row) = self.ledger.set_mut(set) {
            row.state = SetState::Lost;
            row.ex_member = None;
        }
        self.watches[usize::from(set.0)].round = Round::default();
        self.news.sets.insert(set);
        self.note(MetaNote::Lost { set });
    }

    /// Ends a handler: tells its news to every registered link, ahead of all else that it said.
    pub(super) fn announce(&mut self) {
        let news = std::mem::take(&mut self.news);
        let mut effects = Vec::new();
        let changed = !(news.servers.is_empty() && news.sets.is_empty() && news.dead.is_empty());
        if changed {
            self.ledger.cluster_mut().version.0 += 1;
            effects.push(MetaEffect::ViewChanged { view: self.ledger.view() });
        }
        for (&link, &greeting) in &news.joined {
            if self.speaker(link).is_some() {
                effects.push(MetaEffect::Send { link, message: self.greet(greeting) });
            }
        }
        if changed || !news.resigned.is_empty() {
            let update = Update {
                version: self.ledger.cluster().version,
                servers: news.servers,
                sets: news.sets.into_iter().map(|set| self.ledger.set_entry(set)).collect(),
                dead: news.dead,
                resigned: news.resigned,
            };
            let links = self.pulses.values().flat_map(|pulse| pulse.links.values());
            for &link in links.filter(|link| !news.joined.contains_key(link)) {
                effects.push(MetaEffect::Send { link, message: ToServer::Update(update.clone()) });
            }
        }
        self.outbox.push_ahead(effects);
    }

    fn greet(&self, greeting: Greeting) -> ToServer {
        let view = self.ledger.view();
        match greeting {
            Greeting::Registered(member) => {
                ToServer::Registered { member, cluster: view.cluster, view }
            }
            Greeting::Update => {
                let resigned = self.watches.iter().flat_map(|it| it.resignations.clone());
                ToServer::Update(Update { resigned: resigned.collect(), ..view.as_update() })
            }
        }
    }
}
