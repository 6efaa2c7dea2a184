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
    [of_epochs(), of_changes(), of_returns(), of_metaservers()].concat()
}

/// Worlds in which only epochs change, or little else.
fn of_epochs() -> Vec<Plan> {
    vec![
        Plan { name: "pair", about: "two copies, nothing happens but time and a write", ..pair() },
        Plan {
            name: "pair-slow-read",
            about: "two copies, a slow store, one new epoch",
            slow_reads: 1,
            writes: &[],
            budget: Budget { installs: 1, ..NONE },
            ..pair()
        },
        Plan {
            name: "pair-epoch",
            about: "two copies, one new epoch, a write",
            budget: Budget { installs: 1, ..NONE },
            ..pair()
        },
        Plan {
            name: "pair-retry",
            about: "two copies, one new epoch, a write that is tried twice",
            writes: &[RETRIED],
            budget: Budget { installs: 1, ..NONE },
            ..pair()
        },
        Plan {
            name: "pair-crash",
            about: "two copies, one new epoch, a crash",
            budget: Budget { installs: 1, crashes: 1, ..NONE },
            ..pair()
        },
        Plan {
            name: "pair-break",
            about: "two copies, one new epoch, a link that breaks",
            budget: Budget { installs: 1, breaks: 1, ..NONE },
            ..pair()
        },
        Plan {
            name: "pair-epochs",
            about: "two copies, two new epochs, a write",
            budget: Budget { installs: 2, ..NONE },
            ..pair()
        },
    ]
}

/// Worlds in which a primary asks for a change, or is told to.
fn of_changes() -> Vec<Plan> {
    vec![
        Plan {
            name: "lone-add",
            about: "one copy and a learner, whose addition may be refused, and one new epoch",
            budget: Budget { installs: 1, copies: 1, refusals: 1, ..NONE },
            ..lone()
        },
        Plan {
            name: "lone-add-writes",
            about: "one copy and a learner, a put, a put and a delete, no time",
            writes: &[PUT, PUT, DELETE],
            budget: Budget { copies: 1, ticks: Some(0), ..NONE },
            ..lone()
        },
        Plan {
            name: "lone-withdraw",
            about: "one copy and a silent learner, whose addition is withdrawn, and one new epoch",
            complain: Some(1),
            retry: Some(1),
            writes: &[PUT],
            budget: Budget { installs: 1, copies: 1, ..NONE },
            ..lone()
        },
        Plan {
            name: "pair-resign",
            about: "two copies, a primary that is told to resign, two new epochs",
            writes: &[],
            budget: Budget { installs: 2, resigns: 1, ..NONE },
            ..pair()
        },
        Plan {
            name: "pair-handover",
            about: "two copies, a handover that may be refused, and a write",
            retry: Some(1),
            budget: Budget { handovers: 1, refusals: 1, ..NONE },
            ..pair()
        },
        Plan {
            name: "pair-meta-restart",
            about: "two copies, one new epoch, a metaserver that restarts",
            budget: Budget { installs: 1, meta_restarts: 1, ..NONE },
            ..pair()
        },
    ]
}

/// Worlds in which something comes again: a server, a request, a copy run.
fn of_returns() -> Vec<Plan> {
    vec![
        Plan {
            name: "pair-heir",
            about: "two copies, a crash and a return with the disk, one new epoch",
            budget: Budget { installs: 1, crashes: 1, returns: 1, ..NONE },
            ..pair()
        },
        Plan {
            name: "pair-return",
            about: "two copies, a crash and a return with nothing, one new epoch",
            budget: Budget { installs: 1, crashes: 1, restarts: 1, ..NONE },
            ..pair()
        },
        Plan {
            name: "lone-refused",
            about: "one copy and a learner, a request refused and sent again, one new epoch",
            retry: Some(1),
            writes: &[],
            budget: Budget { installs: 1, copies: 1, refusals: 1, ..NONE },
            ..lone()
        },
        Plan {
            name: "lone-retry",
            about: "one copy and a learner, a write that is tried twice, one new epoch",
            writes: &[RETRIED],
            budget: Budget { installs: 1, copies: 1, ..NONE },
            ..lone()
        },
        Plan {
            name: "lone-rerun",
            about: "one copy and a learner, a link that breaks, a second copy run, two writes",
            rerun: Some(1),
            writes: &[PUT, DELETE],
            budget: Budget { copies: 1, breaks: 1, ..NONE },
            ..lone()
        },
        Plan {
            name: "lone-horizon",
            about: "one copy that keeps one duplicate record, two writes, one tried twice",
            dedup_records_max: 1,
            writes: &[RETRIED, PUT],
            ..lone()
        },
        Plan {
            name: "lone-condition",
            about: "two copies, a put and two deletes",
            writes: &[PUT, DELETE, DELETE],
            ..pair()
        },
    ]
}

/// Worlds of removals, of the production metaserver, and of three copies.
fn of_metaservers() -> Vec<Plan> {
    vec![
        Plan {
            name: "pair-removal",
            about: "two copies, a link that breaks, a removal",
            complain: Some(1),
            budget: Budget { installs: 1, breaks: 1, ..NONE },
            ..pair()
        },
        Plan {
            name: "meta-restart",
            about: "two copies and the production metaserver, which restarts; five ticks",
            budget: Budget { meta_restarts: 1, ticks: Some(5), ..NONE },
            ..governed()
        },
        Plan {
            name: "meta-crash",
            about: "two copies and the production metaserver, a crash; five ticks",
            budget: Budget { crashes: 1, ticks: Some(5), ..NONE },
            ..governed()
        },
        Plan {
            name: "pair-add",
            about: "two copies and a learner, a write, no time",
            servers: 3,
            budget: Budget { copies: 1, ticks: Some(0), ..NONE },
            ..pair()
        },
        Plan {
            name: "trio-epoch",
            about: "three copies, one new epoch",
            budget: Budget { installs: 1, ..NONE },
            ..trio()
        },
        Plan {
            name: "trio-epochs",
            about: "three copies, two new epochs",
            budget: Budget { installs: 2, ..NONE },
            deep: true,
            ..trio()
        },
    ]
}
