//! x.
use tandem::sim::{Options, simulate};
fn main() {
    let a: Vec<u64> = std::env::args().skip(1).map(|x| x.parse().expect("n")).collect();
    let t = tandem::clock::now();
    let (mut f, mut o, mut s, mut b) = (0, 0, 0, 0);
    let (mut v, mut ep, mut fa) = (0, 0, 0);
    let mut c = tandem::sim::coverage::Coverage::default();
    for seed in a[0]..a[0] + a[1] {
        let r = simulate(seed, Options { hash: false, ..Options::default() });
        f += r.failovers;
        o += r.operations;
        s += r.steps;
        v += r.lasted.as_millis();
        ep += r.epochs;
        fa += r.coverage.faults();
        if std::env::var("V").is_ok() {
            println!("{r}");
        }
        c.add(&r.coverage);
        if r.violation.is_some() {
            b += 1;
            println!("{r}");
        }
    }
    let e = tandem::clock::now().since(t).as_millis();
    if std::env::var("C").is_ok() {
        println!("{c}");
    }
    println!(
        "{f} failovers {o} ops {s} steps {b} bad in {e} ms: {} us/failover {} ns/step; {} virtual ms, {ep} epochs, {fa} faults; {} steps/failover {} ops/failover",
        e * 1000 / f.max(1),
        e * 1_000_000 / s.max(1),
        v,
        s / f.max(1),
        o / f.max(1)
    );
}
