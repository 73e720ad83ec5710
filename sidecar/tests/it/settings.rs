//! What a setting changes on the wire and in the log.

use std::{
    io::Write,
    net::{IpAddr, TcpListener, UdpSocket},
};

use serde_json::Value;

use crate::{
    common::{Seen, Service, Sidecar, quick, with},
    registry::Registry,
};

#[test]
fn the_health_endpoint_is_probed_and_registered() {
    let (service, registry) = (Service::healthy(), Registry::start());
    let env = with(quick(&service, &registry.url()), &[("SERVICE_HEALTH_ENDPOINT", "/up?deep=1")]);
    let _sidecar = Sidecar::start(env);
    let seen = registry.server.wait("a beat", |seen| seen.iter().any(Seen::is_beat));
    assert_eq!(seen[0].json()["health_endpoint"], "/up?deep=1");
    assert_eq!(seen[0].json()["endpoint"], service.server.url(), "no part of the endpoint");
    let probes = service.server.seen();
    assert!(!probes.is_empty() && probes.iter().all(|probe| probe.path == "/up?deep=1"), "{probes:#?}");
}

#[test]
fn the_instance_id_is_the_one_that_was_set_in_every_call() {
    let (service, registry) = (Service::healthy(), Registry::start());
    let env = with(quick(&service, &registry.url()), &[("INSTANCE_ID", "blue-1"), ("SERVICE_NAME", "named")]);
    let mut sidecar = Sidecar::start(env);
    registry.server.wait("a beat", |seen| seen.iter().any(Seen::is_beat));
    sidecar.signal(rustix::process::Signal::TERM);
    assert_eq!(sidecar.wait().code(), Some(0), "{}", sidecar.log());
    let seen = registry.server.seen();
    assert!(seen.iter().any(Seen::is_delete), "{seen:#?}");
    assert!(seen.iter().all(|one| one.path.starts_with("/services/named/instances/blue-1")), "{seen:#?}");
    assert_eq!(seen[0].path, "/services/named/instances/blue-1");
}

#[test]
fn each_variable_of_a_token_may_name_a_file() {
    for name in ["REGISTRY_TOKEN", "VERTICE_REGISTRY_TOKEN", "REGISTRY_AUTH_TOKEN"] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "from-a-file-of-{name}").unwrap();
        let (service, registry) = (Service::healthy(), Registry::start());
        let path = file.path().to_str().unwrap();
        let env = with(quick(&service, &registry.url()), &[(&format!("{name}_FILE"), path)]);
        let _sidecar = Sidecar::start(env);
        let seen = registry.server.wait("a beat", |seen| seen.iter().any(Seen::is_beat));
        let expected = format!("Bearer from-a-file-of-{name}");
        assert!(seen.iter().all(|one| one.header("authorization") == Some(&expected)), "{seen:#?}");
    }
}

/// An address of this machine that is not a loopback one; packets to it do not leave the machine.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // A documentation address: asked for the route alone, nothing is sent.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().unwrap().ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[test]
fn auto_is_the_address_of_the_interface_towards_a_registry_that_is_not_on_loopback() {
    let Some(address) = own_address() else {
        eprintln!("SKIPPED: this machine has no address but loopback ones");
        return;
    };
    let service = Service::healthy_on(TcpListener::bind((address, 0)).unwrap());
    let registry = Registry::start_on(TcpListener::bind((address, 0)).unwrap());
    let env = with(quick(&service, &registry.url()), &[("SERVICE_HOST", "auto")]);
    let _sidecar = Sidecar::start(env);
    let seen = registry.server.wait("a beat", |seen| seen.iter().any(Seen::is_beat));
    let port = service.server.address.port();
    assert_eq!(seen[0].json()["endpoint"], format!("http://{address}:{port}"));
    assert!(seen[0].path.ends_with(&format!("/instances/{address}:{port}")), "{seen:#?}");
}

/// The environment without what `quick` sets for the log.
fn without_log_settings(env: Vec<(String, String)>) -> Vec<(String, String)> {
    env.into_iter().filter(|(name, _)| !name.starts_with("SIDECAR_LOG")).collect()
}

#[test]
fn off_a_terminal_the_log_is_json_from_info_up() {
    let (service, registry) = (Service::healthy(), Registry::start());
    let sidecar = Sidecar::start(without_log_settings(quick(&service, &registry.url())));
    registry.server.wait("a beat", |seen| seen.iter().any(Seen::is_beat));
    sidecar.wait_log("registered");
    for line in sidecar.log().lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(["INFO", "WARN", "ERROR"].contains(&event["level"].as_str().unwrap()), "{line}");
    }
}

#[test]
fn the_log_takes_a_list_of_levels() {
    for (filter, logs) in [("off,sidecar=info", true), ("info,sidecar=off", false), ("info", true)] {
        let (service, registry) = (Service::healthy(), Registry::start());
        let env = without_log_settings(quick(&service, &registry.url()));
        let mut sidecar = Sidecar::start(with(env, &[("SIDECAR_LOG", filter)]));
        registry.server.wait("a beat", |seen| seen.iter().any(Seen::is_beat));
        if logs {
            sidecar.wait_log("registered");
        }
        sidecar.signal(rustix::process::Signal::TERM);
        assert_eq!(sidecar.wait().code(), Some(0));
        assert_eq!(!sidecar.log().is_empty(), logs, "{filter}: {}", sidecar.log());
    }
}
