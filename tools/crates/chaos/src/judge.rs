//! What the run says of the cluster: was everything in order, and served where it had to be?
//!
//! A run without answers would be linearizable too, so it counts only if enough was served: one
//! success a second on key sets that no fault blocks, and a fifth of the undisturbed rate overall.
//! Where the power is cut, no rate is demanded: what must be served after each cut is waited for.

use std::collections::{BTreeMap, BTreeSet};

use tandem::protocol::time::{Span, Time};
use tandem::protocol::types::KeySet;
use tandem_history::{Conclusion, Options, Tally, check};

use crate::load::{Ending, Sample};
use crate::nodes::Node;
use crate::observer;
use crate::run::Outcome;
use crate::timeline::Record;
use crate::verdict::Verdict;

/// What a fault may still cost after its end: suspicion, removal, copies, handover.
const AFTERMATH: Span = Span::from_millis(3_000);

/// Shorter pauses between two writes of a key set are its clients' rhythm.
pub const PAUSE_MIN: Span = Span::from_millis(100);

const SECOND: Span = Span::from_millis(1_000);

/// The least part of the undisturbed rate, as one in so many.
const RATE_PART: f64 = 5.0;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    pub calm_per_s: f64,
    pub chaos_per_s: f64,
    pub served: Served,
    /// What each checker says of the keys of the history.
    pub checks: Vec<(&'static str, Tally)>,
    /// Times in which a key set took no write, in the order of their beginning.
    pub pauses: Vec<Pause>,
}

/// Seconds under chaos.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Served {
    /// With a key set and a client that no fault blocked, or had just blocked.
    pub demanded: u64,
    /// Demanded, and nothing was served.
    pub starved: u64,
    /// In which faults blocked everything.
    pub exempt: u64,
}

/// A time in which a key set took no write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pause {
    pub set: KeySet,
    pub begin: Time,
    pub end: Time,
    /// The kind of fault it goes back to; "storm" or "several" if it can not be told.
    pub cause: &'static str,
}

impl Pause {
    pub fn length(&self) -> Span {
        self.end.since(self.begin)
    }
}

/// Judges a run; what breaks it is noted.
pub fn judge(outcome: &Outcome, verdict: &Verdict) -> Findings {
    let rate = |from: Time, to: Time| {
        let done =
            |it: &&Sample| it.ending == Ending::Ok && it.answered >= from && it.answered < to;
        let seconds = to.since(from).0 as f64 / 1e9;
        outcome.samples.iter().filter(done).count() as f64 / seconds.max(f64::MIN_POSITIVE)
    };
    let findings = Findings {
        calm_per_s: rate(outcome.begin, outcome.calm_end),
        chaos_per_s: rate(outcome.calm_end, outcome.chaos_end),
        served: served(outcome),
        checks: checks(outcome, verdict),
        pauses: pauses(outcome),
    };
    let Findings { calm_per_s, chaos_per_s, served, .. } = &findings;
    if outcome.cuts.is_none() && chaos_per_s * RATE_PART < *calm_per_s {
        verdict.note(format!(
            "only {chaos_per_s:.0} operations a second of {calm_per_s:.0} undisturbed ones"
        ));
    }
    if served.starved > 0 {
        verdict.note(format!(
            "in {} of {} seconds nothing was served on key sets that no fault blocked",
            served.starved, served.demanded
        ));
    }
    findings
}

/// Whether the history is linearizable.
fn checks(outcome: &Outcome, verdict: &Verdict) -> Vec<(&'static str, Tally)> {
    let options = Options { key_sets: Some(outcome.key_sets), ..Options::default() };
    let verdicts = check(&outcome.history, &options);
    for of_one in &verdicts.verdicts {
        for violation in of_one.violations() {
            let checker = of_one.checker.name();
            verdict.note(format!("not linearizable ({checker}): {}", violation.words));
        }
    }
    if verdicts.conclusion() == Conclusion::Undecided {
        let open = verdicts.open_keys();
        verdict.note(format!("no checker could decide on {} keys: {open:?}", open.len()));
    }
    verdicts.verdicts.iter().map(|it| (it.checker.name(), it.tally())).collect()
}

fn served(outcome: &Outcome) -> Served {
    let clients: BTreeSet<Node> = outcome.samples.iter().map(|it| it.client).collect();
    let mut served = Served::default();
    let mut second = outcome.calm_end;
    while second + SECOND <= outcome.chaos_end {
        let end = second + SECOND;
        let window = Window::new(outcome, second, end);
        let free: BTreeSet<(Node, usize)> = clients
            .iter()
            .flat_map(|&client| (0..window.members.len()).map(move |set| (client, set)))
            .filter(|&(client, set)| window.is_free(client, set))
            .collect();
        if free.is_empty() {
            served.exempt += 1;
        } else {
            served.demanded += 1;
            let success = outcome.samples.iter().any(|it| {
                it.ending == Ending::Ok
                    && (second..end).contains(&it.answered)
                    && free.contains(&(it.client, usize::from(it.set.0)))
            });
            served.starved += u64::from(!success);
        }
        second = end;
    }
    served
}

/// A second, and everything that may still block it.
struct Window<'a> {
    faults: Vec<&'a Record>,
    /// Who held each key set meanwhile.
    members: Vec<BTreeSet<Node>>,
}

impl Window<'_> {
    fn new(outcome: &Outcome, second: Time, end: Time) -> Window<'_> {
        let felt = |from: Time| outcome.faults.iter().filter(move |it| it.overlaps(from, end));
        let mut from = second - AFTERMATH;
        // Without a metaserver nothing is repaired: then the aftermath begins with its return.
        let meta = |it: &&Record| {
            it.nodes.contains(&Node::Meta)
                || it.edges.iter().any(|edge| edge.from == Node::Meta || edge.to == Node::Meta)
        };
        if let Some(absent) = felt(from).filter(meta).map(|it| it.begin).min() {
            from = from.min(absent - AFTERMATH);
        }
        let faults = felt(from).filter(|it| it.kind.blocks()).collect();
        let members = members(&outcome.fortunes, from, end);
        Window { faults, members }
    }

    /// Whether no fault blocks `client`, the members of `set`, or what is between them.
    fn is_free(&self, client: Node, set: usize) -> bool {
        let concerned = |it: &Node| *it == client || self.members[set].contains(it);
        self.faults.iter().all(|fault| {
            !fault.nodes.iter().any(concerned)
                && !fault.edges.iter().any(|it| concerned(&it.from) && concerned(&it.to))
        })
    }
}

/// Who held each key set at some time from `from` to `to`; every server where a copy was missing.
fn members(fortunes: &[observer::Sample], from: Time, to: Time) -> Vec<BTreeSet<Node>> {
    let before = fortunes.partition_point(|it| it.at < from).saturating_sub(1);
    let count = fortunes.iter().map(|it| it.sets.len()).max().unwrap_or(0);
    let servers: BTreeSet<Node> = fortunes
        .iter()
        .flat_map(|it| it.servers.iter().flatten())
        .map(|it| Node::Server(it.number))
        .collect();
    let mut members = vec![BTreeSet::new(); count];
    for sample in fortunes[before..].iter().take_while(|it| it.at <= to) {
        for (set, known) in sample.sets.iter().zip(&mut members) {
            known.extend(set.members.iter().copied());
            if !(set.redundant && set.open) {
                known.extend(servers.iter().copied());
            }
        }
    }
    members
}

/// The times in which a key set took no write, longer than its clients' rhythm.
fn pauses(outcome: &Outcome) -> Vec<Pause> {
    let mut writes: BTreeMap<KeySet, Vec<Time>> = BTreeMap::new();
    let counts = |it: &&Sample| it.is_write && it.ending == Ending::Ok && it.answered < outcome.end;
    for sample in outcome.samples.iter().filter(counts) {
        writes.entry(sample.set).or_insert_with(|| vec![outcome.begin]).push(sample.answered);
    }
    let mut pauses = Vec::new();
    for (set, mut times) in writes {
        times.push(outcome.end);
        times.sort_unstable();
        for pair in times.windows(2).filter(|it| it[1].since(it[0]) >= PAUSE_MIN) {
            let cause = cause(outcome, pair[0], pair[1]);
            pauses.push(Pause { set, begin: pair[0], end: pair[1], cause });
        }
    }
    pauses.sort_by_key(|it| it.begin);
    pauses
}

/// The kind of fault that a pause goes back to.
fn cause(outcome: &Outcome, begin: Time, end: Time) -> &'static str {
    let kinds = |from: Time| -> BTreeSet<&'static str> {
        let felt = outcome.faults.iter().filter(|it| it.overlaps(from, end));
        felt.map(|it| if it.storm { "storm" } else { it.kind.name() }).collect()
    };
    let mut found = kinds(begin);
    if found.is_empty() {
        found = kinds(begin - AFTERMATH);
    }
    match found.len() {
        0 => "none",
        1 => found.pop_first().unwrap_or("none"),
        _ if found.contains("storm") => "storm",
        _ => "several",
    }
}

/// The longest pause of each cause.
pub fn longest(pauses: &[Pause]) -> BTreeMap<&'static str, &Pause> {
    let mut longest: BTreeMap<&'static str, &Pause> = BTreeMap::new();
    for pause in pauses {
        let known = longest.entry(pause.cause).or_insert(pause);
        if pause.length() > known.length() {
            *known = pause;
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    //! Goal: a run that served too little does not count, and pauses go back to their faults.
    //! Method: runs made by hand of one key set on two servers, served or not.

    use tandem_history::History;

    use super::*;
    use crate::nemesis::Kind;
    use crate::nodes::Edge;
    use crate::observer::{ServerSample, SetSample};
    use crate::relay::Traffic;

    fn at(ms: u64) -> Time {
        Time(1_000_000_000_000 + ms * 1_000_000)
    }

    /// Ten calm seconds and ten with `faults`; a write every 20 ms where `works` says so.
    fn run(faults: Vec<Record>, works: impl Fn(u64) -> bool) -> Outcome {
        let write = |ms: u64| Sample {
            client: Node::Client(1),
            set: KeySet(0),
            is_write: true,
            sent: at(ms - 1),
            answered: at(ms),
            ending: Ending::Ok,
        };
        let server = |number| ServerSample {
            number,
            state: tandem::protocol::meta::ServerState::Up,
            primary_of: 1,
            secondary_of: 1,
        };
        let set = SetSample {
            members: vec![Node::Server(1), Node::Server(2)],
            redundant: true,
            open: true,
        };
        let fortune = observer::Sample {
            at: at(0),
            servers: Some(vec![server(1), server(2), server(3)]),
            sets: vec![set].into(),
        };
        Outcome {
            seed: 1,
            key_sets: 1,
            begin: at(0),
            calm_end: at(10_000),
            chaos_end: at(20_000),
            end: at(20_000),
            grace: Span::from_millis(200),
            faults,
            cuts: None,
            samples: (20..20_000).step_by(20).filter(|&it| works(it)).map(write).collect(),
            fortunes: vec![fortune],
            recoveries: Vec::new(),
            traffic: Traffic::default(),
            history: History::default(),
        }
    }

    fn fault(nodes: Vec<Node>, edges: Vec<Edge>, from: u64, to: u64) -> Record {
        let (begin, end) = (at(from), Some(at(to)));
        Record { kind: Kind::Cut, label: String::new(), begin, end, edges, nodes, storm: false }
    }

    fn judged(outcome: &Outcome) -> (Findings, Vec<String>) {
        let verdict = Verdict::default();
        let findings = judge(outcome, &verdict);
        (findings, verdict.broken())
    }

    #[test]
    fn a_run_that_is_served_counts() {
        let (findings, broken) = judged(&run(Vec::new(), |_| true));
        assert_eq!(broken, Vec::<String>::new());
        assert_eq!(findings.served, Served { demanded: 10, starved: 0, exempt: 0 });
        assert!((findings.calm_per_s - 50.0).abs() < 1.0);
        assert_eq!(findings.pauses, []);
    }

    #[test]
    fn a_run_without_answers_does_not_count() {
        let (_, broken) = judged(&run(Vec::new(), |ms| ms < 10_000));
        assert_eq!(broken.len(), 2, "{broken:?}");
    }

    #[test]
    fn a_starved_second_breaks_the_run_unless_a_fault_explains_it() {
        let silent = |ms: u64| !(14_000..15_000).contains(&ms);
        let starved = |faults| judged(&run(faults, silent)).0.served.starved;
        let [one, two, three] = [1, 2, 3].map(Node::Server);
        assert_eq!(starved(Vec::new()), 1);
        // What touches the members, their link, or the only client explains it.
        assert_eq!(starved(vec![fault(vec![two], vec![], 14_000, 14_500)]), 0);
        assert_eq!(starved(vec![fault(vec![], vec![Edge::new(one, two)], 11_500, 12_500)]), 0);
        let near = Edge::new(one, Node::Client(1));
        assert_eq!(starved(vec![fault(vec![], vec![near], 13_000, 14_000)]), 0);
        // What is long over, strikes others, the metaserver only, or does not block, does not.
        assert_eq!(starved(vec![fault(vec![two], vec![], 9_000, 10_500)]), 1);
        assert_eq!(starved(vec![fault(vec![three], vec![], 14_000, 14_500)]), 1);
        assert_eq!(starved(vec![fault(vec![Node::Meta], vec![], 13_000, 15_000)]), 1);
        let far = Edge::new(one, Node::Meta);
        assert_eq!(starved(vec![fault(vec![], vec![far], 13_000, 15_000)]), 1);
        let slow = fault(vec![], vec![Edge::new(one, two)], 13_000, 15_000);
        assert_eq!(starved(vec![Record { kind: Kind::Delay, ..slow }]), 1);
    }

    #[test]
    fn a_history_that_is_not_linearizable_breaks_the_run() {
        let line = |process: u64, op: &str, arg: &str, result: &str, ns: u64| {
            format!(
                "{{\"process\":{process},\"op\":\"{op}\",\"key\":\"k\",\"arg\":{arg},\"result\":\
                 {result},\"revision\":null,\"position\":null,\"invoke_ns\":{ns},\"return_ns\":\
                 {},\"outcome\":\"ok\"}}\n",
                ns + 1
            )
        };
        let mut outcome = run(Vec::new(), |_| true);
        let mut text = line(1, "put", "\"a\"", "true", 10) + &line(1, "get", "null", "\"a\"", 20);
        outcome.history = History::read(text.as_bytes(), |_| ()).expect("a history");
        assert_eq!(judged(&outcome).1, Vec::<String>::new());
        text += &line(1, "get", "null", "null", 30);
        outcome.history = History::read(text.as_bytes(), |_| ()).expect("a history");
        let (_, broken) = judged(&outcome);
        assert!(broken.iter().any(|it| it.contains("not linearizable")), "{broken:?}");
    }

    #[test]
    fn a_pause_goes_back_to_its_fault() {
        let faults = vec![
            fault(vec![Node::Server(1)], vec![], 12_000, 12_100),
            Record { kind: Kind::Pause, ..fault(vec![Node::Server(1)], vec![], 16_000, 16_100) },
            Record { kind: Kind::Loss, ..fault(vec![Node::Server(1)], vec![], 16_050, 16_300) },
        ];
        let silent = [5_000..5_500, 12_010..12_600, 12_800..13_000, 16_010..17_000];
        let mut outcome = run(faults, |ms| !silent.iter().any(|it| it.contains(&ms)));
        // What was under way when the load ended is no pause.
        outcome.samples.push(Sample {
            sent: at(19_990),
            answered: at(20_400),
            ..outcome.samples[0]
        });
        let (findings, _) = judged(&outcome);
        let causes: Vec<&str> = findings.pauses.iter().map(|it| it.cause).collect();
        assert_eq!(causes, ["none", "cut", "cut", "several"]);
        let longest = longest(&findings.pauses);
        assert_eq!(longest["cut"].length(), Span::from_millis(600));
        assert!(longest["several"].length() >= Span::from_millis(990));
    }
}
