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
    /// A client a session; none where it was not measured or is the same.
    pub tandem_own_connections: Option<f64>,
    pub peer: f64,
    pub peer_name: String,
    /// The bare echo with as many connections as the shared sessions have.
    pub limit: f64,
    /// The bare echo with a connection a session.
    pub limit_own_connections: Option<f64>,
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
        json!({
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
        })
    }

    /// Its line of the table.
    #[must_use]
    pub fn line(&self) -> String {
        let figure = |it: f64| figure(self.op, it);
        let perhaps = |it: Option<f64>| it.map_or_else(|| "-".to_owned(), figure);
        columns([
            self.op.name(),
            &self.load,
            &figure(self.tandem),
            &perhaps(self.tandem_own_connections),
            &figure(self.peer),
            &format!("{:.2}", self.ratio()),
            &figure(self.limit),
            &perhaps(self.limit_own_connections),
            &format!("{:.0} %", self.share_of_limit() * 100.0),
        ])
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

/// Prints the table's head.
pub fn print_header(peer: &str) {
    println!("Tandem beside {peer} and a bare QUIC echo; medians, op/s, waits in us:\n");
    println!("{}", columns(["", "", "Tandem", "Tandem", "", "Tandem", "echo", "echo", "of"]));
    println!(
        "{}",
        columns(["op", "load", "shared", "own conns", "Redis", "/Redis", "shared", "own", "echo"])
    );
}

/// Prints what each system promises for what was measured.
pub fn print_guarantees(peer: &str) {
    println!(
        "\nWhat an answer means:\n\
         Tandem      put: every copy has it (in memory), and no acknowledged write is lost when a\n\
         \x20           server dies. get: linearizable, from the primary under a lease.\n\
         {peer:<11} set + WAIT 1: the replica has it (in memory); failover may still lose it, for\n\
         \x20           nothing keeps a stale master from answering. get: of the master, stale\n\
         \x20           after a failover that it has not noticed.\n\
         echo        nothing: bytes come back."
    );
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
    }
}
