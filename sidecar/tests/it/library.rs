//! The same in a process that is not ours.

use std::time::Duration;

use registry_sidecar::{Config, Host, RunError};

use crate::{
    common::{Seen, Service},
    registry::Registry,
};

fn config(service: &Service, registry: &str) -> Config {
    let host = Host::Named("127.0.0.1".into());
    let mut config = Config::new(
        "embedded".parse().unwrap(),
        host,
        service.server.address.port(),
        vec![registry.parse().unwrap()],
    );
    config.settings.interval = Duration::from_secs(1);
    config.instance = Some(format!("embedded-{}", service.server.address.port()).parse().unwrap());
    config
}

#[test]
fn a_service_runs_it_in_its_own_process() {
    let (service, registry) = (Service::healthy(), Registry::start());
    // A runtime with several threads: the future can be spawned.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = runtime.spawn(registry_sidecar::run(config(&service, &registry.url()), async {
        let _ = stopped.await;
        "going home".to_owned()
    }));
    registry.server.wait("beats", |seen| seen.iter().filter(|one| one.is_beat()).count() >= 2);
    assert_eq!(registry.entry().unwrap()["endpoint"], service.server.url());
    stop.send(()).unwrap();
    runtime.block_on(running).unwrap().unwrap();
    assert_eq!(registry.entry(), None);
    let seen = registry.server.seen();
    assert_eq!(seen.iter().find(|one| Seen::is_drain(one)).unwrap().json()["reason"], "going home");
}

#[test]
fn what_cannot_be_run_is_an_error_and_no_panic() {
    let service = Service::healthy();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut without = config(&service, "http://127.0.0.1:1");
    without.registries.clear();
    let mut nowhere = config(&service, "http://127.0.0.1:1");
    nowhere.host = Host::Named("no such host".into());
    let mut taken = config(&service, "http://127.0.0.1:1");
    taken.listen = Some(service.server.address);
    for config in [without, nowhere, taken] {
        let error = runtime.block_on(registry_sidecar::run(config, std::future::pending())).unwrap_err();
        match error {
            RunError::Config(_) | RunError::Listen { .. } => {}
        }
        assert!(!error.to_string().is_empty());
    }
}
