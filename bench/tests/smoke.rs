//! A pass of the bench with few instances and one short round, on whatever build the tests have.

use std::{path::Path, time::Duration};

use bench::{
    document::{Measured, render},
    lab::{Lab, Rounds},
    lines::{self, GROUPS, Group},
    machine::Machine,
    population::Population,
};

fn group(name: &str) -> &'static Group {
    GROUPS.iter().find(|group| group.name == name).expect("a group of this name")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_is_measured_and_shown() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    // The registry lies beside the bench's own programs.
    let programs = Path::new(env!("CARGO_BIN_EXE_bench-limit")).parent().expect("a directory");
    let rounds = Rounds { count: 1, length: Duration::from_secs(1) };
    let lab = Lab::new(&root, programs, rounds)
        .expect("a workplace")
        .with_population(Population { services: 5, instances: 2 });
    let lines = lines::run(group("flat"), &lab).await.expect("measured");
    let [line] = &lines[..] else { panic!("one line, not {lines:?}") };
    assert!(line.kept.is_some(), "{line:?}");
    assert!(line.measured.contains(" × limit ("), "{line:?}");
    let ratio: f64 = line.measured.split(' ').next().expect("a ratio").parse().expect("a number");
    assert!(ratio > 0.01 && ratio < 10.0, "{line:?}");
    // Shown with two digits.
    assert!(line.kept == Some(ratio >= 0.75) || (ratio - 0.75).abs() < 0.01, "{line:?}");
    let measured = [Measured { group: group("flat"), lines: lines.clone() }];
    let text = render(&Machine::ask(&root), "make bench", Duration::from_secs(1), &measured);
    assert!(text.contains(&format!("| {} | {} | {} |", line.work, line.promise, line.measured)), "{text}");
}
