//! Heirs (rules 7, 11 and 12): the dead whose memory may come back.
//!
//! Where servers keep what they hold, a proof of death is one of a process only. Until its server
//! registers without that memory, or is fenced, an heir may stand for it: such a member is not
//! removed without its primary's word, and its key sets are not lost.

use super::MetaServer;
use crate::protocol::time::{Span, Time};
use crate::protocol::types::Member;

/// After the whole cluster was down, servers get this long to come back, so that the first one of
/// them is not made the only copy of what the others hold as well.
const RETURN_WAIT: Span = Span::from_millis(5_000);

impl MetaServer {
    /// Whether `member` is dead, and an heir of it may still register.
    pub(super) fn may_have_heir(&self, member: Member) -> bool {
        let row = self.ledger.server(member.server);
        let latest = row.is_some_and(|row| row.entry.member() == member && row.dead && !row.fenced);
        self.settings.durable && latest
    }

    /// Dead, and nobody can stand for it.
    pub(super) fn is_gone(&self, member: Member) -> bool {
        self.ledger.is_dead(member) && !self.may_have_heir(member)
    }

    /// Whether a dead primary's role is kept for its heir: it was found dead as this metaserver
    /// started, so that all may have been down together.
    pub(super) fn waits_for_heir(&self, now: Time, primary: Member) -> bool {
        now < self.settled_at() + RETURN_WAIT
            && self.found_dead.contains(&primary)
            && self.may_have_heir(primary)
    }

    /// Whether a dead secondary stays for its heir, whatever its primary says: every server was
    /// found dead, so that whoever is back first is merely the first.
    pub(super) fn returns_with_all(&self, now: Time, secondary: Member) -> bool {
        let found = |server| self.found_dead.iter().any(|it| it.server == server);
        self.waits_for_heir(now, secondary) && self.ledger.servers().all(|it| found(it.entry.id))
    }

    /// Notes a death that is learned of now.
    pub(super) fn note_death(&mut self, member: Member) {
        if self.settings.durable && self.handled_at < self.settled_at() {
            self.found_dead.insert(member);
        }
    }
}
