//! A registry behind TLS, with a test's own certificates.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::{
    common::{Seen, Service, Sidecar, binary, quick, with},
    registry::Registry,
};

pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) file: tempfile::NamedTempFile,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(certificate.pem().as_bytes()).unwrap();
        Self { issuer: Issuer::new(params, key), file }
    }

    fn path(&self) -> &str {
        self.file.path().to_str().unwrap()
    }

    /// Decrypts what comes in and hands it on to a plain server, byte by byte.
    pub(crate) fn terminate(&self, names: &[&str], target: SocketAddr) -> SocketAddr {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let config = Arc::clone(&config);
                thread::spawn(move || relay(stream, config, target));
            }
        });
        address
    }
}

/// One request and one answer at a time, as the sidecar does it.
fn relay(stream: TcpStream, config: Arc<ServerConfig>, target: SocketAddr) {
    let connection = ServerConnection::new(config).unwrap();
    let mut outside = StreamOwned::new(connection, stream);
    let Ok(mut inside) = TcpStream::connect(target) else {
        return;
    };
    let mut buffer = vec![0; 65_536];
    loop {
        for inwards in [true, false] {
            let moved = if inwards {
                outside.read(&mut buffer).and_then(|n| inside.write_all(&buffer[..n]).map(|()| n))
            } else {
                inside.read(&mut buffer).and_then(|n| {
                    outside.write_all(&buffer[..n])?;
                    outside.flush().map(|()| n)
                })
            };
            if !matches!(moved, Ok(n) if n > 0) {
                let _ = outside.sock.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}

#[test]
fn registers_over_tls_with_the_certificates_that_it_was_told_to_trust() {
    let (service, registry, ca) = (Service::healthy(), Registry::start(), Ca::new());
    let address = ca.terminate(&["localhost"], registry.server.address);
    let url = format!("https://localhost:{}", address.port());
    let env = with(quick(&service, &url), &[("SSL_CERT_FILE", ca.path())]);
    let sidecar = Sidecar::start(env.clone());
    registry.server.wait("beats", |seen| seen.iter().filter(|one| one.is_beat()).count() >= 3);
    assert_eq!(sidecar.health_check(), (0, String::new()));
    assert_eq!(registry.server.connections(), 1, "one handshake for all");
    let doctor = binary().envs(env).arg("doctor").output().unwrap();
    let text = String::from_utf8(doctor.stdout).unwrap();
    assert!(doctor.status.success() && text.contains("TLS is good"), "{text}");
}

#[test]
fn a_service_behind_tls_is_probed_and_registered_as_such() {
    let (service, registry, ca) = (Service::healthy(), Registry::start(), Ca::new());
    let address = ca.terminate(&["127.0.0.1"], service.server.address);
    let port = address.port().to_string();
    let env = with(
        quick(&service, &registry.url()),
        &[("SERVICE_SCHEME", "https"), ("SERVICE_PORT", &port), ("SSL_CERT_FILE", ca.path())],
    );
    let _sidecar = Sidecar::start(env);
    let seen = registry.server.wait("a registration", |seen| !seen.is_empty());
    assert_eq!(seen[0].json()["endpoint"], format!("https://{address}"));
    assert_eq!(seen[0].json()["status"], "passing");
    assert!(!service.server.seen().is_empty(), "probed through TLS");
}

#[test]
fn a_certificate_for_an_address_is_good_for_that_address() {
    let (service, registry, ca) = (Service::healthy(), Registry::start(), Ca::new());
    let address = ca.terminate(&["127.0.0.1"], registry.server.address);
    let env = with(quick(&service, &format!("https://{address}")), &[("SSL_CERT_FILE", ca.path())]);
    let _sidecar = Sidecar::start(env);
    registry.server.wait("a beat", |seen| seen.iter().any(Seen::is_beat));
}

#[test]
fn a_certificate_that_proves_nothing_is_refused() {
    let (service, registry, ca, stranger) = (Service::healthy(), Registry::start(), Ca::new(), Ca::new());
    let right = ca.terminate(&["localhost"], registry.server.address);
    let cases = [
        (format!("https://localhost:{}", right.port()), stranger.path(), "certificate"),
        (format!("https://127.0.0.1:{}", right.port()), ca.path(), "certificate"),
        (format!("https://localhost:{}", right.port()), "/nowhere/roots.pem", "SSL_CERT_FILE"),
    ];
    for (url, roots, word) in cases {
        let env =
            with(quick(&service, &url), &[("SSL_CERT_FILE", roots), ("REGISTRY_TOKEN", "canary-0123456789")]);
        let mut sidecar = Sidecar::start(env.clone());
        sidecar.wait_log("TLS: ");
        assert!(sidecar.is_running());
        let doctor = binary().envs(env).arg("doctor").output().unwrap();
        let text = String::from_utf8(doctor.stdout).unwrap();
        assert_eq!(doctor.status.code(), Some(1), "{text}");
        assert!(text.contains("TLS: ") && text.contains(word), "{text}");
    }
    assert!(registry.server.seen().is_empty(), "and nothing was said before");
}

/// Who may speak for a registry speaks for nothing else.
#[test]
fn the_ca_of_registries_is_not_trusted_for_the_service() {
    let (service, registry, ca, of_service) = (Service::healthy(), Registry::start(), Ca::new(), Ca::new());
    let secure = ca.terminate(&["localhost"], registry.server.address);
    let probed = ca.terminate(&["127.0.0.1"], service.server.address);
    let (url, port) = (format!("https://localhost:{}", secure.port()), probed.port().to_string());
    let env = with(
        quick(&service, &url),
        &[
            ("REGISTRY_CA_FILE", ca.path()),
            ("SERVICE_SCHEME", "https"),
            ("SERVICE_PORT", &port),
            ("SSL_CERT_FILE", of_service.path()),
            ("INITIAL_WAIT_TIMEOUT", "1"),
        ],
    );
    let _sidecar = Sidecar::start(env);
    let seen = registry.server.wait("a registration", |seen| !seen.is_empty());
    assert_eq!(seen[0].json()["status"], "critical", "{seen:#?}");
    assert!(
        seen[0].json()["output"].as_str().unwrap().contains("issued by nobody who is trusted"),
        "{seen:#?}"
    );
    assert!(service.server.seen().is_empty(), "nothing was asked");
}
