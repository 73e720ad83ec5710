use super::*;

#[test]
fn times_are_found_behind_any_name() {
    let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 10 20 0 0 300 200 40 2 20 0 1 0 5 6 7";
    let tick = Duration::from_nanos(1_000_000_000 / rustix::param::clock_ticks_per_second());
    assert_eq!(of_stat(stat, 11..13), Some(tick * 500));
    assert_eq!(of_stat(stat, 11..15), Some(tick * 542));
    assert_eq!(of_stat("7 (short) S 1", 11..13), None);
}

#[test]
fn this_process_uses_something() {
    let own = std::process::id();
    assert!(resident(own).expect("its own memory") > 100_000);
    assert!(descriptors(own).expect("its own descriptors") >= 3);
    assert!(cpu_with_children(own).expect("its own time") >= Duration::ZERO);
}
