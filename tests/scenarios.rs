//! Goal: the protocol does, step by step, what the transcripts in `tests/scenarios` say.
//! Method: each file scripts a quiet world (exact clocks, steady network, seed fixed); its lines
//! are run in order, and the lines that a world prints are compared with those in the file.
//!
//! ```text
//!   cluster servers=3 copies=2 sets=1 [spawn] [floor=2] [idle=3000ms]
//!   run 500ms                         let time pass
//!   until served|redundant|quiet 5s   wait for a condition; so do the next two
//!   until step invalidate|copy-primary|copy-secondary|resume 5s
//!   until set 0 epoch=2 [primary=s2] [secondaries=s3,s1] 5s
//!   expect served|redundant|set 0 ..  demand it now
//!   put KEY V, delete KEY, incr KEY N, cas KEY V W, get KEY     -> what it answers
//!   begin NAME put KEY V              without waiting; end NAME -> what it answers
//!   ... @s1                           asks that server alone, once
//!   kill|start|stop s1|meta           pause s1 400ms        fuse s1|meta 3 (dies 3 effects on)
//!   cut s1 s2 [oneway]                mend s1 s2            heal
//!   status                            prints all key sets, for comparison
//! ```
//!
//! A key `0/a` lies in key set 0. Lines beginning with `|` are what the line above printed;
//! `TANDEM_BLESS=1` writes them anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use tandem::protocol::message::{Answer, Expect, Operation};
use tandem::protocol::meta::durable::Step;
use tandem::protocol::session::{NotDone, Outcome};
use tandem::protocol::time::Span;
use tandem::protocol::types::{Configuration, Key, KeySet, ServerId, Value, Written};
use tandem::sim::faults::Fault;
use tandem::sim::invariants::healed;
use tandem::sim::trace::Trace;
use tandem::sim::truth::OperationId;
use tandem::sim::workload::key_in;
use tandem::sim::{ClientId, Node, Settings, World};

type Told = Result<String, String>;

struct Script {
    world: World,
    /// The client that follows the view, and one for each server that is asked alone.
    clients: BTreeMap<Option<ServerId>, ClientId>,
    begun: BTreeMap<String, (ClientId, OperationId)>,
}

fn span(text: &str) -> Result<Span, String> {
    let parse =
        |number: &str, unit: u64| number.parse().map(|it: u64| Span::from_millis(it * unit));
    let parsed = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => parse(number, 1),
        (None, Some(number)) => parse(number, 1_000),
        (None, None) => return Err(format!("{text} is no length of time")),
    };
    parsed.map_err(|error| format!("{text}: {error}"))
}

fn node(text: &str) -> Result<Node, String> {
    if text == "meta" {
        return Ok(Node::Meta);
    }
    let number = text.strip_prefix('s').and_then(|number| number.parse().ok());
    number.map(|it| Node::Server(ServerId(it))).ok_or(format!("{text} is no node"))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|error| format!("{text}: {error}"))
}

/// `k0 e2 {s2,[s3]}`: key set, epoch, primary and secondaries.
fn notation(set: KeySet, configuration: &Configuration) -> String {
    let secondaries: Vec<_> =
        configuration.secondaries.iter().map(|it| it.server.to_string()).collect();
    let (epoch, primary) = (configuration.epoch, configuration.primary.server);
    format!("{set} {epoch} {{{primary},[{}]}}", secondaries.join(","))
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done(answer) => match answer {
            Answer::Found { value, .. } => String::from_utf8_lossy(value).into_owned(),
            Answer::Absent { .. } => "absent".to_owned(),
            Answer::Written { written, .. } => match written {
                Written::Stored => "stored".to_owned(),
                Written::Deleted => "deleted".to_owned(),
                Written::Counter(number) => number.to_string(),
            },
            Answer::Mismatch { .. } => "mismatch".to_owned(),
            other => format!("{other:?}"),
        },
        Outcome::NotDone(NotDone::Refused(refusal)) => {
            let words = format!("{refusal:?}");
            let name = words.split([' ', '{']).next().unwrap_or_default();
            format!("refused {name}")
        }
        Outcome::NotDone(_) => "not done".to_owned(),
        Outcome::Unknown(_) => "unknown".to_owned(),
    }
}

impl Script {
    fn new(words: &[&str]) -> Result<Script, String> {
        let mut settings = Settings::quiet(3, 2, 1);
        for word in words {
            match word.split_once('=') {
                Some(("servers", it)) => settings.servers = number(it)? as u16,
                Some(("copies", it)) => settings.copies = number(it)? as u16,
                Some(("sets", it)) => settings.key_sets = number(it)? as u16,
                Some(("floor", it)) => settings.min_write_copies = number(it)? as u16,
                Some(("idle", it)) => settings.network.idle = span(it)?,
                None if *word == "spawn" => settings.spawn = true,
                Some(_) | None => return Err(format!("{word} is no property of a cluster")),
            }
        }
        let trace = match std::env::var_os("TANDEM_TRACE") {
            Some(_) => Trace::with_text(),
            None => Trace::default(),
        };
        let mut world = World::new(settings, 1, trace);
        world.start_all();
        Ok(Script { world, clients: BTreeMap::new(), begun: BTreeMap::new() })
    }

    fn line(&mut self, words: &[&str]) -> Told {
        let told = match words {
            ["run", time] => {
                self.world.run(span(time)?);
                Ok(String::new())
            }
            ["until", condition @ .., time] => self.until(condition, span(time)?),
            ["expect", condition @ ..] => match self.obstacle(condition)? {
                None => Ok(String::new()),
                Some(obstacle) => Err(obstacle),
            },
            ["begin", name, operation @ ..] => {
                let begun = self.begin(operation)?;
                self.begun.insert((*name).to_owned(), begun);
                Ok(String::new())
            }
            ["end", name, "->", expected @ ..] => {
                let begun = self.begun.remove(*name).ok_or(format!("{name} never began"))?;
                self.end(begun, &expected.join(" "))
            }
            ["status"] => Ok(self.status()),
            ["put" | "get" | "delete" | "incr" | "cas", ..] => {
                let arrow = words.iter().position(|word| *word == "->").unwrap_or(words.len());
                let begun = self.begin(&words[..arrow])?;
                let expected = words.get(arrow + 1..).unwrap_or_default().join(" ");
                self.end(begun, if expected.is_empty() { "stored" } else { &expected })
            }
            _ => self.fault(words),
        };
        match &self.world.violation {
            Some(violation) => Err(violation.to_string()),
            None => told,
        }
    }

    fn fault(&mut self, words: &[&str]) -> Told {
        let world = &mut self.world;
        match words {
            ["kill", it] => world.kill(node(it)?),
            ["start", it] => world.start(node(it)?),
            ["stop", it] => match node(it)? {
                Node::Server(server) => world.ask_to_stop(server),
                other => return Err(format!("{other} can not be asked to stop")),
            },
            ["pause", it, time] => world.freeze(node(it)?, span(time)?),
            ["fuse", it, effects] => {
                world.plan(Span::ZERO, Fault::KillSoon(node(it)?, number(effects)? as u32));
                world.run(Span::ZERO);
            }
            ["cut", from, to, "oneway"] => world.cut(node(from)?, node(to)?),
            ["cut", one, other] => {
                world.cut(node(one)?, node(other)?);
                world.cut(node(other)?, node(one)?);
            }
            ["mend", one, other] => {
                world.mend(node(one)?, node(other)?);
                world.mend(node(other)?, node(one)?);
            }
            ["heal"] => world.mend_all(),
            _ => return Err("this line means nothing".to_owned()),
        }
        Ok(String::new())
    }

    fn until(&mut self, condition: &[&str], time: Span) -> Told {
        let end = self.world.now() + time;
        loop {
            let Some(obstacle) = self.obstacle(condition)? else { return Ok(String::new()) };
            let alive = self.world.now() < end && self.world.violation.is_none();
            if !alive || !self.world.step() {
                return Err(format!("not within {} ms: {obstacle}", time.as_millis()));
            }
        }
    }

    /// What keeps a condition from holding.
    fn obstacle(&self, condition: &[&str]) -> Result<Option<String>, String> {
        let world = &self.world;
        match condition {
            ["served"] => Ok(healed::unserved(world)),
            ["redundant"] => Ok(healed::obstacle(world)),
            ["step", name] => {
                let wanted = match *name {
                    "invalidate" => Step::Invalidate,
                    "copy-primary" => Step::CopyPrimary,
                    "copy-secondary" => Step::CopySecondary,
                    "resume" => Step::Resume,
                    "done" => Step::Done,
                    other => return Err(format!("{other} is no step")),
                };
                let last = world.meta.disk.recoveries().last().map(|it| it.step);
                Ok((last < Some(wanted)).then(|| format!("the recovery is at {last:?}")))
            }
            ["set", set, properties @ ..] => {
                let set = KeySet(number(set)? as u16);
                let row = world.meta.disk.set(set);
                let Some(it) = row.and_then(|row| row.configuration.as_ref()) else {
                    return Ok(Some(format!("{set} is unborn")));
                };
                let secondaries: Vec<_> =
                    it.secondaries.iter().map(|member| member.server.to_string()).collect();
                let there = [
                    ("epoch", it.epoch.0.to_string()),
                    ("primary", it.primary.server.to_string()),
                    ("secondaries", secondaries.join(",")),
                ];
                for property in properties.iter() {
                    let (name, wanted) = property.split_once('=').ok_or("name=value is missing")?;
                    let known = there.iter().find(|(known, _)| *known == name);
                    if known.ok_or(format!("{name} is no property of a set"))?.1 != wanted {
                        return Ok(Some(notation(set, it)));
                    }
                }
                Ok(None)
            }
            other => Err(format!("{other:?} is no condition")),
        }
    }

    fn status(&self) -> String {
        let mut text = String::new();
        for row in self.world.meta.disk.sets() {
            let line = match &row.configuration {
                Some(configuration) => notation(row.set, configuration),
                None => format!("{} unborn", row.set),
            };
            let _ = writeln!(text, "| {line} {:?}", row.state);
        }
        text
    }

    /// Begins an operation: at the primary, or at one server alone.
    fn begin(&mut self, words: &[&str]) -> Result<(ClientId, OperationId), String> {
        let (words, server) = match words.split_last() {
            Some((last, rest)) if last.starts_with('@') => match node(&last[1..])? {
                Node::Server(server) => (rest, Some(server)),
                other => return Err(format!("{other} serves no clients")),
            },
            _ => (words, None),
        };
        let sets = self.world.settings.key_sets;
        let key = |name: &str| match name.split_once('/') {
            Some((set, _)) => Ok(key_in(KeySet(number(set)? as u16), sets, name)),
            None => Ok::<_, String>(Key::copy_from_slice(name.as_bytes())),
        };
        let value = |text: &str| Value::copy_from_slice(text.as_bytes());
        let operation = match words {
            ["put", name, text] => Operation::Put { key: key(name)?, value: value(text) },
            ["get", name] => Operation::Get { key: key(name)? },
            ["delete", name] => Operation::Delete { key: key(name)? },
            ["incr", name, by] => {
                let by = by.parse().map_err(|error| format!("{by}: {error}"))?;
                Operation::Incr { key: key(name)?, by }
            }
            ["cas", name, old, new] => Operation::Cas {
                key: key(name)?,
                expect: Expect::Value(value(old)),
                value: Some(value(new)),
            },
            _ => return Err("this is no operation".to_owned()),
        };
        let world = &mut self.world;
        let client = *self.clients.entry(server).or_insert_with(|| world.add_client(server, None));
        let patience = match server {
            Some(_) => Span::from_millis(1_000),
            None => Span::from_millis(10_000),
        };
        Ok((client, world.submit(client, operation, patience)))
    }

    fn end(&mut self, (client, operation): (ClientId, OperationId), expected: &str) -> Told {
        let known = |world: &World| {
            world.clients.get(&client).and_then(|it| it.running.outcomes.get(&operation).cloned())
        };
        self.world.run_until(Span::from_millis(30_000), |world| known(world).is_some());
        let told = known(&self.world).map_or("no end".to_owned(), |it| outcome(&it));
        if told == expected { Ok(String::new()) } else { Err(format!("it answered: {told}")) }
    }

    /// What is judged when a transcript is over: the order of all that clients saw.
    fn finish(&self) -> Result<(), String> {
        self.world.invariants.linearizable.finish(&self.world.truth)
    }
}

/// Runs a transcript; gives it back as it would have to read.
fn play(text: &str) -> Told {
    let mut written = String::new();
    let mut script: Option<Script> = None;
    for (index, line) in text.lines().enumerate() {
        if line.starts_with('|') {
            continue;
        }
        let _ = writeln!(written, "{line}");
        let words: Vec<_> = line.split_whitespace().collect();
        let told = match (words.as_slice(), &mut script) {
            ([] | ["#", ..] | ["#goal:" | "#method:", ..], _) => Ok(String::new()),
            (["cluster", properties @ ..], None) => {
                script = Some(Script::new(properties)?);
                Ok(String::new())
            }
            (words, Some(script)) => script.line(words),
            (_, None) => Err("a transcript begins with `cluster`".to_owned()),
        };
        match told {
            Ok(told) => written.push_str(&told),
            Err(error) => {
                let trace = script.map(|it| it.world.trace.text()).unwrap_or_default();
                return Err(format!("{trace}line {}: {line}\n  {error}", index + 1));
            }
        }
    }
    let script = script.ok_or("an empty transcript")?;
    script.finish()?;
    Ok(written)
}

fn transcripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let files = std::fs::read_dir(&folder).expect("tests/scenarios is a folder");
    let mut found: Vec<_> = files.filter_map(|file| file.ok().map(|file| file.path())).collect();
    found.retain(|path| path.extension().is_some_and(|it| it == "txt"));
    found.sort();
    found
}

#[test]
fn every_transcript_runs_as_written() {
    let only = std::env::var("TANDEM_SCENARIO").unwrap_or_default();
    let bless = std::env::var_os("TANDEM_BLESS").is_some();
    let (mut ran, mut failures) = (0, String::new());
    for path in transcripts() {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !name.contains(&only) {
            continue;
        }
        ran += 1;
        let text = std::fs::read_to_string(&path).expect("a transcript is text");
        let headed = text.starts_with("# goal: ") && text.contains("\n# method: ");
        match play(&text) {
            _ if !headed => failures.push_str(&format!("{name}: no goal or no method\n")),
            Ok(written) if written == text => {}
            Ok(written) if bless => std::fs::write(&path, written).expect("it can be written"),
            Ok(written) => failures.push_str(&format!("{name}: it would read\n{written}\n")),
            Err(error) => failures.push_str(&format!("{name}: {error}\n")),
        }
    }
    assert!(ran > 0, "no transcript in tests/scenarios: there is nothing to prove anything");
    assert!(failures.is_empty(), "\n{failures}");
    println!("{ran} transcripts");
}

#[test]
fn a_transcript_that_is_wrong_fails() {
    let head = "cluster servers=3 copies=2 sets=1\nuntil redundant 5s\n";
    assert!(play(&format!("{head}put a 1\nget a -> 1\n")).is_ok());
    assert!(play(&format!("{head}put a 1\nget a -> 2\n")).is_err());
    assert!(play(&format!("{head}expect set 0 epoch=7\n")).is_err());
    assert!(play(&format!("{head}nonsense\n")).is_err());
    assert!(play("").is_err());
}
