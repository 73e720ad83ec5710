//! TLS towards registries and services.
//!
//! In: a TCP connection and the name that its server must prove.
//! Owns: the roots of trust: the system's certificates, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
//! Out: an encrypted stream, or a sentence that says what was wrong.
//!
//! No roots are built in: a binary that is copied beside a service is replaced seldom, and roots are withdrawn. An
//! image without certificates mounts a file and names it in `SSL_CERT_FILE`.

use tokio::net::TcpStream;

use crate::{http::Stream, machine::Text};

/// Makes encrypted streams. The certificates are read when the first one is made.
#[derive(Default)]
pub(crate) struct Tls {
    #[cfg(feature = "tls")]
    connector: std::sync::OnceLock<Result<tokio_rustls::TlsConnector, Text>>,
}

#[cfg(feature = "tls")]
impl Tls {
    /// Encrypts a connection to `host`.
    pub(crate) async fn wrap(&self, host: &str, stream: TcpStream) -> Result<Box<dyn Stream>, Text> {
        let connector = self.connector.get_or_init(connector).clone()?;
        let name = rustls::pki_types::ServerName::try_from(host.to_owned())
            .map_err(|_| Text::Owned(format!("TLS: '{host}' is no name that a certificate can hold")))?;
        match connector.connect(name, stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(format!("TLS: {error}").into()),
        }
    }
}

#[cfg(feature = "tls")]
fn connector() -> Result<tokio_rustls::TlsConnector, Text> {
    use std::sync::Arc;

    let loaded = rustls_native_certs::load_native_certs();
    let mut roots = rustls::RootCertStore::empty();
    let (good, _) = roots.add_parsable_certificates(loaded.certs);
    if good == 0 {
        let why = match loaded.errors.first() {
            Some(error) => format!(" ({error})"),
            None => String::new(),
        };
        return Err(format!(
            "TLS: no root certificates found{why}; set SSL_CERT_FILE to a file of certificates in PEM"
        )
        .into());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Text::Owned(format!("TLS: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config).into())
}

#[cfg(not(feature = "tls"))]
impl Tls {
    /// Refuses: this build has no TLS.
    #[expect(clippy::unused_async, reason = "has the shape of the build with TLS")]
    pub(crate) async fn wrap(&self, _host: &str, _stream: TcpStream) -> Result<Box<dyn Stream>, Text> {
        Err("TLS: this sidecar was built without it".into())
    }
}
