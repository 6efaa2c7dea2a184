//! The definition itself as a checker: every order is tried, with a model of its own.

use tandem_history::{Expect, Operation, Reply, What};

/// Whether any order of one key's operations respects real time and explains every answer.
/// Unknown writes may stand anywhere after they were sent, or nowhere. Revisions do not count.
pub fn is_linearizable(operations: &[&Operation]) -> bool {
    let relevant: Vec<&Operation> = operations
        .iter()
        .copied()
        .filter(|it| it.answer().is_some() || it.is_ambiguous())
        .collect();
    extend(&mut vec![false; relevant.len()], &relevant, None)
}

fn extend(placed: &mut Vec<bool>, operations: &[&Operation], value: Option<String>) -> bool {
    let open = |placed: &[bool]| {
        operations.iter().enumerate().any(|(at, it)| !placed[at] && it.answer().is_some())
    };
    if !open(placed) {
        return true;
    }
    for next in 0..operations.len() {
        // Nobody that is not placed yet may have ended before this one began.
        let too_early = operations.iter().enumerate().any(|(other, it)| {
            let ended = it.answer().and(it.return_ns());
            !placed[other] && ended.is_some_and(|ended| ended < operations[next].invoke_ns)
        });
        if placed[next] || too_early {
            continue;
        }
        let Some(after) = apply(operations[next], value.as_deref()) else { continue };
        placed[next] = true;
        if extend(placed, operations, after) {
            return true;
        }
        placed[next] = false;
    }
    false
}

/// The value after an operation; none if its answer is wrong here.
fn apply(operation: &Operation, value: Option<&str>) -> Option<Option<String>> {
    let sum = |by: i64| {
        let old = value.map_or(Some(0), |value| value.parse::<i64>().ok());
        old.and_then(|old| old.checked_add(by))
    };
    let (reply, after) = match &operation.what {
        What::Get => {
            (Reply::Value(value.map(|value| value.to_owned().into())), value.map(str::to_owned))
        }
        What::Put { value } => (Reply::Stored, Some(value.to_string())),
        What::Delete => (Reply::Existed(value.is_some()), None),
        What::Cas { expect, value: new } => {
            let holds = match expect {
                Expect::Absent => value.is_none(),
                Expect::Value(expected) => value == Some(&**expected),
                Expect::Revision(_) => return None,
            };
            let kept = value.map(str::to_owned);
            let after = if holds { new.as_ref().map(|new| new.to_string()) } else { kept };
            (Reply::Swapped(holds), after)
        }
        What::Incr { by } => match sum(*by) {
            Some(number) => (Reply::Number(Some(number)), Some(number.to_string())),
            None => (Reply::Number(None), value.map(str::to_owned)),
        },
    };
    let right = operation.answer().is_none_or(|answer| answer.reply == reply);
    right.then_some(after)
}
