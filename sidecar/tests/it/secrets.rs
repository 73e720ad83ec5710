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
