use super::*;

#[test]
fn facts_are_read_from_what_the_kernel_writes() {
    let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 2.0GHz\nprocessor\t: 1\n";
    assert_eq!(after(cpuinfo, "model name").as_deref(), Some("Some CPU @ 2.0GHz"));
    assert_eq!(after(cpuinfo, "flags"), None);
    assert_eq!(gigabytes("25165824 kB").as_deref(), Some("24.0 GiB"));
}

#[test]
fn a_program_that_is_not_there_is_said_to_be_missing() {
    assert_eq!(said(&mut Command::new("/nowhere/nothing")), None);
    assert_eq!(said(Command::new("echo").arg("one")).as_deref(), Some("one"));
    let machine = Machine::ask(Path::new("/nowhere"));
    assert!(machine.facts.iter().all(|(_, value)| !value.is_empty()));
}
