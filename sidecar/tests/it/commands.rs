//! What a person types.

use std::process::Output;

use crate::{
    common::{Act, Seen, Service, Sidecar, binary, eventually, free_address, quick, with},
    registry::{Registry, problem},
};
use registry_wire::ProblemType;

fn sidecar(arguments: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
    let output = binary().args(arguments).envs(env.iter().copied()).output().unwrap();
    parts(&output)
}

fn parts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn doctor(env: &[(String, String)]) -> (i32, String) {
    let output = binary().arg("doctor").envs(env.iter().map(|(key, value)| (key, value))).output().unwrap();
    let (code, stdout, stderr) = parts(&output);
    assert_eq!(stderr, "");
    (code, stdout)
}

#[test]
fn help_and_version_are_on_stdout() {
    let (code, help, _) = sidecar(&["--help"], &[]);
    assert_eq!(code, 0);
    for name in [
        "SERVICE_NAME",
        "SERVICE_HOST",
        "SERVICE_PORT",
        "SERVICE_SCHEME",
        "SERVICE_HEALTH_ENDPOINT",
        "REGISTRY_URL",
        "REGISTRY_TOKEN",
        "VERTICE_REGISTRY_TOKEN",
        "REGISTRY_AUTH_TOKEN",
        "_FILE",
        "HEARTBEAT_INTERVAL",
        "INITIAL_WAIT_TIMEOUT",
        "HEALTH_INTERVAL",
        "HEALTH_FAILURES",
        "INSTANCE_ID",
        "SERVICE_METADATA",
        "SERVICE_TTL",
        "DRAIN_SECONDS",
        "SIDECAR_LISTEN",
        "SIDECAR_LOG",
        "SIDECAR_LOG_FORMAT",
        "healthcheck",
        "doctor",
    ] {
        assert!(help.contains(name), "{name}");
    }
    let (code, version, _) = sidecar(&["--version"], &[]);
    assert_eq!((code, version.as_str()), (0, concat!("sidecar ", env!("CARGO_PKG_VERSION"), "\n")));
}

/// Arguments, environment, and a word that has to be in the line.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);

#[test]
fn wrong_use_is_one_line_and_64() {
    let good = [("SERVICE_NAME", "a"), ("SERVICE_HOST", "b")];
    let cases: [Case<'_>; 8] = [
        (&["--frobnicate"], &good, "--frobnicate"),
        (&["healthcheck", "now"], &good, "healthcheck"),
        (&[], &[], "SERVICE_NAME"),
        (&[], &[("SERVICE_NAME", "a")], "SERVICE_HOST"),
        (&[], &[("SERVICE_NAME", "a"), ("SERVICE_HOST", "b"), ("SERVICE_PORT", "70000")], "70000"),
        (&[], &[("SERVICE_NAME", "a"), ("SERVICE_HOST", "b"), ("SIDECAR_LOG", "loud\n")], "SIDECAR_LOG"),
        (
            &[],
            &[("SERVICE_NAME", "a"), ("SERVICE_HOST", "b"), ("SIDECAR_LOG_FORMAT", "xml")],
            "SIDECAR_LOG_FORMAT",
        ),
        (&["healthcheck"], &[], "SERVICE_NAME"),
    ];
    for (arguments, env, word) in cases {
        let (code, stdout, stderr) = sidecar(arguments, env);
        assert_eq!(code, 64, "{arguments:?} {env:?}: {stderr}");
        assert_eq!(stdout, "");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains(word), "{stderr}");
    }
}

#[test]
fn a_taken_status_address_is_one_line_and_69() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let env = [("SERVICE_NAME", "a"), ("SERVICE_HOST", "b"), ("SIDECAR_LISTEN", address.as_str())];
    let (code, _, stderr) = sidecar(&[], &env);
    assert_eq!(code, 69, "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("SIDECAR_LISTEN") && stderr.contains(&address), "{stderr}");
}

#[test]
fn healthcheck_without_a_sidecar_fails() {
    let (code, _, stderr) =
        sidecar(&["healthcheck"], &[("SERVICE_NAME", "nobody"), ("SERVICE_HOST", "nowhere")]);
    assert_eq!(code, 1);
    assert_eq!(stderr, "sidecar: no sidecar of nobody/nowhere:8080 is running here\n");
}

#[test]
fn healthcheck_follows_the_beats_and_knows_services_apart() {
    let (service, registry) = (Service::healthy(), Registry::start());
    // A name that is longer than a socket's may be.
    let long = format!("x{}-{}", "y".repeat(100), std::process::id());
    let env = with(quick(&service, &registry.url()), &[("INSTANCE_ID", &long)]);
    let running = Sidecar::start(env);
    registry.server.wait("a beat", |seen| seen.iter().any(Seen::is_beat));
    assert_eq!(running.health_check(), (0, String::new()));
    let other = binary()
        .envs(with(running.env.clone(), &[("INSTANCE_ID", "other")]))
        .arg("healthcheck")
        .output()
        .unwrap();
    assert_eq!(parts(&other).0, 1);
    registry.rule(|_| Some(Act::Close));
    let line = eventually("a failed check", || match running.health_check() {
        (1, line) => Ok(line),
        (code, line) => Err(format!("{code} {line}")),
    });
    assert!(line.contains("no beat acknowledged for"), "{line}");
    registry.no_rule();
    eventually("a good check", || match running.health_check() {
        (0, _) => Ok(()),
        (code, line) => Err(format!("{code} {line}")),
    });
}

#[test]
fn doctor_finds_all_in_order_and_registers_nothing() {
    let (service, registry) = (Service::healthy(), Registry::start());
    let (code, text) = doctor(&quick(&service, &registry.url()));
    assert_eq!(code, 0, "{text}");
    assert!(text.lines().count() >= 7, "{text}");
    assert!(text.lines().all(|line| line.starts_with("ok ")), "{text}");
    assert_eq!(registry.entry(), None);
    assert!(registry.server.seen().iter().all(|one| !one.is_register()));
}

#[test]
fn doctor_says_what_is_wrong_and_what_to_change() {
    let service = Service::healthy();
    let closed = format!("http://{}", free_address());
    let portal = crate::common::Server::start(|_| Act::Answer(200, "<html></html>".into()));
    let blind = Registry::start();
    blind.rule(|seen| (seen.path == "/readyz").then(|| problem(ProblemType::Unavailable)));
    let locked = Registry::start();
    locked.rule(|seen| seen.is_beat().then(|| problem(ProblemType::Unauthorized)));
    let narrow = Registry::start();
    narrow.rule(|seen| seen.is_beat().then(|| problem(ProblemType::Forbidden)));
    let table = [
        ("http://does-not-exist.invalid".to_owned(), "does not resolve", "REGISTRY_URL"),
        (closed, "connection refused", "check that the registry runs"),
        (portal.url(), "a beat was answered", "without the body"),
        (blind.url(), "not ready", "look at its log"),
        (locked.url(), "a token is needed", "set REGISTRY_TOKEN"),
        (narrow.url(), "lacks the right", "ask for one"),
    ];
    for (url, what, advice) in table {
        let (code, text) = doctor(&quick(&service, &url));
        assert_eq!(code, 1, "{text}");
        let failed: Vec<_> = text.lines().filter(|line| line.starts_with("failed")).collect();
        assert_eq!(failed.len(), 1, "{text}");
        assert!(failed[0].contains(what) && failed[0].contains(advice), "{text}");
    }
    let (code, text) =
        doctor(&with(quick(&service, &locked.url()), &[("REGISTRY_TOKEN", "canary-0123456789")]));
    assert_eq!(code, 1);
    assert!(text.contains("the token is wrong") && !text.contains("canary"), "{text}");
    service.set(Act::Answer(500, String::new()));
    let registry = Registry::start();
    let (code, text) = doctor(&quick(&service, &registry.url()));
    assert_eq!(code, 1);
    assert!(text.lines().last().unwrap().contains("HTTP 500"), "{text}");
    let (code, text) = doctor(&[]);
    assert_eq!(code, 64);
    assert!(text.starts_with("failed  configuration: SERVICE_NAME is not set"), "{text}");
}
