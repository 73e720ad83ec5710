use registry_wire::Ttl;

use super::*;
use crate::{
    Catalog,
    history::{Header, Write},
};

fn beat(instance: u32, start: u64, took: u64, status: u16, outcome: Outcome) -> Operation {
    let start = At::from_start(Duration::from_millis(start));
    let write = Write { act: Act::Beat, instance, session: 1, usable: true, outcome };
    Operation {
        start,
        end: start.plus(Duration::from_millis(took)),
        target: 0,
        status,
        what: What::Write(write),
    }
}

fn history(operations: Vec<Operation>) -> History {
    let header = Header {
        catalog: Catalog { run: "t".into(), services: 1, instances: 2 },
        targets: Vec::new(),
        ttl: Ttl::default(),
        tick: Duration::from_secs(1),
        seed: 7,
    };
    History { header, operations, faults: Vec::new(), full: None, unsent: 0 }
}

#[test]
fn figures_are_those_of_the_calls() {
    let good = (1..=98).map(|took| beat(0, 1000 * took, took, 200, Outcome::Acknowledged));
    // In the wrong order, as calls of several sidecars end.
    let bad = [beat(1, 2_000, 500, 503, Outcome::Maybe), beat(1, 1_000, 200, 0, Outcome::Maybe)];
    let figures = Figures::of(&history(good.chain(bad).collect()));
    assert_eq!((figures.operations, figures.retries), (100, 1));
    assert!((figures.seconds - 97.098).abs() < 1e-9, "{}", figures.seconds);
    let [line] = &figures.kinds[..] else { panic!("{figures:?}") };
    assert_eq!((line.kind, line.count), ("beat", 100));
    let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
    assert!(close(line.p50_ms, 50.0) && close(line.p99_ms, 200.0) && close(line.max_ms, 500.0), "{line:?}");
    assert_eq!(line.errors, BTreeMap::from([(0, 1), (503, 1)]));
    assert_eq!(figures.unanswered_percent(), 2);
    let table = figures.table();
    assert!(table.contains("1 without an answer, 1 x 503") && table.contains("1 retries"), "{table}");
}

#[test]
fn figures_of_nothing_are_nothing() {
    let figures = Figures::of(&history(Vec::new()));
    assert_eq!((figures.operations, figures.retries, figures.kinds.len()), (0, 0, 0));
    assert_eq!(figures.unanswered_percent(), 0);
    assert!(figures.table().contains("0 calls in 0.0 s"));
}
