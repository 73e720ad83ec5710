use super::*;

#[test]
fn every_call_names_the_session_and_every_beat_the_status() {
    let mut world = World::new(1, Settings::default());
    world.run(seconds(100)).shutdown().run(seconds(10));
    let sessions: Vec<_> = world.calls.iter().map(|(_, call)| session(call)).collect();
    assert!(sessions.len() >= 5);
    assert!(sessions.iter().all(|one| *one == sessions[0] && one.len() == 16));
}

#[test]
fn no_two_processes_share_a_session() {
    let one = World::new(1, Settings::default());
    let other = World::new(2, Settings::default());
    assert_ne!(one.machine.session(), other.machine.session());
}

#[test]
fn a_beat_answered_404_registers_at_once_with_a_new_session() {
    let mut lost = false;
    let mut world = World::new(1, Settings::default()).registry(move |at, call| {
        if at > seconds(100) && !lost && call.action.kind() == Kind::Beat {
            lost = true;
            return (millis(4), Answer::Unknown);
        }
        (millis(4), granted())
    });
    world.run(seconds(200));
    let again = world.times(Kind::Register)[1];
    let position = world.calls.iter().position(|(at, _)| *at == again).unwrap();
    let (beat_at, beat) = &world.calls[position - 1];
    assert_eq!(beat.action.kind(), Kind::Beat);
    assert_eq!(again - *beat_at, millis(4), "within the same beat");
    assert_ne!(session(beat), session(&world.calls[position].1));
    assert_eq!(session(&world.calls[position].1), session(&world.calls[position + 1].1), "and keeps it");
    assert_eq!(world.logged(|event| *event == Event::Lost), 1);
}

#[test]
fn a_registration_after_404_that_fails_is_tried_with_the_pauses_of_a_registration() {
    let mut world = World::new(1, Settings::default()).registry(move |at, call| {
        let answer = match (at > seconds(100), call.action.kind()) {
            (false, _) => granted(),
            (true, Kind::Beat) => Answer::Unknown,
            (true, _) => refused_connection(),
        };
        (millis(1), answer)
    });
    world.run(seconds(2_000));
    let after: Vec<_> = world.times(Kind::Register).into_iter().skip(1).collect();
    let gaps: Vec<_> = after.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps[0] >= seconds(1) && gaps[0] <= millis(3_001), "{gaps:?}");
    assert!(gaps.iter().all(|gap| *gap >= seconds(1) && *gap <= millis(60_001)), "{gaps:?}");
    assert!(gaps.iter().any(|gap| *gap > seconds(30)), "{gaps:?}");
    assert_eq!(world.times(Kind::Beat).iter().filter(|at| **at > seconds(100)).count(), 1);
}

#[test]
fn after_409_it_beats_once_a_minute_and_never_registers_until_a_404() {
    let mut world = World::new(1, Settings::default()).registry(move |at, call| {
        let answer = match at {
            at if at < seconds(100) => granted(),
            at if at < seconds(1_000) => Answer::Superseded,
            _ if call.action.kind() == Kind::Beat => Answer::Unknown,
            _ => granted(),
        };
        (millis(1), answer)
    });
    world.run(seconds(990));
    assert!(!world.machine.report(world.now).healthy);
    let superseded: Vec<_> = world.calls.iter().filter(|(at, _)| *at >= seconds(100)).collect();
    assert!(superseded.iter().all(|(_, call)| call.action.kind() == Kind::Beat));
    for pair in superseded.windows(2) {
        assert_eq!(pair[1].0 - pair[0].0, millis(60_001));
    }
    assert_eq!(world.logged(|event| *event == Event::Superseded), 1);
    let old = session(&superseded[0].1);
    world.run(seconds(120));
    let (_, again) = world.calls.iter().rfind(|(_, call)| call.action.kind() == Kind::Register).unwrap();
    assert_ne!(session(again), old);
    assert!(world.machine.report(world.now).healthy);
}

/// Whatever is answered between: only a 404 says that the place is free.
#[test]
fn after_409_nothing_but_a_404_makes_it_register() {
    let between = |number: u64| match number % 7 {
        0 => Answer::Unavailable { retry_after: Some(seconds(5)), reason: "503".into() },
        1 => Answer::Refused { reason: "401".into() },
        2 => Answer::Overloaded { retry_after: Some(seconds(5)), reason: "429".into() },
        3 => Answer::unavailable("no answer within 8 s"),
        4 => Answer::Done,
        5 => Answer::Superseded,
        _ => refused_connection(),
    };
    // A 409 to a beat, and one to the first registration.
    for granted_until in [100, 0] {
        let (mut asked, mut denied) = (0, false);
        let mut world = World::new(1, Settings { registries: 2, ..Settings::default() })
            .registry(move |at, call| {
                let answer = match (at, call.action.kind()) {
                    (at, _) if at < seconds(granted_until) => granted(),
                    (at, Kind::Beat) if at >= seconds(20_000) && !denied => {
                        denied = true;
                        Answer::Unknown
                    }
                    (at, _) if at >= seconds(20_000) => granted(),
                    _ => {
                        asked += 1;
                        if asked == 1 { Answer::Superseded } else { between(asked) }
                    }
                };
                (millis(1), answer)
            })
            // A service that changes its status and is upgraded, which registers anew where nothing is in the way.
            .service(|at| match at.as_secs() / 500 % 3 {
                0 => (millis(1), ProbeOutcome::healthy()),
                1 => (millis(1), ProbeOutcome::unhealthy("HTTP 500")),
                _ => {
                    let facts = Facts { version: Some((at.as_secs() / 500).to_string()), status: None };
                    (millis(1), ProbeOutcome::Healthy(facts))
                }
            });
        world.run(seconds(19_900));
        let registrations = world.times(Kind::Register).len();
        assert_eq!(registrations, 1, "{:?}", world.times(Kind::Register));
        let beats: Vec<_> =
            world.times(Kind::Beat).into_iter().filter(|at| *at > seconds(granted_until)).collect();
        assert!(beats.len() > 100, "it goes on asking: {}", beats.len());
        assert!(!world.machine.report(world.now).healthy);
        let old = world.machine.session().clone();
        world.run(seconds(300));
        assert_eq!(world.times(Kind::Register).len(), 2, "and then it does");
        assert_ne!(*world.machine.session(), old);
        assert!(world.machine.report(world.now).healthy);
    }
}

#[test]
fn a_change_of_status_does_not_break_the_pause_after_409() {
    let mut world = World::new(1, Settings::default())
        .registry(|at, _| (millis(1), if at < seconds(50) { granted() } else { Answer::Superseded }))
        .service(|at| match at.as_secs() / 100 % 2 {
            0 => (millis(1), ProbeOutcome::healthy()),
            _ => (millis(1), ProbeOutcome::unhealthy("HTTP 500")),
        });
    world.run(seconds(2_000));
    let superseded: Vec<_> = world.times(Kind::Beat).into_iter().filter(|at| *at > seconds(50)).collect();
    assert!(superseded.windows(2).all(|pair| pair[1] - pair[0] == millis(60_001)));
}

#[test]
fn a_registration_answered_409_is_not_repeated() {
    let mut count = 0;
    let mut world = World::new(1, Settings::default()).registry(move |_, _| {
        count += 1;
        (millis(1), if count == 1 { Answer::Superseded } else { granted() })
    });
    world.run(seconds(100));
    assert_eq!(world.kinds()[..2], [Kind::Register, Kind::Beat]);
    assert_eq!(world.gaps()[0], millis(60_001));
}

#[test]
fn the_health_check_follows_the_lease() {
    let mut world = World::new(1, Settings::default())
        .service(|at| match at {
            at if at < seconds(20) => (millis(1), ProbeOutcome::unhealthy("connection refused")),
            _ => (millis(1), ProbeOutcome::healthy()),
        })
        .registry(|at, _| {
            let away = at < seconds(40) || at > seconds(400);
            (millis(1), if away { refused_connection() } else { granted() })
        });
    world.run(seconds(10));
    assert!(world.machine.report(world.now).healthy, "during the initial wait");
    world.run(seconds(22));
    let report = world.machine.report(world.now);
    assert!(!report.healthy && report.why.contains("connection refused"), "{report:?}");
    world.run(seconds(100));
    assert!(world.machine.report(world.now).healthy);
    world.run(seconds(400 - 132 + 60));
    assert!(world.machine.report(world.now).healthy, "the lease has not ended yet");
    world.run(seconds(60));
    let report = world.machine.report(world.now);
    assert!(!report.healthy, "{report:?}");
    assert!(report.why.starts_with("no beat acknowledged for"), "{report:?}");
    assert_eq!(report.phase, Phase::Registered);
}
