//! The budget of faults: when the memory of a server may be destroyed.
//!
//! Values are in memory, with a number of copies. What is promised holds "from full redundancy",
//! so a kill is fair only if every key set of the victim has another copy at that very moment.
//! The status alone does not show that: it says what the metaserver knows, and where a link is
//! cut or a process stands still it may be about to remove a copy. So the copies that must take
//! over have to be sound: their processes run, and their links to the metaserver and to each
//! other member of the key set, the victim included, have been good for a while.
//!
//! What strikes after the kill destroys nothing and is always fair: cuts, losses and pauses cost
//! no memory, and the metaserver's is on its disk.

use tandem::protocol::meta::durable::Step;
use tandem::protocol::meta::{ServerState, Status};
use tandem::protocol::time::{Span, Time};
use tandem::protocol::types::{Configuration, ServerId};
use tandem_local::status;

use crate::nodes::Node;
use crate::timeline::Record;

/// For so long nothing that a fault began can be under way any more: several times the longest
/// complaint and the longest question of the metaserver, and a reconnect.
const QUIET: Span = Span::from_millis(1_500);

/// Whether everything is served with all copies, and every server is there.
///
/// # Errors
/// What is missing.
pub fn is_whole(status: &Status) -> Result<(), String> {
    let lacking = status.sets.iter().filter(|it| !(it.open && it.redundant)).count();
    let under_way = status.recoveries.iter().filter(|it| it.step != Step::Done).count();
    let absent: Vec<String> = status
        .servers
        .iter()
        .filter(|it| it.state != ServerState::Up)
        .map(|it| format!("server {} {:?}", it.id.0, it.state))
        .collect();
    if status::is_whole(status) && under_way == 0 && absent.is_empty() {
        return Ok(());
    }
    Err(format!("{lacking} key sets lack, {under_way} recoveries under way, absent: {absent:?}"))
}

/// Whether all of `victims` may be killed, beginning now. `status` is as of now.
///
/// # Errors
/// What is not sound.
pub fn may_kill(
    victims: &[u8],
    status: &Status,
    faults: &[Record],
    now: Time,
) -> Result<(), String> {
    is_whole(status)?;
    let dies = |it: ServerId| victims.iter().any(|&victim| u16::from(victim) == it.0);
    for set in &status.sets {
        let Some(configuration) = &set.configuration else {
            return Err(format!("key set {} has no copies", set.set));
        };
        if !configuration.members().any(|it| dies(it.server)) {
            continue;
        }
        let others = configuration.members().map(|it| it.server).filter(|&it| !dies(it));
        let mut unsound = "nobody else has it".to_owned();
        let mut sound = false;
        for other in others {
            match is_sound(Node::server(other), configuration, faults, now) {
                Ok(()) => sound = true,
                Err(words) => unsound = words,
            }
        }
        if !sound {
            return Err(format!("key set {}: {unsound}", set.set));
        }
    }
    Ok(())
}

/// Whether nothing can be about to cost `heir` its part in `configuration`.
fn is_sound(
    heir: Node,
    configuration: &Configuration,
    faults: &[Record],
    now: Time,
) -> Result<(), String> {
    let members = configuration.members().map(|it| Node::server(it.server));
    let peers: Vec<Node> = members.chain([Node::Meta]).filter(|&it| it != heir).collect();
    for fault in faults.iter().filter(|it| it.is_felt(now, QUIET)) {
        let stopped = fault.nodes.contains(&heir) || fault.nodes.contains(&Node::Meta);
        let cut = fault.edges.iter().any(|edge| {
            (edge.from == heir && peers.contains(&edge.to))
                || (edge.to == heir && peers.contains(&edge.from))
        });
        if stopped || cut {
            return Err(format!("{heir} feels {} {}", fault.kind, fault.label));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Goal: no kill is allowed that could legally cost the last copy, and fair ones are.
    //! Method: a whole cluster of three servers, and one thing wrong at a time.

    use tandem::protocol::meta::{ServerStatus, SetStatus};
    use tandem::protocol::types::{Epoch, Incarnation, KeySet, LossEpoch, Member};
    use tandem::protocol::view::SetState;

    use super::*;
    use crate::nemesis::Kind;
    use crate::nodes::Edge;

    const NOW: Time = Time(1_000_000_000_000);

    fn member(server: u16) -> Member {
        Member { server: ServerId(server), incarnation: Incarnation(u64::from(server)) }
    }

    fn set(number: u16, primary: u16, secondaries: &[u16]) -> SetStatus {
        SetStatus {
            set: KeySet(number),
            configuration: Some(Configuration {
                loss_epoch: LossEpoch(0),
                epoch: Epoch(1),
                primary: member(primary),
                secondaries: secondaries.iter().map(|&it| member(it)).collect(),
            }),
            state: SetState::Available,
            redundant: true,
            open: true,
        }
    }

    fn whole() -> Status {
        let server = |id| ServerStatus {
            id: ServerId(id),
            incarnation: Incarnation(u64::from(id)),
            state: ServerState::Up,
            primary_of: 1,
            secondary_of: 1,
            learner_of: 0,
            process: 1,
        };
        Status {
            servers: vec![server(1), server(2), server(3)],
            sets: vec![set(0, 1, &[2]), set(1, 2, &[3]), set(2, 3, &[1])],
            ..Status::default()
        }
    }

    fn fault(edges: Vec<Edge>, nodes: Vec<Node>, end: Option<Time>) -> Record {
        let begin = Time(NOW.0 - 60_000_000_000);
        Record { kind: Kind::Cut, label: String::new(), begin, end, edges, nodes, storm: false }
    }

    #[test]
    fn a_whole_cluster_may_lose_a_server() {
        assert_eq!(may_kill(&[1], &whole(), &[], NOW), Ok(()));
    }

    #[test]
    fn a_cluster_that_lacks_anything_may_not() {
        let mut lacking = whole();
        lacking.sets[1].redundant = false;
        assert!(may_kill(&[1], &lacking, &[], NOW).is_err(), "a copy is missing");
        let mut suspected = whole();
        suspected.servers[2].state = ServerState::Suspected;
        assert!(may_kill(&[1], &suspected, &[], NOW).is_err(), "a server is suspected");
        let mut alone = whole();
        alone.sets[0] = set(0, 1, &[]);
        assert!(may_kill(&[1], &alone, &[], NOW).is_err(), "a sole copy");
        assert!(may_kill(&[1], &Status::default(), &[], NOW).is_err(), "nothing is known");
    }

    #[test]
    fn a_copy_behind_a_bad_link_does_not_count() {
        let [one, two, three] = [1, 2, 3].map(Node::Server);
        for edge in [
            Edge::new(one, two),
            Edge::new(two, one),
            Edge::new(Node::Meta, two),
            Edge::new(three, Node::Meta),
            Edge::new(three, one),
        ] {
            for end in [None, Some(Time(NOW.0 - 1))] {
                let faults = [fault(vec![edge], vec![], end)];
                assert!(may_kill(&[1], &whole(), &faults, NOW).is_err(), "{edge:?}");
            }
            let long_ago = Some(Time(NOW.0 - 2_000_000_000));
            assert_eq!(
                may_kill(&[1], &whole(), &[fault(vec![edge], vec![], long_ago)], NOW),
                Ok(())
            );
        }
    }

    #[test]
    fn links_that_no_copy_depends_on_may_be_bad() {
        let [one, two, three] = [1, 2, 3].map(Node::Server);
        for edge in
            [Edge::new(one, Node::Meta), Edge::new(two, three), Edge::new(Node::Client(1), two)]
        {
            assert_eq!(may_kill(&[1], &whole(), &[fault(vec![edge], vec![], None)], NOW), Ok(()));
        }
    }

    #[test]
    fn a_copy_that_stands_still_does_not_count() {
        for node in [Node::Server(2), Node::Meta] {
            let faults = [fault(vec![], vec![node], None)];
            assert!(may_kill(&[1], &whole(), &faults, NOW).is_err(), "{node}");
        }
    }

    #[test]
    fn one_sound_copy_of_two_is_enough() {
        let mut status = whole();
        status.sets = vec![set(0, 1, &[2, 3])];
        let faults = [fault(vec![], vec![Node::Server(2)], None)];
        assert_eq!(may_kill(&[1], &status, &faults, NOW), Ok(()));
        assert!(may_kill(&[1, 3], &status, &faults, NOW).is_err());
        assert_eq!(may_kill(&[1, 3], &status, &[], NOW), Ok(()));
        assert!(may_kill(&[1, 2], &whole(), &[], NOW).is_err(), "both copies of a key set");
    }
}
