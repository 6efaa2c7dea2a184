//! Explores every state of small worlds of Tandem's own machines.

mod checker;
mod clock;
mod hash;
mod plan;
mod world;
mod worlds;

use std::sync::Arc;
use std::time::Duration;

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let name = std::env::args().nth(1).unwrap_or_default();
    let secs: u64 = std::env::args().nth(2).and_then(|it| it.parse().ok()).unwrap_or(60);
    for plan in worlds::all() {
        if !name.is_empty() && name != "all" && plan.name != name {
            continue;
        }
        let plan = Arc::new(plan);
        let bounds = checker::Bounds {
            states_max: 20_000_000,
            time_max: Duration::from_secs(secs),
        };
        let outcome = checker::explore(&plan, bounds);
        println!(
            "{:20} steps {:>10} states {:>9} depth {:>3} {:?} {:?}",
            plan.name, outcome.steps, outcome.states, outcome.depth, outcome.took, outcome.end
        );
        if let Some(it) = outcome.counterexample {
            for step in it.steps {
                println!("   {step}");
            }
            println!("   => {}: {}", it.property, it.words);
        }
    }
}
