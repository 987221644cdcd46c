//! What both ends of TLS have in common: files in PEM, and what is wrong with them.
//!
//! The end that listens is `serve/tls.rs`, the one that calls `client/tls.rs`. Files are read when settings
//! are checked, and again at a reload: connections that are open go on with what they began with.

#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod validity;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use pileus_engine::secret_file::{self, Readers};
use tokio_rustls::rustls::{
    RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject},
};

use crate::{config_file, diagnostic::Diagnostic, paste::Section};

/// Which setting leads to nothing good, and why. Says no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsError {
    /// The setting: `certificate`, `cafile`.
    pub setting: &'static str,
    /// Why.
    pub problem: String,
    /// The file. `None` where no file is at fault.
    pub file: Option<PathBuf>,
    /// Remedy, where it is known.
    pub help: Option<String>,
}

impl TlsError {
    pub(crate) fn new(setting: &'static str, path: &Path, why: impl fmt::Display) -> Self {
        let problem = format!("{}: {why}", path.display());
        Self { setting, problem, file: Some(path.to_path_buf()), help: None }
    }

    /// The same with a remedy.
    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// At the setting in the section, or in a table of it.
    pub(crate) fn at(self, section: &Section, table: Option<&str>) -> Diagnostic {
        let Self { setting, problem, file, help } = self;
        let key = table.map_or_else(|| setting.to_owned(), |table| format!("{table}.{setting}"));
        let wrong = section.wrong(&key, format!("`{setting}`: {problem}"));
        let wrong = help.into_iter().fold(wrong, Diagnostic::help);
        file.into_iter().fold(wrong, Diagnostic::about)
    }
}

/// All certificates of a file; at least one.
pub(crate) fn certificates(
    setting: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = config_file::bytes(path).map_err(|error| TlsError::new(setting, path, error))?;
    let all = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|error| TlsError::new(setting, path, error))?;
    match all.is_empty() {
        true => Err(TlsError::new(setting, path, "holds no certificate in PEM")),
        false => Ok(all),
    }
}

/// The first private key of a file, which others may not read.
pub(crate) fn private_key(setting: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = secret_file::read(path, Readers::OwnerAndGroup).map_err(|error| {
        let (problem, help) = (error.to_string(), error.help());
        // A file of certificates alone is no secret, but the wrong file.
        let pem = help.is_some().then(|| config_file::bytes(path).ok()).flatten();
        match pem.map(|pem| PrivateKeyDer::from_pem_slice(&pem)) {
            Some(Err(error)) => TlsError::new(setting, path, error),
            _ => TlsError { setting, problem, file: Some(path.to_path_buf()), help },
        }
    })?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| TlsError::new(setting, path, error))
}

/// The lists of revoked certificates of a file: one in DER, or any number in PEM.
pub(crate) fn revocations(
    setting: &'static str,
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let wrong = |error: &dyn fmt::Display| TlsError::new(setting, path, error);
    let bytes = config_file::bytes(path).map_err(|error| wrong(&error))?;
    let begins_pem = |line: &[u8]| line.starts_with(b"-----BEGIN ");
    if !bytes.split(|byte| *byte == b'\n').any(begins_pem) {
        return Ok(vec![CertificateRevocationListDer::from(bytes)]);
    }
    let all = CertificateRevocationListDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|error| wrong(&error))?;
    if all.is_empty() { Err(wrong(&"holds no list of revoked certificates in PEM")) } else { Ok(all) }
}

/// The authorities of a file.
pub(crate) fn authorities(setting: &'static str, path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(setting, path)? {
        roots.add(certificate).map_err(|error| TlsError::new(setting, path, error))?;
    }
    Ok(Arc::new(roots))
}

/// Whose cryptography it is.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
