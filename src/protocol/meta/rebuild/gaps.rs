//! What is in the way of a rebuilt state, in words that say what to do.

use std::fmt;

use crate::protocol::types::{ClusterId, KeySet, Member, ServerId};

/// One reason why nothing is written. The key sets are those that it holds up.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub enum Gap {
    /// Nobody who answered knows any configuration; `anew` were started since, and may hold all.
    Nothing { silent: Vec<ServerId>, anew: Vec<ServerId> },
    /// The servers belong to different clusters.
    Clusters { clusters: Vec<(ClusterId, Vec<ServerId>)> },
    /// The servers differ about the number of key sets.
    KeySets { counts: Vec<(usize, Vec<ServerId>)> },
    /// `cluster.toml` asks for fewer copies than any key set has.
    Copies { said: u16, fewest: usize },
    /// The server did not answer, or not all of its workers did.
    Silent { server: ServerId, sets: Vec<KeySet> },
    /// The member's process is gone, and another one of its server waits to be registered.
    StartedAnew { member: Member, sets: Vec<KeySet> },
    /// Another incarnation of the member's server answered.
    Replaced { member: Member, by: Member, sets: Vec<KeySet> },
    /// The member answered, but others know that it was declared dead or superseded.
    CalledDead { member: Member, sets: Vec<KeySet> },
    /// What the member holds is no copy.
    NoCopy { member: Member, sets: Vec<KeySet> },
    /// Nobody knows a configuration of these.
    Unknown { sets: Vec<KeySet> },
    /// What the servers know kept changing.
    Unsettled,
}

impl Gap {
    /// Its kind, for programs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Gap::Nothing { .. } => "nothing",
            Gap::Clusters { .. } => "clusters",
            Gap::KeySets { .. } => "key-sets",
            Gap::Copies { .. } => "copies",
            Gap::Silent { .. } => "silent",
            Gap::StartedAnew { .. } => "started-anew",
            Gap::Replaced { .. } => "replaced",
            Gap::CalledDead { .. } => "called-dead",
            Gap::NoCopy { .. } => "no-copy",
            Gap::Unknown { .. } => "unknown",
            Gap::Unsettled => "unsettled",
        }
    }

    /// The server that it is about, where it is one.
    #[must_use]
    pub fn server(&self) -> Option<ServerId> {
        match self {
            Gap::Silent { server, .. } => Some(*server),
            Gap::StartedAnew { member, .. }
            | Gap::Replaced { member, .. }
            | Gap::CalledDead { member, .. }
            | Gap::NoCopy { member, .. } => Some(member.server),
            Gap::Nothing { .. }
            | Gap::Clusters { .. }
            | Gap::KeySets { .. }
            | Gap::Copies { .. }
            | Gap::Unknown { .. }
            | Gap::Unsettled => None,
        }
    }

    /// The key sets that it holds up; none where it is about all of them.
    #[must_use]
    pub fn sets(&self) -> &[KeySet] {
        match self {
            Gap::Silent { sets, .. }
            | Gap::StartedAnew { sets, .. }
            | Gap::Replaced { sets, .. }
            | Gap::CalledDead { sets, .. }
            | Gap::NoCopy { sets, .. }
            | Gap::Unknown { sets } => sets,
            Gap::Nothing { .. }
            | Gap::Clusters { .. }
            | Gap::KeySets { .. }
            | Gap::Copies { .. }
            | Gap::Unsettled => &[],
        }
    }

    /// Whether asking again later may be all that is needed.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Gap::Silent { .. } | Gap::Unsettled => true,
            Gap::Nothing { silent, .. } => !silent.is_empty(),
            Gap::Clusters { .. }
            | Gap::KeySets { .. }
            | Gap::Copies { .. }
            | Gap::StartedAnew { .. }
            | Gap::Replaced { .. }
            | Gap::CalledDead { .. }
            | Gap::NoCopy { .. }
            | Gap::Unknown { .. } => false,
        }
    }

    fn sets_mut(&mut self) -> Option<&mut Vec<KeySet>> {
        match self {
            Gap::Silent { sets, .. }
            | Gap::StartedAnew { sets, .. }
            | Gap::Replaced { sets, .. }
            | Gap::CalledDead { sets, .. }
            | Gap::NoCopy { sets, .. }
            | Gap::Unknown { sets } => Some(sets),
            Gap::Nothing { .. }
            | Gap::Clusters { .. }
            | Gap::KeySets { .. }
            | Gap::Copies { .. }
            | Gap::Unsettled => None,
        }
    }

    /// Whether both are the same reason, maybe for different key sets.
    fn is_alike(&self, other: &Gap) -> bool {
        let bare = |it: &Gap| {
            let mut it = it.clone();
            it.sets_mut().into_iter().for_each(Vec::clear);
            it
        };
        bare(self) == bare(other)
    }
}

/// Said where a member's process is gone, so that its memory can not be proven.
const ONLY_THE_OLD_STATE: &str = "without the metaserver's state nobody can prove that what its \
     disk holds is the newest. Get that state back from its disk, or save what is still served \
     and begin a new cluster with it";

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held_up = sets_in_words(self.sets());
        match self {
            Gap::Nothing { silent, anew } => write_nothing(f, silent, anew),
            Gap::Clusters { clusters } => {
                f.write_str("the servers belong to different clusters:")?;
                for (cluster, those) in clusters {
                    write!(f, " {} to {cluster};", servers(those))?;
                }
                f.write_str(" end those that do not belong here, then ask again")
            }
            Gap::KeySets { counts } => {
                f.write_str("the servers differ about the number of key sets:")?;
                for (count, those) in counts {
                    write!(f, " {} say {count};", servers(those))?;
                }
                f.write_str(" end those that do not belong here, then ask again")
            }
            Gap::Copies { said, fewest } => write!(
                f,
                "cluster.toml says replicas = {said}, but every key set has {fewest} copies or \
                 more: write there what the cluster was created with"
            ),
            Gap::Silent { server, sets } => write_silent(f, *server, sets),
            Gap::StartedAnew { member, .. } => write!(
                f,
                "server {} was started anew after the metaserver was lost, but {member} is needed \
                 for {held_up}: {ONLY_THE_OLD_STATE}",
                member.server.0
            ),
            Gap::Replaced { member, by, .. } => write!(
                f,
                "{member} is needed for {held_up}, but server {} is {by} now: {ONLY_THE_OLD_STATE}",
                member.server.0
            ),
            Gap::CalledDead { member, .. } => write!(
                f,
                "{member} is needed for {held_up}, and answers, but was declared dead: \
                 {ONLY_THE_OLD_STATE}"
            ),
            Gap::NoCopy { member, .. } => write!(
                f,
                "{member} is needed for {held_up}, but what it holds of them is no copy: \
                 {ONLY_THE_OLD_STATE}"
            ),
            Gap::Unknown { .. } => {
                write!(f, "nobody knows who holds {held_up}: {ONLY_THE_OLD_STATE}")
            }
            Gap::Unsettled => {
                f.write_str("what the servers know of each other kept changing: ask again")
            }
        }
    }
}

fn write_nothing(
    f: &mut fmt::Formatter<'_>,
    silent: &[ServerId],
    anew: &[ServerId],
) -> fmt::Result {
    f.write_str("nobody who answered knows a key set; ")?;
    if !silent.is_empty() {
        return write!(
            f,
            "{} did not answer: let them reach the metaserver's address, then ask again",
            servers(silent)
        );
    }
    if !anew.is_empty() {
        return write!(
            f,
            "started anew after the metaserver was lost: {}; {ONLY_THE_OLD_STATE}",
            servers(anew)
        );
    }
    f.write_str(
        "all servers have answered, so that nothing was ever stored: end them, move their state \
         directories aside, and start the metaserver and them anew",
    )
}

fn write_silent(f: &mut fmt::Formatter<'_>, server: ServerId, sets: &[KeySet]) -> fmt::Result {
    write!(f, "server {} did not answer, ", server.0)?;
    if sets.is_empty() {
        return f.write_str(
            "and may know more than the others: let it reach the metaserver's address; if it is \
             gone for good make sure that its process is, and take it out of cluster.toml",
        );
    }
    write!(
        f,
        "but is needed for {}: if its process runs let it reach the metaserver's address, then \
         ask again; if it ended, {ONLY_THE_OLD_STATE}",
        sets_in_words(sets)
    )
}

fn servers(those: &[ServerId]) -> String {
    let numbers: Vec<String> = those.iter().map(|it| it.0.to_string()).collect();
    match numbers.as_slice() {
        [one] => format!("server {one}"),
        many => format!("servers {}", many.join(", ")),
    }
}

/// Key sets as people read them, neighbours together.
#[must_use]
pub fn sets_in_words(sets: &[KeySet]) -> String {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for set in sets {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(set.0) => *last = set.0,
            Some(_) | None => runs.push((set.0, set.0)),
        }
    }
    let run = |(first, last): (u16, u16)| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first} to {last}"),
    };
    let words: Vec<String> = runs.into_iter().map(run).collect();
    match sets {
        [_] => format!("key set {}", words.join(", ")),
        _ => format!("key sets {}", words.join(", ")),
    }
}

/// Gathers reasons; the same one for several key sets is one.
#[derive(Debug, Default)]
pub(super) struct Gaps(Vec<Gap>);

impl Gaps {
    pub(super) fn add(&mut self, gap: Gap) {
        if !self.0.iter().any(|it| it.is_alike(&gap)) {
            self.0.push(gap);
        }
    }

    /// The same, where it holds up `set`.
    pub(super) fn at(&mut self, gap: Gap, set: KeySet) {
        self.add(gap.clone());
        let place = self.0.iter_mut().find(|it| it.is_alike(&gap));
        let sets = place.and_then(Gap::sets_mut);
        if let Some(sets) = sets.filter(|sets| sets.last() != Some(&set)) {
            sets.push(set);
        }
    }

    pub(super) fn into_result(self) -> Result<(), Vec<Gap>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }
}
