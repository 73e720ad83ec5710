use std::time::Duration;

use super::*;
use crate::lines::GROUPS;

#[test]
fn the_document_says_what_was_measured_and_what_was_not() {
    let machine = Machine { facts: vec![("CPU".into(), "a | b".into())] };
    let lines = vec![
        Line::new("reads", ">= 0.85", "0.91", true).note("5 rounds"),
        Line::new("more reads", ">= 0.85", "0.80", false),
        Line::left_out("beats beside etcd", ">= 12", "etcd is not installed"),
    ];
    let text =
        render(&machine, "make bench", Duration::from_secs(61), &[Measured { group: &GROUPS[0], lines }]);
    assert!(text.contains("| CPU | a \\| b |\n"), "{text}");
    assert!(text.contains("| command | `make bench`, 61 s |\n"), "{text}");
    assert!(text.contains("| reads | >= 0.85 | 0.91 | yes | 5 rounds |\n"), "{text}");
    assert!(text.contains("| more reads | >= 0.85 | 0.80 | **no** |  |\n"), "{text}");
    assert!(text.contains("| beats beside etcd | >= 12 | left out |  | etcd is not installed |\n"), "{text}");
    assert!(text.contains("\n- beats beside etcd: etcd is not installed\n"), "{text}");
    let missing = format!("\n- {}: not asked for (`BENCH_ONLY=beats`)\n", GROUPS[1].title);
    assert!(text.contains(&missing), "{text}");
}
