use std::{io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
};
use tokio_rustls::TlsConnector;

use super::TlsFiles;
use crate::machine::Text;

/// The variable that names the CAs of registries.
const CA: &str = "REGISTRY_CA_FILE";

/// The variable that names the sidecar's own certificate.
const CERT: &str = "REGISTRY_CLIENT_CERT_FILE";

/// The variable that names its key.
const KEY: &str = "REGISTRY_CLIENT_KEY_FILE";

/// Reads the files.
///
/// # Errors
/// A sentence that names the file and what is wrong with it.
pub(super) fn connector(files: &TlsFiles) -> Result<TlsConnector, Text> {
    let roots = match &files.ca {
        Some(path) => named(path)?,
        None => system()?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Text::Owned(format!("TLS: {error}")))?
        .with_root_certificates(roots);
    let config = match &files.client {
        None => config.with_no_client_auth(),
        Some((certificate, key_file)) => {
            let chain = certificates(CERT, certificate)?;
            let key = PrivateKeyDer::from_pem_file(key_file)
                .map_err(|error| wrong(KEY, key_file, &error, "unencrypted private key"))?;
            config.with_client_auth_cert(chain, key).map_err(|error| {
                let (key, certificate) = (key_file.display(), certificate.display());
                Text::Owned(match error {
                    rustls::Error::InconsistentKeys(_) => {
                        format!("TLS: {KEY} is '{key}', which is not the key of '{certificate}' ({CERT})")
                    }
                    error => format!(
                        "TLS: {CERT} and {KEY} are '{certificate}' and '{key}', which cannot be used: {error}"
                    ),
                })
            })?
        }
    };
    Ok(Arc::new(config).into())
}

fn system() -> Result<RootCertStore, Text> {
    let loaded = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
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
    Ok(roots)
}

/// The roots that a file names: all of them are good, or none is taken.
fn named(path: &Path) -> Result<RootCertStore, Text> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(CA, path)? {
        roots.add(certificate).map_err(|error| {
            format!("TLS: {CA} is '{}', of which a certificate cannot be used: {error}", path.display())
        })?;
    }
    Ok(roots)
}

fn certificates(name: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Text> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match all {
        Ok(all) if all.is_empty() => Err(wrong(name, path, &pem::Error::NoItemsFound, "certificate")),
        Ok(all) => Ok(all),
        Err(error) => Err(wrong(name, path, &error, "certificate")),
    }
}

/// Nothing of what the file holds is said: that may be a key.
fn wrong(name: &str, path: &Path, error: &pem::Error, what: &str) -> Text {
    let path = path.display();
    Text::Owned(match error {
        pem::Error::Io(error) => {
            let advice = match error.kind() {
                io::ErrorKind::NotFound => "; mount the file there",
                io::ErrorKind::PermissionDenied => "; let the user of this process read it",
                _ => "",
            };
            format!("TLS: {name} is '{path}', which cannot be read: {error}{advice}")
        }
        pem::Error::NoItemsFound => format!("TLS: {name} is '{path}', which holds no {what} in PEM"),
        _ => format!("TLS: {name} is '{path}', which is no good PEM: it is cut short or altered"),
    })
}
