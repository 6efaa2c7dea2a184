//! A row of the comparison, as a line of the table and as JSON.

use serde_json::{Value, json};

use super::Op;

/// The medians of one load. Throughput is in operations a second, waits are in microseconds.
#[derive(Clone, Debug)]
pub struct Row {
    pub op: Op,
    pub load: String,
    /// Sessions that share the connections of one client.
    pub tandem: f64,
    /// Connections of each session's own; none where it was not measured or is the same.
    pub tandem_own_connections: Option<f64>,
    pub peer: f64,
    pub peer_name: String,
    /// The bare echo with as many connections as the shared sessions have.
    pub limit: f64,
    /// The bare echo with a connection a session.
    pub limit_own_connections: Option<f64>,
    /// etcd's figure, where it was measured, and its name, where it takes part.
    pub etcd: Option<f64>,
    pub etcd_name: Option<String>,
    /// Of an open loop.
    pub open: Option<Open>,
    /// The disk's syncs a second under Tandem, its peer and etcd, where all sync.
    pub syncs: Option<[f64; 3]>,
}

/// The rate of an open loop, and who kept up with it: whoever did not has a wait that only tells
/// how long the run was.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    /// Operations a second.
    pub rate: f64,
    pub kept_up: bool,
    pub peer_kept_up: bool,
    pub limit_kept_up: bool,
}

impl Row {
    /// Tandem over its peer.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.tandem / self.peer
    }

    /// How much of what the network allows is left: 1 if nothing above it costs anything.
    #[must_use]
    pub fn share_of_limit(&self) -> f64 {
        if self.op.is_wait() { self.limit / self.tandem } else { self.tandem / self.limit }
    }

    #[must_use]
    pub fn json(&self) -> Value {
        let mut row = json!({
            "op": self.op.name(),
            "load": self.load,
            "unit": if self.op.is_wait() { "us" } else { "op/s" },
            "tandem": tenth(self.tandem),
            "tandem_own_connections": self.tandem_own_connections.map(tenth),
            "peer": tenth(self.peer),
            "peer_name": self.peer_name,
            "limit": tenth(self.limit),
            "limit_own_connections": self.limit_own_connections.map(tenth),
            "ratio": thousandth(self.ratio()),
            "share_of_limit": thousandth(self.share_of_limit()),
        });
        if let Some(name) = &self.etcd_name {
            row["etcd"] = json!(self.etcd.map(tenth));
            row["etcd_name"] = json!(name);
            row["etcd_ratio"] = json!(self.etcd.map(|it| thousandth(self.tandem / it)));
        }
        if let Some([tandem, peer, etcd]) = self.syncs {
            row["syncs"] = json!(tenth(tandem));
            row["peer_syncs"] = json!(tenth(peer));
            row["etcd_syncs"] = json!(tenth(etcd));
        }
        if let Some(open) = self.open {
            row["rate"] = json!(tenth(open.rate));
            row["kept_up"] = json!(open.kept_up);
            row["peer_kept_up"] = json!(open.peer_kept_up);
            row["limit_kept_up"] = json!(open.limit_kept_up);
        }
        row
    }

    /// Who did not keep up with the rate, in words for people; empty if all did.
    #[must_use]
    pub fn behind(&self) -> String {
        let Some(open) = self.open else { return String::new() };
        let all = [
            (open.kept_up, "Tandem"),
            (open.peer_kept_up, self.peer_name.as_str()),
            (open.limit_kept_up, "the echo"),
        ];
        let behind: Vec<&str> = all.iter().filter(|it| !it.0).map(|it| it.1).collect();
        if behind.is_empty() {
            String::new()
        } else {
            format!("not kept up with: {}", behind.join(", "))
        }
    }

    /// Its line of the table.
    #[must_use]
    pub fn line(&self) -> String {
        let figure = |it: f64| figure(self.op, it);
        let perhaps = |it: Option<f64>| it.map_or_else(|| "-".to_owned(), figure);
        let mut line = columns([
            self.op.name(),
            &self.load,
            &figure(self.tandem),
            &perhaps(self.tandem_own_connections),
            &figure(self.peer),
            &format!("{:.2}", self.ratio()),
            &figure(self.limit),
            &perhaps(self.limit_own_connections),
            &format!("{:.0} %", self.share_of_limit() * 100.0),
        ]);
        if self.etcd_name.is_some() {
            line.push_str(&etcd_column(&perhaps(self.etcd)));
        }
        if let Some(syncs) = self.syncs {
            let [tandem, peer, etcd] = syncs.map(|it| format!("{it:.0}"));
            line.push_str(&format!("  syncs/s {tandem}, {peer}, {etcd}"));
        }
        format!("{line}  {}", self.behind()).trim_end().to_owned()
    }
}

/// A figure of `op` as people read it.
#[must_use]
pub fn figure(op: Op, value: f64) -> String {
    if op.is_wait() { wait(value) } else { grouped(value) }
}

fn columns(cells: [&str; 9]) -> String {
    let [op, load, tandem, own, peer, ratio, limit, limit_own, share] = cells;
    format!(
        "{op:<14} {load:<16} {tandem:>11} {own:>11} {peer:>11} {ratio:>6} {limit:>11} \
         {limit_own:>11} {share:>6}"
    )
}

/// One more column, where etcd takes part.
fn etcd_column(cell: &str) -> String {
    format!(" {cell:>11}")
}

/// Prints the table's head.
pub fn print_header(peer: &str, etcd: Option<&str>) {
    let peers = etcd.map_or_else(|| peer.to_owned(), |etcd| format!("{peer}, {etcd}"));
    println!("Tandem beside {peers} and a bare QUIC echo; medians, op/s, waits in us:\n");
    let last = etcd.map(|_| etcd_column("etcd")).unwrap_or_default();
    println!("{}", columns(["", "", "Tandem", "Tandem", "", "Tandem", "echo", "echo", "of"]));
    println!(
        "{}{last}",
        columns(["op", "load", "shared", "own conns", "Redis", "/Redis", "shared", "own", "echo"])
    );
}

/// Prints what each system promises for what was measured.
pub fn print_guarantees(peer: &str, etcd: Option<&str>, durable: bool) {
    let (where_to, replica) = if durable {
        ("on disk", "the master's is on disk, and the replica was sent it")
    } else {
        ("in memory", "the replica has it (in memory)")
    };
    println!(
        "\nWhat an answer means:\n\
         Tandem      put: every copy has it ({where_to}), and no acknowledged write is lost when\n\
         \x20           a server dies. get: linearizable, from the primary under a lease.\n\
         {peer:<11} set + WAIT 1: {replica}; failover may still lose it, for\n\
         \x20           nothing keeps a stale master from answering. get: of the master, stale\n\
         \x20           after a failover that it has not noticed.\n\
         echo        nothing: bytes come back."
    );
    if etcd.is_some() {
        println!(
            "etcd        put: on the disks of two nodes of three, synced, and never lost after.\n\
             \x20           get: linearizable, after word from the leader."
        );
    }
}

/// A number with a space between thousands.
fn grouped(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

fn wait(us: f64) -> String {
    format!("{us:.1} us")
}

fn tenth(figure: f64) -> f64 {
    (figure * 10.0).round() / 10.0
}

fn thousandth(figure: f64) -> f64 {
    (figure * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    //! Goal: a row says the same as a line and as JSON, and ratios are the right way up.
    //! Method: rows made by hand.

    use super::*;

    fn row(op: Op) -> Row {
        Row {
            op,
            load: "50x16".to_owned(),
            tandem: 1_234_567.0,
            tandem_own_connections: None,
            peer: 617_283.5,
            peer_name: "Redis".to_owned(),
            limit: 2_469_134.0,
            limit_own_connections: Some(999.0),
            etcd: None,
            etcd_name: None,
            open: None,
            syncs: None,
        }
    }

    #[test]
    fn a_row_is_a_line() {
        let line = row(Op::Get).line();
        let words: Vec<&str> =
            line.split("  ").map(str::trim).filter(|it| !it.is_empty()).collect();
        assert_eq!(words[..3], ["get", "50x16", "1 234 567"], "{line}");
        assert!(line.contains("2.00") && line.ends_with("50 %"), "{line}");
    }

    #[test]
    fn a_row_is_an_object() {
        let json = row(Op::P50Put).json();
        assert_eq!(json["op"], "p50_put");
        assert_eq!(json["ratio"], 2.0);
        assert_eq!(json["share_of_limit"], 2.0, "the wait of the limit over Tandem's");
        assert_eq!(json["tandem_own_connections"], Value::Null);
        assert_eq!(json.get("rate"), None, "a closed loop has none");
    }

    #[test]
    fn etcd_has_a_column_where_it_takes_part() {
        assert_eq!(row(Op::Get).json().get("etcd"), None);
        let name = Some("etcd 3".to_owned());
        let beside = Row { etcd: Some(1_234.0), etcd_name: name.clone(), ..row(Op::Get) };
        assert!(beside.line().ends_with(" 1 234"), "{}", beside.line());
        assert_eq!(beside.json()["etcd"], 1_234.0);
        let without = Row { etcd_name: name, ..row(Op::P99HalfLoad) };
        assert!(without.line().ends_with(" -"), "{}", without.line());
        assert_eq!(without.json()["etcd"], Value::Null);
    }

    #[test]
    fn a_row_says_who_did_not_keep_up() {
        let open = Open { rate: 1_000.04, kept_up: true, peer_kept_up: false, limit_kept_up: true };
        let row = Row { open: Some(open), ..row(Op::P99HalfLoad) };
        assert!(row.line().ends_with("not kept up with: Redis"), "{}", row.line());
        let json = row.json();
        assert_eq!((&json["rate"], &json["kept_up"]), (&json!(1_000.0), &json!(true)));
        assert_eq!(json["peer_kept_up"], false);
    }
}
