//! The zone check: for keys that are only read and put, each value by one put alone.
//!
//! All operations on one value stand in a row: its put, then the reads that found it. From the
//! earliest end among them to the latest start, if that comes later, the key must have held that
//! value: a *forward zone*. Otherwise they all overlap in a *backward zone*, from the latest start
//! to the earliest end, within which the row may stand at any instant. There is an order exactly
//! if no read ends before its put begins, no two forward zones overlap, and no backward zone lies
//! within a forward one (Gibbons and Korach, "Testing Shared Memories", 1997; zones after Golab,
//! Li and Shah, 2011). It costs a sort, whatever the number of clients and of unknown writes: an
//! unknown put simply never ends by itself.

use std::collections::HashMap;

use crate::operation::{Operation, Reply, Text, What};
use crate::verdict::{Judged, Violation};

/// A value, or the absence at the beginning, with those who saw it.
struct Cluster<'a> {
    /// None for the absence at the beginning, or where nobody put the value.
    put: Option<&'a Operation>,
    /// Who ended first, and when.
    ended: Option<(u64, &'a Operation)>,
    /// Who began last, and when.
    began: Option<(u64, &'a Operation)>,
}

impl<'a> Cluster<'a> {
    fn new() -> Cluster<'a> {
        Cluster { put: None, ended: None, began: None }
    }

    fn add(&mut self, operation: &'a Operation) {
        if let Some(at) = operation.return_ns()
            && self.ended.is_none_or(|(first, _)| at < first)
        {
            self.ended = Some((at, operation));
        }
        if self.began.is_none_or(|(last, _)| last < operation.invoke_ns) {
            self.began = Some((operation.invoke_ns, operation));
        }
    }
}

/// A stretch of time, with the operations at its ends.
#[derive(Clone, Copy)]
struct Zone<'a> {
    /// None is before everything.
    low: Option<u64>,
    high: u64,
    ends: [&'a Operation; 2],
}

/// Judges the operations of one key.
#[must_use]
pub fn judge(operations: &[&Operation]) -> Judged {
    let mut clusters: HashMap<&Text, Cluster<'_>> = HashMap::new();
    // The absence at the beginning is a value that was there before everything.
    let mut absent = Cluster::new();
    for &operation in operations {
        match &operation.what {
            What::Get => {}
            What::Put { value } => {
                if operation.answer().is_none() && !operation.is_ambiguous() {
                    continue;
                }
                let cluster = clusters.entry(value).or_insert_with(Cluster::new);
                if let Some(other) = cluster.put.replace(operation) {
                    let both = format!("lines {} and {}", other.line, operation.line);
                    return Judged::NotJudged(format!("{both} put the same value"));
                }
                cluster.add(operation);
            }
            What::Delete | What::Cas { .. } | What::Incr { .. } => {
                return Judged::NotJudged("not only put and get".to_owned());
            }
        }
    }
    for &operation in operations {
        match operation.answer().map(|it| &it.reply) {
            Some(Reply::Value(None)) => absent.add(operation),
            Some(Reply::Value(Some(value))) => {
                let Some(cluster) = clusters.get_mut(value) else {
                    let words = "it found a value that nobody put, or whose put surely failed";
                    return Judged::Violated(Violation::of(words, &[operation]));
                };
                cluster.add(operation);
            }
            _ => {}
        }
    }
    match zones(clusters, &absent).and_then(|(forward, backward)| disjoint(forward, &backward)) {
        Ok(()) => Judged::Accepted,
        Err(violation) => Judged::Violated(violation),
    }
}

type Zones<'a> = (Vec<Zone<'a>>, Vec<Zone<'a>>);

/// The forward and the backward zones.
fn zones<'a>(
    clusters: HashMap<&Text, Cluster<'a>>,
    absent: &Cluster<'a>,
) -> Result<Zones<'a>, Violation> {
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    if let Some((high, last)) = absent.began {
        forward.push(Zone { low: None, high, ends: [last, last] });
    }
    for cluster in clusters.into_values() {
        // Nobody saw the end of an unknown put that nobody read: it may stand anywhere later.
        let (Some(put), Some((first, ended)), Some((last, began))) =
            (cluster.put, cluster.ended, cluster.began)
        else {
            continue;
        };
        if first < put.invoke_ns {
            let words = "the first found a value before its put, the second, was sent";
            return Err(Violation::of(words, &[ended, put]));
        }
        if first < last {
            forward.push(Zone { low: Some(first), high: last, ends: [ended, began] });
        } else {
            backward.push(Zone { low: Some(last), high: first, ends: [began, ended] });
        }
    }
    Ok((forward, backward))
}

/// No forward zone meets another, and none holds a backward one.
fn disjoint(mut forward: Vec<Zone<'_>>, backward: &[Zone<'_>]) -> Result<(), Violation> {
    forward.sort_by_key(|it| (it.low, it.high));
    for pair in forward.windows(2) {
        let [one, two] = pair else { continue };
        if two.low < Some(one.high) {
            let words = "the key held one value from the end of the first to the beginning of \
                         the second, and another from the end of the third to the beginning of \
                         the fourth; these overlap";
            let [a, b] = one.ends;
            let [c, d] = two.ends;
            return Err(Violation::of(words, &[a, b, c, d]));
        }
    }
    for zone in backward {
        // Forward zones are disjoint here: only the last one that begins before can hold it.
        let after = forward.partition_point(|it| it.low < zone.low);
        let Some(around) = after.checked_sub(1).map(|index| &forward[index]) else { continue };
        if zone.high < around.high {
            let words = "the third can only stand between the first and the second, and the key \
                         held another value all that time";
            let [a, b] = around.ends;
            return Err(Violation::of(words, &[a, b, zone.ends[0]]));
        }
    }
    Ok(())
}
