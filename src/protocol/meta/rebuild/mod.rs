//! A metaserver's state made anew from what living servers say, where that is safe.
//!
//! ```text
//!   Testify -> Testimony of every worker --+
//!   Register of those started anew --------+--> judge -> rows of the journal, or what is missing
//! ```
//!
//! *Why it is enough.* Let C be the newest configuration of a key set that anyone names, and let
//! every member of C be there as that very incarnation, with its copy, and so the learner that
//! C's primary has proposed, if any. The lost metaserver may have installed later ones, but then
//! none of these has heard of them. The first of them is by the word of C's primary, who waits for
//! the outcome and obeys both, or promotes a member that does not know it, or takes out one that
//! does not know it, or names the heir of a member, which then is not there. So its members are
//! among those that are there; none of them has acted in it, nor asked for the next; and so on for
//! all later ones. C holds all that was acknowledged, and goes on under an epoch far above: what
//! was never heard of is never named again, and requests of older epochs are refused.
//!
//! *Why everyone is asked, and twice.* A server that is no member may be the only one that heard
//! of a later configuration, and tell a member of it after that one has answered. So all of
//! `cluster.toml` must answer, and say the same again. A process that was started anew since has
//! no standing, but its predecessor is dead and tells nobody anything.
//!
//! *What is lost for good.* The ex-member beside a set below the write floor (rule 12), which might
//! have saved it if its last member is lost before a copy is made; who wants to stop, which is
//! said again; open recoveries, which begin anew. A set that its newest word calls LOST stays
//! so: its members are proven dead, and a revival would have been heard of by its new members.

mod gaps;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::durable::MetaRecord;
use crate::protocol::message::{Registration, ReplicaTestimony, Testimony};
use crate::protocol::placement;
use crate::protocol::types::{
    ClusterId, Configuration, Epoch, Incarnation, KeySet, Member, ServerId, WorkerId,
};
use crate::protocol::view::{ServerEntry, SetEntry, SetState};
pub use gaps::{Gap, sets_in_words};

/// How far numbers jump over all that was heard of: no number of the lost state is used twice.
pub const JUMP: u64 = 1_000_000;

/// What `cluster.toml` says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RebuildSettings {
    pub servers: Vec<ServerId>,
    pub copies: u16,
    pub min_write_copies: u16,
}

/// What the servers say in one round of questions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rebuild {
    settings: RebuildSettings,
    round: u64,
    witnesses: BTreeMap<ServerId, Witness>,
    /// Processes that were started since, and have no incarnation.
    strangers: BTreeMap<ServerId, Registration>,
}

/// A registered server, as far as its workers have answered.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Witness {
    member: Member,
    words: BTreeMap<WorkerId, Testimony>,
}

/// A state that is safe to begin with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rebuilt {
    pub cluster: ClusterId,
    /// The journal, for one transaction.
    pub records: Vec<MetaRecord>,
    pub servers: Vec<Member>,
    pub sets: u16,
    pub copies: u16,
    /// Sets with fewer members than writes need: who was removed from them last is forgotten.
    pub below_floor: Vec<KeySet>,
    pub lost: Vec<KeySet>,
}

impl Witness {
    /// How many workers the server has, once worker 0 has said so.
    fn workers(&self) -> Option<usize> {
        let servers = &self.words.get(&WorkerId(0))?.servers;
        let own = servers.iter().find(|it| it.member() == self.member)?;
        Some(own.workers.len())
    }

    fn is_complete(&self) -> bool {
        self.workers().is_some_and(|count| self.words.len() >= count)
    }

    fn replica(&self, set: KeySet) -> Option<&ReplicaTestimony> {
        let count = u16::try_from(self.workers()?).ok()?;
        let word = self.words.get(&placement::worker(set, count))?;
        word.replicas.iter().find(|it| it.set == set)
    }

    /// The newest epoch of `set` that this server knows.
    fn epoch(&self, set: KeySet) -> Option<Epoch> {
        let known = self.words.values().filter_map(|it| it.sets.get(usize::from(set.0)));
        known.filter_map(|it| Some(it.configuration.as_ref()?.epoch)).max()
    }
}

impl Rebuild {
    #[must_use]
    pub fn new(settings: RebuildSettings) -> Rebuild {
        let (witnesses, strangers) = (BTreeMap::new(), BTreeMap::new());
        Rebuild { settings, round: 1, witnesses, strangers }
    }

    /// The number that answers of this round carry.
    #[must_use]
    pub fn round(&self) -> u64 {
        self.round
    }

    /// The next round of questions: nobody has answered.
    #[must_use]
    pub fn again(&self) -> Rebuild {
        Rebuild { round: self.round + 1, witnesses: BTreeMap::new(), ..self.clone() }
    }

    /// Takes what `worker` of `member` says; an answer of another round counts for nothing.
    ///
    /// # Errors
    /// It makes no sense: the server broke the protocol.
    pub fn on_testimony(
        &mut self,
        member: Member,
        worker: WorkerId,
        testimony: Testimony,
    ) -> Result<(), &'static str> {
        if testimony.round != self.round {
            return Ok(());
        }
        check(member, worker, &testimony)?;
        let fresh = || Witness { member, words: BTreeMap::new() };
        let witness = self.witnesses.entry(member.server).or_insert_with(fresh);
        if witness.member.incarnation > member.incarnation {
            return Err("a newer incarnation of this server has answered");
        }
        if witness.member != member {
            *witness = fresh();
        }
        witness.words.insert(worker, testimony);
        self.strangers.remove(&member.server);
        Ok(())
    }

    /// A process asks to be registered: its predecessor is dead, and it has no standing.
    pub fn on_stranger(&mut self, registration: Registration) {
        self.witnesses.remove(&registration.server);
        self.strangers.insert(registration.server, registration);
    }

    /// The link to a worker ended: only who is there counts.
    pub fn on_gone(&mut self, member: Member, worker: WorkerId) {
        match self.witnesses.get_mut(&member.server) {
            Some(witness) if witness.member == member => {
                witness.words.remove(&worker);
            }
            Some(_) => {}
            None => {
                self.strangers.remove(&member.server);
            }
        }
    }

    /// Everyone who has to answer: who is listed, and whom a configuration names.
    #[must_use]
    pub fn expected(&self) -> Vec<ServerId> {
        let entries = self.newest().into_iter().flatten();
        let named = entries.filter(|it| it.state != SetState::Lost);
        let members = named.filter_map(|it| it.configuration.as_ref()).flat_map(|it| it.members());
        let mut all: Vec<ServerId> = members.map(|it| it.server).collect();
        all.extend(&self.settings.servers);
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Who has not answered yet.
    #[must_use]
    pub fn silent(&self) -> Vec<ServerId> {
        let mut silent = self.expected();
        silent.retain(|&it| !self.answered(it) && !self.strangers.contains_key(&it));
        silent
    }

    fn answered(&self, server: ServerId) -> bool {
        self.witnesses.get(&server).is_some_and(Witness::is_complete)
    }

    /// Whether the same servers said the same of all key sets in an earlier round.
    #[must_use]
    pub fn repeats(&self, earlier: &Rebuild) -> bool {
        let same = |(mine, its): (&Witness, &Witness)| {
            let known = |it: &Witness| self.all_sets().map(|set| it.epoch(set)).collect::<Vec<_>>();
            mine.member == its.member && known(mine) == known(its)
        };
        self.strangers == earlier.strangers
            && self.witnesses.len() == earlier.witnesses.len()
            && self.witnesses.values().zip(earlier.witnesses.values()).all(same)
    }

    fn words(&self) -> impl Iterator<Item = &Testimony> {
        self.witnesses.values().flat_map(|it| it.words.values())
    }

    fn all_sets(&self) -> impl Iterator<Item = KeySet> {
        let most = self.words().map(|it| it.sets.len()).max().unwrap_or(0);
        (0..u16::try_from(most).unwrap_or(u16::MAX)).map(KeySet)
    }

    /// The newest that anyone says of each key set: of the highest epoch, by the newest view.
    fn newest(&self) -> Vec<Option<&SetEntry>> {
        let newest = |set: KeySet| {
            let said = self.words().filter_map(|it| Some((it.sets.get(usize::from(set.0))?, it)));
            let epoch = |it: &SetEntry| it.configuration.as_ref().map(|known| known.epoch);
            said.max_by_key(|(entry, word)| (epoch(entry), word.version)).map(|(entry, _)| entry)
        };
        self.all_sets().map(newest).collect()
    }

    /// Whether anyone takes this incarnation for dead: by word, or because of a later one.
    fn is_called_dead(&self, member: Member) -> bool {
        let later =
            |it: &ServerEntry| it.id == member.server && it.incarnation > member.incarnation;
        self.words().any(|it| it.dead.contains(&member) || it.servers.iter().any(later))
    }

    /// The rows to begin with, or everything that is in the way.
    ///
    /// # Errors
    /// It is not safe; every reason, none of them twice.
    pub fn judge(&self) -> Result<Rebuilt, Vec<Gap>> {
        let disagreements = self.disagreements();
        if !disagreements.is_empty() {
            return Err(disagreements);
        }
        let mut gaps = gaps::Gaps::default();
        for server in self.silent() {
            gaps.add(Gap::Silent { server, sets: Vec::new() });
        }
        for (set, entry) in self.all_sets().zip(self.newest()) {
            let Some(entry) = entry else { continue };
            match &entry.configuration {
                None => gaps.at(Gap::Unknown { sets: Vec::new() }, set),
                Some(_) if entry.state == SetState::Lost => {}
                Some(configuration) => self.judge_set(set, configuration, &mut gaps),
            }
        }
        gaps.into_result().map(|()| self.rows())
    }

    /// Whether all that matters for `set` is there.
    fn judge_set(&self, set: KeySet, configuration: &Configuration, gaps: &mut gaps::Gaps) {
        for member in configuration.members().chain(self.proposed(set, configuration)) {
            if let Some(gap) = self.lacks(set, member) {
                gaps.at(gap, set);
            }
        }
    }

    /// The learner that the primary of this very configuration asked to be added.
    fn proposed(&self, set: KeySet, configuration: &Configuration) -> Option<Member> {
        let witness = self.witnesses.get(&configuration.primary.server)?;
        let current = witness.member == configuration.primary
            && witness.epoch(set) == Some(configuration.epoch);
        witness.replica(set).filter(|_| current)?.proposed
    }

    /// Why `member` does not count for `set`, if it does not.
    fn lacks(&self, set: KeySet, member: Member) -> Option<Gap> {
        let (server, sets) = (member.server, Vec::new());
        if self.strangers.contains_key(&server) {
            return Some(Gap::StartedAnew { member, sets });
        }
        let Some(witness) = self.witnesses.get(&server).filter(|it| it.is_complete()) else {
            return Some(Gap::Silent { server, sets });
        };
        if witness.member != member {
            return Some(Gap::Replaced { member, by: witness.member, sets });
        }
        if self.is_called_dead(member) {
            return Some(Gap::CalledDead { member, sets });
        }
        let whole = witness.replica(set).is_some_and(|it| it.whole);
        (!whole).then_some(Gap::NoCopy { member, sets })
    }

    /// What all servers have to agree on.
    fn disagreements(&self) -> Vec<Gap> {
        let mut clusters: BTreeMap<ClusterId, Vec<ServerId>> = BTreeMap::new();
        let mut counts: BTreeMap<usize, Vec<ServerId>> = BTreeMap::new();
        let told = self.witnesses.iter().flat_map(|(&server, it)| {
            it.words.values().map(move |word| (server, word.cluster, word.sets.len()))
        });
        for (server, cluster, count) in told {
            clusters.entry(cluster).or_default().push(server);
            counts.entry(count).or_default().push(server);
        }
        for (&server, registration) in &self.strangers {
            clusters.entry(registration.cluster.unwrap_or_default()).or_default().push(server);
        }
        clusters.remove(&ClusterId::default());
        for servers in clusters.values_mut().chain(counts.values_mut()) {
            servers.dedup();
        }
        let mut found = Vec::new();
        if clusters.len() > 1 {
            found.push(Gap::Clusters { clusters: clusters.into_iter().collect() });
        }
        if counts.len() > 1 {
            found.push(Gap::KeySets { counts: counts.into_iter().collect() });
        }
        let configurations: Vec<_> = self
            .newest()
            .into_iter()
            .flatten()
            .filter_map(|it| it.configuration.as_ref())
            .collect();
        let fewest = configurations.iter().map(|it| it.copies()).min();
        match fewest {
            None => {
                let knowing = self.strangers.values().filter(|it| {
                    it.cluster.is_some() || it.inherits.is_some() || it.highest_epoch > Epoch(0)
                });
                let anew = knowing.map(|it| it.server).collect();
                found.push(Gap::Nothing { silent: self.silent(), anew });
            }
            Some(fewest) if fewest > usize::from(self.settings.copies) => {
                found.push(Gap::Copies { said: self.settings.copies, fewest });
            }
            Some(_) => {}
        }
        found
    }

    /// The highest incarnation that anyone heard of.
    fn incarnation_last(&self) -> Incarnation {
        let words = self.words();
        let heard = words.flat_map(|it| {
            let servers = it.servers.iter().map(|it| it.incarnation);
            let dead = it.dead.iter().map(|it| it.incarnation);
            let sets = it.sets.iter().filter_map(|it| it.configuration.as_ref());
            let members = sets.flat_map(|it| it.members().map(|it| it.incarnation));
            servers.chain(dead).chain(members)
        });
        let own = self.witnesses.values().map(|it| it.member.incarnation);
        let inherited = self.strangers.values().filter_map(|it| it.inherits);
        heard.chain(own).chain(inherited).max().unwrap_or_default()
    }
}

/// What the sender of a testimony must have seen to.
fn check(member: Member, worker: WorkerId, it: &Testimony) -> Result<(), &'static str> {
    let ordered = it.sets.iter().zip(0..).all(|(entry, set)| entry.set.0 == set);
    if !ordered || it.sets.len() > usize::from(u16::MAX) {
        return Err("testifies of key sets out of order");
    }
    let own = it.servers.iter().find(|it| it.member() == member);
    let Some(own) = own.filter(|own| usize::from(worker.0) < own.workers.len()) else {
        return Err("testifies without knowing itself");
    };
    let high = |number: u64| number > u64::MAX / 2;
    let high_epoch = |it: &SetEntry| it.configuration.as_ref().is_some_and(|it| high(it.epoch.0));
    let high_server = it.servers.iter().any(|it| high(it.incarnation.0));
    if high(own.incarnation.0) || high_server || high(it.version.0) {
        return Err("testifies of a number that is never reached");
    }
    if it.dead.iter().any(|it| high(it.incarnation.0)) || it.sets.iter().any(high_epoch) {
        return Err("testifies of a number that is never reached");
    }
    let twice = |it: &Configuration| {
        let mut servers: Vec<_> = it.members().map(|it| it.server).collect();
        servers.sort_unstable();
        servers.windows(2).any(|pair| pair[0] == pair[1])
            || it.members().any(|it| high(it.incarnation.0))
    };
    if it.sets.iter().filter_map(|it| it.configuration.as_ref()).any(twice) {
        return Err("testifies of a configuration that can not be");
    }
    Ok(())
}
