use super::*;
use crate::clock::Clock;

fn header() -> Header {
    Header {
        catalog: Catalog { run: "t".into(), services: 2, instances: 2 },
        targets: vec![Place { url: "http://a/".into(), node: Some(0) }],
        ttl: Ttl::default(),
        tick: Duration::from_secs(1),
        seed: 7,
    }
}

fn write() -> Operation {
    let write = Write { act: Act::Beat, instance: 3, session: 1, usable: true, outcome: Outcome::Maybe };
    let start = At::from_start(Duration::from_millis(1500));
    Operation {
        start,
        end: start.plus(Duration::from_micros(20)),
        target: 0,
        status: 0,
        what: What::Write(write),
    }
}

fn read(count: u32) -> Operation {
    let list = (0..count).map(|number| Listed::new(number).flags(true, false, true)).collect();
    let subject = Subject::Service { service: 1, all: true };
    let read = Read { subject, age: 3, others: Others { listed: 1, stale: 0 }, answer: Answer::List(list) };
    Operation { what: What::Read(read), status: 200, ..write() }
}

#[test]
fn a_history_survives_its_lines() {
    let fault = Fault {
        kind: FaultKind::Node(1),
        began: At::default(),
        held: None,
        lifting: Some(At(3)),
        over: None,
    };
    let history = History {
        header: header(),
        operations: vec![write(), read(3)],
        faults: vec![fault],
        full: Some(At(9)),
        unsent: 5,
    };
    let mut lines = Vec::new();
    history.write_lines(&mut lines).unwrap();
    assert_eq!(String::from_utf8_lossy(&lines).lines().count(), 6);
    assert_eq!(History::read_lines(&lines[..]).unwrap(), history);
}

#[test]
fn other_files_are_no_histories() {
    assert!(matches!(History::read_lines(&b""[..]), Err(LinesError::Header)));
    assert!(matches!(History::read_lines(&b"{}"[..]), Err(LinesError::Line { line: 1, .. })));
    assert!(matches!(History::read_lines(&b"{\"full\":3}\n"[..]), Err(LinesError::Header)));
}

#[test]
fn flags_of_a_listed_entry_are_kept_apart() {
    for flags in 0..8 {
        let (stale, draining, critical) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
        let listed = Listed::new(Listed::LIMIT - 1).flags(stale, draining, critical);
        assert_eq!(listed.number(), Listed::LIMIT - 1);
        assert_eq!((listed.stale(), listed.draining(), listed.critical()), (stale, draining, critical));
    }
}

#[test]
fn moments_are_shown_in_seconds() {
    assert_eq!(At::from_start(Duration::from_micros(12_034_567)).to_string(), "12.034 s");
    assert_eq!(At::default().minus(Duration::from_secs(1)), At::default());
    assert_eq!(At::NEVER.plus(Duration::from_secs(1)), At::NEVER);
}

#[tokio::test]
async fn a_history_is_full_at_its_limit_and_sealed_at_its_end() {
    let recorder = Recorder::new(Clock::start(), header(), size_of::<Operation>() * 3);
    recorder.add(write());
    // Its list takes more than what is left.
    recorder.add(read(1_000));
    recorder.add(write());
    assert_eq!(recorder.len(), 1);
    let history = recorder.seal();
    assert_eq!((history.operations.len(), history.full), (1, Some(read(0).end)));

    let recorder = Recorder::new(Clock::start(), header(), usize::MAX);
    let fault = recorder.fault(FaultKind::Store);
    recorder.held(fault);
    recorder.lifting(fault);
    recorder.over(fault);
    let history = recorder.seal();
    recorder.add(write());
    let fault = history.faults[0];
    assert!(fault.began <= fault.held.unwrap() && fault.lifting.unwrap() <= fault.over.unwrap());
    assert!(history.operations.is_empty() && recorder.is_empty());
}
