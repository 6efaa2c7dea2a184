//! A metaserver without a will of its own: whatever the rules allow a metaserver to do, this one
//! may do at any moment. Safety must not depend on when, or why.
//!
//! It keeps what a metaserver must keep, and nothing is said before it is kept:
//! - configurations change by compare-and-set on the epoch, to any part of the members with any
//!   of them as primary, or to what a request asks for;
//! - a learner comes in only by its primary's request, and only as a server's latest incarnation;
//! - a refusal is final for that request;
//! - only a registered successor, or the end of the process, proves an incarnation dead.

use std::collections::{BTreeMap, BTreeSet};

use tandem::protocol::message::{ChangeId, ChangeKind, ChangeRefusal, ToServer};
use tandem::protocol::mutants::Mutant;
use tandem::protocol::types::{
    ClusterId, Configuration, Epoch, Incarnation, LossEpoch, Member, ServerId, ViewVersion,
};
use tandem::protocol::view::{Resignation, ServerEntry, SetEntry, SetState, Update, View};

use super::judge::SET;

/// A request on its way to the metaserver.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Asked {
    pub id: ChangeId,
    pub epoch: Epoch,
    pub kind: ChangeKind,
}

/// The metaserver's durable state, and what is on its way to it.
#[derive(Clone, Debug, Hash)]
pub struct Authority {
    pub configuration: Configuration,
    /// The latest incarnation of each server.
    pub latest: Vec<Incarnation>,
    pub dead: BTreeSet<Member>,
    /// The highest request of each member that was refused in this epoch.
    refused: BTreeMap<Member, u64>,
    resigned: BTreeSet<Resignation>,
    /// Requests and words of resignation that did not arrive yet.
    pub inbox: BTreeSet<Asked>,
    pub words: BTreeSet<Resignation>,
    /// The rule that this one does not keep, if any.
    mutant: Option<Mutant>,
}

#[must_use]
pub fn server_id(server: usize) -> ServerId {
    ServerId(server as u16 + 1)
}

#[must_use]
pub fn index_of(server: ServerId) -> usize {
    usize::from(server.0) - 1
}

impl Authority {
    /// The first so many of `servers` servers are members.
    #[must_use]
    pub fn new(servers: usize, members: usize, mutant: Option<Mutant>) -> Authority {
        let latest: Vec<Incarnation> = (1..=servers as u64).map(Incarnation).collect();
        let member = |server: usize| Member {
            server: server_id(server),
            incarnation: Incarnation(server as u64 + 1),
        };
        let configuration = Configuration {
            loss_epoch: LossEpoch(0),
            epoch: Epoch(1),
            primary: member(0),
            secondaries: (1..members).map(member).collect(),
        };
        Authority {
            configuration,
            latest,
            dead: BTreeSet::new(),
            refused: BTreeMap::new(),
            resigned: BTreeSet::new(),
            inbox: BTreeSet::new(),
            words: BTreeSet::new(),
            mutant,
        }
    }

    /// The latest member that a server runs.
    #[must_use]
    pub fn member(&self, server: usize) -> Member {
        Member { server: server_id(server), incarnation: self.latest[server] }
    }

    /// Proven dead, or superseded.
    #[must_use]
    pub fn is_dead(&self, member: Member) -> bool {
        self.dead.contains(&member) || self.latest[index_of(member.server)] > member.incarnation
    }

    fn entries(&self) -> Vec<ServerEntry> {
        let servers = self.latest.iter().enumerate();
        servers
            .map(|(server, &incarnation)| ServerEntry {
                id: server_id(server),
                incarnation,
                workers: Vec::new(),
            })
            .collect()
    }

    fn set_entry(&self) -> SetEntry {
        let configuration = Some(self.configuration.clone());
        SetEntry { set: SET, configuration, state: SetState::Available }
    }

    /// Everything, for a server that registers.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            cluster: ClusterId::default(),
            version: ViewVersion(0),
            sets: vec![self.set_entry()],
            servers: self.entries(),
            dead: self.dead.iter().copied().collect(),
        }
    }

    /// Everything, for a server that is connected again.
    #[must_use]
    pub fn greeting(&self) -> Update {
        Update { resigned: self.resigned.iter().copied().collect(), ..self.view().as_update() }
    }

    /// The news of the configuration.
    #[must_use]
    pub fn news(&self) -> Update {
        Update { sets: vec![self.set_entry()], ..Update::default() }
    }

    /// The next epoch, with these members.
    pub fn install(&mut self, primary: Member, secondaries: Vec<Member>) {
        let (loss_epoch, epoch) = (self.configuration.loss_epoch, self.configuration.epoch.next());
        self.configuration = Configuration { loss_epoch, epoch, primary, secondaries };
        self.refused.clear();
    }

    /// What a request comes to if the metaserver has nothing against it: the members that it
    /// makes, or the refusal that nobody can spare it.
    ///
    /// # Errors
    /// That refusal.
    pub fn judge(&self, asked: &Asked) -> Result<(Member, Vec<Member>), ChangeRefusal> {
        let now = &self.configuration;
        if asked.epoch != now.epoch {
            return Err(ChangeRefusal::WrongEpoch);
        }
        let refused = self.refused.get(&asked.id.member);
        if refused.is_some_and(|&number| number >= asked.id.number)
            && self.mutant != Some(Mutant::RefusalForgotten)
        {
            return Err(ChangeRefusal::RefusedBefore);
        }
        let by_primary = now.primary == asked.id.member;
        match asked.kind {
            ChangeKind::Add { .. } | ChangeKind::HandOver { .. } | ChangeKind::Reaffirm
                if !by_primary =>
            {
                Err(ChangeRefusal::WrongRole)
            }
            ChangeKind::Add { learner, .. } => {
                if self.is_dead(learner) && self.mutant != Some(Mutant::DeadLearnerAdded) {
                    return Err(ChangeRefusal::Superseded);
                }
                if now.members().any(|it| it.server == learner.server) {
                    return Err(ChangeRefusal::NotAllowed);
                }
                let mut secondaries = now.secondaries.clone();
                secondaries.push(learner);
                Ok((now.primary, secondaries))
            }
            ChangeKind::HandOver { to } => {
                if self.is_dead(to) || !now.secondaries.contains(&to) {
                    return Err(ChangeRefusal::NotAllowed);
                }
                let role = |it: Member| if it == to { now.primary } else { it };
                Ok((to, now.secondaries.iter().copied().map(role).collect()))
            }
            ChangeKind::Reaffirm => Ok((now.primary, now.secondaries.clone())),
        }
    }

    /// Writes a refusal down.
    pub fn refuse(&mut self, asked: &Asked) {
        let number = self.refused.entry(asked.id.member).or_default();
        *number = (*number).max(asked.id.number);
    }

    /// Takes in a primary's word; none if it says nothing new.
    pub fn hear(&mut self, word: Resignation) -> Option<ToServer> {
        self.words.remove(&word);
        let resigned = vec![word];
        let update = Update { resigned, ..Update::default() };
        self.resigned.insert(word).then_some(ToServer::Update(update))
    }

    /// Whether a word of resignation was heard already.
    #[must_use]
    pub fn knows(&self, word: &Resignation) -> bool {
        self.resigned.contains(word)
    }

    /// What is on its way from `member` is lost.
    pub fn lose(&mut self, member: Member) {
        self.inbox.retain(|it| it.id.member != member);
        self.words.retain(|it| it.member != member);
    }

    /// Every configuration that could be installed now: any of the members, any of the living as
    /// primary.
    #[must_use]
    pub fn choices(&self) -> Vec<(Member, Vec<Member>)> {
        let mut members: Vec<Member> = self.configuration.members().collect();
        if self.mutant == Some(Mutant::LearnerPromoted) {
            let all = (0..self.latest.len()).map(|server| self.member(server));
            members.extend(all.filter(|it| !self.configuration.contains(*it)));
        }
        let mut choices = Vec::new();
        for mask in 1_u32..1 << members.len() {
            let chosen = |index: &usize| mask & 1 << index != 0;
            let stay: Vec<Member> =
                (0..members.len()).filter(chosen).map(|index| members[index]).collect();
            for &primary in stay.iter().filter(|&&it| !self.is_dead(it)) {
                let mut secondaries: Vec<Member> =
                    stay.iter().copied().filter(|&it| it != primary).collect();
                secondaries.sort_unstable();
                choices.push((primary, secondaries));
            }
        }
        choices
    }
}
