use std::{path::PathBuf, sync::Arc};

use super::{ConfigError, Settings};
use crate::tls::{Tls, TlsFiles};

impl Settings {
    /// The files of TLS, where they are named.
    ///
    /// # Errors
    /// One is named without those that it needs.
    pub fn tls_files(&self) -> Result<Option<TlsFiles>, ConfigError> {
        let path = |text: &Option<String>| text.as_ref().filter(|path| !path.is_empty()).map(PathBuf::from);
        let (certificate, key, client_ca) =
            (path(&self.tls_cert), path(&self.tls_key), path(&self.tls_client_ca));
        let lacking = |set: &str, lacks: &str| {
            Err(ConfigError(format!(
                "{set} is set, but {lacks} is not: set REGISTRY_TLS_CERT and REGISTRY_TLS_KEY for TLS, or none of them \
                 for plain HTTP"
            )))
        };
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate, key, client_ca })),
            (Some(_), None) => lacking("REGISTRY_TLS_CERT", "REGISTRY_TLS_KEY"),
            (None, Some(_)) => lacking("REGISTRY_TLS_KEY", "REGISTRY_TLS_CERT"),
            (None, None) if client_ca.is_some() => lacking("REGISTRY_TLS_CLIENT_CA", "REGISTRY_TLS_CERT"),
            (None, None) => Ok(None),
        }
    }

    pub(super) fn tls(&self) -> Result<Option<Arc<Tls>>, ConfigError> {
        let Some(files) = self.tls_files()? else {
            return Ok(None);
        };
        Tls::open(files).map(|tls| Some(Arc::new(tls))).map_err(|error| ConfigError(error.to_string()))
    }
}
