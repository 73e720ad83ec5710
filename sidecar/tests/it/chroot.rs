//! The static binary in a root that holds nothing but itself, as in a container `FROM scratch`.

use std::{
    fs,
    net::UdpSocket,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use rustix::process::geteuid;

use crate::{
    common::{Seen, Service, Sidecar, with},
    registry::Registry,
};

/// The static binary that `SIDECAR_STATIC` names: `scripts/test` builds it from the tree that it tests.
fn static_binary() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("SIDECAR_STATIC")?);
    assert!(path.exists(), "SIDECAR_STATIC names {}, which is not there", path.display());
    Some(path)
}

/// A root with the binary, `/etc/hosts` and `/etc/resolv.conf`.
fn empty_root(name_server: &str) -> Option<tempfile::TempDir> {
    let Some(binary) = static_binary() else {
        eprintln!("SKIPPED: SIDECAR_STATIC names no static binary; `make test` builds one");
        return None;
    };
    if !geteuid().is_root() {
        eprintln!("SKIPPED: needs root for chroot");
        return None;
    }
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    // By another process: a file that this one has open for writing, and a child that another test starts in that
    // moment inherits, cannot be executed.
    let copied = Command::new("install").arg("-m755").arg(binary).arg(root.path().join("sidecar")).status();
    assert!(copied.unwrap().success());
    fs::write(root.path().join("etc/hosts"), "127.0.0.1 registry-by-hosts\n").unwrap();
    fs::write(root.path().join("etc/resolv.conf"), format!("nameserver {name_server}\noptions timeout:1\n"))
        .unwrap();
    Some(root)
}

fn in_root(root: &Path, env: &[(String, String)]) -> Command {
    let mut command = Command::new("chroot");
    command
        .arg(root)
        .arg("/sidecar")
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .envs(env.iter().map(|(key, value)| (key, value)));
    command
}

/// A socket where the resolver of a root asks: port 53 of an address of loopback that nobody else uses.
fn name_server_socket(number: u8) -> Option<(String, UdpSocket)> {
    let address = format!("127.{}.53.{number}", 1 + std::process::id() % 250);
    match UdpSocket::bind((address.as_str(), 53)) {
        Ok(socket) => Some((address, socket)),
        Err(error) => {
            eprintln!("SKIPPED: cannot listen on {address}:53: {error}");
            None
        }
    }
}

/// A name server that knows one name.
fn name_server(name: &'static str) -> Option<String> {
    let (address, socket) = name_server_socket(1)?;
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let question = &buffer[..length];
            let mut wanted = Vec::new();
            for label in name.split('.') {
                wanted.push(u8::try_from(label.len()).unwrap());
                wanted.extend_from_slice(label.as_bytes());
            }
            wanted.push(0);
            let end = 12 + wanted.len();
            let known = question.get(12..end) == Some(&wanted[..]);
            let is_a = question.get(end..end + 2) == Some(&[0, 1]);
            // RFC 1035: the question again, and one address when it was asked for.
            let mut answer = question[..(end + 4).min(length)].to_vec();
            let (code, count) = if known { (0x80, u8::from(is_a)) } else { (0x83, 0) };
            answer[2..12].copy_from_slice(&[0x81, code, 0, 1, 0, count, 0, 0, 0, 0]);
            if known && is_a {
                answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            let _ = socket.send_to(&answer, client);
        }
    });
    Some(address)
}

#[test]
fn names_resolve_in_an_empty_root() {
    let Some(server) = name_server("registry.by.dns") else {
        return;
    };
    let Some(root) = empty_root(&server) else { return };
    for host in ["registry-by-hosts", "registry.by.dns"] {
        let (service, registry) = (Service::healthy(), Registry::start());
        let url = format!("http://{host}:{}", registry.server.address.port());
        let env = crate::common::quick(&service, &url);
        let doctor = in_root(root.path(), &env).arg("doctor").output().unwrap();
        let text = String::from_utf8(doctor.stdout).unwrap();
        assert_eq!(doctor.status.code(), Some(0), "{text}");
        assert!(text.contains(&format!("{host} resolves to 127.0.0.1")), "{text}");

        let mut sidecar = Sidecar::start_command(in_root(root.path(), &env), env);
        registry.server.wait("a registration", |seen| seen.iter().any(Seen::is_register));
        sidecar.signal(rustix::process::Signal::TERM);
        let status = sidecar.wait();
        assert_eq!(status.code(), Some(0), "{host}: {status}: {}", sidecar.log());
    }
    let service = Service::healthy();
    let env = with(crate::common::quick(&service, "http://nobody.by.dns"), &[]);
    let doctor = in_root(root.path(), &env).arg("doctor").output().unwrap();
    let text = String::from_utf8(doctor.stdout).unwrap();
    assert!(text.contains("the name 'nobody.by.dns' does not resolve"), "{text}");
}

#[test]
#[cfg(feature = "tls")]
fn tls_works_in_an_empty_root_with_a_file_of_certificates() {
    let Some(root) = empty_root("127.0.0.1") else {
        return;
    };
    let (service, registry, ca) = (Service::healthy(), Registry::start(), crate::tls::Ca::new());
    let address = ca.terminate(&["registry-by-hosts"], registry.server.address);
    fs::copy(ca.file.path(), root.path().join("roots.pem")).unwrap();
    let url = format!("https://registry-by-hosts:{}", address.port());
    let env = with(crate::common::quick(&service, &url), &[("SSL_CERT_FILE", "/roots.pem")]);
    let sidecar = Sidecar::start_command(in_root(root.path(), &env), env);
    registry.server.wait("a beat", |seen| seen.iter().any(Seen::is_beat));
    assert!(!sidecar.log().contains("TLS"), "{}", sidecar.log());
}

#[test]
fn a_silent_name_server_holds_up_neither_the_exit_nor_the_probes() {
    let Some((server, questions)) = name_server_socket(2) else {
        return;
    };
    let Some(root) = empty_root(&server) else { return };
    // Long enough that a resolver which is waited for makes the exit late.
    let conf = format!("nameserver {server}\noptions timeout:20 attempts:1\n");
    fs::write(root.path().join("etc/resolv.conf"), conf).unwrap();
    let service = Service::healthy();
    let env = with(
        crate::common::quick(&service, "http://registry.by.dns"),
        &[("SERVICE_HOST", "127.0.0.1"), ("INITIAL_WAIT_TIMEOUT", "0")],
    );
    let mut sidecar = Sidecar::start_command(in_root(root.path(), &env), env);
    questions.set_read_timeout(Some(crate::common::SOON)).unwrap();
    let asked = loop {
        match questions.recv(&mut [0; 512]) {
            // A call with a time limit is not resumed after a signal, and a child of another test may end at any time.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            asked => break asked,
        }
    };
    assert!(asked.is_ok(), "{asked:?}: {}", sidecar.log());
    let probes = service.server.seen().len();
    service.server.wait("more probes", |seen| seen.len() >= probes + 2);
    let asked = sidecar.signal(rustix::process::Signal::TERM);
    let status = sidecar.wait();
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(0), "{}", sidecar.log());
    assert!(took < std::time::Duration::from_secs(5), "{took:?}");
}
