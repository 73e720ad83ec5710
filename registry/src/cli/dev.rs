use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    sync::oneshot,
    time::{sleep, timeout},
};
use tracing::info;

use crate::{
    app, clock,
    config::Config,
    lifecycle,
    token::{self, Claims},
};

/// The sample's name in the registry.
const SAMPLE: &str = "sample";

/// How long the sample's token counts, in seconds: longer than anybody tries things out.
const SAMPLE_TOKEN: u64 = 30 * 24 * 3600;

/// How long the sample's sidecar may take to leave the registry politely.
const LEAVE: Duration = Duration::from_secs(6);

/// A node, a sample service and its sidecar, until a signal.
///
/// # Errors
/// What could not be started, in one line.
pub(super) async fn run(config: Config) -> Result<(), String> {
    let stop = lifecycle::stop_signal().map_err(|error| error.to_string())?;
    let listener = app::bind(config.listen).map_err(|error| error.to_string())?;
    let registry = listener.local_addr().map_err(|error| error.to_string())?;
    let sidecar_program = sidecar_program()?;
    let base = base(&config, registry)?;
    let port = free_port().await?;
    let mut service = start_sample(port)?;
    let mut sidecar = Command::new(sidecar_program);
    sidecar
        .env("SERVICE_NAME", SAMPLE)
        .env("SERVICE_HOST", "127.0.0.1")
        .env("SERVICE_PORT", port.to_string())
        .env("REGISTRY_URL", &base.url)
        .env("HEALTH_INTERVAL", "2")
        .env("SIDECAR_LOG", "info")
        // Out of reach of a terminal's Ctrl-C: with that and the signal of `leave` it would end at once, registered.
        .process_group(0)
        .kill_on_drop(true)
        .stdin(Stdio::null());
    if let Some(ca) = &base.ca {
        sidecar.env(CA_FILE, ca);
    }
    if let Some(token) = sample_token(&config)? {
        sidecar.env("REGISTRY_TOKEN", token.expose_secret());
    }
    let mut sidecar = sidecar.spawn().map_err(|error| format!("the sidecar cannot be started: {error}"))?;
    announce(&base, port, service.id());
    let (end, ending) = oneshot::channel::<()>();
    let keeper = tokio::spawn(async move {
        tokio::select! {
            () = keep(&mut service, port) => {}
            _ = ending => {}
        }
        // Waits for its end: nothing is left running when this process is gone.
        drop(service.kill().await);
    });
    let stop = async {
        stop.await;
        leave(&mut sidecar).await;
    };
    let ended = app::run(config, listener, stop).await.map_err(|error| error.to_string());
    drop(end);
    drop(keeper.await);
    ended
}

/// How this node is called.
struct Base {
    url: String,
    /// Whom its certificate is checked by, with TLS.
    ca: Option<OsString>,
    /// What the sidecar shows of itself: certificate and key.
    client: Option<(OsString, OsString)>,
}

/// What the sidecar calls these files.
const CA_FILE: &str = "REGISTRY_CA_FILE";
const CLIENT_FILES: [&str; 2] = ["REGISTRY_CLIENT_CERT_FILE", "REGISTRY_CLIENT_KEY_FILE"];

/// How the sidecar and people here call the node. Nobody skips the check of a certificate, so that has to be for a name
/// of this machine; its issuer is the sidecar's own setting, or stands in the certificate's file.
fn base(config: &Config, registry: SocketAddr) -> Result<Base, String> {
    let Some(tls) = &config.tls else {
        return Ok(Base { url: format!("http://{registry}"), ca: None, client: None });
    };
    let address = match registry.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let files = tls.paths();
    let host = if tls.is_for(&address.to_string()) {
        SocketAddr::new(address, registry.port()).to_string()
    } else if address.is_loopback() && tls.is_for("localhost") {
        format!("localhost:{}", registry.port())
    } else {
        return Err(format!(
            "REGISTRY_TLS_CERT: '{}' is neither for localhost nor for {address}, so the sample's sidecar cannot check \
             it; registry dev needs a certificate that is (docs/TLS.md)",
            files.certificate.display()
        ));
    };
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let client = CLIENT_FILES.map(variable);
    let client = match (files.client_ca.is_some(), client) {
        (true, [Some(certificate), Some(key)]) => Some((certificate, key)),
        (true, _) => {
            return Err(format!(
                "REGISTRY_TLS_CLIENT_CA is set: set {} and {} for the sample's sidecar",
                CLIENT_FILES[0], CLIENT_FILES[1]
            ));
        }
        (false, _) => None,
    };
    let ca = variable(CA_FILE).unwrap_or_else(|| files.certificate.clone().into());
    Ok(Base { url: format!("https://{host}"), ca: Some(ca), client })
}

impl Base {
    /// `curl` with what it needs to call the node.
    fn curl(&self) -> String {
        let ca = self.ca.iter().map(|ca| format!("--cacert '{}'", ca.to_string_lossy()));
        let client = self.client.iter().map(|(certificate, key)| {
            format!("--cert '{}' --key '{}'", certificate.to_string_lossy(), key.to_string_lossy())
        });
        let words: Vec<_> = std::iter::once("curl".to_owned()).chain(ca).chain(client).collect();
        words.join(" ")
    }
}

/// What the sample's sidecar registers with, where writes need a token.
fn sample_token(config: &Config) -> Result<Option<SecretString>, String> {
    let Some(signed) = config.signed_tokens.as_ref().filter(|_| config.auth_token.is_none()) else {
        return Ok(config.auth_token.clone());
    };
    let id = token::random_id::<12>().map_err(|error| error.to_string())?;
    let now = clock::unix_seconds();
    let mut claims = Claims::new("registry-dev".parse()?, id.parse()?, now, now + SAMPLE_TOKEN);
    claims.register.push(SAMPLE.parse()?);
    let token = signed.sign(&claims).map_err(|error| error.to_string())?;
    Ok(Some(token.into()))
}

/// Brings the service back when somebody kills it, a little later, so that both can be watched.
async fn keep(service: &mut Child, port: u16) {
    loop {
        let ended = service.wait().await;
        info!(?ended, "the sample service ended; it is started again in {} s", BACK_AFTER.as_secs());
        sleep(BACK_AFTER).await;
        match start_sample(port) {
            Ok(again) => {
                info!(pid = again.id(), "the sample service is back");
                *service = again;
            }
            Err(error) => {
                tracing::error!("{error}");
                return;
            }
        }
    }
}

/// How long a killed sample service stays away.
const BACK_AFTER: Duration = Duration::from_secs(20);

fn start_sample(port: u16) -> Result<Child, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    Command::new(program)
        .args(["sample", &port.to_string()])
        // A terminal's Ctrl-C is for this process, which ends the service last.
        .process_group(0)
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("the sample service cannot be started: {error}"))
}

/// Lets the sidecar deregister.
async fn leave(sidecar: &mut Child) {
    if let Some(pid) =
        sidecar.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw)
    {
        // It may have ended in this moment.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    drop(timeout(LEAVE, sidecar.wait()).await);
}

/// The sidecar that was built beside this program.
fn sidecar_program() -> Result<PathBuf, String> {
    let here = std::env::current_exe().map_err(|error| error.to_string())?;
    let beside = here.with_file_name("sidecar");
    if beside.is_file() {
        return Ok(beside);
    }
    Err(format!("the sidecar is not at {}; build both with: make run", beside.display()))
}

async fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}

fn announce(base: &Base, port: u16, pid: Option<u32>) {
    let (curl, url) = (base.curl(), &base.url);
    let pid = pid.map_or_else(String::new, |pid| pid.to_string());
    println!(
        "\nThe registry listens at {url}, its data is in ./registry.db.\n\
         The sample service listens at 127.0.0.1:{port} (process {pid}); its sidecar registers it as '{SAMPLE}'.\n\n\
         Try:\n  \
         {curl} {url}/services\n  \
         {curl} {url}/services/{SAMPLE}\n  \
         {curl} '{url}/services/{SAMPLE}?all=true'\n\n\
         Then stop the sample service and ask again; it comes back after {} s:\n  \
         kill {pid}\n\n\
         Ctrl-C ends everything.\n",
        BACK_AFTER.as_secs(),
    );
}
