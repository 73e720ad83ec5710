use std::{fs, io, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    client::verify_server_name,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem, pem::PemObject},
    server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{TlsError, TlsFiles};
use crate::{
    files::{self, Source, Text},
    token::utc,
};

/// The setting that names the file of the certificate.
const CERT: &str = "REGISTRY_TLS_CERT";

/// The setting that names the file of the key.
const KEY: &str = "REGISTRY_TLS_KEY";

/// The setting that names the file of the clients' CAs.
const CLIENT_CA: &str = "REGISTRY_TLS_CLIENT_CA";

/// What is spoken behind the handshake.
const ALPN: &[u8] = b"http/1.1";

/// A certificate with its key, ready for handshakes.
pub(super) struct Pair {
    pub(super) config: Arc<ServerConfig>,
    /// When the node's certificate ends, in Unix seconds.
    pub(super) expires: i64,
    begins: i64,
    is_ca: bool,
    has_names: bool,
    certificate: CertificateDer<'static>,
}

/// The files that make a [`Pair`].
pub(super) struct PairFiles(pub(super) TlsFiles);

impl Source for PairFiles {
    type Value = Pair;
    type Error = TlsError;

    fn read(&self) -> Result<Vec<Text>, TlsError> {
        let TlsFiles { certificate, key, client_ca } = &self.0;
        let all = [(CERT, Some(certificate)), (KEY, Some(key)), (CLIENT_CA, client_ca.as_ref())];
        let texts = all.into_iter().filter_map(|(setting, path)| path.map(|path| read(setting, path)));
        texts.collect()
    }

    fn parse(&self, texts: &[Text]) -> Result<Pair, TlsError> {
        let text = |index: usize| texts.get(index).map_or("", |text| text.as_str());
        let chain = certificates(CERT, &self.0.certificate, text(0))?;
        let key = key(&self.0.key, text(1))?;
        let provider = Arc::new(ring::default_provider());
        let clients = match &self.0.client_ca {
            Some(path) => clients(path, text(2), &provider)?,
            None => WebPkiClientVerifier::no_client_auth(),
        };
        Pair::new(&self.0, chain, key, provider, clients)
    }
}

impl Pair {
    fn new(
        paths: &TlsFiles,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        provider: Arc<CryptoProvider>,
        clients: Arc<dyn ClientCertVerifier>,
    ) -> Result<Self, TlsError> {
        let unusable = |error: &dyn std::fmt::Display| {
            wrong(CERT, &paths.certificate, &format!("its first certificate cannot be used: {error}"))
        };
        let certificate = chain.first().cloned().ok_or_else(|| unusable(&"there is none"))?;
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|error| unusable(&error))?;
        let (begins, expires) =
            (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
        let (is_ca, has_names) =
            (parsed.is_ca(), parsed.subject_alternative_name().is_ok_and(|names| names.is_some()));
        let key = provider.key_provider.load_private_key(key).map_err(|_| {
            wrong(KEY, &paths.key, "it holds no key of a kind that is known: take RSA, ECDSA or Ed25519")
        })?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => wrong(
                KEY,
                &paths.key,
                &format!(
                    "it is not the key of the first certificate in '{}' ({CERT})",
                    paths.certificate.display()
                ),
            ),
            error => unusable(&error),
        })?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        if paths.client_ca.is_some() {
            // A session that is taken up again shows no certificate: one that has expired meanwhile would go on counting.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self { config: Arc::new(config), expires, begins, is_ca, has_names, certificate })
    }

    /// Whether the certificate is for this host name or address.
    pub(super) fn is_for(&self, host: &str) -> bool {
        let name = ServerName::try_from(host);
        let certificate = ParsedCertificate::try_from(&self.certificate);
        matches!((name, certificate), (Ok(name), Ok(certificate)) if verify_server_name(&certificate, &name).is_ok())
    }

    /// When the certificate ends, for people.
    pub(super) fn expires_utc(&self) -> String {
        utc(u64::try_from(self.expires).unwrap_or(0))
    }

    /// What does not hinder the node, but probably those who connect to it; `now` in Unix seconds.
    pub(super) fn remarks(&self, paths: &TlsFiles, now: u64) -> Vec<String> {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let certificate = paths.certificate.display();
        let mut remarks = Vec::new();
        if self.expires < now {
            remarks.push(format!("{CERT}: '{certificate}' has expired: clients refuse it"));
        }
        if self.begins > now {
            remarks.push(format!("{CERT}: '{certificate}' is not valid yet by this machine's clock"));
        }
        if self.is_ca {
            remarks.push(format!(
                "{CERT}: '{certificate}' begins with the certificate of a CA, which sidecars refuse as a server's: issue \
                 one for this node (docs/TLS.md)"
            ));
        }
        if !self.has_names {
            remarks.push(format!(
                "{CERT}: '{certificate}' names no host (subjectAltName): clients refuse it (docs/TLS.md)"
            ));
        }
        // Not refused: a container's secrets are often mounted so, and are kept by their directory.
        if fs::metadata(&paths.key).is_ok_and(|data| data.permissions().mode() & 0o004 != 0) {
            let key = paths.key.display();
            remarks.push(format!("{KEY}: '{key}' can be read by every user of this machine: chmod o-r"));
        }
        remarks
    }
}

fn wrong(setting: &str, path: &Path, rule: &str) -> TlsError {
    TlsError(format!("{setting}: '{}': {rule}", path.display()))
}

fn read(setting: &str, path: &Path) -> Result<Text, TlsError> {
    files::read(path).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "; mount the file there",
            io::ErrorKind::PermissionDenied => "; let the user of this process read it",
            io::ErrorKind::InvalidData => "; it must be PEM, not DER",
            _ => "",
        };
        wrong(setting, path, &format!("it cannot be read: {error}{hint}"))
    })
}

/// The certificates of a file, at least one.
fn certificates(setting: &str, path: &Path, text: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match all {
        Ok(all) if all.is_empty() => Err(wrong(setting, path, "it holds no certificate in PEM")),
        Ok(all) => Ok(all),
        Err(error) => Err(wrong(setting, path, &format!("it is no good PEM: {}", fault(&error)))),
    }
}

fn key(path: &Path, text: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| match error {
        pem::Error::NoItemsFound if text.contains("ENCRYPTED") => wrong(
            KEY,
            path,
            "its key is encrypted: openssl pkey -in OLD -out NEW writes it without a password",
        ),
        pem::Error::NoItemsFound => wrong(KEY, path, "it holds no private key in PEM"),
        error => wrong(KEY, path, &format!("it is no good PEM: {}", fault(&error))),
    })
}

/// What is wrong with a PEM file, without anything of what it holds: that may be a key.
fn fault(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "an END line is missing",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "what stands between BEGIN and END is no base64",
        _ => "it cannot be parsed",
    }
}

/// Who demands of clients a certificate of these CAs.
fn clients(
    path: &Path,
    text: &str,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(CLIENT_CA, path, text)? {
        roots.add(certificate).map_err(|error| {
            wrong(CLIENT_CA, path, &format!("one of its certificates cannot be used: {error}"))
        })?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| wrong(CLIENT_CA, path, &error.to_string()))
}
