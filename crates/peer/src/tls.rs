//! Who this side is in TLS, and whom it believes: certificates and keys, in PEM.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use thiserror::Error;

/// A certificate and its key. The peer is not asked for one: it has a password.
#[derive(Clone)]
pub struct Identity {
    pub(crate) config: Arc<ServerConfig>,
}

/// Whose word is taken for who a server is.
#[derive(Clone)]
pub struct Trust {
    pub(crate) config: Arc<ClientConfig>,
}

/// Why nobody can be believed.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The file cannot be read, or holds no certificate.
    #[error("read certificates from {}", path.display())]
    Pem {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: pem::Error,
    },
    /// There is no certificate at all that can be used.
    #[error("no certificate authority is known: {0}")]
    Nobody(String),
    /// This side's own TLS does not work.
    #[error("prepare TLS")]
    Tls(#[from] rustls::Error),
}

impl Trust {
    /// The authorities that this machine believes.
    ///
    /// # Errors
    /// If it believes none.
    pub fn system() -> Result<Self, TrustError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let why =
                found.errors.first().map_or("none is installed".to_owned(), |e| e.to_string());
            return Err(TrustError::Nobody(why));
        }
        Self::of(roots)
    }

    /// The certificates in a PEM file, and no others: authorities, or servers' own.
    ///
    /// # Errors
    /// If it cannot be read, or holds none.
    pub fn read(path: &Path) -> Result<Self, TrustError> {
        let certificates: Result<Vec<CertificateDer<'static>>, pem::Error> =
            CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        let pem = |source| TrustError::Pem { path: path.to_owned(), source };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.map_err(pem)?);
        if roots.is_empty() {
            return Err(pem(pem::Error::NoItemsFound));
        }
        Self::of(roots)
    }

    fn of(roots: RootCertStore) -> Result<Self, TrustError> {
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config) })
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust")
    }
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
