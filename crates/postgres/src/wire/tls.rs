//! TLS by rustls: the certificate is checked against trusted roots and the host name.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::PgError;
use crate::wire::dsn::Encryption;

/// What the driver needs to encrypt a connection; `None` when it stays plain.
///
/// # Errors
/// [`PgError::Tls`] when the trusted roots cannot be read.
pub(crate) fn connector(encryption: &Encryption) -> Result<Option<MakeRustlsConnect>, PgError> {
    match encryption {
        Encryption::Plain => Ok(None),
        Encryption::VerifyFull { roots } => {
            let roots = match roots {
                Some(path) => read_roots(path)?,
                None => system_roots()?,
            };
            // The provider is named, because another crate of the process may bring a second one.
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(tls)?
                .with_root_certificates(roots)
                .with_no_client_auth();
            Ok(Some(MakeRustlsConnect::new(config)))
        }
    }
}

fn read_roots(path: &Path) -> Result<RootCertStore, PgError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(tls)? {
        roots.add(certificate.map_err(tls)?).map_err(tls)?;
    }
    if roots.is_empty() {
        return Err(tls(NoRoots));
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, PgError> {
    let mut roots = RootCertStore::empty();
    // Some systems ship a few certificates that nobody can parse; the others still count.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(tls(NoRoots));
    }
    Ok(roots)
}

#[derive(Debug, thiserror::Error)]
#[error("no trusted root certificate was found; name a file with sslrootcert")]
struct NoRoots;

fn tls(error: impl std::error::Error + Send + Sync + 'static) -> PgError {
    PgError::Tls { source: Arc::new(error) }
}
