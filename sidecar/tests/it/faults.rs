//! Registries and services that are none, or not in order.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    common::{Act, Seen, Server, Service, Sidecar, eventually, get, quick, with},
    registry::Registry,
};

/// Everything that is no answer of a registry.
fn faults(elsewhere: &str) -> Vec<(&'static str, Act)> {
    let redirect = format!("HTTP/1.1 302 Found\r\nlocation: {elsewhere}/\r\ncontent-length: 0\r\n\r\n");
    vec![
        ("redirect", Act::Raw(redirect.into_bytes())),
        ("garbage", Act::Raw(b"\x00\x01SSH-2.0-OpenSSH_9.9\r\n\r\n".to_vec())),
        (
            "half a body",
            Act::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"ttl_seconds\":90,".to_vec()),
        ),
        ("half a head", Act::Raw(b"HTTP/1.1 200 O".to_vec())),
        ("reset", Act::Close),
        ("endless body", Act::Flood),
        ("a portal", Act::Answer(200, "<html>please log in</html>".into())),
        ("another API", Act::Answer(200, r#"{"message":"ok"}"#.into())),
        ("a proxy's 404", Act::Answer(404, "<html>not found</html>".into())),
        ("502", Act::Answer(502, String::new())),
        ("500", Act::Answer(500, "{}".into())),
        ("504", Act::Answer(504, String::new())),
    ]
}

#[test]
fn nothing_that_is_no_registry_counts_and_nothing_stops_the_sidecar() {
    let elsewhere = Server::start(|_| Act::Answer(200, "{}".into()));
    let url = elsewhere.url();
    thread::scope(|scope| {
        for (name, act) in faults(&url) {
            scope.spawn(move || survives(name, &act));
        }
    });
    assert!(elsewhere.seen().is_empty(), "no redirect is followed");
}

fn survives(name: &str, act: &Act) {
    let (service, registry) = (Service::healthy(), Registry::start());
    let mut sidecar = Sidecar::start(quick(&service, &registry.url()));
    registry.server.wait("a beat", |seen| seen.iter().any(Seen::is_beat));
    let start = registry.server.seen().len();
    let fault = act.clone();
    registry.rule(move |_| Some(fault.clone()));
    let seen = registry.server.wait(name, |seen| seen.len() >= start + 5);
    assert!(sidecar.is_running());
    sidecar.wait_log("no good answer from the registry");
    // A failed beat is followed by beats, a second apart; the first may come twice, when its kept connection died.
    let failed: Vec<_> = seen[start..].iter().filter(|one| !one.is_register()).collect();
    assert_eq!(failed.len(), seen.len() - start, "{name}: still registered, as far as it knows");
    for pair in failed[1..].windows(2) {
        let gap = pair[1].at - pair[0].at;
        assert!(gap >= Duration::from_millis(980), "{name}: {gap:?}");
    }
    registry.no_rule();
    let count = seen.len();
    registry.server.wait("good beats", |seen| seen.len() >= count + 2);
    sidecar.wait_log("the registry answers again");
    let registrations = registry.server.seen().iter().filter(|one| one.is_register()).count();
    assert_eq!(registrations, 1, "{name}");
}

#[test]
fn a_registry_that_hangs_is_given_up_after_eight_seconds() {
    let (service, registry) = (Service::healthy(), Registry::start());
    registry.rule(|_| Some(Act::Hang));
    let mut sidecar = Sidecar::start(quick(&service, &registry.url()));
    let seen = registry.server.wait("two tries", |seen| seen.len() >= 2);
    let gap = seen[1].at - seen[0].at;
    // 8 s, and a pause of 1 to 3. The 8 s begin before the call is seen here, hence not the sum.
    assert!(gap >= Duration::from_secs(8), "{gap:?}");
    assert!(seen[0].watch.until(seen[1].at) < Duration::from_secs(16), "{gap:?}");
    sidecar.wait_log("no answer within 8 s");
    assert!(sidecar.is_running());
}

#[test]
fn a_refusal_is_an_error_in_the_log_at_once_and_once() {
    let (service, registry) = (Service::healthy(), Registry::start());
    registry.rule(|_| {
        let body = r#"{"type":"/problems/invalid-field","title":"t","status":422,"detail":"endpoint must be a URL","field":"endpoint"}"#;
        Some(Act::Answer(422, body.into()))
    });
    let sidecar = Sidecar::start(quick(&service, &registry.url()));
    registry.server.wait("three tries", |seen| seen.len() >= 3);
    sidecar.wait_log("\"level\":\"ERROR\"");
    let log = sidecar.log();
    let errors: Vec<_> = log.lines().filter(|line| line.contains("\"level\":\"ERROR\"")).collect();
    assert_eq!(errors.len(), 1, "{log}");
    assert!(errors[0].contains("HTTP 422: endpoint must be a URL"), "{log}");
    assert_eq!(sidecar.health_check().0, 1);
}

#[test]
fn retry_after_is_obeyed() {
    let (service, registry) = (Service::healthy(), Registry::start());
    registry.rule(|seen| {
        let overloaded = || Act::AnswerWith(429, "retry-after: 4\r\n", "{}".into());
        seen.is_register().then(overloaded)
    });
    let _sidecar = Sidecar::start(quick(&service, &registry.url()));
    let seen = registry.server.wait("two tries", |seen| seen.len() >= 2);
    let gap = seen[1].at - seen[0].at;
    assert!(gap >= Duration::from_secs(4), "{gap:?}");
    assert!(seen[0].watch.until(seen[1].at) < Duration::from_secs(10), "{gap:?}");
}

#[test]
fn a_service_that_plays_tricks_is_not_healthy() {
    let elsewhere = Server::start(|_| Act::Answer(200, "{}".into()));
    let gzip =
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\x08\x00".to_vec();
    let mut tricks: Vec<_> =
        faults(&elsewhere.url()).into_iter().filter(|(_, act)| !matches!(act, Act::Answer(200, _))).collect();
    tricks.push(("hanging", Act::Hang));
    tricks.push(("dripping", Act::Drip));
    tricks.push(("compressed", Act::Raw(gzip)));
    thread::scope(|scope| {
        for (name, act) in tricks {
            scope.spawn(move || {
                let (service, registry) = (Service::healthy(), Registry::start());
                service.set(act);
                let env = with(quick(&service, &registry.url()), &[("INITIAL_WAIT_TIMEOUT", "4")]);
                let _sidecar = Sidecar::start(env);
                let seen = registry.server.wait(name, |seen| !seen.is_empty());
                assert_eq!(seen[0].json()["status"], "critical", "{name}");
                let output = seen[0].json()["output"].as_str().unwrap().to_owned();
                assert!(output.contains(": ") && !output.contains("no answer yet"), "{name}: {output}");
                // What ended these was a bound, and not the other one.
                for (bounded, words) in [("endless body", "longer than 64 KiB"), ("dripping", "within 2 s")] {
                    assert!(name != bounded || output.contains(words), "{name}: {output}");
                }
            });
        }
    });
    assert!(elsewhere.seen().is_empty(), "no redirect is followed");
}

#[test]
fn probes_come_over_connections_of_their_own() {
    // A service that closes kept connections just as the next probe arrives is healthy all the same.
    let (service, registry) = (Service::healthy(), Registry::start());
    let _sidecar = Sidecar::start(quick(&service, &registry.url()));
    let probes = service.server.wait("four probes", |seen| seen.len() >= 4);
    let mut connections: Vec<_> = probes.iter().map(|probe| probe.connection).collect();
    connections.dedup();
    assert_eq!(connections.len(), probes.len());
    assert!(probes.iter().all(|probe| probe.header("connection") == Some("close")), "{probes:#?}");
}

#[test]
fn status_and_metrics_are_served_where_they_were_asked_for() {
    let (service, registry) = (Service::healthy(), Registry::start());
    let address = crate::common::free_address();
    let env = with(quick(&service, &registry.url()), &[("SIDECAR_LISTEN", &address.to_string())]);
    let _sidecar = Sidecar::start(env);
    registry.server.wait("a beat", |seen| seen.iter().any(Seen::is_beat));
    for path in ["/", "/health"] {
        let (status, body) = get(address, path).unwrap();
        assert_eq!(status, 200, "{body}");
        let page: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(page["status"], "healthy");
        assert_eq!(page["state"], "registered");
        assert_eq!(page["service_status"], "passing");
        assert_eq!(page["instance"], format!("127.0.0.1:{}", service.server.address.port()));
    }
    let metric = |name: &str| {
        let (_, text) = get(address, "/metrics").unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).map(str::to_owned);
        line.and_then(|line| line.split(' ').nth(1)?.parse::<f64>().ok()).unwrap_or(f64::NAN)
    };
    assert!((metric("sidecar_registered") - 1.0).abs() < 0.1);
    let before = metric("sidecar_beats_total");
    eventually("more beats", || {
        let beats = metric("sidecar_beats_total");
        if beats > before { Ok(()) } else { Err(beats.to_string()) }
    });
    assert_eq!(get(address, "/nothing").unwrap().0, 404);

    registry.rule(|_| Some(Act::Close));
    eventually("an unhealthy page", || match get(address, "/health") {
        Ok((503, body)) => Ok(body),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn beats_go_on_while_nobody_reads_the_status_page() {
    let (service, registry) = (Service::healthy(), Registry::start());
    let address = crate::common::free_address();
    let env = with(quick(&service, &registry.url()), &[("SIDECAR_LISTEN", &address.to_string())]);
    let _sidecar = Sidecar::start(env);
    registry.server.wait("a beat", |seen| seen.iter().any(Seen::is_beat));
    let silent: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    let count = Arc::new(AtomicUsize::new(registry.server.seen().len()));
    let before = count.load(Ordering::Relaxed);
    registry.server.wait("beats", |seen| seen.len() >= before + 4);
    // And the page comes back once the silent ones were closed.
    drop(silent);
    assert_eq!(get(address, "/health").unwrap().0, 200);
}
