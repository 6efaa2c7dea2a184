//! The worlds that are explored.

use crate::plan::{Budget, Plan, What, Write};

const NONE: Budget = Budget {
    installs: 0,
    refusals: 0,
    copies: 0,
    handovers: 0,
    resigns: 0,
    cancels: 0,
    meta_restarts: 0,
    control_breaks: 0,
    breaks: 0,
    crashes: 0,
    restarts: 0,
    returns: 0,
    ticks: None,
};

const PUT: Write = Write { what: What::Put, attempts: 1 };
const DELETE: Write = Write { what: What::Delete, attempts: 1 };
const RETRIED: Write = Write { what: What::Put, attempts: 2 };

/// The primary's clock runs slow and the others' fast: the worst that the drift allows.
const WORST: &[u64] = &[990_000, 1_010_000, 1_010_000];

/// Two copies.
fn pair() -> Plan {
    Plan {
        name: "",
        about: "",
        servers: 2,
        members: 2,
        metaserver: false,
        lease: 1,
        rates: WORST,
        complain: None,
        retry: None,
        rerun: None,
        writes: &[PUT],
        slow_reads: 0,
        budget: NONE,
        only: &[],
        deaf: &[],
        dedup_records_max: 16,
        deep: false,
        mutant: None,
    }
}

/// Three copies.
fn trio() -> Plan {
    Plan { servers: 3, members: 3, ..pair() }
}

/// One copy and a spare server.
fn lone() -> Plan {
    Plan { servers: 2, members: 1, ..pair() }
}

/// Two copies and the production metaserver, which goes by its clock.
fn governed() -> Plan {
    Plan { metaserver: true, complain: Some(2), retry: Some(1), rerun: Some(1), ..pair() }
}

/// All worlds, the cheap ones first.
#[must_use]
pub fn all() -> Vec<Plan> {
    let mut all = writes();
    all.extend(failovers());
    all.extend(failures());
    all.extend(additions());
    all.extend(learners());
    all.extend(trios());
    all.extend(governments());
    all
}

/// One configuration.
fn writes() -> Vec<Plan> {
    vec![
        Plan { name: "pair", about: "two copies, nothing happens but time and a write", ..pair() },
        Plan {
            name: "pair-condition",
            about: "two copies, a put and two deletes",
            writes: &[PUT, DELETE, DELETE],
            ..pair()
        },
        Plan {
            name: "lone-horizon",
            about: "one copy that keeps one duplicate record, two writes, one tried twice",
            dedup_records_max: 1,
            writes: &[RETRIED, PUT],
            ..lone()
        },
    ]
}

/// Two copies, and epochs that the metaserver installs whenever it likes.
fn failovers() -> Vec<Plan> {
    let epoch = Plan { budget: Budget { installs: 1, ..NONE }, ..pair() };
    vec![
        Plan { name: "pair-epoch", about: "two copies, one new epoch, a write", ..epoch.clone() },
        Plan {
            name: "pair-slow-read",
            about: "two copies, one new epoch, a read whose store takes its time",
            slow_reads: 1,
            writes: &[],
            ..epoch.clone()
        },
        Plan {
            name: "pair-retry",
            about: "two copies, one new epoch, a write that is tried twice",
            writes: &[RETRIED],
            ..epoch
        },
        Plan {
            name: "pair-handover",
            about: "two copies, a handover that may be refused, a write, two ticks",
            retry: Some(1),
            budget: Budget { handovers: 1, refusals: 1, ticks: Some(2), ..NONE },
            ..pair()
        },
        Plan {
            name: "pair-epochs-still",
            about: "two copies, two new epochs, a write, no time",
            budget: Budget { installs: 2, ticks: Some(0), ..NONE },
            ..pair()
        },
        Plan {
            name: "pair-resign",
            about: "two copies, a primary that is told to resign, two new epochs, three ticks",
            writes: &[],
            budget: Budget { installs: 2, resigns: 1, ticks: Some(3), ..NONE },
            deep: true,
            ..pair()
        },
        Plan {
            name: "pair-epochs",
            about: "two copies, two new epochs, a write",
            budget: Budget { installs: 2, ..NONE },
            deep: true,
            ..pair()
        },
    ]
}

/// Two copies, and what fails: servers, links, the metaserver.
fn failures() -> Vec<Plan> {
    let epoch = Plan { budget: Budget { installs: 1, ..NONE }, ..pair() };
    vec![
        Plan {
            name: "pair-crash",
            about: "two copies, one new epoch, a crash",
            budget: Budget { crashes: 1, ..epoch.budget },
            ..epoch.clone()
        },
        Plan {
            name: "pair-return",
            about: "two copies, one new epoch, a crash and a return with nothing",
            budget: Budget { crashes: 1, restarts: 1, ..epoch.budget },
            ..epoch.clone()
        },
        Plan {
            name: "pair-heir",
            about: "two copies, a crash and a return with the disk, three ticks",
            budget: Budget { crashes: 1, returns: 1, ticks: Some(3), ..NONE },
            ..pair()
        },
        Plan {
            name: "pair-break",
            about: "two copies, one new epoch, a link that breaks, no time",
            budget: Budget { breaks: 1, ticks: Some(0), ..epoch.budget },
            ..epoch.clone()
        },
        Plan {
            name: "pair-removal",
            about: "two copies, a link that breaks and is complained of, three ticks",
            complain: Some(1),
            budget: Budget { breaks: 1, ticks: Some(3), ..NONE },
            ..pair()
        },
        Plan {
            name: "pair-meta-restart",
            about: "two copies, one new epoch, a metaserver that restarts, one tick",
            budget: Budget { meta_restarts: 1, ticks: Some(1), ..epoch.budget },
            ..epoch.clone()
        },
        Plan {
            name: "pair-heir-still",
            about: "two copies, one new epoch, a crash and a return with the disk, no time",
            budget: Budget { crashes: 1, returns: 1, ticks: Some(0), ..epoch.budget },
            ..epoch.clone()
        },
        Plan {
            name: "pair-heir-epoch",
            about: "two copies, one new epoch, a crash and a return with the disk",
            budget: Budget { crashes: 1, returns: 1, ..epoch.budget },
            deep: true,
            ..epoch
        },
    ]
}

/// One copy, and a learner that becomes another.
fn additions() -> Vec<Plan> {
    let add = Plan {
        writes: &[],
        budget: Budget { installs: 1, copies: 1, ticks: Some(3), ..NONE },
        ..lone()
    };
    vec![
        Plan {
            name: "lone-add-still",
            about: "one copy and a learner, one new epoch, a write, no time",
            writes: &[PUT],
            budget: Budget { ticks: Some(0), ..add.budget },
            ..add.clone()
        },
        Plan {
            name: "lone-add",
            about: "one copy and a learner, one new epoch, a write, two ticks",
            writes: &[PUT],
            budget: Budget { ticks: Some(2), ..add.budget },
            deep: true,
            ..add.clone()
        },
        Plan {
            name: "lone-add-writes",
            about: "one copy and a learner, two puts and a delete, no time",
            writes: &[PUT, PUT, DELETE],
            budget: Budget { copies: 1, ticks: Some(0), ..NONE },
            ..lone()
        },
        Plan {
            name: "lone-refused",
            about: "one copy and a learner, a request that is refused and sent again, one new \
                    epoch, three ticks",
            retry: Some(1),
            budget: Budget { refusals: 1, ..add.budget },
            ..add.clone()
        },
        Plan {
            name: "lone-retry",
            about: "one copy and a learner, one new epoch, a write that is tried twice, two ticks",
            writes: &[RETRIED],
            budget: Budget { ticks: Some(2), ..add.budget },
            deep: true,
            ..add.clone()
        },
        Plan {
            name: "lone-add-forever",
            about: "one copy and a learner, one new epoch, a write, as much time as it likes",
            writes: &[PUT],
            budget: Budget { refusals: 1, ticks: None, ..add.budget },
            deep: true,
            ..add
        },
    ]
}

/// A learner that falls silent or starts over, or beside two copies.
fn learners() -> Vec<Plan> {
    vec![
        Plan {
            name: "lone-withdraw",
            about: "one copy and a silent learner, whose addition is withdrawn, a write, two ticks",
            complain: Some(1),
            retry: Some(1),
            writes: &[PUT],
            budget: Budget { copies: 1, ticks: Some(2), ..NONE },
            ..lone()
        },
        Plan {
            name: "lone-rerun",
            about: "one copy and a learner, a link that breaks, a second copy run, two writes, \
                    one tick",
            rerun: Some(1),
            writes: &[PUT, DELETE],
            budget: Budget { copies: 1, breaks: 1, ticks: Some(1), ..NONE },
            deep: true,
            ..lone()
        },
        Plan {
            name: "pair-add",
            about: "two copies and a learner, a write, no time",
            servers: 3,
            budget: Budget { copies: 1, ticks: Some(0), ..NONE },
            ..pair()
        },
        Plan {
            name: "pair-add-skip",
            about: "two copies and a learner, the second becomes primary and the first again, \
                    which hears of the latter only, no time",
            servers: 3,
            only: &[&[1, 0], &[0, 1]],
            deaf: &[0],
            writes: &[],
            budget: Budget { installs: 2, copies: 1, control_breaks: 1, ticks: Some(0), ..NONE },
            deep: true,
            ..pair()
        },
        Plan {
            name: "pair-copy-late",
            about: "two copies and a learner, the second becomes primary alone, a copy by each, no \
                    time",
            servers: 3,
            only: &[&[1]],
            deaf: &[2],
            writes: &[],
            budget: Budget { installs: 1, copies: 2, ticks: Some(0), ..NONE },
            ..pair()
        },
    ]
}

/// Three copies.
fn trios() -> Vec<Plan> {
    vec![
        Plan {
            name: "trio-still",
            about: "three copies, the second becomes primary, a write, no time",
            only: &[&[1, 2]],
            budget: Budget { installs: 1, ticks: Some(0), ..NONE },
            ..trio()
        },
        Plan {
            name: "trio-skip",
            about: "three copies, the second becomes primary and the first again, which hears of \
                    it from others, a write, no time",
            only: &[&[1, 0, 2], &[0, 1, 2]],
            deaf: &[0, 2],
            budget: Budget { installs: 2, ticks: Some(0), ..NONE },
            ..trio()
        },
        Plan {
            name: "trio-deaf",
            about: "three copies, the second becomes primary, then the third alone, and the first \
                    hears of nothing, no time",
            only: &[&[1, 2], &[2]],
            deaf: &[0],
            writes: &[],
            budget: Budget { installs: 2, ticks: Some(0), ..NONE },
            ..trio()
        },
        Plan {
            name: "trio-deaths",
            about: "three copies, two crashes, the third becomes primary alone, a write, no time",
            only: &[&[2]],
            budget: Budget { installs: 1, crashes: 2, ticks: Some(0), ..NONE },
            ..trio()
        },
        Plan {
            name: "trio-failover",
            about: "three copies, the second becomes primary, a write, two ticks",
            only: &[&[1, 2]],
            budget: Budget { installs: 1, ticks: Some(2), ..NONE },
            deep: true,
            ..trio()
        },
        Plan {
            name: "trio-cut",
            about: "three copies, the second becomes primary, then the third alone, two writes, \
                    two ticks",
            only: &[&[1, 2], &[2]],
            writes: &[PUT, RETRIED],
            budget: Budget { installs: 2, ticks: Some(2), ..NONE },
            deep: true,
            ..trio()
        },
        Plan {
            name: "trio-epoch",
            about: "three copies, one new epoch, a write",
            budget: Budget { installs: 1, ..NONE },
            deep: true,
            ..trio()
        },
        Plan {
            name: "trio-crashes",
            about: "three copies, two crashes, two new epochs, a write, three ticks",
            budget: Budget { installs: 2, crashes: 2, ticks: Some(3), ..NONE },
            deep: true,
            ..trio()
        },
    ]
}

/// The production metaserver.
fn governments() -> Vec<Plan> {
    vec![
        Plan {
            name: "meta-restart",
            about: "two copies and the production metaserver, which restarts; one tick",
            budget: Budget { meta_restarts: 1, ticks: Some(1), ..NONE },
            ..governed()
        },
        Plan {
            name: "meta-silence",
            about: "two copies and the production metaserver; two ticks",
            budget: Budget { ticks: Some(2), ..NONE },
            ..governed()
        },
        Plan {
            name: "meta-crash",
            about: "two copies and the production metaserver, a crash; one tick",
            budget: Budget { crashes: 1, ticks: Some(1), ..NONE },
            ..governed()
        },
        Plan {
            name: "meta-crash-later",
            about: "two copies and the production metaserver, a crash; five ticks",
            budget: Budget { crashes: 1, ticks: Some(5), ..NONE },
            deep: true,
            ..governed()
        },
        Plan {
            name: "meta-restart-later",
            about: "two copies and the production metaserver, which restarts; five ticks",
            budget: Budget { meta_restarts: 1, ticks: Some(5), ..NONE },
            deep: true,
            ..governed()
        },
    ]
}
