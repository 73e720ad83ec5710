use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::request;

/// A certificate authority of a test's own.
#[derive(Debug)]
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate alone.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// How many there are, so that no two have one name.
static COUNT: AtomicU32 = AtomicU32::new(1);

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

impl Default for Ca {
    fn default() -> Self {
        Self::new()
    }
}

impl Ca {
    /// A new one, with a name of its own.
    ///
    /// # Panics
    /// When the library makes no certificate.
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap_or_else(|error| panic!("no key: {error}"));
        let mut params = CertificateParams::default();
        let name = format!("testkit CA {}", COUNT.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap_or_else(|error| panic!("no certificate: {error}")).pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// What trusts this CA alone, shows this certificate, and speaks these versions.
    ///
    /// # Panics
    /// When what was issued cannot be used.
    pub fn client(
        &self,
        shown: Option<&Issued>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let bad = |error: &dyn std::fmt::Display| -> ! { panic!("a client cannot be made: {error}") };
        let root = CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap_or_else(|error| bad(&error));
        roots.add(root).unwrap_or_else(|error| bad(&error));
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap_or_else(|error| bad(&error))
            .with_root_certificates(roots);
        let Some(shown) = shown else { return config.with_no_client_auth() };
        let chain = CertificateDer::pem_slice_iter(shown.certificate.as_bytes()).flatten().collect();
        let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap_or_else(|error| bad(&error));
        config.with_client_auth_cert(chain, key).unwrap_or_else(|error| bad(&error))
    }

    /// A connection to `localhost:PORT`, whose certificate is checked by this CA.
    ///
    /// # Errors
    /// The handshake fails, or takes longer than 10 s.
    pub async fn connect(&self, port: u16, shown: Option<&Issued>) -> io::Result<TlsStream<TcpStream>> {
        self.connect_with(port, self.client(shown, rustls::ALL_VERSIONS)).await
    }

    /// [`Ca::connect`] with a client of one's own.
    ///
    /// # Errors
    /// As [`Ca::connect`].
    pub async fn connect_with(&self, port: u16, client: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let connecting = async {
            let stream = TcpStream::connect(("127.0.0.1", port)).await?;
            TlsConnector::from(Arc::new(client)).connect(name, stream).await
        };
        timeout(HANDSHAKE, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// What `GET path` is answered with on a connection of its own: status and body. `None` if there is no answer.
    pub async fn get(&self, port: u16, path: &str, shown: Option<&Issued>) -> Option<(u16, String)> {
        request::get_on(self.connect(port, shown).await.ok()?, path).await
    }

    /// A certificate for these names and addresses, for servers and clients.
    ///
    /// # Panics
    /// When one of them is no name.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_until(names, 4000)
    }

    /// [`Ca::issue`], valid until the first day of a year.
    ///
    /// # Panics
    /// As [`Ca::issue`].
    pub fn issue_until(&self, names: &[&str], year: i32) -> Issued {
        self.issue_as(names, year, IsCa::NoCa)
    }

    /// A certificate that is a CA's, as `openssl req -x509` makes them unless it is told otherwise.
    ///
    /// # Panics
    /// As [`Ca::issue`].
    pub fn issue_ca(&self, names: &[&str]) -> Issued {
        self.issue_as(names, 4000, IsCa::Ca(BasicConstraints::Unconstrained))
    }

    fn issue_as(&self, names: &[&str], year: i32, is_ca: IsCa) -> Issued {
        let key = KeyPair::generate().unwrap_or_else(|error| panic!("no key: {error}"));
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap_or_else(|error| panic!("no names: {error}"));
        params.not_after = date_time_ymd(year, 1, 1);
        params.is_ca = is_ca;
        let certificate = params.signed_by(&key, &self.issuer);
        let certificate = certificate.unwrap_or_else(|error| panic!("no certificate: {error}"));
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Issued {
    /// Writes both as `NAME.pem` and `NAME.key`, each put into its place whole, and gives their paths.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn write(&self, dir: &Path, name: &str) -> [PathBuf; 2] {
        [("pem", &self.certificate), ("key", &self.key)].map(|(end, text)| {
            let (path, beside) = (dir.join(format!("{name}.{end}")), dir.join(format!("{name}.{end}.new")));
            let written = fs::write(&beside, text)
                .and_then(|()| fs::set_permissions(&beside, PermissionsExt::from_mode(0o600)))
                .and_then(|()| fs::rename(&beside, &path));
            written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            path
        })
    }
}
