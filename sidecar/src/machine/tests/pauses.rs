use super::*;

#[test]
fn the_first_call_is_spread_over_a_sixth_of_the_interval_and_at_most_five_seconds() {
    for (interval, most) in [(30, millis(5_000)), (300, millis(5_000)), (6, millis(1_000)), (1, millis(167))]
    {
        let firsts: Vec<_> = (0..300)
            .map(|seed| {
                let settings = Settings { interval: seconds(interval), ..Settings::default() };
                World::new(seed, settings).run(seconds(6)).calls[0].0
            })
            .collect();
        let longest = firsts.iter().max().unwrap();
        assert!(*longest <= most + millis(2), "{longest:?}");
        assert!(*longest > most.mul_f64(0.9), "spread over all of it: {longest:?}");
        assert!(*firsts.iter().min().unwrap() < most.mul_f64(0.1) + millis(2));
    }
}

#[test]
fn beats_come_at_85_to_97_hundredths_of_the_interval() {
    for interval in [1, 3, 10, 30, 600] {
        let settings = Settings { interval: seconds(interval), ..Settings::default() };
        let mut world = World::new(interval, settings).registry(move |_, _| {
            let answer = Answer::Granted { ttl: 3_600, interval: 1_200 };
            (millis(3), answer)
        });
        world.run(seconds(interval * 200));
        let gaps = world.gaps();
        assert!(gaps.len() > 200);
        let bounds = seconds(interval).mul_f64(0.85)..=seconds(interval).mul_f64(0.97) + millis(3);
        assert!(gaps.iter().all(|gap| bounds.contains(gap)), "{gaps:?}");
        // Three beats in a row always fit into three intervals, with 9 % to spare.
        assert!(gaps.windows(3).all(|three| three.iter().sum::<Duration>() < seconds(interval * 3)));
    }
}

#[test]
fn the_registry_may_ask_for_quicker_beats_but_not_for_slower_ones_or_none() {
    for (told, expected) in [(10, 10), (300, 30), (0, 1)] {
        let mut world = World::new(1, Settings::default()).registry(move |_, _| {
            let answer = Answer::Granted { ttl: 90, interval: told };
            (millis(1), answer)
        });
        world.run(seconds(400));
        let longest = world.gaps().into_iter().max().unwrap();
        assert!(longest <= seconds(expected), "{longest:?}");
        assert!(longest >= seconds(expected).mul_f64(0.85), "{longest:?}");
    }
}

#[test]
fn a_slow_registry_does_not_stretch_the_period_and_is_not_hammered() {
    let mut world = World::new(1, Settings::default()).registry(|_, _| (seconds(7), granted()));
    world.run(seconds(1_000));
    assert!(world.gaps().iter().all(|gap| *gap < millis(29_101)), "{:?}", world.gaps());

    let settings = Settings { interval: seconds(1), ..Settings::default() };
    let mut world = World::new(1, settings).registry(|_, _| (seconds(3), granted()));
    world.run(seconds(100));
    assert!(world.gaps().iter().all(|gap| *gap >= millis(3_850)), "{:?}", world.gaps());
}

#[test]
fn a_registry_that_is_away_for_a_day_costs_few_calls_and_is_found_within_a_minute() {
    for seed in 0..20 {
        let day = seconds(86_400);
        let mut world = World::new(seed, Settings::default()).registry(move |at, _| {
            let answer = if at < day { refused_connection() } else { granted() };
            (millis(1), answer)
        });
        world.run(day + seconds(61));
        assert!(world.exited.is_none());
        let failed: Vec<_> = world.calls.iter().take_while(|(at, _)| *at < day).collect();
        assert!(failed.iter().all(|(_, call)| call.action.kind() == Kind::Register));
        assert!((1_440..10_000).contains(&failed.len()), "{}", failed.len());
        let bounds = seconds(1)..=millis(60_001);
        assert!(world.gaps()[..failed.len() - 1].iter().all(|gap| bounds.contains(gap)));
        assert_eq!(world.machine.report(world.now).phase, Phase::Registered);
        // The same words at most every ten minutes.
        let troubles = world.logged(|event| matches!(event, Event::Trouble { .. }));
        assert!((2..=145).contains(&troubles), "{troubles}");
        assert_eq!(world.logged(|event| matches!(event, Event::Reached { .. })), 1);
    }
}

#[test]
fn a_registered_sidecar_waits_between_a_second_and_its_interval_whatever_the_answer() {
    let away: [fn() -> Answer; 4] = [
        refused_connection,
        || Answer::Unavailable { retry_after: Some(seconds(100_000)), reason: "HTTP 503".into() },
        || Answer::Overloaded { retry_after: Some(seconds(100_000)), reason: "HTTP 429".into() },
        || Answer::Refused { reason: "HTTP 401: who are you".into() },
    ];
    for answer in away {
        for interval in [1, 5, 30] {
            let settings = Settings { interval: seconds(interval), ..Settings::default() };
            let mut world = World::new(interval, settings).registry(move |at, _| {
                let answer = if at < seconds(100) { granted() } else { answer() };
                (millis(1), answer)
            });
            world.run(seconds(86_400));
            let failing: Vec<_> = world.calls.iter().filter(|(at, _)| *at >= seconds(100)).collect();
            assert!(failing.iter().all(|(_, call)| call.action.kind() == Kind::Beat), "never PUTs");
            for pair in failing.windows(2) {
                let gap = pair[1].0 - pair[0].0;
                let bounds = seconds(1)..=seconds(interval) + millis(1);
                assert!(bounds.contains(&gap), "{gap:?} with an interval of {interval} s");
            }
        }
    }
}

#[test]
fn the_first_pause_after_a_failed_beat_is_at_most_five_seconds() {
    for seed in 0..100 {
        let mut world = World::new(seed, Settings::default()).registry(|at, _| {
            let answer = if at < seconds(100) { granted() } else { refused_connection() };
            (millis(1), answer)
        });
        world.run(seconds(200));
        let failing: Vec<_> = world.calls.iter().filter(|(at, _)| *at >= seconds(100)).collect();
        let gap = failing[1].0 - failing[0].0;
        assert!(gap >= seconds(1) && gap <= millis(5_001), "{gap:?}");
    }
}

#[test]
fn retry_after_is_obeyed_up_to_the_bounds_and_only_once() {
    // A registration: 20 s asked, 20 s waited; an hour asked, a minute waited.
    for (asked, least, most) in [(20, 20, 21), (3_600, 60, 60)] {
        let mut count = 0;
        let mut world = World::new(asked, Settings::default()).registry(move |_, _| {
            count += 1;
            let answer = match count {
                1 => Answer::Unavailable { retry_after: Some(seconds(asked)), reason: "HTTP 503".into() },
                _ => refused_connection(),
            };
            (millis(1), answer)
        });
        world.run(seconds(200));
        let gaps = world.gaps();
        assert!(gaps[0] >= seconds(least) && gaps[0] <= seconds(most) + millis(2), "{gaps:?}");
        assert!(gaps[1] <= seconds(9) + millis(2), "what was asked once holds once: {gaps:?}");
    }
    // A beat: 20 s asked, 20 s waited, though the first pause would be at most 5 s.
    let mut world = World::new(1, Settings::default()).registry(|at, _| {
        let answer = if at < seconds(100) {
            granted()
        } else {
            Answer::Overloaded { retry_after: Some(seconds(20)), reason: "HTTP 429".into() }
        };
        (millis(1), answer)
    });
    world.run(seconds(400));
    let failing: Vec<_> = world.calls.iter().filter(|(at, _)| *at >= seconds(100)).collect();
    for pair in failing.windows(2) {
        let gap = pair[1].0 - pair[0].0;
        assert!(gap >= seconds(20) && gap <= millis(30_001), "{gap:?}");
    }
}

#[test]
fn when_one_registry_does_not_know_the_next_is_asked_within_the_same_beat() {
    let settings = Settings { registries: 3, ..Settings::default() };
    let mut world = World::new(1, settings).registry(|at, call| {
        let away = at > seconds(100) && call.registry != 2;
        (millis(5), if away { refused_connection() } else { granted() })
    });
    world.run(seconds(300));
    let failing: Vec<_> = world.calls.iter().filter(|(at, _)| *at > seconds(100)).collect();
    let asked: Vec<_> = failing.iter().take(4).map(|(_, call)| call.registry).collect();
    assert_eq!(asked, [0, 1, 2, 2], "and stays where it was heard");
    assert_eq!(failing[2].0 - failing[0].0, millis(10));
    assert!(world.machine.report(world.now).healthy);
}

#[test]
fn all_registries_are_asked_once_and_then_comes_a_pause() {
    let settings = Settings { registries: 3, ..Settings::default() };
    let mut world = World::new(1, settings).registry(|_, _| (millis(5), refused_connection()));
    world.run(seconds(3_600));
    for (index, gap) in world.gaps().into_iter().enumerate() {
        if index % 3 == 2 {
            assert!(gap >= seconds(1), "{gap:?}");
        } else {
            assert_eq!(gap, millis(5));
        }
    }
}

#[test]
fn overload_and_refusals_are_not_carried_to_the_next_registry_at_once() {
    for answer in [
        Answer::Overloaded { retry_after: None, reason: "HTTP 429".into() },
        Answer::Refused { reason: "HTTP 401".into() },
    ] {
        let settings = Settings { registries: 3, ..Settings::default() };
        let mut world = World::new(1, settings).registry(move |_, _| (millis(5), answer.clone()));
        world.run(seconds(600));
        assert!(world.gaps().iter().all(|gap| *gap >= seconds(1)));
    }
}

#[test]
fn a_call_that_hangs_is_given_up_after_eight_seconds() {
    let mut world = World::new(1, Settings::default()).registry(|_, _| (seconds(100_000), granted()));
    world.run(seconds(1_000));
    let gaps = world.gaps();
    assert!(gaps.iter().all(|gap| *gap >= seconds(9) && *gap <= seconds(68)), "{gaps:?}");
}

#[test]
fn a_refusal_is_logged_as_an_error_at_once_and_not_in_a_flood() {
    let mut world = World::new(1, Settings::default()).registry(|_, _| {
        let answer = Answer::Refused { reason: "HTTP 401: a token is required".into() };
        (millis(1), answer)
    });
    world.run(seconds(3_600));
    let errors: Vec<_> = world
        .events
        .iter()
        .filter(|(_, event)| matches!(event, Event::Trouble { error: true, .. }))
        .collect();
    assert_eq!(errors[0].0, world.calls[0].0 + millis(1));
    assert!((5..=7).contains(&errors.len()), "{}", errors.len());
    assert!(world.calls.len() > 60, "it keeps trying");
}

#[test]
fn two_complaints_by_turns_are_no_flood_either() {
    let mut count = 0;
    let mut world = World::new(1, Settings::default()).registry(move |_, _| {
        count += 1;
        let reason = if count % 2 == 0 { "HTTP 502" } else { "connection refused" };
        (millis(1), Answer::unavailable(reason))
    });
    world.run(seconds(3_600));
    assert!(world.logged(|event| matches!(event, Event::Trouble { .. })) <= 14);
}

#[test]
fn a_status_change_after_a_failed_call_waits_a_second_at_most_unless_a_pause_was_asked_for() {
    let dies = |at: Moment| match at {
        at if at < seconds(100) => (millis(1), ProbeOutcome::healthy()),
        _ => (millis(1), ProbeOutcome::unhealthy("HTTP 500")),
    };
    for seed in 0..50 {
        let mut world = World::new(seed, Settings::default()).service(dies).registry(move |at, _| {
            // Away when the third bad probe comes in, and back a moment later.
            let away = at > seconds(60) && at < millis(120_500);
            // It may ask for a pause: of beats that say nothing new.
            let blind = Answer::Unavailable { retry_after: Some(seconds(15)), reason: "HTTP 503".into() };
            let away = away.then(|| if seed % 2 == 0 { refused_connection() } else { blind });
            (millis(1), away.unwrap_or_else(granted))
        });
        world.run(seconds(300));
        let third = world.probes.iter().filter(|at| **at >= seconds(100)).nth(2).unwrap();
        let told = world.calls.iter().find(|(_, call)| status(call) == Status::Critical).unwrap().0;
        assert!(told <= *third + millis(1_002), "{told:?} {third:?}");
        let pairs = world.calls.windows(2);
        let early = pairs.filter(|pair| pair[0].0 > seconds(60) && pair[1].0 < millis(120_500));
        assert!(early.into_iter().all(|pair| pair[1].0 - pair[0].0 >= seconds(1)));

        let mut world = World::new(seed, Settings::default()).service(dies).registry(|at, _| {
            let overloaded = Answer::Overloaded { retry_after: Some(seconds(20)), reason: "HTTP 429".into() };
            (millis(1), if at > seconds(60) { overloaded } else { granted() })
        });
        world.run(seconds(300));
        let asked: Vec<_> = world.calls.iter().filter(|(at, _)| *at > seconds(60)).collect();
        let patient = asked.windows(2).all(|pair| pair[1].0 - pair[0].0 >= seconds(20));
        assert!(patient, "a pause that was asked for is kept: {asked:?}");
    }
}

#[test]
fn a_flapping_registry_and_a_flapping_service_never_make_it_spin() {
    for seed in 0..20 {
        let mut count = 0_u32;
        let settings = Settings {
            interval: seconds(1),
            health_interval: seconds(1),
            health_failures: 1,
            registries: 2,
            ..Settings::default()
        };
        let mut world = World::new(seed, settings)
            .registry(move |_, call| {
                count = count.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let answer = match (count >> 24) % 7 {
                    0 => Answer::Unknown,
                    1 => Answer::Superseded,
                    2 => refused_connection(),
                    3 => Answer::Refused { reason: "HTTP 403".into() },
                    4 => Answer::Overloaded { retry_after: None, reason: "HTTP 429".into() },
                    _ if call.action.kind() == Kind::Drain => Answer::Done,
                    _ => granted(),
                };
                (millis(1), answer)
            })
            .service(|at| match at.as_secs() % 2 {
                0 => (millis(1), ProbeOutcome::healthy()),
                _ => (millis(1), ProbeOutcome::unhealthy("HTTP 500")),
            });
        world.run(seconds(20_000));
        assert!(world.exited.is_none());
        assert!(world.calls.len() < 60_000, "{}", world.calls.len());
    }
}

#[test]
fn ten_thousand_of_them_fit_into_a_few_megabytes() {
    assert!(size_of::<Machine>() <= 640, "{}", size_of::<Machine>());
}
