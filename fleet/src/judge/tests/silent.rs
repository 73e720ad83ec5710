//! Zombies, empty answers and the brake.

use super::*;

/// One of all is listed, with or without `stale`.
fn listed(script: &mut Script, instance: u32, moment: f64, stale: bool) -> Vec<Charge> {
    let entry = Listed::new(instance).flags(stale, false, false);
    let answer = Answer::List([entry].into());
    script.read(Subject::Instance { instance }, moment, answer).found()
}

/// Instance 3 beats for the last time at 30, all others go on.
fn one_dead() -> Script {
    let mut script = Script::new();
    for instance in 0..COUNT {
        script.registered(instance, 0.0).beat(instance, 30.0);
        for beat in 2..15 {
            if instance != 3 {
                script.beat(instance, 30.0 * f64::from(beat));
            }
        }
    }
    script
}

#[test]
fn listed_too_long_after_the_last_beat_is_a_zombie() {
    assert!(listed(&mut one_dead(), 3, 126.9, true).is_empty());
    assert_eq!(listed(&mut one_dead(), 3, 127.1, true), [Charge::Zombie]);
    assert!(listed(&mut one_dead(), 3, 126.9, false).is_empty());
    assert_eq!(listed(&mut one_dead(), 3, 127.1, false), [Charge::Zombie]);
    assert!(listed(&mut one_dead(), 4, 127.1, false).is_empty());
    for subject in [Subject::Instances, Subject::Service { service: 1, all: true }] {
        let mut script = one_dead();
        let stale = Listed::new(3).flags(true, false, false);
        // The others are there as well.
        let others = (0..COUNT).filter(|n| *n != 3 && (subject == Subject::Instances || *n == 2));
        let mut all: Vec<Listed> = others.map(Listed::new).chain([stale]).collect();
        all.sort_unstable_by_key(|listed| listed.number());
        script.read(subject, 130.0, Answer::List(all.into()));
        assert_eq!(script.found(), [Charge::Zombie], "{subject:?}");
    }
}

#[test]
fn a_beat_that_may_have_arrived_keeps_it_alive() {
    let mut script = one_dead();
    script.write(Act::Beat, 3, 60.0, Outcome::Maybe);
    assert!(listed(&mut script, 3, 161.0, true).is_empty());
    assert_eq!(listed(&mut script, 3, 163.0, true), [Charge::Zombie]);
    let mut script = one_dead();
    script.write(Act::Beat, 3, 60.0, Outcome::Refused);
    assert_eq!(listed(&mut script, 3, 128.0, true), [Charge::Zombie]);
}

#[test]
fn a_node_that_is_back_gives_a_full_lease_but_not_without_stale() {
    let resynced = |node| {
        let mut script = one_dead();
        script.fault(FaultKind::Node(node), 95.0, 100.0);
        script
    };
    assert!(listed(&mut resynced(0), 3, 196.0, true).is_empty());
    assert_eq!(listed(&mut resynced(0), 3, 198.0, true), [Charge::Zombie]);
    assert_eq!(listed(&mut resynced(0), 3, 130.0, false), [Charge::Zombie]);
    assert_eq!(listed(&mut resynced(1), 3, 130.0, true), [Charge::Zombie]);
    // While nobody sees nothing ends.
    let mut script = one_dead();
    script.fault(FaultKind::Store, 90.0, 400.0);
    assert!(listed(&mut script, 3, 350.0, true).is_empty());
    // A 503 tells of a trouble that no scenario made.
    let mut script = one_dead();
    script.read(Subject::Nobody, 100.0, Answer::Nothing);
    assert!(listed(&mut script, 3, 199.0, true).is_empty());
    assert_eq!(listed(&mut script, 3, 203.0, true), [Charge::Zombie]);
}

#[test]
fn the_name_of_a_service_without_a_live_instance_is_a_zombie() {
    let names = || Answer::List((0..COUNT / 2).map(Listed::new).collect());
    let mut script = one_dead();
    assert!(script.read(Subject::Services, 130.0, names()).innocent());
    // Without the beats of its other instance.
    script.history.operations.retain(|operation| {
        !matches!(operation.what, What::Write(write) if write.instance == 2 && operation.start > at(31.0))
    });
    assert_eq!(script.found(), [Charge::Zombie]);
}

#[test]
fn an_empty_list_while_most_live_is_an_empty_answer() {
    let found = |subject, answer| Script::beating(&[30.0]).read(subject, 60.0, answer).found();
    let few: Vec<u32> = (0..9).collect();
    let both = [Charge::FalseExpiry, Charge::EmptyAnswer];
    assert_eq!(found(Subject::Instances, list(&[])), both);
    assert_eq!(found(Subject::Services, list(&[])), both);
    assert_eq!(found(Subject::Instances, list(&few)), both);
    assert_eq!(found(Subject::Services, list(&few[..4])), both);
    // Half is not fewer than half.
    let half: Vec<u32> = (0..10).collect();
    assert_eq!(found(Subject::Instances, list(&half)), [Charge::FalseExpiry]);
    assert_eq!(found(Subject::Services, list(&half[..5])), [Charge::FalseExpiry]);
}

#[test]
fn a_list_is_empty_when_nobody_lives() {
    let mut script = Script::new();
    assert!(script.read(Subject::Instances, 0.5, list(&[])).innocent());
    let mut script = Script::beating(&[30.0]);
    assert!(script.read(Subject::Instances, 1000.0, list(&[])).innocent());
    // Half of them have left in silence.
    let mut script = Script::new();
    (0..COUNT).for_each(|instance| _ = script.registered(instance, 0.0).beat(instance, 30.0));
    for instance in 0..COUNT / 2 {
        script.beat(instance, 60.0).beat(instance, 90.0).beat(instance, 120.0);
    }
    script.read(Subject::Instances, 130.0, list(&[]));
    assert!(!script.found().contains(&Charge::EmptyAnswer));
}

#[test]
fn an_old_list_may_lack_what_is_new_but_may_not_be_empty() {
    let old = |age, others, numbers: &[u32]| {
        let mut script = Script::beating(&[30.0]);
        (script.age, script.others) = (age, others);
        script.read(Subject::Instances, 60.0, list(numbers)).found().contains(&Charge::EmptyAnswer)
    };
    let foreign = Others { listed: 5, stale: 0 };
    assert!(!old(100, Others::default(), &[1, 2]));
    assert!(old(100, Others::default(), &[]));
    assert!(!old(100, foreign, &[]));
    assert!(old(10, foreign, &[]));
}

/// The first ones fall silent after their beat at 30; the others go on.
fn silent(count: u32) -> Script {
    let mut script = Script::new();
    for instance in 0..COUNT {
        script.registered(instance, 0.0).beat(instance, 30.0);
        for beat in 2..20 {
            if instance >= count {
                script.beat(instance, 30.0 * f64::from(beat));
            }
        }
    }
    script
}

#[test]
fn who_is_let_go_while_too_many_are_silent_was_not_held() {
    for subject in [Subject::Instance { instance: 3 }, Subject::Service { service: 1, all: true }] {
        for moment in [121.0, 200.0, 296.0] {
            let mut script = silent(12);
            let sibling = script.entry(2, moment);
            let gone = match subject {
                Subject::Instance { .. } => Answer::NotThere,
                _ => Answer::List([sibling].into()),
            };
            assert_eq!(
                script.read(subject, moment, gone).found(),
                [Charge::Brake],
                "{subject:?} at {moment}"
            );
        }
    }
    let mut script = silent(12);
    assert_eq!(script.without(&[3], 200.0).found(), [Charge::Brake]);
    // Held for two TTLs.
    assert!(silent(12).without(&[3], 301.0).innocent());
    // Not a third of all, and not more than ten.
    assert!(silent(6).without(&[0, 1, 2, 3, 4, 5], 200.0).innocent());
    assert!(silent(10).without(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 200.0).innocent());
}

#[test]
fn others_at_the_registry_count() {
    let mut script = silent(12);
    script.others = Others { listed: 20, stale: 0 };
    assert!(script.without(&[3], 200.0).innocent());
    script.others = Others { listed: 15, stale: 0 };
    script.history.operations.pop();
    assert_eq!(script.without(&[3], 200.0).found(), [Charge::Brake]);
}

#[test]
fn a_hold_excuses_who_is_listed_as_stale() {
    assert!(listed(&mut silent(12), 3, 250.0, true).is_empty());
    assert_eq!(listed(&mut silent(12), 3, 250.0, false), [Charge::Zombie]);
    assert_eq!(listed(&mut silent(5), 3, 250.0, true), [Charge::Zombie]);
    let mut script = silent(5);
    script.others = Others { listed: 20, stale: 11 };
    script.without(&[], 100.0);
    script.others = Others::default();
    assert!(listed(&mut script, 3, 250.0, true).is_empty());
}

#[test]
fn who_deregisters_or_never_beat_is_not_counted() {
    let mut script = silent(12);
    for instance in 0..12 {
        script.write(Act::Deregister, instance, 60.0, Outcome::Acknowledged);
    }
    assert!(script.without(&(0..12).collect::<Vec<_>>(), 200.0).innocent());
    let mut script = silent(0);
    script.history.operations.retain(|operation| {
        !matches!(operation.what, What::Write(write) if write.instance < 12 && operation.start > at(1.0))
    });
    assert!(script.without(&(0..12).collect::<Vec<_>>(), 200.0).innocent());
}

#[test]
fn those_that_come_back_take_the_brake_off() {
    let mut script = silent(12);
    for instance in 4..12 {
        script.session = 2;
        script.beat(instance, 130.0);
        for beat in 5..20 {
            script.beat(instance, 30.0 * f64::from(beat));
        }
    }
    // It was held until then.
    assert_eq!(script.without(&[3], 125.0).found(), [Charge::Brake]);
    script.history.operations.pop();
    assert!(script.without(&[3], 200.0).innocent());
}
