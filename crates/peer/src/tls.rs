//! Who this side is in TLS: a chain of certificates and a key, in PEM.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

/// A certificate and its key. The peer is not asked for one: it has a password.
#[derive(Clone)]
pub struct Identity {
    pub(crate) config: Arc<ServerConfig>,
}

/// Why TLS cannot be offered.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// A file cannot be read, or holds nothing of the kind.
    #[error("read the {what} {}", path.display())]
    Pem {
        /// `certificate` or `key`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: pem::Error,
    },
    /// The two do not belong together, or are of a kind that is not known here.
    #[error("use the certificate {} with the key {}", certificate.display(), key.display())]
    Unusable {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// What is wrong with them.
        #[source]
        source: rustls::Error,
    },
}

impl Identity {
    /// Reads both from PEM files; the certificate's own comes first, and then those that vouch for
    /// it.
    ///
    /// # Errors
    /// If one cannot be read, or if they do not fit.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let pem = |what, path: &Path| {
            let path = path.to_owned();
            move |source| IdentityError::Pem { what, path, source }
        };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(pem("certificate", certificate))?;
        let secret = PrivateKeyDer::from_pem_file(key).map_err(pem("key", key))?;
        let unusable = |source| IdentityError::Unusable {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            source,
        };
        // Named, not the default of the process: whoever else uses rustls may have set another.
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, secret)
            .map_err(unusable)?;
        Ok(Self { config: Arc::new(config) })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}
