//! TLS towards registries and services.
//!
//! In: a TCP connection and the name that its server must prove.
//! Owns: whom to trust and what to show. A service is trusted by the system's certificates, or those that
//! `SSL_CERT_FILE` and `SSL_CERT_DIR` name; a registry by [`TlsFiles::ca`] instead, where that is set.
//! Out: an encrypted stream, or a sentence that says what was wrong.
//!
//! No roots are built in: a binary that is copied beside a service is replaced seldom, and roots are withdrawn. An
//! image without certificates mounts a file and names it. Nothing here can leave out the check of a certificate.

#[cfg(feature = "tls")]
mod fault;
#[cfg(feature = "tls")]
mod files;

use std::path::PathBuf;

use tokio::net::TcpStream;

use crate::{http::Stream, machine::Text};

#[cfg(feature = "tls")]
pub(crate) use fault::fault;

/// Files in PEM for the connections to registries. They are read anew for each connection, so that one may be replaced
/// while the sidecar runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The CAs to trust, and no others. `None`: as for services.
    pub ca: Option<PathBuf>,
    /// What the sidecar shows of itself: its certificate, with those that lead to its CA, and the key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    /// Whether nothing is set.
    pub(crate) fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

/// Makes encrypted streams. The system's certificates are read when they are first needed.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    #[cfg(feature = "tls")]
    files: TlsFiles,
    #[cfg(feature = "tls")]
    system: std::sync::Arc<std::sync::OnceLock<Result<tokio_rustls::TlsConnector, Text>>>,
}

#[cfg(feature = "tls")]
impl Tls {
    /// As this, with these files.
    pub(crate) fn with(&self, files: &TlsFiles) -> Self {
        Self { files: files.clone(), system: std::sync::Arc::clone(&self.system) }
    }

    /// Encrypts a connection to `host`.
    pub(crate) async fn wrap(&self, host: &str, stream: TcpStream) -> Result<Box<dyn Stream>, Text> {
        let connector = self.connector().await?;
        let name = rustls::pki_types::ServerName::try_from(host.to_owned())
            .map_err(|_| Text::Owned(format!("TLS: '{host}' is no name that a certificate can hold")))?;
        match connector.connect(name, stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(fault(&error).unwrap_or_else(|| format!("TLS: {error}").into())),
        }
    }

    async fn connector(&self) -> Result<tokio_rustls::TlsConnector, Text> {
        if self.files.is_empty() {
            return self.system.get_or_init(|| files::connector(&TlsFiles::default())).clone();
        }
        let files = self.files.clone();
        // A disk may hang.
        let read = tokio::task::spawn_blocking(move || files::connector(&files));
        read.await.unwrap_or_else(|_| Err("TLS: the files could not be read".into()))
    }
}

#[cfg(feature = "tls")]
impl TlsFiles {
    /// Reads them once.
    ///
    /// # Errors
    /// One of them cannot be used: which and why.
    pub(crate) fn check(&self) -> Result<(), Text> {
        if self.is_empty() { Ok(()) } else { files::connector(self).map(|_| ()) }
    }
}

#[cfg(not(feature = "tls"))]
impl Tls {
    /// As this: there is nothing to trust.
    pub(crate) fn with(&self, _files: &TlsFiles) -> Self {
        self.clone()
    }

    /// Refuses: this build has no TLS.
    #[expect(clippy::unused_async, reason = "has the shape of the build with TLS")]
    pub(crate) async fn wrap(&self, _host: &str, _stream: TcpStream) -> Result<Box<dyn Stream>, Text> {
        Err("TLS: this sidecar was built without it".into())
    }
}

#[cfg(not(feature = "tls"))]
impl TlsFiles {
    /// Refuses them: this build has no TLS.
    ///
    /// # Errors
    /// Whenever one is set.
    pub(crate) fn check(&self) -> Result<(), Text> {
        if self.is_empty() { Ok(()) } else { Err("TLS: this sidecar was built without it".into()) }
    }
}

/// What is wrong with TLS: nothing, as there is none.
#[cfg(not(feature = "tls"))]
pub(crate) fn fault(_error: &std::io::Error) -> Option<Text> {
    None
}
