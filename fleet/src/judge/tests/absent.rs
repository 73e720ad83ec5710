//! False expiry and lost ack.

use super::*;

const BOTH: [Charge; 2] = [Charge::FalseExpiry, Charge::LostAck];

#[test]
fn missing_after_an_acknowledged_beat_is_a_false_expiry() {
    let service = |all| Subject::Service { service: 1, all };
    let answers = [
        (Subject::Instances, list(&[0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19])),
        (Subject::Services, list(&[0, 2, 3, 4, 5, 6, 7, 8, 9])),
        (service(false), list(&[2])),
        (service(true), list(&[2])),
        (service(false), Answer::NotThere),
        (service(true), Answer::NotThere),
        (Subject::Instance { instance: 3 }, Answer::NotThere),
    ];
    for (subject, answer) in answers {
        for moment in [34.0, 60.0, 119.9] {
            let mut script = Script::beating(&[30.0]);
            script.read(subject, moment, answer.clone());
            assert_eq!(script.found(), [Charge::FalseExpiry], "{subject:?} at {moment}");
        }
        // The leases of both instances of that service have ended.
        let mut script = Script::beating(&[30.0]);
        script.history.operations.retain(|operation| {
            !matches!(operation.what, What::Write(write) if write.instance == 2 && operation.start > at(31.0))
        });
        script.read(subject, 120.1, answer);
        assert!(script.innocent(), "{subject:?}");
    }
}

#[test]
fn an_answer_that_is_none_denies_nobody() {
    for subject in [Subject::Instances, Subject::Services, Subject::Instance { instance: 3 }, Subject::Nobody]
    {
        let mut script = Script::beating(&[30.0]);
        script.read(subject, 40.0, Answer::Nothing);
        assert!(script.innocent());
    }
    let mut script = Script::beating(&[30.0]);
    assert!(script.read(Subject::Nobody, 40.0, Answer::NotThere).innocent());
}

#[test]
fn an_answer_counts_from_its_start_to_its_end() {
    let mut script = Script::beating(&[30.0]);
    let gone = || list(&[2]);
    // It may have been given after the lease had ended.
    let service = Subject::Service { service: 1, all: true };
    assert!(script.long_read(service, 119.0, 121.0, gone()).innocent());
    let mut script = Script::beating(&[30.0, 60.0]);
    assert_eq!(script.long_read(service, 119.0, 121.0, gone()).found(), [Charge::FalseExpiry]);
    // Before the beat of 110 had reached every node, the lease by the one of 15 may have ended.
    let mut script = Script::beating(&[15.0, 110.0]);
    assert!(script.long_read(service, 104.0, 114.0, gone()).innocent());
}

#[test]
fn a_registration_takes_a_moment_and_an_old_answer_does_not_know_it() {
    let mut script = Script::new();
    script.registered(3, 10.0);
    assert!(script.without(&[3], 10.5).innocent());
    assert_eq!(script.without(&[3], 11.5).found(), BOTH);
    // 20 s old and up to one more.
    let mut script = Script::new();
    script.registered(3, 10.0).beat(3, 20.0);
    script.age = 20;
    assert!(script.without(&[3], 30.5).innocent());
    assert_eq!(script.without(&[3], 31.5).found(), [Charge::FalseExpiry]);
}

#[test]
fn who_has_left_is_not_missed() {
    for outcome in [Outcome::Acknowledged, Outcome::Maybe, Outcome::CutShort, Outcome::NotThere] {
        let mut script = Script::beating(&[30.0]);
        script.write(Act::Deregister, 3, 40.0, outcome);
        assert!(script.without(&[3], 40.005).without(&[3], 50.0).innocent(), "{outcome:?}");
        assert_eq!(script.without(&[3], 39.0).found(), [Charge::FalseExpiry]);
    }
    let mut script = Script::beating(&[30.0]);
    script.write(Act::Deregister, 3, 40.0, Outcome::Refused);
    assert_eq!(script.without(&[3], 50.0).found(), [Charge::FalseExpiry]);
    // It came back as another session.
    let mut script = Script::beating(&[30.0]);
    script.write(Act::Deregister, 3, 40.0, Outcome::Acknowledged);
    script.session = 2;
    script.registered(3, 50.0);
    assert!(script.without(&[3], 50.9).innocent());
    assert_eq!(script.without(&[3], 52.0).found(), BOTH);
}

#[test]
fn draining_and_critical_ones_are_missed_only_where_all_are_listed() {
    let read = |script: &mut Script, all, moment| {
        script.read(Subject::Service { service: 1, all }, moment, list(&[2])).found()
    };
    let drained = || {
        let mut script = Script::beating(&[30.0]);
        script.write(Act::Drain, 3, 40.0, Outcome::Acknowledged).beat(3, 45.0);
        script
    };
    assert!(read(&mut drained(), false, 50.0).is_empty());
    assert_eq!(read(&mut drained(), true, 50.0), [Charge::FalseExpiry]);
    let critical = |outcome| {
        let mut script = Script::beating(&[30.0]);
        script.usable = false;
        script.write(Act::Beat, 3, 40.0, outcome);
        script.usable = true;
        script
    };
    for outcome in [Outcome::Acknowledged, Outcome::Maybe, Outcome::CutShort] {
        assert!(read(&mut critical(outcome), false, 40.005).is_empty());
        assert!(read(&mut critical(outcome), false, 50.0).is_empty());
        assert_eq!(read(&mut critical(outcome), true, 50.0), [Charge::FalseExpiry]);
    }
    // It is passing again.
    let mut script = critical(Outcome::Acknowledged);
    script.beat(3, 60.0);
    assert!(read(&mut script, false, 60.5).is_empty());
    assert_eq!(read(&mut script, false, 62.0), [Charge::FalseExpiry]);
}

#[test]
fn a_call_that_failed_proves_nothing() {
    for outcome in [Outcome::Maybe, Outcome::CutShort, Outcome::Refused, Outcome::Superseded] {
        let mut script = Script::new();
        script.write(Act::Register, 3, 0.0, outcome);
        assert!(script.without(&[3], 30.0).innocent());
        let mut script = Script::beating(&[]);
        script.write(Act::Beat, 3, 60.0, outcome);
        assert!(script.without(&[3], 95.0).innocent());
    }
}

#[test]
fn a_beat_may_be_lost_with_its_node() {
    let at_fault = |kind, began| {
        let mut script = Script::beating(&[30.0, 60.0]);
        script.fault(kind, began, began + 20.0);
        script.without(&[3], 130.0).found()
    };
    assert!(at_fault(FaultKind::Node(0), 61.0).is_empty());
    assert!(at_fault(FaultKind::Node(0), 58.0).is_empty());
    assert_eq!(at_fault(FaultKind::Node(0), 64.0), [Charge::FalseExpiry]);
    assert_eq!(at_fault(FaultKind::Node(0), 50.0), [Charge::FalseExpiry]);
    assert_eq!(at_fault(FaultKind::Node(1), 61.0), [Charge::FalseExpiry]);
    // The beat before it still counts.
    let mut script = Script::beating(&[30.0, 60.0]);
    script.fault(FaultKind::Node(0), 61.0, 70.0);
    assert_eq!(script.without(&[3], 110.0).found(), [Charge::FalseExpiry]);
    // Through a balancer it may have been any node.
    let mut script = Script::beating(&[30.0]);
    script.target = BALANCER;
    script.beat(3, 60.0).fault(FaultKind::Node(1), 61.0, 70.0);
    assert!(script.without(&[3], 130.0).innocent());
}

#[test]
fn time_in_which_no_node_sees_is_left_out() {
    let outage = |held: bool| {
        let mut script = Script::beating(&[30.0]);
        script.fault(FaultKind::Store, 40.0, 400.0);
        if !held {
            script.history.faults[0].held = None;
        }
        script.age = 250;
        script
    };
    assert_eq!(outage(true).without(&[3], 300.0).found(), [Charge::FalseExpiry]);
    assert!(outage(false).without(&[3], 300.0).innocent());
    // Afterwards each has a full TTL.
    let after = |moment| {
        let mut script = outage(true);
        script.age = 0;
        script.without(&[3], moment).found()
    };
    assert_eq!(after(480.0), [Charge::FalseExpiry]);
    assert!(after(490.5).is_empty());
    // A lease that had ended before stays ended.
    let mut script = Script::beating(&[30.0]);
    script.fault(FaultKind::Store, 125.0, 400.0);
    assert!(script.without(&[3], 300.0).innocent());
}

#[test]
fn what_is_read_while_data_is_lost_is_left_out() {
    let mut script = Script::beating(&[30.0]);
    script.fault(FaultKind::StoreLost, 35.0, 72.0);
    script.without(&[3], 40.0).write(Act::Beat, 3, 60.0, Outcome::NotThere);
    assert!(script.innocent());
    script.without(&[4], 80.0);
    assert_eq!(script.found(), [Charge::FalseExpiry]);
}

#[test]
fn a_404_to_a_beat_after_an_acknowledgement_is_a_lost_ack() {
    let denied = |script: &mut Script, moment| script.write(Act::Beat, 3, moment, Outcome::NotThere).found();
    let mut script = Script::new();
    assert_eq!(denied(script.registered(3, 0.0), 30.0), BOTH);
    assert_eq!(denied(&mut Script::beating(&[30.0]), 60.0), BOTH);
    // Also while no node sees, when a beat must get 503.
    assert_eq!(denied(Script::beating(&[30.0]).fault(FaultKind::Store, 40.0, 400.0), 200.0), BOTH);
    // The lease had ended.
    assert!(denied(&mut Script::beating(&[30.0]), 121.0).is_empty());
    // Nothing was promised.
    let mut script = Script::new();
    assert!(denied(script.write(Act::Register, 3, 0.0, Outcome::Maybe), 30.0).is_empty());
    assert!(denied(&mut Script::new(), 30.0).is_empty());
    // It had left.
    let mut script = Script::beating(&[30.0]);
    assert!(denied(script.write(Act::Deregister, 3, 40.0, Outcome::Maybe), 60.0).is_empty());
    // It cannot have gone for as long as the registration lasts, whatever became of the beat.
    let mut script = Script::new();
    script.registered(3, 0.0).beat(3, 30.0).fault(FaultKind::Node(0), 31.0, 40.0);
    assert_eq!(denied(&mut script, 60.0), BOTH);
    let mut script = Script::new();
    script.registered(3, 0.0).beat(3, 30.0).fault(FaultKind::Node(0), 31.0, 40.0);
    assert!(denied(&mut script, 92.0).is_empty());
}

#[test]
fn after_a_404_only_a_new_registration_counts() {
    let mut script = Script::beating(&[30.0]);
    script.write(Act::Beat, 3, 125.0, Outcome::NotThere);
    assert!(script.without(&[3], 126.0).innocent());
    script.session = 2;
    script.registered(3, 126.5);
    assert!(script.without(&[3], 127.4).innocent());
    assert_eq!(script.without(&[3], 140.0).found(), BOTH);
}

#[test]
fn missing_before_the_first_beat_is_a_lost_ack_and_later_it_is_not() {
    let mut script = Script::beating(&[30.0]);
    assert_eq!(script.without(&[3], 20.0).found(), BOTH);
    let mut script = Script::beating(&[30.0]);
    assert_eq!(script.without(&[3], 40.0).found(), [Charge::FalseExpiry]);
}
