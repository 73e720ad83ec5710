use super::*;

fn draining(drain: u64) -> Settings {
    Settings { drain: seconds(drain), ..Settings::default() }
}

#[test]
fn it_drains_then_deregisters_then_exits() {
    let mut world = World::new(1, Settings::default());
    world.run(seconds(100));
    let before = world.calls.len();
    world.shutdown().run(seconds(10));
    assert_eq!(world.kinds()[before..], [Kind::Drain, Kind::Deregister]);
    assert!(world.exited.unwrap() <= seconds(100) + millis(50));
    let Action::Drain { reason, .. } = &world.calls[before].1.action else {
        panic!("{:?}", world.calls[before]);
    };
    assert_eq!(reason.as_str(), "SIGTERM");
    assert_eq!(world.logged(|event| *event == Event::Deregistered), 1);
}

#[test]
fn it_goes_on_beating_while_it_drains() {
    let mut world = World::new(1, draining(100));
    world.run(seconds(100)).shutdown();
    let before = world.calls.len();
    world.run(seconds(200));
    let kinds = &world.kinds()[before..];
    assert_eq!(kinds[0], Kind::Drain);
    assert_eq!(kinds[kinds.len() - 1], Kind::Deregister);
    let beats = &kinds[1..kinds.len() - 1];
    assert!(beats.len() >= 3 && beats.iter().all(|kind| *kind == Kind::Beat), "{kinds:?}");
    assert!(world.gaps()[before - 1..].iter().all(|gap| *gap <= seconds(30)));
    let exited = world.exited.unwrap();
    assert!(exited >= seconds(200) && exited <= millis(200_100), "{exited:?}");
    assert_eq!(world.times(Kind::Deregister), [seconds(200)]);
}

#[test]
fn it_exits_in_time_whatever_the_registry_does() {
    let faults: [fn() -> (Duration, Answer); 6] = [
        || (millis(1), refused_connection()),
        || (seconds(100_000), granted()),
        || (seconds(7), refused_connection()),
        || (millis(1), Answer::Refused { reason: "HTTP 401".into() }),
        || {
            let answer = Answer::Overloaded { retry_after: Some(seconds(3_600)), reason: "HTTP 429".into() };
            (millis(1), answer)
        },
        || (millis(1), granted()),
    ];
    for fault in faults {
        for drain in [0, 1, 20, 100] {
            for registries in 1..4 {
                // Told to leave while idle, while a call is under way, and while registering.
                for moment in [4, 99, 100, 101, 112] {
                    let settings = Settings { registries, ..draining(drain) };
                    let mut world = World::new(moment, settings).registry(move |at, _| {
                        if at < seconds(98) && moment > 10 { (millis(5), granted()) } else { fault() }
                    });
                    world.run(seconds(moment)).shutdown().run(seconds(drain + 10));
                    let took = world.exited.expect("it exits") - seconds(moment);
                    assert!(took < seconds(drain) + millis(4_600), "{took:?}");
                }
            }
        }
    }
}

#[test]
fn told_to_leave_before_it_registered_it_just_exits() {
    let mut world =
        World::new(1, Settings::default()).service(|_| (millis(1), ProbeOutcome::unhealthy("HTTP 500")));
    world.run(seconds(20)).shutdown().run(seconds(1));
    assert!(world.calls.is_empty());
    assert_eq!(world.exited, Some(seconds(20)));
}

#[test]
fn a_registration_that_is_under_way_is_waited_for_and_taken_back() {
    let mut world = World::new(1, Settings::default()).registry(|_, call| match call.action.kind() {
        Kind::Register => (millis(800), granted()),
        _ => (millis(1), Answer::Done),
    });
    while world.calls.is_empty() {
        world.run(millis(10));
    }
    world.shutdown().run(seconds(5));
    assert_eq!(world.kinds(), [Kind::Register, Kind::Drain, Kind::Deregister]);
}

#[test]
fn a_registration_without_an_answer_is_taken_back_all_the_same() {
    // It may have been done: the answer is what was lost.
    let mut world = World::new(1, Settings::default()).registry(|_, call| match call.action.kind() {
        Kind::Register => (seconds(1_000), granted()),
        _ => (millis(1), Answer::Done),
    });
    while world.calls.is_empty() {
        world.run(millis(10));
    }
    let told = world.now;
    world.shutdown().run(seconds(5));
    assert_eq!(world.kinds(), [Kind::Register, Kind::Deregister]);
    assert!(world.exited.unwrap() <= World::at(told) + millis(1_100));
}

#[test]
fn a_drained_entry_that_is_gone_is_not_registered_again() {
    let mut world = World::new(1, draining(60)).registry(|at, call| match call.action.kind() {
        Kind::Register | Kind::Beat if at < seconds(120) => (millis(1), granted()),
        Kind::Drain => (millis(1), Answer::Done),
        _ => (millis(1), Answer::Unknown),
    });
    world.run(seconds(100)).shutdown().run(seconds(100));
    assert_eq!(world.times(Kind::Register).len(), 1);
    let after = world.calls.iter().filter(|(at, _)| *at >= seconds(120)).count();
    assert_eq!(after, 1, "told once that it is gone, it asks no more");
    let exited = world.exited.unwrap();
    assert!(exited >= seconds(160) && exited < seconds(161), "the service still drains: {exited:?}");
}

#[test]
fn a_superseded_session_has_nothing_to_take_back() {
    let mut world = World::new(1, Settings::default())
        .registry(|at, _| (millis(1), if at < seconds(50) { granted() } else { Answer::Superseded }));
    world.run(seconds(100));
    let calls = world.calls.len();
    world.shutdown().run(seconds(10));
    assert_eq!(world.calls.len(), calls);
    assert_eq!(world.exited, Some(seconds(100)));
}

#[test]
fn a_drain_that_failed_is_made_up_for_while_it_lingers() {
    let mut world = World::new(1, draining(60)).registry(|at, call| {
        let away = at > seconds(99) && at < seconds(110);
        let answer = match call.action.kind() {
            _ if away => refused_connection(),
            Kind::Register | Kind::Beat => granted(),
            Kind::Drain | Kind::Deregister => Answer::Done,
        };
        (millis(1), answer)
    });
    world.run(seconds(100)).shutdown().run(seconds(100));
    let drains = world.times(Kind::Drain);
    assert_eq!(drains.len(), 2, "{drains:?}");
    assert!(drains[1] > seconds(110) && drains[1] < seconds(145), "{drains:?}");
}

#[test]
fn the_second_registry_is_asked_to_take_it_back_when_the_first_hangs() {
    let settings = Settings { registries: 2, ..Settings::default() };
    let mut world = World::new(1, settings).registry(|at, call| match (call.registry, call.action.kind()) {
        (0, _) if at > seconds(100) => (seconds(1_000), granted()),
        (_, Kind::Register | Kind::Beat) => (millis(1), granted()),
        (_, Kind::Drain | Kind::Deregister) => (millis(1), Answer::Done),
    });
    world.run(seconds(100) + millis(1)).shutdown().run(seconds(10));
    let last = &world.calls[world.calls.len() - 1].1;
    assert_eq!((last.registry, last.action.kind()), (1, Kind::Deregister));
    assert_eq!(world.logged(|event| *event == Event::Deregistered), 1);
}

#[test]
fn nothing_is_done_after_the_end() {
    let mut world = World::new(1, Settings::default());
    world.run(seconds(100)).shutdown().run(seconds(10));
    assert_eq!(world.machine.wake(), None);
    assert_eq!(world.machine.poll(world.now), Some(Effect::Exit));
    world.machine.answered(world.now, granted(), &mut world.rng);
    world.machine.probed(world.now, ProbeOutcome::unhealthy("late"));
    world.machine.shutdown(world.now, "again");
    assert_eq!(world.machine.poll(world.now + seconds(1_000)), Some(Effect::Exit));
}
