//! The binary beside a real server that plays the registry: who is called when, and what over.

use std::{net::TcpListener, thread, time::Duration};

use registry_wire::ProblemType;
use rustix::process::Signal;
use testkit::Stopwatch;
use tokio::time::Instant;

use crate::{
    common::{Act, Seen, Service, Sidecar, eventually, free_address, quick, with},
    registry::{Registry, problem},
};

fn beats(seen: &[Seen]) -> usize {
    seen.iter().filter(|one| one.is_beat()).count()
}

fn registrations(seen: &[Seen]) -> Vec<&Seen> {
    seen.iter().filter(|one| one.is_register()).collect()
}

#[test]
fn registers_beats_drains_deregisters_over_one_connection() {
    let (service, registry) = (Service::healthy(), Registry::start());
    let mut sidecar = Sidecar::start(quick(&service, &registry.url()));
    let seen = registry.server.wait("three beats", |seen| beats(seen) >= 3);
    assert!(seen[0].is_register());
    assert!(seen[1..].iter().all(Seen::is_beat), "{seen:#?}");
    let first = seen[0].json();
    assert_eq!(first["endpoint"], service.server.url());
    assert_eq!(first["health_endpoint"], "/health");
    assert_eq!(first["ttl_seconds"], 3);
    assert_eq!(first["status"], "passing");
    assert_eq!(first["metadata"]["version"], "7", "a number, as its text");
    assert_eq!(first["metadata"]["status"], "healthy");
    for beat in &seen[1..] {
        assert_eq!(beat.json()["session"], first["session"]);
        assert_eq!(beat.json()["status"], "passing");
    }

    let asked = sidecar.signal(Signal::TERM);
    let status = sidecar.wait();
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(0), "{}", sidecar.log());
    assert!(took < Duration::from_secs(3), "{took:?}");
    let seen = registry.server.seen();
    let tail = &seen[seen.len() - 2..];
    assert!(tail[0].is_drain() && tail[1].is_delete(), "{tail:#?}");
    assert_eq!(tail[0].json()["session"], first["session"]);
    assert_eq!(tail[0].json()["reason"], "SIGTERM");
    let session = first["session"].as_str().unwrap();
    assert!(tail[1].path.ends_with(&format!("?session={session}")), "{tail:#?}");
    assert_eq!(registry.entry(), None);
    assert_eq!(registry.server.connections(), 1, "one connection for all");
}

#[test]
fn a_beat_is_at_most_300_bytes_on_the_wire() {
    let (service, registry) = (Service::healthy(), Registry::start());
    let mut env = quick(&service, &registry.url());
    env = with(
        env,
        &[
            ("SERVICE_NAME", "osint_service_with_long_name"),
            ("INSTANCE_ID", "vertice-osint-deployment-7f9c:8049"),
        ],
    );
    let _sidecar = Sidecar::start(env);
    let seen = registry.server.wait("a beat", |seen| beats(seen) >= 1);
    let beat = seen.iter().find(|one| one.is_beat()).unwrap();
    let bytes = beat.head.len() + beat.body.len();
    assert!(bytes <= 300, "{bytes}: {beat:#?}");
}

#[test]
fn a_wiped_registry_lists_it_again_within_one_beat() {
    let (service, registry) = (Service::healthy(), Registry::start());
    let _sidecar = Sidecar::start(quick(&service, &registry.url()));
    registry.server.wait("a beat", |seen| beats(seen) >= 1);
    registry.wipe();
    let seen = registry.server.wait("a registration", |seen| registrations(seen).len() == 2);
    let again = seen.len() - 1;
    assert!(seen[again - 1].is_beat());
    let pause = seen[again - 1].watch.until(seen[again].at);
    assert!(pause < Duration::from_millis(900), "within the same beat: {pause:?}");
    assert_ne!(seen[again].json()["session"], seen[0].json()["session"]);
    let count = beats(&seen);
    registry.server.wait("beats of the new session", |seen| beats(seen) >= count + 2);
    assert_eq!(registrations(&registry.server.seen()).len(), 2);
}

#[test]
fn a_404_in_other_words_is_no_404() {
    let (service, registry) = (Service::healthy(), Registry::start());
    let _sidecar = Sidecar::start(quick(&service, &registry.url()));
    registry.server.wait("a beat", |seen| beats(seen) >= 1);
    registry.rule(|_| Some(Act::Answer(404, "<html>404 Not Found</html>".into())));
    let before = beats(&registry.server.seen());
    let seen = registry.server.wait("more beats", |seen| beats(seen) >= before + 3);
    assert_eq!(registrations(&seen).len(), 1);
    registry.no_rule();
    registry.server.wait("beats", |seen| beats(seen) >= before + 5);
    assert_eq!(registrations(&registry.server.seen()).len(), 1, "the entry was there all the time");
}

#[test]
fn when_another_process_takes_the_id_it_stays_quiet_and_says_so() {
    let (service, registry) = (Service::healthy(), Registry::start());
    let sidecar = Sidecar::start(quick(&service, &registry.url()));
    let seen = registry.server.wait("a beat", |seen| beats(seen) >= 1);
    let session = seen[0].json()["session"].clone();
    registry.rule(move |seen| (seen.json()["session"] == session).then(|| problem(ProblemType::Superseded)));
    sidecar.wait_log("another process has registered this instance id");
    let (code, line) = sidecar.health_check();
    assert_eq!(code, 1);
    assert!(line.contains("another process has taken"), "{line}");
    // That it beats again after 60 s, and never registers, is tested in virtual time.
    let seen = registry.server.seen();
    assert!(seen[seen.len() - 1].is_beat(), "{seen:#?}");
}

#[test]
fn the_second_registry_is_asked_within_the_same_beat() {
    let (service, one, two) = (Service::healthy(), Registry::start(), Registry::start());
    let urls = format!("{},{}", one.url(), two.url());
    let _sidecar = Sidecar::start(quick(&service, &urls));
    one.server.wait("a beat", |seen| beats(seen) >= 1);
    assert!(two.server.seen().is_empty());
    one.rule(|_| {
        let body = r#"{"type":"/problems/unavailable","title":"t","status":503,"detail":"no store"}"#;
        Some(Act::AnswerWith(503, "retry-after: 30\r\n", body.into()))
    });
    // The second does not know the session, so it answers 404 and gets a registration at once.
    let seen = two.server.wait("a beat there", |seen| beats(seen) >= 2);
    assert!(seen[0].is_beat() && seen[1].is_register(), "{seen:#?}");
    let refused = one.server.seen().into_iter().last().unwrap();
    let pause = refused.watch.until(seen[0].at);
    assert!(pause < Duration::from_millis(900), "{pause:?}");
}

#[test]
fn a_dead_service_is_critical_soon_and_passing_again_with_the_first_answer() {
    let (service, registry) = (Service::healthy(), Registry::start());
    let _sidecar = Sidecar::start(quick(&service, &registry.url()));
    registry.server.wait("a beat", |seen| beats(seen) >= 1);
    let (died, watch) = (Instant::now(), Stopwatch::start());
    service.set(Act::Answer(500, String::new()));
    let seen =
        registry.server.wait("critical", |seen| seen.iter().any(|one| one.json()["status"] == "critical"));
    let told = seen.iter().find(|one| one.json()["status"] == "critical").unwrap();
    assert_eq!(told.json()["output"], "HTTP 500");
    let took = told.at - died;
    assert!(took > Duration::from_millis(1500), "{took:?}");
    assert!(watch.until(told.at) < Duration::from_secs(6), "{took:?}");
    service.set(Act::Answer(200, "OK".into()));
    eventually("passing", || {
        let entry = registry.entry().unwrap();
        if entry["status"] == "passing" { Ok(()) } else { Err(entry.to_string()) }
    });
}

#[test]
fn a_service_that_never_comes_is_registered_as_critical_when_the_wait_ends() {
    thread::scope(|scope| {
        for hangs in [false, true] {
            scope.spawn(move || {
                let (service, registry) = (Service::healthy(), Registry::start());
                service.set(if hangs { Act::Hang } else { Act::Close });
                let (started, watch) = (Instant::now(), Stopwatch::start());
                let env = with(quick(&service, &registry.url()), &[("INITIAL_WAIT_TIMEOUT", "3")]);
                let sidecar = Sidecar::start(env);
                eventually("a running sidecar", || match sidecar.health_check() {
                    (0, _) => Ok(()),
                    (_, line) => Err(line),
                });
                let seen = registry.server.wait("a registration", |seen| !seen.is_empty());
                let took = seen[0].at - started;
                assert!(took >= Duration::from_secs(3), "{took:?}");
                assert!(watch.until(seen[0].at) < Duration::from_secs(6), "{took:?}");
                assert_eq!(seen[0].json()["status"], "critical");
                let output = seen[0].json()["output"].as_str().unwrap().to_owned();
                assert!(output.starts_with("not healthy within 3 s: "), "{output}");
                service.set(Act::Answer(204, String::new()));
                registry
                    .server
                    .wait("passing", |seen| seen.iter().any(|one| one.json()["status"] == "passing"));
            });
        }
    });
}

#[test]
fn an_upgraded_service_is_registered_anew_in_the_same_session() {
    let (service, registry) = (Service::healthy(), Registry::start());
    let _sidecar = Sidecar::start(quick(&service, &registry.url()));
    registry.server.wait("a beat", |seen| beats(seen) >= 1);
    service.set(Act::Answer(200, r#"{"version":{"git":["a",1.50]}}"#.into()));
    let seen = registry.server.wait("a registration", |seen| registrations(seen).len() == 2);
    let both = registrations(&seen);
    assert_eq!(both[1].json()["metadata"]["version"], r#"{"git":["a",1.50]}"#);
    assert_eq!(both[0].json()["session"], both[1].json()["session"]);
}

#[test]
fn a_sidecar_before_its_registry_registers_when_that_comes() {
    let service = Service::healthy();
    let address = free_address();
    let sidecar = Sidecar::start(quick(&service, &format!("http://{address}")));
    sidecar.wait_log("connection refused");
    assert_eq!(sidecar.health_check().0, 1);
    let registry = Registry::start_on(TcpListener::bind(address).unwrap());
    registry.server.wait_for(Duration::from_secs(61), "a beat", |seen| beats(seen) >= 1);
    assert_eq!(sidecar.health_check(), (0, String::new()));
}

#[test]
fn a_registry_that_restarts_with_its_entries_sees_beats_and_no_registration() {
    let (service, address) = (Service::healthy(), free_address());
    let registry = Registry::start_on(TcpListener::bind(address).unwrap());
    let mut sidecar = Sidecar::start(quick(&service, &registry.url()));
    registry.server.wait("a beat", |seen| beats(seen) >= 1);
    let entries = std::mem::take(&mut *registry.state.lock().unwrap());
    drop(registry);
    sidecar.wait_log("connection refused");
    let registry = Registry::start_on(TcpListener::bind(address).unwrap());
    *registry.state.lock().unwrap() = entries;
    // One that came before the entries were back registers, and is none of this test's business.
    registry.server.wait("beats", |seen| beats(seen) >= 3);
    sidecar.wait_log("the registry answers again");
    assert!(sidecar.is_running());
}

#[test]
fn a_registry_that_closes_idle_connections_never_costs_a_beat() {
    let (service, registry) = (Service::healthy(), Registry::start());
    registry.rule(|seen| {
        let body = r#"{"ttl_seconds":3,"heartbeat_interval_seconds":1}"#;
        Some(Act::AnswerAndClose(if seen.is_register() { 201 } else { 200 }, body.into()))
    });
    let sidecar = Sidecar::start(quick(&service, &registry.url()));
    registry.server.wait("beats", |seen| beats(seen) >= 5);
    assert!(!sidecar.log().contains("no good answer"), "{}", sidecar.log());
}

#[test]
fn a_kept_connection_that_dies_under_a_beat_costs_nothing_either() {
    let (service, registry) = (Service::healthy(), Registry::start());
    let sidecar = Sidecar::start(quick(&service, &registry.url()));
    registry.server.wait("a beat", |seen| beats(seen) >= 1);
    // The race that every keep-alive has: the server closes while the request is on its way. Only the first request of
    // a connection is answered from now on.
    let answered = std::sync::Mutex::new(std::collections::HashSet::new());
    let first = registry.server.seen()[0].connection;
    answered.lock().unwrap().insert(first);
    registry.rule(move |seen| (!answered.lock().unwrap().insert(seen.connection)).then_some(Act::Close));
    let before = beats(&registry.server.seen());
    registry.server.wait("beats", |seen| beats(seen) >= before + 6);
    assert!(!sidecar.log().contains("no good answer"), "{}", sidecar.log());
    assert_eq!(sidecar.health_check(), (0, String::new()));
}

#[test]
fn auto_registers_the_address_of_the_interface_towards_the_registry() {
    let (service, registry) = (Service::healthy(), Registry::start());
    let env = with(quick(&service, &registry.url()), &[("SERVICE_HOST", "auto")]);
    let sidecar = Sidecar::start(env);
    let seen = registry.server.wait("a beat", |seen| beats(seen) >= 1);
    assert_eq!(seen[0].json()["endpoint"], service.server.url());
    assert!(seen[0].path.ends_with(&format!("/instances/{}", service.server.address)), "{seen:#?}");
    assert_eq!(sidecar.health_check(), (0, String::new()), "by the name that is configured");
}
