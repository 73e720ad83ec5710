//! The token goes to the registry and nowhere else.

use std::io::Write;

use crate::{
    common::{Act, Seen, Service, Sidecar, binary, free_address, get, quick, with},
    registry::Registry,
};
use rustix::process::Signal;

const CANARY: &str = "canary-7d1f0c5a93b24e68";

#[test]
fn the_token_is_sent_and_never_shown() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{CANARY}").unwrap();
    let (service, registry) = (Service::healthy(), Registry::start());
    let address = free_address();
    let env = with(
        quick(&service, &registry.url()),
        &[
            ("REGISTRY_TOKEN_FILE", file.path().to_str().unwrap()),
            ("SIDECAR_LISTEN", &address.to_string()),
            ("SIDECAR_LOG", "trace"),
        ],
    );
    let mut sidecar = Sidecar::start(env.clone());
    registry.server.wait("a beat", |seen| seen.iter().any(Seen::is_beat));
    // Every way in which a log might come to hold a request.
    for act in [
        Act::Answer(
            401,
            r#"{"type":"/problems/unauthorized","title":"t","status":401,"detail":"who"}"#.into(),
        ),
        Act::Close,
        Act::Answer(503, String::new()),
    ] {
        let count = registry.server.seen().len();
        registry.rule(move |_| Some(act.clone()));
        registry.server.wait("another try", |seen| seen.len() >= count + 2);
    }
    let shown = ["/", "/metrics"].map(|path| get(address, path).unwrap().1);
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait().code(), Some(0));
    let doctor = binary().envs(env).arg("doctor").output().unwrap();
    let doctor = String::from_utf8(doctor.stdout).unwrap();
    for text in [sidecar.log(), doctor, shown.concat()] {
        assert!(!text.is_empty() && !text.contains(CANARY), "{text}");
    }

    let seen = registry.server.seen();
    let bearer = format!("Bearer {CANARY}");
    assert!(
        seen.iter()
            .filter(|one| one.path != "/readyz")
            .all(|one| one.header("authorization") == Some(&bearer))
    );
    let probes = service.server.seen();
    assert!(probes.iter().all(|probe| !probe.head.contains(CANARY)), "the service is not told");
}

/// A token that expires is replaced in its file, and nobody restarts anything.
#[test]
fn a_refused_token_is_read_again_from_its_file() {
    for status in [401, 403] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, format!("{CANARY}-one\n")).unwrap();
        let (service, registry) = (Service::healthy(), Registry::start());
        let path = [("REGISTRY_TOKEN_FILE", file.to_str().unwrap())];
        let mut sidecar = Sidecar::start(with(quick(&service, &registry.url()), &path));
        registry.server.wait("a beat", |seen| seen.iter().any(Seen::is_beat));
        let two = format!("Bearer {CANARY}-two");
        let good = two.clone();
        registry.rule(move |seen| {
            let body = format!(r#"{{"type":"/problems/x","title":"t","status":{status},"detail":"who"}}"#);
            (seen.header("authorization") != Some(&good)).then_some(Act::Answer(status, body))
        });
        let is_two = |seen: &Seen| seen.header("authorization") == Some(&two);
        let before = registry.server.seen().len();
        // What holds no token changes nothing, and nothing is asked twice.
        for nothing in ["", "\n", "\u{1}"] {
            std::fs::write(&file, nothing).unwrap();
            let count = registry.server.seen().len();
            registry.server.wait("another beat", |seen| seen.len() >= count + 2);
        }
        let refused = registry.server.seen().split_off(before);
        assert!(refused.iter().all(|seen| !is_two(seen)));
        for pair in refused.windows(2) {
            let pause = pair[1].at.duration_since(pair[0].at);
            assert!(pause.as_millis() >= 200, "a refused token is no reason to ask at once: {pause:?}");
        }
        std::fs::write(dir.path().join("new"), format!("{CANARY}-two\n")).unwrap();
        std::fs::rename(dir.path().join("new"), &file).unwrap();
        registry
            .server
            .wait("a beat with the new token", |seen| seen.iter().any(|seen| is_two(seen) && seen.is_beat()));
        let seen = registry.server.seen();
        let first = seen.iter().position(is_two).unwrap();
        assert_eq!(seen[first].body, seen[first - 1].body, "the same call again");
        sidecar.signal(Signal::TERM);
        assert_eq!(sidecar.wait().code(), Some(0));
        assert!(registry.server.seen()[first..].iter().all(is_two), "from there on");
        let log = sidecar.log();
        assert!(log.contains("its file holds another one") && !log.contains(CANARY), "{log}");
    }
}
