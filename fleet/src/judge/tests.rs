//! Histories made by hand, with the protocol's own constants: TTL 90 s, a beat each 30 s, tick 1 s.

use registry_wire::Ttl;

use super::*;
use crate::{
    Catalog,
    history::{Act, Answer, Fault, FaultKind, Listed, Others, Outcome, Place, Read, Subject, What, Write},
};

mod absent;
mod silent;

/// Ten services of two instances, at two nodes and a balancer before them.
const COUNT: u32 = 20;
/// The place of the balancer among the targets; the nodes are 0 and 1.
const BALANCER: u8 = 2;

fn at(seconds: f64) -> At {
    At::from_start(Duration::from_secs_f64(seconds))
}

/// A run that is written down by hand. Calls take 10 ms.
struct Script {
    history: History,
    /// Where the next calls go.
    target: u8,
    session: u32,
    usable: bool,
    age: u32,
    others: Others,
}

impl Script {
    fn new() -> Self {
        let place = |url: &str, node| Place { url: url.into(), node };
        let header = Header {
            catalog: Catalog { run: "t".into(), services: COUNT / 2, instances: 2 },
            targets: vec![place("http://a", Some(0)), place("http://b", Some(1)), place("http://lb", None)],
            ttl: Ttl::default(),
            tick: Duration::from_secs(1),
            seed: 1,
        };
        Self {
            history: History { header, operations: Vec::new(), faults: Vec::new(), full: None, unsent: 0 },
            target: 0,
            session: 1,
            usable: true,
            age: 0,
            others: Others::default(),
        }
    }

    /// All are registered at 0. Instance 3 beats at these moments, the others every 30 s until 600.
    fn beating(moments: &[f64]) -> Self {
        let mut script = Self::new();
        for instance in 0..COUNT {
            script.registered(instance, 0.0);
            if instance == 3 {
                for moment in moments {
                    script.beat(3, *moment);
                }
            } else {
                for beat in 1..=20 {
                    script.beat(instance, 30.0 * f64::from(beat));
                }
            }
        }
        script
    }

    fn add(&mut self, start: f64, end: f64, status: u16, what: What) -> &mut Self {
        let operation = Operation { start: at(start), end: at(end), target: self.target, status, what };
        self.history.operations.push(operation);
        self
    }

    fn write(&mut self, act: Act, instance: u32, start: f64, outcome: Outcome) -> &mut Self {
        let status = match outcome {
            Outcome::Acknowledged => 200,
            Outcome::NotThere => 404,
            Outcome::Superseded => 409,
            Outcome::Refused => 422,
            Outcome::Maybe | Outcome::CutShort => 0,
        };
        let write = Write { act, instance, session: self.session, usable: self.usable, outcome };
        self.add(start, start + 0.01, status, What::Write(write))
    }

    fn registered(&mut self, instance: u32, start: f64) -> &mut Self {
        self.write(Act::Register, instance, start, Outcome::Acknowledged)
    }

    fn beat(&mut self, instance: u32, start: f64) -> &mut Self {
        self.write(Act::Beat, instance, start, Outcome::Acknowledged)
    }

    fn read(&mut self, subject: Subject, start: f64, answer: Answer) -> &mut Self {
        self.long_read(subject, start, start + 0.01, answer)
    }

    fn long_read(&mut self, subject: Subject, start: f64, end: f64, answer: Answer) -> &mut Self {
        let status = match answer {
            Answer::List(_) => 200,
            Answer::NotThere => 404,
            Answer::Nothing => 503,
        };
        let read = Read { subject, age: self.age, others: self.others, answer };
        self.add(start, end, status, What::Read(read))
    }

    /// A list of everything at this moment, without these.
    fn without(&mut self, missing: &[u32], start: f64) -> &mut Self {
        let all = (0..COUNT).filter(|number| !missing.contains(number));
        let list = all.map(|number| self.entry(number, start)).collect();
        self.read(Subject::Instances, start, Answer::List(list))
    }

    /// An entry as a list of this moment has it.
    fn entry(&self, instance: u32, start: f64) -> Listed {
        let mut beats = self.history.operations.iter().filter(|operation| {
            matches!(operation.what, What::Write(write) if write.instance == instance)
                && operation.start <= at(start)
        });
        let stale = beats.next_back().is_some_and(|last| last.end.plus(Duration::from_secs(90)) <= at(start));
        Listed::new(instance).flags(stale, false, false)
    }

    fn fault(&mut self, kind: FaultKind, began: f64, over: f64) -> &mut Self {
        let fault = Fault {
            kind,
            began: at(began),
            held: Some(at(began + 0.1)),
            lifting: Some(at(over - 0.1)),
            over: Some(at(over)),
        };
        self.history.faults.push(fault);
        self
    }

    /// What the judge finds; every finding can be explained.
    fn found(&self) -> Vec<Charge> {
        let judgement = judge(&self.history);
        for finding in judgement.verdicts.iter().flat_map(|verdict| &verdict.findings) {
            let text = self.history.explain(finding);
            assert!(text.contains(finding.charge.name()) && text.lines().count() > 1, "{text}");
            assert!(!finding.proof.is_empty());
        }
        let guilty = judgement.verdicts.iter().filter(|verdict| verdict.count > 0);
        guilty.map(|verdict| verdict.charge).collect()
    }

    fn innocent(&self) -> bool {
        let found = self.found();
        if !found.is_empty() {
            println!("{}", self.history.explain_all(&judge(&self.history)));
        }
        found.is_empty()
    }
}

fn list(numbers: &[u32]) -> Answer {
    Answer::List(numbers.iter().copied().map(Listed::new).collect())
}

#[test]
fn a_history_without_operations_proves_nothing() {
    assert!(Script::new().innocent());
}

#[test]
fn findings_are_counted_and_only_the_first_are_kept() {
    let mut script = Script::beating(&[30.0]);
    for second in 40..90 {
        script.without(&[3], f64::from(second));
    }
    let judgement = judge(&script.history);
    let verdict = &judgement.verdicts[0];
    assert_eq!((verdict.charge, verdict.count, verdict.findings.len()), (Charge::FalseExpiry, 50, KEPT));
    assert!(script.history.explain_all(&judgement).contains("... and 30 more"));
}

#[test]
fn a_finding_shows_the_calls_that_prove_it() {
    let mut script = Script::beating(&[30.0]);
    script.without(&[3], 40.0);
    let judgement = judge(&script.history);
    let text = script.history.explain_all(&judgement);
    for line in [
        "false expiry  1 found",
        "fleet-t-1/i1 is missing from an answer of 40.010 s, its last beat was acknowledged at 30.010 s (TTL 90 s)",
        "0.000 s to 0.010 s  http://a  register fleet-t-1/i1 (session 1) -> 200, acknowledged",
        "30.000 s to 30.010 s  http://a  beat fleet-t-1/i1 (session 1) -> 200, acknowledged",
        "40.000 s to 40.010 s  http://a  GET /instances -> 200, Age 0, 19 of this run: [fleet-t-0/i0, ",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn what_came_after_a_full_history_is_not_judged() {
    let mut script = Script::beating(&[30.0]);
    script.without(&[3], 40.0);
    script.history.full = Some(at(60.0));
    assert_eq!(script.found(), [Charge::FalseExpiry]);
    // A deregistration may have been under way.
    script.history.full = Some(at(45.0));
    assert!(script.innocent());
}
