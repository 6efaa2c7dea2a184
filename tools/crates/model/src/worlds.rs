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
    ticks: None,
};

const PUT: Write = Write { what: What::Put, attempts: 1 };

/// The primary's clock runs slow and the others' fast: the worst that the drift allows.
const WORST: &[u64] = &[990_000, 1_010_000, 1_010_000];

fn pair() -> Plan {
    Plan {
        name: "",
        about: "",
        servers: 2,
        members: 2,
        lease: 1,
        rates: WORST,
        complain: None,
        retry: None,
        rerun: None,
        writes: &[PUT],
        slow_reads: 0,
        budget: NONE,
    }
}

/// All worlds, the cheap ones first.
#[must_use]
pub fn all() -> Vec<Plan> {
    vec![
        Plan {
            name: "pair-quiet",
            about: "two copies, nothing happens but time and writes",
            ..pair()
        },
        Plan {
            name: "pair-install",
            about: "two copies, one epoch of the metaserver's own accord",
            budget: Budget { installs: 1, ..NONE },
            ..pair()
        },
        Plan {
            name: "pair-crash",
            about: "two copies, one epoch of the metaserver's own accord",
            budget: Budget { installs: 1, crashes: 1, ..NONE },
            ..pair()
        },
        Plan {
            name: "pair-break",
            about: "two copies, one epoch of the metaserver's own accord",
            budget: Budget { installs: 1, breaks: 1, ..NONE },
            ..pair()
        },
        Plan {
            name: "pair-installs",
            about: "two copies, two epochs of the metaserver's own accord",
            budget: Budget { installs: 2, ..NONE },
            ..pair()
        },
    ]
}
