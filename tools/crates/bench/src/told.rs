//! A measurement of its own cluster, told as a row of `compare` or in words.

use serde_json::{Map, Value, json};

use crate::Output;

/// A measurement with the figures that a row has.
#[derive(Clone, Debug)]
pub struct Told {
    pub op: &'static str,
    pub load: String,
    pub unit: &'static str,
    pub tandem: f64,
    /// The peer's name and figure.
    pub peer: Option<(String, f64)>,
    /// What the network, or the data itself, would allow.
    pub limit: Option<f64>,
    pub share_of_limit: Option<f64>,
    /// Further figures of the row.
    pub beside: Vec<(&'static str, Value)>,
    /// The same for people, without the load.
    pub words: String,
}

impl Told {
    #[must_use]
    pub fn json(&self) -> Value {
        let (peer_name, peer) = self.peer.clone().unzip();
        let row = json!({
            "op": self.op,
            "load": self.load,
            "unit": self.unit,
            "tandem": hundredth(self.tandem),
            "peer": peer.map(hundredth),
            "peer_name": peer_name,
            "limit": self.limit.map(hundredth),
            "ratio": peer.map(|peer| thousandth(self.tandem / peer)),
            "share_of_limit": self.share_of_limit.map(thousandth),
        });
        let mut row = match row {
            Value::Object(row) => row,
            _ => Map::new(),
        };
        row.extend(self.beside.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        Value::Object(row)
    }

    /// Says it on standard output.
    pub fn tell(&self, output: Output) {
        match output {
            Output::Text => println!("{}\n{}", self.load, self.words),
            Output::Json => println!("{}", self.json()),
        }
    }
}

fn hundredth(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}

/// A share or a ratio as a row has it.
#[must_use]
pub fn thousandth(figure: f64) -> f64 {
    (figure * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    //! Goal: a row has all fields that scripts read, and a ratio only beside a peer.
    //! Method: rows made by hand.

    use super::*;

    #[test]
    fn a_row_is_an_object() {
        let alone = Told {
            op: "handover",
            load: "so many".to_owned(),
            unit: "ms",
            tandem: 2.504,
            peer: None,
            limit: None,
            share_of_limit: None,
            beside: vec![("tandem_worst", json!(9.0))],
            words: String::new(),
        };
        let row = alone.json();
        assert_eq!((&row["op"], &row["tandem"]), (&json!("handover"), &json!(2.5)));
        assert_eq!((&row["ratio"], &row["peer_name"]), (&Value::Null, &Value::Null));
        assert_eq!(row["tandem_worst"], 9.0);
        let beside = Told { peer: Some(("Redis".to_owned(), 5.0)), ..alone };
        assert_eq!(beside.json()["ratio"], 0.501);
    }
}
